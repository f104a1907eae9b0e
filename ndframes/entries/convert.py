"""Conversion: one channel's file into its cache entry, once."""

from __future__ import annotations

import logging
import sys
import time
from typing import IO, TYPE_CHECKING, Any

from ..cache.trailer import append_trailer
from ..system.handles import HandlePool
from ..system.process import IMPORTING
from .checks import SamplingReader, SourceWatch
from .conversion import Conversion, Converted
from .payload import WrittenFile, describe_pixels, open_frames, open_payload
from .source import SourceOpener

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cache.store import Cache
    from ..formats.reader import Reader
    from ..spec.backends import Backend
    from ..system.segments import Payload

__all__ = ["Conversion", "Converted", "convert"]
_log = logging.getLogger("ndframes")
_BEAT_SECONDS = 1.0
_VERSIONED = ("ndframes", "numpy", "imagecodecs", "rasterio")


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
    watch = SourceWatch(conversion)
    written = []
    try:
        # Not mapped: somebody may rewrite it in place meanwhile, which must be an error, and no bus error.
        opener = SourceOpener(conversion.cache, pool)
        source = opener.open(conversion.info, conversion.stamp, path=watch.path, is_mapped=False)

        def write(file: IO[bytes]) -> None:
            with watch:
                is_lossless = conversion.backend.is_lossless_for(source.dtype, source.shape[2])
                witness = SamplingReader(source, is_lossless=is_lossless)
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


def _write(
    file: IO[bytes], witness: SamplingReader, conversion: Conversion, threads: int, progress: Callable[[float], None]
) -> Payload:
    backend, source = conversion.backend, witness.source
    is_video = source.frame_count is not None
    if backend.type == "intra":
        with IMPORTING:
            from ..video.intra import write_intra
            from ..video.reader import VideoReader

        assert isinstance(source, VideoReader)  # noqa: S101 - no image is asked for in this form
        return write_intra(file, source, quality=backend.quality, progress=progress)
    if backend.type == "npy":
        with IMPORTING:
            from ..formats.tiled.npy_writer import write_npy

        return write_npy(file, witness, progress=progress)
    with IMPORTING:
        from ..formats.tiled.cog_writer import write_cog
        from ..formats.tiled.volume_writer import write_volume

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
    file = WrittenFile(path, payload.segments)
    return open_frames(path, payload.layout, source.facts, file, None, pool)


def _check_written(file: IO[bytes], payload: Payload, threads: int) -> None:
    """Hold every segment, and every place that a TIFF's own tables name, against what was meant."""
    with IMPORTING:
        from ..formats.tiled.checksums import check_segments

    check_segments(file, payload.segments, threads)
    if "levels" in payload.layout or "volume" in payload.layout:
        with IMPORTING:
            from ..formats.tiled.cog_writer import check_tile_tables

        check_tile_tables(file.name, payload)


def _describe(conversion: Conversion, source: Reader, payload: Payload, seen: dict[str, Any] | None) -> dict[str, Any]:
    """What an entry says of itself."""
    return {
        "key": dict(conversion.fields),
        "source": seen,
        **describe_pixels(source.facts),
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
