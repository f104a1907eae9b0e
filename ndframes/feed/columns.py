"""Columns: the annotations of a dataset as arrays, which forked workers share and which pickle without an object for each."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .masks import Rings, Runs, code_runs, join_spans

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BoxColumns", "Ids", "KeypointColumns", "SegmentColumns"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Bools = np.ndarray[Any, np.dtype[np.bool_]]


class Ids:
    """Ids of any kind in a fixed order. Integers are held as an array, so that looking at them touches no object.

    Args:
        ids: hashable values.

    Example:
        >>> ids = Ids([7, 3, 5])
        >>> ids[1], ids.find(5), ids.find("a"), len(ids)
        (3, 2, None, 3)
    """

    __slots__ = ("_order", "_sorted", "_values")

    def __init__(self, ids: Iterable[Hashable]) -> None:
        values = list(ids)
        self._values: Any = values
        # For other ids a dictionary of their numbers, in _order.
        self._order: Any = None
        self._sorted: Any = None
        if all(type(value) is int or isinstance(value, np.integer) for value in values):
            try:
                self._values = np.array(values, np.int64)
            except OverflowError:
                return
            self._order = np.argsort(self._values, kind="stable")
            self._sorted = self._values[self._order]

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, number: int) -> Hashable:
        value: Hashable = self._values[number]
        return int(value) if isinstance(value, np.int64) else value

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._values.tolist() if self._sorted is not None else self._values)

    def find(self, value: object) -> int | None:
        """The first number of an id; ``None`` if it is not among these."""
        if self._sorted is not None:
            if not isinstance(value, (int, np.integer)):
                return None
            place = int(np.searchsorted(self._sorted, value))
            is_found = place < len(self._sorted) and self._sorted[place] == value
            return int(self._order[place]) if is_found else None
        if self._order is None:
            self._order = {value: number for number, value in reversed(list(enumerate(self._values)))}
        found: int | None = self._order.get(value)
        return found

    def take(self, numbers: _Ints) -> np.ndarray[Any, Any]:
        """Some of them as an array: int64, or of objects."""
        if self._sorted is not None:
            chosen: np.ndarray[Any, Any] = self._values[numbers]
            return chosen
        found = np.empty(len(numbers), object)
        found[:] = [self._values[number] for number in numbers]
        return found

    def to_bytes(self) -> bytes:
        """For a fingerprint."""
        return "\n".join(map(repr, self)).encode()


@dataclass(frozen=True, slots=True)
class BoxColumns:
    """The boxes of all annotations, sorted by image; within an image in the dataset's order.

    Attributes:
        dataset: the name of the dataset, for messages.
        image_ids: the images.
        heights: of the images, in pixels.
        widths: of the images.
        image_stops: for each image the number of its first annotation, then the number of all; ``(images + 1,)``.
        boxes: the rows ``x0, y0, x1, y1`` in pixels of the image, cut off at its border; float64 ``(4, n)``.
        labels: the class of each, from 1; 0 is the background.
        crowds: whether each is a crowd.
        areas: in square pixels of the image.
        annot_ids: their ids.
        names: the names of the classes by label; ``names[0]`` is the background.
        category_ids: the ids of the categories by label; ``category_ids[0]`` is the background's, or ``None``.
    """

    dataset: str
    image_ids: Ids
    heights: _Ints
    widths: _Ints
    image_stops: _Ints
    boxes: _Floats
    labels: _Ints
    crowds: _Bools
    areas: _Floats
    annot_ids: Ids
    names: tuple[str, ...]
    category_ids: tuple[Hashable, ...]

    def __len__(self) -> int:
        return int(self.boxes.shape[1])

    @property
    def image_numbers(self) -> _Ints:
        """For each annotation the number of its image."""
        return np.repeat(np.arange(len(self.image_ids)), np.diff(self.image_stops))

    def span(self, image_number: int) -> tuple[int, int]:
        """The numbers of the first annotation of an image and of the one after its last."""
        return int(self.image_stops[image_number]), int(self.image_stops[image_number + 1])

    def find_overlapping(
        self, image_number: int, top: float, bottom: float, left: float, right: float, *, bounds: Any = None
    ) -> _Ints:
        """The numbers of the annotations of an image whose boxes overlap a window; with ``bounds``, these instead of boxes."""
        first, last = self.span(image_number)
        x0, y0, x1, y1 = (self.boxes if bounds is None else bounds)[:, first:last]
        found: _Ints = np.flatnonzero((x0 < right) & (x1 > left) & (y0 < bottom) & (y1 > top)) + first
        return found


@dataclass(frozen=True, slots=True)
class SegmentColumns:
    """The polygons and run-length codes of all annotations.

    Attributes:
        ring_stops: for each annotation the number of its first ring, then the number of all; ``(n + 1,)``.
        point_stops: for each ring the number of its first point, then the number of all.
        parts: for each ring the number of its polygon.
        points: ``(x, y)`` of all points, in pixels of the image; float64 ``(p, 2)``.
        count_stops: for each annotation the number of its first count of a run-length code, then the number of all.
        counts: the lengths of runs of all codes; uint32.
    """

    ring_stops: _Ints
    point_stops: _Ints
    parts: _Ints
    points: _Floats
    count_stops: _Ints
    counts: np.ndarray[Any, np.dtype[np.uint32]]

    def __bool__(self) -> bool:
        """Whether any annotation has a segmentation."""
        return bool(len(self.points) or len(self.counts))

    def has_rings(self, numbers: _Ints) -> _Bools:
        """Whether annotations have polygons."""
        found: _Bools = self.ring_stops[numbers] < self.ring_stops[numbers + 1]
        return found

    def has_code(self, numbers: _Ints) -> _Bools:
        """Whether annotations have a run-length code."""
        found: _Bools = self.count_stops[numbers] < self.count_stops[numbers + 1]
        return found

    def rings(self, numbers: _Ints) -> Rings:
        """The rings of some annotations; their owners are the places in ``numbers``."""
        firsts, lasts = self.ring_stops[numbers], self.ring_stops[numbers + 1]
        chosen = join_spans(firsts, lasts)
        starts, stops = self.point_stops[chosen], self.point_stops[chosen + 1]
        points = self.points[join_spans(starts, stops)]
        owners = np.repeat(np.arange(len(numbers)), lasts - firsts)
        return Rings(points, np.cumsum(stops - starts), self.parts[chosen], owners)

    def code_runs(self, numbers: _Ints, height: int, left: int, right: int) -> Runs:
        """The pixels of run-length codes in some columns; their owners are the places in ``numbers``."""
        places = np.flatnonzero(self.has_code(numbers))
        codes = [self.counts[self.count_stops[n] : self.count_stops[n + 1]] for n in numbers[places].tolist()]
        return code_runs(codes, places.tolist(), height, left, right)  # type: ignore[arg-type]

    def bounds(self, heights: _Ints) -> _Floats:
        """For each annotation the box around its polygons and its run-length code, as rows ``x0, y0, x1, y1``.

        Without any, ``x0`` is infinite.

        Args:
            heights: for each annotation the height of its image.
        """
        found = np.full((4, len(heights)), np.inf)
        found[2:] = -np.inf
        points = self.point_stops[self.ring_stops]
        some = np.flatnonzero(points[:-1] < points[1:])
        if len(some):
            found[:2, some] = np.minimum.reduceat(self.points, points[some]).T
            found[2:, some] = np.maximum.reduceat(self.points, points[some]).T
        some = np.flatnonzero(self.count_stops[:-1] < self.count_stops[1:])
        if len(some):
            self._include_codes(found, some, heights[some])
        return found

    def _include_codes(self, found: _Floats, some: _Ints, heights: _Ints) -> None:
        """Set the bounds of annotations with a run-length code."""
        firsts, sizes = self.count_stops[some], np.diff(self.count_stops)[some]
        ends = np.cumsum(self.counts, dtype=np.int64)
        owners = np.repeat(np.arange(len(some)), sizes)
        # Counts of 0 and of 1 come in turn; the ends are those in the image of each.
        is_one = (np.arange(len(ends)) - firsts[owners]) % 2 == 1
        is_one &= self.counts > 0
        before = np.concatenate([[0], ends])[firsts]
        stops = (ends - before[owners])[is_one]
        starts, owners = stops - self.counts[is_one], owners[is_one]
        if not len(owners):
            return
        height = heights[owners]
        cols, last_cols = starts // height, (stops - 1) // height
        # A run that goes on in the next column reaches the lower and the upper border.
        is_long = cols < last_cols
        rows = np.where(is_long, 0, starts - cols * height)
        row_stops = np.where(is_long, height, stops - last_cols * height)
        begins = np.flatnonzero(np.diff(owners, prepend=-1))
        chosen = some[owners[begins]]
        for row, values in ((0, cols), (1, rows)):
            found[row, chosen] = np.minimum.reduceat(values, begins)
        for row, values in ((2, last_cols + 1), (3, row_stops)):
            found[row, chosen] = np.maximum.reduceat(values, begins)

    def code_areas(self, numbers: _Ints) -> _Ints:
        """For each annotation the number of pixels of its run-length code."""
        spans = zip(self.count_stops[numbers].tolist(), self.count_stops[numbers + 1].tolist(), strict=True)
        return np.array([int(self.counts[first + 1 : last : 2].sum(dtype=np.int64)) for first, last in spans], np.int64)


@dataclass(frozen=True, slots=True)
class KeypointColumns:
    """The keypoints of all annotations that have some.

    Attributes:
        rows: for each annotation its row of ``values``, or -1.
        values: ``(x, y, visibility)`` in pixels of the image; float64 ``(rows, k, 3)``. Missing points have visibility 0.
        names: of the keypoints by class.
    """

    rows: _Ints
    values: _Floats
    names: Mapping[str, Sequence[str]]

    def bounds(self) -> _Floats:
        """For each annotation the box around the pixels of its labelled keypoints, as rows; ``x0`` is infinite without any."""
        found = np.full((4, len(self.rows)), np.inf)
        found[2:] = -np.inf
        if self.values.size:
            owners = np.flatnonzero(self.rows >= 0)
            x, y, visibility = np.moveaxis(self.values[self.rows[owners]], -1, 0)
            is_missing = visibility <= 0
            for row, values in ((0, x), (1, y)):
                pixels = np.floor(values)
                found[row, owners] = np.where(is_missing, np.inf, pixels).min(axis=1)
                found[row + 2, owners] = np.where(is_missing, -np.inf, pixels + 1).max(axis=1)
        return found

    def take(self, numbers: _Ints) -> _Floats:
        """The keypoints of some annotations, ``(n, k, 3)``; a new array."""
        rows = self.rows[numbers]
        found: _Floats = np.zeros((len(rows), *self.values.shape[1:]))
        found[rows >= 0] = self.values[rows[rows >= 0]]
        return found
