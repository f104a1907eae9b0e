"""Power loss: what is left of a cache on a disk that lost power."""

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
from .checks import read_crops
from .images import FORMS
from .results import Recorder

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

    from .fork_server import ForkServer
    from .images import SyntheticImages
    from .results import ExperimentResult

__all__ = ["simulate_power_loss"]
_BLOCK_BYTES = 4096


def simulate_power_loss(
    fork_server: ForkServer,
    images: SyntheticImages,
    folder: str,
    *,
    conversions: int,
    honors_sync: bool = True,
    crops: int = 8,
    seed: int = 0,
    seconds: float = 600.0,
) -> ExperimentResult:
    """Record the writes of conversions, and replay them up to each step, as a disk might keep them that lost power there.

    Each block that was not synced is kept, lost or zeroed, at random. Each name that was made since its folder was synced
    is kept or lost. Whatever then has an entry's name must be intact, and no crop may be wrong. If the disk ignores syncs,
    entries may be damaged, but each damaged entry must be rejected before its pixels are used.

    Args:
        fork_server: forks the processes.
        images: how many images there are in a round, and their shape; each round has another seed.
        folder: for sources and caches.
        conversions: how many conversions to replay, in equal parts for each form of entry.
        honors_sync: whether the disk has written all data when a sync returns.
        crops: how many crops of each image are compared after each replay.
        seed: of all random choices.
        seconds: the time limit of a round.
    """
    guarantees = ("damaged entries", "damaged marks") if honors_sync else ()
    recorder = Recorder("wrong crops", *guarantees, "timeouts", "unexpected exits")
    rounds = -(-conversions // (images.count * len(FORMS)))
    for number in range(rounds):
        round_images = replace(images, seed=seed + number + 1)
        calls = [partial(_replay_all, round_images, form, folder, honors_sync, crops) for form in FORMS]
        for form, result in zip(FORMS, fork_server.run(*calls, seconds=seconds), strict=True):
            recorder.merge_child(result, f"{form}, seed {round_images.seed}")
    return recorder.finish("power loss" if honors_sync else "power loss, syncs ignored")


def _replay_all(images: SyntheticImages, form: str, folder: str, honors_sync: bool, crops: int) -> Recorder:
    place = os.path.join(folder, f"power-{form}-{images.seed}")
    images = replace(images, folder=place).save(is_settled=False)
    workdir = os.path.join(place, "work")
    files = _RecordingFileSystem(honors_sync)
    images.frames(workdir, form, files).prepare()
    shutil.rmtree(workdir)
    recorder = Recorder()
    recorder.count("images", images.count)
    rng = random.Random(images.seed)
    for length in range(len(files.steps) + 1):
        disk = _Disk()
        for step in files.steps[:length]:
            step(disk)
        disk.lose_power(rng)
        _check_replay(images, workdir, form, honors_sync, crops, recorder)
        shutil.rmtree(workdir, ignore_errors=True)
    shutil.rmtree(place)
    return recorder


def _check_replay(
    images: SyntheticImages, workdir: str, form: str, honors_sync: bool, crops: int, recorder: Recorder
) -> None:
    recorder.count("replays")
    cache = Cache(workdir)
    # Before the crops are read: reading repairs damaged entries.
    report = cache.verify(read_data=True)
    recorder.count("entries found", report.checked)
    if honors_sync:
        recorder.violate("damaged entries", len(report.bad), str(report))
    else:
        recorder.count("rejected entries", len(report.bad))
    read_crops(images.frames(workdir, form), images.arrays(), crops * images.count, 0, recorder)
    if not honors_sync:
        return
    # Lost marks are written again with the next entry, so write one; existing marks must be intact by then.
    for entry in list(cache.ls())[:1]:
        cache.discard(entry.path)
    images.frames(workdir, form).prepare()
    try:
        cache.check_marks()
    except CacheError as error:
        recorder.violate("damaged marks", note=str(error))


@dataclass(slots=True)
class _StoredFile:
    """The content of a file on the disk, and the writes since its last sync."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        if len(self.content) < offset + len(data):
            self.content.extend(bytes(offset + len(data) - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def sync(self) -> None:
        for offset, data in self.pending:
            self.write(offset, data)
        self.pending.clear()

    def lose_power(self, rng: random.Random) -> None:
        """Keep, lose or zero each pending block: disks reorder writes, and file systems allocate blocks before filling them."""
        for offset, data in self.pending:
            for start in range(0, len(data), _BLOCK_BYTES):
                block = data[start : start + _BLOCK_BYTES]
                fate = rng.randrange(3)
                if fate:
                    self.write(offset + start, block if fate == 1 else bytes(len(block)))


class _Disk:
    """A simulated disk: files, durable names, and names that are pending until their folder is synced."""

    def __init__(self) -> None:
        self._files: dict[str, _StoredFile] = {}
        self._durable: dict[str, _StoredFile] = {}
        self._pending: dict[str, list[tuple[str, _StoredFile | None]]] = defaultdict(list)

    def create(self, path: str) -> None:
        self._set_name(path, _StoredFile())

    def write(self, path: str, offset: int, data: bytes) -> None:
        self._files[path].pending.append((offset, data))

    def sync_file(self, path: str) -> None:
        self._files[path].sync()

    def link(self, path: str, final: str) -> None:
        # A hard link: one file with two names.
        self._set_name(final, self._files[path])

    def remove(self, path: str) -> None:
        self._set_name(path, None)

    def sync_folder(self, folder: str) -> None:
        for path, file in self._pending.pop(folder, []):
            self._make_durable(path, file)

    def lose_power(self, rng: random.Random) -> None:
        """Decide what survives, and write that to the real disk."""
        for changes in self._pending.values():
            for path, file in changes:
                if rng.random() < 0.5:
                    self._make_durable(path, file)
        # A file with two names loses its pending blocks once.
        contents: dict[int, _StoredFile] = {id(file): file for file in self._durable.values()}
        for file in contents.values():
            file.lose_power(rng)
        for path, file in self._durable.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as target:
                target.write(file.content)

    def _set_name(self, path: str, file: _StoredFile | None) -> None:
        self._pending[os.path.dirname(path)].append((path, file))
        if file is not None:
            self._files[path] = file

    def _make_durable(self, path: str, file: _StoredFile | None) -> None:
        if file is None:
            self._durable.pop(path, None)
        else:
            self._durable[path] = file


class _RecordingFileSystem(WatchedFileSystem):
    """Records what is done to named files, as steps to apply to a :class:`_Disk`."""

    def __init__(self, honors_sync: bool) -> None:
        self._honors_sync = honors_sync
        self.steps: list[Callable[[_Disk], None]] = []

    def before(self, operation: str, path: str) -> None:
        pass

    def create(self, path: str) -> IO[bytes]:
        file = super().create(path)
        self.steps.append(lambda disk: disk.create(path))
        return file

    def write(self, raw: io.FileIO, data: memoryview) -> int:
        # In this order, since the write moves the position.
        offset, count = raw.tell(), super().write(raw, data)
        name: Any = raw.name
        if isinstance(name, str):  # a file without a name does not survive a power loss
            written = bytes(data[:count])
            self.steps.append(lambda disk: disk.write(name, offset, written))
        return count

    def sync_file(self, file: IO[bytes]) -> None:
        super().sync_file(file)
        if self._honors_sync:
            self.steps.append(lambda disk: disk.sync_file(file.name))

    def sync_folder(self, path: str) -> None:
        super().sync_folder(path)
        if self._honors_sync:
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
