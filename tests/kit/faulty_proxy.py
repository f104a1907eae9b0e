"""A proxy in front of an object store that counts requests, delays them, and does to them whatever a network may do."""

from __future__ import annotations

import hashlib
import http.client
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from .object_servers import signature_headers
from .waiting import wait_until

#: What may happen to a request. ``"reset_after"`` is a reply that is lost: the store has done what was asked for.
Fault = Literal[
    "503",
    "429",
    "403",
    "reset_before",
    "reset_after",
    "cut",
    "flip",
    "stall",
    "mute",
    "slow",
    "redirect",
    "ignore_range",
]
#: Those that only concern the answer to a GET.
OF_BODIES = ("cut", "flip", "stall", "slow", "ignore_range")
_CODES = {
    "503": "SlowDown",
    "429": "TooManyRequests",
    "409": "ConditionalRequestConflict",  # what AWS tells some of those who create an object at once
    "403": "AccessDenied",
}
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class SeenRequest:
    """A request that reached the proxy.

    Attributes:
        number: from 0 on.
        method: of HTTP.
        key: the bucket and the key, decoded.
        query: as it was sent.
        headers: with names in lower case.
        target: the path and the query, as they were sent.
        body: of the request.
        time: when it came, by ``time.monotonic()``.
    """

    number: int
    method: str
    key: str
    query: str
    headers: dict[str, str]
    target: str = field(repr=False)
    body: bytes = field(repr=False)
    time: float = field(repr=False)

    @property
    def span(self) -> tuple[int, int] | None:
        """The first byte that was asked for, and the one after the last."""
        text = self.headers.get("range")
        if text is None:
            return None
        first, last = text.removeprefix("bytes=").split("-")
        return int(first), int(last) + 1


@dataclass
class _Rule:
    fault: Fault
    applies: Callable[[SeenRequest], bool]
    times: int | None


