"""Regions: numpy's basic indices, boxes and text, resolved against the shape of an image.

A region has one slice for each axis. Resolved against a shape, each slice becomes a Python ``range``, which has a start, a
step and a length, and can be sliced itself. The axes are y, x, then the channel. Shapes are ``(height, width)`` or
``(height, width, channels)``.
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
    "check_inside",
    "parse_region",
    "region_of_box",
    "resolve_region",
    "resolve_unclipped",
    "to_index",
    "to_row",
    "to_slice",
]


class BoxLike(Protocol):
    """A box with a method ``to_ltrb``, such as ``kwimage.Box`` or ``kwimage.Boxes`` of one box.

    It replaces two items of a region, y and x. Its corners are rounded outward to whole pixels. The part outside of the
    image is clipped, except in a padded region.
    """

    def to_ltrb(self) -> Any:
        """A box whose ``data`` are left, top, right and bottom."""


IndexItem = slice | SupportsIndex | EllipsisType | BoxLike
#: A numpy basic index: one slice or integer for each axis; ``None`` is everything. A box is two items.
Region = IndexItem | tuple[IndexItem, ...] | None
#: What replaces pixels outside of an image: the fill value, the nearest pixel, or the reflected pixel.
PadMode = Literal["constant", "edge", "reflect"]
PAD_MODES = ("constant", "edge", "reflect")
_PLAIN_PARTS = frozenset([int, type(None), np.int64, np.int32])
# hasattr() on an item of another type costs more than this look-up, and each crop has two items.
_NO_BOXES = frozenset([slice, int, EllipsisType])
_NUMBERS = (int, float, np.number)
_ALL_KEPT = (False, False, False)
# Up to here, lengths and reflected coordinates fit into 64-bit integers.
_MAX_COORDINATE = 1 << 61
# More digits than any image needs, and fewer than int() refuses.
_TYPED_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,18})?\s*")


class Selection(NamedTuple):
    """A region resolved against a shape.

    Attributes:
        ranges: for each axis the source coordinates, in the order of the result.
        dropped: for each axis whether an integer index removes it.
    """

    ranges: tuple[range, ...]
    dropped: tuple[bool, ...]

    @property
    def full_shape(self) -> tuple[int, ...]:
        """The shape before integer indices remove their axes."""
        return tuple(map(len, self.ranges))

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result, as in numpy."""
        if True not in self.dropped:
            return tuple(map(len, self.ranges))
        return tuple(len(axis) for axis, is_dropped in zip(self.ranges, self.dropped, strict=True) if not is_dropped)


def resolve_region(region: Region, shape: Sequence[int]) -> Selection:
    """Resolve ``region`` against ``shape`` by numpy's rules for basic indexing.

    Negative starts count from the end, slices are clipped, steps may be negative, integers remove their axis, missing
    axes are whole. New axes and boolean or list indices are not supported.

    Raises:
        RegionIndexError: an integer is out of bounds, or there are more items than axes, or several ``...``.
        RegionError: an item is not a slice, an integer or ``...``, or a part of a slice is not an integer.

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
    items = _expand(boxes_to_slices(region, len(shape)), len(shape))
    pairs = [_resolve_item(item, extent, axis) for axis, (item, extent) in enumerate(zip(items, shape, strict=True))]
    return Selection(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))


def resolve_unclipped(region: Region, shape: Sequence[int]) -> tuple[range, ...]:
    """Resolve ``region`` in the unbounded plane of an image of ``shape``: negative coordinates lie outside of the image.

    The first axes are y and x. A channel axis, if ``shape`` has a third one, is resolved by numpy's rules.

    Raises:
        RegionTooLargeError: a slice is longer than any array can be.
        RegionError: an item is not a slice, its start is after its stop, a part of it is not an integer, or it is more than
            2**61 pixels away.

    Example:
        >>> resolve_unclipped((slice(-2, 4), slice(5, 9)), (6, 6, 3))
        (range(-2, 4), range(5, 9), range(0, 3))
    """
    items = _expand(boxes_to_slices(region, len(shape), is_clipped=False), len(shape))
    plane = tuple(
        _resolve_plane(item, extent, axis) for axis, (item, extent) in enumerate(zip(items[:2], shape[:2], strict=True))
    )
    rest = resolve_region(tuple(items[2:]), shape[2:])
    if any(rest.dropped):
        raise RegionError(f"a padded region must keep its channel axis: give a slice, got {shorten(items[2])}")
    return plane + rest.ranges


def boxes_to_slices(region: Region, axis_count: int, *, is_clipped: bool = True) -> Region:
    """Replace each box in ``region`` by two slices.

    Args:
        region: a region of any form. A box alone is followed by whole axes, and preceded by a whole time axis.
        axis_count: the number of axes: ``(y, x, channel)``, with time in front if there are four.
        is_clipped: whether negative corners are set to 0, because a negative start of a slice counts from the end.

    Raises:
        RegionError: a value holds several boxes, or its corners are not finite numbers.

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
    """Parse a region such as ``"y0:y1,x0:x1"``. Each part is a slice as in Python; ``":"`` is a whole axis.

    Raises:
        RegionError: the text has another form, or a part is empty because it stops before it starts.

    Example:
        >>> parse_region("0:256,-128:")
        (slice(0, 256, None), slice(-128, None, None))
    """
    return tuple(_parse_slice(part, text) for part in text.split(","))


