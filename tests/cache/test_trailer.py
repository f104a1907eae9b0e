"""Trailer: checksums cover every byte of an entry, and other tools ignore it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile

import ndframes as nf
from ndframes.cache.keys import EntryKey
from ndframes.cache.trailer import TAIL_BYTES, append_trailer, read_trailer
from ndframes.system.files import FileSystem
from ndframes.system.segments import CHUNK_BYTES, SEGMENT_DTYPE, SegmentBuilder

FILES = FileSystem()


def read(path):
    with FILES.open_to_read(str(path)) as file:
        trailer = read_trailer(str(path), file)
        trailer.check_everything(file)
        return trailer


def write(path, payload=b"head" + bytes(1000), meta=None):
    builder = SegmentBuilder()
    builder.add_segment(payload[:4])
    builder.add_chunks(payload[4:])
    with open(path, "w+b") as file:
        file.write(payload)
        append_trailer(file, builder.finish(), {} if meta is None else meta)
    return path


def test_what_is_written_is_read(tmp_path):
    meta = {"path": "a\udc80 b", "numbers": [1, 2.5, None], "nested": {"x": True}}
    path = write(tmp_path / "a", meta=meta)
    trailer = read(path)
    assert trailer.meta == meta
    assert (trailer.payload_bytes, trailer.total_bytes) == (1004, path.stat().st_size)
    assert path.read_bytes()[:1004] == b"head" + bytes(1000)


def test_a_long_description_takes_a_second_read(tmp_path):
    meta = {"text": "x" * 50_000}
    assert read(write(tmp_path / "a", meta=meta)).meta == meta


def test_every_flipped_bit_is_found(tmp_path):
    path = write(tmp_path / "a", payload=b"head" + bytes(range(256)))
    good = path.read_bytes()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with pytest.raises(nf.CacheEntryError):
            read(path)


def test_every_prefix_and_every_suffix_is_refused(tmp_path):
    path = write(tmp_path / "a")
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(nf.CacheEntryDamagedError):
            read(path)
    for start in range(1, len(good) - TAIL_BYTES):
        path.write_bytes(good[start:])
        with pytest.raises(nf.CacheEntryDamagedError):
            read(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(nf.CacheEntryDamagedError, match="do not end as an entry does"):
        read(path)


def test_a_newer_version_is_not_damage(tmp_path):
    import struct

    from ndframes.system.segments import checksum

    path = write(tmp_path / "a")
    data = bytearray(path.read_bytes())
    data[-TAIL_BYTES + 8] += 1
    data[-4:] = struct.pack("<I", checksum(bytes(data[-TAIL_BYTES:-4])))
    path.write_bytes(data)
    with pytest.raises(nf.CacheEntryError, match="newer version") as caught:
        read(path)
    assert not isinstance(caught.value, nf.CacheEntryDamagedError)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(0, 4, 0)],
        [(0, 4, 0), (5, 999, 0)],
        [(0, 5, 0), (4, 1000, 0)],
        [(0, 1004, 0), (1004, 0, 0)],
        [(1, 1003, 0)],
    ],
)
def test_segments_that_do_not_cover_the_payload_are_not_written(tmp_path, rows):
    with open(tmp_path / "a", "w+b") as file:
        file.write(bytes(1004))
        with pytest.raises(nf.CacheEntryDamagedError, match="do not cover"):
            append_trailer(file, np.array(rows, SEGMENT_DTYPE), {})


@pytest.mark.parametrize("lengths", [[0], [1], [CHUNK_BYTES], [CHUNK_BYTES + 1], [3, CHUNK_BYTES, 5], [7] * 9])
def test_chunks_do_not_depend_on_the_writes(lengths):
    data = np.random.default_rng(0).bytes(sum(lengths))
    whole, pieces = SegmentBuilder(), SegmentBuilder()
    whole.add_chunks(data)
    start = 0
    for length in lengths:
        pieces.add_chunks(data[start : start + length])
        start += length
    assert whole.finish().tolist() == pieces.finish().tolist()


# -- entries as other tools see them ------------------------------------------------------------------------------


@pytest.fixture(params=["NONE", "ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP"])
def cog_entry(request, tmp_path):
    backend = {"type": "cog", "config": {"compress": request.param, "blocksize": 256}}
    frames = nf.SimpleFrames.demo(workdir=tmp_path, backend=backend)
    return frames, frames.load_image("coffee"), next(iter(frames.cache.ls())).path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_other_readers_ignore_it(cog_entry, tmp_path):
    _, pixels, path = cog_entry
    with rasterio.open(path) as dataset:
        differences = np.abs(dataset.read().transpose(1, 2, 0).astype(int) - pixels)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 3
        if tiff.pages[0].compression.name == "JPEG":  # two libraries round a few samples in a million differently
            assert differences.max() <= 1
            assert np.count_nonzero(differences) < differences.size / 10_000
        else:
            assert not differences.any()
        np.testing.assert_array_equal(tiff.pages[0].asarray(), pixels)
    command = [Path(sys.executable).parent / "rio", "cogeo", "validate", "--strict", str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "is a valid cloud optimized GeoTIFF" in output


def test_an_npy_entry_is_an_npy_file(tmp_path):
    frames = nf.SimpleFrames.demo(workdir=tmp_path, backend="npy")
    pixels = frames.load_image("coffee")
    path = next(iter(frames.cache.ls())).path
    np.testing.assert_array_equal(np.load(path), pixels)
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), pixels)


@pytest.mark.parametrize("backend", ["cog", "npy"])
@pytest.mark.parametrize("mode", ["PATH", "PIXELS"])
def test_an_entry_contains_its_key_and_source(tmp_path, backend, mode):
    frames = nf.SimpleFrames.demo(workdir=tmp_path, backend=backend, hashid_mode=mode)
    frames.prepare(["coffee"])
    entry = next(iter(frames.cache.ls()))
    meta = read(entry.path).meta
    source = nf.demo_paths()["coffee"]
    assert EntryKey.from_fields(meta["key"]) == entry.key
    assert (meta["shape"], meta["dtype"]) == ([400, 600, 3], "|u1")
    assert meta["source"]["path"] == os.path.realpath(source)
    status = source.stat()
    assert meta["source"]["stamp"] == [
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    ]  # fmt: skip
    assert meta["versions"]["ndframes"] == nf.__version__


@pytest.mark.parametrize("compress", ["AUTO", "NONE"])
def test_segments_are_the_tiles(tmp_path, compress):
    config = {"blocksize": 64, "compress": compress}
    frames = nf.SimpleFrames.demo(workdir=tmp_path, backend={"type": "cog", "config": config})
    frames.prepare(["coffee"])
    path = next(iter(frames.cache.ls())).path
    trailer = read(path)
    with FILES.open_to_read(str(path)) as file:
        segments = trailer.load_segments(file)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == len(trailer.meta["layout"]["levels"])
        for page, level in zip(tiff.pages, trailer.meta["layout"]["levels"], strict=True):
            part = segments[level["first_segment"] :][: len(page.dataoffsets)]
            order = np.arange(len(part))
            if compress == "NONE":
                order = order.reshape(-1, -(-page.imagewidth // 64)).T.ravel()
            assert part["offset"].tolist() == np.take(page.dataoffsets, order).tolist()
            assert part["length"].tolist() == np.take(page.databytecounts, order).tolist()
            assert (page.shape[:2], page.tilewidth) == (tuple(level["shape"]), level["tile_extent"])
