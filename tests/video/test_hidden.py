"""Packets that show nothing, against what the decoder puts out."""

from __future__ import annotations

import av
import pytest
from av.bitstream import BitStreamFilterContext
from kit.videos import Recipe

from ndframes.video.hidden import HIDDEN
from ndframes.video.indexing import build_index

RECIPES = [
    Recipe("ivf", "vp8", damage="hidden", count=26),
    Recipe("ivf", "av1", damage="hidden", count=26),
    Recipe("mp4", "av1", count=26),
    # The last packet is the beginning of one.
    Recipe("obu", "av1", gop=1, damage="no-end", share=0.562),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_times_of_shown_packets_are_those_of_frames(tmp_path, recipe):
    path = str(recipe.make(tmp_path))
    shown, hidden, times = [], [], []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        is_hidden = HIDDEN[stream.codec_context.name]
        for packet in container.demux(stream):
            if packet.size:
                (hidden if is_hidden(memoryview(packet)) else shown).append(packet.pts)
            times.extend(frame.pts for frame in packet.decode())
    assert times == shown
    assert len(hidden) >= (recipe.damage != "")
    index = build_index(path)
    # So its frames need not be counted.
    assert index.has_exact_times
    assert index.times.tolist() == times


def test_parts_of_packets_of_vp9(tmp_path):
    """FFmpeg's writers put a frame that is not shown into the packet of the next one."""
    is_hidden = HIDDEN["vp9"]
    found = []
    with av.open(str(Recipe("ivf", "vp9", damage="hidden", count=26).make(tmp_path))) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        splitting = BitStreamFilterContext("vp9_superframe_split", stream)
        for packet in container.demux(stream):
            if packet.size:
                assert not is_hidden(memoryview(packet))
                found.extend(
                    (is_hidden(memoryview(part)), len(stream.decode(part))) for part in splitting.filter(packet)
                )
    assert sorted(found) == [(False, 1)] * 24 + [(True, 0)] * 2


def test_units_of_av1():
    is_hidden = HIDDEN["av1"]
    # A delimiter; then a frame: its header with a size, in two bytes for the last one, or with an extension and without a size.
    delimiter, shown, decoded, repeated = b"\x12\x00", b"\x32\x01\x10", b"\x32\x01\x20", b"\x1a\x81\x00\x80"
    for data, right in (
        (delimiter, True),
        (delimiter + decoded, True),
        (delimiter + decoded + shown, False),
        (delimiter + decoded + repeated, False),
        (delimiter + b"\x34\x00\x10\xff", False),
        (delimiter + b"\x34\x00\x20\xff", True),
        (delimiter + b"\x0a\x01\x18" + decoded, False),  # the headers of frames are reduced
        (delimiter + b"\x32\x80", True),  # cut
        (b"", True),
    ):
        assert is_hidden(memoryview(data)) is right, data


def test_a_damaged_packet_of_av1_is_a_frame_that_does_not_decode(tmp_path):
    """Its frame keeps its number, and so do those behind it."""
    path, spoilt = Recipe("mkv", "av1", count=26, gop=5).make(tmp_path), tmp_path / "spoilt.mkv"
    is_hidden, data = HIDDEN["av1"], path.read_bytes()
    times = build_index(str(path)).times.tolist()
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for number in (0, 3, 12, 25):
        packet = packets[number]
        for bit in (0x80, 0x01):
            changed = bytes((packet[0] ^ bit, *packet[1:]))
            assert not is_hidden(memoryview(changed))
            spoilt.write_bytes(data.replace(packet, changed))
            assert build_index(str(spoilt)).times.tolist() == times
