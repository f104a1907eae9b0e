"""Sampler: the order of a dataset's items for the stock DataLoader, by epoch and rank, resumable."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, SupportsIndex, TypedDict

import torch.distributed
from torch.utils.data import Sampler as TorchSampler

from ..errors import PatchError, shorten
from ..feed.counts import to_count
from ..feed.order import Permutation, check_seed
from ..feed.patches import Patches, Share
from ..text import count_noun

if TYPE_CHECKING:
    from ..feed.patches import Uneven

__all__ = ["Sampler", "SamplerState", "decodes_epochs", "find_ranks"]


class SamplerState(TypedDict):
    """How far a run has come.

    Keys:
        fingerprint: a digest of what the dataset consists of, seeds of patches included; of a dataset without patches only its
            length.
        length: the number of items of the dataset.
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

    Each iteration is the next epoch, beginning with the present one. For a dataset whose class has ``decodes_epochs = True``,
    as those of this package have, an index is ``epoch * len(dataset) + item``, by which it knows the epoch, in any worker. For
    any other dataset an index is the number of the item, and the epoch changes the order only. Torch's ``Subset`` and
    ``ConcatDataset`` are such: what they are made of delivers the patches and augmentations of epoch 0 in each epoch. To use
    some images only, give patches of these images, such as ``RandomPatches(frames, 64, 1000, image_ids=[...])``.

    Args:
        dataset: the dataset, or anything with a length. A state belongs to one with the same ``fingerprint``, if it has that
            attribute, as all datasets of this package do.
        shuffle: whether the order is random, another one in each epoch.
        seed: of the order.
        rank: the number of this process; ``None``: that of ``torch.distributed`` where it is initialized, otherwise 0.
        world_size: how many processes there are; ``None``: likewise, otherwise 1.
        uneven: as for :meth:`Patches.shard <ndframes.feed.Patches.shard>`. A stock ``DataLoader`` cannot mark the items that
            ``"pad"`` repeats; :class:`PatchLoader` marks their patches by ``is_repeat``.

    Raises:
        PatchError: the dataset is empty, or there is no such rank.

    Example:
        >>> sampler = Sampler(range(5), seed=1)
        >>> [sorted(sampler) for epoch in range(2)]
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
        self._decodes_epochs, self._fingerprint = decodes_epochs(dataset), _fingerprint_of(dataset)
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

    @property
    def most_left(self) -> int:
        """How many items of the next iteration the rank with the most of them gets: the same number for all ranks."""
        return replace(self._share, rank=0).count(self._length - self._next_first)

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """Let the next iteration be that of an epoch, from its beginning.

        Raises:
            ValueError: it is not a number from 0.
        """
        number = operator.index(epoch)
        if number < 0:
            raise ValueError(f"epoch={number}; epochs are counted from 0")
        self._epoch = self._next_epoch = number
        self._first = self._next_first = self._drawn = 0

    def __iter__(self) -> Iterator[int]:
        return (index for index, _ in self.walk())

    def walk(self) -> Iterator[tuple[int, bool]]:
        """Begin the next epoch: its indices, each with whether it only fills up the share of this rank."""
        # Not in the generator: the loader's next epoch begins where iter() is called, not at the first item.
        self._epoch, self._first, self._drawn = self._next_epoch, self._next_first, 0
        self._next_epoch, self._next_first = self._epoch + 1, 0
        return self._walk(self._epoch, self._first)

    def _walk(self, epoch: int, first: int) -> Iterator[tuple[int, bool]]:
        order = Permutation(self._length, self._seed, epoch) if self._shuffle else range(self._length)
        base = epoch * self._length if self._decodes_epochs else 0
        for number in range(self._share.count(self._length - first)):
            self._drawn = number + 1
            place = first + self._share.place(number)
            yield base + order[place % self._length], place >= self._length

    def state_dict(self, *, delivered: int | None = None) -> SamplerState:
        """How far all ranks have come.

        Args:
            delivered: how many items this rank has got since its iteration began. ``None``: as many as were drawn, which with
                worker processes are more, because they work ahead.

        Raises:
            PatchError: ``delivered`` is not a number from 0.
        """
        count = self._drawn if delivered is None else to_count("delivered", delivered, "a number of items", least=0)
        total = min(self._first + count * self._share.world_size, self._length)
        return {
            "fingerprint": self._fingerprint,
            "length": self._length,
            "seed": self._seed if self._shuffle else -1,
            "epoch": self._epoch,
            "delivered": total,
        }

    def load_state_dict(self, state: SamplerState) -> None:
        """Let the next iteration go on from a state of any rank, of any number of ranks.

        After a state in which no rank has anything left to get, the next iteration is that of the next epoch.

        Raises:
            PatchError: it is not a state of this dataset and order.
        """
        try:
            numbers = [operator.index(state[key]) for key in ("length", "seed", "epoch", "delivered")]
            fingerprint = state["fingerprint"]
        except (TypeError, KeyError) as error:
            raise PatchError(f"not a state of a sampler: {shorten(state)}; give what state_dict() returned") from error
        length, seed, epoch, delivered = numbers
        self._check_origin(fingerprint, length, seed)
        if epoch < 0 or not 0 <= delivered <= self._length:
            raise PatchError(f"the state counts {delivered:,} of {self._length:,} items in epoch {epoch}")
        self.set_epoch(epoch)
        self._first = self._next_first = delivered
        if not self.most_left:
            self.set_epoch(epoch + 1)

    def _check_origin(self, fingerprint: object, length: int, seed: int) -> None:
        """Check that a state is one of this dataset in this order."""
        own = self._seed if self._shuffle else -1
        if length != self._length:
            there, here = count_noun(length, "item"), f"this one {self._length:,}"
            raise PatchError(f"the state is one of a dataset of {there}, {here}; make the dataset as in that run")
        if fingerprint != self._fingerprint:
            raise PatchError(
                "the state is one of another dataset of as many items: its patches or clips have other images, regions, shapes "
                f"or seeds (fingerprint {shorten(fingerprint)}, this dataset {shorten(self._fingerprint)}); make the dataset as in "
                "that run"
            )
        if seed != own:
            there, here = _describe_order(seed), _describe_order(own)
            raise PatchError(f"the state is one of {there}, this is {here}; give shuffle and seed as in that run")


def decodes_epochs(dataset: object) -> bool:
    """Whether a dataset takes the indices of any epoch; a wrapper that passes attributes on need not."""
    return bool(getattr(type(dataset), "decodes_epochs", False))


def _fingerprint_of(dataset: Any) -> str:
    own, patches = getattr(dataset, "fingerprint", None), getattr(dataset, "patches", None)
    if isinstance(own, str):
        return own
    return patches.fingerprint if isinstance(patches, Patches) else count_noun(len(dataset), "item")


def _describe_order(seed: int) -> str:
    return "an order that is not shuffled" if seed < 0 else f"a shuffled order with the seed {seed}"


def find_ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """The number of this process and that of all: as given, or as ``torch.distributed`` has them, or ``(0, 1)``."""
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if rank is None:
        rank = torch.distributed.get_rank() if is_distributed and world_size is None else 0
    if world_size is None:
        world_size = torch.distributed.get_world_size() if is_distributed else 1
    return rank, world_size
