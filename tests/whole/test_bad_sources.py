"""Invalid input: a typed error within a second, or exactly the right pixels; nothing else."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from kit.synthetic import SAMPLES, SHAPE, encode_png, picture
from kit.waiting import within
from PIL import Image

import ndframes as nf
from ndframes.errors import (
    SourceAccessError,
    SourceError,
    SourceKindError,
    SourceMissingError,
    UnreadableImageError,
)
from ndframes.formats.images.sniff import open_image
from ndframes.formats.images.tiff.check import check_directories
from ndframes.system.handles import HandlePool

CUTS = 12
# One sample for each decoder; the tests marked ``slow`` use all samples.
SEEDS = (
    "tif dtype uint16", "tif deflate tiles contig", "tif none strips separate", "tif jpeg colour", "tif palette 8",
    "tif one-bit fax", "tif pyramid ome", "tif slide", "tif stack", "tif lzma strips contig", "tif webp tiles contig",
    "tif lerc strips contig", "png colour 2 depth 8", "png interlaced gray 1", "png palette depth 4 of 4",
    "jpg rgb", "jpg progressive", "jpg gray", "jp2 uint16", "jp2 tiles", "j2k uint8", "webp rgb", "webp lossy",
    "bmp rgb", "bmp palette", "gif palette", "gif interlaced", "ppm 8", "pgm 16", "ppm letters", "pbm bits", "ntf raw",
    "ntf blocks", "sgi rgb", "hdr rgb", "avif rgb", "qoi rgb", "psd rgb", "ico rgba", "dds rgba", "npy float32", "npy Fortran",
)  # fmt: skip


def read(path: str, **info) -> np.ndarray:
    pool = HandlePool()
    try:
        return open_image(nf.ChannelInfo(path, **info), pool).read_all()
    finally:
        pool.close()


def equal(got: np.ndarray, wanted: np.ndarray) -> bool:
    is_number = got.dtype.kind in "fc"
    return (got.shape, got.dtype) == (wanted.shape, wanted.dtype) and np.array_equal(got, wanted, equal_nan=is_number)


# ------------------------------------------------------------------------------------------------- no readable file


def test_missing(tmp_path):
    path = str(tmp_path / "none.tif")
    with within(1), pytest.raises(SourceMissingError, match="none.tif does not exist") as caught:
        read(path)
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(SourceMissingError):
        read(str(tmp_path / "none" / "none.tif"))
    (tmp_path / "link.tif").symlink_to(path)
    with pytest.raises(SourceMissingError):
        read(str(tmp_path / "link.tif"))


def test_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.tif")
    for name, kind in (
        (tmp_path, "a directory"),
        (tmp_path / "fifo.tif", "a FIFO"),
        ("/dev/zero", "a character device"),
    ):
        with within(1), pytest.raises(SourceKindError, match=kind):
            read(str(name))


def test_permission_denied(tmp_path):
    """Root may read everything, so as root the test runs in a process of another user."""
    path, _ = SAMPLES["tif dtype uint8"].make(tmp_path)
    os.chmod(path, 0)
    if os.geteuid():
        with pytest.raises(SourceAccessError, match="permission denied"):
            read(path)
        return
    for folder in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(folder, 0o755)
    script = textwrap.dedent(f"""
        import os, sys
        from ndframes import ChannelInfo
        from ndframes.errors import SourceAccessError
        from ndframes.system.handles import HandlePool
        import ndframes.formats.images.sniff, ndframes.formats.images.raster
        os.setuid(65534)
        try:
            ndframes.formats.images.sniff.open_image(ChannelInfo({path!r}), HandlePool())
        except SourceAccessError as error:
            sys.exit(0 if "permission denied" in str(error) else 2)
        sys.exit(3)
    """)
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# ------------------------------------------------------------------------------------------------ no image


@pytest.mark.parametrize("ending", ["tif", "png", "jpg", "npy", "webp", "gif", "bmp", "jp2", "ntf", "avif", ""])
def test_empty_and_garbage(ending, tmp_path):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"")
    with within(1), pytest.raises(UnreadableImageError, match=r"is empty \(0 bytes\)"):
        read(str(path))
    path.write_bytes(random.Random(1).randbytes(5000))
    with within(1), pytest.raises(UnreadableImageError, match="not an image of a known format: it begins with"):
        read(str(path))
    path.write_text("<html><body>404 not found</body></html>")
    with within(1), pytest.raises(UnreadableImageError, match="not an image of a known format"):
        read(str(path))


@pytest.mark.parametrize("magic", [
    b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",
    b"RIFF\0\0\0\0WEBP", b"GIF89a", b"BM", b"NITF", b"\x01\xda", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"#?RADIANCE\n", b"#?RGBE\n",
    b"\x59\xa6\x6a\x95", b"qoif", b"8BPS", b"\0\0\1\0", b"DDS ", b"\0\0\0\x1cftypavif", b"\x93NUMPY",
])  # fmt: skip
@pytest.mark.parametrize(
    "rest",
    [b"", b"\0" * 3000, b"\xff" * 3000, random.Random(2).randbytes(3000)],
    ids=["bare", "zeros", "ones", "noise"],
)
def test_magic_alone(magic, rest, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(magic + rest)
    with within(2), pytest.raises(UnreadableImageError, match="a.bin"):
        read(str(path))


# ---------------------------------------------------------------------------------------------- headers with absurd sizes


def _png(width: int, height: int) -> bytes:
    data = bytearray(encode_png(picture((8, 8, 1)), 8, 0))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def _tiff(width: int, height: int, *, tile: int = 0, bands: int = 0) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, picture((64, 64)), metadata=None, tile=(32, 32) if tile else None)
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tags = tiff.pages.first.tags
        changes = ((256, width), (257, height), (322, tile), (323, tile), (277, bands))
        for number, value in changes:
            if number in tags and value:
                offset = tags[number].valueoffset
                data[offset - 6 : offset + 4] = struct.pack("<HII", 4, 1, value)
    return bytes(data)


def _npy(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(1000)


def _jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture((16, 16))).save(file, "JPEG")
    data = bytearray(file.getvalue())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _bmp(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture((16, 16, 3))).save(file, "BMP")
    data = bytearray(file.getvalue())
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def _bytes_of(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path, _ = SAMPLES[name].make(Path(folder))
        return Path(path).read_bytes()


def _patched(name: str, offset: int, data: bytes) -> bytes:
    whole = bytearray(_bytes_of(name))
    whole[offset : offset + len(data)] = data
    return bytes(whole)


def _gif() -> bytes:
    frame = struct.pack("<BHHHH", 0x2C, 0, 0, SHAPE[1], SHAPE[0])
    assert _bytes_of("gif palette").count(frame) == 1
    return _bytes_of("gif palette").replace(frame, struct.pack("<BHHHH", 0x2C, 0, 0, 65535, 65535))


HUGE = {
    "png": lambda: _png(2**31 - 1, 2**31 - 1),
    "png wide": lambda: _png(2**31 - 1, 1),
    "png tall": lambda: _png(1, 2**31 - 1),
    "png zero": lambda: _png(0, 0),
    "png a gigabyte": lambda: _png(30_000, 30_000),
    "tif": lambda: _tiff(2**31 - 1, 2**31 - 1),
    "tif wide": lambda: _tiff(2**31 - 1, 64),
    "tif tall": lambda: _tiff(64, 2**31 - 1),
    "tif most": lambda: _tiff(0xFFFFFFFF, 0xFFFFFFFF),
    "tif tile": lambda: _tiff(64, 64, tile=2**30),
    "tif bands": lambda: _tiff(64, 64, bands=65_000),
    "tif large tile": lambda: _tiff(64, 64, tile=2**15),
    "tif many tiles": lambda: _tiff(2**31 - 1, 2**31 - 1, tile=16),
    "npy": lambda: _npy((2**40, 2**20)),
    "npy overflow": lambda: _npy((2**62, 2**62)),
    "npy a terabyte": lambda: _npy((2**20, 2**20)),
    "npy negative": lambda: _npy((-5, -5)),
    "npy half negative": lambda: _npy((5, -1)),
    "npy zero": lambda: _npy((0, 5)),
    "npy no axes": lambda: _npy(()),
    "npy one axis": lambda: _npy((1000,)),
    "npy four axes": lambda: _npy((2, 2, 2, 2)),
    "npy strings": lambda: _npy((5, 5), "<U2"),
    "npy dates": lambda: _npy((5, 5), "<M8[s]"),
    "npy void": lambda: _npy((5, 5), "|V4"),
    "npy fields": lambda: b"\x93NUMPY\x01\0" + struct.pack("<H", 90) + b"{'descr': [('a', '<u1')], 'fortran_order': False, 'shape': (5, 5)}".ljust(90) + bytes(99),
    "npy long header": lambda: b"\x93NUMPY\x02\0" + struct.pack("<I", 2**31) + b"{" * 1000,
    "npy deep header": lambda: b"\x93NUMPY\x02\0" + struct.pack("<I", 9000) + b"(" * 9000,
    "npy odd header": lambda: b"\x93NUMPY\x01\0" + struct.pack("<H", 60) + b"__import__('os').system('touch canary')".ljust(60) + bytes(99),
    "npy version 9": lambda: b"\x93NUMPY\x09\0" + bytes(1000),
    "jpg": lambda: _jpeg(65_500, 65_500),
    "bmp": lambda: _bmp(2**31 - 1, 2**31 - 1),
    "bmp upside down": lambda: _bmp(30_000, -(2**31)),
    "bmp a gigabyte": lambda: _bmp(18_000, 18_000),
    "pgm": lambda: b"P5\n2147483647 2147483647\n255\n" + bytes(100),
    "pgm a gigabyte": lambda: b"P5\n30000 30000\n255\n" + bytes(100),
    "pgm negative": lambda: b"P5\n-5 -5\n255\n" + bytes(100),
    "pgm letters": lambda: b"P2\n999999999 999999999\n255\n1 2 3\n",
    "pbm": lambda: b"P4\n999999999 999999999\n" + bytes(100),
    "gif": _gif,
    "webp": lambda: _patched("webp lossy", 26, b"\xff\x3f\xff\x3f"),
    "sgi": lambda: _patched("sgi rgb", 6, b"\xff\xff\xff\xff"),
    "qoi": lambda: _patched("qoi rgb", 4, b"\x7f\xff\xff\xff\x7f\xff\xff\xff"),
    "psd": lambda: _patched("psd rgb", 14, b"\0\x04\x93\xe0\0\x04\x93\xe0"),
    "dds": lambda: _patched("dds rgba", 12, b"\xff\xff\xff\x7f\xff\xff\xff\x7f"),
    "hdr": lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2147483647 +X 2147483647\n" + bytes(100),
    "ntf": lambda: _patched("ntf raw", 343, b"9" * 12),
}  # fmt: skip


@pytest.mark.parametrize("name", HUGE)
def test_absurd_headers(name, tmp_path, monkeypatch):
    """Refused within a second, before memory is allocated for the sizes that they state."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.bin"
    path.write_bytes(HUGE[name]())
    with within(1), pytest.raises(UnreadableImageError, match="a.bin"):
        read(str(path))
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_block_longer_than_the_file_takes_no_memory(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture((64, 64)), compression="zstd", metadata=None)
    read(str(path), page=0)  # imports the libraries, whose code is not counted below
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages.first.tags[279].offset
    data = bytearray(path.read_bytes())
    data[offset + 2 : offset + 12] = struct.pack("<HII", 4, 1, 2**32 - 1)
    path.write_bytes(data)
    tracemalloc.start()
    with within(1), pytest.raises(UnreadableImageError, match="should be 4,294,967,295 bytes at"):
        read(str(path), page=0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 24


def test_pickles_never_run(tmp_path):
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(canary),)

    objects = np.empty((3, 3), object)
    objects[:] = Bomb()
    path = tmp_path / "a.npy"
    np.save(path, objects, allow_pickle=True)
    bare = tmp_path / "b.npy"
    bare.write_bytes(pickle.dumps(Bomb()))
    zipped = tmp_path / "c.npy"
    with open(zipped, "wb") as file:
        np.savez(file, objects)
    for name in (path, bare, zipped):
        with pytest.raises(UnreadableImageError):
            read(str(name))
    assert not canary.exists()
    np.load(path, allow_pickle=True)
    assert canary.exists(), "the pickle does nothing, so the test above shows nothing"


