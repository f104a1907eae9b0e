"""LazyFrame: an array that stays on disk."""

from __future__ import annotations

import base64
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import ndframes as nf
from ndframes.pixels.pictures import to_picture


@pytest.fixture(scope="module")
def frame_and_array(tmp_path_factory, backend):
    folder = tmp_path_factory.mktemp("lazy")
    array = np.random.default_rng(3).integers(-500, 500, (83, 91, 4)).astype(np.int16)
    np.save(folder / "a.npy", array)
    return nf.open(folder / "a.npy", workdir=folder, backend=backend), array


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_basic_index(frame_and_array, data):
    frame, array = frame_and_array
    index = data.draw(hnp.basic_indices(array.shape, allow_newaxis=False))
    np.testing.assert_array_equal(frame[index], array[index])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_list_of_integers_on_the_first_axis(frame_and_array, data):
    frame, array = frame_and_array
    rows = data.draw(st.lists(st.integers(-83, 82), max_size=12))
    rest = data.draw(hnp.basic_indices(array.shape[1:], allow_newaxis=False, allow_ellipsis=False))
    rest = rest if isinstance(rest, tuple) else (rest,)
    kind = data.draw(st.sampled_from([list, lambda items: np.array(items, dtype=np.int64)]))
    got = frame[(kind(rows), *rest)]
    np.testing.assert_array_equal(got, array[(np.array(rows, dtype=np.int64), *rest)])
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(frame[kind(rows)], array[np.array(rows, dtype=np.int64)])


def test_attributes_and_repr(frame_and_array):
    frame, array = frame_and_array
    assert (frame.shape, frame.dtype, frame.ndim) == (array.shape, array.dtype, array.ndim)
    assert (frame.size, frame.nbytes, len(frame)) == (array.size, array.nbytes, len(array))
    assert frame.channels == ("r", "g", "b", "a")
    assert len(frame.chunks) == 3
    assert all(0 < chunk <= extent for chunk, extent in zip(frame.chunks, frame.shape, strict=True))
    for word in ("a.npy", "83 x 91", "int16", "60.4 kB", "r|g|b|a"):
        assert word in repr(frame)


def test_it_becomes_an_array(frame_and_array):
    frame, array = frame_and_array
    np.testing.assert_array_equal(np.asarray(frame), array)
    assert np.asarray(frame, dtype=np.float32).dtype == np.float32
    np.testing.assert_array_equal(np.stack(list(frame)), array)
    np.testing.assert_array_equal(np.add(frame, 1), array + 1)
    with pytest.raises(ValueError, match="without a copy"):
        np.array(frame, copy=False)


def test_it_pickles_as_a_description(frame_and_array):
    frame, array = frame_and_array
    data = pickle.dumps(frame)
    assert len(data) < 2000
    np.testing.assert_array_equal(pickle.loads(data)[...], array)


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (None, nf.RegionError),
        (np.newaxis, nf.RegionError),
        ([0.5], nf.RegionError),
        ([True, False], nf.RegionError),
        (np.ones(83, bool), nf.RegionError),
        (np.zeros((2, 2), int), nf.RegionError),
        ([83], nf.RegionIndexError),
        ([-84], IndexError),
        ((slice(None), [1, 2]), nf.RegionError),
        (200, IndexError),
    ],
    ids=str,
)
def test_an_invalid_index(frame_and_array, index, error):
    with pytest.raises(error):
        frame_and_array[0][index]


def test_channels_are_chosen_on_opening(tmp_path):
    array = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    np.save(tmp_path / "a.npy", array)
    frame = nf.open(tmp_path / "a.npy", channels="b|r")
    assert frame.shape == (4, 5, 2)
    np.testing.assert_array_equal(frame[1:, ::2], array[1:, ::2, [2, 0]])
    with pytest.raises(nf.ChannelError, match="nir"):
        nf.open(tmp_path / "a.npy", channels="nir")


def test_opening_a_missing_file(tmp_path):
    with pytest.raises(nf.SourceMissingError, match="nothing.png does not exist"):
        nf.open(tmp_path / "nothing.png")


def picture_of(frame) -> np.ndarray:
    encoded = re.search(r"base64,([^\"]+)", frame._repr_html_())[1]
    import io

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_the_notebook_picture_comes_from_an_overview(tmp_path, monkeypatch):
    whole = np.zeros((2048, 1024, 3), np.uint8)
    whole[:1024, :, 0] = 200
    whole[1024:, :, 1] = 100
    np.save(tmp_path / "a.npy", whole)
    frame = nf.open(tmp_path / "a.npy", workdir=tmp_path, backend="cog")
    frame[0, 0]
    reader = frame._image.opened(0).reader
    levels = []
    read = type(reader).read

    def spy(self, *arguments, level=0):
        levels.append(level)
        return read(self, *arguments, level=level)

    monkeypatch.setattr(type(reader), "read", spy)
    picture = picture_of(frame)
    assert set(levels) == {3}
    assert max(picture.shape) <= 256
    assert picture[10, 10].tolist() == [200, 0, 0]
    assert picture[-10, -10].tolist() == [0, 100, 0]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32", "complex64"])
@pytest.mark.parametrize("band_count", [1, 2, 3, 5])
def test_a_picture_of_every_dtype(dtype, band_count):
    ramp = np.linspace(0, 1, 100).reshape(10, 10, 1).repeat(band_count, 2)
    pixels = (ramp > 0.5) if dtype == "bool" else (ramp * 250).astype(dtype)
    picture = to_picture(pixels)
    assert picture.dtype == np.uint8
    assert picture.shape == ((10, 10, 3) if band_count >= 3 else (10, 10))
    assert picture[0, 0].max() < 10 < 240 < picture[-1, -1].min()


def test_a_picture_without_finite_values():
    assert to_picture(np.full((4, 4, 1), np.nan)).tolist() == [[0] * 4] * 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda video: video.at_time("x"), r"at_time\('x'\); give times in seconds"),
        (lambda video: video.at_time([0, 1j]), r"at_time\(\[0, 1j\]\); give times in seconds"),
        (lambda video: video.at_time([[0, 1]]), "has more than one axis"),
        (lambda video: video.at_time(float("nan")), "contains nan"),
        (lambda video: video.read(5), "indices=5; give frame numbers"),
        (lambda video: video.read("ab"), "indices='ab'; give frame numbers"),
    ],
)
def test_times_and_frame_numbers_that_are_none(tmp_path, call, message):
    path = tmp_path / "a.mkv"
    nf.write_video(path, np.zeros((3, 16, 16), np.uint16), fps=2)
    with pytest.raises(nf.RegionError, match=f"a.mkv.*{message}"):
        call(nf.open(path, workdir=tmp_path))
