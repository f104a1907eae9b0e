"""PatchLoader: batches of a dataset, read ahead and handed over in shared memory that is used again."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..errors import check_choice, shorten
from ..feed.counts import to_count
from ..feed.worker_choice import WorkerKind, make_workers
from ..system.children import StartMethod
from .batch import Batch, Column
from .collation import collate
from .datasets import PatchSamples
from .naming import note_items
from .sampler import Sampler, decodes_epochs

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
# The indices of a batch, each with whether it is a repeat.
_Draws = list[tuple[int, bool]]


class PatchLoader:
    """Batches of a dataset for a training loop: as ``torch.utils.data.DataLoader``, with a cheaper way from the workers.

    A worker process reads a whole batch by one call, straight into memory that it shares with this process, and that is used
    again as soon as a batch is forgotten. Each iteration is the next epoch; workers live on between them. Batches are
    :class:`~ndframes.torch.Batch`, with ``images`` ``(n, c, h, w)``, ``targets`` and ``patches``.

    An error of a dataset or a transform has a note (``__notes__``) that names the item, the epoch, the patch and the process.

    Args:
        dataset: a :class:`PatchDataset`, :class:`DetectionPatches` or :class:`ClipDataset`, or any map-style dataset with
            samples that :func:`collate` takes. Only datasets that decode the epoch of an index see it; see :class:`Sampler`
            for those made by torch's ``Subset`` and ``ConcatDataset``.
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
        uneven: as for :meth:`Patches.shard <ndframes.feed.Patches.shard>`. With ``"pad"``, all ranks get as many batches, and
            patches that are repeated have ``is_repeat``.
        pin_memory: whether batches are copied to page-locked memory.
        device: where batches are moved to; ``None``: they stay on the CPU.
        transform_device: called with each batch after it was moved; returns what the loop gets.
        start_method: of the worker processes; see :func:`ndframes.feed.prefetch`.

    Raises:
        PatchError: the dataset is empty, or an argument is not valid; raised by the iteration: samples of a batch do not fit
            together, see :func:`collate`.
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
        self._iterations: weakref.WeakSet[_Iteration] = weakref.WeakSet()
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

        After a state in which no rank has a batch left to get, such as that of the end of an epoch, the next iteration is that
        of the next epoch.

        Raises:
            PatchError: it is not a state of this dataset and order.
        """
        self._sampler.load_state_dict(state)
        self._delivered = 0
        if self._drop_last and self._sampler.most_left < self.batch_size and state["delivered"]:
            self.set_epoch(state["epoch"] + 1)

    def __iter__(self) -> Iterator[Any]:
        # The epoch begins here and not with the first batch, and the sampler counts it.
        draws = self._sampler.walk()
        self._delivered = 0
        workers = self._take_workers()
        iteration = _Iteration(workers, self._run(workers, self._batches(draws)))
        self._iterations.add(iteration)
        return iteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all iterations and the workers. Batches stay valid; another iteration starts workers again."""
        for iteration in list(self._iterations):
            iteration.close()
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.close()

    def _batches(self, draws: Iterator[tuple[int, bool]]) -> Iterator[_Draws]:
        while batch := [draw for _, draw in zip(range(self.batch_size), draws, strict=False)]:
            if len(batch) == self.batch_size or not self._drop_last:
                yield batch

    def _run(self, workers: Workers | None, batches: Iterator[_Draws]) -> Iterator[Any]:
        if workers is None:
            for draws in batches:
                yield self._deliver(self._work([index for index, _ in draws], np.empty), draws)
            return
        is_done = False
        try:
            submitted: deque[_Draws] = deque()
            while True:
                self._submit(workers, batches, submitted)
                if not submitted:
                    break
                packed = workers.receive().value
                # Before the batch is used, so that the workers are busy meanwhile.
                draws = submitted.popleft()
                self._submit(workers, batches, submitted)
                yield self._deliver(packed, draws)
                del packed
            is_done = True
        finally:
            if is_done and self._idle is None:
                self._idle = workers
            else:
                workers.close()

    def _submit(self, workers: Workers, batches: Iterator[_Draws], submitted: deque[_Draws]) -> None:
        while workers.has_room:
            draws = next(batches, None)
            if draws is None:
                return
            submitted.append(draws)
            indices = [index for index, _ in draws]
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

    def _deliver(self, packed: _PackedBatch, draws: _Draws) -> Any:
        batch = packed.to_batch()
        if len(batch.patches) == len(draws) and any(is_repeat for _, is_repeat in draws):
            pairs = zip(batch.patches, draws, strict=True)
            batch = replace(
                batch,
                patches=[replace(patch, is_repeat=patch.is_repeat or is_repeat) for patch, (_, is_repeat) in pairs],
            )
        if self._pin_memory:
            batch = batch.pin_memory()
        if self._device is not None:
            batch = batch.to(self._device, non_blocking=self._pin_memory)
        self._delivered += len(draws)
        return batch if self._transform_device is None else self._transform_device(batch)

    def __repr__(self) -> str:
        return f"<PatchLoader: {len(self):,} batches of {self.batch_size} from {type(self.dataset).__name__}>"


