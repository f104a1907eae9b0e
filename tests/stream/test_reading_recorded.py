"""Files, folders, arrays and frames as sources, against the arrays that ``nf.open`` gives."""

from __future__ import annotations

import pickle
import re
from fractions import Fraction

import cv2
import numpy as np
import pytest
from kit.numbered import RATE, draw, read_number, write_clip
from kit.videos import list_clips
from PIL import Image

import ndframes as nf
from ndframes.errors import StreamError, StreamOpenError
from ndframes.stream.reading import SourceEvent
from ndframes.stream.reading_open import open_reading
from ndframes.stream.source import Source
from ndframes.stream.window import Decimation

#: Of each kind of video: those that :func:`~kit.videos.list_clips` makes.
CLIPS = {clip.name: clip for clip in list_clips()}


def read(uri, **options):
    """All frames of a source, and its reading."""
    reading = open_reading(Source(uri, **options), "it")
    items = list(reading)
    states = [item.state for item in items if isinstance(item, SourceEvent)]
    frames = [item for item in items if not isinstance(item, SourceEvent)]
    assert states == ["opening", "reading", "ended"]
    counts = reading.counts
    assert [frame.index for frame in frames] == list(range(counts.captured))
    assert counts.decoded == counts.captured + counts.decimated + counts.held_back
    assert (counts.held_back, counts.reconnects, counts.stalls, counts.epochs) == (0, 0, 0, 1)
    assert {frame.epoch for frame in frames} <= {0}
    assert {frame.source for frame in frames} <= {"it"}
    return frames, reading


def collect(reading):
    """What a reading gives out before its error, and the error."""
    items = []
    try:
        items.extend(reading)
    except StreamError as error:
        return items, error
    return items, None


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 100))


