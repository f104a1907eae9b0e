"""PatchLoader: batches of a dataset, read ahead and handed over in shared memory that is used again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..errors import check_choice, shorten
from ..feed.counts import to_count
from ..feed.worker_choice import WorkerKind, make_workers
from ..system.children import StartMethod
from .batch import Batch, collate
from .sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from .._typing import Array
    from ..feed.patch import Patch
    from ..feed.patches import Uneven
    from ..system.ahead import Workers
    from ..system.serving import Allocate
    from .sampler import SamplerState

__all__ = ["PatchLoader"]


class PatchLoader:
    """Batches of a dataset for a training loop: as ``torch.utils.data.DataLoader``, with a cheaper way from the workers.

    A worker process reads a whole batch by one call, straight into memory that it shares with this process, and that is used
    again as soon as a batch is forgotten. Each iteration is the next epoch; workers live on between them. Batches are
    :class:`~ndframes.torch.Batch`, with ``images`` ``(n, c, h, w)``, ``targets`` and ``patches``.

    Args:
        dataset: a :class:`PatchDataset`, :class:`DetectionPatches` or :class:`ClipDataset`, or any map-style dataset with
            samples that :func:`collate` takes.
        batch_size: the number of samples in a batch.
        workers: the number of worker processes or threads; 0 reads in this thread.
        worker: ``"process"``, ``"thread"``, or ``"auto"``: a process where one can be started and can load the dataset. One
            whose transform is defined in the main module is loaded by forks only.
        depth: how many batches each worker reads ahead.
        shuffle: whether the order is random, another one in each epoch.
        seed: of the order.
        drop_last: whether a last batch that is smaller is left out.
        rank: the number of this process; ``None``: that of ``torch.distributed`` where it is initialized, otherwise 0.
        world_size: how many processes there are; ``None``: likewise, otherwise 1.
        uneven: as for :meth:`Patches.shard <ndframes.feed.Patches.shard>`. With ``"pad"``, all ranks get as many batches.
        pin_memory: whether batches are copied to page-locked memory.
        device: where batches are moved to; ``None``: they stay on the CPU.
        transform_device: called with each batch after it was moved; returns what the loop gets.
        start_method: of the worker processes; see :func:`ndframes.feed.prefetch`.

    Raises:
        PatchError: the dataset is empty, or an argument is not valid.
        WorkerDied: a worker process ended without being asked to; raised by the iteration.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.feed import RandomPatches
        >>> from ndframes.torch import PatchDataset, PatchLoader
        >>> frames = nf.SimpleFrames.demo(workdir=getfixture("tmp_path"))
        >>> dataset = PatchDataset(frames, RandomPatches(frames, 64, 20))
        >>> with PatchLoader(dataset, 8, workers=1, shuffle=True) as loader:
        ...     [tuple(batch.images.shape) for batch in loader]
        [(8, 3, 64, 64), (8, 3, 64, 64), (4, 3, 64, 64)]
    """

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        dataset: Any,
        batch_size: int,
        *,
        workers: int = 2,
        worker: WorkerKind = "auto",
        depth: int = 2,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven = "pad",
        pin_memory: bool = False,
        device: Any = None,
        transform_device: Any = None,
        start_method: StartMethod | None = None,
    ) -> None:
        check_choice("worker", worker, WorkerKind)
        if start_method is not None:
            check_choice("start_method", start_method, StartMethod)
        self.dataset = dataset
        self.batch_size = to_count("batch_size", batch_size)
        self._worker_count, self._depth = to_count("workers", workers, least=0), to_count("depth", depth)
        self._worker: WorkerKind = worker
        self._start_method: StartMethod | None = start_method
        self._drop_last = drop_last
        self._sampler = Sampler(dataset, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size, uneven=uneven)
        self._pin_memory, self._device, self._transform_device = pin_memory, device, transform_device
        self._work = _BatchWork(dataset)
        self._idle: Workers | None = None
        self._delivered = 0

    def __len__(self) -> int:
        """The number of batches of the next epoch."""
        items = len(self._sampler)
        return items // self.batch_size if self._drop_last else -(-items // self.batch_size)

    @property
    def epoch(self) -> int:
        """The epoch of the latest iteration."""
        return self._sampler.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of an epoch, from its beginning."""
        self._sampler.set_epoch(epoch)
        self._delivered = 0

    def state_dict(self) -> SamplerState:
        """How far all ranks have come, if each got as many batches: the state of any rank serves any number of them."""
        return self._sampler.state_dict(delivered=self._delivered)

    def load_state_dict(self, state: SamplerState) -> None:
        """Let the next iteration go on from a state, with any numbers of ranks, workers and samples in a batch.

        Raises:
            PatchError: it is not a state of this order.
        """
        self._sampler.load_state_dict(state)
        self._delivered = 0

    def __iter__(self) -> Iterator[Any]:
        # The epoch begins here and not with the first batch, and the sampler counts it.
        indices = iter(self._sampler)
        self._delivered = 0
        return self._run(self._batches(indices))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. Batches stay valid; another iteration starts workers again."""
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.close()

    def _batches(self, indices: Iterator[int]) -> Iterator[list[int]]:
        while batch := [index for _, index in zip(range(self.batch_size), indices, strict=False)]:
            if len(batch) == self.batch_size or not self._drop_last:
                yield batch

    def _run(self, batches: Iterator[list[int]]) -> Iterator[Any]:
        workers = self._take_workers()
        if workers is None:
            for indices in batches:
                yield self._deliver(self._work(indices, np.empty), len(indices))
            return
        is_done = False
        try:
            counts: deque[int] = deque()
            while True:
                self._submit(workers, batches, counts)
                if not counts:
                    break
                packed = workers.receive().value
                # Before the batch is used, so that the workers are busy meanwhile.
                count = counts.popleft()
                self._submit(workers, batches, counts)
                yield self._deliver(packed, count)
                del packed
            is_done = True
        finally:
            if is_done and self._idle is None:
                self._idle = workers
            else:
                workers.close()

    def _submit(self, workers: Workers, batches: Iterator[list[int]], counts: deque[int]) -> None:
        while workers.has_room:
            indices = next(batches, None)
            if indices is None:
                return
            counts.append(len(indices))
            workers.submit(indices, label=f"the batch of the items {shorten(indices)}")

    def _take_workers(self) -> Workers | None:
        if not self._worker_count:
            return None
        idle, self._idle = self._idle, None
        return idle or make_workers(
            self._work,
            kind=self._worker,
            start_method=self._start_method,
            count=self._worker_count,
            depth=self._depth,
        )

    def _deliver(self, packed: _PackedBatch, count: int) -> Any:
        batch = packed.to_batch()
        if self._pin_memory:
            batch = batch.pin_memory()
        if self._device is not None:
            batch = batch.to(self._device, non_blocking=self._pin_memory)
        self._delivered += count
        return batch if self._transform_device is None else self._transform_device(batch)

    def __repr__(self) -> str:
        return f"<PatchLoader: {len(self):,} batches of {self.batch_size} from {type(self.dataset).__name__}>"


class _PackedBatch(NamedTuple):
    """A batch as arrays, whose contents cross processes in shared memory; torch's own way costs a descriptor a tensor.

    Attributes:
        images: ``(n, h, w, c)``, or a list.
        batch: everything else.
        packed: the targets.
        more: other tensors.
    """

    images: Any
    patches: list[Patch]
    packed: dict[str, Array]
    counts: dict[str, list[int]]
    shapes: dict[str, list[tuple[int, ...]]]
    more: dict[str, Any]

    @classmethod
    def of(cls, batch: Batch) -> _PackedBatch:
        images: Any = batch.images
        images = _to_array(images) if isinstance(images, torch.Tensor) else [_to_array(image) for image in images]
        packed = {key: value.numpy() for key, value in batch.packed.items()}
        more = {
            key: _Tensor(value.numpy()) if isinstance(value, torch.Tensor) else value
            for key, value in batch.more.items()
        }
        return cls(images, batch.patches, packed, batch.counts, batch.shapes, more)

    def to_batch(self) -> Batch:
        """The batch: tensors over these arrays."""
        images: Any = self.images
        images = _to_image(images) if isinstance(images, np.ndarray) else [_to_image(image) for image in images]
        packed = {key: torch.from_numpy(value) for key, value in self.packed.items()}
        more = {
            key: torch.from_numpy(value.array) if isinstance(value, _Tensor) else value
            for key, value in self.more.items()
        }
        return Batch(images, self.patches, packed, self.counts, self.shapes, more)


class _Tensor(NamedTuple):
    """An array that was a tensor."""

    array: Array


class _BatchWork:
    """Reads one batch, in a worker or in the caller's thread."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __call__(self, indices: Sequence[int], allocate: Allocate) -> _PackedBatch:
        """The batch of some indices; its images lie in memory of ``allocate`` if the dataset can read into it."""
        dataset = self._dataset
        if hasattr(dataset, "read"):
            samples = dataset.read(indices, allocate)
        elif hasattr(dataset, "__getitems__"):
            samples = dataset.__getitems__(list(indices))
        else:
            samples = [dataset[index] for index in indices]
        return _PackedBatch.of(samples if isinstance(samples, Batch) else collate(samples))


def _to_array(image: torch.Tensor) -> Array:
    """``(..., c, h, w)`` as a contiguous array ``(..., h, w, c)``, without a copy where it was one."""
    return np.ascontiguousarray(image.movedim(-3, -1).numpy())


def _to_image(array: Array) -> torch.Tensor:
    return torch.from_numpy(array).movedim(-1, -3)
