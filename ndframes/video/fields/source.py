"""FieldSource: the frames of a file of fields, read by position."""

from __future__ import annotations

import io
import struct
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MovieError, MovieFormatError, SourceChangedError, UnreadableImageError
from ...system.files import LocalFile
from ...system.process import IMPORTING
from ...system.stamp import stat_source
from ...text import count_noun
from ..index import demux, naming_video, open_container
from ..slices import are_slices_damaged
from .description import Description
from .levels import from_levels
from .matroska import BLOCK_HEAD_BYTES, find_layout, find_places
from .mp4 import find_fragments, read_head
from .packing import unpack
from .pde import describe_pde, parse_comment
from .pictures import level_arrangement, rearrange
from .places import PLACE, Places, read_table
from .times import read_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._typing import Array

__all__ = ["FieldSource", "describe_file", "find_description"]


def find_description(container: Any, path: str) -> Description | None:
    """What a file of fields holds, one of ndframes or of py-pde; ``None`` if it is another video.

    Raises:
        MovieFormatError: the description is of a newer version, or damaged.
    """
    for name, value in container.metadata.items():
        if name.lower() == "comment":
            videos, metadata = container.streams.video, parse_comment(value, path)
            # FFmpeg has no decoder for a codec that a damaged header names.
            context = videos[0].codec_context if videos else None
            if metadata is None:
                return _check_picture(Description.from_json(value, path), context, path)
            return None if context is None else describe_pde(metadata, (context.height, context.width), path)
    return None


def _check_picture(form: Description | None, context: Any, path: str) -> Description | None:
    """Refuse a file whose pictures cannot hold the levels that it describes; packed values need no picture."""
    if form is None or form.coding == "packed":
        return form
    expected = level_arrangement(form).picture_shape
    found = None if context is None else (context.height, context.width)
    if found != expected:
        raise MovieFormatError(
            f"{path} describes pictures of {' x '.join(map(str, expected))} px, and has "
            f"{'none' if found is None else ' x '.join(map(str, found))}; its header is damaged"
        )
    return form


class FieldSource:
    """The frames of a file of fields.

    Threads may share it, and it survives a fork. It pickles by its path.

    Args:
        path: the file.
        form: what it holds; ``None``: what it says itself.

    Attributes:
        path: the file.
        form: what it holds.
        extradata: the parameters of the decoder of its pictures.

    Raises:
        SourceMissingError: there is no such file.
        MovieFormatError: it is not a file of fields.
    """

    def __init__(self, path: str, form: Description | None = None) -> None:
        self.path = path
        described, self.extradata = describe_file(path)
        form = form or described
        if form is None:
            raise MovieFormatError(
                f"{path} is a video without a description of fields; open it with ndframes.open, or write it with MovieStorage"
            )
        self.form = form
        self._arrangement = level_arrangement(form) if form.coding == "levels" else None
        self._local = threading.local()
        self._places: Places | None = None
        self._file = LocalFile(path)
        self.refresh()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def places(self) -> Places:
        """Where the frames are, as of the last :meth:`refresh`."""
        assert self._places is not None  # noqa: S101
        return self._places

    @property
    def times(self) -> Array:
        """The time of each frame: float64, read-only."""
        times: Array = self.places.table["time"].copy()
        times.flags.writeable = False
        return times

    def refresh(self) -> None:
        """Find the frames that have been written since.

        Raises:
            SourceChangedError: there is another file now.
        """
        file = LocalFile(self.path)
        known = self._places
        if known is not None:
            old, new = self._file.status.stamp, file.status.stamp
            if (old.device, old.inode) != (new.device, new.inode):
                raise SourceChangedError(f"{self.path} was replaced by another movie; open it again")
            if old.size_bytes == new.size_bytes:
                return
            # A finished file that is continued loses its end first.
            if known.is_complete or new.size_bytes < known.stop:
                known = None
        places = read_table(file) or self._find_places(file, known)
        self._file, self._places = file, places

    def _find_places(self, file: LocalFile, known: Places | None) -> Places:
        layout = find_layout(file)
        if layout is not None:
            return find_places(file, layout, known)
        places = find_fragments(file, known)
        return _find_packets(self.path, self.form) if places is None else places

    def read(self, number: int, bands: Sequence[int] | slice = slice(None)) -> Array:
        """A field ``(y, x, channel)`` as a new array.

        Args:
            number: of the frame, from 0.
            bands: the numbers of the channels.

        Raises:
            MovieError: the frame is damaged.
        """
        try:
            if self.form.coding == "packed":
                row = self.places.table[number]
                return self._unpack(self._read_at(row["values"], row["values_bytes"]), bands)
            picture = self._read_picture(number)
        except MovieError as error:
            raise MovieError(f"{self.path}: frame {number:,} of {len(self):,}: {error}") from error
        assert self._arrangement is not None  # noqa: S101
        return from_levels(rearrange(picture, self._arrangement), self.form, bands)

    def _read_picture(self, number: int) -> Array:
        """The picture of a frame as an array of the format of its arrangement."""
        row = self.places.table[number]
        return self._decode(self._read_at(row["picture"], row["picture_bytes"]))

    def _read_at(self, start: int, count: int) -> bytes:
        data = self._file.read_at(int(start), int(count))
        if len(data) < count:
            raise MovieError("the file ends before it")
        return data

    def _unpack(self, data: bytes, bands: Sequence[int] | slice) -> Array:
        form = self.form
        chosen = range(form.bands)[bands] if isinstance(bands, slice) else bands
        parts = _split_bands(data, form.bands)
        planes = [unpack(parts[band], (form.height, form.width), form.dtype) for band in chosen]
        return planes[0][:, :, None] if len(planes) == 1 else np.stack(planes, axis=2)

    def _decode(self, data: bytes) -> Array:
        with IMPORTING:
            from ..libav import av
        assert self._arrangement is not None  # noqa: S101
        context = getattr(self._local, "context", None)
        if context is None:
            context = av.CodecContext.create("ffv1", "r")
            context.extradata = self.extradata
            context.height, context.width = self._arrangement.picture_shape
            context.thread_count = 1  # a forked child that frees a decoder with threads waits for them for ever
            self._local.context = context
        # FFmpeg shows what is left of a damaged slice.
        if are_slices_damaged(data):
            raise MovieError("the checksum of its picture is another one")
        try:
            frames = context.decode(av.Packet(data))
        except av.error.FFmpegError as error:
            raise MovieError(f"its picture does not decode: {error.strerror}") from error
        if len(frames) != 1 or frames[0].format.name != self._arrangement.pixel_format or frames[0].is_corrupt:
            raise MovieError("its picture is damaged")
        target = self._arrangement.array_format
        picture: Array = (
            frames[0].to_ndarray()
            if target == frames[0].format.name
            else frames[0].to_ndarray(format=target, threads=1)
        )
        return picture


