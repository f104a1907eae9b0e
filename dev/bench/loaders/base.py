"""The interface of a loader, and how its batches are timed."""

from __future__ import annotations

import hashlib
import multiprocessing
import resource
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import psutil

from kit.crops import digest
from kit.options import is_installed

#: Bytes that the consumer without the GIL hashes at a time: they stay in the processor's cache.
_HASHED = bytes(1 << 16)


class Place(NamedTuple):
    """A square crop of one of several files."""

    file: int
    top: int
    left: int


@dataclass
class Loader(ABC):
    """One way of getting batches into a loop.

    Attributes:
        name: in tables.
        batch: samples in a batch.
        workers: processes or threads.
        environment: variables of its process. GDAL's cache of 64 MB holds a third of the mosaic's pixels, so that GDAL
            decodes what it reads, as all others do.
    """

    name: str
    batch: int
    workers: int
    environment: Mapping[str, str] = field(default_factory=lambda: {"GDAL_CACHEMAX": "64"}, kw_only=True)

    #: Modules that it needs.
    requires = ("torch",)
    #: ``"ndframes"`` or ``"peer"``.
    role = "peer"

    @property
    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return [name for name in self.requires if not is_installed(name)]

    @abstractmethod
    def batches(self, seed: int, count: int) -> Iterator[Any]:
        """Yield ``count`` batches in the order of a seed, from workers that start with the iterator and end with it."""

    def to_pixels(self, batch: Any) -> np.ndarray:
        """The images of a batch as uint8 ``(n, height, width, bands)``."""
        return np.asarray(batch)

    def workers_alive(self) -> list[Any]:
        """Its worker processes, as ``psutil.Process``."""
        return psutil.Process().children(recursive=True)


class Consumer(NamedTuple):
    """What a loop does with each batch: a fixed amount of work.

    Attributes:
        kind: ``"hashing"`` runs without the GIL, as a model does; ``"python"`` is a loop of Python's.
        count: how many steps.
    """

    kind: str
    count: int

    def __call__(self) -> None:
        """Do the work."""
        if self.kind == "hashing":
            for _ in range(self.count):
                hashlib.sha256(_HASHED)
        else:
            total = 0
            for step in range(self.count):
                total += step * step

    @classmethod
    def lasting(cls, kind: str, seconds: float) -> Consumer:
        """A consumer that takes this long where nothing else runs."""
        probe = cls(kind, 2000 if kind == "hashing" else 2_000_000)
        started = time.perf_counter()
        probe()
        return cls(kind, max(1, round(probe.count * seconds / (time.perf_counter() - started))))


class Timed(NamedTuple):
    """The batches of one iteration that count.

    Attributes:
        samples_per_second: by the clock.
        cpu_ms: of this process and all workers, for each batch.
    """

    samples_per_second: float
    cpu_ms: float


def time_batches(loader: Loader, seed: int, skip: int, count: int, consumer: Consumer | None = None) -> Timed:
    """Time ``count`` batches after the first ``skip``, during which workers start."""
    batches = loader.batches(seed, skip + count)
    for _ in range(skip):
        next(batches)
    cpu_started, started = _cpu_seconds(loader), time.perf_counter()
    for _ in range(count):
        batch = next(batches)
        if consumer is not None:
            consumer()
        del batch  # before the next one, so that its memory is used again as in a training loop
    seconds, cpu = time.perf_counter() - started, _cpu_seconds(loader) - cpu_started
    _close(batches)
    return Timed(loader.batch * count / seconds, 1000 * cpu / count)


def measure_consumer(loader: Loader, count: int, kind: str) -> Consumer:
    """Return a consumer that takes as long as ``loader`` does for a batch, while nothing else runs."""
    timed = time_batches(loader, 0, 3, count)
    return Consumer.lasting(kind, loader.batch / timed.samples_per_second)


def fork_workers(_: Loader) -> None:
    """Let torch fork workers, as it does by default on Linux; a process that was spawned would spawn them."""
    multiprocessing.set_start_method("fork", force=True)


def digest_batches(loader: Loader, count: int) -> list[bytes]:
    """The digests of all samples of the first iteration, which has at least ``count`` batches."""
    return [digest(pixels) for batch in loader.batches(0, count) for pixels in loader.to_pixels(batch)]


def _close(batches: Iterator[Any]) -> None:
    close = getattr(batches, "close", None)
    if close is not None:
        close()


def _cpu_seconds(loader: Loader) -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    times = [process.cpu_times() for process in (psutil.Process(), *loader.workers_alive())]
    return ended.ru_utime + ended.ru_stime + sum(each.user + each.system for each in times)
