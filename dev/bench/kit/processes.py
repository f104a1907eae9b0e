"""Each contender in a process of its own, so that no cache, thread pool or setting of one affects another.

GDAL has one block cache per process and reads its size once; thread pools stay after a reader is closed; an allocator
keeps the memory of earlier users. A contender's process receives functions over a pipe and takes its own times.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from peers.base import Contender

#: Environment in which libraries that read it start no threads.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS", "VIPS_CONCURRENCY"), "1"
)


class ContenderError(Exception):
    """An error that a contender raised in its process, or wrong pixels that it returned."""


class ContenderProcess:
    """A process that holds one contender.

    Args:
        contender: must pickle, so it is not open yet.
        daemon: whether its process ends with this one at the latest. Such a process cannot start worker processes.
    """

    def __init__(self, contender: Any, *, daemon: bool = True) -> None:
        self.contender = contender
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, contender), daemon=daemon)
        with _environment(ONE_THREAD | dict(contender.environment)):
            self._process.start()
        far_end.close()

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return ``function(contender, *arguments)``, called in the process.

        Raises:
            ContenderError: it raised, or the process died.
        """
        try:
            self._pipe.send((function, arguments))
            error, value = self._pipe.recv()
        except (EOFError, OSError) as gone:
            self._process.join()
            raise ContenderError(f"its process ended with code {self._process.exitcode}") from gone
        if error:
            raise ContenderError(error)
        return value

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


@dataclass
class Field:
    """The contenders that take part, and why the others do not.

    Attributes:
        processes: those that take part.
        absent: the reason by name: ``"not installed: ..."`` or the error.
    """

    processes: list[ContenderProcess] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> ContenderProcess:
        return next(process for process in self.processes if process.name == name)

    def shuffled(self, rng: np.random.Generator) -> list[ContenderProcess]:
        """The processes in another order each round, so that no contender always follows the same one."""
        return [self.processes[index] for index in rng.permutation(len(self.processes))]

    def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.close()


def start(contenders: Iterable[Any], check: Callable[[ContenderProcess], None], *, daemon: bool = True) -> Field:
    """Build and start each contender, and check it; see :class:`ContenderProcess` for ``daemon``.

    A contender that is not installed, raises, or fails ``check`` is recorded in ``absent``.
    """
    found = Field()
    for contender in contenders:
        if contender.missing:
            found.absent[contender.name] = f"not installed: {', '.join(contender.missing)}"
            continue
        process = None
        try:
            contender.build()
            process = ContenderProcess(contender, daemon=daemon)
            check(process)
        except ContenderError as error:
            found.absent[contender.name] = str(error).partition("\n")[0]
            if process is not None:
                process.close()
        else:
            found.processes.append(process)
    return found


@contextmanager
def running(
    contenders: Iterable[Any], check: Callable[[ContenderProcess], None], *, daemon: bool = True
) -> Iterator[Field]:
    """Start contenders as :func:`start` does, and end their processes."""
    found = start(contenders, check, daemon=daemon)
    try:
        yield found
    finally:
        found.close()


def open_contender(contender: Contender) -> None:
    """Open it, in its process."""
    contender.open()


def build_in_process(contender: Contender) -> Contender:
    """Return the contender, built in a process that has ended, so that forked children inherit nothing of that work."""
    process = ContenderProcess(contender)
    try:
        return process.call(_build)
    finally:
        process.close()


def _build(contender: Contender) -> Contender:
    contender.build()
    return contender


def _serve(pipe: Connection, contender: Contender) -> None:
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:  # the parent closed its end: there is nothing more to do
            return
        try:
            answer = "", function(contender, *arguments)
        except Exception as error:  # noqa: BLE001 - the parent reports whatever a library raises
            traceback.print_exc()
            answer = f"{type(error).__name__}: {error}", None
        pipe.send(answer)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
