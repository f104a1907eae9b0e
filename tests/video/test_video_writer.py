"""Videos that are written: what comes back, by ourselves and by others, and what is left where something goes wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ndframes as nf
from ndframes.video.codecs import CODECS, to_rate

PHOTO = np.asarray(nf.open(nf.demo_paths()["coffee"]))
QUICK = {"h264": "veryfast", "hevc": "ultrafast", "av1": 12, "ffv1": None, "mjpeg": None}
HOLDS = {
    "h264": (".mp4", ".m4v", ".mov", ".mkv"),
    "hevc": (".mp4", ".m4v", ".mov", ".mkv"),
    "av1": (".mp4", ".m4v", ".mkv", ".webm"),
    "mjpeg": (".avi", ".mov", ".mp4", ".mkv"),
    "ffv1": (".mkv", ".avi"),
}


def pan(count: int, shape: tuple[int, int], channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """A photograph that moves: ``(t, y, x)`` for one channel, else ``(t, y, x, channel)``."""
    height, width = shape
    photo = np.dstack([PHOTO, 255 - PHOTO[:, :, 0]])
    frames = np.stack([photo[90 : 90 + height, 200 + 2 * t : 200 + 2 * t + width] for t in range(count)])
    if dtype == np.uint16:
        frames = frames.astype(np.uint16) * 257 - np.arange(frames.size, dtype=np.uint16).reshape(frames.shape) % 200
    return frames[..., 1] if channels == 1 else frames[..., :channels]


def psnr(got: np.ndarray, wanted: np.ndarray) -> float:
    """Of the worst channel, in dB."""
    errors = ((got.astype(float) - wanted) ** 2).reshape(-1, got.shape[-1]).mean(axis=0)
    return float(10 * np.log10(255**2 / np.maximum(errors, 1e-9)).min())


def decode(path: str | Path, form: str) -> tuple[np.ndarray, list[bool]]:
    """The frames and which of them are key frames, by PyAV alone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.stack([frame.to_ndarray(format=form, threads=1) for frame in frames]), [
        frame.key_frame for frame in frames
    ]


def assert_nothing_there(folder: Path, *names: str) -> None:
    """In the folder there are only these."""
    assert sorted(os.listdir(folder)) == sorted(names)


# -- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 96), (65, 97), (66, 65)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "mjpeg"])
def test_what_is_written_by_a_lossy_codec_comes_back_close(tmp_path, codec, channels, shape):
    frames, path = pan(9, shape, channels), tmp_path / f"a{HOLDS[codec][0]}"
    report = nf.write_video(path, frames, 25, codec=codec, preset=QUICK[codec])
    got = nf.open(path)[:]
    has_gray = channels == 1 and codec in ("h264", "hevc")
    assert got.shape == (9, *shape, 1 if has_gray else 3)
    assert got.dtype == np.uint8
    wanted = frames.reshape(9, *shape, channels)
    floor = (36 if codec == "h264" else 34) if channels == 1 else 28
    assert psnr(got, np.broadcast_to(wanted, got.shape)) > floor
    if channels == 1 and not has_gray:
        assert np.abs(got.astype(int) - got[..., :1]).max() <= 3
    assert (report.frames, report.shape, report.codec) == (9, (*shape, channels), codec)
    assert report.file_bytes == path.stat().st_size
    assert report.raw_bytes == frames.nbytes


@pytest.mark.parametrize("ending", [".mkv", ".avi"])
@pytest.mark.parametrize("shape", [(1, 1), (33, 47), (64, 96)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_ffv1_gives_back_every_bit(tmp_path, channels, dtype, shape, ending):
    frames, path = pan(4, shape, channels, dtype), tmp_path / f"a{ending}"
    nf.write_video(path, frames, 25, codec="ffv1")
    np.testing.assert_array_equal(nf.open(path)[:], frames.reshape(4, *shape, channels), strict=True)
    forms = {1: ("gray", "gray16le"), 3: ("rgb24", "rgb48le"), 4: ("rgba", "rgba64le")}
    others, keys = decode(path, forms[channels][dtype == np.uint16])
    np.testing.assert_array_equal(others, frames)
    assert keys == [True] * 4


@given(
    frames=st.sampled_from([np.uint8, np.uint16]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 4])),
            elements=hnp.from_dtype(np.dtype(dtype)),
        )
    )
)
@settings(max_examples=30, deadline=None)
def test_ffv1_gives_back_any_numbers(frames):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mkv"
        nf.write_video(path, frames, 10, codec="ffv1")
        np.testing.assert_array_equal(nf.read_video(path), frames, strict=True)


