"""Regions, tile grids and pyramid levels: integers in, integers out.

A region is what numpy calls a basic index: slices, one an axis. Resolved against a shape, each axis becomes a Python
``range``, which already knows everything that a crop needs: its start, its step, its length, and how to be cut.
Axis order is y, x, then the channel. Shapes are ``(height, width)`` or ``(height, width, channels)``.
"""

from __future__ import annotations

import math
import operator
import re
from types import EllipsisType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    SupportsIndex,
    TypeGuard,
)

import numpy as np

from ..errors import RegionError, RegionIndexError, RegionTooLargeError, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "PAD_MODES",
    "BoxLike",
    "IndexItem",
    "PadMode",
    "Region",
    "Selection",
    "boxes_to_slices",
    "parse_region",
    "resolve_region",
    "resolve_unclipped",
    "to_index",
    "to_row",
    "to_slice",
]


class BoxLike(Protocol):
    """A box in the plane, as ``kwimage.Box`` and ``kwimage.Boxes`` of one are: known by what it can do, not by its class.

    It stands for two items of a region, y and x. Its corners are rounded outward to whole pixels, so that all of it is
    covered, and what lies outside of an image is cut off; where a region is padded, it is kept.
    """

    def to_ltrb(self) -> Any:
        """The same as left, top, right and bottom; its ``data`` are the four numbers."""


IndexItem = slice | SupportsIndex | EllipsisType | BoxLike
#: A numpy basic index: one slice (or integer) an axis; ``None`` is everything. A box is two of them.
Region = IndexItem | tuple[IndexItem, ...] | None
#: What stands outside an image: a value, its nearest pixel, or its mirror image.
PadMode = Literal["constant", "edge", "reflect"]
PAD_MODES = ("constant", "edge", "reflect")
_PLAIN_PARTS = frozenset([int, type(None), np.int64, np.int32])
_NO_BOXES = frozenset([slice, int, EllipsisType])
_ALL_KEPT = (False, False, False)
# So far from an image, and no farther: lengths and mirrored coordinates still fit 64-bit integers.
_FARTHEST = 1 << 61
# 18 digits are more than any image has, and fewer than int() refuses with an error of its own.
_TYPED_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,18})?\s*")


