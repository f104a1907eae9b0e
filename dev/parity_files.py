"""The files of dev/parity.py: each combination of format, codec, dtype and layout, how to write it, and what it must read as.

Pixels are the same in every run. The reference is the array that was written where the codec is lossless, otherwise the pixels
that Pillow or the library that wrote the file reads.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product
from typing import Any

import imagecodecs
import numpy as np
import rasterio
import tifffile
from PIL import Image
from rasterio.enums import ColorInterp

Pixels = np.ndarray
_SHAPE = (45, 67)
_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
_SIGNED = ("int8", "int16", "int32", "int64")
_FLOATS = ("float16", "float32", "float64")
_DTYPES = ("bool", *_UNSIGNED, *_SIGNED, *_FLOATS, "complex64", "complex128")
_PAGES = ({"page": 0}, {"series": 0})
_LAYOUTS: dict[str, dict[str, Any]] = {"strips": {"rowsperstrip": 16}, "tiles": {"tile": (32, 48)}}


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        form: the format and the library that writes it; a row of the table.
        name: its other parameters.
        suffix: of the file's name.
        write: writes the file at a path; returns the pixels that were written.
        referee: returns the pixels that reading the file must give, from its path and the pixels that were written; ``None``:
            no library reads the file as ndframes defines it, and only the ways in are compared with one another.
        info: arguments of ``ChannelInfo`` besides the path.
        same: other such arguments that give the same pixels.
    """

    form: str
    name: str
    suffix: str
    write: Callable[[str], Pixels]
    referee: Callable[[str, Pixels], Pixels] | None = lambda _, written: written
    info: dict[str, Any] = field(default_factory=dict)
    same: tuple[dict[str, Any], ...] = ()


def list_cases() -> list[Case]:
    """All combinations; a writer refuses some of them."""
    makers = (
        _tiff_codecs, _tiff_kinds, _tiff_bits, _tiff_palettes, _tiff_stacks, _gdal_tiffs, _gdal_tiff_kinds, _pillow_tiffs,
        _gdal_others, _pillow_others, _animations, _imagecodecs_files, _npy_files,
    )  # fmt: skip
    return [case for make in makers for case in make()]


@cache
def picture(
    shape: tuple[int, ...], dtype: Any = "uint8", *, seed: int = 0, bits: int = 0, special: bool = True
) -> Pixels:
    """Waves with noise over the range of the dtype, or of its first ``bits``, with extremes, infinities and NaN."""
    random = np.random.default_rng([seed, *shape])
    dtype = np.dtype(dtype)
    y, x = np.ogrid[: shape[0], : shape[1]]
    phases = np.arange(shape[2] if len(shape) == 3 else 1)
    waves = np.sin(y[..., None] / 9 + phases) * np.cos(x[..., None] / 7 - phases)
    waves = (waves + random.normal(0, 0.02, waves.shape)).clip(-1, 1).reshape(shape)
    if dtype.kind == "b":
        return waves > 0
    extremes: list[Any]
    if dtype.kind in "ui":
        low, high = (0, (1 << bits) - 1) if bits else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        image = ((waves / 2 + 0.5) * (float(high) - float(low)) * 0.999 + float(low)).astype(dtype)
        extremes = [low, high, low + 1, high - 1]
    elif dtype.kind == "f":
        image = (waves * 100).astype(dtype)
        limits = np.finfo(dtype)
        extremes = [np.inf, -np.inf, np.nan, -0.0, limits.max, limits.tiny] if special else [0, -1]
    else:
        image = (waves * 100 - 50j * waves).astype(dtype)
        extremes = [complex(np.nan, 1), complex(1, np.inf), 0] if special else [0, -1j]
    flat = image.reshape(-1)
    flat[random.choice(flat.size, len(extremes), replace=False)] = extremes
    return image


# -- TIFF by tifffile ---------------------------------------------------------------------------------------------------


def _write_tiff(path: str, *, pixels: Pixels, **options: Any) -> Pixels:
    planar = options.get("planarconfig") == "separate"
    tifffile.imwrite(path, pixels.transpose(2, 0, 1) if planar else pixels, **{"metadata": None, **options})
    return pixels


def _tiff(name: str, pixels: Pixels, referee: Any = Case.referee, **options: Any) -> Case:
    if pixels.ndim == 3:
        options.setdefault("planarconfig", "contig")
    write = partial(_write_tiff, pixels=pixels, **options)
    return Case("TIFF, tifffile", name, "tif", write, referee, same=_PAGES)


