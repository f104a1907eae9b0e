"""Stream Infer's interface over ours: its parts, offline runs, and both spellings where its versions differ."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from kit.numbered import RATE, draw, read_number, write_clip

import ndframes as nf
from ndframes.compat import stream_infer
from ndframes.compat.stream_infer import (
    BaseAlgo,
    DevelopDispatcher,
    Dispatcher,
    DispatcherManager,
    Inference,
    OpenCVProducer,
    Player,
    PyAVProducer,
    Recorder,
)
from ndframes.compat.stream_infer.log import logger
from ndframes.compat.stream_infer.model import Mode
from ndframes.compat.stream_infer.util import position2time, trans_position2time
from ndframes.errors import AlgorithmError, NdframesError, StreamError, StreamOpenError, UnsupportedError

COUNT = 60
PRODUCERS = {"opencv": OpenCVProducer, "pyav": PyAVProducer}


class Numbers(BaseAlgo):
    """The numbers that frames show."""

    def init(self, offset=0):
        self.offset = offset

    def run(self, frames):
        return [read_number(frame) + self.offset for frame in frames]


class Failing(BaseAlgo):
    def init(self):
        pass

    def run(self, frames):
        raise ZeroDivisionError("no boxes")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", COUNT))


def make(clip, *, buffer=30, kind=DevelopDispatcher, producer=None, source="source"):
    dispatcher = kind.create(mode="offline", buffer=buffer)
    player = Player(dispatcher, producer or OpenCVProducer(), show_progress=False, **{source: clip})
    return dispatcher, player, Inference(dispatcher, player)


def model(fps, count, step, interval, played):
    """What Stream Infer does, frame by frame: the numbers of the frames of each window, by the last of them."""
    buffered, found = [], {}
    for place, number in enumerate(played):
        buffered.append(number)
        if (place + 1) % max(1, int(interval * fps)):
            continue
        if step == 0:
            found[number] = buffered[-count:]
        elif len(buffered) >= count * step:
            found[number] = buffered[::-1][::step][:count][::-1]
    return found


# -- algorithms and dispatchers ---------------------------------------------------------------------------------------


def test_an_algorithm_has_a_name_and_must_define_init_and_run():
    assert (Numbers().name, Numbers("head").name) == ("Numbers", "head")
    with pytest.raises(NotImplementedError, match="BaseAlgo does not define init"):
        BaseAlgo().init()
    with pytest.raises(NotImplementedError, match="BaseAlgo does not define run"):
        BaseAlgo().run([])


@pytest.mark.parametrize(
    ("dispatcher", "mode", "buffer"),
    [
        (Dispatcher, None, 120),
        (lambda: Dispatcher(15), None, 15),
        (lambda: Dispatcher(max_size=15), None, 15),
        (lambda: Dispatcher(buffer=15), None, 15),
        (lambda: Dispatcher("offline", 15, "INFO"), Mode.OFFLINE, 15),
        (lambda: Dispatcher(Mode.OFFLINE, buffer=15, host="for a subclass"), Mode.OFFLINE, 15),
        (Dispatcher.create, Mode.REALTIME, 30),
        (lambda: Dispatcher.create(mode="offline", buffer=15), Mode.OFFLINE, 15),
        (lambda: Dispatcher.create("offline", 15, "DEBUG"), Mode.OFFLINE, 15),
        (lambda: Dispatcher.create(offline=True, max_size=15), Mode.OFFLINE, 15),
        (lambda: Dispatcher.create(max_size=15), Mode.REALTIME, 15),
        (lambda: DispatcherManager(Dispatcher).create(max_size=15), Mode.REALTIME, 15),
        (lambda: DispatcherManager().create(15), Mode.REALTIME, 15),
        (lambda: DispatcherManager().create(Mode.REALTIME, 15, "INFO"), Mode.REALTIME, 15),
        (lambda: DispatcherManager().create(), Mode.REALTIME, 120),
    ],
)
def test_a_dispatcher_is_made_in_the_spelling_of_any_version(dispatcher, mode, buffer):
    made = dispatcher()
    assert (made.get_mode(), made.get_buffer_size()) == (mode, buffer)


def test_a_subclass_gets_the_arguments_that_its_constructor_has():
    class ByBuffer(Dispatcher):
        def __init__(self, buffer: int, host: str = "localhost", port: int = 6379):
            super().__init__(buffer)
            self.place = f"{host}:{port}"

    class BySize(Dispatcher):
        def __init__(self, max_size: int = 120):
            super().__init__(max_size)

    class ByMode(Dispatcher):
        def __init__(self, mode, buffer, logging_level="INFO", **kwargs):
            super().__init__(mode, buffer, logging_level, **kwargs)
            self.others = kwargs

    class ByName(Dispatcher):
        def __init__(self, frames, host="here"):
            super().__init__(frames)
            self.host = host

    class ByAll(Dispatcher):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    class ByNothing(Dispatcher):
        def __init__(self, host="here"):
            super().__init__(5)
            self.host = host

    assert ByBuffer.create(buffer=15, port=1).place == "localhost:1"
    assert ByName.create(buffer=15, host="there").host == "there"
    assert ByMode.create(buffer=15, extra=1).others == {"extra": 1}
    assert ByNothing.create().host == "here"
    for kind in (ByBuffer, BySize, ByMode, ByName, ByAll):
        made = kind.create(mode="offline", buffer=15)
        assert (made.get_mode(), made.get_buffer_size()) == (Mode.OFFLINE, 15), kind
        assert DispatcherManager(kind).create(max_size=16).get_buffer_size() == 16, kind
    manager = DispatcherManager(ByBuffer)
    assert manager.create(max_size=3) is manager.create()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: Dispatcher(0), "buffer=0; give a whole number"),
        (lambda: Dispatcher.create(buffer="many"), "buffer='many'"),
        (lambda: Dispatcher.create(mode="fast"), "mode='fast'; allowed: 'offline', 'realtime'"),
        (lambda: Dispatcher.create("offline", 3, "INFO", 4), "too many arguments"),
        (lambda: Dispatcher.create(logging_level="LOUD"), "logging_level='LOUD'"),
        (lambda: Dispatcher().get_frames(1, -1), "step=-1"),
        (lambda: Dispatcher().get_frames(0, 1), "count=0"),
        (lambda: OpenCVProducer(10), "width=10, height=None; give both or none"),
        (lambda: OpenCVProducer(10, 0), "height=0"),
        (lambda: PyAVProducer(4, 4, "yuv420p"), "format='yuv420p'; allowed: 'bgr24', 'rgb24', 'gray'"),
        (lambda: Player(Dispatcher(), OpenCVProducer()), "source=None); give a path"),
        (lambda: Player(Dispatcher(), OpenCVProducer(), "nothing.mp4"), "nothing.mp4"),
    ],
)
def test_wrong_values_are_typed_errors(call, match):
    with pytest.raises(NdframesError, match=re.escape(match)):
        call()


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("count", range(1, 5))
def test_the_newest_frame_and_every_nth_before_it(step, count):
    dispatcher = Dispatcher(12)
    for number in range(20):
        dispatcher.add_frame(number)
        kept = list(range(max(0, number - 11), number + 1))
        if step == 0:
            assert dispatcher.get_frames(count, step) == kept[-count:]
        elif len(kept) < count * step:
            assert dispatcher.get_frames(count, step) == []
        else:
            assert dispatcher.get_frames(count, step) == [number - step * k for k in range(count)][::-1]
    assert (dispatcher.get_size(), dispatcher.get_current_frame_index(), dispatcher.get_current_frame()) == (12, 20, 20)


def test_results_by_their_time():
    dispatcher = DevelopDispatcher(1)
    assert dispatcher.get_result("head") is None
    assert dispatcher.get_last_result("head") == (-1, None)
    for position, result in [(0.04, "a"), (0.96, "b"), (1.0, "c"), (10.5, "d")]:
        dispatcher.collect(position, "head", result)
    # The tuple of early versions.
    dispatcher.collect_result((11.0, "head", None))
    dispatcher.collect_result(None)
    found = dispatcher.get_result("head")
    assert found == {"0.04": "a", "0.96": "b", "1.0": "c", "10.5": "d", "11.0": None}
    assert json.loads(json.dumps(found)) == found
    # Programs that know whole seconds alone: the newest one of each.
    assert (found["0"], found["10"], max(int(key) for key in found)) == ("b", "d", 11)
    with pytest.raises(KeyError):
        found["2"]
    assert dispatcher.get_last_result("head", clear=True) == (11.0, None)
    assert dispatcher.get_result("head") is None
    assert [position2time(seconds) for seconds in (0.96, 3725.5)] == ["00:00:00", "01:02:05"]
    assert trans_position2time is position2time


def test_the_state_of_a_dispatcher():
    dispatcher = Dispatcher(3)
    dispatcher.set_current_time(4)
    dispatcher.increase_current_position()
    dispatcher.set_current_frame(7)
    dispatcher.set_fps(25)
    assert (dispatcher.get_current_position(), dispatcher.get_current_frame_index(), dispatcher.get_fps()) == (5, 7, 25)
    dispatcher.collect(1, "a", 2)
    dispatcher.clear()
    assert (dispatcher.get_current_time(), dispatcher.get_current_frame(), dispatcher.collect_results) == (0, 0, {})


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PRODUCERS)
def test_producers_read_exactly(clip, kind):
    frames = list(PRODUCERS[kind](80, 60).read(clip))
    assert [read_number(frame) for frame in frames] == list(range(COUNT))
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((60, 80, 3), "uint8")}
    assert PRODUCERS[kind](80, 60).get_info(clip) == {
        "width": 160, "height": 120, "fps": 25.0, "frame_count": COUNT, "total_seconds": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fps", "position", "expected"),
    [
        (None, 0, range(COUNT)),
        (25, 0, range(COUNT)),
        (30, 0, range(COUNT)),  # not more than there are
        (10, 0, [number for number in range(COUNT) if number * 10 // 25 > (number - 1) * 10 // 25]),
        (5, 1, range(25, COUNT, 5)),
        (25, 1.98, range(50, COUNT)),
        (0.5, 0, [0, 50]),
    ],
)
def test_frames_are_left_out_by_their_time(clip, fps, position, expected):
    assert [read_number(frame) for frame in PyAVProducer().read(clip, fps, position)] == list(expected)


def test_the_order_of_colours(tmp_path):
    red = np.zeros((3, 40, 60, 3), np.uint8)
    red[..., 0] = 250
    first = {
        "opencv": OpenCVProducer(),
        "pyav": PyAVProducer(),
        "rgb": PyAVProducer(format="rgb24"),
        "turned": OpenCVProducer(cvt_code=4),  # cv2.COLOR_BGR2RGB
        "gray": PyAVProducer(format="gray"),
        "gray by OpenCV": OpenCVProducer(cvt_code=6),
    }
    found = {name: next(iter(producer.read(red)))[0, 0].tolist() for name, producer in first.items()}
    bgr, rgb = [0, 0, 250], [250, 0, 0]
    assert found == {
        "opencv": bgr, "pyav": bgr, "rgb": rgb, "turned": rgb, "gray": 75, "gray by OpenCV": 75,
    }  # fmt: skip
    with pytest.raises(StreamError, match="frame 0: cvt_code: OpenCV cannot convert"):
        list(OpenCVProducer(cvt_code=100_000).read(red))


def test_mkv_rounds_times_and_no_frame_is_lost(tmp_path):
    path = str(tmp_path / "ms.mkv")
    nf.write_video(path, (draw(number) for number in range(COUNT)), 30)
    assert [read_number(frame) for frame in OpenCVProducer().read(path, fps=30)] == list(range(COUNT))


def test_a_play_passes_frames_and_their_times_to_the_dispatcher(clip):
    dispatcher, player, _ = make(clip, buffer=3)
    seen = []
    for frame, index in player.play(fps=5, position=1):
        seen.append((read_number(frame), index, dispatcher.get_current_position(), player.get_play_time()))
        frame[:] = 0  # a copy: what the dispatcher keeps is as it was
    assert seen == [(number, number // 5 + 1, number / 25, f"00:00:0{number // 25}") for number in range(25, COUNT, 5)]
    assert [read_number(frame) for frame in dispatcher.get_frames(3, 1)] == [45, 50, 55]
    assert (player.play_fps, dispatcher.get_fps(), player.fps, player.info["frame_count"]) == (5, 5, 25, COUNT)


def test_a_producer_of_the_user(clip):
    class Backwards:
        def get_info(self, source):
            return {"width": 160, "height": 120, "fps": 10, "frame_count": 20, "total_seconds": 2}

        def read(self, source, fps=None, position=0):
            yield from (draw(number) for number in range(19, -1, -1))

    class Negative(OpenCVProducer):
        def read(self, source, fps=None, position=0):
            for frame in super().read(source, fps, position):
                yield 255 - frame

    dispatcher, player, inference = make("anything", producer=Backwards())
    inference.load_algo(Numbers(), 1, 0, 0.5)
    inference.start(fps=10)
    assert dispatcher.get_result("Numbers") == {"0.4": [15], "0.9": [10], "1.4": [5], "1.9": [0]}
    with pytest.raises(UnsupportedError, match="Backwards cannot play in realtime"):
        player.play_async()
    _, player, _ = make(clip, producer=Negative())
    assert next(iter(player.play()))[0].mean() > 100 > draw(0).mean() - 100


# -- offline ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PRODUCERS)
@pytest.mark.parametrize(
    ("fps", "count", "step", "interval"),
    [
        (25, 1, 0, 1),
        (25, 1, 25, 1),
        (30, 1, 0, 0.1),
        (25, 2, 3, 0.4),
        (10, 3, 4, 0.5),
        (5, 4, 0, 0.2),
        (25, 2, 1, 0.01),
    ],
)
def test_windows_are_those_of_the_model(clip, kind, fps, count, step, interval):
    dispatcher, _player, inference = make(clip, buffer=1, producer=PRODUCERS[kind]())
    inference.load_algo(Numbers(), count, step, interval)
    inference.start(fps=fps)
    played = [read_number(frame) for frame in OpenCVProducer().read(clip, fps)]
    expected = model(min(fps, RATE), count, step, interval, played)
    assert expected
    assert dispatcher.get_result("Numbers") == {str(number / RATE): window for number, window in expected.items()}
    results = inference.results["Numbers"]
    assert [(result.time, result.value) for result in results] == [(n / RATE, window) for n, window in expected.items()]
    for result in results:
        assert [played[index] for index in result.frames] == result.value


@hypothesis.given(
    length=st.integers(1, 60),
    fps=st.integers(1, 60),
    count=st.integers(1, 4),
    step=st.integers(0, 6),
    hundredths=st.integers(0, 150),
    buffer=st.integers(1, 40),
)
def test_any_windows_are_those_of_the_model(length, fps, count, step, hundredths, buffer):
    """Of images, 25 a second, whose pixels are their number."""
    images = np.arange(length, dtype=np.uint8).reshape(length, 1, 1, 1).repeat(3, 3)
    dispatcher, _player, inference = make(images, buffer=buffer)

    class Values(Numbers):
        def run(self, frames):
            return [int(frame[0, 0, 0]) for frame in frames]

    inference.load_algo(Values(), count, step, hundredths / 100)
    inference.start(fps=fps)
    # The first one of each interval.
    played = [n for n in range(length) if fps >= 25 or n == 0 or n * fps // 25 > (n - 1) * fps // 25]
    expected = model(min(fps, 25), count, step, Fraction(hundredths, 100), played)
    assert (dispatcher.get_result("Values") or {}) == {str(n / 25): window for n, window in expected.items()}


def test_two_algorithms_keep_all_their_results(clip):
    dispatcher, player, inference = make(clip)
    inference.load_algo(Numbers("each"), 1, 0, 0.04)
    inference.load_algo(Numbers("moved"), frame_count=2, frame_step=2, interval=0.4, offset=1000)
    assert inference.list_algos() == ["each", "moved"]
    for _ in range(2):  # a second run begins anew
        inference.start(player, 25)
        assert list(dispatcher.get_result("each").values()) == [[number] for number in range(COUNT)]
        assert list(dispatcher.get_result("moved").values()) == [[n + 998, n + 1000] for n in range(9, COUNT, 10)]
    joined = [(read_number(frame.image), found) for frame, found in inference.results.join(clip)]
    assert all(found["each"].value == [number] for number, found in joined)
    assert [number for number, found in joined if "moved" in found] == list(range(9, COUNT, 10))


@pytest.mark.parametrize(
    "start",
    [
        lambda inference, player, path: inference.start(player, fps=25, position=1, offline=True, recording_path=path),
        lambda inference, player, path: inference.start(player, 25, 1, "offline", path),
        lambda inference, player, path: inference.start(
            player, fps=25, position=1, mode="offline", recording_path=path
        ),
        lambda inference, player, path: inference.start(player, 25, 1, True, path),
        lambda inference, player, path: inference.start(25, 1, path),
        lambda inference, player, path: inference.start(fps=25, position=1, recording_path=path),
    ],
)
def test_start_in_the_spelling_of_any_version(clip, tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    dispatcher, player, inference = make(clip)
    inference.load_algo(Numbers(), 1, 0, 0.2)
    start(inference, player, "x.mp4")
    assert list(dispatcher.get_result("Numbers").values()) == [[number] for number in range(29, COUNT, 5)]
    assert [read_number(frame) for frame in OpenCVProducer().read("x.mp4")] == list(range(25, COUNT))


def test_an_early_dispatcher_and_player_run_offline(clip):
    dispatcher = DevelopDispatcher()
    player = Player(dispatcher, OpenCVProducer(), path=clip, show_progress=False)
    inference = Inference(dispatcher)
    inference.load_algo(Numbers(), frame_count=1, frame_step=1, interval=1)
    inference.start(player, fps=25)
    assert player.path == clip
    assert dispatcher.get_last_result("Numbers", clear=True) == (49 / 25, [49])


@pytest.mark.parametrize("kind", PRODUCERS)
def test_process_draws_and_the_recording_has_the_rate_of_the_play(clip, tmp_path, kind):
    _dispatcher, player, inference = make(clip, producer=PRODUCERS[kind](80, 60))
    calls = []

    @inference.process
    def draw_result(inference_, *args, **kwargs):
        frame = kwargs["frame"]
        _, numbers = inference_.dispatcher.get_last_result("Numbers", clear=False)
        calls.append((kwargs["current_algo_names"], numbers))
        frame[:] = draw(numbers[0] if numbers else 4000, (60, 80))

    inference.load_algo(Numbers(), 2, 1, 0.5)
    path = tmp_path / "new" / "folder" / "drawn"
    inference.start(player, fps=10, recording_path=str(path))
    drawn = nf.open(f"{path}.mp4")
    played = [read_number(frame) for frame in OpenCVProducer().read(clip, 10)]
    assert (drawn.fps, len(drawn)) == (10, len(played))
    # Windows are of frames as they were before they were drawn into.
    runs = range(4, len(played), 5)
    assert [result.value for result in inference.results["Numbers"]] == [[played[n - 1], played[n]] for n in runs]
    shown = [max((played[run - 1] for run in runs if run <= place), default=4000) for place in range(len(played))]
    assert [read_number(np.asarray(frame)) for frame in drawn] == shown
    assert [place for place, (names, _) in enumerate(calls) if names] == list(runs)
    assert calls[4] == (["Numbers"], [played[3], played[4]])


@pytest.mark.parametrize("kind", [OpenCVProducer(), PyAVProducer(), PyAVProducer(format="rgb24")])
def test_a_recording_has_the_colours_of_the_source(tmp_path, kind):
    red = np.zeros((10, 48, 64, 3), np.uint8)
    red[..., 0] = 200
    _, player, inference = make(red, producer=kind)
    inference.process(lambda inference, frame: frame.copy())
    inference.start(player, recording_path=tmp_path / "red.mp4")
    assert np.abs(nf.open(tmp_path / "red.mp4")[-1].astype(int) - [200, 0, 0]).max() < 12


def test_process_by_its_early_names_and_what_it_returns(clip, tmp_path):
    _, player, inference = make(clip)
    names = []

    def show(inference, frame, last_algo_name):
        names.append(last_algo_name)
        return draw(7)

    inference.load_algo(Numbers(), 1, 0, 1)
    for register in (inference.set_custom_process, inference.set_custom_progress, inference.process):
        assert register(show) is show
    inference.start(player, fps=25, recording_path=tmp_path / "seven")
    assert names == [None] * 24 + ["Numbers"] * (COUNT - 24)
    assert {read_number(frame) for frame in OpenCVProducer().read(tmp_path / "seven.mp4")} == {7}


def test_stop_ends_a_run_and_its_recording_is_complete(clip, tmp_path):
    dispatcher, player, inference = make(clip)
    inference.load_algo(Numbers(), 1, 0, 0.04)

    @inference.process
    def stop_at_ten(inference, **_):
        if inference.dispatcher.get_current_frame_index() == 10:
            inference.stop()

    inference.start(player, recording_path=tmp_path / "ten.mp4")
    assert len(dispatcher.get_result("Numbers")) == len(nf.open(tmp_path / "ten.mp4")) == 10


def test_a_recorder_of_ones_own(clip, tmp_path):
    _, player, _ = make(clip)
    recorder = Recorder(player, tmp_path / "half")
    for frame, _ in player.play(12.5):
        recorder.add_frame(frame)
    recorder.close()
    recorder.close()
    video = nf.open(recorder.recording_path)
    assert (video.fps, [read_number(np.asarray(frame)) for frame in video]) == (12.5, list(range(0, COUNT, 2)))
    Recorder(player, tmp_path / "none").close()
    assert not (tmp_path / "none.mp4").exists()


def test_by_hand(clip):
    dispatcher, player, inference = make(clip)
    inference.load_algo(Numbers(), 1, 0, 1)
    ran = {index: inference.auto_run_specific(player.play_fps, index) for _, index in player.play(25)}
    assert [index for index, names in ran.items() if names] == [25, 50]
    assert inference.run_specific("Numbers")
    assert dispatcher.get_last_result("Numbers") == (59 / 25, [59])
    dispatcher.clear()
    assert not inference.run_specific("Numbers")
    with pytest.raises(StreamError, match="no algorithm 'head'; there is Numbers"):
        inference.run_specific("head")


def test_an_interval_is_that_of_the_numbers_as_they_are_written():
    array = np.zeros((60, 8, 8, 3), np.uint8)
    dispatcher, player, inference = make(array)

    class Index(Numbers):
        def run(self, frames):
            return dispatcher.get_current_frame_index()

    inference.load_algo(Index(), 1, 0, 0.29)
    assert [index for index in range(1, 101) if inference._loaded["Index"].is_due(index, 100)] == [29, 58, 87]
    inference.start(player, fps=25)
    assert list(dispatcher.get_result("Index").values()) == list(range(7, 61, 7))


def test_errors_name_the_algorithm_the_source_and_the_frames(clip, tmp_path):
    _, _player, inference = make(clip)
    with pytest.raises(ValueError, match="is not a BaseAlgo"):
        inference.load_algo(lambda frames: 1, 1, 0, 1)
    for values, match in {
        (0, 0, 1): "frame_count=0",
        (1, -1, 1): "frame_step=-1",
        (1, 1.5, 1): "frame_step=1.5",
        (1, 1, -1): "interval=-1",
        (1, 1, "1"): "interval='1'",
    }.items():
        with pytest.raises(StreamError, match=f"algorithm Numbers: {re.escape(match)}; give"):
            inference.load_algo(Numbers(), *values)
    with pytest.raises(AlgorithmError, match="algorithm Numbers cannot be loaded: TypeError: .*weights"):
        inference.load_algo(Numbers(), 1, 0, 1, weights="head.pt")
    inference.load_algo(Failing(), 2, 3, 0.4)
    with pytest.raises(StreamError, match="two algorithms have the name 'Failing'"):
        inference.load_algo(Failing(), 1, 1, 1)
    with pytest.raises(
        AlgorithmError, match=r"Failing failed at frame 6, 9 of numbers.mp4: ZeroDivisionError: no boxes"
    ):
        inference.start(recording_path=tmp_path / "cut.mp4")
    # What was recorded before is there.
    assert len(nf.open(tmp_path / "cut.mp4")) == 9


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda i, p: Inference(i.dispatcher).start(), StreamError, "there is no player"),
        (lambda i, p: i.start(p, mode="fast"), StreamError, "mode='fast'"),
        (lambda i, p: i.start("clip.mp4"), StreamError, "give a Player"),
        (lambda i, p: i.start(p, fps=0), StreamError, "fps=0"),
        (lambda i, p: i.start(p, fps=25, speed=2), TypeError, "speed"),
        (lambda i, p: i.start(p, 25, fps=25), TypeError, "several values for fps"),
        (lambda i, p: i.start(25, 0, None, 4), TypeError, "start"),
        (lambda i, p: i.start(p, position=100), StreamOpenError, "behind its last frame"),
        (lambda i, p: i.start(p, recording_path="/proc/none/x.mp4"), OSError, "proc"),
    ],
)
def test_wrong_starts(clip, call, error, match):
    _, player, inference = make(clip)
    with pytest.raises(error, match=match):
        call(inference, player)


def test_a_file_that_is_cut_is_an_error(clip, tmp_path):
    path = tmp_path / "cut.mp4"
    path.write_bytes(Path(clip).read_bytes()[:2000])
    with pytest.raises(NdframesError, match=re.escape("cut.mp4")):
        Player(Dispatcher(), OpenCVProducer(), str(path))


# -- the package ------------------------------------------------------------------------------------------------------


def test_all_names_are_in_the_package_and_in_their_modules():
    from ndframes.compat.stream_infer import algo, dispatcher, dynamic, inference, player, producer, recorder

    for module in (algo, dispatcher, dynamic, inference, player, producer, recorder):
        for name in set(module.__all__) & set(stream_infer.__all__):
            assert getattr(stream_infer, name) is getattr(module, name)
    assert logger.name == "ndframes.stream_infer"
    assert not hasattr(stream_infer, "StreamlitApp")


def test_importing_the_package_loads_nothing_heavy():
    code = "import ndframes.compat.stream_infer, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert {"av", "cv2", "rasterio", "kwimage", "ndframes.stream.pipeline"}.isdisjoint(loaded)
