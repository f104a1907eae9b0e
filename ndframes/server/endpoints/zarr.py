"""Zarr: images, sequences and videos as arrays of chunks, for readers of Zarr 3 and OME-Zarr 0.5."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ...errors import ImageIdError
from ..answers import Endpoint
from ..catalogue import check_parameters
from ..conditional import answer_conditionally
from ..work import Body, Work
from ..zarr_chunks import ZarrImages, gone, missing
from ..zarr_metadata import parse_key

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from ..answers import Answer, Call
    from ..reads import Reads
    from ..zarr_metadata import ZarrKey

__all__ = ["ZarrEndpoints"]
_TYPE = "application/octet-stream"
_IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}
# The state in it may be another one at any time.
_PRESENT = {"cache-control": "private, no-cache"}
_FORMS = {"zarr": False, "zarr-planar": True}


class ZarrEndpoints:
    """``/zarr/NAME/...``, with chunks as tiles are stored, and ``/zarr-planar/NAME/...``, with chunks of one channel.

    Args:
        reads: of the service.
    """

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._images = {form: ZarrImages(reads.frames, is_planar=is_planar) for form, is_planar in _FORMS.items()}

    def __iter__(self) -> Iterator[Endpoint]:
        """Its endpoints."""
        for form, images in self._images.items():
            get = partial(self._get, images)
            yield Endpoint("GET", f"/{form}/{{name}}", get)
            yield Endpoint("GET", f"/{form}/{{name}}/{{key:path}}", get)

    async def _get(self, images: ZarrImages, call: Call) -> Answer:
        check_parameters(call.query, ())
        key = parse_key(call.parameters.get("key", ""))
        if key is None:
            raise missing("read zarr.json of an image, which lists its arrays")
        try:
            answer = await self._answer(images, key, call)
        except ImageIdError as error:
            # Who knows a state has read the image before, and would take a missing chunk for zeros.
            if key.state is not None:
                raise gone() from error
            raise
        headers = _PRESENT if key.state is None else _IMMUTABLE
        return answer_conditionally(replace(answer, headers={**answer.headers, **headers}), call)

    async def _answer(self, images: ZarrImages, key: ZarrKey, call: Call) -> Answer:
        image_id = self._reads.find(call)
        if key.chunk is None:
            describe = partial(images.describe, image_id, call.parameters["name"], key)
            return await self._reads.answer_value(describe, call, image_ids=[image_id])
        body = await self._reads.load(image_id, partial(self._plan, images, image_id, key), call)
        return self._reads.answer(body)

    def _plan(self, images: ZarrImages, image_id: Hashable, key: ZarrKey) -> Work:
        def make() -> Body:
            return Body(images.load(image_id, key), _TYPE)

        return Work(images.measure(image_id, key), make)
