"""Transfers of whole files: upload in parts with a digest, and download in ranges at the same time."""

from __future__ import annotations

import hashlib
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from ...errors import ObjectGoneError, StoreError
from .requests import WriteCondition
from .store import ObjectStatus, Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request_threads import Pending, RequestThreads
    from .requests import ReadPart, StoreRequests

__all__ = ["TransferClient", "download_object", "upload_object"]
_Result = TypeVar("_Result")
_PART_BYTES = 8 << 20
# Stores allow 10,000 parts.
_MOST_PARTS = 9000
_RANGES_IN_FLIGHT = 8


class TransferClient(Protocol):
    """What transfers need of a client of a store."""

    @property
    def url(self) -> str:
        """The address for messages."""

    @property
    def threads(self) -> RequestThreads:
        """The threads of this process."""

    def run(self, action: str, request: Callable[[StoreRequests], _Result]) -> _Result:
        """A request, in a thread, tried again where that may help."""

    def read_part(self, key: str, place: Place | None, etag: str | None) -> ReadPart:
        """Some bytes of an object, in this thread."""

    def status(self, keys: list[str]) -> list[ObjectStatus | None]:
        """The status of objects."""


def upload_object(client: TransferClient, key: str, path: str) -> ObjectStatus:
    """As :meth:`ndframes.system.objects.store.ObjectStore.upload`."""
    size_bytes = os.path.getsize(path)
    if size_bytes <= _PART_BYTES:
        with open(path, "rb") as file:
            data = file.read()
        size_bytes = len(data)
        client.run(f"upload {key!r}", lambda requests: requests.write(key, data, WriteCondition("always")))
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    else:
        part_bytes = max(_PART_BYTES, -(-size_bytes // _MOST_PARTS))
        is_stopped = threading.Event()
        try:
            digest = client.run(
                f"upload {key!r}", lambda requests: requests.write_parts(key, path, part_bytes, is_stopped)
            )
        finally:
            is_stopped.set()
    status = client.status([key])[0]
    if status is None:
        raise ObjectGoneError(
            f"{client.url}: {key!r} does not exist after it was uploaded; something else deletes objects there"
        )
    if status.size_bytes != size_bytes or (
        (status.etag or "").strip('"') != digest and not _is_same(client, status, path)
    ):
        raise StoreError(
            f"{client.url}: {key!r} is not what was uploaded: other bytes arrived, or something else wrote the object, or the file "
            f"{path!r} changed meanwhile; upload it again under another key"
        )
    return status


def _is_same(client: TransferClient, status: ObjectStatus, path: str) -> bool:
    """Whether an object has the content of a file, where its ETag is no digest that is known here."""
    results: list[bool] = []

    def compare(place: Place, part: ReadPart) -> None:
        with open(path, "rb") as file:
            file.seek(place.offset)
            results.append(file.read(place.length) == part.data)

    _read_ranges(client, status, _ranges(status.size_bytes), compare)
    return all(results)


def download_object(
    client: TransferClient, key: str, path: str, etag: str | None, progress: Callable[[int], None] | None
) -> ObjectStatus:
    """As :meth:`ndframes.system.objects.store.ObjectStore.download`."""
    # The first range also tells how many there are.
    first = client.threads.run(partial(client.read_part, key, Place(0, _PART_BYTES), etag))
    status = first.status or client.status([key])[0]
    if status is None or (etag is not None and status.etag != etag):
        raise ObjectGoneError(
            f"{client.url}: cannot download {key!r}: it does not exist any more, or is in another state"
        )
    if first.status is None and status.size_bytes:
        raise ObjectGoneError(f"{client.url}: cannot download {key!r}: it changed meanwhile")
    target = _Target(path, progress)
    try:
        if first.status is not None:
            target.write(Place(0, _PART_BYTES), first)
        _read_ranges(client, status, _ranges(status.size_bytes)[1:], target.write)
    except BaseException:
        target.drop()
        raise
    target.end()
    return status


def _ranges(size_bytes: int) -> list[Place]:
    return [Place(start, min(_PART_BYTES, size_bytes - start)) for start in range(0, size_bytes, _PART_BYTES)]


def _read_ranges(
    client: TransferClient, status: ObjectStatus, places: list[Place], take: Callable[[Place, ReadPart], None]
) -> None:
    """Read ranges of an object at the same time.

    Args:
        client: of the store.
        status: the state of the object, which all ranges must have.
        places: the ranges.
        take: takes each range, in the thread that has read it.
    """
    is_stopped = threading.Event()

    def read(place: Place) -> None:
        if is_stopped.is_set():
            return
        part = client.read_part(status.key, place, status.etag)
        if part.status is None or part.status[:3] != status[:3] or len(memoryview(part.data)) != place.length:
            raise ObjectGoneError(f"{client.url}: {status.key!r} changed while it was read")
        if not is_stopped.is_set():
            take(place, part)

    pending: list[Pending[None]] = []
    try:
        for index, place in enumerate(places):
            if index >= _RANGES_IN_FLIGHT:
                pending[index - _RANGES_IN_FLIGHT].result()
            pending.append(client.threads.submit(partial(read, place)))
        for one in pending:
            one.result()
    finally:
        is_stopped.set()


class _Target:
    """The file of a download, which several threads write to.

    After an error or an interrupt, a thread may be in the middle of a write; the last one closes the file.
    """

    def __init__(self, path: str, progress: Callable[[int], None] | None) -> None:
        self._path = path
        self._progress = progress
        self._lock = threading.Lock()
        self._count = 0
        self._writers = 0
        self._is_ended = False
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)

    def write(self, place: Place, part: ReadPart) -> None:
        """Write a range."""
        with self._lock:
            if self._is_ended:
                return
            self._writers += 1
        try:
            data = memoryview(part.data)
            written = 0
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], place.offset + written)
        finally:
            self._leave()
        with self._lock:
            self._count += len(data)
            if self._progress is not None and not self._is_ended:
                self._progress(self._count)

    def _leave(self) -> None:
        with self._lock:
            self._writers -= 1
            is_last = self._is_ended and not self._writers
        if is_last:
            os.close(self._descriptor)

    def end(self) -> None:
        """Close the file, unless a thread is writing, which then closes it."""
        with self._lock:
            self._is_ended = True
            is_last = not self._writers
        if is_last:
            os.close(self._descriptor)

    def drop(self) -> None:
        """Remove the file."""
        self.end()
        os.unlink(self._path)
