"""Pictures that show their number, as 16 blocks in each of several rows: a picture of which a part is another one is found out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 16
ROWS = 6
SHAPE = (120, 160)
RATE = 25


def draw(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """The picture of a number, ``(height, width, 3)``: a block for each bit, inverted in every second row."""
    height, width = shape
    bits = number >> (np.arange(width) * BITS // width) & 1
    rows = np.arange(height) * ROWS // height % 2
    gray = np.where(bits[None, :] ^ rows[:, None], 235, 20).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def read_number(picture: np.ndarray) -> int | None:
    """The number that a picture shows; ``None`` if its rows differ, or a block is neither black nor white."""
    gray = picture if picture.ndim == 2 else picture[:, :, :3].mean(axis=2)
    rows, cols = (
        np.array_split(np.arange(extent), parts) for extent, parts in zip(gray.shape, (ROWS, BITS), strict=True)
    )
    found = set()
    for place, row in enumerate(rows):
        inside = gray[row[0] + len(row) // 4 : row[-1] + 1 - len(row) // 4]
        means = np.array([inside[:, col[len(col) // 4 : -(len(col) // 4) or None]].mean() for col in cols])
        if ((means > 90) & (means < 165)).any():
            return None
        bits = (means > 128) ^ bool(place % 2)
        found.add(int((bits << np.arange(BITS)).sum()))
    return found.pop() if len(found) == 1 else None


class Encoder:
    """Encodes numbered pictures into a container that is open for writing.

    Args:
        container: of PyAV.
        shape: of the pictures.
        gop: frames from a key frame to the next.
        options: of the encoder.
        codec: its name.
    """

    def __init__(
        self,
        container: Any,
        shape: tuple[int, int] = SHAPE,
        gop: int = 10,
        options: dict[str, str] | None = None,
        codec: str = "libx264",
    ) -> None:
        self.container = container
        self.shape = shape
        own = {"libx264": {"preset": "ultrafast", "tune": "zerolatency"}, "mpeg4": {"qscale": "3"}}[codec]
        self.stream = container.add_stream(codec, rate=RATE, options=options or own)
        self.stream.height, self.stream.width = shape
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.thread_count = 1
        self.stream.codec_context.gop_size = gop
        self.stream.codec_context.time_base = Fraction(1, RATE)

    def add(self, number: int, time: int) -> None:
        """Encode a picture, whose time is in units of a frame."""
        frame = av.VideoFrame.from_ndarray(draw(number, self.shape), format="rgb24")
        frame.pts, frame.time_base = time, Fraction(1, RATE)
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        self.container.mux(self.stream.encode(None))


def write_clip(path: Path, count: int, *, first: int = 0, **options: Any) -> Path:
    """A video of the pictures of consecutive numbers."""
    with av.open(str(path), "w") as container:
        encoder = Encoder(container, **options)
        for place in range(count):
            encoder.add(first + place, place)
        encoder.finish()
    return path
