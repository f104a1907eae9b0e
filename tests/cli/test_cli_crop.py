"""``ndframes crop``: pixels, formats, errors, resampling and datasets."""

from __future__ import annotations

import json
import os
import zipfile

import numpy as np
import pytest
import rasterio
import tifffile

import ndframes as nf

DTYPES = ("bool", "int8", "uint8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FLOATS = ("float16", "float32", "float64", "complex64", "complex128")


def read_png(path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read().transpose(1, 2, 0)


def make(dtype: str, bands: int) -> np.ndarray:
    values = np.random.default_rng(3).integers(0, 2**15, (70, 90, bands))
    return (values % 2 == 0) if dtype == "bool" else (values * 2 if dtype == "uint16" else values).astype(dtype)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("0:64,10:74", np.s_[0:64, 10:74]),
        ("-128:,0:5", np.s_[-128:, 0:5]),
        ("-128:-100,-5:", np.s_[-128:-100, -5:]),
        (":,:", np.s_[:, :]),
        ("::16,5:300:7", np.s_[::16, 5:300:7]),
        ("390:9999,590:", np.s_[390:9999, 590:]),
        ("10:20,30:40,0:1", np.s_[10:20, 30:40, 0:1]),
    ],
)
@pytest.mark.parametrize("attached", [True, False])
def test_npy_equals_numpy_slicing(run, coffee, tmp_path, text, region, attached):
    option = [f"--region={text}"] if attached else ["--region", text]
    result = run("crop", coffee[0], *option, "-o", "out.npy")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), coffee[1][region], strict=True)


@pytest.mark.parametrize("dtype", DTYPES + FLOATS)
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5])
def test_tif_stores_every_dtype(run, tmp_path, dtype, bands):
    pixels = make(dtype, bands)
    np.save(tmp_path / "in.npy", pixels)
    assert run("crop", "in.npy", "--region", "3:68,:", "-o", "out.tif").exit_code == 0
    np.testing.assert_array_equal(nf.open(tmp_path / "out.tif")[...], pixels[3:68], strict=True)
    by_tifffile = tifffile.imread(tmp_path / "out.tif").reshape(65, 90, bands)
    np.testing.assert_array_equal(by_tifffile, pixels[3:68], strict=True)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_png_stores_one_to_four_channels(run, tmp_path, dtype, bands):
    pixels = make(dtype, bands)
    np.save(tmp_path / "in.npy", pixels)
    assert run("crop", "in.npy", "--region", "3:68,1:80", "-o", "out.PNG").exit_code == 0
    np.testing.assert_array_equal(read_png(tmp_path / "out.PNG"), pixels[3:68, 1:80], strict=True)


@pytest.mark.parametrize(("dtype", "bands"), [("float32", 1), ("bool", 1), ("int16", 3), ("uint8", 5)])
def test_png_refuses_what_it_cannot_hold(run, tmp_path, dtype, bands):
    np.save(tmp_path / "in.npy", make(dtype, bands))
    result = run("crop", "in.npy", "--region", ":,:", "-o", "out.png")
    assert result.exit_code == 2
    assert result.stderr.endswith(f"these are {bands} of {dtype}; write .tif or .npy\n")
    assert os.listdir(tmp_path) == ["in.npy"]


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_padding_is_numpys(run, coffee, tmp_path, mode):
    assert run("crop", coffee[0], "--region", "-9:20,590:612", "--pad", mode, "-o", "out.npy").exit_code == 0
    expected = np.pad(coffee[1], ((9, 0), (0, 12), (0, 0)), mode=mode)[:29, 590:612]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected, strict=True)


def test_channels_in_the_order_asked_for(run, coffee, tmp_path):
    assert run("crop", coffee[0], "--region", "0:9,0:9", "--channels", "b|r", "-o", "out.npy").exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), coffee[1][:9, :9, [2, 0]], strict=True)


