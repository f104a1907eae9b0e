"""NpyReader: mapped or read piece by piece, the pixels are those of numpy; damage is an error, never a signal."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.forking import in_fork
from kit.racing import run_in_threads

import ndframes as nf
from ndframes.errors import (
    SourceChangedError,
    SourceError,
    SourceKindError,
    SourceMissingError,
    UnreadableImageError,
)
from ndframes.formats.images import arrays
from ndframes.formats.images.arrays import ArrayReader, NpyReader
from ndframes.system.handles import HandlePool
from ndframes.system.mounts import is_remote
from ndframes.system.stamp import stat_source

DTYPES = ("bool", "u1", "<i2", ">u2", "<f2", ">f2", "<f4", ">f4", "<i8", ">f8", "<c8", ">c16")
BOTH = pytest.mark.parametrize("is_mapped", [True, False], ids=["mapped", "pread"])


@pytest.fixture
def pool():
    pool = HandlePool()
    yield pool
    pool.close()


def noise(shape: tuple[int, ...], dtype: str, order: str = "C") -> np.ndarray:
    """Random pixels of any dtype; no two rows or columns are alike."""
    dice = np.random.default_rng([*shape, len(dtype)])
    kind = np.dtype(dtype)
    if kind.kind == "b":
        pixels = dice.integers(0, 2, shape).astype(kind)
    elif kind.kind in "fc":
        pixels = (dice.normal(0, 100, shape) + (1j * dice.normal(0, 100, shape) if kind.kind == "c" else 0)).astype(
            kind
        )
    else:
        pixels = dice.integers(0, min(np.iinfo(kind).max, 2**62), shape).astype(kind)
    return np.asarray(pixels, order=order)


def crop(reader: NpyReader, rows: range, cols: range, bands: list[int]) -> np.ndarray:
    out = np.full((len(rows), len(cols), len(bands)), 1, reader.dtype)
    reader.read(rows, cols, bands, out)
    return out


@st.composite
def axes(draw, extent: int) -> range:
    step = draw(st.sampled_from((1, 1, 1, 2, 3, 50)))
    start, stop = sorted((draw(st.integers(0, extent)), draw(st.integers(0, extent))))
    if draw(st.booleans()) and step == 1:
        start, stop = 0, extent  # whole lines are read in another way
    axis = range(start, stop, step)
    return axis[::-1] if draw(st.booleans()) else axis


# -- pixels -------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(data=st.data())
@BOTH
def test_crops_are_numpy_slices(tmp_path_factory, is_mapped, data):
    shape = data.draw(
        st.sampled_from([(1, 1), (13, 7), (7, 13), (9, 11, 1), (11, 6, 3), (5, 8, 5), (1, 30, 2), (30, 1, 2)])
    )
    dtype, order = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from("CF"))
    path = (
        tmp_path_factory.getbasetemp()
        / f"{'x'.join(map(str, shape))}{np.dtype(dtype).str[1:]}{dtype[0] == '>'}{order}.npy"
    )
    pixels = noise(shape, dtype, order)
    if not path.exists():
        np.save(path, pixels)
    whole = pixels if pixels.ndim == 3 else pixels[:, :, None]
    pool = HandlePool()
    reader = NpyReader(str(path), pool, is_mapped=is_mapped)
    assert (reader.shape, reader.dtype) == (whole.shape, np.dtype(dtype).newbyteorder("="))
    assert reader.is_fortran_order is (pixels.flags.f_contiguous and not pixels.flags.c_contiguous)
    rows, cols = data.draw(axes(whole.shape[0])), data.draw(axes(whole.shape[1]))
    bands = data.draw(
        st.one_of(
            st.just(list(range(whole.shape[2]))),
            st.lists(st.integers(0, whole.shape[2] - 1), min_size=1, max_size=5),
        )
    )
    np.testing.assert_array_equal(crop(reader, rows, cols, bands), whole[np.ix_(rows, cols, bands)])
    pool.close()


@settings(max_examples=50, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["mapped", "pread", "in memory"])
def test_crops_of_frames_are_numpy_slices(tmp_path_factory, kind, data):
    shape = data.draw(st.sampled_from([(1, 5, 4, 1), (7, 13, 9, 3), (4, 6, 11, 5)]))
    pixels = noise(shape, ">u2")
    path = tmp_path_factory.getbasetemp() / f"frames {'x'.join(map(str, shape))}.npy"
    if not path.exists():
        np.save(path, pixels)
    pool = HandlePool()
    if kind == "in memory":
        reader = ArrayReader(str(path), pixels, format="array", has_frames=True)
    else:
        reader = NpyReader(str(path), pool, is_mapped=kind == "mapped", has_frames=True)
    assert (reader.frame_count, reader.shape, reader.tile_shape) == (shape[0], shape[1:], shape[1:3])
    assert reader.nbytes == pixels.nbytes
    times = data.draw(st.lists(st.integers(0, shape[0] - 1), max_size=5) | axes(shape[0]))
    rows, cols = data.draw(axes(shape[1])), data.draw(axes(shape[2]))
    bands = data.draw(st.lists(st.integers(0, shape[3] - 1), max_size=4) | st.just(range(shape[3])))
    out = np.zeros((len(times), len(rows), len(cols), len(bands)), reader.dtype)
    reader.read_frames(times, rows, cols, bands, out)
    np.testing.assert_array_equal(out, pixels[np.ix_(*(np.array(axis, int) for axis in (times, rows, cols, bands)))])
    assert reader.count_decoded_of(times, rows, cols) == 0
    pool.close()


@BOTH
@pytest.mark.parametrize("order", ["C", "F"])
def test_more_than_one_piece(tmp_path, pool, is_mapped, order):
    """Larger than what is read at once, the last piece being shorter than the others."""
    pixels = noise((1501, 1100, 3), "<u2", order)
    assert pixels.nbytes > 2 * arrays._PIECE_BYTES
    np.save(tmp_path / "a.npy", pixels)
    reader = NpyReader(str(tmp_path / "a.npy"), pool, is_mapped=is_mapped)
    np.testing.assert_array_equal(reader.read_all(), pixels)
    for rows, cols in (
        (range(3, 1500), range(1, 1099)),
        (range(0, 1501, 2), range(1100)),
        (range(1501), range(5, 1100, 3)),
    ):
        np.testing.assert_array_equal(crop(reader, rows, cols, [2, 0]), pixels[np.ix_(rows, cols, [2, 0])])


@BOTH
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_header_and_any_offset(tmp_path, pool, is_mapped, version):
    pixels = noise((6, 7, 2), "<f4")
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, pixels, version=version)
        file.write(b"bytes behind the array")
    data_offset = path.read_bytes().index(pixels.tobytes())
    reader = NpyReader(str(path), pool, is_mapped=is_mapped)
    assert reader.data_offset == data_offset
    np.testing.assert_array_equal(reader.read_all(), pixels)
    header = (
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, 7, 2)}\n"  # so that the pixels are at an odd address
    )
    path.write_bytes(b"\x93NUMPY\x01\0" + bytes([len(header), 0]) + header + pixels.tobytes())
    reader = NpyReader(str(path), pool, is_mapped=is_mapped)
    assert reader.data_offset == 10 + len(header)
    assert reader.data_offset % 2
    np.testing.assert_array_equal(reader.read_all(), pixels)


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="this system does not count bytes")
@pytest.mark.parametrize("order", ["C", "F"])
def test_only_the_bytes_of_the_crop_are_read(tmp_path, pool, order):
    pixels = noise((800, 900, 2), "<u2", order)
    np.save(tmp_path / "a.npy", pixels)
    reader = NpyReader(str(tmp_path / "a.npy"), pool, is_mapped=False)

    def bytes_read() -> int:
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])

    rows, cols, bands = range(0, 800, 40), range(100, 130), [1]
    crop(reader, rows, cols, bands)
    before = bytes_read()
    empty = bytes_read() - before
    before = bytes_read()
    got = crop(reader, rows, cols, bands)
    cost = bytes_read() - before - empty
    np.testing.assert_array_equal(got, pixels[np.ix_(rows, cols, bands)])
    lines, items = (len(rows), len(cols) * 2) if order == "C" else (len(cols), rows[-1] + 1)
    assert cost == lines * items * 2


def test_threads_share_a_reader(tmp_path, pool):
    pixels = noise((200, 300, 3), ">u2")
    np.save(tmp_path / "a.npy", pixels)
    readers = [NpyReader(str(tmp_path / "a.npy"), pool, is_mapped=is_mapped) for is_mapped in (True, False)]

    def work(seed: int) -> int:
        dice = np.random.default_rng(seed)
        for _ in range(100):
            top, left = dice.integers(0, 150), dice.integers(0, 250)
            rows, cols = range(top, top + 50), range(left, left + 50)
            for reader in readers:
                np.testing.assert_array_equal(crop(reader, rows, cols, [0, 1, 2]), pixels[np.ix_(rows, cols, range(3))])
        return 1

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(work, range(8))) == 8


def test_what_a_reader_costs(tmp_path, pool):
    np.save(tmp_path / "a.npy", noise((100, 100, 3), "f8"))
    reader = NpyReader(str(tmp_path / "a.npy"), pool)
    assert reader.memory_bytes <= 4096
    assert reader.count_decoded(range(100), range(100)) == 0
    assert reader.is_mapped is not is_remote(tmp_path)
    assert reader.format == "npy"
    assert reader.overview_shapes == ()


# -- handles ------------------------------------------------------------------------------------------------------


@BOTH
def test_a_reader_that_goes_takes_its_handles_along(tmp_path, pool, is_mapped):
    np.save(tmp_path / "a.npy", noise((10, 10), "u1"))
    reader = NpyReader(str(tmp_path / "a.npy"), pool, is_mapped=is_mapped)
    assert len(pool._idle) == 1, "the file that was opened for its header is the first handle"
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd"))
    del reader
    gc.collect()
    assert len(pool._idle) == 0
    assert len(os.listdir("/proc/self/fd")) == before - 1


@BOTH
def test_a_pool_that_is_not_closed_leaves_no_descriptor(tmp_path, is_mapped):
    np.save(tmp_path / "a.npy", noise((10, 10), "u1"))
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        NpyReader(str(tmp_path / "a.npy"), HandlePool(), is_mapped=is_mapped).read_all()
        with pytest.raises(UnreadableImageError):
            NpyReader(__file__, HandlePool(), is_mapped=is_mapped)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@BOTH
def test_a_failed_read_leaves_no_more_descriptors(tmp_path, pool, is_mapped):
    np.save(tmp_path / "a.npy", noise((10, 10), "u1"))
    reader = NpyReader(str(tmp_path / "a.npy"), pool, is_mapped=is_mapped)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(ValueError, match="broadcast"):
            reader.read(range(10), range(10), [0], np.empty((3, 3, 1), np.uint8))
    assert len(os.listdir("/proc/self/fd")) == before
    assert reader.read_all().shape == (10, 10, 1)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@BOTH
def test_a_forked_child_reads_on(tmp_path, pool, is_mapped):
    """By the file that its parent opened: there is no position in it that they could move for each other."""
    pixels = noise((30, 40, 3), "f4")
    path = tmp_path / "a.npy"
    np.save(path, pixels)
    reader = NpyReader(str(path), pool, stamp=stat_source(str(path)), is_mapped=is_mapped)
    path.unlink()
    in_fork(lambda: np.array_equal(reader.read_all(), pixels))
    np.testing.assert_array_equal(reader.read_all(), pixels)


# -- another file -------------------------------------------------------------------------------------------------


def put(path, pixels: np.ndarray) -> None:
    """Write another file and put it into the place of the one at ``path``."""
    np.save(path.with_name("new.npy"), pixels)
    path.with_name("new.npy").replace(path)


@BOTH
def test_a_stamp_of_another_file_is_refused_at_once(tmp_path, pool, is_mapped):
    path = tmp_path / "a.npy"
    np.save(path, noise((10, 10), "u1"))
    stamp = stat_source(str(path))
    put(path, noise((10, 10), "u1"))
    with pytest.raises(SourceChangedError, match="a.npy was replaced or removed"):
        NpyReader(str(path), pool, stamp=stamp, is_mapped=is_mapped)
    path.unlink()
    with pytest.raises(SourceChangedError, match="a.npy was replaced or removed"):
        NpyReader(str(path), pool, stamp=stamp, is_mapped=is_mapped)


@BOTH
def test_an_open_handle_goes_on_and_a_new_one_is_refused(tmp_path, pool, is_mapped):
    path = tmp_path / "a.npy"
    pixels = noise((10, 10, 3), "u1")
    np.save(path, pixels)
    reader = NpyReader(str(path), pool, stamp=stat_source(str(path)), is_mapped=is_mapped)
    put(path, pixels + 1)
    np.testing.assert_array_equal(reader.read_all(), pixels)
    path.unlink()
    np.testing.assert_array_equal(reader.read_all(), pixels)
    put(path, pixels + 1)
    pool.close()
    with pytest.raises(SourceChangedError, match="a.npy was replaced or removed"):
        reader.read_all()
    path.unlink()
    with pytest.raises(SourceChangedError, match="a.npy was replaced or removed"):
        reader.read_all()


@BOTH
def test_without_a_stamp_a_file_of_the_same_header_will_do(tmp_path, pool, is_mapped):
    path = tmp_path / "a.npy"
    pixels = noise((10, 12, 3), "u1")
    np.save(path, pixels)
    reader = NpyReader(str(path), pool, is_mapped=is_mapped)
    pool.close()
    put(path, pixels + 1)
    np.testing.assert_array_equal(reader.read_all(), pixels + 1)
    for other in (noise((12, 10, 3), "u1"), noise((10, 12, 3), "i1"), np.asfortranarray(pixels)):
        pool.close()
        put(path, other)
        with pytest.raises(SourceChangedError):
            reader.read_all()
    path.write_bytes(b"")
    with pytest.raises(UnreadableImageError):
        reader.read_all()
    path.unlink()
    with pytest.raises(SourceMissingError):
        reader.read_all()


# -- damage -------------------------------------------------------------------------------------------------------


@BOTH
def test_what_is_no_image(tmp_path, pool, is_mapped):
    path = tmp_path / "a.npy"
    bad = {
        "shape": [np.zeros(()), np.zeros(5), np.zeros((2, 2, 2, 2)), np.zeros((0, 5)), np.zeros((5, 5, 0))],
        "numbers": [
            np.zeros((5, 5), "U2"),
            np.zeros((5, 5), "M8[s]"),
            np.zeros((5, 5), "V4"),
            np.zeros((5, 5), [("a", "u1")]),
            np.full((5, 5), None),
        ],
    }
    for says, cases in bad.items():
        for array in cases:
            np.save(path, array, allow_pickle=True)
            with pytest.raises(UnreadableImageError, match=f"a.npy holds .*{says}"):
                NpyReader(str(path), pool, is_mapped=is_mapped)
    path.write_bytes(b"\x93NUMPY\x09\0" + bytes(200))
    with pytest.raises(UnreadableImageError, match="a.npy is not a valid .npy file: .*version"):
        NpyReader(str(path), pool, is_mapped=is_mapped)
    assert len(pool._idle) == 0


@pytest.mark.skipif(np.dtype("g").itemsize == 8, reason="its longdouble is a float64")
@pytest.mark.parametrize("dtype", ["g", "G", np.dtype("g").newbyteorder()])
def test_extended_precision_is_refused_in_the_same_way_everywhere(tmp_path, dtype):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((5, 6), dtype))
    messages = set()
    for backend in (None, "npy", "cog"):
        with pytest.raises(UnreadableImageError) as caught:
            nf.open(path, backend=backend, workdir=tmp_path)
        messages.add(str(caught.value))
    (message,) = messages
    assert message.endswith("floats of more than 64 bits; save them as float64 or complex128")


@BOTH
def test_every_cut_is_refused_when_it_is_opened(tmp_path, pool, is_mapped):
    file = io.BytesIO()
    np.save(file, noise((5, 6, 2), "<u2"))
    whole = file.getvalue()
    path = tmp_path / "a.npy"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableImageError, match="a.npy"):
            NpyReader(str(path), pool, is_mapped=is_mapped)
    path.write_bytes(whole)
    assert NpyReader(str(path), pool, is_mapped=is_mapped).shape == (5, 6, 2)


@BOTH
def test_what_is_no_file(tmp_path, pool, is_mapped):
    os.mkfifo(tmp_path / "fifo")
    for name, error in (
        ("no", SourceMissingError),
        ("", SourceKindError),
        ("fifo", SourceKindError),
        ("a\0", SourceError),
    ):
        with pytest.raises(error):
            NpyReader(f"{tmp_path}/{name}", pool, is_mapped=is_mapped)


CUT_WHILE_OPEN = """
import sys
import numpy as np
from ndframes.errors import UnreadableImageError
from ndframes.formats.images.arrays import NpyReader
from ndframes.system.handles import HandlePool
path, is_mapped, order = sys.argv[1], sys.argv[2] == "mapped", sys.argv[3]
pixels = np.asarray(np.arange(300 * 400 * 3, dtype=np.uint32).reshape(300, 400, 3), order=order)
np.save(path, pixels)
readers = [NpyReader(path, HandlePool(), is_mapped=is_mapped) for _ in range(4)]
with open(path, "r+b") as file:
    file.truncate(readers[0].data_offset + pixels.nbytes // 2)
refused = 0
crops = (range(300), range(400)), (range(280, 290), range(390, 400)), (range(0, 300, 7), range(0, 400, 9))
for reader, (rows, cols) in zip(readers, crops):
    out = np.empty((len(rows), len(cols), 3), reader.dtype)
    try:
        reader.read(rows, cols, range(3), out)
    except UnreadableImageError as error:
        assert "a.npy was truncated since it was opened" in str(error), error
        refused += 1
first = np.empty((100, 400, 1), reader.dtype)
readers[3].read(range(100), range(400), [0], first)
assert np.array_equal(first, pixels[:100, :, :1])
print(refused)
"""


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_shrinks_is_an_error_where_it_is_not_mapped(tmp_path, order):
    def run(mode: str) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, "-c", textwrap.dedent(CUT_WHILE_OPEN), str(tmp_path / "a.npy"), mode, order]
        return subprocess.run(script, check=False, capture_output=True, text=True)

    result = run("pread")
    assert (result.returncode, result.stdout) == (0, "3\n"), result.stderr
    assert run("mapped").returncode == -signal.SIGBUS, "a map would have ended the process; else this shows nothing"


class _Loop:
    """Garbage that only a collection finds; what it then does lets another thread go on."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        pass


def test_headers_are_parsed_by_many_threads_at_once(tmp_path):
    """Python 3.11 raises a SystemError from time to time where several threads parse what is Python source."""
    np.save(tmp_path / "a.npy", np.zeros((5, 6, 3), np.uint8))
    head = (tmp_path / "a.npy").read_bytes()

    def parse(_: int) -> set[tuple[int, ...]]:
        found = set()
        for _ in range(800):
            _Loop()
            found.add(arrays._parse_header(io.BytesIO(head))[0])
        return found

    thresholds = gc.get_threshold()
    gc.set_threshold(5)
    try:
        assert run_in_threads(parse, 4) == [{(5, 6, 3)}] * 4
    finally:
        gc.set_threshold(*thresholds)
