"""Verify: check that entries match their checksums, and that their names are those of their content."""

from __future__ import annotations

import errno
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import CacheEntryDamagedError, CacheEntryError, StoreError
from ..system.objects.addresses import is_url
from ..system.process import core_count
from ..text import format_bytes, list_first
from .trailer import check_cover, read_trailer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .._typing import Array
    from ..system.files import FileSystem, OpenFile
    from ..system.stamp import SourceStamp
    from .store import CacheEntry, Store

__all__ = ["BadEntry", "VerifyReport", "verify_cache"]
# Over a network, threads wait rather than compute, and each holds what it has asked for.
_DISTANT_ENTRIES = 16
_AHEAD_BYTES = 8 << 20


class BadEntry(NamedTuple):
    """A damaged or unreadable entry, and what is wrong with it."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of :meth:`Cache.verify`.

    Attributes:
        ok: whether no entry is bad.
        checked: the number of entries checked.
        bad: the entries that are damaged or cannot be read.
        checked_bytes: the bytes of the checked entries.
        seconds: the time that the check took.
        read_data: whether every byte was read; if not, only lengths, names and trailers were checked.
        repaired: how many bad entries were moved to the quarantine folder.
        newer: how many entries a newer version wrote; they are not checked.
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
        """The attributes as plain data, ready for JSON."""
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
    """The result for one entry.

    Attributes:
        verdict: the result; ``gone``: the entry was removed or replaced meanwhile.
        problem: what is wrong with a bad entry.
        seen: the stamp of the file that was checked; ``None`` if it was not opened.
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
        store.check_marks()
    meter = _Meter(sum(entry.size_bytes for entry in entries), progress)
    check = partial(_check_and_count, store.files, meter=meter, read_data=read_data)
    threads = _DISTANT_ENTRIES if any(is_url(entry.path) for entry in entries) else core_count()
    findings = list(zip(entries, _map_in_threads(check, entries, meter, threads), strict=True))
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
    """Counts the checked bytes of all threads, and carries the request to stop.

    Attributes:
        is_stopped: whether the threads should end.
    """

    def __init__(self, total_bytes: int, progress: Callable[[int, int], None] | None) -> None:
        self.is_stopped = False
        self._done_bytes = 0
        self._total_bytes = total_bytes
        self._progress = progress
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count more checked bytes, and report the progress."""
        if self._progress is not None:
            with self._lock:
                self._done_bytes += count
                self._progress(self._done_bytes, self._total_bytes)


def _map_in_threads(
    check: Callable[[CacheEntry], _Finding], entries: Sequence[CacheEntry], meter: _Meter, threads: int
) -> Iterator[_Finding]:
    """The findings, in order. Threads gain time because reading and CRC-32 release the interpreter's lock."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(check, entries)
        except BaseException:
            # A thread in the middle of a large entry would else read it to its end, and Ctrl-C would wait for that.
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
    # The trailer, or what a failed check has not read: the progress must reach the total.
    meter.add(entry.size_bytes - counted)
    return finding


def _check(files: FileSystem, entry: CacheEntry, count: Callable[[int], None] | None, meter: _Meter) -> _Finding:
    path = str(entry.path)
    seen: SourceStamp | None = None
    try:
        with files.open_to_read(path) as file:
            seen = file.status.stamp
            file.keep_atime()  # a check that counted as a use would change which entries are removed first
            _check_open(file, entry, count, meter)
    except FileNotFoundError:
        return _Finding("gone")
    except StoreError:  # tells nothing of the entry
        raise
    except CacheEntryDamagedError as error:
        problem = str(error)
    except CacheEntryError:
        return _Finding("newer")
    except OSError as error:
        if error.errno == errno.ESTALE:  # NFS, when another machine has removed the file
            return _Finding("gone")
        problem = f"{path} cannot be read: {error}"
    else:
        return _Finding("good")
    return _Finding("bad", problem, seen) if _is_there(files, path, seen) else _Finding("gone")


def _check_open(file: OpenFile, entry: CacheEntry, count: Callable[[int], None] | None, meter: _Meter) -> None:
    file.check_length()
    trailer = read_trailer_of(entry.key, str(entry.path), file)
    segments = trailer.load_segments(file)
    check_cover(trailer.path, segments, trailer.payload_bytes)
    if count is None:
        return
    announced_to = 0
    for index, segment in enumerate(segments):
        if meter.is_stopped:
            return
        if file.is_distant and index == announced_to:
            announced_to = _announce(file, segments, index)
        trailer.check_segment(file, segment, index)
        count(int(segment["length"]))


def _announce(file: OpenFile, segments: Array, start: int) -> int:
    """Begin to fetch some segments from ``start`` on, many by one request; returns the first one after them."""
    ends = np.cumsum(segments["length"][start:], dtype=np.int64)
    stop = start + max(1, int(np.searchsorted(ends, _AHEAD_BYTES, side="right")))
    file.read_ahead((int(each["offset"]), int(each["length"])) for each in segments[start:stop])
    return stop


def _is_there(files: FileSystem, path: str, seen: SourceStamp | None) -> bool:
    """Whether the file found bad is still at its path; another process may have made the entry again meanwhile."""
    status = files.status(path)
    return status is not None and (seen is None or seen.is_same_file(status.stamp))
