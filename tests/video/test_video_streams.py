"""Which video stream of a file is read, and what is listed about the others."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import pytest
from kit.commands import run
from kit.videos import draw, read_number
from PIL import Image

import ndframes as nf

DEFAULT, COVER, IMPAIRED, THUMBNAILS = 1 << 0, 1 << 10, 1 << 8, 1 << 11


class Track(NamedTuple):
    """A stream to write; its frames show the numbers from ``first`` on."""

    first: int
    count: int = 20
    bit_rate: int = 200_000
    disposition: int = 0
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    shape: tuple[int, int] = (64, 96)


def picture(first: int, disposition: int) -> Track:
    return Track(first, 1, 0, disposition, "mjpeg", "yuvj420p")


def write(path, *tracks: Track) -> str:
    with av.open(str(path), "w") as container:
        streams = []
        for track in tracks:
            stream = container.add_stream(track.codec, rate=25)
            stream.height, stream.width = track.shape
            stream.pix_fmt = track.pixel_format
            stream.codec_context.thread_count = 1
            stream.codec_context.bit_rate = track.bit_rate
            stream.disposition = track.disposition
            streams.append(stream)
        container.start_encoding()
        for number in range(max(track.count for track in tracks)):
            for track, stream in zip(tracks, streams, strict=True):
                if number < track.count:
                    frame = av.VideoFrame.from_ndarray(draw(track.first + number, track.shape), format="rgb24")
                    frame.pts, frame.time_base = number, Fraction(1, 25)
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return str(path)


def first_number(path, workdir, **options) -> int:
    return read_number(nf.open(path, workdir=workdir, **options)[0])


def enable_all(path: str) -> None:
    """Set the flag of MP4 that FFmpeg takes for a mark, for all tracks; its writer sets it for the first one alone."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    place = data.find(b"tkhd")
    while place >= 0:
        data[place + 7] |= 1
        place = data.find(b"tkhd", place + 4)
    with open(path, "wb") as file:
        file.write(data)


CHOICES = {
    "marked": (("mp4", "mov", "mkv"), [Track(0, bit_rate=2_000_000), Track(100, disposition=DEFAULT)], 100),
    "first of equals": (("mkv", "ts"), [Track(0), Track(100)], 0),
    "rate": (("mp4", "mov"), [Track(0), Track(100, bit_rate=3_000_000, shape=(128, 192))], 100),
    "impaired": (("mkv",), [Track(0, disposition=IMPAIRED), Track(100)], 100),
    "cover first": (("mkv", "avi"), [picture(0, COVER), Track(100)], 100),
    "cover last": (("mp4", "mkv"), [Track(0), picture(100, COVER)], 0),
    "marked single frame": (("mp4", "mov", "mkv", "nut"), [picture(0, DEFAULT), Track(100)], 100),
    "single frame": (("avi", "mkv"), [Track(0, 1), Track(100)], 100),
    "few frames": (("avi",), [Track(0, 3, 3_000_000), Track(100)], 100),
}


@pytest.mark.parametrize(
    ("name", "suffix", "tracks", "right"),
    [
        pytest.param(name, suffix, tracks, right, id=f"{name}-{suffix}")
        for name, (suffixes, tracks, right) in CHOICES.items()
        for suffix in suffixes
    ],
)
def test_the_stream_is_the_one_that_ffmpeg_prefers(tmp_path, name, suffix, tracks, right):
    path = write(tmp_path / f"a.{suffix}", *tracks)
    if name == "rate":
        enable_all(path)
    with av.open(path) as container:
        best = container.streams.best("video").index
        numbers = [stream.index for stream in container.streams.video]
    if all(track.count > 1 for track in tracks):
        assert [track.first for track in tracks][numbers.index(best)] == right
    assert first_number(path, tmp_path) == right
    assert read_number(nf.read_video(path, [0], workdir=tmp_path)[0]) == right
    found = nf.video_metadata(path, workdir=tmp_path)
    (chosen,) = [stream.number for stream in found.streams if stream.is_chosen]
    assert [track.first for track in tracks][numbers.index(chosen)] == right
    # Each stream is read by its number.
    for track, number in zip(tracks, numbers, strict=True):
        if not track.disposition & COVER:
            assert first_number(path, tmp_path, stream=number) == track.first
            assert read_number(nf.read_video(path, [-1], workdir=tmp_path, stream=number)[0]) == (
                track.first + track.count - 1
            )
            described = nf.video_metadata(path, workdir=tmp_path, stream=number)
            assert (described.frames, described.shape[1:3]) == (track.count, track.shape)
            assert [stream.is_chosen for stream in described.streams] == [other == number for other in numbers]


