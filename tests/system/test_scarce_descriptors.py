"""HandlePool in a process that runs out of file descriptors."""

from __future__ import annotations

import errno
import os
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from kit.handles import Handle, HandleFactory
from kit.limits import run_limited
from kit.synthetic import picture
from PIL import Image

import ndframes as nf
from ndframes.errors import SourceMissingError, UnreadableImageError
from ndframes.formats.images.raster import RasterReader
from ndframes.system.handles import FileHandle, HandlePool, is_out_of_descriptors


@pytest.fixture
def factory():
    return HandleFactory()


def chained(*links: BaseException) -> BaseException:
    """The first of ``links``, caused by the second, and so on."""
    for error, cause in pairwise(links):
        error.__cause__ = cause
    return links[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EMFILE, "x"), True),
        (OSError(errno.ENFILE, "x"), True),
        (OSError(errno.ENOENT, "x"), False),
        (RuntimeError("/a/b.tif: Too many open files"), True),
        (chained(UnreadableImageError("x"), ValueError("y"), OSError(errno.EMFILE, "z")), True),
        (chained(UnreadableImageError("x"), ValueError("y")), False),
        (MemoryError(), False),
    ],
    ids=repr,
)
def test_which_errors_mean_that_descriptors_ran_out(error, expected):
    assert is_out_of_descriptors(error) is expected


def test_errors_that_cause_each_other():
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert is_out_of_descriptors(first) is False


def test_the_context_of_an_error_counts_too():
    error = LookupError("y")
    error.__context__ = OSError(errno.EMFILE, "x")
    assert is_out_of_descriptors(error)


@pytest.mark.parametrize(("failures", "idle_left"), [(0, 128), (1, 64), (3, 16), (4, 16)])
def test_attempts_close_idle_handles_and_are_limited(factory, failures, idle_left):
    pool = HandlePool(max_idle=128)
    with pool.borrow("a", factory.opener("a")), pool.borrow("b", factory.opener("b")):
        pass
    tries = []

    def fail() -> Handle:
        tries.append(len(factory.open))
        if len(tries) <= failures:  # as if other threads had taken the free descriptors
            raise OSError(errno.EMFILE, "once more")
        return factory.opener("c")()

    if failures == 4:
        with pytest.raises(OSError, match="once more"), pool.borrow("c", fail):
            pass
    else:
        with pool.borrow("c", fail) as handle:
            assert not handle.closed
    assert tries == [2, 0, 0, 0][: failures + 1]
    assert pool.max_idle == idle_left


def test_other_errors_close_no_idle_handle(factory):
    pool = HandlePool()
    with pool.borrow("a", factory.opener("a")):
        pass
    with pytest.raises(SourceMissingError), pool.borrow("b", lambda: FileHandle("/no/such/file")):
        pass
    assert len(factory.open) == 1


EXHAUSTED = """
import os, sys
import numpy as np
import tifffile, rasterio.drivers
from ndframes import ChannelInfo
from ndframes.errors import SourceError
from ndframes.formats.images import raster
from ndframes.formats.images.arrays import NpyReader
from ndframes.system.handles import FileHandle, HandlePool
from ndframes.formats.images.raster import RasterReader
from ndframes.formats.images.sniff import open_image
from ndframes.formats.images.tiff.reader import TiffReader

folder = sys.argv[1]
OPENERS = {
    "npy": lambda pool: NpyReader(folder + "/a.npy", pool, is_mapped=True),
    "pread": lambda pool: NpyReader(folder + "/a.npy", pool, is_mapped=False),
    "png": lambda pool: RasterReader(folder + "/a.png", "PNG", pool),
    "bytes": lambda pool: RasterReader(os.fsdecode(folder.encode() + b"/\\xff.png"), "PNG", pool),
    "gdal": lambda pool: open_image(ChannelInfo(folder + "/a.tif"), pool),
    "page": lambda pool: open_image(ChannelInfo(folder + "/a.tif", page=0), pool),
}
wanted = np.load(folder + "/a.npy")
for name, open_reader in OPENERS.items():
    pool = HandlePool(max_idle=16)
    assert np.array_equal(open_reader(pool).read_all(), wanted), name  # imports what it needs
    early = open_reader(pool)
    assert np.array_equal(early.read_all(), wanted), name
    pool.close()
    for action in ("open", "read"):
        for number in range(8):
            with pool.borrow(number, lambda: FileHandle(folder + "/a.npy")):
                pass
        greedy = []
        try:
            while True:
                greedy.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        reader = open_reader(pool) if action == "open" else early
        assert np.array_equal(reader.read_all(), wanted), (name, action)
        pool.close()
        reader = None
        try:
            while True:
                greedy.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        try:
            open_reader(pool) if action == "open" else early.read_all()
        except SourceError as error:
            assert error.errno == 24 or "Too many open files" in str(error), (name, action, error)
        else:
            raise AssertionError("there was a descriptor after all")
        for descriptor in greedy:
            os.close(descriptor)
    print(name)
"""


def test_idle_handles_are_closed_when_no_descriptor_is_left(tmp_path):
    pixels = picture((40, 50, 3))
    np.save(tmp_path / "a.npy", pixels)
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None)
    for name in (b"a.png", b"\xff.png"):
        Image.fromarray(pixels).save(os.fsencode(tmp_path) + b"/" + name, "PNG")
    assert run_limited(EXHAUSTED, 64, str(tmp_path)).split() == ["npy", "pread", "png", "bytes", "gdal", "page"]


