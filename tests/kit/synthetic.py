"""Sample files of every kind, each with the pixels that reading it must give."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import rasterio
import tifffile
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FLOATS = ("float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
DTYPES = ("bool", *INTEGERS, *FLOATS, *COMPLEX)
SHAPE = (61, 83)


@dataclass(frozen=True)
class Sample:
    """One sample file.

    Attributes:
        name: of the sample; its first word is the file's suffix.
        write: writes the file to a path and returns its pixels, ``(h, w)`` or ``(h, w, c)``.
        tolerance: the largest allowed difference of a pixel, and eight times the largest mean difference. Over 0 only for
            codecs whose reference is another decoder, which may interpolate chroma differently.
        info: arguments of ``ChannelInfo`` besides the path.
        overviews: expected shapes of the overviews.
    """

    name: str
    write: Callable[[Path], np.ndarray]
    tolerance: float = 0
    info: dict[str, Any] = field(default_factory=dict)
    overviews: tuple[tuple[int, int], ...] = ()

    def make(self, folder: Path) -> tuple[str, np.ndarray]:
        """Write the file; return its path and its pixels ``(h, w, c)``."""
        path = Path(folder) / f"{self.name.replace(' ', '_')}.{self.name.split()[0]}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            pixels = self.write(path)
        return str(path), pixels if pixels.ndim == 3 else pixels[:, :, None]


def picture(shape: Sequence[int], dtype: Any = "uint8", *, seed: int = 0) -> np.ndarray:
    """Waves with noise over the whole range of the dtype, including extremes and, for floats, infinities and NaN."""
    random = np.random.default_rng([seed, *shape])
    dtype = np.dtype(dtype)
    y, x = np.ogrid[: shape[0], : shape[1]]
    bands = shape[2] if len(shape) == 3 else 1
    phases = np.arange(bands)
    waves = np.sin(y[..., None] / 9 + phases) * np.cos(x[..., None] / 7 - phases)
    waves = (waves + random.normal(0, 0.02, waves.shape)).clip(-1, 1).reshape(shape)
    if dtype.kind == "b":
        return waves > 0
    if dtype.kind in "ui":
        limits = np.iinfo(dtype)
        scaled = (waves / 2 + 0.5) * (float(limits.max) - float(limits.min)) * 0.999 + float(limits.min)
        image = scaled.astype(dtype)
        special = [limits.min, limits.max, limits.min + 1, limits.max - 1]
    elif dtype.kind == "f":
        limits = np.finfo(dtype)
        image = (waves * 100).astype(dtype)
        special = [np.inf, -np.inf, np.nan, -0.0, limits.max, limits.tiny, limits.smallest_subnormal]
    else:
        image = (waves * 100 + 1j * waves.T.reshape(shape)[::-1]).astype(dtype)
        special = [complex(np.nan, 1), complex(1, np.inf), 0]
    flat = image.reshape(-1)
    places = random.choice(flat.size, min(len(special), flat.size), replace=False)
    flat[places] = special[: len(places)]
    return image


def tiff(shape: Sequence[int] = SHAPE, dtype: Any = "uint8", **options: Any) -> Callable[[Path], np.ndarray]:
    """A TIFF written by tifffile."""

    def write(path: Path) -> np.ndarray:
        pixels = picture(shape, dtype)
        if options.get("compression") == "lerc" and pixels.dtype.kind == "f":
            pixels = np.nan_to_num(pixels, posinf=0, neginf=0)
        arguments = {"photometric": "rgb" if len(shape) == 3 and shape[2] in (3, 4) else "minisblack", **options}
        planar = arguments.get("planarconfig") == "separate"
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        if pixels.ndim == 3:
            arguments.setdefault("planarconfig", "contig")
        tifffile.imwrite(path, pixels.transpose(2, 0, 1) if planar else pixels, metadata=None, **arguments)
        return pixels

    return write


def gdal(
    driver: str, shape: Sequence[int] = SHAPE, dtype: Any = "uint8", **options: Any
) -> Callable[[Path], np.ndarray]:
    """A file written by GDAL."""

    def write(path: Path) -> np.ndarray:
        pixels = picture(shape, dtype)
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        write_gdal(path, driver, planes.astype("uint8") if pixels.dtype == bool else planes, **options)
        return pixels

    return write


def write_gdal(
    path: Path, driver: str, planes: np.ndarray, *, colormap: Any = None, overviews: Sequence[int] = (), **options: Any
) -> None:
    """Write planes ``(c, h, w)`` by a GDAL driver."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        count, height, width = planes.shape
        profile = {"count": count, "height": height, "width": width, "dtype": planes.dtype.name}
        with (
            rasterio.Env(GDAL_PAM_ENABLED=False),
            rasterio.open(path, "w", driver=driver, **profile, **options) as file,
        ):
            file.write(planes)
            if colormap is not None:
                file.colorinterp = [ColorInterp.palette]
                file.write_colormap(1, colormap)
        if overviews:
            with rasterio.open(path, "r+") as file:
                file.build_overviews(list(overviews))


