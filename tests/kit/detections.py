"""Scenes of boxes, a detector that sees them through patches, and the count of what a merge got wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ndframes.feed import Patch


def tiles_of(shape: tuple[int, int], extent: int, overlap: int) -> list[Patch]:
    """The patches of a grid whose last row and column are shifted in."""
    height, width = shape
    stride = extent - overlap
    tops, lefts = (
        sorted({min(start, length - extent) for start in range(0, max(1, length - overlap), stride)})
        for length in (height, width)
    )
    places = [(top, left) for top in tops for left in lefts]
    return [
        Patch("scene", (slice(top, top + extent), slice(left, left + extent)), index=index, image_shape=shape)
        for index, (top, left) in enumerate(places)
    ]


def scatter(
    count: int, shape: tuple[int, int], extents: tuple[float, float], *, seed: int, most_iou: float, margin: float = 0
) -> np.ndarray:
    """Boxes xyxy at random places. No two overlap by more than ``most_iou``, and none are nearer than ``margin``."""
    random = np.random.default_rng(seed)
    boxes = np.zeros((count, 4))
    found = 0
    while found < count:
        sides = random.uniform(*extents, 2)
        corner = random.uniform(0, 1, 2) * (np.array(shape[::-1]) - sides)
        box = np.concatenate([corner, corner + sides])
        others = boxes[:found]
        grown = box + margin * np.array([-1, -1, 1, 1])
        common = np.minimum(others[:, 2:], grown[2:]) - np.maximum(others[:, :2], grown[:2])
        overlap = np.prod(np.maximum(common, 0), axis=1)
        union = sides.prod() + np.prod(others[:, 2:] - others[:, :2], axis=1) - overlap
        if not (overlap > most_iou * union).any():
            boxes[found] = box
            found += 1
    return boxes


def detect_boxes(
    boxes: np.ndarray, patches: Sequence[Patch], *, least_px: float = 3, seed: int = 0
) -> list[dict[str, Any]]:
    """What a detector finds in each patch: the boxes, cut at the edges of the patch, with random scores.

    A box of which less than ``least_px`` is visible in x or y is not found. ``objects`` holds the number of each box.
    """
    random = np.random.default_rng(seed)
    parts = []
    of_rows: dict[tuple[int, int], np.ndarray] = {}
    for patch in patches:
        rows = patch.rows.start, patch.rows.stop
        if rows not in of_rows:
            of_rows[rows] = np.flatnonzero((boxes[:, 3] > rows[0]) & (boxes[:, 1] < rows[1]))
        near = of_rows[rows]
        corner = np.array([patch.cols.start, patch.rows.start] * 2)
        window = np.array([0, 0, patch.cols.stop - patch.cols.start, patch.rows.stop - patch.rows.start])
        local = boxes[near] - corner
        seen = np.concatenate([np.maximum(local[:, :2], window[:2]), np.minimum(local[:, 2:], window[2:])], axis=1)
        is_seen = (seen[:, 2:] - seen[:, :2] >= least_px).all(axis=1)
        numbers = near[is_seen]
        parts.append(
            {
                "boxes": seen[is_seen] * (1 if patch.scale is None else patch.scale),
                "scores": random.uniform(0.3, 1, len(numbers)),
                "labels": np.ones(len(numbers), int),
                "objects": numbers,
            }
        )
    return parts


def count_errors(boxes: np.ndarray, merged: np.ndarray, *, iou: float = 0.9) -> tuple[int, int]:
    """How many boxes no result matches, and how many results match no box, or one that has a result already."""
    missed, used = 0, np.zeros(len(merged), bool)
    for box in boxes:
        common = np.minimum(merged[:, 2:], box[2:]) - np.maximum(merged[:, :2], box[:2])
        overlap = np.prod(np.maximum(common, 0), axis=1)
        union = np.prod(box[2:] - box[:2]) + np.prod(merged[:, 2:] - merged[:, :2], axis=1) - overlap
        share = np.where(used, 0, overlap / np.maximum(union, 1e-9))
        if len(share) and share.max() > iou:
            used[share.argmax()] = True
        else:
            missed += 1
    return missed, int((~used).sum())
