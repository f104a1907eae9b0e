"""Write a ``.npy`` file from any reader, in one pass and bounded memory."""

from __future__ import annotations

import io
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

import numpy as np

from ...system.segments import CHUNK_BYTES, Payload, SegmentBuilder
from ..reader import frame_runs, row_bands
from .codecs import checksum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..._typing import Array
    from ..reader import Reader

__all__ = ["write_npy"]
_PART_BYTES = 16 * 2**20


def write_npy(
    file: IO[bytes],
    source: Reader,
    *,
    progress: Callable[[float], None] | None = None,
    part_bytes: int = _PART_BYTES,
) -> Payload:
    """Write ``source`` as a C-ordered array to ``file``: an image ``(h, w, bands)``, or a video ``(frames, h, w, bands)``.

    A thread writes the rows that were read while the next ones are read. It calls ``write`` and never maps the file: on a
    full disk ``write`` raises, while a map ends the process by a bus error.

    Args:
        file: the file to write to.
        source: the image or video.
        progress: called with the fraction done, 0 to 1.
        part_bytes: about this many bytes are read at once.

    Returns:
        The header and the pixels in chunks, with checksums computed before anything was written.
    """
    shape = source.shape if source.frame_count is None else (source.frame_count, *source.shape)
    header = {"descr": np.lib.format.dtype_to_descr(source.dtype), "fortran_order": False, "shape": shape}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, header)
    segments = SegmentBuilder(checksum)
    segments.end_segment(head.getvalue())
    file.write(head.getvalue())

    def put(pixels: Array) -> None:
        segments.add_chunks(pixels.reshape(-1).view(np.uint8).data)
        file.write(pixels.data)

    with ThreadPoolExecutor(1) as pool:
        writing: Future[None] | None = None
        for part in _parts_of(source, part_bytes):
            pixels = np.empty((len(part), *shape[1:]), source.dtype)
            _read(source, part, pixels)
            if writing is not None:  # at most two parts are in memory, and an error of the thread is raised here
                writing.result()
            writing = pool.submit(put, pixels)
            if progress is not None:
                progress(part.stop / shape[0])
        if writing is not None:
            writing.result()
    return Payload(segments.finish(), {"data_offset": len(head.getvalue()), "chunk_bytes": CHUNK_BYTES})


def _parts_of(source: Reader, part_bytes: int) -> Iterator[range]:
    """Cut the rows of an image, or the frames of a video, into parts of about ``part_bytes``."""
    if source.frame_count is None:
        return row_bands(source, source.shape[1], part_bytes)
    return frame_runs(source, part_bytes)


def _read(source: Reader, part: range, pixels: Array) -> None:
    height, width, _ = source.shape
    if source.frame_count is None:
        source.read(part, range(width), source.all_bands, pixels)
    else:
        source.read_frames(part, range(height), range(width), source.all_bands, pixels)
