"""Backends: which form a channel takes in the cache, as a frozen value checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
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
_LEVELS = {"ZSTD": (1, 22), "DEFLATE": (1, 12)}
_DEFAULT_LEVELS = {"ZSTD": 3, "DEFLATE": 6}
# Below its first level, zstd finds repetitions and leaves the rest as it is: flat areas shrink, noise costs next to nothing.
_AUTO_LEVEL = -1
_DEFAULT_QUALITY = {"JPEG": 90, "WEBP": 90}
_PREDICTABLE = ("ZSTD", "DEFLATE", "LZW")
# No floats: LERC marks nan in a mask that is one for all bands, and that not every reader applies.
_LERC_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32")
_TYPES = ("cog", "npy", "intra")
_OPTIONS = {
    "cog": ("compress", "blocksize", "blockframes", "predictor", "quality", "level", "overviews"),
    "npy": (),
    "intra": ("quality",),
}
#: The ending of an entry's name, by its form.
SUFFIXES = {"cog": ".tif", "npy": ".npy", "intra": ".avi"}
_MOST_CRF = 51
# A tile of a video: what a crop of some frames touches beyond its own pixels stays small, and so does the number of tiles.
_VIDEO_TILE_EXTENT = 64
_VIDEO_TILE_FRAMES = 8
_MOST_BLOCK_BYTES = 2**29
_TILE_EXTENT = 128
_PLAIN_TILE_EXTENT = 256  # nothing is decoded, so that fewer and larger pieces are copied sooner
_MIN_TILE_EXTENT = 32
_MAX_TILE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class TileCodec:
    """What the tiles of one entry are really written with, once dtype and bands are known."""

    compress: Compression
    predictor: Predictor
    quality: int
    level: int

    @property
    def is_lossless(self) -> bool:
        """Whether the pixels come back as they were."""
        return not (self.compress == "JPEG" or (self.compress == "WEBP" and self.quality < 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One form of cache entry, with every option settled but those that wait for the dtype.

    Attributes:
        type: ``"cog"``, a cloud optimized GeoTIFF, of a video one of tiles in space and time; ``"npy"``, numpy's own format;
            or ``"intra"``, a video of which every frame is a key frame.
        compress: the codec of a COG's tiles; ``"AUTO"`` is a lossless one, the fastest to read (see the performance page).
        blocksize: a tile's edge in pixels, a multiple of 16; ``None``: 128 (256 without compression), less for
            pixels of many bytes; 64 for a video.
        blockframes: how many frames of a video a tile spans; ``None``: 8, less where frames are huge.
        predictor: differencing before a lossless codec.
        quality: 1 to 100 for ``JPEG`` and ``WEBP`` (a WEBP of 100 is lossless). For ``"intra"`` the constant rate factor of
            H.264, 1 to 51, of which the smaller is the better; ``None``: lossless.
        level: effort of ``ZSTD`` (1 to 22) and ``DEFLATE`` (1 to 12).
        overviews: whether a COG carries halved copies down to one tile.

    Raises:
        BackendError: an option does not exist in this form, or its value is not allowed; the message says what is.

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
        _set(self, "blockframes", _to_whole("blockframes", self.blockframes, 1, 256))
        _set(self, "predictor", _to_predictor(self.predictor))
        _set(self, "quality", _to_quality(self.quality, self.compress, self.type))
        _set(self, "level", _to_level(self.level, self.compress))
        if not isinstance(self.overviews, bool):
            raise BackendError(f"backend option overviews={shorten(self.overviews)}; allowed: True, False")
        given = [item.name for item in fields(self)[1:] if getattr(self, item.name) != item.default]
        _check_options(self.type, given)

    @property
    def suffix(self) -> str:
        """The file name's ending: ``.tif``, ``.npy`` or ``.avi``."""
        return SUFFIXES[self.type]

    def to_dict(self) -> dict[str, Any]:
        """As plain data: what goes into an entry's key."""
        return asdict(self)

    def codec_for(self, dtype: np.dtype[Any], band_count: int) -> TileCodec:
        """The codec for pixels of this dtype: the one that was named where it can hold them, else that of ``"AUTO"``.

        Example:
            >>> jpeg = coerce_backend({"type": "cog", "config": {"compress": "JPEG"}})
            >>> jpeg.codec_for(np.dtype("uint8"), 3).compress, jpeg.codec_for(np.dtype("uint16"), 3).compress
            ('JPEG', 'ZSTD')
        """
        is_chosen = self.compress != "AUTO" and _can_hold(self.compress, dtype, band_count)
        compress = self.compress if is_chosen else "ZSTD"
        default_level = _DEFAULT_LEVELS.get(compress, 0) if is_chosen else _AUTO_LEVEL
        return TileCodec(
            compress=compress,  # type: ignore[arg-type]
            predictor=_predictor_for(self.predictor, compress, dtype),
            quality=(self.quality or _DEFAULT_QUALITY[compress]) if compress in _DEFAULT_QUALITY else 0,
            level=default_level if self.level is None or not is_chosen else self.level,
        )

    def video_codec_for(self, dtype: np.dtype[Any], band_count: int) -> TileCodec:
        """As :meth:`codec_for`, for tiles in space and time, which codecs of pictures do not hold."""
        is_held = self.compress not in ("JPEG", "WEBP", "LERC")
        return (self if is_held else Backend(type="cog")).codec_for(dtype, band_count)

    def is_lossless_for(self, dtype: np.dtype[Any], band_count: int) -> bool:
        """Whether pixels of this dtype come back as they were."""
        if self.type == "intra":
            return self.quality is None
        return self.type == "npy" or self.codec_for(dtype, band_count).is_lossless

    def tile_extent_for(self, dtype: np.dtype[Any], band_count: int) -> int:
        """The edge of a tile in pixels; where none was named, 128, halved while a raw tile is over 1 MiB, down to 32.

        Without compression it begins at 256.
        """
        if self.blocksize is not None:
            return self.blocksize
        extent = _PLAIN_TILE_EXTENT if self.compress == "NONE" else _TILE_EXTENT
        while extent > _MIN_TILE_EXTENT and extent * extent * band_count * dtype.itemsize > _MAX_TILE_BYTES:
            extent //= 2
        return extent

    def block_shape_for(self, frame_shape: tuple[int, int, int], dtype: np.dtype[Any]) -> tuple[int, int, int]:
        """The shape of a tile of a video, ``(frames, height, width)``.

        As many frames as a tile spans are in memory while tiles are made, so that these take no more than 512 MiB.

        Args:
            frame_shape: ``(height, width, channels)`` of a frame.
            dtype: of its pixels.

        Example:
            >>> coerce_backend("cog").block_shape_for((1080, 1920, 3), np.dtype("uint8"))
            (8, 64, 64)
        """
        extent = self.blocksize or _VIDEO_TILE_EXTENT
        count = self.blockframes or _VIDEO_TILE_FRAMES
        while count > 1 and count * math.prod(frame_shape) * dtype.itemsize > _MOST_BLOCK_BYTES:
            count //= 2
        return count, extent, extent


