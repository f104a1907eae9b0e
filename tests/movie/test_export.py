"""``MovieStorage.export``: one channel through a colour map, compared by pixels."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import ndframes as nf
from ndframes.pixels.colormaps import COLORMAPS, find_colormap


@pytest.fixture
def ramp(tmp_path):
    """A movie of exact float32: ramps from -2 to 3 that rise from field to field, and a second channel that falls."""
    fields = np.linspace(-2, 3, 6 * 20 * 30).reshape(6, 20, 30).astype(np.float32)
    both = np.stack([fields, -fields], axis=3)
    path = tmp_path / "ramp.mkv"
    with nf.MovieStorage(path, mode="w", bits=32, channels="u|v", vmin=-2, vmax=3, fps=10) as movie:
        movie.extend(both)
    return nf.MovieStorage(path), both


def read_exactly(path):
    return nf.read_video(path, workdir=path.parent)


def expected_colours(values, low, high, name="viridis"):
    """By the definition of a colour map of 256 colours, value by value."""
    table = find_colormap(name).table
    return table[np.floor((values.astype(np.float64) - low) / (high - low) * 256).clip(0, 255).astype(int)]


def test_pixels_are_the_colours_of_the_values(ramp, tmp_path):
    movie, both = ramp
    report = movie.export(tmp_path / "u.avi", scale=4)
    assert (report.frames, report.shape) == (6, (80, 120, 3))
    movie.export(tmp_path / "u.mkv", scale=4)
    for name in ("u.avi", "u.mkv"):
        shown = read_exactly(tmp_path / name).astype(int)
        expected = expected_colours(both[..., 0], -2, 3).repeat(4, 1).repeat(4, 2).astype(int)
        # Codecs for people are nearly lossless.
        assert abs(shown - expected).mean() < 3
        assert abs(shown.reshape(6, 20, 4, 30, 4, 3).mean((2, 4)) - expected[:, ::4, ::4]).max() < 16


def test_the_channel_is_chosen_by_name_and_by_number(ramp, tmp_path):
    movie, both = ramp
    movie.export(tmp_path / "v.mkv", channel="v", scale=4)
    shown = read_exactly(tmp_path / "v.mkv")
    assert abs(shown - expected_colours(both[..., 1], -2, 3).repeat(4, 1).repeat(4, 2).astype(int)).mean() < 3
    for number in (1, -1):
        movie.export(tmp_path / "one.mkv", channel=number, scale=4)
        np.testing.assert_array_equal(read_exactly(tmp_path / "one.mkv"), shown)
    with pytest.raises(nf.ChannelError, match=r"no channel 'w'; there are 'u\|v'"):
        movie.export(tmp_path / "w.mkv", channel="w")
    for wrong in (2, -3, True, 0.5, "u|v"):
        with pytest.raises(nf.MovieError, match="channel="):
            movie.export(tmp_path / "w.mkv", channel=wrong)
    assert not (tmp_path / "w.mkv").exists()


def test_limits_are_those_of_the_movie_given_or_found(ramp, tmp_path):
    movie, both = ramp
    for given, low, high in (
        ({}, -2, 3),
        ({"vmin": 0, "vmax": 1}, 0, 1),
        ({"vmin": -1, "vmax": "auto", "channel": "v"}, -1, 2),
        ({"vmin": "auto", "vmax": "auto", "channel": "v"}, -3, 2),
    ):
        movie.export(tmp_path / "a.mkv", scale=4, **given)
        values = both[..., 1 if "channel" in given else 0]
        expected = expected_colours(values, low, high).repeat(4, 1).repeat(4, 2).astype(int)
        assert abs(read_exactly(tmp_path / "a.mkv") - expected).mean() < 3, given
    for wrong in ({"vmin": 3}, {"vmin": float("nan")}, {"vmax": "max"}, {"vmax": [1]}):
        with pytest.raises((nf.MovieError, ValueError), match="vm(in|ax)"):
            movie.export(tmp_path / "b.mkv", **wrong)
    assert not (tmp_path / "b.mkv").exists()


def test_nan_and_infinities_have_colours(tmp_path):
    field = np.full((64, 64), 0.5)
    field[:32, :32], field[:32, 32:], field[32:, 32:] = np.nan, np.inf, -np.inf
    with nf.MovieStorage(tmp_path / "a.mkv", mode="w", bits=64) as movie:
        movie.append(field)
    nf.MovieStorage(tmp_path / "a.mkv").export(tmp_path / "b.mkv", vmin="auto", vmax=1)
    shown = read_exactly(tmp_path / "b.mkv")[0].astype(int)
    colormap = find_colormap("viridis")
    side = shown.shape[0] // 2
    quarters = shown.reshape(2, side, 2, side, 3)[:, side // 2, :, side // 2]
    expected = [[colormap.missing, colormap.table[255]], [colormap.table[0], colormap.table[0]]]
    assert abs(quarters - np.array(expected, int)).max() < 8


def test_constant_movies_and_movies_without_numbers_can_be_exported(tmp_path):
    for number, value in enumerate((7.0, np.nan)):
        with nf.MovieStorage(tmp_path / f"{number}.mkv", mode="w", bits=32) as movie:
            movie.append(np.full((64, 64), value, np.float32))
        nf.MovieStorage(tmp_path / f"{number}.mkv").export(tmp_path / "b.mkv", vmin="auto", vmax="auto")
        expected = find_colormap("viridis").missing if np.isnan(value) else find_colormap("viridis").table[0]
        assert abs(read_exactly(tmp_path / "b.mkv")[0].astype(int) - np.array(expected)).max() < 8


def test_integers_as_pictures_have_the_range_of_their_dtype(tmp_path):
    stack = np.arange(3 * 64 * 64).reshape(3, 64, 64)
    for dtype, low, high in ((np.uint8, 0, 255), (np.int16, -(2**15), 2**15 - 1)):
        fields = (stack * 5).astype(dtype)
        with nf.MovieStorage(tmp_path / "a.mkv", mode="w") as movie:
            movie.extend(fields)
        nf.MovieStorage(tmp_path / "a.mkv").export(tmp_path / "b.avi", cmap="gray", scale=4)
        expected = expected_colours(fields, low, high, "gray").repeat(4, 1).repeat(4, 2).astype(int)
        assert abs(read_exactly(tmp_path / "b.avi") - expected).mean() < 3


def test_small_and_odd_fields_become_visible_pictures_with_even_sides(tmp_path):
    for shape, given, expected in (
        ((15, 25), None, (286, 476)),  # 19 times as large, and one more row and column
        ((64, 48), None, (512, 384)),
        ((300, 600), None, (300, 600)),
        ((21, 33), 5, (106, 166)),
        ((1, 300), None, (64, 600)),
        ((2, 2), None, (128, 128)),
    ):
        field = np.linspace(0, 1, shape[0] * shape[1]).reshape(shape)
        with nf.MovieStorage(tmp_path / "a.mkv", mode="w") as movie:
            movie.append(field)
        report = nf.MovieStorage(tmp_path / "a.mkv").export(tmp_path / "b.mp4", scale=given)
        assert report.shape == (*expected, 3)
        assert report.pixel_format == "yuv420p"
        shown = read_exactly(tmp_path / "b.mp4")[0].astype(int)
        corners = expected_colours(field[[0, 0, -1, -1], [0, -1, 0, -1]], 0, 1)
        assert abs(shown[[0, 0, -1, -1], [0, -1, 0, -1]] - corners).max() < 24
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(nf.MovieError, match="scale="):
            nf.MovieStorage(tmp_path / "a.mkv").export(tmp_path / "c.mp4", scale=wrong)


def test_an_unknown_colour_map_lists_those_that_exist(ramp, tmp_path):
    with pytest.raises(nf.MovieError, match="cmap='virdis' is not a colour map; use one of viridis, plasma, .*turbo"):
        ramp[0].export(tmp_path / "a.mp4", cmap="virdis")


@pytest.mark.parametrize("name", COLORMAPS)
def test_the_colour_of_nan_is_far_from_every_colour_of_the_map(name):
    colormap = find_colormap(name)
    assert np.sqrt(np.square(colormap.table.astype(int) - colormap.missing).sum(1)).min() > 200
    assert len(np.unique(colormap.table, axis=0)) >= 100
    # Both ends of the table are the ends of the range; values beyond take them.
    picture = colormap.paint(np.array([[-1.0, 0.0, 0.9999, 1.0, 2.0, np.nan]]), 0, 1)[0]
    np.testing.assert_array_equal(picture, [*colormap.table[[0, 0, 255, 255, 255]], colormap.missing])


def test_the_rate_is_that_of_the_movie_or_given(ramp, tmp_path):
    ramp[0].export(tmp_path / "a.mp4")
    ramp[0].export(tmp_path / "b.mp4", fps=30)
    assert nf.video_metadata(tmp_path / "a.mp4", workdir=tmp_path).fps == 10
    assert nf.video_metadata(tmp_path / "b.mp4", workdir=tmp_path).fps == 30


def test_a_part_of_a_movie_is_exported(ramp, tmp_path):
    movie, both = ramp
    report = movie.extract_time_range((2, 4)).export(tmp_path / "part.mkv", scale=4)
    assert report.frames == 3
    expected = expected_colours(both[2:5, ..., 0], -2, 3).repeat(4, 1).repeat(4, 2).astype(int)
    assert abs(read_exactly(tmp_path / "part.mkv") - expected).mean() < 3
    with pytest.raises(nf.MovieError, match="no fields"):
        movie.extract_time_range((20, 40)).export(tmp_path / "none.mkv")


def test_the_movie_is_never_replaced_and_an_error_leaves_the_old_video(ramp, tmp_path):
    movie, both = ramp
    with pytest.raises(nf.VideoWriteError, match="one of the files that are read"):
        movie.export(movie.path)
    np.testing.assert_array_equal(nf.MovieStorage(movie.path)[...], both)
    (tmp_path / "old.mp4").write_bytes(b"old")
    damaged = bytearray((tmp_path / "ramp.mkv").read_bytes())
    place = movie._source.places.table[4]
    damaged[place["values"] + 40 : place["values"] + 80] = bytes(40)
    (tmp_path / "damaged.mkv").write_bytes(damaged)
    with pytest.raises(nf.MovieError, match="frame 4 of 6"):
        nf.MovieStorage(tmp_path / "damaged.mkv").export(tmp_path / "old.mp4")
    assert (tmp_path / "old.mp4").read_bytes() == b"old"
    assert not list(tmp_path.glob(".*.part"))


def test_progress_is_shown_on_wish(ramp, tmp_path, monkeypatch):
    for progress, expected in (
        (True, ["find limits, frames 100.00% 6/6", "write, frames 100.00% 6/6"]),
        (None, []),
        (False, []),
    ):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        ramp[0].export(tmp_path / "a.mp4", vmin="auto", progress=progress)
        assert [text for text in expected if text not in sys.stderr.getvalue()] == []
        assert bool(sys.stderr.getvalue()) == bool(progress)
