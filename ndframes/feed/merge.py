"""Merge detections: from the boxes that a model found in overlapping patches to the boxes of the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import PatchError, naming_image, shorten
from .counts import to_number
from .pairs import areas_of, intersections_of, overlapping_pairs
from .planes import check_patch, key_of

if TYPE_CHECKING:
    from .._typing import Array
    from .patch import Patch

__all__ = ["MergeRule", "check_part", "merge_detections", "to_numpy"]
#: How detections of several patches become one: see :func:`merge_detections`.
MergeRule = Literal["seam", "nms", "core"] | Callable[[dict[str, Any]], Any]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Bools = np.ndarray[Any, np.dtype[np.bool_]]
_RULES = ("seam", "nms", "core")
_KEYS = ("boxes", "scores", "labels")
# A detector does not end a box exactly at the edge of its patch.
_EDGE_SHARE = 1 / 128
_LEFT, _TOP, _RIGHT, _BOTTOM = range(4)


def merge_detections(
    parts: Sequence[Mapping[str, Any]],
    patches: Sequence[Patch],
    *,
    rule: MergeRule = "seam",
    iou: float = 0.5,
    ios: float = 0.5,
    class_agnostic: bool = False,
    max_gap: float = 0,
) -> dict[str, Any]:
    """Merge the detections of the patches of one image.

    Only boxes of different patches can be the same object under the seam rule, since a detector has removed duplicates within
    a patch itself. Two boxes match if their intersection over union exceeds ``iou``, or if one of them is cut by an inner edge
    of its patch and their intersection over the smaller area exceeds ``ios``. An inner edge is one that is not an edge of the
    image, so patches should have an ``image_shape``. First, boxes that are not cut are matched with each other; of those that
    match, the one from the patch with the larger scale remains, then the one with the higher score. Each cut box that matches
    an uncut one is removed. Cut boxes that are left and match are replaced by the box around them, and so are cut boxes that
    meet at facing edges. Pairs that agree best within the pixels that their patches share go first, and no two boxes of a patch
    are ever joined.

    Args:
        parts: for each patch a mapping with ``boxes`` ``(n, 4)`` xyxy in pixels of the patch, pixel corners being whole numbers;
            ``scores`` ``(n,)``; ``labels`` ``(n,)``, numbers or names. Other entries of length ``n`` are carried along.
        patches: the patches, all of one image. Boxes of a scaled patch are mapped back to pixels of the image.
        rule: ``"seam"``: as above. ``"nms"``: the box with the highest score suppresses all that overlap it by more than
            ``iou``, those of its own patch, too; fragments at the edges of patches remain. ``"core"``: a box remains if no other
            patch holds its centre farther from its inner edges. A callable gets a dict with the columns of all boxes in
            pixels of the image, with ``patch``, the position of their patch, and ``cut`` ``(n, 4)``, the sides (left, top,
            right, bottom) that an inner edge cuts; it returns the numbers of the boxes to keep, or a mask.
        iou: the intersection over union above which boxes match.
        ios: the intersection over the smaller area above which a cut box matches.
        class_agnostic: whether boxes with different labels match, too.
        max_gap: how far apart two boxes may be, in pixels of the image, that facing edges cut, and that are still joined. Their
            extents along these edges must overlap by more than ``iou``.

    Returns:
        One dict with the keys of the parts: ``boxes`` float64 ``(n, 4)`` xyxy in pixels of the image, in the order of the
        patches, and the other columns.

    Raises:
        PatchError: a part or an argument is not valid; the message names the patch.

    Example:
        >>> from ndframes.feed import Patch
        >>> left = Patch("scene", (slice(0, 64), slice(0, 64)), image_shape=(64, 112))
        >>> right = Patch("scene", (slice(0, 64), slice(48, 112)), image_shape=(64, 112))
        >>> parts = [
        ...     {"boxes": [[40, 8, 64, 24]], "scores": [0.6], "labels": ["cat"]},
        ...     {"boxes": [[0, 8, 28, 24], [30, 0, 40, 10]], "scores": [0.9, 0.8], "labels": ["cat", "cat"]},
        ... ]
        >>> merge_detections(parts, [left, right])["boxes"].tolist()
        [[40.0, 8.0, 76.0, 24.0], [78.0, 0.0, 88.0, 10.0]]
    """
    if not callable(rule) and rule not in _RULES:
        raise PatchError(f"rule={shorten(rule)}; allowed: {', '.join(map(repr, _RULES))}, or a callable")
    for name, value, most in (("iou", iou, 1), ("ios", ios, 1), ("max_gap", max_gap, np.inf)):
        to_number(name, value, most)
    found = _collect(parts, patches)
    if callable(rule):
        return found.taken(_to_numbers(rule(found.described()) if found.count else [], found.count))
    if rule == "core":
        return found.taken(_find_in_core(found))
    codes = _codes_of(found.columns["labels"], class_agnostic=class_agnostic)
    if rule == "nms":
        return found.taken(_suppress(found, codes, iou))
    return _join(found, _find_matches(found, codes, iou, ios, max_gap))


# -- the parts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Detections:
    """All boxes of an image, in its pixels.

    Attributes:
        boxes: ``(n, 4)`` xyxy.
        columns: the other columns, ``scores`` and ``labels`` among them.
        patches: for each box the position of its patch.
        cut: ``(n, 4)``, the sides that an inner edge of the patch cuts.
        tiles: ``(patches, 4)`` xyxy.
        inner: ``(patches, 4)``, which edges are not those of the image.
        scales: of each patch.
    """

    boxes: _Floats
    columns: dict[str, Array]
    patches: _Ints
    cut: _Bools
    tiles: _Floats
    inner: _Bools
    scales: _Floats

    @property
    def count(self) -> int:
        return len(self.boxes)

    @property
    def scores(self) -> Array:
        return self.columns["scores"]

    @property
    def is_cut(self) -> _Bools:
        """Whether any side is cut."""
        found: _Bools = np.any(self.cut, axis=1).reshape(-1)
        return found

    def described(self) -> dict[str, Any]:
        """All columns, for a rule of the caller."""
        return {"boxes": self.boxes.copy(), **self.columns, "patch": self.patches.copy(), "cut": self.cut.copy()}

    def taken(self, numbers: _Ints) -> dict[str, Any]:
        """The columns of some boxes."""
        return {"boxes": self.boxes[numbers], **{name: column[numbers] for name, column in self.columns.items()}}


def _collect(parts: Sequence[Mapping[str, Any]], patches: Sequence[Patch]) -> _Detections:
    patches, parts = list(patches), list(parts)
    if len(parts) != len(patches):
        raise PatchError(f"{len(parts):,} parts for {len(patches):,} patches; give the detections of each patch")
    for patch in patches:
        check_patch(patch)
    planes = {key_of(patch) for patch in patches}
    if len(planes) > 1:
        first, second = list(planes)[:2]
        raise PatchError(f"the patches are of several images or frames, {first} and {second}; merge each on its own")
    tiles, inner = np.array([_tile_of(patch) for patch in patches], np.float64).reshape(-1, 2, 4).transpose(1, 0, 2)
    inner = inner > 0
    scales = np.array([1 if patch.scale is None else patch.scale for patch in patches], np.float64)
    columns = [check_part(part, patch, number) for number, (part, patch) in enumerate(zip(parts, patches, strict=True))]
    counts = np.array([len(part["boxes"]) for part in columns], np.int64)
    numbers = np.repeat(np.arange(len(patches)), counts)
    boxes = np.concatenate([part["boxes"] for part in columns]) if columns else np.zeros((0, 4))
    # From pixels of the patch to those of the image.
    shapes = np.array([patch.shape[::-1] for patch in patches], np.float64).reshape(-1, 2)
    factors = (tiles[:, 2:] - tiles[:, :2]) / np.maximum(shapes, 1)
    boxes = boxes * np.tile(factors, 2)[numbers] + np.tile(tiles[:, :2], 2)[numbers]
    slack = np.maximum(factors, (tiles[:, 2:] - tiles[:, :2]) * _EDGE_SHARE)
    to_edges = (boxes - tiles[numbers]) * (1, 1, -1, -1)
    cut = inner[numbers] & (to_edges <= np.tile(slack, 2)[numbers])
    return _Detections(boxes, _concatenate(columns, counts), numbers, cut, tiles, inner, scales)


def _tile_of(patch: Patch) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """The extent of a patch as xyxy, and which of its edges are not those of the image."""
    tile = patch.cols.start, patch.rows.start, patch.cols.stop, patch.rows.stop
    height, width = (np.inf, np.inf) if patch.image_shape is None else patch.image_shape
    return tile, (tile[_LEFT] > 0, tile[_TOP] > 0, tile[_RIGHT] < width, tile[_BOTTOM] < height)


def check_part(part: Mapping[str, Any], patch: Patch, number: int) -> dict[str, Array]:
    """The detections of one patch as arrays.

    Args:
        part: as for :func:`merge_detections`.
        patch: its patch.
        number: the position of the patch, for messages.

    Raises:
        PatchError: it is not a mapping of equally long columns, or a box is not finite or inverted.
    """
    with naming_image(patch.image_id):
        name = f"part {number} (patch {patch.index}, {_place_text(patch)})"
        if not isinstance(part, Mapping) or not all(key in part for key in _KEYS):
            keys = list(part) if isinstance(part, Mapping) else part
            raise PatchError(f"{name} is {shorten(keys)}; give a mapping with boxes, scores and labels")
        boxes = _to_boxes(to_numpy(part["boxes"]), name)
        columns = {"boxes": boxes}
        for key, value in part.items():
            if key == "boxes":
                continue
            column = _to_column(value)
            if column.ndim < 1 or len(column) != len(boxes):
                raise PatchError(
                    f"{name} has {len(boxes)} boxes, but {key} has the shape {column.shape}; give one for each"
                )
            columns[key] = column
        scores = columns["scores"]
        if len(scores) and (scores.ndim != 1 or scores.dtype.kind not in "fiub" or np.isnan(scores).any()):
            raise PatchError(
                f"{name}: scores must be numbers (n,), got {scores.shape} {scores.dtype}, {shorten(scores.tolist())}"
            )
        if columns["labels"].ndim != 1:
            raise PatchError(f"{name}: labels must have the shape (n,), got {columns['labels'].shape}")
        return columns


def _to_boxes(boxes: Array, name: str) -> _Floats:
    if not boxes.size:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "fiu":
        raise PatchError(f"{name}: boxes must be numbers (n, 4), got {boxes.shape} {boxes.dtype}")
    found = boxes.astype(np.float64)
    bad = ~np.isfinite(found).all(axis=1)
    if not bad.any():
        bad = (found[:, 2:] < found[:, :2]).any(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise PatchError(
            f"{name}: box {row} is {found[row].tolist()}; give finite (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1"
        )
    return found


def _to_column(value: Any) -> Array:
    try:
        return to_numpy(value)
    except ValueError:  # lists of unequal length
        column = np.empty(len(value), object)
        column[:] = value
        return column


def to_numpy(value: Any) -> Array:
    """An array of what a model returned: an array, nested lists, or a tensor on any device, with or without a gradient."""
    # A tensor that needs a gradient or lies on a device does not convert by itself.
    for method in ("detach", "cpu"):
        if hasattr(value, method):
            value = getattr(value, method)()
    return np.asarray(value)


def _place_text(patch: Patch) -> str:
    return f"rows {patch.rows.start}:{patch.rows.stop}, columns {patch.cols.start}:{patch.cols.stop}"


def _concatenate(columns: Sequence[Mapping[str, Array]], counts: _Ints) -> dict[str, Array]:
    """The columns of all parts, but the boxes.

    Raises:
        PatchError: parts with boxes have other columns.
    """
    filled = [number for number in range(len(columns)) if counts[number]]
    # The columns of parts without boxes have arbitrary dtypes, such as that of an empty list.
    used = [columns[number] for number in filled] or list(columns[:1]) or [dict.fromkeys(_KEYS, np.zeros(0))]
    for number, part in zip(filled, used, strict=False):
        if part.keys() != used[0].keys():
            raise PatchError(
                f"part {number} has {sorted(part)}, part {filled[0]} {sorted(used[0])}; give all the same keys"
            )
    return {name: np.concatenate([part[name] for part in used]) for name in used[0] if name != "boxes"}


def _codes_of(labels: Array, *, class_agnostic: bool) -> _Ints:
    """A number for each label."""
    if class_agnostic:
        return np.zeros(len(labels), np.int64)
    found: _Ints = np.unique(labels, return_inverse=True)[1].reshape(-1)
    return found


def _to_numbers(kept: Any, count: int) -> _Ints:
    numbers = to_numpy(kept)
    if numbers.dtype == bool and numbers.shape == (count,):
        return np.flatnonzero(numbers)
    if not numbers.size:
        return np.zeros(0, np.int64)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= count:
        raise PatchError(
            f"the rule returned {shorten(kept)}; return the numbers of the boxes to keep, or a mask of {count}"
        )
    return numbers.astype(np.int64)


# -- rules ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Matches:
    """Pairs of boxes that may be one object, the surest first.

    Attributes:
        first: the numbers of boxes.
        second: of their partners.
        cut_counts: how many of the two are cut.
    """

    first: _Ints
    second: _Ints
    cut_counts: _Ints


def _find_matches(found: _Detections, codes: _Ints, iou: float, ios: float, max_gap: float) -> _Matches:
    parts = [
        _match(found, first[is_pair], second[is_pair], iou, ios, max_gap)
        for first, second in overlapping_pairs(found.boxes, gap=max_gap)
        for is_pair in [(found.patches[first] != found.patches[second]) & (codes[first] == codes[second])]
    ]
    if not parts:
        return _Matches(*(np.zeros(0, np.int64) for _ in range(3)))
    first, second, agreements = (np.concatenate(column) for column in zip(*parts, strict=True))
    cut_counts = found.is_cut[first].astype(np.int64) + found.is_cut[second]
    # The numbers of the boxes last, so that equal pairs have the same order on every machine.
    order = np.lexsort((second, first, -agreements, cut_counts))
    return _Matches(first[order], second[order], cut_counts[order])


def _match(
    found: _Detections, first: _Ints, second: _Ints, iou: float, ios: float, max_gap: float
) -> tuple[_Ints, _Ints, _Floats]:
    """The pairs that match, and how well they agree."""
    boxes, others = found.boxes[first], found.boxes[second]
    areas, other_areas, common = areas_of(boxes), areas_of(others), areas_of(intersections_of(boxes, others))
    is_cut = found.is_cut[first] | found.is_cut[second]
    is_match = common > iou * (areas + other_areas - common)
    is_match |= is_cut & (common > ios * np.minimum(areas, other_areas))
    is_match |= _is_facing(found, first, second, iou, max_gap)
    first, second, boxes, others = first[is_match], second[is_match], boxes[is_match], others[is_match]
    # What two patches see of one object is equal within the pixels that they share.
    shared = intersections_of(found.tiles[found.patches[first]], found.tiles[found.patches[second]])
    seen, other_seen = intersections_of(boxes, shared), intersections_of(others, shared)
    seen_by_both = areas_of(intersections_of(seen, other_seen))
    seen_by_any = areas_of(seen) + areas_of(other_seen) - seen_by_both
    return first, second, seen_by_both / np.maximum(seen_by_any, np.finfo(np.float64).tiny)


def _is_facing(found: _Detections, first: _Ints, second: _Ints, iou: float, max_gap: float) -> _Bools:
    """Whether facing edges cut both boxes, and they meet there over more than ``iou`` of their extent along these edges."""
    boxes, others = found.boxes[first], found.boxes[second]
    lows, highs = intersections_of(boxes, others).reshape(-1, 2, 2).transpose(1, 0, 2)
    overlaps = highs - lows
    unions = np.maximum(boxes[:, 2:], others[:, 2:]) - np.minimum(boxes[:, :2], others[:, :2])
    is_facing = np.zeros(len(first), bool)
    for axis, (low_side, high_side) in enumerate(((_LEFT, _RIGHT), (_TOP, _BOTTOM))):
        cut, other_cut = found.cut[first], found.cut[second]
        faces = (cut[:, high_side] & other_cut[:, low_side]) | (cut[:, low_side] & other_cut[:, high_side])
        along = 1 - axis
        is_facing |= faces & (overlaps[:, axis] >= -max_gap) & (overlaps[:, along] > iou * unions[:, along])
    return is_facing


class _Groups:
    """Boxes joined into objects, at most one of each patch."""

    def __init__(self, patches: _Ints) -> None:
        self._parents = list(range(len(patches)))
        self._patches: list[set[int]] = [{number} for number in patches.tolist()]

    def find(self, box: int) -> int:
        """The number that stands for the group of a box."""
        while self._parents[box] != box:
            self._parents[box] = box = self._parents[self._parents[box]]
        return box

    def join(self, box: int, other: int) -> bool:
        """Join two groups, unless both have a box of the same patch; return whether they are joined."""
        first, second = self.find(box), self.find(other)
        if first == second or not self._patches[first].isdisjoint(self._patches[second]):
            return first == second
        if len(self._patches[first]) < len(self._patches[second]):
            first, second = second, first
        self._parents[second] = first
        self._patches[first] |= self._patches[second]
        return True

    def roots(self) -> _Ints:
        """For each box the number that stands for its group."""
        return np.array([self.find(box) for box in range(len(self._parents))], np.int64)


def _join(found: _Detections, matches: _Matches) -> dict[str, Any]:
    """One box for each group of matching ones."""
    groups = _Groups(found.patches)
    is_cut = found.is_cut
    is_absorbed = [False] * found.count
    for first, second, cut_count in zip(
        matches.first.tolist(), matches.second.tolist(), matches.cut_counts.tolist(), strict=True
    ):
        if cut_count == 1:
            cut = first if is_cut[first] else second
            if not is_absorbed[cut]:
                is_absorbed[cut] = groups.join(first, second)
        # A cut box that belongs to an uncut one must not draw another object into it.
        elif not (is_absorbed[first] or is_absorbed[second]):
            groups.join(first, second)
    roots = groups.roots()
    # The best of each group: not cut, then the largest scale, then the highest score, then the first.
    order = np.lexsort(
        (np.arange(found.count), -found.scores.astype(np.float64), -found.scales[found.patches], is_cut, roots)
    )
    is_first = np.ones(found.count, bool)
    is_first[1:] = roots[order][1:] != roots[order][:-1]
    best = order[is_first]
    around = found.boxes.copy()
    np.minimum.at(around[:, :2], roots, found.boxes[:, :2])
    np.maximum.at(around[:, 2:], roots, found.boxes[:, 2:])
    result_boxes = np.where(is_cut[best][:, None], around[roots[best]], found.boxes[best])
    place = np.argsort(best)
    return {**found.taken(best[place]), "boxes": result_boxes[place]}


def _suppress(found: _Detections, codes: _Ints, iou: float) -> _Ints:
    """The boxes that no box of a higher score overlaps by more than ``iou``."""
    neighbours: list[list[int]] = [[] for _ in range(found.count)]
    for first, second in overlapping_pairs(found.boxes):
        common = areas_of(intersections_of(found.boxes[first], found.boxes[second]))
        unions = areas_of(found.boxes[first]) + areas_of(found.boxes[second]) - common
        is_match = (common > iou * unions) & (codes[first] == codes[second])
        for box, other in zip(first[is_match].tolist(), second[is_match].tolist(), strict=True):
            neighbours[box].append(other)
            neighbours[other].append(box)
    is_suppressed = np.zeros(found.count, bool)
    is_kept = np.zeros(found.count, bool)
    for box in np.argsort(-found.scores.astype(np.float64), kind="stable").tolist():
        if not is_suppressed[box]:
            is_kept[box] = True
            is_suppressed[neighbours[box]] = True
    return np.flatnonzero(is_kept)


def _find_in_core(found: _Detections) -> _Ints:
    """The boxes whose centre no other patch holds farther from its inner edges."""
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    own = _depths(np.tile(centres, 2), found.patches, found)
    is_kept = np.ones(found.count, bool)
    points = np.concatenate([np.tile(centres, 2), found.tiles])
    for first, second in overlapping_pairs(points):
        is_point = (first < found.count) & (second >= found.count)
        box, patch = first[is_point], second[is_point] - found.count
        depths = _depths(np.tile(centres[box], 2), patch, found)
        is_kept[box[(depths > own[box]) | ((depths == own[box]) & (patch < found.patches[box]))]] = False
    return np.flatnonzero(is_kept)


def _depths(points: _Floats, patches: _Ints, found: _Detections) -> _Floats:
    """How far each point, given twice ``(n, 4)``, lies inside the inner edges of a patch; below 0 outside."""
    to_edges = (points - found.tiles[patches]) * (1, 1, -1, -1)
    depths: _Floats = np.where(found.inner[patches] | (to_edges < 0), to_edges, np.inf).min(axis=1)
    return depths
