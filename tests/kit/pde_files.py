"""Files as py-pde writes them: encoded by PyAV in place of the ffmpeg program, with the same pixels, comment and groups of frames.

Nothing here uses ndframes. The levels are truncated, as py-pde's are.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import av
import numpy as np

#: FFmpeg's format of the memory, that of the file, the samples of a pixel, and the largest level.
FORMATS = {
    "gray": ("gray", "gray", 1, 255),
    "rgb24": ("rgb24", "bgr0", 3, 255),
    "rgb32": ("bgra", "bgra", 4, 255),
    "gray16le": ("gray16le", "gray16le", 1, 65535),
    "gbrp16le": ("gbrp16le", "gbrp16le", 3, 65535),
    "gbrap16le": ("gbrap16le", "gbrap16le", 4, 65535),
}
_GROUP = 12  # FFmpeg's default


def truncate(components, low, high, video_format):
    """The levels ``(component, x, y)`` of values between limits for each component."""
    top = FORMATS[video_format][3]
    low, high = (np.reshape(limit, (-1, 1, 1)) for limit in (low, high))
    return (((components - low) / (high - low)).clip(0, 1) * top).astype(np.uint8 if top == 255 else "<u2")


def write_like_pde(
    path, levels, metadata, *, video_format="gray16le", write_times=None, tag="comment", level=None, comment=None
):
    """Write levels ``(t, component, x, y)``.

    Args:
        path: the file.
        levels: what is stored.
        metadata: the JSON of the comment, to which the video format is added.
        video_format: py-pde's name.
        write_times: the times of the file beside the movie.
        tag: the name of the comment.
        level: of FFV1; below 3 each frame but the first of a group needs those before it.
        comment: the whole text, in place of the metadata.
    """
    memory_format, file_format, samples, _ = FORMATS[video_format]
    metadata = {**metadata, "video_format": video_format, "write_times": write_times is not None, "version": 1}
    width, height = levels.shape[2:]
    kind = {".mkv": "matroska", ".avi": "avi", ".mov": "mp4"}[Path(path).suffix]  # PyAV refuses FFV1 in its mov
    with av.open(str(path), "w", format=kind) as container:
        container.metadata[tag] = shlex.quote(json.dumps(metadata)) if comment is None else comment
        options = {} if level is None else {"level": str(level)}
        stream = container.add_stream("ffv1", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, file_format, _GROUP
        for number, components in enumerate(levels):
            memory = np.zeros((width, height, samples), levels.dtype)
            memory[:, :, : len(components)] = np.moveaxis(components, 0, 2)
            frame = _fill(av.VideoFrame(width, height, memory_format), memory.tobytes())
            frame = frame.reformat(format=file_format, threads=1)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if write_times is not None:
        Path(f"{path}.times").write_text("".join(f"{time}\n" for time in write_times))


def _fill(frame, data):
    """Copy the bytes of a picture, as FFmpeg reads raw video: plane after plane, line after line."""
    planes = len(frame.planes)
    plane_bytes = len(data) // planes
    for number, plane in enumerate(frame.planes):
        line = plane_bytes // frame.height
        padded = np.zeros((frame.height, plane.line_size), np.uint8)
        part = data[number * plane_bytes : (number + 1) * plane_bytes]
        padded[:, :line] = np.frombuffer(part, np.uint8).reshape(frame.height, line)
        plane.update(padded.tobytes())
    return frame
