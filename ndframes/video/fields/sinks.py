"""Sinks: where the frames of a movie go, for each kind of container."""

from __future__ import annotations

import os
import struct
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MovieFormatError
from ...system.files import LocalFile
from ...system.process import IMPORTING
from .encoder import LEVELS, PREVIEW, configure, to_avcc, to_frame, to_lengths
from .growing import Durability, GrowingFile
from .levels import to_levels
from .matroska import find_layout, finishing, make_cluster, make_head, make_tail, unfinishing
from .mp4 import PICTURE_TRACK, VALUE_TRACK, find_fragments, make_table_box, shift_fragment
from .packing import pack
from .pictures import arrange, level_arrangement, preview_arrangement, to_preview
from .places import PLACE, Places, write_table
from .times import times_path

if TYPE_CHECKING:
    from ..._typing import Array
    from .description import Description
    from .encoder import EncoderForm
    from .levels import Leveled
    from .source import FieldSource

__all__ = ["CONTAINERS", "FieldSink", "append_sink", "container_of", "create_sink"]
#: The containers by suffix; AVI has no place for packed values, and its times are in a file beside it.
CONTAINERS = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mp4", ".avi": "avi"}
_MUXER_OPTIONS = {
    "mp4": {"movflags": "+frag_every_frame+empty_moov+default_base_moof"},
    "avi": {},
}
# Around the comment, what is at the begin of an MP4 file.
_HEAD_ROOM_BYTES = 1 << 16
_GLOBAL_HEADER = 1 << 22  # parameters at the begin of the file, not in each key frame
_TIME = struct.Struct("<d")
_CHUNK = struct.Struct("<4sI")  # of a RIFF file


def container_of(path: str, form: Description | None = None) -> str:
    """The container of a path.

    Raises:
        MovieFormatError: no container has its suffix, or it cannot hold fields of this form.
    """
    suffix = os.path.splitext(path)[1].lower()
    found = CONTAINERS.get(suffix)
    if found is None:
        raise MovieFormatError(f"{path}: no container of movies ends in {suffix!r}; use {', '.join(CONTAINERS)}")
    if found == "avi" and form is not None and form.coding == "packed":
        raise MovieFormatError(f"{path}: AVI holds levels of 8 or 16 bits, not {form.dtype} exactly; use .mkv or .mp4")
    return found


class FieldSink(ABC):
    """Encodes fields, and writes them to a file.

    Args:
        form: what the file holds.
        file: the file.
    """

    def __init__(self, form: Description, file: GrowingFile) -> None:
        self._form = form
        self._file = file
        self.encoder: EncoderForm = LEVELS if form.coding == "levels" else PREVIEW
        self._arrangement = level_arrangement(form) if form.coding == "levels" else preview_arrangement(form)
        self._count = 0
        self._first = 0  # the number of the first frame of this writer

    def _configure(self, context: Any) -> tuple[int, int]:
        """Set the options of the encoder, and return ``(height, width)`` of the pictures."""
        form = self._form
        shape = self._arrangement.picture_shape
        if self.encoder is PREVIEW:
            shape = to_preview(np.zeros((form.height, form.width, form.bands)), form).shape[:2]
        configure(context, self.encoder, shape, self._arrangement.pixel_format, form.rate)
        return shape

    def write(self, field: Array, time: float) -> Leveled | None:
        """Write a field ``(y, x, channel)`` of the dtype of the movie; returns it as levels, unless it is packed.

        Raises:
            MovieRangeError: the field has NaN, and the movie refuses NaN.
            OSError: the system refuses; the file ends after the frame before.
        """
        if self._form.coding == "levels":
            leveled = to_levels(field, self._form)
            self._put(arrange(leveled.levels, self._arrangement), time, None)
            return leveled
        values = pack_bands(field)
        self._put(to_preview(field, self._form), time, values)
        return None

    def _put(self, picture: Array, time: float, values: bytes | None) -> None:
        frame = to_frame(picture, self._arrangement, self.encoder, self._count - self._first, self._form.rate)
        self._mux(frame, float(time), values)
        self._file.commit()
        self._count += 1

    @abstractmethod
    def _mux(self, frame: Any, time: float, values: bytes | None) -> None:
        """Encode a frame and write it."""

    @abstractmethod
    def finish(self) -> None:
        """Complete the file and close it."""

    def flush(self) -> None:
        """Let readers see every frame as far as the container allows."""
        self._file.flush()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.abandon()