def test_it_says_shape_dtype_and_way(run, coffee, tmp_path):
    result = run("crop", coffee[0], "--region", "0:9,0:8", "-o", "out.png")
    assert result.stdout.startswith("out.png: 9 x 8 x 3 uint8, read from the source in ")
    assert result.stdout.endswith(" ms\n")
    assert not (tmp_path / "work").exists()


def test_an_entry_that_is_there_is_used(run, coffee, tmp_path):
    run("prepare", coffee[0])
    result = run("crop", coffee[0], "--region", "0:9,0:8", "-o", "out.npy")
    assert "read from the cache" in result.stdout
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), coffee[1][:9, :8], strict=True)
    assert "from the source" in run("crop", coffee[0], "--region", ":,:", "-o", "out.npy", "--backend", "none").stdout


@pytest.mark.parametrize("backend", ["auto", "cog", "npy"])
def test_a_named_backend_converts_first(run, coffee, tmp_path, backend):
    arguments = ("crop", coffee[0], "--region", "50:60,-20:", "-o", "out.npy", "--backend", backend)
    for way in ("through a new cache entry", "from the cache"):
        assert way in run(*arguments).stdout
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), coffee[1][50:60, -20:], strict=True)
    assert len(list(nf.Cache(tmp_path / "work").ls())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--region", "10:0,0:5", "-o", "out.png"), "'10:0' stops before it starts"),
        (("--region", "a:b,0:5", "-o", "out.png"), "'a:b' must hold whole numbers"),
        (("--region", "0.5:2,:", "-o", "out.png"), "'0.5:2' must hold whole numbers"),
        (("--region", "7", "-o", "out.png"), "'7' is not a slice"),
        (("--region", "", "-o", "out.png"), "is not a slice"),
        (("--region", "::0,:", "-o", "out.png"), "step"),
        (("--region", ":,:,:,:", "-o", "out.png"), "4 axes"),
        (("--region", "900:,:", "-o", "out.png"), "out.png: the region is empty (0 x 600 x 3); only .npy holds that"),
        (("--region", ":,:", "-o", "out.gif"), "out.gif: no format is known by the ending '.gif'"),
        (("--region", ":,:", "-o", "out"), "no format is known by the ending ''"),
        (("--region", ":,:", "-o", "gone/out.png"), "there is no folder gone"),
        (("--region", ":,:", "-o", "out.png", "--channels", "nir"), "no channel 'nir'; there are 'r|g|b'"),
        (("--region", "0:99999999,0:99999999", "--pad", "edge", "-o", "out.npy"), "over the limit"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(run, coffee, tmp_path, arguments, message):
    result = run("crop", coffee[0], *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("ndframes: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_npy_stores_an_empty_region(run, coffee, tmp_path):
    assert run("crop", coffee[0], "--region", "900:,:", "-o", "out.npy").exit_code == 0
    assert np.load(tmp_path / "out.npy").shape == (0, 600, 3)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_a_bad_source_is_an_error(run, tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    result = run("crop", "bad.png", "--region", ":,:", "-o", "out.png")
    assert result.exit_code == 2
    assert result.stderr.startswith("ndframes: error: bad.png ")
    assert os.listdir(tmp_path) == ["bad.png"]


def test_a_truncated_photograph_is_an_error(run, coffee, tmp_path):
    """GDAL's whole-image reader of PNG would return zeros for the missing rows."""
    with open(coffee[0], "rb") as file:
        (tmp_path / "cut.png").write_bytes(file.read(20_000))
    result = run("crop", "cut.png", "--region", ":,:", "-o", "out.npy")
    assert (result.exit_code, os.listdir(tmp_path)) == (2, ["cut.png"])
    assert "it is truncated" in result.stderr


def test_the_source_is_not_overwritten(run, coffee, tmp_path):
    (tmp_path / "a.png").symlink_to(coffee[0])
    before = os.stat(coffee[0])
    result = run("crop", coffee[0], "--region", "0:4,0:4", "-o", "a.png")
    assert (result.exit_code, "is the source itself" in result.stderr) == (2, True)
    assert os.stat(coffee[0]) == before


def test_a_full_disk_keeps_the_existing_file(run, coffee, tmp_path, monkeypatch):
    (tmp_path / "out.npy").write_bytes(b"precious")

    def fill_disk(file, *_, **__):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fill_disk)
    result = run("crop", coffee[0], "--region", ":,:", "-o", "out.npy")
    assert (result.exit_code, result.stderr) == (
        2,
        "ndframes: error: out.npy cannot be written: No space left on device\n",
    )
    assert (tmp_path / "out.npy").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["out.npy"]


def test_a_link_to_the_output_stays_a_link(run, coffee, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "there.npy").write_bytes(b"old")
    (tmp_path / "out.npy").symlink_to(tmp_path / "real" / "there.npy")
    assert run("crop", coffee[0], "--region", "0:4,0:4", "-o", "out.npy").exit_code == 0
    assert (tmp_path / "out.npy").is_symlink()
    np.testing.assert_array_equal(np.load(tmp_path / "real" / "there.npy"), coffee[1][:4, :4], strict=True)


def test_a_fifo_is_refused(run, coffee, tmp_path):
    os.mkfifo(tmp_path / "out.npy")
    result = run("crop", coffee[0], "--region", "0:4,0:4", "-o", "out.npy")
    assert (result.exit_code, "not a regular file" in result.stderr) == (2, True)


def test_crop_as_a_process(spawn, coffee, tmp_path):
    process = spawn("crop", coffee[0], "--region", "-128:,0:5", "-o", "out.npy")
    assert (*process.communicate(timeout=60)[1:], process.returncode) == ("", 0)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), coffee[1][-128:, 0:5], strict=True)


# -- resampling and rotation ---------------------------------------------------------------------------------------------


def crop_to_npy(run, tmp_path, *arguments):
    result = run("crop", *arguments, "-o", "out.npy")
    assert result.exit_code == 0, result.stderr
    return np.load(tmp_path / "out.npy")


def test_the_default_region_is_everything(run, coffee, tmp_path):
    np.testing.assert_array_equal(crop_to_npy(run, tmp_path, coffee[0]), coffee[1], strict=True)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (("--scale", "0.25"), {"scale": 0.25}),
        (("--scale", "0.5,0.25"), {"scale": (0.5, 0.25)}),
        (("--scale", "3", "--interpolation", "nearest"), {"scale": 3, "interpolation": "nearest"}),
        (("--shape", "50x70"), {"shape": (50, 70)}),
        (("--shape", "50,70", "--interpolation", "lanczos"), {"shape": (50, 70), "interpolation": "lanczos"}),
        (("--scale", "0.5", "--pad", "constant", "--fill", "9"), {"scale": 0.5, "pad": "constant", "fill": 9}),
        (("--scale", "0.5", "--pad", "reflect"), {"scale": 0.5, "pad": "reflect"}),
    ],
)
def test_resampled_pixels_equal_those_of_frames(run, coffee, tmp_path, options, asked):
    region = "-20:200,30:331" if "--pad" in options else "100:200,30:331"
    slices = np.s_[-20:200, 30:331] if "pad" in asked else np.s_[100:200, 30:331]
    pixels = crop_to_npy(run, tmp_path, coffee[0], "--region", region, *options)
    expected = nf.SimpleFrames({0: coffee[0]}, backend=None).load_region(0, slices, **asked)
    np.testing.assert_array_equal(pixels, expected, strict=True)


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, 1), (180, 2), (-90, -1), (270, 3), (450, 1)])
def test_a_quarter_turn_equals_rot90(run, coffee, tmp_path, degrees, turns):
    """Both are counter-clockwise."""
    pixels = crop_to_npy(run, tmp_path, coffee[0], "--region", "100:300,150:350", "--rotate", degrees)
    np.testing.assert_array_equal(pixels, np.rot90(coffee[1][100:300, 150:350], turns), strict=True)


