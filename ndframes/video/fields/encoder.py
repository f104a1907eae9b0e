"""Encoders of pictures of fields: exact levels by FFV1, previews by H.264. Each picture is a packet at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...system.process import IMPORTING

if TYPE_CHECKING:
    from fractions import Fraction

    from ..._typing import Array
    from .pictures import Arrangement

__all__ = ["LEVELS", "PREVIEW", "EncoderForm", "configure", "to_avcc", "to_frame", "to_lengths"]
_FULL_RANGE = 2
_MATRIX, _PRIMARIES, _CURVE = 6, 1, 13  # FFmpeg's numbers: BT.601, and the primaries and curve of sRGB
_MATRIX_FOR_SCALER = 5
_KEY_SECONDS = 2
# FFmpeg cuts larger pictures into slices, and has a limit of the bits of a slice.
_ONE_SLICE_PX = 288, 352
_MOST_SLICE_BITS = 8 << 24
_SAMPLE_BITS = 4 * 17


class EncoderForm(NamedTuple):
    """An encoder.

    Attributes:
        name: FFmpeg's name.
        codec_id: Matroska's name.
    """

    name: str
    codec_id: str


LEVELS = EncoderForm("ffv1", "V_FFV1")
PREVIEW = EncoderForm("libx264", "V_MPEG4/ISO/AVC")


def configure(context: Any, form: EncoderForm, shape: tuple[int, int], pixel_format: str, rate: Fraction) -> None:
    """Set the options of an encoder that is not open yet.

    Args:
        context: of PyAV.
        form: which encoder it is.
        shape: ``(height, width)`` of the pictures.
        pixel_format: of the pictures.
        rate: frames per second.
    """
    context.height, context.width = shape
    context.time_base, context.framerate = 1 / rate, rate
    context.thread_count = 1  # a forked child that frees an encoder with threads waits for them for ever
    if form is LEVELS:
        context.pix_fmt = pixel_format
        context.gop_size = 1
        # Golomb-Rice codes take half the time of a range coder, in as many bytes; FFV1 has them for 8 bits alone.
        coder = "1" if "16" in pixel_format else "0"
        # A checksum in each slice.
        context.options = {"level": "3", "coder": coder, "context": "0", "slicecrc": "1", **_slices(shape)}
        return
    context.pix_fmt = "yuv420p"
    context.gop_size = max(1, round(_KEY_SECONDS * rate))
    # Zero latency: a packet for each picture at once, without B-frames.
    context.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "18", "sc_threshold": "0"}
    context.color_range, context.colorspace = _FULL_RANGE, _MATRIX
    context.color_primaries, context.color_trc = _PRIMARIES, _CURVE


def _slices(shape: tuple[int, int]) -> dict[str, str]:
    """The option for as few slices as FFmpeg allows, since slices cost bytes."""
    height, width = shape
    if height <= _ONE_SLICE_PX[0] and width <= _ONE_SLICE_PX[1]:
        return {"slices": "1"}
    count = 2
    while -(-height // count) * -(-width // count) * _SAMPLE_BITS > _MOST_SLICE_BITS:
        count += 1
    # Of thinner pictures FFmpeg chooses the number.
    return {"slices": str(count * count)} if count <= min(shape) else {}


def to_frame(picture: Array, arrangement: Arrangement, form: EncoderForm, number: int, rate: Fraction) -> Any:
    """A picture as a frame of the encoder."""
    with IMPORTING:
        from ..libav import av
    frame = av.VideoFrame.from_ndarray(picture, format=arrangement.array_format)
    if form is PREVIEW:
        frame = frame.reformat(
            format="yuv420p",
            dst_colorspace=_MATRIX_FOR_SCALER,
            src_color_range=_FULL_RANGE,
            dst_color_range=_FULL_RANGE,
            threads=1,
        )
        frame.color_range, frame.colorspace = _FULL_RANGE, _MATRIX
        frame.color_primaries, frame.color_trc = _PRIMARIES, _CURVE
    elif arrangement.array_format != arrangement.pixel_format:
        frame = frame.reformat(format=arrangement.pixel_format, threads=1)
    frame.pts, frame.time_base = number, 1 / rate
    return frame


def to_avcc(extradata: bytes) -> bytes:
    """The parameters of H.264 from an encoder in the form of Matroska and MP4 (ISO/IEC 14496-15)."""
    units = _split(extradata)
    sequence = [unit for unit in units if unit[0] & 31 == 7]
    picture = [unit for unit in units if unit[0] & 31 == 8]
    head = bytes((1, *sequence[0][1:4], 0xFF, 0xE0 | len(sequence)))
    return head + _with_sizes(sequence) + bytes((len(picture),)) + _with_sizes(picture)


def _with_sizes(units: list[bytes]) -> bytes:
    return b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def to_lengths(packet: bytes) -> bytes:
    """A packet of H.264 with the size before each unit, in place of start codes."""
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in _split(packet))


def _split(data: bytes) -> list[bytes]:
    """The units between start codes. A unit never ends with a zero byte, so zeros before a start code belong to it."""
    return [unit for part in data.split(b"\0\0\1") if (unit := part.rstrip(b"\0"))]
