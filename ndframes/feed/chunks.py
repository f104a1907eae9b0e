"""Chunk: some requests with their pixels; and what is counted while chunks are delivered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["Chunk", "PrefetchStats"]


@dataclass(frozen=True, eq=False, slots=True)
class Chunk:
    """Some requests and their pixels; ``requests, array = chunk`` unpacks it.

    Attributes:
        requests: the requests that were read, as they were given.
        array: their pixels, ``(n, ...)`` in the order of the requests, or a list of arrays where shapes or dtypes differ. It
            belongs to the reader, who may keep it and write to it.
        failed: the requests that could not be read, each with its error; empty unless ``errors="skip"``.
    """

    requests: list[Any]
    array: Any
    failed: tuple[tuple[Any, Exception], ...] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.requests, self.array))

    def __len__(self) -> int:
        """The number of requests that were read."""
        return len(self.requests)

    def __repr__(self) -> str:
        shape = (
            f"{self.array.shape} {self.array.dtype}"
            if isinstance(self.array, np.ndarray)
            else "arrays of several shapes"
        )
        return f"<Chunk: {len(self.requests):,} requests, {shape}, {len(self.failed):,} failed>"


@dataclass(frozen=True, slots=True)
class PrefetchStats:
    """What a :class:`Prefetch` has done so far, in all its iterations.

    Attributes:
        chunks: how many chunks were delivered.
        bytes: the bytes of their pixels.
        copies: how many of the chunks were copied, because the consumer held all memory that workers share with it.
        consumer_waited_seconds: for how long the consumer waited for chunks; the start of the workers is in it.
        workers_waited_seconds: for how long all workers together waited for the consumer.
    """

    chunks: int = 0
    bytes: int = 0
    copies: int = 0
    consumer_waited_seconds: float = 0.0
    workers_waited_seconds: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """The values by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
