"""Readers over an array: a ``.npy`` file, mapped, or pixels that had to be decoded whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UnreadableImageError
from ..stamp import source_error
from .reader import Array, Reader

__all__ = ["ArrayReader", "open_npy"]


class ArrayReader(Reader):
    """Crops of an array ``(h, w)`` or ``(h, w, c)`` that lies in memory or is mapped from a file.

    Raises:
        UnreadableImageError: the array is not of that shape, is empty, or holds no numbers.
    """

    def __init__(self, path: str, array: Array, *, format: str, memory_bytes: int = 4096) -> None:  # noqa: A002
        if array.ndim not in (2, 3) or not array.size:
            raise UnreadableImageError(f"{path} holds an array of shape {array.shape}; an image is (h, w) or (h, w, c)")
        if array.dtype.kind not in "biufc":
            raise UnreadableImageError(f"{path} holds {array.dtype}; an image's pixels are numbers or booleans")
        self._array = array if array.ndim == 3 else array[:, :, np.newaxis]
        height, width, bands = self._array.shape
        super().__init__(
            path,
            format=format,
            shape=(height, width, bands),
            dtype=array.dtype.newbyteorder("="),
            tile_shape=(height, width),
            memory_bytes=memory_bytes,
        )

    def count_decoded(self, rows: range, cols: range) -> int:  # noqa: ARG002
        """None: the pixels lie there."""
        return 0

    def _read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        self._read_strided(rows, cols, bands, out, level)

    def _read_strided(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:  # noqa: ARG002
        window = self._array[rows.start : rows.stop : rows.step, cols.start : cols.stop : cols.step]
        if len(bands) == self.shape[2] and all(band == index for index, band in enumerate(bands)):
            out[...] = window
            return
        for index, band in enumerate(bands):
            out[:, :, index] = window[:, :, band]


def open_npy(path: str) -> ArrayReader:
    """Map a ``.npy`` file. Never unpickles.

    Raises:
        UnreadableImageError: the header is damaged, the file is shorter than it says, or it is no image.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise source_error(path, error) from error
    except Exception as error:  # the header is Python source, and what a damaged one raises has no end
        raise UnreadableImageError(f"{path} is no .npy file that can be mapped: {error}") from error
    return ArrayReader(path, array, format="npy")
