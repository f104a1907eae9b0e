"""``pvio.video``: a video, or a folder of images, whose frames are read one by one as tensors.

Frames are float32 tensors ``(c, h, w)`` from 0 to 1, the largest value of the stored integers being 1.
"""

from __future__ import annotations

import logging
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MissingExtraError, SourceKindError
from ...feed.collection import VideoSource, open_videos
from ...frames.clip import Clip
from ...frames.simple import SimpleFrames
from .io import get_video_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from ..._typing import Array

__all__ = ["EncodedVideo", "ImageDirVideo", "ImageFiles", "Video", "find_images", "parse_frame_id"]
_LOGGER = logging.getLogger(__name__)


class Video(ABC):
    """Frames from somewhere; a subclass writes the methods that are abstract.

    Args:
        path: where they come from.
        frame_range: ``(start, stop)``: the positions of the frames that there are; frame 0 is then ``start``. ``None``: all.

    Attributes:
        path: as given.
        n_frames_in_source_video: the number of all frames; ``None`` before :meth:`setup`, as all that follows.
        frame_range_effective: ``(start, stop)``.
        n_frames_in_range: the number of frames in it.
        frame_size: ``(height, width)``.
        fps: frames per second, if there are any.
    """

    def __init__(self, path: str | os.PathLike[str], frame_range: tuple[int, int] | None = None) -> None:
        self.path = Path(path)
        self.frame_range_requested = frame_range
        self.frame_range_effective: tuple[int, int] | None = None
        self.n_frames_in_source_video: int | None = None
        self.n_frames_in_range: int | None = None
        self.frame_size: tuple[int, int] | None = None
        self.fps: float | None = None
        self._is_set_up = False

    def __len__(self) -> int:
        """The number of frames.

        Raises:
            RuntimeError: :meth:`setup` was not called.
        """
        if not self._is_set_up or self.n_frames_in_range is None:
            raise RuntimeError(f"video {self.path} is not set up yet; call setup() first")
        return self.n_frames_in_range

    def setup(self) -> None:
        """Check the path, and find out how many frames there are. Called twice, it does nothing but a warning.

        Raises:
            ValueError: the range goes beyond the frames.
            Exception: what a subclass raises.
        """
        if self._is_set_up:
            _LOGGER.warning("Video %s is set up already", self.path)
            return
        self._validate_init_params()
        self.n_frames_in_source_video, self.frame_size, self.fps = self._load_metadata()
        start, stop = _check_range(self.frame_range_requested, self.n_frames_in_source_video)
        self.frame_range_effective, self.n_frames_in_range = (start, stop), stop - start
        self._post_setup()
        self._is_set_up = True

    def read_frame(self, index: int, transform: Callable[[torch.Tensor], Any] | None = None) -> torch.Tensor:
        """Read a frame.

        Args:
            index: its number in the range.
            transform: called with the frame; what it returns is returned.

        Raises:
            IndexError: there is no such frame.
        """
        if not self._is_set_up:
            _LOGGER.warning("Video %s is not set up yet; setup() is called now", self.path)
            self.setup()
        return self._read_frame(index, transform=transform)

    def close(self) -> None:  # noqa: B027 - a subclass may need none
        """Let go of what it holds open."""

    def _post_setup(self) -> None:  # noqa: B027
        """Called at the end of :meth:`setup`."""

    @abstractmethod
    def _validate_init_params(self) -> None:
        """Check the path."""

    @abstractmethod
    def _load_metadata(self) -> tuple[int, tuple[int, int], float | None]:
        """The number of all frames, their size and their rate."""

    @abstractmethod
    def _read_frame(self, index: int, transform: Callable[[torch.Tensor], Any] | None = None) -> torch.Tensor:
        """As :meth:`read_frame`."""


