"""OpenImages: the images that are open, within a budget of memory, each checked for changes before it is used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from ..system.memory import ClockCache

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ..items.item import LazyImage

__all__ = ["OpenImages"]


class _ItemMaker(Protocol):
    def __call__(self, image_id: Hashable, on_open: Callable[[], None]) -> LazyImage: ...


class OpenImages:
    """Images by id, opened when they are first used. Safe to share between threads and across a fork.

    Args:
        make: makes an image that is not open; ``on_open`` is called whenever that image opened a file.
        memory_bytes: the budget of memory; images that were not used lately are closed first.
        recheck_seconds: for how long a check of an image's sources is trusted; 0 checks before every use.
    """

    def __init__(self, make: _ItemMaker, *, memory_bytes: int, recheck_seconds: float) -> None:
        self._make = make
        self._recheck_seconds = recheck_seconds
        self._images: ClockCache[Hashable, LazyImage] = ClockCache(memory_bytes, _memory_bytes_of)

    @property
    def used_bytes(self) -> int:
        """The memory that the open images use."""
        return self._images.used_bytes

    def get(self, image_id: Hashable) -> LazyImage:
        """The image, opened again if one of its sources changed.

        Raises:
            ImageIdError: there is no such image.
        """
        try:
            image = self._images.get(image_id)
        except TypeError:  # not hashable, so not an id; make raises the error that explains it
            image = None
        if image is not None and self._is_current(image):
            return image
        fresh = self._make(image_id, lambda: self._images.put(image_id, fresh))  # its memory has grown
        self._images.put(image_id, fresh)
        return fresh

    def discard(self, image_id: Hashable) -> None:
        """Close an image, if it is open."""
        self._images.discard(image_id)

    def _is_current(self, image: LazyImage) -> bool:
        if not self._recheck_seconds:
            return image.is_current()
        now = time.monotonic()
        if now >= image.trusted_until:
            if not image.is_current():
                return False
            image.trusted_until = now + self._recheck_seconds
        return True


def _memory_bytes_of(image: LazyImage) -> int:
    return image.memory_bytes
