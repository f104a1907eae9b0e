"""Brightness and floats are read as they are stored, from every pixel format of FFmpeg that stores them."""

from __future__ import annotations

import av
import numpy as np
import pytest
from kit.stored import fill_randomly, make_frame, plane_of

import ndframes as nf
from ndframes.video.planes import find_form, to_pixels
from ndframes.video.samples import find_kind, read_brightness, stores_color

SHAPE = (16, 34)


def list_formats():
    for name in sorted(av.video.format.names):
        kind = av.video.format.VideoFormat(name, *SHAPE[::-1])
        parts = kind.components
        is_stored = bool(parts) and parts[0].is_luma and not kind.has_palette and not name.startswith("xyz")
        if is_stored and find_kind(name).dtype in (np.uint8, np.uint16) and parts[0].bits > 1:
            yield name, parts[0].bits


FORMATS = dict(list_formats())
# FFmpeg converts the little-endian versions of these only.
UNCONVERTED = {"v30xbe": 4, "xv30be": 4, "y210be": 2, "y212be": 2, "y216be": 2}


def test_the_table_of_formats_is_that_of_ffmpeg():
    assert len(FORMATS) > 100
    assert {"uyvy422", "y210le", "p010be", "gray10be", "vuya", "ayuv64le", "xv30le", "ya16be", "nv21"} <= set(FORMATS)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - set(UNCONVERTED)))
def test_brightness_is_the_stored_value(name):
    bits = FORMATS[name]
    frame = fill_randomly(name, SHAPE, bits)
    is_full = name.startswith(("gray", "ya", "yuvj"))
    tone = 2 if is_full else 1
    planar = frame.reformat(
        format="yuv444p" if bits == 8 else f"yuv444p{bits}le", src_color_range=tone, dst_color_range=tone, threads=1
    )
    pixels = to_pixels(frame, is_gray=True)
    assert pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert pixels.flags.owndata or pixels.base.flags.owndata
    np.testing.assert_array_equal(pixels[:, :, 0], plane_of(planar))


