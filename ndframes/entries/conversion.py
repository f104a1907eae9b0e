"""Conversion: one channel's file into its cache entry, once."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any

from ..cache.trailer import append_trailer
from ..errors import BackendError
from ..system.handles import HandlePool
from ..system.objects.access import SourceAccess
from ..system.process import IMPORTING
from .checks import SamplingReader, SourceWatch
from .jobs import JobResult
from .local_copy import local_copy
from .payload import WrittenFile, describe_pixels, open_frames, open_payload
from .source import SourceOpener

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..cache.cache import Cache
    from ..cache.keys import EntryKey
    from ..formats.images.georeference import Georeference
    from ..formats.reader import Reader
    from ..formats.tiled.directories import Tags
    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo
    from ..system.segments import Manifest
    from ..system.stamp import SourceStamp
    from ..system.workers import Limits
    from .local_copy import LocalCopy

__all__ = ["Conversion"]
_log = logging.getLogger("ndframes")
_HEARTBEAT_SECONDS = 1.0
_VERSIONED = ("ndframes", "numpy", "imagecodecs", "rasterio")


@dataclass(frozen=True, slots=True)
class Conversion:
    """A job that converts one source into one cache entry. Its pickle holds everything that another process needs.

    Attributes:
        cache: where the entry goes.
        info: the source.
        backend: the form of the entry.
        key: the name of the entry.
        fields: the values that are hashed to the key.
        stamp: the source's state at the time of the key; ``None`` for a source that is not a local file.
        limits: the limits of the child process that converts; ``None`` converts in the calling process.
        access: reads the source.
    """

    cache: Cache
    info: ChannelInfo
    backend: Backend
    key: EntryKey
    fields: Mapping[str, Any]
    stamp: SourceStamp | None
    limits: Limits | None = None
    access: SourceAccess = field(default_factory=SourceAccess)

    def run(self, *, threads: int = 1, progress: Callable[[float], None] | None = None) -> JobResult:
        """Write the entry, compare it with the source and publish it, unless it exists.

        Args:
            threads: the number of threads that encode tiles.
            progress: called with the fraction that is done.

        Raises:
            SourceError: the source cannot be read, or it changed meanwhile.
            CacheEntryError: the written file does not reproduce the source's pixels.
            CacheFullError: the disk is full.
        """
        copied = local_copy(
            self.info.path, self.stamp, self.cache, self.access, state_id=self.key.state_id, progress=progress
        )
        with copied as copy, closing(HandlePool(max_idle=2)) as pool:
            return self._convert(copy, pool, threads, progress)

    def _convert(
        self, copy: LocalCopy, pool: HandlePool, threads: int, progress: Callable[[float], None] | None
    ) -> JobResult:
        path = copy.path if copy.is_copy else None
        watch = SourceWatch(self.info, self.backend, self.fields, self.stamp, access=self.access, copy=path)
        opener = SourceOpener(None if copy.is_copy else self.cache, pool)
        # Not mapped: another program may truncate the source meanwhile. Reading then raises; a map would crash.
        source = opener.open(self.info, copy.stamp, path=watch.path, is_mapped=False)
        written = []

        def write(file: IO[bytes]) -> None:
            # Only now: if the entry exists already, the source need not be hashed.
            with watch:
                is_lossless = self.backend.is_lossless_for(source.dtype, source.shape[2])
                sampled = SamplingReader(source, is_lossless=is_lossless)
                report = _with_heartbeat(self.cache, file.name, progress)
                place = _find_place(self.info, watch.path, source)
                payload = _write(file, sampled, self, threads, report, place)
                # The checks open the file by its name.
                file.flush()
                _check_written(file, payload, threads)
                sampled.check(_open_written(file.name, self, payload, source, pool))
                # Last, because a file with a trailer is taken for a complete entry.
                append_trailer(file, payload.segments, _describe(self, source, payload, place, watch.finish()))
            written.append(file.tell())

        entry, is_new = self.cache.publish(self.key, write, estimated_bytes=_estimate_bytes(source, self.backend))
        return JobResult(entry, is_new, written[0] if is_new else 0)


def _find_place(info: ChannelInfo, path: str, source: Reader) -> Georeference | None:
    """The georeference of an image, which its entry keeps."""
    # GDAL reads that of the first image of a file only.
    if source.frame_count is not None or info.page or info.series or source.format == "npy":
        return None
    with IMPORTING:
        from ..formats.images.georeference import find_georeference

    return find_georeference(path, info.driver)


def _write(
    file: IO[bytes],
    sampled: SamplingReader,
    conversion: Conversion,
    threads: int,
    progress: Callable[[float], None],
    place: Georeference | None,
) -> Manifest:
    backend, source = conversion.backend, sampled.source
    is_video = source.frame_count is not None
    # Each writer is imported when its form is written, because it loads libraries of its own.
    if backend.type == "intra":
        with IMPORTING:
            from ..video.intra import write_intra
            from ..video.reader import VideoReader

        if not isinstance(source, VideoReader):
            raise BackendError(
                f"{source.path} is a movie of {source.dtype} fields, and the backend 'intra' holds pictures alone; use 'npy' or 'cog', "
                "or pixel_format='picture'"
            )
        return write_intra(file, source, quality=backend.quality, progress=progress)
    if backend.type == "npy":
        with IMPORTING:
            from ..formats.tiled.npy_writer import write_npy

        return write_npy(file, sampled, progress=progress)
    with IMPORTING:
        from ..formats.tiled.cog_writer import write_cog
        from ..formats.tiled.volume_writer import write_volume

    codec = (backend.video_codec_for if is_video else backend.codec_for)(source.dtype, source.shape[2])
    if backend.compress not in ("AUTO", codec.compress):
        what = "tiles in space and time" if is_video else f"{source.shape[2]} bands of {source.dtype}"
        _log.warning(
            "%s: %s holds no %s; its entry is written as lossless %s",
            conversion.info.path,
            backend.compress,
            what,
            codec.compress,
        )
    scratch = conversion.cache.scratch
    if is_video:
        return write_volume(file, sampled, backend, threads=threads, progress=progress, scratch=scratch)
    tags = () if place is None else _to_tags(place)
    return write_cog(file, sampled, backend, threads=threads, progress=progress, scratch=scratch, tags=tags)


def _to_tags(place: Georeference) -> Tags:
    with IMPORTING:
        from ..formats.images.georeference import to_geotiff_tags

    return to_geotiff_tags(place)


def _open_written(path: str, conversion: Conversion, payload: Manifest, source: Reader, pool: HandlePool) -> Reader:
    """A reader of what was written; images by GDAL, as an independent check of our writer."""
    suffix = conversion.key.suffix
    if source.frame_count is None or suffix == ".npy":
        return open_payload(path, suffix, pool, has_frames=source.frame_count is not None)
    file = WrittenFile(path, payload.segments)
    return open_frames(path, payload.layout, source.facts, file, None, pool)


def _check_written(file: IO[bytes], payload: Manifest, threads: int) -> None:
    """Compare every segment with its checksum, and the TIFF's own tables with the segments."""
    with IMPORTING:
        from ..formats.tiled.checksums import check_segments

    check_segments(file, payload.segments, threads)
    if "levels" in payload.layout or "volume" in payload.layout:
        with IMPORTING:
            from ..formats.tiled.cog_writer import check_tile_tables

        check_tile_tables(file.name, payload)


