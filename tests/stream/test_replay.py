"""Logs of runs, and replays: the windows that a live run took, offline, in its order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit.numbered import RATE, draw, read_number, write_clip
from kit.stream_servers import Server, find_port, find_source
from kit.waiting import wait_until
from test_pipeline import check_ledgers

import ndframes as nf
from ndframes.errors import AlgorithmError, OutputError, StreamError
from ndframes.stream import Pipeline, Source, Window
from ndframes.stream.log import RunLog

COUNT = 50


def see(frames) -> list[int | None]:
    return [read_number(frame) for frame in frames]


def see_slowly(frames) -> list[tuple[int | None, int, float, int]]:
    time.sleep(0.15)
    return [(read_number(frame.image), frame.index, frame.time, frame.epoch) for frame in frames]


def see_batch(windows) -> list[list[int | None]]:
    time.sleep(0.1)
    return [see(window) for window in windows]


class Remembering:
    """The numbers that it has seen so far: equal only if the order is."""

    def setup(self) -> None:
        self.seen = 0

    def __call__(self, windows) -> list[int]:
        values = []
        for (frame,) in windows:
            self.seen = (31 * self.seen + read_number(frame)) % 1_000_003
            values.append(self.seen)
        return values


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("clips")
    return {name: str(write_clip(folder / f"{name}.mp4", COUNT, first=first)) for name, first in (("a", 0), ("b", 200))}


def described(results) -> dict[str, list]:
    """Everything of results but their latency, in the order in which they came."""
    return {
        name: [(r.source, r.index, r.time, r.epoch, r.frames, r.captured, r.clock, r.value, r.error) for r in each]
        for name, each in results.items()
    }


@pytest.mark.parametrize("worker", ["inline", "thread", "process"])
def test_a_replay_has_the_windows_values_and_order_of_the_live_run(clips, tmp_path, worker):
    path = tmp_path / "run.jsonl"
    live = Pipeline(clips, mode="realtime").log(path)
    live.add("slow", see_slowly, Window(count=2, step=3), worker="thread", with_info=True)
    live.add("batch", see_batch, batch=2, worker="thread", source=["a", "b"])
    live.add("state", Remembering, Window(interval=0.08), batch=2, worker=worker)
    first = described(live.run())
    dropped = [sum(each["dropped"].values()) for each in live.stats["algorithms"].values()]
    assert dropped[0] > 0
    again = Pipeline.replay(path, clips)
    again.add("slow", see_slowly, with_info=True, worker="thread")
    again.add("state", Remembering, batch=2, worker=worker)
    again.add("batch", see_batch, batch=2)
    assert described(again.run()) == {name: first[name] for name in ("slow", "state", "batch")}
    check_ledgers(again)
    counts = again.stats["algorithms"]
    assert counts["slow"]["scheduled"] == counts["slow"]["processed"] == len(first["slow"])


def test_a_camera_is_replayed_from_its_recording(tmp_path):
    """It is killed and comes back in between, so the run has two epochs."""
    path, video = tmp_path / "run.jsonl", tmp_path / "cam.mp4"
    port = find_port()
    with Server("http_ts", port) as server:
        uri, options = find_source("http_ts", port)
        source = Source(uri, name="cam", options=options, reconnect=nf.stream.Backoff(0.1, 0.5))
        live = Pipeline(source, mode="realtime").log(path).record(video, annotated=False, fps=RATE)
        live.add("numbers", see_slowly, Window(count=2, step=2), worker="thread", with_info=True)
        live.start()
        wait_until(lambda: len(live.results["numbers"]) > 4, 60)
        server.kill()
    with Server("http_ts", port, first=500):
        wait_until(lambda: any(each.epoch == 1 for each in live.results["numbers"]), 60)
        assert live.stop(30)
    first = described(live.results)
    assert {each.epoch for each in live.results["numbers"]} == {0, 1}
    for result in live.results["numbers"]:
        first_number, second_number = (number for number, *_ in result.value)
        # A busy machine loses frames in between.
        assert second_number >= first_number + 2
        assert (first_number >= 500) == (second_number >= 500), "no window spans two connections"
    again = Pipeline.replay(path, Source(str(video), name="cam"))
    again.add("numbers", see_slowly, with_info=True)
    assert described(again.run()) == first
    # In another place it is still the recording, if that is said.
    moved = video.rename(tmp_path / "moved.mp4")
    again = Pipeline.replay(path, {"cam": moved}, recorded=["cam"]).add("numbers", see_slowly, with_info=True)
    assert described(again.run()) == first


def test_frames_that_a_recording_lacks_are_counted(clips, tmp_path):
    """The process of the pipeline is too busy for a while, so that frames come without an image."""
    path, video = tmp_path / "run.jsonl", tmp_path / "a.mkv"
    live = Pipeline({"a": clips["a"]}, mode="realtime").log(path).record(video, annotated=False)
    live.add("numbers", see)

    @live.on_frame
    def be_busy(frame) -> None:
        if frame.index in (5, 20):
            time.sleep(0.6)

    first = described(live.run())
    missed = RunLog.read(path).missed["a"]
    assert missed
    assert len(nf.open(str(video))) == COUNT - len(missed)
    again = Pipeline.replay(path, {"a": video}).add("numbers", see)
    assert described(again.run()) == first


def test_the_log_tells_each_step(clips, tmp_path):
    path = tmp_path / "run.jsonl"
    live = (
        Pipeline({"a": clips["a"]}, mode="realtime").log(path).add("slow", see_slowly, with_info=True, worker="thread")
    )
    live.run()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    counts = live.stats["algorithms"]["slow"]
    assert sum("took" in line for line in lines) == counts["processed"]
    for reason, number in counts["dropped"].items():
        assert sum(line.get("reason") == reason for line in lines if "dropped" in line) == number
    indices = [line["frames"][-1] for line in lines if "dropped" in line]
    indices += [line["windows"][0]["frames"][-1][0] for line in lines if "took" in line]
    assert sorted(indices) == list(range(COUNT)), "each scheduled window is in the log, once"
    assert lines[-1]["ended"]["algorithms"]["slow"]["scheduled"] == COUNT
    assert [line["event"] for line in lines if "event" in line][-1] == "ended"


DYING = """
import os, sys
from kit.numbered import read_number
from ndframes.stream import Pipeline
def see(frames):
    if read_number(frames[-1]) == 23:
        os.kill(os.getpid(), 9)
    return read_number(frames[-1])
