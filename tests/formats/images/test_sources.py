"""Every kind of file is read as the pixels that it holds."""

from __future__ import annotations

import os
import random
import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
import rasterio
import skimage
import tifffile
from kit.synthetic import SAMPLES, SHAPE, picture, write_gdal
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

import ndframes as nf
from ndframes.errors import SourceError, UnreadableImageError
from ndframes.formats.images.sniff import open_image, sniff
from ndframes.system.handles import HandlePool

if TYPE_CHECKING:
    from ndframes.formats.reader import Reader

PHOTOGRAPHS = sorted(
    str(path)
    for path in Path(skimage.data_dir).iterdir()
    if path.suffix in (".png", ".jpg", ".tif", ".gif") and not path.name.startswith("multipage")
)


@pytest.fixture
def pool():
    pool = HandlePool()
    yield pool
    pool.close()


def open_path(path: str, pool: HandlePool, **info) -> Reader:
    return open_image(nf.ChannelInfo(path, **info), pool)


@contextmanager
def ungeoreferenced(path):
    """What rasterio reads from a file, without its warning about a missing georeference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            yield dataset


def assert_same(got: np.ndarray, wanted: np.ndarray, tolerance: float = 0) -> None:
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    if not tolerance:
        np.testing.assert_array_equal(got, wanted)
        return
    difference = np.abs(got.astype(float) - wanted.astype(float))
    assert difference.max() <= tolerance
    assert difference.mean() <= tolerance / 8


def read_crops(reader: Reader, whole: np.ndarray, *, seed: int, count: int) -> None:
    """Hold random crops, steps and band subsets against numpy."""
    choose = random.Random(seed)
    for _ in range(count):
        rows, cols = (range(extent)[_slice(choose, extent)] for extent in whole.shape[:2])
        bands = choose.sample(range(whole.shape[2]), choose.randint(1, whole.shape[2]))
        out = np.empty((len(rows), len(cols), len(bands)), reader.dtype)
        reader.read(rows, cols, bands, out)
        np.testing.assert_array_equal(out, whole[np.ix_(rows, cols, bands)])


def _slice(choose: random.Random, extent: int) -> slice:
    start, stop = sorted(choose.sample(range(extent + 1), 2))
    step = choose.choice((1, 1, 1, 2, 5))
    return slice(start, stop, step) if choose.random() < 0.7 else slice(stop - 1, start - 1 if start else None, -step)


@pytest.mark.parametrize("name", SAMPLES)
def test_pixels(name, tmp_path, pool):
    sample = SAMPLES[name]
    path, wanted = sample.make(tmp_path)
    listing = sorted(os.listdir(tmp_path))
    reader = open_path(path, pool, **sample.info)
    whole = reader.read_all()
    assert_same(whole, wanted, sample.tolerance)
    read_crops(reader, whole, seed=len(name), count=10)
    assert reader.overview_shapes == sample.overviews
    for level in range(1, len(sample.overviews) + 1):
        assert reader.read_all(level=level).shape == (*sample.overviews[level - 1], whole.shape[2])
    assert sorted(os.listdir(tmp_path)) == listing


@pytest.mark.parametrize(
    "name", [name for name, sample in SAMPLES.items() if name.startswith("tif") and not sample.info]
)
def test_pages_are_read_like_files(name, tmp_path, pool):
    """tifffile's pixels for the first page are GDAL's, palettes and one-bit samples included."""
    if "fax" in name and not hasattr(imagecodecs, "ccittfax4_decode"):
        pytest.skip("this version of imagecodecs, the last for Python 3.10, decodes no fax")
    path, wanted = SAMPLES[name].make(tmp_path)
    if name == "tif pyramid ome":
        wanted = wanted[:, :, :1]
    reader = open_path(path, pool, page=0)
    assert reader.format == "TIFF"
    assert_same(reader.read_all(), wanted)
    read_crops(reader, wanted, seed=1, count=4)


def decode_photograph(path: str) -> np.ndarray:
    """By any library but GDAL; Pillow cuts colours of 16 bits to 8, and knows no planes of float64."""
    if path.endswith(".tif"):
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            pixels = page.asarray()
            pixels = pixels.transpose(1, 2, 0) if page.planarconfig == 2 else pixels
    elif path.endswith("chessboard_RGB.png"):
        pixels = imagecodecs.png_decode(Path(path).read_bytes())
    else:
        with Image.open(path) as image:
            colours = "RGBA" if "transparency" in image.info else "RGB"
            pixels = np.asarray(image.convert(colours) if image.mode == "P" else image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=os.path.basename)
def test_photographs(path, pool):
    reader = open_path(path, pool)
    wanted = decode_photograph(path)
    whole = reader.read_all()
    assert_same(whole, wanted)
    read_crops(reader, whole, seed=3, count=5)


def test_there_are_photographs():
    assert len(PHOTOGRAPHS) >= 25


def test_pyramid_levels_are_the_pages(tmp_path, pool):
    path, pixels = SAMPLES["tif pyramid ome"].make(tmp_path)
    reader = open_path(path, pool)
    for level, step in ((1, 2), (2, 4)):
        np.testing.assert_array_equal(reader.read_all(level=level), pixels[::step, ::step])
    path, pixels = SAMPLES["tif slide"].make(tmp_path)
    reader = open_path(path, pool)
    np.testing.assert_array_equal(reader.read_all(level=1), pixels[::4, ::4])
    np.testing.assert_array_equal(open_path(path, pool, page=3).read_all(), picture((30, 40, 3), seed=5))
    np.testing.assert_array_equal(open_path(path, pool, series=1).read_all(), pixels[::6, ::6])


def test_every_page_and_plane(tmp_path, pool):
    path, _ = SAMPLES["tif stack"].make(tmp_path)
    for page in range(5):
        wanted = picture(SHAPE, "uint16", seed=page)[:, :, None]
        np.testing.assert_array_equal(open_path(path, pool, page=page).read_all(), wanted)
        np.testing.assert_array_equal(open_path(path, pool, page=page, series=0).read_all(), wanted)
    with pytest.raises(UnreadableImageError, match=r"stack of axes .* page=0 \.\.\. page=4"):
        open_path(path, pool)


def test_pages_that_are_not_there(tmp_path, pool):
    path, _ = SAMPLES["tif stack"].make(tmp_path)
    with pytest.raises(UnreadableImageError, match="has no page 5; it has 5"):
        open_path(path, pool, page=5)
    with pytest.raises(UnreadableImageError, match="has no series 1; it has 1"):
        open_path(path, pool, series=1)
    with pytest.raises(UnreadableImageError, match="is a stack .* choose a plane with page=0 ... page=4"):
        open_path(path, pool, series=0)
    with pytest.raises(UnreadableImageError, match="PNG, which has no pages"):
        open_path(PHOTOGRAPHS[0], pool, page=0)


def test_ome_planes_in_other_files_are_refused(tmp_path, pool):
    """Never pixels of another file, nor of another place in this one."""
    first, second = tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"
    uuids = ("urn:uuid:11111111-1111-1111-1111-111111111111", "urn:uuid:22222222-2222-2222-2222-222222222222")
    planes = "".join(
        f'<TiffData FirstC="{number}" IFD="0" PlaneCount="1"><UUID FileName="{path.name}">{uuid}</UUID></TiffData>'
        for number, (path, uuid) in enumerate(zip((first, second), uuids, strict=True))
    )
    for number, (path, uuid) in enumerate(zip((first, second), uuids, strict=True)):
        description = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuid}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="{SHAPE[1]}" '
            f'SizeY="{SHAPE[0]}" SizeC="2" SizeZ="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
            f'<Channel ID="Channel:0:1" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            path, picture(SHAPE, seed=number), description=description, photometric="minisblack", metadata=None
        )
    with pytest.raises(UnreadableImageError, match="keeps them in other files"):
        open_path(str(first), pool)
    np.testing.assert_array_equal(open_path(str(first), pool, page=0).read_all()[:, :, 0], picture(SHAPE))


def test_raw_page_reads_only_the_rows_wanted(tmp_path, pool, monkeypatch):
    path = str(tmp_path / "a.tif")
    pixels = picture((500, 400), "uint16")
    tifffile.imwrite(path, pixels, rowsperstrip=500, byteorder=">", metadata=None, photometric="minisblack")
    reader = open_image(nf.ChannelInfo(path), pool, is_mapped=False)
    read, preadv = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *arguments: read.append(preadv(*arguments)) or read[-1])
    out = np.empty((7, 20, 1), np.uint16)
    reader.read(range(300, 307), range(11, 31), [0], out)
    np.testing.assert_array_equal(out[:, :, 0], pixels[300:307, 11:31])
    assert sum(read) == 7 * 20 * 2


@pytest.mark.parametrize(
    "name", ["png colour 2 depth 8", "jpg rgb", "tif palette 8", "npy uint8", "gif palette", "qoi rgb", "webp rgb"]
)
@pytest.mark.parametrize("ending", ["vrt", "npy", "jpg", "tif", "zip", ""])
def test_the_name_tells_nothing(name, ending, tmp_path, pool):
    path, wanted = SAMPLES[name].make(tmp_path)
    other = str(tmp_path / f"renamed.{ending}")
    shutil.copy(path, other)
    assert_same(open_path(other, pool).read_all(), wanted, SAMPLES[name].tolerance)


def test_odd_paths(tmp_path, pool):
    """Names that GDAL gives a meaning of its own are names of files."""
    path, wanted = SAMPLES["tif bands 3"].make(tmp_path)
    for name in ("GTIFF_DIR:1:a.tif", "NETCDF:a", "vrt:̈//x?bands=1", "a b?c#d%41.tif", "https:̈", "\udcff.tif"):
        other = tmp_path / name.replace("/", "_")
        shutil.copy(path, other)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            for spelling in (str(other), other.name):
                np.testing.assert_array_equal(open_path(spelling, pool).read_all(), wanted)


VRT = """<VRTDataset rasterXSize="10" rasterYSize="10"><VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">
<SourceFilename relativeToVRT="0">{secret}</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>
<LineOffset>10</LineOffset></VRTRasterBand></VRTDataset>"""
SIMPLE_VRT = """<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><VRTRasterBand dataType="UInt16" band="1">
<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>2</SourceBand></SimpleSource>
</VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize("name", ["x.vrt", "x.tif", "x.png"])
def test_vrt_is_never_guessed(name, tmp_path, pool):
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0" * 100)
    path = tmp_path / name
    path.write_text(VRT.format(secret=secret))
    with pytest.raises(UnreadableImageError, match="not an image of a known format"):
        open_path(str(path), pool)


