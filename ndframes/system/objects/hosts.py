"""Hosts: connections to servers whose number is checked, so that a name cannot lead into a private network."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Any

from ...errors import SourceAccessError
from .requests import TransientError

if TYPE_CHECKING:
    from .rules import IPAddress, SourceRules

__all__ = ["CheckedConnection", "CheckedTLSConnection", "connect_checked"]


def connect_checked(host: str, port: int, rules: SourceRules, *, seconds: float) -> socket.socket:
    """Connect to a host, if all of its numbers may be reached.

    The number that was checked is the one that is connected to: a name that is resolved again may have another number.

    Args:
        host: a name or a number.
        port: of the server.
        rules: tell which numbers are allowed.
        seconds: for the connection.

    Raises:
        SourceAccessError: the host has a private number.
        TransientError: it cannot be reached.
    """
    last = TransientError("has a host name that is not known")
    for family, kind, protocol, place in _resolve(host, port, rules):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(seconds)
            connection.connect(place)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            last = _connection_error(error)
        else:
            return connection
    raise last


def _resolve(host: str, port: int, rules: SourceRules) -> list[tuple[Any, Any, int, Any]]:
    """The numbers of a host, all of which may be reached."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise TransientError(f"has a host name that is not known ({error.strerror})") from None
    except UnicodeError:
        raise SourceAccessError(f"{host} is not the name of a host") from None
    for *_, place in found:
        number: IPAddress = ipaddress.ip_address(str(place[0]).partition("%")[0])
        if not rules.may_connect(host, number):
            raise SourceAccessError(
                f"{host} is the host {number} of a private network, which sources= does not name; add {str(number)!r} to sources= "
                "if you trust it, or a network such as '10.0.0.0/8'"
            )
    return [(family, kind, protocol, place) for family, kind, protocol, _, place in found]


def _connection_error(error: OSError) -> TransientError:
    if isinstance(error, ConnectionRefusedError):
        return TransientError("refuses the connection")
    if isinstance(error, TimeoutError):
        return TransientError("does not answer", is_silent=True)
    return TransientError(f"cannot be connected to ({error.strerror or error})")


class CheckedConnection(http.client.HTTPConnection):
    """A connection to a server of HTTP whose number was checked.

    Args:
        host: the server.
        port: its port.
        rules: tell which numbers are allowed.
        connect_seconds: for the connection.
        idle_seconds: without any byte, after which a request fails.
    """

    def __init__(
        self, host: str, port: int, rules: SourceRules, *, connect_seconds: float, idle_seconds: float
    ) -> None:
        super().__init__(host.strip("[]"), port, timeout=idle_seconds)
        self._named = host
        self._rules = rules
        self._connect_seconds = connect_seconds

    def connect(self) -> None:
        """Connect; called by the first request."""
        assert isinstance(self.timeout, float)  # noqa: S101
        self.sock = connect_checked(self._named, self.port, self._rules, seconds=self._connect_seconds)
        self.sock.settimeout(self.timeout)


class CheckedTLSConnection(CheckedConnection):
    """As :class:`CheckedConnection`, encrypted; the certificate must be that of the host's name."""

    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        """Connect; called by the first request.

        Raises:
            SourceAccessError: the certificate is not valid.
        """
        super().connect()
        context = ssl.create_default_context()
        try:
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise SourceAccessError(
                f"https://{self._named} has a certificate that is not valid, or whose authority is not known here: {error.verify_message}"
            ) from error
        except OSError as error:
            self.close()
            raise TransientError(f"does not begin an encrypted connection ({error})") from None
