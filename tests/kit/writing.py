"""Helpers for tests of written videos: frames, and how close the videos come to them."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np

import ndframes as nf

PHOTO = np.asarray(nf.open(nf.demo_paths()["coffee"]))
QUICK = {"h264": "veryfast", "hevc": "ultrafast", "av1": 12, "ffv1": None, "mjpeg": None}
HOLDS = {
    "h264": (".mp4", ".m4v", ".mov", ".mkv"),
    "hevc": (".mp4", ".m4v", ".mov", ".mkv"),
    "av1": (".mp4", ".m4v", ".mkv", ".webm"),
    "mjpeg": (".avi", ".mov", ".mp4", ".mkv"),
    "ffv1": (".mkv", ".avi"),
}


def pan(count: int, shape: tuple[int, int], channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """A photograph that moves: ``(t, y, x)`` for one channel, else ``(t, y, x, channel)``."""
    height, width = shape
    photo = np.dstack([PHOTO, 255 - PHOTO[:, :, 0]])
    frames = np.stack([photo[90 : 90 + height, 200 + 2 * t : 200 + 2 * t + width] for t in range(count)])
    if dtype == np.uint16:
        frames = frames.astype(np.uint16) * 257 - np.arange(frames.size, dtype=np.uint16).reshape(frames.shape) % 200
    return frames[..., 1] if channels == 1 else frames[..., :channels]


def psnr(got: np.ndarray, wanted: np.ndarray) -> float:
    """Of the worst channel, in dB."""
    errors = ((got.astype(float) - wanted) ** 2).reshape(-1, got.shape[-1]).mean(axis=0)
    return float(10 * np.log10(255**2 / np.maximum(errors, 1e-9)).min())


def decode(path: str | Path, form: str) -> tuple[np.ndarray, list[bool]]:
    """The frames and which of them are key frames, by PyAV alone."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.stack([frame.to_ndarray(format=form, threads=1) for frame in frames]), [
        frame.key_frame for frame in frames
    ]


def assert_nothing_there(folder: Path, *names: str) -> None:
    """In the folder there are only these."""
    assert sorted(os.listdir(folder)) == sorted(names)


FRAMES = pan(3, (16, 16))