@pytest.mark.parametrize(
    "path", ["/vsicurl/http://localhost/a.tif", "/vsizip/a.zip/b.tif", "http://localhost/a.tif", "GTIFF_DIR:1:a.tif"]
)
def test_virtual_paths_are_files_that_are_missing(path, pool):
    with pytest.raises(
        nf.errors.SourceMissingError,
        match="an address can be read by Frames with sources=" if "://" in path else "does not exist",
    ):
        open_path(path, pool)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_a_video_without_its_ending_is_recognised(ending, tmp_path, pool):
    nf.write_video(tmp_path / f"a.{ending}", np.zeros((2, 64, 64, 3), np.uint8), fps=5)
    os.rename(tmp_path / f"a.{ending}", tmp_path / "a.bin")
    with pytest.raises(UnreadableImageError, match=r"a\.bin looks like a video; .* rename it to end in \.mp4"):
        open_path(str(tmp_path / "a.bin"), pool)


def test_driver_opts_in(tmp_path, pool):
    path, wanted = SAMPLES["tif bands 3"].make(tmp_path)
    vrt = tmp_path / "a.txt"
    vrt.write_text(SIMPLE_VRT.format(width=SHAPE[1], height=SHAPE[0], name=os.path.basename(path)))
    np.testing.assert_array_equal(open_path(str(vrt), pool, driver="VRT").read_all(), wanted[:, :, 1:2])
    np.testing.assert_array_equal(open_path(f"/vsisubfile/0_,{path}", pool, driver="GTiff").read_all(), wanted)
    hfa = tmp_path / "a.img"
    write_gdal(hfa, "HFA", wanted.transpose(2, 0, 1))
    with pytest.raises(UnreadableImageError, match="driver=..."):
        open_path(str(hfa), pool)
    np.testing.assert_array_equal(open_path(str(hfa), pool, driver="HFA").read_all(), wanted)
    with pytest.raises(SourceError, match="begins like PNG but does not open"):
        open_path(path, pool, driver="PNG")