#: What users write; see the design page. ``None`` reads the source directly.
BackendSpec = str | Mapping[str, Any] | Backend | None
#: Chooses a backend per channel.
BackendPicker = Callable[["Hashable", "ChannelInfo"], BackendSpec]


def backend_for(spec: BackendSpec, *, is_video: bool) -> Backend | None:
    """The backend of one file: what a user wrote may be meant for images and videos.

    ``"auto"`` leaves a video as it is, since its frames are found by their index. ``"intra"`` is about videos alone: an image
    takes the form of ``"auto"``.

    Raises:
        BackendError: as :func:`coerce_backend`.

    Example:
        >>> backend_for("auto", is_video=True), backend_for("intra", is_video=False).type
        (None, 'cog')
    """
    is_auto = spec == "auto" or (isinstance(spec, Mapping) and spec.get("type") == "auto")
    backend = coerce_backend(spec)
    if is_video:
        return None if is_auto else backend
    return coerce_backend("auto") if backend is not None and backend.type == "intra" else backend


def coerce_backend(spec: BackendSpec) -> Backend | None:
    """Make a :class:`Backend` of what a user wrote; ``None`` and a :class:`Backend` stay what they are.

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
        raise BackendError(f"backend {shorten(dict(spec))}: the keys are 'type' (required) and 'config'")
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
    if type_name == "auto" and not backend.is_lossless_for(np.dtype(np.uint8), 3):
        raise BackendError(f"backend 'auto' is lossless, and compress={backend.compress!r} is not; name the type 'cog'")
    return backend


def _check_options(kind: str, given: Sequence[str], name: str | None = None) -> None:
    unknown = sorted(set(given) - set(_OPTIONS[kind]))
    if unknown:
        allowed = ", ".join(_OPTIONS[kind]) or "none"
        raise BackendError(f"backend {(name or kind)!r} has no option {', '.join(unknown)}; allowed: {allowed}")


def _set(value: object, name: str, item: object) -> None:
    """Normalise one field of a frozen value while it is being made."""
    object.__setattr__(value, name, item)


def _to_compress(value: object) -> str:
    chosen = value.upper() if isinstance(value, str) else "NONE" if value is None else ""
    if chosen not in _COMPRESSIONS:
        raise BackendError(f"backend option compress={shorten(value)}; allowed: {', '.join(_COMPRESSIONS)}")
    return chosen


def _to_predictor(value: object) -> str:
    name = value if isinstance(value, str) else "AUTO" if value is None else shorten(value)
    chosen = name.upper()
    if chosen not in _PREDICTORS:
        raise BackendError(
            f"backend option predictor={shorten(value)}; allowed: AUTO, NO, YES, STANDARD, FLOATING_POINT, 1, 2, 3"
        )
    return _PREDICTORS[chosen]


def _to_blocksize(value: object) -> int | None:
    extent = _to_whole("blocksize", value, 16, 4096)
    if extent is not None and extent % 16:
        raise BackendError(f"backend option blocksize={value!r}; allowed: multiples of 16 from 16 to 4096")
    return extent


def _to_quality(value: object, compress: str, kind: str) -> int | None:
    if kind == "intra":
        return _to_whole("quality", value, 1, _MOST_CRF)
    if value is not None and compress not in _DEFAULT_QUALITY:
        raise BackendError(f"backend option quality is for {' and '.join(_DEFAULT_QUALITY)}, not for {compress=}")
    return _to_whole("quality", value, 1, 100)


def _to_level(value: object, compress: str) -> int | None:
    if value is not None and compress not in _LEVELS:
        raise BackendError(f"backend option level is for {' and '.join(_LEVELS)}, not for {compress=}")
    return None if value is None else _to_whole("level", value, *_LEVELS[compress])


def _to_whole(name: str, value: object, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise BackendError(f"backend option {name}={shorten(value)}; allowed: whole numbers from {least} to {most}")
    return int(value)


def _can_hold(compress: str, dtype: np.dtype[Any], band_count: int) -> bool:
    if compress == "JPEG":
        return dtype == np.uint8 and band_count in (1, 3)
    if compress == "WEBP":
        return dtype == np.uint8 and band_count in (3, 4)
    if compress == "LERC":
        return dtype.name in _LERC_DTYPES
    return True


def _predictor_for(asked: str, compress: str, dtype: np.dtype[Any]) -> Predictor:
    """What differencing there will be: none by default (see the performance page), none where it has no meaning."""
    if asked in ("AUTO", "NO") or compress not in _PREDICTABLE or dtype.kind in "bc":
        return "NO"
    return "FLOATING_POINT" if dtype.kind == "f" else "STANDARD"
