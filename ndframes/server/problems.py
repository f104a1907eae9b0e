"""Problems: errors as JSON on their way to a client, without the paths of the server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .. import errors
from ..errors import NdframesError, RemoteError
from .names import key_from_json, key_to_json

if TYPE_CHECKING:
    from .names import Names

__all__ = ["Problem", "hide_paths", "make_problem", "read_problem"]
#: The status of each kind of error; the first that fits counts.
_STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (errors.ImageIdError, 404),
    (errors.RegionTooLargeError, 413),
    (errors.RegionError, 400),
    (errors.ChannelError, 400),
    (errors.OutputError, 400),
    (errors.UnsupportedError, 400),
    (errors.CacheFullError, 507),
    (errors.CacheEntryGoneError, 410),
    (errors.SourceMissingError, 410),
    (errors.SourceChangedError, 503),
)
#: What a client is told of errors whose messages may hold paths.
_TEXTS: tuple[tuple[type[BaseException], str], ...] = (
    (errors.SourceMissingError, "a file of the image is not there any more"),
    (errors.SourceAccessError, "the server may not read a file of the image"),
    (errors.SourceChangedError, "a file of the image is being written to; ask again"),
    (errors.SourceError, "a file of the image cannot be read"),
    (
        errors.CacheEntryGoneError,
        "there is no cache entry of this state any more; ask for the tiles of the image again",
    ),
    (errors.CacheFullError, "the disk of the server's cache is full"),
    (errors.CacheError, "the cache of the server cannot be used"),
)
_DETAILS = "; the server's log has the details"
_PATH = re.compile(r"(?<![A-Za-z0-9_.|/])(?:[A-Za-z]:)?[/\\][^\s'\":;,]+")


class Problem(Exception):  # noqa: N818 - a problem of a request, and not of this package
    """An answer that is not a result.

    Args:
        status: of HTTP.
        kind: the name of the type of error.
        message: for people; it holds no path.
        retry_seconds: after how long the request may succeed.
        key: the image, as JSON; ``None``: no image.
    """

    def __init__(
        self, status: int, kind: str, message: str, *, retry_seconds: float | None = None, key: Any = None
    ) -> None:
        super().__init__(status, kind, message)
        self.status, self.kind, self.message = status, kind, message
        self.retry_seconds, self.key = retry_seconds, key

    def to_json(self) -> dict[str, Any]:
        """As the body of an answer."""
        image = {} if self.key is None else {"image": self.key}
        return {"error": {"type": self.kind, "message": self.message, **image}}


def make_problem(error: BaseException, names: Names) -> Problem:
    """The problem that a client is told of an error.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.server.names import Names
        >>> names = Names(nf.SimpleFrames({"cup": "/data/cup.png"}))
        >>> error = errors.UnreadableImageError("/data/cup.png is truncated")
        >>> error.image_id = "cup"
        >>> make_problem(error, names).to_json()["error"]["message"]
        "a file of the image cannot be read; the server's log has the details"
    """
    if isinstance(error, Problem):
        return error
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if isinstance(error, errors.IiifError):
        status = error.status
    if not isinstance(error, NdframesError):
        # A read checks most values with errors of its own. What is left are faults of this package.
        return Problem(500, "NdframesError", f"the server failed{_DETAILS}")
    image_id = error.image_id
    name = None if image_id is None else names.name_of(image_id)
    text = next((text + (_DETAILS if status >= 500 else "") for kind, text in _TEXTS if isinstance(error, kind)), None)
    return Problem(
        status,
        type(error).__name__,
        text or hide_paths(" ".join(str(arg) for arg in error.args)),
        key=None if name is None else key_to_json(image_id, name),
    )


def hide_paths(text: str) -> str:
    """A message without what looks like a path.

    Example:
        >>> hide_paths("no channel 'q' in /data/a.tif; there are 'r|g|b'")
        "no channel 'q' in (file); there are 'r|g|b'"
    """
    return _PATH.sub("(file)", text)


def read_problem(status: int, content: Any) -> NdframesError:
    """The error that a server sent, as the type that the same read raises without a server."""
    described = content.get("error") if isinstance(content, dict) else None
    if not isinstance(described, dict) or not isinstance(described.get("message"), str):
        return RemoteError(f"the server answered with status {status}, and without an error that can be read")
    kind = getattr(errors, str(described.get("type")), None)
    if not isinstance(kind, type) or not issubclass(kind, NdframesError):
        kind = RemoteError
    error = kind(described["message"])
    error.image_id = key_from_json(described.get("image"))
    return error
