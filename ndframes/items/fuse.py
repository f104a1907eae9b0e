"""Fusion: read the files of a plan, warp those on other grids, and combine them in one result.

Every function fills a :class:`Result` that its caller allocated. Regions and grids are in image space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ..geometry.affine import IDENTITY
from ..geometry.grid import Grid, Sampling
from ..geometry.padding import clip_range, covering_range, fold_axis, padded_indices, slice_within
from ..geometry.tiling import bounding_range
from ..pixels.points import sample
from ..pixels.results import as_slice, fill_of, put_block
from ..pixels.stencils import apply_stencils, find_stencil
from ..pixels.warp import WindowedArray, warp
from .parts import Pick, as_range, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from ..formats.reader import Reader
    from ..geometry.kernels import Interpolation
    from ..pixels.options import ReadOptions
    from ..pixels.results import Result
    from ..pixels.values import NodataMode
    from .parts import Parts
    from .plan import Plan

__all__ = ["find_level", "fuse_grid", "fuse_padded", "fuse_padded_grid", "fuse_region", "locate"]
_STRIP_PX = 256
# As much as a block of warp, which splits what is larger.
_AT_ONCE_BYTES = 16 * 2**20
# From this factor on an overview may replace the image; just below 2, since steps come from divisions.
_OVERVIEW_FACTOR = 2 - 1e-6
_EPSILON = 1e-9


def fuse_region(parts: Parts, plan: Plan, result: Result, rows: range, cols: range, options: ReadOptions) -> None:
    """Fill ``result`` with the image's pixels at ``rows`` x ``cols``, which lie inside the image."""

    def fuse_one(pick: Pick) -> None:
        if pick.is_plain and result.missing is None:
            parts.read_pick(pick, rows, cols, result.pixels)
        elif result.pixels.size:
            _fuse_pixels(parts, pick, plan, result, rows, cols, options)

    parts.for_each(plan.picks, fuse_one)


def fuse_padded(parts: Parts, plan: Plan, result: Result, rows: range, cols: range, options: ReadOptions) -> None:
    """As :func:`fuse_region`, for ``rows`` x ``cols`` of the unbounded plane, padded by ``options.pad``."""
    height, width = plan.shape[:2]
    if options.pad == "constant":
        result.clear(..., options)
        inner_rows, inner_cols = clip_range(rows, height), clip_range(cols, width)
        target = result.at(slice_within(inner_rows, rows), slice_within(inner_cols, cols))
        if target.missing is not None:
            target.missing[...] = False
        fuse_region(parts, plan, target, inner_rows, inner_cols, options)
        return
    pad = str(options.pad)
    # However often the padding repeats a pixel, it is read once.
    row_indices, col_indices = padded_indices(rows, height, pad), padded_indices(cols, width, pad)
    row_window, col_window = covering_range(row_indices), covering_range(col_indices)
    window = result.like(len(row_window), len(col_window))
    fuse_region(parts, plan, window, row_window, col_window, options)
    result.put(..., window, np.ix_(row_indices - row_window.start, col_indices - col_window.start))


def fuse_grid(
    parts: Parts, plan: Plan, result: Result, grid: Grid, options: ReadOptions, *, is_bounded: bool = False
) -> None:
    """Fill ``result`` with the image sampled at a grid.

    Args:
        parts: the files.
        plan: the channels.
        result: has the grid's shape.
        grid: the grid, in image space.
        options: how to sample.
        is_bounded: whether points outside the image get the fill value, even where a file reaches beyond it.
    """
    if not result.pixels.size:
        return
    is_inside = grid.centres_inside(*plan.shape[:2]) if is_bounded else True
    if is_inside is not False:
        parts.for_each(plan.picks, lambda pick: _fuse_pick(parts, pick, plan, result, grid, options))
    # Last, because the files may reach beyond the image and fill these pixels, too.
    if is_inside is not True:
        result.clear(np.ones(grid.shape, bool) if is_inside is False else ~np.asarray(is_inside), options)


def fuse_padded_grid(
    parts: Parts, plan: Plan, result: Result, samplings: tuple[Sampling, Sampling], options: ReadOptions
) -> None:
    """As :func:`fuse_grid`, for a scaled region that is padded with the nearest or the reflected pixels."""
    pad = str(options.pad)
    runs = [list(fold_axis(sampling, extent, pad)) for sampling, extent in zip(samplings, plan.shape[:2], strict=True)]
    # A reflected run is sampled forwards and reversed afterwards: the samplings along axes have positive steps.
    for rows, cols in product(*runs):
        grid = Grid.of_axes(rows.sampling, cols.sampling)
        piece = result.like(*grid.shape)
        fuse_grid(parts, plan, piece, grid, options)
        result.at(rows.out_slice, cols.out_slice).put(..., piece, np.s_[:: rows.direction, :: cols.direction])


