"""Fields as they are given to a movie: arrays of any kind, lists of them, limits, functions of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MovieError, MovieGridError, MovieRangeError, shorten

if TYPE_CHECKING:
    from .._typing import Array
    from ..video.fields.description import Description

__all__ = ["GivenField", "call_with_time", "fit", "stored_dtype", "to_field", "to_limits", "with_room"]


@dataclass(frozen=True, slots=True)
class GivenField:
    """A field as it was given.

    Attributes:
        pixels: ``(y, x, channel)``.
        has_bands: whether it was given with channels.
        is_complex: whether it was complex.
        sources: for each channel the number of the field of a list that it belongs to.
    """

    pixels: Array
    has_bands: bool
    is_complex: bool
    sources: tuple[int, ...]


def to_field(data: Any, name: str) -> GivenField:
    """A field that was given, or a list of fields, with an axis of channels.

    Raises:
        MovieGridError: its shape or dtype is not that of a field, or the fields of a list have several shapes.
        MovieError: it is not an array.
    """
    if isinstance(data, (list, tuple)) and data and all(hasattr(part, "ndim") for part in data):
        parts = [to_field(part, name) for part in data]
        if len({part.pixels.shape[:2] for part in parts}) > 1:
            raise MovieGridError(
                f"{name} is a list of fields of several shapes: {[part.pixels.shape[:2] for part in parts]}"
            )
        sources = tuple(number for number, part in enumerate(parts) for _ in range(part.pixels.shape[2]))
        pixels = np.concatenate([part.pixels for part in parts], axis=2)
        for part in parts:
            _check_exact(part.pixels, pixels.dtype, name)
        return GivenField(pixels, True, any(part.is_complex for part in parts), sources)
    data = _fill(data, name)
    try:
        field = np.asarray(data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MovieError(f"{name} is not an array: {error}") from error
    if field.dtype.kind not in "biufc" or field.dtype.itemsize > (16 if field.dtype.kind == "c" else 8):
        raise MovieGridError(
            f"{name} is of {field.dtype}; give integers, booleans, floats of up to 64 bits, or complex numbers"
        )
    if field.ndim == 1:
        field = field[None]
    if field.ndim not in (2, 3) or 0 in field.shape:
        raise MovieGridError(
            f"{name} has the shape {np.shape(data)}; a field is (y, x), (y, x, channel) or (x,), and not empty"
        )
    has_bands, is_complex = field.ndim == 3, field.dtype.kind == "c"
    if not has_bands:
        field = field[:, :, None]
    if is_complex:
        field = np.stack([field.real, field.imag], axis=3).reshape(*field.shape[:2], -1)
    # The native order of bytes, in which everything else computes.
    field = field.astype(field.dtype.newbyteorder("="), copy=False)
    return GivenField(field, has_bands or is_complex, is_complex, tuple(range(field.shape[2])))


def _fill(data: Any, name: str) -> Any:
    """A masked array with NaN for masked values; other data as they are."""
    if not isinstance(data, np.ma.MaskedArray):
        return data
    if data.dtype.kind not in "fc" and np.ma.is_masked(data):
        raise MovieGridError(
            f"{name} has {np.ma.getmaskarray(data).sum():,} masked values of {data.dtype}, which has no NaN; replace them with "
            "filled(), or convert it to floats"
        )
    return data.filled(np.nan) if data.dtype.kind in "fc" else data.data


def _check_exact(pixels: Array, dtype: np.dtype[Any], name: str) -> None:
    """Refuse integers that floats would round: numpy takes the conversion of 64 bits for a safe one."""
    if pixels.dtype.kind not in "iu" or dtype.kind != "f" or 8 * pixels.dtype.itemsize <= np.finfo(dtype).nmant + 1:
        return
    # Compared as integers. The largest power of two is outside of their range as a float, and not as an exact integer.
    limits = np.iinfo(pixels.dtype)
    rounded = pixels.astype(dtype)
    is_inside = rounded < dtype.type(2.0) ** limits.bits / (2 if limits.min else 1)
    if not (is_inside.all() and np.array_equal(rounded.astype(pixels.dtype), pixels)):
        raise MovieGridError(f"{name} has {pixels.dtype} values that {dtype} does not hold exactly; give bits='exact'")


def stored_dtype(dtype: np.dtype[Any], bits: int | str, name: str) -> np.dtype[Any]:
    """The dtype of the fields that are read."""
    if bits == "exact":
        return dtype
    if bits in (8, 16):
        return np.dtype(np.float32) if dtype.kind == "f" and dtype.itemsize <= 4 else np.dtype(np.float64)
    stored = np.dtype(f"f{int(bits) // 8}")
    if dtype.kind != "f" and not np.can_cast(dtype, stored, "safe"):
        raise MovieGridError(f"{name} is of {dtype}, which {stored} does not hold exactly; give bits='exact'")
    return stored


def fit(field: GivenField, form: Description, name: str, *, may_round: bool = True) -> Array:
    """The pixels of a field in the form of its movie.

    Args:
        field: the field.
        form: of the movie.
        name: of the field, for errors.
        may_round: whether floats of an exact movie are rounded to its fewer bits.

    Raises:
        MovieGridError: it has another shape, or a dtype that the movie does not hold.
        MovieRangeError: it has values that the movie does not hold.
    """
    expected = (form.height, form.width, form.bands)
    if field.pixels.shape != expected or field.has_bands != form.has_bands:
        got = field.pixels.shape if field.has_bands else field.pixels.shape[:2]
        raise MovieGridError(
            f"{name} has the shape {got}, and the movie {form.field_shape}; all fields of a movie are alike"
        )
    if not form.is_exact:
        return field.pixels
    dtype = field.pixels.dtype
    is_rounded = may_round and (dtype.kind, form.dtype.kind) == ("f", "f")
    if not is_rounded and not np.can_cast(dtype, form.dtype, "safe"):
        raise MovieGridError(f"{name} is of {dtype}, and the movie of {form.dtype}; convert it")
    _check_exact(field.pixels, form.dtype, name)
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(field.pixels, form.dtype)
    if dtype.itemsize > form.dtype.itemsize and (np.isinf(pixels) & ~np.isinf(field.pixels)).any():
        raise MovieRangeError(f"{name} has values that {form.dtype} does not hold; give more bits, or bits='exact'")
    return pixels


def to_limits(
    given: float | Sequence[float] | str, field: GivenField, find: Callable[[Array], Any], keyword: str, name: str
) -> tuple[float, ...]:
    """A limit for each channel."""
    bands = field.pixels.shape[2]
    if isinstance(given, str):
        if given != "auto":
            raise MovieError(f"{name}: {keyword}={given!r}; give numbers, or 'auto'")
        finite = [plane[np.isfinite(plane)] for plane in np.moveaxis(field.pixels, 2, 0)]
        return tuple(float(find(plane)) if plane.size else 0.0 for plane in finite)
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise MovieError(f"{name}: {keyword}={shorten(given)}; give numbers, or 'auto'") from error
    if values.ndim == 1 and len(values) == field.sources[-1] + 1:
        values = values[list(field.sources)]  # one for each field of a list
    if values.ndim > 1 or (values.ndim and len(values) != bands) or not np.isfinite(values).all():
        raise MovieError(
            f"{name}: {keyword}={shorten(given)}; give one finite number, or one for each of {bands} channels"
        )
    return tuple(np.broadcast_to(values, bands).tolist())


def with_room(form: Description) -> Description:
    """A description whose upper limits are above the lower ones: a first field may be constant."""
    vmax = tuple(high if high > low else low + 1 for low, high in zip(form.vmin, form.vmax, strict=True))
    return replace(form, vmax=vmax)


def call_with_time(function: Callable[..., Any], field: Any, time: float) -> Any:
    """Call a function of a field, or of a field and its time."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = [each for each in inspect.signature(function).parameters.values() if each.kind in kinds]
    except (TypeError, ValueError):  # some functions of C have no signature
        return function(field)
    required = [each for each in parameters if each.default is inspect.Parameter.empty]
    return function(field, time) if len(required) == 2 else function(field)
