"""Checksums: libdeflate's are zlib's, and whatever a file does not give back as it was meant is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndframes.errors import CacheEntryDamagedError
from ndframes.formats.tiled import codecs
from ndframes.formats.tiled.checksums import check_segments
from ndframes.system.segments import SEGMENT_DTYPE, checksum
from ndframes.testing.faults import cut, flip_bit


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_both_checksums_are_one(first, second):
    assert codecs.checksum(first) == checksum(first)
    assert codecs.checksum(second, codecs.checksum(first)) == checksum(first + second)


@pytest.fixture
def written(tmp_path):
    """A file, and its segments in an order that is not that of the file."""
    rng = np.random.default_rng(0)
    pieces = [rng.bytes(int(length)) for length in rng.integers(1, 400, 50)]
    path = tmp_path / "a"
    path.write_bytes(b"".join(pieces))
    offsets = np.cumsum([0, *map(len, pieces[:-1])])
    rows = [(offset, len(piece), checksum(piece)) for offset, piece in zip(offsets, pieces, strict=True)]
    segments = np.array(rows, SEGMENT_DTYPE)
    return path, rng.permutation(segments)


@pytest.mark.parametrize("read_bytes", [1, 1000, 1 << 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_segment_is_read_back(written, read_bytes, threads):
    path, segments = written
    with open(path, "rb") as file:
        check_segments(file, segments, threads, read_bytes=read_bytes)
        for segment in segments:
            bit = 8 * int(segment["offset"]) + 3
            flip_bit(path, bit)
            with pytest.raises(CacheEntryDamagedError, match=f"bytes at {segment['offset']:,} do not read back"):
                check_segments(file, segments, threads, read_bytes=read_bytes)
            flip_bit(path, bit)
        check_segments(file, segments, threads, read_bytes=read_bytes)
        cut(path, -1)
        with pytest.raises(CacheEntryDamagedError):
            check_segments(file, segments, threads, read_bytes=read_bytes)
