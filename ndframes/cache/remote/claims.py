"""Claims: who converts which source now, so that others wait for the entry instead of doing the same work."""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...errors import StoreError
from .layout import claim_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...system.objects.store import ObjectStore

__all__ = ["claim"]
_log = logging.getLogger("ndframes")
# A holder writes its claim again this often; one that has not done so for a longer time is taken for dead.
_BEAT_SECONDS = 8.0
_SILENT_SECONDS = 30.0
_POLL_SECONDS = 0.5


@contextmanager
def claim(store: ObjectStore, state_id: str, is_done: Callable[[], bool]) -> Iterator[bool]:
    """Claim a conversion, or wait for the one who has claimed it.

    Nobody's clock is compared with that of another machine: a claim is taken from its holder when it has not changed for half a minute
    while this process looked. Two writers of one entry do no harm, so a claim that cannot be written is gone without.

    Args:
        store: the object store.
        state_id: names the conversion.
        is_done: whether the entry exists; asked while another process has the claim.

    Yields:
        Whether the work is still to be done.
    """
    mine = _Claim(store, state_id)
    try:
        is_mine = mine.acquire(is_done)
    except BaseException:  # Ctrl-C, when the store may have created it already
        mine.release()
        raise
    if not is_mine:
        yield False
        return
    try:
        mine.start()
        yield True
    finally:
        mine.release()


class _Claim:
    """The claim of this process on one conversion."""

    def __init__(self, store: ObjectStore, state_id: str) -> None:
        self._store = store
        self._key = claim_key(state_id)
        self._id = uuid.uuid4().hex
        self._etag: str | None = None
        self._beats = 0
        self._is_released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="ndframes claim", daemon=True)

    def acquire(self, is_done: Callable[[], bool]) -> bool:
        """Take the claim; ``False`` if the entry exists now."""
        seen, since = None, time.monotonic()
        while True:
            self._etag = self._store.create(self._key, self._content())
            if self._etag is not None:
                return True
            if is_done():
                return False
            found = self._store.load(self._key)
            if found is None:  # removed meanwhile; a store that says so for ever must not be asked without a pause
                time.sleep(_POLL_SECONDS * random.random())  # noqa: S311
                continue
            if json_id(found.data) == self._id:  # the reply to our own request was lost
                self._etag = found.status.etag
                return True
            if found.data != seen:
                seen, since = found.data, time.monotonic()
            elif time.monotonic() - since > _SILENT_SECONDS and found.status.etag is not None:
                _log.info("%s/%s: its holder is silent, so its work is done here", self._store.url, self._key)
                self._etag = self._store.replace(self._key, self._content(), found.status.etag)
                if self._etag is not None:
                    return True
            time.sleep(_POLL_SECONDS)

    def start(self) -> None:
        """Show from now on that this process is alive."""
        self._thread.start()

    def release(self) -> None:
        """Remove the claim, unless somebody took it."""
        self._is_released.set()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            found = self._store.load(self._key)
            if found is not None and json_id(found.data) == self._id:
                self._store.delete([self._key])
        except StoreError as error:  # it will be taken for dead
            _log.info("claim %s/%s could not be removed: %s", self._store.url, self._key, error)

    def _beat(self) -> None:
        while self._etag is not None and not self._is_released.wait(_BEAT_SECONDS):
            self._beats += 1
            try:
                # Fails if somebody has taken the claim; the work goes on, since its result does not depend on it.
                self._etag = self._store.replace(self._key, self._content(), self._etag)
            except StoreError as error:
                _log.info("claim %s/%s could not be renewed: %s", self._store.url, self._key, error)

    def _content(self) -> bytes:
        who = {"id": self._id, "host": socket.gethostname(), "pid": os.getpid(), "beats": self._beats}
        return json.dumps(who).encode()


def json_id(data: bytes) -> str | None:
    """The ``id`` in the content of a claim; ``None`` if it has none."""
    try:
        found = json.loads(data)["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
