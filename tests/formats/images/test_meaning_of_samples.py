"""Samples mean what the format says, whatever library could read them: the written arrays decide, or Pillow."""

import io
import struct

import imagecodecs
import numpy as np
import pytest
from kit.synthetic import picture, write_gdal
from PIL import Image

import ndframes as nf
from ndframes.errors import UnreadableImageError

SHAPE = (13, 21)


def check_every_way_in(path, wanted, tmp_path) -> None:
    wanted = wanted if wanted.ndim == 3 else wanted[:, :, None]
    for backend in (None, "cog", "npy"):
        frames = nf.SimpleFrames({"x": path}, workdir=tmp_path / "work", backend=backend)
        got = frames.load_image("x")
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_array_equal(got, wanted)
        np.testing.assert_array_equal(frames.load_regions([("x", np.s_[3:9, ::-2])])[0], wanted[3:9, ::-2])
        np.testing.assert_array_equal(np.asarray(nf.open(path, workdir=tmp_path / "work", backend=backend)), wanted)


def open_error(path, tmp_path) -> str:
    messages = set()
    for backend in (None, "cog", "npy"):
        with pytest.raises(UnreadableImageError) as caught:
            np.asarray(nf.open(path, workdir=tmp_path / "work", backend=backend))
        messages.add(str(caught.value))
    (message,) = messages
    assert str(path) in message
    return message


# --------------------------------------------------------------------------------------------------------------- PNM


def pnm(form: int, pixels: np.ndarray, largest: int, *, comment: str = "", end: str = "\n") -> bytes:
    head = f"P{form}\n{comment}{pixels.shape[1]} {pixels.shape[0]}\n{comment}{largest}\n".encode()
    if form in (2, 3):
        return head + ("\n".join(" ".join(map(str, row)) for row in pixels.reshape(len(pixels), -1)) + end).encode()
    return head + pixels.astype(">u2" if largest > 255 else "u1").tobytes()


@pytest.mark.parametrize("largest", [1, 3, 100, 254, 255, 256, 1000, 65535])
@pytest.mark.parametrize("form", [2, 3, 5, 6])
def test_pnm_samples_are_as_stored(form, largest, tmp_path):
    dtype = np.uint8 if largest < 256 else np.uint16
    shape = SHAPE if form in (2, 5) else (*SHAPE, 3)
    pixels = np.random.default_rng(form).integers(0, largest + 1, shape).astype(dtype)
    path = tmp_path / "a.bin"
    for number, (comment, end) in enumerate((("", "\n"), ("# 7 8 9\n#\n", ""))):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(pnm(form, pixels, largest, comment=comment, end=end))
        check_every_way_in(path, pixels, tmp_path)


@pytest.mark.parametrize("content", [
    b"P1\n# c\n5 2\n1011 0\n0 0 1 0 1", b"P1 5 2 1 0 1 1 0 0 0 1 0 1\n", b"P1\n5 2\n10110\n00101\n# end", b"P4\n5 2\n\xb0\x28",
    b"P4 #c\n5 #d\n2\n\xb7\x2f",
])  # fmt: skip
def test_bits_are_booleans_of_which_white_is_true(content, tmp_path):
    path = tmp_path / "a.pbm"
    path.write_bytes(content)
    black = np.array([[1, 0, 1, 1, 0], [0, 0, 1, 0, 1]], bool)
    reader = nf.open(path, workdir=tmp_path / "work")
    np.testing.assert_array_equal(np.asarray(reader)[:, :, 0], ~black)
    assert reader.dtype == bool


