"""Power: what is left of a cache on a disk that lost it."""

from __future__ import annotations

import os
import random
import shutil
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from ...cache.cache import Cache
from ...errors import CacheError
from ..faults import WatchedFileSystem
from .scene import FORMS, Tally, read_crops

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from .fork_server import ForkServer
    from .scene import Findings, Scene

__all__ = ["lose_power"]
_BLOCK_BYTES = 4096


def lose_power(
    fork_server: ForkServer,
    scene: Scene,
    folder: str,
    *,
    images: int,
    heeds_syncs: bool = True,
    crops: int = 8,
    seed: int = 0,
    seconds: float = 600.0,
) -> Findings:
    """Replay conversions up to each of their steps, as a disk might show them that lost power there.

    What was written since the last sync is, piece by piece and at random, there, missing, or zero; so is every name
    since its folder was synced, there or missing. What then lies under an entry's name must be whole, and no crop may
    be wrong. Where the disk does not heed syncs, entries may be damaged; each must be refused before its pixels are used.

    Args:
        fork_server: forks the processes.
        scene: how many images there are and how large; further ones get other seeds.
        folder: where sources and caches go.
        images: how many conversions are replayed, in each form half of them.
        heeds_syncs: whether the disk does as it is told.
        crops: how many of each image are compared after each replay.
        seed: of all choices.
        seconds: what takes longer hangs.
    """
    tally = Tally("wrong crops", *(("damaged entries", "damaged marks") if heeds_syncs else ()), "hangs", "odd ends")
    rounds = -(-images // (scene.count * len(FORMS)))
    for number in range(rounds):
        calls = [
            partial(_replay_all, replace(scene, seed=seed + number + 1), form, folder, heeds_syncs, crops)
            for form in FORMS
        ]
        for form, end in zip(FORMS, fork_server.run(*calls, seconds=seconds), strict=True):
            tally.add_end(end, f"{form}, seed {seed + number + 1}")
    return tally.finish("power loss" if heeds_syncs else "power loss, syncs not heeded")


def _replay_all(scene: Scene, form: str, folder: str, heeds_syncs: bool, crops: int) -> Tally:
    place = os.path.join(folder, f"power-{form}-{scene.seed}")
    scene = replace(scene, folder=place).save(is_settled=False)
    workdir = os.path.join(place, "work")
    files = _RecordingFileSystem(heeds_syncs)
    scene.frames(workdir, form, files).prepare()
    shutil.rmtree(workdir)
    tally = Tally()
    tally.count("images", scene.count)
    chance = random.Random(scene.seed)
    for length in range(len(files.steps) + 1):
        disk = _Disk()
        for step in files.steps[:length]:
            step(disk)
        disk.save(chance)
        _look_at(scene, workdir, form, heeds_syncs, crops, tally)
        shutil.rmtree(workdir, ignore_errors=True)
    shutil.rmtree(place)
    return tally


def _look_at(scene: Scene, workdir: str, form: str, heeds_syncs: bool, crops: int, tally: Tally) -> None:
    """Use what the disk has kept."""
    tally.count("replays")
    cache = Cache(workdir)
    report = cache.verify(read_data=True)
    tally.count("entries found", report.checked)
    if heeds_syncs:
        tally.fault("damaged entries", len(report.bad), str(report))
    else:
        tally.count("damaged entries refused", len(report.bad))
    read_crops(scene.frames(workdir, form), scene.arrays(), crops * scene.count, 0, tally)
    if not heeds_syncs:
        return
    # Marks that are missing are made when the next entry is written; those that are there must be whole by then.
    for entry in list(cache.ls())[:1]:
        cache.discard(entry.path)
    scene.frames(workdir, form).prepare()
    try:
        cache.check_marks()
    except CacheError as error:
        tally.fault("damaged marks", note=str(error))


@dataclass(slots=True)
class _StoredFile:
    """A file as the disk has it, and what it was told of it since the last sync."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        if len(self.durable) < offset + len(data):
            self.durable.extend(bytes(offset + len(data) - len(self.durable)))
        self.durable[offset : offset + len(data)] = data

    def sync(self) -> None:
        for offset, data in self.pending:
            self.write(offset, data)
        self.pending.clear()

    def lose(self, chance: random.Random) -> None:
        """Each block that was not synced is kept, or lost, or zero."""
        for offset, data in self.pending:
            for start in range(0, len(data), _BLOCK_BYTES):
                block = data[start : start + _BLOCK_BYTES]
                fate = chance.randrange(3)
                if fate:
                    self.write(offset + start, block if fate == 1 else bytes(len(block)))


class _Disk:
    """A disk and the names on it, of which those since the last sync of their folder are not sure."""

    def __init__(self) -> None:
        self._files: dict[str, _StoredFile] = {}
        self._sure: dict[str, _StoredFile] = {}
        self._unsure: dict[str, list[tuple[str, _StoredFile | None]]] = defaultdict(list)

    def create(self, path: str) -> None:
        self._name(path, _StoredFile())

    def write(self, path: str, offset: int, data: bytes) -> None:
        self._files[path].pending.append((offset, data))

    def sync_file(self, path: str) -> None:
        self._files[path].sync()

    def link(self, path: str, final: str) -> None:
        self._name(final, self._files[path])

    def remove(self, path: str) -> None:
        self._name(path, None)

    def sync_folder(self, folder: str) -> None:
        for path, file in self._unsure.pop(folder, []):
            self._make_sure(path, file)

    def save(self, chance: random.Random) -> None:
        """Lose power, and write to the real disk what is left on this one."""
        for changes in self._unsure.values():
            for path, file in changes:
                if chance.random() < 0.5:
                    self._make_sure(path, file)
        contents: dict[int, _StoredFile] = {id(file): file for file in self._sure.values()}
        for file in contents.values():
            file.lose(chance)
        for path, file in self._sure.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as target:
                target.write(file.durable)

    def _name(self, path: str, file: _StoredFile | None) -> None:
        self._unsure[os.path.dirname(path)].append((path, file))
        if file is not None:
            self._files[path] = file

    def _make_sure(self, path: str, file: _StoredFile | None) -> None:
        if file is None:
            self._sure.pop(path, None)
        else:
            self._sure[path] = file


class _RecordingFileSystem(WatchedFileSystem):
    """Writes down what is done to files with names, as steps to be done on a :class:`_Disk`."""

    def __init__(self, heeds_syncs: bool) -> None:
        self._heeds_syncs = heeds_syncs
        self.steps: list[Callable[[_Disk], None]] = []

    def before(self, operation: str, path: str) -> None:
        pass

    def create(self, path: str) -> IO[bytes]:
        file = super().create(path)
        self.steps.append(lambda disk: disk.create(path))
        return file

    def write(self, raw: io.FileIO, data: memoryview) -> int:
        offset, count = raw.tell(), super().write(raw, data)
        name: Any = raw.name
        if isinstance(name, str):  # an unnamed one is gone in any case
            written = bytes(data[:count])
            self.steps.append(lambda disk: disk.write(name, offset, written))
        return count

    def sync_file(self, file: IO[bytes]) -> None:
        super().sync_file(file)
        if self._heeds_syncs:
            self.steps.append(lambda disk: disk.sync_file(file.name))

    def sync_folder(self, path: str) -> None:
        super().sync_folder(path)
        if self._heeds_syncs:
            self.steps.append(lambda disk: disk.sync_folder(path))

    def link_or_replace(self, temporary: str, final: str) -> bool:
        is_new = super().link_or_replace(temporary, final)
        if is_new:
            self.steps.append(lambda disk: disk.link(temporary, final))
        return is_new

    def remove(self, path: str) -> bool:
        was_there = super().remove(path)
        if was_there:
            self.steps.append(lambda disk: disk.remove(path))
        return was_there
