"""Service: frames over HTTP, as an application for any ASGI server."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from .._version import __version__
from ..errors import IiifError, NdframesError
from ..frames.frames import check_frames
from ..system.process import count_descriptors, resident_bytes
from .access import make_access
from .access_log import AccessLog
from .answers import Answer, Call, Endpoint, answer_json
from .app import PAGES, make_app
from .endpoints.arrays import ArrayEndpoints
from .endpoints.iiif import IiifEndpoints
from .endpoints.listing import ListingEndpoints
from .endpoints.stored_tiles import StoredEndpoints
from .endpoints.views import ViewEndpoints
from .endpoints.zarr import ZarrEndpoints
from .exchanges import Observed
from .files import read_files
from .jobs import ClientGoneError, Jobs
from .limits import ServiceLimits
from .metrics import Board, Metrics
from .names import Names
from .problems import Problem, make_problem
from .prometheus import TEXT_TYPE, Family, Sample, format_families
from .reads import Reads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.types import Receive, Scope, Send

    from ..frames.frames import Frames
    from .access import Access

__all__ = ["Service", "create_app"]
_LOG = logging.getLogger("ndframes.server")
_GONE = 499  # nobody reads it


def create_app(
    frames: Frames,
    *,
    token: str | None = None,
    host: str = "127.0.0.1",
    hosts: Iterable[str] = (),
    limits: ServiceLimits | None = None,
    is_embeddable: bool = False,
) -> Service:
    """An application that serves frames over HTTP, for any ASGI server.

    :doc:`/service` describes its addresses. :func:`ndframes.connect` reads from it as if its images were here.

    Args:
        frames: the images. Those that are added later are not served.
        token: what each request must send as ``Authorization: Bearer TOKEN``: 16 to 256 letters, digits, ``_`` and ``-``.
            ``None`` makes a random one, the application's attribute ``token``.
        host: the address at which the server will listen. At loopback, requests must name a host of loopback.
        hosts: further names under which it is reached, such as that of a proxy. Requests for other names are refused.
        limits: what requests may cost; ``None``: the defaults of :class:`~ndframes.server.ServiceLimits`.
        is_embeddable: whether pages of other sites may show its page in a frame, as notebooks do.

    Raises:
        MissingExtraError: starlette is not installed.
        AccessError: the token or a host is not allowed.
        TypeError: ``frames`` holds no images.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.server import create_app
        >>> app = create_app(nf.SimpleFrames.demo(workdir=getfixture("tmp_path")), token="a-token-of-this-test")
        >>> app.token
        'a-token-of-this-test'
    """
    check_frames(frames)
    access = make_access(host, token=token, hosts=hosts, is_embeddable=is_embeddable)
    return Service(frames, access, limits or ServiceLimits())


class Service:
    """Frames over HTTP; see :func:`create_app`.

    Attributes:
        token: what each request must send.
    """

    def __init__(self, frames: Frames, access: Access, limits: ServiceLimits, *, board: Board | None = None) -> None:
        self._frames = frames
        self._limits = limits
        self._names = Names(frames)
        self._reads = Reads(frames, self._names, limits)
        # Of its own, so that a service whose threads are busy can still be observed.
        self._upkeep = Jobs(replace(limits, threads=1))
        self._answered = self._failed = 0
        self.token = access.token
        endpoints = self._endpoints()
        self._metrics = Metrics([*(each.path for each in endpoints), *PAGES], self._tell, board or Board())
        observers = (self._metrics.count, AccessLog(self.token).write)
        self._app = Observed(make_app(endpoints, read_files(__package__), access), observers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI defines it."""
        await self._app(scope, receive, send)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._frames!r}>"

    def publish(self) -> None:
        """Write its present numbers to the board that it shares with other processes."""
        self._metrics.publish()

    def close(self) -> None:
        """End its threads when they are done, without waiting for them."""
        self._reads.jobs.close()
        self._upkeep.close()

    def _endpoints(self) -> list[Endpoint]:
        endpoints = chain(
            (
                Endpoint("GET", "/health", self._get_health),
                Endpoint("GET", "/stats", self._get_stats),
                Endpoint("GET", "/metrics", self._get_metrics),
            ),
            ListingEndpoints(self._reads, self._names),
            ArrayEndpoints(self._reads, self._names),
            StoredEndpoints(self._reads),
            IiifEndpoints(self._reads),
            ViewEndpoints(self._reads),
            ZarrEndpoints(self._reads),
        )
        return [replace(each, function=partial(self._answer, each.function)) for each in endpoints]

    async def _answer(self, function: Callable[[Call], Awaitable[Answer]], call: Call) -> Answer:
        """Call an endpoint; its errors become answers."""
        try:
            answer = await function(call)
        except ClientGoneError:
            return Answer(status=_GONE)
        except Exception as error:  # noqa: BLE001 - logged, and answered without what it may show
            self._failed += 1
            return self._answer_problem(error)
        self._answered += 1
        return answer

    def _answer_problem(self, error: Exception) -> Answer:
        problem = make_problem(error, self._names)
        # 501 is a request for what IIIF does not offer here.
        if problem.status >= 500 and not isinstance(error, (Problem, IiifError)):
            _LOG.error("a request failed: %s", error, exc_info=None if isinstance(error, NdframesError) else error)
        answer = answer_json(problem.to_json(), problem.status)
        if problem.retry_seconds is None:
            return answer
        return Answer(answer.body, answer.media_type, answer.status, {"retry-after": f"{problem.retry_seconds:.0f}"})

    async def _get_health(self, _: Call) -> Answer:
        limits = {name: getattr(self._limits, name) for name in ("max_pixels", "max_bytes", "deadline_seconds")}
        return answer_json(
            {
                "status": "ok",
                "version": __version__,
                "images": len(self._names),
                "waiting": self._reads.jobs.waiting,
                "limits": limits,
            }
        )

    async def _get_stats(self, call: Call) -> Answer:
        jobs = self._reads.jobs
        cache = await self._upkeep.call(self._frames.cache.stat, call.is_over)
        return answer_json(
            {
                "answered": self._answered,
                "failed": self._failed,
                "refused": jobs.refused,
                "given_up": jobs.given_up,
                "left": jobs.left,
                "waiting": jobs.waiting,
                "bytes_in_use": self._reads.bytes.used,
                "cache": {"entries": cache.entries, "bytes": cache.total_bytes},
            }
        )

    async def _get_metrics(self, call: Call) -> Answer:
        cache = await self._upkeep.call(self._frames.cache.stat, call.is_over)
        families = [
            *self._metrics.collect(),
            Family("ndframes_cache_entries", "gauge", "Entries of the cache.", [Sample(cache.entries)]),
            Family("ndframes_cache_bytes", "gauge", "Bytes of the entries.", [Sample(cache.total_bytes)]),
        ]
        return Answer(format_families(families).encode(), TEXT_TYPE)

    def _tell(self) -> dict[str, float]:
        """What is counted here, and not by requests."""
        jobs = self._reads.jobs
        known = {"resident_memory_bytes": resident_bytes(), "open_descriptors": count_descriptors()}
        return {
            "refused": jobs.refused,
            "given_up": jobs.given_up,
            "left": jobs.left,
            "waiting_requests": jobs.waiting,
            "bytes_in_use": self._reads.bytes.used,
            "open_images": self._frames.open_image_count,
            **{name: value for name, value in known.items() if value is not None},
        }
