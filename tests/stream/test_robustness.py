"""What is left open or behind, results that are read during a run, canvases that are used again, and logs that are damaged."""

from __future__ import annotations

import json
import os
import threading

import numpy as np
import pytest
from kit.ahead import descriptors

import ndframes as nf
from ndframes.errors import StreamError
from ndframes.stream import Pipeline, Source, Window

VIDEO = np.arange(0, 250, 5, np.uint8).reshape(-1, 1, 1, 1).repeat(48, 1).repeat(64, 2).repeat(3, 3)
REALTIME = "lavfi:testsrc2=size=640x480:rate=100,realtime"


def see(frames) -> float:
    return float(frames[-1].mean())


def test_a_source_that_fails_closes_the_others(tmp_path):
    nf.write_video(tmp_path / "a.mp4", VIDEO, fps=25)
    sources = {"a": tmp_path / "a.mp4", "b": tmp_path / "missing.mp4"}
    Pipeline(tmp_path / "a.mp4").add("see", see).run()
    before = descriptors()
    pipeline = Pipeline(sources).add("see", see)
    with pytest.raises(StreamError, match="missing.mp4 does not exist") as found:
        pipeline.run()
    # While the error, whose traceback knows everything, is still there.
    assert descriptors() == before
    assert found.value is pipeline.error


def memory_names() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("psm_")}


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="shared memory has no names that can be listed here")
@pytest.mark.parametrize("event", ["opening", "reading"])
def test_a_pipeline_that_is_stopped_at_once_leaves_no_memory(event):
    made: set[str] = set()
    before = memory_names()
    for _ in range(4):
        pipeline = Pipeline(Source(REALTIME, name="cam"), mode="realtime").add("see", see)
        reached = threading.Event()
        pipeline.on_event(lambda _, found, reached=reached: reached.set() if found.state == event else None)
        pipeline.start()
        assert reached.wait(60)
        pipeline.stop(60)
        made |= memory_names() - before
    # Other processes may have made some meanwhile, and do remove them.
    assert not {name for name in made if name in memory_names() and os.stat(f"/dev/shm/{name}").st_size == 921_600}


def test_a_pipeline_that_has_stopped_holds_no_memory():
    pipeline = Pipeline(Source(REALTIME, name="cam"), mode="realtime").add("see", see)
    seen = threading.Event()
    pipeline.on_result(lambda result: seen.set())
    pipeline.start()
    assert seen.wait(60)
    assert pipeline.stop(60)
    assert not [each for each in descriptors() if "/dev/shm/" in each]


def test_results_are_read_while_others_are_added():
    pipeline = Pipeline({"cam": np.zeros((20_000, 2, 2), np.uint8)}).add("see", see).start()
    index = 0
    while not pipeline.wait(0):
        pipeline.results.at(index)
        index += 1
    assert pipeline.results.at(19_999)["see"].value == 0


def test_a_canvas_that_is_used_again_is_recorded_as_it_was(tmp_path):
    canvas = np.zeros((48, 64, 3), np.uint8)
    pipeline = Pipeline(VIDEO).record(tmp_path / "drawn.mp4")

    @pipeline.on_frame
    def draw(frame):
        canvas[:] = frame.image
        return canvas

    pipeline.run()
    means = [float(frame.mean()) for frame in nf.open(tmp_path / "drawn.mp4")]
    assert np.allclose(means, VIDEO[:, 0, 0, 0], atol=3)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "run.jsonl"
    Pipeline({"cam": VIDEO}).add("see", see, Window(every=10)).log(path).run()
    return path


def change(path, number: int, **changes) -> None:
    lines = path.read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **changes})
    path.write_text("\n".join(lines) + "\n")


def replay(path):
    return Pipeline.replay(path, {"cam": VIDEO}).add("see", see).run()["see"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 2}, "a log of version 2; this ndframes reads versions to 1"),
        ({"algorithms": [1]}, "is not a log of a pipeline"),
        ({"sources": 5}, "is not a log of a pipeline"),
    ],
)
def test_a_log_with_a_wrong_begin(log, changes, why):
    change(log, 0, **changes)
    with pytest.raises(StreamError, match=why):
        replay(log)


@pytest.mark.parametrize(
    "changes",
    [
        {"took": "other"},
        {"windows": []},
        {"windows": [{"source": "other", "frames": [[0, 0, 0.0, None, "file"]]}]},
        {"windows": [{"source": "cam", "frames": []}]},
        {"windows": [{"source": "cam", "frames": [[[], 0, 0.0, None, "file"]]}]},
        {"windows": [{"source": "cam", "frames": [[0, 0, "late", None, "file"]]}]},
        {"windows": [{"source": "cam", "frames": [[0, 0, 0.0, None, "file"]]}] * 2},
    ],
)
def test_a_log_with_a_damaged_line(log, changes):
    number = next(number for number, line in enumerate(log.read_text().splitlines()) if '"took"' in line)
    change(log, number, **changes)
    with pytest.raises(StreamError, match=f"line {number + 1}: the log is damaged"):
        replay(log)


def test_a_replay_that_is_stopped_has_not_failed(log):
    pipeline = Pipeline.replay(log, {"cam": VIDEO}).add("see", see)
    pipeline.on_frame(lambda frame: pipeline.stop() if frame.index == 15 else None)
    assert [result.index for result in pipeline.run()["see"]] == [0, 10]
    assert pipeline.state == "stopped"
