"""Crops of every reader are numpy slices: any step, any bands, any strides."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.synthetic import SAMPLES, picture

import ndframes as nf
from ndframes.errors import UnreadableImageError
from ndframes.formats import reader as reader_module
from ndframes.formats.images.arrays import ArrayReader
from ndframes.formats.images.sniff import open_image
from ndframes.formats.reader import Reader, ReaderFacts, frame_runs, row_bands
from ndframes.system.handles import HandlePool

KINDS = (
    "tif deflate tiles contig", "tif none strips separate", "tif palette 8", "tif bool tiles", "tif half float by gdal",
    "tif pyramid ome", "tif stack", "tif series", "png colour 6 depth 16", "png interlaced rgb 8", "jpg rgb",
    "npy large-endian", "npy Fortran", "npy bands 13", "qoi rgba", "tif dtype complex128",
)  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Per kind a reader and its whole image."""
    folder = tmp_path_factory.mktemp("readers")
    pool = HandlePool()
    readers = {}
    for name in KINDS:
        path, _ = SAMPLES[name].make(folder)
        reader = open_image(nf.ChannelInfo(path, **SAMPLES[name].info), pool)
        readers[name] = reader, reader.read_all()
    yield readers
    pool.close()


@st.composite
def axes(draw, extent: int) -> range:
    step = draw(st.sampled_from((1, 1, 2, 3, 7, 100)))
    start = draw(st.integers(0, extent))
    axis = range(start, draw(st.integers(start, extent)), step)
    return axis[::-1] if draw(st.booleans()) else axis


@settings(max_examples=30, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", KINDS)
def test_crops(name, opened, data):
    reader, whole = opened[name]
    rows, cols = data.draw(axes(whole.shape[0])), data.draw(axes(whole.shape[1]))
    bands = data.draw(st.lists(st.integers(0, whole.shape[2] - 1), min_size=1, max_size=5))
    shape = len(rows), len(cols), len(bands)
    out = data.draw(st.sampled_from(("plain", "planes", "Fortran", "holes", "backwards", "inside")))
    target = {
        "plain": lambda: np.empty(shape, reader.dtype),
        "planes": lambda: np.empty((shape[2], *shape[:2]), reader.dtype).transpose(1, 2, 0),
        "Fortran": lambda: np.empty(shape, reader.dtype, order="F"),
        "holes": lambda: np.empty((shape[0] * 2, shape[1] * 3, shape[2] * 2), reader.dtype)[::2, ::3, ::2],
        "backwards": lambda: np.empty(shape, reader.dtype)[::-1, ::-1, ::-1],
        "inside": lambda: np.empty((shape[0] + 4, shape[1] + 3, shape[2] + 1), reader.dtype)[3:-1, 1:-2, 1:],
    }[out]()
    reader.read(rows, cols, bands, target)
    np.testing.assert_array_equal(target, whole[np.ix_(rows, cols, bands)])


def test_nothing_outside_the_target_is_touched(opened):
    for reader, whole in opened.values():
        frame = np.full((20, 30, whole.shape[2]), 77, reader.dtype)
        reader.read(range(3, 13), range(5, 17), range(whole.shape[2]), frame[5:15, 9:21])
        np.testing.assert_array_equal(frame[5:15, 9:21], whole[3:13, 5:17])
        frame[5:15, 9:21] = 77
        assert (frame == np.array(77, reader.dtype)).all()


def test_threads_share_a_reader(opened):
    """Sixteen threads at once, and each gets its own pixels."""
    barrier = threading.Barrier(16)

    def work(seed: int) -> None:
        choose = np.random.default_rng(seed)
        barrier.wait()
        for reader, whole in opened.values():
            for _ in range(5):
                top, left = choose.integers(0, 31), choose.integers(0, 21)
                out = np.empty((9, 9, whole.shape[2]), reader.dtype)
                reader.read(range(top, top + 9), range(left, left + 9), range(whole.shape[2]), out)
                np.testing.assert_array_equal(out, whole[top : top + 9, left : left + 9])

    assert min(min(whole.shape[:2]) for _, whole in opened.values()) == 30
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))