# ------------------------------------------------------------------------------------------------------- truncated


def cut_everywhere(name: str, folder: Path) -> None:
    sample = SAMPLES[name]
    path, _ = sample.make(folder)
    wanted = read(path, **sample.info)
    data = Path(path).read_bytes()
    cuts = {len(data) * number // CUTS for number in range(1, CUTS)} | {len(data) - 1, len(data) - 9, 40, 200}
    refused = []
    for cut in sorted(cut for cut in cuts if 0 < cut < len(data)):
        # A new name each time, since GDAL caches what it read from a path.
        short = folder / f"cut_{cut}.bin"
        short.write_bytes(data[:cut])
        with within(2):
            try:
                got = read(str(short), **sample.info)
            except SourceError as error:
                refused.append(str(error))
            else:
                assert equal(got, wanted), f"{name} cut at {cut:,} of {len(data):,} reads as other pixels"
        short.unlink()
    assert len(refused) >= 3
    assert all(str(folder) in message for message in refused)


@pytest.mark.parametrize("name", SEEDS)
def test_truncated(name, tmp_path):
    cut_everywhere(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in SEEDS])
def test_truncated_all(name, tmp_path):
    cut_everywhere(name, tmp_path)


BIG = {
    "png": lambda path, pixels: Image.fromarray(pixels).save(path, "PNG"),
    "jpg": lambda path, pixels: Image.fromarray(pixels).save(path, "JPEG", quality=90),
    "jpg restarts": lambda path, pixels: Image.fromarray(pixels).save(path, "JPEG", quality=90, restart_marker_rows=1),
    "jpg progressive": lambda path, pixels: Image.fromarray(pixels).save(path, "JPEG", progressive=True),
    "jp2": lambda path, pixels: Image.fromarray(pixels).save(path, "JPEG2000", tile_size=(128, 128)),
    "webp": lambda path, pixels: Image.fromarray(pixels).save(path, "WEBP"),
    "bmp": lambda path, pixels: Image.fromarray(pixels).save(path, "BMP"),
    "gif": lambda path, pixels: Image.fromarray(pixels).convert("L").save(path, "GIF"),
    "ppm": lambda path, pixels: Image.fromarray(pixels).save(path, "PPM"),
    "tif": lambda path, pixels: tifffile.imwrite(path, pixels, metadata=None),
    "tif rows": lambda path, pixels: tifffile.imwrite(path, pixels, rowsperstrip=16, compression="deflate", metadata=None),
    "npy": lambda path, pixels: path.write_bytes(_saved(pixels)),
}  # fmt: skip


