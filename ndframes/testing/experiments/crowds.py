"""Crowds: many processes on one cache at once, some of them stopped, or removing what the others read."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
import traceback
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ...cache.cache import Cache
from ...cache.layout import parse_entry
from ...errors import CacheError
from ..faults import FaultyFileSystem, WatchedFileSystem
from .fork_server import Task
from .scene import (
    FORMS,
    Tally,
    entry_begun,
    examine,
    read_crops,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...system.files import FileSystem
    from .fork_server import ForkServer
    from .scene import Findings, Scene

__all__ = ["LockMode", "evict_under_readers", "race", "stop_a_writer"]
#: What locks do on the file system: exclude others; be given to everybody at once; be refused with an error.
LockMode = Literal["work", "lie", "ENOLCK", "ENOSYS"]
_WATCHDOG_SECONDS = 60.0
_CROPS_PER_LOOK = 50
_LOOKS_PER_OPENING = 4


def race(
    fork_server: ForkServer,
    scene: Scene,
    folder: str,
    *,
    processes: int = 16,
    locks: LockMode = "work",
    form: str = "cog",
    seconds: float = 600.0,
) -> Findings:
    """Let many processes want all images at once, each in an order of its own, half by a crop and half by ``prepare``.

    While locks work, each image must be converted once, all told; where they do not, work may be done twice. Every
    process must get the right pixels, and each entry may be reported as new once at most.

    Args:
        fork_server: forks them.
        scene: the images.
        folder: where the cache goes.
        processes: how many.
        locks: what they do; see :data:`LockMode`.
        form: of the entries.
        seconds: what takes longer hangs.
    """
    tally = Tally("wrong crops", "failed verify", "conversions too many", "hangs", "odd ends")
    workdir = os.path.join(folder, "race")
    calls = [partial(_want_everything, scene, form, locks, workdir, seed) for seed in range(processes)]
    for end in fork_server.run(*calls, seconds=seconds):
        tally.add_end(end, "race")
    tally.count("processes", processes)
    wanted = scene.count
    tally.count("images", wanted)
    tally.add_end(fork_server.run(partial(examine, scene, workdir, form, crops=2), seconds=seconds)[0], "afterwards")
    excess = tally.done["published"] - wanted
    if locks == "work":
        excess += tally.done["conversions"] - wanted
    tally.fault("conversions too many", abs(excess), f"{dict(tally.done)}")
    shutil.rmtree(workdir, ignore_errors=True)
    return tally.finish(f"race, locks {locks}")


def stop_a_writer(
    fork_server: ForkServer,
    scene: Scene,
    folder: str,
    *,
    lock_age_seconds: float = 2.0,
    patience_seconds: float = 10.0,
    stopped_seconds: float | None = None,
    waiters: int = 3,
    form: str = "cog",
) -> Findings:
    """Stop a process by SIGSTOP while it writes an entry and holds its lock; others must go on without it.

    Args:
        fork_server: forks them.
        scene: the images; the first is used.
        folder: where the cache goes.
        lock_age_seconds: after how much silence the others believe that a writer is gone.
        patience_seconds: how much later they must have got their pixels.
        stopped_seconds: when the stopped process is continued, which must come to a good end too; ``None``: when the
            patience of the others is at its end.
        waiters: how many wait for it.
        form: of the entry.
    """
    tally = Tally("wrong crops", "failed verify", "waited too long", "hangs", "odd ends")
    workdir = os.path.join(folder, "stopped")
    limit_seconds = lock_age_seconds + patience_seconds
    holder = Task(
        partial(_load_first, scene, form, workdir, lock_age_seconds, FaultyFileSystem("make_read_only", 1, "stop")),
        [(stopped_seconds or limit_seconds, signal.SIGCONT, False)],
    )
    calls = [partial(_load_after, scene, form, workdir, lock_age_seconds) for _ in range(waiters)]
    ends = fork_server.run(holder, *calls, seconds=2 * max(limit_seconds, stopped_seconds or 0))
    for end in ends:
        tally.add_end(end, "stopped")
    for end in ends[1:]:
        if end.ok and end.value.done["milliseconds"] > 1000 * limit_seconds:
            tally.fault("waited too long", note=f"{end.value.done['milliseconds']} ms")
    del tally.done["milliseconds"]
    tally.count("waiters", waiters)
    tally.add_end(fork_server.run(partial(examine, scene, workdir, form, crops=8))[0], "afterwards")
    shutil.rmtree(workdir, ignore_errors=True)
    return tally.finish("stopped writer")


def evict_under_readers(
    fork_server: ForkServer,
    scene: Scene,
    folder: str,
    *,
    readers: int = 8,
    crops: int = 1000,
    seconds: float = 600.0,
    seed: int = 0,
) -> Findings:
    """Remove entries, and the whole folder, under processes that read crops and rebuild what is missing.

    Args:
        fork_server: forks the readers, and the one that removes single entries, collects garbage to a small budget,
            prepares anew, and deletes the folder.
        scene: the images.
        folder: where the caches go.
        readers: how many.
        crops: how many each of them reads; half of the readers read COGs, half ``.npy``.
        seconds: what takes longer hangs.
        seed: of all choices.
    """
    tally = Tally("wrong crops", "failed verify", "exceptions", "signals", "hangs", "odd ends")
    for form in FORMS:
        workdir = os.path.join(folder, f"evicted-{form}")
        marks = [os.path.join(folder, f"done-{form}-{number}") for number in range(max(1, readers // len(FORMS)))]
        calls: list[partial[Any]] = [
            partial(_read_on, scene, form, workdir, crops, seed + number, mark) for number, mark in enumerate(marks)
        ]
        evictor = partial(_evict_on, scene, form, workdir, marks, seconds - 5, seed)
        ends = fork_server.run(*calls, evictor, seconds=seconds)
        for end in ends:
            tally.fault("signals", int(end.status < 0 and not end.is_hung), f"status {end.status}: {end.problem}")
            tally.add_end(end, form)
        tally.count("readers", len(marks))
        tally.add_end(fork_server.run(partial(examine, scene, workdir, form, crops=8))[0], f"{form}, afterwards")
        shutil.rmtree(workdir, ignore_errors=True)
        for mark in marks:
            os.unlink(mark)
    return tally.finish("eviction")


def _want_everything(scene: Scene, form: str, locks: LockMode, workdir: str, seed: int) -> Tally:
    tally = Tally()
    files = _CountingFileSystem(locks)
    frames = scene.frames(workdir, form, files)
    order = list(range(scene.count))
    random.Random(seed).shuffle(order)
    for number in order:
        if (number + seed) % 2:
            report = frames.prepare([number])
            tally.count("reported as new", report.prepared)
        array = scene.array(number)
        tally.fault("wrong crops", int(not np.array_equal(frames.load_region(number), array)), f"image {number}")
        tally.count("crops")
    tally.count("conversions", files.begun)
    tally.count("published", files.published)
    return tally


class _CountingFileSystem(WatchedFileSystem):
    """Counts entries that were begun, and those that got their names; its locks are as good as told."""

    def __init__(self, locks: LockMode) -> None:
        if locks not in get_args(LockMode):
            raise ValueError(f"locks={locks!r}; allowed: {', '.join(get_args(LockMode))}")
        self._lock_mode = locks
        self.begun = 0
        self.published = 0

    def before(self, operation: str, path: str) -> None:
        if operation == "create":
            self.begun += entry_begun(path) is not None

    def link_or_replace(self, temporary: str, final: str) -> bool:
        is_new = super().link_or_replace(temporary, final)
        self.published += is_new and parse_entry(final) is not None
        return is_new

    def try_lock(self, file: IO[bytes]) -> bool:
        return self._is_granted() or super().try_lock(file)

    def is_locked(self, path: str) -> bool:
        return not self._is_granted() and super().is_locked(path)

    def lock(self, path: str, *, seconds: float, poll_seconds: float = 0.05) -> AbstractContextManager[object]:
        return nullcontext() if self._is_granted() else super().lock(path, seconds=seconds, poll_seconds=poll_seconds)

    def _is_granted(self) -> bool:
        """Whether everybody gets a lock at once."""
        if self._lock_mode in ("work", "lie"):
            return self._lock_mode == "lie"
        code = getattr(errno, self._lock_mode)
        raise OSError(code, os.strerror(code))


def _load_first(scene: Scene, form: str, workdir: str, lock_age_seconds: float, files: FileSystem | None) -> Tally:
    tally = Tally()
    started = time.monotonic()
    frames = scene.frames(workdir, form)
    frames.cache = Cache(workdir, files=files, lock_age_seconds=lock_age_seconds)
    is_equal = np.array_equal(frames.load_region(0), scene.array(0))
    tally.fault("wrong crops", int(not is_equal), "image 0")
    if files is None:
        tally.count("milliseconds", int(1000 * (time.monotonic() - started)))
    return tally


def _load_after(scene: Scene, form: str, workdir: str, lock_age_seconds: float) -> Tally:
    """As :func:`_load_first`, once another has begun."""
    cache = Cache(workdir)
    while not any(entry_begun(item.path) for item in cache.files.scan(str(cache.root / "tmp"))):
        time.sleep(0.005)
    return _load_first(scene, form, workdir, lock_age_seconds, None)


def _read_on(scene: Scene, form: str, workdir: str, crops: int, seed: int, mark: str) -> Tally:
    tally = Tally()
    arrays = scene.arrays()
    try:
        for first in range(0, crops, _CROPS_PER_LOOK):
            try:
                # New frames now and then: what they hold open else would never be opened again.
                if first % (_LOOKS_PER_OPENING * _CROPS_PER_LOOK) == 0:
                    frames = scene.frames(workdir, form)
                read_crops(frames, arrays, min(_CROPS_PER_LOOK, crops - first), seed + first, tally)
            except Exception:
                tally.fault("exceptions", note=traceback.format_exc(limit=-6))
    finally:
        with open(mark, "wb"):
            pass
    return tally


def _evict_on(scene: Scene, form: str, workdir: str, marks: Sequence[str], seconds: float, seed: int) -> Tally:
    """Remove, until all readers have left their marks."""
    tally = Tally()
    chance = random.Random(seed)
    deadline = time.monotonic() + seconds
    actions: list[tuple[int, str, Callable[[Cache], object]]] = [
        (12, "evictions", lambda cache: _evict_one(cache, chance)),
        (4, "collections", lambda cache: cache.gc(max_bytes=2 * scene.array(0).nbytes)),
        (3, "preparations", lambda cache: scene.frames(cache.workdir, form).prepare()),
        (1, "deleted caches", lambda cache: shutil.rmtree(cache.root, ignore_errors=True)),
    ]
    weights = [weight for weight, _, _ in actions]
    while not all(map(os.path.exists, marks)) and time.monotonic() < deadline:
        _, what, act = chance.choices(actions, weights)[0]
        try:
            act(Cache(workdir))
            tally.count(what)
        except CacheError as error:
            # One that meets the folder before somebody has marked it anew must leave it alone.
            is_right = what == "collections" and "marks of a cache" in str(error)
            tally.fault("exceptions", int(not is_right), f"{what}: {traceback.format_exc(limit=-6)}")
        except Exception:
            tally.fault("exceptions", note=f"{what}: {traceback.format_exc(limit=-6)}")
        time.sleep(chance.uniform(0, 0.02))
    return tally


def _evict_one(cache: Cache, chance: random.Random) -> None:
    entries = list(cache.ls())
    if entries:
        cache.discard(chance.choice(entries).path)
