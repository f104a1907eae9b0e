"""What a player shows of a movie of fields: the default stream by FFmpeg's plain decoding, and by OpenCV."""

from __future__ import annotations

import itertools

import av
import cv2
import numpy as np
import pytest

import ndframes as nf

COUNT = 12


def waves(count: int, bands: int, shape=(64, 96)) -> np.ndarray:
    """Smooth fields from 0 to 1, another one for each channel and time; not symmetric in y and x."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    fields = [
        [
            0.5 + 0.25 * np.sin(x / 15 + time / 3 + band) + 0.25 * y / shape[0] * np.cos(band + time / 5)
            for band in range(bands)
        ]
        for time in range(count)
    ]
    return np.moveaxis(np.array(fields), 1, 3)


def play(path) -> np.ndarray:
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert stream.index == 0
        return np.array([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


KINDS = [*itertools.product(("mkv", "mp4", "mov", "avi"), (8, 16)), *itertools.product(("mkv", "mp4", "mov"), (32, 64))]


@pytest.mark.parametrize(("container", "bits"), KINDS)
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 7])
def test_the_default_stream_looks_like_the_field(tmp_path, container, bits, bands):
    fields = waves(COUNT, bands)
    path = tmp_path / f"a.{container}"
    with nf.MovieStorage(path, mode="w", bits=bits) as movie:
        movie.extend(fields)
    shown = play(path).astype(float) / 255
    if bands <= 4:
        colors = fields[..., [0, 0, 0]] if bands == 1 else np.zeros((*fields.shape[:3], 3))
        if bands > 1:
            colors[..., : min(bands, 3)] = fields[..., :3]
    else:
        tiles = [fields[..., band] for band in range(bands)] + [np.zeros_like(fields[..., 0])] * (9 - bands)
        columns = 3
        rows = -(-bands // columns)
        gray = np.concatenate(
            [np.concatenate(tiles[row * columns : (row + 1) * columns], axis=2) for row in range(rows)], axis=1
        )
        colors = np.stack([gray] * 3, axis=3)
    assert shown.shape == colors.shape
    # FFmpeg converts 16 bits to 8 within one level; a preview is compressed, and its colours have half the resolution.
    exact = bits <= 16
    assert np.abs(shown - colors).mean() < (0.003 if exact else 0.012)
    assert np.percentile(np.abs(shown - colors), 99) < (0.006 if exact else 0.05)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_opencv_shows_the_same(tmp_path, bits, container):
    fields = waves(COUNT, 1)
    path = tmp_path / f"a.{container}"
    with nf.MovieStorage(path, mode="w", bits=bits) as movie:
        movie.extend(fields[..., 0])
    video = cv2.VideoCapture(str(path))
    count = 0
    while True:
        is_read, picture = video.read()
        if not is_read:
            break
        assert np.abs(picture / 255 - fields[count]).mean() < 0.02
        count += 1
    assert count == COUNT == int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.set(cv2.CAP_PROP_POS_FRAMES, 7)
    assert np.abs(video.read()[1] / 255 - fields[7]).mean() < 0.02


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1), (7, 9), (15, 17), (33, 35)])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_fields_of_any_size_have_a_preview(tmp_path, shape, container):
    path = tmp_path / f"a.{container}"
    with nf.MovieStorage(path, mode="w", bits=32) as movie:
        movie.extend(np.full((4, *shape), 0.8))
    shown = play(path)
    assert len(shown) == 4
    assert shown.shape[1] % 2 == shown.shape[2] % 2 == 0
    assert np.abs(shown / 255 - 0.8).max() < 0.02


def test_values_without_a_picture_are_shown_at_the_limits(tmp_path):
    field = np.array([[np.nan, np.inf], [-np.inf, 0.5]]).repeat(20, 0).repeat(20, 1)
    with nf.MovieStorage(tmp_path / "a.mkv", mode="w", bits=64) as movie:
        movie.append(field)
    assert np.array_equal(nf.MovieStorage(tmp_path / "a.mkv")[0], field, equal_nan=True)
    shown = play(tmp_path / "a.mkv")[0, 10::20, 10::20, 0] / 255
    assert np.abs(shown - [[0, 1], [0, 0.5]]).max() < 0.05
