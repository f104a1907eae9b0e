"""PostResults: a sink that posts results to a server as JSON."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Literal

from ..errors import SinkError, StreamError, check_choice, describe_error, shorten
from .http_target import HttpTarget
from .outbox import Outbox, Outgoing, Overflow
from .retry import Retry
from .texts import describe_result, to_dict, to_strict_json

if TYPE_CHECKING:
    from .values import Result

__all__ = ["FailureMode", "PostResults"]
#: What happens if results cannot be delivered: the pipeline ends with the error, or they are counted.
FailureMode = Literal["raise", "skip"]
_POLL_SECONDS = 0.05


class PostResults:
    """Posts results to a server, from a thread of its own, so that a slow server does not keep an algorithm waiting.

    The body of a request is a JSON list of results, each as :meth:`Results.to_dicts` gives it; NaN and infinities are ``null``. A request that fails is sent
    again as ``retries`` says, if that may help: after a network error, and the statuses 408, 425, 429 and from 500; ``Retry-After`` is
    followed. A result may thus arrive twice: all attempts of a request have the same ``Idempotency-Key``. Redirections are not
    followed. Every result is accounted for: ``received == delivered + failed + dropped + waiting`` in :attr:`stats`.

    Args:
        url: ``http://`` or ``https://``; a user and password in it are sent as basic authentication.
        batch: the most results of a request. A request takes what is waiting and does not wait for more.
        timeout: seconds for connecting, and for the rest of a request.
        retries: how often a request is sent again.
        headers: that are sent, too.
        on_failure: what happens if results cannot be delivered: ``"raise"`` ends the pipeline with a
            :class:`~ndframes.SinkError`, ``"skip"`` counts them as ``failed``.
        waiting: the most results that wait to be sent.
        overflow: what happens if there are more: ``"wait"``: the pipeline waits; ``"drop_oldest"`` and ``"drop_newest"``: they are
            counted as ``dropped``; ``"raise"``: the pipeline ends with a :class:`~ndframes.SinkError`.
        close_timeout: seconds without a delivery after which :meth:`close` gives up.

    Raises:
        StreamError: a value is not allowed.
    """

    def __init__(  # noqa: PLR0913 - options of one request
        self,
        url: str,
        *,
        batch: int = 1,
        timeout: float = 10.0,
        retries: Retry | None = None,
        headers: Mapping[str, str] | None = None,
        on_failure: FailureMode = "raise",
        waiting: int = 1000,
        overflow: Overflow = "wait",
        close_timeout: float = 5.0,
    ) -> None:
        _check_count("batch", batch)
        _check_count("waiting", waiting)
        _check_seconds("timeout", timeout)
        _check_seconds("close_timeout", close_timeout)
        check_choice("on_failure", on_failure, FailureMode)
        check_choice("overflow", overflow, Overflow)
        self._target = HttpTarget(url, headers, timeout)
        self.name = self._target.name
        self._batch = batch
        self._retries = Retry() if retries is None else retries
        self._on_failure = on_failure
        self._overflow = overflow
        self._close_timeout = close_timeout
        self._outbox = Outbox(waiting, overflow)
        self._error: SinkError | None = None
        self._is_abandoned = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def stats(self) -> dict[str, int]:
        """Results ``received``, ``delivered``, ``failed``, ``dropped`` and ``waiting``, and ``retries`` of requests."""
        return self._outbox.stats

    def __call__(self, result: Result) -> None:
        """Take a result in.

        Raises:
            SinkError: an earlier result could not be delivered, or there is no room and ``overflow="raise"``.
            StreamError: the value is not JSON.
        """
        # Now: the algorithm may change what it has returned.
        item = Outgoing(result, to_strict_json(to_dict(result), describe_result(result)))
        self._start()
        if self._outbox.put(item):
            return
        if self._error is not None:
            raise self._error
        if self._is_abandoned.is_set() or self._overflow in ("wait", "raise"):
            why = f"{self.stats['waiting']:,} wait already" if self._overflow == "raise" else "it was closed"
            raise SinkError(f"{self.name}: no room for {describe_result(result)}: {why}")

    def close(self) -> None:
        """Send what waits, and end the thread; gives up after ``close_timeout`` seconds without a delivery.

        Raises:
            SinkError: something was not delivered, and ``on_failure="raise"``.
        """
        self._outbox.close()
        self._wait_for_end()
        self._is_abandoned.set()
        left = self._outbox.abandon()
        if left and self._on_failure == "raise" and self._error is None:
            self._error = self._to_error(left, f"closed after {self._close_timeout:g} s without a delivery")
        if self._error is not None:
            raise self._error

    def _wait_for_end(self) -> None:
        thread, settled, since = self._thread, self._outbox.settled, time.monotonic()
        while thread is not None and thread.is_alive():
            thread.join(_POLL_SECONDS)
            if self._outbox.settled != settled:
                settled, since = self._outbox.settled, time.monotonic()
            if time.monotonic() - since > self._close_timeout:
                return

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"ndframes-post {self.name}", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        try:
            while batch := self._outbox.take(self._batch):
                why = self._deliver(batch)
                if self._is_abandoned.is_set():
                    return
                self._outbox.settle(is_success=why is None)
                if why is not None and self._on_failure == "raise":
                    self._error = self._to_error(batch, why)
                    self._outbox.abandon()
                    return
        except Exception as error:  # noqa: BLE001 - raised again with the next result, or at the end
            self._error = SinkError(f"{self.name}: {describe_error(error)}")
            self._outbox.abandon()
        finally:
            self._target.close()

    def _deliver(self, batch: Sequence[Outgoing]) -> str | None:
        """Send a batch until it arrives; returns why it does not."""
        body = f"[{','.join(item.text for item in batch)}]".encode()
        key = uuid.uuid4().hex
        for attempt in range(1, self._retries.attempts + 1):
            answer = self._target.post(body, key)
            if answer.is_success:
                return None
            if not answer.may_pass:
                return answer.why
            if attempt < self._retries.attempts:
                self._outbox.count_retry()
                if self._is_abandoned.wait(self._retries.seconds(attempt, answer.asked_seconds)):
                    return "closed"
        return f"{answer.why}, after {self._retries.attempts} attempts"

    def _to_error(self, items: Sequence[Outgoing], why: str) -> SinkError:
        more = f" and {len(items) - 1:,} more" if len(items) > 1 else ""
        return SinkError(
            f"{self.name}: {describe_result(items[0].result)}{more} could not be posted: {why}; on_failure='skip' goes on"
        )


def _check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise StreamError(f"PostResults({name}={shorten(value)}); give a whole number of at least 1")


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise StreamError(f"PostResults({name}={shorten(value)}); give seconds above 0")