@pytest.mark.parametrize(("content", "message"), [
    (b"P2\n2 2\n255\n1 2 3\n", "3 samples, but by its header it has 4; it is truncated"),
    (b"P2\n2 2\n255\n1 2 3 4 5\n", "5 samples, but by its header it has 4"),
    (b"P1\n2 2\n1 0 1\n", "3 samples, but by its header it has 4; it is truncated"),
    (b"P1\n2 2\n1 0 1 2\n", "sample"),
    (b"P2\n2 2\n255\n1 2 3 256\n", "a sample of 256"),
    (b"P2\n2 2\n255\n1 2 3 x\n", "not numbers"),
    (b"P2\n2 2\n255\n1 2 3 -4\n", "not numbers"),
    (b"P5\n2 2\n255\n\1\2\3", "has 14 bytes, but by its header it has 15"),
    (b"P5\n2 2\n255\n\1\2\3\4\5", "more samples than its header says"),
    (b"P5\n2 2\n255\n\1\2\3\4P5\n2 2\n255\n\1\2\3\4", "several images"),
    (b"P5\n2 2\n65536\n\1\2\3\4", "65,536"),
    (b"P5\n2 2\n0\n\1\2\3\4", "samples up to 0"),
    (b"P5\n0 2\n255\n", "2 x 0 px"),
    (b"P5\n2\n", "nothing where a number is due"),
    (b"P6 x 2 255\n", "where a number is due"),
    (b"P4\n9 2\n\1\2\3", "truncated"),
])  # fmt: skip
def test_wrong_counts_are_errors(content, message, tmp_path):
    path = tmp_path / "a.pnm"
    path.write_bytes(content)
    assert message in open_error(path, tmp_path)


# --------------------------------------------------------------------------------------------------------------- BMP


def bmp(
    pixels: bytes, width: int, height: int, bits: int, header_bytes: int, *, masks=(), palette=b"", top_down=False
) -> bytes:
    form = 3 if masks else 0
    header = struct.pack("<IiiHHIIiiII", header_bytes, width, -height if top_down else height, 1, bits, form, len(pixels), 0, 0,
                         len(palette) // 4, 0)  # fmt: skip
    packed = struct.pack(f"<{len(masks)}I", *masks)
    header += (packed + bytes(200))[: header_bytes - 40] if header_bytes > 40 else packed
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + header + palette + pixels


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB") if image.mode == "P" else image)


MASKS = {"565": (16, (0xF800, 0x7E0, 0x1F)), "8888": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000))}


@pytest.mark.parametrize("header_bytes", [40, 56, 108, 124])
@pytest.mark.parametrize("kind", ["1", "4", "8", "16", "24", "32", "565", "8888", "gray"])
@pytest.mark.parametrize("top_down", [False, True])
def test_bmp_headers(kind, header_bytes, top_down, tmp_path):
    height, width = SHAPE
    bits, masks = MASKS.get(kind, (8 if kind == "gray" else int(kind), ()))
    if kind == "8888" and header_bytes == 40:
        masks = masks[:3]
    chance = np.random.default_rng(bits)
    pixels = chance.integers(0, 256, (width * bits + 31) // 32 * 4 * height, dtype=np.uint8).tobytes()
    palette = chance.integers(0, 256, 4 << bits, dtype=np.uint8).tobytes() if bits <= 8 else b""
    if kind == "gray":
        palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    data = bmp(pixels, width, height, bits, header_bytes, masks=masks, palette=palette, top_down=top_down)
    (tmp_path / "a.bmp").write_bytes(data)
    check_every_way_in(tmp_path / "a.bmp", by_pillow(data), tmp_path)
    (tmp_path / "a.bmp").write_bytes(data[:-1])
    assert "truncated" in open_error(tmp_path / "a.bmp", tmp_path)


@pytest.mark.parametrize("header_bytes", [40, 56, 108, 124])
@pytest.mark.parametrize("masks", [(0x3FF00000, 0xFFC00, 0x3FF), (0xFF800000, 0x7FC000, 0x3FFF), (1023, 1024, 2048)])
def test_a_bmp_of_more_than_8_bits_is_an_error(header_bytes, masks, tmp_path):
    height, width = SHAPE
    (tmp_path / "a.bmp").write_bytes(bmp(bytes(4 * height * width), width, height, 32, header_bytes, masks=masks))
    assert "a.bmp is a BMP of more than 8 bits" in open_error(tmp_path / "a.bmp", tmp_path)


def test_bmp_run_lengths(tmp_path):
    rows = b"\x03\x07\x00\x00" + b"\x00\x03\x01\x02\x03\x00\x00\x01"  # 3 x 7, end of line; three pixels, end
    palette = np.random.default_rng(0).integers(0, 256, 1024, dtype=np.uint8).tobytes()
    data = bytearray(bmp(rows, 3, 2, 8, 40, palette=palette))
    data[30] = 1
    (tmp_path / "a.bmp").write_bytes(data)
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 4)[:, 2::-1]
    check_every_way_in(tmp_path / "a.bmp", colours[[[1, 2, 3], [7, 7, 7]]], tmp_path)


