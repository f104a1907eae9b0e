"""Scene: images whose pixels are known without reading them, and what is asked of a cache of them after a mishap."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache.cache import Cache
from ...cache.layout import NO_STATE_ID, parse_entry, parse_part
from ...errors import CacheError
from ...frames.simple import SimpleFrames
from ...system.stamp import stat_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._typing import Array
    from ...frames.frames import Frames
    from ...system.files import FileSystem
    from .fork_server import Ended

__all__ = ["FORMS", "Findings", "Scene", "Tally", "entry_begun", "examine", "find_leftovers", "read_crops"]
#: The forms of entries that are put to the test; small tiles, so that a small image has many.
FORMS: Mapping[str, Any] = {"cog": {"type": "cog", "config": {"blocksize": 64}}, "npy": "npy"}
_CROP_PX = 48
_MOST_NOTES = 10
_NOTE_CHARS = 600
_MARKS = ("CACHEDIR.TAG", "ndframes.json")


@dataclass(frozen=True, slots=True)
class Scene:
    """Images of noise, of which any process can tell every pixel.

    Attributes:
        folder: where their files lie.
        count: how many there are; their ids are 0, 1, ...
        shape: of each, ``(height, width, bands)``.
        seed: other noise for another seed.

    Example:
        >>> scene = Scene(str(getfixture("tmp_path")), count=1).save(is_settled=False)
        >>> frames = scene.frames(getfixture("tmp_path") / "work", "npy")
        >>> bool((frames.load_image(0) == scene.array(0)).all())
        True
    """

    folder: str
    count: int = 3
    shape: tuple[int, int, int] = (150, 170, 3)
    seed: int = 0

    def array(self, number: int) -> Array:
        """All pixels of an image, uint8."""
        return np.random.default_rng([self.seed, number]).integers(0, 256, self.shape, np.uint8)

    def arrays(self) -> list[Array]:
        """Those of all images."""
        return [self.array(number) for number in range(self.count)]

    def path(self, number: int) -> str:
        """The file of an image."""
        return os.path.join(self.folder, f"source-{self.seed}-{number}.npy")

    def save(self, *, is_settled: bool = True) -> Scene:
        """Write the files; ``is_settled``: and wait until a change of them would be sure to show in their stamps."""
        os.makedirs(self.folder, exist_ok=True)
        for number in range(self.count):
            np.save(self.path(number), self.array(number))
        while is_settled and self.count and not stat_source(self.path(self.count - 1)).is_settled(time.time_ns()):
            time.sleep(0.05)
        return self

    def frames(
        self, workdir: str | os.PathLike[str], form: str, files: FileSystem | None = None, **options: Any
    ) -> SimpleFrames:
        """Frames over these images with their cache under ``workdir``, in one of :data:`FORMS`, by way of ``files``."""
        paths = {number: self.path(number) for number in range(self.count)}
        frames = SimpleFrames(paths, workdir=workdir, backend=FORMS[form], **options)
        frames.cache = Cache(workdir, max_bytes=options.get("max_bytes"), files=files)
        return frames


@dataclass(frozen=True, slots=True)
class Findings:
    """What an experiment came to.

    Attributes:
        name: of the experiment.
        done: what was done, and how often.
        broken: for each promise of the cache, how often it did not hold.
        notes: what the first few of these looked like.
        seconds: how long it took.
        skipped: why nothing was done, where nothing was.

    Example:
        >>> findings = Findings("kills", {"kills": 1000}, {"wrong crops": 0, "leftovers": 0}, seconds=100)
        >>> print(findings, findings.ok)
        kills: 1,000 kills: 0 wrong crops, 0 leftovers True
    """

    name: str
    done: Mapping[str, int] = field(default_factory=dict)
    broken: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Whether every promise held."""
        return not any(self.broken.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "notes": list(self.notes), "ok": self.ok}

    def __str__(self) -> str:
        if self.skipped:
            return f"{self.name}: skipped, {self.skipped}"
        line = f"{self.name}: {_list_counts(self.done)}: {_list_counts(self.broken)}"
        return "\n".join([line, *(f"  {note}" for note in self.notes)])


