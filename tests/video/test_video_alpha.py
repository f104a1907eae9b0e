"""The transparency of VP8 and VP9 is decoded, held against FFmpeg's own decoder of the packets that store it."""

from __future__ import annotations

import gc
import logging
from fractions import Fraction

import av
import numpy as np
import pytest
from kit.stored import plane_of

import ndframes as nf
from ndframes.video import alpha
from ndframes.video.alpha import open_alpha_decoder, stores_alpha_aside
from ndframes.video.planes import to_pixels

SHAPE = (64, 96)
COUNT = 20
FILES = [("vp9.webm", "libvpx-vp9"), ("vp8.webm", "libvpx"), ("vp9.mkv", "libvpx-vp9"), ("vp8.mkv", "libvpx")]


def write_alpha(path, codec: str, pixel_format: str = "yuva420p") -> str:
    options = {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "1000000", "auto-alt-ref": "0"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = SHAPE
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size, stream.codec_context.thread_count = 6, 1
        for number in range(COUNT):
            pixels = np.full((*SHAPE, 4), 255, np.uint8)
            pixels[:, :, :3] = 40 + 8 * number
            pixels[:, : 4 * number + 4, 3] = 0
            pixels[:16, :, 3] = 12 * number
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    del container, stream, frame
    gc.collect()  # ends the encoder's threads now: a forked child that freed it would wait for them for ever
    return str(path)


def decode_apart(path: str) -> list[np.ndarray]:
    """Colours and transparency ``(height, width, 4)``, each by FFmpeg's own decoder."""
    pictures = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        other = av.CodecContext.create(stream.codec_context.codec.canonical_name, "r")
        stream.thread_count = other.thread_count = 1
        for packet in container.demux(stream):
            for frame in packet.decode():
                (side,) = [item for item in packet.iter_sidedata() if item.data_type == "matroska_block_additional"]
                (mask,) = other.decode(av.Packet(bytes(side)[8:]))  # after the number of the addition
                pixels = frame.to_ndarray(format="rgb24", threads=1)
                pictures.append(np.concatenate([pixels, plane_of(mask)[:, :, None]], axis=2))
    return pictures


@pytest.mark.parametrize(("name", "codec"), FILES)
def test_transparency_is_what_its_own_packets_hold(tmp_path, name, codec):
    path = write_alpha(tmp_path / name, codec)
    expected = decode_apart(path)
    assert len(expected) == COUNT
    assert expected[5][40, 2, 3] < 8
    with av.open(path) as container:
        stream = container.streams.video[0]
        decoder = open_alpha_decoder(stream, path)
        found, keys = [], []
        for _ in range(2):
            for packet in container.demux(stream):
                for frame in decoder.decode(packet):
                    found.append(to_pixels(frame))
                    keys.append(frame.key_frame)
                    assert frame.pts == packet.pts
            container.seek(0, stream=stream)
            decoder.flush_buffers()
        assert keys == [number % 6 == 0 for number in range(COUNT)] * 2
        np.testing.assert_array_equal(found, expected + expected)


@pytest.mark.parametrize(("name", "codec"), FILES)
def test_every_frame_has_its_transparency_by_every_way_in(tmp_path, name, codec):
    path = write_alpha(tmp_path / name, codec)
    expected = np.stack(decode_apart(path))
    np.testing.assert_array_equal(nf.read_video(path, workdir=tmp_path), expected)
    for number, backend in enumerate([None, "npy", {"type": "cog", "config": {"blocksize": 64}}, "intra"]):
        video = nf.open(path, workdir=tmp_path / str(number), backend=backend)
        assert (video.shape, video.dtype) == (expected.shape, np.uint8)
        order = [*range(COUNT)][::-1] + np.random.default_rng(number).integers(0, COUNT, 2 * COUNT).tolist()
        for one in order:
            np.testing.assert_array_equal(video[one], expected[one])
        np.testing.assert_array_equal(video[[7, 3, 7, 19]], expected[[7, 3, 7, 19]])
        part = nf.open(path, workdir=tmp_path / str(number), backend=backend, frame_range=(5, 9))
        np.testing.assert_array_equal(part[:, 3:9, ::2, 3:], expected[5:9, 3:9, ::2, 3:])
    gray = nf.open(path, workdir=tmp_path, pixel_format="gray")
    with av.open(path) as container:
        right = [plane_of(frame)[:, :, None] for frame in container.decode(video=0)]
    np.testing.assert_array_equal(gray[:], right)


def test_damage_of_transparent_videos_is_found(tmp_path):
    path = write_alpha(tmp_path / "a.webm", "libvpx-vp9")
    expected = decode_apart(path)
    with av.open(path) as container:
        packet = next(packet for packet in container.demux(video=0) if packet.pts == 7 * 40)
        data, damaged = (tmp_path / "a.webm").read_bytes(), bytes(packet)
    assert data.count(damaged) == 1
    (tmp_path / "b.webm").write_bytes(data.replace(damaged, bytes(len(damaged))))
    video = nf.open(tmp_path / "b.webm", workdir=tmp_path)
    for number in (7, 8, 11):  # until the next key frame
        with pytest.raises(nf.UnreadableImageError, match=rf"b\.webm: frame {number} of {COUNT} does not decode"):
            video[number]
    for number in (12, 19, 6, 0):
        np.testing.assert_array_equal(video[number], expected[number])


def test_other_streams_have_no_second_decoder(tmp_path):
    path = write_alpha(tmp_path / "a.webm", "libvpx-vp9", "yuv420p")
    with av.open(path) as container:
        assert not stores_alpha_aside(container.streams.video[0])
        assert open_alpha_decoder(container.streams.video[0], path) is None


def test_without_libvpx_the_loss_is_logged_once(tmp_path, monkeypatch, caplog):
    path = write_alpha(tmp_path / "a.webm", "libvpx-vp9")
    monkeypatch.setattr(alpha, "_DECODERS", {"vp9": "libvpx-missing"})
    with caplog.at_level(logging.WARNING), av.open(path) as container:
        for _ in range(3):
            assert open_alpha_decoder(container.streams.video[0], path) is None
        assert nf.open(path, workdir=tmp_path).shape == (COUNT, *SHAPE, 3)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(
        f"{path} stores transparency, which is not read, since this FFmpeg has no decoder libvpx-missing"
    )