def _parse_slice(part: str, text: str) -> slice:
    pieces = part.split(":")
    if not 2 <= len(pieces) <= 3:
        raise RegionError(f"region {shorten(text)}: {shorten(part)} is not a slice; write y0:y1,x0:x1")
    matches = [_TYPED_NUMBER.fullmatch(piece) for piece in pieces]
    numbers = [None if match is None or match[1] is None else int(match[1]) for match in matches]
    if None in matches:
        raise RegionError(
            f"region {shorten(text)}: {shorten(part)} must hold whole numbers of at most 18 digits; write y0:y1,x0:x1"
        )
    start, stop, step = (*numbers, None)[:3]
    if step == 0:
        raise RegionError(f"region {shorten(text)}: {shorten(part)} has step 0; give another step, or none")
    # With bounds of different signs, it depends on the extent of the image whether a slice is empty.
    if start is not None and stop is not None and (start < 0) == (stop < 0) and (stop - start) * (step or 1) < 0:
        raise RegionError(f"region {shorten(text)}: {shorten(part)} stops before it starts")
    return slice(start, stop, step)


def _is_box(item: object) -> TypeGuard[BoxLike]:
    return type(item) not in _NO_BOXES and hasattr(item, "to_ltrb")


def _box_to_slices(box: BoxLike, *, is_clipped: bool) -> tuple[slice, slice]:
    corners = np.asarray(box.to_ltrb().data, np.float64).reshape(-1, 4)
    if len(corners) != 1:
        raise RegionError(
            f"a region is one box, got {len(corners)}; load_regions reads many: [(image_id, box) for box in boxes]"
        )
    left, top, right, bottom = corners[0].tolist()
    if right < left or bottom < top:
        raise RegionError(
            f"a box ends before it begins: left {left:g}, top {top:g}, right {right:g}, bottom {bottom:g}; if it is (x, y, w, h) "
            "as in COCO, name that format, or use region_of_box"
        )
    rows, cols = _span(top, bottom), _span(left, right)
    if is_clipped:
        rows, cols = (slice(max(0, axis.start), max(0, axis.stop)) for axis in (rows, cols))
    return rows, cols


def _span(low: float, high: float) -> slice:
    """The pixels of an axis that an interval touches."""
    if not math.isfinite(low) or not math.isfinite(high) or max(abs(low), abs(high)) > _MAX_COORDINATE:
        raise RegionError(f"the corners of a box must be finite and within 2**61 px, got [{low}, {high}]")
    return slice(math.floor(low), math.ceil(high))


