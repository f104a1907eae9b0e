"""What the stored numbers of a file stand for: nodata and quantization. Arrays in, arrays out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import PathInfoError, shorten

if TYPE_CHECKING:
    from .._typing import Array
    from ..spec.pathinfo import ChannelInfo

__all__ = ["NODATA_MODES", "NodataMode", "Quantization", "ValueEncoding", "resolve_nodata"]
#: What becomes of pixels that hold no data: they keep their number, are not-a-numbers, or are masked.
NodataMode = Literal["keep", "nan", "mask"]
NODATA_MODES = ("keep", "nan", "mask")


@dataclass(frozen=True, slots=True)
class Quantization:
    """How integers stand for real values, as in kwcoco: ``quant_min`` to ``quant_max`` are ``orig_min`` to ``orig_max``.

    Attributes:
        dtype: of the real values.
        scale: how much one step of the integers is.
        offset: what the integer 0 stands for.
        nodata: the integer that stands for nothing; ``None``: there is none.
    """

    dtype: np.dtype[Any]
    scale: float
    offset: float
    nodata: float | None

    @classmethod
    def from_info(cls, info: ChannelInfo) -> Quantization | None:
        """The quantization that a file is said to have.

        Raises:
            PathInfoError: a number is missing or no number, or the dtype is none of floats.

        Example:
            >>> from ndframes import ChannelInfo
            >>> quantization = Quantization.from_info(ChannelInfo("a.tif", quantization={"quant_max": 200, "nodata": 255}))
            >>> quantization.decode(np.array([0, 100, 255], np.uint8)).tolist()
            [0.0, 0.5, nan]
        """
        if info.quantization is None:
            return None
        given = dict(info.quantization)
        if "quant_max" not in given:
            raise PathInfoError(
                f"{info.path}: its quantization has no quant_max; there are {', '.join(given) or 'none'}"
            )
        try:
            dtype = np.dtype(given.get("orig_dtype") or "float32")
            low, high = float(given.get("orig_min", 0)), float(given.get("orig_max", 1))
            first, last = float(given.get("quant_min", 0)), float(given["quant_max"])
            nodata = None if given.get("nodata") is None else float(given["nodata"])
        except (TypeError, ValueError) as error:
            raise PathInfoError(f"{info.path}: its quantization is no such thing: {shorten(given)}") from error
        if dtype.kind != "f" or not all(map(math.isfinite, (low, high, first, last))) or first == last:
            raise PathInfoError(
                f"{info.path}: its quantization needs a float orig_dtype, finite ends, and quant_min other than quant_max; "
                f"it is {shorten(given)}"
            )
        scale = (high - low) / (last - first)
        return cls(dtype, scale, low - first * scale, nodata)

    def decode(self, stored: Array) -> Array:
        """The real values; not-a-numbers where nothing is stored."""
        work = np.dtype(np.float64 if stored.dtype.itemsize > 2 or self.dtype.itemsize > 4 else np.float32)
        values = stored.astype(work)
        values *= work.type(self.scale)
        values += work.type(self.offset)
        values = values.astype(self.dtype, copy=False)
        if self.nodata is not None:
            values[stored == self.nodata] = np.nan
        return values


@dataclass(frozen=True, slots=True)
class ValueEncoding:
    """What the numbers of one file stand for.

    Attributes:
        stored_dtype: their dtype in the file.
        nodata: the number that stands for nothing; ``None``: there is none.
        quantization: how integers stand for real values; ``None``: they stand for themselves.
    """

    stored_dtype: np.dtype[Any]
    nodata: float | None
    quantization: Quantization | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        return self.stored_dtype if self.quantization is None else self.quantization.dtype

    @property
    def is_plain(self) -> bool:
        """Whether every number stands for itself, as long as nobody asks for what is missing."""
        return self.quantization is None

    def mixes_missing(self, mode: NodataMode) -> bool:
        """Whether means of stored numbers would mix in those that stand for nothing: then overviews are of no use."""
        if self.quantization is not None and self.quantization.nodata is not None:
            return True
        return mode != "keep" and self.nodata is not None

    def decode(self, stored: Array, mode: NodataMode) -> tuple[Array, Array | None]:
        """What stored numbers stand for, and which of them for nothing: a mask, or ``None`` where nobody asks."""
        missing = None
        if mode != "keep":
            missing = np.isnan(stored) if stored.dtype.kind in "fc" else np.zeros(stored.shape, bool)
            if self.nodata is not None and not math.isnan(self.nodata):
                missing |= stored == self.nodata
        values = stored if self.quantization is None else self.quantization.decode(stored)
        if missing is not None and self.quantization is not None:
            missing |= np.isnan(values)
        return values, missing


def resolve_nodata(info: ChannelInfo, file_nodata: float | None) -> float | None:
    """What stands for nothing in a file: what its image says, else what the file says of itself."""
    return file_nodata if info.nodata is None else info.nodata
