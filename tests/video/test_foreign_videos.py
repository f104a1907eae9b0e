"""Videos of containers that few programs write, without key frames, without an angle, and of very high rates."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from kit.every_frame import compare, decode_in_order
from kit.videos import Encoding, read_number

import ndframes as nf

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
