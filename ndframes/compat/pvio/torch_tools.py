"""``pvio.torch_tools``: a dataset and a loader of all frames of some videos.

Workers get equal parts of the list of frames, as in pvio, so that one may have to decode up to a key frame what another one
delivers; ``len(loader)`` is exact. :class:`ndframes.torch.VideoCollectionDataset` cuts at key frames, and has random orders and ranks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...feed.segments import SegmentPlan
from ...torch import VideoCollectionDataLoader as _Loader
from ...torch import VideoCollectionDataset as _Dataset
from ...torch.videos import resolve_worker_count
from .io import get_video_metadata
from .video import EncodedVideo, ImageDirVideo, Video

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    import torch

__all__ = [
    "EncodedVideo",
    "ImageDirVideo",
    "SimpleVideoCollectionLoader",
    "Video",
    "VideoCollectionDataLoader",
    "VideoCollectionDataset",
]
_LEAST_FRAMES = 300


class VideoCollectionDataset(_Dataset):
    """All frames of some videos: ``{"frame": (c, h, w), "video_id": int, "frame_id": int}``.

    Args:
        videos: the videos; they are set up here.
        transform: called with each frame.
        use_cached_video_metadata: whether the files beside videos are read; otherwise they are made again.
        n_frame_counting_workers: of no use.
        progress_bar: of no use.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        *,
        transform: Callable[[torch.Tensor], Any] | None = None,
        use_cached_video_metadata: bool = True,
        n_frame_counting_workers: int = -1,  # noqa: ARG002 - a video is scanned once, and that is fast
        progress_bar: bool | None = None,  # noqa: ARG002
    ) -> None:
        self.videos = list(videos)
        self.transform = transform
        if not use_cached_video_metadata:
            for path in {video.path for video in self.videos if isinstance(video, EncodedVideo)}:
                get_video_metadata(path, use_cached_metadata=False)
        for video in self.videos:
            video.setup()
        counts = tuple(len(video) for video in self.videos)
        self.plan = SegmentPlan(counts, (None,) * len(counts), (1.0,) * len(counts))
        self._given_assignments: list[list[tuple[int, int, int]]] | None = None

    @property
    def video_paths(self) -> list[str]:
        """The paths of the videos."""
        return [str(video.path) for video in self.videos]

    @property
    def worker_assignments(self) -> list[list[Any]]:
        """What each worker reads: ``(video_id, start, stop)``."""
        return super().worker_assignments if self._given_assignments is None else self._given_assignments

    @worker_assignments.setter
    def worker_assignments(self, value: list[list[Any]]) -> None:
        self._given_assignments = value

    def assign_workers(self, n_loading_workers: int, min_frames_per_worker: int = _LEAST_FRAMES) -> None:
        """As :meth:`ndframes.torch.VideoCollectionDataset.assign_workers`."""
        super().assign_workers(n_loading_workers, min_frames_per_worker)

    def read_frames(self, video: int, start: int, stop: int) -> Iterator[torch.Tensor]:
        """Successive frames, transformed."""
        for number in range(start, stop):
            yield self.videos[video].read_frame(number, transform=self.transform)

    def finish_frame(self, frame: torch.Tensor) -> Any:
        """The frame: a :class:`Video` has scaled and transformed it."""
        return frame

    def make_sample(self, video: int, number: int, frame: Any) -> dict[str, Any]:
        """The sample of a frame."""
        return {"frame": frame, "video_id": video, "frame_id": number}


class VideoCollectionDataLoader(_Loader):
    """Batches ``{"frames": (n, c, h, w), "video_indices": [int], "frame_indices": [int]}``.

    Args:
        dataset: a :class:`VideoCollectionDataset`.
        min_frames_per_worker: if workers would have fewer frames, there are fewer of them.
        **kwargs: those of :class:`ndframes.torch.VideoCollectionDataLoader`.
    """

    def __init__(self, dataset: Any, min_frames_per_worker: int = _LEAST_FRAMES, **kwargs: Any) -> None:
        super().__init__(dataset, min_frames_per_worker=min_frames_per_worker, **kwargs)


class SimpleVideoCollectionLoader(VideoCollectionDataLoader):
    r"""A loader of paths: files, folders of images, and :class:`Video` s, in any mixture.

    Args:
        videos: the videos.
        transform: called with each frame.
        buffer_size: as for :class:`EncodedVideo`.
        frame_id_regex: as for :class:`ImageDirVideo`.
        use_cached_video_metadata: as for :class:`VideoCollectionDataset`.
        n_frame_counting_workers: of no use.
        progress_bar: of no use.
        min_frames_per_worker: as for :class:`VideoCollectionDataLoader`.
        device: as for :class:`EncodedVideo`.
        dtype: as for :class:`EncodedVideo`.
        **kwargs: as for :class:`VideoCollectionDataLoader`. A negative ``num_workers`` counts from the number of cores.

    Raises:
        FileNotFoundError: a path does not exist.
        TypeError: a video is no path and no :class:`Video`.
    """

    def __init__(  # noqa: PLR0913 - the arguments of pvio
        self,
        videos: Sequence[str | os.PathLike[str] | Video],
        *,
        transform: Callable[[torch.Tensor], Any] | None = None,
        buffer_size: int = 64,
        frame_id_regex: str | re.Pattern[str] | None = r"frame\D*(\d+)(?!\d)",
        use_cached_video_metadata: bool = True,
        n_frame_counting_workers: int = -1,
        progress_bar: bool | None = None,
        min_frames_per_worker: int = _LEAST_FRAMES,
        device: str | None = None,
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        def to_video(entry: Any) -> Video:
            if isinstance(entry, Video):
                return entry
            if not isinstance(entry, (str, os.PathLike)):
                raise TypeError(f"video {entry!r} is a {type(entry).__name__}; give a path or a Video")
            if os.path.isdir(entry):
                return ImageDirVideo(entry, frame_id_regex=frame_id_regex, dtype=dtype)
            if not os.path.isfile(entry):
                raise FileNotFoundError(f"video {os.fsdecode(entry)} does not exist")
            return EncodedVideo(entry, buffer_size=buffer_size, device=device, dtype=dtype)

        dataset = VideoCollectionDataset(
            [to_video(entry) for entry in videos],
            transform=transform,
            use_cached_video_metadata=use_cached_video_metadata,
            n_frame_counting_workers=n_frame_counting_workers,
            progress_bar=progress_bar,
        )
        super().__init__(dataset, min_frames_per_worker, **kwargs)


def _resolve_n_workers_spec(n_workers: int) -> int:
    """A number of workers, where negative ones count from the number of cores, and 0 is 1."""
    return resolve_worker_count(n_workers) or 1
