"""Failures of requests, as obstore reports them, become errors of this package. It is the one place that reads their texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ...errors import ObjectGoneError, ObjectTooLongError, StoreAccessError, StoreError
from ...text import without_secrets
from .requests import MOST_WHOLE_BYTES, TransientError

if TYPE_CHECKING:
    from .addresses import StoreAddress
    from .requests import ReadPart
    from .store import ObjectStatus, Place

__all__ = [
    "RequestTarget",
    "check_state",
    "check_whole",
    "error_for_status",
    "is_end_of_object",
    "is_lack_of_credentials",
    "to_store_error",
]
# obstore's own type names all of these a GenericError; their texts are those of its Rust library.
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*([\w.]+)\s*</Code>")
_MESSAGE = re.compile(r"<Message>\s*([^<]{1,300}?)\s*</Message>", re.DOTALL)
_RETRIES = re.compile(r"after (\d+) retries")
_PROVIDER_ERROR = re.compile(r"type: <class '([\w.]+)'>")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "InvalidBucketName")
# How the names of requests begin that write nothing.
_READS = ("read", "look at", "list")
# Statuses that pass, and codes that AWS answers with a status that usually does not.
_PASSING = (408, 425, 429)
_PASSING_CODES = (
    "RequestTimeout",
    "ConditionalRequestConflict",
    "OperationAborted",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
)
_TOKEN_CODES = ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch")
# Where obstore asks for credentials that it was not given: hosts and paths of the clouds' metadata services.
_METADATA = (
    "//169.254.169.254/",
    "//169.254.170.2/",
    "//169.254.170.23/",
    "//metadata.google.internal/",
    "/latest/api/token",
    "/latest/meta-data/",
    "/computeMetadata/",
    "/metadata/identity/",
)
# By a part of the debug text, since the errors of the system are not otherwise told.
_REASONS = (
    ("ConnectionRefused", "refuses the connection"),
    ("ConnectionReset", "reset the connection"),
    ("BrokenPipe", "reset the connection"),
    ("dns error", "has a host name that is not known"),
    ("TimedOut", "does not answer"),
    ("IncompleteMessage", "ended the connection before its answer was complete"),
    ("UnexpectedEof", "ended the connection before its answer was complete"),
    ("kind: Decode", "ended the connection before its answer was complete"),
    ("kind: Connect", "cannot be connected to"),
)


class RequestTarget(NamedTuple):
    """What a request was for.

    Attributes:
        address: of the store.
        credentials: their kind, as :func:`~ndframes.system.objects.credentials.describe_credentials` says it.
        action: as an infinitive: ``"read 'key'"``.
        key: of the object, if the request is for one.
    """

    address: StoreAddress
    credentials: str
    action: str
    key: str | None = None

    @property
    def prefix(self) -> str:
        """The beginning of all messages."""
        return f"{self.address.url}: cannot {self.action}: "


def to_store_error(error: Exception, target: RequestTarget) -> Exception:
    """The error of this package for one of obstore; a ``TransientError`` if it is likely to pass.

    The error must be raised ``from None``: the text of obstore's has the whole answer of the store, and for some stores the
    address of the request with a signature.
    """
    text, _, details = str(error).partition("\n\nDebug source:")
    name = type(error).__name__
    if name == "NotSupportedError" or "non-partial response" in text:
        return StoreError(
            f"{target.prefix}the server answered with more than was asked for, so it does not support range requests; use a "
            "server that does"
        )
    if is_lack_of_credentials(error):
        return _refused(target, "there are no credentials for it")
    if "credential provider" in text or name == "UnauthenticatedError":
        return _provider_failed(details, target)
    status = int(found[1]) if (found := _STATUS.search(text)) else None
    if name == "PreconditionError":
        status = status or 412
    elif isinstance(error, FileNotFoundError):
        status = status or 404
    if "redirect without LOCATION" in text or "error following redirect" in text:
        status = 301
    if status is None and isinstance(error, ValueError):
        return StoreError(f"{target.prefix}{without_secrets(text)}")
    if status is None:
        return _without_answer(text, details, target)
    return error_for_status(status, text, target)


def error_for_status(status: int, body: str, target: RequestTarget) -> Exception:
    """The error for an answer of a store.

    Args:
        status: of HTTP, not a success.
        body: of the answer, or a text that contains it.
        target: what the request was for.
    """
    code = found[1] if (found := _CODE.search(body)) else ""
    message = found[1].splitlines()[0] if (found := _MESSAGE.search(body)) else ""
    shown = without_secrets(f"{status} {code}".strip() + (f" ({message})" if message else ""))
    if code in _NO_BUCKET:
        return StoreAccessError(
            f"{target.prefix}there is no bucket {target.address.bucket!r}; check the address, and create the bucket if it is new"
        )
    if status in _PASSING or code in _PASSING_CODES or (status >= 500 and status != 501):
        return TransientError(f"answered {shown}")
    if status in (401, 403) or code in _TOKEN_CODES:
        return _refused(target, f"the store answered {shown}")
    if status in (404, 410) and target.key is not None:
        return ObjectGoneError(f"{target.prefix}there is no such object")
    if status == 412:
        return ObjectGoneError(f"{target.prefix}the object is in another state than before")
    if 300 <= status < 400:
        return StoreError(
            f"{target.prefix}the store answered {shown}, a redirect, which is not followed; check the address, the endpoint and "
            "the region (AWS_REGION)"
        )
    return StoreError(f"{target.prefix}the store answered {shown}")


def check_part(part: ReadPart, place: Place | None) -> None:
    """Raise ``TransientError`` if bytes are missing that the object has; a server may answer with less than was asked for."""
    assert part.status is not None  # noqa: S101 - the place does not lie beyond the end
    size = part.status.size_bytes
    expected = size if place is None else min(place.offset + place.length, size) - place.offset
    found = len(memoryview(part.data))
    if found != expected:
        raise TransientError(f"answered with {found} bytes instead of {expected}")


def check_whole(size_bytes: int, place: Place | None, target: RequestTarget) -> None:
    """Raise ``ObjectTooLongError`` before an object is read as a whole that does not fit in memory for sure."""
    if place is None and size_bytes > MOST_WHOLE_BYTES:
        raise ObjectTooLongError(
            f"{target.prefix}it has {size_bytes:,} bytes, and at most {MOST_WHOLE_BYTES:,} are read at once"
        )


def check_state(status: ObjectStatus | None, etag: str | None, target: RequestTarget) -> None:
    """Raise ``ObjectGoneError`` if an object is in another state than asked for; some servers ignore the condition."""
    if etag is not None and (status is None or status.etag != etag):
        raise ObjectGoneError(f"{target.prefix}the object is in another state than before")


def is_end_of_object(error: Exception) -> bool:
    """Whether a request failed because its range begins at the end of the object, or beyond."""
    text = str(error)
    return "status code: 416" in text or "StartTooLarge" in text


def count_tries(error: Exception) -> int:
    """How often obstore tried a request that failed."""
    found = _RETRIES.search(str(error))
    return 1 + int(found[1]) if found else 1


def is_lack_of_credentials(error: Exception) -> bool:
    """Whether a request failed because the machine was asked for credentials and gave none."""
    text = str(error).partition("\n\nDebug source:")[0]
    return any(mark in text for mark in _METADATA)


def _refused(target: RequestTarget, reason: str) -> StoreAccessError:
    # Without the right to list, a store does not tell that an object does not exist.
    and_lists = " and listing the bucket" if target.action.startswith(_READS) else ""
    return StoreAccessError(
        f"{target.prefix}{reason}; it was accessed with {target.credentials}; check that they are valid and allow this{and_lists}"
    )


def _provider_failed(details: str, target: RequestTarget) -> StoreAccessError:
    # Not its message, which may contain what it was about to return.
    found = _PROVIDER_ERROR.search(details)
    kind = found[1].rpartition(".")[2] if found else "an error"
    return StoreAccessError(
        f"{target.prefix}there are no credentials for it: {target.credentials}, but it raised {kind}"
    )


def _without_answer(text: str, details: str, target: RequestTarget) -> Exception:
    if "InvalidCertificate" in details or "invalid peer certificate" in details:
        return StoreError(
            f"{target.prefix}the certificate of the server is not valid, or its authority is not known here"
        )
    if "corrupt message" in details or "InvalidContentType" in details:
        return StoreError(f"{target.prefix}the server does not use TLS; give the endpoint as http://")
    reason = next((reason for mark, reason in _REASONS if mark in details), None)
    if reason is None:
        reason = f"failed: {without_secrets(text.splitlines()[0])}" if text else "failed"
    return TransientError(reason, is_silent="TimedOut" in details)
