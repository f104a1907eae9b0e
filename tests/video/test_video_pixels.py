"""What the pixels of a frame are: changes in mid-stream, brightness as stored, odd formats and colour matrices, by every way in."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from kit.stored import fill_randomly, plane_of, write_packets

import ndframes as nf
from ndframes.entries import frame_index
from ndframes.entries.estimates import advise, estimate_forms
from ndframes.video.index import FrameForm
from ndframes.video.indexing import build_index

SHAPE = (64, 96)
BACKENDS = [None, "npy", {"type": "cog", "config": {"blocksize": 64, "overviews": False}}, "intra"]
COUNT = 6


def draw(count: int, seed: int, shape=SHAPE) -> list[np.ndarray]:
    """Smooth random pictures: RGBA of 16 bits, so that every format holds something of its own."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 65536, (count, shape[0] // 16, shape[1] // 16, 4), dtype=np.uint16)
    return [np.ascontiguousarray(picture.repeat(16, 0).repeat(16, 1)) for picture in coarse]


def frames_of(pixel_format: str, seed: int, shape=SHAPE, tone: int = 0, matrix: int = 2) -> list[av.VideoFrame]:
    made = []
    for pixels in draw(COUNT, seed, shape):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgba64le").reformat(
            format=pixel_format, dst_color_range=tone or None, threads=1
        )
        frame.color_range, frame.colorspace = tone, matrix
        made.append(frame)
    return made


