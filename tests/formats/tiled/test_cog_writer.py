"""COGs give back what was written, to any reader, and their overviews are averages."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import textwrap
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from kit.synthetic import DTYPES, FLOATS, INTEGERS, picture
from rasterio.errors import NotGeoreferencedWarning
from rio_cogeo.cogeo import cog_validate

from ndframes.formats.images.arrays import ArrayReader
from ndframes.formats.images.raster import RasterReader
from ndframes.formats.tiled import cog_writer as cog
from ndframes.formats.tiled import directories as tiffwrite
from ndframes.formats.tiled.codecs import encode_tile
from ndframes.formats.tiled.cog_writer import BufferSizes, write_cog
from ndframes.formats.tiled.halve import halve
from ndframes.formats.tiled.npy_writer import write_npy
from ndframes.geometry.tiling import overview_shapes
from ndframes.spec.backends import coerce_backend
from ndframes.system.handles import HandlePool

LOSSLESS = ("NONE", "ZSTD", "DEFLATE", "LZW")


def write(path: Path, pixels: np.ndarray, *, threads: int = 1, sizes: BufferSizes | None = None, **config) -> str:
    """Write ``pixels`` as a COG; returns its path."""
    backend = coerce_backend({"type": "cog", "config": config})
    with open(path, "wb") as file:
        write_cog(file, ArrayReader("source", pixels, format="array"), backend, threads=threads, sizes=sizes)
    return str(path)


@contextmanager
def quietly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def assert_valid(path: str) -> None:
    with quietly():
        is_valid, errors, remarks = cog_validate(path, strict=True)
    assert (is_valid, errors, remarks) == (True, [], [])


def assert_holds(path: str, levels: list[np.ndarray]) -> None:
    """Every level, to three readers."""
    pool = HandlePool()
    reader = RasterReader(path, "GTiff", pool)
    assert (reader.shape, reader.dtype) == (levels[0].shape, levels[0].dtype)
    assert reader.overview_shapes == tuple(level.shape[:2] for level in levels[1:])
    with tifffile.TiffFile(path) as file:
        pages = [page.asarray().reshape(level.shape) for page, level in zip(file.pages, levels, strict=True)]
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(reader.read_all(level=number), level)
        np.testing.assert_array_equal(pages[number], level)
        assert pages[number].dtype == level.dtype
        with quietly(), rasterio.open(path, **({"overview_level": number - 1} if number else {})) as dataset:
            np.testing.assert_array_equal(dataset.read().transpose(1, 2, 0), level)
    pool.close()


def average(pixels: np.ndarray) -> np.ndarray:
    """Two by two pixels to one, by Python's whole numbers: slow and plain."""
    height, width, bands = pixels.shape
    out = np.empty((-(-height // 2), -(-width // 2), bands), pixels.dtype)
    for y, x, band in np.ndindex(out.shape):
        corners = [
            pixels[min(2 * y + dy, height - 1), min(2 * x + dx, width - 1), band] for dy in (0, 1) for dx in (0, 1)
        ]
        if pixels.dtype.kind == "b":
            out[y, x, band] = corners[3]
        else:
            # A quarter rounds down, three quarters up, and halves down and up in turn.
            whole, quarters = divmod(sum(map(int, corners)), 4)
            out[y, x, band] = whole + (quarters > 2 or (quarters == 2 and (y + x) % 2 == 1))
    return out


def pyramid(pixels: np.ndarray, extent: int) -> list[np.ndarray]:
    """The image and its overviews."""
    levels = [pixels]
    for _ in overview_shapes(pixels.shape, extent):
        levels.append(halve(levels[-1]))
    return levels


@pytest.mark.parametrize("compress", LOSSLESS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype, compress, tmp_path):
    for bands, predictor in ((1, "NO"), (3, "YES"), (4, "FLOATING_POINT"), (13, "YES")):
        pixels = picture((75, 101, bands), dtype)
        path = write(tmp_path / "a.tif", pixels, compress=compress, predictor=predictor, blocksize=32)
        assert_valid(path)
        assert_holds(path, pyramid(pixels, 32))


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 300), (300, 1), (16, 16), (17, 16), (63, 65), (64, 64), (129, 250), (3, 1000)]
)
@pytest.mark.parametrize("bands", [1, 2, 3, 5])
@pytest.mark.parametrize("blocksize", [16, 64, None])
def test_every_shape(shape, bands, blocksize, tmp_path):
    pixels = picture((*shape, bands), "uint16")
    for overviews, threads in ((True, 1), (True, 3), (False, 1)):
        path = write(tmp_path / "a.tif", pixels, blocksize=blocksize, overviews=overviews, threads=threads)
        levels = pyramid(pixels, blocksize or 128) if overviews and shape[1] > 1 else [pixels]
        assert_holds(path, levels)
        if overviews or max(shape) <= 512:  # the validator wants overviews of what is larger
            assert_valid(path)


