"""FileExplanation: what a read does with one file, found without reading pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..geometry.grid import Grid, Sampling
from ..geometry.tiling import bounding_range
from .fuse import locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..formats.reader import Reader
    from .parts import Parts
    from .plan import Planner

__all__ = ["FileExplanation", "SampledRegion", "explain_parts"]


@dataclass(frozen=True, slots=True)
class FileExplanation:
    """What a read does with one file.

    Attributes:
        path: the source.
        bands: the number of bands that are read.
        entry_path: the path of its cache entry, whether it exists or not; ``None`` where the source is read directly.
        is_cached: whether that entry exists.
        reader: the format that is read: the entry's, or the source's while there is no entry.
        level: the level that is read from the file: 0 for full resolution, 1 for the first overview, and so on. Coarser levels
            are computed from it.
        tile_shape: ``(height, width)`` of its blocks.
        is_warped: whether its pixels are resampled, because its grid differs from the image's or the region is scaled.
        tiles: the number of blocks that are decoded: the blocks under the region, in a PNG or JPEG also all blocks above it;
            0 where pixels lie in memory or are mapped.
        decoded_bytes: the bytes of these blocks, all bands.
        tile_frames: the number of video frames in a block.
    """

    path: str
    bands: int
    entry_path: str | None
    is_cached: bool
    reader: str
    level: int
    tile_shape: tuple[int, int]
    is_warped: bool
    tiles: int
    decoded_bytes: int
    tile_frames: int = 1


class SampledRegion(NamedTuple):
    """A resolved region and its resampling.

    Attributes:
        times: the frames; empty for an image.
        rows: y coordinates in image space.
        cols: x coordinates in image space.
        codes: the channels.
        samplings: the sampling of y and of x; ``None`` without resampling.
    """

    times: range
    rows: range
    cols: range
    codes: tuple[str, ...]
    samplings: tuple[Sampling, Sampling] | None


def explain_parts(
    parts: Parts,
    planner: Planner,
    sampled: SampledRegion,
    count: Callable[[Reader, range, range], int] | None = None,
) -> Iterator[FileExplanation]:
    """What a read does with each file of an image; channels that the image lacks are left out.

    Args:
        parts: the files.
        planner: of the same image.
        sampled: the region.
        count: counts the blocks that a reader decodes for rows and columns; ``None``: the reader's own count.
    """
    known = frozenset(planner.channels)
    codes = tuple(code for code in sampled.codes if code in known)
    for pick in planner.plan_codes(codes).picks if codes else ():
        opened = parts.opened(pick.part)
        reader = opened.reader
        level, rows, cols = 0, sampled.rows, sampled.cols
        is_warped = sampled.samplings is not None or not planner.is_plain(pick.part)
        if is_warped and rows and cols:
            level, rows, cols = _find_window(parts, pick.part, sampled)
        tiles = (count or _count_decoded)(reader, rows, cols) if rows and cols else 0
        yield FileExplanation(
            path=parts.pathinfo.channels[pick.part].path,
            bands=len(pick.bands),
            entry_path=None if opened.entry_path is None else str(opened.entry_path),
            is_cached=opened.is_cached,
            reader=reader.format,
            level=level,
            tile_shape=reader.tile_shape,
            is_warped=is_warped,
            tiles=tiles,
            decoded_bytes=tiles * reader.block_bytes,
            tile_frames=reader.tile_frames,
        )


def _find_window(parts: Parts, part: int, sampled: SampledRegion) -> tuple[int, range, range]:
    """The level of a file that a resampled region reads, and the rows and columns of that level."""
    # Steps select from the warped whole, so the pixels between them are read too.
    ranges = bounding_range(sampled.rows), bounding_range(sampled.cols)
    grid = Grid.of_pixels(*ranges) if sampled.samplings is None else Grid.of_axes(*sampled.samplings)
    interpolation, levels = parts.interpolation(part), parts.levels(part)
    src_grid, level = locate(parts, part, grid, interpolation, antialias=True, mode="keep")
    rows, cols = src_grid.footprint(levels.level_shape(level)[:2], interpolation, antialias=True)
    stored = levels.find_stored_level(level)
    height, width, _ = levels.level_shape(stored)
    finer = level - stored
    if finer:
        rows = range(rows.start << finer, min(rows.stop << finer, height))
        cols = range(cols.start << finer, min(cols.stop << finer, width))
    return stored, rows, cols


def _count_decoded(reader: Reader, rows: range, cols: range) -> int:
    return reader.count_decoded(rows, cols)