def tiff_palette(bits: int, *, big: bool) -> Callable[[Path], np.ndarray]:
    """A TIFF with a colour map."""

    def write(path: Path) -> np.ndarray:
        random = np.random.default_rng(bits)
        indices = random.integers(0, 1 << bits, SHAPE).astype("uint8" if bits <= 8 else "uint16")
        colours = random.integers(0, 256, (1 << bits, 3)).astype("uint8")
        tifffile.imwrite(
            path, indices, photometric="palette", colormap=colours.T.astype("uint16") * 257, bigtiff=big, metadata=None
        )
        return colours[indices]

    return write


def tiff_pyramid(path: Path) -> np.ndarray:
    """An OME-TIFF of three channels, its levels in SubIFDs."""
    pixels = picture((256, 320, 3), "uint16")
    with tifffile.TiffWriter(path, ome=True) as file:
        options = {"photometric": "minisblack", "tile": (64, 64), "compression": "deflate"}
        planes = pixels.transpose(2, 0, 1)
        file.write(planes, subifds=2, metadata={"axes": "CYX"}, **options)
        file.write(planes[:, ::2, ::2], subfiletype=1, **options)
        file.write(planes[:, ::4, ::4], subfiletype=1, **options)
    return pixels


def tiff_slide(path: Path) -> np.ndarray:
    """A slide in the layout of Aperio's scanners: image, thumbnail, levels, label."""
    pixels = picture((300, 420, 3))
    options = {"photometric": "rgb", "metadata": None, "compression": "deflate"}
    with tifffile.TiffWriter(path) as file:
        description = "Aperio Image Library v11.2.1\r\n420x300 [0,0 420x300] (64x64)|AppMag = 20"
        file.write(pixels, tile=(64, 64), description=description, **options)
        file.write(
            pixels[::6, ::6], description="Aperio Image Library v11.2.1\r\n420x300 -> 70x50", rowsperstrip=16, **options
        )
        file.write(pixels[::4, ::4], tile=(64, 64), description=description, **options)
        file.write(
            picture((30, 40, 3), seed=5),
            description="Aperio Image Library v11.2.1\r\nlabel 40x30",
            subfiletype=1,
            rowsperstrip=30,
            **options,
        )
    return pixels


def tiff_stack(path: Path) -> np.ndarray:
    """Five pages; the sample is the fourth."""
    pages = np.stack([picture(SHAPE, "uint16", seed=number) for number in range(5)])
    tifffile.imwrite(path, pages, photometric="minisblack", compression="zstd", rowsperstrip=7)
    return pages[3]


def tiff_two_series(path: Path) -> np.ndarray:
    """Two images of different shapes; the sample is the second."""
    wanted = picture((40, 30, 3))
    with tifffile.TiffWriter(path) as file:
        file.write(picture(SHAPE, "float32"), photometric="minisblack")
        file.write(wanted, photometric="rgb")
    return wanted


def tiff_ome_planes(path: Path) -> np.ndarray:
    """An OME-TIFF over time and channels; the sample is one plane."""
    stack = np.stack([picture(SHAPE, "uint16", seed=number) for number in range(6)]).reshape(2, 3, *SHAPE)
    tifffile.imwrite(path, stack, ome=True, photometric="minisblack", metadata={"axes": "TCYX"})
    return stack[1, 1]


