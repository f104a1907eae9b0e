"""Detect the format of an image file from its first bytes, and open it."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import UnreadableImageError
from ...system.handles import FileHandle
from ...system.process import IMPORTING
from ...system.stamp import require_same_file, stat_source
from .limits import check_expansion
from .orientation import find_orientation

if TYPE_CHECKING:
    from ..._typing import Array
    from ...spec.pathinfo import ChannelInfo
    from ...system.handles import HandlePool
    from ...system.stamp import SourceStamp
    from ..reader import Reader

__all__ = ["open_image", "sniff"]
_HEAD_BYTES = 64
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
    (0, b"\x01\xda", "pillow"),
    (0, b"P5", "PNM"),
    (0, b"P6", "PNM"),
    (0, b"#?RADIANCE", "kwimage"),
    (0, b"#?RGBE", "kwimage"),
    (0, b"\x59\xa6\x6a\x95", "kwimage"),
    # Of the PNM forms, GDAL reads P5 and P6 only.
    (0, b"P1", "kwimage"),
    (0, b"P2", "kwimage"),
    (0, b"P3", "kwimage"),
    (0, b"P4", "kwimage"),
    (0, b"qoif", "pillow"),
    (0, b"8BPS", "pillow"),
    (0, b"\0\0\1\0", "pillow"),
    (0, b"DDS ", "pillow"),
    (4, b"ftypavif", "pillow"),
    (4, b"ftypavis", "pillow"),
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


def open_image(info: ChannelInfo, pool: HandlePool, *, is_mapped: bool | None = None) -> Reader:
    """Open the image file of one channel for crops.

    The format is detected from the file's first bytes, never from its name. ``info.driver`` overrides that with a GDAL
    driver; only so are a VRT, a ``/vsi`` path or a URL opened. Libraries are imported when a file needs them.

    The reader may close the file and open it again. If it was replaced meanwhile, :class:`~ndframes.SourceChangedError` is
    raised; not so with ``info.driver``, whose source need not be a file.

    Args:
        info: the file, and which of its images.
        pool: keeps the open handles.
        is_mapped: whether a ``.npy`` is mapped; see :class:`~ndframes.formats.images.arrays.NpyReader`.

    Raises:
        SourceError: the file cannot be read; :mod:`ndframes.errors` lists the cases.
    """
    # Here, so that GDAL loads with the first image, not with ndframes.
    with IMPORTING:
        from .raster import RasterReader

    if info.driver is not None:
        return RasterReader(info.path, info.driver, pool)
    stamp = stat_source(info.path)
    # The file is opened several times: to detect the format, to inspect it, to read it. All must see the same file.
    with require_same_file(info.path, stamp):
        return pool.open(lambda: _open_file(info, pool, stamp, is_mapped))


def _open_file(info: ChannelInfo, pool: HandlePool, stamp: SourceStamp, is_mapped: bool | None) -> Reader:
    head = _read_head(info.path, stamp)
    kind = sniff(head)
    if kind is None:
        raise UnreadableImageError(_describe_unknown(info.path, head, stamp.size_bytes))
    if kind == "tiff":
        return _open_tiff(info, pool, stamp)
    reader = _open_plain(info, kind, head, pool, stamp, is_mapped)
    orientation = find_orientation(info.path, kind)
    if orientation != 1:
        reader.facts = replace(reader.facts, orientation=orientation)
    return reader


def _open_plain(
    info: ChannelInfo, kind: str, head: bytes, pool: HandlePool, stamp: SourceStamp, is_mapped: bool | None
) -> Reader:
    """Open a file of a format with one image."""
    with IMPORTING:
        from .raster import RasterReader

    if info.page is not None or info.series is not None:
        raise UnreadableImageError(f"{info.path} is {kind}, which has no pages or series; leave page and series out")
    if kind == "npy":
        with IMPORTING:
            from .arrays import NpyReader

        return NpyReader(info.path, pool, stamp=stamp, is_mapped=is_mapped)
    if kind in ("pillow", "kwimage"):
        return _open_whole(info.path, kind, is_bilevel=head[:2] in (b"P1", b"P4"))
    return RasterReader(info.path, kind, pool, file_bytes=stamp.size_bytes, stamp=stamp)


def _open_tiff(info: ChannelInfo, pool: HandlePool, stamp: SourceStamp) -> Reader:
    """Open a TIFF: by GDAL if it is one plain image, by tifffile for pages, series, stacks and rarer compressions."""
    with IMPORTING:
        from .raster import RasterReader
        from .tiff import TiffReader, inspect_tiff

    if info.page is not None or info.series is not None:
        return TiffReader(info.path, page=info.page, series=info.series, stamp=stamp, pool=pool)
    try:
        has_own_layout, orientation = inspect_tiff(info.path)
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(f"{info.path} begins like TIFF, but its tags are damaged: {error}") from error
    if has_own_layout:
        return TiffReader(info.path, stamp=stamp, pool=pool)
    try:
        reader = RasterReader(info.path, "GTiff", pool, file_bytes=stamp.size_bytes, stamp=stamp)
    except UnreadableImageError as error:
        # tifffile knows compressions that GDAL lacks. If it fails too, GDAL's error stays: GDAL is the usual reader.
        try:
            return TiffReader(info.path, page=0, stamp=stamp, pool=pool)
        except UnreadableImageError:
            raise error from None  # GDAL's message says more about what is wrong
    reader.facts = replace(reader.facts, orientation=orientation)
    return reader


def _open_whole(path: str, library: str, *, is_bilevel: bool) -> Reader:
    """Decode a whole file of a format that offers no crops."""
    with IMPORTING:
        from .arrays import ArrayReader

    try:
        array = _decode_by_pillow(path) if library == "pillow" else _decode_by_kwimage(path)
    except UnreadableImageError:
        raise
    # Pillow and OpenCV raise anything for damaged bytes.
    except Exception as error:
        raise UnreadableImageError(
            f"{path} does not decode ({library}), it may be truncated or damaged: {error}"
        ) from error
    if is_bilevel:  # OpenCV reads the bits of a PBM as 0 and 255
        array = array > 0
    return ArrayReader(path, array, format=library, memory_bytes=array.nbytes)


def _decode_by_pillow(path: str) -> Array:
    with IMPORTING:
        import numpy as np
        from PIL import Image

    with Image.open(path) as image:
        # Pillow has read the header only; it allocates the pixels when they are first used.
        check_expansion(path, image.width * image.height * len(image.getbands()), os.path.getsize(path))
        return np.asarray(
            # Palettes become colours, as in RasterReader.
            image.convert("RGBA" if image.info.get("transparency") else "RGB") if image.mode == "P" else image
        )


def _decode_by_kwimage(path: str) -> Array:
    with IMPORTING:
        import kwimage

    array: Array = kwimage.imread(path, backend="cv2")  # the only backend that knows these formats
    return array


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
    return (
        f"{path} is not an image of a known format: it begins with {head[:16]!r}. Known: {_KNOWN}. "
        "To read another GDAL format, name it by ChannelInfo(driver=...)"
    )
