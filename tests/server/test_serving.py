"""Servers: a real one on loopback, with endpoints and files of the tests."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import uvicorn
from kit.http_requests import Site, count_descriptors
from kit.waiting import wait_until

import ndframes as nf
from ndframes.errors import ServerError
from ndframes.server import create_app
from ndframes.server.access import make_access
from ndframes.server.answers import Answer, Endpoint, answer_json, answer_text
from ndframes.server.app import make_app
from ndframes.server.files import read_files
from ndframes.server.guard import SECURITY_HEADERS
from ndframes.server.serving import Server

BIG = bytes(20_000_000)


async def say(call) -> Answer:
    return answer_json({"name": call.parameters["name"], "query": dict(call.query)})


async def change(call) -> Answer:
    return answer_text("changed", 202)


async def send_much(call) -> Answer:
    return Answer(BIG, "application/octet-stream")


async def hang(call) -> Answer:
    await asyncio.sleep(3600)
    return Answer()


async def fail(call) -> Answer:
    raise ValueError("a secret of the server")


@pytest.fixture
def site():
    before = set(threading.enumerate())
    access = make_access("127.0.0.1")
    endpoints = [
        Endpoint("GET", "/say/{name}", say),
        Endpoint("POST", "/change", change),
        Endpoint("GET", "/much", send_much),
        Endpoint("GET", "/hang", hang),
        Endpoint("GET", "/fail", fail),
    ]
    server = Server(make_app(endpoints, read_files("ndframes.stream"), access))
    server.start()
    yield Site(f"{server.address}#token={access.token}")
    assert server.stop(60)
    assert server.stop()
    assert set(threading.enumerate()) <= before


def test_a_call_and_its_answer(site):
    reply = site.ask("/say/tree?a=1&b=%26")
    assert reply.status == 200
    assert reply.json == {"name": "tree", "query": {"a": "1", "b": "&"}}
    assert reply.headers["content-type"] == "application/json"
    assert site.ask("/change", "POST").status == 202


def test_every_answer_has_the_security_headers(site):
    cases = [
        site.ask("/say/tree"),
        site.ask("/"),
        site.ask("/nothing"),
        site.ask("/say/tree", has_token=False),
        site.ask("/say/tree", Host="evil.example"),
        site.ask("/change"),
    ]
    assert [reply.status for reply in cases] == [200, 200, 404, 401, 400, 405]
    for reply in cases:
        assert {name: reply.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert "server" not in reply.headers
        assert "set-cookie" not in reply.headers
        assert "access-control-allow-origin" not in reply.headers
    assert "unsafe" not in SECURITY_HEADERS["content-security-policy"]


def test_the_guard_is_the_same_for_every_route(site):
    for path, method in [
        ("/say/x", "GET"),
        ("/say/x", "HEAD"),
        ("/change", "POST"),
        ("/nothing", "GET"),
        ("/x", "OPTIONS"),
    ]:
        assert site.ask(path, method, has_token=False).status == 401
        assert site.ask(path, method, Authorization="Bearer wrong").status == 401
        assert site.ask(path, method, Host="evil.example").status == 400
        assert site.ask(path, method, Origin="http://evil.example").status == 403
    assert site.ask("/say/x", has_token=False).headers["www-authenticate"] == "Bearer"
    # A token in the query does not count: it would stay in logs and histories.
    assert site.ask(f"/say/x?token={site.token}", has_token=False).status == 401
    assert site.ask("/change", "POST", Origin=f"http://127.0.0.1:{site.place[1]}").status == 202
    # What needs no token is read only, and for the own names only.
    assert site.ask("/", "POST", has_token=False).status == 401
    assert site.ask("/", has_token=False, Host="evil.example").status == 400


def test_files_and_their_types(site):
    types = {
        "/": "text/html",
        "/static/main.js": "text/javascript",
        "/static/page.css": "text/css",
        "/static/icon.svg": "image/svg",
    }
    for path, expected in types.items():
        reply = site.ask(path, has_token=False)
        assert reply.status == 200
        assert reply.headers["content-type"].startswith(expected)
        head = site.ask(path, "HEAD", has_token=False)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(reply.body))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../page.py",
        "/static/%2e%2e/page.py",
        "/static/..%2fpage.py",
        "/static//etc/passwd",
        "/../../etc/passwd",
        "/static/%00",
        "/static/index.html",
        "/static/",
        "/static",
        "//",
        "/say/a/b",
        "/say/a%2Fb",
    ],
)
def test_other_paths_are_not_found(site, path):
    assert site.ask(path).status == 404
    assert site.ask(path, has_token=False).status == 401


def test_an_error_of_an_endpoint_is_logged_and_not_sent(site, caplog):
    with caplog.at_level(logging.DEBUG):
        reply = site.ask("/fail")
        wait_until(lambda: "a secret of the server" in caplog.text)
    assert reply.status == 500
    assert "secret" not in reply.text
    assert site.token not in caplog.text
    assert site.ask("/say/x").status == 200


def test_nothing_is_logged_of_requests(site, caplog):
    with caplog.at_level(logging.INFO):
        site.ask("/say/x")
        site.ask("/say/x", has_token=False)
    assert "say" not in caplog.text
    assert site.token not in caplog.text


def test_stop_is_bounded_whatever_clients_do():
    before = set(threading.enumerate())
    access = make_access("127.0.0.1")
    server = Server(make_app([Endpoint("GET", "/hang", hang), Endpoint("GET", "/much", send_much)], {}, access))
    server.start()
    site = Site(f"{server.address}#token={access.token}")
    descriptors = count_descriptors()
    clients = [site.connect("/hang") for _ in range(5)]
    clients += [site.connect("/much", "/much", receive_bytes=4096) for _ in range(5)]
    clients += [site.connect() for _ in range(5)]
    # Half a head.
    clients[-1].sendall(b"GET / HTTP/1.1\r\nHost:")
    wait_until(lambda: count_descriptors() >= descriptors + 2 * len(clients))
    began = time.monotonic()
    assert server.stop(60)
    assert time.monotonic() - began < 50
    for client in clients:
        client.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        site.ask("/hang")


def test_a_hundred_clients_that_leave_are_forgotten(site):
    assert site.ask("/say/x").status == 200
    threads, descriptors = threading.active_count(), count_descriptors()
    for number in range(100):
        client = site.connect("/much", receive_bytes=4096)
        if number % 2:
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.close()
    wait_until(lambda: count_descriptors() <= descriptors)
    assert threading.active_count() == threads
    assert site.ask("/say/x").status == 200


def test_a_port_that_is_taken_and_ports_that_are_none(site):
    with pytest.raises(ServerError, match=rf"cannot listen at 127.0.0.1, port {site.place[1]}: .* with port=0"):
        Server(make_app([], {}, make_access("127.0.0.1")), port=site.place[1])
    for port in (-1, 65536, 1.5, "80", True):
        with pytest.raises(ServerError, match="give a port"):
            Server(make_app([], {}, make_access("127.0.0.1")), port=port)
    with pytest.raises(ServerError, match="cannot listen at no-such-name.invalid"):
        Server(make_app([], {}, make_access("127.0.0.1")), host="no-such-name.invalid")


def test_a_server_on_ipv6():
    try:
        server = Server(make_app([], read_files("ndframes.stream"), make_access("::1")), host="::1")
    except ServerError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    server.start()
    assert server.address.startswith("http://[::1]:")
    assert Site(server.address).ask("/", has_token=False, Host=f"[::1]:{Site(server.address).place[1]}").status == 200
    assert server.stop(60)


@pytest.mark.parametrize(("module", "needs"), [("app", "starlette"), ("serving", "uvicorn")])
def test_a_missing_extra_is_named(monkeypatch, module, needs):
    monkeypatch.delitem(sys.modules, f"ndframes.server.{module}")
    for name in [name for name in sys.modules if name.partition(".")[0] == needs]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, needs, None)
    with pytest.raises(nf.MissingExtraError, match=r'pip install "ndframes\[serve\]"'):
        __import__(f"ndframes.server.{module}")


def test_a_process_ends_while_it_serves():
    code = (
        "from ndframes.server.serving import Server; from ndframes.server.app import make_app\n"
        "from ndframes.server.access import make_access\n"
        "Server(make_app([], {}, make_access('127.0.0.1'))).start()"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_service_of_frames_under_another_server(tmp_path, gradient):
    """uvicorn with its own settings asks for more than HTTP: for the lifespan, which the application does not have."""
    np.save(tmp_path / "a.npy", gradient)
    app = create_app(nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        remote = nf.connect(f"http://127.0.0.1:{port}/", token=app.token)
        assert np.array_equal(remote.load_image("a"), gradient)
    finally:
        server.should_exit = True
        thread.join()
        app.close()


def test_a_lack_of_descriptors_is_told_once_and_passes(site, caplog):
    """asyncio's own handler logs thousands of tracebacks a second."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Made before: those of the server are what is lacking.
    connections = [socket.socket() for _ in range(40)]
    try:
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        for connection in connections:
            connection.connect(site.place)
        wait_until(lambda: caplog.records)
        assert [(record.name, "Too many open files" in record.message) for record in caplog.records] == [
            ("ndframes.server", True)
        ]
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert site.ask("/").status == 200
