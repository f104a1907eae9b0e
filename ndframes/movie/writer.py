"""FieldWriter: writes fields to a movie, checked and counted."""

from __future__ import annotations

import logging
import math
import os
import sys
import time as clock
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import (
    MovieError,
    MovieGridError,
    MovieRangeError,
    NdframesError,
    OutputError,
    shorten,
)
from ..system.process import ForkAware
from ..text import count_noun, format_bytes
from ..video.fields.description import Description, NanMode
from ..video.fields.opening import open_source
from ..video.fields.sinks import append_sink, container_of, create_sink
from ..video.fields.times import times_path
from .given import GivenField, call_with_time, fit, stored_dtype, to_field, to_limits, with_room

if TYPE_CHECKING:
    from fractions import Fraction

    from .._typing import Array
    from ..video.fields.growing import Durability
    from ..video.fields.levels import Leveled
    from ..video.fields.sinks import FieldSink

__all__ = ["Clip", "Codec", "FieldWriter", "MovieReport", "WriteOptions"]
_log = logging.getLogger("ndframes")
#: What happens to values outside of the limits.
Clip = Literal["warn", "raise", "ignore"]
Codec = Literal["auto", "ffv1", "packed"]
_INHERITED: list[object] = []  # sinks of a parent process, which a forked child must not close


