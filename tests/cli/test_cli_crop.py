"""``ndframes crop``: the pixels written are the pixels asked for, and a bad request writes nothing."""

from __future__ import annotations

import os

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
def test_npy_holds_what_numpy_would_cut(run, coffee, tmp_path, text, region, attached):
    option = [f"--region={text}"] if attached else ["--region", text]
    result = run("crop", coffee[0], *option, "-o", "out.npy")
    assert result.exit_code == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), coffee[1][region], strict=True)


@pytest.mark.parametrize("dtype", DTYPES + FLOATS)
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5])
def test_tif_holds_every_dtype_for_every_reader(run, tmp_path, dtype, bands):
    pixels = make(dtype, bands)
    np.save(tmp_path / "in.npy", pixels)
    assert run("crop", "in.npy", "--region", "3:68,:", "-o", "out.tif").exit_code == 0
    np.testing.assert_array_equal(nf.open(tmp_path / "out.tif")[...], pixels[3:68], strict=True)
    by_tifffile = tifffile.imread(tmp_path / "out.tif").reshape(65, 90, bands)
    np.testing.assert_array_equal(by_tifffile, pixels[3:68], strict=True)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_png_holds_one_to_four_channels(run, tmp_path, dtype, bands):
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
        (("--region", "a:b,0:5", "-o", "out.png"), "'a:b' holds no whole numbers"),
        (("--region", "0.5:2,:", "-o", "out.png"), "'0.5:2' holds no whole numbers"),
        (("--region", "7", "-o", "out.png"), "'7' is no slice"),
        (("--region", "", "-o", "out.png"), "is no slice"),
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
def test_a_bad_request_says_what_is_wrong_and_leaves_nothing(run, coffee, tmp_path, arguments, message):
    result = run("crop", coffee[0], *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("ndframes: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_an_empty_region_goes_into_npy(run, coffee, tmp_path):
    assert run("crop", coffee[0], "--region", "900:,:", "-o", "out.npy").exit_code == 0
    assert np.load(tmp_path / "out.npy").shape == (0, 600, 3)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_a_bad_source_says_so(run, tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    result = run("crop", "bad.png", "--region", ":,:", "-o", "out.png")
    assert result.exit_code == 2
    assert result.stderr.startswith("ndframes: error: bad.png ")
    assert os.listdir(tmp_path) == ["bad.png"]


def test_a_truncated_photograph_is_never_half_a_crop(run, coffee, tmp_path):
    """GDAL's whole-image way through PNG would hand out zeros for the rows that are missing."""
    with open(coffee[0], "rb") as file:
        (tmp_path / "cut.png").write_bytes(file.read(20_000))
    result = run("crop", "cut.png", "--region", ":,:", "-o", "out.npy")
    assert (result.exit_code, os.listdir(tmp_path)) == (2, ["cut.png"])
    assert "truncated or damaged" in result.stderr


def test_the_source_is_never_overwritten(run, coffee, tmp_path):
    (tmp_path / "a.png").symlink_to(coffee[0])
    before = os.stat(coffee[0])
    result = run("crop", coffee[0], "--region", "0:4,0:4", "-o", "a.png")
    assert (result.exit_code, "is the source itself" in result.stderr) == (2, True)
    assert os.stat(coffee[0]) == before


def test_what_was_there_stays_whole_when_writing_fails(run, coffee, tmp_path, monkeypatch):
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


def test_a_fifo_is_no_place_to_write(run, coffee, tmp_path):
    os.mkfifo(tmp_path / "out.npy")
    result = run("crop", coffee[0], "--region", "0:4,0:4", "-o", "out.npy")
    assert (result.exit_code, "no regular file" in result.stderr) == (2, True)


def test_as_a_process(spawn, coffee, tmp_path):
    process = spawn("crop", coffee[0], "--region", "-128:,0:5", "-o", "out.npy")
    assert (*process.communicate(timeout=60)[1:], process.returncode) == ("", 0)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), coffee[1][-128:, 0:5], strict=True)
