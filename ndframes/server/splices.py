"""Splices: pictures of images whose stored tiles are JPEG, joined from the bytes of these tiles and never decoded.

The tiles are JPEGs with restart markers, between which the coded pixels stand on their own. So a picture whose edges lie on such
segments is made by another head and other numbers of markers, and decodes to the pixels of ``load_region``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import CacheEntryDamagedError, CacheEntryGoneError
from .stored_files import StoredFile, find_stored_file

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..entries.opened import OpenedChannel
    from ..formats.tiled.tile_reader import TileLevel
    from ..frames.frames import Frames
    from ..items.plan import PlannedCrop

__all__ = ["Splice", "find_splice"]


@dataclass(frozen=True, slots=True)
class Splice:
    """A picture that may be joined from stored tiles.

    Attributes:
        frames: the images.
        image_id: the image.
        part: the number of its file.
        opened: the file.
        file: its tiles.
        level: the resolution.
        rows: of the pixels of the level.
        cols: likewise.
    """

    frames: Frames
    image_id: Hashable
    part: int
    opened: OpenedChannel
    file: StoredFile
    level: TileLevel
    rows: range
    cols: range

    def load(self) -> bytes | None:
        """The JPEG, of tiles that were compared with their checksums now; ``None`` if the pixels must be decoded.

        A damaged entry is made again, and its pixels are then decoded this once.
        """
        try:
            return self.file.join(self.level, self.rows, self.cols)
        except (CacheEntryDamagedError, CacheEntryGoneError) as error:
            self.frames.reopen(self.image_id, self.part, self.opened, error)
            return None


def find_splice(
    frames: Frames, image_id: Hashable, region: tuple[slice, slice], shape: tuple[int, int]
) -> Splice | None:
    """The stored tiles whose pixels are those of ``load_region(image_id, region, shape=shape)``.

    Args:
        frames: the images.
        image_id: the image.
        region: ``(y, x)`` slices inside the image, without steps.
        shape: ``(height, width)`` of the picture.

    Returns:
        ``None`` if there are none: the pixels are placed, turned, masked or resampled, or the tiles are no JPEGs.
    """
    image = frames.image(image_id)
    # Of all pixels: the same for each region, which lies inside.
    crop = image.plan_crop(None)
    part = None if crop is None else _find_file(crop)
    if crop is None or part is None:
        return None
    opened = image.opened(part)
    file = find_stored_file(opened) if opened.reader is opened.entry else None
    if (
        file is None
        or file.tile_frames is not None
        or not file.is_jpeg
        or len(crop.plan.codes) != file.tiling.band_count
    ):
        return None
    rows, cols = (range(axis.start, axis.stop) for axis in region)
    number = _find_level(rows, cols, shape)
    # The levels of the entry are those of scaled reads; a reader of nearest pixels takes the full resolution.
    if number is None or (number and (number > file.entry.own_levels or crop.plan.picks[0].interpolation == "nearest")):
        return None
    down, across = (
        range(axis.start >> number, (axis.start >> number) + extent)
        for axis, extent in zip((rows, cols), shape, strict=True)
    )
    # Loaded with the entry, not with the server.
    from ..formats.tiled.jpeg import BLOCK_PX, find_segment_px

    level = file.tiling.levels[number]
    segment_px = find_segment_px(level.tile_shape[1])
    # The last block of a row may be cut.
    width = -(-len(across) // BLOCK_PX) * BLOCK_PX
    if down.start % BLOCK_PX or across.start % segment_px or width % segment_px:
        return None
    return Splice(frames, image_id, part, opened, file, level, down, across)


def _find_file(crop: PlannedCrop) -> int | None:
    """The number of the one file whose bands, in their order, are the pixels of a crop."""
    picks = crop.plan.picks
    is_one = crop.is_plain and len(picks) == 1 and picks[0].is_all
    return picks[0].part if is_one and [*picks[0].bands] == [*range(len(crop.plan.codes))] else None


def _find_level(rows: range, cols: range, shape: tuple[int, int]) -> int | None:
    """The level at which these rows and columns have this shape; ``None`` if no level has it.

    Example:
        >>> _find_level(range(512, 1024), range(0, 256), (128, 64)), _find_level(range(0, 100), range(0, 100), (33, 33))
        (2, None)
    """
    factor = len(rows) // shape[0]
    is_whole = all(extent * factor == len(axis) for extent, axis in zip(shape, (rows, cols), strict=True))
    is_power = factor > 0 and factor & (factor - 1) == 0
    if not is_whole or not is_power or rows.start % factor or cols.start % factor:
        return None
    return factor.bit_length() - 1
