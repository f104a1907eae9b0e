"""A video whose frames show their numbers, so that a reader knows which frame it has, and which it never saw."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np

from data.clips import Clip, film
from data.mosaic import ensure_mosaic, making

FPS = 30
_BITS = 16
_ROWS_PX = 32


def draw_number(pixels: np.ndarray, number: int) -> None:
    """Draw the bits of a number into the first rows of a picture, black and white."""
    width = pixels.shape[1] // _BITS
    for bit in range(_BITS):
        pixels[:_ROWS_PX, bit * width : (bit + 1) * width] = 235 if number >> bit & 1 else 16


def read_number(pixels: np.ndarray) -> int:
    """The number that a picture shows."""
    width = pixels.shape[1] // _BITS
    bits = pixels[_ROWS_PX // 2, width // 2 : _BITS * width : width].mean(axis=-1) > 128
    return int((bits << np.arange(_BITS)).sum())


def ensure_numbered(folder: Path, shape: tuple[int, int], count: int) -> Path:
    """Return the path of a clip of ``count`` frames: H.264 in MP4, as cameras send it: key frames every second, no B-frames."""
    clip = Clip(shape, count, FPS)
    path = folder / f"numbered-{clip.name}.mp4"
    with making(path) as part:
        if part is not None:
            import av

            print(f"making {path.name}", flush=True)
            photographs = np.load(ensure_mosaic(folder, (shape[0] + 2400, shape[1] + 2400)), mmap_mode="r")
            options = {"crf": "20", "preset": "veryfast", "bf": "0"}
            with av.open(str(part), "w") as container:
                stream = container.add_stream("libx264", rate=FPS, options=options)
                stream.height, stream.width, stream.pix_fmt = *shape, "yuv420p"
                stream.codec_context.gop_size = FPS
                for number, pixels in enumerate(film(clip, photographs)):
                    draw_number(pixels, number)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode(None))
            del container, stream
            gc.collect()
    return path


def ensure_repeated(clip: Path, repeats: int) -> Path:
    """Return the path of a clip that is shown again and again: its packets, copied with later times."""
    path = clip.with_name(f"{clip.stem}-x{repeats}.mp4")
    with making(path) as part:
        if part is not None:
            import av

            with av.open(str(part), "w") as target:
                stream = None
                shift = 0
                for _ in range(repeats):
                    with av.open(str(clip)) as source:
                        template = source.streams.video[0]
                        stream = stream or target.add_stream_from_template(template)
                        for packet in source.demux(template):
                            if packet.dts is None:
                                continue
                            packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                            target.mux(packet)
                        shift += template.duration
    return path
