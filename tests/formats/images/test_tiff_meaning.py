"""What the samples of a TIFF mean: the arrays that were written decide, and libtiff where a file is its own."""

from __future__ import annotations

import itertools
import warnings
import zlib
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from kit.synthetic import write_gdal
from kit.tiffs import Expected, Page, check_every_way_in, pack, page_of, write_pages
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

import ndframes as nf
from ndframes.errors import UnreadableImageError

SHAPE = (11, 21)
PALETTE, CMYK, YCBCR, LAB = 3, 5, 6, 8
DEFLATE = (8, zlib.compress)
LZW = (5, lambda data: bytes(imagecodecs.lzw_encode(data)))
PACKBITS = (32773, lambda data: bytes(imagecodecs.packbits_encode(data)))


def numbers(shape, bits: int, *, signed: bool = False, seed: int = 0) -> np.ndarray:
    """Samples over the whole range, with the extremes, in the smallest dtype."""
    random = np.random.default_rng([seed, bits])
    size = next(size for size in (8, 16, 32, 64) if bits <= size)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    dtype = bool if bits == 1 else f"{'i' if signed else 'u'}{size // 8}"
    pixels = random.integers(low, high, shape, endpoint=True, dtype=np.int64 if signed else np.uint64)
    pixels.reshape(-1)[[3, 40]] = low, high
    return pixels.astype(dtype)


LAYOUTS = {
    "one strip": {},
    "strips": {"rows": 4},
    "tiles": {"tile": (16, 16)},
    "deflate": {"rows": 4, "code": DEFLATE},
    "lzw tiles": {"tile": (16, 16), "code": LZW},
    "packbits": {"rows": 3, "code": PACKBITS},
}


_SLOW_BITS = [pytest.param(bits, marks=pytest.mark.slow) for bits in (2, 5, 6, 7, 10, 14, 17, 31, 40, 48, 63)]