def write_h264(path: Path, *parts: list[av.VideoFrame], rotation: int = 0) -> str:
    """Raw H.264 of several parts, each of its own encoder; the last one rotated by a message in the stream."""
    streams = []
    for number, frames in enumerate(parts):
        name = path.with_suffix(f".{number}.h264")
        with av.open(str(name), "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "10"})
            context = stream.codec_context
            stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
            context.thread_count, context.gop_size = 1, 3
            context.color_range, context.colorspace = frames[0].color_range, frames[0].colorspace
            for place, frame in enumerate(frames):
                frame.pts, frame.time_base = place, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if rotation and number == len(parts) - 1:
            turned = path.with_suffix(".turned.h264")
            with av.open(str(name)) as source, av.open(str(turned), "w", format="h264") as target:
                held = source.streams.video[0]
                stream = target.add_stream_from_template(held)
                options = f"h264_metadata=display_orientation=insert:rotate={rotation}"
                filters = av.bitstream.BitStreamFilterContext(options, held)
                for packet in source.demux(held):
                    for changed in filters.filter(packet if packet.size else None):
                        changed.stream = stream
                        target.mux(changed)
            name = turned
        streams.append(name.read_bytes())
    path.write_bytes(b"".join(streams))
    return str(path)


def decode(path: str) -> list[av.VideoFrame]:
    """The frames, decoded from the beginning."""
    with av.open(path) as container:
        container.streams.video[0].thread_count = 1
        return list(container.decode(video=0))


def show(frame: av.VideoFrame, target: str) -> np.ndarray:
    """A frame as FFmpeg shows it, by a converter that has seen no other frame."""
    pixels = av.video.reformatter.VideoReformatter().reformat(frame, format=target, threads=1).to_ndarray()
    pixels = np.rot90(pixels, round(frame.rotation / 90) % 4)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


FORMS = {"uint8": {1: "gray", 3: "rgb24", 4: "rgba"}, "uint16": {1: "gray16le", 3: "rgb48le", 4: "rgba64le"}}


def check_every_way(path: str, tmp_path: Path, expected: np.ndarray, **options) -> None:
    """Hold every cached form, and reads in several orders, against ``expected``."""
    count = len(expected)
    assert len({frame.tobytes() for frame in expected}) == count
    for number, backend in enumerate(BACKENDS):
        video = nf.open(path, workdir=tmp_path / f"w{number}", backend=backend, **options)
        assert (video.shape, video.dtype) == (expected.shape, expected.dtype)
        order = [*range(count)][::-1] + np.random.default_rng(number).integers(0, count, 2 * count).tolist()
        for one in order:
            np.testing.assert_array_equal(video[one], expected[one], err_msg=f"{backend}, frame {one}")
        np.testing.assert_array_equal(video[:], expected)
    np.testing.assert_array_equal(nf.read_video(path, workdir=tmp_path, **options), expected)


ALIKE = {
    "10 bits, then 8": (("yuv420p10le",), ("yuv420p",)),
    "8 bits, then 10": (("yuv420p",), ("yuv420p10le",)),
    "10 bits, then 8 of 4:4:4": (("yuv422p10le",), ("yuv444p",)),
    "4:2:0, then 4:4:4": (("yuv420p",), ("yuv444p",)),
    "4:2:2, then 4:2:0": (("yuv422p",), ("yuv420p",)),
    "limited, then full": (("yuv420p", 1), ("yuv420p", 2)),
    "full, then limited": (("yuv444p", 2), ("yuv444p", 1)),
    "BT.709, then BT.601": (("yuv420p", 1, 1), ("yuv420p", 1, 6)),
    "BT.601, then BT.2020 of 10 bits full": (("yuv420p10le", 1, 6), ("yuv420p10le", 2, 9)),
    "colour, then gray": (("yuv420p",), ("gray",)),
}


@pytest.mark.parametrize("case", ALIKE)
def test_a_change_in_mid_stream_that_the_form_holds(tmp_path, case):
    first, second = (frames_of(name, seed, SHAPE, *rest) for seed, (name, *rest) in enumerate(ALIKE[case]))
    path = write_h264(tmp_path / "a.h264", first, second)
    frames = decode(path)
    assert len(frames) == 2 * COUNT
    is_deep = any("10" in part[0] for part in ALIKE[case])  # the video has the dtype of the widest frame
    target = "rgb48le" if is_deep else "rgb24"
    check_every_way(path, tmp_path, np.stack([show(frame, target) for frame in frames]))


@pytest.mark.parametrize("case", ["10 bits, then 8", "4:2:0, then 4:4:4", "limited, then full"])
def test_brightness_stays_the_stored_value(tmp_path, case):
    first, second = (frames_of(name, seed, SHAPE, *rest) for seed, (name, *rest) in enumerate(ALIKE[case]))
    path = write_h264(tmp_path / "a.h264", first, second)
    dtype = np.uint16 if "10" in case else np.uint8
    expected = np.stack([plane_of(frame)[:, :, None].astype(dtype) for frame in decode(path)])
    check_every_way(path, tmp_path, expected, pixel_format="gray")


def test_a_rotation_in_mid_stream(tmp_path):
    path = write_h264(tmp_path / "a.h264", frames_of("yuv420p", 0), frames_of("yuv420p", 1), rotation=180)
    frames = decode(path)
    assert {round(frame.rotation) % 360 for frame in frames} == {0, 180}
    check_every_way(path, tmp_path, np.stack([show(frame, "rgb24") for frame in frames]))
    square = (64, 64)
    path = write_h264(
        tmp_path / "b.h264", frames_of("yuv420p", 2, square), frames_of("yuv420p", 3, square), rotation=90
    )
    frames = decode(path)
    assert {round(frame.rotation) % 180 for frame in frames} == {0, 90}
    check_every_way(path, tmp_path / "b", np.stack([show(frame, "rgb24") for frame in frames]))


@pytest.mark.parametrize("tones", [(1, 2), (2, 1)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_parameters_that_change_where_others_rely_on_the_header(tmp_path, name, tones):
    """The second part has parameters in its packets, which a decoder keeps when it goes back to the first."""
    parts = [frames_of("yuv420p", tone, tone=tone) for tone in tones]
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        other: av.VideoCodecContext = av.CodecContext.create("libx264", "w")
        other.time_base = Fraction(1, 25)
        for context, frames in zip((stream.codec_context, other), parts, strict=True):
            context.width, context.height, context.pix_fmt, context.gop_size = SHAPE[1], SHAPE[0], "yuv420p", 3
            context.color_range, context.thread_count = frames[0].color_range, 1
            context.options = {"preset": "ultrafast", "crf": "10"}
        for part, (encoder, frames) in enumerate(zip((stream, other), parts, strict=True)):
            for number, frame in enumerate([*frames, None]):
                if frame is not None:
                    frame.pts, frame.time_base = part * COUNT + number, Fraction(1, 25)
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, Fraction(1, 25)
                    container.mux(packet)
    path = str(tmp_path / name)
    frames = decode(path)
    assert len(frames) == 2 * COUNT
    assert build_index(path).needs_new_decoder
    check_every_way(path, tmp_path, np.stack([show(frame, "rgb24") for frame in frames]))


DIFFERENT = {
    "another size": (
        ("yuv420p", SHAPE),
        ("yuv420p", (32, 96)),
        0,
        r"32 x 96 px .*, 3 channels, uint8, stored as yuv420p",
    ),
    "a larger size": (
        ("yuv420p", SHAPE),
        ("yuv420p", (96, 128)),
        0,
        r"96 x 128 px .*, 3 channels, uint8, stored as yuv420p",
    ),
    "rotated": (("yuv420p", SHAPE), ("yuv420p", SHAPE), 90, r"96 x 64 px .*, 3 channels, uint8, stored as yuv420p"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_change_that_the_form_does_not_hold_is_an_error_that_tells_both(tmp_path, case):
    (one, shape), (other, other_shape), rotation, told = DIFFERENT[case]
    first, second = frames_of(one, 0, shape), frames_of(other, 1, other_shape)
    path = write_h264(tmp_path / "a.h264", first, second, rotation=rotation)
    expected = np.stack([show(frame, "rgb24") for frame in decode(path)[:COUNT]])
    told = rf"a\.h264: frame {COUNT} is {told}; the first frame is 64 x 96 px \(height x width\), 3 channels, uint8"
    video = nf.open(path, workdir=tmp_path)
    for read in (lambda: video[COUNT], lambda: nf.read_video(path, [COUNT], workdir=tmp_path)):
        with pytest.raises(nf.UnreadableImageError, match=told):
            read()
    for number in range(COUNT)[::-1]:
        np.testing.assert_array_equal(video[number], expected[number])
    for backend in BACKENDS[1:]:
        with pytest.raises(nf.NdframesError, match=rf"a\.h264: frame {COUNT} is .*the first frame is 64 x 96 px"):
            nf.open(path, workdir=tmp_path / "more", backend=backend)[0]


@pytest.mark.parametrize(("bands", "dtype"), [(3, "uint16"), (4, "uint8"), (4, "uint16")])
def test_an_index_may_know_that_later_frames_need_more(tmp_path, monkeypatch, bands, dtype):
    path = write_h264(tmp_path / "a.h264", frames_of("yuv420p", 0), frames_of("yuv444p", 1, tone=2))
    form = FrameForm((*SHAPE, bands), np.dtype(dtype))
    monkeypatch.setattr(
        frame_index, "build_index", lambda *args, **options: replace(build_index(*args, **options), form=form)
    )
    frames = decode(path)
    expected = np.stack([show(frame, FORMS[dtype][bands]) for frame in frames])
    check_every_way(path, tmp_path, expected)
    gray = np.stack([plane_of(frame)[:, :, None].astype(dtype) for frame in frames])
    check_every_way(path, tmp_path / "gray", gray, pixel_format="gray")


@pytest.mark.parametrize("parts", [("gray10le",), ("gray10le", "gray"), ("gray", "gray10le")], ids="-".join)
def test_brightness_of_10_bits_in_h264_fills_the_range(tmp_path, parts):
    path = write_h264(tmp_path / "a.h264", *(frames_of(name, number) for number, name in enumerate(parts)))
    frames = decode(path)  # as YUV
    stored = np.stack([plane_of(frame).astype(np.uint16) for frame in frames])[:, :, :, None]
    # The highest bits are repeated below the lowest one, as FFmpeg does with gray.
    scaled = [
        a << 6 | a >> 4 if frame.format.name == "yuv420p10le" else a * 257
        for a, frame in zip(stored, frames, strict=True)
    ]
    check_every_way(path, tmp_path, np.stack(scaled))
    check_every_way(path, tmp_path / "gray", stored, pixel_format="gray")


def test_a_gray_video_that_gets_colours_is_an_error(tmp_path):
    path = write_h264(tmp_path / "a.h264", frames_of("gray", 0), frames_of("yuv420p", 1))
    video = nf.open(path, workdir=tmp_path)
    assert video.shape == (2 * COUNT, *SHAPE, 1)
    np.testing.assert_array_equal(video[COUNT - 1][:, :, 0], plane_of(decode(path)[COUNT - 1]))
    with pytest.raises(nf.UnreadableImageError, match=rf"a\.h264: frame {COUNT + 1} has colours, but the video begins"):
        video[COUNT + 1]
    gray = nf.open(path, workdir=tmp_path, pixel_format="gray")
    with pytest.raises(nf.UnreadableImageError, match="has colours"):
        gray[COUNT + 1]


PICTURES = ["rgba64be", "rgb48be", "ya16be", "gray16be", "rgba", "rgb24", "ya8", "gray"]


@pytest.mark.parametrize("name", ["a.mov", "a.avi"])
@pytest.mark.parametrize("first", ["rgba64be", "rgba", "rgb48be", "rgb24", "gray16be"])
def test_pictures_of_any_kind_after_each_other(tmp_path, name, first):
    kinds = [first, *PICTURES]
    frames = [frames_of(kind, number)[0] for number, kind in enumerate(kinds)]
    write_packets(tmp_path / name, [("png", [frame], {}) for frame in frames])
    path = str(tmp_path / name)
    video = nf.open(path, workdir=tmp_path)
    # The form of the widest: some have alpha, some 16 bits.
    assert (video.shape, video.dtype) == ((len(kinds), *SHAPE, 4), np.uint16)
    frames = decode(path)
    assert [frame.format.name for frame in frames] == kinds
    for number in np.random.default_rng(0).permutation(2 * len(kinds)) % len(kinds):
        np.testing.assert_array_equal(video[int(number)], show(frames[number], "rgba64le"))


STORED = [
    ("a.mov", "png", "gray16be"),
    ("a.avi", "png", "ya16be"),
    ("a.avi", "rawvideo", "uyvy422"),
    ("a.mov", "rawvideo", "yuyv422"),
    ("a.avi", "rawvideo", "y210le"),
    ("a.mkv", "rawvideo", "xv30le"),
    ("a.avi", "rawvideo", "vuya"),
    ("a.avi", "rawvideo", "nv21"),
    ("a.mkv", "ffv1", "gray10le"),
    ("a.mkv", "ffv1", "yuva444p10le"),
    ("a.mov", "v210", "yuv422p10le"),
    ("a.mov", "v410", "yuv444p10le"),
    ("a.mov", "v408", "yuva444p"),
    ("nut.mkv", "rawvideo", "gray10be"),
    ("nut.mkv", "rawvideo", "yuv420p10be"),
    ("nut.mkv", "rawvideo", "monow"),
    ("nut.mkv", "rawvideo", "ya8"),
]


@pytest.mark.parametrize(("name", "codec", "pixel_format"), STORED, ids=str)
def test_gray_is_the_stored_value_by_every_way_in(tmp_path, name, codec, pixel_format):
    frames = frames_of(pixel_format, 5)[:3]
    # The encoder takes planar frames as they are; their brightness is what FFmpeg stores in packed ones, too.
    tone = 2 if pixel_format.startswith(("gray", "ya", "mono")) else 1
    bits = frames[0].format.components[0].bits
    planar = "gray" if bits == 1 else "yuv444p" if bits == 8 else f"yuv444p{bits}le"
    right = [frame.reformat(format=planar, src_color_range=tone, dst_color_range=tone, threads=1) for frame in frames]
    expected = np.stack([plane_of(frame)[:, :, None] for frame in right])
    path = tmp_path / name
    # FFmpeg recognises a container by its content; NUT holds any pixel format.
    write_packets(path, [(codec, frames, {})], "nut" if name.startswith("nut") else None)
    assert nf.read_video(path, pixel_format="gray", workdir=tmp_path).dtype == expected.dtype
    np.testing.assert_array_equal(nf.read_video(path, pixel_format="gray", workdir=tmp_path), expected)
    for number, backend in enumerate(BACKENDS):
        workdir = tmp_path / str(number)
        video = nf.open(path, pixel_format="gray", workdir=workdir, backend=backend)
        np.testing.assert_array_equal(video[[2, 0]], expected[[2, 0]])
        channel = nf.ChannelInfo(str(path), pixel_format="gray", channels="y", page=1)
        images = nf.SimpleFrames({"a": channel}, workdir=workdir, backend=backend)
        np.testing.assert_array_equal(images.load_image("a"), expected[1])


@pytest.mark.parametrize("pixel_format", ["gbrpf32le", "gbrapf32le", "grayf32le"])
def test_floats_are_not_cut_to_integers(tmp_path, pixel_format):
    frames = []
    for number in range(3):
        frame = av.VideoFrame(*SHAPE[::-1], pixel_format)
        for plane in frame.planes:
            values = np.random.default_rng(plane.index if hasattr(plane, "index") else number).standard_normal(SHAPE)
            rows = np.zeros((SHAPE[0], plane.line_size // 4), np.float32)
            rows[:, : SHAPE[1]] = 50 * values + number
            plane.update(rows.tobytes())
        frames.append(frame)
    path = tmp_path / "a.mov"
    write_packets(path, [("exr", frames, {})])
    order = {1: [0], 3: [2, 0, 1], 4: [2, 0, 1, 3]}[len(frames[0].planes)]
    planes = [
        [np.frombuffer(plane, np.float32).reshape(SHAPE[0], -1)[:, : SHAPE[1]] for plane in frame.planes]
        for frame in frames
    ]
    expected = np.stack([np.stack([held[place] for place in order], axis=2) for held in planes])
    for backend in BACKENDS[:3]:
        video = nf.open(path, workdir=tmp_path, backend=backend)
        assert (video.shape, video.dtype) == (expected.shape, np.float32)
        np.testing.assert_array_equal(video[[2, 0, 1]], expected[[2, 0, 1]])
    with pytest.raises(nf.BackendError, match=r"a\.mov has pixels of float32, which 'intra' does not store"):
        nf.open(path, workdir=tmp_path, backend="intra")[0]
    half = nf.SimpleFrames({"a": path}, workdir=tmp_path, backend="cog").load_region("a", 1, scale=0.5)
    np.testing.assert_allclose(half, expected[1].reshape(32, 2, 48, 2, -1).mean((1, 3)), atol=1e-4)
    forms = estimate_forms(nf.SimpleFrames({"a": path}, workdir=tmp_path, backend=None).image("a").reader)
    assert [form.form for form in forms] == ["none", "cog", "npy"]
    assert advise(forms)


def write_matrix(path: Path, matrix: int, pixel_format: str) -> str:
    frames = frames_of(pixel_format, 7, tone=1, matrix=matrix)
    attributes = {"colorspace": matrix, "color_range": 1, "options": {"preset": "ultrafast", "crf": "10"}}
    write_packets(path, [("libx264", frames, attributes)])
    return str(path)


@pytest.mark.parametrize(
    ("matrix", "pixel_format"),
    [(8, "yuv420p"), (10, "yuv420p"), (14, "yuv420p"), (10, "yuv444p10le"), (11, "yuv444p10le"), (13, "yuv444p")],
)
def test_a_matrix_that_ffmpeg_does_not_convert_is_replaced_and_logged_once(tmp_path, caplog, matrix, pixel_format):
    path = write_matrix(tmp_path / "a.mp4", matrix, pixel_format)
    frames = decode(path)
    assert {int(frame.colorspace) for frame in frames} == {matrix}
    brightness = np.stack([plane_of(frame)[:, :, None] for frame in frames])
    for frame in frames:
        frame.colorspace = 9 if matrix == 10 else 2
    target = "rgb48le" if "10" in pixel_format else "rgb24"
    with caplog.at_level(logging.WARNING):
        check_every_way(path, tmp_path, np.stack([show(frame, target) for frame in frames]))
    told = [record.getMessage() for record in caplog.records if "colour matrix" in record.getMessage()]
    assert len(told) == 1
    assert f"{path} has the colour matrix {matrix} of H.273" in told[0]
    assert ("BT.2020" if matrix == 10 else "BT.601") in told[0]
    caplog.clear()
    np.testing.assert_array_equal(nf.open(path, workdir=tmp_path, pixel_format="gray")[:], brightness)
    assert not caplog.records


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
def test_a_matrix_that_ffmpeg_converts_is_used(tmp_path, caplog, matrix):
    path = write_matrix(tmp_path / "a.mp4", matrix, "yuv444p")
    expected = np.stack([show(frame, "rgb24") for frame in decode(path)])
    np.testing.assert_array_equal(nf.open(path, workdir=tmp_path)[:], expected)
    assert not caplog.records


def test_a_frame_that_ffmpeg_does_not_convert_is_named(tmp_path):
    path = tmp_path / "a.mkv"
    frames = [fill_randomly("rgb4", SHAPE, 8) for _ in range(3)]
    write_packets(path, [("rawvideo", frames, {})], "nut")
    with pytest.raises(
        nf.UnreadableImageError, match=r"a\.mkv: frame 0 has the pixel format rgb4, which FFmpeg does not convert"
    ):
        nf.read_video(path, workdir=tmp_path)