def pack_bands(field: Array) -> bytes:
    """The channels of a field, packed one by one, each after its size."""
    packed = [pack(field[:, :, band]) for band in range(field.shape[2])]
    return b"".join(len(part).to_bytes(8, "little") + part for part in packed)


class MatroskaSink(FieldSink):
    """Writes a Matroska file: one cluster for each frame, in one write.

    Args:
        form: what the file holds.
        file: the file.
        comment: the text that describes it.
        known: the file as it is, if it is continued.

    Raises:
        MovieFormatError: the encoder is another one than that of the file.
    """

    def __init__(self, form: Description, file: GrowingFile, comment: str, known: FieldSource | None) -> None:
        super().__init__(form, file)
        with IMPORTING:
            from ..libav import av
        self._is_h264 = self.encoder is PREVIEW
        self._rows: list[tuple[int, int, int, int, float]] = []
        self._context: Any = av.CodecContext.create(self.encoder.name, "w")
        height, width = self._configure(self._context)
        if self._is_h264:
            self._context.flags |= _GLOBAL_HEADER
        self._context.open()
        extradata = bytes(self._context.extradata or b"")
        if self._is_h264:
            extradata = to_avcc(extradata)
        if known is None:
            file.write(
                make_head(
                    width=width,
                    height=height,
                    codec_id=self.encoder.codec_id,
                    extradata=extradata,
                    rate=form.rate,
                    comment=comment,
                    has_values=form.coding == "packed",
                )
            )
            return
        self._continue(known, extradata)

    def _continue(self, known: FieldSource, extradata: bytes) -> None:
        if known.extradata != extradata:
            raise MovieFormatError(
                f"{known.path} was written by another version of the encoder {self.encoder.name}, and cannot be continued; copy it "
                "with MovieStorage.copy"
            )
        self._rows = known.places.table.tolist()
        self._count = len(self._rows)
        with LocalFile(known.path) as file:
            layout = find_layout(file)
        assert layout is not None  # noqa: S101
        # In this order: at each moment every frame can be found.
        self._file.patch(unfinishing(layout))
        self._file.cut()

    def _mux(self, frame: Any, time: float, values: bytes | None) -> None:
        (packet,) = self._context.encode(frame)
        picture = to_lengths(bytes(packet)) if self._is_h264 else bytes(packet)
        start = self._file.position
        made = make_cluster(self._count, time, picture, values, is_key=packet.is_keyframe)
        self._file.write(made.data)
        values_start = start + made.values if values else 0
        self._rows.append((start + made.picture, len(picture), values_start, len(values or b""), time))

    def _put(self, picture: Array, time: float, values: bytes | None) -> None:
        try:
            super()._put(picture, time, values)
        except OSError:
            self._rows = [row for row in self._rows if row[0] + row[1] <= self._file.position]
            self._count = len(self._rows)
            raise

    def finish(self) -> None:
        """As :meth:`FieldSink.finish`: with the positions of key frames for players, and the table of frames."""
        self._file.flush()
        stop = self._file.position
        with LocalFile(self._file.path) as written:
            layout = find_layout(written)
            assert layout is not None  # noqa: S101
            self._file.write(make_tail(written, layout, Places(np.array(self._rows, PLACE), stop)))
        self._file.patch(finishing(layout, len(self._rows), stop, self._file.position))
        self._file.close()