def find_level(
    reader: Reader, step_y: float, step_x: float, interpolation: Interpolation = "linear", *, antialias: bool = True
) -> int:
    """The coarsest level from which a region with these steps is resampled without loss; 0 is full resolution."""
    # An overview holds means, which are not values of the image: nearest sampling cannot use it.
    return reader.find_level(step_y, step_x) if interpolation != "nearest" and antialias else 0


def locate(
    parts: Parts, part: int, grid: Grid, interpolation: Interpolation, *, antialias: bool, mode: NodataMode
) -> tuple[Grid, int]:
    """The image grid in the coordinates of a level of a file, and the number of that level."""
    reader, src_from_img = parts.levels(part), parts.src_from_img[part]
    src_grid = grid if src_from_img is None else grid.transformed(src_from_img)
    # Overviews hold means into which missing values may have entered.
    if parts.values(part).mixes_missing(mode):
        return src_grid, 0
    level = find_level(reader, *src_grid.steps, interpolation, antialias=antialias)
    return (src_grid.rescaled(*reader.level_factors(level)) if level else src_grid), level


# -- one file on the image's own pixels ---------------------------------------------------------------------------


def _fuse_pixels(
    parts: Parts, pick: Pick, plan: Plan, result: Result, rows: range, cols: range, options: ReadOptions
) -> None:
    """Fill one file's bands at pixels of the image."""
    if rows.step == 1 and cols.step == 1:
        if result.missing is None and _warp_at_once(parts, pick, rows, cols, result.pixels, options):
            return
        _fuse_pick(parts, pick, plan, result, Grid.of_pixels(rows, cols), options)
        return
    # Steps select pixels of the whole warped image: warp all pixels between them, a few rows at a time.
    all_cols = bounding_range(cols)
    count = max(1, _STRIP_PX // abs(rows.step))
    bands = as_slice(pick.positions)
    for first in range(0, len(rows), count):
        some = rows[first : first + count]
        all_rows = bounding_range(some)
        strip = result.like(len(all_rows), len(all_cols))
        _fuse_pixels(parts, pick, plan, strip, all_rows, all_cols, options)
        row_step, col_step = some.step if len(some) > 1 else 1, cols.step if len(cols) > 1 else 1
        selected = strip.at(np.s_[::row_step], np.s_[::col_step])
        result.put(np.s_[first : first + len(some), :, bands], selected, np.s_[:, :, bands])


def _warp_at_once(parts: Parts, pick: Pick, rows: range, cols: range, out: Array, options: ReadOptions) -> bool:
    """Warp a crop from one window of its file if the crop is small and inside the file; return whether it was.

    Most crops are, and skip the search for levels, blocks and missing values.
    """
    interpolation = options.interpolation or pick.interpolation
    if not isinstance(interpolation, str) or not parts.values(pick.part).is_plain:
        return False
    src_from_img = pick.src_from_img or IDENTITY
    a, b, c, d, e, f = src_from_img
    if max(abs(a), abs(b), abs(d), abs(e)) >= _OVERVIEW_FACTOR:
        return False
    # Stencils need axes that run in the same direction as the image's.
    if b or d or a <= 0 or e <= 0:
        src_grid = Grid.of_pixels(rows, cols).transformed(src_from_img)
        return _warp_turned(parts, pick, src_grid, out, interpolation)
    src_down, src_across = (rows.start * e + f, e), (cols.start * a + c, a)
    return _warp_straight(parts, pick, src_down, src_across, out, interpolation, antialias=options.antialias)


def _warp_straight(
    parts: Parts,
    pick: Pick,
    src_down: tuple[float, float],
    src_across: tuple[float, float],
    out: Array,
    interpolation: Interpolation,
    *,
    antialias: bool,
) -> bool:
    """Warp from a file that is only shifted and scaled; ``src_down`` and ``src_across`` are (start, step) in its pixels."""
    reader = parts.reader(pick.part)
    stencils, window = [], []
    for axis, (start, step) in enumerate((src_down, src_across)):
        begin = math.floor(start)
        # Rounded, so that crops at different places find the same stencil in its memory.
        phase = round(start - begin, 12)
        stencil = find_stencil(phase, step, out.shape[axis], interpolation, antialias=antialias, dtype=reader.dtype)
        first = begin + stencil.first
        if first < 0 or first + stencil.extent > reader.shape[axis]:
            return False  # reaches beyond the file
        stencils.append(stencil)
        window.append(range(first, first + stencil.extent))
    stored = _read_window(parts, pick, window[0], window[1], out)
    if stored is None:
        return False
    out[:, :, as_slice(pick.positions)] = apply_stencils(
        stored,
        stencils[0],
        stencils[1],
        rows_first=src_down[1] > 1,
        may_overshoot=interpolation != "linear",
    )
    return True


def _warp_turned(parts: Parts, pick: Pick, src_grid: Grid, out: Array, interpolation: Interpolation) -> bool:
    """Warp from a file that is rotated, sheared or mirrored, and not finer than the image: no antialiasing is needed."""
    if max(src_grid.steps) > 1 + _EPSILON:
        return False
    window = src_grid.footprint_inside(parts.reader(pick.part).shape[:2], interpolation, antialias=False)
    stored = None if window is None else _read_window(parts, pick, window[0], window[1], out)
    if window is None or stored is None:
        return False
    # Coordinates of the window, in which sample() works.
    local = src_grid.rescaled(1, 1, window[0].start, window[1].start)
    out[:, :, as_slice(pick.positions)] = sample(stored, local, interpolation, antialias=False)
    return True


def _read_window(parts: Parts, pick: Pick, rows: range, cols: range, out: Array) -> Array | None:
    """A window of a file; ``None`` if it is large or holds NaNs, which the fast paths do not handle."""
    stored = np.empty((len(rows), len(cols), len(pick.bands)), parts.reader(pick.part).dtype)
    if max(stored.nbytes, out.nbytes) > _AT_ONCE_BYTES:
        return None
    parts.read_pick(side_by_side(pick), rows, cols, stored)
    # min() of an array with a NaN is NaN: one pass, and no mask.
    return None if stored.dtype.kind in "fc" and np.isnan(stored.min()) else stored


# -- one file on a grid -------------------------------------------------------------------------------------------


def _fuse_pick(parts: Parts, pick: Pick, plan: Plan, result: Result, grid: Grid, options: ReadOptions) -> None:
    """Fill one file's bands on a grid over the image, each band by its own interpolation."""
    for some, interpolation in _by_interpolation(pick, plan.codes, options.interpolation):
        _warp_pick(parts, some, result, grid, interpolation, options)


def _warp_pick(
    parts: Parts, pick: Pick, result: Result, grid: Grid, interpolation: Interpolation, options: ReadOptions
) -> None:
    reader, values = parts.levels(pick.part), parts.values(pick.part)
    src_grid, level = locate(parts, pick.part, grid, interpolation, antialias=options.antialias, mode=options.nodata)
    height, width, _ = reader.level_shape(level)
    axes = src_grid.axes
    if (
        axes is not None
        and axes[0].is_pixel_aligned
        and axes[1].is_pixel_aligned
        and values.is_plain
        and result.missing is None
    ):
        _copy_pick(parts, pick, result, axes, (height, width), options, level)
        return
    alone = side_by_side(pick)
    is_keyed = values.needs_all_bands(options.nodata)
    whole = Pick(pick.part, reader.all_bands, reader.all_bands, True, False, None) if is_keyed else alone

    def read(rows: range, cols: range) -> tuple[Array, Array | None]:
        stored = np.empty((len(rows), len(cols), len(whole.bands)), reader.dtype)
        parts.read_pick(whole, rows, cols, stored, level=level)
        pixels, missing = values.decode(stored, options.nodata, whole.bands)
        if is_keyed and missing is not None:
            return pixels[..., list(pick.bands)], missing[..., list(pick.bands)]
        return pixels, missing

    factor_y, factor_x = reader.level_factors(level) if level else (1.0, 1.0)
    extent = reader.shape[0] / factor_y, reader.shape[1] / factor_x
    plane = WindowedArray((height, width), extent, len(pick.bands) * values.dtype.itemsize, read)
    for block in warp(plane, src_grid, interpolation, antialias=options.antialias):
        put_block(block, pick.positions, result, options)


def _copy_pick(
    parts: Parts,
    pick: Pick,
    result: Result,
    axes: tuple[Sampling, Sampling],
    shape: tuple[int, int],
    options: ReadOptions,
    level: int,
) -> None:
    """Copy whole pixels as they are stored; pixels outside the file get the fill value."""
    planes = [range(round(axis.start), round(axis.start) + axis.count) for axis in axes]
    inner = [clip_range(plane, extent) for plane, extent in zip(planes, shape, strict=True)]
    if inner != planes:
        result.pixels[:, :, pick.positions] = fill_of(result, options)
    target = result.pixels[slice_within(inner[0], planes[0]), slice_within(inner[1], planes[1])]
    if target.size:
        parts.read_pick(pick, inner[0], inner[1], target, level=level)


def _by_interpolation(
    pick: Pick, codes: Sequence[str], interpolation: Interpolation | Mapping[str, Interpolation] | None
) -> list[tuple[Pick, Interpolation]]:
    """A file's bands, grouped by their interpolation."""
    if not isinstance(interpolation, Mapping):
        return [(pick, interpolation or pick.interpolation)]
    groups: dict[Interpolation, list[int]] = {}
    for number, position in enumerate(pick.positions):
        groups.setdefault(interpolation.get(codes[position], pick.interpolation), []).append(number)
    if len(groups) == 1:
        return [(pick, next(iter(groups)))]
    return [
        (
            pick._replace(
                bands=as_range([pick.bands[number] for number in numbers]),
                positions=as_range([pick.positions[number] for number in numbers]),
                # A group is never the whole result, and ``alone`` of the old pick holds the other bands too.
                is_all=False,
                alone=None,
            ),
            name,
        )
        for name, numbers in groups.items()
    ]
