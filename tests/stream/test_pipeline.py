"""Pipelines offline: each window exactly once, in order, the same in each run."""

from __future__ import annotations

import json
import os
import time
from fractions import Fraction

import numpy as np
import pytest
from kit.numbered import RATE, draw, read_number
from test_window import model

import ndframes as nf
from ndframes.errors import AlgorithmError, StreamError
from ndframes.stream import Pipeline, Source, Window

COUNT = 60
WORKERS = ("inline", "thread", "process")


def see(frames) -> list[int | None]:
    """The numbers that the frames show."""
    return [read_number(frame) for frame in frames]


def see_batch(windows) -> list[list[int | None]]:
    return [see(window) for window in windows]


def see_info(frames) -> list[tuple[int, float, int | None]]:
    return [(frame.index, frame.time, read_number(frame.image)) for frame in frames]


class Counting:
    """An object with a state, which is set up once in its worker."""

    def setup(self) -> None:
        self.count = 0

    def __call__(self, frames) -> tuple[int, int]:
        self.count += 1
        return self.count, os.getpid()


def fail_at_seven(frames) -> int:
    number = read_number(frames[-1])
    if number == 7:
        raise ValueError("seven")
    return number


def die_at_seven(frames) -> int:
    if read_number(frames[-1]) == 7:
        os.kill(os.getpid(), 9)
    return 1


def hang_at_seven(frames) -> int:
    if read_number(frames[-1]) == 7:
        time.sleep(8)
    return 1


def return_a_lock(frames):
    return iter([1]).__iter__ and (lambda: 1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("clip") / "numbers.mp4")
    nf.write_video(path, (draw(number) for number in range(COUNT)), RATE, preset="ultrafast")
    return path


def check_ledgers(pipeline: Pipeline) -> None:
    stats = pipeline.stats
    for counts in stats["algorithms"].values():
        assert counts["scheduled"] == counts["processed"] + sum(counts["dropped"].values()) + counts["pending"]
        assert not counts["pending"]
    for counts in stats["sources"].values():
        assert counts["decoded"] == counts["captured"] + counts["decimated"] + counts["held_back"]


@pytest.mark.parametrize("worker", WORKERS)
def test_every_window_of_the_model_once_and_in_order(clip, worker):
    windows = {"each": Window(), "pairs": Window(count=2, step=3, every=4), "slow": Window(count=3, interval=0.2)}
    pipeline = Pipeline(clip)
    for name, window in windows.items():
        pipeline.add(name, see, window, worker=worker)
    order = []
    pipeline.on_result(lambda result: order.append((result.index, list(windows).index(result.name))))
    results = pipeline.run()
    times = [Fraction(index, RATE) for index in range(COUNT)]
    for name, window in windows.items():
        expected = model(window, times)
        assert [result.frames for result in results[name]] == expected
        assert [result.value for result in results[name]] == [list(indices) for indices in expected]
        assert [result.time for result in results[name]] == [indices[-1] / RATE for indices in expected]
    assert order == sorted(order)
    assert pipeline.state == "stopped"
    assert pipeline.stats["algorithms"]["each"]["processed"] == COUNT
    check_ledgers(pipeline)


@pytest.mark.parametrize("worker", WORKERS)
@pytest.mark.parametrize("batch", [2, 7, 64])
def test_batches_over_several_sources(clip, worker, batch):
    def run() -> list:
        array = np.array([draw(number) for number in range(20)])
        pipeline = Pipeline({"a": clip, "b": Source(array, fps=5)}, buffer=10)
        pipeline.add("all", see_batch, Window(every=3), batch=batch, worker=worker)
        pipeline.add("of b", see_info, source="b", with_info=True, worker=worker)
        found = [
            (result.name, result.source, result.index, result.value)
            for each in pipeline.run().values()
            for result in each
        ]
        check_ledgers(pipeline)
        return found

    first = run()
    assert run() == first
    of_all = {
        source: [(index, value) for name, where, index, value in first if (name, where) == ("all", source)]
        for source in "ab"
    }
    assert of_all["a"] == [(index, [index]) for index in range(0, COUNT, 3)]
    # Five of 25 frames a second: 0, 5, 10, 15.
    assert of_all["b"] == [(0, [0]), (3, [15])]
    of_b = [value for name, _, _, value in first if name == "of b"]
    assert of_b == [[(index, index / 5, 5 * index)] for index in range(4)]


def test_an_object_is_set_up_once_where_it_runs(clip):
    pipeline = Pipeline(clip)
    for worker in WORKERS:
        pipeline.add(worker, Counting(), Window(every=5), worker=worker)
        pipeline.add(f"{worker} class", Counting, Window(every=5), worker=worker)
    results = pipeline.run()
    for name, each in results.items():
        assert [result.value[0] for result in each] == list(range(1, 13))
        pids = {result.value[1] for result in each}
        assert len(pids) == 1
        assert (pids == {os.getpid()}) is not name.startswith("process")


