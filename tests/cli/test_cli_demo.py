"""``ndframes demo``: twice, and with a cache that returns wrong pixels."""

from __future__ import annotations

import os

import numpy as np
import pytest

import ndframes as nf
from ndframes import OutputError
from ndframes.cache.trailer import append_trailer, read_trailer
from ndframes.cli import mosaic as demo
from ndframes.system.files import FileSystem


def test_the_demo_runs_and_runs_again(run, tmp_path):
    first = run("demo", "--size", 512)
    assert first.exit_code == 0, first.stderr
    assert "300 of 300 crops equal the decoded source, byte for byte" in first.stdout
    sheet = tmp_path / "demo-out" / "contact-sheet.png"
    assert f"contact sheet: {sheet}\n" in first.stdout
    mosaic = tmp_path / "demo-out" / "mosaic-512.tif"
    before = mosaic.stat()
    second = run("demo", "--size", 512)
    assert second.exit_code == 0
    assert "mosaic-512.tif exists already" in second.stdout
    assert "the cache entry exists already" in second.stdout
    assert mosaic.stat() == before


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a demonstration in folders of its own."""
    folder = tmp_path_factory.mktemp("demo")
    return demo.run_demo(size=1024, out=folder / "out", workdir=folder / "work")


def test_the_table_shows_the_sizes_on_disk(report):
    folder = report.source_path.parent
    (entry,) = nf.Cache(folder.parent / "work").ls()
    assert report.entry_bytes == entry.size_bytes
    assert report.source_bytes == os.path.getsize(folder / "mosaic-1024.tif")
    assert report.decoded_bytes == 1024 * 1024 * 3
    assert (report.prepared.prepared, report.is_exact) == (1, True)
    assert f"{1000 * report.whole_seconds:.2f} ms" in str(report)


def replace_pixels(path, other_path):
    """Replace the pixels of an entry by those of another, with a matching trailer."""
    files = FileSystem()
    with files.open_to_read(str(path)) as entry, files.open_to_read(str(other_path)) as other:
        meta = read_trailer(str(path), entry).meta
        trailer = read_trailer(str(other_path), other)
        payload, segments = other.read_at(0, trailer.payload_bytes), trailer.load_segments(other)
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(payload)
        append_trailer(file, segments, meta)


def test_wrong_pixels_fail_the_demo(run, tmp_path):
    run("demo", "--size", 512)
    (tmp_path / "other").mkdir()
    pixels = nf.open("demo-out/mosaic-512.tif")[...]
    pixels[300, 300, 1] ^= 1
    np.save(tmp_path / "other" / "a.npy", pixels)
    frames = nf.SimpleFrames({"a": "other/a.npy"}, workdir=tmp_path / "other")
    frames.prepare()
    (other,), (entry,) = frames.cache.ls(), nf.Cache(tmp_path / "work").ls()
    replace_pixels(entry.path, other.path)
    result = run("demo", "--size", 512)
    hit = sum(y <= 300 < y + 256 and x <= 300 < x + 256 for y, x in demo.random_corners(512, 300))
    assert result.exit_code == 1
    assert f"error: {hit} of 300 crops differ from the decoded source" in result.stderr
    assert f"{300 - hit} of 300 crops equal" in result.stdout


def test_the_mosaic_is_reproducible_and_made_of_photographs(tmp_path):
    for name in ("a.tif", "b.tif"):
        demo.build_mosaic(tmp_path / name, 700)
    mosaic = nf.open(tmp_path / "a.tif")
    pixels = mosaic[...]
    assert mosaic.shape == (700, 700, 3)
    assert mosaic.chunks == (16, 700, 3)
    np.testing.assert_array_equal(pixels, nf.open(tmp_path / "b.tif")[...], strict=True)
    photographs = [colours_of(nf.open(path)[...]) for path in nf.demo_paths().values()]
    for cell in (pixels[:512, :512], pixels[:512, 512:], pixels[512:, :512], pixels[512:, 512:]):
        colours = colours_of(cell)
        assert len(colours) > 50
        assert sum(np.isin(colours, known).all() for known in photographs) == 1


def colours_of(pixels: np.ndarray) -> np.ndarray:
    """The distinct colours, each as one number."""
    red, green, blue = np.moveaxis(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint32), 2, 0)
    return np.unique(red << 16 | green << 8 | blue)


def test_a_broken_mosaic_is_replaced(run, tmp_path):
    (tmp_path / "demo-out").mkdir()
    (tmp_path / "demo-out" / "mosaic-256.tif").write_bytes(b"II*\0 half a file")
    assert run("demo", "--size", 256).exit_code == 0
    assert nf.open("demo-out/mosaic-256.tif").shape == (256, 256, 3)


def test_the_contact_sheet_shows_crops_and_positions(report):
    sheet = nf.open(report.sheet_path)[...]
    mosaic = nf.open(report.source_path)
    left = sheet.shape[1] - 8 - 6 * 264
    for index, (y, x) in enumerate(demo.random_corners(1024, 300)[:24]):
        sheet_y, sheet_x = 8 + index // 6 * 264, left + 8 + index % 6 * 264
        crop = sheet[sheet_y : sheet_y + 256, sheet_x : sheet_x + 256]
        np.testing.assert_array_equal(crop, mosaic[y : y + 256, x : x + 256], strict=True)
    top = (sheet.shape[0] - 1024) // 2
    overview = sheet[top : top + 1024, 8 : 8 + 1024]
    last_y, last_x = demo.random_corners(1024, 300)[23]  # drawn last, over all others
    colour = sheet[8 + 3 * 264 - 1, left + 8 + 5 * 264]
    assert (overview[last_y : last_y + 2, last_x : last_x + 256] == colour).all()
    same = (overview == mosaic[...]).all(axis=2)
    assert 0.9 < same.mean() < 1


@pytest.mark.parametrize("size", ["255", "0", "-1", "many", "99999999"])
def test_a_bad_size_is_refused(run, tmp_path, size):
    result = run("demo", "--size", size)
    assert result.exit_code == 2
    assert "--size" in result.stderr
    assert os.listdir(tmp_path) == []


def test_run_demo_refuses_a_bad_size(tmp_path):
    with pytest.raises(ValueError, match="size=255"):
        demo.run_demo(size=255, out=tmp_path)


def test_a_folder_that_cannot_be_created(run, tmp_path):
    (tmp_path / "file").touch()
    result = run("demo", "--size", 256, "--out", "file/below")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "ndframes: error: folder file/below cannot be created: Not a directory; choose another with --out\n"
    )


def test_a_full_disk_leaves_no_partial_mosaic(tmp_path, monkeypatch):
    def fill_disk(file, *_, **__):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "write_striped_tiff", fill_disk)
    with pytest.raises(OutputError, match="No space left"):
        demo.build_mosaic(tmp_path / "a.tif", 256)
    assert os.listdir(tmp_path) == []
