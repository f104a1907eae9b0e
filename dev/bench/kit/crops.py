"""Crops: which parts of an image the contenders read, and digests for comparing their pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

#: Chooses the crops of one round.
CropDrawer = Callable[[np.random.Generator], "list[Crop]"]


class Crop(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` in pixels, the ends exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def region(self) -> tuple[slice, slice]:
        """The crop as slices of an array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def square(top: int, left: int, extent_px: int) -> Crop:
    """Return a square crop by its upper left corner."""
    return Crop(top, top + extent_px, left, left + extent_px)


def draw_anywhere(shape: tuple[int, int], extent_px: int, count: int) -> CropDrawer:
    """Random crops, others in each round."""

    def draw(rng: np.random.Generator) -> list[Crop]:
        tops = rng.integers(0, shape[0] - extent_px + 1, count).tolist()
        lefts = rng.integers(0, shape[1] - extent_px + 1, count).tolist()
        return [square(top, left, extent_px) for top, left in zip(tops, lefts, strict=True)]

    return draw


def draw_apart(shape: tuple[int, int], extent_px: int, count: int, *, tile_px: int) -> CropDrawer:
    """Random crops of which no two touch the same tile, over all rounds until every cell of the image was used once."""
    cell_px = _cell_px(extent_px, tile_px)
    cells: list[tuple[int, int]] = []

    def draw(rng: np.random.Generator) -> list[Crop]:
        found = []
        while len(found) < count:
            if not cells:
                cells.extend(_shuffled_cells(shape, cell_px, rng))
            top, left = cells.pop()
            inset = rng.integers(0, cell_px - extent_px + 1, 2).tolist()
            found.append(square(top + inset[0], left + inset[1], extent_px))
        return found

    return draw


def count_apart(shape: tuple[int, int], extent_px: int, *, tile_px: int) -> int:
    """Return how many crops :func:`draw_apart` can draw before a tile is used again."""
    cell_px = _cell_px(extent_px, tile_px)
    return (shape[0] // cell_px) * (shape[1] // cell_px)


def cover(shape: tuple[int, int], extent_px: int) -> list[Crop]:
    """Crops that cover the whole image without overlap, row by row."""
    return [
        Crop(top, min(top + extent_px, shape[0]), left, min(left + extent_px, shape[1]))
        for top in range(0, shape[0], extent_px)
        for left in range(0, shape[1], extent_px)
    ]


def sweep(corner: tuple[int, int], shape: tuple[int, int], extent_px: int, stride_px: int) -> list[Crop]:
    """Sliding windows, row by row, over a part of an image with upper left corner ``corner``."""
    return [
        square(corner[0] + top, corner[1] + left, extent_px)
        for top in range(0, shape[0] - extent_px + 1, stride_px)
        for left in range(0, shape[1] - extent_px + 1, stride_px)
    ]


def digest(pixels: np.ndarray) -> bytes:
    """Return a digest that is equal for equal pixels, shape and dtype, in any memory order."""
    hasher = hashlib.blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(pixels))
    return hasher.digest()


def digest_all(arrays: Sequence[np.ndarray]) -> list[bytes]:
    """The digest of each array."""
    return [digest(pixels) for pixels in arrays]


def _cell_px(extent_px: int, tile_px: int) -> int:
    """Edge of a cell: whole tiles, and at least twice the crop, so that its place in the cell can vary."""
    return -(-2 * extent_px // tile_px) * tile_px


def _shuffled_cells(shape: tuple[int, int], cell_px: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    cells = [
        (top, left)
        for top in range(0, shape[0] - cell_px + 1, cell_px)
        for left in range(0, shape[1] - cell_px + 1, cell_px)
    ]
    assert cells, f"an image of {shape[0]} x {shape[1]} pixels has no cell of {cell_px} pixels"
    return [cells[index] for index in rng.permutation(len(cells))]