def region_of_box(box: Any) -> tuple[slice, slice]:
    """The region of a box of COCO: slices ``(y, x)``.

    The corners are rounded outward to whole pixels. A box that begins left of the image or above it gives a negative start,
    which numpy, and a read without ``pad``, counts from the end: read such a region with ``pad``, or with
    ``outside="raise"`` to get an error.

    Args:
        box: ``(x, y, width, height)`` in pixels, as the ``bbox`` of an annotation.

    Raises:
        RegionError: the box is not four finite numbers, or its width or height is negative.

    Example:
        >>> region_of_box((10, 20, 30, 40)), region_of_box([0.5, 2, 3.2, 4])
        ((slice(20, 60, None), slice(10, 40, None)), (slice(2, 6, None), slice(0, 4, None)))
    """
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise RegionError(f"box={shorten(box)}; give (x, y, width, height)") from error
    if width < 0 or height < 0:
        raise RegionError(f"box={shorten(box)} has a negative width or height; give (x, y, width, height)")
    return _span(y, y + height), _span(x, x + width)


def check_inside(region: Region, shape: Sequence[int]) -> None:
    """Check that a region lies within an image, its numbers taken as coordinates: negative ones lie outside.

    Args:
        region: the region.
        shape: the image's shape, whose last axes are y, x and channel.

    Raises:
        RegionError: a slice begins before the image or ends after it, or an integer lies outside.

    Example:
        >>> check_inside((slice(0, 400), slice(0, 600)), (400, 600, 3))
        >>> check_inside((slice(0, 600), slice(0, 400)), (400, 600, 3))
        Traceback (most recent call last):
        ndframes.errors.RegionError: axis 0: slice(0, 600, None) leaves the image of 400 x 600 px (height x width); it fits with y and x swapped: give (y, x)
    """
    items = _expand(boxes_to_slices(region, len(shape), is_clipped=False), len(shape))
    y, x = len(shape) - 3, len(shape) - 2
    for axis, (item, extent) in enumerate(zip(items, shape, strict=True)):
        if _is_inside(item, extent):
            continue
        turned = [*items]
        turned[y], turned[x] = turned[x], turned[y]
        size = f"{shape[y]:,} x {shape[x]:,} px (height x width)"
        has_both = all(isinstance(end, slice) and end.stop is not None for end in (items[y], items[x]))
        is_swapped = has_both and axis in (y, x) and _is_inside(turned[y], shape[y]) and _is_inside(turned[x], shape[x])
        hint = "it fits with y and x swapped: give (y, x)" if is_swapped else "pad= reads beyond the edge"
        what = "image" if axis >= y else f"sequence of {shape[0]:,}, each"
        raise RegionError(f"axis {axis}: {shorten(item)} leaves the {what} of {size}; {hint}")


def _is_inside(item: Any, extent: int) -> bool:
    """Whether an item of a region has no coordinate outside of an axis. What is no number passes: the read refuses it."""
    if isinstance(item, slice):
        return all(0 <= end <= extent for end in (item.start, item.stop) if isinstance(end, _NUMBERS))
    numbers = item if isinstance(item, list) else [item]  # a video also takes a list of frames
    return all(0 <= number < extent for number in numbers if isinstance(number, _NUMBERS))


def _expand(region: Region, axis_count: int) -> list[IndexItem]:
    """One item for each axis: ``...`` and missing axes are replaced by whole slices."""
    items = [] if region is None else list(region) if isinstance(region, tuple) else [region]
    ellipses = sum(item is Ellipsis for item in items)
    if ellipses > 1:
        raise RegionIndexError("a region may hold only one '...'")
    if len(items) - ellipses > axis_count:
        raise RegionIndexError(f"the region has {len(items) - ellipses} axes, but the image has {axis_count}")
    whole: list[IndexItem] = [slice(None)] * (axis_count - len(items) + ellipses)
    if ellipses:
        at = next(index for index, item in enumerate(items) if item is Ellipsis)
        return [*items[:at], *whole, *items[at + 1 :]]
    return [*items, *whole]


