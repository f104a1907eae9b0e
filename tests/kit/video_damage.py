"""Ways in which the times, the key flags, the index or the bytes of a video are misleading or damaged."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import av

_USER_DATA = b"\x00\x00\x01\xb2"
_VOP = b"\x00\x00\x01\xb6"


def copy_packets(
    source: Path,
    target: Path,
    change: Callable[[list[Any]], Iterable[Any]] | None = None,
    *,
    format: str | None = None,  # noqa: A002 - FFmpeg's name
    options: dict[str, str] | None = None,
) -> Path:
    """Copy the packets of a video into another file.

    Args:
        source: the video.
        target: the other file.
        change: gets all packets in the order of the file; returns the ones to write.
        format: the container; ``None``: by the suffix of ``target``.
        options: of the container.
    """
    with av.open(str(source)) as read, av.open(str(target), "w", format=format, options=options or {}) as write:
        stream = read.streams.video[0]
        out = write.add_stream_from_template(stream, opaque=True)
        packets = [packet for packet in read.demux(stream) if packet.size]
        for packet in packets if change is None else change(packets):
            packet.stream = out
            write.mux(packet)
    return target


def filter_packets(source: Path, target: Path, name: str, *, format: str | None = None) -> Path:  # noqa: A002
    """Copy the packets of a video through a bitstream filter of FFmpeg."""
    from av.bitstream import BitStreamFilterContext

    with av.open(str(source)) as read, av.open(str(target), "w", format=format) as write:
        stream = read.streams.video[0]
        out = write.add_stream_from_template(stream, opaque=True)
        filtering = BitStreamFilterContext(name, stream, out)
        parts = [part for packet in read.demux(stream) for part in filtering.filter(packet if packet.size else None)]
        for number, part in enumerate(parts):
            # The parts of a packet have one time, but a container wants times that rise.
            part.pts = part.dts = number
            part.time_base, part.stream = stream.time_base, out
            write.mux(part)
    return target


def repeat_one_time(packets: list[Any]) -> list[Any]:
    """Give one packet in the middle the presentation time of the next one."""
    times = sorted(packet.pts for packet in packets)
    middle = len(times) * 3 // 5
    for packet in packets:
        if packet.pts == times[middle]:
            packet.pts = times[middle + 1]
            break
    return packets


def equalize_times(packets: list[Any]) -> list[Any]:
    """Give all packets the presentation time of the last one."""
    last = max(packet.pts for packet in packets)
    for packet in packets:
        packet.pts = last
    return packets


def shift_below_zero(packets: list[Any]) -> list[Any]:
    """Let the video begin before time zero."""
    times = sorted(packet.pts for packet in packets)
    middle = times[len(times) // 2]
    for packet in packets:
        packet.pts -= middle
        if packet.dts is not None:
            packet.dts -= middle
    return packets


def hide_packets(packets: list[Any], codec: str) -> Iterator[Any]:
    """Clear the bit that shows a frame: of every sixth frame of VP8, of each key frame of VP9 but the first."""
    for number, packet in enumerate(packets):
        data = bytearray(packet)
        if codec == "vp8":
            is_hidden = number % 6 == 4 and bool(data[0] & 1)
            data[0] &= ~0x10
        else:
            is_hidden = number > 0 and packet.is_keyframe
            data[0] &= ~0x02
        if not is_hidden:
            yield packet
            continue
        hidden = av.Packet(bytes(data))
        hidden.pts, hidden.dts, hidden.time_base = packet.pts, packet.dts, packet.time_base
        hidden.is_keyframe = packet.is_keyframe
        yield hidden


def pack_bframes(packets: list[Any]) -> Iterator[Any]:
    """MPEG-4 as Xvid and DivX put it into AVI: a B-frame shares the packet of the frame that it refers to.

    An empty frame follows in a packet of its own, so that there are as many packets as frames.
    """
    parts = [bytes(packet) for packet in packets]
    place = 0
    while place < len(parts):
        data, step = parts[place], 1
        if place == 0:
            data = _mark_packed(data)
        following = parts[place + 1] if place + 1 < len(parts) else b""
        if not _is_b_vop(data) and following and _is_b_vop(following):
            data, step = data + following, 2
        for offset, content in enumerate([data, _make_empty_vop(data)][:step]):
            packed = av.Packet(content)
            like = packets[place + offset]
            packed.pts = packed.dts = place + offset
            packed.time_base, packed.duration = like.time_base, like.duration
            packed.is_keyframe = offset == 0 and like.is_keyframe
            yield packed
        place += step


def _mark_packed(data: bytes) -> bytes:
    """Replace the name of the encoder by one that FFmpeg's decoder knows to pack its frames."""
    start = data.find(_USER_DATA)
    frame = data.index(_VOP)
    return data[: frame if start < 0 else start] + _USER_DATA + b"DivX503b1393p" + data[frame:]


def _is_b_vop(data: bytes) -> bool:
    return data[data.index(_VOP) + 4] >> 6 == 2


