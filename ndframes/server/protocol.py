"""Protocol: HTTP whose clients cannot hold the server up by being slow.

A request must send its head within some seconds and in some bytes, and an answer must be read within some seconds. Of requests
whose heads are unfinished only so many are kept: the oldest ones are ended. An honest client sends its head at once, so it is
never the oldest for long, however many others send a byte now and then. Many honest clients may come at once, and are accepted before
anything is read of them; so the oldest ones are ended only after a moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["GuardedProtocol", "UnfinishedHeads"]
_HEAD_SECONDS = 5.0
_HEAD_BYTES = 16 << 10
_LINE_BYTES = len(b": \r\n")
_WRITE_SECONDS = 30.0
_MOST_UNFINISHED = 64
_MOST_AT_ONCE = 512
_GRACE_SECONDS = 0.25
# Copying more than this costs more than a second system call.
_MOST_JOINED_BYTES = 64 << 10
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class UnfinishedHeads:
    """The connections of one server from which the head of a request is still awaited, oldest first.

    Args:
        most: how many are kept.
        most_at_once: how many are kept for a moment.
    """

    def __init__(self, most: int = _MOST_UNFINISHED, most_at_once: int = _MOST_AT_ONCE) -> None:
        self._most = most
        self._most_at_once = most_at_once
        self._waiting: dict[GuardedProtocol, None] = {}
        self._ending: asyncio.TimerHandle | None = None

    def add(self, connection: GuardedProtocol) -> None:
        """A head is awaited; if there are too many, the oldest ones are ended."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None
        if len(self._waiting) > self._most and self._ending is None:
            self._ending = connection.loop.call_later(_GRACE_SECONDS, self._end_surplus)
        self._end_oldest(self._most_at_once)

    def _end_surplus(self) -> None:
        self._ending = None
        self._end_oldest(self._most)

    def _end_oldest(self, most: int) -> None:
        while len(self._waiting) > most:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.transport.abort()

    def discard(self, connection: GuardedProtocol) -> None:
        """A head is complete, or its connection has ended."""
        self._waiting.pop(connection, None)


class _JoiningTransport:
    """Sends the head of an answer together with its body, by one system call instead of two.

    What is short waits until the next write, or until the event loop has run what is ready.

    Args:
        transport: of the connection.
        loop: the event loop.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._kept = b""
        self._sending: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        """As of a transport."""
        if self._sending is None and len(data) <= _HEAD_BYTES:
            self._kept = data
            self._sending = self._loop.call_soon(self._send)
        elif self._kept and len(data) <= _MOST_JOINED_BYTES:
            self._kept += data
            self._send()
        else:
            self._send()
            self._transport.write(data)

    def close(self) -> None:
        """As of a transport: what waits is sent first."""
        self._send()
        self._transport.close()

    def abort(self) -> None:
        """As of a transport: what waits is dropped."""
        if self._sending is not None:
            self._sending.cancel()
        self._transport.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
            self._transport.write(self._kept)
            self._kept = b""


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    It writes no log of requests, which could show a token: uvicorn's own option changes the logger of all servers of the process.

    Args:
        heads: those of the server.
    """

    def __init__(self, *arguments: Any, heads: UnfinishedHeads, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.access_log = False
        self._heads = heads
        self._head_bytes = 0
        self._is_in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    # -- the head of a request ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As the base class's."""
        super().connection_made(cast("asyncio.Transport", _JoiningTransport(transport, self.loop)))
        self._begin_head()
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """As the base class's; a head that is too large is refused before it is complete."""
        was_in_head = self._is_in_head
        if was_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and was_in_head and self._head_bytes > _HEAD_BYTES:
            self._refuse(_TOO_LARGE)
        elif self._is_in_head and self._head_timer is None:
            # Only now: most heads come whole, and need no timer.
            self._await_head()

    def on_message_begin(self) -> None:
        """As the base class's: a head begins."""
        super().on_message_begin()
        if not self._is_in_head:  # it is not the first one of the connection
            self._begin_head()

    def on_headers_complete(self) -> None:
        """As the base class's: a head is complete."""
        self._end_head()
        if len(self.url) + sum(len(name) + len(value) + _LINE_BYTES for name, value in self.headers) > _HEAD_BYTES:
            self._refuse(_TOO_LARGE)
        elif not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """As the base class's; nothing reads the body of a request that was refused."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """As the base class's."""
        if not self.transport.is_closing():
            super().on_message_complete()

    def _begin_head(self) -> None:
        self._is_in_head, self._head_bytes = True, 0

    def _await_head(self) -> None:
        self._heads.add(self)
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._refuse, _TOO_LATE)

    def _end_head(self) -> None:
        self._is_in_head = False
        if self._head_timer is not None:
            self._heads.discard(self)
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        self._end_head()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()

    # -- the answer ---------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """As the base class's: the client does not read as fast as it is sent to."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(_WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """As the base class's."""
        super().resume_writing()
        self._end_write_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """As the base class's."""
        self._end_head()
        self._end_write_timer()
        super().connection_lost(exc)

    def _end_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
