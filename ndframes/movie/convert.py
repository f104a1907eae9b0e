"""Convert: arrays and movies to a movie, and to an array on disk. The output appears complete or not at all."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import MovieError, MovieGridError, NdframesError, OutputError
from ..system.output import PendingFile, check_output_path
from ..text import count_noun, format_bytes
from ..video.fields.sinks import container_of
from ..video.fields.times import times_path
from .given import to_field
from .progress import ProgressBar
from .stacks import Stack, open_stack, times_beside
from .storage import MovieReport, MovieStorage

if TYPE_CHECKING:
    from .._typing import Array

__all__ = ["ArrayReport", "convert"]
Limit = float | Sequence[float] | Literal["auto"] | None


@dataclass(frozen=True, slots=True)
class ArrayReport:
    """A report on an array that was written.

    Attributes:
        path: the file.
        times_path: the file with the time of each field.
        frames: the number of fields.
        shape: of the array.
        dtype: of the array.
        file_bytes: the bytes of the array's file.
        seconds: how long it took.
    """

    path: str
    times_path: str
    frames: int
    shape: tuple[int, ...]
    dtype: str
    file_bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """All attributes as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{count_noun(self.frames, 'field')} of {' x '.join(map(str, self.shape[1:]))} {self.dtype}, "
            f"{format_bytes(self.file_bytes)}, in {self.seconds:.2f} s; their times are in {os.path.basename(self.times_path)}"
        )


def convert(
    source: str,
    target: str,
    *,
    times: str | None = None,
    vmin: Limit = None,
    vmax: Limit = None,
    progress: bool | None = None,
    **options: Any,
) -> MovieReport | ArrayReport:
    """Convert fields to a movie or an array; an existing file is replaced when the new one is complete.

    Args:
        source: see :func:`~ndframes.movie.stacks.open_stack`.
        target: a movie, or an ``.npy`` file, which gets the times in a file beside it.
        times: a file with the time of each field, instead of those of the source.
        vmin: the lower limits of a movie; ``"auto"``: the smallest value of all fields, by channel, which are then read twice.
            ``None``: those of a movie that is converted, else ``"auto"``.
        vmax: the upper limits, in the same way.
        progress: whether to show a progress bar on stderr; ``None``: only if stderr is a terminal.
        **options: of :class:`~ndframes.MovieStorage`; by default those of a movie that is converted, and exact numbers.

    Raises:
        SourceError: the source cannot be read.
        MovieError: it holds no fields, or fields that the target does not hold.
        OutputError: the target cannot be written.
    """
    is_array = target.lower().endswith(".npy")
    if not is_array:
        container_of(target)
    check_output_path(target)
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(target, source):
        raise MovieError(f"{target} is the file that is read; write to another one")
    stack = open_stack(source, times)
    if is_array:
        given = [*options, *(name for name, limit in (("vmin", vmin), ("vmax", vmax)) if limit is not None)]
        if given:
            raise MovieError(f"{target} is an array, which has no {', '.join(given)}; these are options of a movie")
        return _write_array(stack, target, progress)
    keywords = {**_keywords_of(stack), **options}
    limits = _find_limits(stack, (vmin, vmax), keywords, progress)
    return _write_movie(stack, target, {**keywords, **limits}, progress)


def _keywords_of(stack: Stack) -> Mapping[str, Any]:
    """The options of a movie that holds the same fields."""
    return {"bits": "exact"} if stack.movie is None else stack.movie.keywords()


def _find_limits(
    stack: Stack, given: tuple[Limit, Limit], keywords: Mapping[str, Any], progress: bool | None
) -> dict[str, Limit]:
    """The limits of the movie, by keyword; those of all fields where they are not given."""
    found: dict[str, Limit] = {}
    for name, limit in zip(("vmin", "vmax"), given, strict=True):
        found[name] = limit if limit is not None else keywords.get(name, "auto")
    if "auto" not in found.values():
        return found
    low, high = _find_range(stack, progress)
    if found["vmin"] == "auto":
        found["vmin"] = low.tolist()
    if found["vmax"] == "auto":
        bottom = np.asarray(found["vmin"], np.float64)
        if bottom.size not in (1, high.size):
            raise MovieError(f"{stack.path}: vmin has {bottom.size} numbers for {count_noun(high.size, 'channel')}")
        # Limits differ, and fields may be constant.
        found["vmax"] = np.where(high > bottom, high, bottom + 1).tolist()
    return found


