"""The benchmark videos: a camera that pans and zooms over photographs, in H.264."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.mosaic import ensure_mosaic, making

_RATE = 25
_MARGIN_PX = 1200
_MAX_ZOOM = 1.25


@dataclass(frozen=True)
class Clip:
    """The parameters of a video, which determine its frames.

    Attributes:
        shape: ``(height, width)`` of a frame.
        count: number of frames.
        gop: the largest distance between key frames, in frames.
    """

    shape: tuple[int, int]
    count: int
    gop: int

    @property
    def name(self) -> str:
        """Name of its file, without the suffix."""
        return f"clip-{self.shape[0]}x{self.shape[1]}x{self.count}-gop{self.gop}"

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.shape[0]}p, key frames every {self.gop}"


#: The clips, by their name on the command line.
CLIPS = {
    "gop12": Clip((1080, 1920), 500, 12),
    "gop250": Clip((1080, 1920), 500, 250),
    "4k": Clip((2160, 3840), 120, 250),
    "quick": Clip((360, 640), 120, 12),
}


def ensure_clip(folder: Path, clip: Clip) -> Path:
    """Return the path of a clip in ``folder``, H.264 in MP4 with x264's defaults, B-frames included; make it unless it exists."""
    path = folder / f"{clip.name}.mp4"
    with making(path) as part:
        if part is not None:
            print(f"making {path.name}", flush=True)
            shape = (clip.shape[0] + 2 * _MARGIN_PX, clip.shape[1] + 2 * _MARGIN_PX)
            write_clip(part, clip, np.load(ensure_mosaic(folder, shape), mmap_mode="r"))
    return path


def write_clip(path: Path, clip: Clip, photographs: np.ndarray) -> None:
    """Encode the camera's view of ``photographs``."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"crf": "20"})
        stream.height, stream.width = clip.shape
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = clip.gop
        for pixels in film(clip, photographs):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    del container, stream
    gc.collect()  # ends the encoder's threads now; a fork would copy their locks


def film(clip: Clip, photographs: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the frames: the view moves a few pixels per frame and zooms in and out, without jumps."""
    import cv2

    height, width = clip.shape
    middle = np.array(photographs.shape[1::-1]) / 2
    for number in range(clip.count):
        phase = 2 * math.pi * number / 500
        zoom = _MAX_ZOOM ** math.sin(3 * phase)
        centre = middle + 0.55 * _MARGIN_PX * np.array([math.sin(2 * phase), math.sin(phase + 1)])
        left, top = centre - np.array([width, height]) / (2 * zoom)
        photographs_from_view = np.array([[1 / zoom, 0, left], [0, 1 / zoom, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        yield cv2.warpAffine(photographs, photographs_from_view, (width, height), flags=flags)