@pytest.mark.parametrize("shape", [(600, 128), (2100, 256), (2100, 511), (600, 144), (1200, 288), (1100, 255)])
def test_one_tile_wide(shape, tmp_path):
    """No level looks untiled to the validator."""
    pixels = picture((*shape, 1))
    path = write(tmp_path / "a.tif", pixels)
    assert_valid(path)
    with tifffile.TiffFile(path) as file:
        extent = file.pages.first.tilewidth
    assert 128 <= extent <= 160
    assert_holds(path, pyramid(pixels, extent))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
def test_lerc(dtype, tmp_path):
    for bands in (1, 3, 5):
        pixels = picture((75, 101, bands), dtype)
        path = write(tmp_path / "a.tif", pixels, compress="LERC", blocksize=32)
        with tifffile.TiffFile(path) as file:
            assert file.pages.first.compression.name == "LERC"
        assert_valid(path)
        assert_holds(path, pyramid(pixels, 32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bands", [1, 3])
def test_lerc_for_numbers_with_nan(bands, dtype, tmp_path):
    """A codec that cannot hold NaN, a band at a time, is not used where there may be any."""
    pixels = picture((75, 101, bands), dtype)
    path = write(tmp_path / "a.tif", pixels, compress="LERC", blocksize=32)
    assert_holds(path, pyramid(pixels, 32))


@pytest.mark.parametrize("bands", [3, 4])
def test_lossless_webp(bands, tmp_path):
    pixels = picture((75, 101, bands))
    path = write(tmp_path / "a.tif", pixels, compress="WEBP", quality=100, blocksize=32)
    assert_valid(path)
    assert_holds(path, pyramid(pixels, 32))


@pytest.mark.parametrize(("compress", "bands"), [("JPEG", 1), ("JPEG", 3), ("WEBP", 3), ("WEBP", 4)])
@pytest.mark.parametrize(("quality", "decibels"), [(50, 27), (90, 30)])
def test_lossy(compress, bands, quality, decibels, tmp_path):
    """Close to the source at every level, in the right colours, and the same to every reader."""
    y, x = np.ogrid[:300, :411]
    waves = [np.sin(y / 30 + band) * np.cos(x / (20 + band)) for band in range(bands)]
    pixels = ((np.stack(waves, axis=2) / 2 + 0.5) * 255).astype(np.uint8)
    if bands == 4:
        pixels[..., 3] = 255
    path = write(tmp_path / "a.tif", pixels, compress=compress, quality=quality, blocksize=64)
    assert_valid(path)
    reader = RasterReader(path, "GTiff", HandlePool())
    with tifffile.TiffFile(path) as file:
        photometric = {"JPEG": "YCBCR" if bands == 3 else "MINISBLACK", "WEBP": "RGB"}[compress]
        assert file.pages.first.photometric.name == photometric
        others = [page.asarray().reshape(page.imagelength, page.imagewidth, bands) for page in file.pages]
    for number, level in enumerate(pyramid(pixels, 64)):
        for got in (reader.read_all(level=number), others[number]):
            assert (got.shape, got.dtype) == (level.shape, level.dtype)
            error = np.square(got.astype(float) - level).mean()
            assert 10 * np.log10(255**2 / error) > decibels
            assert np.abs(got.astype(float).mean(axis=(0, 1)) - level.mean(axis=(0, 1))).max() < 2


@pytest.mark.parametrize("compress", ["NONE", "ZSTD"])
def test_bigtiff(compress, tmp_path, monkeypatch):
    pixels = picture((150, 201, 3), "uint16")
    classic = write(tmp_path / "a.tif", pixels, compress=compress, blocksize=32)
    monkeypatch.setattr(tiffwrite, "_CLASSIC_LIMIT_BYTES", 1000)
    big = write(tmp_path / "b.tif", pixels, compress=compress, blocksize=32)
    with tifffile.TiffFile(classic) as first, tifffile.TiffFile(big) as second:
        assert (first.is_bigtiff, second.is_bigtiff) == (False, True)
    for path in (classic, big):
        assert_valid(path)
        assert_holds(path, pyramid(pixels, 32))


def test_bigtiff_begins_where_offsets_outgrow_32_bits():
    assert not tiffwrite.needs_bigtiff(3_900_000_000, 60_000)
    assert tiffwrite.needs_bigtiff(3_999_999_999, 60_000)
    assert tiffwrite.needs_bigtiff(2**32, 1)


def test_directory_offsets_beyond_32_bits():
    """Byte counts that no test could write to a disk."""
    item = tiffwrite.Directory(
        shape=(64, 1024), tile_shape=(64, 64), band_count=1, dtype_kind="u", bits=8, compress="NONE", predictor="NO", is_overview=False
    )  # fmt: skip
    head, starts = tiffwrite.layout_directories([item], [[2**30] * 16], big=True)
    assert starts == [len(head)]
    with tempfile.NamedTemporaryFile(suffix=".tif") as file:
        file.write(head)
        file.flush()
        with tifffile.TiffFile(file.name) as tiff:
            assert tiff.pages.first.dataoffsets == tuple(len(head) + 2**30 * number for number in range(16))
            assert tiff.pages.first.databytecounts == (2**30,) * 16


@pytest.mark.parametrize("shape", [(40, 700), (333, 700), (700, 333), (65, 1025)])
@pytest.mark.parametrize(
    ("column_bytes", "dtype"), [(16 * 16 * 3 * 8, "uint8"), (1, "float32"), (16 * 16 * 3 * 100, "bool")]
)
def test_columns_change_nothing(shape, column_bytes, dtype, tmp_path):
    """An image too wide for one pass of rows comes out as if it were not."""
    pixels = picture((*shape, 3), dtype)
    sizes = BufferSizes(column_bytes=column_bytes)
    whole = write(tmp_path / "a.tif", pixels, blocksize=16)
    columns = write(tmp_path / "b.tif", pixels, blocksize=16, sizes=sizes)
    assert_valid(columns)
    assert_holds(columns, pyramid(pixels, 16))
    assert_holds(whole, pyramid(pixels, 16))
    columns = write(tmp_path / "c.tif", pixels, blocksize=16, sizes=sizes, overviews=False)
    assert_holds(columns, [pixels])


def test_a_wide_image_is_read_in_columns(tmp_path):
    seen = set()

    class Columns(ArrayReader):
        def read_strided(self, rows, cols, bands, out, level):
            seen.add(cols)
            super().read_strided(rows, cols, bands, out, level)

    pixels = picture((64, 700, 3))
    with open(tmp_path / "a.tif", "wb") as file:
        backend = coerce_backend({"type": "cog", "config": {"blocksize": 16}})
        write_cog(file, Columns("source", pixels, format="array"), backend, sizes=BufferSizes(column_bytes=1))
    assert len(seen) > 3


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_sizes_of_buffers_change_nothing(dtype, threads, tmp_path):
    pixels = picture((333, 700, 3), dtype)
    whole = Path(write(tmp_path / "a.tif", pixels, blocksize=16)).read_bytes()
    for read_bytes, waiting_bytes, part_bytes in (
        (1, 1, 1),
        (1, 1 << 30, 5000),
        (1 << 20, 100_000, 1),
        (50_000, 0, 1 << 30),
    ):
        sizes = BufferSizes(read_bytes=read_bytes, waiting_bytes=waiting_bytes, part_bytes=part_bytes)
        path = write(tmp_path / "b.tif", pixels, blocksize=16, threads=threads, sizes=sizes)
        assert Path(path).read_bytes() == whole


class Watched(ArrayReader):
    """Calls a function before each read, with the first of its rows."""

    def __init__(self, pixels, on_read):
        super().__init__("source", pixels, format="array")
        self.on_read = on_read

    def read_window(self, rows, cols, bands, out, level):
        self.on_read(rows.start)
        super().read_window(rows, cols, bands, out, level)


def test_rows_are_read_while_others_are_encoded(tmp_path, monkeypatch):
    """No tile is done before the second read has begun: a writer that took turns would wait for ever."""
    has_gone_on = threading.Event()
    waited = []

    def encode_late(tile, codec):
        waited.append(has_gone_on.wait(10))
        return encode_tile(tile, codec)

    monkeypatch.setattr(cog, "encode_tile", encode_late)
    source = Watched(picture((64, 64, 1)), lambda top: has_gone_on.set() if top else None)
    backend = coerce_backend({"type": "cog", "config": {"blocksize": 16}})
    with open(tmp_path / "a.tif", "wb") as file:
        write_cog(file, source, backend, sizes=BufferSizes(read_bytes=1))
    assert all(waited)


def test_rows_are_read_while_others_are_written_to_npy(tmp_path):
    has_gone_on = threading.Event()
    waited = []

    class Late(io.FileIO):
        def write(self, data):
            if self.tell():  # behind the head
                waited.append(has_gone_on.wait(10))
            return super().write(data)

    source = Watched(picture((5, 64, 1)), lambda top: has_gone_on.set() if top else None)
    with Late(tmp_path / "a.npy", "wb") as file:
        write_npy(file, source, part_bytes=1)
    assert len(waited) == 5
    assert all(waited)


def write_as_cog(file, source):
    backend = coerce_backend({"type": "cog", "config": {"blocksize": 16}})
    write_cog(file, source, backend, threads=3, sizes=BufferSizes(read_bytes=1))


def write_as_npy(file, source):
    write_npy(file, source, part_bytes=1)


@pytest.mark.parametrize("write_it", [write_as_cog, write_as_npy])
def test_a_source_that_fails_is_the_error_and_no_thread_stays(write_it, tmp_path):
    def fail(top):
        if top >= 32:
            raise OSError("the disk is gone")

    before = threading.active_count()
    source = Watched(picture((64, 64, 1)), fail)
    with open(tmp_path / "a", "wb") as file, pytest.raises(OSError, match="the disk is gone"):
        write_it(file, source)
    assert threading.active_count() == before


def test_progress_runs_to_one(tmp_path):
    backend = coerce_backend({"type": "cog", "config": {"blocksize": 16}})
    source = ArrayReader("a", picture((100, 700, 1)), format="array")
    for sizes in (BufferSizes(), BufferSizes(column_bytes=1)):
        fractions = []
        with open(tmp_path / "a.tif", "wb") as file:
            write_cog(file, source, backend, progress=fractions.append, sizes=sizes)
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1
        assert len(fractions) > 3


def test_nothing_is_left_beside_the_file(tmp_path):
    write(tmp_path / "a.tif", picture((300, 300, 3)), blocksize=64)
    assert [item.name for item in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
def test_halve_whole_numbers(dtype):
    for shape in ((1, 1, 1), (2, 2, 1), (5, 8, 3), (8, 5, 2)):
        pixels = picture(shape, dtype)
        np.testing.assert_array_equal(halve(pixels), average(pixels))
        assert halve(pixels).dtype == pixels.dtype


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(INTEGERS).flatmap(
        lambda dtype: arrays.arrays(dtype, st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 2)))
    )
)
def test_halve_any_whole_numbers(pixels):
    np.testing.assert_array_equal(halve(pixels), average(pixels))


