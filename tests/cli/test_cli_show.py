"""``ndframes show``: pixels, annotations and legend of the picture."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ndframes as nf
from ndframes.cli.annotations import _unpack_runs
from ndframes.pixels.drawing import palette_colour
from ndframes.pixels.pictures import (
    BLUE,
    GREEN,
    MAGENTA,
    RED,
    WHITE,
    Band,
    compose_bands,
    find_stretch_limits,
)


def shown(run, tmp_path, *arguments):
    """The picture that the command saves."""
    result = run("show", *arguments, "-o", "out.png")
    assert result.exit_code == 0, result.stderr
    return np.asarray(Image.open(tmp_path / "out.png"))


def expect(path, region, codes, colours, percentiles=(2, 98), *, is_joint=False, **asked):
    """The picture above the legend, computed with Frames and numpy."""
    loaded = nf.SimpleFrames({0: path}, backend=None).load_region(0, region, codes, nodata="mask", **asked)
    pixels, missing = np.ma.getdata(loaded), np.ma.getmaskarray(loaded)
    parts = [slice(None)] * pixels.shape[2] if is_joint else [slice(i, i + 1) for i in range(pixels.shape[2])]
    limits = [find_stretch_limits(pixels[..., part], missing[..., part], percentiles) for part in parts]
    bands = [Band("", colour, *ends) for colour, ends in zip(colours, limits, strict=True)]
    return compose_bands(pixels, missing, bands)


# -- pixels -------------------------------------------------------------------------------------------------------


def test_unstretched_pixels_equal_the_photograph(run, coffee, tmp_path):
    picture = shown(run, tmp_path, coffee[0], "--no-stretch")
    np.testing.assert_array_equal(picture[:400], coffee[1], strict=True)
    assert picture.shape[1] == 600


def test_large_images_are_reduced(run, tmp_path):
    path = str(nf.demo_paths()["retina"])
    picture = shown(run, tmp_path, path, "--max-px", "500", "--no-stretch")
    expected = nf.SimpleFrames({0: path}, backend=None).load_region(0, scale=500 / 1411)
    assert expected.shape == (500, 500, 3)
    np.testing.assert_array_equal(picture[:500], expected)


def test_the_longer_side_is_at_most_1024(run, tmp_path):
    np.save(tmp_path / "in.npy", np.zeros((500, 4096), np.uint8))
    picture = shown(run, tmp_path, "in.npy")
    assert picture.shape[1] == 1024
    assert 125 + 60 < picture.shape[0] < 125 + 180


def test_small_images_are_enlarged(run, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    np.save(tmp_path / "in.npy", pixels)
    picture = shown(run, tmp_path, "in.npy", "--no-stretch")
    np.testing.assert_array_equal(picture[: 20 * 17], pixels.repeat(17, 0).repeat(17, 1))


def test_a_region(run, coffee, tmp_path):
    picture = shown(run, tmp_path, coffee[0], "--region", "-300:,100:500", "--no-stretch")
    np.testing.assert_array_equal(picture[:300, :400], coffee[1][100:, 100:500])


def test_natural_colours_are_stretched_together(run, coffee, tmp_path):
    picture = shown(run, tmp_path, coffee[0])
    expected = expect(coffee[0], np.s_[:, :], "r|g|b", (RED, GREEN, BLUE), is_joint=True)
    np.testing.assert_array_equal(picture[:400], expected)


@pytest.mark.parametrize(
    ("codes", "colours"), [("b|r|g", (RED, GREEN, BLUE)), ("g|b", (MAGENTA, GREEN)), ("b", (WHITE,))]
)
def test_other_channels_are_stretched_separately(run, coffee, tmp_path, codes, colours):
    picture = shown(run, tmp_path, coffee[0], "--channels", codes, "--stretch", "10,90.5")
    expected = expect(coffee[0], np.s_[:, :], codes, colours, (10, 90.5))
    np.testing.assert_array_equal(picture[:400], expected)


@pytest.mark.parametrize(
    ("bands", "codes"),
    [(1, "gray"), (2, "gray"), (4, "r|g|b"), (5, "band.0|band.1|band.2")],
)
def test_default_channels(run, tmp_path, bands, codes):
    np.save(tmp_path / "in.npy", np.random.default_rng(1).integers(0, 9999, (300, 300, bands), np.uint16))
    result = run("show", "in.npy")
    assert result.stdout.startswith(f"in.show.png: {codes} of 0:300,0:300; ")
    assert (tmp_path / "in.show.png").exists()


@pytest.mark.parametrize("dtype", ["bool", "int16", "uint16", "float16", "float32", "float64", "complex64", "int64"])
def test_all_dtypes_are_shown(run, tmp_path, dtype):
    values = np.arange(300 * 300).reshape(300, 300) % 251
    np.save(tmp_path / "in.npy", (values > 100 if dtype == "bool" else values).astype(dtype))
    picture = shown(run, tmp_path, "in.npy")[:300, :300]
    assert (picture.min(), picture.max()) == (0, 255)


def test_missing_data_is_a_checkerboard_and_does_not_affect_the_stretch(run, tmp_path):
    pixels = np.tile(np.linspace(5, 6, 300, dtype=np.float32)[:, None], (1, 300))
    pixels[100:140, 50:150] = np.nan
    np.save(tmp_path / "in.npy", pixels)
    picture = shown(run, tmp_path, "in.npy")
    assert set(np.unique(picture[100:140, 50:150])) == {204, 236}
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[299, 299].tolist() == [255, 255, 255]


def test_a_constant_image_is_gray(run, tmp_path):
    np.save(tmp_path / "in.npy", np.full((300, 300), 7, np.uint8))
    assert np.unique(shown(run, tmp_path, "in.npy")[:300, :300]).tolist() == [128]


# -- the legend ---------------------------------------------------------------------------------------------------


def test_the_legend_has_a_ramp_of_each_channel_and_a_scale_bar(run, coffee, tmp_path):
    strip = shown(run, tmp_path, coffee[0], "--channels", "b|g|r")[400:]
    assert (strip[[0, -1]] == 255).all()
    for colour in (RED, GREEN, BLUE):
        assert (strip == colour).all(axis=2).any(), colour
    dark = (strip == (34, 34, 34)).all(axis=2)
    assert max(row.sum() for row in dark) >= 100  # the bar of 100 px


def test_the_legend_of_a_narrow_image_is_readable(run, tmp_path):
    np.save(tmp_path / "in.npy", np.zeros((900, 12), np.uint8))
    picture = shown(run, tmp_path, "in.npy")
    assert picture.shape[1] == 360
    assert (picture[:900, 12:] == 255).all()


def test_the_size_of_the_legend_is_constant(run, tmp_path, coffee):
    whole = shown(run, tmp_path, coffee[0])
    part = shown(run, tmp_path, coffee[0], "--region", "0:300,:")
    assert whole.shape[0] - 400 == part.shape[0] - 300


# -- annotations --------------------------------------------------------------------------------------------------


def differs(run, tmp_path, dataset, *arguments):
    """The pixels that annotations change, and the picture with annotations."""
    with_marks = shown(run, tmp_path, dataset, *arguments)
    content = json.loads(dataset.read_text())
    bare = dataset.with_name("bare.json")
    bare.write_text(json.dumps({**content, "annotations": []}))
    without = shown(run, tmp_path, bare, *arguments)
    height = without.shape[0] - 120
    return (with_marks[:height] != without[:height]).any(axis=2), with_marks


def test_annotations_are_drawn_at_their_positions(run, dataset, tmp_path):
    changed, picture = differs(run, tmp_path, dataset, "--image-id", "1")
    cup, spoon = palette_colour(0), palette_colour(1)
    for y, x in ((40, 250), (160, 200), (100, 100), (100, 300)):  # the middles of the box's sides
        assert (picture[y, x] == cup).all()
    assert not changed[60:150, 110:290].any()  # a box is not filled
    for y, x in ((100, 450), (200, 450), (150, 400), (150, 500)):
        assert (picture[y, x] == spoon).all()
    assert changed[130:190, 410:490].mean() > 0.9  # a polygon is
    assert (picture[348:352, 548:552] == spoon).all()  # the keypoint
    assert not changed[250:320].any()


def test_annotations_follow_region_and_scale(run, dataset, tmp_path):
    options = ("--image-id", "1", "--region", "20:220,90:490", "--max-px", "200")
    _, picture = differs(run, tmp_path, dataset, *options)
    cup = np.array(palette_colour(0))
    column = (picture[60, :200].astype(int) - cup).__abs__().sum(axis=1)  # halfway down: y = 140 of the image
    assert column.argmin() in (4, 5, 104, 105)  # x = (100 - 90) / 2 and (300 - 90) / 2
    row = (picture[:100, 50].astype(int) - cup).__abs__().sum(axis=1)
    assert row.argmin() in (9, 10, 69, 70)


def test_annotations_outside_the_region_are_not_counted(run, dataset):
    result = run("show", dataset, "--image-id", "1", "--region", "300:400,:", "-o", "out.png")
    assert "r|g|b of 300:400,0:600, 1 annotation; " in result.stdout


@pytest.mark.parametrize(
    "segmentation",
    [
        [[20, 10, 60, 10, 60, 50, 20, 50]],
        [20, 10, 60, 10, 60, 50, 20, 50],
        {"exterior": [[20, 10], [60, 10], [60, 50], [20, 50]], "interiors": [[[30, 20], [50, 20], [50, 40], [30, 40]]]},
        [{"exterior": [[20, 10], [60, 10], [60, 50], [20, 50]], "interiors": []}],
        {"size": [60, 80], "counts": [20 * 60 + 10, *([40, 20] * 39), 40, 10 + 20 * 60]},
    ],
)
def test_segmentation_formats(run, dataset, tmp_path, segmentation):
    content = json.loads(dataset.read_text())
    content["annotations"] = [{"id": 1, "image_id": 2, "category_id": 3, "segmentation": segmentation}]
    dataset.write_text(json.dumps(content))
    changed, _ = differs(run, tmp_path, dataset, "--image-id", "2", "--no-stretch")
    inside = changed[6 * 11 : 6 * 49, 6 * 21 : 6 * 59].mean()
    has_hole = isinstance(segmentation, dict) and "exterior" in segmentation
    assert 0.5 < inside < 0.9 if has_hole else inside > 0.95
    assert not changed[: 6 * 8, : 6 * 16].any()


def test_annotations_without_category_or_outside_the_image(run, dataset):
    content = json.loads(dataset.read_text())
    content["annotations"] = [
        {"id": 1, "image_id": 2, "bbox": [1, 2, 30, 40]},
        {"id": 2, "image_id": 2, "bbox": [-1e12, -1e12, 2e12, 2e12]},
        {"id": 3, "image_id": 2, "bbox": [500, 2, 30, 40]},
        {"id": 4, "image_id": 2},
    ]
    dataset.write_text(json.dumps(content))
    assert ", 2 annotations; " in run("show", dataset, "--image-id", "2").stdout


def pack_runs(runs):
    """Pack run lengths as pycocotools does."""
    text = ""
    for number, run in enumerate(runs):
        value = run - runs[number - 2] if number > 2 else run
        while True:
            bits = value & 31
            value >>= 5
            is_last = value == (-1 if bits & 16 else 0)
            text += chr((bits | (0 if is_last else 32)) + 48)
            if is_last:
                break
    return text


@given(st.lists(st.integers(0, 10**9), max_size=9))
def test_packed_runs_are_unpacked(runs):
    assert _unpack_runs(pack_runs(runs)) == runs


def test_a_packed_mask_is_drawn_as_the_unpacked_one(run, dataset, tmp_path):
    content = json.loads(dataset.read_text())
    runs = [20 * 60 + 10, *([40, 20] * 39), 40, 10 + 20 * 60]
    pictures = []
    for counts in (runs, pack_runs(runs)):
        content["annotations"] = [{"id": 1, "image_id": 2, "segmentation": {"size": [60, 80], "counts": counts}}]
        dataset.write_text(json.dumps(content))
        pictures.append(shown(run, tmp_path, dataset, "--image-id", "2"))
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize(
    "annotation",
    [
        {"segmentation": {"size": [60, 80], "counts": [5, 5]}},
        {"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}},
        {"segmentation": {"size": [60], "counts": "0"}},
        {"segmentation": {"size": [60, 80], "counts": "~~"}},
        {"segmentation": 5},
        {"bbox": [1, 2, 3]},
        {"bbox": [1, 2, 3, float("nan")]},
        {"segmentation": [[1, 2, 3]]},
        {"segmentation": [{"interiors": []}]},
        {"keypoints": [1, 2]},
        {"keypoints": ["a", 2, 2]},
    ],
)
def test_bad_annotations_are_errors(run, dataset, annotation):
    content = json.loads(dataset.read_text())
    content["annotations"] = [{"id": 77, "image_id": 2, **annotation}]
    dataset.write_text(json.dumps(content))
    result = run("show", dataset, "--image-id", "2", "-o", "out.png")
    assert (result.exit_code, os.path.exists("out.png")) == (2, False)
    assert "annotation 77 of image 2 is not in COCO format" in result.stderr


# -- files and errors ---------------------------------------------------------------------------------------------


def test_the_default_name_of_the_picture(run, coffee, dataset, tmp_path):
    assert run("show", coffee[0]).stdout.startswith("coffee.show.png: r|g|b of 0:400,0:600; ")
    assert run("show", dataset, "--image-id", "2").stdout.startswith(
        "data.2.show.png: mask of 0:60,0:80, 0 annotations; "
    )
    assert {"coffee.show.png", "data.2.show.png"} <= set(os.listdir(tmp_path))


def test_channels_of_a_dataset(run, dataset):
    assert run("show", dataset, "--image-id", "1", "--channels", "nir|r|g").stdout.startswith(
        "data.1.show.png: nir|r|g of"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--channels", "nir"), "no channel 'nir'; there are 'r|g|b'"),
        (("--channels", "r|g|b|r"), "a picture shows 1 to 3 channels; --channels has 4: r|g|b|r"),
        (("--region", "5:5,:"), "the region is empty: the image is 400 x 600 px"),
        (("--region", "900:,:"), "the region is empty: the image is 400 x 600 px"),
        (("--region", "::2,:"), "without steps"),
        (("--region", ":,:,0:1"), "without steps"),
        (("--region", "a"), "is no slice"),
        (("-o", "out.tif"), "out.tif: the picture is a PNG file; the name must end in .png"),
        (("-o", "gone/out.png"), "there is no folder gone"),
        (("--image-id", "1"), "--image-id is only for COCO datasets"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(run, coffee, tmp_path, options, message):
    result = run("show", coffee[0], *options)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("stretch", ["2", "98,2", "-1,50", "a,b", "5,101"])
def test_bad_percentiles_are_refused(run, coffee, tmp_path, stretch):
    result = run("show", coffee[0], "--stretch", stretch)
    assert (result.exit_code, os.listdir(tmp_path)) == (2, [])
    assert "two percentiles from 0 to 100" in " ".join(result.stderr.split())


def test_the_source_is_not_overwritten(run, coffee, tmp_path):
    (tmp_path / "coffee.show.png").symlink_to(coffee[0])
    before = os.stat(coffee[0])
    result = run("show", coffee[0])
    assert (result.exit_code, "is the source itself" in result.stderr) == (2, True)
    assert os.stat(coffee[0]) == before


def test_an_error_keeps_the_existing_file(run, coffee, tmp_path):
    (tmp_path / "out.png").write_bytes(b"precious")
    assert run("show", coffee[0], "--channels", "q", "-o", "out.png").exit_code == 2
    assert (tmp_path / "out.png").read_bytes() == b"precious"
    assert shown(run, tmp_path, coffee[0]).shape[1] == 600
    assert os.listdir(tmp_path) == ["out.png"]


def test_a_missing_image(run, tmp_path):
    result = run("show", "gone.tif")
    assert (result.exit_code, os.listdir(tmp_path)) == (2, [])
    assert result.stderr.startswith("ndframes: error: gone.tif does not exist")


def test_entries_that_are_there_are_used(run, coffee):
    assert "read from the source" in run("show", coffee[0]).stdout
    run("prepare", coffee[0])
    assert "read from the cache" in run("show", coffee[0]).stdout