def _describe(
    conversion: Conversion,
    source: Reader,
    payload: Manifest,
    place: Georeference | None,
    seen: dict[str, Any] | None,
) -> dict[str, Any]:
    """The description that the entry's trailer stores."""
    return {
        **({} if place is None else {"georeference": asdict(place)}),
        "key": dict(conversion.fields),
        "source": seen,
        **describe_pixels(source.facts),
        "layout": dict(payload.layout),
        # Only of modules that are loaded: a version is not worth an import.
        "versions": {name: getattr(sys.modules.get(name), "__version__", None) for name in _VERSIONED},
        "created_ns": time.time_ns(),
    }


def _with_heartbeat(cache: Cache, path: str, progress: Callable[[float], None] | None) -> Callable[[float], None]:
    """Wrap ``progress`` so that it also touches the file, by which waiting processes see that the writer is alive."""
    last = time.monotonic()

    def report(fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last > _HEARTBEAT_SECONDS:
            last = time.monotonic()
            cache.files.touch(path, time.time_ns(), time.time_ns())
        if progress is not None:
            progress(fraction)

    return report


def _estimate_bytes(source: Reader, backend: Backend) -> int:
    """An upper estimate of the disk space that a conversion needs.

    Pixels may not compress, and tiles that wait for their file's head take space beside it. Frames of a video have been
    compressed before, so they compress again to about half.
    """
    if backend.type == "npy":
        return source.nbytes + 4096
    if backend.type == "intra":
        return source.nbytes // (2 if backend.quality is None else 8) + 2**16
    return source.nbytes if source.frame_count is not None else source.nbytes // 2 * 3
