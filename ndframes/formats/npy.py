"""Writing a ``.npy`` file from any reader, in one pass and bounded memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import numpy as np

from ..segments import CHUNK_BYTES, Payload, SegmentBuilder

if TYPE_CHECKING:
    from .reader import Reader

__all__ = ["write_npy"]

_BAND_BYTES = 32 * 2**20


def write_npy(file: IO[bytes], source: Reader, *, progress: Callable[[float], None] | None = None) -> Payload:
    """Write ``source`` as a C-ordered ``(h, w, bands)`` array to ``file``.

    Plain ``write`` calls, never a writable map: a full disk is then an error, not a bus error.

    Returns:
        The header and the pixels in chunks, with checksums taken before anything was written.
    """
    height, width, band_count = source.shape
    header = {"descr": np.lib.format.dtype_to_descr(source.dtype), "fortran_order": False, "shape": source.shape}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, header)
    segments = SegmentBuilder()
    segments.end_segment(head.getvalue())
    file.write(head.getvalue())
    row_bytes = width * band_count * source.dtype.itemsize
    # Whole blocks of the source, so that none is decoded twice.
    block = min(source.tile_shape[0], height)
    rows_per_band = (
        max(1, _BAND_BYTES // (row_bytes * block)) * block
        if row_bytes * block <= 2 * _BAND_BYTES
        else max(1, _BAND_BYTES // row_bytes)
    )
    for top in range(0, height, rows_per_band):
        rows = range(top, min(top + rows_per_band, height))
        band = np.empty((len(rows), width, band_count), source.dtype)
        source.read(rows, range(width), range(band_count), band)
        segments.add_chunks(band.reshape(-1).view(np.uint8).data)
        file.write(band.data)
        if progress is not None:
            progress(rows.stop / height)
    return Payload(segments.finish(), {"data_offset": len(head.getvalue()), "chunk_bytes": CHUNK_BYTES})
