"""Crashes: kill a process, or make a call fail, at every step of the cache's work."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import NdframesError
from ...system.process import core_count
from ..faults import FaultyFileSystem
from .checks import check_cache, find_leftovers
from .fork_server import Task, TimedSignal
from .images import FORMS
from .results import Recorder

if TYPE_CHECKING:
    from ...frames.frames import Frames
    from ...system.files import FileSystem
    from .fork_server import ChildResult, ForkServer
    from .images import SyntheticImages
    from .results import ExperimentResult

__all__ = ["ERROR_KINDS", "inject_errors", "inject_kills"]
#: The ways in which a file operation can fail.
ERROR_KINDS = ("EIO", "ENOSPC", "EDQUOT", "short", "lost")
_LEAST_SECONDS = 0.002
# One in 20 random kills: worker processes take long to start.
_PARALLEL_SHARE = 20
_TIMEOUT_SECONDS = 60.0
Log = Callable[[str], None]


def inject_kills(
    fork_server: ForkServer,
    images: SyntheticImages,
    folder: str,
    *,
    kills: int,
    crops: int = 64,
    stride: int = 1,
    parallel: bool = True,
    seed: int = 0,
    log: Log | None = None,
) -> ExperimentResult:
    """Kill processes with SIGKILL: at each file operation in turn, then at random moments; check each cache afterwards.

    The processes read on demand, prepare what is missing, and collect garbage. A fresh process then runs
    :func:`~ndframes.testing.experiments.checks.check_cache`.

    Args:
        fork_server: forks the processes.
        images: the sources.
        folder: for the caches; one for each process, removed afterwards.
        kills: how many processes to kill; the file operations come first.
        crops: how many crops of each image are compared after a kill.
        stride: kill at every ``stride``-th file operation only.
        parallel: whether some random kills hit a ``prepare`` with two workers: either the parent alone, or all of them.
        seed: of the random moments.
        log: called with lines of progress.
    """
    recorder = Recorder("wrong crops", "damaged entries", "not rebuilt", "leftovers", "timeouts", "unexpected exits")
    runner = _TrialRunner(fork_server, images, folder, crops, recorder, log)
    for form in FORMS:
        for batch in _batches(count(1, stride)):
            calls = [partial(_use_cache, images, form, FaultyFileSystem("any", nth, "kill")) for nth in batch]
            results = runner.run(form, calls, "fault points")
            # A process that survived made fewer operations than its fault's number: all operations are covered.
            if not all(_was_killed(result) for result in results) or recorder.counts["kills"] >= kills:
                break
    rng = random.Random(seed)
    turns = count(1)
    # Processes that fail by themselves are never killed: without the second condition the loop would not end.
    while recorder.counts["kills"] < kills and not recorder.violations["unexpected exits"]:
        form = rng.choice(list(FORMS))
        if parallel and next(turns) % _PARALLEL_SHARE == 0:
            runner.kill_parallel_prepare(form, rng)
        else:
            runner.kill_at_random(form, rng)
    return recorder.finish("kills")


def inject_errors(
    fork_server: ForkServer,
    images: SyntheticImages,
    folder: str,
    *,
    kinds: Sequence[str] = ERROR_KINDS,
    crops: int = 16,
    stride: int = 1,
    log: Log | None = None,
) -> ExperimentResult:
    """Make each file operation fail in turn, in each way; check the call, the next call, and the cache.

    A call must return the right pixels, or raise an error of this package that names a file and carries the system's error.
    It must leave no temporary file, and the next call must succeed.

    Args:
        fork_server: forks the processes.
        images: the sources.
        folder: for the caches.
        kinds: as for :class:`~ndframes.testing.faults.FaultyFileSystem`.
        crops: how many crops of each image are compared afterwards.
        stride: fail every ``stride``-th file operation only.
        log: called with lines of progress.
    """
    recorder = Recorder(
        "wrong crops", "damaged entries", "not rebuilt", "leftovers", "unclear errors", "left in tmp", "failed retries",
        "timeouts", "unexpected exits",
    )  # fmt: skip
    runner = _TrialRunner(fork_server, images, folder, crops, recorder, log)
    for form in FORMS:
        for kind in kinds:
            for batch in _batches(count(1, stride)):
                calls = [partial(_use_failing_cache, images, form, FaultyFileSystem("any", nth, kind)) for nth in batch]
                # A fault that did not fire has a number beyond the last operation.
                if not all(_did_fire(result) for result in runner.run(form, calls, "faults")):
                    break
        for kind in sorted({"ENOSPC", "EDQUOT"}.intersection(kinds)):
            files = [
                FaultyFileSystem("write", nth, kind, is_lasting=True) for nth in range(1, 1 + max(2, core_count()))
            ]
            runner.run(form, [partial(_use_failing_cache, images, form, each) for each in files], "full disks")
    return recorder.finish("errors")


class _TrialRunner:
    """Runs faulty processes, each on a cache of its own, and checks every cache in a fresh process."""

    def __init__(
        self,
        fork_server: ForkServer,
        images: SyntheticImages,
        folder: str,
        crops: int,
        recorder: Recorder,
        log: Log | None,
    ) -> None:
        self._fork_server = fork_server
        self._images = images
        self._folder = folder
        self._crops = crops
        self._recorder = recorder
        self._log = log
        self._durations: dict[str, float] = {}
        self._trials = 0

    def run(
        self, form: str, calls: Sequence[partial[Any]], what: str, signals: Sequence[TimedSignal] = ()
    ) -> list[ChildResult]:
        """Run the calls at once, the n-th with the n-th of the ``signals``, and count the faults under ``what``."""
        workdirs = [os.path.join(self._folder, f"work-{self._trials + index}") for index in range(len(calls))]
        self._trials += len(calls)
        tasks = [
            Task(partial(call, workdir), signals[index : index + 1])
            for index, (call, workdir) in enumerate(zip(calls, workdirs, strict=True))
        ]
        results = self._fork_server.run(*tasks, seconds=_TIMEOUT_SECONDS)
        contexts = [f"{form}, {call.args[2] or what}" for call in calls]
        for result, context in zip(results, contexts, strict=True):
            self._record(result, context, what)
        checks = [
            partial(check_cache, self._images, workdir, form, crops=self._crops, seed=self._trials)
            for workdir in workdirs
        ]
        for result, context in zip(self._fork_server.run(*checks, seconds=_TIMEOUT_SECONDS), contexts, strict=True):
            self._record(result, f"{context}, afterwards", "")
        for workdir in workdirs:
            shutil.rmtree(workdir, ignore_errors=True)
        # One line for each hundred trials, however large the batches are.
        if self._log is not None and self._trials % 100 < len(calls):
            self._log(f"{self._trials} trials, {sum(self._recorder.violations.values())} violations")
        return results

    def kill_at_random(self, form: str, rng: random.Random) -> None:
        """Kill processes at random moments, one on each core."""
        call = partial(_use_cache, self._images, form, None)
        duration = self._measure(form, call)
        moments = [rng.uniform(_LEAST_SECONDS, duration) for _ in range(core_count())]
        self.run(form, [call] * len(moments), "random moments", [TimedSignal(at, signal.SIGKILL) for at in moments])

    def kill_parallel_prepare(self, form: str, rng: random.Random) -> None:
        """Kill a process that has workers: it alone, or all of them at once."""
        call = partial(_prepare_in_workers, self._images, form, None)
        duration = self._measure(f"{form} in parallel", call)
        # Not in the first third: the workers are still starting.
        kill = TimedSignal(rng.uniform(duration / 3, duration), signal.SIGKILL, rng.random() < 0.5)
        self.run(form, [call], "random moments", [kill])

    def _measure(self, name: str, call: partial[Any]) -> float:
        """The duration of the call without faults, measured once."""
        if name not in self._durations:
            workdir = os.path.join(self._folder, "measured")
            started = time.perf_counter()
            self._fork_server.run(partial(call, workdir), seconds=_TIMEOUT_SECONDS)
            self._durations[name] = time.perf_counter() - started
            shutil.rmtree(workdir, ignore_errors=True)
        return self._durations[name]

    def _record(self, result: ChildResult, context: str, what: str) -> None:
        if what and _was_killed(result):
            self._recorder.count("kills")
            self._recorder.count(what)
        elif not result.ok or isinstance(result.value, Recorder):
            self._recorder.merge_child(result, context)


def _use_cache(images: SyntheticImages, form: str, files: FileSystem | None, workdir: str) -> None:
    """Read one image on demand, prepare the others, and evict half of the bytes."""
    frames = images.frames(workdir, form, files)
    frames.load_region(0)
    frames.prepare()
    frames.cache.gc(max_bytes=sum(entry.size_bytes for entry in frames.cache.ls()) // 2)


def _prepare_in_workers(images: SyntheticImages, form: str, files: FileSystem | None, workdir: str) -> None:
    images.frames(workdir, form, files).prepare(workers=2)


def _use_failing_cache(images: SyntheticImages, form: str, files: FaultyFileSystem, workdir: str) -> Recorder:
    """As :func:`_use_cache`, with errors recorded; then once more without faults."""
    recorder = Recorder()
    frames = images.frames(workdir, form, files)
    for step in (_load_one, _prepare_rest, _collect):
        _attempt(step, frames, images, workdir, recorder, files)
    # A file that could not be unlinked may stay: the next collection removes it.
    leftovers = [name for name in find_leftovers(frames.cache) if name.startswith("tmp")]
    if files.struck != "remove":
        recorder.violate("left in tmp", len(leftovers), ", ".join(leftovers))
    if files.fired:
        recorder.count("full disks" if files.is_lasting else "faults")
    files.mend()
    try:
        for number, array in enumerate(images.arrays()):
            is_equal = np.array_equal(frames.load_image(number), array)
            recorder.violate("wrong crops", int(not is_equal), f"image {number}")
    except Exception:
        recorder.violate("failed retries", note=traceback.format_exc(limit=-4))
    return recorder


def _load_one(frames: Frames, images: SyntheticImages, recorder: Recorder) -> None:
    is_equal = np.array_equal(frames.load_region(0), images.array(0))
    recorder.violate("wrong crops", int(not is_equal), "image 0, read during the fault")


def _prepare_rest(frames: Frames, images: SyntheticImages, recorder: Recorder) -> None:
    for failure in frames.prepare(errors="collect").failed:
        raise failure.error


def _collect(frames: Frames, images: SyntheticImages, recorder: Recorder) -> None:
    report = frames.cache.gc(max_bytes=0)
    recorder.count("reported errors", len(report.failed))


def _attempt(
    step: Callable[[Frames, SyntheticImages, Recorder], None],
    frames: Frames,
    images: SyntheticImages,
    workdir: str,
    recorder: Recorder,
    files: FaultyFileSystem,
) -> None:
    try:
        step(frames, images, recorder)
    except NdframesError as error:
        recorder.count("reported errors")
        names_file = workdir in str(error) or images.folder in str(error)
        if not isinstance(error, OSError) or not names_file:
            recorder.violate("unclear errors", note=f"{files.struck}: {type(error).__name__}: {error}")
    except Exception:
        recorder.violate("unclear errors", note=f"{files.struck}: {traceback.format_exc(limit=-4)}")


def _batches(numbers: Iterator[int]) -> Iterator[list[int]]:
    """Lists of numbers, one for each core."""
    while True:
        yield list(islice(numbers, core_count()))


def _was_killed(result: ChildResult) -> bool:
    return result.status == -signal.SIGKILL and not result.timed_out


def _did_fire(result: ChildResult) -> bool:
    return result.ok and bool(result.value.counts["faults"])
