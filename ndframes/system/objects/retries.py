"""Retries: another try for what is likely to pass, within bounds of number and time."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ...errors import StoreUnavailableError
from .requests import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Limits", "Retries"]
_Result = TypeVar("_Result")
_LOGGER = logging.getLogger("ndframes")
# One line tells of a store that is slow; many requests at once need not say it many times.
_LOG_INTERVAL_SECONDS = 30.0


class Limits(NamedTuple):
    """How long a store is waited for.

    Attributes:
        connect_seconds: for a connection.
        idle_seconds: without any byte, after which a request is given up and tried again.
        write_seconds: for a part of an upload to be sent and answered.
        retries: how often a request is tried again.
        total_seconds: after which no other try is begun.
        first_wait_seconds: before the second try; it doubles with each further one.
        longest_wait_seconds: before a try.
        log_seconds: after which a warning tells that an operation waits.
    """

    connect_seconds: float = 5.0
    idle_seconds: float = 10.0
    write_seconds: float = 40.0
    retries: int = 10
    total_seconds: float = 60.0
    first_wait_seconds: float = 0.1
    longest_wait_seconds: float = 3.0
    log_seconds: float = 5.0


class Retries:
    """Runs attempts until one succeeds.

    Args:
        url: of the store, for messages.
        limits: the bounds.

    Example:
        >>> answers = [TransientError("answered 503"), TransientError("answered 503"), "done"]
        >>> def attempt(number):
        ...     if isinstance(answers[number], Exception):
        ...         raise answers[number]
        ...     return answers[number]
        >>> Retries("s3://a", Limits(first_wait_seconds=0.01)).run(attempt, "read 'b'")
        'done'
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self._url = url
        self._limits = limits
        self._next_log = 0.0

    def run(self, attempt: Callable[[int], _Result], action: str, is_closing: threading.Event | None = None) -> _Result:
        """The result of the first attempt that does not raise a ``TransientError``.

        Args:
            attempt: gets its number, from 0 on.
            action: what is attempted, for messages: ``"read 'key'"``.
            is_closing: set when the process ends, so that nothing begins another try.

        Raises:
            StoreUnavailableError: all attempts failed.
        """
        started = time.monotonic()
        is_closing = is_closing or threading.Event()
        number = 0
        while True:
            try:
                return attempt(number)
            except TransientError as error:
                elapsed = time.monotonic() - started
                if is_closing.is_set() or not self._may_go_on(number, elapsed):
                    raise self._give_up(action, error, number + 1, elapsed) from None
                reason = error.reason
            self._log(action, reason, number + 1, elapsed)
            number += 1
            is_closing.wait(self._wait_seconds(number))

    def _may_go_on(self, number: int, elapsed: float) -> bool:
        return number < self._limits.retries and elapsed < self._limits.total_seconds

    def _wait_seconds(self, number: int) -> float:
        longest = min(self._limits.longest_wait_seconds, self._limits.first_wait_seconds * 2.0 ** (number - 1))
        # Requests that failed together must not come back together.
        return random.uniform(0.5, 1.0) * longest  # noqa: S311

    def _give_up(self, action: str, error: TransientError, tries: int, elapsed: float) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self._url}: cannot {action}: the store {error.reason}, in {tries} tries within {elapsed:.0f} s; check that it is "
            "running and can be reached from here, and try again"
        )

    def _log(self, action: str, reason: str, tries: int, elapsed: float) -> None:
        now = time.monotonic()
        if elapsed >= self._limits.log_seconds and now >= self._next_log:
            self._next_log = now + _LOG_INTERVAL_SECONDS
            _LOGGER.warning(
                "%s: still trying to %s after %.0f s and %d tries: the store %s",
                self._url,
                action,
                elapsed,
                tries,
                reason,
            )
