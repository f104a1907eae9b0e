"""RemoteImage: one image, sequence or video of a server, read by requests."""

from __future__ import annotations

import math
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import numpy as np

from ..errors import RemoteError, UnsupportedError
from ..frames.summary import ImageSummary
from ..geometry.affine import to_affine
from ..geometry.grid import resolve_scale, to_shape
from ..geometry.regions import boxes_to_slices, resolve_region, to_slice
from ..items.item import THUMBNAIL_PX, LazyImage
from ..pixels.options import DEFAULT_OPTIONS
from ..pixels.results import result_dtype
from .bodies import read_npy, read_zip
from .limits import resolve_axes, split_list
from .regions import AXES, fill_to_text, item_to_json

if TYPE_CHECKING:
    import http.client
    from collections.abc import Hashable, Sequence

    from .._typing import Array
    from ..entries.opened import OpenedChannel
    from ..geometry.regions import Region
    from ..items.explain import FileExplanation, SampledRegion
    from ..pixels.options import ReadOptions
    from .connection import RemoteServer

__all__ = ["RemoteImage", "load_items"]
_MEMORY_BYTES = 4096


class RemoteImage(LazyImage):
    """One image of a server.

    Args:
        server: that has it.
        name: of the image in addresses.
        image_id: of the image here.
        max_region_bytes: the largest result that is allowed, in bytes.
        trusted_seconds: for how long its description is trusted.
    """

    def __init__(
        self, server: RemoteServer, name: str, image_id: Hashable, *, max_region_bytes: int, trusted_seconds: float
    ) -> None:
        self.image_id = image_id
        self._server = server
        self._name = name
        self._max_region_bytes = max_region_bytes
        self._summaries: dict[str | None, ImageSummary] = {}
        # Its description is asked for later than now.
        self.trusted_until = time.monotonic() + trusted_seconds

    @property
    def memory_bytes(self) -> int:
        """The memory that it uses."""
        return _MEMORY_BYTES

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of all its channels."""
        return self.summarize(None).all_channels

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of image space."""
        *_, height, width, _ = self.summarize(None).shape
        return height, width

    @property
    def frame_ids(self) -> Sequence[object]:
        """The positions of its frames: the server does not send their ids."""
        shape = self.summarize(None).shape
        return range(shape[0] if len(shape) == len(AXES) else 0)

    def summarize(self, channels: str | Sequence[str] | None) -> ImageSummary:
        """What the server says of it.

        Raises:
            ChannelError: it has no such channel.
        """
        key = _join(channels)
        known = self._summaries.get(key)
        if known is None:
            query = "" if key is None else f"?channels={quote(key, safe='')}"
            known = _to_summary(self._server.get_json(f"/frames/{quote(self._name)}{query}"))
            self._summaries[key] = known
        return known

    def shape(self, channels: str | Sequence[str] | None = None) -> tuple[int, ...]:
        """The shape of a read of everything."""
        return self.summarize(channels).shape

    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """The dtype of a read."""
        return np.dtype(self.summarize(channels).dtype)

    def select(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` stands for, checked by the server."""
        return self.summarize(channels).channels

    def is_current(self) -> bool:
        """Whether its files on the server have the state that its description was made of."""
        if not self._summaries:
            return True
        known = next(iter(self._summaries.values()))
        return _to_summary(self._server.get_json(f"/frames/{quote(self._name)}")).state == known.state

    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Array:
        """Read a region; see :meth:`ndframes.Frames.load_region`."""
        item = self.encode(region, channels, options)
        (pixels,) = load_items(self._server, [item], channels, options, max_bytes=self._max_region_bytes)
        return pixels

    def load_thumbnail(self, max_px: int = THUMBNAIL_PX) -> Array:
        """A small copy of the default channels, of the first frame."""
        scale = max_px / max(self.image_shape)
        options = DEFAULT_OPTIONS._replace(scale=scale if scale < 1 else None)
        if len(self.shape()) < len(AXES):
            return self.load_region(options=options)
        first: Array = self.load_region((slice(0, 1),), options=options)[0]
        return first

    def count_result_bytes(
        self,
        region: Region,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> int:
        """The bytes of the result of a read; no pixel is read."""
        shape = self.shape(channels)
        plain = boxes_to_slices(region, len(shape), is_clipped=options.pad is None)
        listed, plain = split_list(plain)
        *times, rows, cols, bands = resolve_axes(plain, shape, options)
        height, width = len(rows), len(cols)
        if options.is_resampled:
            height, width = (axis.count for axis in resolve_scale(rows, cols, options.scale, options.shape))
        itemsize = result_dtype(self.dtype(channels), options).itemsize
        return listed * math.prod(map(len, times)) * height * width * len(bands) * itemsize

    def encode(self, region: Region, channels: str | Sequence[str] | None, options: ReadOptions) -> dict[str, Any]:
        """A read as an item of a request.

        Raises:
            RegionError: the region is not one.
        """
        items = region if isinstance(region, tuple) else () if region is None else (region,)
        encoded = [item_to_json(item) for item in items]
        # A tuple may begin with a list of frames; any other list is an error, as it is where the files are.
        has_list = isinstance(region, list) or any(isinstance(item, list) for item in items[1:])
        if has_list or ... in encoded or len(encoded) > len(AXES):
            encoded = self._resolve(region, self.shape(channels), options)
        return {"id": self._name, "region": encoded}

    def _resolve(self, region: Region, shape: tuple[int, ...], options: ReadOptions) -> list[Any]:
        """A region that has no form as JSON, such as a box, as slices; an error tells what is wrong with others."""
        plain = boxes_to_slices(region, len(shape), is_clipped=options.pad is None)
        if options.pad is not None:
            return [
                item_to_json(slice(axis.start, axis.stop, axis.step)) for axis in resolve_axes(plain, shape, options)
            ]
        selection = resolve_region(plain, shape)
        return [
            axis.start if is_dropped else item_to_json(to_slice(axis))
            for axis, is_dropped in zip(selection.ranges, selection.dropped, strict=True)
        ]

    def load_warped(
        self,
        transform: Any,
        shape: tuple[int, int],
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Array:
        """Read through any affine map; see :meth:`ndframes.Frames.load_warped`."""
        a, b, c, d, e, f = to_affine(transform, "transform")
        content = {
            "id": self._name,
            "transform": [[a, b, c], [d, e, f], [0, 0, 1]],
            "shape": list(to_shape(shape)),
            **_options_to_json(options),
        }
        if channels is not None:
            content["channels"] = _join(channels)

        def take(answer: http.client.HTTPResponse, media_type: str) -> Array:
            if media_type == "application/zip":
                (masked,) = read_zip(answer.read(), max_bytes=self._max_region_bytes)
                return masked
            return read_npy(answer, max_bytes=self._max_region_bytes)

        return self._server.ask("POST", "/warped", content, take)

    @property
    def seconds(self) -> Array | None:
        """The time of each frame of a video in seconds, float64; ``None`` for others."""
        if self.summarize(None).kind != "video":
            return None
        times = self._server.get_json(f"/frames/{quote(self._name)}/times")["times"]
        return np.array(times, np.float64)

    def opened(self, part: int) -> OpenedChannel:  # noqa: ARG002 - there is none here
        """Not available: its files are on the server."""
        self._refuse("its files are")

    def bands_by_part(self, codes: Sequence[str]) -> list[tuple[int, int]]:
        """All bands, as of one file."""
        return [(0, len(codes))]

    def explain(self, sampled: SampledRegion) -> list[FileExplanation]:  # noqa: ARG002
        """Not available: its files are on the server."""
        self._refuse("explain is")

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(f"{what} available only where the server at {self._server.address} runs")


def load_items(
    server: RemoteServer,
    items: Sequence[dict[str, Any]],
    channels: str | Sequence[str] | None,
    options: ReadOptions,
    *,
    max_bytes: int,
) -> list[Array]:
    """Read many regions by one request.

    Args:
        server: that has the images.
        items: of :meth:`RemoteImage.encode`.
        channels: of all regions.
        options: likewise.
        max_bytes: the most bytes of a result.

    Raises:
        NdframesError: what the server answers instead.
        RegionTooLargeError: the result has more bytes.
        RemoteError: the server cannot be reached, or its answer cannot be read.
    """
    content: dict[str, Any] = {"requests": list(items), **_options_to_json(options)}
    if channels is not None:
        content["channels"] = _join(channels)

    def take(answer: http.client.HTTPResponse, media_type: str) -> list[Array]:
        if media_type == "application/zip":
            return read_zip(answer.read(), max_bytes=max_bytes)
        if len(items) > 1:
            return list(read_npy(answer, max_bytes=max_bytes))
        # Into an array without the axis of the batch, so that it owns its memory.
        return [read_npy(answer, max_bytes=max_bytes, drops_first=True)]

    arrays = server.ask("POST", "/regions", content, take)
    if len(arrays) != len(items):
        raise RemoteError(f"the server at {server.address} sent {len(arrays)} results for {len(items)} requests")
    return arrays


def _options_to_json(options: ReadOptions) -> dict[str, Any]:
    """Those that differ from the defaults. ``outside`` is checked here."""
    given: dict[str, Any] = {}
    for name in ("antialias", "nodata", "pad"):
        if getattr(options, name) != getattr(DEFAULT_OPTIONS, name):
            given[name] = getattr(options, name)
    if options.fill is not DEFAULT_OPTIONS.fill:
        given["fill"] = fill_to_text(options.fill)
    if options.interpolation is not None:
        kernels = options.interpolation
        given["interpolation"] = kernels if isinstance(kernels, str) else dict(kernels)
    for name in ("scale", "shape"):
        value = getattr(options, name)
        if value is not None:
            given[name] = np.asarray(value).tolist()
    return given


def _join(channels: str | Sequence[str] | None) -> str | None:
    return channels if channels is None or isinstance(channels, str) else "|".join(channels)


def _to_summary(content: Any) -> ImageSummary:
    try:
        values: dict[str, Any] = {item.name: content[item.name] for item in fields(ImageSummary)}
    except (KeyError, TypeError) as error:
        raise RemoteError(f"the server does not describe an image as this version does: {error!r}") from error
    for name, value in values.items():
        values[name] = tuple(value) if isinstance(value, list) else value
    return ImageSummary(**values)
