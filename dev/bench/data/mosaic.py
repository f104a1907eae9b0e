"""The benchmark image: a mosaic of photographs of any size, and copies of it in other formats."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import ndframes as nf

_PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
_ROW_PX = 300
_SHADES = 12
# ndframes compares the content of a source at every read while its stamp is this recent: a change might not alter it.
_SETTLING_SECONDS = 2.1


def make_mosaic(path: Path, shape: tuple[int, int], *, bands: int = 3) -> np.ndarray:
    """Write photographs side by side as ``.npy``, each in different shades, so that no two tiles are equal.

    Returns:
        The pixels ``(height, width, bands)``, memory-mapped.
    """
    photographs = _load_photographs(bands)
    canvas = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(*shape, bands))
    numbers = itertools.count()
    for top in range(0, shape[0], _ROW_PX):
        _fill_row(canvas[top : top + _ROW_PX], photographs, numbers)
    canvas.flush()
    return np.load(path, mmap_mode="r")


def ensure_mosaic(folder: Path, shape: tuple[int, int], *, bands: int = 3) -> Path:
    """Return the path of a mosaic in ``folder``; make it unless it exists."""
    path = folder / f"mosaic-{shape[0]}x{shape[1]}x{bands}.npy"
    with making(path) as part:
        if part is not None:
            print(f"making {path.name}", flush=True)
            make_mosaic(part, shape, bands=bands)
    return path


def ensure_noise(folder: Path, shape: tuple[int, int]) -> Path:
    """Return the path of an image of noise ``(height, width, 3)``, uint8, which zstd stores as it is; make it unless it exists."""
    path = folder / f"noise-{shape[0]}x{shape[1]}x3.npy"
    with making(path) as part:
        if part is not None:
            print(f"making {path.name}", flush=True)
            canvas = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(*shape, 3))
            rng = np.random.default_rng(0)
            for top in range(0, shape[0], _ROW_PX):
                rows = canvas[top : top + _ROW_PX]
                rows[...] = rng.integers(0, 256, rows.shape, dtype=np.uint8)
            canvas.flush()
    return path


def ensure_tiff(mosaic: Path) -> Path:
    """Return the mosaic as an uncompressed tiled TIFF, a source that every library reads; make it unless it exists."""
    import tifffile

    path = mosaic.with_suffix(".tif")
    with making(path) as part:
        if part is not None:
            pixels = np.load(mosaic, mmap_mode="r")
            photometric = "rgb" if pixels.shape[2] == 3 else "minisblack"
            tifffile.imwrite(part, np.squeeze(pixels), tile=(256, 256), photometric=photometric)
    return path


def ensure_flat(mosaic: Path, suffix: str) -> Path:
    """Return the mosaic as ``.png`` or ``.jpg``, a source that is decoded from its beginning; make it unless it exists."""
    import cv2

    path = mosaic.with_suffix(suffix)
    with making(path) as part:
        if part is not None:
            pixels = np.load(mosaic, mmap_mode="r")
            options = [cv2.IMWRITE_PNG_COMPRESSION, 1] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 95]
            is_encoded, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
            assert is_encoded, f"OpenCV cannot encode a {suffix} of this size"
            data.tofile(part)
    return path


@contextmanager
def making(path: Path) -> Iterator[Path | None]:
    """Yield where to write ``path``, which is renamed when it is complete; ``None`` if it exists."""
    if path.exists():
        yield None
        return
    part = path.with_name(f"part-{os.getpid()}-{path.name}")
    yield part
    part.rename(path)
    time.sleep(_SETTLING_SECONDS)


def _load_photographs(bands: int) -> list[np.ndarray]:
    frames = nf.SimpleFrames.demo(backend=None)
    colours = [frames.load_image(name) for name in _PHOTOGRAPHS]
    if bands == 3:
        return colours
    return [np.asarray(pixels.mean(axis=2, keepdims=True), np.uint8) for pixels in colours]


def _fill_row(row: np.ndarray, photographs: list[np.ndarray], numbers: Iterator[int]) -> None:
    left = 0
    while left < row.shape[1]:
        number = next(numbers)
        photograph = photographs[number % len(photographs)]
        part = row[:, left : left + photograph.shape[1]]
        shades = _shades_of(number // len(photographs), row.shape[2])
        pixels = photograph[: part.shape[0], : part.shape[1]]
        # Saturate at white: pixels that wrapped around to black would be noise that no photograph has.
        part[...] = np.minimum(pixels, 255 - shades) + shades
        left += photograph.shape[1]


def _shades_of(number: int, bands: int) -> np.ndarray:
    """What is added to each band: a different combination for each number, until all are used."""
    return np.array([number // _SHADES**band % _SHADES for band in range(bands)], np.uint8)
