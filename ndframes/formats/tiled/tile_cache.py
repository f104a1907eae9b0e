"""TileCache: the tiles decoded last, within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from ..._typing import Array
from ...system.memory import ClockCache

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PART_WEIGHT", "WHOLE_WEIGHT", "TileCache"]


# How loud a tile that is asked for again speaks for keeping tiles: one that is only decoded whole, and one that need not be.
WHOLE_WEIGHT, PART_WEIGHT = 2, 1
_MOST_WORTH, _ENOUGH_WORTH = 64, 16
_MOST_SEEN = 1024


class TileCache(ClockCache[tuple[object, int], Array]):
    """Decoded tiles, by the reader's token and the tile's number.

    To keep a tile costs fresh memory, which may take longer to have than a tile to decode. So tiles are kept while enough of
    them are asked for again: each that is, or would have been had it been kept, speaks for it, and each that is decoded
    and was not seen lately speaks against it, with a weight of one. That is a third of them where those that speak for it have
    a weight of two, and half of them with a weight of one, as is right where a tile could be decoded in part.

    Args:
        max_bytes: how much of them is kept.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, _nbytes)
        self._worth = _MOST_WORTH
        self._lately: OrderedDict[tuple[object, int], None] = OrderedDict()

    def recall(self, key: tuple[object, int], weight: int = WHOLE_WEIGHT) -> Array | None:
        """As :meth:`get`, for one that is wanted."""
        tile = self.get(key)
        if tile is not None:
            self._worth = min(_MOST_WORTH, self._worth + weight)
        return tile

    def offer(self, key: tuple[object, int], tile: Array) -> None:
        """Keep a tile that was decoded just now, if that is worth it."""
        if self.expects(key):
            self.put(key, tile)

    def expects(self, key: tuple[object, int], weight: int = WHOLE_WEIGHT) -> bool:
        """Take notice of a tile that is to be decoded now; returns whether it is worth keeping."""
        self.notice((key,), weight)
        return self.is_keeping

    def notice(self, keys: Sequence[tuple[object, int]], weight: int) -> None:
        """The same of several tiles."""
        lately, worth = self._lately, self._worth
        for key in keys:
            is_again = lately.pop(key, key) is None
            lately[key] = None
            worth = min(_MOST_WORTH, worth + weight) if is_again else max(0, worth - 1)
        self._worth = worth
        while len(lately) > _MOST_SEEN:
            lately.popitem(last=False)

    @property
    def is_keeping(self) -> bool:
        """Whether tiles are worth keeping, as things stand."""
        return self._worth >= _ENOUGH_WORTH and self.max_bytes > 0


def _nbytes(tile: Array) -> int:
    return tile.nbytes
