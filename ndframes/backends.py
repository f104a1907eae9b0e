"""Backends: which form a channel takes in the cache, as a frozen value checked when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .pathinfo import ChannelInfo

__all__ = ["Backend", "BackendPicker", "BackendSpec", "Codec", "coerce_backend"]

BackendType = Literal["cog", "npy"]
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
_DEFAULT_QUALITY = {"JPEG": 90, "WEBP": 90}
_PREDICTABLE = ("ZSTD", "DEFLATE", "LZW")
_LERC_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
_MAX_TILE_BYTES = 4 * 2**20

#: What users write; see the design page. ``None`` reads the source directly.
BackendSpec = str | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Codec:
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
        type: ``"cog"``, a cloud optimized GeoTIFF, or ``"npy"``, numpy's own format.
        compress: the codec of a COG's tiles; ``"AUTO"`` is a lossless one.
        blocksize: a tile's edge in pixels, a multiple of 16; ``None``: 256, less for pixels of many bytes.
        predictor: differencing before a lossless codec.
        quality: 1 to 100 for ``JPEG`` and ``WEBP`` (a WEBP of 100 is lossless).
        level: effort of ``ZSTD`` (1 to 22) and ``DEFLATE`` (1 to 12).
        overviews: whether a COG carries halved copies down to one tile.
    """

    type: BackendType
    compress: str = "AUTO"
    blocksize: int | None = None
    predictor: str = "AUTO"
    quality: int | None = None
    level: int | None = None
    overviews: bool = True

    @property
    def suffix(self) -> str:
        """The file name's ending: ``.tif`` or ``.npy``."""
        return ".npy" if self.type == "npy" else ".tif"

    def to_dict(self) -> dict[str, Any]:
        """As plain data: what goes into an entry's key."""
        return asdict(self)

    def codec_for(self, dtype: np.dtype[Any], band_count: int) -> Codec:
        """The codec for pixels of this dtype: the one that was named where it can hold them, else ZSTD.

        Example:
            >>> jpeg = coerce_backend({"type": "cog", "config": {"compress": "JPEG"}})
            >>> jpeg.codec_for(np.dtype("uint8"), 3).compress, jpeg.codec_for(np.dtype("uint16"), 3).compress
            ('JPEG', 'ZSTD')
        """
        compress = (
            "ZSTD" if self.compress == "AUTO" or not _can_hold(self.compress, dtype, band_count) else self.compress
        )
        return Codec(
            compress=compress,  # type: ignore[arg-type]
            predictor=_predictor_for(self.predictor, compress, dtype),
            quality=self.quality or _DEFAULT_QUALITY.get(compress, 0),
            level=_DEFAULT_LEVELS.get(compress, 0) if self.level is None else self.level,
        )

    def is_lossless_for(self, dtype: np.dtype[Any], band_count: int) -> bool:
        """Whether pixels of this dtype come back as they were."""
        return self.type == "npy" or self.codec_for(dtype, band_count).is_lossless

    def tile_extent_for(self, dtype: np.dtype[Any], band_count: int) -> int:
        """The edge of a tile in pixels; where none was named, halved until a raw tile is at most 4 MiB."""
        if self.blocksize is not None:
            return self.blocksize
        extent = 256
        while extent > 32 and extent * extent * band_count * dtype.itemsize > _MAX_TILE_BYTES:
            extent //= 2
        return extent


#: Chooses a backend per channel.
BackendPicker = Callable[["Hashable", "ChannelInfo"], BackendSpec]


def coerce_backend(spec: BackendSpec) -> Backend | None:
    """Make a :class:`Backend` of what a user wrote; ``None`` stays ``None``.

    Raises:
        BackendError: an unknown type, option or value; the message names the allowed ones.

    Example:
        >>> coerce_backend("auto").compress
        'AUTO'
        >>> coerce_backend({"type": "cog", "config": {"compress": "GZIP"}})
        Traceback (most recent call last):
        ndframes.errors.BackendError: backend option compress='GZIP'; allowed: AUTO, NONE, ZSTD, DEFLATE, LZW, LERC, JPEG, WEBP
    """
    if spec is None:
        return None
    if isinstance(spec, str):
        return _from_parts(spec, {})
    if not isinstance(spec, Mapping):
        raise BackendError(f"backend {spec!r} is neither None, a name, a dict nor a callable")
    unknown = sorted(str(key) for key in spec if key not in ("type", "config"))
    if unknown or "type" not in spec:
        raise BackendError(f"backend {dict(spec)!r}: the keys are 'type' (required) and 'config'")
    config = spec.get("config") or {}
    if not isinstance(config, Mapping):
        raise BackendError(f"backend config must be a dict, got {config!r}")
    return _from_parts(spec["type"], config)


def _from_parts(type_name: object, config: Mapping[str, Any]) -> Backend | None:
    if type_name is None and not config:
        return None
    if type_name not in ("auto", "cog", "npy"):
        raise BackendError(f"backend type {type_name!r}; allowed: None, 'auto', 'cog', 'npy'")
    allowed = [] if type_name == "npy" else [item.name for item in fields(Backend) if item.name != "type"]
    unknown = sorted(str(key) for key in config if key not in allowed)
    if unknown:
        raise BackendError(
            f"backend {type_name!r} has no option {', '.join(unknown)}; allowed: {', '.join(allowed) or 'none'}"
        )
    if type_name == "npy":
        return Backend(type="npy")
    return _cog(dict(config))


def _cog(config: dict[str, Any]) -> Backend:
    compress = _choose("compress", config.get("compress", "AUTO"), _COMPRESSIONS)
    predictor = "AUTO" if config.get("predictor") is None else str(config["predictor"]).upper()
    if predictor not in _PREDICTORS:
        raise BackendError(
            f"backend option predictor={config['predictor']!r}; allowed: AUTO, NO, YES, STANDARD, FLOATING_POINT, 1, 2, 3"
        )
    quality = _whole("quality", config.get("quality"), 1, 100)
    if quality is not None and compress not in _DEFAULT_QUALITY:
        raise BackendError(f"backend option quality is for JPEG and WEBP, not for compress={compress!r}")
    level = config.get("level")
    if level is not None and compress not in _LEVELS:
        raise BackendError(f"backend option level is for ZSTD and DEFLATE, not for compress={compress!r}")
    overviews = config.get("overviews", True)
    if not isinstance(overviews, bool):
        raise BackendError(f"backend option overviews={overviews!r}; allowed: True, False")
    return Backend(
        type="cog",
        compress=compress,
        blocksize=_blocksize(config.get("blocksize")),
        predictor=_PREDICTORS[predictor],
        quality=quality,
        level=None if level is None else _whole("level", level, *_LEVELS[compress]),
        overviews=overviews,
    )


def _choose(name: str, value: object, allowed: tuple[str, ...]) -> str:
    chosen = value.upper() if isinstance(value, str) else "NONE" if value is None else value
    if chosen not in allowed:
        raise BackendError(f"backend option {name}={value!r}; allowed: {', '.join(allowed)}")
    return str(chosen)


def _whole(name: str, value: object, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise BackendError(f"backend option {name}={value!r}; allowed: whole numbers from {least} to {most}")
    return int(value)


def _blocksize(value: object) -> int | None:
    extent = _whole("blocksize", value, 16, 4096)
    if extent is not None and extent % 16:
        raise BackendError(f"backend option blocksize={value!r}; allowed: multiples of 16 from 16 to 4096")
    return extent


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
