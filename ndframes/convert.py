"""Conversion: one channel's file into its cache entry, once."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ._process import IMPORTING
from .cache.contents import hash_file
from .cache.keys import Keyer
from .cache.trailer import append_trailer
from .errors import CacheEntryError, SourceChangedError
from .formats.handles import HandlePool
from .formats.reader import Array, Reader
from .payload import PayloadFile, open_frames, open_payload
from .source import SourceOpener, follow_links
from .stamp import SourceStamp, stat_source

if TYPE_CHECKING:
    from .backends import Backend
    from .cache.keys import EntryKey
    from .cache.store import Cache
    from .pathinfo import ChannelInfo
    from .segments import Payload
    from .workers import Limits

__all__ = ["Conversion", "Converted", "convert"]

_log = logging.getLogger("ndframes")
_SAMPLES = 16
_SAMPLE_PX = 512
_BEAT_SECONDS = 1.0
_VERSIONED = ("ndframes", "numpy", "imagecodecs", "rasterio")


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is to be converted: everything a worker in another process must know.

    Attributes:
        cache: where the entry goes.
        info: the source.
        backend: the entry's form.
        key: the entry's name.
        fields: what the name is a digest of.
        stamp: the source's state for which the key was made; ``None`` for a source that is no local file.
        limits: what a child process that does it may use; ``None`` does it in the process that asks.
    """

    cache: Cache
    info: ChannelInfo
    backend: Backend
    key: EntryKey
    fields: Mapping[str, Any]
    stamp: SourceStamp | None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of a conversion.

    Attributes:
        path: the entry.
        is_new: whether this conversion wrote it; else another had done so first.
        bytes_written: its length, if it is new.
    """

    path: Path
    is_new: bool
    bytes_written: int


def convert(conversion: Conversion, *, threads: int = 1, progress: Callable[[float], None] | None = None) -> Converted:
    """Make sure that the entry exists: write it, compare it with what was meant and with the source, publish it.

    Args:
        conversion: what to convert.
        threads: how many tiles are encoded at once.
        progress: called with the fraction done.

    Raises:
        SourceError: the source cannot be read, or it changed meanwhile.
        CacheEntryError: the written file does not give the source's pixels back.
        CacheFullError: there is no space.
    """
    pool = HandlePool(max_idle=2)
    watch = _SourceWatch(conversion)
    written = []
    try:
        # Not mapped: somebody may rewrite it in place meanwhile, which must be an error, and no bus error.
        opener = SourceOpener(conversion.cache, pool)
        source = opener.open(conversion.info, conversion.stamp, path=watch.path, is_mapped=False)

        def write(file: IO[bytes]) -> None:
            with watch:
                is_lossless = conversion.backend.is_lossless_for(source.dtype, source.shape[2])
                witness = _Witness(source, is_lossless=is_lossless)
                payload = _write(file, witness, conversion, threads, _beating(conversion.cache, file.name, progress))
                file.flush()
                _check_written(file, payload, threads)
                witness.check(_open_written(file.name, conversion, payload, source, pool))
                append_trailer(file, payload.segments, _describe(conversion, source, payload, watch.finish()))
            written.append(file.tell())

        path, is_new = conversion.cache.publish(
            conversion.key, write, estimated_bytes=_estimate_bytes(source, conversion.backend)
        )
    finally:
        pool.close()
    return Converted(path, is_new, written[0] if is_new else 0)


class _SourceWatch:
    """Sees to it that a conversion read one state of its source, the one for which its key was made.

    A file that rests shows every change in its stamp. One that was changed within the last two seconds does not, so
    its content is digested before and after. What a key made of a path does not say, the content, is digested in any
    case: a file that was only touched or copied is told by it from one that was rewritten.
    """

    def __init__(self, conversion: Conversion) -> None:
        self._conversion = conversion
        self.path = conversion.info.path if conversion.stamp is None else follow_links(conversion.info.path)
        self._is_by_path = conversion.fields["mode"] == "PATH"
        self._stop = threading.Event()
        self._hashing: Future[str] | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._was_settled = True

    def __enter__(self) -> _SourceWatch:
        try:
            self._start()
        except BaseException:  # Ctrl-C, say, when the thread has just started: nobody else would tell it to end
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        if self._conversion.stamp is None:
            return
        self._check_stamp()
        self._was_settled = self._conversion.stamp.is_settled(time.time_ns())
        if self._is_by_path:
            self._pool = ThreadPoolExecutor(1)
            self._hashing = self._pool.submit(hash_file, self.path, "sha256", self._stop)
            if not self._was_settled:
                self._hashing.result()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._pool is not None:
            self._pool.shutdown()

    def finish(self) -> dict[str, Any] | None:
        """Look again, and tell what the source was all the time.

        Raises:
            SourceChangedError: it changed.
        """
        stamp = self._conversion.stamp
        if stamp is None:
            return None
        digest = None if self._hashing is None else self._hashing.result()
        looked_ns = time.time_ns()
        if not self._was_settled:
            self._check_content(digest)
        self._check_stamp()
        return {
            "path": os.path.realpath(self.path),
            "stamp": list(stamp),
            "sha256": digest,
            "is_settled": stamp.is_settled(looked_ns),
        }

    def _check_content(self, digest: str | None) -> None:
        if self._is_by_path:
            is_same = hash_file(self.path, "sha256", self._stop) == digest
        else:
            fields = Keyer(self._conversion.fields["mode"]).fields(
                self._conversion.info, self._conversion.backend, self._conversion.stamp
            )
            is_same = fields == self._conversion.fields
        if not is_same:
            raise self._changed()

    def _check_stamp(self) -> None:
        if stat_source(self.path) != self._conversion.stamp:
            raise self._changed()

    def _changed(self) -> SourceChangedError:
        return SourceChangedError(
            f"{self._conversion.info.path} changed while it was being converted; try again when it rests"
        )


class _Witness(Reader):
    """A source that remembers a few lines of what was read from it, so that what was written can be held against them."""

    def __init__(self, source: Reader, *, is_lossless: bool) -> None:
        super().__init__(
            source.path,
            format=source.format,
            shape=source.shape,
            dtype=source.dtype,
            tile_shape=source.tile_shape,
        )
        self.nodata = source.nodata
        self.frame_count = source.frame_count
        self.is_lossless = is_lossless
        self.source = source
        last = source.shape[0] - 1
        self._lines = sorted({last * number // (_SAMPLES - 1) for number in range(_SAMPLES)})
        self._seen: list[tuple[int, range, Array]] = []

    def read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        self.source.read(rows, cols, bands, out, level=level)
        self._look(rows, cols, out)

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        self.source.read_frames(times, rows, cols, bands, out)
        height = self.frame_shape[0]
        for place, number in enumerate(times):
            top = number * height
            self._look(range(rows.start + top, rows.stop + top), cols, out[place])

    def _look(self, rows: range, cols: range, out: Array) -> None:
        for number, line in enumerate(self._lines):
            if line in rows:
                first = (len(cols) - _SAMPLE_PX) * number // _SAMPLES if len(cols) > _SAMPLE_PX else 0
                part = cols[first : first + _SAMPLE_PX]
                self._seen.append((line, part, out[line - rows.start, first : first + len(part)].copy()))

    def check(self, entry: Reader) -> None:
        """Hold ``entry`` against what passed: shape, dtype and, where lossless, every line that was kept."""
        if (entry.shape, entry.dtype) != (self.shape, self.dtype):
            raise CacheEntryError(
                f"entry for {self.path} came out as {entry.shape} {entry.dtype}, not {self.shape} {self.dtype}"
            )
        for line, cols, wanted in self._seen:
            got = np.empty((1, *wanted.shape), self.dtype)
            entry.read(range(line, line + 1), cols, range(self.shape[2]), got)
            with np.errstate(invalid="ignore"):  # signalling NaNs compare as any other NaN
                is_equal = np.array_equal(got[0], wanted, equal_nan=wanted.dtype.kind in "fc")
            if self.is_lossless and not is_equal:
                raise CacheEntryError(
                    f"entry for {self.path} differs from it in row {line}, columns {cols}; not published"
                )


def _write(
    file: IO[bytes], witness: _Witness, conversion: Conversion, threads: int, progress: Callable[[float], None]
) -> Payload:
    backend, source = conversion.backend, witness.source
    is_video = source.frame_count is not None
    if backend.type == "intra":
        with IMPORTING:
            from .video.intra import write_intra
            from .video.stack import VideoStack

        assert isinstance(source, VideoStack)  # noqa: S101 - no image is asked for in this form
        return write_intra(file, source, quality=backend.quality, progress=progress)
    if backend.type == "npy":
        with IMPORTING:
            from .formats.npy import write_npy

        return write_npy(file, witness, progress=progress)
    with IMPORTING:
        from .formats.cog import write_cog
        from .formats.volumewrite import write_volume

    codec = (backend.video_codec_for if is_video else backend.codec_for)(source.dtype, source.shape[2])
    if backend.compress not in ("AUTO", codec.compress):
        what = "tiles in space and time" if is_video else f"{source.shape[2]} bands of {source.dtype}"
        _log.warning(
            "%s: %s holds no %s; its entry is written as lossless %s",
            source.path,
            backend.compress,
            what,
            codec.compress,
        )
    write = write_volume if is_video else write_cog
    return write(file, witness, backend, threads=threads, progress=progress, scratch=conversion.cache.scratch)


def _open_written(path: str, conversion: Conversion, payload: Payload, source: Reader, pool: HandlePool) -> Reader:
    """What was written, as another library reads it, where one does."""
    suffix = conversion.key.suffix
    if source.frame_count is None or suffix == ".npy":
        return open_payload(path, suffix, pool, has_frames=source.frame_count is not None)
    file = PayloadFile(path, payload.segments)
    return open_frames(path, payload.layout, source.shape, source.dtype, source.frame_count, file, None, pool)


def _check_written(file: IO[bytes], payload: Payload, threads: int) -> None:
    """Hold every segment, and every place that a TIFF's own tables name, against what was meant."""
    with IMPORTING:
        from .formats.checksums import check_segments

    check_segments(file, payload.segments, threads)
    if "levels" in payload.layout or "volume" in payload.layout:
        with IMPORTING:
            from .formats.cog import check_tile_tables

        check_tile_tables(file.name, payload)


