"""Probe: whether an object store does what publishing rests on."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import CacheError, StoreError
from ...system.objects.store import Place
from ..keys import FORMAT_VERSION
from .layout import MARK, new_probe_key

if TYPE_CHECKING:
    from ...system.objects.store import ObjectStore

__all__ = ["find_fault", "read_mark"]
_CONTENT = bytes(range(256))


def read_mark(store: ObjectStore) -> bool:
    """Whether the store has passed the probe before.

    Raises:
        CacheError: the mark is not one of a cache, or that of a newer version.
    """
    found = store.load(MARK)
    if found is None:
        return False
    try:
        layout = json.loads(found.data)["layout"]
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(
            f"{store.url}/{MARK} is not the mark of a cache, so nothing is written or removed there: {error}"
        ) from error
    if not isinstance(layout, int) or layout > FORMAT_VERSION:
        raise CacheError(
            f"{store.url} was created by a newer ndframes (layout {layout}); use that version to write to it"
        )
    return True


def find_fault(store: ObjectStore) -> str | None:
    """Try the store, and mark it if it passes; what is wrong with it, or ``None``.

    An entry is published once because the store creates an object only where there is none, and refuses to replace one that has changed.
    """
    key = new_probe_key()
    try:
        fault = _try(store, key)
    except BaseException:
        with suppress(StoreError):  # the first error tells more
            store.delete([key])
        raise
    store.delete([key])
    if fault is None:
        store.create(MARK, json.dumps({"layout": FORMAT_VERSION}).encode() + b"\n")
    return fault


def _try(store: ObjectStore, key: str) -> str | None:
    etag = store.create(key, _CONTENT)
    if etag is None:
        return "it says that an object exists which does not"
    if store.create(key, b"other") is not None:
        return "it replaces objects although it is asked to create them only where there are none (If-None-Match)"
    [first, second] = store.begin_fetch(key, [Place(10, 20), Place(200, 5)], etag=etag)
    if bytes(first()) != _CONTENT[10:30] or bytes(second()) != _CONTENT[200:205]:
        return "it returns other bytes than it is asked for (Range)"
    if store.replace(key, b"changed", etag) is None:
        return "it does not replace an object that has not changed (If-Match)"
    if store.replace(key, b"again", etag) is not None:
        return "it replaces objects that have changed, although it is asked not to (If-Match)"
    return None