def tiff_jpeg(*, gray: bool = False) -> Callable[[Path], np.ndarray]:
    """A TIFF of JPEG tiles; the reference is tifffile."""

    def write(path: Path) -> np.ndarray:
        planes = picture(SHAPE)[None] if gray else picture((*SHAPE, 3)).transpose(2, 0, 1)
        options = {} if gray else {"photometric": "YCBCR"}
        write_gdal(path, "GTiff", planes, compress="JPEG", tiled=True, blockxsize=32, blockysize=32, **options)
        return tifffile.imread(path)

    return write


def tiff_half_float(path: Path) -> np.ndarray:
    """16-bit floats, written by GDAL, which holds them as 32 bits in memory."""
    pixels = picture((*SHAPE, 2), "float16")
    write_gdal(path, "GTiff", pixels.transpose(2, 0, 1).astype("float32"), nbits=16, compress="DEFLATE")
    return pixels


def tiff_one_bit(compress: str, **options: Any) -> Callable[[Path], np.ndarray]:
    """One-bit samples, written by GDAL."""

    def write(path: Path) -> np.ndarray:
        pixels = picture(SHAPE, bool)
        write_gdal(path, "GTiff", pixels[None].astype("uint8"), nbits=1, compress=compress, **options)
        return pixels

    return write


def png(
    depth: int, colour: int, *, interlaced: bool = False, palette: np.ndarray | None = None
) -> Callable[[Path], np.ndarray]:
    """A PNG of any bit depth and colour type, plain or interlaced, encoded here."""

    def write(path: Path) -> np.ndarray:
        samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        random = np.random.default_rng(depth)
        smooth = picture((*SHAPE, samples), "uint16") >> (16 - depth)
        pixels = random.integers(0, len(palette), (*SHAPE, 1)) if palette is not None else smooth
        pixels = pixels.astype(np.uint16 if depth == 16 else np.uint8)
        path.write_bytes(encode_png(pixels, depth, colour, interlaced=interlaced, palette=palette))
        if palette is not None:
            return palette[pixels[:, :, 0]]
        return pixels > 0 if depth == 1 else pixels

    return write


