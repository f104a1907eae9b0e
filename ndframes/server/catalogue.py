"""Catalogue: the images of a service as JSON, page by page."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import NdframesError, RegionError, shorten
from .names import Names, key_to_json
from .problems import make_problem

if TYPE_CHECKING:
    from ..frames.frames import Frames

__all__ = ["Catalogue", "check_parameters", "to_count", "to_limit"]
_MOST_DESCRIBED = 100
_MOST_LISTED = 10_000
_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


class Catalogue:
    """The images of a service as JSON.

    Args:
        frames: the images.
        names: their names.
    """

    def __init__(self, frames: Frames, names: Names) -> None:
        self._frames = frames
        self._names = names
        self._listed = list(names)
        self._positions = {name: position for position, name in enumerate(self._listed)}

    def page(self, query: Mapping[str, str]) -> Callable[[], dict[str, Any]]:
        """Some of the images: a function that lists them, which may open files.

        Args:
            query: ``after``, the name before the first one; ``limit``; ``details=0`` for names only; ``query``, which names
                contain, whatever the case.

        Raises:
            RegionError: a parameter is not allowed.
            ImageIdError: there is no image called ``after``.
        """
        check_parameters(query, ("after", "limit", "details", "query"))
        has_details = _BOOLEANS.get(query.get("details", "1").lower())
        if has_details is None:
            raise RegionError(f"details={shorten(query['details'])}; allowed: 1, 0")
        limit = to_limit(query.get("limit"), _MOST_DESCRIBED if has_details else _MOST_LISTED)
        first = self._position_after(query.get("after"))
        return partial(self._list, first, limit, query.get("query", "").casefold(), has_details=has_details)

    def describe(self, name: str, image_id: Hashable, channels: str | None = None) -> dict[str, Any]:
        """An image: its name, shape, dtype, channels and state. Converts nothing.

        Raises:
            ChannelError: it has no such channel.
            SourceError: one of its files cannot be read.
        """
        return {**self._identify(name, image_id), **self._frames.summarize(image_id, channels).to_dict()}

    def _list(self, first: int, limit: int, part: str, *, has_details: bool) -> dict[str, Any]:
        # Filtered from the start only for their count.
        count = sum(part in name.casefold() for name in self._listed) if part else len(self._listed)
        following = (name for name in islice(self._listed, first, None) if part in name.casefold())
        listed = []
        for name in islice(following, limit):
            image_id = self._names.find(name)
            entry = self._identify(name, image_id)
            if has_details:
                try:
                    entry = self.describe(name, image_id)
                except NdframesError as error:  # one image that cannot be read must not hide the others
                    entry |= make_problem(error, self._names).to_json()
            listed.append(entry)
        after = listed[-1]["id"] if next(following, None) is not None else None
        return {
            "frames": listed,
            "count": count,
            "images": self._names.image_count,
            "after": after,
            "has_annotations": isinstance(getattr(self._frames, "dataset", None), Mapping),
        }

    def _identify(self, name: str, image_id: Hashable) -> dict[str, Any]:
        return {"id": name, "key": key_to_json(image_id, name)}

    def _position_after(self, name: str | None) -> int:
        if name is None:
            return 0
        self._names.find(name)
        return self._positions[name] + 1


def check_parameters(query: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    """Check that a query has no other parameters.

    Raises:
        RegionError: it has.
    """
    if unknown := [name for name in query if name not in allowed]:
        raise RegionError(f"{shorten(unknown[0])} is not a parameter; allowed: {', '.join(allowed)}")


def to_limit(text: str | None, most: int) -> int:
    """The number of items that are asked for; ``most`` if none is given.

    Raises:
        RegionError: it is not a number from 1.
    """
    if text is None:
        return most
    limit = to_count("limit", text)
    if not limit:
        raise RegionError(f"limit=0; give a whole number from 1 to {most:,}")
    return min(limit, most)


def to_count(name: str, text: str) -> int:
    """A whole number from 0.

    Raises:
        RegionError: it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise RegionError(f"{name}={shorten(text)}; give a whole number from 0")
    return int(text)