@pytest.mark.parametrize(("driver", "ending"), [("ENVI", "img"), ("EHdr", "bil"), ("RRASTER", "grd")])
def test_a_named_driver_finds_its_other_files(driver, ending, tmp_path, pool):
    pixels = picture((*SHAPE, 3))
    write_gdal(tmp_path / f"a.{ending}", driver, pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(open_path(str(tmp_path / f"a.{ending}"), pool, driver=driver).read_all(), pixels)


def test_sidecars_change_nothing(tmp_path, pool):
    for name in ("tif palette 8", "png colour 0 depth 8", "jpg gray", "bmp rgb"):
        path, wanted = SAMPLES[name].make(tmp_path)
        stem = os.path.splitext(path)[0]
        wrong = np.full((1, *SHAPE), 7, np.uint8)
        for sidecar in (f"{path}.ovr", f"{path}.msk", f"{stem}.ovr"):
            write_gdal(Path(sidecar), "GTiff", wrong[:, ::2, ::2] if sidecar.endswith("ovr") else wrong)
        Path(f"{path}.aux.xml").write_text(
            '<PAMDataset><PAMRasterBand band="1"><NoDataValue>3</NoDataValue><Offset>9</Offset><Scale>2</Scale><ColorTable>'
            '<Entry c1="9" c2="9" c3="9" c4="9"/></ColorTable><ColorInterp>Palette</ColorInterp></PAMRasterBand></PAMDataset>'
        )
        for ending in ("tfw", "wld", "pgw", "jgw", "bpw"):
            Path(f"{stem}.{ending}").write_text("2\n0\n0\n-2\n100\n200\n")
        listing = {item.name: item.read_bytes() for item in tmp_path.iterdir()}
        reader = open_path(path, pool)
        assert_same(reader.read_all(), wanted, SAMPLES[name].tolerance)
        assert reader.overview_shapes == ()
        assert {item.name: item.read_bytes() for item in tmp_path.iterdir()} == listing


def test_the_stored_grid_and_its_orientation(tmp_path, pool):
    path, wanted = SAMPLES["jpg rotated"].make(tmp_path)
    turned = str(tmp_path / "turned.tif")
    pixels = picture((*SHAPE, 3))
    tifffile.imwrite(turned, pixels, photometric="rgb", extratags=[(274, "H", 1, 8, True)], metadata=None)
    for name, info, orientation in ((path, {}, 6), (turned, {}, 8), (turned, {"page": 0}, 8)):
        reader = open_path(name, pool, **info)
        assert_same(reader.read_all(), wanted if name == path else pixels, 0)
        assert reader.facts.orientation == orientation


def test_a_camera_thumbnail_is_no_overview(tmp_path, pool):
    """It may show the picture as it was before somebody edited it."""
    pixels = picture((600, 800, 3))
    path = tmp_path / "a.jpg"
    _save_with_thumbnail(path, pixels)
    with ungeoreferenced(path) as dataset:
        assert len(dataset.overviews(1)) == 3, "the file has no thumbnail"
    reader = open_path(str(path), pool)
    assert reader.overview_shapes == ()
    with Image.open(path) as image:
        np.testing.assert_array_equal(reader.read_all(), np.asarray(image))


def _save_with_thumbnail(path: Path, pixels: np.ndarray) -> None:
    import io
    import struct

    file = io.BytesIO()
    Image.new("RGB", (100, 75), (255, 0, 0)).save(file, "JPEG")
    thumbnail = file.getvalue()
    entries = [(0x103, 3, 1, 6), (0x201, 4, 1, 14 + 2 + 36 + 4), (0x202, 4, 1, len(thumbnail))]
    directory = struct.pack("<H", 3) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    exif = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 14) + directory + thumbnail
    Image.fromarray(pixels).save(path, exif=exif, quality=90)