@pytest.mark.parametrize("name", sorted(UNCONVERTED))
def test_brightness_in_the_other_order_of_bytes_is_the_same(name):
    little = fill_randomly(name[:-2] + "le", SHAPE, FORMATS[name])
    word = f"u{UNCONVERTED[name]}"
    (plane,) = little.planes
    rows = np.frombuffer(bytes(plane), "<" + word).reshape(-1, plane.line_size // int(word[1:]))
    big = make_frame(name, [rows[: SHAPE[0]].astype(">" + word)], SHAPE)
    np.testing.assert_array_equal(read_brightness(big), read_brightness(little))


def test_a_bit_is_black_or_white():
    bits = np.random.default_rng(0).integers(0, 2, SHAPE, dtype=np.uint8)
    packed = np.packbits(bits, axis=1)
    for name, stored in (("monob", packed), ("monow", ~packed)):
        frame = make_frame(name, [stored], SHAPE)
        for is_gray in (False, True):
            np.testing.assert_array_equal(to_pixels(frame, is_gray=is_gray)[:, :, 0], 255 * bits)


def test_lines_from_the_bottom_up():
    stored = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    decoder = av.CodecContext.create("rawvideo", "r")
    decoder.width, decoder.height, decoder.pix_fmt = *SHAPE[::-1], "gray"
    decoder.extradata = b"BottomUp\0"
    (frame,) = decoder.decode(av.Packet(stored.tobytes()))
    assert frame.planes[0].line_size < 0
    np.testing.assert_array_equal(read_brightness(frame), stored[::-1])


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("kind", ["gray", "ya", "gbrp", "gbrap", "rgb", "rgba"])
def test_floats_are_those_that_are_stored(kind, bits, order):
    name = f"{kind}f{bits}{order}"
    if name not in av.video.format.names:
        pytest.skip("not in this FFmpeg")
    count = {"gray": 1, "ya": 2, "gbrp": 3, "gbrap": 4, "rgb": 3, "rgba": 4}[kind]
    dtype = np.dtype(f"{'<' if order == 'le' else '>'}f{bits // 8}")
    values = (np.random.default_rng(0).standard_normal((*SHAPE, count)) * 100).astype(dtype)
    planes = [values[:, :, band] for band in (1, 2, 0, 3)[:count]] if kind.startswith("gb") else None
    if planes is None:
        planes = [values.reshape(SHAPE[0], -1)]
    frame = make_frame(name, planes, SHAPE)
    right = values.astype(np.float32)
    if kind == "ya":
        right = right[:, :, [0, 0, 0, 1]]
    np.testing.assert_array_equal(to_pixels(frame), right)
    assert to_pixels(frame).dtype == np.float32
    gray = right[:, :, :1] if kind in ("gray", "ya") else right[:, :, :3] @ np.float32([0.299, 0.587, 0.114])[:, None]
    np.testing.assert_allclose(to_pixels(frame, is_gray=True), gray, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["gray32le", "rgb96be", "gbrap32le", "rgba128le"])
def test_integers_of_32_bits_are_refused(name):
    if name not in av.video.format.names:
        pytest.skip("not in this FFmpeg")
    with pytest.raises(nf.UnreadableImageError, match=rf"^a.mkv: frame 3 has the pixel format {name}, .*up to 16 bits"):
        to_pixels(av.VideoFrame(*SHAPE[::-1], name), name="a.mkv: frame 3")


@pytest.mark.parametrize("name", ["rgb4", "x2rgb10be", "y210be"])
def test_what_ffmpeg_does_not_convert_is_an_error_that_names_the_frame(name):
    told = rf"^a.mkv: frame 3 has the pixel format {name}, which FFmpeg does not convert to rgb\d\d.*: .*; convert"
    with pytest.raises(nf.UnreadableImageError, match=told):
        to_pixels(av.VideoFrame(*SHAPE[::-1], name), name="a.mkv: frame 3")


@pytest.mark.parametrize("name", ["bayer_rggb8", "bayer_bggr16le", "xyz12le", "yuva444p12be", "gbrap14le", "rgb555le"])
@pytest.mark.parametrize("is_gray", [False, True])
def test_other_formats_are_what_ffmpeg_shows(name, is_gray):
    kind = av.video.format.VideoFormat(name)
    frame = fill_randomly(name, SHAPE, 16)
    is_deep = name not in ("bayer_rggb8", "rgb555le")
    has_alpha = "a" in name.replace("bayer", "")
    shown = {(0, 0): "rgb24", (0, 1): "rgb48le", (1, 1): "rgba64le"}[has_alpha, is_deep]
    pixels = to_pixels(frame, is_gray=is_gray)
    if is_gray and kind.components[0].is_luma and not name.startswith("xyz"):
        np.testing.assert_array_equal(pixels[:, :, 0], plane_of(frame))
    else:
        right = frame.to_ndarray(format=("gray16le" if is_deep else "gray") if is_gray else shown, threads=1)
        np.testing.assert_array_equal(pixels, right.reshape(pixels.shape))
    assert pixels.shape[2] == (1 if is_gray else 4 if has_alpha else 3)
    assert pixels.dtype == (np.uint16 if is_deep else np.uint8)


def test_alpha_of_a_palette():
    random = np.random.default_rng(0)
    indices = random.integers(0, 4, SHAPE, dtype=np.uint8)
    colors = random.integers(0, 256, (256, 4), dtype=np.uint8)  # blue, green, red, alpha, as FFmpeg stores them here
    rgba = colors[:, [2, 1, 0, 3]]
    for alpha, bands in ((255, 3), (np.arange(256), 4), (0, 3)):
        colors[:, 3] = rgba[:, 3] = alpha
        frame = make_frame("pal8", [indices, colors.reshape(1, -1)], SHAPE)
        np.testing.assert_array_equal(to_pixels(frame), rgba[indices][:, :, :bands])
    colors[:, 3], colors[4:, 3] = 255, 0  # colours that are not used
    frame = make_frame("pal8", [indices, colors.reshape(1, -1)], SHAPE)
    assert to_pixels(frame).shape == (*SHAPE, 3)


def test_a_palette_of_grays_is_read_exactly():
    indices = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    colors = np.full((256, 4), 255, np.uint8)
    colors[:, :3] = np.arange(255, -1, -1)[:, None]  # as of gray in QuickTime
    frame = make_frame("pal8", [indices, colors.reshape(1, -1)], SHAPE)
    np.testing.assert_array_equal(to_pixels(frame, is_gray=True)[:, :, 0], 255 - indices)
    colors[7, 0] = 0
    frame = make_frame("pal8", [indices, colors.reshape(1, -1)], SHAPE)
    right = frame.to_ndarray(format="gray", threads=1)
    np.testing.assert_array_equal(to_pixels(frame, is_gray=True)[:, :, 0], right)


def test_the_form_of_a_frame_is_that_of_its_pixels():
    for name in (*FORMATS, "rgb24", "gbrap10le", "bayer_rggb8", "monob", "grayf32le", "gbrpf16be"):
        frame = fill_randomly(name, SHAPE, 8)
        for is_gray in (False, True):
            if is_gray or name not in UNCONVERTED:
                pixels = to_pixels(frame, is_gray=is_gray)
                assert find_form(frame, is_gray=is_gray) == (pixels.shape, pixels.dtype)


def test_colours_of_gray_are_found():
    for name, middle in (("yuv420p", 128), ("yuv444p10le", 512)):
        frame = fill_randomly(name, SHAPE, 8 if middle == 128 else 10)
        assert stores_color(frame)
        for plane in frame.planes[1:]:
            plane.update(
                np.full(plane.buffer_size // (1 + (middle > 128)), middle, "u1" if middle == 128 else "<u2").tobytes()
            )
        assert not stores_color(frame)
    assert not stores_color(fill_randomly("gray", SHAPE, 8))
