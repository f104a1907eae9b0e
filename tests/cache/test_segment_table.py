"""SegmentTable: each block of the table is read when it is needed, and its damage is found then."""

from __future__ import annotations

import os
import random
import threading

import numpy as np
import pytest
from kit.entries import CountingFiles

import ndframes as nf
from ndframes.cache.trailer import SegmentTable, Trailer, append_trailer, read_trailer
from ndframes.system.segments import SEGMENT_DTYPE, checksum
from ndframes.testing.faults import flip_bit

COUNTS = (1, 255, 256, 257, 5000)
ROWS_PER_BLOCK = 256


class Entry:
    """An open file with a given number of segments."""

    def __init__(self, path, count):
        rng = np.random.default_rng(count)
        segments = np.empty(count, SEGMENT_DTYPE)
        segments["length"] = rng.integers(1, 9, count)
        segments["offset"] = np.cumsum(segments["length"]) - segments["length"]
        payload = rng.bytes(int(segments["length"].sum()))
        for row in segments:
            row["crc32"] = checksum(payload[int(row["offset"]) :][: int(row["length"])])
        with open(path, "w+b") as file:
            file.write(payload)
            append_trailer(file, segments, {"of": count})
        self.path, self.segments, self.files = path, segments, CountingFiles()
        self.file = self.files.open_to_read(str(path))

    @property
    def trailer(self) -> Trailer:
        """The trailer as it is in the file now."""
        trailer = read_trailer(str(self.path), self.file)
        self.files.reads.clear()
        return trailer

    def table(self) -> SegmentTable:
        return SegmentTable(self.trailer)

    @property
    def comes_with_trailer(self) -> bool:
        """Whether the table is so short that the read of the trailer brings it."""
        return len(self.segments) < 500

    @property
    def block_count(self) -> int:
        return -(-len(self.segments) // ROWS_PER_BLOCK)


@pytest.fixture(params=COUNTS)
def entry(request, tmp_path):
    made = Entry(tmp_path / "entry", request.param)
    yield made
    made.file.close()


def test_its_rows_are_those_of_the_whole_table(entry):
    whole = entry.trailer.load_segments(entry.file)
    np.testing.assert_array_equal(whole, entry.segments)
    order = list(range(len(whole)))
    random.Random(0).shuffle(order)
    table = entry.table()
    for index in order:
        assert table.row(entry.file, index) == tuple(whole[index].tolist())
    for other in (table, entry.table()):  # one that has read all of it, and one that has not
        for first in order[::7]:
            run = range(first, min(first + 40, len(whole)))
            assert other.rows(entry.file, run) == list(map(tuple, whole[run.start : run.stop].tolist()))


def test_each_block_is_read_once_and_only_when_it_is_needed(entry):
    payload_bytes, table = entry.trailer.payload_bytes, entry.table()
    assert entry.files.reads == []
    blocks = list(range(entry.block_count))
    random.Random(0).shuffle(blocks)
    for number, block in enumerate(blocks, 1):
        for index in range(block * ROWS_PER_BLOCK, min((block + 1) * ROWS_PER_BLOCK, len(entry.segments))):
            table.row(entry.file, index)
        if entry.comes_with_trailer:
            assert entry.files.reads == []
            continue
        assert len(entry.files.reads) == 1 + number  # and once the checksums of all of them
        offset, length = entry.files.reads[-1]
        assert offset == payload_bytes + 4096 * block
        assert length <= 4096
    expected = 0 if entry.comes_with_trailer else 16 * len(entry.segments) + 4 * entry.block_count
    assert sum(length for _, length in entry.files.reads) == expected


def test_a_flipped_bit_is_found_in_its_block_and_in_no_other(entry):
    rng = np.random.default_rng(0)
    for bad in {0, entry.block_count // 2, entry.block_count - 1}:
        first, last = bad * ROWS_PER_BLOCK, min((bad + 1) * ROWS_PER_BLOCK, len(entry.segments)) - 1
        for row in {first, last, int(rng.integers(first, last + 1))}:
            bit = 8 * (entry.trailer.payload_bytes + 16 * row) + int(rng.integers(128))
            flip_bit(entry.path, bit)
            table = entry.table()
            for index in range(0, len(entry.segments), 64):
                if index // ROWS_PER_BLOCK != bad:
                    assert table.row(entry.file, index) == tuple(entry.segments[index].tolist())
            for index in (first, last, first):  # not once only
                with pytest.raises(nf.CacheEntryDamagedError, match="table of checksums"):
                    table.row(entry.file, index)
            with pytest.raises(nf.CacheEntryDamagedError, match="table of checksums"):
                entry.trailer.load_segments(entry.file)
            flip_bit(entry.path, bit)
            table = entry.table() if entry.comes_with_trailer else table
            assert table.row(entry.file, first) == tuple(entry.segments[first].tolist())


def test_a_flipped_bit_among_the_checksums_is_found_at_once(entry):
    start = 8 * (entry.trailer.payload_bytes + 16 * len(entry.segments))
    for bit in {0, 31, 32 * (entry.block_count - 1) + 5, 32 * entry.block_count - 1}:
        flip_bit(entry.path, start + bit)
        table = entry.table()
        for index in (0, len(entry.segments) - 1):
            with pytest.raises(nf.CacheEntryDamagedError, match="table of checksums"):
                table.row(entry.file, index)
        flip_bit(entry.path, start + bit)
        table = entry.table() if entry.comes_with_trailer else table
        assert table.row(entry.file, 0) == tuple(entry.segments[0].tolist())


def test_two_exchanged_blocks_are_found(tmp_path):
    """Each has its own checksum, but at another place."""
    entry = Entry(tmp_path / "entry", 5000)
    with open(entry.path, "r+b") as file:
        file.seek(entry.trailer.payload_bytes)
        data = file.read(8192)
        file.seek(entry.trailer.payload_bytes)
        file.write(data[4096:] + data[:4096])
    table = entry.table()
    for index in (0, 256):
        with pytest.raises(nf.CacheEntryDamagedError):
            table.row(entry.file, index)
    assert table.row(entry.file, 512) == tuple(entry.segments[512].tolist())
    entry.file.close()


def test_a_file_cut_meanwhile_is_found(entry):
    table, trailer = entry.table(), entry.trailer
    os.truncate(entry.path, trailer.payload_bytes + 16 * len(entry.segments) - 1)
    if entry.comes_with_trailer:
        assert table.row(entry.file, 0) == tuple(entry.segments[0].tolist())
        return
    with pytest.raises(nf.CacheEntryDamagedError):
        table.row(entry.file, 0)


def test_threads_share_one_table(tmp_path):
    entry = Entry(tmp_path / "entry", 5000)
    rows = [tuple(row) for row in entry.segments.tolist()]
    for _ in range(10):
        table, wrong, barrier = entry.table(), [], threading.Barrier(8)

        def work(seed, table=table, wrong=wrong, barrier=barrier):
            dice = random.Random(seed)
            barrier.wait()
            for _ in range(100):
                index = dice.randrange(5000)
                if table.row(entry.file, index) != rows[index]:
                    wrong.append(index)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
    entry.file.close()
