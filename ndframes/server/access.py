"""Access: which requests a server answers, by host, origin and token."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import AccessError, shorten

__all__ = ["Access", "Refusal", "is_loopback", "make_access"]
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,256}")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_TOKEN_BYTES = 24
_LOOKED_AT = (b"host", b"origin", b"authorization")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        why: for people.
    """

    status: int
    why: str


@dataclass(frozen=True, slots=True)
class Access:
    """The rules by which requests are answered or refused. They are the same for every route.

    Attributes:
        token: what a request must send as ``Authorization: Bearer TOKEN``.
        hosts: the names under which the server is reached, in lower case. A request with another ``Host`` is refused: it
            comes from a page whose name was pointed at this machine (DNS rebinding).
        allows_addresses: whether each IP address is allowed as ``Host``, too. No name can be pointed at an address.
        is_embeddable: whether pages of other sites may show the server's page in a frame.
    """

    token: str = field(repr=False)
    hosts: frozenset[str]
    allows_addresses: bool = False
    is_embeddable: bool = False

    def check(
        self, headers: Iterable[tuple[bytes, bytes]], *, needs_token: bool = True, path_token: str | None = None
    ) -> Refusal | None:
        """Why a request is refused; ``None`` if it is answered.

        Args:
            headers: of the request, with names in lower case.
            needs_token: whether what is asked for needs the token.
            path_token: the token in the path of the request, for programs that send no header. A page of another site that has
                it may ask, too: it was given the address.

        Example:
            >>> access = make_access("127.0.0.1", token="a-token-of-this-test")
            >>> access.check([(b"host", b"127.0.0.1:8000"), (b"authorization", b"Bearer a-token-of-this-test")])
            >>> access.check([(b"host", b"127.0.0.1:8000")]).status, access.check([(b"host", b"evil.example")]).status
            (401, 400)
        """
        values: dict[bytes, list[str]] = {name: [] for name in _LOOKED_AT}
        for name, value in headers:
            if name in values:
                values[name].append(value.decode("latin-1"))
        host = values[b"host"]
        if path_token is not None:
            return self._check_host(host) or self._compare(path_token)
        refusal = self._check_host(host) or _check_origin(values[b"origin"], host[0])
        if refusal is None and needs_token:
            refusal = self._check_token(values[b"authorization"])
        return refusal

    def _check_host(self, given: list[str]) -> Refusal | None:
        found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if found is None:
            return Refusal(400, "the request needs one Host header with a name or an address")
        name = found["name"].lower().rstrip(".")
        if name in self.hosts or (self.allows_addresses and _is_address(name)):
            return None
        return Refusal(400, f"this server is not reached as {name}; allow the name with hosts=[...], if it is its own")

    def _check_token(self, given: list[str]) -> Refusal | None:
        if len(given) != 1:
            return Refusal(401, "the request needs the token: Authorization: Bearer TOKEN")
        scheme, _, token = given[0].partition(" ")
        return self._compare(token.strip() if scheme.lower() == "bearer" else "")

    def _compare(self, token: str) -> Refusal | None:
        # In constant time, so that no part of the token can be found out by measuring.
        if hmac.compare_digest(token.encode(), self.token.encode()):
            return None
        return Refusal(401, "the token is wrong; open the address that the server gave when it was started")


def _check_origin(given: list[str], host: str) -> Refusal | None:
    """A page of another site may not ask for anything, nor change anything."""
    if all(origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}") for origin in given):
        return None
    return Refusal(403, "a page of another site sent this request")


def make_access(
    host: str, *, token: str | None = None, hosts: Iterable[str] = (), is_embeddable: bool = False
) -> Access:
    """The rules for a server.

    Args:
        host: the address or name that it listens at. At loopback it is reached by the names of loopback only.
        token: 16 to 256 letters, digits, ``_`` and ``-``; ``None`` makes a random one.
        hosts: further names under which it is reached, such as that of a proxy.
        is_embeddable: whether pages of other sites may show the server's page in a frame, as notebooks do.

    Raises:
        AccessError: a value is not allowed.
    """
    if token is None:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        # The message leaves the token out: it may end in a log.
        raise AccessError("the token is not allowed; give 16 to 256 letters, digits, _ and -, or None for a random one")
    if isinstance(hosts, str):  # whose letters would be the names
        raise AccessError(f"hosts={shorten(hosts)} is one name; give a list of names")
    names = {*_LOOPBACK, *(_check_name(name) for name in hosts)}
    if is_loopback(host):
        return Access(token, frozenset(names), is_embeddable=is_embeddable)
    names |= {_check_name(f"[{host}]" if ":" in host else host), socket.gethostname().lower()}
    return Access(token, frozenset(names), allows_addresses=True, is_embeddable=is_embeddable)


def is_loopback(host: str) -> bool:
    """Whether a server at this address or name is reached from its own machine only.

    Example:
        >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
        [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _check_name(name: str) -> str:
    found = _HOST.fullmatch(name) if isinstance(name, str) else None
    if found is None or found["name"] != name:
        raise AccessError(f"hosts: {shorten(name)} is not the name of a host; give a name or an address without a port")
    return name.lower().rstrip(".")
