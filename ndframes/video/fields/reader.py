"""FieldReader: the fields of a movie, read as the frames of any other reader of videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import MovieError, UnreadableImageError
from ...formats.reader import Reader, ReaderFacts
from ...geometry.regions import to_slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._typing import Array
    from .source import FieldSource

__all__ = ["FieldReader"]


class FieldReader(Reader):
    """The fields of a movie: the numbers that were written, not the picture that a player shows.

    Args:
        source: the open file.

    Attributes:
        source: the open file.
    """

    def __init__(self, source: FieldSource) -> None:
        form = source.form
        facts = ReaderFacts(
            format="movie",
            shape=(form.height, form.width, form.bands),
            dtype=form.dtype,
            tile_shape=(form.height, form.width),
            frame_count=len(source),
            channels=form.channels,
            memory_bytes=4096 + source.places.table.nbytes,
        )
        super().__init__(source.path, facts)
        self.source = source

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`: each field is unpacked once."""
        if not out.size:
            return
        inside = to_slice(rows), to_slice(cols)
        places: dict[int, list[int]] = {}
        for place, time in enumerate(times):
            places.setdefault(time, []).append(place)
        try:
            for number in sorted(places):
                window = self.source.read(number, list(bands))[inside]
                for place in places[number]:
                    out[place] = window
        except MovieError as error:
            raise UnreadableImageError(str(error)) from error

    def find_readable(self, numbers: Sequence[int], among: range, *, is_replaced: bool) -> dict[int, int]:
        """As :meth:`Reader.find_readable`, by reading the fields."""
        found = {number: number for number in sorted(set(numbers)) if self._is_readable(number)}
        if is_replaced:
            for number in set(numbers) - set(found):
                by_distance = sorted(among, key=lambda other: (abs(other - number), other))
                nearest = next((other for other in by_distance if self._is_readable(other)), None)
                if nearest is None:
                    raise UnreadableImageError(f"{self.path}: no field can be read")
                found[number] = nearest
        return found

    def _is_readable(self, number: int) -> bool:
        try:
            self.source.read(number)
        except MovieError:
            return False
        return True
