"""TIFFs whose tables and tags do not say what is there: the right pixels or an error, never zeros."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import tifffile
from kit.synthetic import picture, write_gdal
from kit.tiffs import Expected, Page, check_every_way_in, page_of, write_pages

import ndframes as nf

SHAPE = (40, 60)
CODES = {
    "none": (1, bytes),
    "deflate": (8, zlib.compress),
    "old deflate": (32946, zlib.compress),
    "lzw": (5, lambda data: bytes(imagecodecs.lzw_encode(data))),
    "zstd": (50000, lambda data: bytes(imagecodecs.zstd_encode(data))),
    "lzma": (34925, lambda data: bytes(imagecodecs.lzma_encode(data))),
    "packbits": (32773, lambda data: bytes(imagecodecs.packbits_encode(data))),
}


def pictures_of(pixels: np.ndarray, rows: int) -> dict[str, tuple[Page, np.ndarray, str]]:
    """Pages of codecs that store whole pictures, with their pixels and the end of an error's text."""
    strips = [pixels[top : top + rows] for top in range(0, len(pixels), rows)]
    encoders = {
        "jpeg": (7, lambda part: imagecodecs.jpeg8_encode(part, level=95, colorspace="RGB", outcolorspace="RGB")),
        "jpeg 2000": (34712, lambda part: imagecodecs.jpeg2k_encode(part, level=0, codecformat="j2k", mct=False)),
        "webp": (50001, lambda part: imagecodecs.webp_encode(part, lossless=True, level=0)),
        "lerc": (34887, imagecodecs.lerc_encode),
        "png": (34933, imagecodecs.png_encode),
        "jpeg xr": (34934, lambda part: imagecodecs.jpegxr_encode(part, level=1.0)),
        "jpeg xr of ndpi": (22610, lambda part: imagecodecs.jpegxr_encode(part, level=1.0)),
    }
    found = {}
    for name, (code, encode) in encoders.items():
        blocks = [bytes(encode(np.ascontiguousarray(part))) for part in strips]
        tags = page_of(pixels, 8, photometric=2, rows=rows).tags
        wanted = pixels
        if name == "jpeg":
            wanted = np.concatenate(
                [imagecodecs.jpeg8_decode(block, colorspace="RGB", outcolorspace="RGB") for block in blocks]
            )
        found[name] = Page({**tags, 259: (3, code)}, blocks), wanted
    return found


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("layout", [{"rows": 8}, {"tile": (16, 16), "planar": True}])
def test_tables(code, layout, tmp_path):
    pixels = picture((*SHAPE, 2))
    page = page_of(pixels, 8, code=CODES[code], **layout)
    is_plain = code == "none"
    last = len(page.blocks) - 1
    size = len(page.blocks[1])
    files = {}
    lies = {
        # name: (offsets, counts, error; None: the right pixels)
        "right": (None, None, None),
        "short": (lambda t: t[:-1], lambda t: t[:-1], "its table is damaged"),
        "short offsets": (lambda t: t[:-1], None, "its table is damaged"),
        "one offset": (lambda t: t[:1], lambda t: t[:1], "its table is damaged"),
        "short counts": (None, lambda t: t[:-1], None if is_plain else "its table is damaged"),
        "count of 0": (None, lambda t: [*t[:1], 0, *t[2:]], None if is_plain else "its table is damaged"),
        "counts of 0": (None, lambda t: [0] * len(t), None if is_plain else "its table is damaged"),
        "no offset": (lambda t: [*t[:1], 0, *t[2:]], None, "no position; its table is damaged"),
        "long": (lambda t: [*t, 8], lambda t: [*t, 1], None),
        "large counts": (None, lambda t: [*[n + 3 for n in t[:-1]], t[-1]], None),
        "small count": (None, lambda t: [*t[:1], size // 2, *t[2:]], "does not decode"),
        "slightly small count": (None, lambda t: [*t[:1], size - 5, *t[2:]], "does not decode"),
        "count past the end": (None, lambda t: [*t[:-1], 1 << 30], None if is_plain else "the file ends before"),
        "offset past the end": (lambda t: [*t[:-1], 1 << 30], None, "the file ends before"),
        "all past the end": (lambda t: [1 << 30] * len(t), None, "the file ends before"),
    }  # fmt: skip
    for name, (offsets, counts, error) in lies.items():
        if name == "large counts" and code == "packbits":
            error = "does not decode"  # noqa: PLW2901 - the bytes behind are taken for more
        if name == "slightly small count" and code == "lzma":
            error = None  # noqa: PLW2901 - a checksum is missing, the pixels are there
        path = write_pages(tmp_path / f"{len(files)}.tif", [page.lie(offsets=offsets, counts=counts)])
        files[name] = Expected(path, pixels, error=error or "")
    assert last
    check_every_way_in(files, tmp_path)


def test_tables_of_pictures(tmp_path, capfd):
    pixels = picture((*SHAPE, 3))
    files = {}
    for name, (page, wanted) in pictures_of(pixels, 8).items():
        half = len(page.blocks[1]) // 2
        for lie, (counts, error) in {
            "right": (None, ""), "count of 0": (lambda t: [*t[:1], 0, *t[2:]], "its table is damaged"),
            "small count": (lambda t, half=half: [*t[:1], half, *t[2:]], "does not decode"),
            "slightly small count": (lambda t: [*t[:1], t[1] - 20, *t[2:]], "does not decode"),
            "tiny count": (lambda t: [*t[:1], 9, *t[2:]], "does not decode"),
            "short": (lambda t: t[:-1], "its table is damaged"),
        }.items():  # fmt: skip
            path = write_pages(tmp_path / f"{len(files)}.tif", [page.lie(counts=counts)])
            files[f"{name}, {lie}"] = Expected(path, wanted, error=error)
    check_every_way_in(files, tmp_path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("bits", [8, 12])
def test_a_last_strip_may_be_as_long_as_the_others(code, bits, tmp_path):
    pixels = picture((41, 60), "uint16") >> 16 - bits
    pixels = pixels.astype("u1" if bits == 8 else "u2")
    whole = page_of(np.pad(pixels, ((0, 7), (0, 0))), bits, rows=8, code=CODES[code])
    page = Page({**whole.tags, 257: (4, 41)}, whole.blocks)
    check_every_way_in({code: Expected(write_pages(tmp_path / "a.tif", [page]), pixels)}, tmp_path)


@pytest.mark.parametrize("order", "<>")
def test_predictors(order, tmp_path):
    """They are undone for the codecs that have them, and ignored for others."""
    files = {}
    for dtype in ("u1", "i2", "u4", "i8", "f2", "f4", "f8", "c8"):
        pixels = np.nan_to_num(picture((*SHAPE, 2), "c8" if dtype == "c8" else dtype))
        bits = pixels.itemsize * 8
        words = pixels.view(f"u{pixels.itemsize}")
        steps = np.concatenate([words[:, :1], np.diff(words, axis=1)], axis=1)
        for name, code in CODES.items():
            if name in ("old deflate", "zstd", "lzma") and dtype not in ("i2", "f4"):
                continue
            is_known = name not in ("none", "packbits")
            kind = {"u": 1, "i": 2, "f": 3, "c": 6}[pixels.dtype.kind]
            page = page_of(
                steps if is_known else pixels, bits, order=order, rows=16, code=code, x317=(3, 2), x339=(3, [kind] * 2)
            )
            path = write_pages(tmp_path / f"{len(files)}.tif", [page], order=order)
            files[f"{dtype} {name} 2"] = Expected(path, pixels)
            if dtype[0] != "f":
                continue
            # The bytes of a row, highest first, as differences of the bytes of the same band.
            parts = (
                words.reshape(SHAPE[0], -1)
                .astype(f">u{pixels.itemsize}")
                .view("u1")
                .reshape(SHAPE[0], -1, pixels.itemsize)
            )
            parts = parts.transpose(0, 2, 1).reshape(SHAPE[0], -1, 2)
            parts = np.concatenate([parts[:, :1], np.diff(parts, axis=1)], axis=1)
            packer = (lambda part, *_: part.tobytes()) if is_known else None
            page = (
                page_of(parts.reshape(SHAPE[0], -1), 8, order=order, rows=16, code=code, packer=packer)
                if is_known
                else page
            )
            tags = page_of(words, bits, order=order, rows=16, code=code, x317=(3, 3), x339=(3, [kind] * 2)).tags
            path = write_pages(tmp_path / f"{len(files)}.tif", [Page(tags, page.blocks)], order=order)
            files[f"{dtype} {name} 3"] = Expected(path, pixels)
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("predictor", [2, 3])
def test_predictors_beside_pictures_are_ignored(predictor, tmp_path):
    files = {}
    for name, (page, wanted) in pictures_of(picture((*SHAPE, 3)), 8).items():
        path = write_pages(tmp_path / f"{name}.tif", [Page({**page.tags, 317: (3, predictor)}, page.blocks)])
        files[name] = Expected(path, wanted)
    if hasattr(imagecodecs, "ccittfax4_encode"):
        bits = picture(SHAPE, bool)
        file = io.BytesIO()
        from PIL import Image

        Image.fromarray(bits).save(file, "TIFF", compression="group4")
        file.seek(0)
        with tifffile.TiffFile(file) as tiff:
            tags = page_of(bits, 1, photometric=int(tiff.pages.first.photometric), x317=(3, predictor)).tags
            file.seek(tiff.pages.first.dataoffsets[0])
            block = file.read(tiff.pages.first.databytecounts[0])
            stored = tiff.pages.first.asarray().astype(bool)
            fill_order = {266: (3, int(tiff.pages.first.fillorder))}
        path = write_pages(tmp_path / "fax.tif", [Page({**tags, **fill_order, 259: (3, 4)}, [block])])
        files["fax"] = Expected(path, stored)
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize(
    ("bits", "kind", "predictor"), [(12, 1, 2), (1, 1, 2), (24, 1, 2), (16, 1, 3), (8, 2, 3), (128, 6, 2)]
)
def test_predictors_that_tiff_does_not_define(bits, kind, predictor, tmp_path):
    pixels = np.zeros(SHAPE, "c16" if bits == 128 else "u4")
    page = page_of(pixels, bits, code=CODES["deflate"], x317=(3, predictor), x339=(3, kind))
    path = write_pages(tmp_path / "a.tif", [page])
    check_every_way_in({"a": Expected(path, error="which TIFF does not define")}, tmp_path)


# ------------------------------------------------------------------------------------------------------------------- LERC


def lerc_page(pixels: np.ndarray, blocks: list[bytes], **tags) -> Page:
    page = page_of(pixels, pixels.itemsize * 8, photometric=1, rows=len(pixels), **tags)
    return Page({**page.tags, 259: (3, 34887)}, blocks)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
@pytest.mark.parametrize("nodata", [None, 7])
def test_masks_of_lerc(dtype, nodata, tmp_path):
    """Missing pixels have the nodata value; without one, nan, as in libtiff, or 0."""
    missing = np.random.default_rng(0).random(SHAPE) < 0.3
    fill = nodata if nodata is not None else np.nan if dtype[0] == "f" else 0
    files = {}
    for bands in (1, 3):
        pixels = np.nan_to_num(picture((*SHAPE, bands), dtype), posinf=0, neginf=0)
        pixels[pixels == 7] = 8
        wanted = np.where(missing[:, :, None], np.asarray(fill, dtype), pixels)
        text = None if nodata is None else (2, str(nodata))
        masks = np.repeat(missing[:, :, None], bands, axis=2) if nodata is not None or dtype[0] == "f" else None
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        blobs = {"together": imagecodecs.lerc_encode(pixels if bands > 1 else pixels[:, :, 0], masks=~missing)}
        if bands > 1:
            blobs["in a blob each"] = imagecodecs.lerc_encode(planes, masks=np.stack([~missing] * 3), planar=True)
        for name, blob in blobs.items():
            path = write_pages(tmp_path / f"{len(files)}.tif", [lerc_page(pixels, [bytes(blob)], x42113=text)])
            files[f"{bands} {name}"] = Expected(path, wanted, missing=masks)
        blocks = [bytes(imagecodecs.lerc_encode(plane, masks=~missing)) for plane in planes]
        path = write_pages(tmp_path / f"{len(files)}.tif", [lerc_page(pixels, blocks, planar=True, x42113=text)])
        files[f"{bands} planar"] = Expected(path, wanted, missing=masks)
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("shape", [(3, 3, 3), (40, 60, 5)])
@pytest.mark.parametrize("compression", [None, "deflate", pytest.param("zstd", marks=pytest.mark.slow)])
def test_bands_of_lerc(shape, compression, tmp_path):
    files = {}
    wrap = {None: bytes, "deflate": zlib.compress, "zstd": imagecodecs.zstd_encode}[compression]
    for dtype in ("u1", "i4", "f4"):
        pixels = np.nan_to_num(picture(shape, dtype), posinf=0, neginf=0)
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        extra = (4, [4, {None: 0, "deflate": 1, "zstd": 2}[compression]])
        for name, blocks in {
            "together": [imagecodecs.lerc_encode(pixels, planar=False)], "blobs": [imagecodecs.lerc_encode(planes, planar=True)],
            "planar": [imagecodecs.lerc_encode(plane) for plane in planes],
        }.items():  # fmt: skip
            page = lerc_page(
                pixels, [bytes(wrap(bytes(block))) for block in blocks], planar=name == "planar", x50674=extra
            )
            files[f"{dtype} {name}"] = Expected(write_pages(tmp_path / f"{len(files)}.tif", [page]), pixels)
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("interleave", ["PIXEL", "BAND"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_lerc_of_gdal(interleave, dtype, tmp_path):
    pixels = np.nan_to_num(picture((*SHAPE, 3), dtype), posinf=0, neginf=0)
    if dtype == "f4":
        pixels[4:9, 5:7] = np.nan  # libtiff makes a mask of them
    path = tmp_path / "a.tif"
    write_gdal(path, "GTiff", pixels.transpose(2, 0, 1), compress="LERC_DEFLATE", interleave=interleave)
    check_every_way_in({"a": Expected(path, pixels)}, tmp_path)


# ---------------------------------------------------------------------------------------------------------- missing blocks


@pytest.mark.parametrize(
    ("dtype", "text", "fill"),
    [
        ("u1", None, 0), ("u1", "9", 9), ("u1", "-9999", 0), ("f4", None, 0), ("f4", "-9999", -9999), ("f4", "nan", np.nan),
        ("f4", "-3.4028235e+38", np.finfo("f4").min), ("f4", "-3.40282346638529e+38", np.finfo("f4").min),
        ("f4", "3.4028234663852886e+38", np.finfo("f4").max), ("f8", "-1.7976931348623157e+308", np.finfo("f8").min),
        ("i8", "-9223372036854775808", -(2**63)), ("i8", "9007199254740993", 2**53 + 1), ("u8", "18446744073709551615", 2**64 - 1),
    ],
)  # fmt: skip
def test_missing_blocks_are_nodata(dtype, text, fill, tmp_path):
    pixels = np.ones((48, 64, 2), dtype)
    files = {}
    for name, layout in {
        "tiles": {"tile": (16, 16)},
        "strips": {"rows": 16},
        "planar": {"tile": (16, 16), "planar": True},
    }.items():
        for code in ("none", "deflate"):
            page = page_of(
                pixels, pixels.itemsize * 8, code=CODES[code], x42113=None if text is None else (2, text), **layout
            )
            blocks = [block if number % 3 else None for number, block in enumerate(page.blocks)]
            wanted = pixels.copy()
            for number in range(0, len(blocks), 3):
                per_plane = 3 * (4 if "tile" in layout else 1)
                row, col = divmod(number % per_plane, 4 if "tile" in layout else 1)
                cols = slice(16 * col, 16 * col + 16) if "tile" in layout else slice(None)
                bands = slice(number // per_plane, number // per_plane + 1) if "planar" in layout else slice(None)
                wanted[16 * row : 16 * row + 16, cols, bands] = fill
            path = write_pages(tmp_path / f"{len(files)}.tif", [Page(page.tags, blocks, page.is_tiled)])
            has_mark = text is not None and (fill != 0)
            missing = (wanted != 1) if has_mark else None
            files[f"{name} {code}"] = Expected(path, wanted, missing=missing)
    check_every_way_in(files, tmp_path)


def test_missing_blocks_of_colours(tmp_path):
    table = np.random.default_rng(0).integers(0, 256, (3, 256)) * 257
    colours = (table >> 8).T.astype("u1")
    indices = picture((16, 32))
    files = {}
    for nodata in (None, 5):
        tag = None if nodata is None else (2, str(nodata))
        page = page_of(indices, 8, tile=(16, 16), photometric=3, x320=(3, table.reshape(-1).tolist()), x42113=tag)
        wanted = colours[indices]
        wanted[:, 16:] = colours[nodata or 0]
        path = write_pages(tmp_path / f"{nodata}.tif", [Page(page.tags, [page.blocks[0], None], True)])
        files[f"palette {nodata}"] = Expected(path, wanted)
        for planar in (False, True):
            gray = np.dstack([indices, np.full((16, 32, 2), 128, np.uint8)])
            page = page_of(gray, 8, tile=(16, 16), photometric=6, planar=planar, x530=(3, [1, 1]), x42113=tag)
            wanted = np.repeat(indices[:, :, None], 3, axis=2)
            wanted[:, 16:] = nodata or 0
            blocks = [block if number % 2 == 0 else None for number, block in enumerate(page.blocks)]
            path = write_pages(tmp_path / f"y{nodata}{planar}.tif", [Page(page.tags, blocks, True)])
            files[f"YCbCr {nodata} {planar}"] = Expected(path, wanted)
    check_every_way_in(files, tmp_path)


def test_a_message_names_the_block(tmp_path):
    page = page_of(picture(SHAPE), 8, rows=8, code=CODES["deflate"]).lie(counts=lambda t: [*t[:2], 0, *t[3:]])
    path = write_pages(tmp_path / "a.tif", [page])
    with pytest.raises(
        nf.errors.UnreadableImageError, match=r"a\.tif: block 2 is at .*, but its length is said to be 0"
    ):
        nf.open(path).shape  # noqa: B018


@pytest.mark.parametrize("name", ["png", "jpeg xl", "jpeg xr", "jpeg 2000", "jpeg", "webp"])
def test_pictures_of_other_samples_than_the_tags_say(name, tmp_path):
    """The samples of a picture must not be taken for those of other pixels."""
    code, encode = {
        "png": (34933, imagecodecs.png_encode),
        "jpeg xl": (50002, lambda part: imagecodecs.jpegxl_encode(part, lossless=True)),
        "jpeg xr": (34934, lambda part: imagecodecs.jpegxr_encode(part, level=1.0)),
        "jpeg 2000": (34712, lambda part: imagecodecs.jpeg2k_encode(part, level=0)),
        "jpeg": (7, lambda part: imagecodecs.jpeg8_encode(part, level=95)),
        "webp": (50001, lambda part: imagecodecs.webp_encode(part, lossless=True)),
    }[name]
    colour = picture((*SHAPE, 3))
    files = {}
    for stored, said, is_planar in (
        (3, 1, False),
        (3, 3, True),
        (1, 3, False),
        (1, 1, False),
        (1, 3, True),
        (3, 3, False),
    ):
        if name == "webp" and stored == 1:
            continue
        pixels = colour[:, :, :said]
        tags = page_of(pixels, 8, photometric=2 if said == 3 else 1, rows=SHAPE[0], planar=is_planar).tags
        planes = range(3) if is_planar else (0,)
        kept = [colour if stored == 3 else np.ascontiguousarray(colour[:, :, plane]) for plane in planes]
        if stored == said == 3 and not is_planar and name == "jpeg":
            tags = {**tags, 262: (3, 6)}
        blocks = [bytes(encode(part)) for part in kept]
        is_right = stored == (1 if is_planar else said)
        wanted = pixels
        if name == "jpeg":
            wanted = np.dstack([imagecodecs.jpeg8_decode(block) for block in blocks])
        path = write_pages(tmp_path / f"{len(files)}.tif", [Page({**tags, 259: (3, code)}, blocks)])
        files[f"{stored} {said} {is_planar}"] = Expected(path, wanted, error="" if is_right else "does not decode")
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("name", ["png", "jpeg xl", "jpeg xr", "jpeg 2000", "webp"])
def test_pictures_smaller_than_their_block(name, tmp_path):
    """A picture may end where the image does. Within the image, its missing pixels must not become zeros."""
    code, encode = {
        "png": (34933, imagecodecs.png_encode),
        "jpeg xl": (50002, lambda part: imagecodecs.jpegxl_encode(part, lossless=True)),
        "jpeg xr": (34934, lambda part: imagecodecs.jpegxr_encode(part, level=1.0)),
        "jpeg 2000": (34712, lambda part: imagecodecs.jpeg2k_encode(part, level=0, mct=False)),
        "webp": (50001, lambda part: imagecodecs.webp_encode(part, lossless=True)),
    }[name]
    pixels = picture((*SHAPE, 3))
    files = {}
    for side in (16, 0):  # of a tile; 0: strips of 16 rows
        tops, lefts = range(0, 40, 16), range(0, 60, side or 60)
        parts = [pixels[top : top + 16, left : left + (side or 60)] for top in tops for left in lefts]
        page = page_of(pixels, 8, photometric=2, rows=16, tile=(side, side) if side else None)
        for number, (rows, columns) in (
            (None, (0, 0)),
            (0, (1, 0)),
            (0, (0, 1)),
            (len(parts) - 1, (1, 0)),
            (len(parts) - 1, (0, 1)),
        ):
            kept = list(parts)
            if number is not None:
                kept[number] = kept[number][: len(kept[number]) - rows, : kept[number].shape[1] - columns]
            blocks = [bytes(encode(np.ascontiguousarray(part))) for part in kept]
            path = write_pages(
                tmp_path / f"{len(files)}.tif", [replace(page, tags={**page.tags, 259: (3, code)}, blocks=blocks)]
            )
            error = "" if number is None else f"tile {number} does not decode: it has the shape"
            files[f"{side} {number} {rows} {columns}"] = Expected(path, pixels, error=error)
    check_every_way_in(files, tmp_path)


@pytest.mark.parametrize("name", ["jpeg", "lerc"])
@pytest.mark.parametrize("shape", [(8, 32), (32, 8), (4, 64)])
def test_pictures_of_another_shape_with_as_many_pixels(name, shape, tmp_path):
    """Their rows must not be taken for rows of another length."""
    code, encode = {"jpeg": (7, imagecodecs.jpeg8_encode), "lerc": (34887, imagecodecs.lerc_encode)}[name]
    blocks = [bytes(encode(picture(each))) for each in (shape, (16, 16), (16, 16), (16, 16))]
    page = page_of(picture((32, 32)), 8, tile=(16, 16))
    path = write_pages(tmp_path / "a.tif", [replace(page, tags={**page.tags, 259: (3, code)}, blocks=blocks)])
    check_every_way_in({name: Expected(path, error="tile 0 does not decode: it has")}, tmp_path)
