"""Patches: sequences whose item i is a function of a seed, an epoch and i, so that any run can go on from any place."""

from __future__ import annotations

import hashlib
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, SupportsIndex, TypedDict, overload

from ..errors import PatchError, check_choice, shorten
from .counts import to_count
from .order import EpochOrders, check_seed

if TYPE_CHECKING:
    from .patch import Patch

__all__ = ["Patches", "PatchesState", "Sharded", "Share", "Shuffled", "Uneven", "check_state"]
#: What happens if the items cannot be shared out evenly: some are repeated, or left out, or some ranks get one less.
Uneven = Literal["pad", "drop", "keep"]


class PatchesState(TypedDict):
    """How far a run has come: enough to go on with any number of workers, ranks and items in a batch.

    Keys:
        fingerprint: a digest of the definition of the patches, seeds included.
        epoch: the number of the epoch.
        delivered: how many items of the epoch all ranks together have got.
    """

    fingerprint: str
    epoch: int
    delivered: int


class Patches(Sequence["Patch"], ABC):
    """A sequence of patches, the same in every process. A pickle of it is small and needs no frames.

    Iterating counts what was delivered; :meth:`state_dict` returns that, and after :meth:`load_state_dict` the next iteration
    goes on from there. An index always means the whole epoch.
    """

    def __init__(self) -> None:
        self._epoch = 0
        self._delivered = 0
        # Where the next iteration starts; not 0 only after load_state_dict.
        self._start = 0

    @abstractmethod
    def __len__(self) -> int:
        """The number of patches in an epoch."""

    @abstractmethod
    def _make(self, epoch: int, index: int) -> Patch:
        """The patch at ``index``, which is at least 0 and below the length, in an epoch."""

    @abstractmethod
    def _definition(self) -> Iterator[object]:
        """Everything on which the patches depend, but the epoch; values with a stable ``repr``, or bytes."""

    @property
    def epoch(self) -> int:
        """The number of the epoch; random patches differ between epochs."""
        return self._epoch

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """Go to the beginning of an epoch.

        Raises:
            ValueError: it is not a number from 0.
        """
        self._epoch, self._delivered, self._start = _to_epoch(epoch), 0, 0

    @overload
    def __getitem__(self, index: SupportsIndex) -> Patch: ...

    @overload
    def __getitem__(self, index: slice) -> list[Patch]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Patch | list[Patch]:
        if isinstance(index, slice):
            return [self._make(self._epoch, number) for number in range(len(self))[index]]
        return self.at(index)

    def at(self, index: SupportsIndex, *, epoch: SupportsIndex | None = None) -> Patch:
        """The patch at ``index`` in any epoch; ``None``: the present one. Changes nothing, so threads may call it at once.

        Raises:
            IndexError: there is no such patch.
            ValueError: the epoch is not a number from 0.
        """
        number, count = operator.index(index), len(self)
        if not -count <= number < count:
            raise IndexError(f"patch {number} of {count:,}")
        return self._make(self._epoch if epoch is None else _to_epoch(epoch), number % count)

    def __iter__(self) -> Iterator[Patch]:
        start, self._start = self._start, 0
        self._delivered = start
        for number in range(start, len(self)):
            self._delivered = number + 1
            yield self._make(self._epoch, number)

    def shuffled(self, seed: SupportsIndex = 0, *, locality: SupportsIndex | None = None) -> Shuffled:
        """The same patches in random order, another one in each epoch.

        Args:
            seed: of the order.
            locality: over how many batches a loader may sort its reads, so that tiles that several of them need are decoded
                once. The order in which patches are delivered stays the same. ``None``: one.
        """
        return Shuffled(self, seed, locality=locality)

    def shard(self, rank: SupportsIndex, world_size: SupportsIndex, *, uneven: Uneven = "pad") -> Sharded:
        """The share of one of several processes: every ``world_size``-th patch.

        Args:
            rank: the number of the process, from 0.
            world_size: how many processes there are.
            uneven: what happens if their number does not divide that of the patches. ``"pad"``: the first patches are
                repeated, marked by ``is_repeat``; ``"drop"``: the last ones are left out; ``"keep"``: some processes get one
                less.

        Raises:
            PatchError: there is no such rank, or it would get nothing.
        """
        return Sharded(self, rank, world_size, uneven=uneven)

    # -- resuming -------------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """A digest of everything on which the patches depend, but the epoch."""
        digest = hashlib.blake2b(digest_size=12)
        for part in (type(self).__name__, *self._definition()):
            data = part if isinstance(part, bytes) else repr(part).encode()
            # Lengths, so that no two definitions give the same bytes.
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def state_dict(self) -> PatchesState:
        """How far the iteration has come."""
        return {"fingerprint": self.fingerprint, "epoch": self._epoch, "delivered": self._delivered}

    def load_state_dict(self, state: PatchesState) -> None:
        """Go on from a state: the next iteration yields what was not delivered.

        Raises:
            PatchError: it is not a state of these patches.
        """
        epoch, delivered = check_state(state, self.fingerprint, len(self))
        self.set_epoch(epoch)
        self._delivered = self._start = delivered


class _View(Patches):
    """Patches in another order, or some of them."""

    def __init__(self, source: Patches) -> None:
        super().__init__()
        self._source = source
        self._epoch = source.epoch

    @property
    def source(self) -> Patches:
        """The patches that this is a view of."""
        return self._source

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """As :meth:`Patches.set_epoch`, for the source, too."""
        super().set_epoch(epoch)
        self._source.set_epoch(epoch)