class Tally:
    """Counts what is done and what does not hold, over many trials and processes.

    Args:
        promises: what must not happen; said of an experiment even if it never did.
    """

    def __init__(self, *promises: str) -> None:
        self.done: Counter[str] = Counter()
        self.broken: Counter[str] = Counter(dict.fromkeys(promises, 0))
        self.notes: list[str] = []
        self._started = time.perf_counter()

    def count(self, what: str, number: int = 1) -> None:
        """So many more of these were done."""
        self.done[what] += number

    def fault(self, promise: str, number: int = 1, note: str = "") -> None:
        """A promise did not hold, so many times more."""
        self.broken[promise] += number
        if number and len(self.notes) < _MOST_NOTES:
            self.notes.append(f"{promise}: {note.strip()[-_NOTE_CHARS:]}" if note else promise)

    def add(self, other: Tally, context: str = "") -> None:
        """Add what another process counted; its notes get the ``context`` in front."""
        for what, number in other.done.items():
            self.done[what] += number
        for promise, number in other.broken.items():
            self.broken[promise] += number
        self.notes += [f"{context}: {note}" if context else note for note in other.notes]
        del self.notes[_MOST_NOTES:]

    def add_end(self, end: Ended, context: str) -> None:
        """Add what a child counted; where it did not come to that, it hung, or ended oddly."""
        if end.ok:
            self.add(end.value, context)
        else:
            self.fault("hangs" if end.is_hung else "odd ends", note=f"{context}: status {end.status}: {end.problem}")

    def finish(self, name: str) -> Findings:
        """The counts so far, for good."""
        seconds = time.perf_counter() - self._started
        return Findings(name, dict(self.done), dict(self.broken), tuple(self.notes), seconds)


def read_crops(frames: Frames, arrays: list[Array], crops: int, seed: int, tally: Tally) -> None:
    """Read random crops of random images, ``crops`` in all, and hold each against the array."""
    rng = np.random.default_rng(seed)
    for _ in range(crops):
        number = int(rng.integers(len(arrays)))
        height, width, _ = arrays[number].shape
        top, left = int(rng.integers(0, height - 1)), int(rng.integers(0, width - 1))
        region = slice(top, top + _CROP_PX), slice(left, left + _CROP_PX)
        is_equal = np.array_equal(frames.load_region(number, region), arrays[number][region])
        tally.count("crops")
        if not is_equal:
            tally.fault("wrong crops", note=f"image {number}, region {region}")


def examine(scene: Scene, workdir: str, form: str, *, crops: int, seed: int = 0) -> Tally:
    """What a process finds that comes to a cache after another had a mishap there.

    Every entry must be whole to its last byte and none have been put away as damaged; random crops must equal the
    source; what was missing must be there again after that; and after a collection nothing may be left but entries.

    Args:
        scene: the images.
        workdir: where the cache is.
        form: of the entries.
        crops: how many for each image.
        seed: of the choice of crops.
    """
    tally = Tally("wrong crops", "failed verify", "not rebuilt", "leftovers")
    cache = Cache(workdir)
    report = cache.verify(read_data=True)
    tally.count("entries verified", report.checked)
    tally.fault("failed verify", len(report.bad), str(report))
    quarantined = cache.stat().quarantined
    tally.fault("failed verify", quarantined, f"{quarantined} in quarantine")
    frames = scene.frames(workdir, form)
    read_crops(frames, scene.arrays(), crops * scene.count, seed, tally)
    for number in range(scene.count):
        frames.load_region(number, (slice(0, 1), slice(0, 1)))
        is_cached = all(file.is_cached for file in frames.explain(number).files)
        tally.fault("not rebuilt", int(not is_cached), f"image {number}")
    cache.gc()
    left = find_leftovers(cache)
    tally.fault("leftovers", len(left), ", ".join(left))
    return tally


def entry_begun(path: str) -> str | None:
    """The state of the source whose entry is being written in that temporary file; ``None`` for any other file."""
    owner = parse_part(os.path.basename(path))
    return owner.state_id if owner is not None and owner.state_id != NO_STATE_ID else None


def find_leftovers(cache: Cache) -> list[str]:
    """The files in the cache's folder, relative to it, that are neither entries nor marks nor locks."""
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


def _list_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {what}" for what, number in counts.items())