@dataclass(frozen=True, slots=True)
class MovieReport:
    """A report on a movie that was written.

    Attributes:
        path: the file.
        frames: the number of fields in the file.
        shape: ``(y, x)`` or ``(y, x, channel)`` of a field.
        dtype: of the fields as they are read.
        clipped: the number of values that this writer cut to the limits, NaN included.
        clipped_frames: the number of fields with such values.
        raw_bytes: the bytes of the fields as arrays.
        file_bytes: the bytes of the file.
        seconds: the time from the creation of the writer to its end.
    """

    path: str
    frames: int
    shape: tuple[int, ...]
    dtype: str
    clipped: int
    clipped_frames: int
    raw_bytes: int
    file_bytes: int
    seconds: float

    @property
    def ratio(self) -> float:
        """Bytes of fields per byte of the file."""
        return self.raw_bytes / self.file_bytes

    def to_dict(self) -> dict[str, Any]:
        """All attributes and :attr:`ratio` as plain data."""
        return {**asdict(self), "ratio": self.ratio}

    def __str__(self) -> str:
        cut = f"; {self.clipped:,} values in {count_noun(self.clipped_frames, 'field')} clipped" if self.clipped else ""
        return (
            f"{count_noun(self.frames, 'field')} of {' x '.join(map(str, self.shape))} {self.dtype}: {format_bytes(self.raw_bytes)} in "
            f"{format_bytes(self.file_bytes)}, {self.ratio:.3g} to 1, in {self.seconds:.2f} s{cut}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """How fields are written; see :class:`~ndframes.MovieStorage`."""

    vmin: Any
    vmax: Any
    bits: int | str | None
    channels: tuple[str, ...] | None
    rate: Fraction
    codec: Codec
    info: Mapping[str, Any]
    clip: Clip
    nan: NanMode
    has_times_file: bool
    transform: Callable[..., Any] | None
    durable: Durability


class FieldWriter(ForkAware):
    """Writes fields to a movie. The file is begun with the first field.

    Args:
        path: the file.
        options: how fields are written.
        continues: whether an existing file is continued.

    Attributes:
        times: the times of all fields in the file.
        closed: why the movie takes no more fields; empty if it does.

    Raises:
        MovieError: the file that is continued stores values with other bits than are asked for.
        MovieFormatError: the file that is continued is not a movie, or its container cannot be continued.
        OutputError: another process writes it.
    """

    def __init__(self, path: str, options: WriteOptions, *, continues: bool) -> None:
        self._path = path
        self._options = options
        self._sink: FieldSink | None = None
        self._form: Description | None = None
        self.times: list[float] = []
        self._clipped: list[Array] = []
        self._has_clipped = False
        self.closed = ""
        self._report: MovieReport | None = None
        self._started = clock.perf_counter()
        if continues:
            source = open_source(path)
            self._form = source.form
            _check_bits(options.bits, source.form, path)
            self.times = source.times.tolist()
            with _translating_errors(path):
                self._sink = append_sink(source, options.durable)
        # Last: another thread may fork before the attributes are set.
        super().__init__()

    @property
    def is_open(self) -> bool:
        """Whether a file is being written."""
        return self._sink is not None

    @property
    def clipped(self) -> Array:
        """The number of values cut to the limits, by field of this writer and channel: int64 ``(t, channel)``."""
        bands = 0 if self._form is None else self._form.bands
        return np.array(self._clipped, np.int64).reshape(len(self._clipped), bands)

    def append(self, data: Any, time: float | None) -> int:
        """Write one more field; see :meth:`ndframes.MovieStorage.append`."""
        number = len(self.times)
        name = f"{self._path}: field {number:,}"
        if self.closed:
            raise MovieError(f"{self._path} takes no more fields, {self.closed}")
        moment = self._to_time(time, name)
        if self._options.transform is not None:
            data = call_with_time(self._options.transform, data, moment)
        field = to_field(data, name)
        form = self._form or self._describe(field, name)
        pixels = fit(field, form, name, may_round=self._options.bits != "exact")
        self._check_range(pixels, form, name)
        leveled = self._write(pixels, moment, form, name)
        self.times.append(moment)
        self._count_clipped(leveled, form, name)
        return number

    def _write(self, pixels: Array, moment: float, form: Description, name: str) -> Leveled | None:
        try:
            with _translating_errors(name):
                if self._sink is None:
                    self._sink = create_sink(self._path, form, self._options.durable)
                self._form = form
                leveled = self._sink.write(pixels, moment)
                if self._options.has_times_file and not self._path.lower().endswith(".avi"):
                    self._write_time(moment)
        except OutputError:
            self.give_up("writing to it failed")
            raise
        except MovieRangeError as error:
            raise MovieRangeError(f"{name}: {error}") from error
        return leveled

    def flush(self) -> None:
        """Let readers see the fields that have been written, as far as the container allows."""
        if self._sink is not None:
            with _translating_errors(self._path):
                self._sink.flush()

    def close(self) -> MovieReport:
        """Complete the file; a second call returns the same report.

        Raises:
            MovieError: nothing was written.
            OutputError: the file cannot be completed; the fields that were written stay readable.
        """
        if self._report is not None:
            return self._report
        if self.closed:
            raise MovieError(f"{self._path} cannot be closed, {self.closed}")
        if self._form is None or not self.times:
            self.give_up("it was closed without a field")
            raise MovieError(f"{self._path}: no field was written; a movie has at least one")
        if self._sink is not None:
            try:
                with _translating_errors(self._path):
                    self._sink.finish()
            except BaseException:
                self.give_up("completing it failed")
                raise
        self._sink, self.closed = None, "it was closed"
        self._report = self._make_report(self._form)
        return self._report

    def _to_time(self, time: float | None, name: str) -> float:
        if time is None:
            return self.times[-1] + 1 if self.times else 0.0
        try:
            moment = float(time)
        except (TypeError, ValueError, OverflowError) as error:
            raise MovieError(f"{name}: time={shorten(time)}; give a number, or None") from error
        if not math.isfinite(moment):
            raise MovieError(f"{name}: time={moment}; give a finite number, or None")
        return moment

    def _describe(self, field: GivenField, name: str) -> Description:
        """What the file will hold, from its first field and the arguments."""
        bits = self._options.bits or (16 if field.pixels.dtype.kind == "f" else "exact")
        dtype = stored_dtype(field.pixels.dtype, bits, name)
        is_exact = bits not in (8, 16)
        has_levels = not is_exact or (dtype.kind in "bui" and dtype.itemsize <= 2 and self._options.codec != "packed")
        if self._options.codec != "auto" and has_levels != (self._options.codec == "ffv1"):
            what = f"exact {dtype}" if is_exact else f"levels of {bits} bits"
            raise MovieError(f"{name}: codec={self._options.codec!r} does not hold {what}; leave it out")
        height, width, bands = field.pixels.shape
        names = self._options.channels
        if names is not None and len(names) != bands:
            raise MovieGridError(
                f"{name} has {count_noun(bands, 'channel')}, and channels={'|'.join(names)!r} names {len(names)}"
            )
        if self._options.nan == "channel" and not is_exact and bands > int(bits):
            raise MovieError(
                f"{name}: nan='channel' marks up to {bits} channels with bits={bits}, and the field has {bands}"
            )
        form = Description(
            height=height,
            width=width,
            bands=bands,
            has_bands=field.has_bands,
            dtype=dtype,
            coding="levels" if has_levels else "packed",
            bits=(int(bits) if not is_exact else 8 * dtype.itemsize) if has_levels else 0,
            is_exact=is_exact,
            is_complex=field.is_complex,
            vmin=to_limits(self._options.vmin, field, np.min, "vmin", name),
            vmax=to_limits(self._options.vmax, field, np.max, "vmax", name),
            nan=self._options.nan,
            rate=self._options.rate,
            channels=names,
            info=self._options.info,
        )
        form = (
            with_room(form)
            if any(isinstance(limit, str) for limit in (self._options.vmin, self._options.vmax))
            else form
        )
        if not is_exact and not all(low < high for low, high in zip(form.vmin, form.vmax, strict=True)):
            raise MovieError(f"{name}: vmin={form.vmin} must be below vmax={form.vmax} in each channel")
        if not is_exact:
            _check_steps(form, name)
        container_of(self._path, form)
        return form

    def _check_range(self, pixels: Array, form: Description, name: str) -> None:
        """Refuse a field that would be clipped, if that is wished."""
        if form.is_exact or self._options.clip != "raise":
            return
        low, high = np.asarray(form.vmin), np.asarray(form.vmax)
        half = (high - low) / (2**form.bits - 1) / 2
        outside = (pixels < low - half) | (pixels > high + half)
        if outside.any():
            band = int(outside.any((0, 1)).argmax())
            found = pixels[:, :, band]
            raise MovieRangeError(
                f"{name}: {outside.sum():,} values are outside of the limits; channel {band} has {np.nanmin(found):g} to "
                f"{np.nanmax(found):g}, the limits are {low[band]:g} to {high[band]:g}; give wider ones, or bits='exact'"
            )

    def _count_clipped(self, leveled: Leveled | None, form: Description, name: str) -> None:
        cut: Array = np.zeros(form.bands, np.int64)
        if leveled is not None:
            cut = leveled.clipped + (leveled.missing if form.nan == "clip" else 0)
        self._clipped.append(cut)
        if not cut.any():
            return
        is_first, self._has_clipped = not self._has_clipped, True
        if is_first and self._options.clip == "warn":
            _log.warning(
                "%s: %s of its values were outside of the limits %s to %s, and were cut to them; the numbers of further ones are in "
                "MovieStorage.clipped and in the report",
                name,
                f"{cut.sum():,}",
                form.vmin,
                form.vmax,
            )

    def _write_time(self, moment: float) -> None:
        with open(times_path(self._path), "a" if self.times else "w", encoding="ascii") as file:
            file.write(f"{moment!r}\n")

    def _make_report(self, form: Description) -> MovieReport:
        cut = self.clipped
        raw_bytes = len(self.times) * form.height * form.width * form.bands * form.dtype.itemsize
        return MovieReport(
            self._path,
            len(self.times),
            form.field_shape,
            form.dtype.name,
            int(cut.sum()),
            int(cut.any(1).sum()) if cut.size else 0,
            raw_bytes,
            os.path.getsize(self._path),
            clock.perf_counter() - self._started,
        )

    def give_up(self, why: str) -> None:
        """Take no more fields; the file stays as it is, and one without a field is removed."""
        sink, self._sink = self._sink, None
        self.closed = why
        if sink is not None:
            sink.abandon()

    def _after_fork_in_child(self) -> None:
        """Leave the file to the parent."""
        if self._sink is not None:
            _INHERITED.append(self._sink)
            self._sink = None
        self.closed = "it belongs to the process that opened it"


def _check_bits(bits: int | str | None, form: Description, path: str) -> None:
    """Check that a movie that is continued stores values as the caller wishes, if that is said."""
    stored: set[int | str] = {"exact"} if form.is_exact else {form.bits}
    if form.is_exact and form.dtype in (np.float32, np.float64):
        stored.add(8 * form.dtype.itemsize)
    if bits is None or bits in stored:
        return
    what = f"exact {form.dtype}" if form.is_exact else f"levels of {form.bits} bits"
    raise MovieError(
        f"{path}: bits={bits!r}, and the movie has {what}, which it keeps; leave bits out, or write another file"
    )


def _check_steps(form: Description, name: str) -> None:
    """Refuse limits between which floats have no levels: the step, or its inverse, would be infinite."""
    for low, high in zip(form.vmin, form.vmax, strict=True):
        top = 2**form.bits - 1
        if not high - low < math.inf or (high - low) / top < sys.float_info.min:
            raise MovieError(
                f"{name}: between vmin={low:g} and vmax={high:g} there are no {top + 1:,} floats that can be computed with; give "
                "other limits, or bits='exact'"
            )


@contextmanager
def _translating_errors(name: str) -> Iterator[None]:
    """Raise errors of the system and of FFmpeg as ours."""
    try:
        yield
    except NdframesError:
        raise
    # PyAV has errors that are both, and a ValueError for what it refuses itself.
    except (OSError, ValueError) as error:
        raise OutputError(f"{name} cannot be written: {getattr(error, 'strerror', None) or error}") from error
