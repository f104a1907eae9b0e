"""py-pde's ``MovieStorage``, by ndframes: fields of a simulation as a movie, without the ffmpeg program.

The interface is that of ``pde.storage.movie``::

    from ndframes.compat.pde import MovieStorage
    storage = MovieStorage("run.avi", vmax=2)
    eq.solve(state, t_range=100, tracker=storage.tracker(1))
    MovieStorage("run.avi")[-1].plot()

It reads every file that py-pde writes, and py-pde reads what it writes in the formats that py-pde knows. It also stores complex
fields, more than four channels, and exact numbers (``bits_per_channel=32`` or ``64``), as movies of ndframes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import (
    MissingExtraError,
    MovieError,
    MovieFormatError,
    NdframesError,
    OutputError,
    UnsupportedError,
    shorten,
)
from ..movie.storage import MovieStorage as _Movie
from ..text import count_noun
from ..video.fields.opening import DecodedSource, describe_bare, open_source
from ..video.fields.pde import PDE_FORMATS, describe_pde, find_format, limits_of, parse_comment, to_comment
from ..video.fields.plain import create_plain_sink
from ..video.fields.source import describe_file
from ..video.fields.times import times_path

try:
    from matplotlib.colors import Normalize
    from pde.fields import FieldCollection
    from pde.storage.base import StorageBase, StorageTracker
    from pde.storage.memory import MemoryStorage
    from pde.trackers.interrupts import ConstantInterrupts, parse_interrupt
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("pde", "matplotlib"):
        raise
    raise MissingExtraError('ndframes.compat.pde needs py-pde: pip install "py-pde>=0.59"', name="pde") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Self

    from .._typing import Array
    from ..video.fields.description import Description
    from ..video.fields.source import FieldSource

__all__ = ["MovieStorage"]
_READING_MODES = ("readonly", "reading")
_WRITE_MODES = ("append", "truncate", "truncate_once", *_READING_MODES)
#: Values that describe the file, not the simulation.
_OF_THE_FILE = ("version", "vmin", "vmax", "write_times", "num_frames")


class MovieStorage(StorageBase):  # type: ignore[misc]
    """Stores fields of a simulation in a movie, and reads them.

    Args:
        filename: the file; ``.avi``, ``.mkv``, ``.mov`` or ``.mp4``.
        vmin: the lowest value that is stored, for all fields or for each field of a collection; lower ones are cut to it.
        vmax: the highest value, in the same way.
        bits_per_channel: 8 or 16 bits for levels between the two, rounded to the nearest; 32 or 64 for exact floats.
        video_format: py-pde's name of a format; ``"auto"``: the smallest that holds the fields, or a movie of ndframes.
        bitrate: of no use: the levels are stored without loss.
        info: data that is stored with the fields.
        write_mode: ``"truncate_once"``, ``"truncate"``, ``"append"``, which continues a movie of ndframes, or ``"readonly"``.
        write_times: whether the times are written to a text file beside the movie. Otherwise they are derived from the interval
            of the tracker. Movies of ndframes hold them in any case.
        loglevel: of no use: there is no ffmpeg program.

    Example:
        >>> import pde
        >>> path = getfixture("tmp_path") / "diffusion.avi"
        >>> state = pde.ScalarField.from_expression(pde.UnitGrid([16, 8]), "x / 16")
        >>> storage = MovieStorage(path)
        >>> _ = pde.DiffusionPDE().solve(state, t_range=2, dt=0.1, backend="numpy", tracker=storage.tracker(1))
        >>> reader = MovieStorage(path)
        >>> reader.times.tolist(), bool(abs(reader[0].data - state.data).max() < 1 / 65535)
        ([0.0, 1.0, 2.0], True)
    """

    write_mode: str

    def __init__(  # noqa: PLR0913 - the parameters of py-pde
        self,
        filename: str | os.PathLike[str],
        *,
        vmin: float | Sequence[float] = 0,
        vmax: float | Sequence[float] = 1,
        bits_per_channel: int = 16,
        video_format: str = "auto",
        bitrate: int = -1,
        info: dict[str, Any] | None = None,
        write_mode: str = "truncate_once",
        write_times: bool = False,
        loglevel: str = "warning",
    ) -> None:
        self._writer: _Writer | None = None  # first: __del__ needs it
        super().__init__(info=info, write_mode=write_mode)
        self.filename = Path(filename)
        self.vmin, self.vmax = vmin, vmax
        self.bits_per_channel = bits_per_channel
        self.video_format = video_format
        self.bitrate, self.loglevel = bitrate, loglevel
        self.write_times = write_times
        self._norms: list[Normalize] | None = None
        self._source: FieldSource | None = None
        # The times of the fields that this object wrote; None if it did not write the file.
        self._written: list[float] | None = None
        self._warned: set[str] = set()

    @property
    def _path(self) -> str:
        return os.fsdecode(self.filename)

    @property
    def _filename_times(self) -> Path:
        """The file beside the movie that holds the times."""
        return Path(times_path(self._path))

    # -- writing ------------------------------------------------------------------------------------------------------

    def start_writing(self, field: Any, info: dict[str, Any] | None = None) -> None:
        """Begin a movie.

        Args:
            field: an example of the fields to come.
            info: data that is stored with them.

        Raises:
            RuntimeError: the storage is writing already or read-only, or the grid has more than two axes.
            ValueError: the write mode, video format or limits are not allowed.
            NotImplementedError: the file cannot be continued.
            OutputError: the file cannot be written.
        """
        if self._writer is not None:
            raise RuntimeError(f"{self._path} is already being written; call end_writing first")
        if field.grid.num_axes > 2:
            raise RuntimeError(f"{self._path}: the grid has {field.grid.num_axes} axes; a movie has one or two")
        if self.write_mode not in _WRITE_MODES:
            raise ValueError(f"write_mode={shorten(self.write_mode)}; allowed: {', '.join(map(repr, _WRITE_MODES))}")
        if self.write_mode in _READING_MODES:
            raise RuntimeError(f"{self._path}: nothing can be written with write_mode={self.write_mode!r}")
        is_continued = self.write_mode == "append" and self.filename.exists()
        if not is_continued:
            self._data_shape = self._dtype = None
        super().start_writing(field, info=info)
        if info:
            self.info.update(info)
        self._norms = self._make_norms()
        self._source, self._warned = None, set()
        self._writer, self._written = self._continue() if is_continued else (self._begin(), [])
        if self.write_mode == "truncate_once":
            self.write_mode = "append"

    def _begin(self) -> _Writer:
        """A writer of a new file, which replaces an existing one."""
        channels = len(self._norms or ())
        video_format = self.video_format
        if video_format == "auto" and not self._field.is_complex:
            video_format = find_format(channels, self.bits_per_channel) or "auto"
        self.info["video_format"] = video_format
        if video_format == "auto":
            return _OwnWriter(self._path, "w", self._own_keywords())
        if video_format not in PDE_FORMATS:
            raise MovieFormatError(
                f"{self._path}: video_format={shorten(video_format)}; allowed: 'auto', {', '.join(map(repr, PDE_FORMATS))}"
            )
        if self._field.is_complex:
            raise UnsupportedError(
                f"{self._path}: {video_format} does not hold complex fields; use video_format='auto'"
            )
        return _PlainWriter(self._path, self._make_metadata(), self._picture_shape, has_times=self.write_times)

    def _continue(self) -> tuple[_Writer, list[float]]:
        form, _ = describe_file(self._path)
        if form is None or form.pde_format is not None:
            raise UnsupportedError(
                f"{self._path} cannot be continued: only movies of ndframes in .mkv and .mp4 can, such as those of "
                "bits_per_channel=64; use write_mode='truncate'"
            )
        writer = _OwnWriter(self._path, "a", {"times_file": self.write_times, **_CUT})
        return writer, writer.times

    def _own_keywords(self) -> dict[str, Any]:
        bits = next((bits for bits in (8, 16, 32, 64) if bits >= self.bits_per_channel), None)
        if bits is None:
            raise MovieError(f"{self._path}: bits_per_channel={self.bits_per_channel}; give up to 64")
        repeats = 2 if self._field.is_complex else 1
        norms = self._norms or []
        return {
            "bits": bits,
            "vmin": np.repeat([norm.vmin for norm in norms], repeats).tolist(),
            "vmax": np.repeat([norm.vmax for norm in norms], repeats).tolist(),
            "info": self._make_metadata(),
            "times_file": self.write_times,
            **_CUT,
        }

    def _make_metadata(self) -> dict[str, Any]:
        """What is stored in the comment of the file."""
        of_the_file = {
            "vmin": np.asarray(self.vmin).tolist(),
            "vmax": np.asarray(self.vmax).tolist(),
            "write_times": bool(self.write_times),
        }
        metadata = {**{key: value for key, value in self.info.items() if key not in _OF_THE_FILE}, **of_the_file}
        # A copy of this moment: py-pde's solvers go on to change what they pass, and add what is not JSON.
        stored = parse_comment(to_comment(metadata, self._path), self._path)
        assert stored is not None  # noqa: S101
        return stored

    def _make_norms(self) -> list[Normalize]:
        """The limits of each component of each field."""
        fields = self._field.fields if isinstance(self._field, FieldCollection) else [self._field]
        components = [each.grid.dim**each.rank for each in fields]
        limits = zip(*(limits_of(given, components, self._path) for given in (self.vmin, self.vmax)), strict=True)
        return [Normalize(low, high, clip=True) for low, high in limits]

    @property
    def _picture_shape(self) -> tuple[int, int]:
        """``(height, width)``: the first axis of the grid is that of the rows, and a grid of one axis is one row."""
        shape = self._grid.shape
        return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])

    def _append_data(self, data: Array, time: float) -> None:
        if self._writer is None or self._written is None:
            raise RuntimeError(f"{self._path} is not being written; call start_writing first")
        self._check_time(time)
        pixels = np.moveaxis(np.reshape(data, (-1, *self._picture_shape)), 0, 2)
        try:
            cut = self._writer.write(pixels, float(time))
        except OutputError:
            self._writer = None
            raise
        self._source = None
        self._written.append(float(time))
        self.info["num_frames"] = len(self._written)
        if cut:
            limits = f"`vmin={shorten(self.vmin)}` and `vmax={shorten(self.vmax)}`"
            self._warn_once("range", f"Data outside range specified by {limits}: {cut:,} values were cut at t={time:g}")

    def _check_time(self, time: float) -> None:
        """Warn of a time that is not the one that will be read."""
        if self.write_times or isinstance(self._writer, _OwnWriter):
            return
        start, interval = self.info.get("t_start"), self.info.get("dt", 1)
        expected = (start or 0) + interval * len(self)
        if not np.isclose(time, expected):
            self._warn_once("time", f"Time mismatch: {time:g} != {expected:g}")

    def _warn_once(self, about: str, message: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            self._logger.warning("%s", message)

    def end_writing(self) -> None:
        """Complete the file."""
        if self._writer is None:
            self._logger.warning("Writing was already terminated")
        self.close()

    def close(self) -> None:
        """Complete the file, if it is being written."""
        writer, self._writer = self._writer, None
        self._source = None
        if writer is not None:
            writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_writer", None) is not None:
            try:
                self.close()
            except NdframesError as error:
                self._logger.warning("%s", error)

    def clear(self, clear_data_shape: bool = False) -> None:
        """Remove the file and its times.

        Args:
            clear_data_shape: whether fields of another shape may be written afterwards.
        """
        self.close()
        self.filename.unlink(missing_ok=True)
        self._filename_times.unlink(missing_ok=True)
        self._written = None
        self.info.pop("num_frames", None)
        super().clear(clear_data_shape)

    def tracker(self, interrupts: Any = 1, *, transformation: Callable[..., Any] | None = None) -> StorageTracker:
        """A tracker that stores the fields of a simulation.

        Args:
            interrupts: when fields are stored: an interval, or interrupts of py-pde.
            transformation: a function of a field, or of a field and its time, whose result is stored.
        """
        interrupts = parse_interrupt(interrupts)
        # Those that derive from ConstantInterrupts are logarithmic.
        if not self.write_times and type(interrupts) is not ConstantInterrupts:
            self._logger.warning("Use `write_times=True` to write times for complex interrupts")
        self.info["dt"] = getattr(interrupts, "dt", 1)
        self.info["t_start"] = getattr(interrupts, "t_start", 0)
        return StorageTracker(storage=self, interrupts=interrupts, transformation=transformation)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _open(self) -> FieldSource:
        """The open file; what it says of itself goes into :attr:`info`."""
        if self._source is None:
            form, _ = describe_file(self._path)
            if form is None:
                self._logger.warning("Could not find metadata written by `py-pde`")
                self._source = DecodedSource(self._path, describe_bare(self._path))
            else:
                self._source = open_source(self._path)
            if self._writer is None:
                self._take_metadata(self._source.form)
            self.info["num_frames"] = len(self._source)
        return self._source

    def _take_metadata(self, form: Description) -> None:
        metadata: Mapping[str, Any] = form.info
        self.vmin = metadata.get("vmin", 0 if form.pde_format else list(form.vmin))
        self.vmax = metadata.get("vmax", 1 if form.pde_format else list(form.vmax))
        self.info.update({key: value for key, value in metadata.items() if key not in ("version", "vmin", "vmax")})
        if "field_attributes" not in self.info:
            return
        if self._field is None:
            self._init_field()
        self._norms = self._make_norms()
        self._data_shape, self._dtype = self._field.data.shape, self._field.dtype

    def __len__(self) -> int:
        return len(self._open()) if self._written is None else len(self._written)

    @property
    def times(self) -> Array:
        """The times of the fields: float64."""
        if self._writer is not None or self._written == []:
            return np.array(self._written, np.float64)
        return self._open().times

    @property
    def grid(self) -> Any:
        """The grid of the fields; ``None`` if the file does not have it."""
        if self._grid is None and self._written is None and self.filename.exists():
            self._open()
        return super().grid

    @property
    def data(self) -> Array:
        """All fields as an array ``(t, ..., *grid.shape)``, read anew each time."""
        return self._read_range(range(len(self)))

    def _read_range(self, numbers: range) -> Array:
        if not numbers:
            return np.empty((0, *(self._data_shape or ())))
        return np.stack([self._read(number) for number in numbers])

    def _read(self, number: int) -> Array:
        """The data of a field."""
        source = self._open()
        form = source.form
        if number >= len(source):
            raise MovieError(f"{self._path}: field {number:,} is not in the file yet; call end_writing")
        planes = np.moveaxis(source.read(number), 2, 0)
        if form.is_complex:
            joined = np.empty((len(planes) // 2, *planes.shape[1:]), np.result_type(planes.dtype, np.complex64))
            joined.real, joined.imag = planes[::2], planes[1::2]
            planes = joined
        if self._field is not None:
            return np.reshape(planes, self._field.data.shape)
        shape = planes.shape[1:] if self._grid is None else self._grid.shape
        return np.reshape(planes, (*planes.shape[: int(form.has_bands)], *shape))

    def _get_field(self, t_index: int) -> Any:
        count = len(self)
        number = t_index + count if t_index < 0 else t_index
        if not 0 <= number < count:
            raise IndexError(
                f"{self._path}: time index {t_index} is out of range; there are {count_noun(count, 'field')}"
            )
        self._open()
        if self._field is None:
            self._init_field()
        field = self._field.copy()
        field.data = self._read(number)
        return field

    def items(self) -> Iterator[tuple[float, Any]]:
        """The time and the field of each, one after the other."""
        for number, time in enumerate(self.times.tolist()):
            yield time, self._get_field(number)

    def extract_time_range(self, t_range: float | tuple[float | None, float | None] | None = None) -> MemoryStorage:
        """The fields whose times are in a range, in memory.

        Args:
            t_range: the first and the last time, both included, ``None`` for no limit; or only the last time.
        """
        first, last = t_range if isinstance(t_range, (tuple, list)) else (None, t_range)
        times = self.times
        start = 0 if first is None else int(np.searchsorted(times, first, side="left"))
        stop = len(times) if last is None else int(np.searchsorted(times, last, side="right"))
        data = self._read_range(range(start, stop))
        return MemoryStorage(times=times[start:stop], data=data, field_obj=self._field, info=self.info)


#: Values outside of the limits and NaN are cut, and reported by the adapter.
_CUT = {"clip": "ignore", "nan": "clip"}


class _Writer(Protocol):
    """Writes fields ``(y, x, channel)`` to a file."""

    def write(self, pixels: Array, time: float) -> int:
        """Write a field; returns how many of its values were cut."""

    def close(self) -> None:
        """Complete the file."""


class _OwnWriter:
    """Writes a movie of ndframes."""

    def __init__(self, path: str, mode: Any, keywords: Mapping[str, Any]) -> None:
        self._movie = _Movie(path, mode=mode, **keywords)

    @property
    def times(self) -> list[float]:
        times: list[float] = self._movie.times.tolist()
        return times

    def write(self, pixels: Array, time: float) -> int:
        self._movie.append(pixels, time)
        return int(self._movie.clipped[-1].sum())

    def close(self) -> None:
        # A movie has at least one field, so without any there is no file.
        if len(self._movie):
            self._movie.close()


class _PlainWriter:
    """Writes a file that py-pde reads."""

    def __init__(
        self, path: str, metadata: Mapping[str, Any], picture_shape: tuple[int, int], *, has_times: bool
    ) -> None:
        form = describe_pde(metadata, picture_shape, path)
        if not all(low < high for low, high in zip(form.vmin, form.vmax, strict=True)):
            raise MovieError(f"{path}: vmin={form.vmin} must be below vmax={form.vmax} in each channel")
        self._path = path
        self._sink: Any = None
        self._times: Any = None
        try:
            self._sink = create_plain_sink(path, form, to_comment(metadata, path))
            if has_times:
                self._times = open(times_path(path), "w", encoding="ascii")  # noqa: SIM115 - closed by close
        except OSError as error:
            self._abandon()
            raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error

    def write(self, pixels: Array, time: float) -> int:
        try:
            if self._times is not None:
                # First, so that no frame lacks its time.
                self._times.write(f"{time!r}\n")
                self._times.flush()
            leveled = self._sink.write(pixels, time)
        except OSError as error:
            self._abandon()
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}") from error
        return int(leveled.clipped.sum() + leveled.missing.sum())

    def close(self) -> None:
        try:
            self._sink.finish()
        except OSError as error:
            raise OutputError(f"{self._path} cannot be completed: {error.strerror or error}") from error
        finally:
            self._abandon()

    def _abandon(self) -> None:
        for each, close in ((self._times, "close"), (self._sink, "abandon")):
            if each is not None:
                getattr(each, close)()
        self._times = self._sink = None
