"""Chunks of Zarr: stored tiles as they are where that is exact, otherwise pixels of ``load_region``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

from ..errors import CacheEntryDamagedError, CacheEntryGoneError, NdframesError, naming_image
from .limits import Cost
from .problems import Problem
from .zarr_metadata import Hierarchy
from .zarr_views import ZarrViews, find_tiles, first_frame

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .._typing import Array
    from ..frames.frames import Frames
    from .stored_files import StoredFile
    from .zarr_metadata import ArrayLayout, ZarrKey
    from .zarr_views import ZarrView

__all__ = ["ZarrImages", "gone", "missing"]
# Of tiles that are decoded and packed again: the stored ones were packed by a slower level.
_FAST_LEVEL = 1


class ZarrImages:
    """The images of a service as hierarchies of Zarr.

    Args:
        frames: the images.
        is_planar: whether each channel has chunks of its own.
    """

    def __init__(self, frames: Frames, *, is_planar: bool) -> None:
        self._frames = frames
        self._views = ZarrViews(frames, is_planar=is_planar)

    def describe(self, image_id: Hashable, name: str, key: ZarrKey) -> dict[str, Any]:
        """The metadata at a key; an image that is not in the cache is converted.

        Raises:
            Problem: there is no such node, or the image has another state.
            NdframesError: as a read of the image.
        """
        view = self._views.find(image_id)
        node = Hierarchy(name, view.state, view.levels, view.codes, view.nodata)
        if key.state is None:
            return node.root()
        if key.state != view.state:
            raise gone()
        if key.level is None:
            return node.group()
        _check_level(view, key.level)
        return node.array(key.level)

    def measure(self, image_id: Hashable, key: ZarrKey) -> Cost:
        """What a chunk costs.

        Raises:
            Problem: the chunk is outside of the grid, or the image has another state.
        """
        view = self._find(image_id, key)
        layout = view.levels[key.level or 0]
        return Cost(layout.chunk_bytes // layout.dtype.itemsize, layout.chunk_bytes)

    def load(self, image_id: Hashable, key: ZarrKey) -> bytes:
        """A chunk as the metadata of its state says. The checksums of stored tiles are compared now.

        Raises:
            Problem: the chunk is outside of the grid, or the image has another state.
            NdframesError: as a read of the image.
        """
        chunk = _Chunk(self._find(image_id, key), key.level or 0, key.chunk or ())
        options: dict[str, Any] = {"scale": 0.5**chunk.level} if chunk.level else {}
        try:
            with naming_image(image_id):
                stored = self._load_stored(chunk)
                read = self._frames.load_region(image_id, chunk.region, **options) if stored is None else stored
        except NdframesError:
            # Of a file that has changed its shape, the chunk may not be readable.
            self._check_state(chunk)
            raise
        self._check_state(chunk)
        return read if isinstance(read, bytes) else _encode(read, chunk.layout)

    def _check_state(self, chunk: _Chunk) -> None:
        if not self._views.is_read(chunk.view, chunk.times):
            raise gone()

    def _find(self, image_id: Hashable, key: ZarrKey) -> ZarrView:
        view = self._views.find_state(image_id, key.state or "")
        if view is None:
            raise gone()
        layout = _check_level(view, key.level or 0)
        place = key.chunk or ()
        if len(place) != len(layout.grid) or any(
            index >= count for index, count in zip(place, layout.grid, strict=True)
        ):
            raise missing(f"the grid of chunks is {' x '.join(map(str, layout.grid))}")
        return view

    def _load_stored(self, chunk: _Chunk) -> bytes | None:
        """The stored tile that is the chunk; ``None`` if none is, or its entry has failed."""
        view, layout = chunk.view, chunk.layout
        item = self._frames.image(view.image_id)
        file = find_tiles(item, view.codes, chunk.times[0], chunk.level)
        if file is None or not _is_chunk(file, layout):
            return None
        *times, _, row, col = chunk.place
        level = file.tiling.levels[chunk.level]
        if row >= level.down or col >= level.across:
            return None  # of another image, which has replaced the one of the view
        # Tiles are numbered from the first frame of the file, and chunks from the first frame of the item.
        skipped = 0 if file.tile_frames is None else first_frame(item) // file.tile_frames
        place = skipped + times[0] if times and file.tile_frames is not None else skipped
        try:
            return file.load(level, [place], [row], [col], as_zstd=layout.is_zstd)
        except (CacheEntryDamagedError, CacheEntryGoneError):
            # A read of pixels makes the entry again, and at last reads the source.
            return None


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk inside of the grid.

    Attributes:
        view: the image.
        level: the resolution.
        place: in the grid.
    """

    view: ZarrView
    level: int
    place: tuple[int, ...]

    @property
    def layout(self) -> ArrayLayout:
        """The layout of the resolution."""
        return self.view.levels[self.level]

    @property
    def spans(self) -> tuple[range, ...]:
        """The coordinates along each axis of the array."""
        layout = self.layout
        return tuple(
            range(index * step, min((index + 1) * step, extent))
            for index, step, extent in zip(self.place, layout.chunk_shape, layout.shape, strict=True)
        )

    @property
    def times(self) -> range:
        """The frames."""
        return self.spans[0] if len(self.place) == 4 else range(1)

    @property
    def region(self) -> tuple[slice, ...]:
        """The region of the full resolution, for a read with the scale of the level."""
        *_, bands, rows, cols = self.spans
        step = 2**self.level
        # The last pixel of a level may reach beyond the image.
        plane = [
            slice(span.start * step, min(span.stop * step, extent))
            for span, extent in zip((rows, cols), self.view.shape, strict=True)
        ]
        times = [slice(self.times.start, self.times.stop)] if self.view.has_times else []
        return (*times, *plane, slice(bands.start, bands.stop))


