"""Converting a source that is much larger than the memory allowed for it."""

from __future__ import annotations

import struct
import zlib
from itertools import product

import numpy as np
import pytest
import tifffile
from kit.memory_peaks import BOUND_BYTES, convert_in_child

import ndframes as nf

ROWS = 100


def make_pattern() -> np.ndarray:
    """The photographs that are repeated over the whole image."""
    frames = nf.SimpleFrames.demo(backend=None)
    return np.concatenate([frames.load_region(name, np.s_[:400, :450]) for name in ("coffee", "astronaut")], 1)


def cut(pattern, top, left, shape):
    """A part of the endless plane of a pattern."""
    rows, cols = (np.arange(start, start + extent) for start, extent in zip((top, left), shape, strict=True))
    return pattern[np.ix_(rows % pattern.shape[0], cols % pattern.shape[1])]


def bands_of_rows(pattern, edge):
    for top in range(0, edge, ROWS):
        yield cut(pattern, top, 0, (min(ROWS, edge - top), edge))


def write_striped(path, pattern, edge):
    options = {"rowsperstrip": ROWS, "photometric": "rgb"}
    tifffile.imwrite(path, bands_of_rows(pattern, edge), shape=(edge, edge, 3), dtype=np.uint8, **options)


def write_tiled(path, pattern, edge):
    starts = range(0, edge, 256)
    tiles = (cut(pattern, top, left, (256, 256)) for top in starts for left in starts)
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "zlib", "compressionargs": {"level": 1}}
    tifffile.imwrite(path, tiles, shape=(edge, edge, 3), dtype=np.uint8, **options)


def write_png(path, pattern, edge):
    """Rows of filter "none", compressed a band at a time: Pillow and imagecodecs need the whole image."""

    def write_chunk(kind, data):
        file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        write_chunk(b"IHDR", struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0))
        stream = zlib.compressobj(1)
        for band in bands_of_rows(pattern, edge):
            rows = np.pad(band.reshape(len(band), -1), ((0, 0), (1, 0)))
            write_chunk(b"IDAT", stream.compress(rows.tobytes()))
        write_chunk(b"IDAT", stream.flush())
        write_chunk(b"IEND", b"")


KINDS = {"striped.tif": write_striped, "tiled.tif": write_tiled, "whole.png": write_png}


@pytest.mark.parametrize("edge", [3_000, pytest.param(30_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
@pytest.mark.parametrize("kind", KINDS)
def test_conversion_memory_does_not_grow_with_the_image(tmp_path, kind, edge, capsys):
    """2.7 GB of pixels pass through in less than 600 MB, mapped files included."""
    path = tmp_path / kind
    pattern = make_pattern()
    KINDS[kind](path, pattern, edge)
    for backend, workers in product(("cog", "npy"), (0, 1)[: 1 + (edge > 3_000)]):
        figures, peaks = convert_in_child(path, tmp_path, backend, workers)
        texts = " + ".join(
            f"{peak / 1e6:.0f} MB, {anonymous / 1e6:.0f} anonymous" for peak, anonymous in peaks.values()
        )
        with capsys.disabled():
            print(f"\n{kind}, {edge:,} px, {backend}, {workers} workers: {texts}; {figures['seconds']:.1f} s", end=" ")
        assert figures["prepared"] == 1
        assert len(peaks) == 1 + workers
        assert max(peak for peak, _ in peaks.values()) < BOUND_BYTES
        frames = nf.SimpleFrames({"big": path}, workdir=tmp_path, backend=backend)
        assert frames.prepare().present == 1
        rng = np.random.default_rng(0)
        for _ in range(50):
            top, left = rng.integers(0, edge - 200, 2).tolist()
            got = frames.load_region("big", np.s_[top : top + 200, left : left + 200])
            np.testing.assert_array_equal(got, cut(pattern, top, left, (200, 200)))
        frames.cache.clear()
    path.unlink()  # pytest keeps the folders of the last runs
