"""Bands: weighted pixels summed up in bands of rows, which leave memory when no patch reaches them any more."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import OutputError
from ..pixels.rounding import ignore_float_errors

if TYPE_CHECKING:
    from .._typing import Array

__all__ = ["BAND_ROWS", "BandSums", "Blend"]
#: The height of a band. Lower bands leave memory sooner, and cost more calls for each patch.
BAND_ROWS = 64
#: How pixels of several patches become one: the weighted mean, the maximum, or that of the largest weight.
Blend = Literal["mean", "max", "first"]
#: Takes the first row of a band, the blended pixels ``(rows, width, channels)`` and the weights ``(rows, width)``.
BandWriter = Callable[[int, "Array", "Array"], None]


class BandSums:
    """The sums of an image, in bands of rows.

    Without a plan nobody knows which rows are complete. As long as patches come from top to bottom, bands above the present
    one wait in an unnamed file; after a patch that comes out of this order, everything stays in memory. With a plan, a band is
    written when the last patch that reaches it was added.

    Args:
        shape: ``(height, width, channels)`` of the result.
        blend: how pixels of several patches become one.
        write: takes each band, once, when it is complete.
        planned: for each band how many patches will reach it; ``None``: unknown.
        folder: where the unnamed file is made; ``None``: the folder of temporary files.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        blend: Blend,
        write: BandWriter,
        *,
        planned: Array | None = None,
        folder: str | None = None,
    ) -> None:
        self._shape = shape
        self._blend = blend
        self._write = write
        self._left = None if planned is None else planned.copy()
        self._folder = folder
        self._bands: dict[int, list[Array]] = {}
        self._file: IO[bytes] | None = None
        self._in_file: set[int] = set()
        self._is_written = np.zeros(-(-shape[0] // BAND_ROWS), bool)
        # For each band that left memory: whether all pixels are covered, or one bit for each pixel.
        self._covered: dict[int, bool | Array] = {}
        self._last_top = 0
        self._is_sorted = True

    def find_written(self, rows: range) -> int | None:
        """The first of some rows whose band is written; ``None``: none."""
        written = (number for number in _bands_of(rows) if self._is_written[number])
        return next((max(rows.start, number * BAND_ROWS) for number in written), None)

    def add(self, top: int, left: int, values: Array, weights: Array, *, place: int = 0) -> None:
        """Add pixels at a place inside the image.

        Args:
            top: the row of the first pixel.
            left: its column.
            values: ``(h, w, channels)``, numbers.
            weights: float64 ``(h, w)``, from 0.
            place: a number for the place of the patch; of equal weights, the lower one counts.
        """
        height, width = weights.shape
        if self._left is None and self._is_sorted:
            self._keep_order(top)
        for number in _bands_of(range(top, top + height)):
            first = number * BAND_ROWS
            start, stop = max(top, first), min(top + height, first + BAND_ROWS)
            window = slice(start - first, stop - first), slice(left, left + width)
            band = [array[window] for array in self._band(number)]
            inside = slice(start - top, stop - top)
            with ignore_float_errors():
                _BLENDS[self._blend](band, values[inside], weights[inside], place)

    def count_down(self, rows: range) -> None:
        """Count a patch of the plan as added, and write the bands that no other one reaches."""
        if self._left is None:
            return
        for number in _bands_of(rows):
            self._left[number] -= 1
            if not self._left[number]:
                self._finish(number)

    def finish(self) -> None:
        """Write all bands that are not written yet, from top to bottom."""
        for number in np.flatnonzero(~self._is_written).tolist():
            self._finish(number)
        self.discard()

    def discard(self) -> None:
        """Forget the bands that are not written, and close the file."""
        self._bands.clear()
        if self._file is not None:
            self._file.close()

    def covered(self) -> Array:
        """Which pixels have a weight above 0: ``(height, width)``, bool."""
        covered = np.zeros(self._shape[:2], bool)
        for number in range(len(self._is_written)):
            covered[number * BAND_ROWS : (number + 1) * BAND_ROWS] = self._coverage_of(number)
        return covered

    def find_gap(self) -> tuple[int, int] | None:
        """A pixel ``(y, x)`` of a band that is not written yet, without any weight; ``None`` if there is none."""
        for number in np.flatnonzero(~self._is_written).tolist():
            covered = self._coverage_of(number)
            if not covered.all():
                row, col = np.argwhere(~covered)[0].tolist()
                return number * BAND_ROWS + row, col
        return None

    def _coverage_of(self, number: int) -> Array:
        """Which pixels of a band have a weight above 0: ``(rows, width)``, bool."""
        height, width = self._shape[:2]
        known = self._covered.get(number)
        if number in self._bands:
            weights: Array = self._bands[number][1]
            return weights > 0
        if isinstance(known, np.ndarray):
            return np.unpackbits(known, axis=1, count=width).astype(bool)
        return np.full((min(BAND_ROWS, height - number * BAND_ROWS), width), bool(known))

    # -- one band -------------------------------------------------------------------------------------------------

    def _band(self, number: int) -> list[Array]:
        """The arrays of a band: values, weights, and for "first" the places of patches."""
        if number not in self._bands:
            rows = min(BAND_ROWS, self._shape[0] - number * BAND_ROWS)
            _, width, channel_count = self._shape
            # A maximum begins below everything.
            values = np.full((rows, width, channel_count), -np.inf if self._blend == "max" else 0.0)
            arrays: list[Array] = [values, np.zeros((rows, width))]
            if self._blend == "first":
                arrays.append(np.zeros((rows, width), np.int64))
            if number in self._in_file:
                self._load(number, arrays)
            self._bands[number] = arrays
        return self._bands[number]

    def _finish(self, number: int) -> None:
        values, weights = self._band(number)[:2]
        if self._blend == "mean":
            # Not in place: if the writer refuses them, the sums must still be sums.
            sums, values = values, np.zeros_like(values)
            with ignore_float_errors():
                np.divide(sums, weights[..., np.newaxis], out=values, where=weights[..., np.newaxis] > 0)
        self._write(number * BAND_ROWS, values, weights)
        self._note_coverage(number, weights)
        self._is_written[number] = True
        del self._bands[number]

    def _note_coverage(self, number: int, weights: Array) -> None:
        is_covered = weights > 0
        self._covered[number] = bool(is_covered.all()) or (
            np.packbits(is_covered, axis=1) if is_covered.any() else False
        )

    # -- bands that wait ------------------------------------------------------------------------------------------

    def _keep_order(self, top: int) -> None:
        """Move the bands above a patch to the file, unless it comes out of order."""
        if top < self._last_top:
            self._is_sorted = False
            return
        self._last_top = top
        for number in [number for number in self._bands if (number + 1) * BAND_ROWS <= top]:
            self._store(number)

    def _store(self, number: int) -> None:
        arrays = self._bands[number]
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by discard
                weakref.finalize(self, self._file.close)
            self._file.seek(number * self._band_bytes)
            for array in arrays:
                self._file.write(array.data)
        except OSError as error:
            raise OutputError(
                f"rows that are complete cannot wait in {self._folder or tempfile.gettempdir()}: {error.strerror or error}; "
                "give patches=, so that they need not wait"
            ) from error
        self._in_file.add(number)
        self._note_coverage(number, arrays[1])
        del self._bands[number]

    def _load(self, number: int, arrays: list[Array]) -> None:
        assert self._file is not None  # noqa: S101
        self._file.seek(number * self._band_bytes)
        for array in arrays:
            self._file.readinto(array.data.cast("B"))  # type: ignore[attr-defined]
        self._in_file.discard(number)

    @property
    def _band_bytes(self) -> int:
        _, width, channel_count = self._shape
        return BAND_ROWS * width * 8 * (channel_count + (2 if self._blend == "first" else 1))


def _bands_of(rows: range) -> range:
    """The numbers of the bands that some rows touch."""
    return range(rows.start // BAND_ROWS, -(-rows.stop // BAND_ROWS)) if rows else range(0)


def _add_mean(band: list[Array], values: Array, weights: Array, place: int) -> None:  # noqa: ARG001
    sums, weight_sums = band
    scaled = values * weights[..., np.newaxis]
    if not weights.all():
        # A pixel without weight counts for nothing, infinite or not.
        scaled[weights == 0] = 0
    sums += scaled
    weight_sums += weights


def _add_max(band: list[Array], values: Array, weights: Array, place: int) -> None:  # noqa: ARG001
    largest, weight_sums = band
    np.maximum(largest, values, out=largest, where=weights[..., np.newaxis] > 0)
    weight_sums += weights


def _add_first(band: list[Array], values: Array, weights: Array, place: int) -> None:
    """Replace pixels of less weight. Places make the result independent of the order where weights are equal."""
    kept, best, places = band
    is_better = (weights > best) | ((weights == best) & (weights > 0) & (place < places))
    kept[is_better] = values[is_better]
    best[is_better] = weights[is_better]
    places[is_better] = place


_BLENDS: dict[str, Callable[[list[Any], Any, Any, int], None]] = {
    "mean": _add_mean,
    "max": _add_max,
    "first": _add_first,
}