def test_two_colours_are_bits_where_the_format_has_no_bits(tmp_path, pool):
    """A BMP of black and white is boolean whichever way its palette runs; other palettes stay colours."""
    bits = picture(SHAPE, bool)
    for order, name in (([0, 0, 0, 255, 255, 255], "a.bmp"), ([255, 255, 255, 0, 0, 0], "b.bmp")):
        image = Image.fromarray(bits.astype(np.uint8), mode="P")
        image.putpalette(order)
        image.save(tmp_path / name)
        wanted = bits if order[0] == 0 else ~bits
        assert_same(open_path(str(tmp_path / name), pool).read_all(), wanted[:, :, None])
        image.save(tmp_path / "a.png", bits=1)
        assert_same(
            open_path(str(tmp_path / "a.png"), pool).read_all(),
            np.repeat(wanted[:, :, None] * np.uint8(255), 3, axis=2),
        )


def test_missing_tiles_are_nodata(tmp_path, pool):
    path = tmp_path / "a.tif"
    for nodata, fill in ((None, 0), (9, 9)):
        with rasterio.open(path, "w", driver="GTiff", width=100, height=90, count=1, dtype="uint8", nodata=nodata,
                           tiled=True, blockxsize=32, blockysize=32, sparse_ok=True, transform=rasterio.Affine(2, 0, 0, 0, 2, 0)) as file:  # fmt: skip
            file.write(np.full((32, 32), 5, np.uint8), 1, window=((32, 64), (32, 64)))
        wanted = np.full((90, 100, 1), fill, np.uint8)
        wanted[32:64, 32:64] = 5
        for info in ({}, {"page": 0}):
            np.testing.assert_array_equal(open_path(str(path), pool, **info).read_all(), wanted)


@pytest.mark.parametrize(("head", "kind"), [
    (b"", None), (b"II*", None), (b"II*\0\x08", "tiff"), (b"MM\0*", "tiff"), (b"II+\0", "tiff"), (b"MM\0+", "tiff"),
    (b"\x93NUMPY\x01\0", "npy"), (b"RIFF\0\0\0\0WEBPVP8 ", "WEBP"), (b"RIFF\0\0\0\0WAVE", None), (b"PK\x03\x04", None),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2OpenJPEG"), (b"<VRTDataset", None), (b"\0\0\0\x1cftypavif", "AVIF"),
    (b"\0\0\0\x1cftypisom", None),
])  # fmt: skip
def test_sniff(head, kind):
    assert sniff(head) == kind


def test_four_inks_are_read_as_colours(tmp_path, pool):
    path, _ = SAMPLES["jpg four inks"].make(tmp_path)
    with Image.open(path) as image:
        wanted = np.asarray(image.convert("RGB"))
    assert_same(open_path(path, pool).read_all(), wanted)