@pytest.mark.parametrize("bits", [1, 3, 4, 8, 12, 16, 24, 32, 64, *_SLOW_BITS])
@pytest.mark.parametrize("signed", [False, True])
def test_integers_of_any_depth(bits, signed, tmp_path):
    if bits == 1 and signed:
        pytest.skip("one bit has no sign")
    files = {}
    for number, ((name, layout), order) in enumerate(itertools.product(LAYOUTS.items(), "<>")):
        bands, planar = 1 + (number + bits) % 5, number % 3 == 1
        pixels = numbers((*SHAPE, bands), bits, signed=signed, seed=number)
        page = page_of(pixels, bits, order=order, planar=planar, photometric=(number // 2 + bits) % 2, **layout)
        path = write_pages(tmp_path / f"{len(files)}.tif", [page], order=order)
        files[f"{name} {order} {bands} {planar}"] = Expected(path, pixels)
    check_every_way_in(files, tmp_path)


def reverse_bits(data: bytes) -> bytes:
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)


@pytest.mark.parametrize("bits", [1, 3, 8, 12, 16, 24])
def test_bits_in_the_other_order(bits, tmp_path):
    files = {}
    for name, (number, code) in {"none": (1, bytes), "deflate": DEFLATE, "packbits": PACKBITS}.items():
        pixels = numbers((*SHAPE, 2), bits)
        page = page_of(
            pixels, bits, rows=4, code=(number, lambda data, code=code: reverse_bits(code(data))), x266=(3, 2)
        )
        files[name] = Expected(write_pages(tmp_path / f"{name}.tif", [page]), pixels)
    check_every_way_in(files, tmp_path)


def short_floats(shape) -> tuple[np.ndarray, np.ndarray]:
    """Floats of 24 bits, and the words that hold them: a sign, 7 bits of exponent, 16 of fraction."""
    words = numbers(shape, 24).astype(np.uint32)
    words[(words >> 16 & 127 == 0) | (words >> 16 & 127 == 127)] = 0x3F8000
    sign, exponent, fraction = words >> 23, words >> 16 & 127, words & 0xFFFF
    wide = sign << 31 | (exponent + 127 - 63) << 23 | fraction << 7
    return wide.view(np.float32), words


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planar", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_floats_and_complex_numbers(order, planar, tmp_path):
    random = np.random.default_rng(0)
    shape = (*SHAPE, 2)
    files = {}

    def add(name: str, pixels: np.ndarray, stored: np.ndarray, bits: int, kind: int) -> None:
        for layout in ("strips", "lzw tiles"):
            page = page_of(stored, bits, order=order, planar=planar, **LAYOUTS[layout], x339=(3, [kind] * 2))
            path = write_pages(tmp_path / f"{name} {layout}.tif", [page], order=order)
            files[f"{name} {layout}"] = Expected(path, pixels)

    add("float16", half := random.normal(size=shape).astype("f2"), half, 16, 3)
    add("float24", *short_floats(shape), 24, 3)
    add("float64", double := random.normal(size=shape), double, 64, 3)
    for bits, dtype in ((16, "c8"), (32, "c16")):
        parts = numbers((*shape, 2), bits, signed=True)
        pixels = (parts[..., 0] + 1j * parts[..., 1].astype("f8")).astype(dtype)
        stored = parts.astype(parts.dtype.newbyteorder(order)).view(f"V{bits // 4}")[..., 0]
        words = stored.view(f"{order}u{bits // 4}").astype(f"u{bits // 4}")
        add(f"complex of {bits}", pixels, words, 2 * bits, 5)
    for dtype in ("c8", "c16"):
        pixels = (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(dtype)
        add(dtype, pixels, pixels, pixels.itemsize * 8, 6)
    check_every_way_in(files, tmp_path)


# --------------------------------------------------------------------------------------------------------------- palettes


def colour_map(bits: int, kind: str) -> tuple[list[int], np.ndarray]:
    """The tag of a palette and its colours in 8 bits."""
    colours = np.random.default_rng(bits).integers(0, 256, (1 << bits, 3))
    colours[-1] = 255
    stored = {"257": colours * 257, "256": colours * 256, "8": colours, "any": colours * 256 + colours[::-1]}[kind]
    return stored.T.reshape(-1).tolist(), colours.astype(np.uint8)


@pytest.mark.parametrize(
    ("bits", "order"),
    [
        (1, "<"),
        (2, ">"),
        (4, "<"),
        (8, "<"),
        (8, ">"),
        (12, ">"),
        (16, ">"),
        pytest.param(16, "<", marks=pytest.mark.slow),
    ],
)
def test_palettes(bits, order, tmp_path):
    indices = numbers(SHAPE, bits)
    files = {}
    for number, kind in enumerate(("257", "256", "8", "any")):
        table, colours = colour_map(bits, kind)
        layout = list(LAYOUTS.values())[(number + bits) % len(LAYOUTS)]
        page = page_of(indices, bits, order=order, photometric=PALETTE, x320=(3, table), **layout)
        path = write_pages(tmp_path / f"{kind}.tif", [page], order=order)
        files[kind] = Expected(path, colours[indices.astype(int)], "r|g|b")
    check_every_way_in(files, tmp_path)


def test_palettes_of_black_and_white(tmp_path):
    bits = numbers(SHAPE, 1)
    files = {}
    for name, table, wanted in (("black", [0, 65535], bits), ("white", [65535, 0], ~bits), ("short", [255, 0], ~bits)):
        for nodata in (None, 0, 1):
            page = page_of(
                bits, 1, photometric=PALETTE, x320=(3, table * 3), x42113=None if nodata is None else (2, str(nodata))
            )
            path = write_pages(tmp_path / f"{name}{nodata}.tif", [page])
            missing = np.zeros(SHAPE, bool) if nodata is None else bits == bool(nodata)
            files[f"{name} {nodata}"] = Expected(path, wanted, "gray", missing[..., None])
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("planar", [False, True])
def test_palettes_with_alpha_and_nodata(bits, planar, tmp_path):
    """The index marks missing pixels, whatever their alpha."""
    table, colours = colour_map(bits, "257")
    samples = numbers((*SHAPE, 2), bits)
    index = int(samples[5, 5, 0])
    alpha = samples[:, :, 1:].astype(int)
    alpha = alpha >> 8 if bits == 16 else alpha * 255 // ((1 << bits) - 1)
    wanted = np.dstack([colours[samples[:, :, 0].astype(int)], alpha.astype(np.uint8)])
    files = {}
    for name, layout in list(LAYOUTS.items())[1:4]:
        page = page_of(samples, bits, photometric=PALETTE, planar=planar, x320=(3, table), x338=(3, [2]),
                       x42113=(2, str(index)), **layout)  # fmt: skip
        missing = samples[:, :, :1] == index
        files[name] = Expected(write_pages(tmp_path / f"{name}.tif", [page]), wanted, "r|g|b|a", missing)
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("bits", [4, 8, pytest.param(16, marks=pytest.mark.slow)])
def test_palettes_with_nodata(bits, tmp_path):
    table, colours = colour_map(bits, "any")
    indices = numbers(SHAPE, bits) // 2  # of which the second half of the palette is not used
    table = np.reshape(table, (3, -1))
    colours[len(colours) // 2 :] = table[:, len(colours) // 2 :] = 0
    colours[0] = table[:, 0] = 0
    files = {}
    for text in ("0", "1", " 1 ", "1.0", "999999", str(1 << bits), "-1", "nan", "none", ""):
        page = page_of(indices, bits, photometric=PALETTE, x320=(3, table.reshape(-1).tolist()), x42113=(2, text))
        is_index = text.strip() in ("0", "1", "1.0")
        missing = indices == int(text.strip()[0]) if is_index else np.zeros(SHAPE, bool)
        path = write_pages(tmp_path / f"{len(files)}.tif", [page])
        files[text] = Expected(path, colours[indices.astype(int)], "r|g|b", missing[..., None])
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16])
@pytest.mark.parametrize("has_alpha", [False, True])
def test_only_the_index_of_nodata_is_missing(bits, has_alpha, tmp_path):
    """Other entries of the palette have the same colour, and pixels use them."""
    table, colours = colour_map(bits, "257")
    table = np.reshape(table, (3, -1))
    for twin in (1, 3):
        table[:, twin] = table[:, 2]
        colours[twin] = colours[2]
    samples = numbers((*SHAPE, 2), bits) % 4
    indices = samples[:, :, 0].astype(int)
    files = {}
    for name, layout in list(LAYOUTS.items())[1:4]:
        for planar in (False, True):
            tags = {"x320": (3, table.reshape(-1).tolist()), "x42113": (2, "2")}
            tags |= {"x338": (3, [2])} if has_alpha else {}
            stored = samples if has_alpha else samples[:, :, :1]
            page = page_of(stored, bits, photometric=PALETTE, planar=planar, **tags, **layout)
            alpha = samples[:, :, 1].astype(int)
            alpha = alpha >> bits - 8 if bits > 8 else alpha * 255 // ((1 << bits) - 1)
            wanted = np.dstack([colours[indices], alpha.astype(np.uint8)]) if has_alpha else colours[indices]
            path = write_pages(tmp_path / f"{name} {planar}.tif", [page])
            files[f"{name} {planar}"] = Expected(
                path, wanted, "r|g|b|a" if has_alpha else "r|g|b", indices[..., None] == 2
            )
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("backend", [None, "npy", "cog"])
def test_the_mark_of_nodata_is_no_channel(backend, tmp_path):
    table, colours = colour_map(8, "257")
    table = np.reshape(table, (3, -1))
    table[:, 5], colours[5] = table[:, 2], colours[2]
    indices = numbers(SHAPE, 8) % 8
    page = page_of(indices, 8, photometric=PALETTE, x320=(3, table.reshape(-1).tolist()), x42113=(2, "5"))
    path = write_pages(tmp_path / "a.tif", [page])
    frames = nf.SimpleFrames({0: nf.ChannelInfo(str(path))}, workdir=tmp_path / "work", backend=backend)
    plain = nf.SimpleFrames(
        {0: str(write_pages(tmp_path / "b.tif", [without_tag(page, 42113)]))}, workdir=tmp_path / "work"
    )
    assert frames[0].shape == (*SHAPE, 3)
    np.testing.assert_array_equal(frames[0], colours[indices])
    for options in ({"scale": 0.5}, {"shape": (7, 5)}, {"pad": "edge", "region": np.s_[-3:9, 2:7]}):
        np.testing.assert_array_equal(frames.load_region(0, **options), plain.load_region(0, **options))
    red = frames.load_region(0, np.s_[3:9, 4:20], "b|r", nodata="mask")
    np.testing.assert_array_equal(red.mask, np.broadcast_to(indices[3:9, 4:20, None] == 5, red.shape))
    np.testing.assert_array_equal(red.data, colours[indices][3:9, 4:20, [2, 0]])
    batch = frames.load_regions([(0, np.s_[3:9, 4:20]), (0, np.s_[5:11, 1:17])], nodata="nan")
    np.testing.assert_array_equal(np.isnan(batch[1]), np.broadcast_to(indices[5:11, 1:17, None] == 5, batch[1].shape))
    named = nf.SimpleFrames(
        {0: nf.ChannelInfo(str(path), channels="x|y|z")}, workdir=tmp_path / "work", backend=backend
    )
    np.testing.assert_array_equal(named.load_region(0, None, "z")[:, :, 0], colours[indices][:, :, 2])
    with pytest.raises(UnreadableImageError, match="has 3 bands, but 4 channels"):
        nf.SimpleFrames({0: nf.ChannelInfo(str(path), channels="x|y|z|w")}, workdir=tmp_path / "work").load_region(0)


def without_tag(page: Page, number: int) -> Page:
    """A page without a tag."""
    return replace(page, tags={key: value for key, value in page.tags.items() if key != number})


# ------------------------------------------------------------------------------------------------------------------ YCbCr


def pack_ycbcr(planes: list[np.ndarray], across: int, down: int) -> bytes:
    """A block in units of several Y, one Cb and one Cr."""
    y, cb, cr = planes
    y = np.pad(y, ((0, -len(y) % down), (0, -y.shape[1] % across)), mode="edge")
    units = y.reshape(len(y) // down, down, -1, across).transpose(0, 2, 1, 3).reshape(len(y) // down, -1, across * down)
    return np.concatenate([units, cb[..., None], cr[..., None]], axis=2).tobytes()


def ycbcr_page(shape, subsampling, block, code, *, is_tiled: bool, **tags) -> Page:
    across, down = subsampling
    random = np.random.default_rng(shape[0])
    blocks = []
    for top in range(0, shape[0], block[0]):
        for _ in range(0, shape[1], block[1]):
            height = block[0] if is_tiled else min(block[0], shape[0] - top)
            small = -(-height // down), -(-block[1] // across)
            planes = [random.integers(0, 256, size, np.uint8) for size in ((height, block[1]), small, small)]
            blocks.append(code[1](pack_ycbcr(planes, across, down)))
    template = page_of(np.zeros((*shape, 3), np.uint8), 8, photometric=YCBCR, rows=0 if is_tiled else block[0],
                       tile=block if is_tiled else None, x530=(3, list(subsampling)), **tags)  # fmt: skip
    return Page({**template.tags, 259: (3, code[0])}, blocks, is_tiled)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2), (1, 2), (4, 2), (4, 4)])
