"""The page by HTTP: what it answers, and that no client holds the pipeline up."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import imagecodecs
import numpy as np
import pytest
from kit.http_requests import Reply, Site, count_descriptors
from kit.numbered import RATE, draw, read_number, write_clip
from kit.waiting import wait_until
from test_pipeline import check_ledgers

import ndframes as nf
from ndframes.errors import AccessError, AlgorithmError, ServerError, StreamError
from ndframes.stream import Pipeline, Window

COUNT = 40


class Gate:
    """An algorithm that waits before each frame until it is let through."""

    def __init__(self) -> None:
        self._steps = threading.Semaphore(0)
        self._is_open = False

    def __call__(self, frames) -> int | None:
        while not self._is_open and not self._steps.acquire(timeout=0.05):
            pass
        return read_number(frames[0])

    def step(self, count: int = 1) -> None:
        self._steps.release(count)

    def open(self) -> None:
        self._is_open = True


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.open()


@pytest.fixture
def numbers() -> np.ndarray:
    return np.stack([draw(number) for number in range(COUNT)])


def look(site: Site, after: int = -1, number: int = 0) -> Reply:
    """The next picture; waits for it."""
    found: list[Reply] = []

    def is_there() -> bool:
        found.append(site.ask(f"/sources/{number}/picture?after={after}"))
        return found[-1].status != 204

    wait_until(is_there)
    return found[-1]


def number_of(reply: Reply) -> int | None:
    assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
    return read_number(imagecodecs.jpeg8_decode(reply.body))


def state_of(site: Site) -> dict:
    reply = site.ask("/state")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    return reply.json


def test_pictures_and_counts_while_it_runs_and_after_its_end(numbers, gate):
    pipeline = Pipeline({"cam": numbers}, buffer=1).add("see", gate)
    site = Site(pipeline.serve())
    assert site.address.startswith("http://127.0.0.1:")
    for _ in range(3):
        gate.step()
    wait_until(lambda: state_of(site)["algorithms"][0]["processed"] >= 1)
    gate.step(5)
    reply = look(site)
    assert number_of(reply) == int(reply.headers["x-frame-index"])
    assert reply.headers["x-frame-time"] == f"{int(reply.headers['x-frame-index']) / RATE:.3f}"
    running = state_of(site)
    assert running["state"] == "running"
    gate.open()
    assert pipeline.wait(60)
    assert number_of(look(site, int(reply.headers["x-frame-index"]))) == COUNT - 1
    assert site.ask(f"/sources/0/picture?after={COUNT - 1}").status == 204
    done, stats = state_of(site), pipeline.stats
    assert done["state"] == "stopped"
    (source,), (see,) = done["sources"], done["algorithms"]
    assert stats["sources"]["cam"].items() <= source.items()
    for key in ("scheduled", "processed", "dropped", "pending"):
        assert see[key] == stats["algorithms"]["see"][key]
    assert source["frame"]["index"] == COUNT - 1
    assert source["frame"]["shape"] == [120, 160, 3]
    assert source["rate"] == pytest.approx(COUNT / pipeline.seconds, rel=0.01)
    assert [result["value"] for result in see["results"]] == [str(COUNT - 1 - place) for place in range(5)]
    check_ledgers(pipeline)
    assert pipeline.stop(60)
    with pytest.raises(ConnectionRefusedError):
        site.ask("/state")
    # It can be served again, with its counts.
    assert state_of(Site(pipeline.serve()))["algorithms"] == done["algorithms"]
    assert pipeline.stop(60)


def test_pictures_are_as_functions_leave_them(numbers, gate):
    pipeline = Pipeline({"cam": numbers}, buffer=1).add("see", gate)

    @pipeline.on_frame
    def add_a_hundred(frame):
        frame.image[...] = draw(frame.index + 100)

    site = Site(pipeline.serve())
    gate.open()
    assert pipeline.wait(60)
    assert number_of(look(site)) == COUNT + 99
    # Algorithms saw frames as they were.
    assert [result.value for result in pipeline.results["see"]] == list(range(COUNT))
    pipeline.stop()


@pytest.mark.parametrize("drawn", ["text", np.zeros(3), np.zeros((2, 2), object)])
def test_what_is_no_picture_is_said(numbers, drawn):
    pipeline = Pipeline({"cam": numbers})
    pipeline.on_frame(lambda frame: drawn)
    site = Site(pipeline.serve())
    assert pipeline.wait(60)
    reply = look(site)
    assert reply.status == 422
    assert f"frame {COUNT - 1} of cam cannot be shown: " in reply.text
    assert state_of(site)["state"] == "stopped"
    pipeline.stop()


def test_realtime(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 60)
    pipeline = Pipeline({"a": clip, "b": clip}, mode="realtime").add("see", open_gate())
    with pipeline:
        site = Site(pipeline.serve())
        seen = set()
        while pipeline.state == "running":
            for number in range(2):
                reply = site.ask(f"/sources/{number}/picture?after={max(seen, default=-1)}")
                if reply.status == 200:
                    assert number_of(reply) == int(reply.headers["x-frame-index"])
                    seen.add(number_of(reply))
        assert pipeline.wait(60)
        state = state_of(site)
        assert [source["captured"] for source in state["sources"]] == [60, 60]
        assert state["mode"] == "realtime"
        for number, source in enumerate(state["sources"]):
            assert number_of(look(site, number=number)) == source["frame"]["index"]
    check_ledgers(pipeline)
    with pytest.raises(ConnectionRefusedError):
        site.ask("/state")


def open_gate() -> Gate:
    made = Gate()
    made.open()
    return made


def test_the_buttons(numbers, gate):
    pipeline = Pipeline({"cam": numbers}, buffer=1).add("see", gate)
    site = Site(pipeline.serve(start=False))
    assert state_of(site)["state"] == "idle"
    assert site.ask("/stop", "POST").status == 409
    assert site.ask("/start").status == 405
    for headers in ({"has_token": False}, {"Origin": "http://evil.example"}):
        assert site.ask("/start", "POST", **headers).status in (401, 403)
    assert pipeline.state == "idle"
    reply = site.ask("/start", "POST")
    assert (reply.status, reply.json["state"]) == (202, "running")
    reply = site.ask("/start", "POST")
    assert reply.status == 409
    assert "too late to start it again" in reply.text
    gate.step(3)
    wait_until(lambda: state_of(site)["algorithms"][0]["processed"] >= 1)
    assert site.ask("/stop", "POST").status == 202
    gate.open()
    wait_until(lambda: state_of(site)["state"] == "stopped")
    # The page stays, with the last picture.
    assert number_of(look(site)) == state_of(site)["sources"][0]["frame"]["index"]
    assert pipeline.stats["sources"]["cam"]["captured"] < COUNT
    assert pipeline.stop(60)
    check_ledgers(pipeline)


def test_the_error_that_ended_it(numbers):
    pipeline = Pipeline({"cam": numbers}).add("divides", lambda frames: 1 / 0)
    site = Site(pipeline.serve())
    with pytest.raises(AlgorithmError):
        pipeline.wait(60)
    state = state_of(site)
    assert state["state"] == "failed"
    assert state["error"].startswith("AlgorithmError: algorithm divides failed at frame 0 of cam: ZeroDivisionError")
    pipeline.stop()


def test_what_is_asked_for_wrongly(numbers):
    pipeline = Pipeline({"cam": numbers})
    site = Site(pipeline.serve())
    pipeline.wait(60)
    for path in (
        "/sources/1/picture",
        "/sources/-1/picture",
        "/sources/x/picture",
        "/sources/%00/picture",
        "/sources/0",
    ):
        assert site.ask(path).status == 404
    for after in ("x", "", "1.5", "9" * 5000, "%D9%A3"):
        assert site.ask(f"/sources/0/picture?after={after}").status == 400
    assert site.ask("/sources/0/picture", has_token=False).status == 401
    assert site.ask("/state", Host="evil.example").status == 400
    head = site.ask("/state", "HEAD")
    assert (head.status, head.body) == (200, b"")
    pipeline.stop()


def test_what_cannot_be_served(numbers):
    pipeline = Pipeline({"cam": numbers})
    before = set(threading.enumerate())
    for options, error in [
        ({"port": -1}, ServerError),
        ({"token": "short"}, AccessError),
        ({"hosts": ["http://x"]}, AccessError),
        ({"fps": 0}, StreamError),
        ({"fps": float("nan")}, StreamError),
        ({"fps": "ten"}, StreamError),
    ]:
        with pytest.raises(error):
            pipeline.serve(**options)
    # Nothing was started.
    assert pipeline.state == "idle"
    assert set(threading.enumerate()) == before
    site = Site(pipeline.serve(token="a-token-of-the-tests", start=False))
    assert site.token == "a-token-of-the-tests"
    with pytest.raises(StreamError, match="is served at http://127.0.0.1:") as caught:
        pipeline.serve()
    assert site.token not in str(caught.value)
    assert pipeline.stop(60)


def test_a_slow_browser_holds_nothing_up(gate):
    noise = np.random.default_rng(0).integers(0, 256, (20, 700, 900, 3), np.uint8)
    pipeline = Pipeline({"cam": noise}, buffer=1).add("see", gate)
    site = Site(pipeline.serve())
    gate.step(5)
    last = int(look(site).headers["x-frame-index"])
    # Each asks for many pictures, and reads none.
    clients = [site.connect(*["/sources/0/picture"] * 100, receive_bytes=4096) for _ in range(10)]
    for _ in range(3):
        gate.step(2)
        reply = look(site, last)
        assert int(reply.headers["x-frame-index"]) > last
        last = int(reply.headers["x-frame-index"])
    gate.open()
    assert pipeline.wait(60)
    assert pipeline.stats["algorithms"]["see"]["processed"] == 20
    assert pipeline.stop(60)
    for client in clients:
        client.close()


def test_a_hundred_viewers_that_leave_are_forgotten(numbers, gate):
    pipeline = Pipeline({"cam": numbers}, buffer=1).add("see", gate)
    site = Site(pipeline.serve())
    assert site.ask("/state").status == 200
    threads, descriptors = threading.active_count(), count_descriptors()
    for number in range(100):
        client = site.connect("/sources/0/picture")
        if number % 10 == 0:
            assert client.recv(1000).startswith(b"HTTP/1.1 20")
        client.close()
    wait_until(lambda: count_descriptors() <= descriptors)
    assert threading.active_count() == threads
    gate.open()
    assert pipeline.wait(60)
    assert pipeline.stop(60)


def test_stop_is_bounded_while_clients_wait(numbers, gate):
    before = set(threading.enumerate())
    pipeline = Pipeline({"cam": numbers}, buffer=1).add("see", gate)
    site = Site(pipeline.serve())
    clients = [site.connect("/sources/0/picture") for _ in range(20)]
    gate.open()
    began = time.monotonic()
    assert pipeline.stop(60)
    assert time.monotonic() - began < 50
    for client in clients:
        client.close()
    assert set(threading.enumerate()) <= before


def test_nothing_of_a_server_is_imported_before_it_is_served():
    code = "import sys, ndframes.stream.pipeline; print({'starlette', 'uvicorn', 'ndframes.server'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n"


def test_a_missing_extra_is_named(numbers, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "starlette"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("ndframes.stream.page", "ndframes.server.app"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(nf.MissingExtraError, match=r'needs starlette: pip install "ndframes\[serve\]"'):
        Pipeline({"cam": numbers}).add("see", read_number, Window(every=2)).serve()
