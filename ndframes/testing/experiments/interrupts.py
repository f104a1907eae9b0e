"""Interrupts: Ctrl-C at random moments of a ``prepare``."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING

from ...cache.cache import Cache
from .checks import find_leftovers, read_crops
from .fork_server import Task, TimedSignal
from .images import FORMS
from .results import Recorder

if TYPE_CHECKING:
    from types import FrameType

    from .fork_server import ChildResult, ForkServer
    from .images import SyntheticImages
    from .results import ExperimentResult

__all__ = ["inject_interrupts"]
_MOST_SECONDS = 5.0
_TIMEOUT_SECONDS = 60.0
_RETRY_SECONDS = 0.002


def inject_interrupts(
    fork_server: ForkServer,
    images: SyntheticImages,
    folder: str,
    *,
    interrupts: int,
    workers: int = 2,
    crops: int = 4,
    seed: int = 0,
) -> ExperimentResult:
    """Send SIGINT to a ``prepare`` and its workers at random moments, as a terminal does on Ctrl-C.

    The process must end with :class:`KeyboardInterrupt` within 5 seconds, together with every process that it started. It
    must leave no temporary files, and its workers must print nothing. The next ``prepare`` must make what is missing, and
    nothing else.

    Args:
        fork_server: forks the processes.
        images: the sources.
        folder: for the caches; one for each trial, removed afterwards.
        interrupts: how many signals must hit a ``prepare`` that is still running.
        workers: as for :meth:`ndframes.Frames.prepare`.
        crops: how many crops of each image are compared after the next ``prepare``.
        seed: of the random moments.
    """
    recorder = Recorder(
        "slow exits", "worker output", "ignored interrupts", "wrong crops", "damaged entries", "leftovers",
        "repeated conversions", "timeouts", "unexpected exits",
    )  # fmt: skip
    rng = random.Random(seed)
    workdir = os.path.join(folder, f"interrupted-{workers}")
    durations = {form: _measure(fork_server, images, form, workers, workdir) for form in FORMS}
    slowest = 0.0
    while recorder.counts["interrupts"] < interrupts and not recorder.violations["unexpected exits"]:
        form = rng.choice(list(FORMS))
        at = rng.uniform(0, durations[form])
        task = Task(partial(_prepare, images, form, workers, workdir), [TimedSignal(at, signal.SIGINT, to_group=True)])
        started = time.perf_counter()
        result = fork_server.run(task, seconds=_TIMEOUT_SECONDS)[0]
        seconds = time.perf_counter() - started - at
        context = f"{form}, {workers} workers, after {at:.3f} s"
        if _record(result, seconds, context, recorder):
            slowest = max(slowest, seconds)
        resume = partial(_resume, images, form, workdir, crops, recorder.counts["interrupts"])
        recorder.merge_child(fork_server.run(resume)[0], f"{context}, afterwards")
        shutil.rmtree(workdir, ignore_errors=True)
    recorder.count("milliseconds for the slowest", round(1000 * slowest))
    return recorder.finish(f"Ctrl-C, {workers} workers")


def _record(result: ChildResult, seconds: float, context: str, recorder: Recorder) -> bool:
    """Record how a ``prepare`` ended; returns whether it was interrupted."""
    if not result.ok:
        recorder.merge_child(result, context)
        return False
    if result.value != "interrupted":
        recorder.violate("ignored interrupts", int(result.value == "ignored"), f"{context}: {result.problem}")
        recorder.count("too late")
        return False
    recorder.count("interrupts")
    recorder.violate("slow exits", int(seconds > _MOST_SECONDS), f"{context}: {seconds:.1f} s")
    recorder.violate("worker output", int(bool(result.problem)), f"{context}: {result.problem}")
    return True


def _measure(fork_server: ForkServer, images: SyntheticImages, form: str, workers: int, workdir: str) -> float:
    started = time.perf_counter()
    fork_server.run(partial(_prepare, images, form, workers, workdir), seconds=_TIMEOUT_SECONDS)
    shutil.rmtree(workdir)
    return time.perf_counter() - started


def _prepare(images: SyntheticImages, form: str, workers: int, workdir: str) -> str:
    """Returns ``"finished"``, ``"interrupted"``, or ``"ignored"`` if it finished in spite of an interrupt."""
    signals = []

    def handle(number: int, frame: FrameType | None) -> None:
        # Python prints an exception of a finalizer and drops it: try again a moment later, in other code.
        if _is_in_finalizer(frame):
            signal.setitimer(signal.ITIMER_REAL, _RETRY_SECONDS)
            return
        signals.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGALRM, handle)
    signal.signal(signal.SIGINT, handle)
    frames = None
    try:
        frames = images.frames(workdir, form)
        frames.prepare(workers=workers)
        outcome = "ignored" if signals else "finished"
    except KeyboardInterrupt:
        outcome = "interrupted"
    # A late signal must not interrupt the clean-up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The child exits through os._exit: release the lease here, as the end of an interpreter would.
    del frames
    gc.collect()
    return outcome


def _is_in_finalizer(frame: FrameType | None) -> bool:
    """Whether a frame was called by a ``__del__`` or a weak reference's callback."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or (code.co_name == "__call__" and code.co_filename == weakref.__file__):
            return True
        frame = frame.f_back
    return False


def _resume(images: SyntheticImages, form: str, workdir: str, crops: int, seed: int) -> Recorder:
    """Check what the interrupted ``prepare`` left, and finish its work."""
    recorder = Recorder()
    cache = Cache(workdir)
    report = cache.verify(read_data=True)
    recorder.violate("damaged entries", len(report.bad), str(report))
    if cache.root.is_dir():
        # An interrupt before the marks were written gives a message with an absolute path, which is not a leftover.
        leftovers = [name for name in find_leftovers(cache) if not name.startswith("/")]
        recorder.violate("leftovers", len(leftovers), ", ".join(leftovers))
    frames = images.frames(workdir, form)
    rerun = frames.prepare()
    is_right = (rerun.present, rerun.prepared) == (report.checked, images.count - report.checked)
    recorder.violate("repeated conversions", int(not is_right), f"{report.checked} entries existed; then {rerun}")
    recorder.count("entries kept", report.checked)
    read_crops(frames, images.arrays(), crops * images.count, seed, recorder)
    return recorder