def describe_file(path: str) -> tuple[Description | None, bytes]:
    """What a file says that it holds, or ``None``; and the parameters of the decoder of its pictures.

    Raises:
        SourceMissingError: there is no such file.
        MovieFormatError: it is not a video, or its description is damaged.
    """
    stat_source(path)  # raises an error for a path that is no file
    try:
        with _open_head(path) as container:
            videos = container.streams.video
            context: Any = videos[0].codec_context if videos else None
            extradata = b"" if context is None else bytes(context.extradata or b"")
            return find_description(container, path), extradata
    except UnreadableImageError as error:
        raise MovieFormatError(f"{path} is not a movie of fields: {error}") from error


def _split_bands(data: bytes, bands: int) -> list[bytes]:
    """The packed channels of a frame."""
    parts, start = [], 0
    try:
        for _ in range(bands):
            (size,) = struct.unpack_from("<Q", data, start)
            parts.append(data[start + 8 : start + 8 + size])
            start += 8 + size
    except struct.error as error:
        raise MovieError(f"its {len(data):,} bytes are damaged: {error}") from error
    return parts


def _open_head(path: str) -> Any:
    """Open a file of fields, to read its description."""
    try:
        return open_container(path, is_probed=False)
    except UnreadableImageError:
        # FFmpeg refuses an MP4 file that is cut off inside of the head of a fragment.
        with LocalFile(path) as file:
            head = read_head(file)
        if head is None:
            raise
        from ..libav import av

        with naming_video(path):
            return av.open(io.BytesIO(head), format="mp4")


def _find_packets(path: str, form: Description) -> Places:
    """Where the pictures of a file are that another program wrote, or an AVI file; all of it is read.

    Raises:
        MovieFormatError: the packed values were left out when the file was copied.
    """
    times = read_times(path)
    rows: list[tuple[int, int, int, int, float]] = []
    with naming_video(path), open_container(path, is_probed=False) as container:
        if not container.streams.video:
            raise MovieFormatError(f"{path} has no pictures; its header is damaged")
        # The position is that of the data of a block.
        before = BLOCK_HEAD_BYTES if "matroska" in container.format.name else 0
        for packet in demux(container, container.streams.video[0], path):
            # A killed writer may leave a part of the last one.
            if packet.size and not packet.is_corrupt:
                number = len(rows)
                assert packet.pos is not None  # noqa: S101
                start = packet.pos + before
                rows.append((start, packet.size, 0, 0, times[number] if number < len(times) else float(number)))
    if form.coding == "packed":
        raise MovieFormatError(
            f"{path} has the previews of {count_noun(len(rows), 'field')}, and their numbers cannot be found: another program copied "
            "the file, or its header is damaged; use the original, or MovieStorage.copy"
        )
    return Places(np.array(rows, PLACE), 0)
