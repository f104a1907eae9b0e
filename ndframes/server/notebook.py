"""Notebook: the page of some frames in the output of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from ..errors import shorten
from ..frames.view import FramesView
from .names import Names
from .running import serve

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..frames.frames import Frames

__all__ = ["NAMESPACE", "show"]
#: Of the proxy of Jupyter, and of this package's extension of its server.
NAMESPACE = "ndframes"
_LEAST_HEIGHT_PX, _MOST_HEIGHT_PX = 200, 4000


def show(frames: Frames, image_id: Hashable | None = None, *, height: int = 600) -> FramesView:
    """The page of some frames, at one of the images if one is given.

    Raises:
        ImageIdError: there is no such image.
        ValueError: the height is not a whole number of pixels from 200 to 4000.
        MissingExtraError: the extra ``serve`` is not installed.
    """
    if isinstance(height, bool) or not isinstance(height, int) or not _LEAST_HEIGHT_PX <= height <= _MOST_HEIGHT_PX:
        raise ValueError(f"height={shorten(height)}; give pixels from {_LEAST_HEIGHT_PX} to {_MOST_HEIGHT_PX:,}")
    fragment = ""
    if image_id is not None:
        frames.load_frame(image_id)  # an unknown id is an error here, and not on the page
        fragment = f"id={quote(str(Names(frames).name_of(image_id)))}"
    service = serve(frames, is_embeddable=True)
    address = f"{service.address}&{fragment}" if fragment else service.address
    return FramesView(address, _find_address(service.address, fragment), height, service.stop)


def _find_address(address: str, fragment: str) -> str:
    """The address of the page as the browser reaches it, which may run on another machine than the notebook's kernel.

    In Jupyter, its server passes requests on to this process if the extra ``notebook`` is installed. It drops the header of the token, so
    the token is in the path.
    """
    try:
        from jupyter_loopback import autodetect_prefix
    except ImportError:
        prefix = None
    else:
        prefix = autodetect_prefix(NAMESPACE)
    if prefix is None:
        return f"{address}&{fragment}" if fragment else address
    parts = urlsplit(address)
    token = parts.fragment.removeprefix("token=")
    return f"{prefix.format(port=parts.port)}/k/{token}/" + (f"#{fragment}" if fragment else "")
