"""H.264 in field pictures, as cameras of AVCHD write it. FFmpeg's encoders make none, so the bits are written here.

All macroblocks hold plain samples (I_PCM) but the last one of P and B pictures, which is skipped and so copied from the picture
that it refers to.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

_MB = 16
_IDR, _SLICE, _SPS, _PPS = 5, 1, 7, 8
_I, _P, _B = 2, 0, 1
# The numbers of the type of a macroblock of plain samples, in each type of slice.
_PCM = {_I: 25, _P: 30, _B: 48}


class Picture(NamedTuple):
    """A coded frame, as two fields.

    Attributes:
        number: when it is shown, from 0.
        fields: the bytes of its two fields.
        is_key: whether decoding can begin here.
    """

    number: int
    fields: tuple[bytes, bytes]
    is_key: bool


class _Bits:
    def __init__(self) -> None:
        self._text: list[str] = []

    def number(self, value: int, count: int) -> _Bits:
        self._text.append(f"{value:0{count}b}")
        return self

    def golomb(self, *values: int) -> _Bits:
        for value in values:
            bits = f"{value + 1:b}"
            self._text.append("0" * (len(bits) - 1) + bits)
        return self

    def samples(self, data: bytes) -> _Bits:
        self._align()
        self._text.append("".join(f"{byte:08b}" for byte in data))
        return self

    def finish(self) -> bytes:
        self._text.append("1")
        self._align()
        text = "".join(self._text)
        return int(text, 2).to_bytes(len(text) // 8, "big")

    def _align(self) -> None:
        self._text = ["".join(self._text)]
        self._text.append("0" * (-len(self._text[0]) % 8))


def _unit(kind: int, importance: int, content: bytes) -> bytes:
    """A unit of the byte stream; a byte 3 keeps what looks like a start code apart."""
    escaped = bytearray()
    zeros = 0
    for byte in content:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return b"\x00\x00\x00\x01" + bytes([importance << 5 | kind]) + bytes(escaped)


def _parameters(shape: tuple[int, int]) -> bytes:
    height, width = shape
    sps = _Bits().number(77, 8).number(0, 8).number(30, 8)
    # Frame numbers of 8 bits, times of 8 bits, 2 frames to refer to, no gaps; the size in macroblocks, of rows in pairs.
    sps.golomb(0, 4, 0, 4, 2).number(0, 1).golomb(width // _MB - 1, height // _MB // 2 - 1)
    # Fields, not adaptive by macroblock; the inference that fields require; no cropping and no more.
    sps.number(0b00100, 5)
    # No arithmetic coding, one group of slices, one picture in each list, no weights, three quantizers, no filter control.
    pps = _Bits().golomb(0, 0).number(0, 2).golomb(0, 0, 0).number(0, 3).golomb(0, 0, 0).number(0, 3)
    return _unit(_SPS, 3, sps.finish()) + _unit(_PPS, 3, pps.finish())


def _field(
    planes: list[np.ndarray], kind: int, *, is_bottom: bool, is_idr: bool, frame_number: int, time: int, idr_id: int
) -> bytes:
    """One field as one slice."""
    bits = _Bits().golomb(0, kind, 0).number(frame_number & 255, 8).number(0b10 | is_bottom, 2)
    if is_idr:
        bits.golomb(idr_id)
    bits.number(time & 255, 8)
    if kind == _B:
        bits.number(1, 1)  # spatial prediction
    if kind != _I:
        bits.number(0, 1)  # as many pictures to refer to as usual
        bits.number(0, 2 if kind == _B else 1)  # in the usual order
    if kind != _B:
        bits.number(0, 2 if is_idr else 1)  # nothing is marked
    bits.golomb(0)  # the quantizer
    luma, *chroma = (plane[int(is_bottom) :: 2] for plane in planes)
    rows, cols = luma.shape[0] // _MB, luma.shape[1] // _MB
    for place in range(rows * cols):
        y, x = divmod(place, cols)
        if kind != _I:
            is_last = place == rows * cols - 1
            bits.golomb(int(is_last))
            if is_last:
                break
        block = [luma[y * 16 : y * 16 + 16, x * 16 : x * 16 + 16]]
        block += [plane[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8] for plane in chroma]
        bits.golomb(_PCM[kind]).samples(b"".join(part.tobytes() for part in block))
    return _unit(_IDR if is_idr else _SLICE, 0 if kind == _B else 2, bits.finish())


def encode_fields(frames: list[np.ndarray], *, bframes: int, gop: int) -> Iterator[Picture]:
    """Encode frames as pairs of fields, in the order in which they are stored.

    Args:
        frames: RGB of 8 bits; height and width are multiples of 32 and 16.
        bframes: the number of B-frames between two others.
        gop: the number of frames from a key frame to the next.
    """
    for start in range(0, len(frames), gop):
        count = min(gop, len(frames) - start)
        anchors = sorted({*range(0, count, bframes + 1), count - 1})
        for place, (before, anchor) in enumerate(zip([-1, *anchors], anchors, strict=False)):
            yield _encode_frame(frames, start, anchor, _P if anchor else _I, place, start // gop)
            for between in range(before + 1, anchor):
                yield _encode_frame(frames, start, between, _B, place + 1, start // gop)


def _encode_frame(
    frames: list[np.ndarray], start: int, place: int, kind: int, frame_number: int, idr_id: int
) -> Picture:
    frame = av.VideoFrame.from_ndarray(frames[start + place], format="rgb24").reformat(format="yuv420p")
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in frame.planes
    ]
    is_key = kind == _I
    fields = [
        _field(
            planes,
            # The second field of a key frame refers to the first.
            _P if is_key and is_bottom else kind,
            is_bottom=is_bottom,
            is_idr=is_key and not is_bottom,
            frame_number=frame_number,
            time=2 * place + is_bottom,
            idr_id=idr_id % 2,
        )
        for is_bottom in (False, True)
    ]
    head = _parameters(frames[0].shape[:2]) if is_key else b""
    return Picture(start + place, (head + fields[0], fields[1]), is_key)


def write_fields(
    path: Path,
    frames: list[np.ndarray],
    *,
    bframes: int,
    gop: int,
    rate: int,
    format: str,  # noqa: A002
    are_apart: bool,
) -> None:
    """Write frames as field pictures.

    Args:
        path: the file.
        frames: RGB of 8 bits.
        bframes: the number of B-frames between two others.
        gop: the number of frames from a key frame to the next.
        rate: frames per second.
        format: FFmpeg's name of the container.
        are_apart: whether each field has a packet of its own.
    """
    pictures = list(encode_fields(frames, bframes=bframes, gop=gop))
    raw = path.with_name("raw-" + path.name + ".h264")
    raw.write_bytes(b"".join(b"".join(picture.fields) for picture in pictures))
    if format == "h264":
        raw.replace(path)
        return
    with av.open(str(raw)) as read, av.open(str(path), "w", format=format) as write:
        out = write.add_stream_from_template(read.streams.video[0], opaque=True)
        for place, picture in enumerate(pictures):
            for half, content in enumerate(picture.fields if are_apart else [b"".join(picture.fields)]):
                packet = av.Packet(content)
                packet.time_base = Fraction(1, 2 * rate)
                packet.dts, packet.duration = 2 * place + half, 1 if are_apart else 2
                packet.pts = 2 * (picture.number + bframes) + half
                packet.is_keyframe = picture.is_key and not half
                packet.stream = out
                write.mux(packet)
    raw.unlink()
