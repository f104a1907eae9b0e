"""Readers whose file is replaced by another one of the same name."""

from __future__ import annotations

import io
import os
import random
import threading
import time

import numpy as np
import pytest
import tifffile
from kit.synthetic import picture
from PIL import Image

import ndframes as nf
from ndframes.errors import SourceChangedError, UnreadableImageError
from ndframes.formats.images import raster
from ndframes.formats.images.arrays import NpyReader
from ndframes.formats.images.raster import RasterReader
from ndframes.formats.images.sniff import open_image
from ndframes.formats.tiled.tile_cache import TileCache
from ndframes.system.handles import HandlePool
from ndframes.system.stamp import stat_source

KINDS = {
    "mapped npy": (np.save, {}),
    "png": (lambda path, pixels: Image.fromarray(pixels).save(path, "PNG"), {}),
    "tif by gdal": (lambda path, pixels: tifffile.imwrite(path, pixels, metadata=None), {}),
    "tif by tifffile": (
        lambda path, pixels: tifffile.imwrite(path, pixels, compression="zlib", metadata=None),
        {"page": 0},
    ),
    "jp2": (lambda path, pixels: Image.fromarray(pixels).save(path, "JPEG2000", tile_size=(64, 64)), {}),
    "webp": (lambda path, pixels: Image.fromarray(pixels).save(path, "WEBP", lossless=True), {}),
}


def write(folder: str, name: bytes, kind: str, pixels: np.ndarray) -> str:
    """Write a new file and rename it over the old one."""
    path = os.path.join(folder, os.fsdecode(name))
    encoded = io.BytesIO()
    KINDS[kind][0](encoded, pixels)
    with open(path + ".new", "wb") as file:
        file.write(encoded.getvalue())
    os.replace(path + ".new", path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [b"a", b"\xff\xfe"], ids=["plain name", "stray bytes"])
def test_a_reader_never_reads_another_file(tmp_path, kind, name):
    pixels = picture((300, 400, 3))
    path = write(tmp_path, name, kind, pixels)
    pool = HandlePool()
    # Nothing decoded is kept, so that each read is one of the file.
    reader = open_image(nf.ChannelInfo(path, **KINDS[kind][1]), pool, tiles=TileCache(0))

    def read() -> np.ndarray:
        out = np.empty(reader.shape, reader.dtype)
        reader.read(range(reader.shape[0]), range(reader.shape[1]), range(3), out)
        return out

    np.testing.assert_array_equal(read(), pixels)
    os.unlink(path)
    np.testing.assert_array_equal(read(), pixels, "its handle is open, and the data is there until that is closed")
    write(tmp_path, name, kind, 255 - pixels)
    np.testing.assert_array_equal(read(), pixels)
    pool.close()
    for change in (lambda: None, lambda: os.unlink(path), lambda: os.mkdir(path)):
        change()
        with pytest.raises(SourceChangedError, match="was replaced or removed since it was opened"):
            read()
    pool.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in ("png", "tif by gdal", "jp2", "webp")])
def test_systems_without_names_for_descriptors(tmp_path, monkeypatch, kind):
    """On a Mac the path is checked before and after opening, and at each read by a driver that may open it again."""
    monkeypatch.setattr(raster, "_HAS_DESCRIPTOR_NAMES", False)
    pixels = picture((300, 400, 3))
    path = write(tmp_path, b"a", kind, pixels)
    pool = HandlePool()
    reader = open_image(nf.ChannelInfo(path), pool)
    out = np.empty(reader.shape, reader.dtype)
    os.unlink(path)
    reader.read(range(300), range(400), range(3), out)
    np.testing.assert_array_equal(out, pixels)
    write(tmp_path, b"a", kind, 255 - pixels)
    if kind == "jp2":
        with pytest.raises(SourceChangedError):
            reader.read(range(300), range(400), range(3), out)
    else:
        reader.read(range(300), range(400), range(3), out)
        np.testing.assert_array_equal(out, pixels)
    pool.close()
    with pytest.raises(SourceChangedError):
        reader.read(range(300), range(400), range(3), out)


@pytest.mark.parametrize("size", [(300, 400), (3, 4)])
def test_overviews_come_from_the_same_file(tmp_path, size):
    path = tmp_path / "a.jp2"
    Image.fromarray(picture((600, 800, 3))).save(path, "JPEG2000")
    pool = HandlePool()
    reader = open_image(nf.ChannelInfo(str(path)), pool)
    Image.fromarray(picture((*size, 3))).save(tmp_path / "new", "JPEG2000")
    (tmp_path / "new").replace(path)
    with pytest.raises(SourceChangedError):
        reader.overview_shapes  # noqa: B018
    pool.close()