class _Iteration(Iterator[Any]):
    """One epoch of a loader, which can be ended from outside."""

    def __init__(self, workers: Workers | None, batches: Iterator[Any]) -> None:
        self._workers = workers
        # A generator that does not refer to this object: forgotten, both end at once.
        self._batches: Iterator[Any] | None = batches

    def __next__(self) -> Any:
        if self._batches is None:
            raise StopIteration
        try:
            return next(self._batches)
        except BaseException:
            # The loader may keep the workers for another iteration.
            self._workers = self._batches = None
            raise

    def close(self) -> None:
        """End the workers; no batch follows."""
        workers, self._workers, self._batches = self._workers, None, None
        if workers is not None:
            workers.close()


class _PackedBatch(NamedTuple):
    """A batch as arrays, whose contents cross processes in shared memory; torch's own way costs a descriptor a tensor.

    Attributes:
        images: ``(n, h, w, c)``, or a list.
        patches: those of the batch.
        more: its other values, with tensors as arrays.
        columns: its targets, with tensors as arrays.
    """

    images: Any
    patches: list[Patch]
    more: dict[str, Any]
    columns: dict[Any, Column]

    @classmethod
    def of(cls, batch: Batch) -> _PackedBatch:
        images: Any = batch.images
        images = _to_array(images) if isinstance(images, torch.Tensor) else [_to_array(image) for image in images]
        more = {
            key: _Tensor(value.numpy()) if isinstance(value, torch.Tensor) else value
            for key, value in batch.more.items()
        }
        columns = {key: column._replace(values=column.values.numpy()) for key, column in batch._columns.items()}  # noqa: SLF001 - internal to the package
        return cls(images, batch.patches, more, columns)

    def to_batch(self) -> Batch:
        """The batch: tensors over these arrays."""
        images: Any = self.images
        images = _to_image(images) if isinstance(images, np.ndarray) else [_to_image(image) for image in images]
        more = {
            key: torch.from_numpy(value.array) if isinstance(value, _Tensor) else value
            for key, value in self.more.items()
        }
        columns = {key: column._replace(values=torch.from_numpy(column.values)) for key, column in self.columns.items()}
        return Batch(images, self.patches, more, columns)


class _Tensor(NamedTuple):
    """An array that was a tensor."""

    array: Array


class _BatchWork:
    """Reads one batch, in a worker or in the caller's thread."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __call__(self, indices: Sequence[int], allocate: Allocate) -> _PackedBatch:
        """The batch of some indices; its images lie in memory of ``allocate`` if the dataset can read into it."""
        samples = self._read(indices, allocate)
        try:
            return _PackedBatch.of(samples if isinstance(samples, Batch) else collate(samples))
        except Exception as error:
            note_items(error, "collating", [self._locate(index) for index in indices])
            raise

    def _read(self, indices: Sequence[int], allocate: Allocate) -> Any:
        dataset = self._dataset
        if isinstance(dataset, PatchSamples):
            return dataset.read(indices, allocate)
        if getattr(dataset, "__getitems__", None):
            try:
                return dataset.__getitems__(list(indices))
            except Exception as error:
                note_items(error, "reading", [self._locate(index) for index in indices])
                raise
        return [self._read_one(index) for index in indices]

    def _read_one(self, index: int) -> Any:
        try:
            return self._dataset[index]
        except Exception as error:
            if not decodes_epochs(self._dataset):  # otherwise it has noted more
                note_items(error, "reading", [self._locate(index)])
            raise

    def _locate(self, index: int) -> tuple[int | None, int]:
        return divmod(index, len(self._dataset)) if decodes_epochs(self._dataset) else (None, index)


def _to_array(image: torch.Tensor) -> Array:
    """``(..., c, h, w)`` as a contiguous array ``(..., h, w, c)``, without a copy where it was one."""
    return np.ascontiguousarray((image.movedim(-3, -1) if image.ndim > 2 else image).numpy())


def _to_image(array: Array) -> torch.Tensor:
    image = torch.from_numpy(array)
    return image.movedim(-1, -3) if image.ndim > 2 else image