def test_streams_are_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("NDFRAMES_WORKDIR", str(tmp_path / "work"))
    path = write(tmp_path / "a.mp4", Track(0, disposition=DEFAULT), Track(100, 7, shape=(96, 128)), picture(300, COVER))
    found = nf.video_metadata(path, workdir=tmp_path / "work")
    assert [
        (stream.number, stream.codec, stream.height, stream.width, stream.disposition, stream.is_chosen)
        for stream in found.streams
    ] == [
        (0, "h264", 64, 96, ("default",), True),
        (1, "h264", 96, 128, (), False),
        (2, "mjpeg", 64, 96, ("attached_pic",), False),
    ]
    assert [stream.frames for stream in found.streams[:2]] == [20, 7]
    for words in (("info", path, "--backend", "none"), ("video", "info", path)):
        text = run(*words)
        assert "0: h264, 64 x 96 px, 20 frames, default (read)" in text
        assert "1: h264, 96 x 128 px, 7 frames\n" in text
        assert "2: mjpeg, 64 x 96 px, attached_pic\n" in text
    listed = json.loads(run("info", path, "--backend", "none", "--json"))["video"]["streams"]
    assert [(stream["number"], stream["is_chosen"]) for stream in listed] == [(0, True), (1, False), (2, False)]
    assert json.loads(run("video", "info", path, "--stream", 1, "--json"))["frames"] == 7
    assert "\nstreams" not in run("video", "info", write(tmp_path / "b.mp4", Track(0)))


def test_a_number_of_no_video_lists_the_videos(tmp_path):
    path = write(tmp_path / "a.mkv", Track(0), Track(100))
    ways = (
        lambda: nf.open(path, workdir=tmp_path, stream=5),
        lambda: nf.read_video(path, workdir=tmp_path, stream=5),
        lambda: nf.video_metadata(path, workdir=tmp_path, stream=5),
    )
    for way in ways:
        with pytest.raises(nf.UnreadableImageError, match=r"a.mkv: stream 5 is not a video; video streams: \[0, 1\]"):
            way()


def test_cached_forms_hold_the_chosen_stream(tmp_path):
    path = write(tmp_path / "a.mkv", Track(0), Track(100, disposition=DEFAULT))
    for backend in ("npy", "cog", "intra"):
        assert first_number(path, tmp_path, backend=backend) == 100
        assert first_number(path, tmp_path, backend=backend, stream=0) == 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_sequences_of_avif_are_read_rather_than_their_still_image(tmp_path, mode):
    rng = np.random.default_rng(0)
    # The alpha is noise and takes more bits than the colours.
    arrays = [np.full((64, 64, len(mode)), 30 * number, np.uint8) for number in range(7)]
    if mode == "RGBA":
        for array in arrays:
            array[:, :, 3] = rng.integers(128, 255, (64, 64), dtype=np.uint8)
    frames = [Image.fromarray(array) for array in arrays]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:], duration=40)
    # By its suffix, FFmpeg decodes the copy; it does not join the alpha with the colours.
    shutil.copy(tmp_path / "a.avif", tmp_path / "a.mp4")
    for path in (tmp_path / "a.avif", tmp_path / "a.mp4"):
        video = nf.open(path, workdir=tmp_path)
        shown = nf.read_video(path, workdir=tmp_path)
        assert len(video) == len(shown) == 7
        for number in (6, 0, 3):
            assert np.abs(video[number][:, :, :3].astype(int) - 30 * number).max() <= 8
            assert np.array_equal(video[number], shown[number])
    streams = nf.video_metadata(tmp_path / "a.mp4", workdir=tmp_path).streams
    assert [stream.frames for stream in streams if stream.is_chosen] == [7]
    assert streams[0].frames == 1
