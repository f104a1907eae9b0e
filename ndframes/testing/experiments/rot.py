"""Bit rot: a disk that damages every entry that it is given."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ...cache.layout import parse_entry
from ..faults import WatchedFileSystem, cut, flip_bit, zero
from .checks import read_crops, state_being_written
from .images import FORMS
from .results import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fork_server import ForkServer
    from .images import SyntheticImages
    from .results import ExperimentResult

__all__ = ["corrupt_every_entry"]
_BLOCK_BYTES = 4096


def corrupt_every_entry(
    fork_server: ForkServer, images: SyntheticImages, folder: str, *, crops: int = 32, seconds: float = 60.0
) -> ExperimentResult:
    """Read through a disk that corrupts every entry as soon as it is published.

    The pixels must be right all the same, at last from the source, and no image may be converted more than twice.

    Args:
        fork_server: forks the readers.
        images: the sources.
        folder: for the caches.
        crops: how many crops of each image are compared, before each is read whole.
        seconds: the time limit.
    """
    recorder = Recorder("wrong crops", "excess conversions", "timeouts", "unexpected exits")
    cases = [(form, corruption) for form in FORMS for corruption in _CORRUPTIONS]
    calls = [partial(_read_corrupted, images, form, folder, corruption, crops) for form, corruption in cases]
    for case, result in zip(cases, fork_server.run(*calls, seconds=seconds), strict=True):
        recorder.merge_child(result, ", ".join(case))
    return recorder.finish("bit rot")


def _read_corrupted(images: SyntheticImages, form: str, folder: str, corruption: str, crops: int) -> Recorder:
    recorder = Recorder()
    workdir = os.path.join(folder, f"rot-{form}-{corruption}")
    files = _CorruptingFileSystem(corruption)
    frames = images.frames(workdir, form, files)
    read_crops(frames, images.arrays(), crops * images.count, 0, recorder)
    for number, array in enumerate(images.arrays()):
        recorder.violate("wrong crops", int(not np.array_equal(frames.load_image(number), array)), f"image {number}")
    # The first damaged entry is replaced, the second one makes the frames read the source directly.
    excess = sum(max(0, count - 2) for count in files.conversions.values())
    recorder.count("conversions", sum(files.conversions.values()))
    recorder.count("corrupted entries", files.corrupted)
    recorder.violate("excess conversions", excess, str(dict(files.conversions)))
    shutil.rmtree(workdir, ignore_errors=True)
    return recorder


def _flip_any_bit(path: str, rng: random.Random) -> None:
    flip_bit(path, rng.randrange(8 * os.path.getsize(path)))


def _flip_pixel_bit(path: str, rng: random.Random) -> None:
    # Behind the header, and before the trailer of the smallest entry.
    flip_bit(path, rng.randrange(8 * 2048, 8 * 20_000))


def _flip_trailer_bit(path: str, rng: random.Random) -> None:
    flip_bit(path, -1 - rng.randrange(8 * 64))


def _zero_block(path: str, rng: random.Random) -> None:
    zero(path, rng.randrange(os.path.getsize(path) // _BLOCK_BYTES) * _BLOCK_BYTES, _BLOCK_BYTES)


def _truncate(path: str, rng: random.Random) -> None:
    cut(path, rng.randrange(os.path.getsize(path)))


_CORRUPTIONS: dict[str, Callable[[str, random.Random], None]] = {
    "any bit": _flip_any_bit,
    "a pixel bit": _flip_pixel_bit,
    "a trailer bit": _flip_trailer_bit,
    "a zero block": _zero_block,
    "truncation": _truncate,
}


class _CorruptingFileSystem(WatchedFileSystem):
    """Corrupts every entry when it is published, and counts the conversions of each source state."""

    def __init__(self, corruption: str, seed: int = 0) -> None:
        self._corrupt = _CORRUPTIONS[corruption]
        self._rng = random.Random(seed)
        self.conversions: Counter[str] = Counter()
        self.corrupted = 0

    def before(self, operation: str, path: str) -> None:
        state_id = state_being_written(path) if operation == "create" else None
        if state_id is not None:
            self.conversions[state_id] += 1

    def link_or_replace(self, temporary: str, final: str) -> bool:
        is_new = super().link_or_replace(temporary, final)
        if is_new and parse_entry(final) is not None:
            self._corrupt(final, self._rng)
            self.corrupted += 1
        return is_new
