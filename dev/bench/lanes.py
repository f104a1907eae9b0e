"""Lanes: each contender in a process of its own, so that none's caches, threads or settings touch another's.

GDAL has one cache of decoded blocks for a whole process, and takes its size once; thread pools stay when a reader is
closed; an allocator remembers who used it before. A lane does what it is told over a pipe, and measures by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contenders import Contender

#: Environment under which libraries that read it start no threads of their own.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS", "VIPS_CONCURRENCY"), "1"
)


class LaneError(Exception):
    """What a contender raised in its process."""


class Lane:
    """A process that holds one contender.

    Args:
        contender: what it holds; must pickle, so it is not open yet.
    """

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, contender), daemon=True)
        with _environment(ONE_THREAD | dict(contender.environment)):
            self._process.start()
        far_end.close()

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What ``function(contender, *arguments)`` returns over there.

        Raises:
            LaneError: it raised, or its process died.
        """
        try:
            self._pipe.send((function, arguments))
            error, value = self._pipe.recv()
        except (EOFError, OSError) as gone:
            self._process.join()
            raise LaneError(f"its process ended with code {self._process.exitcode}") from gone
        if error:
            raise LaneError(error)
        return value

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def build_apart(contender: Contender) -> Contender:
    """The contender, built in a process that ends then: nothing of that work is inherited by those who are forked."""
    lane = Lane(contender)
    try:
        return lane.call(_build)
    finally:
        lane.close()


def _build(contender: Contender) -> Contender:
    contender.build()
    return contender


def _serve(pipe: Connection, contender: Contender) -> None:
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:  # the other end is closed: the work is done
            return
        try:
            answer = "", function(contender, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever a library raises is told to those who asked
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
