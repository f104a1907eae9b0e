"""FramesView: the page of some frames in the output of a cell of a notebook."""

from __future__ import annotations

import html
import weakref
from collections.abc import Callable

__all__ = ["FramesView"]


class FramesView:
    """The page of some frames in a notebook; made by :meth:`ndframes.Frames.view`.

    The service behind it runs in this process, until :meth:`stop` or until nothing refers to the view any more.

    Attributes:
        address: opens the page in a browser on this machine.
    """

    def __init__(self, address: str, shown_address: str, height: int, stop: Callable[[], bool]) -> None:
        self.address = address
        self._shown_address = shown_address
        self._height = height
        self._stop = stop
        self._stop_when_dropped = weakref.finalize(self, stop)

    def stop(self) -> bool:
        """End the service, and with it the page. Returns whether it has ended."""
        self._stop_when_dropped.detach()
        return self._stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.address}>"

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{html.escape(self._shown_address)}" title="ndframes" width="100%" height="{self._height}" '
            'allow="clipboard-write; local-network-access" style="border: 1px solid #8888"></iframe>'
        )
