"""Videos and sequences in the commands ``crop``, ``show``, ``info``, ``prepare`` and ``cache``."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from kit.videos import Encoding
from PIL import Image

import ndframes as nf
from ndframes.cache.cache import Cache
from ndframes.entries.estimates import advise, estimate_forms
from ndframes.spec.backends import coerce_backend
from ndframes.text import format_bytes
from ndframes.video.index import decode_all
from ndframes.video.indexing import build_index
from ndframes.video.planes import to_pixels

COUNT = 30
H264 = Encoding("libx264", options={"preset": "veryfast", "crf": "18", "bf": "2"})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A video of 30 frames of 64 x 96 px, and its frames as decoded from the start."""
    path = tmp_path_factory.mktemp("made") / "walk.mp4"
    H264(path, COUNT)
    index = build_index(str(path))
    return path, np.stack([to_pixels(frame, is_gray=index.is_gray) for frame in decode_all(str(path), index.stream)])


@pytest.fixture
def frames(made, tmp_path):
    """The video as ``walk.mp4`` in the folder of the command; returns its frames."""
    (tmp_path / "walk.mp4").symlink_to(made[0])
    return made[1]


@pytest.fixture
def images(tmp_path):
    """Four images in the folder ``walk``; returns their pixels in order."""
    (tmp_path / "walk").mkdir()
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 255, (4, 30, 40, 3), np.uint8)
    for number, image in zip((9, 10, 12, 100), pixels, strict=True):
        Image.fromarray(image).save(tmp_path / "walk" / f"f{number}.png")
    return pixels


def wait_until_settled(path):
    """Wait until the index of the file is cached: a file that changed within two seconds is indexed each time."""
    time.sleep(max(0.0, path.stat().st_mtime + 2.1 - time.time()))


# -- crop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "place"), [(0, 0), (13, 13), (29, 29), (-1, 29), (-30, 0)])
def test_a_frame_is_cropped(run, frames, number, place):
    result = run("crop", "walk.mp4", "--frame", number, "-o", "a.npy")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"a.npy: 64 x 96 x 3 uint8 of frame {place} of 30, read from the source in ")
    np.testing.assert_array_equal(np.load("a.npy"), frames[place])


def test_a_region_of_some_channels_of_a_frame(run, frames):
    run("crop", "walk.mp4", "--frame", 17, "--region", "-40::3,10:50", "--channels", "b|r", "-o", "a.tif")
    np.testing.assert_array_equal(tifffile.imread("a.tif"), frames[17][-40::3, 10:50][..., [2, 0]])
    run("crop", "walk.mp4", "--frame", 17, "--region", "-5:20,90:100", "--pad", "edge", "-o", "a.png")
    expected = np.pad(frames[17], ((5, 0), (0, 4), (0, 0)), mode="edge")[:25, 90:100]
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), expected)


@pytest.mark.parametrize(
    "options",
    [("--scale", "0.5"), ("--shape", "50x70", "--interpolation", "cubic"), ("--rotate", "30", "--around", "10,20.5")],
)
def test_a_frame_is_resampled_and_rotated_like_an_image(run, frames, options):
    np.save("still.npy", frames[20])
    for source in (("walk.mp4", "--frame", 20), ("still.npy",)):
        assert run("crop", *source, "--region", "4:60,8:80", *options, "-o", f"{source[0]}.npy").exit_code == 0
    np.testing.assert_array_equal(np.load("walk.mp4.npy"), np.load("still.npy.npy"))


@pytest.mark.parametrize("backend", ["intra", "cog", "npy"])
def test_a_frame_is_read_through_an_entry_of_the_whole_video(run, frames, tmp_path, backend):
    for number, origin in ((5, "through a new cache entry"), (28, "from the cache")):
        result = run("crop", "walk.mp4", "--frame", number, "--backend", backend, "-o", "a.npy")
        assert f" of frame {number} of 30, read {origin} in " in result.stdout
        np.testing.assert_array_equal(np.load("a.npy"), frames[number])
    report = json.loads(run("prepare", "walk.mp4", "--backend", backend, "--json").stdout)
    assert (report["prepared"], report["present"]) == (0, 1)


@pytest.mark.parametrize("backend", ["auto", "none"])
def test_auto_reads_the_video_itself(run, frames, backend):
    result = run("crop", "walk.mp4", "--frame", 7, "--backend", backend, "-o", "a.npy")
    assert "read from the source in" in result.stdout
    np.testing.assert_array_equal(np.load("a.npy"), frames[7])


