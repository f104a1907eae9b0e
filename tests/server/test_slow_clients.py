"""Clients that send or read slowly: they are ended, and hold no honest client up."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from kit.http_requests import Site
from kit.waiting import wait_until

from ndframes.server.protocol import _HEAD_BYTES, _MOST_AT_ONCE
from ndframes.server.serving import Server

TOKEN = "a-token-of-these-tests"
LARGE_BYTES = 64 << 20
# ``/block`` keeps the server from accepting and reading.
BLOCKING, UNBLOCKED = threading.Event(), threading.Event()


async def answer(scope, receive, send) -> None:
    """``/large`` is more than the buffers of a connection hold; what is posted comes back."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    if scope["path"] == "/block":
        BLOCKING.set()
        assert UNBLOCKED.wait(60)
    body = bytes(LARGE_BYTES) if scope["path"] == "/large" else body or b"hello"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[:1], "more_body": True})
    await send({"type": "http.response.body", "body": body[1:]})


@pytest.fixture
def site():
    server = Server(answer)
    server.start()
    yield Site(f"{server.address}#token={TOKEN}")
    assert server.stop(10)


def connect(site: Site, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(site.place, timeout=60)
    connection.sendall(data)
    return connection


def read_all(connection: socket.socket) -> bytes:
    parts = []
    with connection:
        try:
            while part := connection.recv(1 << 16):
                parts.append(part)
        except ConnectionResetError:
            pass
    return b"".join(parts)


HEAD = f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


@pytest.mark.parametrize("data", [b"", b"G", HEAD])
def test_a_head_that_does_not_come_is_too_late(site, data):
    started = time.monotonic()
    reply = read_all(connect(site, data))
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started >= 4


def test_the_time_of_a_head_is_not_extended_by_bytes(site):
    connection = connect(site, HEAD)
    ending = threading.Event()

    def trickle() -> None:
        while not ending.wait(0.2):
            try:
                connection.sendall(b"x: y\r\n")
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
    finally:
        ending.set()
        thread.join()


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize("place", ["header", "url", "many"])
def test_a_large_head_is_refused(site, place, is_complete):
    filler = b"a" * (_HEAD_BYTES + 1)
    head = {
        "header": HEAD + b"x: " + filler,
        "url": HEAD.replace(b"GET / ", b"GET /?" + filler + b" "),
        "many": HEAD + b"x: y\r\n" * (_HEAD_BYTES // 4),
    }[place]
    reply = read_all(connect(site, head + (b"\r\n\r\n" if is_complete else b"")))
    assert reply.startswith(b"HTTP/1.1 431 ")
    assert reply.count(b"HTTP/1.1") == 1
    assert site.ask("/").body == b"hello"


def test_a_large_body_is_no_large_head(site):
    body = b"b" * (8 * _HEAD_BYTES)
    head = HEAD.replace(b"GET", b"POST") + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    reply = read_all(connect(site, head + body))
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.endswith(body)


def test_requests_on_one_connection(site):
    """Each has a head of its own; pipelined ones are answered in order."""
    connection = connect(site, (HEAD + b"\r\n") * 2 + HEAD + b"Connection: close\r\n\r\n")
    assert read_all(connection).count(b"hello") == 3


def test_an_honest_client_among_500_slow_ones(site):
    slow = [connect(site, HEAD[: 20 + number % 50]) for number in range(500)]
    try:
        statuses = []
        for number in range(60):
            slow[number % len(slow)].close()
            slow[number % len(slow)] = connect(site, HEAD[:30])
            statuses.append(site.ask("/").status)
        assert statuses == [200] * 60
        # All but the newest ones are ended.
        wait_until(lambda: sum(map(_is_ended, slow)) >= 500 - 64)
    finally:
        for connection in slow:
            connection.close()


def test_many_honest_clients_at_once(site):
    """They are accepted together, before their heads are read, which have arrived."""
    head = HEAD + b"Connection: close\r\n\r\n"
    first = connect(site, head.replace(b"GET / ", b"GET /block "))
    assert BLOCKING.wait(60)
    clients = [connect(site, head) for _ in range(200)]
    UNBLOCKED.set()
    replies = [read_all(client) for client in (first, *clients)]
    assert [reply.endswith(b"hello") for reply in replies] == [True] * 201


def test_too_many_at_once_are_ended_at_once(site):
    slow = [connect(site, b"G") for _ in range(_MOST_AT_ONCE + 40)]
    try:
        assert read_all(slow[0]) == b""
        assert site.ask("/").body == b"hello"
    finally:
        for connection in slow:
            connection.close()


def _is_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_client_that_does_not_read_is_ended(monkeypatch):
    monkeypatch.setattr("ndframes.server.protocol._WRITE_SECONDS", 1.0)
    server = Server(answer)
    server.start()
    try:
        site = Site(f"{server.address}#token={TOKEN}")
        connection = connect(site, HEAD.replace(b"GET / ", b"GET /large ") + b"\r\n")
        time.sleep(3)
        assert len(read_all(connection)) < LARGE_BYTES
        assert site.ask("/").body == b"hello"
        # One that reads gets all, however long it takes.
        assert len(site.ask("/large").body) == LARGE_BYTES
    finally:
        assert server.stop(10)
