"""Realtime pipelines: the source is never kept waiting, and every window is processed, or dropped and counted."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from kit.ahead import all_children
from kit.numbered import RATE, draw, read_number
from kit.waiting import wait_until
from test_pipeline import check_ledgers

import ndframes as nf
from ndframes.errors import AlgorithmError, NdframesError, StreamError
from ndframes.stream import Pipeline, Source, Window

COUNT = 50
WORKERS = ("inline", "thread", "process")


def see_slowly(frames) -> list[int | None]:
    time.sleep(0.2)
    return [read_number(frame) for frame in frames]


def see(frames) -> list[int | None]:
    return [read_number(frame) for frame in frames]


def fail(frames) -> None:
    raise ValueError("no")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("clip") / "numbers.mp4")
    nf.write_video(path, (draw(number) for number in range(COUNT)), RATE, preset="ultrafast")
    return path


@pytest.mark.parametrize("worker", WORKERS)
def test_a_slow_algorithm_gets_the_newest_window(clip, worker):
    pipeline = Pipeline(Source(clip, name="cam"), mode="realtime")
    pipeline.add("slow", see_slowly, Window(count=2, step=2), worker=worker).add("fast", see, worker="thread")
    started = time.monotonic()
    results = pipeline.run()
    # Frames come at the speed of a player.
    assert time.monotonic() - started >= (COUNT - 1) / RATE
    for each in results.values():
        assert [result.index for result in each] == sorted({result.index for result in each})
        for result in each:
            assert result.value == list(result.frames)
    slow = pipeline.stats["algorithms"]["slow"]
    assert slow["scheduled"] == COUNT - 2
    assert slow["dropped"]["busy"] + slow["dropped"]["late"] >= 1
    # It can take five windows a second at most.
    assert 1 <= slow["processed"] <= (time.monotonic() - started) / 0.2
    assert slow["latency_ms"]["p50"] >= 200
    assert pipeline.stats["sources"]["cam"]["captured"] == COUNT
    check_ledgers(pipeline)


def test_several_sources_in_one_batch(clip):
    pipeline = Pipeline({"a": clip, "b": clip, "c": clip}, mode="realtime")
    sizes = []

    def see_batch(windows):
        sizes.append(len(windows))
        time.sleep(0.1)
        return [see(window) for window in windows]

    pipeline.add("all", see_batch, batch=3, worker="thread")
    results = pipeline.run()["all"]
    assert {result.source for result in results} == {"a", "b", "c"}
    assert max(sizes) > 1
    assert all(result.value == [result.index] for result in results)
    check_ledgers(pipeline)


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("seconds", [0, 0.3, 1.2])
def test_stop_ends_everything_within_its_limit(worker, seconds):
    before, processes = set(threading.enumerate()), all_children()
    source = Source("lavfi:testsrc2=size=320x240:rate=25,realtime", name="cam")
    pipeline = Pipeline(source, mode="realtime").add("slow", see_slowly, worker=worker)
    pipeline.start()
    time.sleep(seconds)
    assert pipeline.state in ("running", "reconnecting")
    assert pipeline.stop(timeout=30)
    assert pipeline.state == "stopped"
    assert pipeline.stop()
    check_ledgers(pipeline)
    wait_until(lambda: all_children() <= processes)
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_errors_of_algorithms_and_sources_end_the_run(clip, tmp_path):
    with pytest.raises(AlgorithmError, match="x failed at frame"):
        Pipeline(clip, mode="realtime").add("x", fail).run()
    pipeline = Pipeline(clip, mode="realtime", errors="skip").add("x", fail, worker="process")
    results = pipeline.run()["x"]
    assert results
    assert all("ValueError: no" in result.error for result in results)
    check_ledgers(pipeline)
    (tmp_path / "no.mp4").write_bytes(b"no video")
    for mode in ("offline", "realtime"):
        with pytest.raises(NdframesError, match=r"no\.mp4"):
            Pipeline(tmp_path / "no.mp4", mode=mode).add("x", see).run()
        with pytest.raises(NdframesError, match=r"missing\.mp4"):
            Pipeline(tmp_path / "missing.mp4", mode=mode).add("x", see).run()


@pytest.mark.parametrize("duration", [-1, float("nan"), "long"])
def test_a_duration_that_is_none_starts_nothing(duration):
    pipeline = Pipeline(np.zeros((3, 8, 8), np.uint8)).add("x", len)
    with pytest.raises(StreamError, match=r"Pipeline\.run\(duration=.*give a number of at least 0"):
        pipeline.run(duration=duration)
    assert pipeline.state == "idle"
    assert len(pipeline.run()["x"]) == 3


def test_a_context_and_a_duration():
    source = Source("lavfi:testsrc2=size=320x240:rate=25,realtime", name="cam")
    pipeline = Pipeline(source, mode="realtime").add("pid", lambda frames: os.getpid())
    results = pipeline.run(duration=1.5)["pid"]
    assert pipeline.state == "stopped"
    assert {result.value for result in results} <= {os.getpid()}
    with Pipeline(source, mode="realtime").add("mean", lambda frames: float(np.mean(frames[0]))) as pipeline:
        wait_until(lambda: len(pipeline.results["mean"]) > 3)
    assert pipeline.state == "stopped"
    check_ledgers(pipeline)
