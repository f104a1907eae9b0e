"""IIIF: images by the Image API 3.0, level 2, for viewers such as OpenSeadragon and Mirador.

IIIF knows pictures of 8 bits. Pixels of uint8 are sent as they are. Others are stretched between two limits, which are those of the
whole image, so that adjacent tiles fit together.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .._version import __version__
from ..errors import UnsupportedError, naming_image
from ..formats.export import encode_jpeg, encode_png, encode_tiff
from ..pixels.packed import pack, to_bytes
from ..pixels.pictures import find_stretch_limits
from .bodies import PNG_LEVEL
from .conditional import is_known
from .iiif_request import IiifLimits, IiifPicture
from .limits import Cost
from .splices import find_splice
from .work import JOINED, Body, Work

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .._typing import Array
    from ..frames.frames import Frames
    from ..items.item import LazyImage
    from .splices import Splice

__all__ = ["IIIF_TYPES", "Iiif"]
IIIF_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "tif": "image/tiff",
    "ld": 'application/ld+json;profile="http://iiif.io/api/image/3/context.json"',
}
_CONTEXT = "http://iiif.io/api/image/3/context.json"
# What JPEG and WebP can hold.
_MOST_SIDE = 16_383
# Of a tile that is offered, at least.
_TILE_PX = 512
_THUMBNAIL_PX = 256
_KEPT_LIMITS = 1000
_QUALITY = 85
_STRIP_PX = 2**18
_TAG_BYTES = 12
_FEATURES = ("mirroring", "sizeUpscaling", "canonicalLinkHeader", "profileLinkHeader", "regionSquare")


class Iiif:
    """The images of some frames as pictures.

    Args:
        frames: the images.
        most_pixels: of a picture.
        splices: whether pictures are joined from stored JPEG tiles where these hold their pixels.

    Attributes:
        limits: of pictures.
        profile_link: the value of the header that names the level.
    """

    profile_link = '<http://iiif.io/api/image/3/level2.json>;rel="profile"'

    def __init__(self, frames: Frames, most_pixels: int, *, splices: bool = True) -> None:
        self._frames = frames
        self._splices = splices
        self.limits = IiifLimits(_MOST_SIDE, _MOST_SIDE, most_pixels)
        # Each with the image that it belongs to, which is another one when its file has changed.
        self._stretches: OrderedDict[Hashable, tuple[object, tuple[float, float]]] = OrderedDict()
        self._lock = threading.Lock()

    def shape(self, image_id: Hashable) -> tuple[int, int]:
        """The height and width of an image.

        Raises:
            UnsupportedError: it is a video or a sequence.
        """
        with naming_image(image_id):
            shape = self._frames.image(image_id).shape(None)
            if len(shape) != 3:
                raise UnsupportedError("it has a time axis, which IIIF does not know; ask for its region, with t=")
        return int(shape[0]), int(shape[1])

    def describe(self, image_id: Hashable, address: str) -> dict[str, Any]:
        """The description of an image, ``info.json``."""
        height, width = self.shape(image_id)
        with naming_image(image_id):
            tile_px = _find_tile_px(self._frames.image(image_id))
        factors = [1]
        while max(height, width) > tile_px * factors[-1]:
            factors.append(2 * factors[-1])
        sizes = [{"width": -(-width // each), "height": -(-height // each)} for each in reversed(factors)]
        return {
            "@context": _CONTEXT,
            "id": address,
            "type": "ImageService3",
            "protocol": "http://iiif.io/api/image",
            "profile": "level2",
            "width": width,
            "height": height,
            "maxWidth": self.limits.width,
            "maxHeight": self.limits.height,
            "maxArea": self.limits.area,
            "sizes": sizes,
            "tiles": [{"width": tile_px, "height": tile_px, "scaleFactors": factors}],
            "preferredFormats": ["jpg"],
            "extraFormats": ["webp", "tif"],
            "extraQualities": ["color", "gray", "bitonal"],
            "extraFeatures": list(_FEATURES),
        }

    def plan(self, image_id: Hashable, picture: IiifPicture, known_tags: str = "") -> Work:
        """How a picture is made, and what it costs.

        Args:
            image_id: the image.
            picture: what is asked for.
            known_tags: those of the pictures that the client has: a header ``If-None-Match``.
        """
        image = self._frames.image(image_id)
        kind = IIIF_TYPES[picture.format]
        tag = _find_tag(image, picture)
        if tag is not None and is_known(known_tags, tag):
            return Work(Cost(0, 0), lambda: Body(b"", kind, tag=tag, is_known=True), 0)
        pixels = picture.shape[0] * picture.shape[1]
        dtype = image.dtype(None)
        cost = Cost(pixels, pixels * image.shape(None)[-1] * dtype.itemsize)
        splice = self._find_splice(image_id, picture)
        if splice is not None:
            return Work(cost, partial(self._join, image_id, picture, splice, tag), cost.bytes // JOINED)
        # The other formats take long to encode, and the limits of other dtypes may have to be found.
        is_quick = picture.format == "jpg" and dtype == np.uint8
        decoded_bytes = cost.bytes * _count_read(image, picture) if is_quick else None
        return Work(cost, lambda: Body(self.render(image_id, picture), kind, tag=tag), decoded_bytes)

    def _join(self, image_id: Hashable, picture: IiifPicture, splice: Splice, tag: str | None) -> Body:
        kind = IIIF_TYPES[picture.format]
        joined = splice.load()
        # Another picture if the tiles cannot be joined after all, so it has no tag then.
        return Body(joined, kind, tag=tag) if joined else Body(self.render(image_id, picture), kind)

    def _find_splice(self, image_id: Hashable, picture: IiifPicture) -> Splice | None:
        """The stored tiles of a picture; ``None`` if it is made in another way."""
        is_stored = picture.format == "jpg" and picture.quality in ("default", "color")
        if not self._splices or not is_stored or picture.is_mirrored or picture.degrees:
            return None
        return find_splice(self._frames, image_id, picture.region, picture.shape)

    def render(self, image_id: Hashable, picture: IiifPicture) -> bytes:
        """A picture, encoded."""
        extent = tuple(each.stop - each.start for each in picture.region)
        shape = None if extent == picture.shape else picture.shape
        pixels = self._frames.load_region(image_id, picture.region, shape=shape)
        shown = self._show(image_id, pixels, picture)
        shown = shown[:, ::-1] if picture.is_mirrored else shown
        return _encode(np.rot90(shown, -(picture.degrees // 90)), picture)

    def _show(self, image_id: Hashable, pixels: Array, picture: IiifPicture) -> Array:
        """Pixels as they are shown, of uint8: some rows at a time, because numbers on the way have up to eight times their bytes."""
        count = max(1, _STRIP_PX // max(1, pixels.shape[1]))
        if pixels.shape[0] <= count or (pixels.dtype == np.uint8 and picture.quality in ("default", "color")):
            return _apply_quality(self._to_bytes(image_id, pixels), picture)
        shown = None
        for start in range(0, pixels.shape[0], count):
            strip = _apply_quality(self._to_bytes(image_id, pixels[start : start + count]), picture)
            if shown is None:
                shown = np.empty((pixels.shape[0], *strip.shape[1:]), np.uint8)
            shown[start : start + count] = strip
        assert shown is not None  # noqa: S101
        return shown

    def _to_bytes(self, image_id: Hashable, pixels: Array) -> Array:
        """``(h, w)``, or ``(h, w, 3 or 4)``, of uint8: gray, colours, or colours and alpha."""
        channels = pixels.shape[2]
        pixels = pixels[:, :, 0] if channels <= 2 else pixels[:, :, : 4 if channels == 4 else 3]
        if pixels.dtype == np.uint8:
            return pixels
        if pixels.dtype == bool:
            return to_bytes(pixels)
        values = _to_real(pixels)
        low, high = self._limits_of(image_id)
        scaled = (values - low) * (255 / (high - low) if high > low else 1.0)
        shown: Array = np.rint(np.nan_to_num(scaled).clip(0, 255)).astype(np.uint8)
        if channels == 4:
            most = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1.0
            shown[:, :, 3] = np.rint((_to_real(pixels[:, :, 3]) * (255 / most)).clip(0, 255))
        return shown

    def _limits_of(self, image_id: Hashable) -> tuple[float, float]:
        """What is shown as black and as white: percentiles of the whole image, made small."""
        image = self._frames.image(image_id)
        with self._lock:
            known, found = self._stretches.get(image_id, (None, (0.0, 1.0)))
            if known is image:
                self._stretches.move_to_end(image_id)
                return found
        height, width = self.shape(image_id)
        factor = min(1.0, _THUMBNAIL_PX / max(height, width))
        small = self._frames.load_region(
            image_id, shape=(max(1, round(height * factor)), max(1, round(width * factor)))
        )
        found = find_stretch_limits(_to_real(small[:, :, :3]), percentiles=(1, 99))
        with self._lock:
            self._stretches[image_id] = image, found
            while len(self._stretches) > _KEPT_LIMITS:
                self._stretches.popitem(last=False)
        return found


def _find_tag(image: LazyImage, picture: IiifPicture) -> str | None:
    """The ``ETag`` of a picture: a digest of the files' states and of the request; ``None`` if a change of a file may not show in it.

    It is found before a pixel is read. If a file changes in between, the tag of a new picture is never asked for again.
    """
    opened = [image.opened(part) for part, _ in image.bands_by_part(image.select(None))]
    if not all(each.is_settled and not each.is_lost and each.stamp is not None for each in opened):
        return None
    # Without the number of the file system, which changes with every mount.
    files = [(each.stamp and each.stamp[1:], each.entry and each.entry.state) for each in opened]
    text = repr((__version__, image.pathinfo, files, picture.canonical))
    return f'"{hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_TAG_BYTES).hexdigest()}"'


def _find_tile_px(image: LazyImage) -> int:
    """The edge of the tiles that are offered: whole stored tiles, so that tiles of JPEG can be joined."""
    entry = image.opened(0).entry
    if entry is None or entry.tiling is None:
        return _TILE_PX
    stored_px = entry.tiling.levels[0].tile_shape[0]
    return -(-_TILE_PX // stored_px) * stored_px


def _count_read(image: LazyImage, picture: IiifPicture) -> int:
    """About how many pixels of an image are read for each one of a picture."""
    levels: int = min(image.opened(part).reader.own_levels for part in range(len(image.pathinfo.channels)))
    down, across = (
        max(1, (axis.stop - axis.start) // extent) for axis, extent in zip(picture.region, picture.shape, strict=True)
    )
    # Of a level that loses nothing along the axis that is shrunk less.
    spared = min(down, across, 2**levels)
    return int(down * across // spared**2)


def _to_real(pixels: Array) -> Array:
    real: Array = np.abs(pixels) if pixels.dtype.kind == "c" else pixels.astype(np.float64)
    return real


def _apply_quality(shown: Array, picture: IiifPicture) -> Array:
    if picture.quality in ("default", "color"):
        return shown
    gray = pack(shown, "gray")
    return gray if picture.quality == "gray" else np.where(gray >= 128, np.uint8(255), np.uint8(0))


def _encode(shown: Array, picture: IiifPicture) -> bytes:
    shown = np.ascontiguousarray(shown)
    if picture.format == "png":
        return encode_png(shown, level=PNG_LEVEL)
    if picture.format == "tif":
        return encode_tiff(shown if shown.ndim == 3 else shown[:, :, np.newaxis])
    if picture.format == "jpg":  # without alpha
        return encode_jpeg(shown if shown.ndim == 2 else pack(shown, "rgb24"), _QUALITY, has_half_colours=True)
    from ..formats.extensions import load_extensions

    colours = pack(shown, "rgb24") if shown.ndim == 2 else shown
    return bytes(load_extensions("_webp").webp_encode(colours, level=_QUALITY, lossless=False))