@pytest.mark.parametrize("name", sorted(CLIPS))
def test_a_file_gives_the_frames_and_times_of_open(name, tmp_path):
    path = tmp_path / CLIPS[name].name
    CLIPS[name].make(path)
    video = nf.open(path)
    frames, reading = read(str(path))
    assert len(frames) == len(video) == reading.counts.decoded
    assert [frame.time for frame in frames] == pytest.approx((video.times - video.times[0]).tolist(), abs=1e-9)
    for frame, pixels in zip(frames, video, strict=True):
        assert frame.image.dtype == np.uint8
        np.testing.assert_array_equal(frame.image, to_rgb(pixels))


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Three channels of 8 bits."""
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    return np.repeat(pixels[:, :, :1], 3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3]


def test_pixel_formats(clip):
    rgb, bgr, gray = (read(clip, pixel_format=name)[0] for name in ("rgb24", "bgr24", "gray"))
    stored = nf.open(clip, pixel_format="gray")
    for place in (0, 50, 99):
        np.testing.assert_array_equal(bgr[place].image, rgb[place].image[:, :, ::-1])
        assert bgr[place].image.flags.c_contiguous
        np.testing.assert_array_equal(gray[place].image, stored[place][:, :, 0])


def test_colours_are_in_the_order_that_is_asked_for(tmp_path):
    Image.fromarray(np.full((16, 16, 3), (250, 10, 120), np.uint8)).save(tmp_path / "1.png")
    for name, color in (("rgb24", [250, 10, 120]), ("bgr24", [120, 10, 250])):
        (frame,), _ = read(str(tmp_path), pixel_format=name)
        assert frame.image[3, 3].tolist() == color
    (frame,), _ = read(str(tmp_path), pixel_format="gray")
    assert frame.image.shape == (16, 16)
    assert frame.image[3, 3] == round(0.299 * 250 + 0.587 * 10 + 0.114 * 120)


def test_shape_is_the_mean_of_areas(clip):
    frames, _ = read(clip, shape=(60, 80))
    whole, _ = read(clip)
    for small, large in zip(frames, whole, strict=True):
        assert small.image.shape == (60, 80, 3)
        mean = large.image.reshape(60, 2, 80, 2, 3).mean((1, 3))
        assert np.abs(small.image - mean).max() <= 0.5
    gray, _ = read(clip, shape=(30, 40), pixel_format="gray")
    assert gray[0].image.shape == (30, 40)
    assert read_number(read(clip, shape=(240, 320))[0][7].image) == 7


def test_frames_may_be_written_to(clip, tmp_path):
    array = np.zeros((3, 8, 8, 3), np.uint8)
    for uri in (clip, array, nf.open(clip)):
        frames, _ = read(uri)
        frames[0].image[:] = 7
        assert frames[1].image[0, 0, 0] != 7
    assert not array.any()


@pytest.mark.parametrize("fps", [None, 5, 10, 25, 12.5, 7, 0.5, 60, 29.97])
@pytest.mark.parametrize("start", [0.0, 0.2, 1.0, 3.96])
def test_decimation_and_start_by_the_definition(clip, fps, start):
    frames, reading = read(clip, fps=fps, start=start)
    decimation = Decimation(fps)
    begin = Fraction(str(start))
    times = [Fraction(number, RATE) for number in range(100)]
    kept = [number for number, time in enumerate(times) if time >= begin and decimation.keeps(time)]
    assert [read_number(frame.image) for frame in frames] == kept
    assert [frame.time for frame in frames] == [number / RATE for number in kept]
    assert reading.counts.decimated == sum(time >= begin for time in times) - len(kept)


def test_a_start_behind_the_end_is_an_error(clip):
    with pytest.raises(StreamOpenError, match=r"start=4 s is behind its last frame, at 3\.96 s"):
        list(open_reading(Source(clip, start=4), "it"))


def test_arrays_are_as_they_are():
    array = np.random.default_rng(0).integers(0, 60000, (4, 8, 9, 3), np.uint16)
    frames, _ = read(array)
    np.testing.assert_array_equal([frame.image for frame in frames], array)
    assert frames[0].image.dtype == np.uint16
    assert [frame.time for frame in frames] == [0, 0.04, 0.08, 0.12]
    np.testing.assert_array_equal([frame.image for frame in read(array, pixel_format="bgr24")[0]], array[..., ::-1])
    frames, _ = read(array[..., 0], options={"framerate": "10"})
    np.testing.assert_array_equal(frames[2].image, np.repeat(array[2, :, :, :1], 3, 2))
    assert frames[2].time == 0.2
    np.testing.assert_array_equal(read(array[..., 0], pixel_format="gray")[0][1].image, array[1, :, :, 0])
    many = np.zeros((2, 4, 4, 7), np.float32)
    assert read(many)[0][0].image.shape == (4, 4, 7)
    with pytest.raises(StreamError, match="7 channels cannot become gray"):
        list(open_reading(Source(many, pixel_format="gray"), "it"))


def test_gray_of_an_array_is_that_of_opencv():
    array = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), np.uint8)
    for frame, pixels in zip(read(array, pixel_format="gray")[0], array, strict=True):
        assert np.abs(frame.image.astype(int) - cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)).max() <= 1


@pytest.fixture
def images(tmp_path):
    for number in range(12):
        Image.fromarray(draw(number)).save(tmp_path / f"frame{number}.png")
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "/*.png", "/frame{:d}.png", "/frame%d.png"])
def test_images_of_a_folder_or_pattern(images, pattern):
    frames, _ = read(f"{images}{pattern}")
    assert [read_number(frame.image) for frame in frames] == list(range(12))
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, draw(number))
        assert frame.time == number / 25


def test_images_have_the_rate_that_is_given(images):
    frames, _ = read(images, options={"framerate": "30000/1001"}, fps=10)
    assert [read_number(frame.image) for frame in frames] == [0, 3, 6, 9]
    assert frames[1].time == float(3 * Fraction(1001, 30000))
    with pytest.raises(StreamOpenError, match="framerate"):
        list(open_reading(Source(images, options={"framerate": "fast"}), "it"))


def test_images_of_two_sizes_need_a_shape(tmp_path):
    Image.fromarray(draw(0)).save(tmp_path / "0.png")
    Image.fromarray(draw(1, (96, 128))).save(tmp_path / "1.png")
    reading = open_reading(Source(str(tmp_path)), "it")
    with pytest.raises(StreamError):
        list(reading)


def test_lazy_videos_and_ranges(clip):
    video = nf.open(nf.Clip(clip, frame_range=(10, 40)))
    frames, _ = read(video)
    assert [read_number(frame.image) for frame in frames] == list(range(10, 40))
    assert frames[5].time == 0.2
    stored = nf.open(clip, backend="npy")
    np.testing.assert_array_equal(read(stored)[0][30].image, read(clip)[0][30].image)
    assert [frame.time for frame in read(stored)[0]] == [frame.time for frame in read(clip)[0]]


def test_an_animation(tmp_path):
    pictures = [Image.fromarray(draw(number)) for number in range(5)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    frames, _ = read(str(tmp_path / "a.gif"))
    assert [read_number(frame.image) for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time for frame in frames] == [0, 0.1, 0.2, 0.3, 0.4]


def test_it_is_the_same_however_often_it_is_read(clip):
    source = pickle.loads(pickle.dumps(Source(clip, fps=10, shape=(60, 80))))
    first, second = (list(open_reading(source, "it")) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        if isinstance(one, SourceEvent):
            assert one == other
        else:
            assert (one.index, one.time, one.captured, one.clock) == (other.index, other.time, None, "file")
            np.testing.assert_array_equal(one.image, other.image)


def test_stop_between_two_frames(clip):
    reading = open_reading(Source(clip), "it")
    frames = []
    for item in reading:
        if not isinstance(item, SourceEvent):
            frames.append(item)
            if item.index == 10:
                reading.stop()
    assert len(frames) == 11
    assert item == SourceEvent("ended", 0, "stopped")
    assert reading.counts.decoded == reading.counts.captured == 11


def test_bad_files(tmp_path):
    (tmp_path / "text.mp4").write_text("no video at all")
    (tmp_path / "empty.mkv").touch()
    Image.fromarray(draw(0)).save(tmp_path / "one.png")
    cases = {
        "nowhere.mp4": "nowhere.mp4",
        "text.mp4": "text.mp4",
        "empty.mkv": "0 bytes",
        "one.png": "one image, without a time axis",
        "*.jpg": r"\*\.jpg",
    }
    for name, message in cases.items():
        reading = open_reading(Source(str(tmp_path / name)), "it")
        items, error = collect(reading)
        assert isinstance(error, StreamOpenError)
        assert str(error).startswith("it: ")
        assert re.search(message, str(error))
        assert [item.state for item in items] == ["opening", "failed"]
        assert reading.counts.epochs == 0


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (object(), "is no source"),
        (None, "is no source"),
        (np.zeros((4, 4)), r"\(4, 4\)"),
        (np.zeros((0, 4, 4)), "no frame"),
    ],
)
def test_what_is_no_source(uri, message):
    with pytest.raises(StreamOpenError, match=message):
        list(open_reading(Source(uri), "it"))


def test_a_damaged_video_is_read_up_to_the_frame_that_does_not_decode(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", 40)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    middle = begin + (len(data) - begin) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    video = nf.open(path)
    readable, _ = video.read(errors="skip")
    first = next(number for number in range(40) if number not in readable)
    reading = open_reading(Source(str(path)), "it")
    items, error = collect(reading)
    frames = [item for item in items if not isinstance(item, SourceEvent)]
    assert re.match(f"it: frame {first}: .*does not decode", str(error))
    assert len(frames) == first == reading.counts.captured
    np.testing.assert_array_equal([frame.image for frame in frames], video[:first])