def test_raw_ycbcr_is_what_libtiff_makes_of_it(subsampling, tmp_path):
    files = {}
    for shape in ((31, 45), (5, 7)):
        for name, code in {
            "none": (1, bytes),
            "lzw" if shape[0] == 31 else "deflate": LZW if shape[0] == 31 else DEFLATE,
        }.items():
            for is_tiled, block in ((False, (shape[0], shape[1])), (False, (8, shape[1])), (True, (16, 16))):
                page = ycbcr_page(shape, subsampling, block, code, is_tiled=is_tiled)
                path = write_pages(tmp_path / f"{len(files)}.tif", [page])
                # Pillow reads uncompressed files without libtiff, and as if all resolutions were the same.
                page = ycbcr_page(shape, subsampling, block, DEFLATE, is_tiled=is_tiled)
                with Image.open(write_pages(tmp_path / "referee.tif", [page])) as image:
                    wanted = np.asarray(image.convert("RGB"))
                files[f"{shape} {name} {is_tiled} {block}"] = Expected(path, wanted, "r|g|b")
    check_every_way_in(files, tmp_path)


# ----------------------------------------------------------------------------------------------- inks, Lab, and JPEG 2000


@pytest.mark.parametrize(
    ("photometric", "bands", "extra", "names"),
    [
        (CMYK, 4, None, "c|m|y|k"), (CMYK, 5, [2], "c|m|y|k|a"), (CMYK, 5, [1], "c|m|y|k|a"), (CMYK, 5, [0], "c|m|y|k|band.4"),
        (LAB, 3, None, "l|a|b"), (LAB, 4, [2], "l|a|b|alpha"), (9, 3, None, "l|a|b"), (10, 3, None, "l|a|b"), (2, 3, None, "r|g|b"),
        (2, 4, [2], "r|g|b|a"), (1, 2, [1], "gray|a"),
    ],
)  # fmt: skip
def test_inks_and_lab_are_kept_with_their_names(photometric, bands, extra, names, tmp_path):
    files = {}
    for bits, planar in itertools.product((8, 16), (False, True)):
        pixels = numbers((*SHAPE, bands), bits)
        extras = None if extra is None else (3, extra)
        page = page_of(pixels, bits, photometric=photometric, planar=planar, rows=4, code=DEFLATE, x338=extras)
        path = write_pages(tmp_path / f"{bits}{planar}.tif", [page])
        files[f"{bits} {planar}"] = Expected(path, pixels, names)
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("code", [33003, 33005, 34712])
def test_jpeg_2000_in_tiles(code, tmp_path):
    """Aperio's first number is YCbCr, its second one RGB, whatever the photometric says."""
    ycbcr = numbers((16, 32, 3), 8)
    files = {}
    for photometric in (2, 6):
        tiles = [
            imagecodecs.jpeg2k_encode(ycbcr[:, left : left + 16], level=0, codecformat="j2k", mct=False)
            for left in (0, 16)
        ]
        page = page_of(ycbcr, 8, tile=(16, 16), photometric=photometric)
        page = Page({**page.tags, 259: (3, code)}, tiles, True)
        y, cb, cr = (ycbcr[:, :, band].astype(float) - (128 if band else 0) for band in range(3))
        rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=2).round().clip(0, 255)
        is_coded = code == 33003 or (code == 34712 and photometric == 6)
        path = write_pages(tmp_path / f"{photometric}.tif", [page])
        files[f"{photometric}"] = Expected(path, rgb.astype(np.uint8) if is_coded else ycbcr, tolerance=is_coded)
    check_every_way_in(files, tmp_path)


