"""Backends: the form of a channel's cache entry and its options, as a frozen value that is checked at construction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import BackendError, shorten

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .pathinfo import ChannelInfo


__all__ = ["SUFFIXES", "Backend", "BackendPicker", "BackendSpec", "TileCodec", "backend_for", "coerce_backend"]
BackendType = Literal["cog", "npy", "intra"]
Compression = Literal["NONE", "ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP"]
Predictor = Literal["NO", "STANDARD", "FLOATING_POINT"]
_COMPRESSIONS = ("AUTO", "NONE", "ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP")
_PREDICTORS = {
    "AUTO": "AUTO",
    "NO": "NO",
    "NONE": "NO",
    "FALSE": "NO",
    "1": "NO",
    "YES": "STANDARD",
    "TRUE": "STANDARD",
    "STANDARD": "STANDARD",
    "2": "STANDARD",
    "FLOATING_POINT": "FLOATING_POINT",
    "3": "FLOATING_POINT",
}
# DEFLATE is encoded by libdeflate, which has levels up to 12.
_LEVELS = {"ZSTD": (1, 22), "DEFLATE": (1, 12)}
_DEFAULT_LEVELS = {"ZSTD": 3, "DEFLATE": 6}
# Levels below 1 only replace repetitions and store the rest raw: flat areas shrink, and noise decodes at the speed of a copy.
_AUTO_LEVEL = -1
_DEFAULT_QUALITY = {"JPEG": 90, "WEBP": 90}
_PREDICTABLE = ("ZSTD", "DEFLATE", "LZW")
# No floats: LERC stores nan in a mask that all bands share, and that not every reader applies.
_LERC_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32")
_TYPES = ("cog", "npy", "intra")
_OPTIONS = {
    "cog": ("compress", "blocksize", "blockframes", "predictor", "quality", "level", "overviews"),
    "npy": (),
    "intra": ("quality",),
}
#: The suffix of an entry's file name, by backend type.
SUFFIXES = {"cog": ".tif", "npy": ".npy", "intra": ".avi"}
_MAX_CRF = 51
# A compromise: small tiles read few pixels beyond a crop of some frames, large tiles are few.
_VIDEO_TILE_EXTENT = 64
_VIDEO_TILE_FRAMES = 8
_MAX_BLOCK_BYTES = 2**29
_TILE_EXTENT = 128
_UNCOMPRESSED_TILE_EXTENT = 256  # without decoding, fewer and larger copies are faster
_MIN_TILE_EXTENT = 32
_MAX_TILE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class TileCodec:
    """The codec and the options with which the tiles of one entry are written."""

    compress: Compression
    predictor: Predictor
    quality: int
    level: int

    @property
    def is_lossless(self) -> bool:
        """Whether decoded pixels equal the encoded ones."""
        return not (self.compress == "JPEG" or (self.compress == "WEBP" and self.quality < 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The form of a cache entry and its options. Options that depend on the dtype are resolved when an entry is written.

    Attributes:
        type: ``"cog"``, a cloud optimized GeoTIFF, whose tiles span space and time for a video; ``"npy"``, numpy's format;
            or ``"intra"``, a video in which every frame is a key frame.
        compress: the codec of a COG's tiles. ``"AUTO"`` is the lossless codec that reads fastest (see the performance page).
        blocksize: the edge of a tile in pixels, a multiple of 16; ``None``: 128 (256 without compression), less for
            pixels of many bytes; 64 for a video.
        blockframes: the number of frames in a tile of a video; ``None``: 8, less for huge frames.
        predictor: differencing before a lossless codec.
        quality: 1 to 100 for ``JPEG`` and ``WEBP`` (a WEBP of 100 is lossless). For ``"intra"``, the constant rate factor of
            H.264 from 1 (best) to 51; ``None``: lossless.
        level: the effort of ``ZSTD`` (1 to 22) and ``DEFLATE`` (1 to 12).
        overviews: whether a COG has halved copies down to one tile.

    Raises:
        BackendError: the type has no such option, or a value is not allowed; the message lists what is allowed.

    Example:
        >>> Backend(type="cog", compress="zstd", level=9).compress
        'ZSTD'
    """

    type: BackendType
    compress: str = "AUTO"
    blocksize: int | None = None
    blockframes: int | None = None
    predictor: str = "AUTO"
    quality: int | None = None
    level: int | None = None
    overviews: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.type, str) or self.type not in _TYPES:
            raise BackendError(f"backend type {shorten(self.type)}; allowed: {', '.join(map(repr, _TYPES))}")
        _set(self, "compress", _to_compress(self.compress))
        _set(self, "blocksize", _to_blocksize(self.blocksize))
        _set(self, "blockframes", _to_integer("blockframes", self.blockframes, 1, 256))
        _set(self, "predictor", _to_predictor(self.predictor))
        # After compress and type, on which the allowed values depend.
        _set(self, "quality", _to_quality(self.quality, self.compress, self.type))
        _set(self, "level", _to_level(self.level, self.compress))
        if not isinstance(self.overviews, bool):
            raise BackendError(f"backend option overviews={shorten(self.overviews)}; allowed: True, False")
        changed = [item.name for item in fields(self)[1:] if getattr(self, item.name) != item.default]
        _check_options(self.type, changed)

    @property
    def suffix(self) -> str:
        """The suffix of the file name: ``.tif``, ``.npy`` or ``.avi``."""
        return SUFFIXES[self.type]

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data, for the key of an entry."""
        return {item.name: getattr(self, item.name) for item in fields(self)}  # asdict copies each value

    def codec_for(self, dtype: np.dtype[Any], band_count: int) -> TileCodec:
        """The codec for pixels of this dtype: the named one if it supports them, otherwise that of ``"AUTO"``.

        Example:
            >>> jpeg = coerce_backend({"type": "cog", "config": {"compress": "JPEG"}})
            >>> jpeg.codec_for(np.dtype("uint8"), 3).compress, jpeg.codec_for(np.dtype("uint16"), 3).compress
            ('JPEG', 'ZSTD')
        """
        is_named = self.compress != "AUTO" and _supports(self.compress, dtype, band_count)
        compress = self.compress if is_named else "ZSTD"
        default_level = _DEFAULT_LEVELS.get(compress, 0) if is_named else _AUTO_LEVEL
        return TileCodec(
            compress=compress,  # type: ignore[arg-type]
            predictor=_predictor_for(self.predictor, compress, dtype),
            quality=(self.quality or _DEFAULT_QUALITY[compress]) if compress in _DEFAULT_QUALITY else 0,
            level=default_level if self.level is None or not is_named else self.level,
        )

    def video_codec_for(self, dtype: np.dtype[Any], band_count: int) -> TileCodec:
        """As :meth:`codec_for`, for tiles in space and time, which image codecs do not support."""
        is_supported = self.compress not in ("JPEG", "WEBP", "LERC")
        return (self if is_supported else Backend(type="cog")).codec_for(dtype, band_count)

    def is_lossless_for(self, dtype: np.dtype[Any], band_count: int) -> bool:
        """Whether an entry stores pixels of this dtype without loss."""
        if self.type == "intra":
            return self.quality is None
        return self.type == "npy" or self.codec_for(dtype, band_count).is_lossless

    def tile_extent_for(self, dtype: np.dtype[Any], band_count: int) -> int:
        """The edge of a tile in pixels.

        By default 128, or 256 without compression, halved while a raw tile has more than 1 MiB, down to 32.
        """
        if self.blocksize is not None:
            return self.blocksize
        extent = _UNCOMPRESSED_TILE_EXTENT if self.compress == "NONE" else _TILE_EXTENT
        while extent > _MIN_TILE_EXTENT and extent * extent * band_count * dtype.itemsize > _MAX_TILE_BYTES:
            extent //= 2
        return extent

    def block_shape_for(self, frame_shape: tuple[int, int, int], dtype: np.dtype[Any]) -> tuple[int, int, int]:
        """The shape of a tile of a video, ``(frames, height, width)``.

        The writer holds all frames of a tile in memory, so their number is halved while they take more than 512 MiB.

        Args:
            frame_shape: ``(height, width, channels)`` of a frame.
            dtype: the dtype of its pixels.

        Example:
            >>> coerce_backend("cog").block_shape_for((1080, 1920, 3), np.dtype("uint8"))
            (8, 64, 64)
        """
        extent = self.blocksize or _VIDEO_TILE_EXTENT
        count = self.blockframes or _VIDEO_TILE_FRAMES
        while count > 1 and count * math.prod(frame_shape) * dtype.itemsize > _MAX_BLOCK_BYTES:
            count //= 2
        return count, extent, extent


#: A backend as users write it; ``None`` reads the source directly.
BackendSpec = str | Mapping[str, Any] | Backend | None
#: Chooses the backend of each channel.
BackendPicker = Callable[["Hashable", "ChannelInfo"], BackendSpec]


def backend_for(spec: BackendSpec, *, is_video: bool, is_distant: bool = False) -> Backend | None:
    """The backend of one file, from a value that may apply to images and videos.

    ``"auto"`` reads a video directly, by an index of its frames; one that is not on this machine gets ``"intra"``. ``"intra"`` exists for videos only; images get ``"auto"``
    instead.

    Raises:
        BackendError: as :func:`coerce_backend`.

    Example:
        >>> backend_for("auto", is_video=True), backend_for("intra", is_video=False).type
        (None, 'cog')
    """
    # Decided by the spec, because the backend no longer says that it came from "auto".
    is_auto = spec == "auto" or (isinstance(spec, Mapping) and spec.get("type") == "auto")
    backend = coerce_backend(spec)
    if is_video:
        return (coerce_backend("intra") if is_distant else None) if is_auto else backend
    return coerce_backend("auto") if backend is not None and backend.type == "intra" else backend


def coerce_backend(spec: BackendSpec) -> Backend | None:
    """A :class:`Backend` from a value that a user wrote. ``None`` and a :class:`Backend` are returned unchanged.

    Raises:
        BackendError: an unknown type, option or value; the message names the allowed ones.

    Example:
        >>> coerce_backend("auto").compress
        'AUTO'
        >>> coerce_backend({"type": "cog", "config": {"compress": "GZIP"}})
        Traceback (most recent call last):
        ndframes.errors.BackendError: backend option compress='GZIP'; allowed: AUTO, NONE, ZSTD, DEFLATE, LZW, LERC, JPEG, WEBP
    """
    if spec is None or isinstance(spec, Backend):
        return spec
    if isinstance(spec, str):
        return _from_parts(spec, {})
    if not isinstance(spec, Mapping):
        raise BackendError(
            f"backend {shorten(spec)}; allowed: None, 'auto', 'cog', 'npy', 'intra', a dict, a Backend, or a callable that returns one"
        )
    unknown = [key for key in spec if key not in ("type", "config")]
    if unknown or "type" not in spec:
        raise BackendError(f"backend {shorten(dict(spec))}; allowed keys: 'type' (required) and 'config'")
    config = spec.get("config")
    if not isinstance(config, (Mapping, type(None))):
        raise BackendError(f"backend config must be a dict or None, got {shorten(config)}")
    return _from_parts(spec["type"], config or {})


def _from_parts(type_name: object, config: Mapping[str, Any]) -> Backend | None:
    if type_name is None and not config:
        return None
    if not isinstance(type_name, str) or type_name not in ("auto", *_TYPES):
        also = "None (with no config), " if type_name is None else "None, "
        raise BackendError(
            f"backend type {shorten(type_name)}; allowed: {also}{', '.join(map(repr, ('auto', *_TYPES)))}"
        )
    kind: Any = "cog" if type_name == "auto" else type_name
    _check_options(kind, [key if isinstance(key, str) else shorten(key) for key in config], type_name)
    backend = Backend(type=kind, **config)
    # Asked for RGB of 8 bits, which every lossy codec supports: other pixels would be written lossless anyway.
    if type_name == "auto" and not backend.is_lossless_for(np.dtype(np.uint8), 3):
        raise BackendError(f"backend 'auto' is lossless, but compress={backend.compress!r} is not; use the type 'cog'")
    return backend


def _check_options(kind: str, names: Sequence[str], type_name: str | None = None) -> None:
    unknown = sorted(set(names) - set(_OPTIONS[kind]))
    if unknown:
        allowed = ", ".join(_OPTIONS[kind]) or "none"
        raise BackendError(
            f"backend {(type_name or kind)!r} has no option {', '.join(name if len(name) < 60 else shorten(name) for name in unknown)}; allowed: {allowed}"
        )


def _set(value: object, name: str, item: object) -> None:
    """Set a field of a frozen value, in its ``__post_init__``."""
    object.__setattr__(value, name, item)


def _to_compress(value: object) -> str:
    name = value.upper() if isinstance(value, str) else "NONE" if value is None else ""
    if name not in _COMPRESSIONS:
        raise BackendError(f"backend option compress={shorten(value)}; allowed: {', '.join(_COMPRESSIONS)}")
    return name


def _to_predictor(value: object) -> str:
    name = value if isinstance(value, str) else "AUTO" if value is None else shorten(value)
    key = name.upper()
    if key not in _PREDICTORS:
        raise BackendError(
            f"backend option predictor={shorten(value)}; allowed: AUTO, NO, YES, STANDARD, FLOATING_POINT, 1, 2, 3"
        )
    return _PREDICTORS[key]


def _to_blocksize(value: object) -> int | None:
    extent = _to_integer("blocksize", value, 16, 4096)
    if extent is not None and extent % 16:
        raise BackendError(f"backend option blocksize={shorten(value)}; allowed: multiples of 16 from 16 to 4096")
    return extent


def _to_quality(value: object, compress: str, kind: str) -> int | None:
    if kind == "intra":
        return _to_integer("quality", value, 1, _MAX_CRF)
    if value is not None and compress not in _DEFAULT_QUALITY:
        raise BackendError(f"backend option quality is for {' and '.join(_DEFAULT_QUALITY)}, not for {compress=}")
    return _to_integer("quality", value, 1, 100)


def _to_level(value: object, compress: str) -> int | None:
    if value is not None and compress not in _LEVELS:
        raise BackendError(f"backend option level is for {' and '.join(_LEVELS)}, not for {compress=}")
    return None if value is None else _to_integer("level", value, *_LEVELS[compress])


def _to_integer(name: str, value: object, lowest: int, highest: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not lowest <= value <= highest:
        raise BackendError(f"backend option {name}={shorten(value)}; allowed: whole numbers from {lowest} to {highest}")
    return int(value)


def _supports(compress: str, dtype: np.dtype[Any], band_count: int) -> bool:
    if compress == "JPEG":
        return dtype == np.uint8 and band_count in (1, 3)
    if compress == "WEBP":
        return dtype == np.uint8 and band_count in (3, 4)
    if compress == "LERC":
        return dtype.name in _LERC_DTYPES
    return True


def _predictor_for(predictor: str, compress: str, dtype: np.dtype[Any]) -> Predictor:
    """The predictor for a codec and dtype: none by default (see the performance page), nor where it does not apply."""
    if predictor in ("AUTO", "NO") or compress not in _PREDICTABLE or dtype.kind in "bc":
        return "NO"
    return "FLOATING_POINT" if dtype.kind == "f" else "STANDARD"
