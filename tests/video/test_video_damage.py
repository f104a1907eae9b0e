"""Damaged videos: a damaged frame is an error, and never shifts another."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from kit.videos import Encoding, list_clips

import ndframes as nf
from ndframes.system.handles import HandlePool
from ndframes.video.decoder import VideoDecoder
from ndframes.video.index import decode_all
from ndframes.video.indexing import build_index
from ndframes.video.planes import to_pixels
from ndframes.video.slices import are_slices_damaged

CLIPS = {clip.name: clip for clip in list_clips()}
# Of those of which the decoder notices what is done to them here.
NOTICED = [
    "plain.mp4",
    "plain.mkv",
    "long.mp4",
    "open.mp4",
    "fragmented.mp4",
    "uneven.mkv",
    "stream.ts",
    "h264.avi",
    "mpeg4.avi",
    "gray.mp4",
    "ten.mp4",
    "ffv1.mkv",
    "ffv1.avi",
    "sixteen.mkv",
    "alpha.mkv",
]

# Those that have one frame less where a whole packet is gone, since nothing says when its frame was to be shown.
SHORTENED = ["stream.ts", "h264.avi", "mpeg4.avi"]


def spoil(path: Path, number: int, how: str) -> None:
    """Damage the packet that comes as the ``number``-th in the file."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        content, position = bytes(packet), packet.pos
    data = bytearray(path.read_bytes())
    start = data.find(content[:48], position) if how == "zeros" or ".ts" not in path.suffix else position
    start = position if start < 0 else start
    if how == "zeros":
        data[start : start + len(content)] = bytes(len(content))
    else:
        for place in range(start + len(content) // 2, start + len(content) // 2 + 6):
            data[place] ^= 0xA5
    path.write_bytes(data)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The path of a clip of its own, its frames while it was whole."""
    folder = tmp_path_factory.mktemp("damaged")

    def make(name: str, tag: str):
        path = folder / f"{tag}-{name}"
        CLIPS[name].make(path)
        index = build_index(str(path))
        frames = np.stack([to_pixels(frame, is_gray=index.is_gray) for frame in decode_all(str(path), index.stream)])
        return path, frames

    return make


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, how) for name in NOTICED for how in ("zeros", "flips") if how == "flips" or name not in SHORTENED],
)
def test_what_is_read_was_stored(clip, tmp_path, name, how):
    """In every order, from every side: a frame is the one that was stored, or there is an error."""
    path, frames = clip(name, how)
    spoil(path, 40, how)
    video = nf.open(path, workdir=tmp_path)
    assert len(video) == len(frames)
    rng = np.random.default_rng(0)
    refused = {}
    # Backwards over the damage and the groups of frames beside it.
    for numbers in (range(100), range(64, 19, -1), rng.integers(0, 100, 30).tolist()):
        for number in numbers:
            try:
                pixels = video[number]
            except nf.UnreadableImageError as error:
                refused[number] = str(error)
            else:
                np.testing.assert_array_equal(pixels, frames[number], err_msg=str(number))
    assert refused, "no damage was noticed"
    assert all(f"frame {number} of 100 does not decode" in message for number, message in refused.items())
    keys = [*video.keyframes.tolist(), 100]
    away = 0 if len(keys) > 90 else 4  # a packet's place in the file is not its frame's where there are B-frames
    group = next(pair for pair in itertools.pairwise(keys) if pair[0] <= 40 < pair[1] + away)
    assert set(refused) <= set(
        range(group[0] - away, keys[keys.index(group[1]) + (name == "open.mp4")] if group[1] < 100 else 100)
    )


def test_damage_is_noticed_however_a_read_begins(tmp_path):
    """In one go from the first frame on, of which alone a decoder's guess must do, and from elsewhere."""
    path = tmp_path / "intra.mp4"
    photo = nf.open(nf.demo_paths()["coffee"])[...]
    nf.write_video(path, (photo[:240, 9 * number : 9 * number + 320] for number in range(20)), fps=10, intra=True)
    frames = nf.read_video(path, workdir=tmp_path)
    spoil(path, 12, "flips")
    index = build_index(str(path))
    assert index.keys.tolist() == list(range(20))
    for first in (0, 5):
        reader = VideoDecoder(str(path), index, HandlePool())
        found = {number: reader.to_pixels(frame) for number, frame in reader.decode(range(first, 20))}
        assert sorted(found) == [number for number in range(first, 20) if number != 12]
        assert all(np.array_equal(pixels, frames[number]) for number, pixels in found.items())


@pytest.mark.parametrize("name", ["plain.mp4", "mjpeg.avi"])
def test_the_nearest_stands_for_it(clip, tmp_path, name):
    path, frames = clip(name, "near")
    spoil(path, 40, "zeros")
    strict = nf.open(path, workdir=tmp_path)
    refused = []
    for number in range(100):
        try:
            strict[number]
        except nf.UnreadableImageError:
            refused.append(number)
    video = nf.open(path, workdir=tmp_path, frame_errors="nearest")
    got = np.asarray(video)
    there = np.array([number for number in range(100) if number not in refused])
    for number in range(100):
        nearest = there[np.abs(there - number).argmin()]
        np.testing.assert_array_equal(got[number], frames[nearest])
    np.testing.assert_array_equal(video[[99, *refused, 0]], got[[99, *refused, 0]])
    for backend in ("npy", "cog", "intra"):
        np.testing.assert_array_equal(nf.open(path, workdir=tmp_path, backend=backend, frame_errors="nearest")[:], got)


def test_frames_are_left_out(clip, tmp_path):
    path, frames = clip("plain.mp4", "skip")
    spoil(path, 40, "zeros")
    wanted = [99, 0, 40, 41, 7, 0, -1]
    numbers, pixels = nf.open(path, workdir=tmp_path).read(wanted, errors="skip")
    assert 0 < len(numbers) < len(wanted)
    assert {number % 100 for number in wanted} - set(numbers) <= set(range(36, 48))
    np.testing.assert_array_equal(pixels, frames[numbers])
    np.testing.assert_array_equal(nf.read_video(path, wanted, errors="skip", workdir=tmp_path), pixels)
    numbers, pixels = nf.open(path, workdir=tmp_path, frame_range=(30, 60)).read([9, 10, 29], errors="skip")
    assert 29 in numbers
    np.testing.assert_array_equal(pixels[-1], frames[59])
    with pytest.raises(nf.UnreadableImageError, match="does not decode"):
        nf.read_video(path, wanted, workdir=tmp_path)
    with pytest.raises(ValueError, match="errors='ignore'; allowed: 'raise', 'skip', 'nearest'"):
        nf.read_video(path, wanted, errors="ignore", workdir=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["h264", "h264 intra", "hevc", "av1", "mjpeg", "ffv1"])
def test_unnoticed_damage_stays_in_its_group_of_frames(tmp_path, codec):
    """Six bytes of one packet, at 25 places: other groups of frames keep their pixels, and all frames their numbers."""
    name, _, intra = codec.partition(" ")
    path, spoilt = tmp_path / "whole.mkv", tmp_path / "spoilt.mkv"
    photo = nf.open(nf.demo_paths()["coffee"])[...]
    pan = (photo[40 + number // 2 : 280 + number // 2, 2 * number : 2 * number + 320] for number in range(100))
    nf.write_video(path, pan, fps=10, codec=name, intra=bool(intra))
    video = nf.open(path, workdir=tmp_path)
    frames, keys, data = video[:], [*video.keyframes.tolist(), 100], path.read_bytes()
    with av.open(str(path)) as container:
        packets = [(packet.pts, bytes(packet)) for packet in container.demux(video=0) if packet.size]
    order = sorted(time for time, _ in packets)
    large = [packet for packet in packets if len(packet[1]) > 60]
    rng, counts = np.random.default_rng(0), {"noticed": 0, "unnoticed": 0, "harmless": 0}
    for _ in range(25):
        time, content = large[rng.integers(len(large))]
        place = data.index(content) + int(rng.integers(len(content) // 4, len(content) - 6))
        spoilt.write_bytes(data[:place] + bytes(byte ^ 0xA5 for byte in data[place : place + 6]) + data[place + 6 :])
        numbers, pixels = nf.open(spoilt, workdir=tmp_path).read(errors="skip")
        wrong = [
            number for number, found in zip(numbers, pixels, strict=True) if not np.array_equal(found, frames[number])
        ]
        counts["unnoticed" if wrong else "noticed" if len(numbers) < 100 else "harmless"] += 1
        start, stop = next(pair for pair in itertools.pairwise(keys) if pair[0] <= order.index(time) < pair[1])
        touched = set(range(100)) - set(numbers) | set(wrong)
        assert touched <= set(range(start - 8, stop))  # HEVC has frames that are shown before their key frame
    print(f"\n{codec}: {counts}")


# -- brightness alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["plain.mp4", "hevc.mp4", "vp9.webm", "ten.mp4", "odd.mp4", "turned1.mp4", "gray.mp4", "sixteen.mkv"]
)
def test_brightness_is_what_is_stored(clip, tmp_path, name):
    path, _ = clip(name, "gray")
    planes = []
    for frame in decode_all(str(path), 0):
        plane = frame.planes[0]
        dtype = np.uint16 if CLIPS[name].is_deep else np.uint8
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size).view(dtype)
        planes.append(np.rot90(rows[: frame.height, : frame.width], round(frame.rotation / 90)))
    wanted = np.stack(planes)[..., None]
    for backend in (None, "npy", "cog", "intra"):
        video = nf.open(path, workdir=tmp_path, pixel_format="gray", backend=backend)
        assert (video.channels, video.dtype) == (("gray",), wanted.dtype)
        np.testing.assert_array_equal(video[:], wanted)
    np.testing.assert_array_equal(nf.read_video(path, [7, 3], pixel_format="gray", workdir=tmp_path), wanted[[7, 3]])


def test_brightness_of_colours_is_made(clip, tmp_path):
    path, frames = clip("ffv1.mkv", "gray")
    video = nf.open(path, workdir=tmp_path, pixel_format="gray")
    weighed = frames.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(video[:][..., 0] - weighed).max() < 2


# -- the checksums of FFV1 --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coder", ["0", "1"])
@pytest.mark.parametrize("slices", ["1", "4"])
@pytest.mark.parametrize(("level", "has_checksums"), [("3", "1"), ("4", "1"), ("4", "-1"), ("3", "0")])
def test_checksums_of_slices(level, has_checksums, slices, coder):
    """What was written is whole, and a byte that changes anywhere is noticed; without checksums nothing is claimed."""
    options = {"level": level, "slicecrc": has_checksums, "slices": slices, "coder": coder, "strict": "experimental"}
    with av.open(io.BytesIO(), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=10, options=options, width=96, height=64, pix_fmt="yuv420p")
        stream.thread_count = 1
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 200, (64, 96, 3), np.uint8)
        packets = [bytes(packet) for packet in stream.encode(av.VideoFrame.from_ndarray(noise))]
        assert stream.codec_context.extradata
    for packet in packets:
        assert not are_slices_damaged(packet)
        for place in rng.choice(len(packet), 60).tolist():
            damaged = bytearray(packet)
            damaged[place] ^= int(rng.integers(1, 256))
            if has_checksums != "0":
                assert are_slices_damaged(bytes(damaged)), place
            elif place < len(packet) // 8:  # in the first slice, not in its size
                assert not are_slices_damaged(bytes(damaged))
        assert are_slices_damaged(packet[:-1])


def test_a_damaged_frame_that_none_refers_to_spoils_no_other_in_any_order(tmp_path):
    """Frames after it decode if it is skipped. Whether it is must not depend on what was read before."""
    path = tmp_path / "a.mp4"
    Encoding("libx264", options={"bf": "2", "b-pyramid": "none"}, gop=12)(path, 40)
    right = nf.read_video(path)
    with av.open(str(path)) as container:
        # The frames that others refer to have another mark in the first byte after the length.
        packets = [(packet.pos, packet.size, bytes(packet)[4]) for packet in container.demux(video=0) if packet.size]
    unreferenced = [place for place, (_, _, head) in enumerate(packets) if place > 12 and not head >> 5 & 3]
    assert len(unreferenced) > 5
    data = path.read_bytes()
    for place in unreferenced[:6]:
        start, size, _ = packets[place]
        path.write_bytes(data[: start + 5] + bytes(size - 5) + data[start + size :])
        video = nf.open(path)
        numbers, pixels = video.read(errors="skip")
        assert len(numbers) == 39
        assert np.array_equal(pixels, right[numbers])
        (lost,) = set(range(40)) - set(numbers)
        assert np.array_equal(video[[*numbers]], pixels)
        for number in (*range(lost), *range(39, lost, -1)):
            assert np.array_equal(video[number], right[number])
        with pytest.raises(nf.UnreadableImageError, match=f"frame {lost} of 40 does not decode"):
            video[lost]
        _, patched = video.read(errors="nearest")
        assert np.array_equal(patched, right[[*range(lost), lost - 1, *range(lost + 1, 40)]])