@pytest.mark.parametrize("shape", [(64, 96), (71, 67)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_quality_0_loses_nothing(tmp_path, codec, channels, shape):
    frames = pan(5, shape, channels)
    nf.write_video(tmp_path / "a.mp4", frames, 25, codec=codec, preset=QUICK[codec], quality=0)
    np.testing.assert_array_equal(nf.open(tmp_path / "a.mp4")[:], frames.reshape(5, *shape, channels), strict=True)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (8, 8)], ids=str)
@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_tiny_frames_keep_their_size(tmp_path, codec, shape):
    path = tmp_path / f"a{HOLDS[codec][0]}"
    nf.write_video(path, np.full((3, *shape, 3), 90, np.uint8), 25, codec=codec)
    got = nf.open(path)[:]
    assert got.shape == (3, *shape, 3)
    assert np.abs(got.astype(int) - 90).max() <= 3


@pytest.mark.parametrize(
    ("codec", "ending"), [(codec, ending) for codec, endings in HOLDS.items() for ending in endings], ids=str
)
def test_every_container_keeps_frames_rate_and_metadata(tmp_path, codec, ending):
    frames, path = pan(31, (64, 80)), tmp_path / f"a{ending}"
    metadata = {"rig": 3, "names": ["ä", 'a "quoted" one\n'], "nested": {"none": None, "x": 0.1}}
    nf.write_video(path, frames, 29.97, codec=codec, preset=QUICK[codec], metadata=metadata)
    others, keys = decode(path, "rgb24")
    assert others.shape == frames.shape
    assert psnr(others, frames) > 25
    assert keys[0]
    assert all(keys) == (codec in ("ffv1", "mjpeg"))
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        assert Fraction(rate.numerator, rate.denominator) == Fraction(30000, 1001)
        told = {name.lower(): text for name, text in container.metadata.items()}
        assert json.loads(told["comment"]) == metadata
    video = nf.open(path)
    np.testing.assert_array_equal(video[:], others)
    np.testing.assert_allclose(video.times, np.arange(31) * 1.001 / 30, atol=0.001)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("codec", list(HOLDS))
def test_a_few_frames_are_a_video_too(tmp_path, codec, count):
    frames = pan(count, (64, 80))
    for ending in HOLDS[codec]:
        path = tmp_path / f"a{ending}"
        for intra in (False, True):
            nf.write_video(path, frames, 25, codec=codec, preset=QUICK[codec], intra=intra)
            assert psnr(nf.open(path)[:], frames) > 25
            np.testing.assert_allclose(nf.open(path).times, np.arange(count) / 25, atol=0.001)


def test_the_table_of_containers_is_the_one_that_is_tested():
    assert {codec.name: codec.endings for codec in CODECS.values()} == HOLDS


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_intra_makes_every_frame_a_key_frame(tmp_path, codec):
    frames = pan(15, (64, 80))
    for intra in (False, True):
        nf.write_video(tmp_path / "a.mkv", frames, 25, codec=codec, preset=QUICK[codec], intra=intra)
        others, keys = decode(tmp_path / "a.mkv", "rgb24")
        assert keys == [True] + [intra] * 14
        assert psnr(others, frames) > 28
        assert nf.open(tmp_path / "a.mkv").keyframes.tolist() == (list(range(15)) if intra else [0])


def test_a_key_frame_comes_every_two_seconds(tmp_path):
    nf.write_video(tmp_path / "a.mp4", pan(50, (16, 16)), 10, preset="ultrafast")
    assert nf.open(tmp_path / "a.mp4").keyframes.tolist() == [0, 20, 40]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "mjpeg"])
def test_a_better_quality_makes_a_larger_file_that_is_closer(tmp_path, codec):
    frames = pan(4, (64, 96))
    worst = CODECS[codec].qualities[-1]
    sizes, errors = [], []
    for quality in (worst, worst // 2, 5):
        report = nf.write_video(tmp_path / "a.mkv", frames, 25, codec=codec, preset=QUICK[codec], quality=quality)
        sizes.append(report.file_bytes)
        errors.append(psnr(nf.open(tmp_path / "a.mkv")[:], frames))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors)
    assert errors[0] < errors[2] - 3


