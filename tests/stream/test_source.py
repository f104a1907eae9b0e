"""Source: what it refuses, whether it is live, and that no password or token is shown."""

from __future__ import annotations

import functools
import re
from collections import deque

import numpy as np
import pytest

from ndframes.errors import StreamError
from ndframes.stream import Pipeline, Source, Window

VIDEO = np.zeros((5, 8, 8, 3), np.uint8)
SECRET = "rtsp://me:secret-1@127.0.0.1:1/x?token=secret-2"


def see(frames) -> float:
    return float(frames[-1].mean())


@pytest.mark.parametrize("mode", ["offline", "realtime"])
@pytest.mark.parametrize("uri", [SECRET, SECRET.replace("rtsp:", "ftp:"), SECRET.replace("rtsp:", "http:")])
def test_no_secret_of_a_url_is_shown(mode, uri, tmp_path):
    source = Source(uri, options={"user_agent": "secret-3"})
    pipeline = Pipeline(source, mode=mode).add("see", see).log(tmp_path / "log.jsonl")
    events = []
    pipeline.on_event(lambda name, event: events.append((name, event)))
    with pytest.raises(StreamError, match=r"(does not open|not supported)") as found:
        pipeline.run()
    shown = [source, pipeline, pipeline.sources, pipeline.stats, events, (tmp_path / "log.jsonl").read_text()]
    assert "secret" not in f"{found.value} {shown}"
    assert pipeline.sources[0].name == f"{uri[: uri.index(':')]}://me:***@127.0.0.1:1/x?***"
    assert pipeline.sources[0].uri == uri


def test_the_representation_has_what_is_not_the_default():
    assert repr(Source("walk.mp4", fps=5, name="walk")) == "Source('walk.mp4', fps=5, name='walk')"


@pytest.mark.parametrize(
    ("uri", "is_live"),
    [
        ("RTSP://camera/1", True),
        ("0", True),
        (0, True),
        ("session.sdp", True),
        ("lavfi:testsrc2,realtime", True),
        ("lavfi:testsrc2,drawtext=text=realtime", False),
        ("walk.mp4", False),
        ("file:///walk.mp4", False),
        ("ftp://host/x", False),
        (VIDEO, False),
    ],
)
def test_is_live(uri, is_live):
    assert Source(uri).is_live is is_live


@pytest.mark.parametrize(
    "option",
    [
        {"shape": (0, 4)},
        {"shape": "ab"},
        {"shape": 5},
        {"shape": (4,)},
        {"shape": (4.5, 4)},
        {"shape": (True, 4)},
        {"name": 5},
        {"live": "no"},
        {"options": 5},
        {"options": {"headers": ["a"]}},
        {"reconnect": 5},
    ],
)
def test_options_that_are_refused(option):
    (name,) = option
    with pytest.raises(StreamError, match=rf"Source\({name}=.*; give "):
        Source(VIDEO, **option)


@pytest.mark.parametrize("dtype", ["U3", "O", "M8[s]"])
@pytest.mark.parametrize("mode", ["offline", "realtime"])
def test_arrays_that_are_no_pictures(dtype, mode):
    with pytest.raises(StreamError, match="cam: an array of .*; give one of whole or floating-point numbers"):
        Pipeline({"cam": np.zeros((2, 8, 8), dtype)}, mode=mode).add("see", see).run()
    with pytest.raises(StreamError, match=re.escape("an array of shape (2, 0, 8)")):
        Pipeline({"cam": np.zeros((2, 0, 8), np.uint8)}, mode=mode).add("see", see).run()


@pytest.mark.parametrize(
    "option", [{"window": 5}, {"timeout": 0}, {"timeout": "x"}, {"timeout": float("nan")}, {"source": 5}]
)
def test_options_of_an_algorithm_that_are_refused(option):
    (name,) = option
    with pytest.raises(StreamError, match=rf"algorithm see: {name}=.*; give "):
        Pipeline(VIDEO).add("see", see, **{"worker": "thread", **option})
    assert Pipeline(VIDEO).add("see", see, Window(), worker="thread", timeout=60).run()["see"]


@pytest.mark.parametrize("register", ["on_frame", "on_result", "on_event"])
def test_what_is_not_callable_is_refused(register):
    with pytest.raises(StreamError, match=rf"{register}\(5\); give a function"):
        getattr(Pipeline(VIDEO), register)(5)


def test_functions_of_frames_get_results_only_in_place_of_a_second_value():
    def draw(frame, *, value=7) -> None:
        frame.image[:] = value

    def draw_results(frame, results, scale=1) -> None:
        frame.image[:] += len(results)

    newest: deque = deque(maxlen=1)
    pipeline = Pipeline(VIDEO).add("see", see)
    for function in (draw, functools.partial(draw, value=9), draw_results, newest.append):
        pipeline.on_frame(function)
    pipeline.run()
    assert newest[0].image.max() == 10
