"""``ndframes patches``: the sheet, the statistics, and errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import ndframes as nf
from ndframes.feed import GridPatches


@pytest.fixture
def dataset(tmp_path):
    """Two images of one colour each, with boxes of two classes."""
    images, annotations = [], []
    for image_id, colour in ((1, 40), (2, 200)):
        Image.fromarray(np.full((128, 192, 3), colour, np.uint8)).save(tmp_path / f"{image_id}.png")
        images.append({"id": image_id, "file_name": f"{image_id}.png", "height": 128, "width": 192})
        annotations.append({"id": image_id, "image_id": image_id, "category_id": image_id, "bbox": [20, 30, 24, 16]})
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cup"}]
    (tmp_path / "data.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return "data.json"


def test_the_report_counts_the_sample(run, dataset):
    result = run("patches", dataset, "--shape", "64,64", "--json", "--backend", "none")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["kinds"] == {"positive": 500, "negative": 500}
    assert report["sample"] == 1000
    assert report["images"] == 2
    assert {name: item["dataset"] for name, item in report["classes"].items()} == {"cat": 1, "cup": 1}
    assert sum(item["sample"] for item in report["classes"].values()) == 500
    assert report["empty"] == 500
    assert report["patches_per_second"] > 0


def test_the_sheet_shows_the_patches_with_their_boxes(run, dataset, tmp_path):
    result = run("patches", dataset, "--shape", "64,64", "--around", "grid", "-o", "sheet.png", "--backend", "none")
    assert result.exit_code == 0, result.stderr
    assert "sheet.png: 12 patches" in result.stdout
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    frames = nf.CocoFrames(tmp_path / "data.json", backend=None)
    colours = [{1: 40, 2: 200}[patch.image_id] for patch in GridPatches(frames, 64)]
    across = (sheet.shape[1] - 8) // 200
    for number, colour in enumerate(colours):
        top, left = 8 + number // across * 200, 8 + number % across * 200
        assert (sheet[top + 180 : top + 190, left + 180 : left + 190] == colour).all()
    # The box of the first image, enlarged three times; its border is drawn over the pixels.
    first = sheet[8:200, 8:200]
    assert (first[3 * 38, 3 * 30] == 40).all()
    assert (first != 40).any(axis=2)[3 * 30 - 2 : 3 * 46 + 3, 3 * 20 - 2 : 3 * 44 + 3].sum() > 400


def test_a_table_is_printed_for_people(run, dataset):
    result = run("patches", dataset, "--around", "random", "--shape", "32,48", "--backend", "none")
    assert result.exit_code == 0, result.stderr
    for text in ("2 annotations of 2 classes in 2 images", "1,000 random", "cat: ", "patches a second"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1.png"], "not a dataset"),
        (["gone.json"], "gone.json"),
        (["data.json", "--shape", "64"], "height,width"),
        (["data.json", "--shape", "0,64"], "height,width"),
        (["data.json", "-o", "sheet.jpg"], "must end in .png"),
        (["data.json", "--shape", "4000,4000"], "4,000 x 4,000"),
        (["data.json", "--around", "sideways"], "sideways"),
    ],
)
def test_bad_arguments_are_one_error(run, dataset, tmp_path, arguments, message):
    result = run("patches", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "sheet.jpg").exists()