def _encode(pixels: Array, layout: ArrayLayout) -> bytes:
    """A chunk from its pixels inside of the array; the others get the fill value."""
    # One axis for time in any case: channels are last, as in a stored tile.
    frames, bands, height, width = (1, *layout.chunk_shape)[-4:]
    whole = np.zeros((frames, height, width, bands), layout.dtype.newbyteorder("<"))
    count, rows, cols, channels = (1, *pixels.shape)[-4:]
    whole[:count, :rows, :cols, :channels] = pixels
    content = (whole if layout.is_interleaved else whole.transpose(0, 3, 1, 2)).tobytes()
    return zstandard.ZstdCompressor(level=_FAST_LEVEL).compress(content) if layout.is_zstd else content


def _is_chunk(file: StoredFile, layout: ArrayLayout) -> bool:
    """Whether a stored tile has the form of a chunk: not each image of a sequence need be stored as the first one."""
    *times, bands, height, width = layout.chunk_shape
    shape = (*times, height, width, bands)
    stored = (*((file.tile_frames or 1,) if times else ()), *file.tile_shape)
    is_coded_so = file.is_zstd if layout.is_zstd else file.is_plain
    is_ordered_so = bands == 1 or layout.is_interleaved
    return is_coded_so and is_ordered_so and stored == shape and file.tiling.dtype.newbyteorder("=") == layout.dtype


def _check_level(view: ZarrView, level: int) -> ArrayLayout:
    if level >= len(view.levels):
        raise missing(f"the image has the levels 0 to {len(view.levels) - 1}")
    return view.levels[level]


def missing(why: str) -> Problem:
    """The answer to a key that does not exist, which readers of Zarr take as such."""
    return Problem(404, "RegionError", f"there is no such key; {why}")


def gone() -> Problem:
    """The answer to a key of another state: an error to readers of Zarr, who would take a missing chunk for zeros."""
    return Problem(410, "SourceChangedError", "the image has another state now; open its address again")
