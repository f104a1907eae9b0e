"""Colour maps: a table of 256 colours for numbers from 0 to 1, by the names of matplotlib."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MovieError, shorten

if TYPE_CHECKING:
    from .._typing import Array

__all__ = ["COLORMAPS", "Colormap", "find_colormap"]
_SIZE = 256
#: The maps of OpenCV that look like those of matplotlib of the same name.
COLORMAPS = (
    "viridis", "plasma", "inferno", "magma", "cividis", "turbo", "gray", "twilight", "twilight_shifted", "bone", "hot", "jet",
    "hsv", "pink", "cool", "spring", "summer", "autumn", "winter",
)  # fmt: skip
# One of them is far from every colour of each map.
_MISSING = ((128, 128, 128), (255, 0, 255), (0, 255, 0), (255, 255, 255))


@dataclass(frozen=True, slots=True, eq=False)
class Colormap:
    """A colour map.

    Attributes:
        name: its name.
        table: ``(256, 3)`` uint8, red, green and blue of the numbers from 0 to 1.
        missing: the colour of NaN: of a few plain colours the one that differs most from all of the table.
    """

    name: str
    table: Array
    missing: tuple[int, int, int]

    def paint(self, values: Array, low: float, high: float) -> Array:
        """The picture ``(h, w, 3)`` uint8 of values ``(h, w)``.

        Args:
            values: of any real dtype; infinities get the first and the last colour, NaN the colour :attr:`missing`.
            low: the value of the first colour.
            high: the value at which the last colour is reached.

        Example:
            >>> find_colormap("gray").paint(np.array([[0, 0.5, 2, np.nan]]), 0, 1)[0].tolist()
            [[0, 0, 0], [128, 128, 128], [255, 255, 255], [255, 0, 255]]
        """
        with np.errstate(all="ignore"):  # any numbers are allowed here
            shown = (np.asarray(values, np.float64) - low) * (_SIZE / (high - low))
        is_missing = np.isnan(shown)
        numbers = np.where(is_missing, 0, shown).clip(0, _SIZE - 1).astype(np.uint8)
        picture: Array = self.table[numbers]
        picture[is_missing] = self.missing
        return picture


@cache
def find_colormap(name: str) -> Colormap:
    """The colour map of a name.

    Raises:
        MovieError: there is none; the message lists them.

    Example:
        >>> viridis = find_colormap("viridis")
        >>> viridis.table[0].tolist(), viridis.table[255].tolist(), viridis.missing
        ([68, 1, 84], [253, 231, 37], (255, 0, 255))
    """
    if name not in COLORMAPS:
        raise MovieError(f"cmap={shorten(name)} is not a colour map; use one of {', '.join(COLORMAPS)}")
    table = _make_table(name)
    return Colormap(name, table, max(_MISSING, key=lambda colour: _distance(table, colour)))


def _make_table(name: str) -> Array:
    levels = np.arange(_SIZE, dtype=np.uint8)
    if name == "gray":
        return np.repeat(levels[:, None], 3, axis=1)
    import cv2

    shown: Array = cv2.applyColorMap(levels[:, None], getattr(cv2, f"COLORMAP_{name.upper()}"))
    return np.ascontiguousarray(shown[:, 0, ::-1])


def _distance(table: Array, colour: tuple[int, int, int]) -> float:
    """From a colour to the nearest one of a table."""
    return float(np.square(table.astype(np.float64) - colour).sum(1).min())
