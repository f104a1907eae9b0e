"""VideoWriter: which frames it takes, what it refuses, what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import weakref
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from kit.writing import FRAMES, QUICK, assert_nothing_there, pan

import ndframes as nf
from ndframes.video.codecs import CODECS, to_rate

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
    name, frames, options, message = REFUSED[case]
    (tmp_path / name).write_bytes(b"as it was")
    with pytest.raises(nf.VideoWriteError, match=message) as caught:
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
    for name, message in (
        ("none/a.mp4", "there is no folder"),
        ("folder.mp4", "not a regular file"),
        ("a.flv", r"ending '\.flv'; allowed: \.mp4"),
        ("a", "no container is known"),
    ):
        with pytest.raises(nf.OutputError, match=message):
            nf.VideoWriter(tmp_path / name, 25)


def test_images_that_cannot_be_read_are_named(tmp_path):
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


def test_a_progress_bar_is_shown_on_request(tmp_path, capsys):
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
