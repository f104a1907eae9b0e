"""Requests to a server on loopback, as any client may send them."""

from __future__ import annotations

import http.client
import json
import os
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """An answer; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Site:
    """A server.

    Args:
        address: as it was returned, with the token in its fragment.
    """

    address: str

    @property
    def token(self) -> str:
        return urlsplit(self.address).fragment.removeprefix("token=")

    @property
    def place(self) -> tuple[str, int]:
        parts = urlsplit(self.address)
        return str(parts.hostname), int(parts.port)

    def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        has_token: bool = True,
        body: bytes | None = None,
        **headers: str | list[str],
    ) -> Reply:
        """Send a request.

        Args:
            path: sent as it is.
            method: of HTTP.
            has_token: whether the right token is sent.
            body: what is sent with it.
            headers: further ones, or another ``Host``; several of one name as a list.
        """
        connection = http.client.HTTPConnection(*self.place, timeout=60)
        given = {"Host": f"{self.place[0]}:{self.place[1]}", **headers}
        if has_token:
            given.setdefault("Authorization", f"Bearer {self.token}")
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, values in given.items():
                for value in values if isinstance(values, list) else [values]:
                    connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def connect(self, *paths: str, receive_bytes: int | None = None) -> socket.socket:
        """A connection on which requests have been sent, and nothing has been read."""
        client = socket.socket()
        if receive_bytes is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(60)
        client.connect(self.place)
        head = f"Host: {self.place[0]}\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        client.sendall("".join(f"GET {path} HTTP/1.1\r\n{head}" for path in paths).encode())
        return client


def count_descriptors() -> int:
    """The descriptors that this process has open."""
    return len(os.listdir("/proc/self/fd"))
