"""Write pixels to files for other programs: crops as PNG, TIFF or .npy, and the striped TIFF of the demo."""

from __future__ import annotations

import io
import os
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import OutputError, shorten
from ..system.output import check_output_path, write_atomically
from ..system.process import core_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .._typing import Array

__all__ = [
    "check_destination",
    "check_export",
    "check_output_path",
    "encode_jpeg",
    "encode_png",
    "encode_tiff",
    "export",
    "write_atomically",
    "write_striped_tiff",
]
_SUFFIXES = (".png", ".tif", ".tiff", ".npy")


def check_destination(path: str) -> None:
    """Check that ``path`` can be written, before any work is done for it.

    Raises:
        OutputError: its ending names no known format, its folder is missing, or it exists and is not a regular file.
    """
    _suffix(path)
    check_output_path(path)


def check_export(path: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Check that the format of ``path`` can store such pixels, before they are read.

    Args:
        path: the file to write; its ending chooses the format.
        dtype: of the pixels.
        shape: ``(height, width, channels)``.

    Raises:
        OutputError: it cannot; the message names a format that can.
    """
    suffix = _suffix(path)
    if suffix != ".npy" and 0 in shape:
        raise OutputError(
            f"{path}: the region is empty ({_by(shape)}); only .npy holds that. A region outside of the image is empty, and a "
            "negative start counts from the end: with padding, it lies before the edge (pad=, or --pad on the command line)"
        )
    if suffix == ".png" and (dtype.name not in ("uint8", "uint16") or shape[2] > 4):
        raise OutputError(
            f"{path}: PNG holds 1 to 4 channels of uint8 or uint16, these are {shape[2]} of {dtype}; write .tif or .npy"
        )


def export(path: str, pixels: Array) -> None:
    """Write ``(height, width, channels)`` to ``path``, exactly; the file appears whole or not at all.

    A TIFF is tiled and compressed by DEFLATE.

    Raises:
        OutputError: as :func:`check_destination` and :func:`check_export`, or the system cannot write.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "crop.npy")
        >>> export(path, np.arange(6, dtype=np.int16).reshape(1, 2, 3))
        >>> np.load(path).tolist()
        [[[0, 1, 2], [3, 4, 5]]]
    """
    check_destination(path)
    check_export(path, pixels.dtype, pixels.shape)
    write = {".png": _write_png, ".npy": _write_npy}.get(_suffix(path), _write_tiff)
    write_atomically(path, lambda file: write(file, pixels))


def write_striped_tiff(
    file: IO[bytes], shape: tuple[int, int], bands_of_rows: Iterable[Array], *, strip_rows: int
) -> None:
    """Write an RGB image as strips compressed by DEFLATE, as scanners do, while its rows are produced.

    Args:
        file: the file to write to.
        shape: ``(height, width)``.
        bands_of_rows: uint8 arrays ``(rows, width, 3)`` from top to bottom; the height of all but the last is a multiple of
            ``strip_rows``.
        strip_rows: the number of rows in a strip.
    """
    import tifffile

    def strips() -> Iterator[Array]:
        for rows in bands_of_rows:
            for first in range(0, len(rows), strip_rows):
                yield rows[first : first + strip_rows]

    with ThreadPoolExecutor(core_count()) as pool:
        tifffile.imwrite(
            file,
            _map_ahead(pool, _deflate, strips(), ahead=4 * core_count()),
            shape=(*shape, 3),
            dtype=np.uint8,
            photometric="rgb",
            compression="adobe_deflate",
            rowsperstrip=strip_rows,
            metadata=None,
        )


def _map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Array], bytes], items: Iterator[Array], *, ahead: int
) -> Iterator[bytes]:
    """``pool.map`` that never takes more than ``ahead`` items in advance."""
    # Executor.map takes all items at once: the whole image would be in memory.
    waiting = [pool.submit(function, item) for item in islice(items, ahead)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(function, item) for item in islice(items, 1)]


def _deflate(strip: Array) -> bytes:
    return zlib.compress(np.ascontiguousarray(strip).data, 1)


def encode_png(pixels: Array, *, level: int = 6) -> bytes:
    """Encode ``(h, w)`` or ``(h, w, 1 to 4)`` of uint8 or uint16 as a PNG file.

    Args:
        pixels: to encode.
        level: of compression, from 1. For enlarged images, 2 takes a third to a ninth of the time of 6, and up to 13 % more bytes.
    """
    # Here, since a check of the destination needs no codec.
    from .extensions import load_extensions

    return bytes(load_extensions("_png").png_encode(pixels, level=level))


def encode_jpeg(pixels: Array, quality: int = 95, *, has_half_colours: bool = False) -> bytes:
    """Encode ``(h, w)`` or ``(h, w, 1 or 3)`` of uint8 as a JPEG file.

    Args:
        pixels: to encode.
        quality: 1 to 100.
        has_half_colours: whether colours have half the resolution (4:2:0), which takes less time and fewer bytes; else they have all.
    """
    from .extensions import load_extensions

    # imagecodecs takes gray pixels without an axis of bands.
    flat = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return bytes(
        load_extensions("_jpeg8").jpeg8_encode(flat, level=quality, subsampling="420" if has_half_colours else "444")
    )


def encode_tiff(pixels: Array) -> bytes:
    """Encode ``(height, width, channels)`` of any dtype as a TIFF file, as :func:`export` writes it.

    Example:
        >>> encode_tiff(np.zeros((2, 3, 1), np.float32))[:2]
        b'II'
    """
    file = _NamedBytes()
    _write_tiff(file, pixels)
    return file.getvalue()


class _NamedBytes(io.BytesIO):
    """A file in memory. Its name tells where large parts wait on the disk until they are complete."""

    name = os.path.join(tempfile.gettempdir(), "region.tif")


def _write_png(file: IO[bytes], pixels: Array) -> None:
    file.write(encode_png(pixels))


def _write_npy(file: IO[bytes], pixels: Array) -> None:
    np.save(file, pixels, allow_pickle=False)


def _write_tiff(file: IO[bytes], pixels: Array) -> None:
    from ..spec.backends import Backend
    from .images.arrays import ArrayReader
    from .tiled.cog_writer import write_cog

    backend = Backend(type="cog", compress="DEFLATE", overviews=False)
    write_cog(file, ArrayReader(file.name, pixels, format="array"), backend, threads=core_count())


def _suffix(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _SUFFIXES:
        raise OutputError(
            f"{path}: no format is known by the ending {shorten(suffix)}; allowed: {', '.join(_SUFFIXES)}"
        )
    return suffix


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(extent) for extent in shape)
