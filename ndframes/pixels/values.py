"""The meaning of stored numbers: nodata and quantization."""

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
#: The treatment of nodata: ``"keep"`` the stored number, replace it by ``"nan"``, or return a ``"mask"`` with the pixels.
NodataMode = Literal["keep", "nan", "mask"]
NODATA_MODES = ("keep", "nan", "mask")


@dataclass(frozen=True, slots=True)
class Quantization:
    """A linear map from integers to real values, as in kwcoco: from ``quant_min, quant_max`` to ``orig_min, orig_max``.

    Attributes:
        dtype: the dtype of the real values.
        scale: the difference between the values of two consecutive integers.
        offset: the value of the integer 0.
        nodata: the integer that marks missing values; ``None``: no integer does.
    """

    dtype: np.dtype[Any]
    scale: float
    offset: float
    nodata: float | None

    @classmethod
    def from_info(cls, info: ChannelInfo) -> Quantization | None:
        """The quantization in a :class:`~ndframes.ChannelInfo`.

        Raises:
            PathInfoError: a value is missing or not a number, or the dtype is not a float.

        Example:
            >>> from ndframes import ChannelInfo
            >>> quantization = Quantization.from_info(ChannelInfo("a.tif", quantization={"quant_max": 200, "nodata": 255}))
            >>> quantization.decode(np.array([0, 100, 255], np.uint8)).tolist()
            [0.0, 0.5, nan]
        """
        if info.quantization is None:
            return None
        fields = dict(info.quantization)
        if "quant_max" not in fields:
            raise PathInfoError(
                f"{info.path}: its quantization has no quant_max, only {', '.join(fields) or 'no fields'}"
            )
        try:
            dtype = np.dtype(fields.get("orig_dtype") or "float32")
            low, high = float(fields.get("orig_min", 0)), float(fields.get("orig_max", 1))
            first, last = float(fields.get("quant_min", 0)), float(fields["quant_max"])
            nodata = None if fields.get("nodata") is None else float(fields["nodata"])
        except (TypeError, ValueError) as error:
            raise PathInfoError(f"{info.path}: its quantization is invalid: {shorten(fields)}") from error
        if dtype.kind != "f" or not all(map(math.isfinite, (low, high, first, last))) or first == last:
            raise PathInfoError(
                f"{info.path}: its quantization needs a float orig_dtype, finite limits, and different quant_min and quant_max; "
                f"got {shorten(fields)}"
            )
        scale = (high - low) / (last - first)
        return cls(dtype, scale, low - first * scale, nodata)

    def decode(self, stored: Array) -> Array:
        """The real values, as a new array; nan where the stored number is nodata."""
        # float32 represents integers of 16 bits exactly.
        work = np.dtype(np.float64 if stored.dtype.itemsize > 2 or self.dtype.itemsize > 4 else np.float32)
        values = stored.astype(work)
        # Scalars of the same dtype, and in place: no array in float64 is made on the way.
        values *= work.type(self.scale)
        values += work.type(self.offset)
        values = values.astype(self.dtype, copy=False)
        if self.nodata is not None:
            # By the stored integers, because the decoded values are rounded.
            values[stored == self.nodata] = np.nan
        return values


@dataclass(frozen=True, slots=True)
class ValueEncoding:
    """The encoding of the values of one file.

    Attributes:
        stored_dtype: the dtype in the file.
        nodata: the number that marks missing values; ``None``: no number does.
        quantization: the map to real values; ``None``: the numbers are the values.
    """

    stored_dtype: np.dtype[Any]
    nodata: float | None
    quantization: Quantization | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of decoded values."""
        return self.stored_dtype if self.quantization is None else self.quantization.dtype

    @property
    def is_plain(self) -> bool:
        """Whether the stored numbers are the values, with nodata kept."""
        return self.quantization is None

    def mixes_missing(self, mode: NodataMode) -> bool:
        """Whether means of stored numbers may include nodata; overviews, which hold such means, must not be read then."""
        if self.quantization is not None and self.quantization.nodata is not None:
            return True
        return mode != "keep" and self.nodata is not None

    def decode(self, stored: Array, mode: NodataMode) -> tuple[Array, Array | None]:
        """The values, and the mask of missing ones; the mask is ``None`` with mode ``"keep"``."""
        missing = None
        if mode != "keep":
            # A float file may hold nan besides its nodata value.
            missing = np.isnan(stored) if stored.dtype.kind in "fc" else np.zeros(stored.shape, bool)
            if self.nodata is not None and not math.isnan(self.nodata):
                missing |= stored == self.nodata
        values = stored if self.quantization is None else self.quantization.decode(stored)
        if missing is not None and self.quantization is not None:
            missing |= np.isnan(values)
        return values, missing


def resolve_nodata(info: ChannelInfo, file_nodata: float | None) -> float | None:
    """The nodata value of a file: that of its :class:`~ndframes.ChannelInfo`, or else that in the file."""
    return file_nodata if info.nodata is None else info.nodata