def _saved(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


@pytest.mark.parametrize("name", BIG)
def test_crops_of_a_truncated_file(name, tmp_path):
    """Each crop is right or refused, in any order and repeatedly: no partly decoded rows stay in a cache."""
    path = tmp_path / "whole.bin"
    BIG[name](path, picture((700, 900, 3)))
    wanted = read(str(path))
    data = path.read_bytes()
    short = tmp_path / "short.bin"
    short.write_bytes(data[: len(data) * 6 // 10])
    pool = HandlePool()
    try:
        reader = open_image(nf.ChannelInfo(str(short)), pool)
    except SourceError:
        return
    refused = 0
    tops = [600, 600, 0, 350, 600, 450, 0, 690]
    for top in tops:
        rows, cols = range(top, min(top + 60, 700)), range(100, 300)
        out = np.empty((len(rows), len(cols), wanted.shape[2]), wanted.dtype)
        try:
            reader.read(rows, cols, range(wanted.shape[2]), out)
        except SourceError:
            refused += 1
        else:
            np.testing.assert_array_equal(out, wanted[rows.start : rows.stop, cols.start : cols.stop])
    assert refused >= {"jp2": 1, "bmp": 2}.get(name, 4)  # the rows of a BMP run from bottom to top
    pool.close()


def test_a_tag_past_the_end_is_an_error(tmp_path):
    """libtiff and tifffile ignore a tag that they cannot read; bit depth and sign would then be guessed."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, picture((20, 30, 5), "int16"), photometric="minisblack", planarconfig="contig", metadata=None
    )
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        tags = {number: tiff.pages.first.tags[number].offset for number in (258, 339)}
    for number, offset in tags.items():
        data = bytearray(whole)
        data[offset + 8 : offset + 12] = struct.pack("<I", len(whole) - 3)
        path.write_bytes(data)
        for info in ({}, {"page": 0}):
            with pytest.raises(UnreadableImageError, match=f"bytes of tag {number} are at"):
                read(str(path), **info)


def test_a_broken_chain_of_pages(tmp_path):
    path, _ = SAMPLES["tif stack"].make(tmp_path)
    whole = Path(path).read_bytes()
    with tifffile.TiffFile(path) as tiff:
        last = tiff.pages[4].offset
    position = whole.rindex(struct.pack("<I", last))
    broken = tmp_path / "b.tif"
    broken.write_bytes(whole[:position] + struct.pack("<I", len(whole) + 100) + whole[position + 4 :])
    check_directories(str(broken), every=False)
    with pytest.raises(UnreadableImageError, match="a directory should be at"):
        check_directories(str(broken), every=True)
    with pytest.raises(UnreadableImageError, match="a directory should be at"):
        read(str(broken), page=3)
    circle = tmp_path / "c.tif"
    circle.write_bytes(whole[:position] + struct.pack("<I", 8) + whole[position + 4 :])
    with within(1):
        check_directories(str(circle), every=False)
        for info in ({}, {"page": 3}, {"series": 0}):
            with pytest.raises(
                UnreadableImageError, match="c.tif: its page 3 links back to the page at 8; its pages form a circle"
            ):
                read(str(circle), **info)


@pytest.mark.parametrize("description", [None, "lsm"])
def test_a_page_that_links_to_itself(description, tmp_path):
    path = tmp_path / "a.tif"
    tags = [(34412, "B", 100, bytes(100), True)] if description else []
    tifffile.imwrite(path, np.arange(12, dtype=np.uint8).reshape(3, 4), extratags=tags, metadata=None)
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    path.write_bytes(data)
    for info in ({}, {"page": 0}, {"series": 0}):
        with within(1), pytest.raises(UnreadableImageError, match="form a circle"):
            read(str(path), **info)


# --------------------------------------------------------------------------------------------------------- mutated


def mutate(data: bytes, choose: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(choose.choice((1, 1, 2, 8))):
        position = choose.randrange(min(len(changed), choose.choice((40, 300, 2000, len(changed)))))
        changed[-position if choose.random() < 0.25 else position] = choose.choice((0, 255, choose.randrange(256)))
    return bytes(changed)


def mutate_everywhere(name: str, folder: Path, count: int) -> None:
    """No crash, and no error except ``SourceError``. Pixels may differ, as a changed byte of a raw file changes a pixel."""
    sample = SAMPLES[name]
    path, _ = sample.make(folder)
    data = Path(path).read_bytes()
    choose = random.Random(name)
    for number in range(count):
        changed = folder / f"mutated_{number}.bin"
        changed.write_bytes(mutate(data, choose))
        pool = HandlePool()
        with warnings.catch_warnings(), within(5):
            warnings.simplefilter("ignore")  # libraries warn about unknown tags
            try:
                reader = open_image(nf.ChannelInfo(str(changed), **sample.info), pool)
                if reader.nbytes < 1 << 26:
                    reader.read_all()
            except SourceError:
                pass
        pool.close()
        changed.unlink()


# rasterio cannot decode an error message with a damaged name: it reports that as unraisable and goes on.
ignore_unreadable_words = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@ignore_unreadable_words
@pytest.mark.parametrize("name", SEEDS)
def test_mutated(name, tmp_path):
    mutate_everywhere(name, tmp_path, 12)


@pytest.mark.slow
@ignore_unreadable_words
@pytest.mark.parametrize("name", SAMPLES)
def test_mutated_all(name, tmp_path):
    mutate_everywhere(name, tmp_path, 200)


# -------------------------------------------------------------------------------------------- through Frames


def test_every_error_names_the_image_and_the_file(tmp_path):
    good, wanted = SAMPLES["png colour 2 depth 8"].make(tmp_path)
    bad = tmp_path / "bad.png"
    bad.write_bytes(Path(good).read_bytes()[:3000])
    (tmp_path / "empty").mkdir()
    frames = nf.SimpleFrames(
        {"good": good, "bad": bad, "gone": tmp_path / "gone.png", "folder": tmp_path / "empty"}, workdir=tmp_path / "w"
    )
    for image_id, kind in (("bad", UnreadableImageError), ("gone", SourceMissingError), ("folder", SourceKindError)):
        with within(1), pytest.raises(kind, match=f"image '{image_id}'") as caught:
            frames.load_image(image_id)
        assert str(tmp_path) in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    report = frames.prepare(errors="collect")
    assert sorted(failure.image_id for failure in report.failed) == ["bad", "folder", "gone"]
    assert report.prepared == 1
    np.testing.assert_array_equal(frames.load_image("good"), wanted)
