"""prepare: find the channels without a cache entry, make the entries on any executor, and report."""

from __future__ import annotations

import operator
import sys
import time
from collections.abc import (
    Callable,
    Generator,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import BrokenExecutor, Executor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..entries.jobs import JobResult, run_job
from ..errors import (
    NdframesError,
    NotInitializedError,
    PrepareError,
    StoreUnavailableError,
    check_choice,
    describe_error,
    name_image,
    naming_image,
    shorten,
)
from ..system.process import core_count
from ..system.terminal import is_terminal
from ..system.workers import WorkerPool
from ..text import count_noun, format_bytes, list_first
from .engines import Engine

if TYPE_CHECKING:
    from ..cache.cache import Cache
    from ..cache.keys import EntryKey
    from ..entries.jobs import Job
    from ..entries.opener import Survey
    from .collection import ImageCollection
    from .engines import DaskClient

__all__ = ["ErrorPolicy", "PrepareFailure", "PrepareReport", "prepare", "schedule_jobs", "to_ids"]
ErrorPolicy = Literal["raise", "collect"]


class PrepareFailure(NamedTuple):
    """A file that could not be prepared.

    Attributes:
        image_id: the image.
        path: the file; empty if the image could not be described.
        error: the error.
    """

    image_id: Hashable
    path: str
    error: Exception

    def to_dict(self) -> dict[str, Any]:
        """The failure as plain data, with the error as text."""
        kind = type(self.error).__name__
        return {"image_id": self.image_id, "path": self.path, "error": str(self.error), "kind": kind}

    def __str__(self) -> str:
        if isinstance(self.error, NdframesError):
            return str(self.error)
        # An error of the user's own code; without a path it is one of build_pathinfo.
        where = f"{self.path}: " if self.path else ""
        return f"image {shorten(self.image_id)}: {where}{describe_error(self.error)}"


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """The result of ``prepare``.

    Attributes:
        prepared: the number of entries that it wrote.
        present: the number of entries that existed before.
        failed: the files that could not be prepared.
        bytes_written: the size of the new entries in bytes.
        seconds: the duration in seconds.
        evicted: the number of these entries that are gone again, since the cache's limits do not hold all of them.
    """

    prepared: int
    present: int
    failed: tuple[PrepareFailure, ...] = ()
    bytes_written: int = 0
    seconds: float = 0.0
    evicted: int = 0

    @property
    def ok(self) -> bool:
        """Whether no file failed."""
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, with errors as text."""
        return {
            "prepared": self.prepared,
            "present": self.present,
            "failed": [item.to_dict() for item in self.failed],
            "bytes_written": self.bytes_written,
            "seconds": self.seconds,
            "evicted": self.evicted,
        }

    def __str__(self) -> str:
        lines = [
            f"{self.prepared:,} prepared ({format_bytes(self.bytes_written)}), {self.present:,} already there, "
            f"{len(self.failed):,} failed, in {self.seconds:.2f} s"
        ]
        if self.evicted:
            lines[0] += (
                f"; {count_noun(self.evicted, 'entry')} evicted again: the cache's limits do not hold all of them, raise max_bytes"
            )
        return "\n".join([*lines, *list_first(map(str, self.failed))])


class _ImageJob(NamedTuple):
    """A job, and the first image that needs it."""

    image_id: Hashable
    job: Job


# Whose sources are looked at together.
_SURVEYED_AT_ONCE = 1000
_FEWEST_LOST = 4
_Outcome = tuple[_ImageJob, JobResult | Exception]


@dataclass(slots=True)
class Schedule:
    """The jobs of a run by the entries that they make, the entries that exist, and the failures so far."""

    jobs: dict[EntryKey, _ImageJob] = field(default_factory=dict)
    present: list[EntryKey] = field(default_factory=list)
    failed: list[PrepareFailure] = field(default_factory=list)


def prepare(
    frames: ImageCollection,
    image_ids: Iterable[Hashable] | None = None,
    *,
    workers: int = 0,
    executor: Executor | DaskClient | None = None,
    errors: ErrorPolicy = "raise",
    progress: bool | None = None,
) -> PrepareReport:
    """Make the entries that do not exist yet; see :meth:`ndframes.Frames.prepare`."""
    check_choice("errors", errors, ErrorPolicy)
    workers = _to_worker_count(workers)
    engine = None if executor is None else Engine(executor)
    if engine is not None and workers:
        raise ValueError(f"executor= and workers={workers} both say where to convert; give one of them")
    started = time.perf_counter()
    schedule = schedule_jobs(frames, to_ids(frames, image_ids))
    bar = _ProgressBar(len(schedule.jobs), is_terminal(sys.stderr) if progress is None else progress)
    prepared = bytes_written = 0
    present = len(schedule.present)
    # Without a hold, another process over its budget could evict entries that this run reports as prepared.
    if schedule.present:
        frames.cache.hold(schedule.present)
    with bar:
        for (image_id, job), outcome in _run_all(list(schedule.jobs.values()), workers, engine, bar.show_fraction):
            bar.step(Path(job.info.path).name)
            if isinstance(outcome, JobResult):
                frames.cache.hold([job.key])
                schedule.present.append(job.key)
                prepared += outcome.is_new
                present += not outcome.is_new
                bytes_written += outcome.bytes_written
            else:
                schedule.failed.append(_to_failure(image_id, job.info.path, outcome))
    report = PrepareReport(
        prepared,
        present,
        tuple(schedule.failed),
        bytes_written,
        time.perf_counter() - started,
        _count_evicted(frames.cache, schedule.present),
    )
    if report.failed and errors == "raise":
        error = PrepareError(
            f"{len(report.failed):,} of {prepared + report.present + len(report.failed):,} failed\n{report}"
        )
        error.report = report
        # One traceback is enough to find a cause; the message lists every failure.
        raise error from report.failed[0].error
    return report


def _to_worker_count(workers: object) -> int:
    try:
        count = -1 if isinstance(workers, bool) else operator.index(workers)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    if count < 0:
        raise ValueError(
            f"workers={shorten(workers)}; give 0 to convert in this process, or a number of worker processes"
        )
    return count


def to_ids(frames: ImageCollection, image_ids: object) -> list[Hashable]:
    """The ids as a list; a single id, such as a text, is one id."""
    if image_ids is None:
        return list(frames.image_ids)
    # A text and a tuple could be iterated, but an error for each letter would hide the cause.
    is_one = isinstance(image_ids, (str, bytes)) or (isinstance(image_ids, tuple) and image_ids in frames)
    # A tensor without axes has __iter__, too.
    if is_one or not isinstance(image_ids, Iterable) or getattr(image_ids, "ndim", None) == 0:
        return [image_ids]
    return list(image_ids)


def schedule_jobs(frames: ImageCollection, image_ids: Sequence[Hashable]) -> Schedule:
    """Find what must be converted."""
    schedule = Schedule()
    with frames.cache.surveying():
        # In parts: what was seen of an object is trusted for some seconds only.
        for start in range(0, len(image_ids), _SURVEYED_AT_ONCE):
            _survey(schedule, frames, image_ids[start : start + _SURVEYED_AT_ONCE])
    return schedule


def _survey(schedule: Schedule, frames: ImageCollection, image_ids: Sequence[Hashable]) -> None:
    # Now, and not as trusted: who prepares has often just changed them.
    frames.look_ahead(image_ids, seconds=0)
    for image_id in image_ids:
        path = ""
        try:
            with naming_image(image_id):
                for info in frames.pathinfo(image_id).channels:
                    path = info.path
                    _add_channel(schedule, image_id, frames.survey_channel(image_id, info))
        except NotInitializedError:  # the error of no image
            raise
        except Exception as error:  # noqa: BLE001 - build_pathinfo is the user's code; any of its errors is a failure
            schedule.failed.append(_to_failure(image_id, path, error))


def _add_channel(schedule: Schedule, image_id: Hashable, survey: Survey) -> None:
    if survey.key is None:
        return
    if survey.job is None or survey.key in schedule.jobs:
        # The same source may belong to several images; one job serves them all.
        schedule.present.append(survey.key)
    else:
        schedule.jobs[survey.key] = _ImageJob(image_id, survey.job)


def _run_all(
    jobs: Sequence[_ImageJob], workers: int, engine: Engine | None, on_fraction: Callable[[float], None]
) -> Iterator[_Outcome]:
    """As :func:`_run`, until stores did not answer for many jobs in a row: each of the others would wait as long, so they fail untried."""
    left = {item.job.key: item for item in jobs}
    lost, reason = 0, ""
    with closing(_run(jobs, workers, engine, on_fraction)) as outcomes:
        for item, outcome in outcomes:
            del left[item.job.key]
            yield item, outcome
            lost = lost + 1 if isinstance(outcome, StoreUnavailableError) else 0
            # Also those that began after the first one had failed.
            if lost >= max(_FEWEST_LOST, 2 * (workers if engine is None else engine.workers or 0)):
                reason = f"not tried, after {lost} others failed in a row: {outcome.args[0]}"  # type: ignore[union-attr]
                break
    for item in left.values():
        yield item, StoreUnavailableError(reason)


def _run(
    jobs: Sequence[_ImageJob], workers: int, engine: Engine | None, on_fraction: Callable[[float], None]
) -> Generator[_Outcome, None, None]:
    """Run the jobs in any order; yield each with its result or error as it ends."""
    if engine is not None:
        yield from _run_on(engine, jobs, threads=1)
    elif workers:
        # The workers share the cores.
        yield from _run_in_pool(jobs, workers, threads=max(1, core_count() // workers))
    else:
        for item in jobs:
            yield item, _catch(partial(run_job, item.job, threads=core_count(), progress=on_fraction))


def _run_in_pool(jobs: Sequence[_ImageJob], workers: int, *, threads: int) -> Iterator[_Outcome]:
    if not jobs:
        return
    pool = WorkerPool(min(workers, len(jobs)))
    try:
        yield from _run_on(Engine(pool), jobs, threads=threads)
        pool.shutdown()
    except BaseException:
        # shutdown() would wait for the conversions that run, up to minutes after Ctrl-C.
        pool.terminate()
        raise


def _run_on(engine: Engine, jobs: Sequence[_ImageJob], *, threads: int) -> Iterator[_Outcome]:
    interrupted: list[_ImageJob] = []
    for place, future in engine.run(partial(run_job, threads=threads), [item.job for item in jobs]):
        outcome = _catch(future.result)
        if isinstance(outcome, BrokenExecutor):
            interrupted.append(jobs[place])
        else:
            yield jobs[place], outcome
    # One of these jobs killed a worker of the caller's executor, and that broke the whole executor. Our own pool replaces a
    # worker that dies, so that only the job at fault fails.
    yield from _run_in_pool(interrupted, min(engine.workers or 1, core_count()), threads=threads)


def _count_evicted(cache: Cache, keys: Iterable[EntryKey]) -> int:
    """How many of the entries that a run made or found are gone."""
    # Without a limit nothing is removed, and there is nothing to look for.
    return sum(cache.find(key) is None for key in {*keys}) if cache.budget.is_limited else 0


def _catch(call: Callable[[], JobResult]) -> JobResult | Exception:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - the other jobs go on; the report lists the error with its image
        return error


def _to_failure(image_id: Hashable, path: str, error: Exception) -> PrepareFailure:
    if isinstance(error, NdframesError):
        name_image(error, image_id)
    # The pool does not know which file a job reads.
    if isinstance(error, PrepareError) and error.report is None and not str(error.args[0]).startswith(path):
        error.args = (f"{path}: {error.args[0]}",)
    return PrepareFailure(image_id, path, error)


class _ProgressBar:
    """A progress bar that counts jobs; for a single job it shows the percentage of that job."""

    def __init__(self, count: int, is_shown: bool) -> None:
        self._count = count
        self._done = 0
        self._total = count if count != 1 else 100
        self._iter: Any = None
        if is_shown and count and sys.stderr is not None:
            # Imported here: it is slow to import, and most runs show no bar.
            import ubelt

            self._iter = ubelt.ProgIter(
                total=self._total,
                desc="prepare" if count != 1 else "prepare 1 image, percent",
                stream=sys.stderr,
                clearline=is_terminal(sys.stderr),
            )

    def __enter__(self) -> _ProgressBar:
        if self._iter is not None:
            self._iter.begin()
        return self

    def __exit__(self, *_: object) -> None:
        if self._iter is not None:
            self._iter.end()

    def step(self, name: str) -> None:
        """Count one more job as done."""
        if self._iter is not None:
            self._iter.set_extra(f" {name}")
            self._advance(self._total if self._count == 1 else self._done + 1)

    def show_fraction(self, fraction: float) -> None:
        """Show that this fraction of the current job is done."""
        if self._iter is not None and self._count == 1:
            self._advance(int(fraction * 100))

    def _advance(self, done: int) -> None:
        if done > self._done:
            self._iter.step(done - self._done)
            self._done = done
