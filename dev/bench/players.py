"""Contenders for videos: ndframes, and what others offer for the same job, each with one thread unless it is told otherwise."""

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
from contenders import Contender

import ndframes as nf


@dataclass
class Player(Contender):
    """One way of reading frames of a video, as RGB ``(height, width, 3)``.

    Attributes:
        path: the video.
        threads: of its decoder; ``None``: as it likes.
    """

    path: Path
    threads: int | None = field(default=1, kw_only=True)

    @abstractmethod
    def read(self, number: int) -> np.ndarray:
        """One frame."""

    def read_following(self, first: int, count: int) -> Sequence[np.ndarray]:
        """Frames one after the other, as a player asks for them."""
        return [self.read(number) for number in range(first, first + count)]

    @abstractmethod
    def read_window(self, first: int, count: int) -> np.ndarray:
        """Neighbours at once ``(count, height, width, 3)``."""

    @abstractmethod
    def read_frames(self, numbers: Sequence[int]) -> np.ndarray:
        """Any frames at once, of rising numbers."""

    @abstractmethod
    def count(self) -> int:
        """How many frames it shows: all that opening is to tell."""

    def rest(self) -> None:
        """Be closed, so that it can be opened once more. Nobody times that."""
        self.close()

    def open_and_count(self) -> int:
        """Open it, and learn how many frames there are."""
        self.open()
        return self.count()

    def crop(self, number: int, count: int, top: int, left: int, extent_px: int) -> np.ndarray:
        """A box in time and space; who can only decode whole frames cuts it out of them."""
        return self.read_window(number, count)[:, top : top + extent_px, left : left + extent_px].copy()

    def files(self) -> list[Path]:
        return [self.path]


@dataclass
class NdframesPlayer(Player):
    """``nf.open``, in one of its forms.

    Attributes:
        workdir: where its cache lies.
        backend: the form.
        is_first: whether each opening is the first one: the frames are found anew.
    """

    workdir: Path
    backend: Any = field(default=None, kw_only=True)
    is_first: bool = field(default=False, kw_only=True)

    side = "ndframes"

    def build(self) -> None:
        for folder in self.workdir.parent.glob("first-*") if self.is_first else ():  # the last one of a run stays
            shutil.rmtree(folder)
        frames = nf.SimpleFrames({"a": self.path}, workdir=self.workdir, backend=self.backend)
        frames.prepare()
        frames.load_frame("a").shape  # noqa: B018 - finds the frames

    def rest(self) -> None:
        self.close()
        if self.is_first:
            self.forget_all()
            self.workdir = Path(tempfile.mkdtemp(prefix="first-", dir=self.workdir.parent))

    def forget_all(self) -> None:
        """Remove the cache of the last opening, where there was one to be the first."""
        if self.workdir.name.startswith("first-"):
            shutil.rmtree(self.workdir)

    def open(self) -> None:
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
class Torchcodec(Player):
    """torchcodec's ``VideoDecoder``, which looks through the packets when it opens (``"exact"``) or does not.

    Its wheel has no FFmpeg: it is given that of PyAV's wheel, by the names by which it asks for it.
    """

    mode: str = field(default="exact", kw_only=True)
    requires = ("torchcodec", "torch", "av")

    def build(self) -> None:
        libraries = _find_libraries()
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
class Decord(Player):
    """decord's ``VideoReader``, which seeks exactly by default."""

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
class OpenCV(Player):
    """OpenCV's ``VideoCapture``, sent to frames by number; its colours are put in order, as everybody has to."""

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
        assert is_read, f"{self.path}: OpenCV reads no frame"
        return self._cv2.cvtColor(pixels, self._cv2.COLOR_BGR2RGB)


def _find_libraries() -> Path:
    """The folder of FFmpeg's libraries in PyAV's wheel."""
    spec = find_spec("av")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parents[1] / "av.libs"
