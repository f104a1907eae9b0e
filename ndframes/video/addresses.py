"""Addresses of streams: which of FFmpeg's protocols, devices and options a source is opened with."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import StreamOpenError, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StreamAddress", "find_address", "hide_secrets"]
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# A graph of filters has a backslash before a colon.
_USER = re.compile(r"(:\\?//)([^/?#@\s]*(?:@[^/?#@\s]*)*)@")
_QUERY = re.compile(r"(:\\?//[^\s'\"?#]*)\?[^\s'\"]*")
_LAVFI = "lavfi:"
_CAMERA = re.compile(r"/dev/video[0-9]+")
_RTSP = {"rtsp_transport": "tcp", "probesize": "32", "analyzeduration": "0"}
_RTMP = {"analyzeduration": "300000"}
# The rate of frames is not needed, and FFmpeg would wait for 20 of them.
_MPEGTS = {"fpsprobesize": "0"}
#: The schemes that are read, and the options of each. What FFmpeg would probe for seconds, RTSP tells in its description.
_SCHEMES: dict[str, Mapping[str, str]] = {
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "rtmp": _RTMP,
    "rtmps": _RTMP,
    "http": _MPEGTS,
    "https": _MPEGTS,
    "tcp": _MPEGTS,
    # Without it, a reader that is late once ends with an error.
    "udp": {**_MPEGTS, "overrun_nonfatal": "1"},
    "rtp": {},
}


@dataclass(frozen=True, slots=True)
class StreamAddress:
    """Where a stream comes from, as FFmpeg opens it.

    Attributes:
        url: for FFmpeg.
        name: for messages: the address without its password and query.
        format: FFmpeg's name of the format or device; ``None``: found out from the first bytes.
        options: FFmpeg's options.
        is_live: whether frames come in real time.
        may_be_cut: whether the stream may end within a picture, since another machine, process or device sends it.
        has_sender_clock: whether the sender reports its wall clock by RTCP.
        has_connection: whether a sender that is started anew ends the stream, and does not just go on with it.
    """

    url: str
    name: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    is_live: bool = True
    may_be_cut: bool = True
    has_sender_clock: bool = False
    has_connection: bool = True


def find_address(uri: Any, options: Mapping[str, str] | None = None) -> StreamAddress | None:
    """The address of a stream, camera or filter; ``None`` for anything else, such as the path of a file.

    Args:
        uri: a URL, the number or device file of a camera, ``lavfi:`` and a graph of filters, or an SDP file.
        options: FFmpeg's options; they replace the ones that are used otherwise.

    Raises:
        StreamOpenError: the scheme of the URL is not supported.

    Example:
        >>> find_address("rtsp://me:secret@camera/1").name, find_address("walk.mp4")
        ('rtsp://me:***@camera/1', None)
    """
    chosen = {option: str(value) for option, value in (options or {}).items()}
    if isinstance(uri, int) and not isinstance(uri, bool):
        return _of_camera(f"/dev/video{uri}", chosen)
    if not isinstance(uri, str):
        return None
    if uri.startswith(_LAVFI):
        return _of_filters(uri, chosen)
    scheme = _SCHEME.match(uri)
    # A file may have any name.
    if scheme is not None and not os.path.lexists(uri):
        return _of_url(uri, scheme[1].lower(), chosen)
    if _CAMERA.fullmatch(uri):
        return _of_camera(uri, chosen)
    if uri.isdigit() and not os.path.lexists(uri):
        return _of_camera(f"/dev/video{uri}", chosen)
    if uri.lower().endswith(".sdp"):
        allowed = {"protocol_whitelist": "file,udp,rtp", **chosen}
        return StreamAddress(f"file:{uri}", uri, "sdp", allowed, has_sender_clock=True, has_connection=False)
    return None


def hide_secrets(text: str) -> str:
    """A text whose URLs have neither a password nor a query, which may hold a token.

    A user without a password is hidden, too: some servers take a token there.

    Example:
        >>> hide_secrets("rtmp://me:secret@host/live"), hide_secrets("http://host/a:b@c?token=abc#d")
        ('rtmp://me:***@host/live', 'http://host/a:b@c?***')
        >>> hide_secrets("https://token@host/1 does not open")
        'https://***@host/1 does not open'
    """
    return _QUERY.sub(r"\1?***", _USER.sub(_hide_user, text))


def _hide_user(found: re.Match[str]) -> str:
    user, colon, _ = found[2].partition(":")
    return f"{found[1]}{user}:***@" if colon else f"{found[1]}***@"


def _of_url(url: str, scheme: str, options: Mapping[str, str]) -> StreamAddress | None:
    name = hide_secrets(url)
    if scheme == "file":
        return None
    if scheme not in _SCHEMES:
        raise StreamOpenError(
            f"{name}: the scheme {scheme}:// is not supported; allowed are {', '.join(f'{known}://' for known in _SCHEMES)}, "
            "lavfi:, a camera, and the path of a file"
        )
    return StreamAddress(
        url,
        name,
        None,
        {**_SCHEMES[scheme], **options},
        has_sender_clock=scheme in ("rtsp", "rtsps", "rtp"),
        has_connection=scheme not in ("udp", "rtp"),
    )


def _of_camera(device: str, options: Mapping[str, str]) -> StreamAddress:
    return StreamAddress(device, f"camera {device}", "v4l2", options)


def _of_filters(uri: str, options: Mapping[str, str]) -> StreamAddress:
    graph = uri.removeprefix(_LAVFI)
    if not graph.strip():
        raise StreamOpenError(
            f"{shorten(uri)}: it has no filters; give some, such as lavfi:testsrc2=size=640x360:rate=25"
        )
    names = {re.split(r"[=@\s]", part.strip(), maxsplit=1)[0] for part in re.split(r"[,;\[\]]", graph)}
    return StreamAddress(graph, hide_secrets(uri), "lavfi", options, is_live="realtime" in names, may_be_cut=False)