@pytest.mark.parametrize("worker", WORKERS)
def test_an_algorithm_that_fails(clip, worker):
    pipeline = Pipeline(clip).add("x", fail_at_seven, worker=worker)
    with pytest.raises(AlgorithmError, match="x failed at frame 7 of numbers.mp4: ValueError: seven"):
        pipeline.run()
    assert pipeline.state == "failed"
    assert [result.value for result in pipeline.results["x"]] == [*range(7), None]
    pipeline = Pipeline(clip, errors="skip").add("x", fail_at_seven, worker=worker)
    results = pipeline.run()["x"]
    assert [result.value for result in results] == [*range(7), None, *range(8, COUNT)]
    assert [result.index for result in results if result.error] == [7]
    assert pipeline.stats["algorithms"]["x"]["dropped"]["error"] == 1
    check_ledgers(pipeline)


def test_workers_that_die_hang_or_return_what_cannot_be_pickled(clip):
    with pytest.raises(AlgorithmError, match="worker process of algorithm x was killed by signal 9"):
        Pipeline(clip).add("x", die_at_seven, worker="process").run()
    for worker in ("thread", "process"):
        with pytest.raises(AlgorithmError, match=r"took longer than its limit of 1\.5 s"):
            Pipeline(clip).add("x", hang_at_seven, worker=worker, timeout=1.5).run()
    with pytest.raises(AlgorithmError, match="cannot be pickled"):
        Pipeline(clip).add("x", return_a_lock, worker="process").run()


def test_functions_of_the_user(clip, tmp_path):
    pipeline = Pipeline(clip).add("number", see)
    seen = []

    @pipeline.on_frame
    def annotate(frame, results):
        assert results["number"].value == [frame.index]
        seen.append(frame.index)
        frame.image[-8:] = 255

    @pipeline.on_frame
    def invert(frame):
        return 255 - frame.image

    pipeline.record(tmp_path / "annotated.mkv", annotated=True)
    pipeline.record(tmp_path / "plain.mp4", annotated=False)
    results = pipeline.run()
    assert seen == list(range(COUNT))
    # Algorithms see frames as they were.
    assert [result.value for result in results["number"]] == [[number] for number in range(COUNT)]
    annotated, plain = nf.open(tmp_path / "annotated.mkv"), nf.open(tmp_path / "plain.mp4")
    assert len(annotated) == len(plain) == COUNT
    assert annotated.fps == plain.fps == RATE
    assert [read_number(255 - annotated[index][:-8]) for index in (0, 31, 59)] != [None] * 3
    assert annotated[5][-6:].max() < 40
    assert [read_number(frame) for frame in plain] == list(range(COUNT))


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "gray"])
def test_a_recording_has_the_colours_of_the_source(tmp_path, pixel_format):
    red = np.zeros((10, 48, 64, 3), np.uint8)
    red[..., 0] = 200
    pipeline = Pipeline(Source(red, pixel_format=pixel_format)).record(tmp_path / "red.mp4")
    pipeline.run()
    expected = [60, 60, 60] if pixel_format == "gray" else [200, 0, 0]
    recorded = nf.open(tmp_path / "red.mp4")[-1].astype(int)
    assert np.abs(recorded - expected).max() < 12


def test_results_are_found_written_and_joined(clip, tmp_path):
    pipeline = (
        Pipeline(clip).add("each", see).add("mean", lambda frames: np.float32(frames[0].mean()), Window(every=10))
    )
    results = pipeline.run()
    assert set(results.at(20)) == {"each", "mean"}
    assert results.at(21)["each"].value == [21]
    assert results.at(1000) == {}
    for frame, found in results.join(clip):
        assert found["each"].value == [read_number(frame.image)]
        assert ("mean" in found) == (frame.index % 10 == 0)
    results.to_jsonl(tmp_path / "results.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(lines) == COUNT + 6 == len(results.to_dicts())
    assert lines[5]["value"] == [5]
    assert repr(results) == "<Results: each 60, mean 6>"


def test_what_a_pipeline_refuses(clip):
    for make, words in (
        (lambda: Pipeline(clip, mode="fast"), "mode"),
        (lambda: Pipeline(clip, buffer=0), "buffer"),
        (lambda: Pipeline([clip, clip]), "two sources"),
        (lambda: Pipeline(clip).add("x", 3), "not callable"),
        (lambda: Pipeline(clip).add("x", see).add("x", see), "two algorithms"),
        (lambda: Pipeline(clip).add("x", see, source="cam"), "no source 'cam'"),
        (lambda: Pipeline(clip).add("x", see, batch=0), "batch"),
        (lambda: Pipeline(clip).add("x", see, worker="gpu"), "worker"),
        (lambda: Pipeline(clip).record("a.mkv", source="cam"), "cam"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    pipeline = Pipeline(clip).add("x", see)
    pipeline.run()
    with pytest.raises(StreamError, match="too late"):
        pipeline.add("y", see)
    with pytest.raises(StreamError, match="too late"):
        pipeline.run()