def test_the_centre_of_rotation(run, tmp_path):
    """The pixel to the right of the centre moves above it."""
    pixels = np.zeros((40, 60, 1), np.uint8)
    pixels[20, 33] = 255
    np.save(tmp_path / "in.npy", pixels)
    turned = crop_to_npy(
        run, tmp_path, "in.npy", "--rotate", "90", "--around", "20.5,30.5", "--interpolation", "nearest"
    )
    assert turned.shape == (40, 60, 1)
    assert np.argwhere(turned[:, :, 0]).tolist() == [[17, 30]]


def test_a_rotation_equals_load_warped(run, coffee, tmp_path):
    options = ("--region", "100:200,30:130", "--rotate", "30", "--scale", "0.5", "--fill", "7", "--channels", "g|r")
    pixels = crop_to_npy(run, tmp_path, coffee[0], *options)
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    centre = np.array([[1, 0, -80], [0, 1, -150], [0, 0, 1.0]])
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    place = np.array([[0.5, 0, 25], [0, 0.5, 25], [0, 0, 1]])
    frames = nf.SimpleFrames({0: coffee[0]}, backend=None)
    expected = frames.load_warped(0, place @ turn @ centre, (50, 50), "g|r", fill=7)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_rotation_fills_the_outside(run, tmp_path):
    np.save(tmp_path / "in.npy", np.full((200, 300, 3), 50, np.uint8))
    pixels = crop_to_npy(run, tmp_path, "in.npy", "--rotate", "45", "--fill", "200", "--region", ":100,:100,0:1")
    assert pixels.shape == (100, 100, 1)
    is_filled = pixels[:, :, 0] == 200
    assert (pixels[:, :, 0][~is_filled] == 50).all()
    assert is_filled[:15, :5].all()
    assert is_filled[-15:, :5].all()
    assert not is_filled[:, -20:].all()
    assert not is_filled[30:70, 30:].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scale", "0.5", "--shape", "9x9"), "--scale and --shape both set the size of the result"),
        (("--around", "1,2"), "--around is the centre of --rotate"),
        (("--rotate", "10", "--pad", "edge"), "--rotate cannot be combined with --pad edge"),
        (("--rotate", "10", "--region", "::2,:"), "--rotate needs a region without steps"),
        (("--rotate", "nan"), "is not a finite number of degrees"),
        (("--scale", "0.5", "--region", "::2,:"), "without steps"),
        (("--scale", "0.5", "--region", "5:5,:"), "region"),
        (("--scale", "0"), "scale"),
        (("--rotate", "10", "--fill", "300"), "fill=300.0 is not a value of uint8"),
        (("--image-id", "1"), "is an image; --image-id is only for COCO datasets"),
        (("--space", "video"), "is an image; --space is only for COCO datasets"),
    ],
)
def test_incompatible_options_are_refused(run, coffee, tmp_path, options, message):
    result = run("crop", coffee[0], *options, "-o", "out.png")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scale", "big"), "a number such as 0.5"),
        (("--scale", "1,2,3"), "a number such as 0.5"),
        (("--scale", "inf"), "a number such as 0.5"),
        (("--shape", "9"), "height and width such as 256x512"),
        (("--shape", "-9x9"), "height and width such as 256x512"),
        (("--rotate", "5", "--around", "9"), "two numbers such as 120,340.5"),
    ],
)
def test_bad_numbers_are_refused(run, coffee, tmp_path, options, message):
    result = run("crop", coffee[0], *options, "-o", "out.png")
    assert (result.exit_code, os.listdir(tmp_path)) == (2, [])
    assert message in " ".join(result.stderr.split())