@pytest.mark.parametrize("form", ["JPEG", "BMP", "GIF"])
def test_an_image_that_is_decoded_as_a_whole_is_never_mixed(tmp_path, form):
    """It is decoded from the file that was opened, or not at all."""
    path = tmp_path / "a"
    Image.fromarray(picture((30, 40, 3))).save(path, form)
    pool = HandlePool()
    reader = open_image(nf.ChannelInfo(str(path)), pool)
    with Image.open(path) as image:
        wanted = np.asarray(image.convert("RGB"))
    Image.fromarray(255 - picture((30, 40, 3))).save(tmp_path / "new", form)
    (tmp_path / "new").replace(path)
    if form == "JPEG":  # decoded by the first read
        with pytest.raises(SourceChangedError):
            reader.read_all()
    else:
        np.testing.assert_array_equal(reader.read_all(), wanted)
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_replacement_is_reported_even_if_it_is_not_an_image(tmp_path, kind):
    """The error is about the replacement, not about the format."""
    path = write(tmp_path, b"a", kind, picture((30, 40, 3)))
    pool = HandlePool()
    reader = open_image(nf.ChannelInfo(path, **KINDS[kind][1]), pool)
    pool.close()
    (tmp_path / "new").write_bytes(b"garbage")
    (tmp_path / "new").replace(path)
    with pytest.raises(SourceChangedError):
        reader.read_all()
    with pytest.raises(UnreadableImageError):
        open_image(nf.ChannelInfo(path), pool)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_replaced_all_the_time(tmp_path, kind):
    """At whatever moment of an open or a read the file is replaced: the right pixels, or the error."""
    sides = []
    for name, pixels in ((b"0", picture((64, 64, 3))), (b"1", 255 - picture((64, 64, 3)))):
        path = write(tmp_path, name, kind, pixels)
        sides.append((path, stat_source(path), pixels))
    path = str(tmp_path / "a")
    stop = threading.Event()

    def swap() -> None:
        number = 1
        while not stop.is_set():
            os.link(sides[number % 2][0], path + ".new")
            os.replace(path + ".new", path)
            number += 1
            time.sleep(random.random() / 2000)

    os.link(sides[0][0], path)
    swapper = threading.Thread(target=swap)
    swapper.start()
    counts = {"right": 0, "refused": 0}
    started = time.monotonic()
    try:
        while (elapsed := time.monotonic() - started) < 0.6 or (min(counts.values()) == 0 and elapsed < 30):
            pool = HandlePool()
            try:
                reader = open_image(nf.ChannelInfo(path, **KINDS[kind][1]), pool)
                stamp = reader._stamp
                wanted = next(pixels for _, side, pixels in sides if side.is_same_file(stamp))
                pool.close()
                np.testing.assert_array_equal(reader.read_all(), wanted)
                counts["right"] += 1
            except SourceChangedError:
                counts["refused"] += 1
            pool.close()
    finally:
        stop.set()
        swapper.join()
    assert min(counts.values()) > 0, counts


@pytest.mark.parametrize(
    ("kind", "cut"), [("png", 30), ("tif by gdal", 20), ("jp2", 90), ("png", 5000), ("webp", 5000)]
)
def test_messages_name_the_path(tmp_path, kind, cut):
    """And not the path of the descriptor by which GDAL opened the file."""
    path = write(tmp_path, b"a", kind, np.random.default_rng(0).integers(0, 255, (60, 70, 3), np.uint8))
    with open(path, "r+b") as file:
        file.truncate(cut)
    pool = HandlePool()
    with pytest.raises(UnreadableImageError) as caught:
        open_image(nf.ChannelInfo(path), pool).read_all()
    assert str(caught.value).startswith(path)
    assert "/proc" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "webp"])  # whose header alone opens
def test_a_kept_error_keeps_no_descriptor_open(tmp_path, kind):
    path = write(tmp_path, b"a", kind, picture((60, 70, 3)))
    with open(path, "r+b") as file:
        file.truncate(25)
    before = len(os.listdir("/proc/self/fd"))
    pool, errors = HandlePool(), []
    for _ in range(5):
        try:
            open_image(nf.ChannelInfo(path, **KINDS[kind][1]), pool)
        except UnreadableImageError as error:
            errors.append(error)
    pool.close()
    assert len(errors) == 5
    # Other tests may have left some that are closed meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= before


def test_without_a_stamp_the_present_file_is_read(tmp_path):
    path = write(tmp_path, b"a", "png", picture((30, 40, 3)))
    pool = HandlePool()
    reader = RasterReader(path, "PNG", pool)
    pool.close()
    write(tmp_path, b"a", "png", 255 - picture((30, 40, 3)))
    np.testing.assert_array_equal(reader.read_all(), 255 - picture((30, 40, 3)))
    pool.close()


def test_the_stamp_of_another_file_is_refused_at_once(tmp_path):
    path = write(tmp_path, b"a", "png", picture((30, 40, 3)))
    stamp = stat_source(path)
    pool = HandlePool()
    RasterReader(path, "PNG", pool, stamp=stamp)
    write(tmp_path, b"a", "png", picture((30, 40, 3)))
    with pytest.raises(SourceChangedError):
        RasterReader(path, "PNG", pool, stamp=stamp)
    with pytest.raises(SourceChangedError):
        NpyReader(path, pool, stamp=stamp)
    pool.close()
