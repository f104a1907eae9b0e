"""Estimate what ``prepare`` would do: files, bytes now, bytes then, and seconds, from conversions of a few samples."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..entries.conversion import Conversion
from ..entries.local_copy import local_copy
from ..entries.source import SourceOpener
from ..errors import BackendError, NdframesError
from ..formats.images.arrays import ArrayReader
from ..spec.kinds import is_video_path
from ..system.handles import HandlePool
from ..system.process import IMPORTING, core_count
from ..text import count_noun, format_bytes, format_seconds, list_first
from .prepare import schedule_jobs, to_ids

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from ..entries.jobs import Job
    from ..formats.reader import Reader
    from ..spec.backends import Backend
    from .collection import ImageCollection
    from .prepare import PrepareFailure

__all__ = ["PrepareEstimate", "estimate_prepare", "sum_estimates"]
#: Pixels of one sample; of a larger image, only some rows are converted.
_SAMPLE_BYTES = 32 * 2**20
_SAMPLES = 3
_MOST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PrepareEstimate:
    """What a run of ``prepare`` would do.

    Attributes:
        files: the number of files that have no entry yet.
        present: the number of entries that exist.
        failed: the number of files that cannot be found or described.
        bytes_now: the size of the files in bytes.
        bytes_then: the expected size of their entries in bytes.
        seconds: the expected duration in seconds.
        failures: these files, each with its error.
    """

    files: int
    present: int
    failed: int
    bytes_now: int
    bytes_then: int
    seconds: float
    failures: tuple[PrepareFailure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The estimate as plain data, with errors as text."""
        plain: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS}
        return {**plain, "failures": [item.to_dict() for item in self.failures]}

    def __str__(self) -> str:
        first = (
            f"{count_noun(self.files, 'file')} to prepare: {format_bytes(self.bytes_now)} now, about "
            f"{format_bytes(self.bytes_then)} then, in about {format_seconds(self.seconds)}; {self.present:,} already there, "
            f"{self.failed:,} failed"
        )
        return "\n".join([first, *list_first(map(str, self.failures))])


_NUMBERS = ("files", "present", "failed", "bytes_now", "bytes_then", "seconds")


def sum_estimates(estimates: Iterable[PrepareEstimate]) -> PrepareEstimate:
    """What several runs of ``prepare`` would do, one after the other."""
    listed = list(estimates)
    numbers = {name: sum(getattr(each, name) for each in listed) for name in _NUMBERS}
    return PrepareEstimate(**numbers, failures=tuple(item for each in listed for item in each.failures))


class _Ratio(NamedTuple):
    """What a conversion costs for each byte of the source."""

    entry_bytes: float
    seconds: float


def estimate_prepare(
    frames: ImageCollection, image_ids: Iterable[Hashable] | None = None, *, workers: int = 0
) -> PrepareEstimate:
    """Estimate a run of ``prepare``; see :meth:`ndframes.Frames.estimate`."""
    schedule = schedule_jobs(frames, to_ids(frames, image_ids))
    groups: dict[tuple[object, ...], list[tuple[Job, int]]] = defaultdict(list)
    for _, job in schedule.jobs.values():
        groups[_kind_of(job)].append((job, _size_of(frames, job.info.path)))
    bytes_now = sum(size for jobs in groups.values() for _, size in jobs)
    bytes_then = seconds = 0.0
    for jobs in groups.values():
        ratio = _measure(jobs, 1 if workers else core_count())
        source_bytes = sum(size for _, size in jobs)
        bytes_then += ratio.entry_bytes * source_bytes
        seconds += ratio.seconds * source_bytes
    return PrepareEstimate(
        len(schedule.jobs),
        len(schedule.present),
        len(schedule.failed),
        bytes_now,
        round(bytes_then),
        seconds / max(1, min(workers, core_count())),
        tuple(schedule.failed),
    )


