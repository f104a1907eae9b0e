"""TileCache: the tiles decoded last, within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from ..._typing import Array
from ...system.memory import ClockCache

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PART_WEIGHT", "WHOLE_WEIGHT", "TileCache"]
#: What a hit adds to the score: of a tile that can only be decoded whole, and of one that could be decoded in part.
WHOLE_WEIGHT, PART_WEIGHT = 2, 1
_MAX_SCORE, _ADMISSION_SCORE = 64, 16
_MAX_RECENT = 1024


class TileCache(ClockCache[tuple[object, int], Array]):
    """Decoded tiles, by the reader's token and the tile's number.

    Storing a tile needs fresh memory, and the system may take longer to provide that than the codec to decode a tile. So
    tiles are admitted only while enough of them are used again. A score counts this: each hit adds its weight, and so does
    each miss of a tile that was decoded recently, since storing it would have made it a hit. Every other miss subtracts
    one. With a weight of 2 tiles are admitted if a third of the reads are hits; with a weight of 1, if half of them are,
    because a tile that could be decoded in part costs more to decode whole.

    Args:
        max_bytes: the budget.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, _nbytes)
        # A new cache admits tiles, until reads show that they are not used again.
        self._score = _MAX_SCORE
        self._recent: OrderedDict[tuple[object, int], None] = OrderedDict()
        self._large: tuple[tuple[object, int], Array] | None = None

    def look_up(self, key: tuple[object, int], weight: int = WHOLE_WEIGHT) -> Array | None:
        """Get a tile that is about to be used, and count the hit; ``None`` if it is not stored."""
        tile = self.get(key)
        if tile is not None:
            self._score = min(_MAX_SCORE, self._score + weight)
        return tile

    def admit(self, key: tuple[object, int], tile: Array) -> None:
        """Count the miss of a tile that was decoded just now, and store the tile if tiles are admitted."""
        if self.record_miss(key):
            self.put(key, tile)

    def find_picture(self, key: tuple[object, int]) -> Array | None:
        """As :meth:`look_up`, for an image that is decoded as a whole."""
        large = self._large
        return large[1] if large is not None and large[0] == key else self.look_up(key)

    def has_picture(self, key: tuple[object, int]) -> bool:
        """Whether an image that is decoded as a whole is stored; counts nothing."""
        large = self._large
        return key in self or (large is not None and large[0] == key)

    def admit_picture(self, key: tuple[object, int], picture: Array) -> None:
        """As :meth:`admit`, for an image that is decoded as a whole. The last one over the budget is kept beside it."""
        # Decoding such an image for each crop would take seconds.
        if picture.nbytes > self.max_bytes:
            self._large = (key, picture)
        else:
            self.admit(key, picture)

    def record_miss(self, key: tuple[object, int], weight: int = WHOLE_WEIGHT) -> bool:
        """Count the miss of a tile; returns whether tiles are admitted now."""
        self.record_misses((key,), weight)
        return self.is_admitting

    def record_misses(self, keys: Sequence[tuple[object, int]], weight: int) -> None:
        """Count the misses of several tiles."""
        # Threads do this without a lock, which is too slow here: a lost update leaves the score a little off, no more.
        recent, score = self._recent, self._score
        for key in keys:
            # One operation, since threads share the dictionary. None means that the key was there.
            is_repeated = recent.pop(key, key) is None
            recent[key] = None
            score = min(_MAX_SCORE, score + weight) if is_repeated else max(0, score - 1)
        self._score = score
        while len(recent) > _MAX_RECENT:
            recent.popitem(last=False)

    @property
    def is_admitting(self) -> bool:
        """Whether enough tiles are used again that new ones are stored."""
        return self._score >= _ADMISSION_SCORE and self.max_bytes > 0


def _nbytes(tile: Array) -> int:
    return tile.nbytes
