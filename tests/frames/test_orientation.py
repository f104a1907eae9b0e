"""Images turned as their EXIF data or TIFF tag says: every way in equals Pillow's picture, and one entry serves both ways."""

from __future__ import annotations

import logging
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
import rasterio
import tifffile
from click.testing import CliRunner
from PIL import Image, ImageOps
from rasterio.transform import Affine

import ndframes as nf
from ndframes.cli import main
from ndframes.formats.images.orientation import find_orientation

TAGS = range(1, 9)
#: The upright picture of a stored one, as the EXIF standard defines the tag.
TURN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
REGIONS = [
    np.s_[:, :],
    np.s_[3:40, 5:9],
    np.s_[-20:, -7:-1],
    np.s_[::3, ::-2],
    np.s_[50:2:-4, 1:60:5],
    np.s_[7],
    np.s_[:, 4, 1],
    np.s_[..., 2:],
    np.s_[90:9, :3],
]


def picture(shape=(141, 203, 3), dtype=np.uint8):
    return np.random.default_rng(7).integers(1, 250, shape).astype(dtype)


def write_tiff(path, pixels, tag, **options):
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        extratags=[(274, "H", 1, tag, True)],
        metadata=None,
        **{"tile": (32, 48), **options},
    )
    return path


def write_exif(path, pixels, tag, **options):
    exif = Image.Exif()
    exif[274] = tag
    Image.fromarray(pixels).save(path, exif=exif, **options)
    return path


WRITERS = {
    "tiles.tif": write_tiff,
    "strips.tif": lambda path, pixels, tag: write_tiff(path, pixels, tag, tile=None, rowsperstrip=7),
    "deflate.tif": lambda path, pixels, tag: write_tiff(path, pixels, tag, compression="zlib"),
    "big-endian.tif": lambda path, pixels, tag: write_tiff(path, pixels, tag, byteorder=">"),
    "a.png": write_exif,
    "a.webp": lambda path, pixels, tag: write_exif(path, pixels, tag, lossless=True),
    "a.jpg": lambda path, pixels, tag: write_exif(path, pixels, tag, quality=95, subsampling=0),
}


