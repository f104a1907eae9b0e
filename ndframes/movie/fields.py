"""Fields: the fields of a movie as an array that stays on disk, with the time of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import ChannelError, RegionError, check_choice, shorten
from ..geometry.regions import resolve_region, to_row, to_slice
from ..pixels.results import allocate
from ..spec.channels import default_codes, find_codes, parse_codes
from ..system.process import half_of_memory
from ..text import count_noun, format_bytes

if TYPE_CHECKING:
    from fractions import Fraction

    from .._typing import Array
    from ..frames.lazyframe import LazyFrame
    from ..video.fields.source import FieldSource

__all__ = ["Fields", "TimeChoice"]
#: Which field a time between two of them selects: the nearest one, or the one that is shown, the last one before.
TimeChoice = Literal["nearest", "shown"]


class Fields:
    """Some fields of a movie, in order: an array ``(t, y, x)`` or ``(t, y, x, channel)`` that stays on disk.

    Args:
        source: the open file.
        numbers: the numbers of the fields in the file; ``None``: all.
    """

    def __init__(self, source: FieldSource, numbers: Sequence[int] | None = None) -> None:
        self._opened = source
        self._numbers = numbers

    @property
    def _source(self) -> FieldSource:
        """The open file."""
        return self._opened

    @property
    def _rows(self) -> Sequence[int]:
        """The numbers of the fields in the file."""
        return range(len(self._source)) if self._numbers is None else self._numbers

    def __len__(self) -> int:
        """The number of fields."""
        return len(self._rows)

    @property
    def path(self) -> str:
        """The file."""
        return self._source.path

    @property
    def shape(self) -> tuple[int, ...]:
        """``(t, y, x)``, or ``(t, y, x, channel)`` if the fields were written with channels."""
        return (len(self), *self._source.form.field_shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the fields."""
        return self._source.form.dtype

    @property
    def nbytes(self) -> int:
        """The bytes of all fields in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def times(self) -> Array:
        """The time of each field, as it was given: float64 ``(t,)``, a copy."""
        return self._source.times[np.asarray(self._rows, np.intp)]

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of the channels."""
        form = self._source.form
        return form.channels or default_codes(form.bands)

    @property
    def vmin(self) -> tuple[float, ...]:
        """The lower limit of each channel: of the levels, or of the preview."""
        return self._source.form.vmin

    @property
    def vmax(self) -> tuple[float, ...]:
        """The upper limit of each channel."""
        return self._source.form.vmax

    @property
    def bits(self) -> int | Literal["exact"]:
        """The bits of a level, or ``"exact"`` if the fields equal those that were written."""
        return "exact" if self._source.form.is_exact else self._source.form.bits

    @property
    def has_exact_pictures(self) -> bool:
        """Whether the pictures that a player shows are the numbers themselves: integers of up to 16 bits."""
        form = self._source.form
        return form.is_exact and form.coding == "levels"

    @property
    def fps(self) -> Fraction:
        """Fields per second in a player."""
        return self._source.form.rate

    @property
    def is_complex(self) -> bool:
        """Whether complex fields were written: channels are then real and imaginary parts, in turn."""
        return self._source.form.is_complex

    @property
    def info(self) -> dict[str, Any]:
        """The data that was given with the movie."""
        return dict(self._source.form.info)

    @property
    def is_complete(self) -> bool:
        """Whether the movie was closed. ``False``: it is being written, or its writer was killed; what it has is right."""
        return self._source.places.is_complete

    @property
    def data(self) -> LazyFrame:
        """All fields of the file as a :class:`LazyFrame` ``(t, y, x, channel)``, for dask and xarray."""
        from ..frames.simple import open as open_frame

        return open_frame(self.path)

    def __getitem__(self, index: Any) -> Array:
        """Read fields or parts of them, as numpy does.

        The first axis takes a list of numbers in any order, too, and the last one names of channels.

        Raises:
            RegionError: not an index of this shape.
            RegionTooLargeError: the result exceeds half of the machine's memory.
            ChannelError: there is no such channel.
            MovieError: a field is damaged.
        """
        items = index if isinstance(index, tuple) else (index,)
        listed = None
        if items and isinstance(items[0], (list, np.ndarray)):
            listed = [to_row(item, len(self)) for item in items[0]]
            items = (slice(0, 0), *items[1:])
        items, bands = self._pick_channels(items)
        selection = resolve_region(items, self.shape)
        rows = list(selection.ranges[0]) if listed is None else listed
        shape = selection.shape if listed is None else (len(listed), *selection.shape[1:])
        out = allocate(shape, self.dtype, half_of_memory())
        self._fill(out.reshape(len(rows), *map(len, selection.ranges[1:])), rows, selection.ranges[1:])
        return out if bands is None else np.ascontiguousarray(out[..., bands])

    def _pick_channels(self, items: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int] | int | None]:
        """Replace names of channels by the whole axis, and return the numbers of these channels, or of the one."""
        if not items or not isinstance(items[-1], (str, list)) or (isinstance(items[-1], list) and len(items) == 1):
            return items, None
        codes = parse_codes(items[-1])
        found = list(find_codes(self.channels, codes))
        if not self._source.form.has_bands:
            if found != [0]:
                raise ChannelError(f"{self.path}: its fields have one channel, {self.channels[0]}")
            return items[:-1], None
        whole = (
            (*items[:-1], slice(None)) if Ellipsis in items[:-1] or len(items) == 4 else (*items[:-1], ..., slice(None))
        )
        return whole, found[0] if isinstance(items[-1], str) and len(found) == 1 else found

    def _fill(self, out: Array, rows: Sequence[int], axes: Sequence[range]) -> None:
        """Read parts of fields into an array of one item more than ``axes``; each field is read once."""
        if not out.size:
            return
        form = self._source.form
        bands = axes[2] if form.has_bands else range(1)
        inside = to_slice(axes[0]), to_slice(axes[1])
        last: tuple[int, Array] | None = None
        for place in sorted(range(len(rows)), key=lambda place: rows[place]):
            number = self._rows[rows[place]]
            if last is None or last[0] != number:
                last = number, self._source.read(number, list(bands))
            window = last[1][inside]
            out[place] = window if form.has_bands else window[:, :, 0]

    def at_time(self, seconds: float | Sequence[float], how: TimeChoice = "nearest") -> Array:
        """The fields at the given times.

        Args:
            seconds: one time on the scale of :attr:`times`, or several in any order.
            how: for a time between two fields, the ``"nearest"`` one, of two equally near ones the earlier; or the one that
                is ``"shown"``: the last one that is not later. Before the first field it is the first one.

        Raises:
            RegionError: a time is not a number, or there are no fields.
        """
        check_choice("how", how, TimeChoice)
        try:
            asked = np.asarray(seconds, np.float64)
        except (TypeError, ValueError) as error:
            raise RegionError(f"{self.path}: at_time({shorten(seconds)}); give times as numbers") from error
        if np.isnan(asked).any() or asked.ndim > 1 or not len(self):
            raise RegionError(
                f"{self.path}: at_time({shorten(seconds)}); give numbers, on one axis, of a movie with fields"
            )
        times = self.times
        if how == "nearest":
            found = np.abs(times[:, None] - asked.reshape(1, -1)).argmin(0)
        else:
            found = (np.searchsorted(times, asked.reshape(-1), side="right") - 1).clip(0)
        return self[int(found[0])] if asked.ndim == 0 else self[found.tolist()]

    def items(self) -> Iterator[tuple[float, Array]]:
        """The time and the field of each, one after the other."""
        for number, time in enumerate(self.times.tolist()):
            yield time, self[number]

    def __iter__(self) -> Iterator[Array]:
        return (self[number] for number in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(f"{self.path} is on disk: it cannot become an array without a copy; leave out copy=False")
        return np.asarray(self[...], dtype)

    def __repr__(self) -> str:
        state = "" if self.is_complete else ", not closed"
        times = self.times
        span = f", times {times[0]:g} to {times[-1]:g}" if len(times) else ""
        extents = " x ".join(f"{extent:,}" for extent in self.shape[1:])
        stored = "exact" if self._source.form.is_exact else f"{self._source.form.bits} bits"
        return (
            f"<{type(self).__name__} {self.path!r}: {count_noun(len(self), 'field')} of {extents} {self.dtype}, {stored}{span}, "
            f"{format_bytes(self.nbytes)}{state}>"
        )
