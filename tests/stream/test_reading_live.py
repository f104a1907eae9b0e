"""Live sources, for real: servers on loopback, in processes that are killed, stopped, continued and started anew."""

from __future__ import annotations

import http.server
import importlib.util
import os
import socket
import threading
import time
from functools import partial
from itertools import pairwise

import av
import numpy as np
import pytest
from kit.numbered import RATE, write_clip
from kit.stream_servers import HLS, PLAIN, Server, find_port, find_source
from kit.watching import Watch

from ndframes.errors import StreamError, StreamOpenError, StreamStalledError
from ndframes.stream.reading import SourceEvent
from ndframes.stream.reading_open import open_reading
from ndframes.stream.source import Backoff, Source

SHAPE = (120, 160)
has_rtsp_server = importlib.util.find_spec("aio_rtsp_toolkit") is not None
needs_rtsp_server = pytest.mark.skipif(not has_rtsp_server, reason="needs aio-rtsp-toolkit, of the extra tests")
KINDS = [*PLAIN, HLS, pytest.param("rtsp", marks=needs_rtsp_server)]
#: Numbers that each server begins with.
STEP = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The clip that the RTSP server has."""
    path = tmp_path_factory.mktemp("clips")
    write_clip(path / "clip.mp4", 60 * RATE)
    return path


@pytest.fixture(scope="module")
def small_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("small")
    write_clip(path / "clip.mp4", 60 * RATE, shape=(96, 128))
    return path


def describe(kind: str, port: int, **options: object) -> Source:
    """The source of a server, with limits that a busy machine keeps as well."""
    uri, own = find_source(kind, port)
    chosen = {"open_timeout": 60.0, "stall_timeout": 60.0, "reconnect": Backoff(0.1, 0.5), **options}
    return Source(uri, options=own, **chosen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_read(kind, folder):
    port = find_port()
    with Server(kind, port, first=100, folder=folder):
        watch = Watch(describe(kind, port))
        watch.wait(lambda: len(watch.frames) >= 12)
        watch.finish()
    watch.check()
    assert watch.error is None
    assert watch.states == ["opening", "reading", "ended"]
    if kind != "rtsp":
        assert min(watch.numbers) >= 100
    clocks = {clock for *_, clock in watch.frames}
    assert clocks <= ({"rtcp", "arrival"} if kind.startswith("rtsp") else {"arrival"})
    assert all(abs(captured - time.time()) < 300 for *_, captured, _ in watch.frames)
    by_sender = [frame for frame in watch.frames if frame[5] == "rtcp"]
    if kind == "rtsp_push" and hasattr(av.container.InputContainer, "start_time_realtime"):  # PyAV 18
        assert len(by_sender) > 5
    for earlier, later in pairwise(by_sender):
        assert later[4] - earlier[4] == pytest.approx(later[3] - earlier[3], abs=0.001)


def test_a_paced_filter_is_live():
    watch = Watch(Source("lavfi:testsrc2=size=96x64:rate=25,realtime", fps=5))
    watch.wait(lambda: len(watch.frames) >= 4)
    began = time.monotonic()
    watch.finish()
    assert time.monotonic() - began < 30
    counts = watch.reading.counts
    assert counts.decoded == counts.captured + counts.decimated
    assert [frame[3] for frame in watch.frames] == [place / 5 for place in range(counts.captured)]
    assert {clock for *_, clock in watch.frames} == {"arrival"}


def test_a_filter_that_is_not_paced_is_read_to_its_end():
    reading = open_reading(Source("lavfi:testsrc2=size=96x64:rate=25:duration=2", start=0.5, fps=5), "it")
    items = list(reading)
    frames = [item for item in items if not isinstance(item, SourceEvent)]
    assert [frame.time for frame in frames] == [0.52, *(place / 5 for place in range(3, 10))]
    assert {(frame.captured, frame.clock) for frame in frames} == {(None, "file")}
    assert (reading.counts.decoded, reading.counts.captured, reading.counts.held_back) == (50, 8, 0)
    again = [item for item in open_reading(reading.source, "it") if not isinstance(item, SourceEvent)]
    for one, other in zip(frames, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_a_recording_over_http_is_read_once_and_to_its_last_frame(tmp_path):
    # Its index comes first: the server does not send parts of a file.
    write_clip(tmp_path / "clip.mkv", 10 * RATE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/clip.mkv"
            watch = Watch(Source(url, live=False, fps=1, open_timeout=60.0, stall_timeout=60.0))
            watch.wait(lambda: not watch.thread.is_alive())
        finally:
            server.shutdown()
            thread.join()
    assert watch.error is None
    watch.check()
    assert watch.numbers == list(range(0, 10 * RATE, RATE))
    assert watch.reading.counts.decoded == 10 * RATE


def test_a_pipe_is_no_source(tmp_path):
    """Nothing could end the wait for its writer."""
    os.mkfifo(tmp_path / "pipe")
    watch = Watch(Source(str(tmp_path / "pipe")))
    watch.wait(lambda: watch.error is not None)
    assert isinstance(watch.error, StreamOpenError)


@pytest.mark.parametrize("kind", [kind for kind in PLAIN if kind != "mjpeg"])
def test_times_are_those_of_the_sender(kind):
    """Frames that were left out while the sender was late leave a gap of the same length."""
    port = find_port()
    with Server(kind, port):
        watch = Watch(describe(kind, port))
        watch.wait(lambda: len(watch.frames) >= 12)
        watch.finish()
    for epoch in {frame[2] for frame in watch.frames}:
        frames = [frame for frame in watch.frames if frame[2] == epoch]
        # The first one of RTSP has no timestamp; it is taken as one frame before the second.
        first = frames.pop(0) if kind != "rtsp_push" else frames.pop(1)
        frames = [frame for frame in frames if frame[1] >= first[1]]
        for number, _, _, seconds, *_ in frames:
            # FLV counts in milliseconds.
            assert seconds - first[3] == pytest.approx((number - first[0]) / RATE, abs=0.0021)


def test_pictures_without_a_clock_of_their_own_have_the_times_at_which_they_arrive():
    port = find_port()
    with Server("mjpeg", port) as server:
        watch = Watch(describe("mjpeg", port, stall_timeout=60.0))
        watch.wait(lambda: len(watch.frames) >= 5)
        server.stop()
        time.sleep(1.5)
        server.go_on()
        count = len(watch.frames)
        watch.wait(lambda: len(watch.frames) >= count + 5)
        watch.finish()
    watch.check()
    steps = [later[3] - earlier[3] for earlier, later in pairwise(watch.frames)]
    # FFmpeg would say 0.04 s throughout.
    assert max(steps) > 1


def run_through_failures(kind: str, folder, small_folder, rounds: int = 1) -> None:
    """Killed, started anew, stopped, continued, killed, started anew with another size."""
    port = find_port()
    begin = 0
    sent = set()

    def start(shape: tuple[int, int], clips) -> Server:
        nonlocal begin
        begin += STEP
        sent.add(begin // STEP)
        return Server(kind, port, first=begin % 65536, shape=shape, folder=clips)

    server = start(SHAPE, folder)
    watch = Watch(describe(kind, port, shape=SHAPE, open_timeout=20.0, stall_timeout=2.0))
    counts = watch.reading.counts
    try:
        for _ in range(rounds):
            wait_for_frames(watch)
            epochs = counts.epochs
            server.kill()
            server = start(SHAPE, folder)
            wait_for_epoch(watch, epochs)
            epochs, stalls = counts.epochs, counts.stalls
            server.stop()
            watch.wait(lambda stalls=stalls: counts.stalls > stalls)
            server.go_on()
            wait_for_epoch(watch, epochs)
            epochs = counts.epochs
            server.kill()
            server = start((96, 128), small_folder)
            wait_for_epoch(watch, epochs)
            begin %= 65536 - 4 * STEP
        watch.finish()
    finally:
        server.kill()
        watch.reading.stop()
    watch.check()
    assert watch.error is None
    assert counts.stalls >= rounds
    assert counts.epochs > 3 * rounds
    assert watch.states[0] == "opening"
    assert watch.states[-1] == "ended"
    assert watch.states.count("reconnecting") >= counts.reconnects >= 3 * rounds
    assert all(event.why for event in watch.events if event.state == "reconnecting")
    if kind == "rtsp":
        assert max(watch.numbers) < 60 * RATE
    else:
        assert {number // STEP for number in watch.numbers} <= sent


def wait_for_frames(watch: Watch, count: int = 5) -> None:
    seen = len(watch.frames)
    watch.wait(lambda: len(watch.frames) >= seen + count)


def wait_for_epoch(watch: Watch, epochs: int) -> None:
    """Wait for frames of a connection after so many."""
    watch.wait(lambda: watch.reading.counts.epochs > epochs)
    wait_for_frames(watch)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_it_reconnects_and_shows_no_wrong_picture(kind, folder, small_folder):
    run_through_failures(kind, folder, small_folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_it_reconnects_twenty_times(kind, folder, small_folder):
    run_through_failures(kind, folder, small_folder, rounds=20)


def test_another_size_after_a_reconnect_is_an_error_without_a_shape():
    port = find_port()
    with Server("http_ts", port):
        watch = Watch(describe("http_ts", port))
        watch.wait(lambda: len(watch.frames) >= 3)
    with Server("http_ts", port, first=STEP, shape=(96, 128)):
        watch.wait(lambda: watch.error is not None)
    assert isinstance(watch.error, StreamError)
    assert "128" in str(watch.error)
    assert "shape=" in str(watch.error)
    assert watch.states[-1] == "failed"
    watch.check()


def test_a_source_is_given_up_after_so_many_attempts():
    port = find_port()
    with Server("http_ts", port):
        watch = Watch(describe("http_ts", port, reconnect=Backoff(0.01, 0.02, attempts=3)))
        watch.wait(lambda: len(watch.frames) >= 3)
    watch.wait(lambda: watch.error is not None)
    assert isinstance(watch.error, StreamOpenError)
    assert "3 failed attempts" in str(watch.error)
    assert watch.reading.counts.reconnects == 3
    assert watch.states == ["opening", "reading", "reconnecting", "reconnecting", "reconnecting", "failed"]
    watch.check()


@pytest.mark.parametrize("reconnect", [None, Backoff(attempts=0)])
def test_without_reconnecting_the_end_of_a_stream_is_the_end(reconnect):
    port = find_port()
    with Server("tcp", port):
        watch = Watch(describe("tcp", port, reconnect=reconnect))
        watch.wait(lambda: len(watch.frames) >= 3)
    watch.wait(lambda: not watch.thread.is_alive())
    assert watch.error is None
    assert watch.states == ["opening", "reading", "ended"]
    watch.check()


def test_without_reconnecting_a_connection_that_breaks_off_is_an_error():
    port = find_port()
    with Server("mjpeg", port):
        watch = Watch(describe("mjpeg", port, reconnect=None))
        watch.wait(lambda: len(watch.frames) >= 3)
    watch.wait(lambda: not watch.thread.is_alive())
    assert type(watch.error) is StreamError
    assert "broke off" in str(watch.error)
    assert watch.states == ["opening", "reading", "failed"]
    watch.check()


def test_without_reconnecting_a_stall_is_an_error():
    port = find_port()
    with Server("tcp", port) as server:
        watch = Watch(describe("tcp", port, reconnect=None, stall_timeout=4.0))
        watch.wait(lambda: len(watch.frames) >= 3)
        server.stop()
        watch.wait(lambda: watch.error is not None, 30)
    assert isinstance(watch.error, StreamStalledError)
    assert "cam" in str(watch.error)
    watch.check()


def test_the_last_frame_of_a_stream_that_may_be_cut_is_held_back():
    """It may be half of the frame before, without a mark."""
    port = find_port()
    with Server("http_ts", port):
        watch = Watch(describe("http_ts", port, reconnect=None))
        watch.wait(lambda: len(watch.frames) >= 3)
    watch.wait(lambda: not watch.thread.is_alive())
    assert watch.reading.counts.held_back == 1


@pytest.mark.parametrize("kind", ["http_ts", "udp"])
def test_decimation_is_by_time_and_counted(kind):
    port = find_port()
    with Server(kind, port):
        watch = Watch(describe(kind, port, fps=5))
        watch.wait(lambda: len(watch.frames) >= 6)
        watch.finish()
    watch.check()
    assert watch.reading.counts.decimated >= 5
    places = [int(frame[3] * 5 + 1e-9) for frame in watch.frames]
    assert len(set(places)) == len(places)


def stop_in_state(state: str, folder) -> float:
    """Stop a reading in a state; return how many seconds it took to end."""
    port = find_port()
    if state == "opening":
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", port))
            silent.listen()
            watch = Watch(Source(f"http://127.0.0.1:{port}/x", open_timeout=1.0, stall_timeout=1.0))
            watch.wait(lambda: watch.states)
            return finish(watch)
    with Server("http_ts", port, folder=folder) as server:
        first = 5.0 if state == "waiting" else 0.05
        watch = Watch(describe("http_ts", port, stall_timeout=1.0, reconnect=Backoff(first, first)))
        watch.wait(lambda: len(watch.frames) >= 2)
        if state == "stalled":
            server.stop()
        if state in ("waiting", "refused"):
            server.kill()
            watch.wait(lambda: "reconnecting" in watch.states)
        return finish(watch)


def finish(watch: Watch) -> float:
    seconds = watch.finish()
    watch.check()
    # In the state of opening its limit may pass first.
    assert watch.error is None or isinstance(watch.error, StreamOpenError)
    assert watch.states[-1] in ("ended", "failed")
    return seconds


STATES = ("opening", "reading", "stalled", "waiting", "refused")


@pytest.mark.parametrize("state", STATES)
def test_stop_ends_it_within_its_limits(state, folder):
    for _ in range(2):
        assert stop_in_state(state, folder) < 30
    assert threads_of_readings() == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("state", STATES)
def test_stop_ends_it_a_hundred_times(state, folder):
    for _ in range(20):
        assert stop_in_state(state, folder) < 30
    assert threads_of_readings() == []


def threads_of_readings() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("Thread-") and thread.is_alive()]


def test_stop_before_it_begins():
    reading = open_reading(Source("http://127.0.0.1:1/x"), "cam")
    reading.stop()
    assert [item.state for item in reading] == ["opening", "ended"]


def test_a_consumer_that_leaves_closes_the_connection():
    port = find_port()
    with Server("http_ts", port):
        reading = open_reading(describe("http_ts", port), "cam")
        items = iter(reading)
        while not reading.counts.captured:
            next(items)
        items.close()
    counts = reading.counts
    assert (counts.captured, counts.held_back) == (1, 1)
    assert counts.decoded == 2