def test_interpolation_has_all_choices():
    from ndframes.cli.crop import crop
    from ndframes.geometry.kernels import INTERPOLATIONS

    option = next(option for option in crop.params if option.name == "interpolation")
    assert tuple(option.type.choices) == INTERPOLATIONS


# -- datasets ---------------------------------------------------------------------------------------------


def test_channels_of_an_image_of_a_dataset(run, dataset, tmp_path):
    options = ("--image-id", "1", "--region", "10:50,20:90", "--channels", "nir|g")
    pixels = crop_to_npy(run, tmp_path, dataset, *options)
    frames = nf.CocoFrames(str(dataset), backend=None)
    np.testing.assert_array_equal(pixels, frames.load_region(1, np.s_[10:50, 20:90], "nir|g"), strict=True)
    assert pixels.dtype == np.uint16


def test_spaces_of_an_image_of_a_dataset(run, dataset, tmp_path):
    video = crop_to_npy(run, tmp_path, dataset, "--image-id", "1", "--space", "video", "--channels", "nir")
    assert video.shape == (200, 300, 1)
    native = crop_to_npy(run, tmp_path, dataset, "--image-id", "1", "--space", "asset", "--channels", "nir")
    np.testing.assert_array_equal(native[:, :, 0], np.arange(200 * 300, dtype=np.uint16).reshape(200, 300))
    np.testing.assert_array_equal(video, native)


