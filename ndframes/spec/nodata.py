"""What marks the missing pixels of a file: one value, one value a band, or a colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union

__all__ = ["ColourKey", "Nodata", "format_nodata", "pack_nodata", "unpack_nodata"]


@dataclass(frozen=True, slots=True)
class ColourKey:
    """A colour that marks missing pixels: a pixel is missing where each of its samples equals the colour's.

    Attributes:
        values: the samples of the colour, one for each band of the file; ``None``: any, as for alpha beside a palette.
    """

    values: tuple[float | None, ...]


#: A number for all bands; a number for each band, ``None`` for a band without one; or a colour of all bands together.
Nodata = Union[float, tuple[Union[float, None], ...], ColourKey]  # noqa: UP007 - evaluated; Python 3.9 has no other form


def format_nodata(nodata: Nodata) -> str:
    """A short text for people.

    Example:
        >>> format_nodata(-9999.0), format_nodata((0, None)), format_nodata(ColourKey((10, 20, 30)))
        ('-9999', '0, none', 'colour 10, 20, 30')
    """
    if isinstance(nodata, ColourKey):
        return f"colour {format_nodata(nodata.values)}"
    if isinstance(nodata, tuple):
        return ", ".join("none" if value is None else format_nodata(value) for value in nodata)
    return str(nodata) if isinstance(nodata, int) else f"{nodata:g}"


def pack_nodata(nodata: Nodata | None) -> Any:
    """As plain data for JSON.

    Example:
        >>> pack_nodata(ColourKey((10, 20, 30))), unpack_nodata([0, None])
        ({'colour': [10, 20, 30]}, (0, None))
    """
    if isinstance(nodata, ColourKey):
        return {"colour": list(nodata.values)}
    return list(nodata) if isinstance(nodata, tuple) else nodata


def unpack_nodata(packed: Any) -> Nodata | None:
    """The inverse of :func:`pack_nodata`."""
    if isinstance(packed, dict):
        return ColourKey(tuple(packed["colour"]))
    return tuple(packed) if isinstance(packed, list) else packed
