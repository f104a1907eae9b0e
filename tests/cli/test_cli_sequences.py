"""``info`` and ``prepare`` of folders, globs and patterns."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import ndframes as nf


@pytest.fixture
def walk(tmp_path):
    """A folder with four images of 30 x 40 px and another file; returns the bytes of the images."""
    folder = tmp_path / "walk"
    folder.mkdir()
    for number in (9, 10, 12, 100):
        Image.fromarray(np.full((30, 40, 3), number, np.uint8)).save(folder / f"f{number}.png")
    (folder / "notes.txt").write_text("no image")
    return sum(path.stat().st_size for path in folder.glob("*.png"))


@pytest.mark.parametrize(("path", "is_numbered"), [("walk", False), ("walk/*.png", False), ("walk/f{:d}.png", True)])
def test_info_of_a_sequence(run, walk, tmp_path, path, is_numbered):
    facts = json.loads(run("info", path, "--json").stdout)
    numbers = [9, 10, 12, 100]
    assert facts == {
        "path": path,
        "images": 4,
        "first_file": "walk/f9.png",
        "last_file": "walk/f100.png",
        "frame_ids": numbers if is_numbered else [f"f{number}.png" for number in numbers],
        "file_bytes": walk,
        "format": "PNG",
        "shape": [4, 30, 40, 3],
        "dtype": "uint8",
        "channels": ["r", "g", "b"],
        "decoded_bytes": 4 * 30 * 40 * 3,
        "cache": {"workdir": str(tmp_path / "work"), "cached_images": 0},
    }
    assert not (tmp_path / "work").exists()
    lines = run("info", path, "--backend", "none").stdout.splitlines()
    lines = [" ".join(line.split()) for line in lines]
    assert ("numbers 9 to 100, 88 missing" in lines) == is_numbered
    assert "size 4 x 30 x 40 px (time x height x width), 14.4 kB decoded" in lines
    assert "to walk/f100.png" in lines
    assert not any(line.startswith("cache") for line in lines)


def test_info_counts_cached_images(run, walk):
    run("prepare", "walk/f9.png", "walk/f12.png")
    assert json.loads(run("info", "walk", "--json").stdout)["cache"]["cached_images"] == 2
    assert "2 of 4 images cached" in run("info", "walk").stdout
    assert json.loads(run("info", "walk", "--backend", "npy", "--json").stdout)["cache"]["cached_images"] == 0


def test_prepare_takes_patterns(run, walk, tmp_path):
    assert run("prepare", "walk/f{:d}.png").stdout.startswith("4 prepared (")
    assert run("prepare", "walk").stdout.startswith("0 prepared (0 B), 4 already there")
    walked = nf.open("walk", workdir=tmp_path / "work", backend="auto")
    assert walked[:, 0, 0, 0].tolist() == [9, 10, 12, 100]


@pytest.mark.parametrize("arguments", [("crop", "walk", "-o", "a.png"), ("info", "walk", "--image-id", "7")])
def test_commands_for_one_image(run, walk, tmp_path, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "walk is a sequence of " in result.stderr
    assert (
        "--frame 0 for walk/f9.png" if "crop" in arguments else "--image-id is only for COCO datasets"
    ) in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("empty", "empty is a directory without images: it holds no file; give the path"),
        (
            "walk/*.tif",
            "walk/*.tif does not exist, and as a pattern it matches nothing; walk holds 5 files, such as f10.png",
        ),
        ("odd", "odd/b.png is 5 x 5 px in an image of 30 x 40 px"),
    ],
)
def test_info_of_bad_sequences(run, walk, tmp_path, path, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    for name, extents in (("a", (40, 30)), ("b", (5, 5))):
        Image.new("RGB", extents).save(tmp_path / "odd" / f"{name}.png")
    result = run("info", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
