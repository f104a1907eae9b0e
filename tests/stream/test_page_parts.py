"""The parts of the page: pictures, rates, and the state as JSON."""

from __future__ import annotations

import json
import threading

import imagecodecs
import numpy as np
import pytest
from kit.numbered import draw, read_number

from ndframes.pixels.jpeg import encode_preview
from ndframes.stream import Frame, Pipeline, Source, Window
from ndframes.stream.page_pictures import Pictures
from ndframes.stream.page_rates import Rates
from ndframes.stream.page_state import StateReport, describe_value, describe_window


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Counted(np.ndarray):
    """An array that counts its copies."""

    copies = 0

    def copy(self, order="C"):
        Counted.copies += 1
        return np.array(self)


def make_frame(index: int, image: np.ndarray | None = None, source: str = "cam") -> Frame:
    return Frame(draw(index) if image is None else image, source, index, 0, index / 25, None, "file")


def make_pictures(clock, *, is_over=lambda: False, **options) -> Pictures:
    sources = [Source(np.zeros((1, 4, 4), np.uint8), name="cam", **options)]
    return Pictures(sources, fps=10, most_px=960, is_over=is_over, clock=clock)


def test_nothing_is_copied_while_nobody_looks():
    clock = Clock()
    pictures = make_pictures(clock)
    Counted.copies = 0
    for index in range(100):
        clock.now += 0.04
        pictures.show(make_frame(index), draw(index).view(Counted))
    assert Counted.copies == 0
    assert pictures.last("cam").index == 99
    # A look counts for a second, in which there are at most ten copies.
    assert pictures.find("cam", -1) is None
    for index in range(100, 200):
        clock.now += 0.04
        pictures.show(make_frame(index), draw(index).view(Counted))
    assert 8 <= Counted.copies <= 10


def test_a_picture_is_a_frame_as_it_was():
    clock = Clock()
    pictures = make_pictures(clock)
    pictures.find("cam", -1)
    buffer = draw(7)
    pictures.show(make_frame(7), buffer)
    buffer[...] = 0
    picture = pictures.find("cam", -1)
    assert read_number(imagecodecs.jpeg8_decode(pictures.encode("cam", picture))) == 7
    assert pictures.find("cam", 7) is None
    # It is encoded once for all who look.
    assert pictures.encode("cam", picture) is pictures.encode("cam", pictures.find("cam", 3))


def test_a_source_at_rest_and_a_pipeline_at_its_end_show_the_last_frame():
    clock, over = Clock(), threading.Event()
    pictures = make_pictures(clock, is_over=over.is_set)
    pictures.show(make_frame(1), draw(1))
    assert pictures.find("cam", -1) is None
    clock.now += 2
    assert pictures.find("cam", -1).frame.index == 1
    assert pictures.find("cam", 1) is None
    pictures.show(make_frame(2), draw(2))
    pictures.show(make_frame(3), draw(3))
    assert pictures.find("cam", 1).frame.index == 2
    over.set()
    assert pictures.find("cam", 1).frame.index == 3
    assert pictures.find("cam", 3) is None


