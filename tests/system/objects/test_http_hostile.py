"""Servers that answer with nonsense, too much, or too slowly: an error within a bound, and no other exception."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import pytest

import ndframes as nf
from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.retries import Limits
from ndframes.system.objects.store import Place

#: Not patient.
LIMITS = Limits(connect_seconds=2.0, idle_seconds=0.5, retries=2, total_seconds=1.0, first_wait_seconds=0.01)
DIGITS = b"9" * 9999
OK = b'HTTP/1.1 200 OK\r\nETag: "a"\r\n'
PART = b'HTTP/1.1 206 Partial\r\nETag: "a"\r\nContent-Length: 3\r\n'
MOVED = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: "
ANSWERS = {
    "nothing": b"",
    "noise": b"\x00\xff" * 1000 + b"\r\n",
    "HTTP 0.9": b"hello\r\n",
    "status 42": b"HTTP/1.1 42 ?\r\n\r\n",
    "status 999": b"HTTP/1.1 999 ?\r\n\r\n",
    "not modified": b"HTTP/1.1 304 ?\r\n\r\n",
    "a length that is a digit to Python": OK + b"Content-Length: \xb2\r\n\r\nab",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nab",
    "a length of many digits": OK + b"Content-Length: " + DIGITS + b"\r\n\r\nab",
    "a length of an exabyte": OK + b"Content-Length: 1000000000000000000\r\n\r\nab",
    "compressed": OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "a range that is a digit to Python": PART + b"Content-Range: bytes \xb2-4/10\r\n\r\nabc",
    "a range of many digits": PART + b"Content-Range: bytes 2-4/" + DIGITS + b"\r\n\r\nabc",
    "a range of another place": PART + b"Content-Range: bytes 3-5/10\r\n\r\nabc",
    "a range beyond the end": PART + b"Content-Range: bytes 2-4/1\r\n\r\nabc",
    "several parts": PART + b"Content-Type: multipart/byteranges; boundary=x\r\n\r\nabc",
    "a loop": MOVED + b"/files/a\r\n\r\n",
    "a redirect to nonsense": MOVED + b"http://[::1\r\n\r\n",
    "a redirect to nul": MOVED + b"/a b\xe9\x00c\r\n\r\n",
    "a redirect to metadata": MOVED + b"http://169.254.169.254/a\r\n\r\n",
    "a redirect to a file": MOVED + b"file:///etc/passwd\r\n\r\n",
    "a redirect with a password": MOVED + b"//me:topsecret@host/a?topsecret\r\n\r\n",
}
DATES = {
    "the year 1": b"Mon, 01 Jan 0001 00:00:00 -0000",
    "the year 9999": b"Fri, 31 Dec 9999 23:59:59 -2359",
    "digits": DIGITS[:5000],
    "a zone of years": b"Mon, 01 Jan 2001 00:00:00 +99999999",
}


@contextmanager
def serving(answer):
    """The store of a server that calls ``answer`` with the socket of each request."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client):
        with client:
            try:
                client.recv(1 << 16)
                answer(client)
            except OSError:  # the client has had enough
                pass

    def accept():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield connect_store(f"http://127.0.0.1:{listener.getsockname()[1]}/files", limits=LIMITS)
    finally:
        listener.close()


def attempts(store):
    return [
        lambda: store.status(["a"]),
        lambda: store.load("a"),
        lambda: bytes(store.begin_fetch("a", [Place(2, 3)])[0]()),
    ]


@pytest.mark.parametrize("name", ANSWERS)
def test_nonsense_is_an_error_of_the_store(name):
    with serving(lambda client: client.sendall(ANSWERS[name])) as store:
        for attempt in attempts(store)[1:]:
            with pytest.raises(nf.StoreError, match="cannot read") as caught:
                attempt()
            assert "topsecret" not in str(caught.value)
        try:
            attempts(store)[0]()
        except nf.StoreError:
            pass


@pytest.mark.parametrize("name", DATES)
def test_times_that_are_none(name):
    answer = b"HTTP/1.1 200 OK\r\nLast-Modified: " + DATES[name] + b"\r\nContent-Length: 3\r\n\r\n"
    with serving(lambda client: client.sendall(answer)) as store:
        [status] = store.status(["a"])
        assert status.size_bytes == 3


def drip(client):
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"A")
        time.sleep(0.1)


def drip_lines(client):
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"A: b\r\n")
        time.sleep(0.1)


def continue_for_ever(client):
    while True:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.1)


def send_headers_for_ever(client):
    client.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.sendall(b"A: b\r\n")


def send_a_body_for_ever(client):
    client.sendall(OK + b"Content-Length: 100000000000\r\n\r\n")
    while True:
        client.sendall(bytes(1 << 16))


@pytest.mark.parametrize("answer", [drip, drip_lines, continue_for_ever, send_headers_for_ever, send_a_body_for_ever])
def test_an_answer_that_does_not_end_is_given_up(answer):
    started = time.monotonic()
    with serving(answer) as store:
        for attempt in attempts(store)[1:]:
            with pytest.raises(nf.StoreError):
                attempt()
    # Two or three tries of 0.75 s each, and twice the time of a busy machine many times over.
    assert time.monotonic() - started < 60


def test_a_slow_body_after_a_quick_head_is_read():
    def answer(client):
        client.sendall(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 12\r\n\r\n')
        for _ in range(12):
            client.sendall(b"x")
            time.sleep(0.1)

    with serving(answer) as store:
        assert store.load("a").data == b"x" * 12


def test_a_listing_that_does_not_advance_is_an_error(bucket, monkeypatch):
    from ndframes.system.objects.requests import ListedPage
    from ndframes.system.objects.store import ObjectStatus

    store = connect_store(f"{bucket}/cache")
    for page in ([], [ObjectStatus("a/b", 1, 0.0, None)]):
        monkeypatch.setattr(type(store.requests), "list_page", lambda *_, page=page: ListedPage(page, False))
        with pytest.raises(nf.StoreError, match="does not advance"):
            list(store.scan("a"))
