"""Crashes: what is left of a cache when a process is killed, or a call fails, at any step of its work."""

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
from .fork_server import Task
from .scene import FORMS, Tally, examine, find_leftovers

if TYPE_CHECKING:
    from ...frames.frames import Frames
    from ...system.files import FileSystem
    from .fork_server import Ended, ForkServer
    from .scene import Findings, Scene

__all__ = ["ERROR_KINDS", "fail_everywhere", "kill_everywhere"]
#: What may become of a call besides success.
ERROR_KINDS = ("EIO", "ENOSPC", "EDQUOT", "short", "lost")
_LEAST_SECONDS = 0.002
_PARALLEL_SHARE = 20
_WATCHDOG_SECONDS = 60.0
Say = Callable[[str], None]


def kill_everywhere(
    fork_server: ForkServer,
    scene: Scene,
    folder: str,
    *,
    kills: int,
    crops: int = 64,
    stride: int = 1,
    parallel: bool = True,
    seed: int = 0,
    say: Say | None = None,
) -> Findings:
    """Kill processes with SIGKILL: at each file operation in turn, then at random moments; look what they leave.

    The victims read on demand, prepare what is missing and collect garbage. What a fresh process must find then is
    told at :func:`~ndframes.testing.experiments.scene.examine`.

    Args:
        fork_server: forks the victims.
        scene: the images.
        folder: where the caches go; one for each victim, removed afterwards.
        kills: how many in all; every operation comes first.
        crops: how many of each image are compared after each kill.
        stride: only every so many-th operation.
        parallel: whether some of the random kills hit a ``prepare`` with two workers: alone, or with them.
        seed: of the random moments.
        say: called with a line now and then.
    """
    tally = Tally("wrong crops", "failed verify", "not rebuilt", "leftovers", "hangs", "odd ends")
    lane = _Lane(fork_server, scene, folder, crops, tally, say)
    for form in FORMS:
        for batch in _batches(count(1, stride)):
            calls = [partial(_work, scene, form, FaultyFileSystem("any", nth, "kill")) for nth in batch]
            ends = lane.run(form, calls, "fault points")
            if not all(_was_killed(end) for end in ends) or tally.done["kills"] >= kills:
                break
    chance = random.Random(seed)
    turns = count(1)
    while tally.done["kills"] < kills and not tally.broken["odd ends"]:
        form = chance.choice(list(FORMS))
        if parallel and next(turns) % _PARALLEL_SHARE == 0:
            lane.run_parallel(form, chance)
        else:
            lane.run_at_random(form, chance)
    return tally.finish("kills")


def fail_everywhere(
    fork_server: ForkServer,
    scene: Scene,
    folder: str,
    *,
    kinds: Sequence[str] = ERROR_KINDS,
    crops: int = 16,
    stride: int = 1,
    say: Say | None = None,
) -> Findings:
    """Make each file operation fail in turn, in each way; look what becomes of the call, of the next one, and of the cache.

    A call must give the right pixels or an error of ours that names a file and says what the system said; it must leave
    nothing half written; and the next call must succeed.

    Args:
        fork_server: forks the processes.
        scene: the images.
        folder: where the caches go.
        kinds: as for :class:`~ndframes.testing.faults.FaultyFileSystem`.
        crops: how many of each image are compared afterwards.
        stride: only every so many-th operation.
        say: called with a line now and then.
    """
    promises = "unclear errors", "left in tmp", "second failures"
    tally = Tally("wrong crops", "failed verify", "not rebuilt", "leftovers", *promises, "hangs", "odd ends")
    lane = _Lane(fork_server, scene, folder, crops, tally, say)
    for form in FORMS:
        for kind in kinds:
            for batch in _batches(count(1, stride)):
                calls = [partial(_fail, scene, form, FaultyFileSystem("any", nth, kind)) for nth in batch]
                ends = lane.run(form, calls, "faults")
                if not all(_did_fire(end) for end in ends):
                    break
        for kind in ("ENOSPC", "EDQUOT"):
            files = [FaultyFileSystem("write", nth, kind, is_lasting=True) for nth in islice(count(1), core_count())]
            lane.run(form, [partial(_fail, scene, form, each) for each in files], "full disks")
    return tally.finish("errors")


