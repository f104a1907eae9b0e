"""Every frame of every kind of video is found: against decoding from the beginning, and by the number that it carries."""

from __future__ import annotations

import numpy as np
import pytest
from kit.videos import Clip, list_clips, read_number

from ndframes.system.handles import HandlePool
from ndframes.video import cursor
from ndframes.video.decoder import VideoDecoder
from ndframes.video.index import decode_all, decode_packet
from ndframes.video.indexing import build_index
from ndframes.video.planes import to_pixels

CLIPS = list(list_clips())


@pytest.fixture(scope="module")
def clip_of(tmp_path_factory):
    """A clip's path and its frames, as decoding from the beginning shows them."""
    folder, made = tmp_path_factory.mktemp("clips"), {}

    def make(clip: Clip):
        if clip.name not in made:
            path = folder / clip.name
            clip.make(path)
            index = build_index(str(path))
            frames = np.stack(
                [to_pixels(frame, is_gray=index.is_gray) for frame in decode_all(str(path), index.stream)]
            )
            made[clip.name] = str(path), frames
        return made[clip.name]

    return make


def read(video, numbers):
    """Frames in the order of ``numbers``."""
    found = dict(video.frames(numbers))
    return np.stack([found[number] for number in numbers])


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_200_random_accesses_give_no_wrong_frame(clip_of, clip):
    path, frames = clip_of(clip)
    index = build_index(path)
    assert len(index) == len(frames) == clip.count
    upright = [np.rot90(frame, clip.turns) for frame in frames]  # back by as many quarters as it was turned clockwise
    assert [read_number(frame) for frame in upright] == list(range(clip.first, clip.first + clip.count))
    assert frames.dtype == (np.uint16 if clip.is_deep else np.uint8)
    assert frames.shape[3] == (1 if clip.is_gray else 4 if clip.has_alpha else 3)
    video = VideoDecoder(path, index, HandlePool())
    random = np.random.default_rng(0)
    patterns = [random.integers(0, len(frames), 1).tolist() for _ in range(120)]
    patterns += [random.integers(0, len(frames), 20).tolist() for _ in range(10)]
    patterns += [
        list(range(len(frames))),
        list(range(len(frames)))[::-1],
        list(range(3, len(frames), 7)),
        [0, len(frames) - 1],
    ]
    for numbers in patterns:
        got = read(video, numbers)
        np.testing.assert_array_equal(got, frames[numbers])


def count_sent(monkeypatch) -> list[int]:
    """The times of the packets that are given to decoders from now on."""
    sent = []

    def note(packet, *options):
        sent.append(packet.pts)
        return decode_packet(packet, *options)

    monkeypatch.setattr(cursor, "decode_packet", note)
    return sent


def test_a_decoder_takes_in_no_packet_twice_on_its_way_and_few_for_a_single_frame(clip_of, monkeypatch):
    (clip,) = [clip for clip in CLIPS if clip.name == "plain.mp4"]
    path, frames = clip_of(clip)
    video = VideoDecoder(path, build_index(path), HandlePool(), frame_bytes=0)
    sent = count_sent(monkeypatch)
    read(video, range(20, 70))
    assert len(sent) == len(set(sent)) <= 12 + 50 + 4
    sent.clear()
    for number in range(20, 70):
        np.testing.assert_array_equal(video.frame(number), frames[number])
    assert len(sent) == len(set(sent)) <= 12 + 50 + 4
    sent.clear()
    read(video, [12 * gop for gop in range(8)])  # key frames: each but the last is given out before the next packet
    assert len(sent) <= 8 + 2
    sent.clear()
    for number in (60, 12, 84, 24, 72, 36):
        np.testing.assert_array_equal(video.frame(number), frames[number])
    assert len(sent) <= 2 * 4 + 4  # after two of them it is plain that there is no order


def test_a_caller_that_stops_early_leaves_the_decoder_usable(clip_of, monkeypatch):
    (clip,) = [clip for clip in CLIPS if clip.name == "plain.mp4"]
    path, frames = clip_of(clip)
    pool = HandlePool()
    video = VideoDecoder(path, build_index(path), pool)
    for number, _ in video.decode(range(30, 90)):
        if number == 40:
            break
    monkeypatch.setattr(cursor, "open_container", None)  # not needed once more
    got = read(video, [41, 42])
    np.testing.assert_array_equal(got, frames[41:43])
