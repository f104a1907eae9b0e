"""Local tiers: frames with one, the requests that they send, and the files of the tier."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ndframes as nf
from kit.waiting import wait_until

if TYPE_CHECKING:
    from ndframes.cache.remote.files import RemoteFiles

__all__ = [
    "CountedStore",
    "DictStore",
    "commit_files",
    "data_files",
    "is_whole",
    "photograph",
    "tier_frames",
    "wait_whole",
]


class CountedStore:
    """An object store that records what is read of it.

    Attributes:
        loads: the objects that were read whole.
        fetches: the key and the place of each part that was fetched.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self.loads: list[str] = []
        self.fetches: list[tuple[str, Any]] = []
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def load(self, key: str) -> Any:
        self.loads.append(key)
        return self._store.load(key)

    def begin_fetch(self, key: str, places: Any, *, etag: str | None = None) -> Any:
        with self._lock:
            self.fetches += [(key, place) for place in places]
        return self._store.begin_fetch(key, places, etag=etag)

    @property
    def count(self) -> int:
        """How many objects and parts were read."""
        return len(self.loads) + len(self.fetches)


class DictStore:
    """The objects of a store as they are now, in memory, for processes that are forked by the hundred.

    Attributes:
        fetched: how many parts were fetched.
    """

    def __init__(self, store: Any) -> None:
        self.url = store.url
        self._objects = {item.key: store.load(item.key) for folder in ("v1", "data") for item in store.scan(folder)}
        self.fetched = 0

    def load(self, key: str) -> Any:
        return self._objects.get(key)

    def begin_fetch(self, key: str, places: Any, *, etag: str | None = None) -> Any:
        self.fetched += len(places)
        return [partial(self._cut, key, *place) for place in places]

    def _cut(self, key: str, offset: int, length: int) -> bytes:
        return self._objects[key].data[offset : offset + length]


def tier_frames(sources: Any, workdir: str, tier: Path, **options: Any) -> tuple[nf.SimpleFrames, CountedStore]:
    """Frames with a local tier, and what they read from the store."""
    options = {"tile_bytes": 0, **options}
    frames = nf.SimpleFrames(sources, workdir=workdir, local_tier=tier, **options)
    files: RemoteFiles = frames.cache.files
    files._store = CountedStore(files._store)
    return frames, files._store


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise that does not compress, so that each tile has its length."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def data_files(tier: Path) -> list[Path]:
    """The files of the entries in the tier."""
    return sorted(tier.glob("ndframes-tier/v1/??/*.data"))


def commit_files(tier: Path) -> list[Path]:
    """The commits in the tier."""
    return sorted(tier.glob("ndframes-tier/v1/??/*.json"))


def is_whole(path: Path) -> bool:
    """Whether a file of the tier is marked as one without holes."""
    return not path.stat().st_mode & 0o222


def wait_whole(tier: Path, count: int = 1) -> None:
    """Wait until so many files of the tier are whole."""
    wait_until(lambda: sum(map(is_whole, data_files(tier))) == count, 30)