# -- colours ----------------------------------------------------------------------------------------------------------

COLORS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
    (200, 120, 40),
    (20, 90, 160),
    (128, 128, 128),
]


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [
        ("h264", None),
        ("h264", "yuv444p"),
        ("hevc", None),
        ("hevc", "yuv444p"),
        ("mjpeg", None),
        ("mjpeg", "yuv444p"),
        ("av1", None),
    ],
)
def test_colors_stay_what_they_are_for_us_and_others(tmp_path, codec, pixel_format):
    frames = np.stack(
        [np.full((720, 128, 3), color, np.uint8) for color in COLORS]
    )  # so high that some guess another matrix
    path = tmp_path / "a.mkv"
    nf.write_video(
        path,
        frames,
        25,
        codec=codec,
        preset=QUICK[codec],
        quality=10 if codec != "mjpeg" else 2,
        pixel_format=pixel_format,
    )
    middle = np.s_[:, 360, 64]
    assert np.abs(nf.open(path)[:][middle].astype(int) - COLORS).max() <= 4
    assert np.abs(decode(path, "rgb24")[0][middle].astype(int) - COLORS).max() <= 4
    if codec == "av1":  # OpenCV's wheel cannot decode it
        return
    capture = cv2.VideoCapture(str(path))
    for color in COLORS:
        is_read, picture = capture.read()
        assert is_read
        assert np.abs(picture[360, 64, ::-1].astype(int) - color).max() <= 4
    capture.release()


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "mjpeg"])
def test_a_photograph_keeps_its_colors(tmp_path, codec):
    frames = np.repeat(PHOTO[None], 2, axis=0)
    path = tmp_path / "a.mp4"
    nf.write_video(path, frames, 25, codec=codec, preset=QUICK[codec])
    got = nf.open(path)[:]
    assert psnr(got, frames) > 31
    shifts = (got.astype(float) - frames).mean(axis=(0, 1, 2))
    assert np.abs(shifts).max() < 1.6  # FFmpeg's conversion from 4:2:0 rounds down
    if codec in ("h264", "hevc"):
        nf.write_video(path, frames, 25, codec=codec, preset=QUICK[codec], pixel_format="yuv444p")
        got = nf.open(path)[:]
        assert psnr(got, frames) > 33
        assert np.abs((got.astype(float) - frames).mean(axis=(0, 1, 2))).max() < 0.5


def test_what_a_stream_says_of_its_colors_is_what_was_done(tmp_path):
    said = {}
    for codec, frames, quality in (
        ("h264", pan(2, (32, 32)), 18),
        ("h264", pan(2, (32, 32), 1), 18),
        ("h264", pan(2, (32, 32)), 0),
    ):
        nf.write_video(tmp_path / "a.mp4", frames, 25, codec=codec, quality=quality)
        with av.open(str(tmp_path / "a.mp4")) as container:
            frame = next(container.decode(video=0))
            said[frames.ndim, quality] = int(frame.color_range), int(frame.colorspace), int(frame.color_primaries)
    assert said == {(4, 18): (1, 6, 1), (3, 18): (2, 2, 1), (4, 0): (2, 0, 1)}


def test_pixel_formats_are_those_that_were_asked_for(tmp_path):
    for name in ("yuv420p", "yuv422p", "yuv444p"):
        report = nf.write_video(tmp_path / "a.mp4", pan(2, (32, 32)), 25, pixel_format=name)
        with av.open(str(tmp_path / "a.mp4")) as container:
            assert container.streams.video[0].codec_context.pix_fmt == report.pixel_format == name
    gray = pan(2, (32, 32), 1)
    nf.write_video(tmp_path / "a.mp4", gray, 25, pixel_format="yuv420p", quality=0)
    got = nf.open(tmp_path / "a.mp4")[:]
    assert np.abs(got.astype(int) - gray[..., None]).max() <= 2


def test_the_usual_codec_follows_from_file_and_frames(tmp_path):
    def pick(name, frames):
        return nf.write_video(tmp_path / name, frames, 25, preset=None).codec

    rgb = pan(2, (64, 64))
    assert [pick("a" + ending, rgb) for ending in (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".MP4")] == [
        "h264", "h264", "h264", "h264", "av1", "mjpeg", "h264",
    ]  # fmt: skip
    assert pick("a.mkv", pan(2, (16, 16), 3, np.uint16)) == pick("a.avi", pan(2, (16, 16), 4)) == "ffv1"