Pipeline({"a": sys.argv[1]}).log(sys.argv[2]).add("x", see, worker="thread").run()
"""


def test_the_log_of_a_process_that_dies_names_the_window(clips, tmp_path):
    path = tmp_path / "run.jsonl"
    tests = str(Path(__file__).parents[1])
    script = f"import sys; sys.path.insert(0, {tests!r})\n{DYING}"
    done = subprocess.run([sys.executable, "-c", script, clips["a"], path], check=False, timeout=120)
    assert done.returncode == -9
    with open(path, "a") as file:
        file.write('{"took": "x", "wind')  # as if it had died in the middle of a line
    batches = RunLog.read(path).batches
    assert 23 in [batch.windows[0].frames[-1].index for batch in batches][-7:], "a few wait for it"
    results = Pipeline.replay(path, clips).add("x", see).run()["x"]
    assert [result.value for result in results] == [[number] for number in range(len(batches))]


def die_at_seven(frames) -> int:
    number = read_number(frames[-1])
    if number == 7:
        os.kill(os.getpid(), 9)
    return number


def hang_at_seven(frames) -> int:
    number = read_number(frames[-1])
    if number == 7:
        time.sleep(60)
    return number


def die(frames) -> None:
    os._exit(3)


@pytest.mark.parametrize(
    ("algorithm", "why"), [(die_at_seven, "was killed by signal 9"), (hang_at_seven, "longer than its limit of 2 s")]
)
def test_a_worker_process_that_dies_or_hangs_fails_one_window_and_is_started_again(clips, algorithm, why):
    pipeline = Pipeline(clips["a"], errors="skip").add("x", algorithm, worker="process", timeout=2)
    results = pipeline.run()["x"]
    assert [result.value for result in results] == [*range(7), None, *range(8, COUNT)]
    assert why in results[7].error
    check_ledgers(pipeline)


def test_a_worker_process_that_always_dies_ends_the_run(clips):
    pipeline = Pipeline(clips["a"], errors="skip").add("x", die, worker="process")
    with pytest.raises(AlgorithmError, match="ended with exit status 3; it has died 3 times in a row"):
        pipeline.run()


class Closing:
    def __call__(self, frames) -> int:
        return 1

    def close(self) -> None:
        raise ValueError("cannot close")


@pytest.mark.parametrize("worker", ["inline", "thread", "process"])
def test_an_error_in_close_is_reported(clips, worker):
    pipeline = Pipeline(clips["a"]).add("x", Closing, worker=worker)
    with pytest.raises(AlgorithmError, match="algorithm x: close failed: ValueError: cannot close"):
        pipeline.run()
    assert len(pipeline.results["x"]) == COUNT


def test_bad_logs_and_sources(clips, tmp_path):
    path = tmp_path / "run.jsonl"
    with pytest.raises(OutputError, match="no such folder|No such file"):
        Pipeline(clips).log(tmp_path / "none" / "run.jsonl")
    Pipeline(clips).log(path).add("x", see, Window(every=5)).run()
    with pytest.raises(StreamError, match="the run had the source b; there is a"):
        Pipeline.replay(path, {"a": clips["a"]})
    replay = Pipeline.replay(path, clips)
    with pytest.raises(StreamError, match="has no algorithm 'y'; it has 'x'"):
        replay.add("y", see)
    with pytest.raises(StreamError, match="algorithm x had Window"):
        replay.add("x", see, Window(every=4))
    with pytest.raises(StreamError, match="had batch=1, not 2"):
        replay.add("x", see_batch, batch=2)
    short = str(write_clip(tmp_path / "short.mp4", 12))
    with pytest.raises(StreamError, match="source a ends before frame 15"):
        Pipeline.replay(path, {**clips, "a": short}).add("x", see).run()
    with pytest.raises(StreamError, match="cannot be read"):
        Pipeline.replay(tmp_path / "missing.jsonl", clips)
    for text in ("", "{}\n", "no json\n", '{"format": "other"}\n', "[1]\n"):
        path.write_text(text)
        with pytest.raises(StreamError, match="is not a log of a pipeline"):
            Pipeline.replay(path, clips)
    with pytest.raises(StreamError, match="timeout=3 needs worker='thread' or 'process'"):
        Pipeline(clips).add("x", see, timeout=3)


def test_a_damaged_line_is_named(clips, tmp_path):
    path = tmp_path / "run.jsonl"
    Pipeline(clips).log(path).add("x", see, Window(every=5)).run()
    lines = path.read_text().splitlines(keepends=True)
    for damage in ('{"took": "x"}\n', "{\n", '{"took": "x", "windows": [{"source": "a", "frames": [[1]]}]}\n'):
        path.write_text("".join([*lines[:3], damage, *lines[3:]]))
        with pytest.raises(StreamError, match=r"run\.jsonl, line 4: the log is damaged"):
            Pipeline.replay(path, clips)


def test_a_recording_with_drawings_is_refused(clips, tmp_path):
    path, video = tmp_path / "run.jsonl", tmp_path / "drawn.mp4"
    pipeline = Pipeline({"a": clips["a"]}).log(path).record(video).add("x", see)
    pipeline.on_frame(lambda frame: draw(1))
    pipeline.run()
    with pytest.raises(StreamError, match="recorded with the drawings of on_frame"):
        Pipeline.replay(path, {"a": video})