@pytest.mark.parametrize("command", ["crop", "show"])
def test_the_index_of_a_video_is_stored_in_the_workdir(run, made, frames, tmp_path, command):
    wait_until_settled(made[0])
    assert run(command, "walk.mp4", "--frame", 3, "-o", "a.png", "--workdir", "mine").exit_code == 0
    assert [entry.path.suffix for entry in Cache(tmp_path / "mine").ls()] == [".npy"]
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("path", ["walk", "walk/*.png", "walk/f{:d}.png"])
@pytest.mark.parametrize(("number", "place"), [(0, 0), (2, 2), (-1, 3)])
def test_an_image_of_a_sequence_is_cropped(run, images, path, number, place):
    result = run("crop", path, "--frame", number, "--region", "3:20,-9:", "-o", "a.npy")
    assert result.stdout.startswith(f"a.npy: 17 x 9 x 3 uint8 of frame {place} of 4, read from the source in ")
    np.testing.assert_array_equal(np.load("a.npy"), images[place, 3:20, -9:])


def test_an_image_of_a_sequence_is_read_from_its_own_entry(run, images):
    run("prepare", "walk/f10.png")
    assert "read from the cache in" in run("crop", "walk", "--frame", 1, "-o", "a.npy").stdout
    np.testing.assert_array_equal(np.load("a.npy"), images[1])


def test_the_only_frame_needs_no_number(run, images):
    result = run("crop", "walk/f12.*", "-o", "a.npy")
    assert result.stdout.startswith("a.npy: 30 x 40 x 3 uint8 of frame 0 of 1, read from the source")
    np.testing.assert_array_equal(np.load("a.npy"), images[2])


@pytest.mark.parametrize("output", ["walk/f12.png", "walk/f100.png", "link.png"])
def test_images_of_the_sequence_are_not_overwritten(run, images, output):
    os.symlink("walk/f9.png", "link.png")
    before = Path(output).read_bytes()
    result = run("crop", "walk", "--frame", 2, "-o", output)
    assert (result.exit_code, result.stderr) == (
        2,
        f"ndframes: error: {output} is the source itself; write to another file\n",
    )
    assert Path(output).read_bytes() == before


@pytest.mark.parametrize("command", ["crop", "show"])
def test_a_link_to_the_video_is_not_overwritten(run, frames, made, command):
    before = made[0].read_bytes()
    os.symlink("walk.mp4", "link.png")
    result = run(command, "walk.mp4", "--frame", 2, "-o", "link.png")
    assert (result.exit_code, result.stderr) == (
        2,
        "ndframes: error: link.png is the source itself; write to another file\n",
    )
    assert made[0].read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("crop", "walk.mp4"),
            "walk.mp4 is a video of 30 frames; choose one with --frame, such as --frame 0, or save several with 'ndframes video extract'",
        ),
        (
            ("crop", "walk"),
            "walk is a sequence of 4 images; choose one with --frame, such as --frame 0 for walk/f9.png",
        ),
        (
            ("crop", "walk.mp4", "--frame", 30),
            "walk.mp4 has 30 frames; --frame 30 is out of range, allowed: -30 to 29",
        ),
        (("show", "walk.mp4", "--frame", -31), "walk.mp4 has 30 frames; --frame -31 is out of range"),
        (
            ("show", "walk/*.png", "--frame", 4),
            "walk/*.png has 4 images; --frame 4 is out of range, allowed: -4 to 3",
        ),
        (
            ("crop", "walk/f9.png", "--frame", 0),
            "walk/f9.png is an image; --frame is only for videos, folders, globs and patterns",
        ),
        (
            ("show", "data.kwcoco.json", "--frame", 0),
            "data.kwcoco.json is a COCO dataset; choose an image with --image-id (--frame is for videos and sequences)",
        ),
        (
            ("crop", "walk.mp4", "--frame", 0, "--space", "asset"),
            "walk.mp4 is a video; --space is only for COCO datasets (.json or .zip)",
        ),
        (
            ("show", "walk", "--image-id", 7),
            "walk is a sequence of images; --image-id is only for COCO datasets (.json or .zip)",
        ),
        (("crop", "gone.mp4", "--frame", 0), "gone.mp4 does not exist; check the path"),
        (("show", "torn.mp4"), "torn.mp4 "),
    ],
)
def test_errors_are_one_line(run, frames, images, made, tmp_path, arguments, message):
    (tmp_path / "torn.mp4").write_bytes(made[0].read_bytes()[:500])
    result = run(*arguments, "-o", "a.png")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"ndframes: error: {message}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