class Shuffled(_View):
    """Patches in random order; made by :meth:`Patches.shuffled`.

    Attributes:
        locality: over how many batches a loader may sort its reads.
    """

    def __init__(self, source: Patches, seed: SupportsIndex, *, locality: SupportsIndex | None = None) -> None:
        super().__init__(source)
        self._seed = check_seed(seed)
        self.locality = 1 if locality is None else to_count("locality", locality, "a number of batches")
        self._orders = EpochOrders(len(source), self._seed)

    def __len__(self) -> int:
        return len(self._source)

    def _make(self, epoch: int, index: int) -> Patch:
        return self._source.at(self._orders[epoch][index], epoch=epoch)

    def _definition(self) -> Iterator[object]:
        # Without the locality, which changes no patch.
        yield from (self._source.fingerprint, self._seed)

    def __repr__(self) -> str:
        return f"{self._source!r}.shuffled({self._seed})"


class Sharded(_View):
    """The share of one of several processes; made by :meth:`Patches.shard`.

    Its state counts the patches of all ranks, so that the state of any rank serves all, in any number. After
    :meth:`load_state_dict` it is the share of those that were not delivered.
    """

    def __init__(
        self, source: Patches, rank: SupportsIndex, world_size: SupportsIndex, *, uneven: Uneven = "pad"
    ) -> None:
        super().__init__(source)
        self._share = Share.of(rank, world_size, uneven, len(source))
        self._first = 0

    def __len__(self) -> int:
        return self._share.count(len(self._source) - self._first)

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """As :meth:`Patches.set_epoch`; the share is again one of all patches."""
        super().set_epoch(epoch)
        self._first = 0

    def state_dict(self) -> PatchesState:
        """How far all ranks have come, if they have delivered as many patches each."""
        delivered = min(self._first + self._delivered * self._share.world_size, len(self._source))
        return {"fingerprint": self.fingerprint, "epoch": self._epoch, "delivered": delivered}

    def load_state_dict(self, state: PatchesState) -> None:
        """Take the share of the patches that were not delivered."""
        epoch, delivered = check_state(state, self.fingerprint, len(self._source))
        self.set_epoch(epoch)
        self._first = delivered

    @property
    def fingerprint(self) -> str:
        """That of the source: ranks share one state."""
        return self._source.fingerprint

    def _make(self, epoch: int, index: int) -> Patch:
        place, count = self._first + self._share.place(index), len(self._source)
        patch = self._source.at(place % count, epoch=epoch)
        return patch if place < count else replace(patch, is_repeat=True)

    def _definition(self) -> Iterator[object]:
        yield self._source.fingerprint

    def __repr__(self) -> str:
        return f"{self._source!r}.shard({self._share.rank}, {self._share.world_size})"


@dataclass(frozen=True, slots=True)
class Share:
    """Which places of a sequence one of several processes gets: every ``world_size``-th.

    Attributes:
        rank: the number of the process.
        world_size: how many processes there are.
        uneven: what happens if the places cannot be shared out evenly.
    """

    rank: int
    world_size: int
    uneven: Uneven

    @classmethod
    def of(cls, rank: SupportsIndex, world_size: SupportsIndex, uneven: Uneven, count: int) -> Share:
        """The share of ``count`` places.

        Raises:
            PatchError: there is no such rank, or it would get nothing.
        """
        check_choice("uneven", uneven, Uneven)
        share = cls(operator.index(rank), operator.index(world_size), uneven)
        if not 0 <= share.rank < share.world_size:
            raise PatchError(f"rank {share.rank} of {share.world_size}; give a rank from 0 to world_size - 1")
        if not share.count(count):
            raise PatchError(
                f"rank {share.rank} of {share.world_size} gets none of the {count:,} patches; use fewer ranks"
            )
        return share

    def count(self, total: int) -> int:
        """How many of ``total`` places it gets."""
        return {
            "pad": -(-total // self.world_size),
            "drop": total // self.world_size,
            "keep": -(-(total - self.rank) // self.world_size),
        }[self.uneven]

    def place(self, number: int) -> int:
        """Its place with this number; beyond the total it is one to be repeated, from the first on."""
        return number * self.world_size + self.rank


def check_state(state: object, fingerprint: str, count: int) -> tuple[int, int]:
    """The epoch and the number of delivered items of a state.

    Raises:
        PatchError: it is not a state, or one of other patches.
    """
    try:
        found, epoch, delivered = state["fingerprint"], int(state["epoch"]), int(state["delivered"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError) as error:
        raise PatchError(f"not a state of patches: {shorten(state)}; give what state_dict() returned") from error
    if found != fingerprint:
        raise PatchError(
            f"the state has the fingerprint {found}, these patches {fingerprint}: another dataset, patch shape or seed; "
            "make the patches as in the run that is to be resumed"
        )
    if not 0 <= delivered <= count or epoch < 0:
        raise PatchError(f"the state counts {delivered:,} of {count:,} patches in epoch {epoch}")
    return epoch, delivered


def _to_epoch(epoch: SupportsIndex) -> int:
    number = operator.index(epoch)
    if number < 0:
        raise ValueError(f"epoch={number}; epochs are counted from 0")
    return number
