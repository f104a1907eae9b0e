"""Writing a ``.npy`` file from any reader, in one pass and bounded memory."""

from __future__ import annotations

import io
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

import numpy as np

from ...system.segments import CHUNK_BYTES, Manifest, SegmentBuilder
from ..reader import row_bands
from .codecs import checksum

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._typing import Array
    from ..reader import Reader

__all__ = ["write_npy"]
_BAND_BYTES = 16 * 2**20


def write_npy(file: IO[bytes], source: Reader, *, progress: Callable[[float], None] | None = None) -> Manifest:
    """Write ``source`` as a C-ordered ``(h, w, bands)`` array to ``file``, a video as ``(frames, h, w, bands)``.

    Plain ``write`` calls, never a writable map: a full disk is then an error, not a bus error. A thread writes what was
    read while the next rows are being read.

    Returns:
        The header and the pixels in chunks, with checksums taken before anything was written.
    """
    height, width, band_count = source.shape
    shape = source.shape if source.frame_count is None else (source.frame_count, *source.frame_shape)
    header = {"descr": np.lib.format.dtype_to_descr(source.dtype), "fortran_order": False, "shape": shape}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, header)
    segments = SegmentBuilder(checksum)
    segments.add_segment(head.getvalue())
    file.write(head.getvalue())

    def put(band: Array) -> None:
        segments.add_chunks(band.reshape(-1).view(np.uint8).data)
        file.write(band.data)

    with ThreadPoolExecutor(1) as pool:
        writing: Future[None] | None = None
        for rows in row_bands(source, width, _BAND_BYTES):
            band = np.empty((len(rows), width, band_count), source.dtype)
            source.read(rows, range(width), range(band_count), band)
            if writing is not None:
                writing.result()
            writing = pool.submit(put, band)
            if progress is not None:
                progress(rows.stop / height)
        if writing is not None:
            writing.result()
    return Manifest(segments.finish(), {"data_offset": len(head.getvalue()), "chunk_bytes": CHUNK_BYTES})
