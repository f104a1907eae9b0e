"""Stored tiles: the bytes of a cache entry as they are, or unpacked where a client could not unpack them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from ..errors import CacheEntryDamagedError, CacheEntryGoneError, RegionError, UnsupportedError, naming_image, shorten
from ..spec.pathinfo import SequenceInfo
from .limits import Cost
from .regions import item_from_text
from .stored_files import find_stored_file
from .work import JOINED, Body, Work

if TYPE_CHECKING:
    from ..entries.opened import OpenedChannel
    from ..formats.tiled.tile_reader import TileLevel
    from ..frames.frames import Frames
    from ..items.item import LazyImage
    from .stored_files import StoredFile

__all__ = ["StoredTiles", "TileForm", "TileRequest", "accepts_zstd", "tiles_from_query"]
#: What tiles are sent as: pixels, or one JPEG.
TileForm = Literal["raw", "jpg"]
# What the head of a JPEG can say.
_MOST_JPEG_PX = 65_535
_MOST_REOPENINGS = 2
_CODING = re.compile(r"\s*(?P<name>[A-Za-z0-9*_-]+)\s*(?:;\s*q=(?P<weight>[01](?:\.[0-9]{0,3})?)\s*)?")


@dataclass(frozen=True, slots=True)
class TileRequest:
    """A rectangle of tiles.

    Attributes:
        state: of the entry, as :meth:`StoredTiles.describe` gives it.
        level: 0 is the full resolution.
        file: the number of the file in the image.
        rows: of tiles; ``None``: all.
        cols: likewise.
        time: of a video: the tiles in time, a number or a slice, ``None``: all; of a sequence: the number of the image.
        form: what is sent.
    """

    state: str
    level: int
    file: int
    rows: slice
    cols: slice
    time: Any = None
    form: TileForm = "raw"


def tiles_from_query(state: str, level: str, query: Mapping[str, str]) -> TileRequest:
    """The request for ``/frames/NAME/STATE/tiles/LEVEL?t=&rows=&cols=&file=&format=``.

    Raises:
        RegionError: a value is not allowed.

    Example:
        >>> tiles_from_query("0a", "1", {"rows": "0:2"}).rows
        slice(0, 2, None)
    """
    if unknown := [name for name in query if name not in ("t", "rows", "cols", "file", "format")]:
        raise RegionError(f"{shorten(unknown[0])} is not a parameter; allowed: t, rows, cols, file, format")
    form = query.get("format", "raw")
    if form not in get_args(TileForm):
        raise RegionError(f"format={shorten(form)}; allowed: {', '.join(get_args(TileForm))}")
    numbers = [item_from_text(text, name) for text, name in ((level, "level"), (query.get("file", "0"), "file"))]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise RegionError(f"level={shorten(level)}, file={shorten(query.get('file', '0'))}; give whole numbers from 0")
    rows, cols = (_to_span(item_from_text(query.get(name, ":"), name), name) for name in ("rows", "cols"))
    time = item_from_text(query["t"], "t") if "t" in query else None
    return TileRequest(state, numbers[0], numbers[1], rows, cols, time, form)  # type: ignore[arg-type]


def accepts_zstd(headers: Mapping[str, str]) -> bool:
    """Whether a client accepts ``zstd`` as coding of the content. ``*`` does not count: few who send it can unpack zstd.

    Example:
        >>> accepts_zstd({"accept-encoding": "gzip, zstd;q=0.5"}), accepts_zstd({"accept-encoding": "zstd;q=0"})
        (True, False)
    """
    for part in headers.get("accept-encoding", "").split(","):
        found = _CODING.fullmatch(part)
        if found is not None and found["name"].lower() == "zstd":
            return float(found["weight"] or 1) > 0
    return False


class StoredTiles:
    """The stored tiles of the images, sequences and videos of a service.

    Args:
        frames: the images.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def describe(self, image_id: Hashable, time: str | None = None) -> dict[str, Any]:
        """The files of an image, a video or an image of a sequence, with their tiles; what is not in the cache is converted.

        Args:
            image_id: the image.
            time: which image of a sequence, as text.

        Raises:
            UnsupportedError: a file has no tiles.
            RegionError: the time is missing, or not one of the sequence.
        """
        with naming_image(image_id):
            number = None if time is None else item_from_text(time, "t")
            if self._frames.image(image_id).is_video and number is not None:
                raise RegionError(f"t={shorten(time)}: a video has one file; t is for sequences here")
            image = self._find_image(image_id, number)
            files = [_to_stored(image.opened(part)) for part in range(len(image.pathinfo.channels))]
            return {"files": [file.describe() for file in files], "is_image": _is_image(image, files)}

    def plan(self, image_id: Hashable, wanted: TileRequest, *, accepts_zstd: bool) -> Work:
        """A read of some tiles, row by row; each is compared with its checksum when it is read.

        A damaged entry is made again once; if that gives other bytes, the state is gone.

        Raises:
            UnsupportedError: the image has no tiles.
            RegionError: there are no such tiles, or no JPEG of them.
            CacheEntryGoneError: the entry has another state.
        """
        with naming_image(image_id):
            found = self._find(image_id, wanted)
        file = found.file
        count = len(found.times) * len(found.rows) * len(found.cols)
        height, width, _ = file.tile_shape
        cost = Cost(count * (file.tile_frames or 1) * height * width, count * file.tile_bytes)
        coding = "zstd" if accepts_zstd and file.is_zstd and wanted.form == "raw" else None
        is_sent = coding is not None or wanted.form == "jpg"
        make = partial(self._load, image_id, wanted, found, coding)
        return Work(cost, make, cost.bytes // JOINED if is_sent else cost.bytes)

    def _load(self, image_id: Hashable, wanted: TileRequest, found: _Found, coding: str | None) -> Body:
        with naming_image(image_id):
            # Twice: a damaged file with other times than it was opened with is opened again before it is moved away.
            for _ in range(_MOST_REOPENINGS):
                try:
                    return found.load(wanted.form, coding)
                except (CacheEntryDamagedError, CacheEntryGoneError) as error:
                    self._frames.reopen(image_id, self._number_file(image_id, wanted), found.opened, error)
                found = self._find(image_id, wanted)
            return found.load(wanted.form, coding)

    def _find(self, image_id: Hashable, wanted: TileRequest) -> _Found:
        image = self._find_image(image_id, wanted.time)
        count = len(image.pathinfo.channels)
        if wanted.file >= count:
            raise RegionError(f"file={wanted.file}: the image has {count}; give a number from 0 to {count - 1}")
        opened = image.opened(wanted.file)
        file = _to_stored(opened)
        if file.state != wanted.state:
            raise CacheEntryGoneError(f"there is no entry of the state {shorten(wanted.state)} any more")
        return _Found(opened, file, *_select(file, wanted))

    def _find_image(self, image_id: Hashable, time: Any) -> LazyImage:
        """An image, a video, or the image of a sequence at a time."""
        image = self._frames.image(image_id)
        if image.is_video:
            return image
        count = len(image.frame_ids)
        if not count:
            if time is not None:
                raise RegionError(f"t={shorten(time)}: the image has no axis t")
            return image
        if not isinstance(time, int) or not 0 <= time < count:
            raise RegionError(
                f"t={shorten(time)}: each image of a sequence has files of its own; give t, a number from 0 to {count - 1:,}"
            )
        return image.image_at(time)

    def _number_file(self, image_id: Hashable, wanted: TileRequest) -> int:
        """The number of a file among those of the whole item."""
        info = self._frames.pathinfo(image_id)
        before = info.images[: wanted.time] if isinstance(info, SequenceInfo) else ()
        return sum(len(image.channels) for image in before) + wanted.file


class _Found(NamedTuple):
    """Tiles of a file that is open.

    Attributes:
        opened: the file.
        file: its tiles.
        level: the resolution.
        times: of tiles.
        rows: likewise.
        cols: likewise.
    """

    opened: OpenedChannel
    file: StoredFile
    level: TileLevel
    times: range
    rows: range
    cols: range

    def load(self, form: TileForm, coding: str | None) -> Body:
        """The tiles as they are sent."""
        if form == "jpg":
            return Body(self._join(), "image/jpeg")
        content = self.file.load(self.level, self.times, self.rows, self.cols, as_zstd=coding is not None)
        return Body(content, "application/octet-stream", coding)

    def _join(self) -> bytes:
        if not self.file.is_jpeg:
            raise RegionError("format=jpg: the tiles of the file are not stored as JPEG; leave it out")
        down, across = (
            range(tiles.start * extent, tiles.stop * extent)
            for tiles, extent in zip((self.rows, self.cols), self.level.tile_shape, strict=True)
        )
        if max(len(down), len(across)) > _MOST_JPEG_PX:
            raise RegionError(
                f"format=jpg: {len(down):,} x {len(across):,} pixels; a JPEG has at most {_MOST_JPEG_PX:,} a side"
            )
        picture = self.file.join(self.level, down, across)
        if picture is None:
            raise RegionError("format=jpg: these tiles do not join to one JPEG; ask for one of them at a time")
        return picture


def _is_image(image: LazyImage, files: Sequence[StoredFile]) -> bool:
    """Whether the pixels of the only file are those of the image: all of them, not placed by a matrix, and not decoded."""
    is_stored = len(files) == 1 and image.find_stored(image.select(None)) is not None
    return is_stored and len(image.frame_ids) == (files[0].entry.frame_count or 0)


def _to_stored(opened: OpenedChannel) -> StoredFile:
    file = find_stored_file(opened)
    if file is None:
        raise UnsupportedError("a file of the image has no tiles as it is read here; ask for regions")
    return file


def _select(file: StoredFile, wanted: TileRequest) -> tuple[TileLevel, range, range, range]:
    levels = file.tiling.levels
    if wanted.level >= len(levels):
        raise RegionError(f"level {wanted.level}: the file has the levels 0 to {len(levels) - 1}")
    level = levels[wanted.level]
    # The time of a sequence has chosen the file, which is an image.
    spans = slice(None) if file.tile_frames is None else _to_span(wanted.time, "t")
    times, rows, cols = range(file.tile_times)[spans], range(level.down)[wanted.rows], range(level.across)[wanted.cols]
    if not times or not rows or not cols:
        in_time = "" if file.tile_frames is None else f"{file.tile_times} x "
        raise RegionError(
            f"no tiles: level {wanted.level} has {in_time}{level.down} x {level.across} tiles ({'times x ' if in_time else ''}rows x columns)"
        )
    return level, times, rows, cols


def _to_span(item: Any, name: str) -> slice:
    """Numbers of tiles from an item of a region; ``None``: all."""
    span = slice(item, item + 1) if isinstance(item, int) else item or slice(None)
    if (
        not isinstance(span, slice)
        or span.step not in (None, 1)
        or any((end or 0) < 0 for end in (span.start, span.stop))
    ):
        raise RegionError(f"{name}={shorten(item)}; give numbers of tiles from 0, such as 0:4")
    return span
