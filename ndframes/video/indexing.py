"""Indexing: finds every frame of a video, by a scan of its packets, and holds the result against the decoder."""

from __future__ import annotations

from dataclasses import replace

from ..errors import UnreadableImageError
from .counting import count_frames
from .index import FrameIndex, open_container, pick_stream
from .proofs import prove
from .scan import index_by_times, scan_packets

__all__ = ["build_index"]


def build_index(path: str, *, stream: int | None = None) -> FrameIndex:
    """Find every frame of a video: by a scan of its packets, or if decoding shows otherwise, by decoding it once.

    Args:
        path: the file.
        stream: the number of the stream; ``None``: as :func:`~.index.pick_stream`.

    Raises:
        UnreadableImageError: the file is not a video, or none of its frames decodes.
    """
    with open_container(path) as container:
        chosen = pick_stream(container, path, stream)
        chosen.thread_count = 1
        scan = scan_packets(container, chosen, path)
        if scan.has_plausible_times:
            index = replace(index_by_times(scan), opens_unprobed=scan.opens_unprobed(path))
            if not len(index) or not len(index.keys):
                raise UnreadableImageError(f"{path}: its video shows none of its {len(scan.packets):,} packets")
            if index.opens_unprobed:
                # Proved as reading opens it.
                with open_container(path, is_probed=False) as other:
                    again = pick_stream(other, path, scan.stream)
                    again.thread_count = 1
                    proved = prove(other, again, path, scan, index)
            else:
                proved = prove(container, chosen, path, scan, index)
            if proved is not None:
                return proved
    return count_frames(path, scan)
