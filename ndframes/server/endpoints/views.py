"""Views: what the page shows beside pixels."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import RegionError, shorten
from ..answers import Endpoint
from ..catalogue import check_parameters
from ..limits import Cost
from ..regions import item_from_text
from ..views import Views
from ..work import Body, Work

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from ..answers import Answer, Call
    from ..reads import Reads

__all__ = ["ViewEndpoints"]
# What a small copy takes at most while it is made, by and large.
_COST = Cost(2**18, 2**23)


class ViewEndpoints:
    """``/frames/NAME/stats``, ``/frames/NAME/thumbnail`` and ``/frames/NAME/times``.

    Args:
        reads: of the service.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._views = Views(reads.frames)

    def __iter__(self) -> Iterator[Endpoint]:
        """Its endpoints."""
        yield Endpoint("GET", "/frames/{name}/stats", self._describe)
        yield Endpoint("GET", "/frames/{name}/thumbnail", self._draw)
        yield Endpoint("GET", "/frames/{name}/times", self._list_times)

    async def _describe(self, call: Call) -> Answer:
        image_id = self._reads.find(call)
        check_parameters(call.query, ("c", "channels", "t"))
        region: dict[str, Any] = {"c": _slice(call.query, "c"), "t": _number(call.query, "t")}
        describe = partial(self._views.describe_values, image_id, region, call.query.get("channels"))
        return await self._reads.answer_value(describe, call, image_ids=[image_id])

    async def _draw(self, call: Call) -> Answer:
        image_id = self._reads.find(call)
        check_parameters(call.query, ())
        return self._reads.answer(await self._reads.load(image_id, partial(self._plan_thumbnail, image_id), call))

    def _plan_thumbnail(self, image_id: Hashable) -> Work:
        return Work(_COST, lambda: Body(self._views.draw_thumbnail(image_id), "image/jpeg"))

    async def _list_times(self, call: Call) -> Answer:
        image_id = self._reads.find(call)
        check_parameters(call.query, ("t",))
        return await self._reads.answer_value(partial(self._views.list_times, image_id, _slice(call.query, "t")), call)


def _slice(query: Mapping[str, str], axis: str) -> slice:
    item = item_from_text(query.get(axis, ":"), axis)
    if not isinstance(item, slice):
        raise RegionError(f"{axis}={shorten(query[axis])}; give a slice, such as 0:8")
    return item


def _number(query: Mapping[str, str], axis: str) -> int:
    item = item_from_text(query.get(axis, "0"), axis)
    if not isinstance(item, int):
        raise RegionError(f"{axis}={shorten(query[axis])}; give a whole number")
    return item
