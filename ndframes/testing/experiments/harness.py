"""Harness: experiments that show what the cache survives, with counts.

Each is a function that takes a :class:`ForkServer` to fork processes from, a :class:`Scene` of images whose pixels are known,
a folder to work in, and how often it is to try; each returns :class:`Findings`: what was done, and how often a promise of
the cache did not hold. None of them hangs: what takes too long is killed and counted.

Example:
    >>> from ndframes.testing.experiments.fork_server import ForkServer
    >>> folder = str(getfixture("tmp_path"))
    >>> with ForkServer() as fork_server:
    ...     scene = Scene(folder, count=2).save(is_settled=False)
    ...     findings = kill_everywhere(fork_server, scene, folder, kills=2, crops=4, stride=20)
    >>> findings.ok, findings.broken["wrong crops"], findings.done["kills"] >= 2
    (True, 0, True)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .crashes import fail_everywhere, kill_everywhere
from .crowds import evict_under_readers, race, stop_a_writer
from .scene import Findings, Scene
from .space import fill_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .crowds import LockMode
    from .fork_server import ForkServer

__all__ = ["FULL", "QUICK", "Counts", "plan_experiments"]


@dataclass(frozen=True, slots=True)
class Counts:
    """How often each experiment tries.

    Attributes:
        kills: processes killed.
        stride: every so many-th file operation is made to kill or to fail.
        sizes: of a disk that is too small.
        race_images: that 16 processes want at once.
        eviction_crops: for each of 8 readers.
        stopped_patience_seconds: how long others may wait for a writer that was stopped, beyond the age of its lock.
    """

    kills: int
    stride: int
    sizes: int
    race_images: int
    eviction_crops: int
    stopped_patience_seconds: float


#: About a minute on two cores.
QUICK = Counts(
    kills=40, stride=16, sizes=8, race_images=30, eviction_crops=500, stopped_patience_seconds=3.0
)  # fmt: skip
#: The counts that are quoted; half an hour on two cores.
FULL = Counts(
    kills=1000, stride=1, sizes=50, race_images=200, eviction_crops=100_000, stopped_patience_seconds=10.0
)  # fmt: skip
_LARGE = (640, 650, 3)
_SMALL = (90, 100, 3)


def plan_experiments(
    fork_server: ForkServer,
    folder: str,
    counts: Counts,
    *,
    locks: LockMode = "work",
    say: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, Callable[[], Findings]]]:
    """Those experiments whose outcome may depend on the file system of ``folder``, each with a line that announces it.

    Args:
        fork_server: forks the processes.
        folder: where all happens; an empty one, which is not emptied afterwards.
        counts: how often.
        locks: ``"lie"`` where it is known that the file system's locks do not exclude.
        say: called with lines of progress.
    """
    scene = Scene(os.path.join(folder, "sources")).save()
    large = Scene(os.path.join(folder, "large"), count=1, shape=_LARGE, seed=1).save()
    many = Scene(os.path.join(folder, "many"), count=counts.race_images, shape=_SMALL, seed=2).save()
    yield (
        f"{counts.kills:,} processes killed",
        partial(kill_everywhere, fork_server, scene, folder, kills=counts.kills, stride=counts.stride, say=say),
    )
    yield (
        "file operations that fail",
        partial(fail_everywhere, fork_server, scene, folder, stride=counts.stride, say=say),
    )
    yield (
        f"files that may not grow, {counts.sizes} sizes",
        partial(fill_up, fork_server, large, folder, limit="file length", steps=counts.sizes),
    )
    yield (
        f"16 processes that want {counts.race_images} images at once",
        partial(race, fork_server, many, folder, locks=locks),
    )
    yield (
        "a writer that is stopped",
        partial(stop_a_writer, fork_server, scene, folder, patience_seconds=counts.stopped_patience_seconds),
    )
    yield (
        f"8 readers of {counts.eviction_crops:,} crops each, under eviction",
        partial(evict_under_readers, fork_server, scene, folder, crops=counts.eviction_crops, seconds=3600.0),
    )