def _tiff_codecs() -> Iterator[Case]:
    lossless = {"webp": {"lossless": True}, "jpegxl": {"lossless": True}, "lerc": {"level": 0}}
    codecs = ("none", "lzw", "packbits", "deflate", "lzma", "zstd", "lerc", "png", "jpeg2000", "jpegxr", "jpegxl", "webp", "jpeg")  # fmt: skip
    for codec, dtype, layout, form in product(codecs, _DTYPES, _LAYOUTS, ("gray", "rgb", "planes")):
        pixels = picture(_SHAPE if form == "gray" else (*_SHAPE, 3), dtype, special=codec not in lossless)
        options = {
            **_LAYOUTS[layout],
            "photometric": "rgb" if form != "gray" and dtype in _UNSIGNED else "minisblack",
            "compression": None if codec == "none" else codec,
            "compressionargs": lossless.get(codec),
        }
        if form == "planes":
            options["planarconfig"] = "separate"
        referee: Any = Case.referee if codec != "jpeg" else (lambda path, _: read_by_pillow(path))
        # tifffile does not read the bits of three samples as it packed them; GDAL agrees. The other encoders keep 26 bits of
        # integers, and fewer of floats than they take.
        is_changed = (codec == "jpeg2000" and dtype.endswith("32")) or (codec == "jpegxr" and dtype == "float32")
        if is_changed or (dtype == "bool" and form == "rgb"):
            referee = _read_by_tifffile
        yield _tiff(f"{codec} {dtype} {layout} {form}", pixels, referee, **options)
        if codec in ("lzw", "deflate", "zstd", "lzma") and layout == "tiles":
            for order in "<>":
                yield _tiff(
                    f"{codec} {dtype} predictor {form} {order}",
                    pixels,
                    referee,
                    byteorder=order,
                    predictor=True,
                    **options,
                )


def _read_by_tifffile(path: str, _: Pixels) -> Pixels:
    pixels = tifffile.imread(path)
    return pixels.transpose(1, 2, 0) if pixels.shape[0] == 3 else pixels


def _tiff_kinds() -> Iterator[Case]:
    photometrics = ("minisblack", "miniswhite", "rgb", "separated", "cielab", "ycbcr")
    headers = (("<", False), (">", True))
    for photometric, bands, dtype, (order, big) in product(photometrics, (1, 2, 3, 4, 5, 13), ("uint8", "uint16", "float32"), headers):  # fmt: skip
        pixels = picture(_SHAPE if bands == 1 else (*_SHAPE, bands), dtype)
        yield _tiff(
            f"{photometric} {bands} bands {dtype} {order} {'big' if big else 'classic'}", pixels,
            None if photometric == "ycbcr" else Case.referee, photometric=photometric, byteorder=order, bigtiff=big,
        )  # fmt: skip
    for dtype, rows in product(("uint8", "int16", "float64"), (1, 7, 45, 100)):
        yield _tiff(f"{dtype} strips of {rows}", picture((*_SHAPE, 3), dtype), rowsperstrip=rows, compression="zstd", photometric="minisblack")  # fmt: skip
    for extra in ("assocalpha", "unassalpha", "unspecified"):
        yield _tiff(f"rgb with {extra}", picture((*_SHAPE, 4)), photometric="rgb", extrasamples=[extra])


def _tiff_bits() -> Iterator[Case]:
    for bits, form, (layout, order) in product(range(1, 32), ("gray", "rgb"), (("strips", "<"), ("tiles", ">"))):
        dtype = "uint8" if bits <= 8 else "uint16" if bits <= 16 else "uint32"
        pixels = picture(_SHAPE if form == "gray" else (*_SHAPE, 3), dtype, bits=bits)
        referee: Any = (lambda _, written: written.astype(bool)) if bits == 1 else Case.referee
        # tifffile packs large-endian samples in an order that it does not read itself.
        if order == ">" and bits > 8 and bits != 16:
            referee = _read_by_gdal
        if bits == 24:  # libraries disagree; ndframes reads three bytes in the file's byte order
            referee = None
        yield _tiff(f"{bits} bits {form} {layout} {order}", pixels, referee, bitspersample=bits, byteorder=order,
                    photometric="minisblack" if form == "gray" else "rgb", **_LAYOUTS[layout])  # fmt: skip