def _kind_of(job: Job) -> tuple[object, ...]:
    """Files of one kind in one form: an entry of any of them takes about the same share of its source."""
    form = job.backend.to_dict() if isinstance(job, Conversion) else None
    return os.path.splitext(job.info.path)[1].lower(), str(form)


def _size_of(frames: ImageCollection, path: str) -> int:
    try:
        return frames.look_at(path).size_bytes
    except NdframesError:
        return 0


def _measure(jobs: Sequence[tuple[Job, int]], threads: int) -> _Ratio:
    """Convert some of the files, or parts of them, and compare with their sizes."""
    started = time.monotonic()
    measured = [0.0, 0.0, 0.0]
    # Spread over all of them: files of one folder are often sorted by what they show.
    step = max(1, len(jobs) // _SAMPLES)
    for job, source_bytes in jobs[step // 2 :: step]:
        if not isinstance(job, Conversion) or not source_bytes:
            continue  # an index of a video takes little of either
        try:
            entry_bytes, seconds = _try(job, threads)
        except NdframesError:
            continue  # its own conversion will report it
        measured = [total + value for total, value in zip(measured, (source_bytes, entry_bytes, seconds), strict=True)]
        if time.monotonic() - started > _MOST_SECONDS:
            break
    return _Ratio(measured[1] / measured[0], measured[2] / measured[0]) if measured[0] else _Ratio(0.0, 0.0)


def _try(job: Conversion, threads: int) -> tuple[float, float]:
    """The bytes of an entry and the seconds to make it, both expected from a part of the image."""
    with local_copy(job.info.path, job.stamp, job.cache, job.access) as copy, closing(HandlePool()) as pool:
        opener = SourceOpener(None if copy.is_copy else job.cache, pool)
        source = opener.open(job.info, copy.stamp, path=copy.path, is_mapped=False)
        if is_video_path(job.info.path):
            with IMPORTING:
                from ..entries.estimates import estimate_forms

            video: Any = source
            for form in estimate_forms(video):
                if form.form == job.backend.type:
                    return form.entry_bytes, form.prepare_seconds
            raise BackendError(
                f"{video.path} has pixels of {video.dtype}, which {job.backend.type!r} does not store; use 'npy' or 'cog'"
            )
        if source.frame_count is not None:  # an animation, which is small, and decodes from its first frame only
            return source.nbytes, 0.0
        rows = _sample_rows(source)
        started = time.perf_counter()
        pixels = np.empty((len(rows), *source.shape[1:]), source.dtype)
        source.read(rows, range(source.shape[1]), source.all_bands, pixels)
        with tempfile.NamedTemporaryFile() as file:
            _write(file, ArrayReader(job.info.path, pixels, format="array"), job.backend, threads)
            entry_bytes = file.seek(0, os.SEEK_END)
        share = source.shape[0] / len(rows)
        return entry_bytes * share, (time.perf_counter() - started) * share


def _write(file: IO[bytes], sample: Reader, backend: Backend, threads: int) -> None:
    # Each writer is imported when its form is written, because it loads libraries of its own.
    if backend.type == "npy":
        with IMPORTING:
            from ..formats.tiled.npy_writer import write_npy

        write_npy(file, sample)
    else:
        with IMPORTING:
            from ..formats.tiled.cog_writer import write_cog

        write_cog(file, sample, backend, threads=threads)


def _sample_rows(source: Reader) -> range:
    """Rows of an image that decode quickly: in the middle, or at the top if the file decodes from there only."""
    height, width, bands = source.shape
    row_bytes = width * bands * source.dtype.itemsize
    # Whole tiles: an entry of half a tile is as large as that of a tile.
    count = min(height, max(256, math.ceil(_SAMPLE_BYTES / row_bytes) // 256 * 256))
    cols, top = range(width), (height - count) // 2
    middle = range(top, top + count)
    is_direct = source.count_decoded(middle, cols) <= 2 * source.count_decoded(range(count), cols)
    return middle if is_direct else range(count)
