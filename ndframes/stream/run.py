"""Run: the state of a pipeline while it runs: readings, workers, ledgers, results, and what users are told."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import asdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ..errors import AlgorithmError
from .algorithm import Failure
from .ledger import DropReason, Ledger
from .process_worker import ProcessWorker
from .reading import SourceEvent
from .results import Results
from .values import Result
from .workers import InlineWorker, RunStopped, ThreadWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from .algorithm import Algorithm
    from .log import RunLogWriter
    from .plan import Due
    from .reading import Reading
    from .values import Frame
    from .workers import Call, Worker

__all__ = ["ErrorMode", "Run", "to_result"]
_WORKERS: Mapping[str, Callable[[Algorithm], Worker]] = MappingProxyType(
    {"inline": InlineWorker, "thread": ThreadWorker, "process": ProcessWorker}
)
#: What happens to a window whose algorithm fails: the pipeline stops with the error, or the window has a result with it.
ErrorMode = Literal["raise", "skip"]


class Run:
    """One run of a pipeline.

    Args:
        readings: the open sources.
        algorithms: in the order in which they were added.
        errors: what happens to a window whose algorithm fails.
        buffer: the most frames that wait for results.
        on_result: called with each result, in order.
        on_frame: called with each frame and the newest results of its source, when the results of the frame are there.
        on_event: called with each change of a source's state.
        logs: where each step is noted.

    Attributes:
        ledgers: what became of the windows of each algorithm.
        results: all results.
        is_stopping: whether the run is to end.
        is_abandoned: whether what does not end is left behind.
        states: the state of each source.
    """

    def __init__(
        self,
        readings: Sequence[Reading],
        algorithms: Sequence[Algorithm],
        *,
        errors: ErrorMode,
        buffer: int,
        on_result: Sequence[Callable[[Result], None]],
        on_frame: Sequence[Callable[[Frame, dict[str, Result]], None]],
        on_event: Sequence[Callable[[str, SourceEvent], None]],
        logs: Sequence[RunLogWriter] = (),
    ) -> None:
        self.readings = readings
        self.algorithms = algorithms
        self.errors = errors
        self.buffer = buffer
        self._on_result, self._on_frame, self._on_event = on_result, on_frame, on_event
        self._logs = logs
        self.workers = {each.name: _WORKERS[each.worker](each) for each in algorithms}
        self.ledgers = {each.name: Ledger() for each in algorithms}
        self.results = Results(each.name for each in algorithms)
        self.states = {str(reading.source.name): "opening" for reading in readings}
        self.lock = threading.Lock()
        self._stopping = threading.Event()
        self.is_abandoned = False
        self._threads: list[threading.Thread] = []
        self._latest: dict[str, dict[str, Result]] = {str(reading.source.name): {} for reading in readings}

    @property
    def is_stopping(self) -> bool:
        """Whether the run is to end."""
        return self._stopping.is_set()

    def request_stop(self) -> None:
        """Let the run end; any thread may call it."""
        self._stopping.set()
        for reading in self.readings:
            reading.stop()

    def abandon(self) -> None:
        """Leave behind what has not ended: nobody waits for it. It returns at once."""
        self.is_abandoned = True
        for worker in self.workers.values():
            worker.abandon()

    def add_thread(self, thread: threading.Thread) -> None:
        """Note a thread of the run."""
        self._threads.append(thread)

    @property
    def threads(self) -> list[threading.Thread]:
        """The threads in which functions of the user are called."""
        return [*self._threads, *(worker.thread for worker in self.workers.values() if worker.thread is not None)]

    def wait_for_stop(self, seconds: float) -> bool:
        """Wait so long, or until the run is to end; returns whether it is."""
        return self._stopping.wait(seconds)

    def frames_of(self, reading: Reading) -> Generator[Frame, None, None]:
        """The frames of a source; changes of its state are noted."""
        name = str(reading.source.name)
        with closing(iter(reading)) as items:
            for item in items:
                if isinstance(item, SourceEvent):
                    self._note(name, item)
                else:
                    yield item

    def _note(self, name: str, event: SourceEvent) -> None:
        self.states[name] = event.state
        with self.lock:
            for log in self._logs:
                log.tell(name, event)
        for tell in self._on_event:
            tell(name, event)

    def stats(self) -> dict[str, Any]:
        """As :attr:`ndframes.stream.Pipeline.stats`."""
        with self.lock:
            return {
                "sources": {
                    str(each.source.name): {**asdict(each.counts), "state": self.states[str(each.source.name)]}
                    for each in self.readings
                },
                "algorithms": {name: ledger.to_dict() for name, ledger in self.ledgers.items()},
            }

    def schedule(self, due: Due) -> None:
        """Count a window that is due."""
        with self.lock:
            self.ledgers[due.algorithm.name].scheduled += 1

    def drop(self, due: Due, reason: DropReason) -> None:
        """Count a window that is not processed."""
        with self.lock:
            self.ledgers[due.algorithm.name].dropped[reason] += 1
            for log in self._logs:
                log.drop(due, reason)

    def miss(self, frame: Frame) -> None:
        """Note a frame that came without its image."""
        with self.lock:
            for log in self._logs:
                log.miss(frame)

    def submit(self, batch: Sequence[Due]) -> Call:
        """Pass windows of one algorithm to its worker."""
        with self.lock:
            for log in self._logs:
                log.take(batch)
        return self.workers[batch[0].algorithm.name].submit([due.frames for due in batch])

    def values_of(self, batch: Sequence[Due], call: Call) -> list[Any]:
        """The value of each window of a batch, or a failure.

        Raises:
            AlgorithmError: the worker cannot go on.
        """
        return self.workers[batch[0].algorithm.name].wait(call)

    def settle_batch(self, batch: Sequence[Due], call: Call) -> None:
        """Wait for the values of a batch, and settle each of its windows.

        Raises:
            AlgorithmError: as :meth:`settle` and :meth:`values_of`.
        """
        for due, value in zip(batch, self.values_of(batch, call), strict=True):
            self.settle(due, value)

    def settle(self, due: Due, value: Any) -> None:
        """Keep the result of a window, count it, and tell the users.

        Raises:
            AlgorithmError: the algorithm failed, and errors are raised.
        """
        seconds = time.monotonic() - due.arrived
        result = to_result(due, value, seconds)
        with self.lock:
            ledger = self.ledgers[due.algorithm.name]
            if isinstance(value, Failure):
                ledger.dropped["error"] += 1
            else:
                ledger.processed += 1
                ledger.latencies.add(seconds)
            self.results.add(result)
            self._latest[result.source][result.name] = result
        for tell in self._on_result:
            tell(result)
        if isinstance(value, Failure) and self.errors == "raise":
            frames = ", ".join(map(str, result.frames))
            raise AlgorithmError(
                f"algorithm {result.name} failed at frame {frames} of {result.source}: {value.why}; errors='skip' goes on"
            ) from value.error

    def show(self, frame: Frame) -> None:
        """Pass a frame on to the users, with the newest results of its source."""
        if self._on_frame:
            with self.lock:
                latest = dict(self._latest[frame.source])
            for tell in self._on_frame:
                tell(frame, latest)

    def start_workers(self) -> None:
        """Set the algorithms up, one after the other.

        Raises:
            AlgorithmError: the setup of one of them failed.
            RunStopped: the run is to end.
        """
        for worker in self.workers.values():
            if self.is_stopping:
                raise RunStopped
            worker.start()

    def stop_workers(self, seconds: float) -> None:
        """End the algorithms, each one whatever becomes of the others; those that do not end within so many seconds are left.

        Raises:
            AlgorithmError: ``close`` of one of them failed: the first error.
        """
        deadline = time.monotonic() + (0 if self.is_abandoned else seconds)
        errors = []
        for worker in self.workers.values():
            try:
                worker.stop(max(0.05, deadline - time.monotonic()))
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]


def to_result(due: Due, value: Any, seconds: float) -> Result:
    """The result of a window."""
    newest = due.newest
    failed = isinstance(value, Failure)
    return Result(
        name=due.algorithm.name,
        source=newest.source,
        index=newest.index,
        time=newest.time,
        epoch=newest.epoch,
        frames=tuple(frame.index for frame in due.frames),
        value=None if failed else value,
        error=value.why if failed else None,
        latency=seconds,
        captured=newest.captured,
        clock=newest.clock,
    )