# -------------------------------------------------------------------------------------------------------- Sun raster


def sun(pixels: np.ndarray, kind: int = 1, palette: np.ndarray | None = None) -> bytes:
    """A Sun raster of rows ``(h, bytes)``, padded to 16 bits."""
    height, width = pixels.shape[:2]
    depth = 1 if pixels.dtype == bool else 8 * (1 if pixels.ndim == 2 else pixels.shape[2])
    rows = np.packbits(~pixels, axis=1) if depth == 1 else pixels.reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).tobytes()
    if kind == 2:
        rows = rows.replace(b"\x80", b"\x80\0")
    table = b"" if palette is None else palette.T.tobytes()
    return (
        struct.pack(">8I", 0x59A66A95, width, height, depth, len(rows), kind, int(bool(table)), len(table))
        + table
        + rows
    )


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_sun_rasters(kind, tmp_path):
    pixels = picture((*SHAPE, 3))
    padded = np.dstack([np.full(SHAPE, 77, np.uint8), pixels])
    stored = {24: pixels, 32: padded} if kind == 3 else {24: pixels[:, :, ::-1], 32: padded[:, :, [0, 3, 2, 1]]}
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    gray = pixels[:, :, 0]
    bits = gray > 100
    for number, (data, wanted) in enumerate((
        (sun(gray, kind), gray), (sun(gray, kind, ramp), gray), (sun(gray, kind, colours), colours[gray]), (sun(bits, kind), bits),
        (sun(stored[24], kind), pixels), (sun(stored[32], kind), pixels),
    )):  # fmt: skip
        path = tmp_path / f"{kind}{number}.ras"
        path.write_bytes(data)
        check_every_way_in(path, wanted, tmp_path)
        path.write_bytes(data[:-5])
        assert "truncated" in open_error(path, tmp_path)


def test_runs_of_a_sun_raster(tmp_path):
    gray = np.array([[5, 5, 5, 5], [0x80, 1, 2, 2]], np.uint8)
    head = sun(gray)[:32]
    path = tmp_path / "a.ras"
    path.write_bytes(head[:20] + struct.pack(">I", 2) + head[24:] + b"\x80\x03\x05" + b"\x80\x00\x01\x80\x01\x02")
    check_every_way_in(path, gray, tmp_path)


# ------------------------------------------------------------------------------------------------- more than 8 bits


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_avif_keeps_its_bits(bits, bands, tmp_path):
    dtype = np.uint8 if bits == 8 else np.uint16
    pixels = np.arange(SHAPE[0] * SHAPE[1] * bands).reshape(*SHAPE, bands).astype(np.uint32) * 37 % (1 << bits)
    pixels = pixels.astype(dtype)
    data = imagecodecs.avif_encode(
        pixels if bands > 1 else pixels[:, :, 0],
        level=100,
        bitspersample=bits,
        pixelformat="444" if bands > 1 else "400",
    )
    (tmp_path / "a.avif").write_bytes(data)
    check_every_way_in(tmp_path / "a.avif", imagecodecs.avif_decode(data).reshape(pixels.shape), tmp_path)
    got = np.asarray(nf.open(tmp_path / "a.avif"))
    assert got.dtype == dtype
    np.testing.assert_allclose(got.astype(int), pixels, atol=0)


def pack_sgi(row: np.ndarray) -> np.ndarray:
    """Run lengths of 16 bits: a run of equal samples, then the others as they are."""
    run = int((row == row[0]).cumprod().sum())
    words = [run, int(row[0])]
    for start in range(run, len(row), 127):
        part = row[start : start + 127]
        words += [0x80 | len(part), *part.tolist()]
    return np.array([*words, 0], ">u2")