class EncodedVideo(Video):
    """The frames of a video file, as RGB.

    Args:
        path: the file.
        frame_range: as for :class:`Video`.
        buffer_size: how many frames are decoded at once and kept.
        cache_metadata: whether :meth:`setup` writes a file beside the video; see :func:`~ndframes.compat.pvio.io.get_video_metadata`.
        use_cached_metadata: whether it reads that file.
        device: where frames are moved to after they were decoded on the CPU; ``None`` and ``"auto"``: they stay there.
        num_ffmpeg_threads: of no use.
        dtype: a floating dtype, or ``None`` for frames as they are stored.

    Example:
        >>> from ndframes.compat.pvio.io import write_frames_to_video
        >>> path = getfixture("tmp_path") / "white.mp4"
        >>> write_frames_to_video(path, [np.full((32, 48, 3), 255, np.uint8)] * 3, fps=5)
        >>> video = EncodedVideo(path, frame_range=(1, 3))
        >>> video.setup()
        >>> len(video), video.frame_size, video.read_frame(1).shape
        (2, (32, 48), torch.Size([3, 32, 48]))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        frame_range: tuple[int, int] | None = None,
        buffer_size: int = 64,
        cache_metadata: bool = True,
        use_cached_metadata: bool = True,
        device: str | None = None,
        num_ffmpeg_threads: int = 1,
        *,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(path, frame_range)
        self.buffer_size = buffer_size
        self.cache_metadata, self.use_cached_metadata = cache_metadata, use_cached_metadata
        self.device = "cpu" if device in (None, "auto") else str(device)
        self.num_ffmpeg_threads = num_ffmpeg_threads
        self.dtype = dtype
        self._source: VideoSource | None = None
        self._first = 0
        self._buffer: Array | None = None

    def close(self) -> None:
        """Forget the frames that were decoded."""
        self._buffer = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_buffer": None}

    def _validate_init_params(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(f"video {self.path} does not exist or is not a file")

    def _load_metadata(self) -> tuple[int, tuple[int, int], float | None]:
        return get_video_metadata(self.path, self.cache_metadata, self.use_cached_metadata)

    def _read_frame(self, index: int, transform: Callable[[torch.Tensor], Any] | None = None) -> torch.Tensor:
        count = len(self)
        if not 0 <= index < count:
            raise IndexError(f"frame {index} of {count:,} of video {self.path}")
        if self._buffer is None or not self._first <= index < self._first + len(self._buffer):
            stop = min(index + max(1, self.buffer_size), count)
            self._first, self._buffer = index, np.concatenate(list(self._open().read(index, stop)))
        frame = _finish(_to_rgb(self._buffer[index - self._first]), self.dtype)
        if self.device != "cpu":
            frame = frame.to(self.device)
        return frame if transform is None else transform(frame)

    def _open(self) -> VideoSource:
        if self._source is None:
            (self._source,) = open_videos([self.path], [self.frame_range_effective])
        return self._source


class ImageDirVideo(Video):
    r"""The images of a folder, in the order of their numbers or names.

    Args:
        path: the folder.
        frame_range: positions in that order, not numbers; as for :class:`Video`.
        frame_id_regex: finds the number in the name of a file; ``None``: files are sorted by name, and counted from 0.
        dtype: as for :class:`EncodedVideo`.

    Attributes:
        phy_frame_id_to_path: the path of each image, by the number in its name.
        vir_frame_id_to_path: the path of each image in the range, by its position in it.
        frame_id_vir2phy: numbers by position.
        frame_id_phy2vir: positions by number.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        frame_range: tuple[int, int] | None = None,
        frame_id_regex: str | re.Pattern[str] | None = r"frame\D*(\d+)(?!\d)",
        *,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(path, frame_range)
        self.frame_id_regex = None if frame_id_regex is None else re.compile(frame_id_regex)
        self.dtype = dtype
        self.phy_frame_id_to_path: dict[int, Path] = {}
        self.vir_frame_id_to_path: dict[int, Path] = {}
        self.frame_id_vir2phy: dict[int, int] = {}
        self.frame_id_phy2vir: dict[int, int] = {}
        self._files = ImageFiles([])

    @staticmethod
    def _parse_frame_id_from_filename(filename: str, regex_pattern: str | re.Pattern[str]) -> int:
        return parse_frame_id(filename, regex_pattern)

    def _validate_init_params(self) -> None:
        if not self.path.is_dir():
            raise FileNotFoundError(f"{self.path} is not a folder; a folder of images is needed")

    def _load_metadata(self) -> tuple[int, tuple[int, int], float | None]:
        found = find_images(self.path, self.frame_id_regex)
        self.phy_frame_id_to_path = dict(found)
        self._files = ImageFiles([path for _, path in found])
        height, width, _ = self._files.read(0).shape
        return len(found), (height, width), None

    def _post_setup(self) -> None:
        assert self.frame_range_effective is not None  # noqa: S101 - setup() has set it
        inside = list(self.phy_frame_id_to_path.items())[slice(*self.frame_range_effective)]
        for position, (number, path) in enumerate(inside):
            self.vir_frame_id_to_path[position] = path
            self.frame_id_vir2phy[position], self.frame_id_phy2vir[number] = number, position

    def _read_frame(self, index: int, transform: Callable[[torch.Tensor], Any] | None = None) -> torch.Tensor:
        assert self.frame_range_effective is not None  # noqa: S101 - setup() has set it
        if index not in self.vir_frame_id_to_path:
            raise IndexError(f"frame {index} of {len(self):,} of folder {self.path}")
        frame = _finish(self._files.read(self.frame_range_effective[0] + index), self.dtype)
        return frame if transform is None else transform(frame)


