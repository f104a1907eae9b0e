"""Conditional answers: parts of a content, and no content where the client has it already."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .answers import Answer, Call

__all__ = ["answer_conditionally", "is_known"]
_RANGE = re.compile(r"bytes\s*=\s*(?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{0,18})|-(?P<count>[0-9]{1,18}))")
_TAG_BYTES = 12


def is_known(known_tags: str, tag: str) -> bool:
    """Whether a client has the content with this ``ETag``.

    Args:
        known_tags: a header ``If-None-Match``; ``*`` stands for any content that there is.
        tag: the ``ETag``.

    Example:
        >>> is_known('"a", W/"b"', '"b"'), is_known("*", '"b"'), is_known("", '"b"')
        (True, True, False)
    """
    return known_tags.strip() == "*" or tag in known_tags


def answer_conditionally(answer: Answer, call: Call) -> Answer:
    """An answer by the request's ``If-None-Match`` and ``Range``: 304, 206, 416, or the whole content.

    The ``ETag`` is a digest of the bytes, so that parts of different bytes are never put together.

    Example:
        >>> from ndframes.server.answers import Answer, Call
        >>> call = Call({}, {}, lambda: None, headers={"range": "bytes=2-3"})
        >>> part = answer_conditionally(Answer(b"abcdef"), call)
        >>> part.status, part.body, part.headers["content-range"]
        (206, b'cd', 'bytes 2-3/6')
    """
    tag = f'"{hashlib.blake2b(answer.body, digest_size=_TAG_BYTES).hexdigest()}"'
    answer = replace(answer, headers={**answer.headers, "etag": tag, "accept-ranges": "bytes"})
    if is_known(call.headers.get("if-none-match", ""), tag):
        return replace(answer, body=b"", status=304)
    wanted = call.headers.get("range", "")
    # Parts are defined for GET only; of several parts, the whole is an allowed answer.
    found = _RANGE.fullmatch(wanted.strip()) if call.method == "GET" else None
    if found is None or call.headers.get("if-range", tag) != tag:
        return answer
    count = len(answer.body)
    if found["count"]:
        return _cut(answer, max(0, count - int(found["count"])), count)
    first, last = int(found["first"]), int(found["last"] or count - 1)
    is_valid = not found["last"] or first <= last
    return _cut(answer, first, min(count, last + 1)) if is_valid else answer


def _cut(answer: Answer, start: int, stop: int) -> Answer:
    count = len(answer.body)
    if start >= stop:
        return replace(answer, body=b"", status=416, headers={**answer.headers, "content-range": f"bytes */{count}"})
    headers = {**answer.headers, "content-range": f"bytes {start}-{stop - 1}/{count}"}
    return replace(answer, body=answer.body[start:stop], status=206, headers=headers)
