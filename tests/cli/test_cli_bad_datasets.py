"""Malformed COCO datasets: one line that names what is wrong, for every command that takes a dataset."""

from __future__ import annotations

import json

import pytest


def place(content, path, value):
    *parents, last = path
    for key in parents:
        content = content[key]
    content[last] = value


BAD = {
    "a category_id": (("annotations", 0, "category_id"), [1], "annotation 1: category_id is [1]"),
    "an image_id": (("annotations", 0, "image_id"), {}, "annotation 1: image_id is {}"),
    "a category's id": (("categories", 0, "id"), [1], "the id of a category is a list or an object"),
    "an image's id": (("images", 0, "id"), [1], "an id of its images is a list or an object"),
    "two images": (("images", 0, "id"), 2, "the id 2 belongs to 2 images"),
    "videos": (("videos", 0), {"name": "walk"}, "'videos' is not a list of objects with ids"),
    "files": (("images", 0, "auxiliary"), 5, "auxiliary must be a list of dictionaries, got 5"),
    "assets": (("images", 0, "assets"), "x", "assets must be a list of dictionaries, got 'x'"),
}


@pytest.mark.parametrize("name", BAD)
def test_info(run, dataset, name):
    content = json.loads(dataset.read_text())
    path, value, message = BAD[name]
    place(content, path, value)
    dataset.write_text(json.dumps(content))
    for options in ((), ("--json",)):
        result = run("info", dataset, *options)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_size_that_is_no_number(run, dataset):
    content = json.loads(dataset.read_text())
    place(content, ("images", 0, "height"), [5])
    dataset.write_text(json.dumps(content))
    assert "[5] x 600 px: 1 image" in run("info", dataset).stdout


def test_the_video_of_an_image(run, dataset):
    content = json.loads(dataset.read_text())
    place(content, ("images", 0, "video_id"), [5])
    dataset.write_text(json.dumps(content))
    result = run("info", dataset, "--image-id", "1")
    assert (result.exit_code, "image 1: video_id is [5]" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", [("info",), ("show",), ("crop", "--region", "0:1,0:1", "-o", "a.png")])
def test_a_file_that_is_nested_too_deeply(run, tmp_path, command):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    result = run(*command, "deep.json")
    assert (result.exit_code, "nested too deeply" in result.stderr) == (2, True)


def test_a_picture_of_bad_categories(run, dataset):
    content = json.loads(dataset.read_text())
    place(content, ("categories", 0, "id"), {})
    dataset.write_text(json.dumps(content))
    result = run("show", dataset, "--image-id", "1", "-o", "a.png")
    assert (result.exit_code, "the id of a category is a list or an object" in result.stderr) == (2, True)
