"""Indexing: finds every frame of a video, by a scan of its packets, and holds the result against the decoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UnreadableImageError
from .counting import count_frames
from .fields.pde import find_times
from .fields.source import FieldSource, find_description
from .index import FrameIndex, open_container, pick_stream
from .proofs import prove
from .scan import Scan, describes_itself, index_by_times, scan_packets

if TYPE_CHECKING:
    from av.container import InputContainer

    from .._typing import Array

__all__ = ["build_index"]


def build_index(path: str, *, stream: int | None = None) -> FrameIndex:
    """Find every frame of a video: by a scan of its packets, or if decoding shows otherwise, by decoding it once.

    A movie of numeric fields is indexed as the picture that a player shows, with the times of the fields.

    Args:
        path: the file.
        stream: the number of the stream; ``None``: as :func:`~.index.pick_stream`.

    Raises:
        UnreadableImageError: the file is not a video, or none of its frames decodes.
    """
    with open_container(path, is_probed=False) as container:
        form = find_description(container, path)
        index = _index_described(container, path, stream)
    if index is None:
        with open_container(path) as container:
            index = _index(container, path, _scan(container, path, stream), opens_unprobed=False)
    if form is None:
        return index
    is_foreign = form.pde_format is not None
    times = find_times(form, path, len(index)) if is_foreign else _match(FieldSource(path).times, len(index))
    return replace(index, field_times=times)


def _index_described(container: InputContainer, path: str, stream: int | None) -> FrameIndex | None:
    """The index of a file that needs no probing, which takes longer than everything else together; ``None`` for others."""
    if describes_itself(container, path, stream):
        scan = _scan(container, path, stream)
        if scan.knows_order:
            return _index(container, path, scan, opens_unprobed=True)
    return None


def _match(times: Array, count: int) -> Array:
    """The times of ``count`` pictures; a writer that was killed may have written a picture without its field."""
    return np.concatenate([times[:count], np.full(max(0, count - len(times)), np.nan)])


def _scan(container: InputContainer, path: str, stream: int | None) -> Scan:
    return scan_packets(container, pick_stream(container, path, stream), path)


def _index(container: InputContainer, path: str, scan: Scan, *, opens_unprobed: bool) -> FrameIndex:
    """The index of a file that was scanned, and is open as reading opens it."""
    if not any(packet.is_shown for packet in scan.packets):
        raise UnreadableImageError(f"{path}: its video shows none of its {len(scan.packets):,} packets")
    if not scan.has_plausible_times:
        return count_frames(path, scan)
    index = replace(index_by_times(scan), opens_unprobed=opens_unprobed)
    # As where the first key frame has a time behind all others.
    if not len(index) or not len(index.keys):
        return count_frames(path, scan)
    stream = pick_stream(container, path, scan.stream)
    stream.thread_count = 1  # a forked child that frees a decoder with threads waits for them for ever
    return prove(container, stream, path, scan, index) or count_frames(path, scan)
