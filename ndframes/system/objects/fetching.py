"""Fetching parts of an object: neighbours by one request, and all requests at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .store import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

__all__ = ["Run", "merge_places", "slice_of"]
# Longer runs are fetched by several requests, which are faster than one.
_LONGEST_RUN_BYTES = 8 << 20


class Run(NamedTuple):
    """Places that are fetched by one request, and the place that contains them all."""

    place: Place
    indices: list[int]


def merge_places(places: Sequence[Place]) -> list[Run]:
    """Merge places that touch or overlap. Empty places are in no run.

    Merging places with a gap between them would save requests, but not time, and cost bytes.

    Args:
        places: in any order.

    Example:
        >>> merge_places([Place(10, 5), Place(30, 2), Place(0, 10), Place(40, 0)])
        [Run(place=Place(offset=0, length=15), indices=[2, 0]), Run(place=Place(offset=30, length=2), indices=[1])]
    """
    runs: list[Run] = []
    for index in sorted(range(len(places)), key=places.__getitem__):
        offset, length = places[index]
        if not length:
            continue
        if runs and _belongs_to(runs[-1].place, offset, length):
            run = runs.pop()
            stop = max(run.place.offset + run.place.length, offset + length)
            runs.append(Run(Place(run.place.offset, stop - run.place.offset), [*run.indices, index]))
        else:
            runs.append(Run(Place(offset, length), [index]))
    return runs


def _belongs_to(run: Place, offset: int, length: int) -> bool:
    stop = run.offset + run.length
    return offset < stop or (offset == stop and run.length + length <= _LONGEST_RUN_BYTES)


def slice_of(fetch: Callable[[], Buffer], offset: int, length: int) -> Buffer:
    """A part of what was fetched, without a copy.

    Args:
        fetch: waits for the bytes of a run, and returns them.
        offset: of the part in the run.
        length: of the part; there are fewer bytes where the object ends.
    """
    return memoryview(fetch())[offset : offset + length]
