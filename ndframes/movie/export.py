"""Export: a video for people, of one channel of a movie of fields through a colour map."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..errors import MovieError, MovieRangeError, check_choice, shorten
from ..pixels.colormaps import find_colormap
from ..pixels.pictures import dtype_range
from ..spec.channels import find_codes, parse_codes
from ..video.writer import VideoWriter, WriteReport, check_not_source
from .progress import ProgressBar

if TYPE_CHECKING:
    from numbers import Rational

    from .._typing import Array
    from .fields import Fields

__all__ = ["export"]
Limit = float | Literal["auto"] | None
_SHOWN_PX = 480  # the longer side of a picture of a small field
_LEAST_PX = 64  # encoders refuse smaller pictures
_LARGEST_FACTOR = 64


def export(
    fields: Fields,
    path: str | os.PathLike[str],
    cmap: str,
    channel: str | int | None,
    fps: float | Rational | None,
    limits: tuple[Limit, Limit],
    *,
    scale: int | None,
    progress: bool | None,
) -> WriteReport:
    """Write a video for people; see :meth:`ndframes.MovieStorage.export`."""
    target = os.fsdecode(path)
    colormap = find_colormap(cmap)
    if not len(fields):
        raise MovieError(f"{fields.path} has no fields to export")
    check_not_source(target, fields.path)
    band = _find_band(fields, channel)
    # Before the fields are looked at, so that a wrong option fails first.
    writer = VideoWriter(target, fields.fps if fps is None else fps)
    factors = _find_factors(fields.shape[1:3], scale)
    low, high = _find_limits(fields, band, limits, progress)
    with writer, ProgressBar(progress, len(fields)) as bar:
        for plane in _read_band(fields, band):
            writer.append(_enlarge(colormap.paint(plane, low, high), factors))
            bar.step()
    # The context has closed the writer: this call returns the same report.
    return writer.close()


def _find_band(fields: Fields, channel: str | int | None) -> int:
    if channel is None:
        return 0
    if isinstance(channel, str):
        found = find_codes(fields.channels, parse_codes(channel))
        if len(found) > 1:
            raise MovieError(f"{fields.path}: channel={channel!r} names {len(found)} channels; a video shows one")
        return found[0]
    count = len(fields.channels)
    if isinstance(channel, bool) or not isinstance(channel, (int, np.integer)) or not -count <= channel < count:
        raise MovieError(
            f"{fields.path}: channel={shorten(channel)}; give one of {'|'.join(fields.channels)}, or its number"
        )
    return int(channel) % count


def _read_band(fields: Fields, band: int) -> Iterator[Array]:
    """One channel of each field."""
    has_bands = fields.ndim == 4
    for number in range(len(fields)):
        yield fields[number, :, :, band] if has_bands else fields[number]


def _find_limits(fields: Fields, band: int, given: tuple[Limit, Limit], progress: bool | None) -> tuple[float, float]:
    """The values of the first and the last colour."""
    for name, limit in zip(("vmin", "vmax"), given, strict=True):
        if isinstance(limit, str):
            check_choice(name, limit, Literal["auto"])
        elif limit is not None and not math.isfinite(_to_number(limit, name, fields.path)):
            raise MovieError(f"{fields.path}: {name}={limit}; give a finite number, 'auto', or None")
    stored = _stored_limits(fields, band)
    found = _find_range(fields, band, progress) if "auto" in given else stored
    low, high = (
        float(other if limit is None else each if isinstance(limit, str) else limit)
        for limit, each, other in zip(given, found, stored, strict=True)
    )
    if low == high and "auto" in given:
        high = low + 1  # a movie may be constant
    if not low < high:
        raise MovieRangeError(f"{fields.path}: vmin={low:g} must be below vmax={high:g}")
    return low, high


def _to_number(limit: object, name: str, path: str) -> float:
    try:
        return float(limit)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise MovieError(f"{path}: {name}={shorten(limit)}; give a number, 'auto', or None") from error


def _stored_limits(fields: Fields, band: int) -> tuple[float, float]:
    """The limits of a movie; those of integers that are pictures are the range of the dtype, which a player shows."""
    if fields.has_exact_pictures:
        return dtype_range(fields.dtype)
    return fields.vmin[band], fields.vmax[band]


def _find_range(fields: Fields, band: int, progress: bool | None) -> tuple[float, float]:
    """The smallest and the largest finite value of a channel."""
    low, high = math.inf, -math.inf
    with ProgressBar(progress, len(fields), "find limits, frames") as bar:
        for plane in _read_band(fields, band):
            finite = plane[np.isfinite(plane)]
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            bar.step()
    return (low, high) if low <= high else (0.0, 1.0)


def _find_factors(shape: tuple[int, ...], scale: int | None) -> tuple[int, int]:
    """By which whole numbers the rows and columns of a field are repeated."""
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, (int, np.integer)) or scale < 1):
        raise MovieError(f"scale={shorten(scale)}; give a whole number from 1, or None")
    factor = int(scale) if scale is not None else min(_LARGEST_FACTOR, max(1, round(_SHOWN_PX / max(shape))))
    # A field of one row becomes a band.
    rows, cols = (max(factor, math.ceil(_LEAST_PX / extent)) for extent in shape)
    return rows, cols


def _enlarge(picture: Array, factors: tuple[int, int]) -> Array:
    """Repeat rows and columns, and the last ones once more where their number is odd: most players need even sides."""
    enlarged = picture.repeat(factors[0], 0).repeat(factors[1], 1)
    odd = [(0, extent % 2) for extent in enlarged.shape[:2]]
    return np.pad(enlarged, [*odd, (0, 0)], mode="edge")