class FaultyProxy:
    """A proxy in threads of this process.

    Args:
        host: ``127.0.0.1:port`` of the server.
        latency_seconds: before each answer.
        seed: of the faults that happen by chance.

    Attributes:
        requests: those that came.
        hook: called with each request before anything else is done with it.
        drops_conditions: whether the server seems to ignore ``If-None-Match``, as some do.
        slow_seconds: for the body of a ``"slow"`` answer.
        redirect_to: the address of a ``"redirect"``; an empty one is left out.
    """

    def __init__(self, host: str, *, latency_seconds: float = 0.0, seed: int = 0) -> None:
        self.requests: list[SeenRequest] = []
        self.hook: Callable[[SeenRequest], None] | None = None
        self.latency_seconds = latency_seconds
        self.drops_conditions = False
        self.slow_seconds = 2.0
        self.redirect_to = "http://127.0.0.1:1/elsewhere"
        self._upstream = host
        self._count = 0
        self._rules: list[_Rule] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._clients: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}"

    def fail(
        self,
        fault: Fault,
        *,
        method: str | None = None,
        key: str = "",
        numbers: range | None = None,
        chance: float = 1.0,
        times: int | None = None,
    ) -> None:
        """Let requests fail from now on; the first rule that applies counts.

        Args:
            fault: what happens to them.
            method: only to these.
            key: only to those whose bucket and key contain it.
            numbers: only to these.
            chance: for each of them.
            times: how often at most.
        """

        def applies(request: SeenRequest) -> bool:
            is_meant = method in (None, request.method) and key in request.key
            is_meant &= numbers is None or request.number in numbers
            is_meant &= fault not in OF_BODIES or request.method == "GET"
            return is_meant and self._random.random() < chance

        self._rules.append(_Rule(fault, applies, times))

    def heal(self) -> None:
        """Let no request fail from now on."""
        with self._lock:
            self._rules.clear()

    def forget(self) -> None:
        """Forget the requests that came; their numbers go on."""
        with self._lock:
            self.requests.clear()

    def close(self) -> None:
        if self._is_closed.is_set():
            return
        self._is_closed.set()
        # Closing it would not wake the thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        wait_until(lambda: not self._clients)

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._is_closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream = http.client.HTTPConnection(self._upstream, timeout=60)
        file = client.makefile("rb")
        try:
            while not self._is_closed.is_set() and (request := self._read_request(file)) is not None:
                if not self._handle(request, client, upstream):
                    return
        except (OSError, http.client.HTTPException):  # one of them has ended
            pass
        finally:
            upstream.close()
            file.close()
            with self._lock:
                self._clients.discard(client)
            client.close()

    def _read_request(self, file) -> SeenRequest | None:
        line = file.readline().split()
        if len(line) != 3:
            return None
        headers = {}
        while (text := file.readline().strip()) != b"":
            name, _, value = text.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = file.read(int(headers.get("content-length", 0)))
        parts = urlsplit(line[1].decode())
        with self._lock:
            number, self._count = self._count, self._count + 1
            key = unquote(parts.path).lstrip("/")
            method, target = line[0].decode(), line[1].decode()
            request = SeenRequest(number, method, key, parts.query, headers, target, body, time.monotonic())
            self.requests.append(request)
        return request

    def _choose(self, request: SeenRequest) -> Fault | None:
        with self._lock:
            for rule in self._rules:
                if rule.times != 0 and rule.applies(request):
                    rule.times = None if rule.times is None else rule.times - 1
                    return rule.fault
        return None

    def _handle(self, request: SeenRequest, client: socket.socket, upstream: http.client.HTTPConnection) -> bool:
        """Answer a request; whether the connection goes on."""
        if self.hook is not None:
            self.hook(request)
        fault = self._choose(request)
        if self.latency_seconds:
            time.sleep(self.latency_seconds)
        if fault == "mute":
            self._is_closed.wait(120)
            return False
        if fault == "reset_before":
            return _reset(client)
        if fault in _CODES:
            client.sendall(_plain_answer(fault, request.method))
            return True
        if fault == "redirect":
            location = f"Location: {self.redirect_to}\r\n" if self.redirect_to else ""
            client.sendall(f"HTTP/1.1 307 Elsewhere\r\n{location}Content-Length: 0\r\n\r\n".encode())
            return True
        head, body = self._forward(request, upstream, keeps_range=fault != "ignore_range")
        return self._send(fault, client, head, body)

    def _send(self, fault: Fault | None, client: socket.socket, head: bytes, body: bytes) -> bool:
        """Send the answer of the server; whether the connection goes on."""
        if fault == "reset_after":
            return _reset(client)
        if fault in ("cut", "stall"):
            client.sendall(head + body[: len(body) // 2])
            if fault == "stall":
                self._is_closed.wait(120)
            return False
        if fault == "slow":
            self._send_slowly(client, head, body)
            return True
        if fault == "flip" and body:
            # Elsewhere each time: the same damage twice would be that of the store.
            place, bit = self._random.randrange(len(body)), 1 << self._random.randrange(8)
            body = body[:place] + bytes([body[place] ^ bit]) + body[place + 1 :]
        client.sendall(head + body)
        return True

    def _send_slowly(self, client: socket.socket, head: bytes, body: bytes) -> None:
        client.sendall(head)
        step = max(1, len(body) // 20)
        for start in range(0, len(body), step):
            time.sleep(self.slow_seconds / 20)
            client.sendall(body[start : start + step])

    def _forward(
        self, request: SeenRequest, upstream: http.client.HTTPConnection, *, keeps_range: bool
    ) -> tuple[bytes, bytes]:
        """The head and the body of the server's answer."""
        headers = dict(request.headers)
        dropped = {name for name in ("if-none-match",) if self.drops_conditions and name in headers}
        dropped |= {"range"} & set(headers) if not keeps_range else set()
        if dropped:  # they are signed
            for name in dropped:
                del headers[name]
            path, _, query = request.target.partition("?")
            digest = headers.get("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest()
            headers.update(signature_headers(headers["host"], request.method, path, query, digest))
        # As it came, the host included, which the signature covers.
        upstream.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(request.body or None)
        answer = upstream.getresponse()
        body = answer.read()
        kept = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("transfer-encoding", "connection")
        ]
        if request.method != "HEAD":
            kept = [pair for pair in kept if pair[0].lower() != "content-length"] + [("Content-Length", str(len(body)))]
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in kept)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body


def _reset(client: socket.socket) -> bool:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()
    return False


def _plain_answer(status: str, method: str) -> bytes:
    code = _CODES[status]
    body = f"<Error><Code>{code}</Code><Message>a fault of the test</Message></Error>".encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return head if method == "HEAD" else head + body
