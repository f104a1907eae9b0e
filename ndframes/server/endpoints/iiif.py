"""IIIF: pictures of images by the Image API 3.0."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..answers import Answer, Endpoint
from ..iiif import IIIF_TYPES, Iiif
from ..iiif_request import parse_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..answers import Call
    from ..reads import Reads

__all__ = ["IiifEndpoints"]
# May be kept, and is asked for again with its tag: the file may change at any time.
_KEPT = "private, no-cache"


class IiifEndpoints:
    """``/iiif/NAME``, its description, and its pictures.

    Args:
        reads: of the service.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._iiif = Iiif(reads.frames, reads.limits.max_pixels, splices=reads.is_own)

    def __iter__(self) -> Iterator[Endpoint]:
        """Its endpoints."""
        yield Endpoint("GET", "/iiif/{name}", self._redirect)
        yield Endpoint("GET", "/iiif/{name}/info.json", self._describe)
        yield Endpoint("GET", "/iiif/{name}/{region}/{size}/{rotation}/{last}", self._get_picture)

    async def _redirect(self, call: Call) -> Answer:
        self._reads.find(call)
        return Answer(status=303, headers={"location": f"{_address(call)}/info.json"})

    async def _describe(self, call: Call) -> Answer:
        describe = partial(self._iiif.describe, self._reads.find(call), _address(call))
        answer = await self._reads.answer_value(describe, call)
        wants_ld = "application/ld+json" in call.headers.get("accept", "")
        headers = {"link": self._iiif.profile_link, "vary": "accept"}
        return Answer(answer.body, IIIF_TYPES["ld"] if wants_ld else answer.media_type, headers=headers)

    async def _get_picture(self, call: Call) -> Answer:
        image_id = self._reads.find(call)
        text = "/".join(call.parameters[part] for part in ("region", "size", "rotation", "last"))
        shape = await self._reads.compute(image_id, partial(self._iiif.shape, image_id), call)
        picture = parse_request(text, shape, self._iiif.limits)
        known_tags = call.headers.get("if-none-match", "")
        body = await self._reads.load(image_id, partial(self._iiif.plan, image_id, picture, known_tags), call)
        link = f'{self._iiif.profile_link}, <{_address(call)}/{picture.canonical}>;rel="canonical"'
        headers = {"link": link}
        if body.tag is not None:
            headers |= {"etag": body.tag, "cache-control": _KEPT}
        answer = self._reads.answer(body, headers)
        return replace(answer, status=304) if body.is_known else answer


def _address(call: Call) -> str:
    return f"{call.base}/iiif/{call.parameters['name']}"
