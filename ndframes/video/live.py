"""LiveStream: a connection to a camera, network stream or filter that is read once, forward, from its first key frame on.

After an error it is not read on: what a decoder then puts out may be wrong without a mark. The reader closes it, in the thread
that reads, since FFmpeg crashes if a container is closed while another thread reads it, and opens a new one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import StreamOpenError
from ..system.process import IMPORTING
from .addresses import hide_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from typing_extensions import Self

    from .addresses import StreamAddress

__all__ = ["Ending", "LiveFrame", "LiveStream"]
# FFmpeg looks at a limit only where it waits, every 100 ms; RTSP gives out a picture that it holds, which may be half, before
# it reports that a limit has passed.
_TICK_SECONDS = 0.2
# AVFMT_NOTIMESTAMPS: FFmpeg makes up the timestamps of such a format, as of 25 frames a second.
_NO_TIMESTAMPS = 1 << 7


class Ending(NamedTuple):
    """How a connection ended.

    Attributes:
        kind: the sender ended it, it broke off, it stopped sending, no key frame came in time, or the reader stopped.
        why: for people.
    """

    kind: Literal["ended", "broken", "stalled", "silent", "stopped"]
    why: str


class LiveFrame(NamedTuple):
    """A frame that the decoder put out.

    Attributes:
        picture: the frame.
        is_sound: whether it may be shown: all that it refers to has arrived.
        stamp: its timestamp in seconds, on the clock of this connection; ``None`` if it has none.
        arrived: when it arrived, by the monotonic clock of this machine.
        arrived_at: the same in seconds since 1970.
    """

    picture: VideoFrame
    is_sound: bool
    stamp: Fraction | None
    arrived: float
    arrived_at: float


class LiveStream:
    """An open connection. It belongs to the thread that opens it: that one reads and closes it, no other.

    Args:
        address: what to open.
        open_timeout: seconds in which it must open and its first key frame come; opening itself takes at most twice as long.
        stall_timeout: seconds without data after which it has stalled.
        is_stopped: asked before each packet; the frames end when it is true.

    Attributes:
        ending: how it ended; ``None`` while it is read.
        interval: seconds from a frame to the next, as the stream describes it; ``None`` if it does not.

    Raises:
        StreamOpenError: it does not open, or has no video.
    """

    def __init__(
        self,
        address: StreamAddress,
        *,
        open_timeout: float,
        stall_timeout: float,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.ending: Ending | None = None
        self._address = address
        self._stall_timeout = stall_timeout
        self._is_stopped = is_stopped
        self._deadline = time.monotonic() + open_timeout
        self._open_timeout = open_timeout
        self._container = _open(address, open_timeout, stall_timeout)
        try:
            self._stream = _pick(self._container, address)
        except BaseException:
            self.close()
            raise
        self._stream.codec_context.thread_count = 1  # a forked child that frees a decoder with threads waits for them
        codec = self._stream.codec_context.codec
        # FFmpeg marks no frame of its filters as a key frame.
        self._is_intra = codec.intra_only or codec.name == "wrapped_avframe"
        self._is_untimed = address.is_live and bool(int(self._container.format.flags) & _NO_TIMESTAMPS)
        self._awaits_key = True
        self._key_pts: int | None = None
        self._last_stamp: Fraction | None = None

    @property
    def interval(self) -> Fraction | None:
        """Seconds from a frame to the next, as the stream describes it; ``None`` if it does not."""
        if self._is_untimed:
            return None
        # What was not probed is known to the decoder, once it has decoded a frame.
        rate = self._stream.average_rate or self._stream.codec_context.framerate
        # FFmpeg takes the unit of the timestamps, such as 1/90000 s, where it knows no better.
        return Fraction(rate.denominator, rate.numerator) if rate and 0 < rate <= 1000 else None

    def wall_time(self, stamp: Fraction | None) -> float | None:
        """When a frame was captured by the clock of its sender, in seconds since 1970; ``None`` before it has reported it."""
        begin = getattr(self._container, "start_time_realtime", None) if self._address.has_sender_clock else None
        return None if begin is None or stamp is None else begin / 1e6 + float(stamp)

    def frames(self) -> Iterator[LiveFrame]:
        """All frames that the decoder puts out, until the stream ends, for whatever reason; see :attr:`ending`."""
        from .libav import read_packets

        packets = read_packets(self._container)
        while True:
            packet = self._next_packet(packets)
            if packet is None:
                return
            if packet.stream_index != self._stream.index:
                continue
            arrived, arrived_at = time.monotonic(), time.time()
            for picture in self._decode(packet):
                stamp = self._stamp_of(picture)
                if self._is_of_another_sender(stamp):
                    self.ending = Ending("broken", "its timestamps went back, as those of another sender")
                    return
                yield LiveFrame(picture, self._judge(picture), stamp, arrived, arrived_at)

    def close(self) -> None:
        """Close it; only for the thread that reads it."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next_packet(self, packets: Iterator[Packet[Any]]) -> Packet[Any] | None:
        """The next packet; ``None``, and ``ending`` is set, if there is none."""
        from .libav import av

        began = time.monotonic()
        packet, error = None, None
        if not self._is_stopped():
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as found:
                if isinstance(found, MemoryError):
                    raise
                error = found
        waited = time.monotonic() - began
        self.ending = self._find_ending(packet, error, waited)
        return packet if self.ending is None else None

    def _find_ending(self, packet: Packet[Any] | None, error: Exception | None, waited: float) -> Ending | None:
        if self._is_stopped():
            return Ending("stopped", "stopped")
        # What comes after such a wait is not read: RTSP then gives out half a picture.
        has_waited = self._address.is_live and waited >= self._stall_timeout - _TICK_SECONDS
        if error is not None and (has_waited or type(error).__name__ == "ExitError"):
            return Ending("stalled", f"no data for {self._stall_timeout:g} s")
        if error is not None:
            return Ending("broken", f"it broke off: {_text_of(error)}")
        if packet is None or (packet.size == 0 and self._address.may_be_cut):
            return Ending("ended", "the sender ended it")
        if has_waited:
            return Ending("stalled", f"no data for {waited:.1f} s")
        if self._awaits_key and time.monotonic() > self._deadline:
            return Ending("silent", f"no key frame within {self._open_timeout:g} s")
        return None

    def _decode(self, packet: Packet[Any]) -> list[VideoFrame]:
        """The frames that the decoder puts out for a packet; none before a key frame, and after one that is damaged."""
        from .libav import av

        is_key = self._is_intra or packet.is_keyframe
        if packet.size and (packet.is_corrupt or (self._awaits_key and not is_key)):
            self._await_key()
            return []
        if packet.size and self._awaits_key:
            self._awaits_key, self._key_pts = False, packet.pts
        try:
            return packet.decode()
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            self._await_key()
            return []

    def _await_key(self) -> None:
        """Decode nothing before the next key frame."""
        if not self._awaits_key:
            self._stream.codec_context.flush_buffers()
        self._awaits_key, self._key_pts = True, None

    def _judge(self, picture: VideoFrame) -> bool:
        """Whether a frame is sound: it is not damaged, nor does it refer to what was before the key frame."""
        if picture.is_corrupt:
            self._await_key()
            return False
        if self._awaits_key:
            return False
        if picture.key_frame or self._key_pts is None or picture.pts is None:
            return True
        return picture.pts >= self._key_pts

    def _is_of_another_sender(self, stamp: Fraction | None) -> bool:
        """Whether a sender that was started anew goes on in place of the one before, whose last picture may be cut."""
        if stamp is None or self._address.has_connection:
            return False
        last, self._last_stamp = self._last_stamp, stamp
        return last is not None and stamp < last

    def _stamp_of(self, picture: VideoFrame) -> Fraction | None:
        unit = picture.time_base or self._stream.time_base
        if picture.pts is None or not unit or self._is_untimed:
            return None
        return Fraction(picture.pts * unit.numerator, unit.denominator)


