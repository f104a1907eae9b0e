"""Views: how the images of a service are cut into chunks of Zarr, and in which state of their files."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import OrderedDict
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ..errors import ChannelError, SourceChangedError, SourceMissingError, naming_image
from ..spec.pathinfo import SequenceInfo
from ..system.sources import hash_file
from ..system.stamp import stat_source
from .stored_files import find_stored_file
from .zarr_metadata import ArrayLayout

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    import numpy as np

    from ..entries.opened import OpenedChannel
    from ..frames.frames import Frames
    from ..items.item import LazyImage
    from ..spec.nodata import Nodata
    from ..system.stamp import SourceStamp
    from .stored_files import StoredFile

__all__ = ["ZarrView", "ZarrViews", "find_level_shape", "find_tiles", "first_frame"]
_STATE_BYTES = 12
_KEPT_VIEWS = 256
_UNSTABLE_TRIES = 3
# The extent of chunks that are decoded for their reader, or of as many whole stored tiles.
_EXTENT_PX = 256
_LEAST_EXTENT_PX = 32
_MOST_CHUNK_BYTES = 4 << 20


class _FileState(NamedTuple):
    """A file of an image when a view was made.

    Attributes:
        entry: the state of the cache entry that is read, which is one of its pixels; ``None``: the file itself is read, or is not
            open.
        stamp: of a file without an entry, without the number of the file system, which changes with every mount; ``None``: there
            is no local file.
        digest: of the content, if the stamp was too young when it was first seen: another change would not have shown in it.
        is_settled: whether each later change shows in the stamp.
        is_ambiguous: whether two contents were seen with this stamp.
    """

    entry: str | None = None
    stamp: tuple[int, ...] | None = None
    digest: str | None = None
    is_settled: bool = True
    is_ambiguous: bool = False

    @classmethod
    def of_file(cls, path: str, stamp: SourceStamp | None, known: _FileState | None) -> _FileState:
        """The state of a file without an entry.

        Args:
            path: the file.
            stamp: of the file.
            known: an earlier state.
        """
        if stamp is None:
            return cls()
        is_settled = stamp.is_settled(time.time_ns())
        before = known if known is not None and known.stamp == stamp[1:] else cls()
        if is_settled and (before.digest is None or before.is_settled):
            return before._replace(stamp=stamp[1:])
        # Once more after the file has settled: it may have changed since it was last looked at.
        digest = hash_file(path, "sha256")
        is_ambiguous = before.is_ambiguous or before.digest not in (None, digest)
        return cls(None, stamp[1:], digest, is_settled, is_ambiguous)

    def is_stamp_of(self, opened: OpenedChannel) -> bool:
        """Whether a file was opened with this stamp, and shows each change in it."""
        return self.is_settled and self.stamp == (None if opened.stamp is None else opened.stamp[1:])

    @property
    def content(self) -> tuple[object, ...]:
        """What is equal for equal content, in each process: one may have seen a young stamp, and another one not."""
        return self.entry, self.stamp, self.digest if self.is_ambiguous else None


#: The files by their numbers among those of an image, for the image or each image of a sequence.
_Files: TypeAlias = tuple[dict[int, _FileState], ...]


@dataclass(frozen=True, slots=True)
class ZarrView:
    """An image as arrays of chunks, in one state of its files.

    Attributes:
        image_id: the image.
        state: a digest of its files, their alignment and the layouts: chunks of two states are never mixed.
        codes: the channels.
        nodata: what marks missing pixels, for each channel.
        shape: ``(height, width)`` of the full resolution.
        has_times: whether the image has an axis of time, even one of a single frame, which the arrays leave out.
        levels: the layouts of all resolutions.
        files: those of the image, or of each image of a sequence.
    """

    image_id: Hashable
    state: str
    codes: tuple[str, ...]
    nodata: tuple[Nodata | None, ...]
    shape: tuple[int, int]
    has_times: bool
    levels: tuple[ArrayLayout, ...]
    files: _Files


class ZarrViews:
    """The views of the images of a service. Safe to share between threads.

    Args:
        frames: the images.
        is_planar: whether each channel has chunks of its own.
    """

    def __init__(self, frames: Frames, *, is_planar: bool) -> None:
        self._frames = frames
        self._is_planar = is_planar
        self._views: OrderedDict[Hashable, ZarrView] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, image_id: Hashable) -> ZarrView:
        """The view of the present files; an image that is not in the cache is converted.

        Raises:
            SourceChangedError: a file is being written to.
            NdframesError: as a read of the image.
        """
        view = self._look_up(image_id)
        with naming_image(image_id):
            if view is not None:
                files = self._record(image_id, view.files)
                if _list_contents(files) == _list_contents(view.files):
                    return self._keep(replace(view, files=files))
            return self._make(image_id, None if view is None else view.files)

    def find_state(self, image_id: Hashable, state: str) -> ZarrView | None:
        """The view of a state, whose files may have changed meanwhile; ``None``: the image has another state now."""
        view = self._look_up(image_id)
        if view is None or view.state != state:
            view = self.find(image_id)
        return view if view.state == state else None

    def is_read(self, view: ZarrView, times: Iterable[int]) -> bool:
        """Whether what has been read just now was of the state of a view.

        Args:
            view: the image.
            times: the frames that were read.
        """
        item = self._frames.image(view.image_id)
        # Files are looked at again, so those that are the same now were the same during the read.
        if isinstance(self._frames.pathinfo(view.image_id), SequenceInfo):
            has_all = len(item.frame_ids) == len(view.files)
            is_same = has_all and all(_is_of(item.image_at(place), view.codes, view.files[place]) for place in times)
        else:
            is_same = _are_open(item, view.files[0])
        return is_same or self.find(view.image_id).state == view.state

    def _look_up(self, image_id: Hashable) -> ZarrView | None:
        with self._lock:
            return self._views.get(image_id)

    def _keep(self, view: ZarrView) -> ZarrView:
        with self._lock:
            self._views[view.image_id] = view
            self._views.move_to_end(view.image_id)
            while len(self._views) > _KEPT_VIEWS:
                self._views.popitem(last=False)
        return view

    def _make(self, image_id: Hashable, known: _Files | None) -> ZarrView:
        for _ in range(_UNSTABLE_TRIES):
            files = self._record(image_id, known)
            view = self._describe(image_id, files)
            # Nothing that was asked of the image is of a later state.
            known = self._record(image_id, files)
            if _list_contents(known) == _list_contents(files):
                return self._keep(view)
        raise SourceChangedError("a file of the image is being written to")

    def _describe(self, image_id: Hashable, files: _Files) -> ZarrView:
        item, info = self._frames.image(image_id), self._frames.pathinfo(image_id)
        codes = item.select(None)
        levels = tuple(_plan_levels(item, codes, is_planar=self._is_planar))
        places = [astuple(channel) for channel in info.channels], info.shape, info.is_native, info.frame_range
        text = repr((_list_contents(files), places, codes, levels))
        state = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_STATE_BYTES).hexdigest()
        has_times = len(item.frame_ids) > 0
        return ZarrView(image_id, state, codes, item.find_nodata(codes), item.image_shape, has_times, levels, files)

    def _record(self, image_id: Hashable, known: _Files | None) -> _Files:
        """The states of the files of an image, or of each image of a sequence, which are not opened for it.

        Args:
            image_id: the image.
            known: earlier states of the files.
        """
        info = self._frames.pathinfo(image_id)
        if isinstance(info, SequenceInfo):
            count = len(info.images)
            earlier: _Files = known if known is not None and len(known) == count else ({},) * count
            return tuple(
                {part: _look_at(channel.path, before.get(part)) for part, channel in enumerate(image.channels)}
                for image, before in zip(info.images, earlier, strict=True)
            )
        image, before = self._frames.image(image_id), known[0] if known else {}
        # As they were opened, which the frames may trust for a while without looking at the files.
        opened = {part: image.opened(part) for part, _ in image.bands_by_part(image.select(None))}
        return (
            {
                part: _FileState.of_file(info.channels[part].path, each.stamp, before.get(part))
                if each.entry is None
                else _FileState(each.entry.state)
                for part, each in opened.items()
            },
        )


def _is_of(image: LazyImage, codes: tuple[str, ...], files: dict[int, _FileState]) -> bool:
    """Whether the files that an image of a sequence reads are sure to be these."""
    try:
        parts = [part for part, _ in image.bands_by_part(codes)]
    except ChannelError:  # they are others, with other channels
        return False
    return all(part in files and files[part].is_stamp_of(image.opened(part)) for part in parts)


def _are_open(image: LazyImage, files: dict[int, _FileState]) -> bool:
    """Whether an image is open from files that are sure to be these."""
    for part, file in files.items():
        opened = image.opened(part)
        entry = None if opened.entry is None else opened.entry.state
        if entry != file.entry or (entry is None and not file.is_stamp_of(opened)):
            return False
    return True


def _look_at(path: str, known: _FileState | None) -> _FileState:
    """The state of a file that may not be open."""
    try:
        return _FileState.of_file(path, stat_source(path), known)
    except SourceMissingError:  # its entry may be read in its place, or it is no local file
        return _FileState()


def _list_contents(files: _Files) -> list[tuple[object, ...]]:
    return [(part, *file.content) for group in files for part, file in group.items()]


def find_tiles(item: LazyImage, codes: tuple[str, ...], time: int, level: int) -> StoredFile | None:
    """The file whose stored tiles hold the pixels of a level as ``load_region`` gives them; ``None``: no file.

    Args:
        item: the image, sequence or video.
        codes: the channels.
        time: the frame.
        level: 0 is the full resolution; level ``k`` is ``scale=1/2**k``.
    """
    image = item.image_at(time)
    pick = image.find_stored(codes)
    file = None if pick is None else find_stored_file(image.opened(pick.part))
    if pick is None or file is None:
        return None
    # Scaled reads of booleans and of labels take single pixels, and overviews hold means.
    is_mean = pick.interpolation != "nearest" and file.tiling.dtype.kind != "b"
    return file if not level or (is_mean and level <= file.entry.own_levels) else None


def first_frame(item: LazyImage) -> int:
    """The number in its file of the first frame of a video, which may be a part of the file."""
    frames = item.frame_ids
    return frames.start if item.is_video and isinstance(frames, range) else 0


def find_level_shape(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """``(height, width)`` of a read with ``scale=1/2**level``: halves are rounded up; 0 where nothing is left.

    Example:
        >>> find_level_shape((61, 2), 1), find_level_shape((61, 2), 2), find_level_shape((61, 2), 3)
        ((31, 1), (15, 1), (8, 0))
    """
    height, width = (math.floor(extent / 2**level + 0.5) for extent in shape)
    return height, width


def _plan_levels(item: LazyImage, codes: tuple[str, ...], *, is_planar: bool) -> Iterator[ArrayLayout]:
    """The layouts of all resolutions, until one chunk holds the whole image."""
    level = 0
    shape = find_level_shape(item.image_shape, 0)
    while all(shape):
        layout = _plan_level(item, codes, level, shape, is_planar=is_planar)
        yield layout
        if shape[0] <= layout.chunk_shape[-2] and shape[1] <= layout.chunk_shape[-1]:
            return
        level += 1
        shape = find_level_shape(item.image_shape, level)


def _plan_level(
    item: LazyImage, codes: tuple[str, ...], level: int, shape: tuple[int, int], *, is_planar: bool
) -> ArrayLayout:
    count = len(item.frame_ids)
    has_times = count > 1
    times = (count,) if has_times else ()
    dtype = item.dtype(codes).newbyteorder("=")
    full_shape = (*times, len(codes), *shape)
    file = find_tiles(item, codes, 0, level)
    is_one_block = len(codes) == 1 or not is_planar
    if file is not None and is_one_block and _fits(item, file, dtype, has_times=has_times):
        frames = (file.tile_frames or 1,) if has_times else ()
        chunk_shape = (*frames, len(codes), *file.tile_shape[:2])
        return ArrayLayout(full_shape, chunk_shape, dtype, is_interleaved=len(codes) > 1, is_zstd=file.is_zstd)
    return ArrayLayout(full_shape, _choose_chunk(item, codes, dtype, full_shape, is_planar=is_planar), dtype)


def _fits(item: LazyImage, file: StoredFile, dtype: np.dtype[np.generic], *, has_times: bool) -> bool:
    """Whether stored tiles are chunks as they are: by their coding, dtype and frames."""
    if not (file.is_zstd or file.is_plain) or file.tiling.dtype.newbyteorder("=") != dtype:
        return False
    if file.tile_frames is None:
        return True
    # Tiles of a part of a video begin with its first frame, or hold others before it. Without an axis of time, they hold one.
    return first_frame(item) % file.tile_frames == 0 if has_times else file.tile_frames == 1 and file.tile_times == 1


def _choose_chunk(
    item: LazyImage,
    codes: tuple[str, ...],
    dtype: np.dtype[np.generic],
    shape: tuple[int, ...],
    *,
    is_planar: bool,
) -> tuple[int, ...]:
    """The shape of chunks that are decoded: whole tiles or frames of the file, but not of too many bytes."""
    part, _ = item.bands_by_part(codes)[0]
    reader = item.opened(part).reader
    bands = 1 if is_planar else len(codes)
    times = (reader.tile_frames if item.is_video else 1,) if len(shape) == 4 else ()
    pixel_bytes = math.prod(times) * bands * dtype.itemsize
    if (
        item.is_video
        and reader.tile_shape == reader.shape[:2]
        and math.prod(shape[-2:]) * pixel_bytes <= _MOST_CHUNK_BYTES
    ):
        # Each chunk of a frame would decode all of it.
        return (*times, bands, *shape[-2:])
    extents = [
        tile * (_EXTENT_PX // tile) if tile < min(extent, _EXTENT_PX) else _EXTENT_PX
        for tile, extent in zip(reader.tile_shape, reader.shape, strict=False)
    ]
    while min(extents) > _LEAST_EXTENT_PX and math.prod(extents) * pixel_bytes > _MOST_CHUNK_BYTES:
        extents = [extent // 2 for extent in extents]
    return (*times, bands, *extents)
