"""Served: the part of a pipeline that serves its page."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import StreamError
from .page_state import Observed

if TYPE_CHECKING:
    from .algorithm import Algorithm
    from .page import Page
    from .values import Frame

__all__ = ["STOP_SECONDS", "Served"]
STOP_SECONDS = 5.0


class Served(Observed):
    """A pipeline that can be watched with a browser."""

    _algorithms: list[Algorithm]
    _page: Page | None = None

    @abstractmethod
    def start(self) -> Any:
        """Begin to run."""

    @abstractmethod
    def _stop_run(self, timeout: float) -> bool: ...

    def serve(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        token: str | None = None,
        hosts: Iterable[str] = (),
        fps: float = 10,
        start: bool = True,
    ) -> str:
        """Serve a page to watch the pipeline with a browser, and start the pipeline.

        The page shows the pictures of the sources as the functions of :meth:`on_frame` leave them, counts, latencies and the newest
        results; its buttons start and stop the pipeline. It goes on after the end of the pipeline, with the last pictures,
        until :meth:`stop`, the end of a ``with`` block or the end of the process. While nobody looks, no frame is copied or encoded;
        a slow browser misses frames, and never holds the pipeline up. It needs the extra ``serve``.

        Args:
            port: 0 takes a free one.
            host: where it listens. Other machines reach it only if an address of this machine or ``"0.0.0.0"`` is given; what
                is sent is not encrypted.
            token: what a request must send as ``Authorization: Bearer TOKEN``; ``None`` makes a random one.
            hosts: further names under which it is reached, such as that of a proxy. Requests for other names are refused.
            fps: the most pictures per second of a source.
            start: whether the pipeline starts now; otherwise it starts with the button, or with :meth:`start`.

        Returns:
            The address to open, which ends in ``#token=TOKEN``.

        Raises:
            MissingExtraError: starlette or uvicorn is not installed.
            ServerError: the port cannot be had.
            AccessError: the token or a host is not allowed.
            StreamError: a value is not allowed, or there is a page already.
        """
        from .page import Page, PageOptions

        if self._page is not None:
            raise StreamError(f"{self!r} is served at {self._page.address.partition('#')[0]} already")
        page = Page(
            self,
            self._algorithms,
            PageOptions(port, host, token, hosts, fps),
            on_start=self.start,
            on_stop=lambda: self._stop_run(STOP_SECONDS),
        )
        page.start()
        self._page = page
        if start and self.state == "idle":
            self.start()
        return page.address

    def _show_on_page(self, frame: Frame, image: Any) -> None:
        page = self._page
        if page is not None:
            page.show(frame, image)

    def _stop_page(self, timeout: float) -> bool:
        page, self._page = self._page, None
        return page is None or page.stop(timeout)
