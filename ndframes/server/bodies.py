"""Bodies: arrays as the bytes of an answer, and back."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import OutputError, RegionTooLargeError, RemoteError

if TYPE_CHECKING:
    from .._typing import Array

__all__ = ["MEDIA_TYPES", "PNG_LEVEL", "encode_arrays", "encode_pixels", "read_npy", "read_zip"]
MEDIA_TYPES = {"npy": "application/x-npy", "png": "image/png", "tif": "image/tiff", "zip": "application/zip"}
#: Of compression. With 6, colours of the most pixels of an answer would take longer than its deadline.
PNG_LEVEL = 2
_MOST_HEADER_BYTES = 10_000


def encode_pixels(pixels: Array, form: str) -> bytes:
    """An array as a file.

    Args:
        pixels: any array as ``"npy"``; ``(height, width, channels)`` as ``"png"`` or ``"tif"``.
        form: ``"npy"``, ``"png"``, ``"tif"``, or ``"zip"`` of ``.npy`` files, which also holds the mask of a masked array.

    Raises:
        OutputError: the format does not hold such pixels.

    Example:
        >>> np.load(io.BytesIO(encode_pixels(np.arange(3, dtype=np.uint16), "npy"))).tolist()
        [0, 1, 2]
    """
    # Where these are used: a service of npy alone loads no codecs.
    from ..formats.export import encode_png, encode_tiff

    if form == "zip":
        return _encode_zip([pixels])
    if isinstance(pixels, np.ma.MaskedArray):
        raise OutputError("nodata=mask gives pixels and a mask, which only format=zip holds")
    if form == "npy":
        return _encode_npy(pixels)
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise OutputError(
            f"format={form} holds an image (y, x, channel) with pixels, and the result has the shape {pixels.shape}; take slices, "
            "one frame, or format=npy"
        )
    if form == "tif":
        return encode_tiff(pixels)
    if pixels.dtype.name not in ("uint8", "uint16") or pixels.shape[2] > 4:
        raise OutputError(
            f"format=png holds 1 to 4 channels of uint8 or uint16, and these are {pixels.shape[2]} of {pixels.dtype}; take "
            "format=npy or tif, or other channels"
        )
    return encode_png(pixels, level=PNG_LEVEL)


def encode_arrays(arrays: Any, form: str | None) -> tuple[bytes, str]:
    """The results of a batch as a body, and its format.

    Args:
        arrays: an array ``(n, ...)``, or a list of arrays.
        form: ``None``: ``"npy"`` for one array, else ``"zip"`` with a file for each result.

    Raises:
        OutputError: the results have no common shape and dtype, or a mask, and ``form`` is ``"npy"``.
    """
    is_one = isinstance(arrays, np.ndarray) and not isinstance(arrays, np.ma.MaskedArray)
    if form == "zip" or (form is None and not is_one):
        return _encode_zip(arrays), "zip"
    if not is_one:
        raise OutputError("the results have different shapes or dtypes, or a mask; leave out the format, or take zip")
    return _encode_npy(arrays), "npy"


def read_npy(file: IO[bytes], *, max_bytes: int, drops_first: bool = False) -> Array:
    """An array from an ``.npy`` file: a new, writable, C-contiguous one, filled without a copy.

    Args:
        file: is read up to the end of the array.
        max_bytes: the most bytes of the array.
        drops_first: whether the first axis, of length 1, is left out.

    Raises:
        RegionTooLargeError: it has more bytes than allowed.
        RemoteError: the file is not complete, or not an array of numbers.
    """
    shape, dtype = _read_header(file)
    if drops_first:
        if shape[:1] != (1,):
            raise RemoteError(f"the answer has the shape {shape}, and not one result")
        shape = shape[1:]
    needed = math.prod(shape, start=dtype.itemsize)
    if needed > max_bytes:
        raise RegionTooLargeError(f"the answer has {needed:,} bytes, over the limit of {max_bytes:,}; read it in parts")
    pixels = np.empty(shape, dtype)
    view = pixels.reshape(-1).view(np.uint8).data if pixels.size else memoryview(b"")
    done = 0
    while done < needed:
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise RemoteError(f"the answer ends after {done:,} of {needed:,} bytes")
        done += count
    return pixels


def read_zip(data: bytes, *, max_bytes: int) -> list[Array]:
    """The arrays of a batch, in order; those with a mask as masked arrays.

    Raises:
        RegionTooLargeError, RemoteError: as :func:`read_npy`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            arrays: list[Array] = []
            for number in range(sum(not name.endswith("mask.npy") for name in names)):
                pixels = _read_member(archive, f"{number}.npy", max_bytes)
                if f"{number}.mask.npy" in names:
                    pixels = np.ma.MaskedArray(pixels, _read_member(archive, f"{number}.mask.npy", max_bytes))
                arrays.append(pixels)
            return arrays
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise RemoteError(f"the answer is not a zip of arrays: {error}") from error


def _read_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> Array:
    with archive.open(name) as file:
        return read_npy(file, max_bytes=max_bytes)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file, max_header_size=_MOST_HEADER_BYTES)
    except ValueError as error:
        raise RemoteError(f"the answer is not an array: {error}") from error
    if is_fortran or dtype.hasobject or dtype.kind not in "biufc":
        raise RemoteError(f"the answer is an array of {dtype}, which is not sent by this version")
    return shape, dtype


def _encode_npy(pixels: Array) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(pixels))
    # Joined: np.save would make a second copy of the pixels.
    return b"".join((head.getvalue(), np.ascontiguousarray(pixels).data.cast("B") if pixels.size else b""))


def _encode_zip(arrays: Sequence[Array]) -> bytes:
    file = io.BytesIO()
    # Stored: pixels do not shrink enough to be worth the time.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, pixels in enumerate(arrays):
            archive.writestr(f"{number}.npy", _encode_npy(np.ma.getdata(pixels)))
            if isinstance(pixels, np.ma.MaskedArray):
                archive.writestr(f"{number}.mask.npy", _encode_npy(np.ma.getmaskarray(pixels)))
    return file.getvalue()