@pytest.mark.parametrize("dtype", FLOATS)
def test_halve_real_numbers(dtype):
    """Missing values are left out; infinities spread; nothing overflows that the dtype can hold."""
    limits = np.finfo(dtype)
    nan, inf, most, least = np.nan, np.inf, limits.max, limits.smallest_subnormal
    cases = {
        (1, 2, 3, 6): 3, (nan, 2, 4, nan): 3, (nan, nan, nan, nan): nan, (nan, 5, nan, nan): 5, (inf, 1, 1, 1): inf,
        (-inf, 1, 1, nan): -inf, (inf, -inf, 1, 1): nan, (-0.0, -0.0, -0.0, -0.0): 0,
        (most, most, most, most): most, (-most, -most, -most, -most): -most,
        (most, -most, most, -most): 0, (4 * least, 4 * least, 4 * least, 4 * least): 4 * least,
    }  # fmt: skip
    for corners, wanted in cases.items():
        pixels = np.array(corners, dtype).reshape(2, 2, 1)
        got = halve(pixels)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got[0, 0, 0], np.array(wanted, dtype), err_msg=str(corners))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_halve_complex_numbers(dtype):
    pixels = np.array([[1 + 2j, 3 - 2j], [5, 7 + 4j]], dtype)[:, :, None]
    assert halve(pixels)[0, 0, 0] == 4 + 1j
    pixels[0, 0] = np.nan
    assert halve(pixels)[0, 0, 0] == np.array(5 + 2j / 3, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_npy_writer(dtype, tmp_path):
    for shape in ((1, 1, 1), (61, 83, 3), (5, 700, 13)):
        pixels = picture(shape, dtype)
        with open(tmp_path / "a.npy", "wb") as file:
            write_npy(file, ArrayReader("source", np.asfortranarray(pixels), format="array"), part_bytes=5000)
        got = np.load(tmp_path / "a.npy", allow_pickle=False)
        assert (got.dtype, got.flags.c_contiguous) == (pixels.dtype, True)
        np.testing.assert_array_equal(got, pixels)


def test_memory_is_bounded(tmp_path):
    """A source of 200 MB passes through in less than half of that: bands of rows, the encoded tiles on disk."""
    script = textwrap.dedent(f"""
        import resource
        from ndframes.spec.backends import coerce_backend
        from ndframes.formats.tiled.cog_writer import write_cog
        from ndframes.formats.reader import Reader, ReaderFacts
        import numpy as np
        class Made(Reader):
            def read_window(self, rows, cols, bands, out, level):
                out[...] = (np.arange(rows.start, rows.stop) % 251)[:, None, None]
        facts = ReaderFacts(format="made", shape=(5_000, 13_400, 3), dtype=np.dtype("uint8"), tile_shape=(256, 256))
        source = Made("made", facts)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open({str(tmp_path / "b.tif")!r}, "wb") as file:
            write_cog(file, source, coerce_backend({{"type": "cog", "config": {{"compress": "NONE"}}}}), threads=2)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100