# -- show ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "number", "position"),
    [((), 0, "0, the first of 30"), (("--frame", 21), 21, "21 of 30"), (("--frame", -1), 29, "29 of 30")],
)
def test_a_frame_is_shown(run, frames, arguments, number, position):
    result = run("show", "walk.mp4", *arguments, "--no-stretch")
    assert result.stdout.startswith(f"walk.frame{number}.show.png: r|g|b of 0:64,0:96 of frame {position}; ")
    picture = np.asarray(Image.open(f"walk.frame{number}.show.png").convert("RGB"))
    np.testing.assert_array_equal(picture[: 5 * 64, : 5 * 96], frames[number].repeat(5, axis=0).repeat(5, axis=1))


def test_the_first_image_of_a_sequence_is_shown(run, images):
    result = run("show", "walk", "--no-stretch")
    assert result.stdout.startswith("f9.show.png: r|g|b of 0:30,0:40 of frame 0, the first of 4; ")
    picture = np.asarray(Image.open("f9.show.png").convert("RGB"))
    np.testing.assert_array_equal(picture[: 12 * 30, : 12 * 40], images[0].repeat(12, axis=0).repeat(12, axis=1))


# -- info ---------------------------------------------------------------------------------------------------------


def test_info_of_a_video(run, frames, made, tmp_path):
    facts = json.loads(run("info", "walk.mp4", "--json").stdout)
    video = facts.pop("video")
    assert facts.pop("costs")
    assert facts.pop("advice")
    assert facts == {
        "path": "walk.mp4",
        "file_bytes": made[0].stat().st_size,
        "format": "mp4",
        "shape": list(frames.shape),
        "dtype": "uint8",
        "channels": ["r", "g", "b"],
        "decoded_bytes": frames.nbytes,
        "cache": {"workdir": str(tmp_path / "work"), "entries": []},
    }
    expected = {
        "codec": "h264",
        "fps": 25.0,
        "duration": 1.2,
        "keyframe_count": 3,
        "mean_gop": 10.0,
        "pixel_format": "yuv420p",
    }
    assert {name: video[name] for name in expected} == expected


def test_info_estimates_the_costs_of_the_forms(run, frames, made):
    """Sizes match those of the entries; times depend on the machine."""
    facts = json.loads(run("info", "walk.mp4", "--json").stdout)
    costs = {cost["form"]: cost for cost in facts["costs"]}
    assert list(costs) == ["none", "intra", "cog", "npy"]
    assert (costs["none"]["entry_bytes"], costs["npy"]["entry_bytes"]) == (0, frames.nbytes)
    for form in ("intra", "cog"):
        run("prepare", "walk.mp4", "--backend", form)
    entries = json.loads(run("info", "walk.mp4", "--json").stdout)["cache"]["entries"]
    for entry in entries:
        assert 0.4 < costs[entry["form"]]["entry_bytes"] / entry["entry_bytes"] < 2
    for cost in costs.values():
        assert 0 < cost["frame_seconds"] < 60
        assert 0 < cost["crop_seconds"] < 60
        assert (cost["prepare_seconds"] > 0) == (cost["form"] != "none")
    estimates = estimate_forms(nf.SimpleFrames({"a": "walk.mp4"}, backend=None).image("a").reader)
    assert [estimate.form for estimate in estimates] == list(costs)
    assert advise(estimates).partition(" ")[0] in ("'intra'", "'cog'", "none:")