# -- frames from anywhere ---------------------------------------------------------------------------------------------


def test_frames_come_from_arrays_videos_iterables_and_images(tmp_path):
    frames = pan(6, (24, 32))
    paths = []
    for number, frame in enumerate(frames):
        paths.append(tmp_path / f"{number}.tif")
        tifffile.imwrite(paths[-1], frame)
    np.save(tmp_path / "stack.npy", frames)
    nf.write_video(tmp_path / "first.mkv", frames, 25, codec="ffv1")
    given = {
        "list": list(frames),
        "generator": (frame for frame in frames),
        "mapped": np.load(tmp_path / "stack.npy", mmap_mode="r"),
        "video": nf.open(tmp_path / "first.mkv"),
        "paths": paths,
        "folder": nf.open(tmp_path / "{:d}.tif"),
        "texts": map(str, paths),
        "opened": [nf.open(path) for path in paths],
        "mixed": [paths[0], frames[1], nf.open(paths[2]), frames[3], str(paths[4]), frames[5]],
        "strided": np.ascontiguousarray(frames[:, :, ::-1])[:, :, ::-1],
        "fortran": np.asfortranarray(frames),
    }
    for name, source in given.items():
        report = nf.write_video(tmp_path / "a.mkv", source, 25, codec="ffv1")
        assert report.frames == 6, name
        np.testing.assert_array_equal(nf.open(tmp_path / "a.mkv")[:], frames, err_msg=name)


def test_one_channel_may_be_an_axis_or_not_and_bytes_any_order(tmp_path):
    gray = pan(4, (20, 20), 1, np.uint16)
    with nf.VideoWriter(tmp_path / "a.mkv", 25) as writer:
        writer.append(gray[0])
        writer.append(gray[1][:, :, None])
        writer.append(gray[2].astype(">u2"))
        writer.append(gray[3])
    np.testing.assert_array_equal(nf.open(tmp_path / "a.mkv")[..., 0], gray)


def test_frames_are_taken_one_at_a_time(tmp_path):
    alive, most = 0, 0

    def gone():
        nonlocal alive
        alive -= 1

    def make():
        nonlocal alive, most
        for number in range(300):
            frame = np.full((32, 32, 3), number % 256, np.uint8)
            weakref.finalize(frame, gone)
            alive += 1
            most = max(most, alive)
            yield frame

    nf.write_video(tmp_path / "a.mkv", make(), 25, codec="ffv1")
    assert nf.open(tmp_path / "a.mkv")[:, 0, 0, 0].tolist() == [number % 256 for number in range(300)]
    assert most <= 4


def test_re_encoding_a_video_keeps_frame_for_frame(tmp_path):
    frames = pan(40, (32, 48))
    nf.write_video(tmp_path / "a.mp4", frames, 25, preset="ultrafast", quality=0)
    nf.write_video(tmp_path / "b.mkv", nf.open(tmp_path / "a.mp4"), 25, codec="ffv1")
    np.testing.assert_array_equal(nf.read_video(tmp_path / "b.mkv"), frames)


# -- refusals ---------------------------------------------------------------------------------------------------------

