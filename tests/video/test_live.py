"""LiveStream: what is shown of a stream, and how its end is told."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np
import pytest
from kit.numbered import RATE, Encoder, read_number, write_clip

from ndframes.errors import StreamOpenError
from ndframes.video.addresses import StreamAddress, find_address
from ndframes.video.live import LiveStream


def open_file(path, *, may_be_cut: bool = True, is_live: bool = True, **options) -> LiveStream:
    """A file as if it were sent."""
    address = StreamAddress(f"file:{path}", str(path), None, {}, is_live, may_be_cut)
    return LiveStream(address, **{"open_timeout": 20.0, "stall_timeout": 10.0, **options})


def numbers_of(stream: LiveStream) -> list[int | None]:
    return [read_number(frame.picture.to_ndarray(format="rgb24")) for frame in stream.frames() if frame.is_sound]


def write_packets(path, keep, *, count: int = 60, gop: int = 10, **encoder) -> None:
    """A transport stream of numbered pictures, with the packets for which ``keep(place, is_key)`` is true."""
    with av.open(str(path), "w", format="mpegts") as container:
        encoder = Encoder(container, gop=gop, **encoder)
        packets = []
        encoder.container = type("Sink", (), {"mux": staticmethod(packets.extend)})
        for number in range(count):
            encoder.add(number, number)
        encoder.finish()
        for place, packet in enumerate(packets):
            if keep(place, packet.is_keyframe):
                container.mux(packet)


# The decoder of MPEG-4 puts out whatever it makes of a frame without the ones that this refers to.
B_FRAMES = {"x264-params": "bframes=2:b-adapt=0:scenecut=0:keyint=10:min-keyint=10:open-gop=0"}
encoders = pytest.mark.parametrize(
    "encoder", [{}, {"codec": "mpeg4"}, {"options": B_FRAMES}], ids=["h264", "mpeg4", "b-frames"]
)


@encoders
def test_it_begins_with_a_key_frame(encoder, tmp_path):
    write_packets(tmp_path / "a.ts", lambda place, _: place >= 13, **encoder)
    with open_file(tmp_path / "a.ts", may_be_cut=False) as stream:
        assert numbers_of(stream) == list(range(20, 60))
    assert stream.ending.kind == "ended"


def test_frames_that_refer_to_what_was_before_the_key_frame_are_not_shown(tmp_path):
    """In an open group of pictures B-frames come after the key frame, and are shown before it."""
    options = {"x264-params": "open-gop=1:bframes=2:b-adapt=0:keyint=10:min-keyint=10:scenecut=0:rc-lookahead=0"}
    write_packets(tmp_path / "a.ts", lambda place, _: place >= 4, options=options)
    with open_file(tmp_path / "a.ts", may_be_cut=False) as stream:
        shown = numbers_of(stream)
    assert None not in shown
    assert shown == list(range(shown[0], 60))
    assert shown[0] >= 9


def test_a_decoder_that_shows_leading_frames_is_not_believed():
    """Those of an open group of pictures have no key frame's mark, and an earlier time."""

    @dataclass
    class Picture:
        pts: int | None
        key_frame: bool = False
        is_corrupt: bool = False

    with LiveStream(find_address("lavfi:color"), open_timeout=20, stall_timeout=20) as stream:
        stream._awaits_key, stream._key_pts = False, 100
        pictures = [Picture(98), Picture(99), Picture(100, key_frame=True), Picture(101), Picture(None)]
        assert [stream._judge(picture) for picture in pictures] == [False, False, True, True, True]


@encoders
def test_after_a_damaged_packet_nothing_is_shown_before_the_next_key_frame(encoder, tmp_path):
    path = tmp_path / "a.ts"
    write_packets(path, lambda *_: True, **encoder)
    data = bytearray(path.read_bytes())
    # Packets of 188 bytes that are lost leave a gap in the counter of their program.
    lost = len(data) // 188 // 2 * 188
    path.write_bytes(bytes(data[:lost] + data[lost + 188 * 5 :]))
    with open_file(path, may_be_cut=False) as stream:
        frames = [(frame.is_sound, read_number(frame.picture.to_ndarray(format="rgb24"))) for frame in stream.frames()]
    shown = [number for is_sound, number in frames if is_sound]
    # What was in the decoder when the damage came is not put out later.
    assert len(shown) == len(frames)
    assert None not in shown
    missing = sorted(set(range(60)) - set(shown))
    assert missing
    assert missing == list(range(missing[0], missing[-1] + 1))
    assert (missing[-1] + 1) % 10 == 0


def test_a_recording_is_read_to_its_last_frame_with_b_frames(tmp_path):
    write_clip(tmp_path / "a.mkv", 30, options={"bf": "2"})
    with open_file(tmp_path / "a.mkv", may_be_cut=False, is_live=False) as stream:
        assert numbers_of(stream) == list(range(30))
        assert stream.interval == 1 / RATE or abs(float(stream.interval) - 1 / RATE) < 1e-9


def test_a_decoder_is_not_flushed_at_a_cut(tmp_path):
    """What it still holds may refer to a packet that is half."""
    write_clip(tmp_path / "a.mkv", 30, options={"bf": "2"})
    with open_file(tmp_path / "a.mkv") as stream:
        shown = numbers_of(stream)
    assert shown == list(range(len(shown)))
    assert 20 < len(shown) < 30


def test_stamps_are_those_of_the_stream(tmp_path):
    write_packets(tmp_path / "a.ts", lambda *_: True)
    with open_file(tmp_path / "a.ts", may_be_cut=False) as stream:
        frames = list(stream.frames())
    steps = {float(later.stamp - earlier.stamp) for earlier, later in pairwise(frames)}
    assert steps == {0.04}
    assert stream.wall_time(frames[0].stamp) is None


def test_it_ends_when_it_is_told_to():
    stopped = threading.Event()
    address = find_address("lavfi:testsrc2=size=64x48:rate=25,realtime")
    with LiveStream(address, open_timeout=5, stall_timeout=5, is_stopped=stopped.is_set) as stream:
        for place, frame in enumerate(stream.frames()):
            assert frame.is_sound
            if place == 3:
                stopped.set()
        assert place == 3
    assert stream.ending.kind == "stopped"


@pytest.mark.parametrize("scheme", ["http", "rtsp", "tcp", "rtmp"])
def test_a_server_that_says_nothing(scheme):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"{scheme}://me:secret@127.0.0.1:{silent.getsockname()[1]}/x"
        began = time.monotonic()
        with pytest.raises(StreamOpenError, match="does not open") as caught:
            LiveStream(find_address(url), open_timeout=1, stall_timeout=1)
        assert time.monotonic() - began < 30
    assert "secret" not in str(caught.value)
    assert "within 1 s" in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "rtsp", "tcp", "rtmp"])
def test_a_port_where_nothing_listens(scheme):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(StreamOpenError, match="refused"):
            LiveStream(find_address(f"{scheme}://127.0.0.1:{port}/x"), open_timeout=20, stall_timeout=20)


def test_a_camera_that_is_not_there():
    with pytest.raises(
        StreamOpenError, match="camera /dev/video63 does not open: .*check that the camera is connected"
    ):
        LiveStream(find_address(63), open_timeout=5, stall_timeout=5)


def test_a_stream_without_video(tmp_path):
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(StreamOpenError, match="has no video; it has audio"):
        open_file(tmp_path / "a.wav")


def test_a_graph_that_is_none():
    with pytest.raises(StreamOpenError, match="check the graph of filters"):
        LiveStream(find_address("lavfi:nosuchfilter=1"), open_timeout=5, stall_timeout=5)
