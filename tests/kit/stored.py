"""Frames and videos with known samples in any pixel format of FFmpeg."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def make_frame(name: str, samples: list[np.ndarray], shape: tuple[int, int]) -> av.VideoFrame:
    """A frame whose planes hold ``samples``: for each plane an array of words of its rows, padded with random bytes."""
    frame = av.VideoFrame(shape[1], shape[0], name)
    random = np.random.default_rng(1)
    for plane, words in zip(frame.planes, samples, strict=True):
        line = plane.line_size or plane.buffer_size  # a palette has no lines
        rows = random.integers(0, 256, (plane.buffer_size // line, line), dtype=np.uint8)
        stored = np.ascontiguousarray(words).view(np.uint8)
        rows[: stored.shape[0], : stored.shape[1]] = stored
        plane.update(rows.tobytes())
    return frame


def fill_randomly(name: str, shape: tuple[int, int], bits: int) -> av.VideoFrame:
    """A frame of random samples; words of two bytes that hold one sample in their low bits have zeros above it."""
    frame = av.VideoFrame(shape[1], shape[0], name)
    random = np.random.default_rng(2)
    for plane in frame.planes:
        data = random.integers(0, 256, plane.buffer_size, dtype=np.uint8)
        if bits < 16 and (name.startswith(("gray", "yuv", "nv20")) and "msb" not in name) and bits > 8:
            words = data.view(">u2" if name.endswith("be") else "<u2")
            words &= (1 << bits) - 1
        elif bits in (10, 12):
            words = data.view(">u2" if name.endswith("be") else "<u2")
            if not name.startswith(("xv30", "v30x")):
                words &= 0xFFFF << 16 - bits & 0xFFFF
        plane.update(data.tobytes())
    return frame


def plane_of(frame: av.VideoFrame, number: int = 0) -> np.ndarray:
    """The samples of a plane that holds one component, in the order of bytes of this machine."""
    plane, part = frame.planes[number], frame.format.components[number]
    dtype = np.dtype(np.uint8) if part.bits <= 8 else np.dtype(">u2" if frame.format.is_big_endian else "<u2")
    rows = np.frombuffer(bytes(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
    return rows[: part.height, : part.width].astype(dtype.newbyteorder("="))


def write_packets(
    path: Path, encoded: Iterable[tuple[str, list[av.VideoFrame], dict[str, Any]]], name: str | None = None
) -> list[av.VideoFrame]:
    """Write frames of several encoders into one stream: its packets say what they are, or the decoder fails.

    Args:
        path: the file.
        encoded: the name of each encoder, its frames, and attributes of it.
        name: FFmpeg's name of the container.

    Returns:
        All frames.
    """
    frames: list[av.VideoFrame] = []
    with av.open(str(path), "w", format=name) as container:
        stream: Any = None
        for codec, some, attributes in encoded:
            if stream is None:
                stream = encoder = container.add_stream(codec, rate=25)
                context = stream.codec_context
            else:
                encoder = context = av.CodecContext.create(codec, "w")
                context.time_base = Fraction(1, 25)
            context.width, context.height, context.pix_fmt = some[0].width, some[0].height, some[0].format.name
            context.thread_count = 1
            for key, value in attributes.items():
                setattr(context, key, value)
            for frame in some:
                frame.pts, frame.time_base = len(frames), Fraction(1, 25)
                frames.append(frame)
            packets = [packet for frame in [*some, None] for packet in encoder.encode(frame)]
            for packet in packets:
                packet.stream = stream
                container.mux(packet)
    del container, stream, encoder, context
    gc.collect()  # ends the encoder's threads now: a forked child that freed it would wait for them for ever
    return frames