def test_info_lists_the_cached_forms(run, frames, tmp_path):
    forms = (("--backend", "intra"), ("--backend", "intra", "--quality", 20), ("--blockframes", 4, "--blocksize", 32))
    for options in forms:
        assert run("prepare", "walk.mp4", *options).exit_code == 0
    entries = json.loads(run("info", "walk.mp4", "--json").stdout)["cache"]["entries"]
    assert [(entry["form"], entry["options"]) for entry in entries] == [
        ("cog", {"blocksize": 32, "blockframes": 4}),
        ("intra", {}),
        ("intra", {"quality": 20}),
    ]
    for entry in entries:
        assert Path(entry["entry_path"]).stat().st_size == entry["entry_bytes"]
        spec = {"type": entry["form"], "config": entry["options"]}
        with_form = nf.SimpleFrames({"a": "walk.mp4"}, workdir=tmp_path / "work", backend=spec)
        assert str(with_form.explain("a").files[0].entry_path) == entry["entry_path"]
    lines = run("info", "walk.mp4").stdout.splitlines()
    first = lines.index(next(line for line in lines if line.startswith("cache ")))
    listed = [line[12:].rpartition(", ")[0] for line in lines[first : first + 3]]
    assert listed == ["cog (blocksize 32, blockframes 4)", "intra", "intra (quality 20)"]


def test_info_ignores_entries_of_an_earlier_state(run, made, tmp_path):
    shutil.copy(made[0], tmp_path / "other.mp4")
    run("prepare", "other.mp4", "--backend", "intra")
    assert len(json.loads(run("info", "other.mp4", "--json").stdout)["cache"]["entries"]) == 1
    H264(tmp_path / "other.mp4", 3)
    facts = json.loads(run("info", "other.mp4", "--json").stdout)
    assert (facts["shape"], facts["cache"]["entries"]) == ([3, 64, 96, 3], [])


def test_info_without_the_cache_estimates_nothing(run, frames):
    facts = json.loads(run("info", "walk.mp4", "--backend", "none", "--json").stdout)
    assert (facts["cache"], facts["costs"], facts["advice"]) == (None, None, None)
    names = [line.split("  ")[0] for line in run("info", "walk.mp4", "--backend", "none").stdout.splitlines()]
    assert names == ["path", "format", "size", "pixels", "frames", "key frames"]


def test_info_of_a_video_as_a_table(run, frames):
    lines = run("info", "walk.mp4").stdout.splitlines()
    assert "size        30 x 64 x 96 px (time x height x width), 553 kB decoded" in lines
    assert "pixels      uint8, 3 channels: r|g|b; stored as yuv420p" in lines
    assert "frames      30, 25 per second, duration 1.2 s" in lines
    assert "key frames  3, every 10 frames on average" in lines
    assert "cache       no entries yet" in lines
    table = [line[12:].split() for line in lines[7:12]]
    assert table[0] == ["form", "on", "disk", "per", "frame", "per", "crop", "to", "prepare"]
    assert [cells[0] for cells in table[1:]] == ["none", "intra", "cog", "npy"]
    assert (table[1][1], table[1][-1], table[4][1:3]) == ("nothing", "nothing", ["553", "kB"])
    assert lines[7].startswith("costs       ")
    assert "estimated from at most 16 frames, on this machine" in lines[12]
    assert lines[13].startswith("advice      ")


# -- prepare ------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(made, tmp_path, images):
    """A folder with a video, an image and another file; returns the frames of the video."""
    (tmp_path / "mixed").mkdir()
    shutil.copy(made[0], tmp_path / "mixed" / "walk.MP4")
    shutil.copy(tmp_path / "walk" / "f9.png", tmp_path / "mixed")
    (tmp_path / "mixed" / "notes.txt").write_text("no image")
    return made[1]


def is_cached(path, workdir, backend):
    return nf.SimpleFrames({"a": path}, workdir=workdir, backend=backend).explain("a").files[0].is_cached


