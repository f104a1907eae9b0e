"""Padding: the pixels or points of an image that replace those outside of it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import RegionError, shorten
from .grid import Sampling
from .regions import PAD_MODES

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Run",
    "check_pad",
    "clip_range",
    "covering_range",
    "fold_axis",
    "padded_indices",
    "slice_within",
]
# A centre on the edge of the image counts as inside, despite rounding errors.
_EPSILON = 1e-9


def check_pad(pad: object) -> None:
    """Check a pad mode.

    Raises:
        RegionError: the mode does not exist; the message lists those that do.
    """
    if pad not in PAD_MODES:
        raise RegionError(f"pad={shorten(pad)}; allowed: None, {', '.join(map(repr, PAD_MODES))}")


def clip_range(axis: range, extent: int) -> range:
    """The positions of ``axis`` that are in ``range(extent)``."""
    # The first position that is not negative; a step may not hit 0.
    first = max(0, -(axis.start // axis.step)) if axis.start < 0 else 0
    last = len(range(axis.start, min(axis.stop, extent), axis.step))
    return axis[min(first, last) : last]


def slice_within(inner: range, outer: range) -> slice:
    """The slice of ``outer`` that gives ``inner``, a part of it with the same step."""
    first = (inner.start - outer.start) // outer.step if inner else 0
    return slice(first, first + len(inner))


def padded_indices(axis: range, extent: int, pad: str) -> np.ndarray[Any, np.dtype[np.intp]]:
    """For each position of ``axis``, the pixel that replaces it: the nearest one, or the reflected one."""
    indices = np.arange(axis.start, axis.stop, axis.step, dtype=np.intp)
    # A single pixel has no period; its reflection is itself.
    if pad == "edge" or extent == 1:
        return indices.clip(0, extent - 1)
    # A reflection does not repeat the border pixel, as with numpy's "reflect".
    period = 2 * (extent - 1)
    indices %= period
    return np.where(indices < extent, indices, period - indices)


def covering_range(indices: np.ndarray[Any, np.dtype[np.intp]]) -> range:
    """The smallest range of pixels that contains all ``indices``."""
    return range(int(indices.min()), int(indices.max()) + 1) if indices.size else range(0)


class Run(NamedTuple):
    """Consecutive pixels of a result along one axis, whose points in the image are consecutive too.

    Attributes:
        out_slice: the pixels of the result. If ``sampling`` has a single pixel, it is repeated for all of them.
        sampling: the points in the image.
        direction: 1, or -1 where the image is reflected.
    """

    out_slice: slice
    sampling: Sampling
    direction: int


def fold_axis(sampling: Sampling, extent: int, pad: str) -> Iterator[Run]:
    """Split an axis at the centres of the border pixels, where it leaves the image or where a reflection begins."""
    centres = sampling.start + (np.arange(sampling.count) + 0.5) * sampling.step
    is_inside = (centres > -_EPSILON) & (centres < extent + _EPSILON)
    is_edge = pad == "edge" or extent == 1
    # The number of the reflection: each spans the distance between the centres of the border pixels.
    turns = np.sign(centres) if is_edge else np.floor((centres - 0.5) / max(1, extent - 1))
    # Between the edge of the image and the centre of its border pixel, the image itself is sampled.
    turns[is_inside] = 0
    starts = [0, *(np.flatnonzero(np.diff(turns)) + 1).tolist(), sampling.count]
    for first, last in pairwise(starts):
        out_slice, turn, count = slice(first, last), int(turns[first]) if first < last else 0, last - first
        begin, end = (sampling.start + number * sampling.step for number in (first, last))
        if turn and is_edge:
            # The centre of the border pixel, where every kernel gives its exact value.
            border = 0.5 if turn < 0 else extent - 0.5
            yield Run(out_slice, Sampling(border - sampling.step / 2, sampling.step, 1), 1)
        elif turn % 2:
            # An odd reflection runs backwards: its last pixel comes first in the image.
            yield Run(out_slice, Sampling((turn + 1) * (extent - 1) + 1 - end, sampling.step, count), -1)
        else:
            yield Run(out_slice, Sampling(begin - turn * (extent - 1), sampling.step, count), 1)