class Selection(NamedTuple):
    """A region resolved against a shape: which pixels, and which axes stay.

    Attributes:
        ranges: per axis the source coordinates, in the order of the result.
        dropped: per axis whether an integer index takes the axis away.
    """

    ranges: tuple[range, ...]
    dropped: tuple[bool, ...]

    @property
    def full_shape(self) -> tuple[int, ...]:
        """The shape before integer-indexed axes are taken away."""
        return tuple(map(len, self.ranges))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that numpy would give."""
        if True not in self.dropped:
            return self.full_shape
        return tuple(len(axis) for axis, gone in zip(self.ranges, self.dropped, strict=True) if not gone)


def resolve_region(region: Region, shape: Sequence[int]) -> Selection:
    """Resolve ``region`` against ``shape`` by numpy's rules for basic indexing.

    Negative starts count from the end, slices are clipped, steps may be negative, integers drop their axis, missing
    axes are whole. New axes and boolean or list indices are not regions.

    Raises:
        RegionIndexError: an integer lies outside its axis, or there are more items than axes, or several ``...``.
        RegionError: an item is no slice, integer or ``...``, or a slice's parts are no integers.

    Example:
        >>> resolve_region((slice(-2, None), slice(None, None, 3)), (5, 7, 3)).ranges
        (range(3, 5), range(0, 7, 3), range(0, 3))
        >>> resolve_region(4, (5, 7, 3)).shape
        (7, 3)
    """
    if type(region) is tuple and len(region) == 2 and len(shape) == 3:
        selection = _resolve_crop(region, shape)
        if selection is not None:
            return selection
    items = _spread(boxes_to_slices(region, len(shape)), len(shape))
    pairs = [_resolve_item(item, extent, axis) for axis, (item, extent) in enumerate(zip(items, shape, strict=True))]
    return Selection(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))


def resolve_unclipped(region: Region, shape: Sequence[int]) -> tuple[range, ...]:
    """Resolve ``region`` in the unbounded plane of an image of ``shape``: nothing wraps and nothing is clipped.

    The first axes are y and x; a channel axis, if ``shape`` has a third one, resolves as numpy does.

    Raises:
        RegionTooLargeError: a slice is longer than any array can be.
        RegionError: an item is not a slice, runs backwards, its parts are no integers, or it lies absurdly far away.

    Example:
        >>> resolve_unclipped((slice(-2, 4), slice(5, 9)), (6, 6, 3))
        (range(-2, 4), range(5, 9), range(0, 3))
    """
    items = _spread(boxes_to_slices(region, len(shape), is_clipped=False), len(shape))
    plane = tuple(
        _resolve_plane(item, extent, axis) for axis, (item, extent) in enumerate(zip(items[:2], shape[:2], strict=True))
    )
    rest = resolve_region(tuple(items[2:]), shape[2:])
    if any(rest.dropped):
        raise RegionError(f"a padded region keeps its channel axis: give a slice, not {shorten(items[2])}")
    return plane + rest.ranges


def boxes_to_slices(region: Region, axis_count: int, *, is_clipped: bool = True) -> Region:
    """``region`` with slices in the place of boxes; what holds none stays as it is.

    Args:
        region: of any form. A box by itself is all of the axes before y.
        axis_count: how many axes the region is of: ``(y, x, channel)``, with time in front if there are four.
        is_clipped: whether corners above or left of the image are moved to its edge, since a slice from there would count
            from the end.

    Raises:
        RegionError: there are several boxes in one, or their corners are no finite numbers.

    Example:
        >>> import kwimage
        >>> box = kwimage.Box.coerce([-3.5, 2, 10, 8.1], format="xywh")
        >>> boxes_to_slices((box, 0), 3)
        (slice(2, 11, None), slice(0, 7, None), 0)
        >>> boxes_to_slices(box, 4, is_clipped=False)
        (slice(None, None, None), slice(2, 11, None), slice(-4, 7, None))
    """
    if _is_box(region):
        return (*[slice(None)] * (axis_count - 3), *_box_to_slices(region, is_clipped=is_clipped))
    if not isinstance(region, tuple) or not any(map(_is_box, region)):
        return region
    items: list[IndexItem] = []
    for item in region:
        items.extend(_box_to_slices(item, is_clipped=is_clipped) if _is_box(item) else [item])
    return tuple(items)


def parse_region(text: str) -> tuple[slice, ...]:
    """Read a region as people type it: ``"y0:y1,x0:x1"``, each part a slice as in Python; ``":"`` is a whole axis.

    Raises:
        RegionError: the text is not of that form, or a part runs backwards and so can only be empty.

    Example:
        >>> parse_region("0:256,-128:")
        (slice(0, 256, None), slice(-128, None, None))
    """
    return tuple(_parse_slice(part, text) for part in text.split(","))


def _parse_slice(part: str, text: str) -> slice:
    pieces = part.split(":")
    if not 2 <= len(pieces) <= 3:
        raise RegionError(f"region {shorten(text)}: {shorten(part)} is no slice; write y0:y1,x0:x1")
    matches = [_TYPED_NUMBER.fullmatch(piece) for piece in pieces]
    numbers = [None if match is None or match[1] is None else int(match[1]) for match in matches]
    if None in matches:
        raise RegionError(
            f"region {shorten(text)}: {shorten(part)} holds no whole numbers (of at most 18 digits); write y0:y1,x0:x1"
        )
    start, stop, step = (*numbers, None)[:3]
    if step == 0:
        raise RegionError(f"region {shorten(text)}: {shorten(part)} has step 0; leave it out, or give another")
    if start is not None and stop is not None and (start < 0) == (stop < 0) and (stop - start) * (step or 1) < 0:
        raise RegionError(f"region {shorten(text)}: {shorten(part)} stops before it starts")
    return slice(start, stop, step)


def _is_box(item: object) -> TypeGuard[BoxLike]:
    return type(item) not in _NO_BOXES and hasattr(item, "to_ltrb")


def _box_to_slices(box: BoxLike, *, is_clipped: bool) -> tuple[slice, slice]:
    corners = np.asarray(box.to_ltrb().data, np.float64).reshape(-1, 4)
    if len(corners) != 1:
        raise RegionError(
            f"a region is one box, and these are {len(corners)}; load_regions reads many: [(image_id, box) for box in boxes]"
        )
    if not np.isfinite(corners).all() or np.abs(corners).max() > _FARTHEST:
        raise RegionError(f"a box whose corners are {shorten(corners[0].tolist())} is no region of pixels")
    left, top, right, bottom = corners[0].tolist()
    ends = [math.floor(top), math.ceil(bottom), math.floor(left), math.ceil(right)]
    if is_clipped:
        ends = [max(0, end) for end in ends]
    return slice(*ends[:2]), slice(*ends[2:])


def _spread(region: Region, axis_count: int) -> list[IndexItem]:
    """One item an axis: ``...`` opened, missing axes whole."""
    items = [] if region is None else list(region) if isinstance(region, tuple) else [region]
    ellipses = sum(item is Ellipsis for item in items)
    if ellipses > 1:
        raise RegionIndexError("a region holds at most one '...'")
    if len(items) - ellipses > axis_count:
        raise RegionIndexError(f"a region of {len(items) - ellipses} axes for an image of {axis_count}")
    whole: list[IndexItem] = [slice(None)] * (axis_count - len(items) + ellipses)
    if ellipses:
        at = next(index for index, item in enumerate(items) if item is Ellipsis)
        return [*items[:at], *whole, *items[at + 1 :]]
    return [*items, *whole]


def _resolve_crop(region: tuple[IndexItem, ...], shape: Sequence[int]) -> Selection | None:
    """What nearly every region is, two slices between whole numbers, in a quarter of the time; ``None`` for all else."""
    rows, cols = region
    if type(rows) is not slice or type(cols) is not slice or rows.step is not None or cols.step is not None:
        return None
    if (
        type(rows.start) in _PLAIN_PARTS
        and type(rows.stop) in _PLAIN_PARTS
        and type(cols.start) in _PLAIN_PARTS
        and type(cols.stop) in _PLAIN_PARTS
    ):
        height, width, bands = shape
        return Selection((range(height)[rows], range(width)[cols], range(bands)), _ALL_KEPT)
    return None


def _resolve_item(item: IndexItem, extent: int, axis: int) -> tuple[range, bool]:
    if isinstance(item, slice):
        return _slice_to_range(item, extent, axis), False
    index = to_index(item, axis)
    if not -extent <= index < extent:
        raise RegionIndexError(f"index {shorten(index)} is out of bounds for axis {axis}, which has {extent}")
    index += extent if index < 0 else 0
    return range(index, index + 1), True


def _slice_to_range(item: slice, extent: int, axis: int) -> range:
    try:
        for part in (item.start, item.stop, item.step):
            if isinstance(part, np.bool_):  # which numpy 2.2 still takes for a number, with a warning
                to_index(part, axis)
        return range(*item.indices(extent))
    except (TypeError, ValueError) as error:
        raise RegionError(
            f"axis {axis}: {shorten(item)} is no region; its parts must be whole numbers and its step not 0"
        ) from error


def to_index(item: object, axis: int) -> int:
    """``item`` as an int, or an error that names the axis; booleans, floats and arrays are no indices."""
    cause = None
    if not isinstance(item, (bool, np.bool_)):
        try:
            return operator.index(item)  # type: ignore[arg-type]
        except TypeError as error:
            cause = error
    raise RegionError(
        f"axis {axis}: {shorten(item)} ({type(item).__name__}) is no region; give slices of whole numbers, as to numpy"
    ) from cause


def to_row(item: object, extent: int) -> int:
    """``item`` as a position on the first axis, from its end where it is negative, as numpy has it.

    Raises:
        RegionIndexError: it lies outside.
        RegionError: it is no whole number.

    Example:
        >>> to_row(-1, 10), to_row(3, 10)
        (9, 3)
    """
    number = to_index(item, 0)
    if not -extent <= number < extent:
        raise RegionIndexError(f"index {shorten(number)} is out of bounds for axis 0, which has {extent}")
    return number % extent


def to_slice(axis: range) -> slice:
    """The slice that takes the positions of ``axis``, none of which is negative.

    Example:
        >>> to_slice(range(4, -1, -2)), to_slice(range(2, 8))
        (slice(4, None, -2), slice(2, 8, 1))
    """
    return slice(axis.start, None if axis.step < 0 and axis.stop < 0 else axis.stop, axis.step)


def _resolve_plane(item: IndexItem, extent: int, axis: int) -> range:
    if not isinstance(item, slice):
        raise RegionError(f"axis {axis}: a padded region is made of slices, got {shorten(item)}")
    start, stop, step = (
        default if value is None else to_index(value, axis)
        for value, default in ((item.start, 0), (item.stop, extent), (item.step, 1))
    )
    if step < 1 or stop < start:
        raise RegionError(
            f"axis {axis}: {shorten(item)} runs backwards; in the plane of a padded region start <= stop, step >= 1"
        )
    if start < -_FARTHEST or stop > _FARTHEST:
        kind = RegionTooLargeError if (stop - start) // step > _FARTHEST else RegionError
        raise kind(f"axis {axis}: {shorten(item)} lies too far outside an image of {extent}; stay within 2**61 px")
    return range(start, stop, step)
