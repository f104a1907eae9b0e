"""UprightReader: an image turned as its orientation tag says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from .reader import Crop, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .._typing import Array
    from ..geometry.affine import Affine

__all__ = ["UprightReader"]


class _Turn(NamedTuple):
    """How the upright picture comes from the stored one: first transposed, then flipped."""

    is_transposed: bool
    flips_y: bool
    flips_x: bool


# By the orientation tag of EXIF and TIFF: which sides of the picture row 0 and column 0 are.
_TURNS = {
    1: _Turn(False, False, False),
    2: _Turn(False, False, True),
    3: _Turn(False, True, True),
    4: _Turn(False, True, False),
    5: _Turn(True, False, False),
    6: _Turn(True, False, True),
    7: _Turn(True, True, True),
    8: _Turn(True, True, False),
}


class UprightReader(Reader):
    """An image, turned as its orientation tag says. Regions and pixels are turned, so that only what is read is decoded.

    Overviews are turned, too. They are levels of the picture's own pyramid if it is not flipped. A level averages pixels in
    pairs from the first one on, so the level of a flipped picture is another one than the flipped level: its pairs lie elsewhere
    if the extent is odd, and halves are rounded in a pattern.

    Args:
        stored: reads the image as it is stored; its facts tell the orientation.
    """

    def __init__(self, stored: Reader) -> None:
        self._stored = stored
        self._turn = _TURNS[stored.facts.orientation]
        height, width, bands = stored.shape
        tile_height, tile_width = stored.tile_shape
        if self._turn.is_transposed:
            height, width, tile_height, tile_width = width, height, tile_width, tile_height
        facts = replace(stored.facts, shape=(height, width, bands), tile_shape=(tile_height, tile_width), orientation=1)
        super().__init__(stored.path, facts)

    @property
    def stored_from_upright(self) -> Affine:
        """The affine map from points ``(x, y)`` of the picture to points of the stored image."""
        height, width, _ = self.shape
        x = (-1.0, float(width)) if self._turn.flips_x else (1.0, 0.0)
        y = (-1.0, float(height)) if self._turn.flips_y else (1.0, 0.0)
        if self._turn.is_transposed:
            return 0.0, y[0], y[1], x[0], 0.0, x[1]
        return x[0], 0.0, x[1], 0.0, y[0], y[1]

    def level_factors(self, level: int) -> tuple[float, float]:
        """As :meth:`Reader.level_factors`."""
        factor_y, factor_x = self._stored.level_factors(level)
        return (factor_x, factor_y) if self._turn.is_transposed else (factor_y, factor_x)

    def read(self, rows: range, cols: range, bands: Sequence[int], out: Array, *, level: int = 0) -> None:
        """As :meth:`Reader.read`."""
        crop = self._turn_back(Crop(rows, cols, bands, out, level))
        self._stored.read(*crop[:4], level=level)

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_window`."""
        self.read(rows, cols, bands, out, level=level)

    def read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        """As :meth:`Reader.read_strided`."""
        self.read(rows, cols, bands, out, level=level)

    def count_decoded(self, rows: range, cols: range) -> int:
        """As :meth:`Reader.count_decoded`."""
        return self._stored.count_decoded(*self._turn_axes(rows, cols, self.shape[:2]))

    def split(self, crops: Sequence[Crop]) -> Iterator[Callable[[], None]]:
        """As :meth:`Reader.split`."""
        return self._stored.split([self._turn_back(crop) for crop in crops])

    def estimate_seconds(self, crop: Crop) -> float:
        """As :meth:`Reader.estimate_seconds`."""
        return self._stored.estimate_seconds(self._turn_back(crop))

    @property
    def is_worth_sharing(self) -> bool:
        """As :attr:`Reader.is_worth_sharing`."""
        return self._stored.is_worth_sharing

    def read_ahead(self, crops: Sequence[Crop]) -> None:
        """As :meth:`Reader.read_ahead`."""
        self._stored.read_ahead([self._turn_back(crop) for crop in crops])

    @property
    def own_levels(self) -> int:
        """As :attr:`Reader.own_levels`."""
        return 0 if self._turn.flips_y or self._turn.flips_x else self._stored.own_levels

    def _find_overview_shapes(self) -> Sequence[tuple[int, int]]:
        shapes = self._stored.overview_shapes
        return [(width, height) for height, width in shapes] if self._turn.is_transposed else shapes

    def _turn_back(self, crop: Crop) -> Crop:
        """The same pixels as a crop of the stored image; its target is a view of the crop's."""
        rows, cols = self._turn_axes(crop.rows, crop.cols, self.level_shape(crop.level)[:2])
        out = crop.out.transpose(1, 0, 2) if self._turn.is_transposed else crop.out
        return crop._replace(rows=rows, cols=cols, out=out)

    def _turn_axes(self, rows: range, cols: range, extents: tuple[int, int]) -> tuple[range, range]:
        rows = _flip(rows, extents[0]) if self._turn.flips_y else rows
        cols = _flip(cols, extents[1]) if self._turn.flips_x else cols
        return (cols, rows) if self._turn.is_transposed else (rows, cols)


def _flip(axis: range, extent: int) -> range:
    """The coordinates counted from the other end.

    Example:
        >>> _flip(range(0, 3), 10), _flip(range(8, 2, -2), 10)
        (range(9, 6, -1), range(1, 7, 2))
    """
    return range(extent - 1 - axis.start, extent - 1 - axis.stop, -axis.step)
