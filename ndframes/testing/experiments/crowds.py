"""Contention: many processes on one cache at once, some of them suspended or removing what others read."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
import traceback
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ...cache.cache import Cache
from ...cache.layout import parse_entry
from ...errors import CacheError
from ..faults import FaultyFileSystem, WatchedFileSystem
from .checks import check_cache, read_crops, state_being_written
from .images import FORMS
from .results import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ...system.files import FileSystem
    from .fork_server import ForkServer
    from .images import SyntheticImages
    from .results import ExperimentResult

__all__ = ["LockMode", "evict_under_readers", "race_for_entries", "suspend_writer"]
#: What locks do on the file system: exclude other processes; be granted to everybody; fail with an error.
LockMode = Literal["exclusive", "ineffective", "ENOLCK", "ENOSYS"]
_TIMEOUT_SECONDS = 60.0
_CROPS_PER_STEP = 50
# Readers that only wait for the evictor leave the processors to it: on a busy machine, eight that read without a pause keep it
# from running for minutes.
_PAUSE_SECONDS = 0.01
_STEPS_PER_OPENING = 4


def race_for_entries(
    fork_server: ForkServer,
    images: SyntheticImages,
    folder: str,
    *,
    processes: int = 16,
    locks: LockMode = "exclusive",
    form: str = "cog",
    seconds: float = 600.0,
) -> ExperimentResult:
    """Have many processes read all images at once, each in its own order, some through ``prepare``.

    Every process must get the right pixels. With working locks, each image must be converted exactly once; without them,
    conversions may be repeated, but only one process may publish an entry.

    Args:
        fork_server: forks the processes.
        images: the sources.
        folder: for the cache.
        processes: how many.
        locks: how locks behave; see :data:`LockMode`.
        form: of the entries.
        seconds: the time limit.
    """
    recorder = Recorder("wrong crops", "damaged entries", "excess conversions", "timeouts", "unexpected exits")
    workdir = os.path.join(folder, "race")
    calls = [partial(_request_all, images, form, locks, workdir, seed) for seed in range(processes)]
    for result in fork_server.run(*calls, seconds=seconds):
        recorder.merge_child(result, "race")
    recorder.count("processes", processes)
    recorder.count("images", images.count)
    check = partial(check_cache, images, workdir, form, crops=2)
    recorder.merge_child(fork_server.run(check, seconds=seconds)[0], "afterwards")
    excess = recorder.counts["published"] - images.count
    if locks == "exclusive":
        excess += recorder.counts["conversions"] - images.count
    recorder.violate("excess conversions", abs(excess), f"{dict(recorder.counts)}")
    shutil.rmtree(workdir, ignore_errors=True)
    return recorder.finish(f"race, locks {locks}")


def suspend_writer(
    fork_server: ForkServer,
    images: SyntheticImages,
    folder: str,
    *,
    lock_age_seconds: float = 2.0,
    patience_seconds: float = 20.0,
    waiters: int = 3,
    form: str = "cog",
) -> ExperimentResult:
    """Suspend a process with SIGSTOP while it writes an entry and holds the lock; other processes must go on without it.

    The writer is resumed when all waiters are done, or have waited too long. It must then succeed as well.

    Args:
        fork_server: forks the processes.
        images: the sources; the first one is used.
        folder: for the cache.
        lock_age_seconds: how long a lock without a sign of life is respected.
        patience_seconds: how much longer the waiters may take.
        waiters: how many processes wait for the entry.
        form: of the entry.
    """
    recorder = Recorder("wrong crops", "damaged entries", "waited too long", "timeouts", "unexpected exits")
    workdir, signs = os.path.join(folder, "suspended"), os.path.join(folder, "suspended-signs")
    os.makedirs(signs)
    limit_seconds = lock_age_seconds + patience_seconds
    results = fork_server.run(
        partial(_load_and_suspend, images, form, workdir, signs, lock_age_seconds),
        partial(_resume_writer, signs, waiters, limit_seconds),
        *(partial(_load_after_writer, images, form, workdir, signs, lock_age_seconds, n) for n in range(waiters)),
        seconds=2 * limit_seconds + _TIMEOUT_SECONDS,
    )
    for result in results:
        recorder.merge_child(result, "suspended")
    # The first two results are those of the writer and of the process that resumes it.
    for result in results[2:]:
        if result.ok and result.value.counts["milliseconds"] > 1000 * limit_seconds:
            recorder.violate("waited too long", note=f"{result.value.counts['milliseconds']} ms")
    del recorder.counts["milliseconds"]
    recorder.count("waiters", waiters)
    recorder.merge_child(fork_server.run(partial(check_cache, images, workdir, form, crops=8))[0], "afterwards")
    shutil.rmtree(workdir, ignore_errors=True)
    shutil.rmtree(signs)
    return recorder.finish("suspended writer")


def evict_under_readers(
    fork_server: ForkServer,
    images: SyntheticImages,
    folder: str,
    *,
    readers: int = 8,
    crops: int = 1000,
    min_actions: Mapping[str, int] | None = None,
    seconds: float = 600.0,
    seed: int = 0,
) -> ExperimentResult:
    """Remove entries, and the whole cache folder, while processes read crops and rebuild what is missing.

    Args:
        fork_server: forks the readers, and an evictor that removes entries, collects garbage down to a small budget, prepares
            the images, and deletes the folder.
        images: the sources.
        folder: for the caches.
        readers: how many; half of them read COGs, half read ``.npy``.
        crops: how many crops each reader reads at least.
        min_actions: how often the evictor must do an action, by its name in the result, for each form of entry. Readers
            and evictor go on until it has, so that the counts do not depend on the speed of the machine.
        seconds: the time limit, for each form of entry.
        seed: of all random choices.
    """
    recorder = Recorder("wrong crops", "damaged entries", "exceptions", "signals", "timeouts", "unexpected exits")
    for form in FORMS:
        workdir = os.path.join(folder, f"evicted-{form}")
        enough_file = os.path.join(folder, f"enough-{form}")
        done_files = [os.path.join(folder, f"done-{form}-{number}") for number in range(max(1, readers // len(FORMS)))]
        # The loops end before the fork server would kill them.
        loop_seconds = seconds - 5
        calls: list[partial[Any]] = [
            partial(_read_repeatedly, images, form, workdir, crops, seed + number, done_file, enough_file, loop_seconds)
            for number, done_file in enumerate(done_files)
        ]
        minima = dict(min_actions or {})
        evictor = partial(_evict_repeatedly, images, form, workdir, done_files, enough_file, minima, loop_seconds, seed)
        for result in fork_server.run(*calls, evictor, seconds=seconds):
            was_signalled = result.status < 0 and not result.timed_out
            recorder.violate("signals", int(was_signalled), f"status {result.status}: {result.problem}")
            recorder.merge_child(result, form)
        recorder.count("readers", len(done_files))
        check = partial(check_cache, images, workdir, form, crops=8)
        recorder.merge_child(fork_server.run(check)[0], f"{form}, afterwards")
        shutil.rmtree(workdir, ignore_errors=True)
        for path in (*done_files, enough_file):
            with suppress(FileNotFoundError):
                os.unlink(path)
    return recorder.finish("eviction")


def _request_all(images: SyntheticImages, form: str, locks: LockMode, workdir: str, seed: int) -> Recorder:
    recorder = Recorder()
    files = _CountingFileSystem(locks)
    frames = images.frames(workdir, form, files)
    order = list(range(images.count))
    random.Random(seed).shuffle(order)
    for number in order:
        # Half of the images through prepare, others in each process.
        if (number + seed) % 2:
            report = frames.prepare([number])
            recorder.count("reported as new", report.prepared)
        is_equal = np.array_equal(frames.load_region(number), images.array(number))
        recorder.violate("wrong crops", int(not is_equal), f"image {number}")
        recorder.count("crops")
    recorder.count("conversions", files.conversions)
    recorder.count("published", files.published)
    return recorder


class _CountingFileSystem(WatchedFileSystem):
    """Counts the entries that are begun and published; its locks behave as ``locks`` says."""

    def __init__(self, locks: LockMode) -> None:
        if locks not in get_args(LockMode):
            raise ValueError(f"locks={locks!r}; allowed: {', '.join(get_args(LockMode))}")
        self._locks = locks
        self.conversions = 0
        self.published = 0

    def before(self, operation: str, path: str) -> None:
        if operation == "create":
            self.conversions += state_being_written(path) is not None

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
        """Whether a lock is granted without a look at other holders."""
        if self._locks in ("exclusive", "ineffective"):
            return self._locks == "ineffective"
        code = getattr(errno, self._locks)
        raise OSError(code, os.strerror(code))


def _load_and_suspend(
    images: SyntheticImages, form: str, workdir: str, signs: str, lock_age_seconds: float
) -> Recorder:
    """Read the first image, suspended after the entry is written and before it is published."""
    with open(os.path.join(signs, "writer-pid"), "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    try:
        files = FaultyFileSystem("make_read_only", 1, "stop")
        return _load_first(images, form, workdir, lock_age_seconds, files)
    finally:
        _touch(os.path.join(signs, "writer-done"))


def _load_after_writer(
    images: SyntheticImages, form: str, workdir: str, signs: str, lock_age_seconds: float, number: int
) -> Recorder:
    """Read the first image once the writer has begun its entry, and measure how long that takes."""
    cache = Cache(workdir)
    # Without a deadline: the time limit of the fork server ends this if the writer never begins.
    while not any(state_being_written(item.path) for item in cache.files.scan(str(cache.root / "tmp"))):
        time.sleep(0.005)
    _touch(os.path.join(signs, f"waiting-{number}"))
    started = time.monotonic()
    recorder = _load_first(images, form, workdir, lock_age_seconds, None)
    recorder.count("milliseconds", int(1000 * (time.monotonic() - started)))
    _touch(os.path.join(signs, f"done-{number}"))
    return recorder


def _load_first(
    images: SyntheticImages, form: str, workdir: str, lock_age_seconds: float, files: FileSystem | None
) -> Recorder:
    recorder = Recorder()
    frames = images.frames(workdir, form)
    frames.cache = Cache(workdir, files=files, lock_age_seconds=lock_age_seconds)
    is_equal = np.array_equal(frames.load_region(0), images.array(0))
    recorder.violate("wrong crops", int(not is_equal), "image 0")
    return recorder


def _resume_writer(signs: str, waiters: int, limit_seconds: float) -> Recorder:
    """Resume the writer when all waiters are done, or have waited for ``limit_seconds``."""

    def have_all(sign: str) -> bool:
        return all(os.path.exists(os.path.join(signs, f"{sign}-{number}")) for number in range(waiters))

    while not have_all("waiting"):
        time.sleep(0.01)
    deadline = time.monotonic() + limit_seconds
    while not have_all("done") and time.monotonic() < deadline:
        time.sleep(0.01)
    with open(os.path.join(signs, "writer-pid"), encoding="ascii") as file:
        pid = int(file.read())
    # Again and again: on a busy machine, the writer may not have stopped yet when the first signal comes.
    while not os.path.exists(os.path.join(signs, "writer-done")):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    return Recorder()


def _read_repeatedly(
    images: SyntheticImages,
    form: str,
    workdir: str,
    crops: int,
    seed: int,
    done_file: str,
    enough_file: str,
    seconds: float,
) -> Recorder:
    """Read ``crops`` crops, and go on until ``enough_file`` exists; create ``done_file`` at the end."""
    recorder = Recorder()
    arrays = images.arrays()
    deadline = time.monotonic() + seconds
    done = 0
    try:
        while done < crops or not (os.path.exists(enough_file) or time.monotonic() > deadline):
            try:
                # Open new frames from time to time: open handles keep reading deleted entries, and never reopen them.
                if done % (_STEPS_PER_OPENING * _CROPS_PER_STEP) == 0:
                    frames = images.frames(workdir, form)
                read_crops(frames, arrays, _CROPS_PER_STEP, seed + done, recorder)
            except Exception:
                recorder.violate("exceptions", note=traceback.format_exc(limit=-6))
            done += _CROPS_PER_STEP
            if done >= crops:
                time.sleep(_PAUSE_SECONDS)
    finally:
        # Also after an error: otherwise the evictor would wait for its deadline.
        _touch(done_file)
    return recorder


def _evict_repeatedly(
    images: SyntheticImages,
    form: str,
    workdir: str,
    done_files: Sequence[str],
    enough_file: str,
    minima: Mapping[str, int],
    seconds: float,
    seed: int,
) -> Recorder:
    """Remove entries until all readers are done; create ``enough_file`` once the ``minima`` of all actions are reached."""
    recorder = Recorder()
    rng = random.Random(seed)
    deadline = time.monotonic() + seconds
    actions: list[tuple[int, str, Callable[[Cache], object]]] = [
        (12, "evictions", lambda cache: _evict_one(cache, rng)),
        (4, "collections", lambda cache: cache.gc(max_bytes=2 * images.array(0).nbytes)),
        (3, "preparations", lambda cache: images.frames(cache.workdir, form).prepare()),
        (1, "deleted caches", lambda cache: shutil.rmtree(cache.root, ignore_errors=True)),
    ]
    weights = [weight for weight, _, _ in actions]
    while not all(map(os.path.exists, done_files)) and time.monotonic() < deadline:
        if all(recorder.counts[what] >= minimum for what, minimum in minima.items()):
            _touch(enough_file)
        _, what, act = rng.choices(actions, weights)[0]
        try:
            act(Cache(workdir))
            recorder.count(what)
        except CacheError as error:
            # A collection must refuse a deleted folder that a reader has begun to recreate but not marked as a cache yet.
            is_expected = what == "collections" and "marks of a cache" in str(error)
            recorder.violate("exceptions", int(not is_expected), f"{what}: {traceback.format_exc(limit=-6)}")
        except Exception:
            recorder.violate("exceptions", note=f"{what}: {traceback.format_exc(limit=-6)}")
        # Readers get time to rebuild entries, so that there is something to remove.
        time.sleep(rng.uniform(0, 0.02))
    return recorder


def _evict_one(cache: Cache, rng: random.Random) -> None:
    entries = list(cache.ls())
    if entries:
        cache.discard(rng.choice(entries).path)


def _touch(path: str) -> None:
    with open(path, "wb"):
        pass
