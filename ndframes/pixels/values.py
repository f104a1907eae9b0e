"""The meaning of stored numbers: nodata and quantization."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import PathInfoError, shorten
from ..spec.nodata import ColourKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from ..spec.nodata import Nodata
    from ..spec.pathinfo import ChannelInfo

__all__ = ["NODATA_MODES", "NodataMode", "Quantization", "ValueEncoding", "equals_nodata", "resolve_nodata"]
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
            values[equals_nodata(stored, self.nodata)] = np.nan
        return values


@dataclass(frozen=True, slots=True)
class ValueEncoding:
    """The encoding of the values of one file.

    Attributes:
        stored_dtype: the dtype in the file.
        nodata: what marks missing values; ``None``: nothing does.
        quantization: the map to real values; ``None``: the numbers are the values.
    """

    stored_dtype: np.dtype[Any]
    nodata: Nodata | None
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

    def needs_all_bands(self, mode: NodataMode) -> bool:
        """Whether the mask of a band depends on the other bands, too."""
        return mode != "keep" and isinstance(self.nodata, ColourKey)

    def decode(self, stored: Array, mode: NodataMode, bands: Sequence[int]) -> tuple[Array, Array | None]:
        """The values, and the mask of missing ones.

        Args:
            stored: the numbers in the file, ``(h, w, bands)``.
            mode: ``"keep"`` makes no mask: it is ``None`` then.
            bands: the numbers of the bands; all bands of the file if :meth:`needs_all_bands`.
        """
        missing = None if mode == "keep" else self._find_missing(stored, bands)
        values = stored if self.quantization is None else self.quantization.decode(stored)
        if missing is not None and self.quantization is not None:
            missing |= np.isnan(values)
        return values, missing

    def _find_missing(self, stored: Array, bands: Sequence[int]) -> Array:
        # A float file may hold nan besides its nodata value.
        missing: Array = np.isnan(stored) if stored.dtype.kind in "fc" else np.zeros(stored.shape, bool)
        if isinstance(self.nodata, ColourKey):
            wanted = self.nodata.values
            planes = [equals_nodata(stored[..., b], value) for b in bands if (value := wanted[b]) is not None]
            missing |= np.logical_and.reduce(planes)[..., np.newaxis]
        elif isinstance(self.nodata, tuple):
            for place, band in enumerate(bands):
                value = self.nodata[band] if band < len(self.nodata) else None
                if value is not None:
                    missing[..., place] |= equals_nodata(stored[..., place], value)
        elif self.nodata is not None:
            missing |= equals_nodata(stored, self.nodata)
        return missing


def equals_nodata(stored: Array, value: float) -> Array:
    """Which numbers equal a nodata value.

    Integers are compared exactly, those of 64 bits included. Floats are compared like GDAL does, since the value was
    usually written as a decimal text: the difference is less than four times the precision of the dtype.

    Example:
        >>> equals_nodata(np.array([2**63 - 1, 2**63 - 2]), 2**63 - 1).tolist()
        [True, False]
        >>> equals_nodata(np.array([-9999.1, -9999.11], np.float32), -9999.1).tolist()
        [True, False]
    """
    kind = stored.dtype.kind
    if kind in "iub":
        if not math.isfinite(value) or value != int(value):
            return np.zeros(stored.shape, bool)
        low, high = (0, 1) if kind == "b" else (np.iinfo(stored.dtype).min, np.iinfo(stored.dtype).max)
        if not low <= value <= high:
            return np.zeros(stored.shape, bool)
        # Cast to the dtype: numpy compares a 64-bit integer and a float as floats of 53 bits.
        is_equal: Array = stored == stored.dtype.type(int(value))
        return is_equal
    with np.errstate(over="ignore"):
        near = stored.dtype.type(value)
    # The decimal text of the largest number may round to more than it.
    if kind == "f" and np.isinf(near) and math.isfinite(value):
        near = stored.dtype.type(math.copysign(float(np.finfo(stored.dtype).max), value))
    exact: Array = stored == near
    if kind != "f" or math.isnan(value) or math.isinf(value):
        return exact
    limits = np.finfo(stored.dtype)
    wide, number = stored.astype(np.float64), float(near)
    with np.errstate(over="ignore", invalid="ignore"):
        # By halves, since the sum of the largest numbers overflows.
        exact |= np.abs(wide - number) < 4 * float(limits.eps) * np.abs(wide / 2 + number / 2)
    return exact


def resolve_nodata(info: ChannelInfo, file_nodata: Nodata | None) -> Nodata | None:
    """What marks the missing pixels of a file: by its :class:`~ndframes.ChannelInfo`, or else by the file."""
    return file_nodata if info.nodata is None else info.nodata
