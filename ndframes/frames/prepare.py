"""prepare: find out what is missing, convert it on any executor, report."""

from __future__ import annotations

import sys
import time
from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from ..entries.jobs import JobResult, run_job
from ..errors import NdframesError, PrepareError, WorkerCrashError, naming_image
from ..system.process import core_count
from ..system.workers import WorkerPool
from ..text import format_bytes, list_first

if TYPE_CHECKING:
    from ..cache.cache import Cache
    from ..cache.keys import EntryKey
    from ..entries.jobs import Job
    from ..entries.opener import Survey
    from ..spec.pathinfo import ChannelInfo, PathInfo

__all__ = ["ErrorPolicy", "PrepareFailure", "PrepareReport", "prepare"]
ErrorPolicy = Literal["raise", "collect"]


class PrepareFailure(NamedTuple):
    """One image that could not be prepared: its id, the file, and the error."""

    image_id: Hashable
    path: str
    error: Exception


@dataclass(frozen=True, slots=True)
class PrepareReport:
    """What a run of ``prepare`` did.

    Attributes:
        prepared: how many entries it wrote.
        present: how many were there already.
        failed: what could not be prepared.
        bytes_written: the size of the new entries.
        seconds: how long it took.
    """

    prepared: int
    present: int
    failed: tuple[PrepareFailure, ...] = ()
    bytes_written: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def to_dict(self) -> dict[str, Any]:
        """As plain data; errors as text."""
        return {
            "prepared": self.prepared,
            "present": self.present,
            "failed": [
                {
                    "image_id": item.image_id,
                    "path": item.path,
                    "error": str(item.error),
                    "kind": type(item.error).__name__,
                }
                for item in self.failed
            ],
            "bytes_written": self.bytes_written,
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        lines = [
            f"{self.prepared:,} prepared ({format_bytes(self.bytes_written)}), {self.present:,} already there, "
            f"{len(self.failed):,} failed, in {self.seconds:.2f} s"
        ]
        return "\n".join([*lines, *list_first(map(_describe, self.failed))])


class Preparable(Protocol):
    """What is needed of :class:`~ndframes.Frames`."""

    @property
    def image_ids(self) -> Sequence[Hashable]:
        """The ids of the images."""

    def pathinfo(self, image_id: Hashable) -> PathInfo:
        """An image's files."""

    @property
    def cache(self) -> Cache:
        """Where the entries go."""

    def survey_channel(self, image_id: Hashable, info: ChannelInfo) -> Survey:
        """What a file needs to have its entry."""


@dataclass(slots=True)
class _Plan:
    """What is to be done, and what is known before anything is."""

    jobs: dict[EntryKey, _ImageJob] = field(default_factory=dict)
    present: list[EntryKey] = field(default_factory=list)
    failed: list[PrepareFailure] = field(default_factory=list)


def prepare(
    frames: Preparable,
    image_ids: Iterable[Hashable] | None = None,
    *,
    workers: int = 0,
    executor: Executor | None = None,
    errors: ErrorPolicy = "raise",
    progress: bool | None = None,
) -> PrepareReport:
    """Convert what is missing; see :meth:`ndframes.Frames.prepare`."""
    if errors not in ("raise", "collect"):
        raise ValueError(f"errors={errors!r}; allowed: 'raise', 'collect'")
    if workers < 0:
        raise ValueError(f"workers={workers}; 0 works in this process, a positive number starts so many")
    started = time.perf_counter()
    plan = _make_plan(frames, list(frames.image_ids if image_ids is None else image_ids))
    bar = _Bar(len(plan.jobs), sys.stderr.isatty() if progress is None else progress)
    prepared = bytes_written = 0
    present = len(plan.present)
    if plan.present:
        frames.cache.hold(plan.present)
    with bar:
        for job, outcome in _run(list(plan.jobs.values()), workers, executor, bar.fraction):
            bar.step(Path(job[1].info.path).name)
            if isinstance(outcome, JobResult):
                frames.cache.hold([job[1].key])
                prepared += outcome.is_new
                present += not outcome.is_new
                bytes_written += outcome.bytes_written
            else:
                plan.failed.append(_failure(job[0], job[1].info.path, outcome))
    report = PrepareReport(prepared, present, tuple(plan.failed), bytes_written, time.perf_counter() - started)
    if report.failed and errors == "raise":
        error = PrepareError(
            f"{len(report.failed):,} of {prepared + report.present + len(report.failed):,} failed\n{report}"
        )
        error.report = report
        raise error from report.failed[0].error
    return report


def _make_plan(frames: Preparable, image_ids: Sequence[Hashable]) -> _Plan:
    plan = _Plan()
    for image_id in image_ids:
        path = ""
        try:
            with naming_image(image_id):
                for info in frames.pathinfo(image_id).channels:
                    path = info.path
                    _plan_channel(plan, image_id, frames.survey_channel(image_id, info))
        except Exception as error:  # noqa: BLE001 - build_pathinfo is the user's; it is reported with its id
            plan.failed.append(_failure(image_id, path, error))
    return plan


def _plan_channel(plan: _Plan, image_id: Hashable, survey: Survey) -> None:
    if survey.key is None:
        return
    if survey.job is None or survey.key in plan.jobs:
        plan.present.append(survey.key)
    else:
        plan.jobs[survey.key] = image_id, survey.job


_ImageJob = tuple[Hashable, "Job"]
_Outcome = tuple[_ImageJob, JobResult | Exception]


def _run(
    jobs: Sequence[_ImageJob], workers: int, executor: Executor | None, on_fraction: Callable[[float], None]
) -> Iterator[_Outcome]:
    """Do the jobs, in any order; yield each with what came of it."""
    if executor is not None:
        yield from _run_on(executor, jobs, threads=1)
    elif workers and jobs:
        pool = WorkerPool(min(workers, len(jobs)))
        try:
            yield from _run_on(pool, jobs, threads=max(1, core_count() // workers))
            pool.shutdown()
        except BaseException:
            pool.terminate()
            raise
    else:
        for job in jobs:
            yield job, _attempt(partial(run_job, job[1], threads=core_count(), progress=on_fraction))


def _run_on(executor: Executor, jobs: Sequence[_ImageJob], *, threads: int) -> Iterator[_Outcome]:
    futures: dict[Future[JobResult], _ImageJob] = {
        executor.submit(run_job, job[1], threads=threads): job for job in jobs
    }
    orphans: list[_ImageJob] = []
    try:
        for future in as_completed(futures):
            outcome = _attempt(future.result)
            if isinstance(outcome, BrokenExecutor):
                orphans.append(futures[future])
            else:
                yield futures[future], outcome
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    if orphans:  # the caller's pool broke: one of these killed it; each gets a worker that may die
        with WorkerPool(1) as pool:
            yield from _run_on(pool, orphans, threads=threads)


def _attempt(call: Callable[[], JobResult]) -> JobResult | Exception:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - a batch goes on; the error is reported with its image
        return error


def _failure(image_id: Hashable, path: str, error: Exception) -> PrepareFailure:
    if isinstance(error, NdframesError) and error.image_id is None:
        error.image_id = image_id
    if isinstance(error, WorkerCrashError):
        error.args = (f"{path}: {error.args[0]}",)
    return PrepareFailure(image_id, path, error)


def _describe(failure: PrepareFailure) -> str:
    if isinstance(failure.error, NdframesError):
        return str(failure.error)
    return f"image {failure.image_id!r}: {failure.path}: {type(failure.error).__name__}: {failure.error}"


class _Bar:
    """A progress bar over images; over the rows of the image where there is only one."""

    def __init__(self, count: int, is_shown: bool) -> None:
        self._count = count
        self._done = 0
        self._total = count if count != 1 else 100
        self._iter: Any = None
        if is_shown and count:
            import ubelt

            self._iter = ubelt.ProgIter(
                total=self._total,
                desc="prepare" if count != 1 else "prepare 1 image, percent",
                stream=sys.stderr,
                clearline=sys.stderr.isatty(),
            )

    def __enter__(self) -> _Bar:
        if self._iter is not None:
            self._iter.begin()
        return self

    def __exit__(self, *_: object) -> None:
        if self._iter is not None:
            self._iter.end()

    def step(self, name: str) -> None:
        """One more image is done."""
        if self._iter is not None:
            self._iter.set_extra(f" {name}")
            self._advance(self._total if self._count == 1 else self._done + 1)

    def fraction(self, fraction: float) -> None:
        """The image at hand is done so far."""
        if self._iter is not None and self._count == 1:
            self._advance(int(fraction * 100))

    def _advance(self, done: int) -> None:
        if done > self._done:
            self._iter.step(done - self._done)
            self._done = done
