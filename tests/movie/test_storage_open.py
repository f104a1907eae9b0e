"""Movies of fields in ndframes.open, Frames and the cache: as fields, and as pictures."""

from __future__ import annotations

import os
import time

import av
import numpy as np
import pytest

import ndframes as nf

COUNT, SHAPE = 14, (24, 40)


def write(path, bits, container_count=COUNT) -> np.ndarray:
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    fields = np.array(
        [
            np.dstack([0.5 + 0.4 * np.sin((x + y) / 9 + number), x / 80 + y / 80 + number / 99])
            for number in range(container_count)
        ]
    ).astype("f4")
    with nf.MovieStorage(path, mode="w", bits=bits, channels="u|v", fps=30, info={"a": 1}) as movie:
        for number, field in enumerate(fields):
            movie.append(field, 1 + number / 10)
    return fields


def age(path) -> None:
    """Make a file old enough for its index to be cached."""
    old = time.time() - 100
    os.utime(path, (old, old))


@pytest.mark.parametrize("is_old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize(
    ("container", "bits"), [("mkv", 16), ("mkv", 32), ("mp4", 8), ("mp4", 32), ("mov", 16), ("avi", 16)]
)
def test_fields_and_pictures(tmp_path, container, bits, is_old):
    path = tmp_path / f"a.{container}"
    fields = write(path, bits)
    if is_old:
        age(path)
    tolerance = 0 if bits == 32 else 0.501 / (2**bits - 1) + 1e-7
    # The second time the index comes from the cache.
    for _ in range(2):
        video = nf.open(path, workdir=tmp_path / "cache")
        assert isinstance(video, nf.LazyVideo)
        assert (video.shape, video.dtype, video.channels) == ((COUNT, *SHAPE, 2), np.float32, ("u", "v"))
        assert np.abs(video[...] - fields).max() <= tolerance
        assert np.abs(video[[7, 3], 5:9, ..., 1] - fields[[7, 3], 5:9, ..., 1]).max() <= tolerance
        assert video.times.tolist() == [1 + number / 10 for number in range(COUNT)]
        assert np.array_equal(video.at_time(1.25), video[2])
        assert video.fps == 30
        assert "u|v, float32" in repr(video)
    pictures = nf.open(path, workdir=tmp_path / "cache", pixel_format="picture")
    assert pictures.shape == (COUNT, *SHAPE, 3)
    assert pictures.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert np.abs(pictures[5][..., :2] / np.iinfo(pictures.dtype).max - fields[5]).mean() < (
        0.03 if bits == 32 else 0.003
    )
    assert np.array_equal(pictures.times, video.times)
    assert np.array_equal(nf.read_video(path, [3, 1], workdir=tmp_path / "cache"), video[[3, 1]])
    shown = nf.read_video(path, [3], workdir=tmp_path / "cache", pixel_format="picture")
    assert np.array_equal(shown, pictures[[3]])
    assert nf.video_metadata(path, workdir=tmp_path / "cache").frames == COUNT


@pytest.mark.parametrize("backend", [None, "auto", "npy", "cog"])
@pytest.mark.parametrize("bits", [16, "exact"])
def test_movies_in_frames_and_their_entries(tmp_path, backend, bits):
    path = tmp_path / "a.mkv"
    fields = write(path, bits)
    age(path)
    expected = nf.MovieStorage(path)[...]
    assert np.abs(expected - fields).max() < 1e-5
    frames = nf.SimpleFrames({"m": path}, workdir=tmp_path / "cache", backend=backend)
    for _ in range(2):
        assert np.array_equal(frames.load_region("m"), expected)
        found = frames.load_region("m", (slice(3, 9), slice(1, 20), slice(30, 10, -1)), "v")
        assert np.array_equal(found, expected[3:9, 1:20, 30:10:-1, 1:])
        batch = frames.load_regions([("m", (2,)), ("m", (11,)), ("m", (2,))])
        assert np.array_equal(batch, expected[[2, 11, 2]])
        report = frames.prepare()
        assert not report.failed
        assert frames["m"].channels == ("u", "v")
    picture = nf.SimpleFrames(
        {"m": nf.ChannelInfo(path, pixel_format="picture")}, workdir=tmp_path / "cache", backend=backend
    )
    assert picture.load_region("m", (0,)).dtype == (np.uint16 if bits == 16 else np.uint8)


def test_the_intra_form_of_fields_is_refused(tmp_path):
    write(tmp_path / "a.mkv", 32)
    frames = nf.SimpleFrames({"m": tmp_path / "a.mkv"}, workdir=tmp_path / "cache", backend="intra")
    with pytest.raises(nf.NdframesError, match=r"a\.mkv.*float32"):
        frames.prepare()


def test_dask_and_xarray(tmp_path):
    pytest.importorskip("dask")
    pytest.importorskip("xarray")
    fields = write(tmp_path / "a.mkv", 32)
    movie = nf.MovieStorage(tmp_path / "a.mkv")
    assert isinstance(movie.data, nf.LazyFrame)
    assert np.allclose(movie.data.to_dask().mean((1, 2)).compute(), fields.mean((1, 2)))
    labelled = movie.data.to_xarray()
    assert labelled.dims == ("t", "y", "x", "channel")
    assert labelled.t.values.tolist() == movie.times.tolist()
    assert np.array_equal(labelled.sel(channel="v", t=1.5).values, fields[5, ..., 1])


def test_a_movie_that_grows_is_opened_again(tmp_path):
    path = tmp_path / "a.mkv"
    frames = nf.SimpleFrames({"m": path}, workdir=tmp_path / "cache", backend=None)
    with nf.MovieStorage(path, mode="w", bits="exact") as movie:
        movie.append(np.full((8, 9), 1.5), 3)
        assert frames["m"].shape == (1, 8, 9, 1)
        movie.append(np.full((8, 9), 2.5), 5)
        assert frames["m"][:, 0, 0, 0].tolist() == [1.5, 2.5]
    assert frames["m"].times.tolist() == [3, 5]


def test_a_copy_by_ffmpeg_is_still_a_movie(tmp_path):
    """Other programs copy the streams that they know: levels stay, and so do packed values in MP4."""
    for container, bits in (("mkv", 16), ("mp4", 16), ("avi", 16)):
        path, copy = tmp_path / f"a.{container}", tmp_path / f"copy.{container}"
        write(path, bits)
        with av.open(str(path)) as source, av.open(str(copy), "w") as target:
            target.metadata.update(source.metadata)
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    target.mux(packet)
        movie = nf.MovieStorage(copy)
        assert np.array_equal(movie[...], nf.MovieStorage(path)[...])
        assert movie.times.tolist() == list(range(COUNT))
