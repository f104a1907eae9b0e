"""Stored tiles: addresses whose answers never change, so that a client may keep them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..answers import Answer, Endpoint
from ..catalogue import check_parameters
from ..conditional import is_known
from ..stored import StoredTiles, accepts_zstd, tiles_from_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..answers import Call
    from ..reads import Reads

__all__ = ["StoredEndpoints"]
_IMMUTABLE = "private, max-age=31536000, immutable"


class StoredEndpoints:
    """``/frames/NAME/tiles`` and ``/frames/NAME/STATE/tiles/LEVEL``.

    Args:
        reads: of the service.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._stored = StoredTiles(reads.frames)

    def __iter__(self) -> Iterator[Endpoint]:
        """Its endpoints."""
        yield Endpoint("GET", "/frames/{name}/tiles", self._describe)
        yield Endpoint("GET", "/frames/{name}/{state}/tiles/{level}", self._get)

    async def _describe(self, call: Call) -> Answer:
        image_id = self._reads.find(call)
        check_parameters(call.query, ("t",))
        describe = partial(self._stored.describe, image_id, call.query.get("t"))
        return await self._reads.answer_value(describe, call, image_ids=[image_id])

    async def _get(self, call: Call) -> Answer:
        image_id = self._reads.find(call)
        wanted = tiles_from_query(call.parameters["state"], call.parameters["level"], call.query)
        is_zstd = accepts_zstd(call.headers)
        asked_for = repr((call.parameters["state"], call.parameters["level"], call.query))
        # Of the request and the coding: the state names the bytes, so what the client has is right for ever.
        known = '"' + hashlib.blake2b(asked_for.encode(), digest_size=12).hexdigest() + '-{}"'
        asked = call.headers.get("if-none-match", "")
        headers = {"cache-control": _IMMUTABLE, "vary": "accept-encoding"}
        for coding in ("zstd", "raw") if is_zstd else ("raw",):
            if known.format(coding) in asked:
                return Answer(status=304, headers={**headers, "etag": known.format(coding)})
        body = await self._reads.load(
            image_id, partial(self._stored.plan, image_id, wanted, accepts_zstd=is_zstd), call
        )
        tag = known.format(body.coding or "raw")
        answer = self._reads.answer(body, {**headers, "etag": tag})
        # "*" stands for any content, which is known to exist only now.
        return replace(answer, body=b"", status=304) if is_known(asked, tag) else answer
