"""Indexing: finds every frame of a video, by a scan of its packets, and holds the result against the decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UnreadableImageError
from .counting import count_frames
from .index import FrameIndex, open_container, pick_stream
from .proofs import prove
from .scan import Scan, describes_itself, index_by_times, scan_packets

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["build_index"]


def build_index(path: str, *, stream: int | None = None) -> FrameIndex:
    """Find every frame of a video: by a scan of its packets, or if decoding shows otherwise, by decoding it once.

    Args:
        path: the file.
        stream: the number of the stream; ``None``: as :func:`~.index.pick_stream`.

    Raises:
        UnreadableImageError: the file is not a video, or none of its frames decodes.
    """
    # Probing takes longer than everything else together.
    with open_container(path, is_probed=False) as container:
        if describes_itself(container, path, stream):
            scan = _scan(container, path, stream)
            if scan.knows_order:
                return _index(container, path, scan, opens_unprobed=True)
    with open_container(path) as container:
        return _index(container, path, _scan(container, path, stream), opens_unprobed=False)


def _scan(container: InputContainer, path: str, stream: int | None) -> Scan:
    return scan_packets(container, pick_stream(container, path, stream), path)


def _index(container: InputContainer, path: str, scan: Scan, *, opens_unprobed: bool) -> FrameIndex:
    """The index of a file that was scanned, and is open as reading opens it."""
    if not scan.has_plausible_times:
        return count_frames(path, scan)
    index = replace(index_by_times(scan), opens_unprobed=opens_unprobed)
    if not len(index) or not len(index.keys):
        raise UnreadableImageError(f"{path}: its video shows none of its {len(scan.packets):,} packets")
    stream = pick_stream(container, path, scan.stream)
    stream.thread_count = 1  # a forked child that frees a decoder with threads waits for them for ever
    return prove(container, stream, path, scan, index) or count_frames(path, scan)
