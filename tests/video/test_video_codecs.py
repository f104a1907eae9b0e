"""Videos of every codec and container: what comes back, read by us and by others; colours."""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kit.writing import HOLDS, PHOTO, QUICK, decode, pan, psnr

import ndframes as nf
from ndframes.video.codecs import CODECS

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
        tags = {name.lower(): text for name, text in container.metadata.items()}
        assert json.loads(tags["comment"]) == metadata
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
    found = {}
    for codec, frames, quality in (
        ("h264", pan(2, (32, 32)), 18),
        ("h264", pan(2, (32, 32), 1), 18),
        ("h264", pan(2, (32, 32)), 0),
    ):
        nf.write_video(tmp_path / "a.mp4", frames, 25, codec=codec, quality=quality)
        with av.open(str(tmp_path / "a.mp4")) as container:
            frame = next(container.decode(video=0))
            found[frames.ndim, quality] = int(frame.color_range), int(frame.colorspace), int(frame.color_primaries)
    assert found == {(4, 18): (1, 6, 1), (3, 18): (2, 2, 1), (4, 0): (2, 0, 1)}


def test_pixel_formats_are_those_requested(tmp_path):
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