def _find_range(stack: Stack, progress: bool | None) -> tuple[Array, Array]:
    """The smallest and the largest finite value of each channel."""
    lows, highs = [], []
    with ProgressBar(progress, len(stack), "find limits, fields") as bar:
        for number, field in enumerate(stack):
            pixels = to_field(field, f"{stack.path}: field {number:,}").pixels
            values = pixels.reshape(-1, pixels.shape[2]).astype(np.float64)
            is_finite = np.isfinite(values)
            lows.append(np.min(values, axis=0, initial=np.inf, where=is_finite))
            highs.append(np.max(values, axis=0, initial=-np.inf, where=is_finite))
            bar.step()
    if len({len(low) for low in lows}) > 1:
        raise MovieGridError(f"{stack.path} has fields of several numbers of channels; all fields of a movie are alike")
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    return np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)


def _write_movie(stack: Stack, target: str, keywords: Mapping[str, Any], progress: bool | None) -> MovieReport:
    final = os.path.realpath(target)
    hidden = _hidden_path(final)
    try:
        with _naming(target, hidden):
            movie = MovieStorage(hidden, mode="w", durable="close", **keywords)
            with movie, ProgressBar(progress, len(stack), "convert, fields") as bar:
                for time_of_field, field in zip(stack.times.tolist(), stack, strict=True):
                    movie.append(field, time_of_field)
                    bar.step()
            report = movie.close()
            assert report is not None  # noqa: S101
            _publish(hidden, final)
    finally:
        for path in (hidden, times_path(hidden)):
            if os.path.exists(path):
                os.unlink(path)
    return replace(report, path=target)


def _hidden_path(final: str) -> str:
    """A name in the same folder, with the same suffix, which selects the container."""
    folder, name = os.path.split(final)
    stem, suffix = os.path.splitext(name)
    return os.path.join(folder, f".{stem[:80]}.{uuid.uuid4().hex}.part{suffix}")


def _publish(hidden: str, final: str) -> None:
    try:
        # First, so that no movie lacks its times.
        if os.path.exists(times_path(hidden)):
            os.replace(times_path(hidden), times_path(final))
        os.replace(hidden, final)
    except OSError as error:
        raise OutputError(f"{final} cannot be written: {error.strerror}") from error


@contextmanager
def _naming(target: str, hidden: str) -> Iterator[None]:
    """Name the file that the user knows in errors about the one that is written."""
    try:
        yield
    except NdframesError as error:
        error.args = tuple(arg.replace(hidden, target) if isinstance(arg, str) else arg for arg in error.args)
        raise


def _write_array(stack: Stack, target: str, progress: bool | None) -> ArrayReport:
    started = time.perf_counter()
    first = stack.read(0)
    shape = (len(stack), *first.shape)
    try:
        with _pending(times_beside(target)) as times, _pending(target) as array:
            np.save(times.file, stack.times)
            header = {"descr": first.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(array.file, header)
            with ProgressBar(progress, len(stack), "convert, fields") as bar:
                for field in _alike(stack, first):
                    array.file.write(np.ascontiguousarray(field).data)
                    bar.step()
            file_bytes = array.file.tell()
            times.publish()
            array.publish()
    except NdframesError:
        raise
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    return ArrayReport(
        target,
        times_beside(target),
        len(stack),
        shape,
        first.dtype.name,
        file_bytes,
        time.perf_counter() - started,
    )


@contextmanager
def _pending(path: str) -> Iterator[PendingFile]:
    pending = PendingFile(path)
    try:
        yield pending
    finally:
        pending.discard()


def _alike(stack: Stack, first: Array) -> Iterable[Array]:
    """The fields of a stack, which must be like the first one."""
    for number, field in enumerate(stack):
        if field.shape != first.shape or field.dtype != first.dtype:
            raise MovieGridError(
                f"{stack.path}: field {number:,} is {field.shape} {field.dtype}, and the first one {first.shape} {first.dtype}; "
                "all fields of an array are alike"
            )
        yield field
