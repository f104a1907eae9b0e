"""``ndframes video``: info, encode and extract."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndframes as nf


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with twelve images and a lossless video of them, and their pixels."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "frames").mkdir()
    photo = nf.open(nf.demo_paths()["coffee"])[:80, :96]
    stack = np.stack([np.roll(photo, 5 * number, axis=1) for number in range(12)])
    for number, frame in enumerate(stack):
        Image.fromarray(frame).save(folder / "frames" / f"f{number}.png")
    (folder / "frames" / "notes.txt").write_text("no image")
    nf.write_video(folder / "walk.mkv", stack, 12.5, codec="ffv1", metadata={"rig": 3})
    return folder, stack


@pytest.fixture
def photos(made, tmp_path):
    """The images as ``frames/f0.png`` to ``frames/f11.png``, and another file; returns the pixels."""
    shutil.copytree(made[0] / "frames", tmp_path / "frames")
    return made[1]


@pytest.fixture
def walk(made, photos, tmp_path):
    """The video as ``walk.mkv``; returns the pixels."""
    shutil.copy(made[0] / "walk.mkv", tmp_path)
    return photos


# -- encode -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "paths", [["frames"], ["frames/*.png"], [f"frames/f{number}.png" for number in (11, 3, 0, 10, *range(4, 10), 1, 2)]]
)
def test_images_are_encoded_in_natural_order(run, photos, paths):
    result = run("video", "encode", *paths, "-o", "a.mkv", "--fps", "25", "--codec", "ffv1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("a.mkv: 12 frames of 80 x 96 x 3 uint8 by ffv1: 276 kB in ")
    assert " to 1, in " in result.stdout
    np.testing.assert_array_equal(nf.read_video("a.mkv"), photos)


def test_a_list_keeps_its_order(run, photos, tmp_path):
    (tmp_path / "list.txt").write_text("frames/f10.png\n\nframes/f2.png\nframes/f2.png \n")
    result = run(
        "video", "encode", "--from-file", "list.txt", "-o", "a.mkv", "--fps", "25", "--codec", "ffv1", "--json"
    )
    report = json.loads(result.stdout)
    assert (report["frames"], report["raw_bytes"], report["path"]) == (3, 3 * 80 * 96 * 3, "a.mkv")
    assert report["file_bytes"] == os.path.getsize("a.mkv")
    np.testing.assert_array_equal(nf.read_video("a.mkv"), photos[[10, 2, 2]])


def test_options_are_passed_to_the_encoder(run, photos):
    sizes = []
    for quality in (40, 10):
        arguments = ["--codec", "h264", "--quality", quality, "--preset", "veryfast", "--intra"]
        assert run("video", "encode", "frames", "-o", "a.mp4", "--fps", "30000/1001", *arguments).exit_code == 0
        sizes.append(os.path.getsize("a.mp4"))
        found = nf.video_metadata("a.mp4")
        assert (found.codec, len(found.keyframes), found.fps) == ("h264", 12, pytest.approx(29.97003))
    assert sizes[1] > 2 * sizes[0]


def test_a_video_keeps_its_rate_and_metadata(run, walk):
    result = run("video", "encode", "walk.mkv", "-o", "quick.mp4", "--intra", "--quality", "0")
    assert result.exit_code == 0
    found = nf.video_metadata("quick.mp4")
    assert (found.fps, len(found.keyframes), found.metadata) == (12.5, 12, {"rig": 3})
    np.testing.assert_array_equal(nf.read_video("quick.mp4"), walk)
    run("video", "encode", "walk.mkv", "-o", "fast.mkv", "--fps", "50", "--codec", "ffv1")
    assert nf.video_metadata("fast.mkv").fps == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frames", "-o", "a.mp4"], "set one with --fps"),
        (["-o", "a.mp4", "--fps", "25"], "there is nothing to encode"),
        (["empty", "-o", "a.mp4", "--fps", "25"], "empty contains no images"),
        (["gone*.png", "-o", "a.mp4", "--fps", "25"], "gone*.png does not exist"),
        (["gone.mp4", "-o", "a.mp4"], "gone.mp4 does not exist"),
        (["frames", "-o", "a.mp4", "--fps", "0"], "fps=0.0"),
        (["frames", "-o", "a.webm", "--fps", "25", "--codec", "ffv1"], ".webm does not hold ffv1"),
        (["frames", "-o", "a.mp4", "--fps", "25", "--quality", "99"], "quality=99 of h264"),
        (["frames", "-o", "a.mp4", "--fps", "25", "--preset", "swift"], "preset='swift' of h264"),
        (["frames", "-o", "none/a.mp4", "--fps", "25"], "there is no folder none"),
        (["walk.mkv", "-o", "walk.mkv"], "is one of the files that are read"),
        (["frames", "other.tif", "-o", "a.mp4", "--fps", "25"], "frame 12 (other.tif) is 9 x 9 x 1 uint8"),
    ],
)
def test_encoding_errors_are_one_line(run, walk, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    tifffile.imwrite(tmp_path / "other.tif", np.zeros((9, 9), np.uint8))
    before = sorted(os.listdir(tmp_path))
    result = run("video", "encode", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("ndframes: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert {*os.listdir(tmp_path)} - {"work"} == {*before}


def test_a_bad_rate_is_refused(run, photos):
    result = run("video", "encode", "frames", "-o", "a.mp4", "--fps", "1/0")
    assert result.exit_code == 2
    assert "write frames per second, such as 25" in result.stderr


def test_ctrl_c_leaves_nothing(spawn, photos, tmp_path):
    (tmp_path / "list.txt").write_text("frames/f1.png\n" * 200_000)
    process = spawn("video", "encode", "--from-file", "list.txt", "-o", "a.mp4", "--fps", "25")
    while not list(tmp_path.glob("*.part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert sorted(os.listdir(tmp_path)) == ["frames", "list.txt"]


# -- info -------------------------------------------------------------------------------------------------------------


def test_info_as_a_table(run, walk):
    result = run("video", "info", "walk.mkv")
    assert result.exit_code == 0
    rows = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    assert {name: text.strip() for name, text in rows.items() if name != "format"} == {
        "path": "walk.mkv",
        "size": "80 x 96 px (height x width), 276 kB decoded",
        "pixels": "uint8, 3 channels; stored as bgr0",
        "frames": "12, duration 0.96 s",
        "rate": "12.5 frames per second, constant",
        "key frames": "all frames",
        "metadata": "rig: 3",
    }
    assert rows["format"].strip().startswith("ffv1 in matroska, ")


def test_info_as_json_is_the_metadata(run, walk):
    facts = json.loads(run("video", "info", "walk.mkv", "--json").stdout)
    assert facts == nf.video_metadata("walk.mkv").to_dict()


def test_info_of_other_files_is_an_error(run, photos):
    for path, message in (
        ("gone.mp4", "does not exist"),
        ("frames/f0.png", "is not a video (png_pipe)"),
        ("frames", "is a directory"),
    ):
        result = run("video", "info", path)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert message in result.stderr


# -- extract ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ([], range(12)), (["--frames", "2:9:3"], [2, 5, 8]), (["--frames", "-2:"], [10, 11]), (["--frames", "7,3,-1,7"], [3, 7, 11]),
        (["--frames", "4"], [4]), (["--frames", "::-5"], [1, 6, 11]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_frames_are_saved_as_images(run, walk, arguments, numbers, ending):
    result = run("video", "extract", "walk.mkv", "-o", "out/deep", "--format", ending, *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(os.listdir("out/deep")) == [f"frame{number:06d}.{ending}" for number in numbers]
    for number in numbers:
        np.testing.assert_array_equal(nf.open(f"out/deep/frame{number:06d}.{ending}")[:], walk[number])
    noun = "frame" if len(numbers) == 1 else "frames"
    assert result.stdout.startswith(f"out/deep: {len(numbers)} {noun} of 12, ")


def test_jpegs_are_similar(run, walk):
    options = ("--frames", "5", "--format", "jpg", "--name", "f{:d}")
    assert run("video", "extract", "walk.mkv", "-o", "out", *options).exit_code == 0
    got = np.asarray(Image.open("out/f5.jpg")).astype(int)
    assert np.abs(got - walk[5]).mean() < 3


def test_sixteen_bits_need_png_or_tif(run, tmp_path):
    deep = np.arange(2 * 40 * 50, dtype=np.uint16).reshape(2, 40, 50) * 16
    nf.write_video(tmp_path / "deep.mkv", deep, 5)
    assert run("video", "extract", "deep.mkv", "-o", "out").exit_code == 0
    np.testing.assert_array_equal(nf.open("out/frame000001.png")[..., 0], deep[1])
    result = run("video", "extract", "deep.mkv", "-o", "jpg", "--format", "jpg")
    assert result.exit_code == 2
    assert "JPEG stores 1 or 3 channels of uint8, but deep.mkv has 1 of uint16; use png or tif" in result.stderr
    assert not os.path.exists("jpg")


def test_existing_images_are_replaced_only_with_force(run, walk, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "frame000003.png").write_bytes(b"as it was")
    result = run("video", "extract", "walk.mkv", "-o", "out")
    assert result.exit_code == 2
    assert "out/frame000003.png exists already; replace it with --force" in result.stderr
    assert os.listdir("out") == ["frame000003.png"]
    assert (tmp_path / "out" / "frame000003.png").read_bytes() == b"as it was"
    report = json.loads(run("video", "extract", "walk.mkv", "-o", "out", "--force", "--frames", "3", "--json").stdout)
    assert (report["frames"], report["images"]) == ([3], ["out/frame000003.png"])
    assert report["bytes_written"] == os.path.getsize("out/frame000003.png")
    np.testing.assert_array_equal(nf.open("out/frame000003.png")[:], walk[3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["walk.mkv", "--frames", "12"], "index 12 is out of bounds"),
        (["walk.mkv", "--frames", "20:30"], "--frames selects none of the 12 frames of walk.mkv"),
        (["walk.mkv", "--frames", "1:2:0"], "write a slice such as 0:100:5"),
        (["walk.mkv", "--frames", "a"], "write a slice such as 0:100:5"),
        (["walk.mkv", "--name", "x"], "gives several frames the same name"),
        (["walk.mkv", "--name", "a/{}"], "is not a file name"),
        (["walk.mkv", "--name", "{name}"], "is not a valid pattern"),
        (["frames/f0.png"], "frames/f0.png is an image, not a video"),
        (["gone.mp4"], "gone.mp4 does not exist"),
    ],
)
def test_extraction_errors_write_nothing(run, walk, arguments, message):
    result = run("video", "extract", *arguments, "-o", "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not os.path.exists("out")