def encode_png(
    pixels: np.ndarray, depth: int, colour: int, *, interlaced: bool = False, palette: np.ndarray | None = None
) -> bytes:
    """The bytes of a PNG, unfiltered."""
    height, width = pixels.shape[:2]
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    raw = b"".join(_png_rows(pixels[y::dy, x::dx], depth) for y, x, dy, dx in passes)
    parts = [("IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, int(interlaced)))]
    if palette is not None:
        parts.append(("PLTE", palette[:, :3].tobytes()))
        if palette.shape[1] == 4:
            parts.append(("tRNS", palette[:, 3].tobytes()))
    parts += [("IDAT", zlib.compress(raw)), ("IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind.encode(), data) for kind, data in parts)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_rows(pixels: np.ndarray, depth: int) -> bytes:
    if not pixels.size:
        return b""
    flat = pixels.reshape(len(pixels), -1)
    if depth < 8:
        bits = (flat[..., None] >> np.arange(depth - 1, -1, -1, dtype=np.uint8)) & 1
        packed = np.packbits(bits.reshape(len(flat), -1).astype(np.uint8), axis=1)
    else:
        packed = np.ascontiguousarray(flat, flat.dtype.newbyteorder(">")).view(np.uint8).reshape(len(flat), -1)
    return np.pad(packed, ((0, 0), (1, 0))).tobytes()


def pillow(mode: str, **options: Any) -> Callable[[Path], np.ndarray]:
    """An image written by Pillow. Pillow is the reference too, since most of these formats are lossy."""

    def write(path: Path) -> np.ndarray:
        samples = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "1": 1, "P": 3}[mode]
        pixels = picture((*SHAPE, samples))
        if mode == "1":
            image = Image.fromarray(pixels[:, :, 0]).convert("1")
        elif mode == "P":
            image = Image.fromarray(pixels).quantize(32)
        else:
            image = Image.fromarray(
                pixels[:, :, 0] if samples == 1 else pixels, mode=None if mode != "CMYK" else "CMYK"
            )
        image.save(path, **options)
        with Image.open(path) as stored:
            colours = {"P": "RGB", "CMYK": "RGB"}.get(stored.mode, stored.mode)
            return np.asarray(stored if mode == "1" else stored.convert(colours))

    return write


def jpeg_rotated(path: Path) -> np.ndarray:
    """A JPEG with an orientation tag; the sample is the stored grid."""
    image = Image.fromarray(picture((*SHAPE, 3)))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=95)
    with Image.open(path) as stored:
        return np.asarray(stored)


def encoded(
    encode: Callable[[np.ndarray], bytes], shape: Sequence[int], dtype: Any = "uint8"
) -> Callable[[Path], np.ndarray]:
    """A file of bytes from a lossless encoder."""

    def write(path: Path) -> np.ndarray:
        pixels = picture(shape, dtype)
        path.write_bytes(encode(pixels))
        return pixels

    return write


def pnm(kind: int, shape: Sequence[int], most: int) -> Callable[[Path], np.ndarray]:
    """A PNM file: plain (1, 2, 3) or raw (4, 5, 6)."""

    def write(path: Path) -> np.ndarray:
        pixels = picture(shape, "uint16") >> (16 - most.bit_length())
        head = f"P{kind}\n# made by hand\n{shape[1]} {shape[0]}\n" + (f"{most}\n" if kind not in (1, 4) else "")
        if kind in (1, 2, 3):
            body = "".join(" ".join(map(str, row.reshape(-1))) + "\n" for row in pixels).encode()
        elif kind == 4:
            body = np.packbits(pixels.astype(bool), axis=1).tobytes()
        else:
            body = pixels.astype(">u2" if most > 255 else "u1").tobytes()
        path.write_bytes(head.encode() + body)
        if kind in (1, 4):
            return ~pixels.astype(bool)  # 1 is black
        return pixels if most > 255 else pixels.astype("uint8")

    return write


def radiance(path: Path) -> np.ndarray:
    """A Radiance HDR image; the reference is OpenCV, its BGR reversed."""
    pixels = np.abs(np.nan_to_num(picture((*SHAPE, 3), "float32"), posinf=9, neginf=9)).clip(0, 1000)
    cv2.imwrite(str(path), pixels)
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, :, ::-1]


def psd(path: Path) -> np.ndarray:
    """A Photoshop document without layers, its planes uncompressed."""
    pixels = picture((*SHAPE, 3))
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, SHAPE[0], SHAPE[1], 8, 3)
    path.write_bytes(head + struct.pack(">III", 0, 0, 0) + b"\0\0" + pixels.transpose(2, 0, 1).tobytes())
    return pixels


def npy(shape: Sequence[int], dtype: str, order: str = "C") -> Callable[[Path], np.ndarray]:
    """An ``.npy`` file."""

    def write(path: Path) -> np.ndarray:
        pixels = picture(shape, np.dtype(dtype).newbyteorder("="))
        with open(path, "wb") as file:
            np.save(file, np.asarray(pixels, dtype, order=order))
        return pixels

    return write


