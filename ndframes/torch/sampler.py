"""Sampler: the order of a dataset's items for the stock DataLoader, by epoch and rank, resumable."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import TYPE_CHECKING, Any, SupportsIndex, TypedDict

import torch.distributed
from torch.utils.data import Sampler as TorchSampler

from ..errors import PatchError, shorten
from ..feed.order import Permutation, check_seed
from ..feed.patches import Share

if TYPE_CHECKING:
    from ..feed.patches import Uneven

__all__ = ["Sampler", "SamplerState", "find_ranks"]


class SamplerState(TypedDict):
    """How far a run has come.

    Keys:
        fingerprint: of the dataset; empty if it has none.
        length: the number of its items.
        seed: of the order; -1 if it is not shuffled.
        epoch: the number of the epoch.
        delivered: how many items of the epoch all ranks together have got.
    """

    fingerprint: str
    length: int
    seed: int
    epoch: int
    delivered: int


class Sampler(TorchSampler[int]):
    """The indices of a dataset, in an order that is a function of a seed and the epoch.

    An index is ``epoch * len(dataset) + item``, by which a dataset of this package knows the epoch, in any worker. Each
    iteration is the next epoch, beginning with the present one.

    Args:
        dataset: the dataset, or anything with a length. A state belongs to one with the same ``fingerprint``, if it has that
            attribute, as all datasets of this package do.
        shuffle: whether the order is random, another one in each epoch.
        seed: of the order.
        rank: the number of this process; ``None``: that of ``torch.distributed`` where it is initialized, otherwise 0.
        world_size: how many processes there are; ``None``: likewise, otherwise 1.
        uneven: as for :meth:`Patches.shard <ndframes.feed.Patches.shard>`.

    Raises:
        PatchError: the dataset is empty, or there is no such rank.

    Example:
        >>> sampler = Sampler(range(5), seed=1)
        >>> [sorted(index - epoch * 5 for index in sampler) for epoch in range(2)]
        [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        shuffle: bool = True,
        seed: SupportsIndex = 0,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven = "pad",
    ) -> None:
        self._length = len(dataset)
        if not self._length:
            raise PatchError(f"the dataset {shorten(dataset)} is empty; give one with at least one item")
        self._fingerprint = str(getattr(dataset, "fingerprint", ""))
        self._shuffle, self._seed = shuffle, check_seed(seed)
        self._share = Share.of(*find_ranks(rank, world_size), uneven, self._length)
        self._epoch = self._next_epoch = 0
        # What a state says was delivered in the next epoch; 0 unless a state was loaded.
        self._first = self._next_first = 0
        self._drawn = 0

    @property
    def epoch(self) -> int:
        """The epoch of the latest iteration."""
        return self._epoch

    def __len__(self) -> int:
        return self._share.count(self._length - self._next_first)

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of an epoch, from its beginning."""
        if epoch < 0:
            raise ValueError(f"epoch={epoch}; epochs are counted from 0")
        self._epoch = self._next_epoch = epoch
        self._first = self._next_first = self._drawn = 0

    def __iter__(self) -> Iterator[int]:
        # Not in the generator: the loader's next epoch begins where iter() is called, not at the first item.
        self._epoch, self._first, self._drawn = self._next_epoch, self._next_first, 0
        self._next_epoch, self._next_first = self._epoch + 1, 0
        return self._walk(self._epoch, self._first)

    def _walk(self, epoch: int, first: int) -> Iterator[int]:
        order = Permutation(self._length, self._seed, epoch) if self._shuffle else range(self._length)
        for number in range(self._share.count(self._length - first)):
            self._drawn = number + 1
            yield epoch * self._length + order[(first + self._share.place(number)) % self._length]

    def state_dict(self, *, delivered: int | None = None) -> SamplerState:
        """How far all ranks have come.

        Args:
            delivered: how many items this rank has got since its iteration began. ``None``: as many as were drawn, which with
                worker processes are more, because they work ahead.
        """
        count = self._drawn if delivered is None else delivered
        total = min(self._first + count * self._share.world_size, self._length)
        seed = self._seed if self._shuffle else -1
        return {
            "fingerprint": self._fingerprint,
            "length": self._length,
            "seed": seed,
            "epoch": self._epoch,
            "delivered": total,
        }

    def load_state_dict(self, state: SamplerState) -> None:
        """Let the next iteration go on from a state of any rank, of any number of ranks.

        Raises:
            PatchError: it is not a state of this order.
        """
        try:
            found: dict[str, Any] = {key: int(state[key]) for key in ("length", "seed", "epoch", "delivered")}
            found["fingerprint"] = str(state["fingerprint"])
        except (TypeError, KeyError, ValueError) as error:
            raise PatchError(f"not a state of a sampler: {shorten(state)}; give what state_dict() returned") from error
        own = {
            "length": self._length,
            "seed": self._seed if self._shuffle else -1,
            "fingerprint": self._fingerprint,
        }
        for key, value in own.items():
            if found[key] != value:
                raise PatchError(
                    f"the state has the {key} {found[key]}, this sampler {value}: another dataset, or another order; make the "
                    "dataset and the sampler as in that run"
                )
        if found["epoch"] < 0 or not 0 <= found["delivered"] <= self._length:
            raise PatchError(
                f"the state counts {found['delivered']:,} of {self._length:,} items in epoch {found['epoch']}"
            )
        self.set_epoch(found["epoch"])
        self._first = self._next_first = found["delivered"]


def find_ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """The number of this process and that of all: as given, or as ``torch.distributed`` has them, or ``(0, 1)``."""
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if rank is None:
        rank = torch.distributed.get_rank() if is_distributed and world_size is None else 0
    if world_size is None:
        world_size = torch.distributed.get_world_size() if is_distributed else 1
    return rank, world_size