def _tiff_palettes() -> Iterator[Case]:
    for bits, depth, layout, codec in product((1, 2, 4, 8, 16), (8, 16), _LAYOUTS, (None, "zstd")):
        random = np.random.default_rng(bits)
        indices = random.integers(0, 1 << bits, _SHAPE).astype("uint8" if bits <= 8 else "uint16")
        colours = random.integers(0, 1 << depth, (1 << bits, 3)).astype(f"uint{depth}")
        stored = colours.astype("uint16") * (257 if depth == 8 else 1)
        shown = (stored >> 8).astype("uint8")  # the high byte of each entry, as in other programs
        yield _tiff(
            f"palette {bits} bits of {depth} {layout} {codec or 'none'}", indices, lambda _, written, table=shown: table[written],
            photometric="palette", colormap=stored.T, bitspersample=bits if bits < 8 else None, compression=codec, **_LAYOUTS[layout],
        )  # fmt: skip


def _tiff_stacks() -> Iterator[Case]:
    """Stacks without a page, which ndframes may refuse, and a page of each."""
    kinds: dict[str, dict[str, Any]] = {
        "plain": {"metadata": None}, "shaped": {"metadata": {}}, "imagej": {"imagej": True}, "ome": {"ome": True},
    }  # fmt: skip
    for (kind, options), axes, dtype, layout in product(kinds.items(), ("TYX", "CYX", "ZYX", "ZYXS"), ("uint8", "uint16"), _LAYOUTS):  # fmt: skip
        named = {**options, "metadata": {**(options.get("metadata") or {}), "axes": axes}} if kind in ("imagej", "ome") else options  # fmt: skip
        shape = (3, *_SHAPE, 3) if axes == "ZYXS" else (3, *_SHAPE)
        pixels = np.stack([picture(shape[1:], dtype, seed=number) for number in range(3)])
        every = {**named, **_LAYOUTS[layout], "photometric": "rgb" if axes == "ZYXS" else "minisblack"}
        name = f"{kind} {axes} {dtype} {layout}"
        write = partial(_write_tiff, pixels=pixels, **every)
        yield Case(
            "TIFF stacks, tifffile", name, "tif", write, _channels if axes == "CYX" else None, same=({"series": 0},)
        )
        for page in range(3):
            yield Case(
                "TIFF stacks, tifffile", f"{name} page {page}", "tif", write, partial(_take, index=page), {"page": page}
            )


def _channels(_: str, written: Pixels) -> Pixels:
    return written.transpose(1, 2, 0)


def _take(_: str, written: Pixels, *, index: int) -> Pixels:
    return written[index]


# -- GDAL ---------------------------------------------------------------------------------------------------------------


def _write_gdal(path: str, *, pixels: Pixels, driver: str, dtype: str = "", colormap: Any = None, overviews: Any = (), **options: Any) -> Pixels:  # fmt: skip
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    stored = (
        planes.astype("uint8")
        if planes.dtype == bool
        else planes.astype("float32")
        if planes.dtype == "float16"
        else planes
    )
    count, height, width = stored.shape
    profile = {"count": count, "height": height, "width": width, "dtype": dtype or stored.dtype.name}
    with rasterio.Env(GDAL_PAM_ENABLED=False), rasterio.open(path, "w", driver=driver, **profile, **options) as file:
        file.write(stored)
        if colormap is not None:
            file.colorinterp = [ColorInterp.palette]
            file.write_colormap(1, colormap)
    if overviews:
        with rasterio.open(path, "r+") as file:
            file.build_overviews(list(overviews))
    return pixels


def _gdal(
    form: str, name: str, pixels: Pixels, referee: Any = Case.referee, suffix: str = "tif", **options: Any
) -> Case:
    write = partial(_write_gdal, pixels=pixels, **{"driver": "GTiff", **options})
    named = {} if suffix in _DETECTED else {"driver": options.get("driver", "GTiff")}
    return Case(form, name, suffix, write, referee, named, _PAGES if suffix == "tif" else ())


def _read_by_gdal(path: str, _: Pixels, *, driver: str | None = None) -> Pixels:
    with rasterio.open(path, driver=driver) as file:
        planes = file.read()
        if file.colorinterp[0] == ColorInterp.palette and driver != "BMP":  # a ramp of gray in a BMP is gray
            table = file.colormap(1)
            return np.array([table[index][:3] for index in range(len(table))], np.uint8)[planes[0]]
        return planes.transpose(1, 2, 0)


