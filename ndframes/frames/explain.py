"""Explanation: what a read would touch, said without reading."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..geometry.grid import Grid, resolve_scale
from ..geometry.regions import resolve_region
from ..geometry.tiling import bounding_range
from ..items.image import AlignableImageData
from ..text import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from ..formats.reader import Reader
    from ..geometry.grid import Sampling
    from ..geometry.regions import Region
    from ..items.item import LazyImage
    from ..items.sequence import ImageSequence

__all__ = ["ChannelExplanation", "Explanation", "explain_item"]
_MOST_SHOWN = 8
# What reads whole frames.
_FRAMES = ("video", "intra")


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
        tile_frames: how many frames of a video a block spans.
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
        for item in self.files[:_MOST_SHOWN]:
            state = "read directly" if item.entry_path is None else "cached" if item.is_cached else "not cached yet"
            times = (item.tile_frames,) if item.tile_frames > 1 else ()
            tile = " x ".join(str(extent) for extent in (*times, *item.tile_shape))
            lines.append(f"  {item.path}: {state}")
            if item.entry_path is not None:
                lines.append(f"    entry   {item.entry_path}")
            if item.is_warped:
                lines.append("    warped onto the grid of the result")
            if item.level:
                lines.append(f"    reads overview {item.level}, {2**item.level} times as coarse")
            noun = "frames" if item.reader in _FRAMES else "tiles"
            decoded = f"decodes {item.tiles:,} of its {tile} {item.reader} {noun}, {format_bytes(item.decoded_bytes)}"
            lines.append(f"    {decoded if item.tiles else f'copies  from mapped pixels ({item.reader})'}")
        if len(self.files) > _MOST_SHOWN:
            tiles, decoded_bytes = (
                sum(file.tiles for file in self.files),
                sum(file.decoded_bytes for file in self.files),
            )
            lines.append(
                f"  and so on: {len(self.files):,} files, {tiles:,} tiles, {format_bytes(decoded_bytes)} decoded"
            )
        return "\n".join(lines)


def explain_item(
    item: LazyImage,
    region: Region = None,
    channels: str | Sequence[str] | None = None,
    *,
    scale: float | tuple[float, float] | None = None,
) -> Explanation:
    """Say what reading a region of an image, a sequence or a video would touch."""
    codes = item.select(channels)
    selection = resolve_region(region, item.shape(channels))
    *times, rows, cols, bands = selection.ranges
    wanted = tuple(codes[band] for band in bands)
    samplings = None if scale is None else resolve_scale(rows, cols, scale, None)
    shape = selection.shape
    if samplings is not None:
        shape = (*(len(axis) for axis in times), *(axis.count for axis in samplings), len(wanted))
    dtype = item.dtype(codes)
    crop = _Crop(rows, cols, samplings)
    if isinstance(item, AlignableImageData):
        files = list(_explain_image(item, wanted, crop))
    elif item.is_video:
        files = [_explain_video(item, times[0], len(wanted), crop)]
    else:
        images = [cast("ImageSequence", item).image_at(time) for time in times[0]]
        files = [file for image in images for file in _explain_image(image, wanted, crop)]
    return Explanation(
        image_id=item.pathinfo.image_id,
        channels=wanted,
        shape=shape,
        dtype=dtype.name,
        result_bytes=math.prod(shape) * dtype.itemsize,
        files=tuple(files),
    )


class _Crop(NamedTuple):
    """What is wanted of each image, and how it is resampled."""

    rows: range
    cols: range
    samplings: tuple[Sampling, Sampling] | None


def _explain_image(image: AlignableImageData, wanted: Sequence[str], crop: _Crop) -> Iterator[ChannelExplanation]:
    had = [code for code in wanted if code in image.channels]
    for part, band_count in image.bands_by_part(had) if had else ():
        yield _explain_file(image, part, band_count, crop, lambda reader, rows, cols: reader.count_decoded(rows, cols))


def _explain_video(video: Any, times: range, band_count: int, crop: _Crop) -> ChannelExplanation:
    """The one file, of all the frames at once."""
    numbers = [video.frames[time] for time in times]
    reader = video.reader
    told = _explain_file(
        video.image_at(0), 0, band_count, crop, lambda _, rows, cols: reader.count_decoded_of(numbers, rows, cols)
    )
    return replace(
        told,
        tile_shape=reader.tile_shape,
        tile_frames=reader.tile_frames,
        decoded_bytes=told.tiles
        * reader.tile_frames
        * math.prod(reader.tile_shape)
        * reader.shape[2]
        * reader.dtype.itemsize,
    )


def _explain_file(
    image: AlignableImageData,
    part: int,
    band_count: int,
    crop: _Crop,
    count: Callable[[Reader, range, range], int],
) -> ChannelExplanation:
    opened = image.opened(part)
    reader = opened.reader
    level, rows, cols = 0, crop.rows, crop.cols
    is_warped = crop.samplings is not None or not image.is_plain(part)
    if is_warped and rows and cols:
        ranges = bounding_range(rows), bounding_range(cols)
        grid = Grid.of_pixels(*ranges) if crop.samplings is None else Grid.of_axes(*crop.samplings)
        level, rows, cols = image.find_window(part, grid)
    tiles = count(reader, rows, cols) if rows and cols else 0
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
