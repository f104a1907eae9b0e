"""Batches: the pixels of patches, read a batch ahead of a model."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from .reading import load_patches

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from .._typing import Array
    from ..frames.frames import Frames
    from .patch import Patch

__all__ = ["ProgressCallback", "read_batches"]
#: Called with the number of patches that are done, and of all.
ProgressCallback = Callable[[int, int], None]


def read_batches(
    frames: Frames, patches: Sequence[Patch], channels: str | Sequence[str] | None, batch_size: int
) -> Generator[tuple[Sequence[Patch], Array], None, None]:
    """Read consecutive patches of equal shape together; while a batch is used, a thread reads the next one.

    Args:
        frames: the images.
        patches: what to read, in order.
        channels: as for :meth:`ndframes.Frames.load_regions`.
        batch_size: the most patches in a batch.

    Yields:
        Some patches and their pixels ``(n, h, w, c)`` in the dtype of the frames.
    """
    batches = list(_cut(patches, batch_size))
    # The thread reads while the model computes; the decoding threads are those of the frames.
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load_patches, frames, batches[0], channels) if batches else None
        for number, batch in enumerate(batches):
            assert coming is not None  # noqa: S101
            pixels = coming.result()
            if number + 1 < len(batches):
                coming = pool.submit(load_patches, frames, batches[number + 1], channels)
            yield from _uniform(batch, pixels)


def _cut(patches: Sequence[Patch], batch_size: int) -> Iterator[Sequence[Patch]]:
    """Runs of at most ``batch_size`` patches of equal shape."""
    start = 0
    for stop in range(1, len(patches) + 1):
        is_full = stop - start == batch_size
        if is_full or stop == len(patches) or patches[stop].shape != patches[start].shape:
            yield patches[start:stop]
            start = stop


def _uniform(batch: Sequence[Patch], pixels: Any) -> Iterator[tuple[Sequence[Patch], Array]]:
    """The batch as one array; where images differ in their channels or dtypes, as several."""
    if isinstance(pixels, np.ndarray):
        yield batch, pixels
        return
    start = 0
    for stop in range(1, len(batch) + 1):
        first = pixels[start]
        if stop == len(batch) or (pixels[stop].shape, pixels[stop].dtype) != (first.shape, first.dtype):
            yield batch[start:stop], np.stack(pixels[start:stop])
            start = stop
