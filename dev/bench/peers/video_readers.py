"""Contenders that read videos: ndframes, torchcodec, decord and OpenCV, each with one decoder thread by default."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import ndframes as nf
from peers.base import Contender


@dataclass
class VideoFile(Contender):
    """One way of reading frames of a video, as RGB ``(height, width, 3)``.

    Attributes:
        path: the video.
        threads: of its decoder; ``None``: the library's default.
    """

    path: Path
    threads: int | None = field(default=1, kw_only=True)

    @abstractmethod
    def read(self, number: int) -> np.ndarray:
        """Return one frame."""

    def read_following(self, first: int, count: int) -> Sequence[np.ndarray]:
        """Return ``count`` frames, requested one after the other as a player does."""
        return [self.read(number) for number in range(first, first + count)]

    @abstractmethod
    def read_window(self, first: int, count: int) -> np.ndarray:
        """Return ``count`` consecutive frames ``(count, height, width, 3)``, in one request."""

    @abstractmethod
    def read_frames(self, numbers: Sequence[int]) -> np.ndarray:
        """Return frames of increasing numbers, in one request."""

    @abstractmethod
    def count(self) -> int:
        """Return the number of frames, which an opened video must know."""

    def prepare_reopening(self) -> None:
        """Close it, so that it can be opened again. Not timed."""
        self.close()

    def open_and_count(self) -> int:
        """Open the video and return the number of frames."""
        self.open()
        return self.count()

    def crop(self, number: int, count: int, top: int, left: int, extent_px: int) -> np.ndarray:
        """Return a box in time and space. Libraries that decode whole frames slice and copy them."""
        return self.read_window(number, count)[:, top : top + extent_px, left : left + extent_px].copy()

    def files(self) -> list[Path]:
        return [self.path]


@dataclass
class NdframesVideo(VideoFile):
    """``nf.open`` with one of its video backends.

    Attributes:
        workdir: of the cache.
        backend: of the video.
        is_first: whether each opening has an empty cache, so that the index of frames is built again.
    """

    workdir: Path
    backend: Any = field(default=None, kw_only=True)
    is_first: bool = field(default=False, kw_only=True)

    role = "ndframes"

    def build(self) -> None:
        for folder in self.workdir.parent.glob("first-*") if self.is_first else ():  # left by the last run
            shutil.rmtree(folder)
        frames = nf.SimpleFrames({"a": self.path}, workdir=self.workdir, backend=self.backend)
        frames.prepare()
        frames.load_frame("a").shape  # noqa: B018 - builds the index of frames

    def prepare_reopening(self) -> None:
        self.close()
        if self.is_first:
            self.remove_cache()
            self.workdir = Path(tempfile.mkdtemp(prefix="first-", dir=self.workdir.parent))

    def remove_cache(self) -> None:
        """Remove the cache of the previous first opening."""
        if self.workdir.name.startswith("first-"):
            shutil.rmtree(self.workdir)

    def open(self) -> None:
        nf.allow_decoder_threads(self.threads)  # each contender has a process of its own
        self._video = nf.open(self.path, workdir=self.workdir, backend=self.backend)

    def count(self) -> int:
        return len(self._video)

    def read(self, number: int) -> np.ndarray:
        return self._video[number]

    def read_window(self, first: int, count: int) -> np.ndarray:
        return self._video[first : first + count]

    def read_frames(self, numbers: Sequence[int]) -> np.ndarray:
        return self._video[numbers]

    def crop(self, number: int, count: int, top: int, left: int, extent_px: int) -> np.ndarray:
        return self._video[number : number + count, top : top + extent_px, left : left + extent_px]


@dataclass
class Torchcodec(VideoFile):
    """torchcodec's ``VideoDecoder``, which scans all packets when it opens (``mode="exact"``) or does not.

    Its wheel contains no FFmpeg. It loads the libraries of PyAV's wheel through links with the names that it expects.
    """

    mode: str = field(default="exact", kw_only=True)
    requires = ("torchcodec", "torch", "av")

    def build(self) -> None:
        libraries = _find_ffmpeg_libraries()
        links = self.path.parent / "torchcodec-ffmpeg"
        shutil.rmtree(links, ignore_errors=True)
        links.mkdir()
        for name in sorted(os.listdir(libraries)):
            plain = re.match(r"(lib(?:av|sw)\w+)-[0-9a-f]+(\.so\.\d+)", name)
            if plain is not None:
                (links / f"{plain[1]}{plain[2]}").symlink_to(libraries / name)
        self.environment: Mapping[str, str] = {"LD_LIBRARY_PATH": f"{links}:{libraries}"}

    def open(self) -> None:
        from torchcodec.decoders import VideoDecoder

        threads = {} if self.threads is None else {"num_ffmpeg_threads": self.threads}
        self._decoder = VideoDecoder(str(self.path), seek_mode=self.mode, dimension_order="NHWC", **threads)

    def count(self) -> int:
        return len(self._decoder)

    def read(self, number: int) -> np.ndarray:
        return self._decoder[number].numpy()

    def read_window(self, first: int, count: int) -> np.ndarray:
        return self._decoder[first : first + count].numpy()

    def read_frames(self, numbers: Sequence[int]) -> np.ndarray:
        return self._decoder.get_frames_at(list(numbers)).data.numpy()


@dataclass
class Decord(VideoFile):
    """decord's ``VideoReader``, whose seeks are exact by default."""

    requires = ("decord",)

    def open(self) -> None:
        from decord import VideoReader

        self._reader = VideoReader(str(self.path), num_threads=self.threads or 0)

    def count(self) -> int:
        return len(self._reader)

    def read(self, number: int) -> np.ndarray:
        return self._reader[number].asnumpy()

    def read_window(self, first: int, count: int) -> np.ndarray:
        return self.read_frames(range(first, first + count))

    def read_frames(self, numbers: Sequence[int]) -> np.ndarray:
        return self._reader.get_batch(list(numbers)).asnumpy()


@dataclass
class OpenCV(VideoFile):
    """OpenCV's ``VideoCapture``, positioned by frame number. Its BGR frames are converted to RGB, as users have to do."""

    requires = ("cv2",)

    def open(self) -> None:
        import cv2

        self._cv2 = cv2
        options = []
        if self.threads is not None:
            cv2.setNumThreads(self.threads)
            options = [cv2.CAP_PROP_N_THREADS, self.threads]
        self._capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG, options)

    def close(self) -> None:
        self._capture.release()
        super().close()

    def count(self) -> int:
        return int(self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT))

    def read(self, number: int) -> np.ndarray:
        self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, number)
        return self._read_next()

    def read_following(self, first: int, count: int) -> Sequence[np.ndarray]:
        self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, first)
        return [self._read_next() for _ in range(count)]

    def read_window(self, first: int, count: int) -> np.ndarray:
        return np.stack(self.read_following(first, count))

    def read_frames(self, numbers: Sequence[int]) -> np.ndarray:
        return np.stack([self.read(number) for number in numbers])

    def _read_next(self) -> np.ndarray:
        is_read, pixels = self._capture.read()
        assert is_read, f"{self.path}: OpenCV returned no frame"
        return self._cv2.cvtColor(pixels, self._cv2.COLOR_BGR2RGB)


def _find_ffmpeg_libraries() -> Path:
    """Return the folder of FFmpeg's libraries in PyAV's wheel."""
    spec = find_spec("av")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1] / "av.libs"
