"""Loaders of all frames of a collection of videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kit.crops import digest
from loaders.base import Loader


@dataclass
class VideoLoader(Loader):
    """All frames of videos as float32 in batches; :meth:`batches` ignores the seed.

    Attributes:
        paths: the videos.
    """

    paths: Sequence[Path]

    def to_pixels(self, batch: Any) -> np.ndarray:
        frames = batch["frames"].permute(0, 2, 3, 1).numpy()
        return np.ascontiguousarray(np.rint(frames * 255).astype(np.uint8))


@dataclass
class FrameByFrame(VideoLoader):
    """As parallel-video-io's first version does it: each worker gets whole videos, and decodes and yields frame by frame."""

    requires = ("torch", "av")

    def batches(self, seed: int, count: int) -> Iterator[Any]:  # noqa: ARG002 - always all frames
        from torch.utils.data import DataLoader

        loads = share_whole_videos(self.paths, self.workers)
        return iter(DataLoader(_make_frame_dataset(loads), self.batch, num_workers=self.workers))


@dataclass
class Collected(VideoLoader):
    """ndframes' VideoCollectionDataLoader."""

    workdir: Path = field(default=Path(), kw_only=True)

    role = "ndframes"

    def batches(self, seed: int, count: int) -> Iterator[Any]:  # noqa: ARG002 - always all frames
        from ndframes.torch import VideoCollectionDataLoader

        return iter(VideoCollectionDataLoader(self.dataset(), batch_size=self.batch, num_workers=self.workers))

    def dataset(self) -> Any:
        """The collection."""
        from ndframes.torch import VideoCollectionDataset

        return VideoCollectionDataset(self.paths)


def share_whole_videos(paths: Sequence[Path], workers: int) -> list[list[Path]]:
    """Largest first, each to the worker that has least."""
    loads: list[list[Path]] = [[] for _ in range(workers)]
    for path in sorted(paths, key=count_frames, reverse=True):
        min(loads, key=lambda load: sum(map(count_frames, load))).append(path)
    return loads


def count_frames(path: Path) -> int:
    """As the container says."""
    import av

    with av.open(path) as container:
        return container.streams.video[0].frames


def measure_imbalance(loader: VideoLoader) -> dict[str, str]:
    """Frames of the worker that has most, as a multiple of the mean."""
    if isinstance(loader, Collected):
        dataset = loader.dataset()
        dataset.assign_workers(loader.workers)
        counts = [sum(segment.stop - segment.start for segment in load) for load in dataset.worker_assignments]
    else:
        counts = [sum(map(count_frames, load)) for load in share_whole_videos(loader.paths, loader.workers)]
    return {"imbalance": f"{max(counts) * len(counts) / sum(counts):.2f}"}


def is_each_frame_once(paths: Sequence[Path], digests: Sequence[bytes]) -> bool:
    """Whether these are the frames of all videos, in any order, each once."""
    import av

    expected = []
    for path in paths:
        with av.open(path) as container:
            expected += [digest(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return sorted(digests) == sorted(expected)


def _make_frame_dataset(loads: list[list[Path]]) -> Any:
    from torch.utils.data import IterableDataset

    class Frames(IterableDataset):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            import av
            import torch
            from torch.utils.data import get_worker_info

            info = get_worker_info()
            assert info is not None
            for path in loads[info.id]:
                with av.open(path) as container:
                    for number, frame in enumerate(container.decode(video=0)):
                        pixels = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).float() / 255
                        yield {"frames": pixels, "video_paths": str(path), "frame_indices": number}

    return Frames()
