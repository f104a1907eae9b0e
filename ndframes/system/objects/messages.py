"""Messages between a forked process and its helper: requests and answers of many threads over one socket."""

from __future__ import annotations

import pickle
import struct
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ...errors import StoreError
from .requests import ReadPart, TransientError

if TYPE_CHECKING:
    import socket

    from typing_extensions import Buffer

__all__ = ["Answer", "Call", "pack_answer", "receive", "send", "unpack_answer"]
# The number of the call, the length of the pickle, and that of the bytes after it.
_HEADER = struct.Struct("<QQQ")


class Call(NamedTuple):
    """A request to the helper.

    Attributes:
        method: of :class:`~ndframes.system.objects.requests.StoreRequests`, or ``"connect"``.
        store: the number of the store, which a call of ``"connect"`` has introduced.
        arguments: of the method.
    """

    method: str
    store: int
    arguments: tuple[Any, ...]


class Answer(NamedTuple):
    """The result of a call, or its error."""

    kind: Literal["part", "value", "error"]
    value: Any


def send(connection: socket.socket, number: int, body: bytes, data: Buffer = b"") -> None:
    """Send a message; the caller sees to it that messages of several threads are not mixed.

    Args:
        connection: a blocking socket.
        number: of the call.
        body: a pickle.
        data: bytes that go with it, which are not copied into a pickle.
    """
    view = memoryview(data)
    connection.sendall(_HEADER.pack(number, len(body), view.nbytes) + body)
    if view.nbytes:
        connection.sendall(view)


def receive(connection: socket.socket) -> tuple[int, bytearray, bytearray] | None:
    """The next message: its number, its pickle, and the bytes that go with it; ``None``: the other process has ended."""
    header = _receive_all(connection, _HEADER.size)
    if header is None:
        return None
    number, body_length, data_length = _HEADER.unpack(header)
    body = _receive_all(connection, body_length)
    data = _receive_all(connection, data_length)
    return None if body is None or data is None else (number, body, data)


def _receive_all(connection: socket.socket, count: int) -> bytearray | None:
    received = bytearray(count)
    view = memoryview(received)
    while view:
        try:
            length = connection.recv_into(view)
        except OSError:  # it was killed, and left something unread
            return None
        if not length:
            return None
        view = view[length:]
    return received


def pack_answer(answer: Answer) -> tuple[bytes, Buffer]:
    """The pickle of an answer, and the bytes of a part."""
    if answer.kind == "part":
        return pickle.dumps(("part", answer.value.status)), answer.value.data
    try:
        return pickle.dumps(tuple(answer)), b""
    except Exception as error:  # noqa: BLE001 - whatever a class of others raises
        failed = StoreError(f"the helper process cannot send {type(answer.value).__name__}: {error}")
        return pickle.dumps(("error", failed)), b""


def unpack_answer(body: Buffer, data: bytearray) -> Any:
    """The result of a call; its error is raised."""
    kind, value = pickle.loads(body)  # noqa: S301 - from our own child
    if kind == "part":
        return ReadPart(memoryview(data).toreadonly(), value)
    if kind == "error":
        raise value if isinstance(value, Exception) else TransientError(str(value))
    return value
