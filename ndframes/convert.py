"""Conversion: one channel's file into its cache entry, once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ._process import IMPORTING
from .errors import CacheEntryError, SourceChangedError
from .formats.handles import HandlePool
from .formats.reader import Array, Reader
from .formats.source import open_source
from .stamp import SourceStamp, stat_source

if TYPE_CHECKING:
    from .backends import Backend
    from .cache.keys import EntryKey
    from .cache.store import Cache
    from .pathinfo import ChannelInfo

__all__ = ["Conversion", "Converted", "convert", "open_entry"]

_log = logging.getLogger("ndframes")
_SAMPLES = 16
_SAMPLE_PX = 512


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is to be converted: everything a worker in another process must know.

    Attributes:
        cache: where the entry goes.
        info: the source.
        backend: the entry's form.
        key: the entry's name.
        stamp: the source's state for which the key was made; ``None`` for a source that is no local file.
    """

    cache: Cache
    info: ChannelInfo
    backend: Backend
    key: EntryKey
    stamp: SourceStamp | None


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
    """Make sure that the entry exists: write it, compare samples of it with the source, publish it.

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
    try:
        source = open_source(conversion.info, pool)

        def write(file: IO[bytes]) -> None:
            witness = _Witness(source)
            _write(file, witness, conversion.backend, threads, progress)
            file.flush()
            entry = open_entry(file.name, conversion.key.suffix, pool)
            witness.check(entry, is_lossless=conversion.backend.is_lossless_for(source.dtype, source.shape[2]))
            if conversion.stamp is not None and stat_source(conversion.info.path) != conversion.stamp:
                raise SourceChangedError(
                    f"{conversion.info.path} changed while it was being converted; try again when it rests"
                )

        path, is_new = conversion.cache.publish(
            conversion.key, write, estimated_bytes=_estimate_bytes(source, conversion.backend)
        )
    finally:
        pool.close()
    return Converted(path, is_new, path.stat().st_size if is_new else 0)


def open_entry(path: str, suffix: str, pool: HandlePool) -> Reader:
    """Open a cache entry for crops, as what its key says it is."""
    if suffix == ".npy":
        with IMPORTING:
            from .formats.arrays import open_npy

        return open_npy(path)
    with IMPORTING:
        from .formats.raster import RasterReader

    return RasterReader(path, "GTiff", pool)


class _Witness(Reader):
    """A source that remembers a few lines of what was read from it, so that what was written can be held against them."""

    def __init__(self, source: Reader) -> None:
        super().__init__(
            source.path,
            format=source.format,
            shape=source.shape,
            dtype=source.dtype,
            tile_shape=source.tile_shape,
        )
        self._source = source
        last = source.shape[0] - 1
        self._lines = sorted({last * number // (_SAMPLES - 1) for number in range(_SAMPLES)})
        self._seen: list[tuple[int, range, Array]] = []

    def _read_window(self, rows: range, cols: range, bands: Sequence[int], out: Array, level: int) -> None:
        self._source.read(rows, cols, bands, out, level=level)
        for number, line in enumerate(self._lines):
            if line in rows:
                first = (len(cols) - _SAMPLE_PX) * number // _SAMPLES if len(cols) > _SAMPLE_PX else 0
                part = cols[first : first + _SAMPLE_PX]
                self._seen.append((line, part, out[line - rows.start, first : first + len(part)].copy()))

    def check(self, entry: Reader, *, is_lossless: bool) -> None:
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
            if is_lossless and not is_equal:
                raise CacheEntryError(
                    f"entry for {self.path} differs from it in row {line}, columns {cols}; not published"
                )


def _write(
    file: IO[bytes], source: Reader, backend: Backend, threads: int, progress: Callable[[float], None] | None
) -> None:
    if backend.type == "npy":
        with IMPORTING:
            from .formats.npy import write_npy

        write_npy(file, source, progress=progress)
        return
    with IMPORTING:
        from .formats.cog import write_cog

    codec = backend.codec_for(source.dtype, source.shape[2])
    if backend.compress not in ("AUTO", codec.compress):
        _log.warning(
            "%s: %s holds no %d bands of %s; its entry is written as lossless %s",
            source.path, backend.compress, source.shape[2], source.dtype, codec.compress,
        )  # fmt: skip
    write_cog(file, source, backend, threads=threads, progress=progress)


def _estimate_bytes(source: Reader, backend: Backend) -> int:
    """At most this many bytes, by all that is likely: nothing compresses, and spooled tiles stand beside the file."""
    return source.nbytes + 4096 if backend.type == "npy" else source.nbytes // 2 * 3
