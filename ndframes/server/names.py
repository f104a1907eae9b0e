"""Names: how the images of a server are called in addresses."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Hashable, Iterable
from operator import index
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ..errors import ImageIdError, shorten

if TYPE_CHECKING:
    from ..frames.collection import ImageCollection

__all__ = ["Names", "is_video", "key_from_json", "key_to_json"]
_ALLOWED = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_.-]+")
_MOST_COMPARED = 10_000
_MOST_CHARACTERS = 100


class Names:
    """The images of frames by name. A name is a key of this dictionary, and never part of a path.

    An id that is a text of 1 to 128 letters, digits, ``_``, ``-`` and ``.`` is its own name, and a whole number is named by its
    digits. Another id gets a name of the allowed characters in it, and of a path only its last part is used. If a name is
    taken, ``-2``, ``-3`` and so on is added. The videos of a dataset are named ``video-ID``.

    Args:
        frames: the images. Images that are added later get no name.

    Example:
        >>> import ndframes as nf
        >>> names = Names(nf.SimpleFrames({"cup": "a.png", 7: "b.png", "in/a b.png": "c.png", "in/a-b.png": "d.png"}))
        >>> list(names), names.find("7")
        (['cup', '7', 'a-b.png', 'a-b.png-2'], 7)
    """

    def __init__(self, frames: ImageCollection) -> None:
        self._ids: dict[str, Hashable] = {}
        self._names: dict[Hashable, str] = {}
        listed = list(frames.image_ids)
        #: The number of the images, without the videos of a dataset that follow them.
        self.image_count = len(listed)
        # Those that keep their names come first, so that no made name takes one of them.
        for image_id in listed:
            if _own_name(image_id) is not None:
                self._add(image_id)
        for image_id in [*listed, *_videos_of(frames)]:
            if image_id not in self._names:
                self._add(image_id)
        order = {image_id: self._names[image_id] for image_id in [*listed, *_videos_of(frames)]}
        self._ids = {name: image_id for image_id, name in order.items()}

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Any:
        return iter(self._ids)

    def find(self, name: str) -> Hashable:
        """The id of the image with a name.

        Raises:
            ImageIdError: there is none.
        """
        try:
            return self._ids[name]
        except KeyError as error:
            raise self._unknown(name) from error

    def name_of(self, image_id: Hashable) -> str | None:
        """The name of an image; ``None`` if it has none."""
        try:
            return self._names.get(image_id)
        except TypeError:  # not hashable, so not an id
            return None

    def _add(self, image_id: Hashable) -> None:
        wanted = _own_name(image_id) or _make_name(image_id)
        name, count = wanted, 1
        while name in self._ids:
            count += 1
            name = f"{wanted}-{count}"
        self._ids[name] = image_id
        self._names[image_id] = name

    def _unknown(self, name: str) -> ImageIdError:
        first = [*self._ids][:_MOST_COMPARED]
        close = difflib.get_close_matches(name[:_MOST_CHARACTERS], first, n=3)
        if close:
            return ImageIdError(f"no image {shorten(name)}; close: {', '.join(close)}")
        hint = f"the first is {shorten(first[0])}" if first else "so nothing can be read"
        return ImageIdError(f"no image {shorten(name)}; there are {len(self):,}, {hint}")


def key_to_json(image_id: Hashable, name: str) -> Any:
    """The id by which a client knows an image, as JSON: a whole number, ``["video", ID]``, or the name."""
    if _is_number(image_id):
        return index(image_id)  # type: ignore[arg-type]
    if is_video(image_id):
        return ["video", key_to_json(image_id[1], str(image_id[1]))]
    return name


def key_from_json(key: Any) -> Hashable:
    """The id that :func:`key_to_json` sent."""
    return (key[0], key[1]) if isinstance(key, list) and len(key) == 2 else key


def _own_name(image_id: Hashable) -> str | None:
    """The name of an id that is its own name."""
    if _is_number(image_id):
        return str(image_id)
    is_name = isinstance(image_id, str) and _ALLOWED.fullmatch(image_id) is not None
    return str(image_id) if is_name and image_id not in (".", "..") else None


def _make_name(image_id: Hashable) -> str:
    if is_video(image_id):
        image_id = f"video-{image_id[1]}"
    last = os.path.basename(os.path.normpath(image_id)) if isinstance(image_id, str) else str(image_id)
    text = _NOT_ALLOWED.sub("-", last).strip("-.")[:_MOST_CHARACTERS]
    return text or "image"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_video(image_id: object) -> TypeGuard[tuple[str, Hashable]]:
    """Whether an id is that of a video of a dataset, ``("video", ID)``."""
    return isinstance(image_id, tuple) and len(image_id) == 2 and image_id[0] == "video"


def _videos_of(frames: ImageCollection) -> Iterable[Hashable]:
    """The videos of a dataset, which are read like images, but are not among its images."""
    return [("video", video_id) for video_id in getattr(frames, "video_ids", ())]
