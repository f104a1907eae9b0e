"""The page of a pipeline: its pictures, its counts and its newest results in a browser, while it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from ..errors import NdframesError, StreamError, shorten
from ..server.access import make_access
from ..server.answers import Answer, Call, Endpoint, answer_json, answer_text
from ..server.app import make_app
from ..server.files import read_files
from ..server.serving import Server
from .page_pictures import Pictures
from .page_state import Observed, StateReport

if TYPE_CHECKING:
    from .algorithm import Algorithm
    from .values import Frame

__all__ = ["Page", "PageOptions"]
_MOST_PX = 960
_WAIT_SECONDS = 1.0  # for a new picture; short, since a browser opens few connections
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class PageOptions:
    """How a page is served; see :meth:`ndframes.stream.Pipeline.serve`."""

    port: int
    host: str
    token: str | None = field(repr=False)
    hosts: Iterable[str]
    fps: float

    def __post_init__(self) -> None:
        if isinstance(self.fps, bool) or not isinstance(self.fps, Real) or not 0 < self.fps <= 1000:
            raise StreamError(
                f"serve(fps={shorten(self.fps)}); give the most pictures per second, above 0 and up to 1000"
            )


class Page:
    """Serves a pipeline.

    Args:
        pipeline: that is shown.
        algorithms: of the pipeline.
        options: how it is served.
        on_start: starts the pipeline.
        on_stop: stops the pipeline, and returns when it has ended.

    Attributes:
        address: of the page, with the token.

    Raises:
        AccessError: the token or a host is not allowed.
        ServerError: the port cannot be had.
    """

    def __init__(
        self,
        pipeline: Observed,
        algorithms: Sequence[Algorithm],
        options: PageOptions,
        *,
        on_start: Callable[[], object],
        on_stop: Callable[[], object],
    ) -> None:
        self._pipeline = pipeline
        self._on_start, self._on_stop = on_start, on_stop
        self._names = [str(source.name) for source in pipeline.sources]
        self._pictures = Pictures(pipeline.sources, fps=options.fps, most_px=_MOST_PX, is_over=self._is_over)
        self._report = StateReport(pipeline, algorithms, self._pictures)
        access = make_access(options.host, token=options.token, hosts=options.hosts)
        app = make_app(self._endpoints(), read_files("ndframes.stream"), access)
        self._server = Server(app, host=options.host, port=options.port)
        # What follows # is not sent by browsers, so it is in no log.
        self.address = f"{self._server.address}#token={access.token}"

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()

    def stop(self, timeout: float) -> bool:
        """End it; returns whether it has ended within so many seconds."""
        return self._server.stop(timeout)

    def show(self, frame: Frame, image: Any) -> None:
        """Take in a frame as it is shown."""
        self._pictures.show(frame, image)

    def _endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("GET", "/state", self._get_state),
            Endpoint("GET", "/sources/{number}/picture", self._get_picture),
            Endpoint("POST", "/start", self._post_start),
            Endpoint("POST", "/stop", self._post_stop),
        ]

    def _is_over(self) -> bool:
        return self._pipeline.state in ("stopped", "failed")

    async def _get_state(self, _: Call) -> Answer:
        return answer_json(self._report.make())

    async def _get_picture(self, call: Call) -> Answer:
        number, after = _to_count(call.parameters["number"]), _to_count(call.query.get("after", "-1"))
        if number is None or not 0 <= number < len(self._names):
            return answer_text(f"there is no such source; give a number from 0 to {len(self._names) - 1}", 404)
        if after is None:
            return answer_text("after=... is not the index of a frame; give a whole number", 400)
        name = self._names[number]
        deadline = time.monotonic() + _WAIT_SECONDS
        while (picture := self._pictures.find(name, after)) is None:
            if time.monotonic() >= deadline or await call.is_over():
                return Answer(status=204)
            await asyncio.sleep(_LOOK_SECONDS)
        try:
            body = self._pictures.encode(name, picture)
        except ValueError as error:
            return answer_text(f"frame {picture.frame.index:,} of {name} cannot be shown: {error}", 422)
        headers = {"x-frame-index": str(picture.frame.index), "x-frame-time": f"{picture.frame.time:.3f}"}
        return Answer(body, "image/jpeg", headers=headers)

    async def _post_start(self, _: Call) -> Answer:
        try:
            self._on_start()
        except NdframesError as error:
            return answer_text(str(error), 409)
        return answer_json(self._report.make(), 202)

    async def _post_stop(self, _: Call) -> Answer:
        if self._pipeline.state == "idle":
            return answer_text("the pipeline has not been started", 409)
        # In a thread: an algorithm may take long to end.
        threading.Thread(target=self._on_stop, name="ndframes-page-stop", daemon=True).start()
        return answer_json(self._report.make(), 202)


def _to_count(text: str) -> int | None:
    """A whole number of few digits."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) <= 15 else None
