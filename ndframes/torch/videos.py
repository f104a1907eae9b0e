"""All frames of a collection of videos, by workers that share them so that each group of frames is decoded once."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate, get_worker_info

from ..errors import PatchError, check_choice, shorten
from ..feed.collection import open_videos
from ..feed.counts import to_count
from ..feed.order import check_seed
from ..feed.patches import Uneven
from ..feed.segments import Segment, SegmentPlan, balance_load_lpt, buffer_draws, shuffle_in_buffer
from ..system.process import core_count
from .batch import to_dtype
from .sampler import find_ranks

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..feed.collection import VideoSource
    from ..frames.frames import Frames
    from ..spec.backends import BackendSpec

__all__ = [
    "Balance",
    "VideoCollectionDataLoader",
    "VideoCollectionDataset",
    "balance_load_lpt",
    "collate_frames",
    "resolve_worker_count",
    "scale_frame",
]
#: What the loads of workers are counted in.
Balance = Literal["frames", "pixels"]
# The name in a batch of each name in a sample.
_PLURALS = {
    "frame": "frames",
    "video_path": "video_paths",
    "video_idx": "video_indices",
    "video_id": "video_indices",
    "frame_idx": "frame_indices",
    "frame_id": "frame_indices",
}


class VideoCollectionDataset(IterableDataset[dict[str, Any]]):
    """All frames of some videos and sequences of images, each once an epoch, for :class:`VideoCollectionDataLoader`.

    Samples are dictionaries with the keys ``frame``, a tensor ``(c, h, w)``; ``video_path``; ``video_idx``, the position of the
    video in the collection; and ``frame_idx``, the number of the frame in the video, or in its range. The videos are cut at key
    frames, and each worker gets whole segments, so that no frame is decoded twice, and all workers get about as many frames.
    A segment is never shorter than the distance of two key frames; a video with few key frames cannot be shared by many workers.

    Args:
        videos: paths of videos, folders, globs and patterns with a number, :class:`~ndframes.Clip` s, or what
            :func:`ndframes.open` returns; or :class:`~ndframes.Frames`, of which each video is taken.
        frame_ranges: for each video ``(start, stop)``, the frames that are taken, or ``None`` for all. ``frame_idx`` then
            counts from ``start``.
        transform: called with each frame; returns what the sample has instead.
        dtype: of the frames. A floating dtype gives values from 0 to 1, the largest value of an integer dtype being 1; floating
            frames are not scaled. ``None``: that of the video, or name it, such as ``"uint8"``.
        channels: as for :meth:`ndframes.Frames.load_region`.
        shuffle: whether the order is random: segments in random order, and their frames by way of a buffer. Each epoch has
            another order, which depends on nothing but ``seed``, the epoch and the number of workers.
        seed: of the order.
        shuffle_buffer: the number of frames in that buffer, which each worker holds in memory.
        segment_frames: how many frames a segment has at most if the order is random, where key frames allow it.
        balance: whether workers get as many ``"frames"``, or as many ``"pixels"``, for videos of different sizes.
        workdir: the folder of the cache, as for :func:`ndframes.open`.
        backend: as for :func:`ndframes.open`.

    Raises:
        TypeError: a video is none of these.
        SourceError: a video cannot be read.
        PathInfoError: a range goes beyond the video.
        PatchError: an argument is not valid, or an image has no time axis.

    Example:
        >>> import ndframes as nf
        >>> folder = getfixture("tmp_path")
        >>> for name, count in {"a": 10, "b": 4}.items():
        ...     _ = nf.write_video(folder / f"{name}.mp4", np.zeros((count, 32, 48, 3), np.uint8), fps=5)
        >>> dataset = VideoCollectionDataset([folder / "a.mp4", folder / "b.mp4"], frame_ranges=[(2, 8), None])
        >>> for batch in VideoCollectionDataLoader(dataset, batch_size=5):
        ...     print(batch["frames"].shape, batch["video_indices"], batch["frame_indices"])
        torch.Size([5, 3, 32, 48]) [0, 0, 0, 0, 0] [0, 1, 2, 3, 4]
        torch.Size([5, 3, 32, 48]) [0, 1, 1, 1, 1] [5, 0, 1, 2, 3]
    """

    # On the class, for subclasses that do not call the constructor.
    transform: Callable[[torch.Tensor], Any] | None = None
    plan = SegmentPlan((), (), ())
    epoch = 0
    _dtype: torch.dtype | None = torch.float32
    _shuffle, _seed, _buffer, _segment_frames = False, 0, 0, 0
    _workers: tuple[int, int] | None = None
    _rank, _world_size = 0, 1
    _shared_epoch: torch.Tensor | None = None
    _has_begun = False
    # Whether iterations that begin now yield frames as they are stored.
    _is_unscaled = False

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        videos: Sequence[Any] | Frames,
        *,
        frame_ranges: Sequence[Any] | None = None,
        transform: Callable[[torch.Tensor], Any] | None = None,
        dtype: str | torch.dtype | None = "float32",
        channels: str | Sequence[str] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        shuffle_buffer: int = 128,
        segment_frames: int = 32,
        balance: Balance = "frames",
        workdir: str | os.PathLike[str] | None = None,
        backend: BackendSpec = None,
    ) -> None:
        check_choice("balance", balance, Balance)
        self.transform, self._dtype = transform, to_dtype(dtype)
        self._shuffle, self._seed = shuffle, check_seed(seed)
        self._buffer = to_count("shuffle_buffer", shuffle_buffer)
        self._segment_frames = to_count("segment_frames", segment_frames)
        self._videos = open_videos(videos, frame_ranges, channels=channels, workdir=workdir, backend=backend)
        for video in self._videos:
            self._check_dtype(video)
        self.plan = SegmentPlan(
            tuple(len(video.numbers) for video in self._videos),
            tuple(video.keys for video in self._videos),
            tuple(float(np.prod(video.shape[:2])) if balance == "pixels" else 1.0 for video in self._videos),
        )

    @property
    def video_paths(self) -> list[str]:
        """The paths of the videos."""
        return [video.path for video in self._videos]

    @property
    def n_frames_by_video(self) -> list[int]:
        """The number of frames of each video."""
        return list(self.plan.counts)

    @property
    def n_frames_total(self) -> int:
        """The number of frames of all videos."""
        return self.plan.total

    def __len__(self) -> int:
        """The number of frames of all videos."""
        return self.plan.total

    # -- who reads what -------------------------------------------------------------------------------------------

    def assign_workers(self, n_loading_workers: int, min_frames_per_worker: int = 1) -> None:
        """Share the frames among workers; :class:`VideoCollectionDataLoader` does it.

        Args:
            n_loading_workers: the number of workers, of this process if there are several ranks.
            min_frames_per_worker: if workers would have fewer frames, there are fewer of them, and the others get none.
        """
        count = to_count("n_loading_workers", n_loading_workers)
        self._workers = count, to_count("min_frames_per_worker", min_frames_per_worker)

    def set_rank(self, rank: int, world_size: int) -> None:
        """Share the frames among several processes, each with as many workers; this is number ``rank`` of them."""
        if not 0 <= rank < world_size:
            raise PatchError(f"rank {rank} of {world_size}; ranks are counted from 0")
        self._rank, self._world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration have the order of an epoch, in persistent workers, too."""
        self.epoch = epoch
        if self._shared_epoch is None:
            self._shared_epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._shared_epoch[0] = epoch

    @property
    def worker_assignments(self) -> list[list[Any]]:
        """The segments ``(video, start, stop)`` that each worker of this process reads in the present epoch, in their order."""
        if self._workers is None:
            return []
        return self.shares(self.epoch)[self._rank]

    def shares(self, epoch: int) -> list[list[list[Segment]]]:
        """The segments of each worker of each rank in an epoch."""
        if self._workers is None:
            raise RuntimeError(
                f"{type(self).__name__} does not know its workers; iterate over a VideoCollectionDataLoader of it, or call "
                "assign_workers() before"
            )
        count, least = self._workers
        if self._shuffle:
            shares = self.plan.share_shuffled(
                count * self._world_size, least=least, most=self._segment_frames, seed=self._seed, epoch=epoch
            )
        else:
            shares = self.plan.share(count * self._world_size, least=least)
        return [shares[first : first + count] for first in range(0, len(shares), count)]

    # -- reading --------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # Not a generator: persistent workers learn the epoch here, before the loop can go on to the next one.
        info = get_worker_info()
        epoch = self.epoch
        if info is not None:
            if self._has_begun and self._shared_epoch is not None:
                epoch = int(self._shared_epoch[0])
            self._has_begun = True
        shares = self.shares(epoch)[self._rank]
        if len(shares) != (1 if info is None else info.num_workers):
            raise RuntimeError(
                f"{type(self).__name__} was shared among {len(shares)} workers, and is read by "
                f"{'this process' if info is None else f'{info.num_workers} workers'}; use a VideoCollectionDataLoader"
            )
        worker = 0 if info is None else info.id
        return self._walk(shares[worker], epoch, self._rank * len(shares) + worker, is_unscaled=self._is_unscaled)

    def _walk(self, segments: list[Segment], epoch: int, worker: int, *, is_unscaled: bool) -> Iterator[dict[str, Any]]:
        places = self._read_segments(segments)
        if self._shuffle:
            # A copy of each: as a view it would keep its whole chunk in memory.
            copies = ((video, number, frame.clone()) for video, number, frame in places)
            places = shuffle_in_buffer(copies, self._buffer, buffer_draws(self._seed, epoch, worker))
        for video, number, frame in places:
            yield self.make_sample(video, number, frame if is_unscaled else self.finish_frame(frame))

    def _read_segments(self, segments: list[Segment]) -> Iterator[tuple[int, int, torch.Tensor]]:
        for video, start, stop in segments:
            for number, frame in enumerate(self.read_frames(video, start, stop), start):
                yield video, number, frame

    def read_frames(self, video: int, start: int, stop: int) -> Iterator[torch.Tensor]:
        """Frames of a video ``(c, h, w)`` as they are stored, one after the other."""
        for chunk in self._videos[video].read(start, stop):
            yield from torch.from_numpy(chunk).movedim(-1, 1)

    def finish_frame(self, frame: torch.Tensor) -> Any:
        """A frame as samples have it: scaled and transformed."""
        scaled = scale_frame(frame, self._dtype)
        return scaled if self.transform is None else self.transform(scaled)

    @contextmanager
    def unscaled(self) -> Iterator[torch.dtype | None]:
        """Let iterations that begin in this context yield frames as they are stored, if all they lack is to be scaled.

        Returns:
            The dtype in which the frames are to be scaled; ``None`` if they are as they shall be.
        """
        is_plain = self.transform is None and type(self).finish_frame is VideoCollectionDataset.finish_frame
        self._is_unscaled = is_plain
        try:
            yield self._dtype if is_plain else None
        finally:
            self._is_unscaled = False

    def make_sample(self, video: int, number: int, frame: Any) -> dict[str, Any]:
        """The sample of a frame."""
        return {
            "frame": frame,
            "video_path": self._videos[video].path,
            "video_idx": video,
            "frame_idx": number,
        }

    def _check_dtype(self, video: VideoSource) -> None:
        if self._dtype is not None and not self._dtype.is_floating_point:
            name = str(self._dtype).removeprefix("torch.")
            if name != video.dtype.name:
                raise PatchError(
                    f"dtype={name!r}, but {video.path} has {video.dtype.name}; give a floating dtype, whose values are from 0 to "
                    "1, or None"
                )


