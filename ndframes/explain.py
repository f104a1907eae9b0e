"""Explanation: what a read would touch, said without reading."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .display import format_bytes
from .regions import Region, bounding_range, resolve_region
from .warp import Grid, Sampling, resolve_scale

if TYPE_CHECKING:
    from .image import AlignableImageData
    from .regions import Selection

__all__ = ["ChannelExplanation", "Explanation", "explain_region"]


@dataclass(frozen=True, slots=True)
class ChannelExplanation:
    """What a read would do with one file.

    Attributes:
        path: the source.
        bands: how many of its bands are wanted.
        entry_path: its cache entry, there or not; ``None`` where the source is read directly.
        is_cached: whether that entry is there.
        reader: the format that is read from now: the entry's, or the source's while there is no entry.
        level: 0 for the image, 1 for its first overview, and so on.
        tile_shape: ``(height, width)`` of its blocks.
        is_warped: whether its pixels are resampled, since it does not lie on the image's own grid or the region is scaled.
        tiles: how many of them a read decodes: those that the region touches, in a PNG or JPEG all above it as well,
            none where pixels lie in memory or are mapped.
        decoded_bytes: what those blocks hold, all bands.
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


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a read would touch.

    Attributes:
        image_id: the image.
        channels: the codes wanted.
        shape: the result's shape.
        dtype: the result's dtype.
        result_bytes: the result's size.
        files: what happens to each file.
    """

    image_id: Hashable
    channels: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    result_bytes: int
    files: tuple[ChannelExplanation, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def __str__(self) -> str:
        shape = " x ".join(str(extent) for extent in self.shape)
        lines = [
            f"image {self.image_id!r}: {shape} {self.dtype} ({'|'.join(self.channels)}), {format_bytes(self.result_bytes)}"
        ]
        for item in self.files:
            state = "read directly" if item.entry_path is None else "cached" if item.is_cached else "not cached yet"
            tile = " x ".join(str(extent) for extent in item.tile_shape)
            lines.append(f"  {item.path}: {state}")
            if item.entry_path is not None:
                lines.append(f"    entry   {item.entry_path}")
            if item.is_warped:
                lines.append("    warped onto the grid of the result")
            if item.level:
                lines.append(f"    reads overview {item.level}, {2**item.level} times as coarse")
            decoded = f"decodes {item.tiles} of its {tile} {item.reader} tiles, {format_bytes(item.decoded_bytes)}"
            lines.append(f"    {decoded if item.tiles else f'copies  from mapped pixels ({item.reader})'}")
        return "\n".join(lines)


def explain_region(
    image: AlignableImageData,
    region: Region = None,
    channels: str | Sequence[str] | None = None,
    *,
    scale: float | tuple[float, float] | None = None,
) -> Explanation:
    """Say what reading a region of ``image`` would touch."""
    codes = image.select(channels)
    selection = resolve_region(region, (*image.image_shape, len(codes)))
    wanted = [codes[band] for band in selection.ranges[2]]
    dtype = image.dtype(codes)
    samplings = None if scale is None else resolve_scale(selection.ranges[0], selection.ranges[1], scale, None)
    shape = selection.shape if samplings is None else (*(axis.count for axis in samplings), len(wanted))
    return Explanation(
        image_id=image.pathinfo.image_id,
        channels=tuple(wanted),
        shape=shape,
        dtype=dtype.name,
        result_bytes=math.prod(shape) * dtype.itemsize,
        files=tuple(
            _explain_file(image, part, count, selection, samplings) for part, count in image.bands_by_part(wanted)
        ),
    )


def _explain_file(
    image: AlignableImageData,
    part: int,
    band_count: int,
    selection: Selection,
    samplings: tuple[Sampling, Sampling] | None,
) -> ChannelExplanation:
    opened = image.opened(part)
    reader = opened.reader
    level, rows, cols = 0, *selection.ranges[:2]
    grid = Grid.of_pixels(*map(bounding_range, (rows, cols))) if samplings is None else Grid.of_axes(*samplings)
    is_warped = samplings is not None or not image.is_plain(part)
    if is_warped and rows and cols:
        level, rows, cols = image.find_window(part, grid)
    tiles = reader.count_decoded(rows, cols) if rows and cols else 0
    return ChannelExplanation(
        path=image.pathinfo.channels[part].path,
        bands=band_count,
        entry_path=None if opened.entry_path is None else str(opened.entry_path),
        is_cached=opened.is_cached,
        reader=reader.format,
        level=level,
        tile_shape=reader.tile_shape,
        is_warped=is_warped,
        tiles=tiles,
        decoded_bytes=tiles * math.prod(reader.tile_shape) * reader.shape[2] * reader.dtype.itemsize,
    )
