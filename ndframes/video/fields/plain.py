"""PlainSink: writes pictures alone, without packets or tables of ours, for other programs such as py-pde."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...system.process import IMPORTING
from .growing import Durability, GrowingFile
from .sinks import FieldSink, container_of

if TYPE_CHECKING:
    from .description import Description

__all__ = ["PlainSink", "create_plain_sink"]
# Each frame reaches the file at once. A hybrid MP4 is one of fragments until it is finished, and an ordinary one then.
_MUXER_OPTIONS = {
    "matroska": {"flush_packets": "1", "cluster_time_limit": "0"},
    "mp4": {"flush_packets": "1", "movflags": "+frag_every_frame+hybrid_fragmented"},
    "avi": {"flush_packets": "1"},
}


class PlainSink(FieldSink):
    """Writes the levels of fields as the pictures of an ordinary video, by a muxer of FFmpeg.

    Args:
        form: what the file holds.
        file: the file.
        comment: the text that describes it.
        container: FFmpeg's name of the container.
    """

    def __init__(self, form: Description, file: GrowingFile, comment: str, container: str) -> None:
        super().__init__(form, file)
        with IMPORTING:
            from ..libav import av
        self._target = _Target(file)
        self._container: Any = av.open(self._target, "w", format=container, container_options=_MUXER_OPTIONS[container])
        self._container.metadata["comment"] = comment
        self._stream: Any = self._container.add_stream(self.encoder.name, rate=form.rate)
        self._configure(self._stream.codec_context)
        self._container.start_encoding()
        file.commit()

    def _mux(self, frame: Any, time: float, values: bytes | None) -> None:  # noqa: ARG002 - as in the class above
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """As :meth:`FieldSink.finish`."""
        container, self._container = self._container, None
        container.mux(self._stream.encode(None))
        container.close()
        self._file.close()

    def abandon(self) -> None:
        """As :meth:`FieldSink.abandon`."""
        self._target.is_silent = True  # closing the muxer completes the file
        container, self._container = self._container, None
        if container is not None:
            container.close()
        super().abandon()


class _Target:
    """The file as a muxer of FFmpeg writes it.

    Args:
        file: the file.

    Attributes:
        is_silent: whether nothing is written any more.
    """

    def __init__(self, file: GrowingFile) -> None:
        self._file = file
        self.is_silent = False

    def write(self, data: bytes) -> int:
        """Write at the position."""
        return len(data) if self.is_silent else self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position."""
        return offset if self.is_silent else self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()


def create_plain_sink(path: str, form: Description, comment: str, durability: Durability = "frame") -> PlainSink:
    """Begin a new file, which replaces an existing one when its begin is complete.

    Args:
        path: the file.
        form: what it holds, as levels.
        comment: the text that describes it.
        durability: what a killed writer leaves.

    Raises:
        MovieFormatError: there is no such container.
        OSError: the system refuses; nothing is left.
    """
    container = container_of(path, form)
    file = GrowingFile(path, durability)
    try:
        return PlainSink(form, file, comment, container)
    except BaseException:
        file.abandon()
        raise