def _open(address: StreamAddress, open_timeout: float, stall_timeout: float) -> Any:
    with IMPORTING:
        from .libav import LENIENT, av, raise_instead

    try:
        return av.open(
            address.url,
            mode="r",
            format=address.format,
            options=dict(address.options),
            timeout=(open_timeout, stall_timeout),
            **LENIENT,
        )
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise_instead(error, StreamOpenError(f"{address.name} does not open: {_explain(address, error, open_timeout)}"))


def _explain(address: StreamAddress, error: Exception, open_timeout: float) -> str:
    """Why an address does not open, and what to do."""
    name = type(error).__name__
    text = _text_of(error)
    if name in ("ExitError", "TimeoutError"):
        return f"no answer within {open_timeout:g} s; check that it sends, or give a longer open_timeout"
    if name == "InvalidDataError":
        return f"what comes is no video, or nothing came within {open_timeout:g} s; check the address in a player"
    if name == "FilterNotFoundError" or address.format == "lavfi":
        return f"{text}; check the graph of filters"
    if address.format == "v4l2":
        return (
            f"{text}; check that the camera is connected, that no other program uses it, and that this user may read it"
        )
    if name == "ConnectionRefusedError":
        return "the connection was refused; check that a server listens there"
    return f"{text}; check the address"


def _text_of(error: Exception) -> str:
    # The rest of the text of an error of FFmpeg is its own number, and the URL with its password.
    return hide_secrets(str(getattr(error, "strerror", None) or error))


def _pick(container: Any, address: StreamAddress) -> VideoStream:
    """The video stream that FFmpeg prefers."""
    stream = container.streams.best("video")
    if stream is None:
        found = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
        raise StreamOpenError(
            f"{address.name} has no video; it has {found}. If its video begins late, give options={{'analyzeduration': '5000000'}}"
        )
    if stream.codec_context is None:
        raise StreamOpenError(f"{address.name}: FFmpeg has no decoder for the codec of its video")
    return stream  # type: ignore[no-any-return]
