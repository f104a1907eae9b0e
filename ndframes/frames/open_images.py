"""OpenImages: the images that are open, within a budget of memory, each checked for changes before it is used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from ..system.memory import ClockCache

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ..items.item import LazyImage

__all__ = ["ItemMaker", "OpenImages"]


class ItemMaker(Protocol):
    """Makes an image that is not open."""

    def __call__(self, image_id: Hashable, on_open: Callable[[], None]) -> LazyImage:
        """Make it; ``on_open`` is called whenever it opened a file, since it then uses more memory."""


class OpenImages:
    """Images by id, opened when they are first used. Safe to share between threads and across a fork.

    Args:
        memory_bytes: the budget of memory; images that were not used lately are closed first.
        recheck_seconds: for how long a check of an image's sources is trusted; 0 checks before every use.
    """

    def __init__(self, *, memory_bytes: int, recheck_seconds: float) -> None:
        self._recheck_seconds = recheck_seconds
        self._images: ClockCache[Hashable, LazyImage] = ClockCache(memory_bytes, _memory_bytes_of)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def used_bytes(self) -> int:
        """The memory that the open images use."""
        return self._images.used_bytes

    def get(self, image_id: Hashable, make: ItemMaker) -> LazyImage:
        """The image, made again if one of its sources changed.

        Args:
            image_id: the image.
            make: makes it. An argument, since keeping it would tie this object to its owner in a reference cycle.

        Raises:
            ImageIdError: there is no such image.
        """
        try:
            image = self._images.get(image_id)
        except TypeError:  # not hashable, so not an id; make raises the error that explains it
            image = None
        if image is not None and (self._is_trusted(image) if self._recheck_seconds else image.is_current()):
            return image
        return self._open(image_id, make)

    def peek(self, image_id: Hashable) -> LazyImage | None:
        """The image if it is kept, without a look at its sources."""
        return self._images.get(image_id)

    def discard(self, image_id: Hashable) -> None:
        """Close an image, if it is open."""
        self._images.discard(image_id)

    def _open(self, image_id: Hashable, make: ItemMaker) -> LazyImage:
        image = make(image_id, lambda: self._update(image_id))
        # Two threads may make the same image: the later one is kept, and the other one lives as long as its read.
        self._images.put(image_id, image)
        return image

    def _update(self, image_id: Hashable) -> None:
        """Count the memory of an image again, which has opened a file."""
        image = self._images.get(image_id)
        if image is not None:
            self._images.put(image_id, image)

    def _is_trusted(self, image: LazyImage) -> bool:
        """Whether an image was checked within ``recheck_seconds``, or is current now."""
        # Taken before the check, which may be slow: trust begins when the files were looked at.
        now = time.monotonic()
        if now >= image.trusted_until:
            if not image.is_current():
                return False
            image.trusted_until = now + self._recheck_seconds
        return True


def _memory_bytes_of(image: LazyImage) -> int:
    return image.memory_bytes
