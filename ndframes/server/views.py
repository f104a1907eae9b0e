"""Views: what a viewer needs beside pixels: statistics of channels, thumbnails, and the times of frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RegionError, naming_image
from ..formats.export import encode_jpeg
from ..geometry.regions import resolve_region
from ..pixels.packed import pack
from ..pixels.pictures import to_picture
from ..spec.pathinfo import SequenceInfo
from .stored_files import find_stored_file

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from .._typing import Array
    from ..frames.frames import Frames
    from ..items.item import LazyImage
    from ..pixels.values import NodataMode
    from ..spec.pathinfo import ChannelInfo

__all__ = ["Views"]
_SAMPLE_PX = 512
_THUMBNAIL_PX = 256
_THUMBNAIL_QUALITY = 85
_BINS = 128
_PERCENTILES = (0.1, 1, 2, 98, 99, 99.9)


def _may_lack_data(image: LazyImage) -> bool:
    """Whether a file of an image marks pixels without data by a number."""
    opened = (image.opened(part).reader for part, _ in image.bands_by_part(image.select(None)))
    return any(_marks(channel) for channel in _channels_of(image)) or any(each.nodata is not None for each in opened)


def _is_stored(image: LazyImage, codes: tuple[str, ...]) -> bool:
    """Whether all pixels of an image are those of one file that is stored as tiles."""
    pick = image.find_stored(codes)
    return pick is not None and find_stored_file(image.opened(pick.part)) is not None


def _marks(channel: ChannelInfo) -> bool:
    return channel.nodata is not None or dict(channel.quantization or ()).get("nodata") is not None


def _channels_of(image: LazyImage) -> Iterator[ChannelInfo]:
    info = image.pathinfo
    for each in info.images if isinstance(info, SequenceInfo) else (info,):
        yield from each.channels


class Views:
    """What a viewer shows of the images of a service.

    Args:
        frames: the images.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def describe_values(self, image_id: Hashable, region: Any, channels: str | None = None) -> dict[str, Any]:
        """The statistics of channels, of a small copy of an image or of one frame.

        Args:
            image_id: which one.
            region: which of the channels, and the frame of a video or a sequence, by their axes ``c`` and ``t``: a slice, a number.
            channels: their codes; ``None``: the default ones.

        Returns:
            A list ``channels`` of objects with ``code``, ``dtype``, ``minimum``, ``maximum``, ``percentiles``, ``histogram``, the counts
            of equal bins from the minimum to the maximum, and ``missing``, the number of values that are no finite numbers.
            ``may_lack_data`` says whether a file marks missing values by a number, and ``is_stored`` whether all pixels are those of
            one file that is stored as tiles.

        Raises:
            RegionError: the region does not fit the image.
        """
        with naming_image(image_id):
            image = self._frames.image(image_id)
            codes = image.select(channels)
            selected = codes[region.get("c", slice(None))]
            pixels = self._load_small(image, region.get("t", 0), selected, _SAMPLE_PX)
            dtype = image.dtype(selected).name
        described = [
            {"code": code, "dtype": dtype, **_describe(pixels[:, :, place])} for place, code in enumerate(selected)
        ]
        return {
            "channels": described,
            "sample_shape": list(pixels.shape[:2]),
            "may_lack_data": _may_lack_data(image),
            "is_stored": _is_stored(image, codes),
        }

    def draw_thumbnail(self, image_id: Hashable) -> bytes:
        """A small picture of the default channels, as JPEG. Of a video or a sequence, it shows the middle frame."""
        with naming_image(image_id):
            image = self._frames.image(image_id)
            shape = image.shape(None)
            pixels = self._load_small(image, shape[0] // 2, image.select(None)[:3], _THUMBNAIL_PX)
        if image.dtype(None) == np.uint8:  # as it is, where nothing is missing
            pixels = np.nan_to_num(pixels).astype(np.uint8)
        return encode_jpeg(pack(to_picture(pixels), "rgb24"), _THUMBNAIL_QUALITY)

    def list_times(self, image_id: Hashable, frames: slice) -> dict[str, Any]:
        """The times of some frames of a video in seconds; ``times`` is null for a sequence.

        Raises:
            RegionError: the image has no frames.
        """
        with naming_image(image_id):
            image = self._frames.image(image_id)
            shape = image.shape(None)
            if len(shape) != 4:
                raise RegionError("it is an image, which has no frames")
            (listed, *_) = resolve_region((frames,), shape).ranges
            seconds = getattr(image, "seconds", None)
        times = None if seconds is None else [float(seconds[number]) for number in listed]
        return {"times": times, "start": listed.start, "count": shape[0]}

    def _load_small(self, image: LazyImage, time: int, codes: tuple[str, ...], most_px: int) -> Array:
        """``(h, w, c)``, at most so many pixels high and wide; missing values are nan where a number marks them."""
        height, width = image.image_shape
        factor = 2.0 ** -max(0, math.ceil(math.log2(max(height, width) / most_px)))
        region = (time,) if len(image.shape(None)) == 4 else None
        # Images of a sequence may lack channels that are not read by default.
        is_other = not set(codes) <= set(image.select(None))
        nodata: NodataMode = "nan" if is_other or _may_lack_data(image) else "keep"
        return self._frames.load_region(
            image.pathinfo.image_id, region, codes, scale=factor if factor < 1 else None, nodata=nodata
        )


def _describe(values: Array) -> dict[str, Any]:
    """The statistics of one channel; nulls if it has no finite value."""
    real = np.abs(values) if values.dtype.kind == "c" else values
    found = real[np.isfinite(real)].astype(np.float64)
    if not found.size:
        nothing = {str(each): 0.0 for each in _PERCENTILES}
        return {"minimum": 0.0, "maximum": 1.0, "percentiles": nothing, "histogram": [0] * _BINS, "missing": real.size}
    low, high = float(found.min()), float(found.max())
    counts, _ = np.histogram(found, _BINS, (low, high) if high > low else (low, low + 1))
    return {
        "minimum": low,
        "maximum": high,
        "percentiles": {
            str(each): value
            for each, value in zip(_PERCENTILES, np.percentile(found, _PERCENTILES).tolist(), strict=True)
        },
        "histogram": counts.tolist(),
        "missing": int(real.size - found.size),
    }
