"""Calls and answers: what an endpoint is given, and what it returns."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Answer", "Call", "Endpoint", "answer_json", "answer_text"]


async def _read_nothing(_: int) -> bytes | None:
    return b""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is allowed.

    Attributes:
        parameters: the parts of the path that the endpoint names.
        query: what follows the question mark.
        is_over: whether nobody waits for the answer any more.
        pairs: the query as names and values in their order, repeated names included.
        headers: of the request, by their names in lower case.
        read_body: reads what was sent with the request, up to so many bytes; ``None`` if it is longer.
        base: the address of the application as the client has it, without a slash at the end; with the token if that is in the
            path.
        method: of HTTP.
    """

    parameters: Mapping[str, str]
    query: Mapping[str, str]
    is_over: Callable[[], Awaitable[bool]]
    pairs: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    read_body: Callable[[int], Awaitable[bytes | None]] = _read_nothing
    base: str = ""
    method: str = "GET"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent.

    Attributes:
        body: the content.
        media_type: its type; text must name its encoding.
        status: of HTTP.
        headers: further ones.
        on_end: called when it has been sent, or cannot be sent.
    """

    body: bytes = b""
    media_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    on_end: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function that answers the requests to a path. It runs in the thread of the server, and must not block it.

    Attributes:
        method: ``"GET"``, with which HEAD is answered as well, or ``"POST"``.
        path: with names in braces.
        function: makes the answer.
    """

    method: Literal["GET", "POST"]
    path: str
    function: Callable[[Call], Awaitable[Answer]]


def answer_text(text: str, status: int = 200) -> Answer:
    """A line of plain text.

    Example:
        >>> answer_text("it is over", 409).body.decode().splitlines()
        ['it is over']
    """
    return Answer(f"{text}\n".encode(errors="backslashreplace"), status=status)


def answer_json(value: Any, status: int = 200) -> Answer:
    """A value as JSON; nan and infinities are errors, since they are not JSON."""
    return Answer(json.dumps(value, allow_nan=False).encode(), "application/json", status)
