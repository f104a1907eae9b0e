"""Serving: an ASGI application in a thread, at a port that is bound before it starts, with a stop that is bounded."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtraError, ServerError, shorten

try:
    import uvicorn

    from .protocol import GuardedProtocol, UnfinishedHeads
except ImportError as missing:
    raise MissingExtraError('an HTTP server needs uvicorn: pip install "ndframes[serve]"', name="uvicorn") from missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

__all__ = ["Server", "adopt_listener", "listen", "to_address"]
_LOG = logging.getLogger("ndframes.server")
#: The errors after which asyncio tries to accept connections again.
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_TELL_SECONDS = 10.0
_GRACE_SECONDS = 0.3  # in which answers that have begun are finished
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - named, not used as a default


class Server:
    """Serves an application.

    Args:
        app: of ASGI.
        host: the address or name that it listens at.
        port: 0 takes a free one.
        listener: listens already, instead of a socket at the port; it is closed at the end.

    Attributes:
        address: where it is reached, with a slash at the end.

    Raises:
        ServerError: the port cannot be had.
    """

    def __init__(
        self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0, listener: socket.socket | None = None
    ) -> None:
        self._socket = listener or listen(host, port)
        self.address = to_address(self._socket, host)
        self._uvicorn = _Uvicorn(_configure(app))
        self._closing: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="ndframes-server", daemon=True)

    def start(self, timeout: float = 30.0) -> None:
        """Begin to serve; returns when requests are answered.

        Raises:
            ServerError: it does not start.
        """
        self._thread.start()
        if not self._uvicorn.ready.wait(timeout) or self._error is not None:
            raise ServerError(f"the server at {self.address} does not start: {self._error or 'it took too long'}")

    def stop(self, timeout: float = 5.0) -> bool:
        """End it. Answers that are not sent after a moment are cut off, so that no client can hold it up.

        Returns:
            Whether it has ended within so many seconds.
        """
        deadline = time.monotonic() + timeout
        if self._loop is not None and self._closing is not None and self._thread.is_alive():
            try:
                self._loop.call_soon_threadsafe(self._closing.set)
            except RuntimeError:
                pass  # it has ended in the meantime: its loop is closed
        if self._thread is not threading.current_thread():
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again where it is started
            self._error = error
        finally:
            self._socket.close()
            self._uvicorn.ready.set()

    async def _serve(self) -> None:
        self._closing, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self._loop.set_exception_handler(_tell_scarcity())
        cutting = asyncio.create_task(self._cut_off(self._closing))
        try:
            await self._uvicorn.serve(sockets=[self._socket])
        finally:
            cutting.cancel()

    async def _cut_off(self, closing: asyncio.Event) -> None:
        """End the server when that is asked for, and the connections that do not end by themselves."""
        await closing.wait()
        self._uvicorn.should_exit = True
        while True:
            await asyncio.sleep(_GRACE_SECONDS)
            for connection in list(self._uvicorn.server_state.connections):
                transport: Any = connection.transport
                transport.abort()


class _Uvicorn(uvicorn.Server):
    """A server that says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        self.ready.set()


def _tell_scarcity() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """A handler of the errors of an event loop that tells every few seconds that no connection can be accepted.

    asyncio tries again up to 2,048 times each second, and its own handler would log a traceback for each.
    """
    told_at = -math.inf

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told_at
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _SCARCE:
            loop.default_exception_handler(context)
        elif time.monotonic() >= told_at + _TELL_SECONDS:
            told_at = time.monotonic()
            _LOG.error("connections wait, since no further one can be accepted: %s", error.strerror)

    return handle


def _configure(app: ASGIApp) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        interface="asgi3",
        loop="asyncio",
        ws="none",
        lifespan="off",
        http=partial(GuardedProtocol, heads=UnfinishedHeads()),  # type: ignore[arg-type]
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    config.load()
    # With its lowest log level, uvicorn has put another application around this one, which logs the token.
    config.loaded_app = app
    return config


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: the address or name.
        port: 0 takes a free one.

    Raises:
        ServerError: the port cannot be had.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 65536:
        raise ServerError(f"port={shorten(port)}; give a port from 1 to 65535, or 0 for a free one")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ServerError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}; with port=0 a free one is taken"
        ) from error
    return adopt_listener(bound.detach())


def adopt_listener(descriptor: int) -> socket.socket:
    """The socket that listens at a descriptor."""
    with socket.socket(fileno=descriptor) as found:
        family = found.family
        found.detach()
    # With its protocol named: asyncio sets TCP_NODELAY only then, without which the body of an answer waits 40 ms for an
    # acknowledgement of its head.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=descriptor)


def to_address(listener: socket.socket, host: str) -> str:
    """The address at which a socket is reached that listens at a host, with a slash at the end."""
    shown = _WILDCARDS.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}/"
