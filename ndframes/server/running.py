"""Running: a service that is served by this process, in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .service import create_app
from .serving import Server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

    from ..frames.frames import Frames
    from .limits import ServiceLimits
    from .service import Service

__all__ = ["Running", "serve"]


class Running:
    """A service that runs in a thread; also a context manager, which stops it. Made by :func:`serve`.

    Attributes:
        address: that opens its page and that :func:`ndframes.connect` takes. It ends in ``#token=TOKEN``.
    """

    def __init__(self, app: Service, *, host: str, port: int) -> None:
        self._app = app
        self._server = Server(app, host=host, port=port)
        # What follows # is not sent by browsers, so it is in no log.
        self.address = f"{self._server.address}#token={self._app.token}"
        self._server.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """End it: answers that are not sent after a moment are cut off. Returns whether it has ended within so many seconds."""
        self._app.close()
        return self._server.stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} service at {self._server.address}: {self._app!r}>"


def serve(
    frames: Frames,
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    hosts: Iterable[str] = (),
    limits: ServiceLimits | None = None,
    is_embeddable: bool = False,
) -> Running:
    """Serve frames over HTTP from a thread of this process, until :meth:`Running.stop` or the end of the process.

    Args:
        frames: the images.
        port: 0 takes a free one.
        host: where it listens. Other machines reach it only if an address of this machine or ``"0.0.0.0"`` is given; what is
            sent is not encrypted.
        token: as of :func:`create_app`.
        hosts: likewise.
        limits: likewise.
        is_embeddable: likewise.

    Raises:
        MissingExtraError: starlette or uvicorn is not installed.
        ServerError: the port cannot be had.
        AccessError: the token or a host is not allowed.

    Example:
        >>> import numpy as np
        >>> import ndframes as nf
        >>> from ndframes.server import serve
        >>> frames = nf.SimpleFrames.demo(workdir=getfixture("tmp_path"))
        >>> region = (slice(0, 64), slice(-64, None))
        >>> with serve(frames) as service:
        ...     remote = nf.connect(service.address)
        ...     np.array_equal(remote.load_region("coffee", region), frames.load_region("coffee", region))
        True
    """
    app = create_app(frames, token=token, host=host, hosts=hosts, limits=limits, is_embeddable=is_embeddable)
    return Running(app, host=host, port=port)
