"""Reference pixels: those of the mosaic or, for a lossy entry, what two libraries decode from the same file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.byte_ranges import tiff_level
from kit.crops import Crop, digest
from kit.processes import ContenderError

if TYPE_CHECKING:
    from peers.base import Contender


class References:
    """Compares pixels by their digests.

    The JPEG standard does not fix how subsampled chroma is enlarged, so decoders differ. Pixels of a JPEG are accepted if
    they equal those of GDAL or those of tifffile.

    Args:
        mosaic: the image. It is mapped only while it is read, since a mapped file cannot be evicted from the page cache.

    Attributes:
        shape: ``(height, width)`` of the image.
    """

    def __init__(self, mosaic: Path) -> None:
        self._mosaic = mosaic
        self.shape: tuple[int, int] = np.load(mosaic, mmap_mode="r").shape[:2]
        self._digest_all = lru_cache(maxsize=64)(self._compute_digests)

    def match(self, contender: Contender, crops: Sequence[Crop], digests: Sequence[bytes]) -> str:
        """Return which reference the pixels equal: ``"mosaic"``, ``"gdal"`` or ``"tifffile"``.

        Raises:
            ContenderError: they equal no reference.
        """
        path = contender.lossy_path
        names = ("mosaic",) if path is None else ("gdal", "tifffile")
        wrong = crops
        for name in names:
            right = self._digest_all(name, path, tuple(crops))
            wrong = [crop for crop, mine, its in zip(crops, digests, right, strict=True) if mine != its]
            if not wrong:
                return name
        raise ContenderError(f"wrong pixels in {len(wrong)} of {len(crops)} crops, for example in {wrong[0]}")

    def _compute_digests(self, name: str, path: Path | None, crops: tuple[Crop, ...]) -> list[bytes]:
        read: Callable[[Crop], np.ndarray]
        if path is None:
            pixels = np.load(self._mosaic, mmap_mode="r")
            return [digest(pixels[crop.region]) for crop in crops]
        read = {"gdal": _read_by_gdal, "tifffile": _read_by_tifffile}[name]
        return [digest(read(path, crop)) for crop in crops]


@lru_cache
def _gdal_dataset(path: Path) -> Any:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def _read_by_gdal(path: Path, crop: Crop) -> np.ndarray:
    rows, cols = (crop.top, crop.bottom), (crop.left, crop.right)
    return _gdal_dataset(path).read(window=(rows, cols)).transpose(1, 2, 0)


def _read_by_tifffile(path: Path, crop: Crop) -> np.ndarray:
    page = tiff_level(path, 0)
    height, width = page.tilelength, page.tilewidth
    first_row, first_col = crop.top // height, crop.left // width
    rows, cols = range(first_row, -(-crop.bottom // height)), range(first_col, -(-crop.right // width))
    across = -(-page.imagewidth // width)
    tiles = np.block([[[_decode_tile(path, row * across + col)] for col in cols] for row in rows])
    top, left = crop.top - first_row * height, crop.left - first_col * width
    return tiles[top : top + crop.bottom - crop.top, left : left + crop.right - crop.left]


@lru_cache(maxsize=512)
def _decode_tile(path: Path, index: int) -> np.ndarray:
    page = tiff_level(path, 0)
    with open(path, "rb") as file:
        file.seek(page.dataoffsets[index])
        data = file.read(page.databytecounts[index])
    tile = np.zeros((page.tilelength, page.tilewidth, page.samplesperpixel), np.uint8)
    pixels = page.decode(data, index, jpegtables=page.jpegtables)[0][0]
    tile[: pixels.shape[0], : pixels.shape[1]] = pixels
    return tile
