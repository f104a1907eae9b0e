"""Options of a read: fill, interpolation, antialiasing, nodata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ..errors import shorten
from ..geometry.kernels import INTERPOLATIONS
from .values import NODATA_MODES

if TYPE_CHECKING:
    from ..geometry.kernels import Interpolation
    from .values import NodataMode

__all__ = ["AsAsked", "ask", "ask_nothing"]


class AsAsked(NamedTuple):
    """How pixels come about that are not taken as they are; see :meth:`ndframes.Frames.load_region`."""

    fill: complex = 0
    interpolation: Interpolation | Mapping[str, Interpolation] = "linear"
    antialias: bool = True
    nodata: NodataMode = "keep"


#: Pixels as they are, and what is made of them as by default.
ask_nothing = AsAsked()


def ask(
    fill: complex, interpolation: Interpolation | Mapping[str, Interpolation], antialias: object, nodata: NodataMode
) -> AsAsked:
    """What is asked for, checked.

    Raises:
        ValueError: the interpolation or the way with nodata is none of those that there are.
    """
    if fill == 0 and interpolation == "linear" and antialias is True and nodata == "keep":  # by far the most common
        return ask_nothing
    for name in interpolation.values() if isinstance(interpolation, Mapping) else (interpolation,):
        if name not in INTERPOLATIONS:
            raise ValueError(f"interpolation={shorten(name)}; allowed: {', '.join(map(repr, INTERPOLATIONS))}")
    if nodata not in NODATA_MODES:
        raise ValueError(f"nodata={shorten(nodata)}; allowed: {', '.join(map(repr, NODATA_MODES))}")
    return AsAsked(fill, interpolation, bool(antialias), nodata)
