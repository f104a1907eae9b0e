"""Rot: what a cache does on a disk that damages all it is given."""

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
from .scene import FORMS, Tally, entry_begun, read_crops

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fork_server import ForkServer
    from .scene import Findings, Scene

__all__ = ["damage_always"]
_BLOCK_BYTES = 4096


def damage_always(
    fork_server: ForkServer, scene: Scene, folder: str, *, crops: int = 32, seconds: float = 60.0
) -> Findings:
    """Read by way of a disk that damages every entry as soon as it is there.

    The pixels must be right all the same, from the source in the end, and no image be converted more than twice.

    Args:
        fork_server: forks the readers.
        scene: the images.
        folder: where the caches go.
        crops: how many of each image are read, before and after a ``prepare``.
        seconds: what takes longer hangs.
    """
    tally = Tally("wrong crops", "conversions too many", "hangs", "odd ends")
    cases = [(form, damage) for form in FORMS for damage in _DAMAGES]
    calls = [partial(_read_rotten, scene, form, folder, damage, crops) for form, damage in cases]
    for case, end in zip(cases, fork_server.run(*calls, seconds=seconds), strict=True):
        tally.add_end(end, ", ".join(case))
    return tally.finish("rotten disk")


def _read_rotten(scene: Scene, form: str, folder: str, damage: str, crops: int) -> Tally:
    tally = Tally()
    workdir = os.path.join(folder, f"rotten-{form}-{damage}")
    files = _RottingFileSystem(damage)
    frames = scene.frames(workdir, form, files)
    read_crops(frames, scene.arrays(), crops * scene.count, 0, tally)
    for number, array in enumerate(scene.arrays()):
        tally.fault("wrong crops", int(not np.array_equal(frames.load_image(number), array)), f"image {number}")
    excess = sum(max(0, count - 2) for count in files.begun.values())
    tally.count("conversions", sum(files.begun.values()))
    tally.count("damaged entries", files.damaged)
    tally.fault("conversions too many", excess, str(dict(files.begun)))
    shutil.rmtree(workdir, ignore_errors=True)
    return tally


def _flip_somewhere(path: str, chance: random.Random) -> None:
    flip_bit(path, chance.randrange(8 * os.path.getsize(path)))


def _flip_in_pixels(path: str, chance: random.Random) -> None:
    flip_bit(path, chance.randrange(8 * 2048, 8 * 20_000))


def _flip_in_tail(path: str, chance: random.Random) -> None:
    flip_bit(path, -1 - chance.randrange(8 * 64))


def _zero_block(path: str, chance: random.Random) -> None:
    zero(path, chance.randrange(os.path.getsize(path) // _BLOCK_BYTES) * _BLOCK_BYTES, _BLOCK_BYTES)


def _cut_somewhere(path: str, chance: random.Random) -> None:
    cut(path, chance.randrange(os.path.getsize(path)))


_DAMAGES: dict[str, Callable[[str, random.Random], None]] = {
    "any bit": _flip_somewhere,
    "a bit of pixels": _flip_in_pixels,
    "a bit of the tail": _flip_in_tail,
    "a zero block": _zero_block,
    "a cut": _cut_somewhere,
}


class _RottingFileSystem(WatchedFileSystem):
    """Damages every entry that gets its name, and counts how often each was begun."""

    def __init__(self, damage: str, seed: int = 0) -> None:
        self._damage = _DAMAGES[damage]
        self._chance = random.Random(seed)
        self.begun: Counter[str] = Counter()
        self.damaged = 0

    def before(self, operation: str, path: str) -> None:
        state_id = entry_begun(path) if operation == "create" else None
        if state_id is not None:
            self.begun[state_id] += 1

    def link_or_replace(self, temporary: str, final: str) -> bool:
        is_new = super().link_or_replace(temporary, final)
        if is_new and parse_entry(final) is not None:
            self._damage(final, self._chance)
            self.damaged += 1
        return is_new
