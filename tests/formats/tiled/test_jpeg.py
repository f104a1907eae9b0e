"""Tiles of JPEG: windows that decode without the rest of their tiles."""

from __future__ import annotations

import itertools
import math

import cv2
import imagecodecs
import numpy as np
import pytest
from kit.tilework import cog, frames_over, watch_decodes
from PIL import Image

import ndframes as nf
from ndframes.formats.tiled import jpeg
from ndframes.formats.tiled.jpeg import JpegGrids, decode_jpeg, encode_jpeg_tile

PHOTO = np.ascontiguousarray(nf.open(nf.demo_paths()["astronaut"])[...])


def tile_at(top: int, left: int, extent: int, bands: int) -> np.ndarray:
    return np.ascontiguousarray(PHOTO[top : top + extent, left : left + extent, :bands])


def tile_of(extent: int, bands: int) -> np.ndarray:
    return tile_at(100, 90, extent, bands)


@pytest.mark.parametrize("quality", [10, 75, 90, 100])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("extent", [16, 48, 128, 256])
def test_a_window_is_that_of_the_whole_tiles(monkeypatch, extent, bands, quality):
    """Pairs of ends at, before and behind the borders of what can be taken out. What is spared is spared."""
    corners = [[(100, 3), (60, 90), (200, 250)], [(0, 0), (20, 40), (90, 70)]]
    grid = [[encode_jpeg_tile(tile_at(*corner, extent, bands), quality) for corner in line] for line in corners]
    whole = np.block([[[decode_jpeg(data)] for data in line] for line in grid])
    decode_grid, rng = JpegGrids(), np.random.default_rng(0)
    decoded: list[np.ndarray] = []
    monkeypatch.setattr(jpeg, "decode_jpeg", lambda data: (decoded.append(decode_jpeg(data)), decoded[-1])[1])
    unit = 8 * math.gcd(extent // 8, 4)
    down, across = borders(2 * extent, 8), borders(3 * extent, 32)
    for axis, others in ((down, across), (across, down)):
        pairs = list(itertools.combinations(axis, 2))
        for number in rng.permutation(len(pairs))[:150]:
            pair, other = pairs[number], sorted(rng.choice(others, 2, replace=False).tolist())
            rows, cols = (slice(*ends) for ends in ((pair, other) if others is across else (other, pair)))
            some = whole[rows, cols]
            decoded.clear()
            np.testing.assert_array_equal(decode_touched(decode_grid, grid, rows, cols, extent), some)
            (pixels,) = decoded
            touched = [-(-axis.stop // px) * px - axis.start // px * px for axis, px in ((rows, 8), (cols, unit))]
            is_in_one = all((axis.stop - 1) // extent == axis.start // extent for axis in (rows, cols))
            is_whole = is_in_one and math.prod(touched) > 7 / 8 * extent**2
            assert pixels.shape[:2] == ((extent, extent) if is_whole else tuple(touched))


def decode_touched(
    decode_grid: JpegGrids, grid: list[list[bytes]], rows: slice, cols: slice, extent: int
) -> np.ndarray:
    """A window of a grid, from the tiles that it touches and no others."""
    some = [
        line[cols.start // extent : -(-cols.stop // extent)]
        for line in grid[rows.start // extent : -(-rows.stop // extent)]
    ]
    inside = [slice(axis.start % extent, axis.stop - axis.start // extent * extent) for axis in (rows, cols)]
    return decode_grid(some, *inside)


def borders(extent: int, step: int) -> list[int]:
    places = {step * number + by for number in range(extent // step + 1) for by in (-1, 0, 1)}
    return sorted(place for place in places if 0 <= place <= extent)


def test_other_decoders_read_the_whole():
    tile = tile_of(128, 3)
    data = encode_jpeg_tile(tile, 90)
    whole = decode_jpeg(data)
    assert np.abs(whole.astype(int) - tile).mean() < 3
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1], whole)
    without = imagecodecs.jpeg8_encode(tile, level=90, colorspace="RGB", outcolorspace="YCBCR", subsampling="444")
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(without), whole)
    assert len(data) < 1.06 * len(without)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 5}, {"subsampling": 2}])
def test_tiles_of_other_encoders_are_decoded_whole(tmp_path, monkeypatch, options):
    """In one reader with those that need not be, and in one run with them."""
    Image.fromarray(tile_of(128, 3)).save(tmp_path / "a.jpg", **{"quality": 90, "subsampling": 0, **options})
    foreign, own = (tmp_path / "a.jpg").read_bytes(), encode_jpeg_tile(tile_of(128, 3), 90)
    decoded = []
    monkeypatch.setattr(jpeg, "decode_jpeg", lambda data: (decoded.append(bytes(data)), decode_jpeg(data))[1])
    decode_grid = JpegGrids()
    for line in ([own], [foreign], [own, own], [own, foreign], [foreign, own], [own]):
        decoded.clear()
        whole = np.concatenate([decode_jpeg(data) for data in line], axis=1)
        np.testing.assert_array_equal(decode_grid([line], np.s_[40:50], np.s_[100:120]), whole[40:50, 100:120])
        assert (decoded == line) == (foreign in line)


def test_a_tile_without_its_restarts_is_no_other_one():
    """It decodes as the whole does, or does not decode."""
    data, decode_grid = encode_jpeg_tile(tile_of(128, 3), 90), JpegGrids()
    window = np.s_[90:100], np.s_[30:60]
    for damaged in (data[: len(data) // 2], data.replace(b"\xff\xd2", b"\xff\x00"), data[:50], b"", b"\xff\xd8"):
        try:
            whole = decode_jpeg(damaged)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                decode_grid([[damaged]], *window)
        else:
            np.testing.assert_array_equal(decode_grid([[damaged]], *window), whole[window])


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(("tile_bytes", "together"), [(0, 16), (0, 3), (0, 1), (2**26, 16)])
def test_crops_are_those_of_the_image(tmp_path, at_rest, bands, tile_bytes, together):
    """With tiles from the cache, and with windows of up to so many tiles that are decoded in part; alone and in a batch."""
    frames = frames_over(tmp_path, {"a": PHOTO[:401, :389, :bands]}, cog("JPEG", 128), tile_bytes=tile_bytes)
    frames.prepare()
    frames.image("a").opened(0).reader._inner._group_tiles = together
    seen = watch_decodes(frames, "a")
    whole = frames.load_region("a")
    assert len(seen) == 16
    rng = np.random.default_rng(0)
    regions = []
    for _ in range(150):
        (top, bottom), (left, right) = (np.sort(rng.choice(extent, 2, replace=False)) for extent in whole.shape[:2])
        regions.append(np.s_[int(top) : int(bottom), int(left) : int(right)])
    for region in regions:
        np.testing.assert_array_equal(frames.load_region("a", region), whole[region])
    for pixels, region in zip(frames.load_regions([("a", region) for region in regions]), regions, strict=True):
        np.testing.assert_array_equal(pixels, whole[region])
    assert len(seen) > 300 if tile_bytes == 0 else len(seen) == 16
