"""Arrays: pixels of regions, as :meth:`~ndframes.Frames.load_region` gives them."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import RegionError, naming_image
from ...geometry.affine import invert, to_affine
from ...pixels.options import ReadOptions
from ...pixels.results import result_dtype
from ..answers import Endpoint
from ..bodies import MEDIA_TYPES, encode_arrays, encode_pixels
from ..limits import Cost, measure
from ..problems import Problem
from ..regions import order_axes
from ..requests import batch_from_json, wanted_from_query, warp_from_json
from ..states import States
from ..work import Body, Work

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from ..answers import Answer, Call
    from ..names import Names
    from ..reads import Reads
    from ..requests import Batch, Wanted, Warp

__all__ = ["ArrayEndpoints"]
_MOST_BODY_BYTES = 2**20
# That of Lanczos.
_WIDEST_KERNEL_PX = 6
_MOST_COORDINATE = 1e12


class ArrayEndpoints:
    """``/frames/NAME/region``, ``/regions`` and ``/warped``.

    Args:
        reads: of the service.
        names: of the images.
    """

    def __init__(self, reads: Reads, names: Names) -> None:
        self._reads = reads
        self._frames = reads.frames
        self._names = names
        self._states = States(reads.frames)

    def __iter__(self) -> Iterator[Endpoint]:
        """Its endpoints."""
        yield Endpoint("GET", "/frames/{name}/region", self._get_region)
        yield Endpoint("POST", "/regions", self._post_regions)
        yield Endpoint("POST", "/warped", self._post_warped)

    async def _get_region(self, call: Call) -> Answer:
        image_id = self._reads.find(call)
        wanted = wanted_from_query(call.parameters["name"], call.pairs)
        body = await self._reads.load(image_id, partial(self._plan_region, image_id, wanted), call)
        return self._reads.answer(body)

    async def _post_regions(self, call: Call) -> Answer:
        batch = batch_from_json(await _read_content(call))
        ids = [self._names.find(name) for name, _ in batch.items]
        body = await self._reads.load_all(dict.fromkeys(ids), partial(self._plan_batch, ids, batch), call)
        return self._reads.answer(body)

    async def _post_warped(self, call: Call) -> Answer:
        warp = warp_from_json(await _read_content(call))
        image_id = self._names.find(warp.name)
        body = await self._reads.load(image_id, partial(self._plan_warped, image_id, warp), call)
        return self._reads.answer(body)

    def _plan_region(self, image_id: Hashable, wanted: Wanted) -> Work:
        (region,), cost = self._measure([(image_id, wanted.region)], wanted)

        def make() -> Body:
            pixels = self._frames.load_region(image_id, region, wanted.channels, **wanted.options)
            self._check_state(image_id, wanted, region)
            return Body(encode_pixels(pixels, wanted.format), MEDIA_TYPES[wanted.format])

        # Steps and scales may go through more pixels than they return, and other formats compress.
        is_copied = wanted.format == "npy" and not wanted.options and not _has_steps(region)
        return Work(cost, make, cost.bytes if is_copied else None)

    def _check_state(self, image_id: Hashable, wanted: Wanted, region: Any) -> None:
        """Check that what has just been read is of the state that was asked for.

        Raises:
            Problem: a file has changed.
        """
        # Of an image, it is a row, and all files are looked at.
        first = region[0] if region else None
        time = first if isinstance(first, int) else None
        if wanted.state is not None and not self._states.is_read(image_id, wanted.state, time):
            raise Problem(410, "SourceChangedError", "a file of the image has changed; ask for its description again")

    def _plan_batch(self, ids: Sequence[Hashable], batch: Batch) -> Work:
        requests = [(image_id, region) for image_id, (_, region) in zip(ids, batch.items, strict=True)]
        regions, cost = self._measure(requests, batch)

        def make() -> Body:
            pairs = list(zip(ids, regions, strict=True))
            content, form = encode_arrays(
                self._frames.load_regions(pairs, batch.channels, **batch.options), batch.format
            )
            return Body(content, MEDIA_TYPES[form])

        return Work(cost, make)

    def _plan_warped(self, image_id: Hashable, warp: Warp) -> Work:
        with naming_image(image_id):
            image = self._frames.image(image_id)
            codes = image.select(warp.channels)
            itemsize = result_dtype(image.dtype(codes), ReadOptions.of(**warp.options)).itemsize
            pixels = max(warp.shape[0] * warp.shape[1], _count_taps(warp))

        def make() -> Body:
            warped = self._frames.load_warped(image_id, warp.transform, warp.shape, warp.channels, **warp.options)
            form = "zip" if isinstance(warped, np.ma.MaskedArray) else "npy"
            return Body(encode_pixels(warped, form), MEDIA_TYPES[form])

        size = warp.shape[0] * warp.shape[1] * len(codes) * itemsize
        return Work(Cost(pixels, size), make)

    def _measure(self, requests: Iterable[tuple[Hashable, Any]], wanted: Wanted | Batch) -> tuple[list[Any], Cost]:
        """The regions in the order of the axes, and what they cost together.

        Raises:
            RegionTooLargeError: they cost too much.
        """
        options = ReadOptions.of(**wanted.options)
        regions, cost = [], Cost(0, 0)
        for image_id, region in requests:
            with naming_image(image_id):
                image = self._frames.image(image_id)
                regions.append(order_axes(region, len(image.shape(wanted.channels))))
                cost += measure(image, regions[-1], wanted.channels, options)
                # Each time: a batch of thousands ends when it has become too large.
                self._reads.limits.check(cost)
        return regions, cost


async def _read_content(call: Call) -> bytes:
    """What was sent with a request.

    Raises:
        Problem: it is too long.
    """
    content = await call.read_body(_MOST_BODY_BYTES)
    if content is None:
        raise Problem(413, "RegionTooLargeError", f"a request of more than {_MOST_BODY_BYTES:,} bytes; send parts")
    return content


def _count_taps(warp: Warp) -> int:
    """The most weights of the pixels of a warp along one axis: a pixel that covers many of the image takes as many.

    Raises:
        RegionError: the transform is not an invertible affine matrix, or leads beyond all pixels.
    """
    img_from_out = invert(to_affine(warp.transform, "transform"))
    # Also infinities and not-a-numbers are not below.
    if not all(abs(value) <= _MOST_COORDINATE for value in img_from_out):
        raise RegionError(f"transform: a pixel of the result is {_MOST_COORDINATE:.0e} pixels away, or as large")
    across, across_by_row, _, down_by_col, down, _ = img_from_out
    covered = max(1.0, abs(across) + abs(across_by_row), abs(down_by_col) + abs(down))
    return math.ceil(max(warp.shape) * _WIDEST_KERNEL_PX * covered)


def _has_steps(region: Any) -> bool:
    """Whether a region, a tuple or ``None``, leaves pixels out, so that more are read than are returned."""
    return any(not isinstance(item, slice) or item.step not in (None, 1) for item in region or ())