MANY = """
import os, sys, threading
import numpy as np
from ndframes import ChannelInfo
from ndframes.formats.images import raster
from ndframes.formats.images.arrays import NpyReader
from ndframes.system.handles import HandlePool
from ndframes.formats.images.sniff import open_image

folder, kinds = sys.argv[1], ("npy", "tif", "png", "jpg")
base = np.load(folder + "/0.npy")
pool = HandlePool()
assert pool.max_idle == 16
readers = []
for number in range(300):
    kind = kinds[number % len(kinds)]
    path = f"{folder}/{number}.{kind}"
    if kind == "npy":
        readers.append(NpyReader(path, pool, is_mapped=True))
    else:
        info = ChannelInfo(path, page=0) if kind == "tif" and number % 3 else ChannelInfo(path)
        readers.append(open_image(info, pool))
opened = len(os.listdir("/proc/self/fd"))
most, right, errors = [opened], [], []

def work(seed):
    rng = np.random.default_rng(seed)
    try:
        for _ in range(1000):
            number = int(rng.integers(300))
            top, left = (int(value) for value in rng.integers(0, 20, 2))
            out = np.empty((20, 30, 3), np.uint8)
            readers[number].read(range(top, top + 20), range(left, left + 30), range(3), out)
            if kinds[number % len(kinds)] == "jpg":
                assert np.abs(out.astype(int).mean() - number % 251) < 4
            else:
                assert np.array_equal(out, base[top : top + 20, left : left + 30] + np.uint8(number % 251)), number
            right.append(1)
            most.append(len(os.listdir("/proc/self/fd")))
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if errors:
    raise errors[0]
pool.close()
print(len(right), opened, max(most), len(os.listdir("/proc/self/fd")))
"""


def test_hundreds_of_images_with_few_descriptors(tmp_path):
    """With a limit of 64 files, four threads read 300 images: every crop is right, and few descriptors are in use."""
    base = picture((40, 50, 3))
    for number in range(300):
        pixels = base + np.uint8(number % 251)
        kind = ("npy", "tif", "png", "jpg")[number % 4]
        path = tmp_path / f"{number}.{kind}"
        if kind == "npy":
            np.save(path, pixels)
        elif kind == "tif":
            tifffile.imwrite(path, pixels, metadata=None)
        elif kind == "png":
            Image.fromarray(pixels).save(path, "PNG", compress_level=1)
        else:
            Image.new("RGB", (300, 260), (number % 251,) * 3).save(path, "JPEG", quality=95)
    right, opened, most, left = map(int, run_limited(MANY, 64, str(tmp_path)).split())
    own = 8  # those of Python, its libraries and the listing
    assert right == 4000
    assert left <= own
    assert opened <= own + 16
    assert most <= own + 16 + 4 + 4, "the idle, and a file and a listing for each thread"


def test_a_jpeg_counts_a_descriptor_for_each_overview(tmp_path):
    """GDAL opens the file once more for each overview, at its first read."""
    Image.fromarray(picture((1100, 1200, 3))).save(tmp_path / "a.jpg")
    pool = HandlePool(max_idle=64)
    before = len(os.listdir("/proc/self/fd"))
    reader = RasterReader(str(tmp_path / "a.jpg"), "JPEG", pool)
    reader.read_all()
    assert len(reader.overview_shapes) == 3
    for level in range(4):
        reader.read_all(level=level)
    assert len(os.listdir("/proc/self/fd")) - before == pool._idle_descriptors == 16
    pool.close()
    assert len(os.listdir("/proc/self/fd")) == before


MANY_FILES = """
import sys
import numpy as np
import ndframes as nf

folder, kinds, count = sys.argv[1], sys.argv[2].split(), int(sys.argv[3])
opened = []
for number in range(count):
    opened += [nf.open(f"{folder}/{number}.{kind}", workdir=folder + "/work") for kind in kinds]
for _ in range(2):
    for number, item in enumerate(opened):
        pixels = item[3]
        assert pixels.shape == item.shape[1:], (item, pixels.shape)
        assert int(pixels.reshape(-1)[0]) == number // len(kinds) + 3, (item, pixels)
# Their idle handles hold the descriptors that these need.
for number in range(count if "mkv" in kinds else 0):
    assert int(nf.read_video(f"{folder}/{number}.mkv", [5], workdir=folder + "/work")[0, 0, 0, 0]) == number + 5
    assert nf.video_metadata(f"{folder}/{number}.mkv", workdir=folder + "/other").frames == 8
print("done")
"""


@pytest.mark.parametrize("kinds", ["mkv", "mkv npy tif gif"])
def test_many_files_that_are_opened_one_by_one_share_few_descriptors(tmp_path, kinds):
    count = 45 if " " not in kinds else 12
    for number in range(count):
        ramp = np.broadcast_to(np.arange(number, number + 8, dtype=np.uint8)[:, None, None], (8, 16, 24))
        for kind in kinds.split():
            path = tmp_path / f"{number}.{kind}"
            if kind == "mkv":
                nf.write_video(path, ramp, fps=5, codec="ffv1")
            elif kind == "gif":
                first, *others = [Image.fromarray(frame) for frame in ramp]
                first.save(path, save_all=True, append_images=others)
            elif kind == "npy":
                np.save(path, ramp[:, 0])
            else:
                tifffile.imwrite(path, ramp[:, 0])
    assert run_limited(MANY_FILES, 40, str(tmp_path), kinds, str(count)).strip() == "done"