FRAMES = pan(3, (16, 16))
REFUSED = {
    "empty list": ("a.mp4", [], {}, "no frame was written"),
    "empty array": ("a.mp4", FRAMES[:0], {}, "no frame was written"),
    "one path": ("a.mp4", "frames", {}, "is one path; give a list"),
    "one image": ("a.mp4", FRAMES[0, :, :, 0], {}, r"\(16, 16\), not \(t, y, x\)"),
    "opened image": ("a.mp4", nf.open(nf.demo_paths()["moon"]), {}, "give one image as"),
    "a number": ("a.mp4", 7, {}, "give an array"),
    "another size": ("a.mp4", [FRAMES[0], FRAMES[1, :8]], {}, r"frame 1 is 8 x 16 x 3 uint8, frame 0 is 16 x 16 x 3 uint8"),
    "other channels": ("a.mkv", [*FRAMES, FRAMES[0, :, :, 0]], {}, r"frame 3 is 16 x 16 x 1 uint8"),
    "another dtype": ("a.mkv", [FRAMES[0], FRAMES[1].astype(np.uint16)], {}, r"frame 1 is 16 x 16 x 3 uint16"),
    "two channels": ("a.mkv", FRAMES[..., :2], {}, r"shape \(16, 16, 2\).*1, 3 or 4 channels"),
    "channels first": ("a.mkv", FRAMES.transpose(0, 3, 1, 2), {}, r"shape \(3, 16, 16\)"),
    "nothing": ("a.mkv", [np.zeros((0, 5), np.uint8)], {}, r"shape \(0, 5\)"),
    "bool": ("a.mkv", FRAMES > 9, {}, r"bool, not uint8 or uint16; write frame \* np.uint8\(255\)"),
    "float": ("a.mkv", FRAMES / 255, {}, r"float64, not uint8 or uint16; write \(frame \* 255\)"),
    "int": ("a.mkv", FRAMES.astype(np.int32), {}, r"int32, not uint8 or uint16; convert it"),
    "uint32": ("a.mkv", FRAMES.astype(np.uint32), {}, r"uint32, not uint8"),
    "ragged": ("a.mkv", [[[1, 2], [3]]], {}, r"frame 0 is not an array"),
    "16 bits": ("a.mkv", FRAMES.astype(np.uint16), {"codec": "h264"}, r"16 bits a channel; use codec='ffv1'$"),
    "16 bits in mp4": ("a.mp4", FRAMES.astype(np.uint16), {}, r"16 bits a channel; use codec='ffv1' and a name that ends in \.mkv"),
    "alpha": ("a.avi", pan(2, (16, 16), 4), {"codec": "mjpeg"}, r"transparency \(4 channels\); use codec='ffv1'$"),
    "small hevc": ("a.mp4", pan(2, (64, 63)), {"codec": "hevc"}, r"64 x 63 px; hevc needs 64 x 64"),
    "small av1": ("a.webm", pan(2, (63, 64)), {}, r"63 x 64 px; av1 needs 64 x 64"),
    "codec": ("a.mp4", FRAMES, {"codec": "vp9"}, "codec='vp9'; allowed: h264, hevc, av1, ffv1, mjpeg"),
    "no codec": ("a.mp4", FRAMES, {"codec": 7}, "codec=7; allowed"),
    "ffv1 in mp4": ("a.mp4", FRAMES, {"codec": "ffv1"}, r"\.mp4 does not hold ffv1, but h264, hevc, av1, mjpeg; .* \.mkv, \.avi"),
    "h264 in webm": ("a.webm", FRAMES, {"codec": "h264"}, r"\.webm does not hold h264, but av1"),
    "quality": ("a.mp4", FRAMES, {"quality": 52}, "quality=52 of h264; a whole number from 0, the best, to 51"),
    "odd quality": ("a.mp4", FRAMES, {"quality": 1.5}, "quality=1.5 of h264"),
    "mjpeg quality": ("a.avi", FRAMES, {"quality": 1}, "quality=1 of mjpeg; a whole number from 2"),
    "ffv1 quality": ("a.mkv", FRAMES, {"codec": "ffv1", "quality": 3}, "ffv1 is always lossless, leave quality out"),
    "deep quality": ("a.mkv", FRAMES.astype(np.uint16), {"quality": 3}, "ffv1 is always lossless"),
    "preset": ("a.mp4", FRAMES, {"preset": "swift"}, "preset='swift' of h264; allowed: ultrafast, .*, placebo"),
    "av1 preset": ("a.webm", FRAMES, {"preset": 14}, "preset=14 of av1; allowed: 0, 1, .*, 13$"),
    "mjpeg preset": ("a.avi", FRAMES, {"preset": "slow"}, "allowed: none, it has no presets"),
    "pixel format": ("a.mp4", FRAMES, {"pixel_format": "nv12"}, "pixel_format='nv12' of h264; allowed: yuv420p,"),
    "ffv1 format": ("a.mkv", FRAMES, {"codec": "ffv1", "pixel_format": "bgr0"}, "allowed: none, it follows"),
    "odd format": ("a.mp4", FRAMES[:, :15], {"pixel_format": "yuv420p"}, "'yuv420p' of h264 needs even sizes, frames are 15 x 16"),
    "gray format": ("a.mp4", FRAMES, {"pixel_format": "gray"}, "'gray' has one channel, frames have 3"),
    "metadata": ("a.mp4", FRAMES, {"metadata": {"a": {1}}}, "metadata cannot be stored as JSON"),
    "nan": ("a.mp4", FRAMES, {"metadata": {"a": float("nan")}}, "metadata cannot be stored as JSON"),
    "names": ("a.mp4", FRAMES, {"metadata": {3: "a"}}, "give a dict of names"),
    "list": ("a.mp4", FRAMES, {"metadata": ["a"]}, "give a dict of names"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_and_nothing_is_left(tmp_path, case):
    name, frames, options, told = REFUSED[case]
    (tmp_path / name).write_bytes(b"as it was")
    with pytest.raises(nf.VideoWriteError, match=told) as caught:
        nf.write_video(tmp_path / name, frames, 25, **options)
    assert str(tmp_path / name) in str(caught.value)
    assert (tmp_path / name).read_bytes() == b"as it was"
    assert_nothing_there(tmp_path, name)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), True, "25", None, 1e-12, 1001, Fraction(1, 2**31)])