def _gdal_tiffs() -> Iterator[Case]:
    form = "TIFF, GDAL"
    compressions = (
        "NONE",
        "LZW",
        "PACKBITS",
        "DEFLATE",
        "ZSTD",
        "LERC",
        "LERC_DEFLATE",
        "LERC_ZSTD",
        "LZMA",
        "WEBP",
        "JXL",
        "JPEG",
    )
    layouts = {"strips": {"blockysize": 16}, "tiles": {"tiled": True, "blockxsize": 32, "blockysize": 48}}
    dtypes = (*_UNSIGNED, *_SIGNED, "float32", "float64", "complex64", "complex128", "complex_int16")
    for compress, dtype, layout, bands in product(compressions, dtypes, layouts, ("gray", "pixel", "band")):
        whole = dtype == "complex_int16"
        shape = _SHAPE if bands == "gray" else (*_SHAPE, 3)
        pixels = picture(
            shape, "complex64" if whole else dtype, special="LERC" not in compress and compress != "JXL" and not whole
        )
        pixels = np.round(pixels) if whole else pixels
        options: dict[str, Any] = {
            "compress": compress,
            "interleave": "pixel" if bands == "gray" else bands,
            **layouts[layout],
        }
        options |= (
            {"webp_lossless": True} if compress == "WEBP" else {"jxl_lossless": "YES"} if compress == "JXL" else {}
        )
        referee: Any = Case.referee
        if compress == "JPEG":  # Pillow does not know signed samples
            referee = _read_by_gdal if dtype == "int8" else (lambda path, _: read_by_pillow(path))
        yield _gdal(form, f"{compress} {dtype} {layout} {bands}", pixels, referee, dtype=dtype, **options)
        if compress in ("LZW", "DEFLATE", "ZSTD") and layout == "tiles":
            predictor = 3 if dtype.startswith("float") else 2
            for order in ("LITTLE", "BIG"):
                yield _gdal(form, f"{compress} {dtype} predictor {bands} {order}", pixels, dtype=dtype, predictor=predictor, endianness=order, **options)  # fmt: skip


def _gdal_tiff_kinds() -> Iterator[Case]:
    form = "TIFF, GDAL"
    codecs = ("NONE", "DEFLATE", "LZW", "CCITTFAX3", "CCITTFAX4", "CCITTRLE")
    for bits, codec, tiled in product(range(1, 32), codecs, (False, True)):
        if codec.startswith("CCITT") and bits > 1:
            continue
        dtype = "bool" if bits == 1 else "uint8" if bits <= 8 else "uint16" if bits <= 16 else "uint32"
        sizes = {"tiled": True, "blockxsize": 16, "blockysize": 32} if tiled else {}
        for photometric in ("MINISBLACK", "MINISWHITE") if bits == 1 else ("MINISBLACK",):
            pixels = picture(_SHAPE, dtype, bits=bits)
            referee = None if bits == 24 else Case.referee  # libraries disagree on the order of three bytes
            yield _gdal(form, f"{bits} bits {codec} {'tiles' if tiled else 'strips'} {photometric}", pixels, referee, nbits=bits, compress=codec, photometric=photometric, **sizes)  # fmt: skip
    for compress, bands in product(("NONE", "ZSTD"), (1, 3)):
        pixels = picture(_SHAPE if bands == 1 else (*_SHAPE, 3), "float16")
        yield _gdal(form, f"half floats {compress} {bands}", pixels, nbits=16, compress=compress)
    for photometric, bands, dtype in product(
        ("MINISBLACK", "MINISWHITE", "RGB", "CMYK", "CIELAB"), (1, 3, 4, 5), ("uint8", "uint16")
    ):
        pixels = picture(_SHAPE if bands == 1 else (*_SHAPE, bands), dtype)
        yield _gdal(form, f"{photometric} {bands} bands {dtype}", pixels, photometric=photometric)
    for quality, tiled, photometric in product((50, 90), (False, True), ("YCBCR", "RGB")):
        sizes = {"tiled": True, "blockxsize": 32, "blockysize": 32} if tiled else {}
        yield _gdal(form, f"JPEG {photometric} {quality} {'tiles' if tiled else 'strips'}", picture((*_SHAPE, 3)), lambda path, _: read_by_pillow(path), compress="JPEG", jpeg_quality=quality, photometric=photometric, **sizes)  # fmt: skip
    for dtype, overviews in product(("uint8", "int16", "float32"), ((), (2, 4))):
        pixels = picture((150, 200, 3), dtype)
        yield _gdal(form, f"COG {dtype}", pixels, driver="COG", compress="ZSTD", blocksize=128, overviews=())
        yield _gdal(form, f"overviews {overviews} {dtype} nodata", pixels, tiled=True, blockxsize=64, blockysize=64, nodata=1, overviews=overviews)  # fmt: skip
    for nbits, codec in product((1, 2, 4, 8), ("NONE", "DEFLATE")):
        random = np.random.default_rng(nbits)
        indices = random.integers(0, 1 << nbits, _SHAPE).astype("uint8")
        colours = random.integers(0, 256, (256, 3)).astype("uint8")
        table = {index: (*map(int, colours[index]), 255) for index in range(1 << nbits)}
        yield _gdal(form, f"palette {nbits} {codec}", indices, lambda _, written, colours=colours: colours[written], colormap=table, nbits=nbits, compress=codec, photometric="PALETTE")  # fmt: skip