# ------------------------------------------------------------------------------------------------------------------- JPEG


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
def test_jpeg_blocks_are_what_pillow_reads(mode, tmp_path):
    random = np.random.default_rng(0)
    smooth = np.cumsum(random.normal(0, 6, (45, 70, 4)), axis=1) + 128
    pixels = smooth.clip(0, 255).astype(np.uint8)[:, :, : {"L": 1, "CMYK": 4}.get(mode, 3)]
    files = {}
    for quality, size in itertools.product((75, 95), (4096, 8 * 70 * 4)):
        path = tmp_path / f"{quality} {size}.tif"
        image = Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels, mode if mode != "YCbCr" else "RGB")
        image = image.convert("YCbCr") if mode == "YCbCr" else image
        image.save(path, compression="jpeg", quality=quality, strip_size=size)
        with Image.open(path) as saved:
            wanted = np.asarray(saved.convert("RGB") if mode == "YCbCr" else saved)
        files[path.name] = Expected(path, wanted, "c|m|y|k" if mode == "CMYK" else None)
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("is_tiled", [False, True])
def test_jpeg_planes_are_what_gdal_reads(is_tiled, tmp_path):
    random = np.random.default_rng(0)
    pixels = (np.cumsum(random.normal(0, 6, (45, 70, 3)), axis=1) + 128).clip(0, 255).astype(np.uint8)
    path = tmp_path / "a.tif"
    blocks = {"tiled": True, "blockxsize": 32, "blockysize": 32} if is_tiled else {"blockysize": 16}
    write_gdal(
        path, "GTiff", pixels.transpose(2, 0, 1), compress="JPEG", photometric="RGB", interleave="BAND", **blocks
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            wanted = dataset.read().transpose(1, 2, 0)
    check_every_way_in({"a": Expected(path, wanted, "r|g|b")}, tmp_path)


# ----------------------------------------------------------------------------------------------------------------- nodata


@pytest.mark.parametrize(
    ("dtype", "text", "value", "masks"),
    [
        ("u1", "7", 7, True), ("u1", "7.0", 7, True), ("u1", "7.5", 7, False), ("u1", "263", 7, False), ("u1", "-1", 255, False),
        ("u1", "nan", 0, False), ("u1", "none", 0, False), ("u1", "", 0, False), ("u1", "1_0", 10, False), ("?", "1", True, True),
        ("?", "5", True, False), ("i1", "-128", -128, True), ("u2", "65535", 65535, True), ("i4", "-2147483648", -(2**31), True),
        ("i8", "9223372036854775807", 2**63 - 1, True), ("i8", "9223372036854775807", 2**63 - 2, False),
        ("i8", "-9223372036854775808", -(2**63), True), ("u8", "18446744073709551615", 2**64 - 1, True),
        ("u8", "18446744073709551615", 2**64 - 2, False), ("u8", "18446744073709551616", 0, False),
        ("f4", "-9999", -9999, True), ("f4", "-3.4028234663852886e+38", np.finfo("f4").min, True),
        ("f4", "-3.4028235e+38", np.finfo("f4").min, True), ("f4", "3.40282346638529e+38", np.finfo("f4").max, True),
        ("f4", "0.1", 0.1, True), ("f4", "nan", np.nan, True), ("f4", "inf", np.inf, True), ("f8", "-1.7976931348623157e+308",
        np.finfo("f8").min, True), ("f8", "1.79769313486232e+308", np.finfo("f8").max, True), ("f8", "inf", np.inf, True),
        ("f8", "-Infinity", -np.inf, True), ("f8", "inf", np.finfo("f8").max, False), ("f8", "0.1", 0.1, True), ("f2", "65504", 65504, True), ("f4", "text", 0, False),
    ],
)  # fmt: skip
def test_the_value_of_nodata(dtype, text, value, masks, tmp_path):
    pixels = np.ones(SHAPE, dtype) if dtype != "?" else np.zeros(SHAPE, bool)
    pixels[3:5, 7:9] = value
    page = page_of(pixels, 1 if dtype == "?" else pixels.itemsize * 8, x42113=(2, text))
    missing = np.zeros((*SHAPE, 1), bool)
    missing[3:5, 7:9] = masks
    check_every_way_in({text: Expected(write_pages(tmp_path / "a.tif", [page]), pixels, missing=missing)}, tmp_path)


def test_each_page_has_its_nodata(tmp_path):
    pages = [page_of(np.full(SHAPE, 5, np.uint8), 8, x42113=None if n is None else (2, str(n))) for n in (5, None, 6)]
    path = write_pages(tmp_path / "a.tif", pages)
    for page, is_missing in enumerate((True, False, False)):
        frames = nf.SimpleFrames({0: nf.ChannelInfo(str(path), page=page)}, workdir=tmp_path / "cache")
        assert np.ma.getmaskarray(frames.load_region(0, nodata="mask")).all() == is_missing


# ------------------------------------------------------------------------------------------------------------------ pages


def gray(shape, seed=0, **tags) -> tuple[np.ndarray, Page]:
    pixels = numbers(shape, 8, seed=seed)
    return pixels, page_of(pixels, 8, code=DEFLATE, rows=8, **tags)


def test_the_image_among_pages(tmp_path):
    image, page = gray((40, 60))
    _, small = gray((20, 30), 1)
    _, smaller = gray((10, 15), 2)
    _, thumbnail = gray((20, 30), 3, x254=(4, 1))
    _, mask = gray((40, 60), 4, x254=(4, 4))
    _, bits = gray((40, 60), 5, x262=(3, 4))
    _, old = gray((20, 30), 6, x255=(3, 2))
    _, preview = gray((12, 18), 7)
    raw = Page({**preview.tags, 254: (4, 1)}, preview.blocks, children=[thumbnail, page])
    unmarked = Page(preview.tags, preview.blocks, children=[page])
    files = {}
    for name, pages in {
        "one": [page], "thumbnail behind": [page, thumbnail], "thumbnail before": [thumbnail, page], "mask": [page, mask],
        "transparency": [page, bits], "old tag": [page, old], "pyramid": [page, small, smaller],
    }.items():  # fmt: skip
        path = write_pages(tmp_path / f"{name}.tif", pages)
        chosen = nf.open(path, workdir=tmp_path / "cache", backend=None)
        np.testing.assert_array_equal(np.asarray(chosen)[:, :, 0], image, err_msg=name)
        files[name] = path
    for name, first in {"raw": raw, "raw without a mark": unmarked}.items():
        path = write_pages(tmp_path / f"{name}.tif", [first])
        for backend in (None, "npy", "cog"):
            got = np.asarray(nf.open(path, workdir=tmp_path / "cache", backend=backend))
            np.testing.assert_array_equal(got[:, :, 0], image, err_msg=name)


def test_a_file_of_equal_pages_below_others_is_refused(tmp_path):
    _, first = gray((40, 60), 1)
    _, second = gray((40, 60), 2)
    _, small = gray((10, 15), 3, x254=(4, 1))
    path = write_pages(tmp_path / "a.tif", [Page(small.tags, small.blocks, children=[first, second])])
    with pytest.raises(UnreadableImageError, match="several images of 40 x 60 px"):
        nf.open(path).shape  # noqa: B018
    path = write_pages(tmp_path / "b.tif", [small, small])
    with pytest.raises(UnreadableImageError, match=r"choose one with page= .*: 0: 10 x 15 uint8; 1: 10 x 15 uint8"):
        nf.open(path).shape  # noqa: B018


@pytest.mark.parametrize(
    ("axes", "kind", "is_image"),
    [
        ("ZYX", "imagej", False), ("ZYX", "ome", False), ("TYX", "shaped", False), ("CYX", "imagej", True), ("CYX", "ome", True),
        ("CYX", "shaped", True), (None, "shaped", False), (None, "plain", False),
    ],
)  # fmt: skip
def test_stacks(axes, kind, is_image, tmp_path):
    """Channels are channels; other planes have to be chosen."""
    planes = np.stack([numbers((40, 60), 16, seed=seed) for seed in range(5)])
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    metadata = None if kind == "plain" else {} if axes is None else {"axes": axes}
    flags = {kind: True} if kind in ("imagej", "ome") else {}
    tifffile.imwrite(path, planes, photometric="minisblack", metadata=metadata, **flags)
    for backend in (None, "npy", "cog"):
        options = {"workdir": tmp_path / "cache", "backend": backend}
        if is_image:
            np.testing.assert_array_equal(np.asarray(nf.open(path, **options)), planes.transpose(1, 2, 0))
        else:
            with pytest.raises(
                UnreadableImageError, match=r"page=0 \.\.\. page=4|choose one with page= .*: 0: .*; 4: "
            ):
                nf.open(path, **options).shape  # noqa: B018
        for page in (0, 3):
            np.testing.assert_array_equal(np.asarray(nf.open(path, page=page, **options))[:, :, 0], planes[page])


@pytest.mark.parametrize("sizes", [[(40, 60)] * 3, [(40, 60), (41, 60)], [(40, 60), (10, 15)], [(20, 30), (40, 60)]])
def test_several_images_have_to_be_chosen_from(sizes, tmp_path):
    pairs = [gray(size, seed) for seed, size in enumerate(sizes)]
    path = write_pages(tmp_path / "a.tif", [page for _, page in pairs])
    with pytest.raises(UnreadableImageError) as caught:
        nf.open(path).shape  # noqa: B018
    assert "page=" in str(caught.value)
    for number, (height, width) in enumerate(sizes):
        assert f"{number}: {height} x {width} uint8" in str(caught.value)
    for number, (pixels, _) in enumerate(pairs):
        for backend in (None, "npy", "cog"):
            got = np.asarray(nf.open(path, page=number, workdir=tmp_path / "cache", backend=backend))
            np.testing.assert_array_equal(got[:, :, 0], pixels)


@pytest.mark.parametrize("sizes", [[(20, 30), (20, 30)], [(20, 30), (25, 30)], [(20, 30), (10, 9), (20, 30)]])
def test_several_images_of_ome_have_to_be_chosen_from(sizes, tmp_path):
    path = tmp_path / "a.ome.tif"
    images = [numbers(size, 8, seed=seed) for seed, size in enumerate(sizes)]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image in images:
            writer.write(image, metadata={"axes": "YX"})
    for backend in (None, "npy", "cog"):
        with pytest.raises(
            UnreadableImageError, match=rf"a\.ome\.tif holds {len(sizes)} images; choose one with series=: 0: YX"
        ):
            np.asarray(nf.open(path, workdir=tmp_path / "work", backend=backend))
        for number, image in enumerate(images):
            for choice in ({"series": number}, {"page": number}):
                got = np.asarray(nf.open(path, workdir=tmp_path / "work", backend=backend, **choice))
                np.testing.assert_array_equal(got[:, :, 0], image)


def test_the_label_of_a_slide_needs_no_choice(tmp_path):
    path = tmp_path / "a.ome.tif"
    images = [numbers(size, 8, seed=seed) for seed, size in enumerate([(40, 30), (20, 30), (9, 9)])]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for image in images:
            writer.write(image, metadata={"axes": "YX"})
    np.testing.assert_array_equal(np.asarray(nf.open(path))[:, :, 0], images[0])


def test_packing_is_as_in_the_specification():
    """Twelve bits, the highest first; three bytes in the order of the file."""
    assert pack(np.array([[0x123, 0xABC], [1, 2]], np.uint16), 12, "<") == bytes.fromhex("123abc001002")
    assert pack(np.array([[0x010203]], np.uint32), 24, "<") == b"\x03\x02\x01"
    assert pack(np.array([[-1, 1]], np.int8), 4, ">") == b"\xf1"


def test_three_components_of_a_jpeg_that_are_no_colours(tmp_path):
    """libjpeg alone would take them for YCbCr."""
    pixels = np.uint8(np.add.outer(np.arange(64), np.arange(96))[..., None] * [1, 2, 3] // 2)
    Image.frombytes("LAB", (96, 64), pixels.tobytes()).save(tmp_path / "lab.tif", compression="jpeg", quality=100)
    for backend in (None, "npy"):
        found = nf.open(tmp_path / "lab.tif", backend=backend, workdir=tmp_path / "work")[:]
        assert np.abs(found.astype(int) - pixels).max() <= 2