class _Lane:
    """Runs some victims at a time, each in a cache of its own, then has each cache examined by a fresh process."""

    def __init__(
        self, fork_server: ForkServer, scene: Scene, folder: str, crops: int, tally: Tally, say: Say | None
    ) -> None:
        self._nursery = fork_server
        self._scene = scene
        self._folder = folder
        self._crops = crops
        self._tally = tally
        self._say = say
        self._durations: dict[str, float] = {}
        self._number = 0

    def run(
        self, form: str, calls: Sequence[partial[Any]], what: str, signals: Sequence[tuple[float, int, bool]] = ()
    ) -> list[Ended]:
        """Let the victims run, each with one of the ``signals``, look after them, and count ``what`` befell them."""
        workdirs = [os.path.join(self._folder, f"work-{self._number + index}") for index in range(len(calls))]
        self._number += len(calls)
        tasks = [
            Task(partial(call, workdir), signals[index : index + 1])
            for index, (call, workdir) in enumerate(zip(calls, workdirs, strict=True))
        ]
        ends = self._nursery.run(*tasks, seconds=_WATCHDOG_SECONDS)
        contexts = [f"{form}, {call.args[2] or what}" for call in calls]
        for end, context in zip(ends, contexts, strict=True):
            self._note_end(end, context, what)
        checks = [
            partial(examine, self._scene, workdir, form, crops=self._crops, seed=self._number) for workdir in workdirs
        ]
        for end, context in zip(self._nursery.run(*checks, seconds=_WATCHDOG_SECONDS), contexts, strict=True):
            self._note_end(end, f"{context}, afterwards", "")
        for workdir in workdirs:
            shutil.rmtree(workdir, ignore_errors=True)
        if self._say is not None and self._number % 100 < len(calls):
            self._say(f"{self._number} trials, {sum(self._tally.broken.values())} broken promises")
        return ends

    def run_at_random(self, form: str, chance: random.Random) -> None:
        """Kill processes that do what they like."""
        call = partial(_work, self._scene, form, None)
        duration = self._measure(form, call)
        moments = [chance.uniform(_LEAST_SECONDS, duration) for _ in range(core_count())]
        self.run(form, [call] * len(moments), "random moments", [(at, signal.SIGKILL, False) for at in moments])

    def run_parallel(self, form: str, chance: random.Random) -> None:
        """Kill a process that has workers, or all of them at once."""
        call = partial(_prepare_with_workers, self._scene, form, None)
        duration = self._measure(f"{form} in parallel", call)
        at = chance.uniform(duration / 3, duration)
        self.run(form, [call], "random moments", [(at, signal.SIGKILL, chance.random() < 0.5)])

    def _measure(self, name: str, call: partial[Any]) -> float:
        """How long the call takes when it is left alone."""
        if name not in self._durations:
            workdir = os.path.join(self._folder, "measured")
            started = time.perf_counter()
            self._nursery.run(partial(call, workdir), seconds=_WATCHDOG_SECONDS)
            self._durations[name] = time.perf_counter() - started
            shutil.rmtree(workdir, ignore_errors=True)
        return self._durations[name]

    def _note_end(self, end: Ended, context: str, what: str) -> None:
        if end.is_hung:
            self._tally.fault("hangs", note=f"{context}: {end.problem}")
        elif what and _was_killed(end):
            self._tally.count("kills")
            self._tally.count(what)
        elif not end.ok:
            self._tally.fault("odd ends", note=f"{context}: status {end.status}: {end.problem}")
        elif isinstance(end.value, Tally):
            self._tally.add(end.value, context)


def _work(scene: Scene, form: str, files: FileSystem | None, workdir: str) -> None:
    """One image on demand, the others prepared, and most of it collected."""
    frames = scene.frames(workdir, form, files)
    frames.load_region(0)
    frames.prepare()
    frames.cache.gc(max_bytes=sum(entry.size_bytes for entry in frames.cache.ls()) // 2)


def _prepare_with_workers(scene: Scene, form: str, files: FileSystem | None, workdir: str) -> None:
    scene.frames(workdir, form, files).prepare(workers=2)


def _fail(scene: Scene, form: str, files: FaultyFileSystem, workdir: str) -> Tally:
    """As :func:`_work`, where something fails; then again, where nothing does."""
    tally = Tally()
    frames = scene.frames(workdir, form, files)
    for step in (_load_one, _prepare_rest, _collect):
        _attempt(step, frames, scene, workdir, tally, files)
    # What cannot be unlinked stays until somebody can.
    left = [name for name in find_leftovers(frames.cache) if name.startswith("tmp")]
    if files.struck != "remove":
        tally.fault("left in tmp", len(left), ", ".join(left))
    if files.fired:
        tally.count("full disks" if files.is_lasting else "faults")
    files.mend()
    try:
        for number, array in enumerate(scene.arrays()):
            tally.fault("wrong crops", int(not np.array_equal(frames.load_image(number), array)), f"image {number}")
    except Exception:
        tally.fault("second failures", note=traceback.format_exc(limit=-4))
    return tally


def _load_one(frames: Frames, scene: Scene, tally: Tally) -> None:
    is_equal = np.array_equal(frames.load_region(0), scene.array(0))
    tally.fault("wrong crops", int(not is_equal), "image 0, read while it happened")


def _prepare_rest(frames: Frames, scene: Scene, tally: Tally) -> None:
    for failure in frames.prepare(errors="collect").failed:
        raise failure.error


def _collect(frames: Frames, scene: Scene, tally: Tally) -> None:
    report = frames.cache.gc(max_bytes=0)
    tally.count("errors told", len(report.failed))


def _attempt(
    step: Callable[[Frames, Scene, Tally], None],
    frames: Frames,
    scene: Scene,
    workdir: str,
    tally: Tally,
    files: FaultyFileSystem,
) -> None:
    try:
        step(frames, scene, tally)
    except NdframesError as error:
        tally.count("errors told")
        names_file = workdir in str(error) or scene.folder in str(error)
        if not isinstance(error, OSError) or not names_file:
            tally.fault("unclear errors", note=f"{files.struck}: {type(error).__name__}: {error}")
    except Exception:
        tally.fault("unclear errors", note=f"{files.struck}: {traceback.format_exc(limit=-4)}")


def _batches(numbers: Iterator[int]) -> Iterator[list[int]]:
    while True:
        yield list(islice(numbers, core_count()))


def _was_killed(end: Ended) -> bool:
    return end.status == -signal.SIGKILL and not end.is_hung


def _did_fire(end: Ended) -> bool:
    return end.ok and bool(end.value.done["faults"])
