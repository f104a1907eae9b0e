"""The transparent colour of a PNG is nodata: of gray, and of all samples of RGB together, at every depth."""

import struct
import zlib

import numpy as np
import pytest

import ndframes as nf


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(pixels: np.ndarray, depth: int, key) -> bytes:
    height, width = pixels.shape[:2]
    rows = []
    for row in pixels.reshape(height, -1):
        if depth >= 8:
            rows.append(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes())
        else:
            bits = "".join(format(int(value), f"0{depth}b") for value in row)
            bits += "0" * (-len(bits) % 8)
            rows.append(b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big"))
    colour = 0 if pixels.ndim == 2 else 2
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + chunk(b"tRNS", np.array(key, ">u2").tobytes())
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


CASES = [(depth, bands) for depth, bands in ((1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3))]


@pytest.mark.parametrize(("depth", "bands"), CASES)
@pytest.mark.parametrize("backend", [None, "cog", "npy"])
def test_the_colour_key_masks_whole_pixels(depth, bands, backend, tmp_path):
    shape = (9, 14) if bands == 1 else (9, 14, 3)
    few = min(1 << depth, 3)  # so that single samples of the key are everywhere
    values = np.linspace(0, (1 << depth) - 1, few).round().astype(int)
    pixels = values[np.random.default_rng(depth).integers(0, few, shape)]
    key = pixels[4, 5]
    (tmp_path / "a.png").write_bytes(png(pixels, depth, np.atleast_1d(key)))
    frames = nf.SimpleFrames({"x": tmp_path / "a.png"}, workdir=tmp_path / "work", backend=backend)
    stored = pixels.reshape(*shape[:2], bands)
    wanted = np.repeat((stored == key).all(axis=2, keepdims=True), bands, axis=2)
    assert 0 < wanted.sum() < wanted.size
    whole = frames.load_region("x", nodata="mask")
    np.testing.assert_array_equal(np.ma.getmaskarray(whole), wanted)
    np.testing.assert_array_equal(whole.data, stored.astype(whole.dtype))
    assert frames.load_frame("x").channels == (("gray",) if bands == 1 else ("r", "g", "b"))
    np.testing.assert_array_equal(frames.load_image("x"), stored)
    as_nan = frames.load_region("x", np.s_[2:7, ::-2], nodata="nan")
    np.testing.assert_array_equal(np.isnan(as_nan), wanted[2:7, ::-2])
    batch = frames.load_regions([("x", np.s_[1:5]), ("x", np.s_[4:8])], nodata="mask")
    np.testing.assert_array_equal(np.ma.getmaskarray(batch[0]), wanted[1:5])
    if bands == 3:
        for channels, picked in (("b", [2]), ("g|r", [1, 0]), ("r|g|b", [0, 1, 2])):
            got = frames.load_region("x", np.s_[3:, 2:9], channels, nodata="mask")
            np.testing.assert_array_equal(np.ma.getmaskarray(got), wanted[3:, 2:9, picked])
            np.testing.assert_array_equal(got.data, stored[3:, 2:9, picked])


def test_scaled_reads_leave_the_colour_out(tmp_path):
    pixels = np.full((8, 8, 3), 100)
    pixels[::2, ::2] = (0, 100, 200)
    (tmp_path / "a.png").write_bytes(png(pixels, 8, (0, 100, 200)))
    for backend in (None, "cog", "npy"):
        frames = nf.SimpleFrames({"x": tmp_path / "a.png"}, workdir=tmp_path / "work", backend=backend)
        half = frames.load_region("x", scale=0.5, nodata="mask")
        assert (half == 100).all(), half[0, 0]


def test_facts_of_the_command_line(tmp_path):
    from click.testing import CliRunner

    from ndframes.cli import main

    (tmp_path / "a.png").write_bytes(png(np.full((4, 5, 3), 7), 8, (7, 8, 9)))
    for options in ([], ["--json"]):
        result = CliRunner().invoke(main, ["info", str(tmp_path / "a.png"), *options])
        assert result.exit_code == 0, result.output
        assert ("colour" in result.output) is True
