"""Sinks: every result is delivered, or accounted for, whatever the other side does."""

from __future__ import annotations

import base64
import email.utils
import http.server
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from kit.waiting import wait_until

from ndframes.errors import OutputError, SinkError, StreamError
from ndframes.stream import JsonLines, Pipeline, PostResults, Result, Retry
from ndframes.stream.outbox import Outbox, Outgoing

QUICK = Retry(attempts=4, first=0.01, most=0.02)


def result_of(index: int, value: object = None) -> Result:
    return Result("detect", "cam", index, index / 25, 0, (index,), value)


class Receiver(http.server.ThreadingHTTPServer):
    """A server that treats each request as the next name of a list says, and then as ``"ok"``."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.behaviours: list[str] = []
        self.bodies: list[list[dict]] = []
        self.keys: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.connections: set[int] = set()
        self.release = threading.Event()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/results"

    def handle_error(self, *_: object) -> None:
        pass

    @property
    def indices(self) -> list[int]:
        return [each["index"] for body in self.bodies for each in body]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            behaviour = server.behaviours.pop(0) if server.behaviours else "ok"
            server.keys.append(self.headers["Idempotency-Key"])
            server.headers.append(dict(self.headers))
            server.times.append(time.monotonic())
            server.connections.add(self.client_address[1])
            if behaviour in ("ok", "close", "long", "drop"):
                server.bodies.append(body)
        getattr(self, f"do_{behaviour}", lambda: self._answer(int(behaviour)))()

    def do_ok(self) -> None:
        self._answer(204)

    def do_close(self) -> None:
        # Without a word of it, as servers do whose connection was idle.
        self._answer(200)
        self.close_connection = True

    def do_long(self) -> None:
        self._answer(200, body=b"x" * 300_000)

    def do_reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()
        self.close_connection = True

    def do_drop(self) -> None:
        # Taken, but the answer is lost.
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def do_hang(self) -> None:
        self.server.release.wait(120)
        self.close_connection = True

    def do_drip(self) -> None:
        while not self.server.release.wait(0.05):
            self.wfile.write(b"H")

    def do_wait(self) -> None:
        self._answer(429, {"Retry-After": "1"})

    def do_date(self) -> None:
        self._answer(503, {"Retry-After": email.utils.formatdate(time.time() + 2, usegmt=True)})

    def do_nonsense(self) -> None:
        self.wfile.write(b"NONSENSE\r\n\r\n")
        self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(port: int = 0):
    with Receiver(port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.release.set()
            server.shutdown()
            thread.join(60)


@pytest.fixture
def server():
    with serving() as found:
        yield found


def check_counts(sink: PostResults) -> dict[str, int]:
    stats = sink.stats
    assert stats["received"] == stats["delivered"] + stats["failed"] + stats["dropped"] + stats["waiting"]
    return stats


def test_results_arrive_in_order_over_one_connection(server):
    sink = PostResults(server.url, headers={"X-Site": "roof"})
    for index in range(200):
        sink(result_of(index, np.arange(3)))
    sink.close()
    assert server.indices == list(range(200))
    assert server.bodies[7] == [
        {
            "name": "detect", "source": "cam", "index": 7, "time": 0.28, "epoch": 0, "frames": [7], "value": [0, 1, 2],
            "error": None, "latency": 0.0, "captured": None, "clock": "file",
        }
    ]  # fmt: skip
    assert len(server.connections) == 1
    assert server.headers[0]["X-Site"] == "roof"
    assert server.headers[0]["Content-Type"] == "application/json"
    assert check_counts(sink) == {
        "received": 200, "delivered": 200, "failed": 0, "dropped": 0, "waiting": 0, "retries": 0,
    }  # fmt: skip


def test_what_waits_goes_in_batches(server):
    server.behaviours = ["hang"]
    sink = PostResults(server.url, batch=10, retries=QUICK, timeout=60)
    sink(result_of(0))
    wait_until(lambda: server.times)
    for index in range(1, 26):
        sink(result_of(index))
    server.release.set()
    sink.close()
    assert server.indices == list(range(26))
    assert [len(body) for body in server.bodies] == [1, 10, 10, 5]
    check_counts(sink)


@pytest.mark.parametrize("behaviour", ["500", "502", "503", "429", "408", "reset", "nonsense", "drip", "hang"])
def test_a_failure_that_passes_is_tried_again(server, behaviour):
    server.behaviours = ["ok", behaviour, behaviour, "ok"]
    limit = 0.3 if behaviour in ("drip", "hang") else 60
    sink = PostResults(server.url, retries=QUICK, timeout=limit, close_timeout=60)
    for index in range(4):
        sink(result_of(index))
    sink.close()
    assert server.indices == [0, 1, 2, 3]
    assert check_counts(sink)["delivered"] == 4
    # The second attempt of a kept connection that was reset is made at once, and not counted.
    assert sink.stats["retries"] in ((1, 2) if behaviour == "reset" else (2,))
    assert server.keys[1] == server.keys[2] == server.keys[3] != server.keys[0]


def test_a_kept_connection_that_the_server_closes_costs_nothing(server):
    server.behaviours = ["close"] * 20
    sink = PostResults(server.url, retries=Retry(attempts=1))
    for index in range(20):
        sink(result_of(index))
        wait_until(lambda index=index: sink.stats["delivered"] == index + 1)
    sink.close()
    assert server.indices == list(range(20))


def test_an_answer_that_is_lost_and_one_that_is_long(server):
    server.behaviours = ["drop", "ok", "long", "ok"]
    sink = PostResults(server.url, retries=QUICK)
    for index in range(3):
        sink(result_of(index))
    sink.close()
    # It arrives twice, with one key.
    assert server.indices == [0, 0, 1, 2]
    assert server.keys[0] == server.keys[1]


@pytest.mark.parametrize(("behaviour", "seconds"), [("wait", 1.0), ("date", 0.9)])
def test_retry_after_is_followed_up_to_the_limit(server, behaviour, seconds):
    server.behaviours = [behaviour]
    sink = PostResults(server.url, retries=Retry(2, 0.01, 60), close_timeout=60)
    sink(result_of(0))
    sink.close()
    assert server.times[1] - server.times[0] >= seconds
    server.behaviours = [behaviour]
    sink = PostResults(server.url, retries=Retry(2, 0.01, 0.02))
    sink(result_of(0))
    sink.close()
    assert len(server.times) == 4


@pytest.mark.parametrize(
    ("status", "words"), [(400, "status 400"), (404, "status 404"), (301, "redirections"), (401, "401")]
)
def test_a_refusal_is_not_tried_again(server, status, words):
    server.behaviours = [str(status)]
    url = server.url.replace("http://", "http://me:secret@") + "?token=secret"
    sink = PostResults(url, retries=QUICK)
    sink(result_of(12_345))
    with pytest.raises(SinkError) as caught:
        sink.close()
    message = str(pickle.loads(pickle.dumps(caught.value)))
    assert message.startswith(f"{server.url}: the result of detect at frame 12,345 of cam could not be posted: ")
    assert words in message
    assert "secret" not in message
    assert len(server.times) == 1
    assert server.headers[0]["Authorization"] == f"Basic {base64.b64encode(b'me:secret').decode()}"
    assert (check_counts(sink)["failed"], sink.name) == (1, server.url)
    with pytest.raises(SinkError):
        sink(result_of(1))
    check_counts(sink)


def test_a_server_that_comes_back():
    with serving() as server:
        port = server.server_port
        server.behaviours = ["close"]
        sink = PostResults(server.url, retries=Retry(attempts=10_000, first=0.01, most=0.05), close_timeout=60)
        sink(result_of(0))
        wait_until(lambda: sink.stats["delivered"] == 1)
    for index in range(1, 10):
        sink(result_of(index))
    wait_until(lambda: sink.stats["retries"] > 3)
    with serving(port) as server:
        sink.close()
        assert server.indices == list(range(1, 10))
    assert check_counts(sink)["delivered"] == 10


def test_results_that_fail_are_skipped_and_counted(server):
    server.behaviours = ["ok", "500", "500", "400", "ok"]
    sink = PostResults(server.url, retries=Retry(2, 0.01, 0.01), on_failure="skip")
    for index in range(4):
        sink(result_of(index))
    sink.close()
    assert server.indices == [0, 3]
    assert check_counts(sink)["failed"] == 2


def test_numbers_that_json_lacks_are_null(server):
    sink = PostResults(server.url)
    value = {"a": float("nan"), "b": [np.float32("inf"), (1.5, -np.inf)], "c": np.array([[np.nan, 1.0]]), "d": "NaN"}
    sink(result_of(0, value))
    sink.close()
    assert server.bodies[0][0]["value"] == {"a": None, "b": [None, [1.5, None]], "c": [[None, 1.0]], "d": "NaN"}


def test_what_there_is_no_room_for(server):
    for overflow, expected in (("drop_oldest", [0, 8, 9]), ("drop_newest", [0, 1, 2])):
        server.bodies.clear()
        server.times.clear()
        server.release.clear()
        server.behaviours = ["hang", "ok"]
        sink = PostResults(server.url, waiting=2, overflow=overflow, timeout=60, retries=QUICK)
        sink(result_of(0))
        wait_until(lambda: server.times)
        for index in range(1, 10):
            sink(result_of(index))
        assert check_counts(sink)["dropped"] == 7
        server.release.set()
        sink.close()
        assert server.indices == expected
        check_counts(sink)
    server.times.clear()
    server.release.clear()
    server.behaviours = ["hang"]
    sink = PostResults(server.url, waiting=1, overflow="raise", timeout=60, retries=QUICK)
    sink(result_of(0))
    wait_until(lambda: server.times)
    sink(result_of(1))
    with pytest.raises(SinkError, match="no room for the result of detect at frame 2 of cam"):
        sink(result_of(2))
    server.release.set()
    sink.close()
    assert check_counts(sink)["dropped"] == 1


def test_waiting_for_room_holds_the_caller():
    outbox = Outbox(1, "wait")
    assert outbox.put(Outgoing(result_of(0), ""))
    done = []
    thread = threading.Thread(target=lambda: done.append(outbox.put(Outgoing(result_of(1), ""))))
    thread.start()
    wait_until(lambda: outbox.stats["received"] == 2)
    assert not done
    assert [item.result.index for item in outbox.take(5)] == [0]
    thread.join(60)
    assert done == [True]
    thread = threading.Thread(target=lambda: done.append(outbox.put(Outgoing(result_of(2), ""))))
    thread.start()
    wait_until(lambda: outbox.stats["received"] == 3)
    outbox.abandon()
    thread.join(60)
    assert done == [True, False]


def test_closing_is_bounded(server):
    server.behaviours = ["hang"] * 9
    sink = PostResults(server.url, timeout=120, close_timeout=0.3)
    for index in range(5):
        sink(result_of(index))
    with pytest.raises(SinkError, match=r"at frame 0 of cam and 4 more could not be posted: closed after 0\.3 s"):
        sink.close()
    assert check_counts(sink)["failed"] == 5
    sink = PostResults("http://127.0.0.1:9/", retries=Retry(10_000, 60, 60), close_timeout=0.3, on_failure="skip")
    sink(result_of(0))
    sink.close()
    assert check_counts(sink)["failed"] == 1
    # The thread does not sleep on.
    wait_until(lambda: not any(sink.name in thread.name for thread in threading.enumerate()))


def test_a_pipeline_ends_with_its_sinks(server):
    video = np.zeros((30, 8, 8), np.uint8)
    sink = PostResults(server.url, batch=4)
    pipeline = Pipeline(video).add("mean", lambda frames: float(frames[0].mean()))
    pipeline.on_result(sink)
    pipeline.on_result(lambda result: None)
    pipeline.run()
    assert server.indices == list(range(30))
    assert pipeline.stats["sinks"] == {server.url: sink.stats}
    assert sink.stats["delivered"] == 30

    server.behaviours = ["400"]
    pipeline = Pipeline(video).add("mean", lambda frames: 1.0)
    pipeline.on_result(PostResults(server.url))
    with pytest.raises(SinkError, match="at frame 0"):
        pipeline.run()
    assert pipeline.state == "failed"

    class Bad:
        def __call__(self, result):
            pass

        def close(self):
            raise RuntimeError("bad")

    pipeline = Pipeline(video).add("mean", lambda frames: 1.0)
    pipeline.on_result(Bad())
    with pytest.raises(RuntimeError, match="bad"):
        pipeline.run()


def test_what_is_refused():
    for url in ("ftp://x/", "file:///etc/passwd", "x", "http://", "http://a b/", "http://a:0/", "http://a:99999/", "http://a/\r\nX: y", 3, "http://\u00e4/"):  # fmt: skip
        with pytest.raises(StreamError, match="the URL is not allowed"):
            PostResults(url)
    for headers in ({"A b": "x"}, {"A": "x\r\nB: y"}, {"A": 3}, {"": "x"}, {"A": "\u0444"}):
        with pytest.raises(StreamError, match="headers"):
            PostResults("http://a/", headers=headers)
    for options in ({"batch": 0}, {"timeout": 0}, {"waiting": True}, {"close_timeout": float("inf")}, {"on_failure": "x"}, {"overflow": None}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(options))):
            PostResults("http://a/", **options)
    for options in ({"attempts": 0}, {"first": -1}, {"most": float("nan")}):
        with pytest.raises(StreamError, match=next(iter(options))):
            Retry(**options)
    sink = PostResults("http://127.0.0.1:9/")
    with pytest.raises(StreamError, match="the result of detect at frame 3 of cam is not JSON"):
        sink(result_of(3, object()))
    sink.close()
    sink.close()


def test_lines_are_appended(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"index": -1}\n{"ind')
    sink = JsonLines(path)
    for index in range(3):
        sink(result_of(index, np.float32(0.5)))
        # Each one is there at once.
        assert json.loads(path.read_text().splitlines()[-1])["index"] == index
    sink.close()
    sink.close()
    lines = path.read_text().splitlines()
    assert lines[:2] == ['{"index": -1}', '{"ind']
    assert [json.loads(line)["index"] for line in lines[2:]] == [0, 1, 2]
    with pytest.raises(SinkError, match="closed before the result of detect at frame 9"):
        sink(result_of(9))
    again = JsonLines(path, append=False)
    assert len(path.read_text().splitlines()) == 5
    again.close()
    assert path.read_text() == ""
    with pytest.raises(OutputError, match="there is no folder"):
        JsonLines(tmp_path / "no" / "a.jsonl")
    with pytest.raises(OutputError, match="not a regular file"):
        JsonLines(tmp_path)


def test_lines_of_several_threads_are_whole(tmp_path):
    sink = JsonLines(tmp_path / "a.jsonl")

    def write(first: int) -> None:
        for index in range(first, first + 100):
            sink(result_of(index, "x" * 5000))

    threads = [threading.Thread(target=write, args=(100 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    sink.close()
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["index"] for line in lines) == list(range(800))
    assert sink.stats == {"written": 800}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
def test_a_full_disk_is_an_error(tmp_path):
    sink = JsonLines(tmp_path / "a.jsonl")
    sink(result_of(0))
    # What a full disk does to the descriptor.
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, sink._descriptor)
    os.close(full)
    with pytest.raises(
        SinkError, match=r"a\.jsonl: the result of detect at frame 1 of cam cannot be written: No space"
    ):
        sink(result_of(1))


CRASH = """
import os, sys, time
import numpy as np
from ndframes.stream import JsonLines, Pipeline
pipeline = Pipeline(np.zeros((10_000, 8, 8), np.uint8)).add("x", lambda frames: time.sleep(0.002))
pipeline.on_result(JsonLines(sys.argv[1]))
pipeline.run()
"""


def test_lines_survive_a_kill(tmp_path):
    path = tmp_path / "a.jsonl"
    process = subprocess.Popen([sys.executable, "-c", CRASH, str(path)])
    try:
        wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") > 20)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert [json.loads(line)["index"] for line in path.read_text().splitlines()] == list(
        range(path.read_bytes().count(b"\n"))
    )
