"""ray_executor: an executor over Ray, which has none of its own."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from ..errors import MissingExtraError
from ..system.portable_error import PortableError

__all__ = ["ray_executor"]


def ray_executor(**options: Any) -> Executor:
    """An executor whose calls are tasks of Ray, for ``prepare(executor=...)``.

    Ray is used as the program has initialized it. Otherwise ``ray.init()`` connects to the cluster that ``RAY_ADDRESS`` names,
    or starts one on this machine. :meth:`~concurrent.futures.Executor.shutdown` waits for the calls; it does not end Ray.

    Args:
        options: those of ``ray.remote`` for each task, such as ``num_cpus``, ``max_retries``, ``resources`` or ``runtime_env``.

    Returns:
        The executor. Cancelling a future cancels its task, also while that runs.

    Raises:
        MissingExtraError: Ray is not installed.

    Example:
        >>> with ray_executor(num_cpus=1) as executor:  # doctest: +SKIP
        ...     print(frames.prepare(executor=executor))
        8 prepared (2.33 MB), 0 already there, 0 failed, in 3.12 s
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError('ray_executor needs Ray: pip install "ray"', name="ray") from error
    if not ray.is_initialized():
        ray.init()
    return _RayExecutor(ray, options)


class _RayExecutor(Executor):
    def __init__(self, ray: Any, options: dict[str, Any]) -> None:
        self._ray = ray
        self._cpus_a_call = options.get("num_cpus") or 1
        self._call = ray.remote(**options)(_call) if options else ray.remote(_call)
        self._pending: set[Future[Any]] = set()
        self._is_closed = False

    @property
    def num_workers(self) -> int:
        """How many calls the cluster has processors for."""
        return int(self._ray.cluster_resources().get("CPU", 0) / self._cpus_a_call)

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule ``function(*args, **kwargs)`` as a task."""
        if self._is_closed:
            raise RuntimeError("this executor is shut down")
        reference = self._call.remote(function, args, kwargs)
        future: Future[Any] = Future()
        self._pending.add(future)
        future.add_done_callback(partial(self._end, reference))
        reference.future().add_done_callback(partial(_pass_on, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the calls, or cancel them."""
        self._is_closed = True
        pending = list(self._pending)
        for future in pending if cancel_futures else ():
            future.cancel()
        if wait:
            concurrent.futures.wait(pending)

    def _end(self, reference: Any, future: Future[Any]) -> None:
        self._pending.discard(future)
        if future.cancelled():
            self._ray.cancel(reference)


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs in a task. Ray would wrap an error in one of its own, with the traceback as the message."""
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - raised by the future
        return PortableError(error)


def _pass_on(future: Future[Any], done: Future[Any]) -> None:
    """Copy the outcome of Ray's future, which cannot cancel its task, to ours."""
    if not future.set_running_or_notify_cancel():
        return
    error = done.exception()
    outcome = done.result() if error is None else None
    if isinstance(outcome, PortableError):
        error = outcome.error
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)
