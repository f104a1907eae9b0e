"""MovieStorage: numeric fields as a movie that any player shows, and the same numbers back."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import ChannelError, MovieError, NdframesError, OutputError, check_choice, shorten
from ..spec.channels import parse_codes
from ..system.output import check_output_path
from ..video.codecs import CODECS, to_rate
from ..video.fields.description import NanMode
from ..video.fields.growing import Durability
from ..video.fields.opening import open_source
from ..video.fields.sinks import container_of
from .export import Limit, export
from .fields import Fields
from .given import call_with_time
from .writer import Clip, Codec, FieldWriter, MovieReport, WriteOptions

if TYPE_CHECKING:
    from numbers import Rational
    from types import TracebackType

    from typing_extensions import Self

    from .._typing import Array
    from ..video.fields.source import FieldSource
    from ..video.writer import WriteReport

__all__ = ["MovieReport", "MovieStorage"]
_log = logging.getLogger("ndframes")
Mode = Literal["r", "w", "a", "x"]
_BITS = (8, 16, 32, 64, "exact")


class MovieStorage(Fields):
    """Numeric fields as a movie: any player shows it, and the numbers are read back by index.

    Fields are written one by one while a simulation runs. If the process is killed, the file keeps every field that
    ``durable`` promises, and ``mode="a"`` continues it. Each field is stored on its own: reading one takes the same time in
    a movie of any length.

    ========== =============================== =======================================================================
    bits       fields that are read            stored as
    ========== =============================== =======================================================================
    8, 16      within half a level of the      levels between ``vmin`` and ``vmax``, rounded to the nearest, as a
               range                           lossless picture (FFV1)
    32, 64     equal, as float32 or float64    packed values, beside a preview by H.264
    "exact"    equal, in the dtype given       integers of up to 16 bits as a lossless picture, others packed
    ========== =============================== =======================================================================

    Rows of the picture are ``y``. Two to four channels are red, green, blue and alpha of the picture; more are gray tiles.

    Args:
        path: the file. ``.mkv`` holds every kind of fields and can be continued in place; so do ``.mp4`` and ``.mov``, whose
            newest field is readable one field later; ``.avi`` holds levels alone, with the times in a file beside it.
        mode: ``"r"`` reads, ``"w"`` writes a new file, which replaces an existing one with the first field, ``"x"`` refuses to
            replace one, ``"a"`` continues a file, or begins one. A file that is continued keeps its limits, channels, rate and
            ``info``; those given are for a new one. Other ``bits`` than it has are an error.
        vmin: the lower limit of the levels, or of the preview: a number, one for each channel, or ``"auto"``: from the first
            field.
        vmax: the upper limit, in the same way.
        bits: see above. ``None``: 16, or ``"exact"`` for integers.
        channels: the names of the channels, such as ``"u|v"``.
        fps: fields per second in a player; not the times of the fields.
        codec: ``"ffv1"`` for a lossless picture, ``"packed"`` for packed values; ``"auto"``: as in the table.
        info: data to be stored in the file: a dict of JSON values.
        clip: what happens to values outside of the limits, which are cut to them: ``"warn"`` logs the first such field,
            ``"raise"`` refuses the field, ``"ignore"`` only counts; see :attr:`clipped`.
        nan: what happens to NaN in levels: ``"raise"`` refuses the field, ``"clip"`` stores the lower limit, ``"channel"``
            marks it in a channel of its own, so that it is read as NaN.
        times_file: whether the times are also written to a text file beside the movie, as py-pde does.
        transform: a function of a field, or of a field and its time, that is applied to each field before it is written.
        durable: what a killed process leaves: ``"frame"``: every field but the newest; ``"second"``: the same, and after a
            power failure all but the last second; ``"close"``: what happens to be written.

    Raises:
        MovieError: a value is not allowed, or two exclude each other.
        MovieFormatError: the file is not a movie of fields, or its container is not one of those above.
        SourceMissingError: there is no file to read.
        OutputError: the folder is missing, the file exists (``"x"``), or another process writes it.

    Example:
        >>> import numpy as np
        >>> import ndframes as nf
        >>> path = getfixture("tmp_path") / "wave.mkv"
        >>> y, x = np.mgrid[0:48, 0:64] / 10
        >>> with nf.MovieStorage(path, mode="w", vmin=-1, vmax=1, info={"speed": 2}) as movie:
        ...     for step in range(5):
        ...         number = movie.append(np.sin(x + y - 2 * step), time=step / 3)
        >>> movie = nf.MovieStorage(path)
        >>> movie.shape, float(movie.times[4]), movie.info
        ((5, 48, 64), 1.3333333333333333, {'speed': 2})
        >>> bool(abs(movie[3] - np.sin(x + y - 6)).max() <= 1 / 65535)
        True
    """

    def __init__(  # noqa: PLR0913 - a keyword for each thing that a user may choose
        self,
        path: str | os.PathLike[str],
        *,
        mode: Mode = "r",
        vmin: float | Sequence[float] | Literal["auto"] = 0,
        vmax: float | Sequence[float] | Literal["auto"] = 1,
        bits: Literal[8, 16, 32, 64, "exact"] | None = None,
        channels: str | Sequence[str] | None = None,
        fps: float | Rational = 25,
        codec: Codec = "auto",
        info: Mapping[str, Any] | None = None,
        clip: Clip = "warn",
        nan: NanMode = "raise",
        times_file: bool = False,
        transform: Callable[..., Any] | None = None,
        durable: Durability = "frame",
    ) -> None:
        self._path = os.fsdecode(path)
        self.mode = mode
        check_choice("mode", mode, Mode)
        options = WriteOptions(
            vmin=vmin,
            vmax=vmax,
            bits=bits,
            channels=None if channels is None else parse_codes(channels),
            rate=to_rate(fps, self._path, CODECS["ffv1"]),
            codec=codec,
            info={} if info is None else info,
            clip=clip,
            nan=nan,
            has_times_file=times_file,
            transform=transform,
            durable=durable,
        )
        _check(options, self._path)
        self._writer: FieldWriter | None = None
        if mode == "r":
            super().__init__(open_source(self._path))
            return
        self._check_target()
        self._writer = FieldWriter(self._path, options, continues=mode == "a" and os.path.exists(self._path))
        self._reader: FieldSource | None = None

    def _check_target(self) -> None:
        """Check what can be checked before the first field."""
        container_of(self._path)
        check_output_path(self._path)
        if self.mode == "x" and os.path.exists(self._path):
            raise OutputError(f"{self._path} exists; use mode='w' to replace it, or mode='a' to continue it")

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(self, data: Any, time: float | None = None) -> int:
        """Write one more field.

        Args:
            data: ``(y, x)``, ``(y, x, channel)``, ``(x,)``, which becomes one row, or a list of such fields, whose channels
                follow each other. A complex field becomes two channels, its real and its imaginary part. All fields have
                the shape of the first one.
            time: its time; ``None``: one more than that of the field before, from 0 on.

        Returns:
            The number of the field in the file.

        Raises:
            MovieGridError: the field has another shape or dtype than the first one.
            MovieRangeError: it has values outside of the limits and ``clip="raise"``, or NaN and ``nan="raise"``.
            MovieError: it is not a field, or the movie takes no more.
            OutputError: it cannot be written, such as on a full disk. The fields before it stay readable.

        After an error the movie takes further fields, unless writing has failed.
        """
        if self._writer is None:
            raise MovieError(f"{self._path} takes no more fields, it is open for reading")
        return self._writer.append(data, time)

    def extend(self, fields: Iterable[Any]) -> None:
        """Write several fields; see :meth:`append`.

        Args:
            fields: an array ``(t, y, x)`` or ``(t, y, x, channel)``, or an iterable of fields.
        """
        for field in fields:
            self.append(field)

    def flush(self) -> None:
        """Let readers see the fields that have been written, as far as the container allows."""
        if self._writer is not None:
            self._writer.flush()

    @property
    def clipped(self) -> Array:
        """The number of values cut to the limits, NaN included, by field of this writer and channel: int64 ``(t, channel)``."""
        return np.zeros((0, 0), np.int64) if self._writer is None else self._writer.clipped

    def close(self) -> MovieReport | None:
        """Complete the file; a second call returns the same report, and one of a reader ``None``.

        Raises:
            MovieError: nothing was written.
            OutputError: the file cannot be completed; the fields that were written stay readable.
        """
        return None if self._writer is None else self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None or (kind is not None and self._writer.closed):
            return
        # After an error, too: the fields that were written are worth having.
        if kind is None or self._writer.times:
            self.close()
        else:
            self._writer.give_up("an error came before its first field")

    def __del__(self) -> None:
        # __init__ may have raised before it set the attribute.
        writer = getattr(self, "_writer", None)
        if writer is not None and writer.is_open:
            try:
                writer.close()
            except NdframesError as error:
                _log.warning("%s", error)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._writer is not None and self._writer.is_open:
            raise MovieError(f"{self._path} is being written; open it with mode='r' in the other process")
        return type(self), (self._path,)

    # -- reading ------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if self._writer is not None:
            return len(self._writer.times)
        if not self._source.places.is_complete:
            self._source.refresh()
        return super().__len__()

    @property
    def _source(self) -> FieldSource:
        if self._writer is None:
            return super()._source
        if not self._writer.times:
            raise MovieError(f"{self._path} has no field yet")
        self._writer.flush()
        if self._reader is None:
            self._reader = open_source(self._path)
        if len(self._reader) != len(self._writer.times):
            self._reader.refresh()
        return self._reader

    @property
    def _rows(self) -> Sequence[int]:
        return super()._rows if self._writer is None else range(len(self._writer.times))

    @property
    def times(self) -> Array:
        """The time of each field, as it was given: float64 ``(t,)``, a copy."""
        return super().times if self._writer is None else np.array(self._writer.times, np.float64)

    def __repr__(self) -> str:
        if self._writer is not None and not self._writer.times:
            return f"<MovieStorage {self._path!r}: no field yet>"
        return super().__repr__()

    # -- whole movies -------------------------------------------------------------------------------------------------

    def extract_time_range(self, t_range: float | tuple[float | None, float | None]) -> MovieStorage:
        """The fields whose times are in a range, as a movie to read; nothing is copied.

        Args:
            t_range: the first and the last time, both included; ``None`` for no limit. One number: the last time.
        """
        low, high = t_range if isinstance(t_range, (tuple, list)) else (None, t_range)
        times = self.times
        inside = (times >= (-np.inf if low is None else low)) & (times <= (np.inf if high is None else high))
        part = MovieStorage(self._path)
        part._numbers = [row for row, is_in in zip(self._rows, inside, strict=True) if is_in]
        return part

    def apply(self, function: Callable[..., Any], out: Any = None) -> Any:
        """Apply a function to each field.

        Args:
            function: takes a field, or a field and its time, and returns a field.
            out: where the results go: a :class:`MovieStorage` that is being written, or the path of a new movie with exact
                numbers. ``None``: a new array in memory.

        Returns:
            ``out`` as a movie, or the array ``(t, ...)``.
        """
        results = ((time, call_with_time(function, field, time)) for time, field in self.items())
        if out is None:
            return np.stack([result for _, result in results])
        return self._write(results, out)

    def copy(self, out: Any) -> Any:
        """Copy the fields into another movie, with their times.

        Args:
            out: as for :meth:`apply`; a path gets a movie of the same kind.
        """
        return self._write(self.items(), out, is_alike=True)

    def export(
        self,
        path: str | os.PathLike[str],
        cmap: str = "viridis",
        channel: str | int | None = None,
        fps: float | Rational | None = None,
        vmin: Limit = None,
        vmax: Limit = None,
        *,
        scale: int | None = None,
        progress: bool | None = None,
    ) -> WriteReport:
        """Write a video for people: one channel through a colour map. NaN has a colour that the map does not have.

        Args:
            path: the video; see :class:`VideoWriter` for the containers.
            cmap: the colour map, by the name that it has in matplotlib: ``"viridis"``, ``"magma"``, ``"turbo"``, ``"gray"``, ...
            channel: its name or number; ``None``: the first one.
            fps: fields per second; ``None``: as in the movie.
            vmin: the value of the first colour; ``None``: the movie's limit, or the lowest number of the dtype if the movie
                stores integers as pictures; ``"auto"``: the smallest value of all fields, which are then read twice.
            vmax: the value of the last colour, in the same way.
            scale: by which whole number fields are enlarged, without smoothing; ``None``: small ones to about 480 pixels.
            progress: whether to show a progress bar on stderr; ``None``: only if stderr is a terminal.

        Returns:
            A report of what was written.

        Raises:
            MovieError: an argument is not allowed, such as the name of a colour map, or there are no fields.
            ChannelError: there is no such channel.
            VideoWriteError: the path is the movie itself, or no video can be written.
            OutputError: the video cannot be written.
        """
        limits = vmin, vmax
        return export(self, path, cmap, channel, fps, limits, scale=scale, progress=progress)

    def _write(self, fields: Iterable[tuple[float, Any]], out: Any, *, is_alike: bool = False) -> Any:
        if not isinstance(out, MovieStorage):
            path = os.fsdecode(out)
            if os.path.exists(path) and os.path.samefile(path, self.path):
                raise MovieError(f"{path} is the movie that is read; write to another one")
            keywords = self.keywords() if is_alike else {"bits": "exact", "vmin": "auto", "vmax": "auto"}
            with MovieStorage(path, mode="w", **keywords) as movie:
                self._write(fields, movie)
            return MovieStorage(path)
        for time, field in fields:
            out.append(field, time)
        return out

    def keywords(self) -> dict[str, Any]:
        """The arguments with which a movie of the same kind is written."""
        form = self._source.form
        return {
            "bits": "exact" if form.is_exact else form.bits,
            "vmin": form.vmin,
            "vmax": form.vmax,
            "channels": form.channels,
            "fps": form.rate,
            "info": form.info,
            "nan": form.nan,
        }


def _check(options: WriteOptions, path: str) -> None:
    """Check the options that do not depend on the first field."""
    for name, choices in (("clip", Clip), ("codec", Codec), ("nan", NanMode), ("durable", Durability)):
        check_choice(name, getattr(options, name), choices)
    if options.bits is not None and (isinstance(options.bits, bool) or options.bits not in _BITS):
        raise MovieError(f"{path}: bits={shorten(options.bits)}; give 8, 16, 32, 64, or 'exact'")
    if options.transform is not None and not callable(options.transform):
        raise MovieError(
            f"{path}: transform={shorten(options.transform)}; give a function of a field, or of a field and its time"
        )
    if not isinstance(options.info, Mapping):
        raise MovieError(f"{path}: info={shorten(options.info)}; give a dict of JSON values")
    if options.channels is not None and len(set(options.channels)) < len(options.channels):
        raise ChannelError(f"{path}: channels={'|'.join(options.channels)!r} names a channel twice")
