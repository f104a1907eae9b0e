"""Checks of a cache after a fault: entries, pixels and leftover files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...cache.cache import Cache
from ...cache.layout import NO_STATE_ID, parse_entry, parse_part
from ...errors import CacheError
from .results import Recorder

if TYPE_CHECKING:
    from ..._typing import Array
    from ...frames.frames import Frames
    from .images import SyntheticImages

__all__ = ["check_cache", "find_leftovers", "read_crops", "state_being_written"]
_CROP_PX = 48
_MARKS = ("CACHEDIR.TAG", "ndframes.json")


def read_crops(frames: Frames, arrays: list[Array], crops: int, seed: int, recorder: Recorder) -> None:
    """Read ``crops`` random crops of random images, and compare each with its array."""
    rng = np.random.default_rng(seed)
    for _ in range(crops):
        number = int(rng.integers(len(arrays)))
        height, width, _ = arrays[number].shape
        top, left = int(rng.integers(0, height - 1)), int(rng.integers(0, width - 1))
        region = slice(top, top + _CROP_PX), slice(left, left + _CROP_PX)
        is_equal = np.array_equal(frames.load_region(number, region), arrays[number][region])
        recorder.count("crops")
        if not is_equal:
            recorder.violate("wrong crops", note=f"image {number}, region {region}")


def check_cache(images: SyntheticImages, workdir: str, form: str, *, crops: int, seed: int = 0) -> Recorder:
    """Use a cache after a fault in another process, and record what is wrong with it.

    Every entry must be intact to the last byte, and none may be in quarantine. Random crops must equal the source.
    Missing entries must be rebuilt by reading. After a collection, only entries may be left.

    Args:
        images: the sources.
        workdir: the folder that holds the cache.
        form: of the entries.
        crops: how many crops to read of each image.
        seed: of the choice of crops.
    """
    recorder = Recorder("wrong crops", "damaged entries", "not rebuilt", "leftovers")
    # Before anything is read: reading would repair damaged entries.
    cache = Cache(workdir)
    report = cache.verify(read_data=True)
    recorder.count("entries verified", report.checked)
    recorder.violate("damaged entries", len(report.bad), str(report))
    quarantined = cache.stat().quarantined
    recorder.violate("damaged entries", quarantined, f"{quarantined} in quarantine")
    frames = images.frames(workdir, form)
    read_crops(frames, images.arrays(), crops * images.count, seed, recorder)
    for number in range(images.count):
        # The random crops may have missed an image: read each one, which rebuilds its entry.
        frames.load_region(number, (slice(0, 1), slice(0, 1)))
        is_cached = all(file.is_cached for file in frames.explain(number).files)
        recorder.violate("not rebuilt", int(not is_cached), f"image {number}")
    # A file that the collection does not remove would stay for ever.
    cache.gc()
    leftovers = find_leftovers(cache)
    recorder.violate("leftovers", len(leftovers), ", ".join(leftovers))
    return recorder


def state_being_written(path: str) -> str | None:
    """The source state whose entry is written to this temporary file; ``None`` if the file is not for an entry."""
    owner = parse_part(os.path.basename(path))
    return owner.state_id if owner is not None and owner.state_id != NO_STATE_ID else None


def find_leftovers(cache: Cache) -> list[str]:
    """Files in the cache folder that are not entries, marks or locks, as relative paths; and a message if marks are bad."""
    found = []
    for folder, _, names in os.walk(cache.root):
        for name in names:
            path = Path(folder, name)
            relative = path.relative_to(cache.root)
            is_known = relative.parts[0] == "locks" or (len(relative.parts) == 1 and name in _MARKS)
            if not is_known and parse_entry(str(path)) is None:
                found.append(str(relative))
    try:
        cache.check_marks()
    except CacheError as error:
        if cache.root.exists():
            found.append(str(error))
    return sorted(found)