def _resolve_crop(region: tuple[IndexItem, ...], shape: Sequence[int]) -> Selection | None:
    """Resolve the most common form, two slices without steps, in a quarter of the time; ``None`` for other forms."""
    rows, cols = region
    # type() rather than isinstance(): a bool is an int, and must get the error of the general path.
    if type(rows) is not slice or type(cols) is not slice or rows.step is not None or cols.step is not None:
        return None
    if (
        type(rows.start) in _PLAIN_PARTS
        and type(rows.stop) in _PLAIN_PARTS
        and type(cols.start) in _PLAIN_PARTS
        and type(cols.stop) in _PLAIN_PARTS
    ):
        height, width, bands = shape
        ranges = range(height)[rows], range(width)[cols], range(bands)
        return tuple.__new__(Selection, (ranges, _ALL_KEPT))  # half the time of the constructor, for every crop
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
            if isinstance(part, np.bool_):  # numpy 2.2 still takes it for a number, with a warning
                to_index(part, axis)
        return range(*item.indices(extent))
    except (TypeError, ValueError) as error:
        floats = [part for part in (item.start, item.stop, item.step) if isinstance(part, (float, np.floating))]
        hint = f"; slices take integers, not floats: got {floats[0]}" if floats else ""
        raise RegionError(
            f"axis {axis}: {shorten(item)} is not a region; its parts must be whole numbers, and its step not 0{hint}"
        ) from error


def to_index(item: object, axis: int) -> int:
    """``item`` as an int; booleans, floats and arrays raise a :class:`RegionError` that names the axis."""
    cause = None
    if not isinstance(item, (bool, np.bool_)):
        try:
            return operator.index(item)  # type: ignore[arg-type]
        except TypeError as error:
            cause = error
    hint = "give slices of whole numbers, as in numpy"
    if isinstance(item, (list, range, np.ndarray)):
        hint += (
            "; a frame takes a list of whole numbers on its first axis, frames[image_id][[1, 5, 9]], and np.flatnonzero turns a "
            "mask into one"
        )
    elif isinstance(item, (bool, np.bool_)):
        hint += "; np.flatnonzero turns a mask into whole numbers"
    elif isinstance(item, (float, np.floating)):
        hint += "; indices are integers, not floats"
    raise RegionError(f"axis {axis}: {shorten(item)} ({type(item).__name__}) is not a region; {hint}") from cause


def to_row(item: object, extent: int) -> int:
    """``item`` as a position on the first axis; a negative one counts from the end, as in numpy.

    Raises:
        RegionIndexError: it is out of bounds.
        RegionError: it is not a whole number.

    Example:
        >>> to_row(-1, 10), to_row(3, 10)
        (9, 3)
    """
    number = to_index(item, 0)
    if not -extent <= number < extent:
        raise RegionIndexError(f"index {shorten(number)} is out of bounds for axis 0, which has {extent}")
    return number % extent


def to_slice(axis: range) -> slice:
    """The slice that selects the positions of ``axis``, which must not be negative.

    Example:
        >>> to_slice(range(4, -1, -2)), to_slice(range(2, 8))
        (slice(4, None, -2), slice(2, 8, 1))
    """
    # A stop of -1 would be the last position, not the one before the first.
    return slice(axis.start, None if axis.step < 0 and axis.stop < 0 else axis.stop, axis.step)


def _resolve_plane(item: IndexItem, extent: int, axis: int) -> range:
    if not isinstance(item, slice):
        raise RegionError(f"axis {axis}: a padded region must consist of slices, got {shorten(item)}")
    start, stop, step = (
        default if value is None else to_index(value, axis)
        for value, default in ((item.start, 0), (item.stop, extent), (item.step, 1))
    )
    if step < 1 or stop < start:
        raise RegionError(
            f"axis {axis}: {shorten(item)} runs backwards; a padded region needs start <= stop and step >= 1"
        )
    if start < -_MAX_COORDINATE or stop > _MAX_COORDINATE:
        # Only the length decides which error it is: a short slice may be far away.
        kind = RegionTooLargeError if (stop - start) // step > _MAX_COORDINATE else RegionError
        raise kind(f"axis {axis}: {shorten(item)} is too far outside of an image of {extent} px; stay within 2**61 px")
    return range(start, stop, step)