def upright(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_turned_as_pillow_turns_it(tmp_path, name, tag):
    path = WRITERS[name](tmp_path / name, picture(), tag)
    got, stored = nf.open(path, orientation="upright"), nf.open(path)
    assert got.shape == upright(path).shape
    tolerance = 4 if name == "a.jpg" else 0  # two decoders of JPEG
    np.testing.assert_allclose(got[...].astype(int), upright(path), atol=tolerance)
    np.testing.assert_array_equal(got, TURN[tag](stored[...]))


@pytest.mark.parametrize("backend", [None, "npy", "cog"])
@pytest.mark.parametrize("tag", TAGS)
def test_regions_of_all_orientations(tmp_path, tag, backend):
    path = write_tiff(tmp_path / "a.tif", picture(), tag)
    want = np.ascontiguousarray(TURN[tag](picture()))
    options = {"workdir": tmp_path / "work", "backend": backend}
    frames = nf.SimpleFrames({"a": path}, orientation="upright", **options)
    np.save(tmp_path / "a.npy", want)
    # Overviews serve a picture that is not flipped.
    options["backend"] = backend if tag in (1, 5) else None
    plain = nf.SimpleFrames({"a": tmp_path / "a.npy"}, **options)
    assert frames.extents("a") == frames["a"].shape[:2] == want.shape[:2]
    for region in REGIONS:
        np.testing.assert_array_equal(frames.load_region("a", region), np.atleast_1d(want[region]))
    for crop, region in zip(frames.load_regions([("a", region) for region in REGIONS]), REGIONS, strict=True):
        np.testing.assert_array_equal(crop, want[region])
    for options_of_read in ({"pad": "reflect"}, {"pad": "constant", "fill": 9}, {"scale": 1.7}, {"shape": (9, 30)}):
        region = np.s_[-9:70, 5:90] if "pad" in options_of_read else np.s_[9:70, 5:90]
        got = frames.load_region("a", region, "b|r", **options_of_read)
        np.testing.assert_array_equal(got, plain.load_region("a", region, "b|r", **options_of_read))
    matrix = [[0.8, 0.3, 5], [-0.2, 1.1, 9], [0, 0, 1]]
    np.testing.assert_array_equal(frames.load_warped("a", matrix, (60, 80)), plain.load_warped("a", matrix, (60, 80)))
    assert frames.explain("a", np.s_[:16, :16]).shape == (16, 16, 3)


@pytest.mark.parametrize("backend", ["npy", "cog"])
def test_one_entry_serves_both(tmp_path, backend, caplog):
    path = write_tiff(tmp_path / "a.tif", picture(), 6)
    options = {"workdir": tmp_path / "work", "backend": backend}
    turned, stored = (
        nf.SimpleFrames({"a": path}, orientation="upright", **options),
        nf.SimpleFrames({"a": path}, **options),
    )
    assert turned.prepare().prepared == 1
    assert stored.prepare().present == 1
    assert turned.explain("a").files[0].entry_path == stored.explain("a").files[0].entry_path
    for frames in (pickle.loads(pickle.dumps(turned)), turned):
        np.testing.assert_array_equal(frames["a"], np.rot90(picture(), -1))
    np.testing.assert_array_equal(stored["a"], picture())
    (entry,) = turned.cache.ls()
    kept = np.load(entry.path) if backend == "npy" else tifffile.imread(entry.path)
    np.testing.assert_array_equal(kept, picture())
    assert turned.image("a").load_thumbnail().shape == (192, 133, 3)
    os.remove(path)
    lost = nf.SimpleFrames({"a": path}, orientation="upright", when_source_missing="use", **options)
    np.testing.assert_array_equal(lost["a"], np.rot90(picture(), -1))


def test_the_orientation_that_is_not_applied_is_told(tmp_path, caplog):
    path = write_tiff(tmp_path / "a.tif", picture(), 8)
    with caplog.at_level(logging.INFO, "ndframes"):
        nf.open(path, orientation="upright")[0]
        assert caplog.text == ""
        frames = nf.SimpleFrames({"a": path}, backend=None)
        # A file that was just written is opened for each read.
        for _ in range(3):
            frames.load_region("a")
        frames["a"].to_xarray()
    assert caplog.text.count("has orientation 8") == 1
    assert "orientation='upright' turns them" in caplog.text


def test_a_file_decides_for_itself(tmp_path):
    path = write_tiff(tmp_path / "a.tif", picture(), 6)
    files = {name: nf.ChannelInfo(path, orientation=name) for name in ("stored", "upright")}
    for default in ("stored", "upright"):
        frames = nf.SimpleFrames({**files, None: path}, orientation=default, backend=None)
        assert frames["stored"].shape == (141, 203, 3)
        assert frames["upright"].shape == (203, 141, 3)
        assert frames[None].shape == frames[default].shape
    for make in (lambda: nf.ChannelInfo(path, orientation="up"), lambda: nf.SimpleFrames({}, orientation="up")):
        with pytest.raises(ValueError, match="orientation='up'; allowed"):
            make()


def test_parts_pages_and_sequences(tmp_path):
    """A mask beside a photo is turned by its own tag only."""
    photo = write_tiff(tmp_path / "photo.tif", picture(), 6)
    mask = picture((203, 141), np.uint16)
    np.save(tmp_path / "mask.npy", mask)
    info = nf.PathInfo(
        "x", [nf.ChannelInfo(photo, channels="rgb", nodata=7), nf.ChannelInfo(tmp_path / "mask.npy", channels="m")]
    )
    frames = nf.SimpleFrames({"x": info, "walk": str(tmp_path / "w%d.tif")}, orientation="upright", backend=None)
    got = frames.load_region("x", channels="m|g", nodata="mask")
    want = np.rot90(picture(), -1)[..., 1]
    np.testing.assert_array_equal(got.data[..., 0], mask)
    np.testing.assert_array_equal(got.data[..., 1], want)
    np.testing.assert_array_equal(got.mask[..., 1], want == 7)
    for number in range(2):
        write_tiff(tmp_path / f"w{number}.tif", picture()[number:100], 6)
    with pytest.raises(nf.UnreadableImageError, match="203 x 100 px"):
        frames["walk"][1]
    np.testing.assert_array_equal(frames["walk"][0], np.rot90(picture()[:100], -1))
    with tifffile.TiffWriter(tmp_path / "pages.tif") as tiff:
        for tag in (1, 8):
            tiff.write(picture(), photometric="rgb", extratags=[(274, "H", 1, tag, True)], metadata=None)
    np.testing.assert_array_equal(nf.open(tmp_path / "pages.tif", page=1, orientation="upright"), np.rot90(picture()))


def test_a_dataset_with_the_sizes_of_the_upright_pictures(tmp_path):
    write_exif(tmp_path / "a.jpg", picture(), 6)
    image = {"id": 1, "file_name": "a.jpg", "height": 203, "width": 141}
    dataset = {"images": [image]}
    options = {"bundle_dpath": tmp_path, "workdir": tmp_path / "work"}
    for backend in (None, "cog"):
        frames = nf.CocoFrames(dataset, backend=backend, **options)
        with pytest.raises(nf.UnreadableImageError) as caught:
            frames.load_region(1)
        assert str(caught.value).endswith(
            "a.jpg is 141 x 203 px, but said to be 203 x 141 px (height x width); its EXIF orientation is 6, and "
            "orientation='upright' turns it to that size"
        )
        turned = nf.CocoFrames(dataset, backend=backend, orientation="upright", **options)
        np.testing.assert_array_equal(turned[1], np.rot90(nf.open(tmp_path / "a.jpg")[...], -1))
        as_stored = {"images": [{**image, "height": 141, "width": 203}]}
        with pytest.raises(nf.UnreadableImageError, match="and orientation='stored' leaves it in that size"):
            nf.CocoFrames(as_stored, backend=backend, orientation="upright", **options).load_region(1)
        with pytest.raises(nf.UnreadableImageError) as caught:
            nf.CocoFrames({"images": [{**image, "height": 99}]}, backend=backend, **options).load_region(1)
        assert "upright" not in str(caught.value)
    wrong = nf.PathInfo(1, [nf.ChannelInfo(tmp_path / "a.jpg")], shape=(203, 141))
    with pytest.raises(nf.UnreadableImageError, match="orientation='upright' turns it"):
        nf.open(wrong)[0]


@pytest.mark.parametrize("tag", TAGS)
def test_the_georeference_is_turned_too(tmp_path, tag):
    path = tmp_path / "a.tif"
    profile = {"height": 30, "width": 40, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", driver="GTiff", transform=Affine(10, 0, 500, 0, -10, 900), **profile) as file:
        file.write(picture((1, 30, 40)))
    place = nf.open(path).to_xarray()
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages.first
        extra = [(tag_.code, tag_.dtype, tag_.count, tag_.value, True) for tag_ in page.tags if tag_.code > 33000]
        pixels = page.asarray()
    tifffile.imwrite(path, pixels, extratags=[*extra, (274, "H", 1, tag, True)], metadata=None)
    array = nf.open(path, orientation="upright").to_xarray()
    numbers = [float(number) for number in array.spatial_ref.GeoTransform.split()]
    world_from_upright = np.array(Affine.from_gdal(*numbers)).reshape(3, 3)
    height, width = array.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    east, north, _ = world_from_upright @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    stored_y, stored_x = np.mgrid[:30, :40] + 0.5
    np.testing.assert_allclose(east.reshape(height, width), TURN[tag](500 + 10 * stored_x))
    np.testing.assert_allclose(north.reshape(height, width), TURN[tag](900 - 10 * stored_y))
    assert place.spatial_ref.crs_wkt == array.spatial_ref.crs_wkt


def test_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiff("a.tif", picture(), 6)
    for arguments in (
        ["crop", "a.tif", "--orientation", "upright", "-o", "up.npy"],
        ["crop", "a.tif", "--page", "0", "-o", "stored.npy"],
        ["show", "a.tif", "--orientation", "upright", "-o", "up.png"],
    ):
        assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    np.testing.assert_array_equal(np.load("up.npy"), np.rot90(picture(), -1))
    np.testing.assert_array_equal(np.load("stored.npy"), picture())
    told = CliRunner().invoke(main, ["info", "a.tif", "--orientation", "upright"], catch_exceptions=False).stdout
    assert "203 x 141 px" in told


def test_damaged_exif_is_no_orientation(tmp_path):
    path = write_exif(tmp_path / "a.png", picture(), 6)
    data = path.read_bytes()
    at = data.index(b"eXIf") + 4
    for patch in (b"XX", b"II*\0\xff\xff\xff\x7f"):
        broken = tmp_path / "b.png"
        broken.write_bytes(data[:at] + patch + data[at + len(patch) :])
        assert find_orientation(str(broken), "PNG") == 1
    assert find_orientation(str(path), "PNG") == 6


def to_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("bytes_each", [1, 1 << 16])
@pytest.mark.parametrize("tag", TAGS)
def test_the_exif_of_a_png_may_follow_any_number_of_chunks(tmp_path, tag, bytes_each):
    pixels = picture((61, 83, 3))
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, tag, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    parts = [rows[at : at + bytes_each] for at in range(0, len(rows), bytes_each)]
    header = to_chunk(b"IHDR", struct.pack(">2I5B", 83, 61, 8, 2, 0, 0, 0))
    chunks = [header, *(to_chunk(b"IDAT", part) for part in parts), to_chunk(b"eXIf", exif), to_chunk(b"IEND", b"")]
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    np.testing.assert_array_equal(nf.open(path, orientation="upright"), TURN[tag](pixels))
    np.testing.assert_array_equal(upright(path), TURN[tag](pixels))


def test_pixels_that_look_like_exif_are_no_orientation(tmp_path):
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
    chunk = to_chunk(b"eXIf", exif)
    path = write_exif(tmp_path / "a.png", picture(), 1)
    data = path.read_bytes()
    start = data.index(b"IDAT") + 4
    # The same bytes with another check: they are no chunk.
    path.write_bytes(data[:start] + chunk[:-1] + bytes([chunk[-1] ^ 1]) + data[start + len(chunk) :])
    assert find_orientation(str(path), "PNG") == 1


@pytest.mark.parametrize("tag", TAGS)
def test_overviews_of_a_source_are_turned(tmp_path, tag):
    """On request, also if the picture is flipped: the overview here is of other pixels, so its use shows."""
    full, small = picture((96, 160, 3)), picture((48, 80, 3))[::-1]
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "metadata": None, "tile": (32, 48)}
        options["extratags"] = [(274, "H", 1, tag, True)]
        file.write(full, **options)
        file.write(small, subfiletype=1, **options)
    image = nf.SimpleFrames({"a": path}, backend=None, orientation="upright", overviews="source")
    turned = TURN[tag](small)
    np.testing.assert_array_equal(image.load_region("a", scale=1 / 2), turned)
    np.testing.assert_array_equal(image.load_region("a", np.s_[10:70, 24:80], scale=1 / 2), turned[5:35, 12:40])
    own = nf.SimpleFrames({"a": path}, backend=None, orientation="upright")
    np.testing.assert_array_equal(own["a"], TURN[tag](full))
    assert not np.array_equal(own.load_region("a", scale=1 / 2), turned)


def test_a_transposed_picture_has_the_levels_of_its_entry(tmp_path):
    write_tiff(tmp_path / "a.tif", picture((301, 203, 3)), 5)
    np.save(tmp_path / "b.npy", picture((301, 203, 3)).swapaxes(0, 1))
    sources = {"a": tmp_path / "a.tif", "b": tmp_path / "b.npy"}
    backend = {"type": "cog", "config": {"blocksize": 16}}
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work", backend=backend, orientation="upright")
    for scale in (1 / 2, 1 / 8, 0.2):
        np.testing.assert_array_equal(frames.load_region("a", scale=scale), frames.load_region("b", scale=scale))
    assert "decodes 1 of" in str(frames.explain("a", np.s_[:64, :64], scale=1 / 8))
