"""Annotations of a patch: boxes, masks and keypoints, moved, scaled, clipped, and dropped where too little is visible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import PatchError, check_choice, naming_image
from .masks import Grid, Rings, first_pixel, polygon_runs
from .table import AnnotationTable, table_of

if TYPE_CHECKING:
    from .patch import Patch

__all__ = ["CrowdMode", "MaskMode", "find_annotations"]
#: What happens to crowds: they stay among the others, are left out, or are returned apart, as ``ignore_boxes``.
CrowdMode = Literal["flag", "drop", "ignore"]
#: One mask for each annotation, or one of all classes.
MaskMode = Literal["instance", "semantic"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Bools = np.ndarray[Any, np.dtype[np.bool_]]
_Target = dict[str, np.ndarray[Any, Any]]
# Coordinates are rounded: a share that is 0.25 may come out as 0.2499999999999999.
_TOLERANCE = 1e-9


def find_annotations(  # noqa: PLR0913 - one keyword for each option
    coco: Any,
    patch: Patch,
    *,
    min_visibility: float = 0.25,
    min_size: float = 1,
    clip: bool = True,
    tighten: bool = True,
    crowd: CrowdMode = "flag",
    masks: MaskMode | None = None,
    keypoints: bool = False,
    dtype: Any = "float32",
) -> _Target:
    """The annotations that a patch shows.

    Coordinates are pixels of the patch, pixel corners being whole numbers. The share of a box or mask that is visible is
    measured in pixels of the image: it does not depend on the patch's scale.

    Args:
        coco: an :class:`AnnotationTable`, or what it takes. The table of an object is kept as long as the object lives, and made
            again if annotations were added or removed. A path or dictionary is read at each call: make a table of it first.
        patch: of an image, or of one frame of a video.
        min_visibility: annotations of which a smaller share of the area is visible are dropped. Crowds are not. With 0, and a
            ``min_size`` of 0, one stays of which the patch shows a keypoint alone.
        min_size: annotations whose visible box is lower or narrower, in pixels of the patch, are dropped. Crowds are not.
        clip: whether boxes end at the border of the patch; otherwise they are only moved and scaled.
        tighten: whether an annotation that the patch cuts is measured by its mask, if it has one. The visible share is then that
            of its mask, and its box ends where the visible part of the mask ends. Where a mask reaches beyond its box, and the
            patch does not show the box, the box is that of the visible part of the mask.
        crowd: ``"flag"``: crowds are among the others, with ``iscrowd``; ``"drop"``: they are left out; ``"ignore"``: their boxes
            are returned as ``ignore_boxes`` instead.
        masks: ``"instance"`` or ``"semantic"``; ``None``: none. An annotation without a segmentation fills its box.
        keypoints: whether to return keypoints.
        dtype: of boxes, areas, visibilities and keypoints.

    Returns:
        New arrays, in the dataset's order. ``boxes`` ``(n, 4)`` as ``(x0, y0, x1, y1)``; ``labels`` int64 ``(n,)`` from 1;
        ``area``, that of the visible part; ``iscrowd``, bool; ``visibility``, the visible share; ``cut``, bool, whether the
        border of the patch cuts it, where that is inside the image; ``annot_ids``.

        With ``masks="instance"`` also ``masks``, bool ``(n, h, w)``. With ``"semantic"`` ``masks`` ``(h, w)`` of labels, where
        later annotations lie over earlier ones; 0 is the background, and :attr:`AnnotationTable.ignore_index` lies outside of the
        image and on crowds. They are uint8, or int32 if there are more than 254 classes. Dropped annotations are in semantic
        masks, too.

        With ``keypoints`` also ``keypoints`` ``(n, k, 3)`` as ``(x, y, visibility)``; points outside of the patch are zeros.

    Raises:
        PatchError: the image of the patch is not in the dataset, or an annotation is not valid.
        ValueError: ``crowd`` or ``masks`` has a value that is not allowed.

    Example:
        >>> from ndframes.feed import AnnotationTable, Patch, annotations
        >>> image = {"id": 1, "file_name": "a.png", "height": 100, "width": 100}
        >>> annot = {"id": 5, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40]}
        >>> dataset = {"images": [image], "annotations": [annot], "categories": [{"id": 3, "name": "cat"}]}
        >>> target = annotations(AnnotationTable(dataset), Patch(1, (slice(30, 94), slice(0, 64))))
        >>> target["boxes"].tolist(), target["visibility"].tolist(), target["cut"].tolist()
        ([[10.0, 0.0, 40.0, 30.0]], [0.75], [True])
    """
    check_choice("crowd", crowd, CrowdMode)
    if masks is not None:
        check_choice("masks", masks, MaskMode)
    table = table_of(coco)
    number = table.find_image(patch)
    view = _View.of(table, number, patch)
    found = view.find_overlapping(tighten=tighten)
    crowds = found.crowds
    x0, y0, x1, y1 = found.clipped
    grid = view.grid
    is_kept = found.visibility >= min_visibility - _TOLERANCE
    least = min_size - _TOLERANCE
    is_kept &= ((x1 - x0) * grid.scale_x >= least) & ((y1 - y0) * grid.scale_y >= least)
    is_shown = found.is_visible | view.show_keypoints(found.numbers) if keypoints else found.is_visible
    is_kept = is_shown & is_kept | found.is_visible & crowds
    if crowd != "flag":
        is_kept &= ~crowds
    kept = np.flatnonzero(is_kept)
    columns, numbers = table.columns, found.numbers[kept]
    visibility = found.visibility[kept]
    target = {
        "boxes": view.move(found.clipped[:, kept] if clip else columns.boxes[:, numbers], dtype),
        "labels": columns.labels[numbers],
        "area": (columns.areas[numbers] * visibility * (grid.scale_x * grid.scale_y)).astype(dtype),
        "iscrowd": crowds[kept],
        "visibility": visibility.astype(dtype),
        "cut": found.is_cut[kept],
        "annot_ids": columns.annot_ids.take(numbers),
    }
    if crowd == "ignore":
        target["ignore_boxes"] = view.move(found.clipped[:, found.is_visible & crowds], dtype)
    if masks == "instance":
        target["masks"] = view.instance_masks(numbers)
    elif masks == "semantic":
        target["masks"] = view.semantic_mask(found.numbers)
    if keypoints:
        target["keypoints"] = view.keypoints(numbers).astype(dtype)
    return target


@dataclass(frozen=True, slots=True)
class _Found:
    """Annotations whose boxes, masks or keypoints overlap a window.

    Attributes:
        numbers: of the annotations.
        clipped: the visible parts of their boxes, rows ``x0, y0, x1, y1`` in pixels of the image; empty ones at its border where
            the window does not show the box.
        visibility: the visible share of each.
        is_visible: whether anything of its box or mask is visible.
        is_cut: whether the border of the window cuts it.
        crowds: whether it is a crowd.
    """

    numbers: _Ints
    clipped: _Floats
    visibility: _Floats
    is_visible: _Bools
    is_cut: _Bools
    crowds: _Bools


@dataclass(frozen=True, slots=True)
class _View:
    """A patch over the annotations of its image.

    Attributes:
        table: the annotations.
        image_number: of the image.
        window: ``(top, bottom, left, right)`` of the part of the image that the patch shows.
        shape: ``(height, width)`` of the patch's result.
        grid: the pixels of the result.
    """

    table: AnnotationTable
    image_number: int
    window: tuple[int, int, int, int]
    shape: tuple[int, int]
    grid: Grid

    @classmethod
    def of(cls, table: AnnotationTable, number: int, patch: Patch) -> _View:
        columns, rows, cols, shape = table.columns, patch.rows, patch.cols, patch.shape
        height, width = int(columns.heights[number]), int(columns.widths[number])
        if rows.start == rows.stop or cols.start == cols.stop or 0 in shape:
            with naming_image(patch.image_id):
                raise PatchError(f"the patch {patch.region} is empty; give a region of at least one pixel")
        window = max(rows.start, 0), min(rows.stop, height), max(cols.start, 0), min(cols.stop, width)
        scale_y, scale_x = shape[0] / (rows.stop - rows.start), shape[1] / (cols.stop - cols.start)
        # The rows and columns of the result whose centres lie in the image.
        limits = (
            first_pixel(0, rows.start, scale_y, shape[0]),
            first_pixel(height, rows.start, scale_y, shape[0]),
            first_pixel(0, cols.start, scale_x, shape[1]),
            first_pixel(width, cols.start, scale_x, shape[1]),
        )
        return cls(table, number, window, shape, Grid(rows.start, cols.start, scale_y, scale_x, limits))

    def find_overlapping(self, *, tighten: bool) -> _Found:
        """All annotations of which something overlaps the window."""
        columns = self.table.columns
        top, bottom, left, right = self.window
        numbers = columns.find_overlapping(self.image_number, *self.window, bounds=self.table.bounds)
        boxes = columns.boxes[:, numbers]
        clipped = np.empty_like(boxes)
        # Not only at the nearer side, so that a box outside becomes an empty one and not an inverted one.
        np.clip(boxes[::2], left, right, out=clipped[::2])
        np.clip(boxes[1::2], top, bottom, out=clipped[1::2])
        is_cut = (clipped != boxes).any(axis=0)
        areas, visible = _areas_of(boxes), _areas_of(clipped)
        # A box without an area has no share of it; it is dropped by its size.
        visibility = np.divide(visible, areas, out=np.zeros(len(areas)), where=areas > 0)
        is_shown = (boxes[0] < right) & (boxes[2] > left) & (boxes[1] < bottom) & (boxes[3] > top)
        is_visible = is_shown.copy()
        if tighten and self.table.segments and is_cut.any():
            cut = np.flatnonzero(is_cut)
            total, shown, bounds = self._measure(numbers[cut])
            # A mask that is thinner than a pixel may cover no pixel's centre; its box is measured then.
            is_measured = total > 0
            cut, total, shown, bounds = cut[is_measured], total[is_measured], shown[is_measured], bounds[:, is_measured]
            visibility[cut], is_visible[cut], is_cut[cut] = shown / total, shown > 0, shown < total
            tight = np.concatenate([np.maximum(clipped[:2, cut], bounds[:2]), np.minimum(clipped[2:, cut], bounds[2:])])
            # A box that does not meet its mask is kept, unless the mask is all that is visible.
            agrees = (tight[0] < tight[2]) & (tight[1] < tight[3])
            is_mask_alone = ~is_shown[cut] & (shown > 0)
            clipped[:, cut] = np.where(agrees, tight, np.where(is_mask_alone, bounds, clipped[:, cut]))
        return _Found(numbers, clipped, visibility, is_visible, is_cut, columns.crowds[numbers])

    def _measure(self, numbers: _Ints) -> tuple[_Ints, _Ints, _Floats]:
        """For each annotation the number of pixels of its mask, how many the window shows, and the bounds of these."""
        segments, count = self.table.segments, len(numbers)
        height = int(self.table.columns.heights[self.image_number])
        width = int(self.table.columns.widths[self.image_number])
        left, right = self.window[2:]
        total, shown = np.zeros(count, np.int64), np.zeros(count, np.int64)
        bounds = np.full((4, count), -np.inf)
        bounds[:2] = np.inf
        pieces = []
        if segments.has_rings(numbers).any():
            runs = polygon_runs(segments.rings(numbers), (0, height, 0, width))
            total += runs.counts(count)
            pieces.append(runs.clipped(*self.window))
        if segments.has_code(numbers).any():
            total += segments.code_areas(numbers)
            pieces.append(segments.code_runs(numbers, height, left, right).clipped(*self.window))
        for piece in pieces:
            shown += piece.counts(count)
            found = piece.bounds(count)
            np.minimum(bounds[:2], found[:2], out=bounds[:2])
            np.maximum(bounds[2:], found[2:], out=bounds[2:])
        return total, shown, bounds

    def move(self, boxes: _Floats, dtype: Any) -> np.ndarray[Any, Any]:
        """Boxes from rows in pixels of the image to ``(n, 4)`` in pixels of the result."""
        moved = np.empty((boxes.shape[1], 4), dtype)
        grid = self.grid
        moved[:, ::2] = ((boxes[::2] - grid.left) * grid.scale_x).T
        moved[:, 1::2] = ((boxes[1::2] - grid.top) * grid.scale_y).T
        return moved

    def instance_masks(self, numbers: _Ints) -> _Bools:
        """The masks of some annotations, ``(n, height, width)``."""
        height, width = self.shape
        masks = np.zeros((len(numbers), height * width), np.bool_)
        for owners, places in self._pixels(numbers):
            masks[owners, places] = True
        return masks.reshape(-1, height, width)

    def semantic_mask(self, numbers: _Ints) -> np.ndarray[Any, Any]:
        """The labels of all pixels, ``(height, width)``."""
        table, (height, width) = self.table, self.shape
        columns, ignored = table.columns, table.ignore_index
        mask = np.full((height, width), ignored, np.uint8 if ignored > 0 else np.int32)
        top, bottom, left, right = self.grid.limits
        mask[top:bottom, left:right] = 0
        # Crowds last, so that nothing in them is learned.
        numbers = numbers[np.argsort(columns.crowds[numbers], kind="stable")]
        labels = np.where(columns.crowds[numbers], ignored, columns.labels[numbers])
        found = self._pixels(numbers)
        owners, places = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if len(found) > 1:
            order = np.argsort(owners, kind="stable")
            owners, places = owners[order], places[order]
        # Where annotations overlap, the last one is assigned last.
        mask.reshape(-1)[places] = labels[owners]
        return mask

    def _pixels(self, numbers: _Ints) -> list[tuple[_Ints, _Ints]]:
        """The pixels of masks in the result: for each its annotation, by its place in ``numbers``, and its place."""
        segments, width = self.table.segments, self.shape[1]
        height = int(self.table.columns.heights[self.image_number])
        has_rings, has_code = segments.has_rings(numbers), segments.has_code(numbers)
        found = [(np.zeros(0, np.int64),) * 2]
        if has_rings.any():
            rings = segments.rings(numbers).moved_to(self.grid)
            found.append(polygon_runs(rings, self.grid.limits).pixels(width))
        if has_code.any():
            runs = segments.code_runs(numbers, height, *self.window[2:]).moved_to(self.grid)
            found.append(runs.pixels(width))
        bare = np.flatnonzero(~(has_rings | has_code))
        if len(bare):
            rings = _rings_of_boxes(self.table.columns.boxes[:, numbers[bare]], bare).moved_to(self.grid)
            found.append(polygon_runs(rings, self.grid.limits).pixels(width))
        return found[1:] or found

    def show_keypoints(self, numbers: _Ints) -> _Bools:
        """Whether the window shows a labelled keypoint of some annotations."""
        shown: _Bools = np.any(self._is_point_shown(self.table.keypoints.take(numbers)), axis=1)
        return shown

    def _is_point_shown(self, points: _Floats) -> _Bools:
        top, bottom, left, right = self.window
        x, y, visibility = np.moveaxis(points, -1, 0)
        is_shown: _Bools = (x >= left) & (x < right) & (y >= top) & (y < bottom) & (visibility > 0)
        return is_shown

    def keypoints(self, numbers: _Ints) -> _Floats:
        """The keypoints of some annotations in pixels of the result, zeros where they lie outside."""
        points = self.table.keypoints.take(numbers)
        is_shown = self._is_point_shown(points)
        grid = self.grid
        points[:, :, :2] = (points[:, :, :2] - (grid.left, grid.top)) * (grid.scale_x, grid.scale_y)
        points[~is_shown] = 0
        return points


def _areas_of(boxes: _Floats) -> _Floats:
    areas: _Floats = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    return areas


def _rings_of_boxes(boxes: _Floats, owners: _Ints) -> Rings:
    x0, y0, x1, y1 = boxes
    points = np.stack([x0, y0, x1, y0, x1, y1, x0, y1], axis=1).reshape(-1, 2)
    return Rings(points, np.arange(1, len(owners) + 1) * 4, np.arange(len(owners)), owners)
