"""Stream Infer's interface over ours in realtime: files at their own speed, live sources, and readers that die."""

from __future__ import annotations

import http.server
import json
import logging
import os
import signal
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kit.ahead import all_children
from kit.numbered import RATE, draw, read_number, write_clip
from kit.stream_servers import Server, find_port, find_source
from kit.waiting import wait_until

import ndframes as nf
from ndframes.compat.stream_infer import (
    BaseAlgo,
    DevelopDispatcher,
    Dispatcher,
    DispatcherManager,
    Inference,
    OpenCVProducer,
    Player,
    PyAVProducer,
)
from ndframes.errors import AlgorithmError, StreamError

COUNT = 40
LIVE = "lavfi:testsrc2=size=64x48:rate=25,realtime"


class Numbers(BaseAlgo):
    def init(self):
        pass

    def run(self, frames):
        return [read_number(frame) for frame in frames]


class Slow(Numbers):
    def run(self, frames):
        time.sleep(0.3)
        return super().run(frames)


class Failing(Numbers):
    def run(self, frames):
        raise ZeroDivisionError("no boxes")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", COUNT))


@pytest.fixture
def server():
    """A server that keeps what is posted to it."""
    posted = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/result/", posted
        running.shutdown()
        thread.join()


class RequestDispatcher(Dispatcher):
    """The example of Stream Infer: results are posted to a service. It holds what does not pickle."""

    def __init__(self, buffer, url):
        super().__init__(buffer)
        self.url = url
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.lock = threading.Lock()

    def collect(self, position, algo_name, result):
        data = json.dumps({"position": position, "algo_name": algo_name, "result": result}).encode()
        with self.lock, self.opener.open(urllib.request.Request(self.url, data, method="POST"), timeout=30):
            pass


@pytest.mark.parametrize("producer", [OpenCVProducer(), PyAVProducer(80, 60)])
def test_a_dispatcher_of_the_user_posts_results_elsewhere(clip, server, producer):
    url, posted = server
    dispatcher = RequestDispatcher.create(mode="realtime", buffer=15, url=url)
    player = Player(dispatcher, producer, clip, show_progress=False)
    inference = Inference(dispatcher, player)
    inference.load_algo(Numbers("one"), 1, 0, 0.2)
    inference.load_algo(Numbers("two"), frame_count=2, frame_step=3, interval=0.4)
    begin = time.monotonic()
    inference.start(fps=25)
    assert time.monotonic() - begin >= (COUNT - 1) / RATE
    for name, distance in {"one": [0], "two": [3, 0]}.items():
        found = [each for each in posted if each["algo_name"] == name]
        assert found
        for each in found:
            newest = round(each["position"] * RATE)
            assert each["position"] == newest / RATE
            assert each["result"] == [newest - back for back in distance]
        counts = inference.stats["algorithms"][name]
        assert counts["processed"] == len(found)
        assert counts["scheduled"] == counts["processed"] + sum(counts["dropped"].values())
        assert [result.value for result in inference.results[name]] == [each["result"] for each in found]
    assert 1 <= len({each["position"] for each in posted if each["algo_name"] == "one"}) <= COUNT // 5


def test_process_sees_frames_and_draws_into_copies(clip, tmp_path):
    dispatcher = DevelopDispatcher.create()
    player = Player(dispatcher, OpenCVProducer(), clip, show_progress=False)
    inference = Inference(dispatcher, player)
    seen = []

    def realtime_process(inference, *args, **kwargs):
        assert kwargs["current_algo_names"] is None
        number = read_number(kwargs["frame"])
        kwargs["frame"][:] = draw(number + 1000)
        kept = inference.dispatcher.get_frames(1, 0)
        seen.append((number, read_number(kept[0]), inference.dispatcher.get_current_position()))

    inference.process(realtime_process)
    inference.load_algo(Numbers(), 1, 0, 0.2)
    inference.start(recording_path=tmp_path / "deep" / "live")
    assert seen
    assert all(kept == number and position == number / RATE for number, kept, position in seen)
    assert all(result == [round(float(key) * RATE)] for key, result in dispatcher.get_result("Numbers").items())
    recorded = nf.open(tmp_path / "deep" / "live.mp4")
    assert recorded.fps == RATE
    assert [read_number(np.asarray(frame)) for frame in recorded] == [number + 1000 for number, _, _ in seen]