def test_channels_of_opencv_are_shown_in_their_colours():
    pictures = make_pictures(Clock(), is_over=lambda: True, pixel_format="bgr24")
    blue = np.zeros((16, 16, 3), np.uint8)
    blue[:, :, 0] = 255
    pictures.show(make_frame(0, blue), blue)
    shown = imagecodecs.jpeg8_decode(pictures.encode("cam", pictures.find("cam", -1)))
    assert shown[8, 8, 2] > 200 > 100 > shown[8, 8, 0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float16", "float32", "float64", "complex64", "bool"])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4, 7])
def test_pixels_of_any_dtype_and_channels_are_pictures(dtype, channels):
    ramp = np.linspace(0, 1, 64 * 48).reshape(48, 64) > 0.5
    pixels = (ramp if channels is None else np.repeat(ramp[:, :, None], channels, axis=2)) * 200
    shown = imagecodecs.jpeg8_decode(encode_preview(pixels.astype(dtype)))
    assert shown.shape[:2] == (48, 64)
    assert shown[5].mean() < 20
    expected = 180 if dtype != "uint8" else 190
    assert shown[40].mean() > expected


def test_a_picture_is_no_larger_than_asked_for():
    for dtype in ("uint8", "uint16"):
        shown = imagecodecs.jpeg8_decode(encode_preview(np.full((90, 2000, 3), 77, dtype), most_px=500))
        assert shown.shape == (22 if dtype == "uint8" else 23, 500, 3)
    assert imagecodecs.jpeg8_decode(encode_preview(np.zeros((1, 3000), np.uint8), most_px=100)).shape == (1, 100)


@pytest.mark.parametrize(
    "pixels",
    [
        None,
        "text",
        np.zeros(3),
        np.zeros((0, 4)),
        np.zeros((2, 2, 2, 2)),
        np.zeros((2, 2), object),
        np.zeros((2, 2), "U3"),
    ],
)
def test_what_is_no_picture_is_an_error(pixels):
    with pytest.raises(ValueError, match="is not a picture"):
        encode_preview(pixels)


def test_rates_follow_the_last_seconds():
    rates = Rates()
    assert rates.update(0, {"cam": 0}) == {"cam": None}
    found = [rates.update(tick / 2, {"cam": 25 * tick // 2})["cam"] for tick in range(1, 40)]
    assert found[-10:] == pytest.approx([25] * 10, rel=0.05)
    # It stands still.
    for tick in range(40, 60):
        last = rates.update(tick / 2, {"cam": 500})["cam"]
    assert last == 0
    # Nobody looked for an hour: the mean since then, until there are new looks.
    assert rates.update(3630, {"cam": 36500})["cam"] == pytest.approx(10, rel=0.01)
    assert rates.update(3632, {"cam": 36600})["cam"] == pytest.approx(50)
    assert rates.update(4000, {"cam": 40000, "new": 400}, is_over=True) == {"cam": 10, "new": 0.1}


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class RudeNumber(float):
    def __float__(self) -> float:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (float("nan"), "nan"),
        (1e300, "1e+300"),
        (np.float32(0.1), "0.1"),
        ("<b>\nx", "<b> x"),
        ("y" * 1000, "y" * 200 + "..."),
        (np.arange(3), "array (3,) of int64: 0, 1, 2"),
        (np.array(5), "array(5)"),
        (np.zeros((0, 3), np.uint8), "array (0, 3) of uint8: "),
        (Rude(), "<Rude instance at"),
        (RudeNumber(), "<RudeNumber, whose representation raises RuntimeError>"),
        ([Rude()], "[<Rude instance at"),
        ([10**9999], "<list>"),
        ("\ud800", "\ud800"),
        (b"\0\1", r"b'\x00\x01'"),
        ({"a": (1, 2)}, "{'a': (1, 2)}"),
    ],
)
def test_any_value_is_a_short_line_of_text(value, text):
    found = describe_value(value)
    assert found.startswith(text.rstrip())
    assert len(found) <= 203
    assert "\n" not in found


def test_windows_in_words():
    windows = [Window(), Window(every=4), Window(3, 2), Window(interval=0.2)]
    assert [describe_window(each) for each in windows] == [
        "each frame",
        "every 4 frames",
        "3 frames, 2 apart",
        "every 0.2 s",
    ]


def test_the_state_is_json_at_all_times():
    pipeline = Pipeline({"a": np.zeros((5, 4, 6), np.float32)}, errors="skip")
    pipeline.add("nan", lambda frames: float("nan"), Window(every=2)).add("fails", lambda frames: 1 / 0)
    pictures = Pictures(pipeline.sources, fps=10, most_px=100, is_over=lambda: False)
    report = StateReport(pipeline, pipeline._algorithms, pictures)
    idle = json.loads(json.dumps(report.make(), allow_nan=False))
    assert (idle["state"], idle["seconds"], idle["sources"][0]["state"]) == ("idle", 0, "idle")
    assert idle["algorithms"][0]["latency_ms"] == {"p50": None, "p95": None, "p99": None, "max": None}
    pipeline.run()
    done = json.loads(json.dumps(report.make(), allow_nan=False))
    assert set(done["sources"][0]) == set(idle["sources"][0])
    assert set(done["algorithms"][0]) == set(idle["algorithms"][0])
    nan, fails = done["algorithms"]
    assert [each["index"] for each in nan["results"]] == [4, 2, 0]
    assert [each["value"] for each in nan["results"]] == ["nan"] * 3
    assert [each["index"] for each in fails["results"]] == [4, 3, 2, 1, 0]
    assert fails["results"][0]["error"] == "ZeroDivisionError: division by zero"
    assert fails["dropped"]["error"] == 5
    assert done["state"] == "stopped"
    assert done["error"] is None
    assert done["seconds"] == round(pipeline.seconds, 3) >= 0
