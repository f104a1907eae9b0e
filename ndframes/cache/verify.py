"""Verify: whether the entries of a cache are what was written, and lie under the names of what they hold."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import CacheEntryDamagedError, CacheEntryError
from ..system.process import core_count
from ..system.stamp import stamp_of
from ..text import format_bytes, list_first
from .layout import check_marks
from .trailer import check_cover, read_trailer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..system.files import FileSystem
    from ..system.stamp import SourceStamp
    from .store import CacheEntry, Store

__all__ = ["BadEntry", "VerifyReport", "verify_cache"]
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


class BadEntry(NamedTuple):
    """An entry that is not what was written, and what is wrong with it."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check of a cache found.

    Attributes:
        ok: whether no entry is bad.
        checked: how many entries were looked at.
        bad: those that are not what was written, or cannot be read.
        checked_bytes: how many bytes were held against their checksums, or would have to be.
        seconds: how long it took.
        read_data: whether every byte was read, or only what says how the entry ought to be.
        repaired: how many of the bad ones were taken out of the way.
        newer: how many entries a newer version wrote; they are left alone.
    """

    ok: bool
    checked: int
    bad: tuple[BadEntry, ...] = ()
    checked_bytes: int = 0
    seconds: float = 0.0
    read_data: bool = False
    repaired: int = 0
    newer: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "bad": [item._asdict() for item in self.bad]}

    def __str__(self) -> str:
        depth = "every byte read" if self.read_data else "lengths, names and descriptions"
        lines = [
            f"{self.checked:,} checked ({format_bytes(self.checked_bytes)}, {depth}), {len(self.bad):,} bad"
            + (f", {self.repaired:,} taken out of the way" if self.repaired else "")
            + (f", {self.newer:,} of a newer version left alone" if self.newer else "")
            + f", in {self.seconds:.2f} s"
        ]
        return "\n".join([*lines, *list_first(item.problem for item in self.bad)])


class _Finding(NamedTuple):
    """What was found of one entry.

    Attributes:
        verdict: what it is; ``gone``: removed or replaced by somebody meanwhile.
        problem: what is wrong with it.
        seen: which file that was, as far as it was opened.
    """

    verdict: Literal["good", "bad", "newer", "gone"]
    problem: str = ""
    seen: SourceStamp | None = None


def verify_cache(
    store: Store, *, read_data: bool, repair: bool, progress: Callable[[int, int], None] | None
) -> VerifyReport:
    """Check every entry; see :meth:`Cache.verify`."""
    started = time.perf_counter()
    entries = sorted(store.ls(), key=lambda entry: str(entry.path))
    if repair and entries:
        check_marks(store.root)
    meter = _Meter(sum(entry.size_bytes for entry in entries), progress)
    check = partial(_check_and_count, store.files, meter=meter, read_data=read_data)
    findings = list(zip(entries, _map_in_threads(check, entries, meter), strict=True))
    bad = [(entry, finding) for entry, finding in findings if finding.verdict == "bad"]
    repaired = sum(store.quarantine(entry.path, finding.seen) for entry, finding in bad) if repair else 0
    checked = [entry for entry, finding in findings if finding.verdict in ("good", "bad")]
    return VerifyReport(
        ok=not bad,
        checked=len(checked),
        bad=tuple(BadEntry(str(entry.path), finding.problem) for entry, finding in bad),
        checked_bytes=sum(entry.size_bytes for entry in checked),
        seconds=time.perf_counter() - started,
        read_data=read_data,
        repaired=repaired,
        newer=sum(finding.verdict == "newer" for _, finding in findings),
    )


class _Meter:
    """Counts bytes over all threads, and tells them to stop."""

    def __init__(self, total_bytes: int, progress: Callable[[int, int], None] | None) -> None:
        self.is_stopped = False
        self._done_bytes = 0
        self._total_bytes = total_bytes
        self._progress = progress
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """So many bytes more were looked at."""
        if self._progress is not None:
            with self._lock:
                self._done_bytes += count
                self._progress(self._done_bytes, self._total_bytes)


def _map_in_threads(
    check: Callable[[CacheEntry], _Finding], entries: Sequence[CacheEntry], meter: _Meter
) -> Iterator[_Finding]:
    """The findings in order. Reading and CRC-32 let go of the interpreter, so that threads do both at once."""
    with ThreadPoolExecutor(core_count()) as pool:
        try:
            yield from pool.map(check, entries)
        except BaseException:
            meter.is_stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _check_and_count(files: FileSystem, entry: CacheEntry, *, meter: _Meter, read_data: bool) -> _Finding:
    counted = 0

    def count(length: int) -> None:
        nonlocal counted
        counted += length
        meter.add(length)

    finding = _check(files, entry, count if read_data else None, meter)
    meter.add(entry.size_bytes - counted)
    return finding


def _check(files: FileSystem, entry: CacheEntry, count: Callable[[int], None] | None, meter: _Meter) -> _Finding:
    path = str(entry.path)
    seen: SourceStamp | None = None
    try:
        descriptor = files.open_to_read(path)
        try:
            status = os.fstat(descriptor)
            seen = stamp_of(status)
            _leave_time_of_use(descriptor)
            _check_open(files, descriptor, entry, status, count, meter)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return _Finding("gone")
    except CacheEntryDamagedError as error:
        problem = str(error)
    except CacheEntryError:
        return _Finding("newer")
    except OSError as error:
        if error.errno == errno.ESTALE:  # what NFS says of a file that another machine removed
            return _Finding("gone")
        problem = f"{path} cannot be read: {error}"
    else:
        return _Finding("good")
    return _Finding("bad", problem, seen) if _is_there(files, path, seen) else _Finding("gone")


def _check_open(
    files: FileSystem,
    descriptor: int,
    entry: CacheEntry,
    status: os.stat_result,
    count: Callable[[int], None] | None,
    meter: _Meter,
) -> None:
    trailer = read_trailer_of(entry.key, str(entry.path), files, descriptor, status)
    segments = trailer.load_segments(files, descriptor)
    check_cover(trailer.path, segments, trailer.payload_bytes)
    if count is None:
        return
    for index, segment in enumerate(segments):
        if meter.is_stopped:
            return
        trailer.check_segment(files, descriptor, segment, index)
        count(int(segment["length"]))


def _is_there(files: FileSystem, path: str, seen: SourceStamp | None) -> bool:
    """Whether what was found bad still lies there: the entry may have been made anew meanwhile."""
    try:
        status = files.status(path)
    except FileNotFoundError:
        return False
    return seen is None or seen.is_same_file(stamp_of(status))


def _leave_time_of_use(descriptor: int) -> None:
    """To look at an entry is no use of it; else a check would shuffle the order in which entries are removed."""
    if fcntl is not None and hasattr(os, "O_NOATIME"):
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_NOATIME)
        except OSError:  # another user's file
            pass
