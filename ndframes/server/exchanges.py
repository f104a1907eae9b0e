"""Exchanges: what became of each request, told to those who count and log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["NO_ENDPOINT", "Exchange", "Observed", "name_endpoint"]
_KEY = "ndframes.exchange"
#: Instead of the endpoint where the request was refused, or nothing is at its path.
NO_ENDPOINT = "none"


@dataclass(slots=True)
class Exchange:
    """A request and its answer.

    Attributes:
        method: of HTTP.
        path: of the request; it may hold the token.
        query: likewise, as it was sent.
        client: the address that sent it; ``None`` if that is not known.
        began: the time, in seconds since 1970.
        endpoint: the path of the endpoint that answered, with names in braces.
        status: of HTTP.
        sent_bytes: of the body, as they were given to the connection.
        seconds: from the request to the end of the answer.
    """

    method: str
    path: str
    query: bytes
    client: str | None
    began: float
    endpoint: str = NO_ENDPOINT
    status: int = 500
    sent_bytes: int = 0
    seconds: float = 0.0


class Observed:
    """An application whose exchanges are told to observers.

    Args:
        app: the application.
        observers: called in the thread of the server when an answer has ended. They must not block it.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[Callable[[Exchange], None]]) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI defines it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        exchange = Exchange(
            scope["method"], scope["path"], scope["query_string"], client[0] if client else None, time.time()
        )
        began = time.perf_counter()

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
            # A server leaves out the body of an answer to HEAD.
            elif scope["method"] != "HEAD":
                exchange.sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app({**scope, _KEY: exchange}, receive, send_counted)
        finally:
            exchange.seconds = time.perf_counter() - began
            for observe in self._observers:
                observe(exchange)


def name_endpoint(scope: Scope, path: str) -> None:
    """Say which endpoint answers a request.

    Args:
        scope: of the request, as ASGI defines it.
        path: of the endpoint, with names in braces.
    """
    exchange: Exchange | None = scope.get(_KEY)
    if exchange is not None:
        exchange.endpoint = path
