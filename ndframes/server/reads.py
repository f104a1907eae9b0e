"""Reads: what the endpoints of a service share, from the name of an image to an answer with pixels.

A read runs in the event loop if it is short: its image is open, its pixels come from tiles of a cache entry, and they are few. It
takes some tenths of a millisecond then, which is less than the way to a thread and back. All other reads run in threads.
"""

from __future__ import annotations

import resource
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import naming_image
from ..frames.frames import Frames
from ..items.image import AlignableImageData
from ..system.waiting import WouldOpenError, opening_nothing
from .answers import Answer, answer_json
from .jobs import Jobs
from .limits import BytesInUse
from .work import MOST_SHORT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from .answers import Call
    from .limits import ServiceLimits
    from .names import Names
    from .work import Body, Work

    _Result = TypeVar("_Result")

__all__ = ["Reads"]
# A read in the event loop that waited longer, not for the processor, says that the disk is slow. Others must not wait for the next one.
_LONG_SECONDS = 0.02
# So that such waits take a tenth of the time of the event loop at most.
_PAUSE_FACTOR = 10.0


class Reads:
    """Reads of the images of a service, within its limits.

    Args:
        frames: the images.
        names: their names.
        limits: what requests may cost.

    Attributes:
        frames: the images.
        limits: what requests may cost.
        jobs: the threads.
        bytes: those in use.
        is_own: whether ``load_region`` is that of this package. One of a subclass may take long, and return other pixels.
    """

    def __init__(self, frames: Frames, names: Names, limits: ServiceLimits) -> None:
        self.frames = frames
        self.limits = limits
        self.jobs = Jobs(limits)
        self.bytes = BytesInUse(limits.max_total_bytes)
        self.is_own = type(frames).load_region is Frames.load_region
        self._pauses_until = 0.0
        self._names = names

    def find(self, call: Call) -> Hashable:
        """The id of the image that the path of a request names.

        Raises:
            ImageIdError: there is none of this name.
        """
        return self._names.find(call.parameters["name"])

    async def answer_value(self, make: Callable[[], Any], call: Call, *, image_ids: Iterable[Hashable] = ()) -> Answer:
        """What a function returns, as JSON.

        Args:
            make: runs in a thread.
            call: the request.
            image_ids: what is opened first, and converted if it is not in the cache.
        """
        return answer_json(await self.jobs.run(image_ids, self._open, make, call.is_over, _do_nothing))

    async def compute(self, image_id: Hashable, function: Callable[[], _Result], call: Call) -> _Result:
        """What a function returns that reads no pixel of an image: at once if the image is open, else from a thread."""
        try:
            with opening_nothing():
                if self._is_at_hand(image_id):
                    return function()
        except WouldOpenError:
            pass  # a file of it is not open, or has changed
        return await self.jobs.call(function, call.is_over)

    async def load(self, image_id: Hashable, plan: Callable[[], Work], call: Call) -> Body:
        """The content that a read of one image makes. Send it by :meth:`answer`, which gives its bytes back.

        Args:
            image_id: the image, which is opened first, and converted if it is not in the cache.
            plan: plans the read.
            call: the request.

        Raises:
            RegionTooLargeError: it costs more than a request may.
            Problem: too many bytes are in use; ask again.
        """
        try:
            with opening_nothing():
                work = plan() if self._is_at_hand(image_id) else None
                if work is not None and work.is_short:
                    return self._make_here(work)
        except WouldOpenError:
            pass  # a file of it is not open, or has changed, or its entry failed: a thread opens it
        return await self.load_all([image_id], plan, call)

    async def load_all(self, image_ids: Iterable[Hashable], plan: Callable[[], Work], call: Call) -> Body:
        """As :meth:`load`, of several images, and always in a thread."""
        return await self.jobs.run(image_ids, self._open, lambda: self._make(plan()), call.is_over, self._drop)

    def _is_at_hand(self, image_id: Hashable) -> bool:
        """Whether an image is open, and all of its pixels come as they are stored from small tiles of cache entries."""
        image = self.frames.peek(image_id) if self.is_own and time.monotonic() >= self._pauses_until else None
        if not isinstance(image, AlignableImageData):
            return False
        for part, info in enumerate(image.pathinfo.channels):
            entry = image.opened(part).entry
            if entry is None or entry.tiling is None or entry.tiling.tile_bytes > MOST_SHORT_BYTES:
                return False
            # A few pixels of an image may be many of a file that is placed in it.
            if not info.is_aligned:
                return False
        return True

    def _make_here(self, work: Work) -> Body:
        started, waits = time.monotonic(), _count_waits()
        try:
            return self._make(work)
        finally:
            ended = time.monotonic()
            if ended - started > _LONG_SECONDS and _count_waits() > waits:
                self._pauses_until = ended + _PAUSE_FACTOR * (ended - started)

    def _make(self, work: Work) -> Body:
        self.limits.check(work.cost)
        # The pixels, and the body that they are copied to.
        self.bytes.take(taken := 2 * work.cost.bytes)
        try:
            return work.make()._replace(taken_bytes=taken)
        except BaseException:
            self.bytes.give_back(taken)
            raise

    def answer(self, body: Body, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer with a content.

        Args:
            body: of :meth:`load`.
            headers: further ones.
        """
        given = dict(headers or {})
        if body.coding is not None:
            given["content-encoding"] = body.coding
        return Answer(body.content, body.media_type, headers=given, on_end=partial(self._drop, body))

    def _open(self, image_id: Hashable) -> None:
        """Open an image, and convert it if it is not in the cache."""
        with naming_image(image_id):
            image = self.frames.image(image_id)
            for part, _ in image.bands_by_part(image.select(None)):
                image.opened(part)

    def _drop(self, body: Body) -> None:
        self.bytes.give_back(body.taken_bytes)


def _count_waits() -> int:
    """How often this thread has given up the processor by itself, to wait for a disk or a lock."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _do_nothing(_: object) -> None:
    pass
