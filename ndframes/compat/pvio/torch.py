"""``pvio.torch`` of version 0.1.3: a dataset and a loader of all frames of videos, or of folders of images.

What differs from pvio: workers get segments that begin at key frames and not whole videos, so that loads are equal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...feed.collection import open_videos
from ...feed.segments import SegmentPlan
from ...torch import VideoCollectionDataLoader as _Loader
from ...torch import VideoCollectionDataset as _Dataset
from ...torch.videos import resolve_worker_count
from .util import balance_load_lpt
from .video import ImageFiles, find_images, parse_frame_id

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from ...feed.collection import VideoSource

__all__ = ["VideoCollectionDataLoader", "VideoCollectionDataset", "balance_load_lpt"]


class VideoCollectionDataset(_Dataset):
    """All frames of some videos: ``{"frame": float32 (c, h, w), "video_path": Path, "frame_idx": int}``.

    Args:
        paths: videos, or folders of images.
        as_image_dirs: whether they are folders.
        frame_sorting: finds the number of an image in the name of its file; ``None``: they are sorted by name.
        transform: called with each frame.

    Raises:
        ValueError: a path does not exist, or a name does not have one number.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        as_image_dirs: bool = False,
        frame_sorting: str | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
    ) -> None:
        self._paths = [Path(path) for path in paths]
        self.as_image_dirs, self.frame_sorting, self.transform = as_image_dirs, frame_sorting, transform
        #: The number of frames of each video; ``None`` before :meth:`assign_workers`.
        self.n_frames_lookup: dict[Path, int] | None = None
        #: The images of each folder, in order.
        self.frame_sortings: dict[Path, list[Path]] = {}
        self._sources: list[VideoSource] = []
        for path in self._paths:
            if not (path.is_dir() if as_image_dirs else path.is_file()):
                raise ValueError(f"{path} is not a {'folder of images' if as_image_dirs else 'file'}")
        regex = None if frame_sorting is None else re.compile(frame_sorting)
        for path in self._paths if as_image_dirs else ():
            self.frame_sortings[path] = [image for _, image in find_images(path, regex)]
        self._images = {path: ImageFiles(images) for path, images in self.frame_sortings.items()}

    @property
    def video_paths(self) -> Any:
        """The paths."""
        return self._paths

    @video_paths.setter
    def video_paths(self, value: Any) -> None:
        self._paths = value

    def assign_workers(self, n_frame_loading_workers: int, n_metadata_indexing_workers: int = -1) -> None:  # noqa: ARG002
        """Count the frames, and share them among workers.

        Args:
            n_frame_loading_workers: the number of workers; negative ones count from the number of cores.
            n_metadata_indexing_workers: of no use.
        """
        if self.n_frames_lookup is None:
            if self.as_image_dirs:
                counts = [len(self.frame_sortings[path]) for path in self._paths]
            else:
                self._sources = open_videos(self._paths)
                counts = [len(source) for source in self._sources]
            keys = tuple(source.keys for source in self._sources) or (None,) * len(counts)
            self.plan = SegmentPlan(tuple(counts), keys, (1.0,) * len(counts))
            self.n_frames_lookup = dict(zip(self._paths, counts, strict=True))
        super().assign_workers(max(1, resolve_worker_count(n_frame_loading_workers)))

    def __len__(self) -> int:
        """The number of all frames.

        Raises:
            ValueError: it is not known before :meth:`assign_workers`.
        """
        if self.n_frames_lookup is None:
            raise ValueError("the length is unknown until workers are assigned; call assign_workers() before len()")
        return self.plan.total

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self._workers is None:  # without a loader
            self.assign_workers(1)
        return super().__iter__()

    def read_frames(self, video: int, start: int, stop: int) -> Iterator[torch.Tensor]:
        """Successive frames as they are stored; those of videos as RGB."""
        import torch

        if self.as_image_dirs:
            images = self._images[self._paths[video]]
            for number in range(start, stop):
                yield torch.from_numpy(images.read(number)).permute(2, 0, 1)
            return
        for chunk in self._sources[video].read(start, stop):
            frames = torch.from_numpy(chunk).movedim(-1, 1)
            yield from frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames[:, :3]

    def make_sample(self, video: int, number: int, frame: Any) -> dict[str, Any]:
        """The sample of a frame."""
        return {"frame": frame, "video_path": self._paths[video], "frame_idx": number}

    @staticmethod
    def _extract_frame_number(filename: str, regex_pattern: str) -> int:
        return parse_frame_id(filename, regex_pattern)


class VideoCollectionDataLoader(_Loader):
    """Batches ``{"frames": (n, c, h, w), "video_paths": [Path], "frame_indices": [int]}``.

    Args:
        dataset: a :class:`VideoCollectionDataset`.
        **kwargs: those of :class:`ndframes.torch.VideoCollectionDataLoader`.
    """

    def _assign(self) -> None:
        self.dataset.assign_workers(max(1, self.num_workers))  # type: ignore[attr-defined]
