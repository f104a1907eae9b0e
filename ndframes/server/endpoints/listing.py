"""Listing: the images, their descriptions and their annotations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..annotations import Annotations
from ..answers import Endpoint
from ..catalogue import Catalogue, check_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..answers import Answer, Call
    from ..names import Names
    from ..reads import Reads

__all__ = ["ListingEndpoints"]


class ListingEndpoints:
    """``/frames``, ``/frames/NAME`` and ``/annotations``.

    Args:
        reads: of the service.
        names: of the images.
    """

    def __init__(self, reads: Reads, names: Names) -> None:
        self._reads = reads
        self._catalogue = Catalogue(reads.frames, names)
        self._annotations = Annotations(reads.frames, names)

    def __iter__(self) -> Iterator[Endpoint]:
        """Its endpoints."""
        yield Endpoint("GET", "/frames", self._list)
        yield Endpoint("GET", "/frames/{name}", self._describe)
        yield Endpoint("GET", "/annotations", self._list_annotations)

    async def _list(self, call: Call) -> Answer:
        return await self._reads.answer_value(self._catalogue.page(call.query), call)

    async def _describe(self, call: Call) -> Answer:
        image_id = self._reads.find(call)
        check_parameters(call.query, ("channels",))
        name, channels = call.parameters["name"], call.query.get("channels")
        return await self._reads.answer_value(partial(self._catalogue.describe, name, image_id, channels), call)

    async def _list_annotations(self, call: Call) -> Answer:
        return await self._reads.answer_value(self._annotations.select(call.query), call)
