"""JPEG files: the pixels of Pillow, from every way in."""

import io
import logging

import cv2
import imagecodecs
import numpy as np
import pytest
from kit.synthetic import picture
from PIL import Image

import ndframes as nf
from ndframes.errors import UnreadableImageError
from ndframes.formats.images import jpeg
from ndframes.formats.images.sniff import open_image
from ndframes.formats.tiled.tile_cache import TileCache
from ndframes.system.handles import HandlePool

SHAPE = (75, 101)


def encode(pixels, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def smooth(shape) -> np.ndarray:
    """Saturated colours with soft edges, for which ways to decode coarser colours differ most."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    planes = [np.sin(y / 3 + x / 7), np.cos(x / 2), np.sin((x + y) / 5)]
    return (127.5 + 127.5 * np.dstack(planes)).astype(np.uint8)[..., : shape[2] if len(shape) == 3 else 1]


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGB") if image.mode == "CMYK" else image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def without_segment(data: bytes, marker: int) -> bytes:
    at = data.index(bytes([0xFF, marker]))
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def ways_in(path, tmp_path):
    """The whole image in every way of reading it."""
    for backend in (None, "cog", "npy"):
        frames = nf.SimpleFrames({"x": path}, workdir=tmp_path / "work", backend=backend)
        yield frames.load_image("x")
        yield frames.load_regions([("x", np.s_[:, :]), ("x", np.s_[::-1, ::-1])])[0]
        yield np.asarray(nf.open(path, workdir=tmp_path / "work", backend=backend))


FILES = {
    f"{subsampling} {kind} {bands}": (lambda s=subsampling, k=kind, b=bands: encode(
        smooth((*SHAPE, 3)) if b == 3 else smooth(SHAPE)[:, :, 0], quality=85, subsampling=s, progressive=k == "progressive",
        **({"restart_marker_blocks": 3} if k == "restarts" else {}),
    ))
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")
    for kind in ("baseline", "progressive", "restarts")
    for bands in (1, 3)
}  # fmt: skip
FILES |= {
    "RGB": lambda: encode(smooth((*SHAPE, 3)), keep_rgb=True),
    "without JFIF": lambda: without_segment(encode(smooth((*SHAPE, 3))), 0xE0),
    "bytes behind the end": lambda: encode(smooth((*SHAPE, 3))) + b"\xff\xd8 more",
    "a preview of 100 kB": lambda: encode(
        smooth((*SHAPE, 3)), comment=b"\xff\xd9" * 30_000, icc_profile=bytes(100_000)
    ),
    "one pixel": lambda: encode(smooth((1, 1, 3))),
}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_pillow(name, tmp_path):
    data = FILES[name]()
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    wanted = by_pillow(data)
    pool = HandlePool()
    got = open_image(nf.ChannelInfo(str(path)), pool).read_all()
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, wanted)
    if wanted.shape[2] == 3:
        np.testing.assert_array_equal(got, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB))
    pool.close()


@pytest.mark.parametrize("name", ["4:2:0 baseline 3", "4:2:0 progressive 3", "4:4:4 restarts 1"])
def test_every_way_in(name, tmp_path):
    data = FILES[name]()
    (tmp_path / "a.jpg").write_bytes(data)
    for got in ways_in(str(tmp_path / "a.jpg"), tmp_path):
        np.testing.assert_array_equal(got, by_pillow(data))


@pytest.mark.parametrize("is_ycck", [False, True])
def test_inks_are_mixed_as_by_pillow(is_ycck, tmp_path):
    data = bytearray(encode_inks(picture((*SHAPE, 4))))
    if is_ycck:  # the same samples, said to be YCCK
        at = data.index(b"Adobe")
        data[at + 11] = 2
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    wanted = by_pillow(bytes(data))
    for got in ways_in(str(path), tmp_path):
        np.testing.assert_array_equal(got, wanted)


def encode_inks(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels, mode="CMYK").save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("bands", [1, 3])
def test_lossless(bits, bands, tmp_path):
    dtype = np.uint8 if bits == 8 else np.uint16
    pixels = (picture((*SHAPE, bands), "uint16") >> (16 - bits)).astype(dtype)
    data = imagecodecs.jpeg8_encode(pixels if bands == 3 else pixels[:, :, 0], lossless=True, bitspersample=bits)
    (tmp_path / "a.jpg").write_bytes(data)
    for got in ways_in(str(tmp_path / "a.jpg"), tmp_path):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, pixels)


def test_lossless_by_another_encoder(tmp_path):
    pixels = picture(SHAPE, "uint16") >> 2
    (tmp_path / "a.jpg").write_bytes(imagecodecs.ljpeg_encode(pixels, bitspersample=14))
    for got in ways_in(str(tmp_path / "a.jpg"), tmp_path):
        np.testing.assert_array_equal(got[:, :, 0], pixels)


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_jpeg_ls(bands, dtype, tmp_path):
    pixels = picture((*SHAPE, bands), dtype)
    data = imagecodecs.jpegls_encode(pixels if bands >= 3 else pixels[:, :, 0].copy())
    (tmp_path / "a.jls").write_bytes(data)
    for got in ways_in(str(tmp_path / "a.jls"), tmp_path):
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, pixels)
    (tmp_path / "a.jls").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImageError, match=r"a\.jls"):
        np.asarray(nf.open(tmp_path / "a.jls"))


@pytest.mark.parametrize("lost", [2, 3, 1000])
def test_a_cut_jpeg_ls_is_an_error(lost, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(imagecodecs.jpegls_encode(picture((*SHAPE, 1), np.uint8)[:, :, 0].copy())[:-lost])
    for backend in (None, "npy"):
        with pytest.raises(UnreadableImageError, match=r"a\.jpg is truncated"):
            nf.open(path, workdir=tmp_path / "work", backend=backend)[0]


def test_lossless_without_a_marker_of_its_colours(tmp_path):
    pixels = picture((*SHAPE, 3))
    (tmp_path / "a.jpg").write_bytes(without_segment(imagecodecs.jpeg8_encode(pixels, lossless=True), 0xEE))
    np.testing.assert_array_equal(np.asarray(nf.open(tmp_path / "a.jpg")), pixels)


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_twelve_bits(bands, tmp_path):
    pixels = smooth((*SHAPE, 3)).astype(np.uint16)[:, :, [0, 1, 2, 0]] * 16
    pixels = np.ascontiguousarray(pixels[:, :, :bands] if bands > 1 else pixels[:, :, 0])
    data = imagecodecs.jpeg8_encode(pixels, level=100, bitspersample=12)
    (tmp_path / "a.jpg").write_bytes(data)
    for got in ways_in(str(tmp_path / "a.jpg"), tmp_path):
        assert got.dtype == np.uint16
        assert got.max() > 3000
        np.testing.assert_array_equal(got.reshape(pixels.shape), imagecodecs.jpeg8_decode(data))
        assert np.abs(got.reshape(pixels.shape).astype(int) - pixels).mean() < 200


@pytest.mark.parametrize("name", ["4:2:0 baseline 3", "4:2:0 progressive 3", "4:4:4 restarts 1", "RGB"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, -20, -2, -1])
def test_a_cut_file_is_an_error(name, kept, tmp_path):
    data = FILES[name]()
    path = tmp_path / "a.jpg"
    path.write_bytes(data[: kept if kept < 0 else int(len(data) * kept)])
    for backend in (None, "cog", "npy"):
        with pytest.raises(UnreadableImageError, match=r"a\.jpg.* truncated"):
            nf.SimpleFrames({"x": path}, workdir=tmp_path / "work", backend=backend).load_image("x")


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("shape", [SHAPE, (80, 96), (65, 97)])
def test_a_file_that_lacks_its_middle_is_an_error(subsampling, shape, tmp_path):
    data = encode(smooth((*shape, 3)), subsampling=subsampling)
    half = len(data) // 2 + 100
    path = tmp_path / "a.jpg"
    for number, damaged in enumerate((data[:half] + b"\xff\xd9", data[:half] + data[half + len(data) // 4 :])):
        path.write_bytes(damaged)
        for backend in (None, "cog", "npy"):
            with pytest.raises(UnreadableImageError, match=r"a\.jpg"):
                nf.SimpleFrames({"x": path}, workdir=tmp_path / f"work{number}", backend=backend).load_image("x")


def test_a_flat_end_is_no_damage(tmp_path):
    pixels = smooth((*SHAPE, 3))
    pixels[-20:] = (9, 120, 70)
    for options in ({}, {"progressive": True}, {"subsampling": "4:4:4"}):
        data = encode(pixels, **options)
        (tmp_path / "a.jpg").write_bytes(data)
        np.testing.assert_array_equal(np.asarray(nf.open(tmp_path / "a.jpg")), by_pillow(data))


def test_a_huge_file_is_read_by_gdal_and_says_so(tmp_path, monkeypatch, caplog):
    path = tmp_path / "a.jpg"
    path.write_bytes(FILES["4:4:4 baseline 3"]())
    monkeypatch.setattr(jpeg, "_MOST_DECODED_BYTES", 1000)
    pool = HandlePool()
    with caplog.at_level(logging.WARNING, "ndframes"):
        reader = open_image(nf.ChannelInfo(str(path)), pool)
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    assert "GDAL" in caplog.records[0].getMessage()
    assert np.abs(reader.read_all().astype(int) - by_pillow(path.read_bytes())).max() <= 2
    pool.close()


def test_crops_decode_the_file_once(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(FILES["4:2:0 baseline 3"]())
    calls, decode = [], jpeg._decode_by_turbo
    monkeypatch.setattr(jpeg, "_decode_by_turbo", lambda *arguments: calls.append(1) or decode(*arguments))
    frames = nf.SimpleFrames({"x": tmp_path / "a.jpg"}, workdir=tmp_path / "work", backend=None, recheck_seconds=60)
    assert frames.load_frame("x").shape == (*SHAPE, 3)
    assert not calls, "the shape is in the header"
    whole = frames.load_image("x")
    for top in range(0, 60, 7):
        np.testing.assert_array_equal(
            frames.load_region("x", np.s_[top : top + 9, 3:40:3]), whole[top : top + 9, 3:40:3]
        )
    frames.load_regions([("x", np.s_[top : top + 5]) for top in range(0, 60, 5)])
    assert len(calls) == 1


def test_the_memory_of_decoded_images_is_bounded(tmp_path):
    """A larger image than the budget is kept alone; others share the budget."""
    for number in range(6):
        Image.fromarray(smooth((*SHAPE, 3))).save(tmp_path / f"{number}.jpg")
    nbytes = 3 * SHAPE[0] * SHAPE[1]
    pool = HandlePool()
    for budget in (0, nbytes - 1, 2 * nbytes):
        tiles = TileCache(budget)
        for number in range(6):
            reader = open_image(nf.ChannelInfo(str(tmp_path / f"{number}.jpg")), pool, tiles=tiles)
            np.testing.assert_array_equal(reader.read_all(), by_pillow((tmp_path / f"{number}.jpg").read_bytes()))
        assert tiles.used_bytes <= budget
        assert reader.memory_bytes <= 4096
    pool.close()


def test_several_files_are_decoded_in_several_threads(tmp_path):
    for number in range(4):
        Image.fromarray(smooth((*SHAPE, 3))[:: 1 if number % 2 else -1]).save(tmp_path / f"{number}.jpg")
    pool, tiles = HandlePool(), TileCache(2**20)
    reader = open_image(nf.ChannelInfo(str(tmp_path / "0.jpg")), pool, tiles=tiles)
    assert reader.is_worth_sharing
    reader.read_all()
    assert not reader.is_worth_sharing
    pool.close()
    frames = nf.SimpleFrames({n: tmp_path / f"{n}.jpg" for n in range(4)}, workdir=tmp_path / "work", backend=None)
    got = frames.load_regions([(n, np.s_[5:30, ::-1]) for n in (0, 3, 1, 0, 2)], workers=3)
    for pixels, number in zip(got, (0, 3, 1, 0, 2), strict=True):
        np.testing.assert_array_equal(pixels, by_pillow((tmp_path / f"{number}.jpg").read_bytes())[5:30, ::-1])
