"""Engines: the executors that ``prepare`` accepts, and how it submits jobs to them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from ..errors import shorten

__all__ = ["DaskClient", "Engine"]
# Enough for a worker to go on at once, and few enough to hold in memory and to cancel.
_CALLS_A_WORKER = 4
# For an executor that does not tell how many workers it has, or has none yet.
_CALLS_BY_DEFAULT = 64
# The workers of a cluster come and go during a run.
_RECOUNT_SECONDS = 5.0
_HINTS = {
    "distributed": "of a Dask cluster, give a Client(cluster)",
    "dask_jobqueue": "of a Dask cluster, give a Client(cluster)",
    "ipyparallel": "of ipyparallel, give Client().executor()",
    "joblib": "instead of joblib, give loky.get_reusable_executor()",
    "mpi4py": "of mpi4py, give an mpi4py.futures.MPIPoolExecutor",
    "multiprocessing": "instead of multiprocessing, give workers=n or a concurrent.futures.ProcessPoolExecutor",
    "parsl": "of parsl, give a parsl.concurrent.ParslPoolExecutor",
    "pebble": "instead of pebble, give workers=n, which survive crashes and can be limited by isolate=",
    "ray": "of Ray, give ndframes.ray_executor()",
    "submitit": "instead of submitit, give a Client of dask_jobqueue.SLURMCluster",
}
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class DaskClient(Protocol):
    """A ``distributed.Client`` of Dask."""

    def get_executor(self, **options: Any) -> Executor:
        """An executor that runs calls on the cluster."""


class Engine:
    """Runs calls on an executor, a bounded number of them at a time.

    Args:
        executor: a ``concurrent.futures.Executor`` or a Dask ``Client``.

    Attributes:
        workers: how many calls ran at the same time when it was last asked; ``None`` if that is unknown.

    Raises:
        ValueError: it is neither, or an asynchronous Client.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(2) as executor:
        ...     ended = list(Engine(executor).run(abs, [-3, -4, 5]))
        >>> sorted((place, future.result()) for place, future in ended)
        [(0, 3), (1, 4), (2, 5)]
    """

    def __init__(self, executor: Executor | DaskClient) -> None:
        self._client = _find_dask_client(executor)
        # Dask would repeat the result or the error of an earlier call with equal arguments while anybody refers to it.
        self._options = {} if self._client is None else {"pure": False}
        self._executor = _to_executor(executor, self._client)
        self.workers: int | None = None
        self._counted_at = -_RECOUNT_SECONDS

    def run(
        self, function: Callable[[_Item], _Result], items: Sequence[_Item]
    ) -> Iterator[tuple[int, Future[_Result]]]:
        """Call ``function(item)`` for each item; yield each index with its future when that has ended, in any order.

        At most four calls for each worker are submitted and have not ended. If the caller stops early, those that have not
        begun are cancelled. If the executor breaks, the futures of the calls that did not end raise ``BrokenExecutor``.

        Raises:
            ValueError: ``submit`` returns something else than a ``concurrent.futures.Future``.
        """
        running: dict[Future[_Result], int] = {}
        # By callbacks, since wait() would look at all running calls again for each one that ends.
        ended: SimpleQueue[Future[_Result]] = SimpleQueue()
        begun = 0
        try:
            while begun < len(items) or running:
                while begun < len(items) and len(running) < self._find_limit():
                    future = self._submit(function, items[begun])
                    running[future] = begun
                    begun += 1
                    future.add_done_callback(ended.put)
                future = ended.get()
                yield running.pop(future), future
        except BaseException:
            for future in running:
                # Parsl cannot cancel.
                with suppress(NotImplementedError):
                    future.cancel()
            raise

    def _submit(self, function: Callable[[_Item], _Result], item: _Item) -> Future[_Result]:
        try:
            future: Any = self._executor.submit(function, item, **self._options)
        except BrokenExecutor as error:
            # The calls that were submitted before end in the same way.
            future = Future()
            future.set_exception(error)
        if not isinstance(future, Future):
            raise ValueError(  # noqa: TRY004 - as for other values of executor=
                f"executor={shorten(self._executor)}: its submit() returned {shorten(future)}, not a concurrent.futures.Future"
            )
        return future

    def _count_workers(self) -> int | None:
        """How many calls can run at the same time now; ``None`` if the executor does not tell it, or has no workers yet."""
        if self._client is not None:
            return sum(self._client.nthreads().values()) or None
        # The first is of mpi4py and our own, and what users may set; then of executorlib; then of Python, loky and ipyparallel.
        for name in ("num_workers", "max_workers", "_max_workers"):
            count = getattr(self._executor, name, None)
            if isinstance(count, int) and count > 0:
                return count
        return None

    def _find_limit(self) -> int:
        now = time.monotonic()
        if now - self._counted_at >= _RECOUNT_SECONDS:
            self.workers = self._count_workers()
            self._counted_at = now
        return _CALLS_BY_DEFAULT if self.workers is None else _CALLS_A_WORKER * self.workers


def _find_dask_client(executor: object) -> Any:
    """The Client that an executor is, or belongs to; ``None`` for others."""
    # Nobody has a Client without this import.
    kind = getattr(sys.modules.get("distributed"), "Client", None)
    if not isinstance(kind, type):
        return None
    client = executor if isinstance(executor, kind) else getattr(executor, "_client", None)
    return client if isinstance(client, kind) else None


def _to_executor(executor: Any, client: Any) -> Executor:
    if client is not None and client.asynchronous:
        raise ValueError(
            f"executor={shorten(executor)} is asynchronous, and prepare would block its event loop; give a Client without "
            "asynchronous=True"
        )
    if client is executor and client is not None:
        executor = client.get_executor()
    if isinstance(executor, Executor):
        return executor
    # By the name of a module, too: of Ray, the module itself is what has the functions.
    module = getattr(executor, "__name__", "") if type(executor).__name__ == "module" else type(executor).__module__
    hint = _HINTS.get(module.partition(".")[0], "a class of your own must inherit from concurrent.futures.Executor")
    raise ValueError(
        f"executor={shorten(executor)} is no concurrent.futures.Executor; give one, a Dask Client, ndframes.ray_executor(), or "
        f"None; {hint}"
    )
