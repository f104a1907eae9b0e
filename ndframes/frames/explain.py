"""Explanation: what a read would do, found out without reading pixels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..geometry.grid import resolve_scale
from ..geometry.regions import resolve_region
from ..items.explain import SampledRegion
from ..text import format_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from ..geometry.regions import Region
    from ..items.explain import FileExplanation
    from ..items.item import LazyImage

__all__ = ["Explanation", "explain_item"]
# A sequence has a file for each of its images.
_MOST_SHOWN = 8
_WHOLE_FRAME_READERS = ("video", "intra")


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a read would do.

    Attributes:
        image_id: the image.
        channels: the codes of the channels that are read.
        shape: the shape of the result.
        dtype: the name of the dtype of the result.
        result_bytes: the bytes of the result.
        files: what it would do with each file.
    """

    image_id: Hashable
    channels: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    result_bytes: int
    files: tuple[FileExplanation, ...]

    def to_dict(self) -> dict[str, Any]:
        """The explanation as plain data."""
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
            noun = "frames" if item.reader in _WHOLE_FRAME_READERS else "tiles"
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
    """Explain what reading a region of an image, a sequence or a video would do; no pixel is read."""
    codes = item.select(channels)
    selection = resolve_region(region, item.shape(channels))
    *times, rows, cols, bands = selection.ranges
    selected = tuple(codes[band] for band in bands)
    samplings = None if scale is None else resolve_scale(rows, cols, scale, None)
    shape = selection.shape
    if samplings is not None:
        # Only y and x are scaled.
        shape = (*(len(axis) for axis in times), *(axis.count for axis in samplings), len(selected))
    dtype = item.dtype(codes)
    files = item.explain(SampledRegion(times[0] if times else range(0), rows, cols, selected, samplings))
    return Explanation(
        image_id=item.pathinfo.image_id,
        channels=selected,
        shape=shape,
        dtype=dtype.name,
        result_bytes=math.prod(shape) * dtype.itemsize,
        files=tuple(files),
    )
