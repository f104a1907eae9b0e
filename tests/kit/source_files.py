"""Image and video files of many kinds, written to a folder, for tests that read the same files in two ways."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import tifffile
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from skimage import data

from . import tiffs, videos

PHOTO = data.astronaut()[100:320, 90:350]
GRAY = PHOTO[:, :, 1]
_PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0.1, 500_000, 0.05, -0.5, 5_400_000)}
Writer = Callable[[Path], object]


def _gdal(pixels: np.ndarray, **options: Any) -> Writer:
    planes = pixels if pixels.ndim == 3 else pixels[:, :, None]

    def write(path: Path) -> None:
        height, width, count = planes.shape
        profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": planes.dtype}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path, "w", **profile, **options)
        with dataset:
            dataset.write(planes.transpose(2, 0, 1))

    return write


def _cog(path: Path) -> None:
    _gdal(
        np.where(GRAY > 200, 0, GRAY), nodata=0, tiled=True, blockxsize=64, blockysize=64, compress="DEFLATE", **_PLACE
    )(path.with_suffix(".tmp"))
    rasterio.shutil.copy(path.with_suffix(".tmp"), path, driver="COG", blocksize=64, compress="DEFLATE")
    path.with_suffix(".tmp").unlink()


def _tifffile(pixels: Any, **options: Any) -> Writer:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def _pages(*pages: tiffs.Page, order: str = "<") -> Writer:
    return lambda path: tiffs.write_pages(path, pages, order=order)


def _pillow(pixels: np.ndarray, **options: Any) -> Writer:
    return lambda path: Image.fromarray(pixels).save(path, **options)


def _with_exif(tag: int, **options: Any) -> Writer:
    exif = Image.Exif()
    exif[274] = tag
    return _pillow(PHOTO, exif=exif, **options)


def _palette(path: Path) -> None:
    image = Image.fromarray(PHOTO).quantize(50)
    image.save(path, transparency=3)


def _animation(path: Path) -> None:
    frames = [Image.fromarray(np.roll(PHOTO, 9 * number, axis=0)) for number in range(4)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)


def _video(**options: Any) -> Writer:
    return lambda path: videos.Encoding(**options)(path, count=8)


_TILE = {"tile": (64, 64)}
#: Images that are TIFF files.
TIFFS: dict[str, Writer] = {
    "cog.tif": _cog,
    "placed.tif": _gdal(PHOTO, **_PLACE),
    "strips.tif": _gdal(PHOTO, compress="LZW", predictor=2),
    "planes.tif": _gdal(PHOTO, interleave="band", tiled=True, blockxsize=64, blockysize=64, compress="DEFLATE"),
    "jpeg.tif": _gdal(PHOTO, tiled=True, blockxsize=64, blockysize=64, compress="JPEG", photometric="YCBCR"),
    "one strip.tif": _tifffile(PHOTO, rowsperstrip=1000),
    "float.tif": _tifffile(GRAY.astype(np.float32) / 7, predictor=True, compression="deflate", **_TILE),
    "big endian.tif": _tifffile(GRAY.astype(np.uint16) * 201, byteorder=">", bigtiff=True),
    "half.btf": _tifffile(GRAY.astype(np.float16), bigtiff=True, **_TILE),
    "bilevel.tif": _pages(tiffs.page_of((GRAY > 90).astype(np.uint8), 1)),
    "twelve.tif": _pages(tiffs.page_of(GRAY.astype(np.uint16) * 16, 12, order=">", tile=(64, 64)), order=">"),
    "turned.tif": _tifffile(PHOTO, extratags=[(274, 3, 1, 6, True)], **_TILE),
    "rows.tif": _tifffile(np.ascontiguousarray(PHOTO[:, :, :2].repeat(3, axis=2)[:40]), photometric="minisblack"),
    "ome.ome.tif": _tifffile(PHOTO.transpose(2, 0, 1), metadata={"axes": "CYX"}, photometric="minisblack"),
}
#: Images of other formats.
IMAGES: dict[str, Writer] = {
    "photo.png": _pillow(PHOTO),
    "deep.png": _pillow(GRAY.astype(np.uint16) * 255),
    "palette.png": _palette,
    "photo.jpg": _pillow(PHOTO, quality=90),
    "exif.jpg": _with_exif(6, quality=90),
    "exif.webp": _with_exif(3, lossless=True),
    "photo.bmp": _pillow(PHOTO),
    "photo.jp2": _pillow(PHOTO),
    "gray.pgm": _pillow(GRAY),
    "still.gif": _pillow(GRAY),
    "array.npy": lambda path: np.save(path, PHOTO.astype(np.int32) * -3),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(GRAY)),
}
#: Videos and animations.
VIDEOS: dict[str, Writer] = {
    "moving.gif": _animation,
    "moving.webp": _animation,
    "h264.mp4": _video(codec="libx264", options={"preset": "ultrafast", "bf": "2"}),
    "ffv1.mkv": _video(codec="ffv1", pixel_format="bgr0"),
}


def write_files(folder: Path, writers: dict[str, Writer]) -> list[str]:
    """Write files; their names."""
    for name, write in writers.items():
        write(folder / name)
    return list(writers)
