"""Description: what a file of fields holds. It is stored as JSON in the comment of the file."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ...errors import ChannelError, MovieError, MovieFormatError, shorten
from ...spec.channels import parse_codes

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Coding", "Description", "NanMode"]
#: Where the numbers are: in the samples of the picture, or packed in packets of their own beside a preview.
Coding = Literal["levels", "packed"]
#: What becomes of NaN in a movie of levels: an error, the lower limit, or a mark in a channel of its own.
NanMode = Literal["raise", "clip", "channel"]
_NAME, _VERSION, _CHECK = "ndframes-movie", 1, "crc32"
_BITS: dict[str, tuple[int, ...]] = {"levels": (8, 16), "packed": (0,)}
_MOST_BYTES = 1 << 23  # FFmpeg reads text of up to 16 MiB from Matroska


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a file of fields holds.

    Attributes:
        height: the rows of a field.
        width: the columns of a field.
        bands: the number of channels.
        has_bands: whether fields have an axis of channels.
        dtype: of the fields that are read.
        coding: where the numbers are.
        bits: of a level: 8 or 16; 0 if the numbers are packed.
        is_exact: whether fields that are read equal those that were written.
        is_complex: whether the channels are real and imaginary parts.
        vmin: the lower limit of each channel.
        vmax: the upper limit of each channel.
        nan: what becomes of NaN.
        rate: frames per second in a player.
        channels: the names of the channels; ``None``: those that their number suggests.
        info: data of the user.
        pde_format: the video format of a file of py-pde, whose pictures have its arrangement; ``None`` in others.
    """

    height: int
    width: int
    bands: int
    has_bands: bool
    dtype: np.dtype[Any]
    coding: Coding
    bits: int
    is_exact: bool
    is_complex: bool
    vmin: tuple[float, ...]
    vmax: tuple[float, ...]
    nan: NanMode
    rate: Fraction
    channels: tuple[str, ...] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    pde_format: str | None = None

    @property
    def field_shape(self) -> tuple[int, ...]:
        """``(y, x)``, or ``(y, x, channel)``, of a field that is read."""
        return (self.height, self.width, *((self.bands,) if self.has_bands else ()))

    @property
    def planes(self) -> int:
        """The number of planes of a picture of levels: of the channels, and of the marks of NaN."""
        return self.bands + (self.nan == "channel" and not self.is_exact)

    def to_json(self, name: str) -> str:
        """The description as the text of a comment.

        Args:
            name: of the file, for errors.

        Raises:
            MovieError: the user's data is not JSON.
        """
        stored = {
            _NAME: _VERSION,
            "shape": [self.height, self.width, self.bands],
            "has_channel_axis": self.has_bands,
            "dtype": self.dtype.str,
            "coding": self.coding,
            "bits": self.bits,
            "exact": self.is_exact,
            "complex": self.is_complex,
            "vmin": list(self.vmin),
            "vmax": list(self.vmax),
            "nan": self.nan,
            "fps": str(self.rate),
            "channels": None if self.channels is None else list(self.channels),
            "info": dict(self.info),
        }
        try:
            stored[_CHECK] = _checksum(stored)
            text = json.dumps(stored, allow_nan=False, ensure_ascii=False)
            text_bytes = len(text.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise MovieError(
                f"{name}: info={shorten(self.info)} cannot be stored as JSON: {error}; give numbers, text, lists and dicts"
            ) from error
        if text_bytes > _MOST_BYTES:
            raise MovieError(
                f"{name}: info and the names of the channels take {text_bytes:,} bytes as JSON; at most {_MOST_BYTES:,} are stored"
            )
        return text

    @classmethod
    def from_json(cls, text: str | None, name: str) -> Self | None:
        """The description in a comment; ``None`` if the comment is of another kind.

        Raises:
            MovieFormatError: the description is of a newer version, or damaged.
        """
        if not text or _NAME not in text:
            return None
        try:
            stored = json.loads(text)
        except ValueError as error:
            raise MovieFormatError(f"{name}: the description of its fields is damaged: {error}") from error
        if not isinstance(stored, Mapping) or _NAME not in stored:
            return None
        if stored[_NAME] != _VERSION:
            raise MovieFormatError(
                f"{name} is a movie of version {stored[_NAME]!r}; this version of ndframes reads version {_VERSION}; upgrade it"
            )
        # Files of earlier versions have no checksum.
        if stored.get(_CHECK) not in (None, _checksum(stored)):
            raise MovieFormatError(f"{name}: the description of its fields is damaged: its checksum is another one")
        try:
            return cls._from_stored(stored)
        except (KeyError, TypeError, ValueError, ArithmeticError, ChannelError) as error:
            raise MovieFormatError(f"{name}: the description of its fields is damaged: {error!r}") from error

    @classmethod
    def _from_stored(cls, stored: Mapping[str, Any]) -> Self:
        height, width, bands = map(int, stored["shape"])
        if min(height, width, bands) < 1 or stored["coding"] not in _BITS:
            raise ValueError(f"shape {stored['shape']}, coding {stored['coding']!r}")
        vmin, vmax = (tuple(map(float, stored[key])) for key in ("vmin", "vmax"))
        if {len(vmin), len(vmax)} != {bands} or not np.isfinite([*vmin, *vmax]).all():
            raise ValueError(f"limits {vmin} and {vmax} of {bands} channels")
        dtype, bits = np.dtype(stored["dtype"]), int(stored["bits"])
        is_float = dtype.kind == "f" and dtype.itemsize <= 8
        if stored["coding"] == "levels":
            is_right = dtype.kind in "biu" and 8 * dtype.itemsize == bits if stored["exact"] else is_float
        else:
            is_right = is_float or dtype.kind in "biu"
        if not is_right or bits not in _BITS[stored["coding"]] or stored["nan"] not in get_args(NanMode):
            raise ValueError(f"dtype {dtype}, bits {bits}, nan {stored['nan']!r}")
        channels = stored["channels"]
        if not isinstance(stored["info"], Mapping) or not (
            channels is None or len(set(parse_codes(channels))) == bands
        ):
            raise ValueError(f"info {shorten(stored['info'])}, channels {shorten(channels)} of {bands}")
        return cls(
            height=height,
            width=width,
            bands=bands,
            has_bands=bool(stored["has_channel_axis"]),
            dtype=dtype,
            coding=stored["coding"],
            bits=bits,
            is_exact=bool(stored["exact"]),
            is_complex=bool(stored["complex"]),
            vmin=vmin,
            vmax=vmax,
            nan=stored["nan"],
            rate=_to_rate(stored["fps"]),
            channels=None if channels is None else parse_codes(channels),
            info=stored["info"],
        )


def _checksum(stored: Mapping[str, Any]) -> int:
    """The CRC-32 of a description without its checksum, as compact JSON in ASCII."""
    rest = {key: value for key, value in stored.items() if key != _CHECK}
    return zlib.crc32(json.dumps(rest, allow_nan=False, separators=(",", ":")).encode())


def _to_rate(text: str) -> Fraction:
    """Frames per second as :class:`str` writes a fraction; others, such as ``1e999999999``, would take all memory."""
    if not re.fullmatch(r"[1-9]\d{0,9}(/[1-9]\d{0,9})?", text):
        raise ValueError(f"{shorten(text)} frames per second")
    return Fraction(text)