def test_the_only_image_is_the_default(run, dataset, tmp_path):
    content = json.loads(dataset.read_text())
    content["images"].pop(0)
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("data.json", json.dumps(content))
    pixels = crop_to_npy(run, tmp_path, "one.zip", "--region", "12:13,29:32")
    assert pixels[0, :, 0].tolist() == [0, 9, 9]


def test_the_cache_is_used_if_all_entries_exist(run, dataset, coffee):
    arguments = ("crop", dataset, "--image-id", "1", "--region", "0:9,0:9", "-o", "out.npy", "--channels")
    run("prepare", coffee[0])
    assert "read from the cache" in run(*arguments, "r|g").stdout
    assert "read from the source" in run(*arguments, "r|nir").stdout
    assert "through new cache entries" in run(*arguments, "r|nir", "--backend", "auto").stdout
    assert "read from the cache" in run(*arguments, "r|nir").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "data.kwcoco.json: choose an image with --image-id; it has 2: 1, 2\n"),
        (("--image-id", "7"), "data.kwcoco.json has no image '7'; it has 2: 1, 2\n"),
        (("--image-id", "walk"), "has no image 'walk'"),
        (("--image-id", "1", "--channels", "swir"), "no channel 'swir'; there are 'r|g|b|nir'"),
        (("--image-id", "1", "--space", "asset", "--channels", "r|nir"), "ask for one of them"),
    ],
)
def test_bad_choices_in_a_dataset_are_errors(run, dataset, tmp_path, options, message):
    before = sorted(os.listdir(tmp_path))
    result = run("crop", dataset, *options, "-o", "out.npy")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "gone.json does not exist; check the path"),
        (b"{", "gone.json cannot be read as a COCO dataset"),
        (b"[1]", "gone.json is not a COCO dataset: it has no list of images with ids"),
        (b'{"images": [{"file_name": "a.png"}]}', "it has no list of images with ids"),
        (b'{"images": [], "videos": [7]}', "'videos' is not a list of objects"),
        (b'{"images": []}', "choose an image with --image-id; it has none"),
        (b"PK\x03\x04 broken", "gone.json cannot be read as a COCO dataset"),
        (b'{"images": [{"id": 1, "file_name": "away.png"}]}', "away.png does not exist"),
    ],
)
def test_bad_datasets_are_errors(run, tmp_path, content, message):
    if content is not None:
        (tmp_path / "gone.json").write_bytes(content)
    result = run("crop", "gone.json", "-o", "out.npy")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert message in result.stderr
    assert "out.npy" not in os.listdir(tmp_path)


def test_files_of_a_dataset_are_not_overwritten(run, dataset, tmp_path):
    before = (tmp_path / "nir.tif").read_bytes()
    result = run("crop", dataset, "--image-id", "1", "--channels", "nir", "-o", "nir.tif")
    assert (result.exit_code, "is the source itself" in result.stderr) == (2, True)
    assert (tmp_path / "nir.tif").read_bytes() == before