@pytest.mark.parametrize("options", [{"offline": False}, {"mode": "realtime"}, {}])
def test_start_in_the_spelling_of_any_version(clip, options):
    dispatcher = DispatcherManager(DevelopDispatcher).create(max_size=15)
    player = Player(dispatcher, OpenCVProducer(), path=clip, show_progress=False)
    inference = Inference(dispatcher)
    inference.load_algo(Numbers(), frame_count=1, frame_step=1, interval=0.1)
    inference.start(player, fps=10, **options)
    found = dispatcher.get_result("Numbers")
    numbers = [number for number in range(COUNT) if number * 10 // 25 > (number - 1) * 10 // 25]
    assert found
    assert all(numbers_ == [round(float(key) * RATE)] and numbers_[0] in numbers for key, numbers_ in found.items())


def test_a_slow_algorithm_misses_windows_and_a_warning_says_so(clip, caplog):
    dispatcher = DevelopDispatcher.create()
    inference = Inference(dispatcher, Player(dispatcher, OpenCVProducer(), clip, show_progress=False))
    inference.load_algo(Slow(), 1, 0, 0.04)
    with caplog.at_level(logging.WARNING, "ndframes.stream_infer"):
        inference.start()
    counts = inference.stats["algorithms"]["Slow"]
    missed = counts["dropped"]["busy"] + counts["dropped"]["late"]
    assert missed
    assert counts["processed"] == len(dispatcher.get_result("Slow"))
    assert f"algorithm Slow missed {missed} of {counts['scheduled']} windows" in caplog.text


def test_playing_and_running_by_hand(clip):
    """The loop that the first versions of Stream Infer describe."""
    dispatcher = DispatcherManager(DevelopDispatcher).create(max_size=150)
    player = Player(dispatcher, OpenCVProducer(), path=clip, show_progress=False)
    inference = Inference(dispatcher)
    inference.load_algo(Numbers(), frame_count=1, frame_step=1, interval=0.1)
    assert not player.is_active()
    player.stop()
    player.play_async(25)
    inference.run_async()
    with pytest.raises(StreamError, match="in a thread already"):
        inference.run_async()
    while player.is_active():
        time.sleep(0.01)
    inference.stop()
    player.stop()
    found = dispatcher.get_result("Numbers")
    assert found
    assert {number for (number,) in found.values()} <= set(range(COUNT))
    assert not [thread for thread in threading.enumerate() if thread.name == "ndframes-inference"]


def test_an_error_in_the_thread_is_raised_by_stop(clip):
    dispatcher = Dispatcher()
    inference = Inference(dispatcher)
    inference.load_algo(Failing(), 1, 0, 0)
    dispatcher.add_frame(draw(1))
    thread = inference.run_async()
    thread.join(60)
    with pytest.raises(
        AlgorithmError, match="Failing failed at frame 0 of the dispatcher: ZeroDivisionError: no boxes"
    ):
        inference.stop()
    inference.stop()


@pytest.mark.parametrize("is_own_thread", [False, True])
def test_stop_from_another_thread_and_from_process(is_own_thread):
    dispatcher = DevelopDispatcher.create()
    player = Player(dispatcher, OpenCVProducer(), LIVE, show_progress=False)
    assert player.info == {"width": 64, "height": 48, "fps": 25.0, "frame_count": -1, "total_seconds": 0}
    inference = Inference(dispatcher, player)

    @inference.process
    def stop_soon(inference, **_):
        if is_own_thread and inference.dispatcher.get_current_frame_index() >= 5:
            inference.stop()

    thread = threading.Thread(target=inference.start)
    thread.start()
    wait_until(lambda: dispatcher.get_current_frame_index() >= 5)
    if not is_own_thread:
        assert player.is_active()
        inference.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert not player.is_active()


def test_an_error_of_an_algorithm_ends_the_run(clip):
    dispatcher = DevelopDispatcher.create()
    inference = Inference(dispatcher, Player(dispatcher, OpenCVProducer(), clip, show_progress=False))
    inference.load_algo(Failing(), 1, 0, 0.2)
    with pytest.raises(AlgorithmError, match=r"Failing failed at frame 0 of numbers.mp4: ZeroDivisionError: no boxes"):
        inference.start()


def test_an_error_in_collect_or_process_ends_the_run(clip):
    class Broken(Dispatcher):
        def collect(self, position, algo_name, result):
            raise OSError("service is down")

    dispatcher = Broken.create()
    inference = Inference(dispatcher, Player(dispatcher, OpenCVProducer(), clip, show_progress=False))
    inference.load_algo(Numbers(), 1, 0, 0.2)
    with pytest.raises(OSError, match="service is down"):
        inference.start()
    inference = Inference(Dispatcher.create(), inference.player)

    @inference.process
    def fail(inference, frame):
        raise KeyError("boxes")

    with pytest.raises(KeyError, match="boxes"):
        inference.start()


def test_a_dead_reader_is_an_error():
    before = all_children()
    dispatcher = DevelopDispatcher.create()
    player = Player(dispatcher, OpenCVProducer(), LIVE, show_progress=False)
    player.play_async()
    wait_until(dispatcher.get_size)
    assert player.is_active()
    (reader,) = all_children() - before
    os.kill(reader, signal.SIGKILL)
    with pytest.raises(StreamError, match="its reader process was killed by signal 9"):
        wait_until(lambda: not player.is_active())
    player.stop()


def run_over_a_server(mode, meanwhile):
    """Run over a stream of MJPEG until it ends; returns its results and its error."""
    port = find_port()
    with Server("mjpeg", port) as server:
        dispatcher = DevelopDispatcher.create(mode=mode, buffer=5)
        player = Player(dispatcher, PyAVProducer(), find_source("mjpeg", port)[0], show_progress=False)
        inference = Inference(dispatcher, player)
        inference.load_algo(Numbers(), 1, 0, 0.1)
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(inference.start)
            try:
                wait_until(lambda: dispatcher.get_result("Numbers"))
                server.kill()
                meanwhile(port, dispatcher)
            finally:
                if mode == "realtime":
                    inference.stop()
            error = ending.exception(60)
    shown = [result.value[0] for result in inference.results["Numbers"]]
    assert None not in shown
    assert shown == sorted(shown)
    assert [result.time for result in inference.results["Numbers"]] == sorted(
        map(float, dispatcher.get_result("Numbers"))
    )
    return inference.results["Numbers"], error


def test_a_stream_that_breaks_off_offline_is_an_error():
    _, error = run_over_a_server("offline", lambda port, dispatcher: None)
    assert isinstance(error, StreamError)
    assert "live.mjpeg: it broke off" in str(error)


def test_a_stream_that_breaks_off_is_opened_again_in_realtime():
    def restart(port, dispatcher):
        with Server("mjpeg", port, first=5000):
            wait_until(lambda: dispatcher.get_last_result("Numbers")[1][0] >= 5000)

    results, error = run_over_a_server("realtime", restart)
    assert error is None
    assert {(result.epoch, result.value[0] >= 5000) for result in results} == {(0, False), (1, True)}
