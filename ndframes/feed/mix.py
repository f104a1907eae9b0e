"""Mix: patches of several sources by weight."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np

from ..errors import PatchError, shorten
from .counts import to_count
from .order import Permutation, check_seed, mix
from .patches import Patches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .patch import Patch

__all__ = ["Mix"]
# Items whose sources are shuffled together. The share of a source differs from its weight by less than one item over each.
_BLOCK = 64
_UNIT = 1 << 32


class Mix(Patches):
    """Patches drawn from several sources by weight.

    Each source is walked in random order, and in another one when all its patches were drawn, over the epochs: none is drawn
    twice before all were drawn. The sources share their epoch with the mix.

    Args:
        sources: a mapping from patches to their weights, or pairs of both.
        length: the number of patches in an epoch.
        seed: of the order.

    Raises:
        PatchError: there are no sources, or the weights are not finite numbers from 0 with a sum above 0.
        ValueError: the seed is not an integer from 0.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.feed import GridPatches, RandomPatches
        >>> frames = nf.SimpleFrames.demo(backend=None)
        >>> mixed = Mix({RandomPatches(frames, 64, 500): 3, GridPatches(frames, 64): 1}, 1024)
        >>> sum(patch.kind == "grid" for patch in mixed)
        256
    """

    def __init__(
        self,
        sources: Mapping[Patches, float] | Iterable[tuple[Patches, float]],
        length: SupportsIndex,
        *,
        seed: SupportsIndex = 0,
    ) -> None:
        super().__init__()
        self._length, self._seed = to_count("length", length, "a number of patches"), check_seed(seed)
        pairs = list(sources.items() if isinstance(sources, Mapping) else sources)
        for pair in pairs:
            if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], Patches):
                raise PatchError(f"{shorten(pair)} is not a source; give pairs of patches and their weights")
        self._sources: list[Patches] = [source for source, _ in pairs]
        self._weights = _to_integers(self._sources, [weight for _, weight in pairs])
        # The last block that was needed: its number, the source of each item, and the rank of that item in its source.
        self._block: tuple[int, list[int], list[int]] = (-1, [], [])
        self.set_epoch(0)

    @property
    def sources(self) -> list[Patches]:
        """The sources."""
        return list(self._sources)

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """As :meth:`Patches.set_epoch`, for the sources, too."""
        super().set_epoch(epoch)
        for source in self._sources:
            source.set_epoch(epoch)

    def _make(self, epoch: int, index: int) -> Patch:
        # Counted over all epochs, so that the walk goes on.
        block, place = divmod(epoch * self._length + index, _BLOCK)
        number, chosen, ranks = self._block
        if number != block:
            number, chosen, ranks = self._block = (block, *self._arrange(block))
        source = self._sources[chosen[place]]
        turn, rank = divmod(ranks[place], len(source))
        item = Permutation(len(source), self._seed, chosen[place], turn)[rank]
        return replace(source.at(item, epoch=epoch), index=index)

    def _arrange(self, block: int) -> tuple[list[int], list[int]]:
        """The source of each item of a block, and how many items of that source come before it in all blocks."""
        before, after = self._count(block * _BLOCK), self._count((block + 1) * _BLOCK)
        slots = [
            source for source, (low, high) in enumerate(zip(before, after, strict=True)) for _ in range(high - low)
        ]
        order = sorted(range(_BLOCK), key=lambda place: mix(self._seed, block, place))
        chosen = [slots[place] for place in order]
        ranks = []
        for source in chosen:
            ranks.append(before[source])
            before[source] += 1
        return chosen, ranks

    def _count(self, total: int) -> list[int]:
        """How many of the first ``total`` items come from each source, by Webster's method of apportionment.

        It never takes an item away when the total grows, and is off from the exact share by less than an item or so.
        """
        whole = sum(self._weights)
        # In integers, so that two blocks never disagree by a rounding.
        counts = [(2 * total * weight + whole) // (2 * whole) for weight in self._weights]
        active = [source for source, weight in enumerate(self._weights) if weight]
        while sum(counts) < total:
            counts[
                min(active, key=lambda source: (Fraction(2 * counts[source] + 1, self._weights[source]), source))
            ] += 1
        while sum(counts) > total:
            counts[
                max(active, key=lambda source: (Fraction(2 * counts[source] - 1, self._weights[source]), source))
            ] -= 1
        return counts

    def _definition(self) -> Iterator[object]:
        yield self._length, self._seed, self._weights
        for source in self._sources:
            yield source.fingerprint

    def __repr__(self) -> str:
        return f"<Mix: {len(self):,} patches of {len(self._sources)} sources>"


def _to_integers(sources: list[Patches], weights: list[float]) -> list[int]:
    """Integers in proportion to the weights, to within 2**-32 of their sum.

    Raises:
        PatchError: they are not weights.
    """
    values = np.zeros(0)
    try:
        values = np.array(weights, np.float64)
        is_valid = bool(np.isfinite(values).all() and (values >= 0).all())
    except (TypeError, ValueError):
        is_valid = False
    if not is_valid:
        raise PatchError(f"the weights of {shorten(sources)} are {shorten(weights)}; give finite numbers from 0")
    total = math.fsum(values.tolist())
    if not total > 0:
        what = f"the weights of {shorten(sources)} sum to zero" if sources else "there are no sources"
        raise PatchError(f"{what}; give patches with a weight above 0")
    return [max(round(value / total * _UNIT), 1) if value else 0 for value in values.tolist()]