def _tiff_samples() -> list[Sample]:
    samples = [Sample(f"tif dtype {dtype}", tiff((*SHAPE, 3), dtype)) for dtype in DTYPES if dtype != "bool"]
    samples += [Sample(f"tif bands {bands}", tiff((*SHAPE, bands), "uint16")) for bands in (1, 2, 3, 4, 5, 13)]
    for big, order, rows in product((False, True), "<>", (1, 16, 100)):
        samples.append(Sample(
            f"tif {'big' if big else 'classic'} {'little' if order == '<' else 'large'}-endian strips {rows}",
            tiff((*SHAPE, 3), "uint16", bigtiff=big, byteorder=order, rowsperstrip=rows),
        ))  # fmt: skip
    codecs = ("none", "deflate", "lzw", "zstd", "packbits", "lzma", "lerc", "webp", "jpeg2000", "png")
    for codec, tile, planar in product(codecs, ((32, 48), None), ("contig", "separate")):
        if codec == "webp" and planar == "separate":
            continue
        layout: dict[str, Any] = {"tile": tile} if tile else {"rowsperstrip": 16}
        samples.append(Sample(
            f"tif {codec} {'tiles' if tile else 'strips'} {planar}",
            tiff((*SHAPE, 3), compression=None if codec == "none" else codec, planarconfig=planar, **layout,
                 **({"compressionargs": {"lossless": True}} if codec == "webp" else {})),
        ))  # fmt: skip
    for codec, dtype in product(
        ("deflate", "lzw", "zstd"), ("uint8", "uint16", "int32", "uint64", "float32", "float64")
    ):
        predictor = 3 if dtype.startswith("float") else 2
        samples.append(Sample(
            f"tif {codec} predictor {predictor} {dtype}",
            tiff((*SHAPE, 3), dtype, compression=codec, predictor=predictor, tile=(32, 32)),
        ))  # fmt: skip
    samples += [
        Sample("tif float16 predictor 3", tiff(SHAPE, "float16", compression="deflate", predictor=3, tile=(32, 32))),
        Sample("tif large-endian predictor 2", tiff(SHAPE, "int16", compression="lzw", predictor=2, byteorder=">")),
        Sample("tif lerc float32", tiff(SHAPE, "float32", compression="lerc", tile=(32, 32))),
        Sample("tif bool strips", tiff(SHAPE, "bool", rowsperstrip=9)),
        Sample("tif bool tiles", tiff(SHAPE, "bool", tile=(16, 16), compression="deflate")),
        Sample("tif one-bit fax", tiff_one_bit("CCITTFAX4")),
        Sample("tif one-bit fax3", tiff_one_bit("CCITTFAX3")),
        Sample("tif one-bit minority", tiff_one_bit("DEFLATE", photometric="MINISWHITE", tiled=True, blockxsize=16, blockysize=16)),
        Sample("tif palette 8", tiff_palette(8, big=False)),
        Sample("tif palette 16", tiff_palette(16, big=True)),
        Sample("tif jpeg colour", tiff_jpeg(), tolerance=20),
        Sample("tif jpeg gray", tiff_jpeg(gray=True), tolerance=2),
        Sample("tif overviews", gdal("GTiff", (300, 500, 3), tiled=True, blockxsize=64, blockysize=64, compress="ZSTD", overviews=(2, 4, 8)),
               overviews=((150, 250), (75, 125), (38, 63))),
        Sample("tif half float by gdal", tiff_half_float),
        Sample("tif pyramid ome", tiff_pyramid, overviews=((128, 160), (64, 80))),
        Sample("tif slide", tiff_slide, overviews=((75, 105),)),
        Sample("tif stack", tiff_stack, info={"page": 3}),
        Sample("tif series", tiff_two_series, info={"series": 1}),
        Sample("tif plane", tiff_ome_planes, info={"page": 4, "series": 0}),
    ]  # fmt: skip
    return samples


def _png_samples() -> list[Sample]:
    colours = np.random.default_rng(1).integers(0, 256, (256, 4)).astype("uint8")
    samples = []
    for colour, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (4, (8, 16)), (6, (8, 16))):
        samples += [Sample(f"png colour {colour} depth {depth}", png(depth, colour)) for depth in depths]
    for depth, channels in product((1, 2, 4, 8), (3, 4)):
        palette = np.ascontiguousarray(colours[: 1 << depth, :channels])
        samples.append(Sample(f"png palette depth {depth} of {channels}", png(depth, 3, palette=palette)))
    samples += [
        Sample("png interlaced gray 1", png(1, 0, interlaced=True)),
        Sample("png interlaced rgb 8", png(8, 2, interlaced=True)),
        Sample("png interlaced rgba 16", png(16, 6, interlaced=True)),
        Sample("png interlaced palette", png(4, 3, interlaced=True, palette=np.ascontiguousarray(colours[:16]))),
    ]
    return samples


