"""The plan of experiments: which faults are injected, and how many.

Each experiment is a function of a :class:`~ndframes.testing.experiments.fork_server.ForkServer`, images whose pixels are
known, a folder to work in, and counts. It returns an
:class:`~ndframes.testing.experiments.results.ExperimentResult`: what was done, and how often a guarantee of the cache was
violated. No experiment hangs: processes that exceed their time limit are killed and counted.

Example:
    >>> from ndframes.testing.experiments.fork_server import ForkServer
    >>> folder = str(getfixture("tmp_path"))
    >>> with ForkServer() as fork_server:
    ...     images = SyntheticImages(folder, count=2).save(is_settled=False)
    ...     result = inject_kills(fork_server, images, folder, kills=2, crops=4, stride=20)
    >>> result.ok, result.violations["wrong crops"], result.counts["kills"] >= 2
    (True, 0, True)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .crashes import inject_errors, inject_kills
from .crowds import evict_under_readers, race_for_entries, suspend_writer
from .images import SyntheticImages
from .space import exhaust_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .crowds import LockMode
    from .fork_server import ForkServer
    from .results import ExperimentResult

__all__ = ["FULL", "QUICK", "TrialCounts", "plan_experiments"]


@dataclass(frozen=True, slots=True)
class TrialCounts:
    """How often each experiment tries.

    Attributes:
        kills: how many processes are killed.
        stride: kill or fail at every ``stride``-th file operation.
        sizes: how many sizes of a disk that is too small.
        race_images: how many images 16 processes convert at once.
        eviction_crops: how many crops each of 8 readers reads.
    """

    kills: int
    stride: int
    sizes: int
    race_images: int
    eviction_crops: int


#: About a minute on two cores.
QUICK = TrialCounts(
    kills=40, stride=16, sizes=8, race_images=30, eviction_crops=500
)  # fmt: skip
#: The counts that the documentation quotes; half an hour on two cores.
FULL = TrialCounts(
    kills=1000, stride=1, sizes=50, race_images=200, eviction_crops=100_000
)  # fmt: skip
_LARGE = (640, 650, 3)
_SMALL = (90, 100, 3)


def plan_experiments(
    fork_server: ForkServer,
    folder: str,
    counts: TrialCounts,
    *,
    locks: LockMode = "exclusive",
    log: Callable[[str], None] | None = None,
) -> Iterator[tuple[str, Callable[[], ExperimentResult]]]:
    """Yield the experiments that depend on the file system of ``folder``, each with a title.

    Args:
        fork_server: forks the processes.
        folder: an empty folder to work in; the caller removes it.
        counts: how often each experiment tries.
        locks: ``"ineffective"`` if the locks of the file system are known not to exclude other processes.
        log: called with lines of progress.
    """
    images = SyntheticImages(os.path.join(folder, "sources")).save()
    large = SyntheticImages(os.path.join(folder, "large"), count=1, shape=_LARGE, seed=1).save()
    many = SyntheticImages(os.path.join(folder, "many"), count=counts.race_images, shape=_SMALL, seed=2).save()
    yield (
        f"{counts.kills:,} killed processes",
        partial(inject_kills, fork_server, images, folder, kills=counts.kills, stride=counts.stride, log=log),
    )
    yield (
        "failing file operations",
        partial(inject_errors, fork_server, images, folder, stride=counts.stride, log=log),
    )
    yield (
        f"{counts.sizes} limits of the file length",
        partial(exhaust_space, fork_server, large, folder, limit="file length", steps=counts.sizes),
    )
    yield (
        f"16 processes that convert {counts.race_images} images at once",
        partial(race_for_entries, fork_server, many, folder, locks=locks),
    )
    yield (
        "a suspended writer",
        partial(suspend_writer, fork_server, images, folder),
    )
    yield (
        f"8 readers of {counts.eviction_crops:,} crops each, under eviction",
        partial(evict_under_readers, fork_server, images, folder, crops=counts.eviction_crops, seconds=3600.0),
    )