def sgi(pixels: np.ndarray, *, is_packed: bool, size: int = 2) -> bytes:
    height, width, bands = pixels.shape
    head = struct.pack(
        ">HBBHHHHii", 474, is_packed, size, 2 if bands == 1 else 3, width, height, bands, 0, 65535
    ) + bytes(492)
    planes = pixels[::-1].transpose(2, 0, 1)
    if not is_packed:
        return head + planes.astype(f">u{size}").tobytes()
    rows = [pack_sgi(row).tobytes() for plane in planes for row in plane]
    starts = 512 + 8 * len(rows) + np.cumsum([0, *map(len, rows[:-1])])
    return head + starts.astype(">u4").tobytes() + np.array([*map(len, rows)], ">u4").tobytes() + b"".join(rows)


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_sgi_of_16_bits(bands, is_packed, tmp_path):
    pixels = picture((SHAPE[0], 300, bands), "uint16")
    pixels[:, :5] = 7
    data = sgi(pixels, is_packed=is_packed)
    (tmp_path / "a.sgi").write_bytes(data)
    check_every_way_in(tmp_path / "a.sgi", pixels, tmp_path)
    (tmp_path / "a.sgi").write_bytes(data[: len(data) // 2])
    assert "truncated" in open_error(tmp_path / "a.sgi", tmp_path)


def psd(pixels: np.ndarray, mode: int, *, is_packed: bool) -> bytes:
    height, width, bands = pixels.shape
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, bands, height, width, 8 * pixels.itemsize, mode)
    head += struct.pack(">I", 0) + struct.pack(">I4s", 4, b"8BIM") + struct.pack(">I", 0)
    planes = pixels.transpose(2, 0, 1).astype(pixels.dtype.newbyteorder(">"))
    if not is_packed:
        return head + b"\0\0" + planes.tobytes()
    rows = [imagecodecs.packbits_encode(row.tobytes()) for plane in planes for row in plane]
    return head + b"\0\1" + np.array([*map(len, rows)], ">u2").tobytes() + b"".join(rows)


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize(("mode", "bands"), [(1, 1), (1, 2), (3, 3), (3, 4), (3, 5)])
def test_photoshop_files_of_16_bits(mode, bands, is_packed, tmp_path):
    pixels = picture((*SHAPE, bands), "uint16")
    data = psd(pixels, mode, is_packed=is_packed)
    (tmp_path / "a.psd").write_bytes(data)
    check_every_way_in(tmp_path / "a.psd", pixels[:, :, :3] if bands == 5 else pixels, tmp_path)
    (tmp_path / "a.psd").write_bytes(data[: len(data) // 2])
    open_error(tmp_path / "a.psd", tmp_path)


@pytest.mark.parametrize(("mode", "names"), [(4, "c|m|y|k"), (9, "l|a|b"), (3, "r|g|b"), (1, "gray")])
def test_names_of_the_bands_of_a_photoshop_file(mode, names, tmp_path):
    data = psd(picture((*SHAPE, len(names.split("|")))), mode, is_packed=True)
    data = data[:30] + bytes(4) + data[38:]  # without the resources, which Pillow takes for damage
    (tmp_path / "a.psd").write_bytes(data)
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(image)
    check_every_way_in(tmp_path / "a.psd", wanted, tmp_path)
    for backend in (None, "npy", "cog"):
        frame = nf.open(tmp_path / "a.psd", workdir=tmp_path / "named", backend=backend)
        assert "|".join(frame.channels) == names
        first = wanted if wanted.ndim == 2 else wanted[:, :, 0]
        read = nf.open(tmp_path / "a.psd", workdir=tmp_path / "named", backend=backend, channels=names.split("|")[0])
        np.testing.assert_array_equal(np.asarray(read)[:, :, 0], first)


def test_what_is_not_read_exactly_is_an_error(tmp_path):
    path = tmp_path / "a.psd"
    for depth, mode in ((16, 4), (16, 9), (32, 3)):
        data = bytearray(psd(picture((*SHAPE, 4 if mode == 4 else 3), "uint16"), mode, is_packed=False))
        data[22:24] = struct.pack(">H", depth)
        path.write_bytes(data)
        assert "convert it to TIFF" in open_error(path, tmp_path)
    header = b"DDS " + struct.pack("<7I", 124, 0x1007, 4, 4, 16, 0, 0) + bytes(44)
    header += struct.pack("<2I4s5I", 32, 4, b"DX10", 0, 0, 0, 0, 0) + struct.pack("<5I", 0x1000, 0, 0, 0, 0)
    for form in (94, 95, 96):
        (tmp_path / "a.dds").write_bytes(header + struct.pack("<5I", form, 3, 0, 1, 0) + bytes(16))
        assert "half floats" in open_error(tmp_path / "a.dds", tmp_path)


@pytest.mark.parametrize("form", ["jp2", "j2k"])
@pytest.mark.parametrize(
    ("bits", "dtype"), [(4, "int8"), (8, "int8"), (12, "int16"), (16, "int16"), (8, "uint8"), (12, "uint16")]
)
@pytest.mark.parametrize("bands", [1, 3])
def test_signed_jpeg_2000(bits, dtype, form, bands, tmp_path):
    low = -(1 << bits - 1) if dtype.startswith("i") else 0
    pixels = np.random.default_rng(bits).integers(low, low + (1 << bits), (*SHAPE, bands)).astype(dtype)
    path = tmp_path / f"a.{form}"
    path.write_bytes(
        imagecodecs.jpeg2k_encode(
            pixels if bands > 1 else pixels[:, :, 0], level=0, codecformat=form, bitspersample=bits
        )
    )
    check_every_way_in(path, pixels, tmp_path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_jpeg_2000_of_ycbcr_is_rgb(dtype, tmp_path):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (*SHAPE, 3)).astype(dtype)
    path = tmp_path / "a.jp2"
    data = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="jp2", colorspace="SYCC", mct=False)
    if dtype == "uint8":
        Image.frombytes("YCbCr", SHAPE[::-1], pixels.tobytes()).save(path)
        with Image.open(path) as stored:
            wanted = np.asarray(stored)
        assert wanted.shape == pixels.shape
    else:
        path.write_bytes(data)
        wanted = imagecodecs.jpeg2k_decode(data)
    assert not np.array_equal(wanted, pixels)
    check_every_way_in(path, wanted, tmp_path)


def test_jpeg_2000_of_coarser_colours_is_read_by_gdal(tmp_path):
    pixels = np.full((64, 96, 3), (200, 60, 30), np.uint8)
    write_gdal(tmp_path / "a.jp2", "JP2OpenJPEG", pixels.transpose(2, 0, 1), ycbcr420=True, quality=90)
    got = np.asarray(nf.open(tmp_path / "a.jp2"))
    assert np.abs(got.astype(int) - pixels).max() <= 6


# ------------------------------------------------------------------------------------------------ palettes and alpha


@pytest.mark.parametrize("suffix", ["png", "gif"])
@pytest.mark.parametrize("transparency", [None, 0, 3])
def test_palettes_with_transparency(suffix, transparency, tmp_path):
    image = Image.fromarray(np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint8).reshape(SHAPE) % 6, mode="P")
    image.putpalette(np.random.default_rng(0).integers(0, 256, 18, dtype=np.uint8).tobytes())
    path = tmp_path / f"a.{suffix}"
    image.save(path, **({} if transparency is None else {"transparency": transparency}))
    with Image.open(path) as stored:
        wanted = np.asarray(stored.convert("RGB" if transparency is None else "RGBA"))
    check_every_way_in(path, wanted, tmp_path)


def test_palette_of_png_with_graded_alpha(tmp_path):
    image = Image.fromarray(np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint8).reshape(SHAPE) % 4, mode="P")
    image.putpalette(np.random.default_rng(0).integers(0, 256, 12, dtype=np.uint8).tobytes())
    image.save(tmp_path / "a.png", transparency=bytes([0, 60, 200, 255]))
    with Image.open(tmp_path / "a.png") as stored:
        check_every_way_in(tmp_path / "a.png", np.asarray(stored.convert("RGBA")), tmp_path)


def test_a_gif_whose_frame_is_smaller_than_its_canvas(tmp_path):
    file = io.BytesIO()
    image = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6), mode="P")
    image.putpalette(bytes(range(90)))
    image.save(file, "GIF")
    data = bytearray(file.getvalue())
    data[6:10] = struct.pack("<2H", 20, 15)
    (tmp_path / "a.gif").write_bytes(data)
    with Image.open(io.BytesIO(data)) as stored:
        wanted = np.asarray(stored.convert("RGB"))
    assert wanted.shape == (15, 20, 3)
    check_every_way_in(tmp_path / "a.gif", wanted, tmp_path)