class VideoCollectionDataLoader(DataLoader[dict[str, Any]]):
    """Batches of the frames of a :class:`VideoCollectionDataset`, read by workers with equal loads.

    Batches are dictionaries with the keys ``frames``, a tensor ``(n, c, h, w)``, or a list where shapes differ; ``video_paths``,
    ``video_indices`` and ``frame_indices``, lists. A batch comes from one worker, and the last one of each worker may be
    smaller; ``len(loader)`` counts them all. Each iteration is the next epoch, in persistent workers, too.

    Args:
        dataset: the dataset. It belongs to this loader: another one would share it among its own workers.
        batch_size: the number of frames in a batch.
        min_frames_per_worker: as for :meth:`VideoCollectionDataset.assign_workers`.
        rank: the number of this process; ``None``: that of ``torch.distributed`` where it is initialized, otherwise 0.
        world_size: how many processes there are; ``None``: likewise, otherwise 1.
        uneven: what happens if ranks would have different numbers of batches: with ``"pad"`` those with fewer deliver some
            again, with ``"drop"`` the others deliver fewer, with ``"keep"`` they differ.
        **options: those of ``torch.utils.data.DataLoader``. A negative ``num_workers`` counts from the number of cores: -1 is
            all of them, -2 all but one.

    Raises:
        ValueError: the dataset is another one, or an option is not allowed here.
        PatchError: there is no such rank, or a rank would get nothing.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        *,
        min_frames_per_worker: int = 1,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven = "pad",
        **options: Any,
    ) -> None:
        check_choice("uneven", uneven, Uneven)
        _check_options(dataset, options)
        options["num_workers"] = resolve_worker_count(options.get("num_workers") or 0)
        super().__init__(dataset, to_count("batch_size", batch_size), collate_fn=collate_frames, **options)
        self._least = min_frames_per_worker
        self._uneven = uneven
        self._next_epoch = 0
        self._ranks = find_ranks(rank, world_size)
        if self._ranks != (0, 1):
            dataset.set_rank(*self._ranks)
        self._assign()
        if self._ranks[1] > 1 and uneven != "keep" and not all(self._counts_of_ranks()):
            raise PatchError(
                f"{dataset.n_frames_total:,} frames in segments are too few for {self._ranks[1]} ranks; use fewer, or 'keep'"
            )

    @property
    def epoch(self) -> int:
        """The epoch of the latest iteration."""
        return max(0, self._next_epoch - 1)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of an epoch."""
        if epoch < 0:
            raise ValueError(f"epoch={epoch}; epochs are counted from 0")
        self._next_epoch = epoch

    def __len__(self) -> int:
        """The number of batches of the next epoch."""
        counts = self._counts_of_ranks()
        pick = {"pad": max(counts), "drop": min(counts), "keep": counts[self._ranks[0]]}
        return pick[self._uneven]

    def __iter__(self) -> Any:
        dataset: Any = self.dataset
        own = length = 0
        if self._ranks[1] > 1:
            own, length = self._counts_of_ranks()[self._ranks[0]], len(self)
        dataset.set_epoch(self._next_epoch)
        self._next_epoch += 1
        dtype = None
        if self.pin_memory:  # which a tensor that is made here would not be
            batches: Any = super().__iter__()
        else:
            # Bytes take a quarter of the time on their way from a worker, and a whole batch is scaled at once.
            with dataset.unscaled() as dtype:
                batches = super().__iter__()
        if dtype is not None:
            batches = (_scale_batch(batch, dtype) for batch in batches)
        return batches if own == length else self._even_out(batches, own, length)

    def _even_out(self, batches: Iterator[Any], own: int, length: int) -> Iterator[Any]:
        """As many batches as all ranks deliver."""
        kept = []
        for number, batch in enumerate(islice(batches, length)):
            if number < length - own:
                kept.append(batch)
            yield batch
        yield from islice(cycle(kept), max(0, length - own))

    def _assign(self) -> None:
        self.dataset.assign_workers(max(1, self.num_workers), self._least)  # type: ignore[attr-defined]

    def _counts_of_ranks(self) -> list[int]:
        """The number of batches of each rank in the next epoch."""
        size = self.batch_size or 1
        counts = []
        for shares in self.dataset.shares(self._next_epoch):  # type: ignore[attr-defined]
            frames = [sum(segment.stop - segment.start for segment in share) for share in shares]
            counts.append(sum(count // size if self.drop_last else -(-count // size) for count in frames))
        return counts


def scale_frame(frame: torch.Tensor, dtype: torch.dtype | None = torch.float32) -> torch.Tensor:
    """A frame in a dtype; integers become values from 0 to 1 in a floating one.

    Example:
        >>> scale_frame(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([0.0000, 0.2000, 1.0000])
    """
    if dtype is None or not dtype.is_floating_point or frame.is_floating_point() or frame.dtype == torch.bool:
        return frame if dtype is None else frame.to(dtype)
    return frame.to(dtype).div_(torch.iinfo(frame.dtype).max)


def collate_frames(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples as a batch: frames are stacked, everything else is listed, under the plural of its key.

    Example:
        >>> batch = collate_frames([{"frame": torch.zeros(3, 4, 5), "frame_idx": 7, "gain": 2}] * 2)
        >>> batch["frames"].shape, batch["frame_indices"], batch["gain"]
        (torch.Size([2, 3, 4, 5]), [7, 7], [2, 2])
    """
    batch: dict[str, Any] = {
        _PLURALS.get(key, key): [sample[key] for sample in samples] for key in samples[0] if key in samples[0]
    }
    frames = batch.get("frames", [])
    if all(isinstance(frame, torch.Tensor) for frame in frames) and len({frame.shape for frame in frames}) == 1:
        batch["frames"] = _stack(frames)
    return batch


def _stack(frames: list[torch.Tensor]) -> torch.Tensor:
    """Frames as one tensor, which in a worker lies in shared memory, as torch's own collation does it."""
    if all(frame.ndim == 3 and frame.permute(1, 2, 0).is_contiguous() for frame in frames):
        # As they are in memory: another order of axes costs several times as much.
        stacked: torch.Tensor = default_collate([frame.permute(1, 2, 0) for frame in frames])
        return stacked.movedim(-1, 1)
    whole: torch.Tensor = default_collate(frames)
    return whole


def _scale_batch(batch: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    frames = batch["frames"]
    scaled = (
        scale_frame(frames, dtype)
        if isinstance(frames, torch.Tensor)
        else [scale_frame(frame, dtype) for frame in frames]
    )
    return {**batch, "frames": scaled}


def resolve_worker_count(count: Any) -> int:
    """A number of workers, where negative ones count from the number of cores.

    Raises:
        ValueError: it is not a number of workers.

    Example:
        >>> resolve_worker_count(3), resolve_worker_count(-1) == core_count()
        (3, True)
    """
    cores = core_count()
    if isinstance(count, bool) or not hasattr(count, "__index__") or operator.index(count) < -cores:
        raise ValueError(f"num_workers={shorten(count)}; give a whole number from {-cores}, -1 being all {cores} cores")
    number = operator.index(count)
    return number if number >= 0 else cores + 1 + number


def _check_options(dataset: Any, options: dict[str, Any]) -> None:
    """Check what a loader of videos does not allow."""
    if not isinstance(dataset, VideoCollectionDataset):
        raise ValueError(  # noqa: TRY004 - as in pvio
            f"VideoCollectionDataLoader only works with VideoCollectionDataset, got {type(dataset).__name__}"
        )
    if options.pop("batch_sampler", None) is not None:
        raise ValueError("VideoCollectionDataLoader does not support custom batch samplers; leave out batch_sampler")
    if options.pop("collate_fn", None) is not None:
        raise ValueError("VideoCollectionDataLoader must use the built-in collate function; leave out collate_fn")
    if options.get("sampler") is not None or options.get("shuffle"):
        raise ValueError(
            "the order belongs to the dataset: leave out sampler and shuffle, and give the dataset shuffle=True"
        )
