"""Jobs: reads in a bounded pool of threads, so that the event loop answers at once whatever is decoded."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from .limits import busy
from .pool import Pool
from .problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable
    from concurrent.futures import Future

    from .limits import ServiceLimits

__all__ = ["ClientGoneError", "Jobs"]
_Result = TypeVar("_Result")
_LOOK_SECONDS = 0.2


class ClientGoneError(Exception):
    """The client has closed its connection, so nobody waits for the result."""


class Jobs:
    """Runs reads in threads.

    A request first opens its images; requests for the same image wait for one opening, without a thread, so that a flood of
    requests for an image that must be converted takes one thread. Then it is read.

    Args:
        limits: of threads, of requests that wait, and of time.

    Attributes:
        waiting: the requests that are read or wait.
        refused: the requests that were told to come again.
        given_up: the requests that took too long.
        left: the requests whose client has gone.
    """

    def __init__(self, limits: ServiceLimits) -> None:
        self._limits = limits
        self._pool = Pool(limits.threads)
        self._openings: dict[Hashable, asyncio.Future[None]] = {}
        self.waiting = self.refused = self.given_up = self.left = 0

    async def run(
        self,
        keys: Iterable[Hashable],
        open_image: Callable[[Hashable], None],
        read: Callable[[], _Result],
        is_over: Callable[[], Awaitable[bool]],
        drop: Callable[[_Result], None],
    ) -> _Result:
        """Run a read.

        Args:
            keys: what is opened first.
            open_image: opens it, in a thread.
            read: makes the result, in a thread.
            is_over: whether nobody waits any more.
            drop: called with a result that nobody waits for.

        Raises:
            Problem: too many requests wait, or the deadline has passed.
            ClientGoneError: nobody waits any more.
        """
        if self.waiting >= self._limits.max_waiting:
            self.refused += 1
            raise busy(f"{self.waiting:,} requests wait")
        self.waiting += 1
        try:
            deadline = time.monotonic() + self._limits.deadline_seconds
            for key in keys:
                # Shielded by _wait: others may wait for the same opening.
                await self._wait(self._open(key, open_image), deadline, is_over)
            return await self._read(read, deadline, is_over, drop)
        finally:
            self.waiting -= 1

    async def call(self, function: Callable[[], _Result], is_over: Callable[[], Awaitable[bool]]) -> _Result:
        """Run a function in a thread, by the same limits."""
        return await self.run((), _do_nothing, function, is_over, _do_nothing)

    def close(self) -> None:
        """End the threads when they are done, without waiting for them."""
        self._pool.shutdown(wait=False)

    def _open(self, key: Hashable, open_image: Callable[[Hashable], None]) -> asyncio.Future[None]:
        opening = self._openings.get(key)
        if opening is None:
            opening = asyncio.get_running_loop().run_in_executor(self._pool, open_image, key)
            self._openings[key] = opening
            opening.add_done_callback(lambda done: self._forget(key, done))
        return opening

    def _forget(self, key: Hashable, done: asyncio.Future[None]) -> None:
        self._openings.pop(key, None)
        # Those who wait have the error. If nobody does, asyncio would call it never retrieved.
        if not done.cancelled():
            done.exception()

    async def _read(
        self,
        read: Callable[[], _Result],
        deadline: float,
        is_over: Callable[[], Awaitable[bool]],
        drop: Callable[[_Result], None],
    ) -> _Result:
        reading = self._pool.submit(read)
        future = asyncio.wrap_future(reading)
        try:
            return await self._wait(future, deadline, is_over)
        except BaseException:
            # A read that has not begun does not begin; the result of one that has is dropped when it is there.
            if not future.done():
                future.cancel()
                reading.add_done_callback(lambda done: _drop_result(done, drop))
            raise

    async def _wait(
        self, future: asyncio.Future[_Result], deadline: float, is_over: Callable[[], Awaitable[bool]]
    ) -> _Result:
        while True:
            left = deadline - time.monotonic()
            await asyncio.wait({future}, timeout=max(0.0, min(_LOOK_SECONDS, left)))
            if future.done():
                return future.result()
            if left <= 0:
                self.given_up += 1
                seconds = self._limits.deadline_seconds
                raise Problem(504, "RemoteError", f"the request was not done after {seconds:g} s; ask for less at once")
            if await is_over():
                self.left += 1
                raise ClientGoneError


def _drop_result(done: Future[_Result], drop: Callable[[_Result], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        drop(done.result())


def _do_nothing(_: object) -> None:
    pass
