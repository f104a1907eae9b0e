"""Order: random numbers and permutations as pure functions of integers, equal on every machine and in every version.

numpy keeps its raw bit streams between versions, but not the numbers that its ``Generator`` makes from them (NEP 19). A run
that is resumed years later must see the same samples, so everything here is integer arithmetic.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex

from ..errors import shorten

__all__ = ["Draws", "EpochOrders", "Permutation", "check_seed", "mix"]
_MASK = (1 << 64) - 1
# Enough for ranges of at least 16 bits; smaller ones have hardly any bits to mix in a round.
_ROUNDS = 6
_ROUNDS_OF_SMALL = 16
_SMALL_BITS = 16


def mix(*words: int) -> int:
    """64 random bits from some integers, by the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).

    Example:
        >>> mix(0, 1) == mix(0, 1), mix(0, 1) == mix(1, 0)
        (True, False)
    """
    state = 0
    for word in words:
        # The increment keeps a word of zero from leaving the state as it is.
        state = (state ^ word) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def check_seed(seed: SupportsIndex) -> int:
    """A seed as an integer.

    Raises:
        ValueError: it is not an integer from 0 to 2**64 - 1.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number <= _MASK:
        raise ValueError(f"seed={shorten(seed)}; give an integer from 0 to 2**64 - 1")
    return number


class Draws:
    """The random numbers of one item, drawn one after the other.

    Args:
        words: integers that identify the item, such as a seed, an epoch and an index.

    Example:
        >>> draws = Draws(0, 0, 7)
        >>> [draws.below(10) for _ in range(5)]
        [2, 6, 5, 2, 2]
    """

    def __init__(self, *words: int) -> None:
        self._key = mix(*words)
        self._count = 0

    def bits(self) -> int:
        """The next 64 bits."""
        self._count += 1
        return mix(self._key, self._count)

    def below(self, stop: int) -> int:
        """An integer from 0 to ``stop - 1``, each as likely as the others to within 2**-64."""
        return self.bits() * stop >> 64

    def unit(self) -> float:
        """A number from 0 to 1, without 1."""
        return (self.bits() >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """A number from ``low`` to ``high``."""
        return low + (high - low) * self.unit()


class Permutation:
    """The integers below ``length`` in random order, computed one by one without a table.

    A Feistel network permutes the smallest power of two that is large enough; numbers beyond ``length`` are encrypted again
    until one fits ("cycle walking", Black and Rogaway, 2002), which takes two steps at most on average.

    Args:
        length: how many integers.
        words: integers that identify the order.

    Example:
        >>> order = Permutation(5, 0)
        >>> sorted(order[place] for place in range(5))
        [0, 1, 2, 3, 4]
    """

    def __init__(self, length: int, *words: int) -> None:
        self._length = length
        bits = max(2, (length - 1).bit_length())
        self._low_bits = bits // 2
        self._low_mask, self._high_mask = (1 << bits // 2) - 1, (1 << bits - bits // 2) - 1
        rounds = _ROUNDS if bits >= _SMALL_BITS else _ROUNDS_OF_SMALL
        self._keys = [mix(*words, number) for number in range(rounds)]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self._length:
            raise IndexError(f"place {place} of {self._length}")
        number = self._encrypt(place)
        while number >= self._length:
            number = self._encrypt(number)
        return number

    def _encrypt(self, number: int) -> int:
        high, low = number >> self._low_bits, number & self._low_mask
        # Each round changes one half by a function of the other, so it can be undone: no two numbers collide.
        for turn, key in enumerate(self._keys):
            if turn % 2:
                high ^= mix(key ^ low) & self._high_mask
            else:
                low ^= mix(key ^ high) & self._low_mask
        return high << self._low_bits | low


class EpochOrders:
    """An order of the integers below ``length`` for each epoch.

    Args:
        length: how many integers.
        words: integers that identify the orders.
    """

    def __init__(self, length: int, *words: int) -> None:
        self._length, self._words = length, words
        # The latest alone, since epochs come one after the other. Replaced as a whole, so that threads may share it.
        self._latest: tuple[int, Permutation] = (0, Permutation(length, *words, 0))

    def __getitem__(self, epoch: int) -> Permutation:
        known, order = self._latest
        if known != epoch:
            order = Permutation(self._length, *self._words, epoch)
            self._latest = (epoch, order)
        return order
