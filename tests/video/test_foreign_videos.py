"""Videos of containers that few programs write, without key frames, without an angle, and of very high rates."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from kit.every_frame import compare, decode_in_order
from kit.videos import Encoding, read_number

import ndframes as nf
from ndframes.video.libav import read_packets

FORMS = (None, "npy", "cog", "intra")
CONTAINERS = {
    "mpeg2.mxf": Encoding("mpeg2video", "yuv422p", options={"bf": "2"}),
    "h264.mxf": Encoding("libx264"),
    "a.y4m": Encoding("wrapped_avframe"),
    "a.dv": Encoding("dvvideo", "yuv411p", shape=(480, 720)),
    "a.rm": Encoding("rv10"),
    "a.mjpg": Encoding("mjpeg", "yuvj420p", container_format="mjpeg"),
    "a.m1v": Encoding("mpeg1video", options={"bf": "2"}, container_format="mpeg1video"),
    "a.divx": Encoding("mpeg4", options={"bf": "2"}, container_format="avi"),
    "a.f4v": Encoding("libx264", container_format="mp4"),
    # A name that does not say what is inside.
    "roq.mov": Encoding("roqvideo", "yuvj444p", container_format="roq"),
}
IDENTITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_frame_of_a_rare_container(tmp_path, name):
    path = tmp_path / name
    count = 5 if name == "a.dv" else 26
    CONTAINERS[name](path, count)
    found = compare(path, orders=("random", "backwards"), backends=(None, "intra"))
    assert found.is_exact, str(found)
    assert [read_number(frame.pixels) for frame in decode_in_order(path)] == list(range(count))


def test_a_video_without_key_frames_is_decoded_from_its_beginning(tmp_path):
    path = tmp_path / "a.roq"
    CONTAINERS["roq.mov"](path, 26)
    assert [read_number(frame) for frame in nf.read_video(path, [20, 3, 25])] == [20, 3, 25]
    assert nf.video_metadata(path).keyframes.tolist() == [0]


@pytest.mark.parametrize("numbers", [(0, 0, 0, 0), (0, 0, 0, 1 << 16), (1 << 16, 0, 0, 0)])
@pytest.mark.parametrize("table", [b"tkhd", b"mvhd"])
def test_a_matrix_without_an_angle_turns_nothing(tmp_path, table, numbers):
    path = tmp_path / "a.mp4"
    Encoding("libx264")(path, 4)
    data = path.read_bytes()
    place = data.index(IDENTITY, data.index(table))
    a, b, c, d = numbers
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:place] + matrix + data[place + len(matrix) :])
    assert nf.video_metadata(path).rotation == 0
    assert [read_number(frame) for frame in nf.read_video(path)] == list(range(4))


@pytest.mark.parametrize("rate", [1001, 3000])
def test_every_form_of_a_video_of_a_high_rate(tmp_path, monkeypatch, rate):
    path = tmp_path / "a.mp4"
    monkeypatch.setattr("kit.videos.RATE", rate)
    Encoding("libx264", time_base=Fraction(1, rate))(path, 26)
    assert nf.video_metadata(path).fps == rate
    found = compare(path, orders=("random",), backends=FORMS)
    assert found.is_exact, str(found)
    shown = np.stack([frame.pixels for frame in decode_in_order(path)])
    assert np.array_equal(nf.open(path, backend="intra", workdir=tmp_path / "work")[:], shown)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_times_of_a_rate_that_the_unit_of_the_container_does_not_hold(tmp_path, monkeypatch, name):
    path = tmp_path / name
    monkeypatch.setattr("kit.videos.RATE", 2000)
    Encoding("libx264" if name == "a.mkv" else "libvpx", time_base=Fraction(1, 2000))(path, 26)
    video = nf.open(path)
    assert not video.metadata.has_exact_times
    np.testing.assert_allclose(video.times, np.arange(26) / 2000, rtol=1e-12)
    assert video.metadata.is_constant_rate
    assert video.metadata.duration == 26 / 2000
    assert [read_number(frame) for frame in video.at_time(np.arange(26) / 2000 + 0.0001)] == list(range(26))


def test_a_first_frame_whose_time_is_behind_all_others(tmp_path):
    path = tmp_path / "a.mp4"
    Encoding("libx264", options={"bf": "2"})(path, 26)
    data = bytearray(path.read_bytes())
    place = data.index(b"ctts") + 4 + 4 + 4 + 4  # name, version, number of entries, count of the first one
    data[place : place + 4] = (1 << 24).to_bytes(4, "big")
    path.write_bytes(data)
    found = compare(path, orders=("random", "backwards"), backends=(None, "intra"))
    assert found.expected > 20
    assert found.is_exact, str(found)


def test_a_dv_file_that_ends_in_zeros(tmp_path):
    path = tmp_path / "a.dv"
    Encoding("dvvideo", shape=(576, 720))(path, 5)
    path.write_bytes(path.read_bytes() + bytes(1000))
    # FFmpeg finds no packet after the first seek. It makes a frame of the zeros, and of what lies in memory.
    assert len(nf.open(path)) == len(decode_in_order(path)) == 6
    assert [read_number(frame) for frame in nf.read_video(path, [4, 0, 3, 1, 2])] == [4, 0, 3, 1, 2]
    video = nf.open(path)
    assert [read_number(video[number]) for number in (4, 0, 3, 1, 2)] == [4, 0, 3, 1, 2]


def test_a_stream_that_begins_late(tmp_path):
    path = tmp_path / "a.flv"
    Encoding("flv", options={"qmin": "1", "qmax": "3"})(path, 26)
    data = path.read_bytes()
    at = 13  # behind the header
    tags = [data[:at]]
    while at < len(data):
        kind, size, rest = data[at], int.from_bytes(data[at + 1 : at + 4], "big"), data[at + 4 : at + 11]
        content = data[at + 11 : at + 11 + size] + bytes(500_000 if kind == 9 else 0)
        tags += [bytes([kind]), len(content).to_bytes(3, "big"), rest, content, (11 + len(content)).to_bytes(4, "big")]
        at += 15 + size
    # Sound behind everything that FFmpeg reads when it opens the file.
    sound = bytes([0x3F, *bytes(400)])
    tags += [
        b"\x08",
        len(sound).to_bytes(3, "big"),
        (1040).to_bytes(3, "big"),
        bytes(4),
        sound,
        (412).to_bytes(4, "big"),
    ]
    path.write_bytes(b"".join(tags))
    for _ in range(5):  # PyAV looks for the stream in memory that may hold anything
        assert [read_number(frame) for frame in nf.read_video(path, [20, 3, 25])] == [20, 3, 25]
        assert nf.video_metadata(path).frames == 26


def test_packets_of_streams_that_pyav_does_not_know():
    class Container:
        def demux(self, *streams):
            yield from streams
            raise IndexError("list index out of range")

    assert [*read_packets(Container(), "a", "b")] == ["a", "b"]