@pytest.mark.parametrize("options", [(), ("--compress", "ZSTD"), ("--backend", "auto")])
def test_videos_are_only_indexed(run, mixed, tmp_path, options):
    result = run("prepare", "mixed", *options)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("2 prepared (")  # the image, and the index of the video
    assert lines[1:3] == [
        "1 file skipped: no image or video extension",
        "1 video indexed, not converted; use --backend intra, cog or npy to convert videos, and 'ndframes info VIDEO' to "
        "compare the costs",
    ]
    assert not any(is_cached("mixed/walk.MP4", tmp_path / "work", form) for form in ("intra", "cog", "npy"))
    report = json.loads(run("prepare", "mixed", *options, "--json").stdout)
    assert (report["present"], report["videos_left"], report["skipped"]) == (2, 1, 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_videos_and_images_are_prepared_together(run, mixed, images, tmp_path, workers):
    result = run("prepare", "mixed", "--backend", "intra", "--workers", workers)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("2 prepared (")
    assert "not converted" not in result.stdout
    assert is_cached("mixed/f9.png", tmp_path / "work", "auto")
    both = nf.SimpleFrames({"a": "mixed/walk.MP4", "b": "mixed/f9.png"}, workdir=tmp_path / "work", backend="intra")
    assert all(both.explain(image_id).files[0].is_cached for image_id in both)
    np.testing.assert_array_equal(both.load_image("a"), mixed)
    np.testing.assert_array_equal(both.load_image("b"), images[0])


def test_the_quality_is_passed_on(run, frames, tmp_path):
    assert run("prepare", "walk.mp4", "--backend", "intra", "--quality", 30).exit_code == 0
    form = {"type": "intra", "config": {"quality": 30}}
    assert is_cached("walk.mp4", tmp_path / "work", form)
    assert not is_cached("walk.mp4", tmp_path / "work", "intra")
    got = nf.open("walk.mp4", workdir=tmp_path / "work", backend=form)[...]
    assert 0 < np.abs(got.astype(int) - frames).mean() < 10


def test_blockframes_apply_to_videos_only(run, mixed, tmp_path):
    assert run("prepare", "mixed", "--blockframes", 5).stdout.startswith("2 prepared (")
    form = coerce_backend({"type": "cog", "config": {"blockframes": 5}})
    video = nf.open("mixed/walk.MP4", workdir=tmp_path / "work", backend=form)
    assert is_cached("mixed/walk.MP4", tmp_path / "work", form)
    assert video.chunks == (5, 64, 64, 3)
    np.testing.assert_array_equal(video[...], mixed)
    assert is_cached("mixed/f9.png", tmp_path / "work", "auto")


@pytest.mark.parametrize("options", [(), ("--backend", "intra")])
def test_a_missing_video_fails(run, frames, options):
    result = run("prepare", "gone.mp4", "walk.mp4", "no*.mp4", *options)
    assert result.exit_code == 1
    assert "1 prepared" in result.stdout
    assert ", 2 failed, " in result.stdout
    assert ("1 video indexed, not converted" in result.stdout) == (not options)
    assert [line.split()[1] for line in result.stderr.splitlines()] == ["gone.mp4", "no*.mp4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--backend", "intra", "--quality", 99), "quality=99; allowed: whole numbers from 1 to 51"),
        (("--backend", "intra", "--blocksize", 32), "'intra' has no option blocksize"),
        (("--backend", "npy", "--blockframes", 4), "'npy' has no option blockframes"),
        (("--blockframes", 0), "blockframes=0"),
    ],
)
def test_bad_options_of_videos_are_refused(run, frames, tmp_path, options, message):
    result = run("prepare", "walk.mp4", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not (tmp_path / "work").exists()


# -- cache --------------------------------------------------------------------------------------------------------


def test_the_cache_commands_support_avi_entries(run, frames, made, tmp_path):
    wait_until_settled(made[0])
    run("prepare", "walk.mp4", "--backend", "intra")
    cache = nf.Cache(tmp_path / "work")
    (entry,) = (entry for entry in cache.ls() if entry.path.suffix == ".avi")
    assert str(entry.path.relative_to(cache.root)) in run("cache", "ls").stdout
    forms = json.loads(run("cache", "stat", "--json").stdout)["by_backend"]
    assert (forms[0]["suffix"], forms[0]["entries"], forms[0]["total_bytes"]) == (".avi", 1, entry.size_bytes)
    assert f"avi {entry.key.backend_id}: 1 entry, " in run("cache", "stat").stdout
    assert run("cache", "verify", "--read-data").exit_code == 0
    entry.path.chmod(0o600)
    content = bytearray(entry.path.read_bytes())
    content[len(content) // 2] ^= 255
    entry.path.write_bytes(content)
    result = run("cache", "verify", "--read-data", "--repair")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"bad: {entry.path}: segment ")
    assert "quarantine     1 file, " in run("cache", "stat").stdout
    assert f"0 entries and 1 leftover removed ({format_bytes(entry.size_bytes)}), 1 kept" in run("cache", "gc").stdout
    assert run("crop", "walk.mp4", "--frame", 9, "--backend", "intra", "-o", "a.npy").exit_code == 0
    np.testing.assert_array_equal(np.load("a.npy"), frames[9])
