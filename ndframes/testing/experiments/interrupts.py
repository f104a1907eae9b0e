"""Interrupts: Ctrl-C at any moment of a ``prepare``, and what is there a moment later."""

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
from .fork_server import Task
from .scene import FORMS, Tally, find_leftovers, read_crops

if TYPE_CHECKING:
    from types import FrameType

    from .fork_server import ForkServer
    from .scene import Findings, Scene

__all__ = ["interrupt_often"]
_MOST_SECONDS = 5.0
_WATCHDOG_SECONDS = 60.0
_AGAIN_SECONDS = 0.002


def interrupt_often(
    fork_server: ForkServer,
    scene: Scene,
    folder: str,
    *,
    interrupts: int,
    workers: int = 2,
    crops: int = 4,
    seed: int = 0,
) -> Findings:
    """Press Ctrl-C at random moments of a ``prepare``, as a terminal does: for it and all its workers at once.

    It must end by :class:`KeyboardInterrupt`, within 5 seconds, with every process that it started; no temporary file may
    be left; no worker may print a word; and the next ``prepare`` must make what is missing, and nothing else.

    Args:
        fork_server: forks the processes.
        scene: the images.
        folder: where the caches go; one for each trial, removed afterwards.
        interrupts: how often one must have met a ``prepare`` that was not done yet.
        workers: as for :meth:`ndframes.Frames.prepare`.
        crops: how many of each image are compared after the next ``prepare``.
        seed: of the random moments.
    """
    tally = Tally(
        "slow ends",
        "noise",
        "swallowed",
        "wrong crops",
        "failed verify",
        "leftovers",
        "done twice",
        "hangs",
        "odd ends",
    )
    chance = random.Random(seed)
    workdir = os.path.join(folder, f"interrupted-{workers}")
    durations = {form: _measure(fork_server, scene, form, workers, workdir) for form in FORMS}
    longest = 0.0
    while tally.done["interrupts"] < interrupts and not tally.broken["odd ends"]:
        form = chance.choice(list(FORMS))
        at = chance.uniform(0, durations[form])
        task = Task(partial(_prepare, scene, form, workers, workdir), [(at, signal.SIGINT, True)])
        started = time.perf_counter()
        end = fork_server.run(task, seconds=_WATCHDOG_SECONDS)[0]
        seconds = time.perf_counter() - started - at
        context = f"{form}, {workers} workers, after {at:.3f} s"
        if end.is_hung:
            tally.fault("hangs", note=f"{context}: {end.problem}")
        elif not end.ok:
            tally.fault("odd ends", note=f"{context}: status {end.status}: {end.problem}")
        elif end.value == "interrupted":
            tally.count("interrupts")
            longest = max(longest, seconds)
            tally.fault("slow ends", int(seconds > _MOST_SECONDS), f"{context}: {seconds:.1f} s")
            tally.fault("noise", int(bool(end.problem)), f"{context}: {end.problem}")
        else:
            tally.fault("swallowed", int(end.value == "swallowed"), f"{context}: {end.problem}")
            tally.count("too late")
        after = fork_server.run(partial(_resume, scene, form, workdir, crops, tally.done["interrupts"]))[0]
        if after.ok:
            tally.add(after.value, context)
        else:
            tally.fault("odd ends", note=f"{context}, afterwards: {after.problem}")
        shutil.rmtree(workdir, ignore_errors=True)
    tally.count("milliseconds for the slowest", round(1000 * longest))
    return tally.finish(f"Ctrl-C, {workers} workers")


def _measure(fork_server: ForkServer, scene: Scene, form: str, workers: int, workdir: str) -> float:
    started = time.perf_counter()
    fork_server.run(partial(_prepare, scene, form, workers, workdir), seconds=_WATCHDOG_SECONDS)
    shutil.rmtree(workdir)
    return time.perf_counter() - started


def _prepare(scene: Scene, form: str, workers: int, workdir: str) -> str:
    """How it ended: "finished", "interrupted", or "swallowed" where it was interrupted and did not heed it."""
    pressed = []

    def press(number: int, frame: FrameType | None) -> None:
        if _is_in_finalizer(frame):  # Python prints what is raised there, and goes on
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
            return
        pressed.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGALRM, press)

    signal.signal(signal.SIGINT, press)
    frames = None
    try:
        frames = scene.frames(workdir, form)
        frames.prepare(workers=workers)
        outcome = "swallowed" if pressed else "finished"
    except KeyboardInterrupt:
        outcome = "interrupted"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    del frames
    gc.collect()  # gives up its lease, as the end of an interpreter does
    return outcome


def _is_in_finalizer(frame: FrameType | None) -> bool:
    """Whether a frame is part of what the interpreter calls when an object goes."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "__del__" or (code.co_name == "__call__" and code.co_filename == weakref.__file__):
            return True
        frame = frame.f_back
    return False


def _resume(scene: Scene, form: str, workdir: str, crops: int, seed: int) -> Tally:
    tally = Tally()
    cache = Cache(workdir)
    report = cache.verify(read_data=True)
    tally.fault("failed verify", len(report.bad), str(report))
    if cache.root.is_dir():
        left = [name for name in find_leftovers(cache) if not name.startswith("/")]
        tally.fault("leftovers", len(left), ", ".join(left))
    frames = scene.frames(workdir, form)
    rerun = frames.prepare()
    is_right = (rerun.present, rerun.prepared) == (report.checked, scene.count - report.checked)
    tally.fault("done twice", int(not is_right), f"{report.checked} were there; then {rerun}")
    tally.count("entries kept", report.checked)
    read_crops(frames, scene.arrays(), crops * scene.count, seed, tally)
    return tally
