"""Results: the arrays that a read fills and returns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import RegionError, RegionTooLargeError, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from ..geometry.regions import Selection
    from .options import ReadOptions
    from .values import NodataMode
    from .warp import Block

__all__ = [
    "Result",
    "allocate",
    "as_slice",
    "check_fill",
    "check_keeps_axes",
    "fill_of",
    "fill_value",
    "finish",
    "put_block",
    "result_dtype",
    "too_large_error",
]


class Result(NamedTuple):
    """The arrays that a read fills.

    Attributes:
        pixels: the pixels.
        missing: the mask of the values that hold no data, of the same shape; ``None`` with ``nodata="keep"``.
        max_bytes: the limit for arrays of pixels, those that are made on the way included.
    """

    pixels: Array
    missing: Array | None
    max_bytes: int

    @classmethod
    def allocate(cls, shape: tuple[int, ...], dtype: np.dtype[Any], options: ReadOptions, max_bytes: int) -> Result:
        """New arrays for a read of files of ``dtype``.

        Raises:
            RegionTooLargeError: the result has more bytes than ``max_bytes``.
        """
        pixels = allocate(shape, result_dtype(dtype, options), max_bytes)
        return cls(pixels, None if options.nodata == "keep" else np.zeros(shape, bool), max_bytes)

    def like(self, height: int, width: int) -> Result:
        """New arrays of another height and width, with the same channels and dtype.

        Raises:
            RegionTooLargeError: they have more bytes than ``max_bytes``.
        """
        shape = (height, width, self.pixels.shape[2])
        pixels = allocate(shape, self.pixels.dtype, self.max_bytes)
        return Result(pixels, None if self.missing is None else np.zeros(shape, bool), self.max_bytes)

    def reshaped(self, shape: tuple[int, ...]) -> Result:
        """A view with other axes."""
        missing = None if self.missing is None else self.missing.reshape(shape)
        return Result(self.pixels.reshape(shape), missing, self.max_bytes)

    def at(self, rows: slice, cols: slice) -> Result:
        """A view of the part at ``rows`` x ``cols``."""
        missing = None if self.missing is None else self.missing[rows, cols]
        return Result(self.pixels[rows, cols], missing, self.max_bytes)

    def frame(self, place: int) -> Result:
        """A view of one frame of a result with a time axis."""
        return Result(self.pixels[place], None if self.missing is None else self.missing[place], self.max_bytes)

    def copy_from(self, other: Result) -> None:
        """Take over the values of a result of the same shape and options."""
        self.pixels[...] = other.pixels
        if self.missing is not None:
            self.missing[...] = other.missing

    def put(self, index: Any, other: Result, other_index: Any) -> None:
        """Copy the pixels and the mask of ``other`` at ``other_index`` to ``index``."""
        self.pixels[index] = other.pixels[other_index]
        if self.missing is not None and other.missing is not None:
            self.missing[index] = other.missing[other_index]

    def clear(self, index: Any, options: ReadOptions) -> None:
        """Set the pixels at ``index`` to the fill value, and mark them as missing."""
        self.pixels[index] = fill_of(self, options)
        if self.missing is not None:
            self.missing[index] = True


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any], max_bytes: int) -> Array:
    """A new array for a result.

    Raises:
        RegionTooLargeError: it has more bytes than allowed.
    """
    needed = math.prod(shape, start=dtype.itemsize)
    if needed > max_bytes:
        extents = " x ".join(f"{extent:,}" for extent in shape)
        raise too_large_error(f"the region is {extents} of {dtype}", needed, max_bytes)
    return np.empty(shape, dtype)


def result_dtype(dtype: np.dtype[Any], options: ReadOptions) -> np.dtype[Any]:
    """The dtype of a result from files of ``dtype``: a float if nodata is replaced by nan."""
    if options.nodata == "nan" and dtype.kind not in "fc":
        # float32 represents integers of 16 bits exactly, but not those of 32 bits.
        return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    return dtype


def fill_value(dtype: np.dtype[Any], options: ReadOptions) -> Array:
    """The value of pixels without data, as an array of ``dtype``.

    Raises:
        RegionError: the fill value is not a value of ``dtype``.
    """
    return np.asarray(np.nan) if options.nodata == "nan" else check_fill(options.fill, dtype)


def fill_of(result: Result, options: ReadOptions) -> Array:
    """The value of pixels of a result that no file covers."""
    return fill_value(result.pixels.dtype, options)


def check_fill(fill: complex, dtype: np.dtype[Any]) -> Array:
    """The fill value in the dtype of the image.

    Raises:
        RegionError: the dtype cannot represent it.
    """
    value = np.asarray(fill)
    if value.ndim == 0 and value.dtype.kind in ("biufc" if dtype.kind == "c" else "biuf"):
        # The cast of a value that does not fit warns; the comparison below refuses it.
        with np.errstate(all="ignore"):
            cast = value.astype(dtype)
        if dtype.kind in "fc" or cast == value:
            return cast
    raise RegionError(f"fill={shorten(fill)} is not a value of {dtype}")


def put_block(block: Block, positions: Sequence[int], result: Result, options: ReadOptions) -> None:
    """Copy a block of one file to its bands of a result."""
    bands, target = as_slice(positions), result.at(block.rows, block.cols)
    if block.pixels is None:
        target.pixels[:, :, bands] = fill_of(result, options)
        if target.missing is not None:
            target.missing[:, :, bands] = True
        return
    pixels, outside = block.pixels, None if block.inside is True else ~np.asarray(block.inside)
    if outside is not None:
        # A copy: the block may be a view of a cached tile.
        pixels = pixels.astype(target.pixels.dtype)
        pixels[outside] = fill_of(result, options)
    target.pixels[:, :, bands] = pixels
    if target.missing is not None:
        missing = np.zeros(pixels.shape, bool) if block.missing is None else block.missing
        target.missing[:, :, bands] = missing if outside is None else missing | outside[..., None]


def finish(result: Result, mode: NodataMode) -> Array:
    """The array to return: masked, or with not-a-numbers, as ``mode`` says."""
    pixels, missing, _ = result
    if missing is None:
        return pixels
    if mode == "nan":
        pixels[missing] = np.nan
        return pixels
    return np.ma.MaskedArray(pixels, missing)


def as_slice(positions: Sequence[int]) -> slice | Sequence[int]:
    """An index of positions; a slice, which makes a view, if they are consecutive."""
    return slice(positions.start, positions.stop) if isinstance(positions, range) else positions


def too_large_error(what: str, needed_bytes: int, max_bytes: int) -> RegionTooLargeError:
    """The error for a result of more bytes than ``max_bytes``."""
    return RegionTooLargeError(
        f"{what}: {needed_bytes:,} bytes, over the limit of {max_bytes:,}; read it in parts, or raise max_region_bytes"
    )


def check_keeps_axes(selection: Selection) -> None:
    """Check that a region to be scaled has all its axes.

    Raises:
        RegionError: an integer index removes one of them.
    """
    if True in selection.dropped[:2]:
        raise RegionError("a scaled region must consist of slices without steps in y and x")
    if True in selection.dropped:
        raise RegionError("a scaled region must keep its channel axis: give a slice, or the code of the channel")
