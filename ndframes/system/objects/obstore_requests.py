"""ObstoreRequests: requests by obstore. It is the one module that imports it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import MissingExtraError, ObjectGoneError, StoreError, StoreUnavailableError
from ..process import IMPORTING
from .credentials import describe_credentials
from .failures import (
    RequestTarget,
    check_part,
    check_state,
    check_whole,
    count_tries,
    is_end_of_object,
    is_lack_of_credentials,
    to_store_error,
)
from .requests import ListedPage, ReadPart, StoreRequests, TransientError, WriteCondition
from .store import ObjectStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from .addresses import StoreAddress
    from .credentials import Credentials
    from .retries import Limits
    from .store import Place

__all__ = ["ObstoreRequests"]
_Result = TypeVar("_Result")
_PAGE_KEYS = 1000
_PARTS_IN_FLIGHT = 4
# Sent at once even on a slow network.
_SMALL_BYTES = 1 << 20
# Listings that were given up half way are forgotten when others begin.
_MOST_LISTINGS = 16
# A request may take any time, as long as bytes arrive.
_NO_LIMIT = "365 days"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")


class ObstoreRequests(StoreRequests):
    """Requests by obstore, of a process that may use it: see :mod:`ndframes.system.objects.connection`.

    Args:
        address: of the store.
        credentials: a function that returns them; ``None``: obstore looks for them.
        limits: how long an answer is waited for.
    """

    def __init__(self, address: StoreAddress, credentials: Credentials | None, limits: Limits) -> None:
        self._address = address
        self._credentials = describe_credentials(address, credentials)
        self._obstore = import_obstore()
        # What it raises; FileNotFoundError stands in for one of its own.
        self._failures = (self._obstore.exceptions.BaseError, FileNotFoundError, ValueError)
        # Requests are tried again by the caller, who can tell of it.
        once = {"max_retries": 0, "retry_timeout": timedelta(seconds=limits.total_seconds)}
        self._store = _open_store(address, credentials, _client_options(limits, limits.idle_seconds), once)
        # No byte comes back while much is sent.
        self._write_store = _open_store(address, credentials, _client_options(limits, limits.write_seconds), once)
        # Only while parts are sent; a silent server then has two tries within the time that is allowed.
        again = {
            "max_retries": limits.retries,
            "retry_timeout": timedelta(seconds=min(limits.write_seconds + 5, limits.total_seconds)),
            "backoff": {
                "init_backoff": timedelta(seconds=min(0.5, limits.longest_wait_seconds)),
                "max_backoff": timedelta(seconds=limits.longest_wait_seconds),
            },
        }
        self._part_store = _open_store(address, credentials, _client_options(limits, limits.write_seconds), again)
        self._has_answered = False
        self._listings: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, key: str, place: Place | None, etag: str | None) -> ReadPart:
        """As :meth:`StoreRequests.read`."""
        options: dict[str, Any] = {} if etag is None else {"if_match": etag}
        if place is not None:
            options["range"] = (place.offset, place.offset + place.length)
        target = self._target(f"read {key!r}", key)
        try:
            result = self._obstore.get(self._store, self._address.full_key(key), options=options)
            check_whole(result.meta["size"], place, target)
            data = result.bytes()
        except self._failures as error:
            if place is not None and is_end_of_object(error):
                return ReadPart(b"", None)
            raise self._to_error(error, target) from None
        part = ReadPart(data, self._status(result.meta))
        check_part(part, place)
        check_state(part.status, etag, target)
        return part

    def head(self, key: str) -> ObjectStatus | None:
        """As :meth:`StoreRequests.head`."""
        try:
            return self._status(self._call(self._obstore.head, f"look at {key!r}", key))
        except ObjectGoneError:
            return None

    def write(self, key: str, data: Buffer, condition: WriteCondition) -> str | None:
        """As :meth:`StoreRequests.write`."""
        mode = {"always": "overwrite", "missing": "create", "match": {"e_tag": condition.etag}}[condition.kind]
        action = "replace" if condition.kind == "match" else "create"
        target = self._target(f"{action} {key!r}", key)
        store = self._store if len(memoryview(data)) < _SMALL_BYTES else self._write_store
        try:
            result = self._obstore.put(store, self._address.full_key(key), data, mode=mode, use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError as error:
            # AWS answers so when several create an object at once, and then none of them may have done it.
            if "ConditionalRequestConflict" in str(error):
                raise TransientError("answered 409 ConditionalRequestConflict") from None
            return None
        except self._obstore.exceptions.PreconditionError:
            return None
        except self._failures as error:
            found = self._to_error(error, target)
            if condition.kind == "match" and isinstance(found, ObjectGoneError):  # which AWS answers with 404
                return None
            raise found from None
        return str(result["e_tag"] or "")

    def write_parts(self, key: str, path: str, part_bytes: int, is_stopped: threading.Event) -> str:
        """As :meth:`StoreRequests.write_parts`."""
        digests = hashlib.md5(usedforsecurity=False)
        count = 0
        try:
            writer = self._obstore.open_writer(
                self._part_store, self._address.full_key(key), buffer_size=part_bytes, max_concurrency=_PARTS_IN_FLIGHT
            )
            with open(path, "rb", buffering=0) as file:
                while part := _read_all(file, part_bytes):
                    writer.write(part)
                    digests.update(hashlib.md5(part, usedforsecurity=False).digest())
                    count += 1
                    if is_stopped.is_set():  # the parts that were sent stay in the store, as after a kill
                        raise StoreError(f"{self._address.url}: the upload of {key!r} was stopped")
            writer.close()
        except self._obstore.exceptions.BaseError as error:
            raise self._to_upload_error(error, key) from None
        except FileNotFoundError as error:
            if error.errno is not None:  # the file of the caller
                raise
            raise self._to_upload_error(error, key) from None
        return f"{digests.hexdigest()}-{count}"

    def _to_upload_error(self, error: Exception, key: str) -> Exception:
        target = self._target(f"upload {key!r}", key)
        found = self._to_error(error, target)
        if isinstance(found, TransientError) and (tries := count_tries(error)) > 1:  # it has been tried again already
            return StoreUnavailableError(
                f"{target.prefix}the store {found.reason}, in {tries} tries; check that it is running"
            )
        return found

    def list_page(self, folder: str, after: str | None, cursor: str) -> ListedPage:
        """As :meth:`StoreRequests.list_page`."""
        with self._lock:
            stream = self._listings.pop(cursor, None)
        try:
            stream = stream or self._begin_list(folder, after)
            metas: list[Any] = next(stream, [])
        except self._failures as error:
            raise self._to_error(error, self._target(f"list {folder!r}" if folder else "list it")) from None
        if len(metas) == _PAGE_KEYS:
            with self._lock:
                self._listings[cursor] = stream
                while len(self._listings) > _MOST_LISTINGS:
                    self._listings.popitem(last=False)
        return ListedPage([self._status(meta) for meta in metas], len(metas) < _PAGE_KEYS)

    def _begin_list(self, folder: str, after: str | None) -> Any:
        prefix = self._address.full_key(folder) if folder else self._address.prefix
        offset = None if after is None else self._address.full_key(after)
        return self._obstore.list(self._store, prefix or None, offset=offset, chunk_size=_PAGE_KEYS)

    def delete(self, keys: Sequence[str]) -> None:
        """As :meth:`StoreRequests.delete`."""
        others = f" and {len(keys) - 1} others" if keys[1:] else ""
        try:
            self._obstore.delete(self._store, [self._address.full_key(key) for key in keys])
        except self._failures as error:
            found = self._to_error(error, self._target(f"delete {keys[0]!r}{others}", keys[0]))
            if not isinstance(found, ObjectGoneError):
                raise found from None
            self._delete_one_by_one(keys)

    def _delete_one_by_one(self, keys: Sequence[str]) -> None:
        # Stores without deletion in bulk stop at the first object that does not exist.
        for key in keys:
            try:
                self._call(self._obstore.delete, f"delete {key!r}", key)
            except ObjectGoneError:
                continue

    def _call(self, function: Callable[..., _Result], action: str, key: str) -> _Result:
        try:
            return function(self._store, self._address.full_key(key))
        except self._failures as error:
            raise self._to_error(error, self._target(action, key)) from None

    def _to_error(self, error: Exception, target: RequestTarget) -> Exception:
        # Where there were credentials before, there will be some again.
        if self._has_answered and is_lack_of_credentials(error):
            return TransientError("cannot be accessed, since this machine does not renew the credentials")
        return to_store_error(error, target)

    def _target(self, action: str, key: str | None = None) -> RequestTarget:
        return RequestTarget(self._address, self._credentials, action, key)

    def _status(self, meta: Any) -> ObjectStatus:
        self._has_answered = True
        return ObjectStatus(
            self._address.relative_key(meta["path"]),
            meta["size"],
            meta["last_modified"].timestamp(),
            meta["e_tag"],
            meta["version"],
        )


def import_obstore() -> Any:
    """The package obstore.

    Raises:
        MissingExtraError: it is not installed.
    """
    with IMPORTING:
        try:
            import obstore
            import obstore.exceptions
            import obstore.store
        except ImportError as error:
            raise MissingExtraError(
                f"object stores need obstore, which cannot be imported ({error}); run: pip install ndframes[cloud]"
            ) from error
    return obstore


def _client_options(limits: Limits, idle_seconds: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=limits.connect_seconds),
        "read_timeout": timedelta(seconds=idle_seconds),
        "timeout": _NO_LIMIT,
    }
    # An endpoint that is given as http:// is meant so.
    if any(os.environ.get(name, "").lower().startswith("http://") for name in _ENDPOINTS):
        options["allow_http"] = True
    return options


def _open_store(address: StoreAddress, credentials: Credentials | None, client: dict[str, Any], retry: Any) -> Any:
    import obstore.exceptions
    from obstore import store

    options: dict[str, Any] = {"client_options": client, "retry_config": retry}
    if credentials is not None:
        options["credential_provider"] = credentials
    try:
        if address.scheme == "memory":
            return _memory_store(address.bucket)
        if address.scheme == "s3":
            return store.S3Store(address.bucket, **options)
        if address.scheme == "gs":
            return store.GCSStore(address.bucket, **options)
        if address.account is not None:
            options["account_name"] = address.account
        return store.AzureStore(address.bucket, **options)
    except (obstore.exceptions.BaseError, ValueError) as error:
        target = RequestTarget(address, describe_credentials(address, credentials), "open it")
        found = to_store_error(error, target)
        raise StoreError(f"{target.prefix}{found.args[0]}") if isinstance(found, TransientError) else found from None


@cache
def _memory_store(_name: str) -> Any:
    from obstore.store import MemoryStore

    return MemoryStore()


def _read_all(file: Any, count: int) -> bytes:
    """Some bytes of a file: fewer only at its end."""
    data = file.read(count)
    while 0 < len(data) < count and (more := file.read(count - len(data))):
        data += more
    return bytes(data)
