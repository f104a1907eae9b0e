"""The end of a pipeline: stop() in any state, functions that fail at the end, and values that cannot be passed on."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time

import numpy as np
import pytest
from kit.ahead import all_children
from kit.waiting import wait_until

from ndframes.errors import AlgorithmError, StreamError
from ndframes.stream import JsonLines, Pipeline

VIDEO = np.zeros((200, 8, 8, 3), np.uint8)
#: What an algorithm that hangs waits for in this process; the test lets it go on at its end.
LET_GO = threading.Event()
HANG_SECONDS = 300


def see(frames) -> float:
    return float(frames[-1].mean())


class HangsInSetup:
    def setup(self) -> None:
        LET_GO.wait(HANG_SECONDS)

    def __call__(self, frames) -> int:
        return 1


class HangsInCall:
    def __call__(self, frames) -> int:
        LET_GO.wait(HANG_SECONDS)
        return 1


class HangsInClose:
    def __call__(self, frames) -> int:
        return 1

    def close(self) -> None:
        LET_GO.wait(HANG_SECONDS)


class FailsInClose:
    def __call__(self, frames) -> int:
        return 1

    def close(self) -> None:
        raise RuntimeError("no close")


@pytest.fixture
def hanging():
    LET_GO.clear()
    yield
    LET_GO.set()


@pytest.mark.parametrize("mode", ["offline", "realtime"])
@pytest.mark.parametrize("worker", ["inline", "thread", "process"])
@pytest.mark.parametrize("algorithm", [HangsInSetup, HangsInCall, HangsInClose])
def test_stop_keeps_its_limit_and_leaves_no_process(hanging, mode, worker, algorithm):
    others = all_children()  # such as the fork server of other tests
    pipeline = Pipeline({"cam": VIDEO}, mode=mode)
    pipeline.add("hangs", algorithm, worker=worker).add("other", see, worker="process").start()
    if algorithm is HangsInCall:
        wait_until(lambda: pipeline.stats["algorithms"]["hangs"]["pending"])
    elif algorithm is HangsInClose:
        wait_until(lambda: pipeline.stats["algorithms"]["hangs"]["processed"])
    begin = time.monotonic()
    has_ended = pipeline.stop(2)
    # Far above the limit, since this machine may be busy.
    assert time.monotonic() - begin < 60
    if worker == "process":
        wait_until(lambda: pipeline.stop(2))
        assert pipeline.state == "stopped"
    else:
        assert not has_ended
    for counts in pipeline.stats["algorithms"].values():
        assert counts["scheduled"] == counts["processed"] + sum(counts["dropped"].values()) + counts["pending"]
    LET_GO.set()
    pipeline.wait()
    wait_until(lambda: all_children() <= others)


@pytest.mark.parametrize("worker", ["inline", "thread", "process"])
def test_a_close_that_fails_keeps_no_other_worker_running(worker):
    others = all_children()
    pipeline = Pipeline(VIDEO[:3]).add("bad", FailsInClose, worker=worker).add("other", see, worker="process")
    with pytest.raises(AlgorithmError, match="algorithm bad: close failed: RuntimeError: no close"):
        pipeline.run()
    assert all_children() <= others


@pytest.mark.parametrize("mode", ["offline", "realtime"])
def test_a_function_of_the_pipeline_stops_it(mode):
    pipeline = Pipeline({"cam": VIDEO}, mode=mode).add("see", see)
    seen, events = [], []

    @pipeline.on_result
    def stop(result) -> None:
        if result.index >= 3 and not seen:
            begin = time.monotonic()
            pipeline.stop(30)
            seen.append(time.monotonic() - begin)

    pipeline.on_event(lambda source, event: events.append((source, event.state, event.why)))
    pipeline.run()
    # It does not wait for its own end, which would take the whole limit.
    assert seen[0] < 15
    assert pipeline.state == "stopped"
    assert pipeline.stats["sources"]["cam"]["state"] == "ended"
    assert events[-1] == ("cam", "ended", "stopped")


def test_a_function_of_the_pipeline_cannot_wait_for_its_end():
    pipeline = Pipeline(VIDEO).add("see", see)
    pipeline.on_result(lambda result: pipeline.wait())
    with pytest.raises(StreamError, match="cannot wait for its end; call stop"):
        pipeline.run()


class Sink:
    def __init__(self, stats=None, error: BaseException | None = None) -> None:
        self._stats, self._error = stats, error

    @property
    def stats(self):
        if isinstance(self._stats, Exception):
            raise self._stats
        return self._stats

    def __call__(self, result) -> None:
        pass

    def close(self) -> None:
        if self._error is not None:
            raise self._error


def test_the_log_takes_any_statistics_of_a_sink(tmp_path):
    pipeline = Pipeline(VIDEO[:2]).add("see", see).log(tmp_path / "log.jsonl")
    pipeline.on_result(Sink({"seen": {1}, "mean": np.float32(0.5)}))
    pipeline.run()
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["ended"]["sinks"] == {"Sink": {"seen": "{1}", "mean": 0.5}}


@pytest.mark.parametrize("sink", [Sink(ValueError("no stats")), Sink(error=SystemExit(3))])
def test_what_a_sink_raises_at_the_end_ends_the_pipeline(sink, tmp_path):
    pipeline = Pipeline(VIDEO[:2]).add("see", see).log(tmp_path / "log.jsonl")
    pipeline.on_result(sink)
    pipeline.on_result(JsonLines(tmp_path / "results.jsonl"))
    pipeline.start()
    with pytest.raises((ValueError, SystemExit), match="no stats|3"):
        # The end is not missed: it was, and this waited for ever.
        assert pipeline.wait(60)
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2


def leave(frames):
    sys.exit("enough")


class Refusing:
    def __init__(self, how: str = "load") -> None:
        self._how = how

    def __reduce__(self):
        if self._how == "load":
            return (_refuse, ())
        raise OSError("not to be pickled")


def _refuse():
    raise FileNotFoundError("not to be unpickled")


def return_what_does_not_pickle(frames):
    return Refusing("dump")


def return_what_does_not_unpickle(frames):
    return Refusing()


@pytest.mark.parametrize("worker", ["inline", "thread", "process"])
def test_an_algorithm_that_exits_fails_its_window(worker):
    found = Pipeline(VIDEO[:3], errors="skip").add("leave", leave, worker=worker).run()["leave"]
    assert [result.error for result in found] == ["SystemExit: enough"] * 3


@pytest.mark.parametrize("how", ["pickled", "unpickled"])
def test_values_that_cannot_be_passed_on_fail_their_windows(how):
    algorithm = {"pickled": return_what_does_not_pickle, "unpickled": return_what_does_not_unpickle}[how]
    pipeline = Pipeline(VIDEO[:5], errors="skip").add("bad", algorithm, worker="process")
    found = pipeline.run()["bad"]
    assert len(found) == 5
    assert all(f"to be {how}" in result.error and f"cannot be {how}" in result.error for result in found)


def test_a_batch_without_an_end_fails():
    pipeline = Pipeline(VIDEO[:4], errors="skip").add("endless", lambda windows: itertools.count(), batch=2)
    found = pipeline.run()["endless"]
    assert [result.error for result in found] == ["it returned more values for a batch of 2 windows"] * 4
