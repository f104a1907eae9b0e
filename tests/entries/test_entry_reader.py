"""EntryReader: a damaged entry is never read as if it were whole."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from kit.entries import CountingFiles

import ndframes as nf
from ndframes.entries.reader import EntryReader
from ndframes.formats.tiled.codecs import checksum
from ndframes.system.files import FileSystem
from ndframes.system.handles import HandlePool
from ndframes.testing.faults import flip_bit

FILES = FileSystem()
CODECS = ["NONE", "ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP", "npy"]
SHAPE = (150, 170, 3)


@pytest.fixture(scope="module")
def photograph():
    return nf.SimpleFrames.demo(backend=None).load_region("coffee", np.s_[100 : 100 + SHAPE[0], 200 : 200 + SHAPE[1]])


def make_entry(folder, array, codec):
    """A small entry of many tiles: its path and key."""
    np.save(folder / "a.npy", array)
    backend = "npy" if codec == "npy" else {"type": "cog", "config": {"compress": codec, "blocksize": 32}}
    frames = nf.SimpleFrames({"a": folder / "a.npy"}, workdir=folder / "work", backend=backend)
    frames.prepare()
    entry = next(iter(frames.cache.ls()))
    entry.path.chmod(0o644)
    return entry.path, entry.key


def read_crop(path, key, rows, cols, verify="first-touch"):
    """A crop read as by a new process; the handles are closed again."""
    pool = HandlePool()
    try:
        reader = EntryReader(path, key, FILES, pool, verify=verify)
        out = np.empty((len(rows), len(cols), reader.shape[2]), reader.dtype)
        reader.read(rows, cols, range(reader.shape[2]), out)
        return out
    finally:
        pool.close()


def is_found(path):
    """Whether verification of the file finds it damaged."""
    from ndframes.cache.trailer import read_trailer

    try:
        with FILES.open_to_read(str(path)) as file:
            read_trailer(str(path), file).check_everything(file)
    except nf.CacheEntryError:
        return True
    return False


def random_window(rng):
    top, left = int(rng.integers(SHAPE[0] - 1)), int(rng.integers(SHAPE[1] - 1))
    return range(top, min(top + 60, SHAPE[0])), range(left, min(left + 60, SHAPE[1]))


def crop_of(array, rows, cols):
    return array[rows.start : rows.stop, cols.start : cols.stop]


# -- bits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [150, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("codec", CODECS)
def test_a_flipped_bit_never_reaches_a_crop(tmp_path, photograph, codec, count, record_property):
    path, key = make_entry(tmp_path, photograph, codec)
    whole = read_crop(path, key, range(SHAPE[0]), range(SHAPE[1]))
    rng = np.random.default_rng(5)
    size = path.stat().st_size
    found = wrong = refused = 0
    with path.open("r+b", buffering=0) as file:
        for _ in range(count):
            bit = int(rng.integers(8 * size))
            byte = os.pread(file.fileno(), 1, bit // 8)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 1 << bit % 8]), bit // 8)
            found += is_found(path)
            rows, cols = random_window(rng)
            try:
                wrong += not np.array_equal(read_crop(path, key, rows, cols), crop_of(whole, rows, cols))
            except nf.CacheEntryDamagedError:
                refused += 1
            os.pwrite(file.fileno(), bytes([byte]), bit // 8)
    print(f"{codec}: {count:,} flips, {found:,} found by verify, {wrong} wrong crops, {refused:,} refused at once")
    assert (found, wrong) == (count, 0)
    assert 0 < refused <= count


@pytest.mark.parametrize("codec", ["ZSTD", "npy"])
@pytest.mark.parametrize("cases", [60, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_zeroed_blocks_are_found(tmp_path, photograph, codec, cases):
    """What a file system may leave after a crash: blocks that were never written."""
    path, key = make_entry(tmp_path, photograph, codec)
    whole = read_crop(path, key, range(SHAPE[0]), range(SHAPE[1]))
    good = path.read_bytes()
    rng = np.random.default_rng(6)
    wrong = missed = 0
    for _ in range(cases):
        bad = bytearray(good)
        start = int(rng.integers(len(good))) // 4096 * 4096
        stop = min(start + 4096, len(good))
        bad[start:stop] = bytes(stop - start)
        path.write_bytes(bad)
        missed += not is_found(path)
        rows, cols = random_window(rng)
        try:
            wrong += not np.array_equal(read_crop(path, key, rows, cols), crop_of(whole, rows, cols))
        except nf.CacheEntryDamagedError:
            pass
    print(f"{codec}: {cases:,} zeroed blocks, {missed} missed by verify, {wrong} wrong crops")
    assert (wrong, missed) == (0, 0)


# -- cuts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["ZSTD", "NONE", "npy"])
def test_no_prefix_of_a_small_entry_is_opened(tmp_path, codec):
    array = np.random.default_rng(0).integers(0, 255, (40, 45, 3), np.uint8)
    path, key = make_entry(tmp_path, array, codec)
    good = path.read_bytes()
    assert len(good) < 20_000
    copy = tmp_path / "copy"
    pool = HandlePool()
    accepted = 0
    with copy.open("w+b", buffering=0) as file:
        file.write(good)
        for length in reversed(range(len(good))):
            file.truncate(length)
            try:
                EntryReader(copy, key, FILES, pool, verify="open")
                accepted += 1
            except nf.CacheEntryDamagedError:
                pass
    print(f"{codec}: {len(good):,} prefixes, {accepted} accepted")
    assert accepted == 0


@pytest.mark.parametrize("codec", ["ZSTD", "npy"])
def test_no_cut_of_a_large_entry_is_opened(tmp_path, codec):
    array = np.random.default_rng(0).integers(0, 255, (3000, 3000, 3), np.uint8)
    path, key = make_entry(tmp_path, array, codec)
    rng = np.random.default_rng(1)
    pool = HandlePool()
    accepted = 0
    with path.open("r+b", buffering=0) as file:
        for length in sorted(rng.choice(path.stat().st_size, 1000, replace=False).tolist(), reverse=True):
            file.truncate(length)
            try:
                EntryReader(path, key, FILES, pool, verify="open")
                accepted += 1
            except nf.CacheEntryDamagedError:
                pass
    print(f"{codec}: 1,000 cuts of {array.nbytes:,} bytes, {accepted} accepted")
    assert accepted == 0


# -- files in the wrong place -------------------------------------------------------------------------------------


def test_an_entry_under_another_name_is_refused(tmp_path, photograph):
    for name in "ab":
        (tmp_path / name).mkdir()
    (first, first_key), (second, second_key) = (
        make_entry(tmp_path / name, photograph + number, "ZSTD") for number, name in enumerate("ab")
    )
    shutil.copy(second, first)
    with pytest.raises(nf.CacheEntryDamagedError, match="holds the entry of another key"):
        read_crop(first, first_key, range(2), range(2))
    read_crop(second, second_key, range(2), range(2))


@pytest.mark.parametrize("kind", ["folder", "fifo", "empty", "garbage", "plain tiff"])
def test_what_is_no_entry_is_refused(tmp_path, photograph, kind):
    path, key = make_entry(tmp_path, photograph, "ZSTD")
    good = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes({"empty": b"", "garbage": bytes(5000), "plain tiff": good[:-2000]}[kind])
    with pytest.raises(nf.CacheEntryDamagedError):
        read_crop(path, key, range(2), range(2))


def test_an_entry_that_is_gone_or_replaced_says_so(tmp_path, photograph):
    path, key = make_entry(tmp_path, photograph, "ZSTD")
    pool = HandlePool()
    reader = EntryReader(path, key, FILES, pool, verify="first-touch")
    pool.close()
    shutil.copy(path, tmp_path / "copy")
    os.replace(tmp_path / "copy", path)
    out = np.empty((2, 2, 3), np.uint8)
    with pytest.raises(nf.CacheEntryGoneError, match="replaced"):
        reader.read(range(2), range(2), range(3), out)
    path.unlink()
    with pytest.raises(nf.CacheEntryGoneError):
        EntryReader(path, key, FILES, pool, verify="open")


# -- what is checked when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["ZSTD", "npy"])
def test_opening_is_one_small_read(tmp_path, photograph, codec):
    path, key = make_entry(tmp_path, photograph, codec)
    files = CountingFiles()
    EntryReader(path, key, files, HandlePool(), verify="first-touch")
    assert len(files.reads) == 1
    assert files.reads[0][1] <= 8192


@pytest.fixture
def checks(monkeypatch):
    """The lengths of what was held against a checksum."""
    lengths = []

    def counting(data):
        lengths.append(len(data))
        return checksum(data)

    monkeypatch.setattr("ndframes.formats.tiled.codecs.checksum", counting)
    return lengths


@pytest.mark.parametrize("codec", ["ZSTD", "NONE"])
def test_each_tile_is_checked_before_its_first_use_only(tmp_path, photograph, checks, codec):
    path, key = make_entry(tmp_path, photograph, codec)
    reader = EntryReader(path, key, FILES, HandlePool(), verify="first-touch")
    out = np.empty((40, 40, 3), np.uint8)
    for rows, cols, count in ((range(40), range(40), 4), (range(64, 104), range(40), 4 + 4)):
        for _ in range(3):
            reader.read(rows, cols, range(3), out)
            np.testing.assert_array_equal(out, crop_of(photograph, rows, cols))
        assert len(checks) == count  # tiles of 32 pixels


@pytest.mark.parametrize(("verify", "count"), [("open", 0), ("always", 8)])
@pytest.mark.parametrize("codec", ["ZSTD", "NONE"])
def test_nothing_or_everything_is_checked_again(tmp_path, photograph, checks, codec, verify, count):
    path, key = make_entry(tmp_path, photograph, codec)
    reader = EntryReader(path, key, FILES, HandlePool(), verify=verify)
    out = np.empty((40, 40, 3), np.uint8)
    for _ in range(2):
        reader.read(range(40), range(40), range(3), out)
    assert len(checks) == count


def test_a_crop_reads_its_own_part_of_a_long_table(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (1600, 1600), np.uint8)
    path, key = make_entry(tmp_path, array, "NONE")
    files = CountingFiles()
    reader = EntryReader(path, key, files, HandlePool(), verify="first-touch")
    assert reader.trailer.segment_count * 16 > 8 * 4096
    files.reads.clear()
    out = np.empty((20, 20, 1), np.uint8)
    reader.read(range(5, 25), range(5, 25), range(1), out)
    np.testing.assert_array_equal(out, array[5:25, 5:25, None])
    in_table = [length for offset, length in files.reads if offset >= reader.trailer.payload_bytes]
    # the checksums of all parts; the part with the level's first tiles; the one with its last, by which it is mapped
    assert sorted(in_table)[1:] == [4096, 4096]
    assert sum(length for _, length in files.reads) == sum(in_table), (
        "a tile that is not compressed is not read, but mapped"
    )


@pytest.mark.parametrize("verify", ["open", "first-touch", "always"])
def test_a_flipped_bit_in_the_table_is_found(tmp_path, photograph, verify):
    path, key = make_entry(tmp_path, photograph, "ZSTD")
    trailer = EntryReader(path, key, FILES, HandlePool(), verify="open").trailer
    flip_bit(path, 8 * (trailer.payload_bytes + 16) + 3)  # the first tile's row
    with pytest.raises(nf.CacheEntryDamagedError, match="table"):
        read_crop(path, key, range(2), range(2), verify)


def test_overviews_are_checked_too(tmp_path, photograph):
    path, key = make_entry(tmp_path, photograph, "NONE")
    whole = EntryReader(path, key, FILES, HandlePool(), verify="open")
    level = len(whole.overview_shapes)
    layout = whole.trailer.meta["layout"]["levels"][level]
    with FILES.open_to_read(str(path)) as opened:
        segment = whole.trailer.load_segments(opened)[layout["first_segment"]]
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"\xff\x00\xff", int(segment["offset"]))
    with pytest.raises(nf.CacheEntryDamagedError, match="is not what was written"):
        EntryReader(path, key, FILES, HandlePool(), verify="first-touch").read_all(level=level)


def test_rows_longer_than_a_chunk(tmp_path):
    """Only the chunks under the window are checked."""
    array = np.random.default_rng(0).integers(0, 255, (6, 1_500_000, 2), np.uint8)
    path, key = make_entry(tmp_path, array, "npy")
    files = CountingFiles()
    reader = EntryReader(path, key, files, HandlePool(), verify="first-touch")
    out = np.empty((2, 100, 2), np.uint8)
    reader.read(range(2, 4), range(700_000, 700_100), range(2), out)
    np.testing.assert_array_equal(out, array[2:4, 700_000:700_100])
    assert len(files.reads) <= 1 + 1 + 4 + 1
    position = reader._inner.data_offset + array[0].nbytes * 2 + 700_050 * 2
    with path.open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), bytes([out[0, 50, 0] ^ 1]), position)
    with pytest.raises(nf.CacheEntryDamagedError):
        read_crop(path, key, range(2, 4), range(700_000, 700_100))
