"""Tiles of JPEG: windows that decode without the rest of their tiles."""

from __future__ import annotations

import itertools

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image
from tilework import cog, frames_over, watch_decodes

import ndframes as nf
from ndframes.formats import jpeg
from ndframes.formats.jpeg import JpegRuns, decode_jpeg, encode_jpeg_tile

PHOTO = np.ascontiguousarray(nf.open(nf.demo_paths()["astronaut"])[...])


def tile_of(extent: int, bands: int) -> np.ndarray:
    return PHOTO[100 : 100 + extent, 90 : 90 + extent, :bands]


@pytest.mark.parametrize("quality", [10, 75, 90, 100])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("extent", [16, 48, 128, 256])
def test_a_window_is_that_of_the_whole_tiles(extent, bands, quality):
    """Each pair of ends that matters, at, before and behind the borders of what can be taken out; some of the other axis."""
    tiles = [np.ascontiguousarray(PHOTO[100 : 100 + extent, x : x + extent, :bands]) for x in (3, 90, 250)]
    data, decode_run = [encode_jpeg_tile(tile, quality) for tile in tiles], JpegRuns()
    whole = np.concatenate([decode_jpeg(each) for each in data], axis=1)
    rng = np.random.default_rng(0)
    down, across = borders(extent, 8), borders(3 * extent, 32)
    for pairs, others in ((itertools.combinations(down, 2), across), (itertools.combinations(across, 2), down)):
        for pair in pairs:
            other = sorted(rng.choice(others, 2, replace=False).tolist())
            rows, cols = (slice(*ends) for ends in ((pair, other) if others is across else (other, pair)))
            np.testing.assert_array_equal(decode_run(data, rows, cols), whole[rows, cols])


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
    decode_run = JpegRuns()
    for tiles in ([own], [foreign], [own, own], [own, foreign], [foreign, own], [own]):
        decoded.clear()
        whole = np.concatenate([decode_jpeg(data) for data in tiles], axis=1)
        np.testing.assert_array_equal(decode_run(tiles, np.s_[40:50], np.s_[100:120]), whole[40:50, 100:120])
        assert (decoded == tiles) == (foreign in tiles)


def test_a_tile_without_its_restarts_is_no_other_one():
    """It decodes as the whole does, or does not decode."""
    data, decode_run = encode_jpeg_tile(tile_of(128, 3), 90), JpegRuns()
    window = np.s_[90:100], np.s_[30:60]
    for damaged in (data[: len(data) // 2], data.replace(b"\xff\xd2", b"\xff\x00"), data[:50], b"", b"\xff\xd8"):
        try:
            whole = decode_jpeg(damaged)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                decode_run([damaged], *window)
        else:
            np.testing.assert_array_equal(decode_run([damaged], *window), whole[window])


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("tile_bytes", [0, 2**26])
def test_crops_are_those_of_the_image(tmp_path, at_rest, bands, tile_bytes):
    """Of tiles that are kept, and of those of which only some rows are decoded: one by one, and many at once."""
    frames = frames_over(tmp_path, {"a": PHOTO[:401, :389, :bands]}, cog("JPEG", 128), tile_bytes=tile_bytes)
    frames.prepare()
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