def _describe(conversion: Conversion, source: Reader, payload: Payload, seen: dict[str, Any] | None) -> dict[str, Any]:
    """What an entry says of itself."""
    return {
        "key": dict(conversion.fields),
        "source": seen,
        "shape": list(source.shape),
        "dtype": source.dtype.str,
        "nodata": source.nodata,
        "frames": source.frame_count,
        "layout": dict(payload.layout),
        "versions": {name: getattr(sys.modules.get(name), "__version__", None) for name in _VERSIONED},
        "created_ns": time.time_ns(),
    }


def _beating(cache: Cache, path: str, progress: Callable[[float], None] | None) -> Callable[[float], None]:
    """``progress`` that also shows those who wait for this entry, now and then, that its writer is at work."""
    last = time.monotonic()

    def report(fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last > _BEAT_SECONDS:
            last = time.monotonic()
            cache.files.touch(path, time.time_ns(), time.time_ns())
        if progress is not None:
            progress(fraction)

    return report


def _estimate_bytes(source: Reader, backend: Backend) -> int:
    """At most this many bytes, by all that is likely: nothing compresses, and spooled tiles stand beside the file.

    The frames of a video were compressed once, so that what is stored of them takes about half of them at most.
    """
    if backend.type == "npy":
        return source.nbytes + 4096
    if backend.type == "intra":
        return source.nbytes // (2 if backend.quality is None else 8) + 2**16
    return source.nbytes if source.frame_count is not None else source.nbytes // 2 * 3