def _make_empty_vop(like: bytes) -> bytes:
    """A P-frame that says that nothing is coded, with the time of another frame; times count 25 in a second."""
    head = int.from_bytes(like[like.index(_VOP) + 4 :][:3], "big")
    # Type P, the same second, a marker, the time in 5 bits, a marker, not coded, and the stuffing of the last byte.
    bits = f"0101{head >> 15 & 31:05b}10"
    bits += "0"
    bits += "1" * (-len(bits) % 8)
    return _VOP + int(bits, 2).to_bytes(len(bits) // 8, "big")


def clear_times(data: bytes) -> bytes:
    """Remove the times of a transport or program stream: its packets of video have none afterwards."""
    changed = bytearray(data)
    start = changed.find(b"\x00\x00\x01\xe0")
    while start >= 0:
        if changed[start + 6] >> 6 == 2:
            count = changed[start + 8]
            changed[start + 7] &= 0x3F
            changed[start + 9 : start + 9 + count] = b"\xff" * count
        start = changed.find(b"\x00\x00\x01\xe0", start + 4)
    return bytes(changed)


def remove_sync_table(data: bytes) -> bytes:
    """Remove the table of key frames of MP4: all frames then count as key frames."""
    assert data.count(b"stss") == 1
    return data.replace(b"stss", b"free")


def shift_sync_table(data: bytes) -> bytes:
    """Let the table of key frames of MP4 name the frame after each one, but for the first."""
    changed = bytearray(data)
    start = changed.index(b"stss") + 8
    (count,) = struct.unpack_from(">I", changed, start)
    for place in range(1, count):
        (number,) = struct.unpack_from(">I", changed, start + 4 * place + 4)
        struct.pack_into(">I", changed, start + 4 * place + 4, number + 1)
    return bytes(changed)


def mark_all_as_keys(data: bytes) -> bytes:
    """Set the key flag of every frame in the index of AVI."""
    changed = bytearray(data)
    start = changed.rindex(b"idx1") + 8
    for place in range(start, start + struct.unpack_from("<I", changed, start - 4)[0], 16):
        changed[place + 4] |= 0x10
    return bytes(changed)


def remove_avi_index(data: bytes) -> bytes:
    """Cut the index off the end of an AVI."""
    return data[: data.rindex(b"idx1")]


def reorder_edits(data: bytes, count: int) -> bytes:
    """Let the edit list of MP4 show the second half of ``count`` frames before the first half, without the four in between."""
    root = bytearray(data)
    (frame_ticks,) = struct.unpack_from(">I", root, root.index(b"stts") + 16)
    (movie_rate,) = struct.unpack_from(">I", root, root.index(b"mvhd") + 16)
    (media_rate,) = struct.unpack_from(">I", root, root.index(b"mdhd") + 16)
    start = root.index(b"elst") - 4
    (first_ticks,) = struct.unpack_from(">i", root, start + 20)
    half = count // 2

    def entry(frame: int, frames: int) -> bytes:
        duration = frames * frame_ticks * movie_rate // media_rate
        return struct.pack(">IiI", duration, first_ticks + frame * frame_ticks, 1 << 16)

    entries = entry(half + 2, count - half - 2) + entry(0, half - 2)
    (old,) = struct.unpack_from(">I", root, start)
    made = b"elst" + bytes(4) + struct.pack(">I", 2) + entries
    made = struct.pack(">I", len(made) + 4) + made
    root[start : start + old] = made
    # The boxes around it grow; moov lies behind the pixels, so that no position changes.
    for name in (b"edts", b"trak", b"moov"):
        place = root.index(name) - 4
        (size,) = struct.unpack_from(">I", root, place)
        struct.pack_into(">I", root, place, size + len(made) - old)
    return bytes(root)


def cut_start(data: bytes, share: float) -> bytes:
    """Cut bytes off the start of a file."""
    return data[int(len(data) * share) :]


def cut_end(data: bytes, share: float) -> bytes:
    """Cut bytes off the end of a file."""
    return data[: len(data) - int(len(data) * share)]


def split_at_keys(source: Path, folder: Path, *, suffix: str, format: str | None) -> list[bytes]:  # noqa: A002
    """The groups of frames of a video as files of their own, with the times that they have in it."""
    with av.open(str(source)) as read:
        packets = [packet for packet in read.demux(video=0) if packet.size]
        groups: list[list[Any]] = []
        for packet in packets:
            if packet.is_keyframe or not groups:
                groups.append([])
            groups[-1].append(packet)
        pieces = []
        for number, group in enumerate(groups):
            piece = folder / f"piece-{number}{suffix}"
            with av.open(str(piece), "w", format=format, options={"avoid_negative_ts": "disabled"}) as write:
                out = write.add_stream_from_template(read.streams.video[0], opaque=True)
                for packet in group:
                    packet.stream = out
                    write.mux(packet)
            pieces.append(piece.read_bytes())
            piece.unlink()
    return pieces