class Watched(Reader):
    """Records the windows that are read."""

    def __init__(self, pixels: np.ndarray, tile_shape: tuple[int, int]) -> None:
        super().__init__(
            "watched", ReaderFacts(format="array", shape=pixels.shape, dtype=pixels.dtype, tile_shape=tile_shape)
        )
        self.pixels = pixels
        self.windows: list[tuple[range, range]] = []

    def read_window(self, rows, cols, bands, out, level):
        self.windows.append((rows, cols))
        out[...] = self.pixels[rows.start : rows.stop, cols.start : cols.stop][:, :, list(bands)]


@pytest.mark.parametrize(("tile_rows", "most_rows"), [(64, 64), (1024, 1024), (3000, 256), (1, 256)])
def test_a_coarse_step_is_read_in_strips(tile_rows, most_rows):
    """So that a thumbnail of a huge image needs little memory, and each row of tiles is read once."""
    pixels = picture((3000, 40, 2))
    reader = Watched(pixels, (tile_rows, 40))
    out = np.empty((600, 10, 2), pixels.dtype)
    reader.read(range(0, 3000, 5), range(1, 40, 4), [1, 0], out)
    np.testing.assert_array_equal(out, pixels[::5, 1::4, ::-1])
    assert max(len(rows) for rows, _ in reader.windows) <= most_rows
    tops = [
        rows.start // reader_module._STRIP_ROWS if tile_rows in (1, 3000) else rows.start // tile_rows
        for rows, _ in reader.windows
    ]
    assert len(set(tops)) == len(tops)


def test_an_empty_crop_reads_nothing():
    reader = Watched(picture((10, 10, 2)), (5, 5))
    for rows, cols, bands in ((range(0), range(5), [0]), (range(5), range(3, 3), [0]), (range(5), range(5), [])):
        reader.read(rows, cols, bands, np.empty((len(rows), len(cols), len(bands)), np.uint8))
    assert reader.windows == []


def test_array_reader_takes_images_alone():
    for array in (
        np.zeros(5),
        np.zeros((2, 2, 2, 2)),
        np.zeros((0, 5)),
        np.zeros((5, 5, 0)),
        np.zeros((2, 2), "U3"),
        np.zeros((2, 2), "M8[s]"),
    ):
        with pytest.raises(UnreadableImageError, match="a.npy holds"):
            ArrayReader("a.npy", array, format="npy")


def test_byte_order_is_the_machines(opened):
    reader, whole = opened["npy large-endian"]
    assert reader.dtype == np.dtype("float32")
    assert reader.dtype.isnative
    assert whole.dtype.isnative


@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 9), st.integers(1, 3)),
    block=st.integers(1, 500),
    most_bytes=st.integers(1, 3000),
    multiple=st.integers(1, 40),
)
def test_row_bands_cover_the_image_in_whole_blocks(shape, block, most_bytes, multiple):
    source = Watched(np.empty(shape, np.uint8), (block, 1))
    bands = list(row_bands(source, shape[1], most_bytes, multiple=multiple))
    assert [row for band in bands for row in band] == list(range(shape[0]))
    step = len(bands[0])
    for band in bands[:-1]:
        assert len(band) == step
        assert step % multiple == 0
        assert step * shape[1] * shape[2] <= max(2 * most_bytes, shape[1] * shape[2] * max(2, multiple))
    whole = math.lcm(multiple, min(block, shape[0]))
    if whole * shape[1] * shape[2] <= most_bytes and len(bands) > 1:
        assert step % whole == 0


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 3000))
def test_frame_runs_cover_the_video(count, height, most_bytes):
    source = ArrayReader("a", np.empty((count, height, 3, 2), np.uint16), format="array", has_frames=True)
    runs = list(frame_runs(source, most_bytes))
    assert [time for run in runs for time in run] == list(range(count))
    for run in runs:
        assert len(run) * height * 12 <= max(most_bytes, height * 12)