class ImageFiles:
    """Image files, each read when it is asked for; their sizes may differ.

    Args:
        paths: the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._frames = SimpleFrames(dict(enumerate(map(str, paths))), backend=None)

    def read(self, position: int) -> Array:
        """An image ``(h, w, c)``."""
        return self._frames.load_image(position)


def find_images(folder: Path, regex: re.Pattern[str] | None) -> list[tuple[int, Path]]:
    """The images of a folder in order: each with the number in its name, or counted from 0.

    Raises:
        ValueError: there is no image, or a name does not have one number.
    """
    try:
        paths = [Path(path) for path in Clip(folder).find_images().values()]
    except SourceKindError as error:
        raise ValueError(f"No image files found in directory {folder}") from error
    if regex is None:
        # By plain names, as pvio has it: a10 comes before a2.
        return list(enumerate(sorted(paths, key=lambda path: path.name)))
    return sorted((parse_frame_id(path.name, regex), path) for path in paths)


def parse_frame_id(name: str, regex: str | re.Pattern[str]) -> int:
    r"""The one whole number that an expression finds in the name of a file.

    Raises:
        ValueError: it finds none, several, or something else.

    Example:
        >>> parse_frame_id("frame_042.png", r"frame\D*(\d+)")
        42
    """
    pattern = getattr(regex, "pattern", regex)
    found = re.findall(regex, name)
    if len(found) != 1:
        raise ValueError(f"{len(found)} matches found in filename {name} by the pattern {pattern}; one is needed")
    try:
        return int(found[0])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{found[0]!r}, found in filename {name} by the pattern {pattern}, is no whole number"
        ) from error


def _check_range(requested: Any, count: int) -> tuple[int, int]:
    if requested is None:
        return 0, count
    if not isinstance(requested, (tuple, list)) or len(requested) != 2:
        raise ValueError(f"frame_range must be a pair (start, stop) of integers, got {requested!r}")
    start, stop = requested
    if start < 0 or stop > count or start >= stop:
        raise ValueError(f"Invalid frame_range {requested} for video with {count} frames.")
    return start, stop


def _to_rgb(frame: Array) -> Array:
    """A frame of a video as RGB: gray is repeated, alpha left out."""
    return np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame[:, :, :3]


def _finish(frame: Array, dtype: Any) -> torch.Tensor:
    """An array ``(h, w, c)`` as a tensor ``(c, h, w)``, scaled if the dtype is a floating one."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError('frames as tensors need torch: pip install "ndframes[torch]"', name="torch") from error
    from ...torch.batch import to_dtype
    from ...torch.videos import scale_frame

    return scale_frame(torch.from_numpy(frame).permute(2, 0, 1), to_dtype(dtype))
