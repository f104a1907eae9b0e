"""Scan: the packets of a video, and whether their times can say which frame is which."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import UnreadableImageError
from .hidden import HIDDEN
from .index import FrameIndex, Seek, demux, pick_stream
from .landings import mark_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["PacketFacts", "Scan", "describes_itself", "index_by_times", "is_monochrome", "scan_packets"]
# Profiles of H.264 whose parameters name the format of colour.
_PROFILES_WITH_CHROMA = frozenset([100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135])
# Containers without an index, in which a parser finds the packets: a seek by time ends anywhere. OBU refuses to seek by byte.
_BYTE_FORMATS = frozenset(["mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "vc1"])
# Containers that store no presentation times: FFmpeg guesses those of B-frames.
_GUESSED_FORMATS = frozenset(["avi"])
# Containers and codecs that describe the stream at the beginning of the file, so that no frame has to be decoded to know it.
_DESCRIBED_FORMATS = frozenset(["mov", "matroska"])
_DESCRIBED_CODECS = frozenset(["h264", "hevc"])
# Decoders put frames out of order by at most 16; fields count twice.
_MOST_DISPLACED = 32


class PacketFacts(NamedTuple):
    """What is known of a packet without decoding it.

    Attributes:
        pts: when its frame is shown, in the stream's unit; ``None`` if the container does not say.
        dts: when it is decoded, likewise.
        position: its first byte in the file; -1 if unknown.
        is_key: whether the container or the parser calls it a key frame.
        is_shown: whether it holds a frame that is shown. Others are decoded, since frames refer to them.
        mark: see :func:`~.landings.mark_of`; 0 where ``is_key`` is false.
        is_cut: whether the file ends within it.
    """

    pts: int | None
    dts: int | None
    position: int
    is_key: bool
    is_shown: bool
    mark: int
    is_cut: bool


class Scan(NamedTuple):
    """The packets of one stream in the order of the file.

    Attributes:
        packets: those with content.
        how: the way to seek in this container.
        stream: the number of the stream.
        time_base: the unit of times, in seconds.
        rate: frames per second on average, if the container says.
        codec: FFmpeg's name.
        is_gray: whether the stream stores brightness alone, although its decoder puts out colour.
        is_guessed: whether times may be FFmpeg's guesses.
        is_described: whether the file's header may describe the stream well enough to decode without probing.
        is_in_order: whether frames are stored in the order of their times.
        has_reordering: whether the decoder expects frames in another order than they are shown in.
        mixes_parameters: whether some key frames come with other parameters than the header and others rely on the header. What
            such frames show depends on all that was decoded before.
    """

    packets: list[PacketFacts]
    how: Seek
    stream: int
    time_base: Fraction
    rate: Fraction | None
    codec: str
    is_gray: bool
    is_guessed: bool
    is_described: bool
    is_in_order: bool
    has_reordering: bool
    mixes_parameters: bool

    @property
    def keyed(self) -> list[PacketFacts]:
        """The packets that are called key frames."""
        return [packet for packet in self.packets if packet.is_key]

    @property
    def has_plausible_times(self) -> bool:
        """Whether each frame may have a time of its own, by which it is found: what decoding must then confirm."""
        times = [packet.pts for packet in self.packets if packet.is_shown]
        if self.is_guessed or None in times or len(set(times)) < len(times) or not self.keyed:
            return False
        # A clock that was set back, or a joined file, in which frames are shown in another order than that of their times.
        clock = [packet.dts for packet in self.packets if packet.dts is not None]
        if any(later < earlier for earlier, later in itertools.pairwise(clock)):
            return False
        ranks = np.argsort(np.argsort(np.array(times, np.int64), kind="stable"), kind="stable")
        return bool((np.abs(ranks - np.arange(len(ranks))) <= _MOST_DISPLACED).all())

    @property
    def knows_order(self) -> bool:
        """Whether frames are stored in the order in which they are shown, or the decoder knows from the header that not.

        A decoder that does not know puts out the first frames too early, in the wrong order.
        """
        return self.is_in_order or self.has_reordering

    @property
    def is_consistent(self) -> bool:
        """Whether the tables of a container that is usually right agree with each other."""
        is_all_keys = len(self.packets) > 1 and all(packet.is_key for packet in self.packets)
        return self.is_described and not is_all_keys and not self.is_in_order


def describes_itself(container: InputContainer, path: str, stream: int | None) -> bool:
    """Whether the header of a file that was opened without probing may say all that there is to know of a stream."""
    is_choice = stream is None and len(container.streams.video) > 1  # which takes more knowledge
    if is_choice or not _DESCRIBED_FORMATS & set(container.format.name.split(",")):
        return False
    chosen = pick_stream(container, path, stream)
    context = chosen.codec_context
    return context.name in _DESCRIBED_CODECS and bool(context.extradata and context.width) and bool(chosen.average_rate)


def scan_packets(container: InputContainer, stream: VideoStream, path: str) -> Scan:
    """Read all packets of a stream, without decoding them.

    Raises:
        UnreadableImageError: the file cannot be read, or has no packets.
    """
    context = stream.codec_context
    is_hidden = HIDDEN.get(context.name)
    parameters = _Parameters.of(context)
    packets, kinds = [], set()
    for packet in demux(container, stream, path):
        # The demuxer ends with an empty packet.
        if packet.size:
            packets.append(_describe(packet, is_hidden))
            if packet.is_keyframe and parameters is not None:
                kinds.add(parameters.find_kind(_bytes_of(packet)))
    if not packets:
        raise UnreadableImageError(f"{path}: its video has no packets")
    names = set(container.format.name.split(","))
    by_byte = names & _BYTE_FORMATS and all(packet.position >= 0 for packet in packets if packet.is_key)
    return Scan(
        packets,
        "byte" if by_byte else "pts",
        stream.index,
        _to_fraction(stream.time_base) or Fraction(1, 1000),
        _to_fraction(stream.average_rate),
        context.name,
        context.name == "h264" and is_monochrome(context.extradata or b""),
        bool(names & _GUESSED_FORMATS) and bool(context.has_b_frames),
        bool(names & _DESCRIBED_FORMATS) and context.name in _DESCRIBED_CODECS,
        _is_in_order(packets),
        bool(context.has_b_frames),
        {"none", "other"} <= kinds,
    )


def index_by_times(scan: Scan) -> FrameIndex:
    """The index that the times of packets give: frames sorted by time, without those before the first key frame."""
    packets = scan.packets
    first = next(number for number, packet in enumerate(packets) if packet.is_key)
    start = packets[first].pts or 0
    known = [packet for packet in packets[first:] if packet.pts is not None and packet.pts >= start]
    times = np.sort(np.array([packet.pts for packet in known if packet.is_shown], np.int64))
    entries: dict[int, tuple[int, int]] = {}
    for packet in sorted((packet for packet in known if packet.is_key), key=_time_of):
        number = int(np.searchsorted(times, _time_of(packet)))  # the first frame shown at or after the key frame
        if number < len(times):
            # Two key packets may belong to one frame: the later one counts.
            entries[number] = packet.position if scan.how == "byte" else _time_of(packet), packet.mark
    seeks, marks = (np.array([each[place] for each in entries.values()], np.int64) for place in (0, 1))
    keys = np.array(list(entries), np.int64)
    return FrameIndex(
        times, True, keys, seeks, scan.how, scan.time_base, scan.stream, scan.rate, scan.is_gray,
        needs_new_decoder=scan.mixes_parameters, marks=marks,
        drops=np.zeros_like(keys),
    )  # fmt: skip


def is_monochrome(extradata: bytes) -> bool:
    """Whether the parameters of H.264 say that it stores brightness alone; FFmpeg's decoder does not report it.

    Args:
        extradata: the parameter sets, in the form of MP4 or of a byte stream.
    """
    # A byte stream marks the parameter set by a start code. In the form of MP4 it begins at byte 8.
    start = extradata.find(b"\x00\x00\x01\x67") + 3 if extradata[:3] in (b"\x00\x00\x00", b"\x00\x00\x01") else 8
    head = extradata[start : start + 12]  # type, profile, two more bytes; then numbers of variable length in bits
    if len(head) < 6 or head[0] & 31 != 7 or head[1] not in _PROFILES_WITH_CHROMA:
        return False
    bits = "".join(f"{byte:08b}" for byte in head[4:])
    # Two Exp-Golomb numbers: the id of the parameter set, and the format of colour, which is 0 for brightness alone.
    for is_format in (False, True):
        zeros = len(bits) - len(bits.lstrip("0"))
        value, bits = int(bits[zeros : 2 * zeros + 1] or "1", 2) - 1, bits[2 * zeros + 1 :]
        if is_format:
            return value == 0
    return False


def _describe(packet: Packet[Any], is_hidden: Callable[[memoryview], bool] | None) -> PacketFacts:
    position = -1 if packet.pos is None else packet.pos
    # An edit list hides some packets, their own headers others.
    is_shown = not packet.is_discard and (is_hidden is None or not is_hidden(_bytes_of(packet)))
    mark = mark_of(packet) if packet.is_keyframe else 0
    return PacketFacts(packet.pts, packet.dts, position, packet.is_keyframe, is_shown, mark, packet.is_corrupt)


def _is_in_order(packets: list[PacketFacts]) -> bool:
    times = [packet.pts for packet in packets]
    return None not in times and all(later > earlier for earlier, later in itertools.pairwise(times))  # type: ignore[operator]


class _Parameters(NamedTuple):
    """The parameters of H.264 or HEVC in the header of a file of the form of MP4, where lengths precede the units of a packet.

    Attributes:
        header: the header.
        shift: where the type of a unit begins in its first byte.
        mask: which bits it has.
        kind: the type of a unit that holds parameters.
    """

    header: bytes
    shift: int
    mask: int
    kind: int

    @classmethod
    def of(cls, context: Any) -> _Parameters | None:
        """Those of a stream; ``None`` if it has another form."""
        header = bytes(context.extradata or b"")
        # Lengths have four bytes nearly always.
        if context.name == "h264" and header[:1] == b"\x01" and header[4] & 3 == 3:
            return cls(header, 0, 31, 7)
        if context.name == "hevc" and header[:1] == b"\x01" and len(header) > 21 and header[21] & 3 == 3:
            return cls(header, 1, 63, 33)
        return None

    def find_kind(self, data: memoryview) -> str:
        """Whether a packet holds parameters: ``"none"``, the ``"same"`` as in the header, or ``"other"`` ones."""
        found, at = "none", 0
        while at + 4 < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if data[at + 4] >> self.shift & self.mask == self.kind:
                if bytes(data[at + 4 : end]) not in self.header:
                    return "other"
                found = "same"
            at = end
        return found


def _bytes_of(packet: Packet[Any]) -> memoryview:
    return memoryview(packet)


def _to_fraction(ratio: Any) -> Fraction | None:
    """Convert a ratio of PyAV, which is a type of its own since version 19."""
    return Fraction(ratio.numerator, ratio.denominator) if ratio is not None and ratio.denominator else None


def _time_of(packet: PacketFacts) -> int:
    assert packet.pts is not None  # noqa: S101
    return packet.pts
