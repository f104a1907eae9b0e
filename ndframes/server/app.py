"""Application: endpoints and files behind the guard, as an ASGI application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from ..errors import MissingExtraError

try:
    from starlette.requests import ClientDisconnect, Request
except ImportError as missing:
    raise MissingExtraError(
        'an HTTP server needs starlette: pip install "ndframes[serve]"', name="starlette"
    ) from missing

from .answers import Answer, Call, Endpoint, answer_text
from .exchanges import name_endpoint
from .guard import Guard
from .jobs import ClientGoneError
from .routes import Routes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from .access import Access

__all__ = ["PAGES", "make_app"]
#: The paths of static files, as those of endpoints are: with names in braces.
PAGES = ("/", "/static/{name}")
# Answers of these have no content, and so no length of it.
_WITHOUT_CONTENT = (204, 304)


def make_app(endpoints: Sequence[Endpoint], files: Mapping[str, Answer], access: Access) -> ASGIApp:
    """An application.

    Args:
        endpoints: each needs the token.
        files: static files by name, under ``/static/``; ``index.html`` is ``/``. They need no token.
        access: who may ask.
    """
    pages = {"/" if name == "index.html" else f"/static/{name}": answer for name, answer in files.items()}
    routes = Routes([*endpoints, *(Endpoint("GET", path, _serve_file(answer)) for path, answer in pages.items())])
    return _Application(routes, Guard(access, frozenset(pages)))


class _Application:
    """Answers requests, as ASGI defines it.

    The routes and answers of starlette take a good part of the time of a stored tile, so only the rare parts of a request come from it.

    Args:
        routes: the endpoints.
        guard: decides which requests are answered.
    """

    def __init__(self, routes: Routes, guard: Guard) -> None:
        self._routes = routes
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            raise RuntimeError(f"this server answers HTTP, not {scope['type']}")
        mount, path = scope.get("root_path", ""), scope["path"]
        path = path[len(mount) :] if mount and path.startswith(f"{mount}/") else path
        passed = self._guard.look(path, scope)
        answer = passed.refusal
        if answer is None:
            request = _Request(scope, receive, f"{mount}{passed.prefix}")
            answer = await self._answer(request, path[len(passed.prefix) :])
        headers = _list_headers(answer, passed.headers)
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
        finally:
            if answer.on_end is not None:
                answer.on_end()

    async def _answer(self, request: _Request, path: str) -> Answer:
        found = self._routes.find(path)
        if found is None:
            return answer_text("Not Found", 404)
        method = request.scope["method"]
        endpoint = found.methods.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = [*found.methods, *(["HEAD"] if "GET" in found.methods else [])]
            return Answer(b"Method Not Allowed\n", status=405, headers={"allow": ", ".join(allowed)})
        name_endpoint(request.scope, PAGES[1] if endpoint.path.startswith("/static/") else endpoint.path)
        return await endpoint.function(request.to_call(found.parameters))


class _Request:
    """A request that is allowed.

    Args:
        scope: as ASGI defines it.
        receive: likewise.
        prefix: of the path of each endpoint: what the application is mounted under, and the token.

    Attributes:
        scope: as given.
    """

    __slots__ = ("_prefix", "_receive", "_request", "scope")

    def __init__(self, scope: Scope, receive: Receive, prefix: str) -> None:
        self.scope = scope
        self._receive = receive
        self._prefix = prefix
        self._request: Request | None = None

    def to_call(self, parameters: Mapping[str, str]) -> Call:
        """What an endpoint is given."""
        scope = self.scope
        pairs = _split_query(scope["query_string"].decode("latin-1"))
        # Of several headers of a name, the first one counts.
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        base = f"{scope['scheme']}://{headers['host']}{self._prefix}"
        return Call(parameters, dict(pairs), self.is_over, pairs, headers, self.read_body, base, scope["method"])

    async def is_over(self) -> bool:
        """Whether the client has gone."""
        return await self._find_request().is_disconnected()

    async def read_body(self, most_bytes: int) -> bytes | None:
        """The body, up to so many bytes; ``None`` if it is longer.

        Raises:
            ClientGoneError: the client has gone before it had sent all of it.
        """
        # The server has checked that it is a number. A client that announces too much need not send it.
        announced = next((int(value) for name, value in self.scope["headers"] if name == b"content-length"), 0)
        if announced > most_bytes:
            return None
        body = bytearray()
        try:
            async for chunk in self._find_request().stream():
                body += chunk
                if len(body) > most_bytes:
                    return None
        except ClientDisconnect as error:
            raise ClientGoneError from error
        return bytes(body)

    def _find_request(self) -> Request:
        """The request of starlette, which remembers what has been received."""
        if self._request is None:
            self._request = Request(self.scope, self._receive)
        return self._request


def _split_query(text: str) -> list[tuple[str, str]]:
    """The names and values of a query, in their order."""
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True)
    # Nothing is escaped, as in most: this is quicker.
    parts = (part.partition("=") for part in text.split("&") if part)
    return [(name, value) for name, _, value in parts]


def _serve_file(answer: Answer) -> Callable[[Call], Awaitable[Answer]]:
    async def serve(_: Call) -> Answer:
        return answer

    return serve


def _list_headers(answer: Answer, added: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, and those of security. An answer that never changes says itself how long it is kept."""
    own = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    if answer.body:
        own.append((b"content-type", answer.media_type.encode("latin-1")))
    if answer.status not in _WITHOUT_CONTENT:
        own.append((b"content-length", str(len(answer.body)).encode()))
    names = {name for name, _ in own}
    return own + [header for header in added if header[0] not in names]