def _other_samples() -> list[Sample]:
    samples = [
        Sample("jpg gray", pillow("L", quality=90)),
        Sample("jpg rgb", pillow("RGB", quality=90)),
        Sample("jpg full chroma", pillow("RGB", quality=90, subsampling=0)),
        Sample("jpg progressive", pillow("RGB", quality=90, progressive=True)),
        Sample("jpg four inks", pillow("CMYK", quality=90)),
        Sample("jpg rotated", jpeg_rotated),
        Sample("jp2 uint8", encoded(lambda a: imagecodecs.jpeg2k_encode(a, level=0, codecformat="jp2"), (*SHAPE, 3))),
        Sample(
            "jp2 uint16", encoded(lambda a: imagecodecs.jpeg2k_encode(a, level=0, codecformat="jp2"), SHAPE, "uint16")
        ),
        Sample("j2k uint8", encoded(lambda a: imagecodecs.jpeg2k_encode(a, level=0, codecformat="j2k"), (*SHAPE, 3))),
        Sample(
            "jp2 tiles",
            gdal(
                "JP2OpenJPEG", (*SHAPE, 3), quality=100, reversible=True, ycbcr420=False, blockxsize=32, blockysize=32
            ),
        ),
        Sample("webp rgb", encoded(lambda a: imagecodecs.webp_encode(a, lossless=True), (*SHAPE, 3))),
        Sample("webp rgba", pillow("RGBA", lossless=True, exact=True)),
        Sample("webp lossy", pillow("RGB", quality=80), tolerance=3),
        Sample("bmp rgb", pillow("RGB")),
        Sample("bmp gray", pillow("L")),
        Sample("bmp palette", pillow("P")),
        Sample("bmp one-bit", pillow("1")),
        Sample("gif palette", pillow("P")),
        Sample("gif interlaced", pillow("P", interlace=1)),
        Sample("ppm 8", pnm(6, (*SHAPE, 3), 255)),
        Sample("ppm 16", pnm(6, (*SHAPE, 3), 65535)),
        Sample("pgm 8", pnm(5, SHAPE, 255)),
        Sample("pgm 16", pnm(5, SHAPE, 65535)),
        Sample("pgm letters", pnm(2, SHAPE, 255)),
        Sample("ppm letters", pnm(3, (*SHAPE, 3), 255)),
        Sample("pbm letters", pnm(1, SHAPE, 1)),
        Sample("pbm bits", pnm(4, SHAPE, 1)),
        Sample("ntf raw", gdal("NITF", (*SHAPE, 3))),
        Sample("ntf uint16", gdal("NITF", SHAPE, "uint16")),
        Sample("ntf blocks", gdal("NITF", (*SHAPE, 3), blockxsize=32, blockysize=32)),
        Sample("sgi rgb", pillow("RGB")),
        Sample("sgi gray", pillow("L")),
        Sample("hdr rgb", radiance),
        Sample("avif rgb", pillow("RGB", quality=90), tolerance=1),
        Sample("qoi rgb", encoded(imagecodecs.qoi_encode, (*SHAPE, 3))),
        Sample("qoi rgba", encoded(imagecodecs.qoi_encode, (*SHAPE, 4))),
        Sample("psd rgb", psd),
        Sample("ico rgba", pillow("RGBA", sizes=[(SHAPE[1], SHAPE[0])])),
        Sample("dds rgba", pillow("RGBA")),
    ]
    samples += [Sample(f"npy {dtype}", npy((*SHAPE, 3), dtype)) for dtype in DTYPES]
    samples += [Sample(f"npy bands {bands}", npy((*SHAPE, bands), "float32")) for bands in (1, 2, 4, 5, 13)]
    samples += [
        Sample("npy plane", npy(SHAPE, "uint8")),
        Sample("npy Fortran", npy((*SHAPE, 3), "int32", "F")),
        Sample("npy large-endian", npy((*SHAPE, 3), ">f4")),
        Sample("npy large-endian Fortran plane", npy(SHAPE, ">u2", "F")),
    ]
    return samples


SAMPLES = {sample.name: sample for sample in (*_tiff_samples(), *_png_samples(), *_other_samples())}
