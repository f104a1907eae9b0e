"""Hosts: connections to servers whose number is checked, so that a name cannot lead into a private network."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING

from ...errors import SourceAccessError

if TYPE_CHECKING:
    from .rules import IPAddress, SourceRules

__all__ = ["CheckedConnection", "CheckedTLSConnection", "connect_checked"]


def connect_checked(host: str, port: int, rules: SourceRules, seconds: float | None) -> socket.socket:
    """Connect to a host, if all of its numbers may be reached.

    The number that was checked is the one that is connected to: a name that is resolved again may have another number.

    Args:
        host: a name or a number.
        port: of the server.
        rules: tell which numbers are allowed.
        seconds: for the connection.

    Raises:
        SourceAccessError: the host has a private number; nothing was sent.
        OSError: it cannot be reached.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        number: IPAddress = ipaddress.ip_address(str(place[0]).partition("%")[0])
        if not rules.may_connect(host, number):
            raise SourceAccessError(
                f"{host} has the number {number}, which is none of the public internet, and sources= does not name it; add {str(number)!r} "
                "to sources= if you trust it, or its network, such as '10.0.0.0/8'"
            )
    last = OSError(f"{host} has no number")
    for family, kind, protocol, _, place in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(seconds)
            connection.connect(place)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            last = error
        else:
            return connection
    raise last


class CheckedConnection(http.client.HTTPConnection):
    """A connection to a server of HTTP whose number is checked.

    Args:
        netloc: the server, and its port if that is not the default one.
        rules: tell which numbers are allowed.
        seconds: for the connection.
    """

    def __init__(self, netloc: str, rules: SourceRules, seconds: float) -> None:
        super().__init__(netloc, timeout=seconds)
        self._rules = rules
        self._seconds = seconds

    def connect(self) -> None:
        """Connect, before the first request."""
        self.sock = connect_checked(self.host, self.port, self._rules, self._seconds)


class CheckedTLSConnection(http.client.HTTPSConnection):
    """As :class:`CheckedConnection`, encrypted; the certificate must be that of the host's name."""

    def __init__(self, netloc: str, rules: SourceRules, seconds: float) -> None:
        self._checked_context = ssl.create_default_context()
        super().__init__(netloc, timeout=seconds, context=self._checked_context)
        self._rules = rules
        self._seconds = seconds

    def connect(self) -> None:
        """Connect, before the first request."""
        plain = connect_checked(self.host, self.port, self._rules, self._seconds)
        try:
            self.sock = self._checked_context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
