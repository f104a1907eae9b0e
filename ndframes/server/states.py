"""States: whether what has been read of an image is of a state of its files that a client knows."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from ..frames.summary import digest_files, stamp_files
from ..spec.pathinfo import PathInfo, SequenceInfo

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..frames.frames import Frames
    from ..frames.summary import FileStamp

__all__ = ["States"]
_KEPT = 64


class _Seen(NamedTuple):
    """A state and the stamps from which it was computed, for each image of a sequence."""

    info: PathInfo
    state: str
    stamps: tuple[tuple[FileStamp, ...], ...]


class States:
    """The states of images, as ``ImageSummary.state`` has them.

    Args:
        frames: the images.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()
        self._lock = Lock()

    def is_read(self, image_id: Hashable, state: str, time: int | None) -> bool:
        """Whether what has been read just now was of a state: files that have their stamps still had them during the read.

        Args:
            image_id: the image.
            state: which one.
            time: the only frame that was read, from 0; ``None``: others, too.
        """
        info = self._frames.pathinfo(image_id)
        if time is not None and isinstance(info, SequenceInfo) and 0 <= time < len(info.images):
            with self._lock:
                seen = self._seen.get(image_id)
            # Looking at one file, and not at the thousands of a long sequence for each of its frames.
            if seen is not None and seen.info is info and seen.state == state:
                return stamp_files(info.images[time], self._frames.look_at) == seen.stamps[time : time + 1]
        stamps = stamp_files(info, self._frames.look_at)
        present = digest_files(stamps)
        with self._lock:
            self._seen[image_id] = _Seen(info, present, stamps)
            self._seen.move_to_end(image_id)
            while len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        return present == state
