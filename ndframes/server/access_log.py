"""Access log: a line of JSON for each request, without the token, to the logger ``ndframes.server.access``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from ..errors import ServerError
from .requests import PARAMETERS

if TYPE_CHECKING:
    from .exchanges import Exchange

__all__ = ["ACCESS_LOGGER", "AccessLog", "writing_access_log"]
ACCESS_LOGGER = "ndframes.server.access"
_LOG = logging.getLogger(ACCESS_LOGGER)
_SERVER_LOG = logging.getLogger("ndframes.server")
# The parameters whose values are shown: those of the endpoints. Any other one may be a secret that is sent by mistake.
_SHOWN = frozenset((*PARAMETERS, "query", "after", "limit", "details", "id", "start", "rows", "cols", "file"))
_PREFIX = "/k/"
_BLOT = "-"
# A line is written at once if it has at most 8 kB, and then processes can share a file. A character takes up to 12 bytes.
_MOST_CHARACTERS = 300


class AccessLog:
    """Writes a line for each request, at the level ``INFO``.

    Args:
        token: that of the server, which is in no line.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def write(self, exchange: Exchange) -> None:
        """Write a line, if the logger wants it."""
        if _LOG.isEnabledFor(logging.INFO):
            _LOG.info("%s", self.format(exchange))

    def format(self, exchange: Exchange) -> str:
        r"""The line of a request.

        Example:
            >>> from ndframes.server.exchanges import Exchange
            >>> exchange = Exchange("GET", "/k/a-token-of-this-test/health\n", b"y=0:9&key=5", "::1", 0.0, status=404)
            >>> line = json.loads(AccessLog("a-token-of-this-test").format(exchange))
            >>> line["path"], line["query"], line["status"]
            ('/k/-/health\n', 'y=0:9&...', 404)
        """
        text = json.dumps(
            {
                "time": datetime.fromtimestamp(exchange.began, timezone.utc).isoformat(timespec="milliseconds"),
                "client": exchange.client,
                "method": self._clean(exchange.method),
                "path": self._clean(_blot_prefix(exchange.path)),
                "query": self._clean(_show_query(exchange.query)),
                "endpoint": exchange.endpoint,
                "status": exchange.status,
                "bytes": exchange.sent_bytes,
                "seconds": round(exchange.seconds, 6),
            }
        )
        # The only control character that JSON does not escape.
        return text.replace("\x7f", r"\u007f")

    def _clean(self, text: str) -> str:
        """A text without the token, shortened."""
        text = text.replace(self._token, _BLOT)
        if self._token in _unquote_all(text):
            return _BLOT
        return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def _blot_prefix(path: str) -> str:
    """A path with a blot in place of what follows ``/k/``, also of a wrong token, which may be one with a typing error."""
    if not path.startswith(_PREFIX):
        return path
    _, slash, rest = path.removeprefix(_PREFIX).partition("/")
    return f"{_PREFIX}{_BLOT}{slash}{rest}"


def _show_query(query: bytes) -> str:
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    shown = [f"{name}={value}" for name, value in pairs if name in _SHOWN]
    return "&".join(shown if len(shown) == len(pairs) else [*shown, "..."])


def _unquote_all(text: str) -> str:
    """A text whose characters were encoded once or several times."""
    while (plain := unquote(text)) != text:
        text = plain
    return text


@contextmanager
def writing_access_log(target: str | None) -> Iterator[None]:
    """Write the lines of this process to a file.

    Args:
        target: a path, to which is appended, and which is opened again when it was moved away; ``"-"`` for stdout; ``None``: nothing
            is written.

    Raises:
        ServerError: the file cannot be opened.
    """
    if target is None:
        yield
        return
    handler = _make_handler(target)
    level, propagates = _LOG.level, _LOG.propagate
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
    try:
        yield
    finally:
        _LOG.setLevel(level)
        _LOG.propagate = propagates
        _LOG.removeHandler(handler)
        handler.close()


def _make_handler(target: str) -> logging.Handler:
    if target == "-":
        return _StreamHandler(sys.stdout)
    try:
        return _FileHandler(target, encoding="ascii")
    except OSError as error:
        raise ServerError(f"the access log {target} cannot be opened: {error.strerror or error}") from error


class _TellsOnce(logging.Handler):
    """A handler that says once that nothing can be written, until something can be; that of logging would print each line."""

    _is_failing = False

    def emit(self, record: logging.LogRecord) -> None:
        """As the base class's."""
        was_failing, self._is_failing = self._is_failing, False
        try:
            super().emit(record)
        except OSError:  # a file that was moved away, and cannot be opened again
            self.handleError(record)
        if self._is_failing and not was_failing:
            _SERVER_LOG.error("the access log cannot be written: %s", self._error)

    def close(self) -> None:
        """As the base class's; what could not be written is lost, and that has been told."""
        try:
            super().close()
        except OSError:
            if not self._is_failing:
                raise

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as of logging
        """Called by the base class where it could not write."""
        self._is_failing, self._error = True, sys.exc_info()[1]


class _StreamHandler(_TellsOnce, logging.StreamHandler):  # type: ignore[type-arg] # no generic before Python 3.11
    """Writes to a stream."""


class _FileHandler(_TellsOnce, WatchedFileHandler):
    """Appends to a file."""
