"""Guard: the rules of access and the security headers of an application."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .answers import Answer

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from starlette.types import Scope

    from .access import Access, Refusal

__all__ = ["SECURITY_HEADERS", "Guard", "Passed"]
#: Without it, pages of other sites may show the page in a frame.
_NOT_EMBEDDED = "; frame-ancestors 'none'"
#: What a page may load and who may embed it. Scripts and styles come from files, so that no text of a user is run.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    f"base-uri 'none'; form-action 'none'{_NOT_EMBEDDED}"
)
SECURITY_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
#: The first part of a path that holds the token, as its second part.
_PREFIX = "/k/"


class Passed(NamedTuple):
    """A request that the guard has looked at.

    Attributes:
        prefix: the part of the path that holds the token; empty if there is none.
        headers: of the answer, besides its own.
        refusal: the answer, if the request is refused.
    """

    prefix: str
    headers: Sequence[tuple[bytes, bytes]]
    refusal: Answer | None = None


class Guard:
    """Decides which requests are answered, and adds security headers to each answer.

    A request may have the token in its path instead of a header: ``/k/TOKEN/frames`` is ``/frames``.

    Args:
        access: the rules.
        open_paths: paths that are read without the token: a browser sends none when it opens a page. They hold nothing of the user.
    """

    def __init__(self, access: Access, open_paths: Container[str]) -> None:
        self._access = access
        self._open_paths = open_paths
        policy = _POLICY.removesuffix(_NOT_EMBEDDED) if access.is_embeddable else _POLICY
        headers = {**SECURITY_HEADERS, "content-security-policy": policy}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        # Of answers under the prefix: pages of other sites may read them.
        shared = {**headers, "cross-origin-resource-policy": "cross-origin", "access-control-allow-origin": "*"}
        self._shared_headers = [(name.encode(), value.encode()) for name, value in shared.items()]

    def look(self, path: str, scope: Scope) -> Passed:
        """Look at a request.

        Args:
            path: without what the application is mounted under.
            scope: as ASGI defines it.
        """
        token = _find_token(path)
        is_open = path in self._open_paths and scope["method"] in ("GET", "HEAD")
        refusal = self._access.check(scope["headers"], needs_token=not is_open, path_token=token)
        if refusal is not None:
            return Passed("", self._headers, _refuse(refusal))
        return Passed("", self._headers) if token is None else Passed(f"{_PREFIX}{token}", self._shared_headers)


def _find_token(path: str) -> str | None:
    """The token in a path; ``None`` if there is none."""
    if not path.startswith(_PREFIX):
        return None
    return path.removeprefix(_PREFIX).partition("/")[0]


def _refuse(refusal: Refusal) -> Answer:
    headers = {"www-authenticate": "Bearer"} if refusal.status == 401 else {}
    return Answer(f"{refusal.why}\n".encode(), status=refusal.status, headers=headers)