class LibavSink(FieldSink):
    """Writes a file by a muxer of FFmpeg: fragmented MP4, in which each frame is a fragment, or AVI.

    In MP4 the time of a frame and its packed values are a packet of a data stream. AVI has none: the times are in a text file
    beside it.

    Args:
        form: what the file holds.
        file: the file.
        comment: the text that describes it.
        known: the file as it is, if it is continued.
        container: FFmpeg's name of the container.
    """

    def __init__(
        self, form: Description, file: GrowingFile, comment: str, known: FieldSource | None, *, container: str
    ) -> None:
        super().__init__(form, file)
        with IMPORTING:
            from ..libav import av
        self._make_packet = av.Packet
        self._target = _Output(file, is_silent=known is not None, can_seek=container == "avi")
        self._container: Any = av.open(
            self._target,
            "w",
            format=container,
            container_options={"flush_packets": "1", **_MUXER_OPTIONS[container]},
            # The muxer of MP4 goes back inside of this buffer, to write the size of what holds the comment.
            buffer_size=_HEAD_ROOM_BYTES + len(comment.encode()),
        )
        self._container.metadata["comment"] = comment
        self._stream: Any = self._container.add_stream(self.encoder.name, rate=form.rate)
        self._configure(self._stream.codec_context)
        self._values: Any = self._container.add_data_stream("bin_data") if container == "mp4" else None
        self._times: Any = None
        self._rows: list[tuple[int, int, int, int, float]] = []
        self._container.start_encoding()
        if known is None:
            if self._values is None:
                self._times = open(times_path(file.final), "w", encoding="ascii")  # noqa: SIM115 - closed by finish
            return
        self._first = self._count = len(known)
        file.cut()
        self._target.is_silent = False
        tracks: Any = ((PICTURE_TRACK, self._stream), (VALUE_TRACK, self._values))
        for track, stream in tracks:
            self._target.ticks[track] = round(self._first / form.rate / stream.time_base)

    def _mux(self, frame: Any, time: float, values: bytes | None) -> None:
        if self._values is not None:
            packet = self._make_packet(_TIME.pack(time) + (values or b""))
            packet.stream, packet.time_base = self._values, 1 / self._form.rate
            packet.pts = packet.dts = self._count - self._first
            packet.duration = 1
            self._container.mux(packet)
        else:
            # First, so that no frame lacks its time.
            self._times.write(f"{time!r}\n")
            self._times.flush()
        for encoded in self._stream.encode(frame):
            size = encoded.size
            self._container.mux(encoded)
            # Flushed, a packet is the last thing in an AVI file, of an even number of bytes.
            self._rows.append((self._file.position - size - size % 2, size, 0, 0, time))

    def finish(self) -> None:
        """As :meth:`FieldSink.finish`."""
        for encoded in self._stream.encode(None):
            self._container.mux(encoded)
        self._close()
        self._file.seek(0, os.SEEK_END)  # the muxer of AVI completes the begin of the file last
        if self._values is None:
            table = write_table(Places(np.array(self._rows, PLACE), 0))
            self._file.write(_CHUNK.pack(b"JUNK", len(table)) + table)
        else:
            with LocalFile(self._file.path) as written:
                places = find_fragments(written)
            assert places is not None  # noqa: S101
            self._file.write(make_table_box(places))
        self._file.close()

    def abandon(self) -> None:
        """As :meth:`FieldSink.abandon`."""
        self._target.is_silent = True
        self._close()
        super().abandon()

    def _close(self) -> None:
        container, self._container, self._stream = self._container, None, None
        times, self._times = self._times, None
        if times is not None:
            times.close()
        if container is not None:
            container.close()


class _Output:
    """The file as a muxer of FFmpeg writes it.

    Args:
        file: the file.
        is_silent: whether nothing is written.
        can_seek: whether the muxer may go back.

    Attributes:
        is_silent: whether nothing is written.
        ticks: how much later than the muxer assumes the frames of each track are, in its units.
    """

    def __init__(self, file: GrowingFile, *, is_silent: bool, can_seek: bool) -> None:
        self._file = file
        self.is_silent = is_silent
        self.ticks: dict[int, int] = {}
        if can_seek:
            self.seek, self.tell = file.seek, file.tell

    def write(self, data: bytes) -> int:
        """Write, unless what is written is there already, or shall not be."""
        if self.is_silent:
            return len(data)
        return self._file.write(shift_fragment(bytes(data), self.ticks) if self.ticks else data)


def create_sink(path: str, form: Description, durability: Durability) -> FieldSink:
    """Begin a new file, which replaces an existing one when its begin is complete.

    Raises:
        MovieFormatError: the container cannot hold fields of this form.
        OSError: the system refuses; nothing is left.
    """
    container, comment = container_of(path, form), form.to_json(path)
    file = GrowingFile(path, durability)
    try:
        return _make_sink(form, file, comment, None, container)
    except BaseException:
        file.abandon()
        raise


def append_sink(known: FieldSource, durability: Durability) -> FieldSink:
    """Continue a file after its last complete frame.

    Raises:
        MovieFormatError: files of this container cannot be continued.
        OSError: the system refuses, or another process writes the file.
    """
    container = container_of(known.path)
    if container == "avi" or not known.places.stop:
        raise MovieFormatError(
            f"{known.path} cannot be continued: an AVI file, or one that another program wrote; copy it with MovieStorage.copy"
        )
    file = GrowingFile(known.path, durability, stop=known.places.stop)
    try:
        return _make_sink(known.form, file, known.form.to_json(known.path), known, container)
    except BaseException:
        file.abandon()
        raise


def _make_sink(
    form: Description, file: GrowingFile, comment: str, known: FieldSource | None, container: str
) -> FieldSink:
    if container == "matroska":
        return MatroskaSink(form, file, comment, known)
    return LibavSink(form, file, comment, known, container=container)
