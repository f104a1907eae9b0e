"""Pipeline: algorithms over sources of frames, offline to the last frame or live without falling behind."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from ..errors import StreamError, check_choice, shorten
from .algorithm import Algorithm, WorkerKind
from .log import RunLog
from .offline import run_offline
from .opening import name_sources, open_source
from .outputs import Outputs
from .realtime import run_realtime
from .remote import RemoteReading
from .replay import run_replay
from .results import Results
from .run import ErrorMode, Run
from .served import STOP_SECONDS, Served
from .source import check_seconds
from .window import Window
from .workers import RunStopped

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from typing_extensions import Self

    from .values import Frame, Result

__all__ = ["Mode", "Pipeline", "State"]
Mode = Literal["offline", "realtime"]
State = Literal["idle", "running", "reconnecting", "stopped", "failed"]
_WORKER_SECONDS = 2.0
_FORCED_SECONDS = 1.0  # of the limit of a stop: for what is ended by force


class Pipeline(Outputs, Served):
    """Algorithms over the frames of sources, each at its own rate.

    ========= ============================================ =====================================================
    mode      frames                                       windows
    ========= ============================================ =====================================================
    offline   every frame, as fast as algorithms allow     each exactly once, in order; each run gives the same
    realtime  as they come; files at the speed of a player the newest one when its algorithm is free; the others
                                                           are dropped, and counted with the reason
    ========= ============================================ =====================================================

    Args:
        sources: a :class:`Source`, or anything that it takes; a list or a dict by name of them.
        mode: ``"offline"`` or ``"realtime"``.
        errors: what happens to a window whose algorithm fails: ``"raise"`` stops the pipeline with an
            :class:`~ndframes.AlgorithmError`, ``"skip"`` keeps a result with ``error``.
        buffer: offline, the most frames that wait for results.

    Raises:
        StreamError: a value is not allowed.

    Example:
        >>> import numpy as np
        >>> from ndframes.stream import Pipeline, Window
        >>> video = np.arange(10, dtype=np.uint8).reshape(10, 1, 1).repeat(8, 1).repeat(8, 2)
        >>> pipeline = Pipeline(video)
        >>> pipeline.add("mean", lambda frames: float(frames[0].mean()), Window(every=4))
        <Pipeline offline, idle: 1 source, mean>
        >>> pipeline.add("change", lambda frames: int(frames[1].max()) - int(frames[0].max()), Window(count=2, step=3, every=3))
        <Pipeline offline, idle: 1 source, mean, change>
        >>> results = pipeline.run()
        >>> [(result.index, result.value) for result in results["mean"]], [result.frames for result in results["change"]]
        ([(0, 0.0), (4, 4.0), (8, 8.0)], [(0, 3), (3, 6), (6, 9)])
    """

    def __init__(self, sources: Any, *, mode: Mode = "offline", errors: ErrorMode = "raise", buffer: int = 30) -> None:
        super().__init__()
        check_choice("mode", mode, Mode)
        check_choice("errors", errors, ErrorMode)
        if isinstance(buffer, bool) or not isinstance(buffer, int) or buffer < 1:
            raise StreamError(f"Pipeline(buffer={shorten(buffer)}); give a whole number of at least 1")
        self.mode: Mode = mode
        self.errors: ErrorMode = errors
        self.sources = name_sources(sources)
        self._buffer = buffer
        self._algorithms: list[Algorithm] = []
        self._replayed: RunLog | None = None
        self._recorded: tuple[str, ...] = ()
        self._run: Run | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._began = self._ended = math.nan  # by the monotonic clock

    # -- what runs ----------------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        algorithm: Any,
        window: Window | None = None,
        *,
        source: str | Iterable[str] | None = None,
        batch: int = 1,
        worker: WorkerKind = "inline",
        with_info: bool = False,
        timeout: float | None = None,
    ) -> Self:
        """Add an algorithm.

        Args:
            name: its name in the results.
            algorithm: a callable that takes the list of the frames of a window and returns any value; or an object or class
                with ``__call__``, and ``setup()`` and ``close()`` where it needs them, which are called once in its worker. The
                images are shared with other windows and algorithms: copy one before you write to it.
            window: which frames it takes, and when it runs; ``None``: each frame.
            source: the names of the sources that it runs on; ``None``: all.
            batch: how many windows it takes at once: a list of windows, for which it returns a list of values.
            worker: ``"inline"``: in the thread of the pipeline; ``"thread"``: in one of its own, which helps if it releases the
                GIL; ``"process"``: in a process of its own; it must pickle then, and so must its values.
            with_info: whether it gets :class:`Frame` objects rather than images.
            timeout: seconds after which a call fails, in a thread or process; ``None``: no limit. A process is then killed, and
                the next window starts another one; a thread cannot be ended, so the pipeline ends.

        Raises:
            StreamError: a value is not allowed, the name is taken, or in a replay, the log has no such algorithm.
        """
        self._check_idle("add an algorithm")
        names = {each.name for each in self.sources}
        if source is not None and not isinstance(source, (str, Iterable)):
            raise StreamError(f"algorithm {name}: source={shorten(source)}; give the name of a source, or several")
        chosen = None if source is None else (source,) if isinstance(source, str) else tuple(source)
        for each in chosen or ():
            if each not in names:
                raise StreamError(
                    f"algorithm {name}: there is no source {each!r}; there is {', '.join(sorted(map(str, names)))}"
                )
        if name in (each.name for each in self._algorithms):
            raise StreamError(f"two algorithms have the name {name!r}")
        if self._replayed is not None:
            window = self._replayed.check_algorithm(name, window, batch)
        self._algorithms.append(
            Algorithm(
                name, algorithm, Window() if window is None else window, chosen, batch, worker, with_info, timeout
            )
        )
        return self

    @classmethod
    def replay(
        cls,
        log: str | os.PathLike[str],
        sources: Any,
        *,
        recorded: Iterable[str] | None = None,
        errors: ErrorMode = "raise",
        buffer: int = 30,
    ) -> Self:
        """A pipeline that processes the windows which an earlier run took, offline, in its order.

        Frames have the numbers, times and epochs that they had in that run. The algorithms are added again, some or all of
        them, with the names that they had. Functions of :meth:`on_frame` see the frames up to the last window.

        Args:
            log: what :meth:`log` wrote.
            sources: as for a pipeline, with the names that they had: the files that were read, or what :meth:`record` made of
                them with ``annotated=False``.
            recorded: the names of the sources that are such recordings, which lack the frames that the run missed; ``None``:
                those whose path the log names.
            errors: as for a pipeline.
            buffer: the most batches that wait for results.

        Raises:
            StreamError: the log cannot be read, or has other sources.

        Example:
            >>> import numpy as np, os, tempfile
            >>> from ndframes.stream import Pipeline, Window
            >>> video = np.arange(100, dtype=np.uint8).reshape(100, 1, 1).repeat(8, 1).repeat(8, 2)
            >>> path = os.path.join(tempfile.mkdtemp(), "run.jsonl")
            >>> live = Pipeline({"cam": video}, mode="realtime").log(path)
            >>> results = live.add("mean", lambda frames: float(frames[0].mean()), Window(interval=0.1)).run(duration=3)
            >>> again = Pipeline.replay(path, {"cam": video}).add("mean", lambda frames: float(frames[0].mean())).run()
            >>> [(each.index, each.value) for each in again["mean"]] == [(each.index, each.value) for each in results["mean"]]
            True
        """
        read = RunLog.read(log)
        pipeline = cls(sources, errors=errors, buffer=buffer)
        names = [str(each.name) for each in pipeline.sources]
        missing = [name for name in read.sources if name not in names]
        if missing:
            raise StreamError(f"{read.path}: the run had the source {', '.join(missing)}; there is {', '.join(names)}")
        pipeline._replayed = read
        pipeline._recorded = tuple(recorded) if recorded is not None else read.find_recordings(pipeline.sources)
        return pipeline

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, duration: float | None = None) -> Results:
        """Run until all sources end, or for so many seconds.

        Returns:
            All results.

        Raises:
            StreamError: a source or an algorithm failed; see :class:`~ndframes.StreamOpenError`,
                :class:`~ndframes.StreamStalledError` and :class:`~ndframes.AlgorithmError`. What was done so far is in
                :attr:`results`. Or the duration is not a number of seconds, and nothing runs.
        """
        if duration is not None:
            check_seconds("Pipeline.run(duration", duration, zero_is_allowed=True)
        self.start()
        try:
            self.wait(duration)
        except BaseException:
            self.stop()
            raise
        if not self._done.is_set():
            self.stop()
        self._raise_error()
        return self.results

    def start(self) -> Self:
        """Begin to run, in threads of its own."""
        self._check_idle("start it again; make a new pipeline")
        try:
            self._run = self._make_run()
        except BaseException:
            self._discard_outputs()
            raise
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._work, args=(self._run,), name="ndframes-pipeline", daemon=True)
        self._thread.start()
        return self

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, or so many seconds; returns whether it has ended.

        Raises:
            StreamError: a source or an algorithm failed, or a function that the pipeline calls waits for its end.
        """
        if self._is_own_thread():
            raise StreamError(f"{self!r}: a function that the pipeline calls cannot wait for its end; call stop()")
        deadline = None if timeout is None else time.monotonic() + timeout
        # In steps, so that Ctrl-C arrives.
        while not self._done.wait(min(0.2, max(0.0, deadline - time.monotonic())) if deadline is not None else 0.2):
            if deadline is not None and time.monotonic() >= deadline:
                return False
        self._raise_error()
        return True

    def stop(self, timeout: float = STOP_SECONDS, *, keep_page: bool = False) -> bool:
        """End it: no further frame is taken in, and windows that have begun are finished. The page of :meth:`serve` ends, too.

        A function that the pipeline calls can stop it, too: it gets ``False`` at once, and the pipeline ends after it has returned.

        Args:
            timeout: seconds after which what does not end is left behind: a process is killed, a thread goes on until what it
                calls returns. Windows that are left behind stay ``pending``.
            keep_page: whether the page goes on.

        Returns:
            Whether everything has ended.
        """
        deadline = time.monotonic() + timeout
        has_ended = self._stop_run(timeout)
        if keep_page:
            return has_ended
        return self._stop_page(max(2.0, deadline - time.monotonic())) and has_ended

    def _stop_run(self, timeout: float) -> bool:
        if self._run is None:
            return True
        self._run.request_stop()
        if self._is_own_thread():
            return False
        forced = max(0.0, min(_FORCED_SECONDS, timeout / 4))
        if not self._done.wait(timeout - forced):
            self._run.abandon()
            self._done.wait(forced)
        return self._done.is_set() and not any(thread.is_alive() for thread in self._run.threads)

    def _is_own_thread(self) -> bool:
        """Whether this thread is one of the pipeline, which cannot wait for its own end."""
        threads = [] if self._run is None else [self._thread, *self._run.threads]
        return threading.current_thread() in threads

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            self._raise_error()

    # -- what it has done ---------------------------------------------------------------------------------------------

    @property
    def results(self) -> Results:
        """All results so far."""
        return Results(each.name for each in self._algorithms) if self._run is None else self._run.results

    @property
    def error(self) -> BaseException | None:
        """What ended it; ``None`` if nothing did."""
        return self._error

    @property
    def seconds(self) -> float:
        """How long it runs, or has run; 0 before its start."""
        if self._run is None:
            return 0.0
        return (self._ended if self._done.is_set() else time.monotonic()) - self._began

    @property
    def state(self) -> State:
        """What it is doing."""
        if self._run is None:
            return "idle"
        if self._done.is_set():
            return "failed" if self._error is not None else "stopped"
        return "reconnecting" if "reconnecting" in self._run.states.values() else "running"

    @property
    def stats(self) -> dict[str, Any]:
        """Counts by source and by algorithm.

        ``stats["sources"][name]``: the counts of :class:`~ndframes.stream.reading.SourceCounts` and the state.
        ``stats["algorithms"][name]``: windows ``scheduled``, ``processed``, ``dropped`` by reason and ``pending``, and
        percentiles of the latency in milliseconds. ``scheduled == processed + sum(dropped.values()) + pending``.
        ``stats["sinks"][name]``: what a sink of :meth:`on_result` tells.
        """
        counts = {"sources": {}, "algorithms": {}} if self._run is None else self._run.stats()
        return {**counts, "sinks": self._sink_stats()}

    def __repr__(self) -> str:
        count = len(self.sources)
        names = "".join(f", {each.name}" for each in self._algorithms)
        return f"<Pipeline {self.mode}, {self.state}: {count} {'source' if count == 1 else 'sources'}{names}>"

    # -- parts --------------------------------------------------------------------------------------------------------

    def _make_run(self) -> Run:
        is_live = self.mode == "realtime"
        readings: list[Any] = [
            RemoteReading(source, is_paced=not source.is_live) if is_live else open_source(source)
            for source in self.sources
        ]
        return Run(
            readings,
            self._algorithms,
            errors=self.errors,
            buffer=self._buffer,
            on_result=self._on_result,
            on_frame=[self._show],
            on_event=self._on_event,
            logs=self._logs,
        )

    def _work(self, run: Run) -> None:
        try:
            for log in self._logs:
                drawn = [(each.path, each.source, each.annotated and bool(self._on_frame)) for each in self._recorders]
                log.begin(self.mode, [str(each.name) for each in self.sources], self._algorithms, drawn)
            try:
                run.start_workers()
                if self._replayed is not None:
                    run_replay(run, self._replayed, self._recorded)
                elif self.mode == "offline":
                    run_offline(run)
                else:
                    run_realtime(run, self._fail)
            finally:
                run.stop_workers(_WORKER_SECONDS)
        except RunStopped:
            pass  # stop() has told that it has not ended by itself
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._fail(error)
        finally:
            self._finish()
            self._ended = time.monotonic()
            self._done.set()

    def _finish(self) -> None:
        for failure in self._close_outputs():
            self._fail(failure)
        # Last: they have the counts of all others.
        for log in self._logs:
            try:
                log.close(self.stats)
            except BaseException as error:  # noqa: BLE001 - the stats of a sink may raise anything; raised again, as above
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        # The first one is the cause of the others.
        self._error = self._error or error
        if self._run is not None:
            self._run.request_stop()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _show(self, frame: Frame, latest: dict[str, Result]) -> None:
        self._show_on_page(frame, self._pass_on(frame, latest))

    def _check_idle(self, what: str) -> None:
        if self._run is not None:
            raise StreamError(f"{self!r}: it is too late to {what}")