def test_rates_that_cannot_be_are_refused(tmp_path, fps):
    with pytest.raises(nf.VideoWriteError, match="fps="):
        nf.VideoWriter(tmp_path / "a.mp4", fps)
    with pytest.raises(nf.VideoWriteError, match="at most 240 of av1"):
        nf.VideoWriter(tmp_path / "a.webm", 241)


@pytest.mark.parametrize(
    ("fps", "meant"),
    [
        (23.976, Fraction(24000, 1001)), (29.97, Fraction(30000, 1001)), (59.94, Fraction(60000, 1001)), (30, 30), (25.0, 25),
        (12.5, Fraction(25, 2)), (0.1, Fraction(1, 10)), (1 / 3600, Fraction(1, 3600)), (33.3333333, Fraction(100, 3)),
        (Fraction(7, 3), Fraction(7, 3)), (np.float32(50), 50), (np.int64(5), 5), (119.88, Fraction(120000, 1001)), (1000, 1000),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi"])
def test_rates_are_those_that_are_meant(tmp_path, fps, meant, ending):
    assert to_rate(fps, "a.mp4", CODECS["h264"]) == meant
    codec = "h264" if ending == ".mp4" else "ffv1"
    nf.write_video(tmp_path / f"a{ending}", np.zeros((4, 16, 16), np.uint8), fps, codec=codec, preset=QUICK[codec])
    video = nf.open(tmp_path / f"a{ending}")
    assert video.fps == pytest.approx(float(meant), rel=1e-6)
    np.testing.assert_allclose(video.times, np.arange(4) / float(meant), atol=0.0011)


def test_places_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for name, told in (
        ("none/a.mp4", "there is no folder"),
        ("folder.mp4", "not a regular file"),
        ("a.flv", r"ending '\.flv'; allowed: \.mp4"),
        ("a", "no container is known"),
    ):
        with pytest.raises(nf.OutputError, match=told):
            nf.VideoWriter(tmp_path / name, 25)


def test_images_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    good = nf.demo_paths()["moon"]
    with pytest.raises(nf.SourceMissingError, match=r"gone\.png does not exist"):
        nf.write_video(tmp_path / "a.mp4", [good, tmp_path / "gone.png"], 5, preset="ultrafast")
    with pytest.raises(nf.UnreadableImageError, match=r"text\.png"):
        nf.write_video(tmp_path / "a.mp4", [good, tmp_path / "text.png"], 5, preset="ultrafast")
    with pytest.raises(
        nf.VideoWriteError, match=rf"frame 1 \({re.escape(str(nf.demo_paths()['coffee']))}\) is 400 x 600 x 3"
    ):
        nf.write_video(tmp_path / "a.mp4", [good, nf.demo_paths()["coffee"]], 5, preset="ultrafast")
    assert_nothing_there(tmp_path, "text.png")


def test_a_source_is_never_the_target(tmp_path):
    path = tmp_path / "a.mkv"
    nf.write_video(path, FRAMES, 25, codec="ffv1")
    content = path.read_bytes()
    os.symlink(path, tmp_path / "link.mkv")
    shutil.copy(nf.demo_paths()["moon"], tmp_path / "moon.mkv")
    for target in (path, tmp_path / "link.mkv"):
        with pytest.raises(nf.VideoWriteError, match="is one of the files that are read"):
            nf.write_video(target, nf.open(path), 25)
    with pytest.raises(nf.VideoWriteError, match="is one of the files that are read"):
        nf.write_video(tmp_path / "moon.mkv", [tmp_path / "moon.mkv"], 25)
    assert path.read_bytes() == content
    assert (tmp_path / "moon.mkv").read_bytes() == nf.demo_paths()["moon"].read_bytes()
    assert_nothing_there(tmp_path, "a.mkv", "link.mkv", "moon.mkv")


# -- whole, or not at all ---------------------------------------------------------------------------------------------


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(b"as it was")
    writer = nf.VideoWriter(path, 25, codec="ffv1")
    for frame in FRAMES:
        writer.append(frame)
        assert path.read_bytes() == b"as it was"
    assert len(writer) == 3
    report = writer.close()
    assert writer.closed
    assert writer.close() is report
    np.testing.assert_array_equal(nf.open(path)[:], FRAMES)
    assert_nothing_there(tmp_path, "a.mkv")
    with pytest.raises(nf.VideoWriteError, match="takes no more frames, it was closed"):
        writer.append(FRAMES[0])


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    os.symlink(tmp_path / "there" / "b.mkv", tmp_path / "a.mkv")
    nf.write_video(tmp_path / "a.mkv", FRAMES, 25, codec="ffv1")
    assert (tmp_path / "a.mkv").is_symlink()
    np.testing.assert_array_equal(nf.open(tmp_path / "there" / "b.mkv")[:], FRAMES)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1"])
def test_an_error_or_ctrl_c_leaves_what_was_there(tmp_path, codec, error):
    path = tmp_path / "a.mkv"
    path.write_bytes(b"as it was")
    threads = len(os.listdir("/proc/self/task"))

    wide = pan(3, (64, 80))

    def make():
        yield from wide
        if error is KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
        raise error

    with pytest.raises(error):
        nf.write_video(path, make(), 25, codec=codec, preset=QUICK[codec])
    with pytest.raises(error), nf.VideoWriter(path, 25, codec=codec, preset=QUICK[codec]) as writer:  # noqa: PT012
        writer.append(wide[0])
        raise error
    assert "given up" in repr(writer)
    assert path.read_bytes() == b"as it was"
    assert_nothing_there(tmp_path, "a.mkv")
    assert len(os.listdir("/proc/self/task")) == threads


def test_a_frame_that_is_refused_does_not_end_the_video(tmp_path):
    with nf.VideoWriter(tmp_path / "a.mkv", 25, codec="ffv1") as writer:
        writer.append(FRAMES[0])
        with pytest.raises(nf.VideoWriteError, match="frame 1 is 8 x 16"):
            writer.append(FRAMES[1, :8])
        writer.append(FRAMES[1])
    np.testing.assert_array_equal(nf.open(tmp_path / "a.mkv")[:], FRAMES[:2])


def test_a_writer_that_is_let_go_leaves_nothing(tmp_path):
    writer = nf.VideoWriter(tmp_path / "a.mkv", 25)
    writer.append(FRAMES[0])
    assert len(os.listdir(tmp_path)) == 1
    del writer
    assert_nothing_there(tmp_path)


KILLED = """
import sys, itertools, numpy as np, ndframes as nf
random = np.random.default_rng(0)
with nf.VideoWriter(sys.argv[1], 25, codec="ffv1") as writer:
    for number in itertools.count():
        writer.append(random.integers(0, 256, (128, 128, 3), dtype=np.uint8))
        if number == 20:
            print("there", flush=True)
"""


@pytest.mark.parametrize("before", [None, b"as it was"])
def test_a_killed_process_leaves_no_half_video_under_the_name(tmp_path, before):
    path = tmp_path / "a.mkv"
    if before is not None:
        path.write_bytes(before)
    environment = {**os.environ, "PYTHONPATH": str(Path(nf.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline() == b"there\n"
        process.kill()
    assert (path.read_bytes() if path.exists() else None) == before
    (hidden,) = [name for name in os.listdir(tmp_path) if name != "a.mkv"]
    assert re.fullmatch(r"\.a\.mkv\.[0-9a-f]{32}\.part", hidden)
    assert (tmp_path / hidden).stat().st_size > 100_000  # it was in the middle of it


FULL = """
import resource, sys, numpy as np, ndframes as nf
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
random = np.random.default_rng(0)
try:
    nf.write_video(sys.argv[1], (random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(int(sys.argv[2]))), 25)
except nf.OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("count", [9, 60])  # at the end, and on the way
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path, name, count):
    environment = {**os.environ, "PYTHONPATH": str(Path(nf.__file__).parents[1])}
    command = [sys.executable, "-c", FULL, str(tmp_path / name), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"{tmp_path / name} cannot be written: File too large\n"
    assert_nothing_there(tmp_path)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1", "mjpeg"])
def test_no_thread_is_left_that_a_forked_child_would_wait_for(tmp_path, codec):
    before = len(os.listdir("/proc/self/task"))
    nf.write_video(tmp_path / "a.mkv", pan(9, (64, 96)), 25, codec=codec, preset=QUICK[codec])
    assert len(os.listdir("/proc/self/task")) == before


def use_in_child(writer: nf.VideoWriter) -> None:
    with pytest.raises(nf.VideoWriteError, match="belongs to the process that opened it"):
        writer.append(FRAMES[0])
    writer.abort()
    del writer


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_a_forked_child_leaves_the_video_to_its_parent(tmp_path, codec):
    frames = pan(12, (64, 96))
    with nf.VideoWriter(tmp_path / "a.mkv", 25, codec=codec, quality=0 if codec == "h264" else None) as writer:
        for frame in frames[:6]:
            writer.append(frame)
        child = multiprocessing.get_context("fork").Process(target=use_in_child, args=(writer,))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        for frame in frames[6:]:
            writer.append(frame)
    np.testing.assert_array_equal(nf.open(tmp_path / "a.mkv")[:], frames)


# -- words ------------------------------------------------------------------------------------------------------------


def test_a_writer_says_how_far_it_is(tmp_path):
    writer = nf.VideoWriter(tmp_path / "a.mp4", 29.97, codec="h264")
    assert repr(writer) == f"<VideoWriter '{tmp_path}/a.mp4': 0 frames, no frame yet, h264, 29.97 fps>"
    for frame in FRAMES:
        writer.append(frame)
    assert repr(writer) == f"<VideoWriter '{tmp_path}/a.mp4': 3 frames, 16 x 16 x 3 uint8, h264, 29.97 fps>"
    assert (writer.fps, writer.path) == (Fraction(30000, 1001), f"{tmp_path}/a.mp4")
    writer.close()
    assert "it was closed, 3 frames" in repr(writer)


def test_a_report_says_what_was_written(tmp_path):
    report = nf.write_video(tmp_path / "a.mkv", FRAMES, 25, codec="ffv1")
    size = (tmp_path / "a.mkv").stat().st_size
    assert report.to_dict() == {
        "path": str(tmp_path / "a.mkv"), "frames": 3, "shape": (16, 16, 3), "dtype": "uint8", "codec": "ffv1", "pixel_format": "bgr0",
        "raw_bytes": 2304, "file_bytes": size, "seconds": report.seconds, "ratio": 2304 / size,
    }  # fmt: skip
    assert str(report).startswith("3 frames of 16 x 16 x 3 uint8 by ffv1: 2.3 kB in ")


def test_a_bar_is_shown_where_it_is_asked_for(tmp_path, capsys):
    nf.write_video(tmp_path / "a.mkv", FRAMES, 25, codec="ffv1", progress=True)
    assert "write, frames" in capsys.readouterr().err
    nf.write_video(tmp_path / "a.mkv", FRAMES, 25, codec="ffv1")
    assert capsys.readouterr().err == ""


SILENT = """
import sys
import numpy as np
import ndframes as nf
for codec, preset in zip(sys.argv[2::2], sys.argv[3::2]):
    nf.write_video(sys.argv[1], np.zeros((3, 64, 64, 3), np.uint8), 25, codec=codec, preset=int(preset) if preset.isdigit() else preset or None)
"""


def test_encoders_are_silent(tmp_path):
    """In a process of its own: SVT-AV1 listens once, when it first speaks."""
    choices = [item for codec in CODECS for item in (codec, QUICK[codec] or "")]
    done = subprocess.run(
        [sys.executable, "-c", SILENT, tmp_path / "a.mkv", *map(str, choices)], capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