_DETECTED = {"tif": "GTiff", "png": "PNG", "jpg": "JPEG", "jp2": "JP2OpenJPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "ntf": "NITF", "pnm": "PNM"}  # fmt: skip
_NAMED = ("AAIGrid", "BT", "EHdr", "ENVI", "ERS", "GSBG", "HFA", "ISIS3", "KRO", "LAN", "MRF", "PCIDSK", "PCRaster", "RMF", "RRASTER", "RST", "SAGA", "VICAR")  # fmt: skip

_SUFFIXES = {"EHdr": "bil", "PCRaster": "map", "RRASTER": "grd", "SAGA": "sdat"}


def _gdal_others() -> Iterator[Case]:
    drivers = {**_DETECTED, **{_SUFFIXES.get(driver, driver.lower()): driver for driver in _NAMED}}
    del drivers["tif"]
    dtypes = (*_UNSIGNED, *_SIGNED, "float32", "float64", "complex64")
    options: dict[str, list[dict[str, Any]]] = {
        "JP2OpenJPEG": [{"quality": 100, "reversible": True, "ycbcr420": False}, {"quality": 100, "reversible": True, "blockxsize": 32, "blockysize": 32}, {"quality": 20}, {"ycbcr420": True}],
        "WEBP": [{"lossless": True}, {"quality": 70}], "JPEG": [{"quality": 90}, {"quality": 60, "progressive": True}],
        "NITF": [{}, {"blockxsize": 32, "blockysize": 32}, {"ic": "C8"}],
    }  # fmt: skip
    for (suffix, driver), dtype, bands in product(drivers.items(), dtypes, (1, 2, 3, 4)):
        for extra in options.get(driver, [{}]):
            pixels = picture(
                _SHAPE if bands == 1 else (*_SHAPE, bands), dtype, special=driver not in ("AAIGrid", "GSBG")
            )
            referee: Any = partial(_read_by_gdal, driver=driver)
            if driver in ("JPEG", "WEBP", "GIF"):
                referee = lambda path, _: read_by_pillow(path)  # noqa: E731
            name = f"{dtype} {bands} bands {' '.join(map(str, extra.values()))}".strip()
            yield _gdal(f"{driver}, GDAL", name, pixels, referee, suffix, driver=driver, **extra)


# -- Pillow -------------------------------------------------------------------------------------------------------------


def read_by_pillow(path: str) -> Pixels:
    """The pixels of Pillow: palettes in their colours, with alpha if an entry is transparent, and inks of a JPEG as RGB."""
    with Image.open(path) as image:
        if image.mode == "L" and image.format == "PNG":
            return np.asarray(image) // {2: 85, 4: 17}.get(_png_bits(path), 1)  # Pillow scales them to 8 bits
        if image.mode == "I" and image.format == "PPM":
            return np.asarray(image).astype(np.uint16)
        if image.mode in ("P", "PA"):
            opaque = "transparency" not in image.info and image.mode == "P"
            return np.asarray(image.convert("RGB" if opaque else "RGBA"))
        return np.asarray(image.convert("RGB") if image.mode == "CMYK" and image.format == "JPEG" else image)


def _png_bits(path: str) -> int:
    with open(path, "rb") as file:
        return file.read(25)[24]


_MODES = {
    "1": 1,
    "L": 1,
    "LA": 2,
    "P": 3,
    "RGB": 3,
    "RGBA": 4,
    "CMYK": 4,
    "YCbCr": 3,
    "LAB": 3,
    "I;16": 1,
    "I": 1,
    "F": 1,
}


def _write_pillow(path: str, *, mode: str, **options: Any) -> Pixels:
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": "uint16", "I": "int32", "F": "float32"}[mode]
        image = Image.fromarray(picture(_SHAPE, dtype))
    else:
        bands = _MODES[mode]
        pixels = picture(_SHAPE if bands == 1 else (*_SHAPE, bands))
        image = Image.fromarray(pixels).convert("1") if mode == "1" else Image.fromarray(pixels)
        if mode == "P":
            image = image.quantize(32)
        elif image.mode != mode:
            image = Image.frombytes(mode, image.size, pixels.tobytes())
    image.save(path, **options)
    return np.asarray(image)


def _pillow_tiffs() -> Iterator[Case]:
    codecs = (
        "raw",
        "tiff_lzw",
        "tiff_adobe_deflate",
        "packbits",
        "group3",
        "group4",
        "jpeg",
        "webp",
        "zstd",
        "lzma",
        "tiff_ccitt",
    )
    for mode, codec in product(_MODES, codecs):
        referee: Any = None if mode == "YCbCr" and codec != "jpeg" else (lambda path, _: read_by_pillow(path))
        yield Case("TIFF, Pillow", f"{mode} {codec}", "tif", partial(_write_pillow, mode=mode, format="TIFF", compression=codec), referee, same=_PAGES)  # fmt: skip


def _pillow_others() -> Iterator[Case]:
    options: dict[str, list[dict[str, Any]]] = {
        "JPEG": [{"quality": 90}, {"quality": 95, "subsampling": 0}, {"quality": 50, "progressive": True}, {"subsampling": 1}],
        "WEBP": [{"lossless": True, "exact": True}, {"quality": 60}],
        "GIF": [{}, {"interlace": 1}], "AVIF": [{"quality": 90}, {"quality": 100, "subsampling": "4:4:4"}],
        "JPEG2000": [{}, {"irreversible": True, "quality_layers": [20]}], "DDS": [{}, {"pixel_format": "DXT1"}, {"pixel_format": "BC3"}],
        "PNG": [{}, {"bits": 4}, {"bits": 2}, {"transparency": 3}], "ICO": [{"sizes": [(67, 45)]}, {"sizes": [(67, 45)], "bitmap_format": "bmp"}],
    }  # fmt: skip
    suffixes = {"JPEG": "jpg", "JPEG2000": "jp2", "PPM": "ppm"}
    formats = ("AVIF", "BMP", "DIB", "DDS", "GIF", "ICNS", "ICO", "IM", "JPEG", "JPEG2000", "MPO", "MSP", "PCX", "PNG", "PPM", "QOI", "SGI", "SPIDER", "TGA", "WEBP", "XBM")  # fmt: skip
    for form, mode in product(formats, _MODES):
        for extra in options.get(form, [{}]):
            name = f"{mode} {' '.join(f'{key}={value}' for key, value in extra.items())}".strip()
            write = partial(_write_pillow, mode=mode, format=form, **extra)
            yield Case(
                f"{form}, Pillow", name, suffixes.get(form, form.lower()), write, lambda path, _: read_by_pillow(path)
            )


def _write_animation(path: str, *, form: str, mode: str, **options: Any) -> Pixels:
    frames = [Image.fromarray(picture((*_SHAPE, _MODES[mode]), seed=number)) for number in range(3)]
    frames[0].save(path, format=form, save_all=True, append_images=frames[1:], duration=80, **options)
    return np.stack([np.asarray(frame) for frame in frames])


def _read_frames(path: str, _: Pixels, *, index: int | None = None) -> Pixels:
    with Image.open(path) as image:
        frames = []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGBA")))
    stack = np.stack(frames)
    stack = stack[..., :3] if (stack[..., 3] == 255).all() else stack
    return stack if index is None else stack[index]


def _animations() -> Iterator[Case]:
    for form, mode in product(("GIF", "PNG", "WEBP", "AVIF"), ("RGB", "RGBA")):
        write = partial(_write_animation, form=form, mode=mode, **({"lossless": True} if form == "WEBP" else {}))
        yield Case("Animations, Pillow", f"{form} {mode}", form.lower(), write, _read_frames)
        for page in range(3):
            yield Case("Animations, Pillow", f"{form} {mode} page {page}", form.lower(), write, partial(_read_frames, index=page), {"page": page})  # fmt: skip


# -- imagecodecs and numpy ----------------------------------------------------------------------------------------------


def _write_bytes(path: str, *, encode: Callable[[Pixels], Any], pixels: Pixels) -> Pixels:
    with open(path, "wb") as file:
        file.write(encode(pixels))
    return pixels


def _decode(path: str, written: Pixels, *, codec: str, name: str) -> Pixels:
    is_animation = codec == "gif" and written.ndim == 3
    if codec in ("gif", "avif", "jpeg8") and "bitspersample" not in name and not is_animation:
        return read_by_pillow(path)  # gray GIF, and inks of a JPEG
    with open(path, "rb") as file:
        pixels = getattr(imagecodecs, f"{codec}_decode")(file.read())
    return pixels if codec != "htj2k" or pixels.shape == written.shape else pixels.transpose(1, 2, 0)


def _imagecodecs_files() -> Iterator[Case]:
    codecs: dict[str, tuple[str, list[dict[str, Any]]]] = {
        "png": ("png", [{}]), "spng": ("png", [{}]), "jpeg8": ("jpg", [{"level": 90}, {"level": 90, "bitspersample": 12}]),
        "mozjpeg": ("jpg", [{"level": 90}]), "jpegls": ("jpg", [{}]), "ljpeg": ("jpg", [{}, {"bitspersample": 12}]), "jpegsof3": ("jpg", [{}]),
        "jpeg2k": ("jp2", [{"codecformat": form, **extra} for form in ("jp2", "j2k") for extra in ({"level": 0}, {"level": 40}, {"level": 0, "mct": False})]),
        "htj2k": ("j2k", [{}]), "webp": ("webp", [{"lossless": True}, {"level": 80}]), "qoi": ("qoi", [{}]), "bmp": ("bmp", [{}]),
        "avif": ("avif", [{"level": 100}, {"level": 80}, *({"level": 100, "bitspersample": bits} for bits in (10, 12))]),
        "gif": ("gif", [{}]), "rgbe": ("hdr", [{}]), "jpegxl": ("jxl", [{}]), "jpegxr": ("jxr", [{}]), "heif": ("heic", [{}]),
        "apng": ("png", [{}]), "tiff": ("tif", [{}]), "numpy": ("npy", [{}]),
    }  # fmt: skip
    for (codec, (suffix, variants)), dtype, bands in product(
        codecs.items(), ("bool", *_UNSIGNED, *_SIGNED, "float32"), (1, 2, 3, 4)
    ):
        for extra in variants:
            bits = extra.get("bitspersample", 0) if dtype == "uint16" else 0
            shape = _SHAPE if bands == 1 else (*_SHAPE, bands)
            pixels = picture(shape, dtype, bits=bits, special=False)
            pixels = np.abs(pixels) if codec == "rgbe" and dtype == "float32" else pixels
            encode = partial(getattr(imagecodecs, f"{codec}_encode"), **extra)
            name = f"{codec} {dtype} {bands} bands {' '.join(f'{key}={value}' for key, value in extra.items())}".strip()
            yield Case(f"{suffix}, imagecodecs", name, suffix, partial(_write_bytes, encode=encode, pixels=pixels), partial(_decode, codec=codec, name=name))  # fmt: skip


def _to_npy(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    return buffer.getvalue()


def _npy_files() -> Iterator[Case]:
    for dtype, order, endian, bands in product(_DTYPES, "CF", "<>", (0, 1, 3, 5)):
        native = picture((*_SHAPE, bands) if bands else _SHAPE, dtype)
        stored = np.asarray(native, native.dtype.newbyteorder(endian), order=order)
        write = partial(_write_bytes, encode=_to_npy, pixels=stored)
        yield Case("npy, numpy", f"{dtype} {order} {endian} {bands} bands", "npy", write, lambda _, written: written.astype(written.dtype.newbyteorder("=")))  # fmt: skip
