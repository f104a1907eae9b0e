"""Detect the format of an image file from its first bytes, and open it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import UnreadableImageError
from ...system.handles import FileHandle
from ...system.objects.rules import check_driver_path
from ...system.process import IMPORTING
from ...system.stamp import require_same_file, stat_source
from .jpeg2000 import is_signed_byte, is_ycbcr
from .orientation import find_orientation

if TYPE_CHECKING:
    from ..._typing import Array
    from ...spec.pathinfo import ChannelInfo
    from ...system.handles import HandlePool
    from ...system.stamp import SourceStamp
    from ..reader import Reader
    from ..tiled.tile_cache import TileCache

__all__ = ["open_image", "sniff"]
_HEAD_BYTES = 64
_JPEG_2000_HEAD_BYTES = 1 << 16
# A larger BMP or GIF is read piece by piece, by GDAL.
_MOST_DECODED_BYTES = 512 * 2**20
# Formats of animations, of which a still image is the only frame.
_ANIMATED = ("GIF", "WEBP", "AVIF")
_BY_GDAL = ("PNG", "JP2OpenJPEG", "WEBP", "NITF")
# The first bytes of MP4, Matroska, AVI and Flash video.
_VIDEO = re.compile(rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI |FLV", re.DOTALL)
# (offset, magic bytes, format): a GDAL driver, or a word of our own. Longer signatures come first.
_MAGIC = (
    (0, b"\x93NUMPY", "npy"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0", "tiff"),
    (0, b"MM\0+", "tiff"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (4, b"jP  \r\n\x87\n", "JP2OpenJPEG"),
    (0, b"\xff\x4f\xff\x51", "JP2OpenJPEG"),
    (8, b"WEBP", "WEBP"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"NITF", "NITF"),
    (0, b"NSIF", "NITF"),
    (0, b"\x01\xda", "SGI"),
    *((0, b"P%d" % form, "PNM") for form in range(1, 7)),
    (0, b"#?RADIANCE", "Radiance"),
    (0, b"#?RGBE", "Radiance"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"qoif", "QOI"),
    (0, b"8BPS", "PSD"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"DDS ", "DDS"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
)
_KNOWN = (
    "TIFF, PNG, JPEG, JPEG 2000, WebP, GIF, BMP, NITF, PNM, SGI, npy, Radiance, Sun raster, AVIF, QOI, PSD, ICO, DDS"
)


def sniff(head: bytes) -> str | None:
    r"""Detect the format of a file from its first bytes: a GDAL driver, or a word of our own; ``None`` if it is unknown.

    Example:
        >>> sniff(b"\x89PNG\r\n\x1a\n"), sniff(b"<VRTDataset>")
        ('PNG', None)
    """
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    return None


def open_image(
    info: ChannelInfo, pool: HandlePool, *, is_mapped: bool | None = None, tiles: TileCache | None = None
) -> Reader:
    """Open the image file of one channel for crops.

    The format is detected from the file's first bytes, never from its name. ``info.driver`` overrides that with a GDAL
    driver; only so are a VRT or a ``/vsi`` path opened. Libraries are imported when a file needs them.

    The reader may close the file and open it again. If it was replaced meanwhile, :class:`~ndframes.SourceChangedError` is
    raised; not so with ``info.driver``, whose source need not be a file.

    Args:
        info: the file, and which of its images.
        pool: keeps the open handles.
        is_mapped: whether pixels without compression are mapped; see :class:`~ndframes.formats.images.arrays.RawReader`.
        tiles: stores decoded blocks and images; ``None``: each reader keeps its own.

    Raises:
        SourceError: the file cannot be read; :mod:`ndframes.errors` lists the cases.
    """
    # Here, so that GDAL loads with the first image, not with ndframes.
    with IMPORTING:
        from .raster import RasterReader

    if info.driver is not None:
        check_driver_path(info.path)
        return RasterReader(info.path, info.driver, pool)
    stamp = stat_source(info.path)
    # The file is opened several times: to detect the format, to inspect it, to read it. All must see the same file.
    with require_same_file(info.path, stamp):
        return pool.open(lambda: _open_file(info, pool, stamp, is_mapped, tiles))


def _open_file(
    info: ChannelInfo, pool: HandlePool, stamp: SourceStamp, is_mapped: bool | None, tiles: TileCache | None
) -> Reader:
    head = _read_head(info.path, stamp)
    kind = sniff(head)
    if kind is None:
        raise UnreadableImageError(_describe_unknown(info.path, head, stamp.size_bytes))
    if kind == "tiff":
        with IMPORTING:
            from .tiff.reader import TiffReader

        chosen: dict[str, Any] = {"page": info.page, "series": info.series}
        return TiffReader(info.path, **chosen, stamp=stamp, pool=pool, tiles=tiles, is_mapped=is_mapped)
    reader = _open_plain(info, kind, head, pool, stamp, is_mapped, tiles)
    orientation = find_orientation(info.path, kind)
    if orientation != 1:
        reader.facts = replace(reader.facts, orientation=orientation)
    return reader


def _open_plain(
    info: ChannelInfo,
    kind: str,
    head: bytes,
    pool: HandlePool,
    stamp: SourceStamp,
    is_mapped: bool | None,
    tiles: TileCache | None,
) -> Reader:
    """Open a file of a format with one image."""
    with IMPORTING:
        from .raster import RasterReader

    is_only_frame = info.page == 0 and info.series is None and kind in _ANIMATED
    if (info.page is not None or info.series is not None) and not is_only_frame:
        raise UnreadableImageError(f"{info.path} is {kind}, which has no pages or series; leave page and series out")
    if kind == "npy":
        with IMPORTING:
            from .arrays import NpyReader

        return NpyReader(info.path, pool, stamp=stamp, is_mapped=is_mapped)
    if kind == "JPEG":
        with IMPORTING:
            from .jpeg import open_jpeg

        return open_jpeg(info.path, pool, stamp, tiles)
    if kind == "PNM":
        with IMPORTING:
            from .pnm import open_pnm

        return open_pnm(info.path, pool, stamp, is_mapped=is_mapped, tiles=tiles)
    is_large = kind in ("BMP", "GIF") and _decoded_bytes_of(head, kind) > _MOST_DECODED_BYTES
    if (kind not in _BY_GDAL and not is_large) or (kind == "JP2OpenJPEG" and _is_misread(info, pool, stamp)):
        return _open_decoded(info, kind, head, pool, stamp, tiles)
    return RasterReader(info.path, kind, pool, file_bytes=stamp.size_bytes, stamp=stamp)


def _decoded_bytes_of(head: bytes, kind: str) -> int:
    """The bytes of a decoded BMP or GIF, by its header; 0 if that is cut."""
    if kind == "GIF":
        return 4 * int.from_bytes(head[6:8], "little") * int.from_bytes(head[8:10], "little")
    extents = [int.from_bytes(head[at : at + 4], "little", signed=True) for at in (18, 22)]
    return 4 * abs(extents[0] * extents[1])


def _open_decoded(
    info: ChannelInfo, kind: str, head: bytes, pool: HandlePool, stamp: SourceStamp, tiles: TileCache | None
) -> Reader:
    """Open a file of a format that is decoded as a whole."""
    with IMPORTING:
        from .decoded import decode_whole
        from .planar import name_psd_bands
        from .whole import open_whole, read_bytes

    def decode() -> Array:
        return decode_whole(info.path, kind, read_bytes(info.path, pool, stamp))

    return open_whole(info.path, kind, decode, tiles, channels=name_psd_bands(head) if kind == "PSD" else None)


def _is_misread(info: ChannelInfo, pool: HandlePool, stamp: SourceStamp) -> bool:
    """Whether GDAL misreads a JPEG 2000: signed samples of 8 bits or fewer as unsigned, and YCbCr (sYCC) as RGB."""
    with IMPORTING:
        from .whole import read_bytes

    head = read_bytes(info.path, pool, stamp, most=_JPEG_2000_HEAD_BYTES)
    return is_signed_byte(head) or is_ycbcr(head)


def _read_head(path: str, stamp: SourceStamp) -> bytes:
    file = FileHandle(path, stamp)
    try:
        return os.pread(file.descriptor, _HEAD_BYTES, 0)
    finally:
        file.close()


def _describe_unknown(path: str, head: bytes, size_bytes: int) -> str:
    if not size_bytes:
        return f"{path} is empty (0 bytes); it may be an unfinished download"
    if _VIDEO.match(head):
        return (
            f"{path} looks like a video; a video is recognised by the ending of its name: "
            "rename it to end in .mp4, .mkv or .avi"
        )
    if head.lstrip().startswith(b"{"):
        return f"{path} is JSON, not an image; CocoFrames reads a COCO or kwcoco dataset"
    return (
        f"{path} is not an image of a known format: it begins with {head[:16]!r}. Known: {_KNOWN}. "
        "To read another GDAL format, name it by ChannelInfo(driver=...)"
    )
