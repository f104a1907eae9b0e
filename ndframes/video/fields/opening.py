"""Opening of files of fields: those of ndframes, whose frames are read by position, and those of py-pde, which are decoded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MovieError, MovieFormatError, UnreadableImageError
from ...system.handles import HandlePool
from ...system.process import IMPORTING
from ..decoder import VideoDecoder
from ..index import open_container
from ..indexing import build_index
from ..samples import find_kind
from .pde import PDE_FORMATS, PdeFormat, describe_pde, find_times
from .places import PLACE, Places
from .source import FieldSource, describe_file

if TYPE_CHECKING:
    from ..._typing import Array
    from ...system.files import LocalFile
    from ..index import FrameIndex
    from .description import Description

__all__ = ["DecodedSource", "describe_bare", "open_source"]
_POOL = 4  # decoders that wait for the next frame


class DecodedSource(FieldSource):
    """The frames of a file that another program wrote: a picture may refer to others, and is decoded by its number.

    Args:
        path: the file.
        form: what it holds; ``None``: what it says itself.
        index: where its frames are; ``None``: they are found.

    Raises:
        SourceMissingError: there is no such file.
        MovieFormatError: it is not a file of fields, or none of its frames decodes.
    """

    def __init__(self, path: str, form: Description | None = None, index: FrameIndex | None = None) -> None:
        self._index = index
        super().__init__(path, form)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.form)

    def _find_places(self, file: LocalFile, known: Places | None) -> Places:  # noqa: ARG002 - as in the class above
        try:
            index = self._index or build_index(self.path)
        except UnreadableImageError as error:
            raise MovieFormatError(str(error)) from error
        self._index = None  # of the file as it was
        self._decoder = VideoDecoder(self.path, index, HandlePool(max_idle=_POOL), frame_bytes=0)
        table = np.zeros(len(index), PLACE)
        table["time"] = find_times(self.form, self.path, len(index))
        return Places(table, 0, is_complete=True)

    def _read_picture(self, number: int) -> Array:
        with IMPORTING:
            from ..libav import av
        assert self._arrangement is not None  # noqa: S101
        try:
            ((_, frame),) = self._decoder.decode_each([number])
            # One thread: a forked child has none of the converter's threads, and would wait for them for ever.
            picture: Array = frame.to_ndarray(format=self._arrangement.array_format, threads=1)
        except (UnreadableImageError, av.error.FFmpegError, ValueError) as error:
            raise MovieError(f"its picture does not decode: {error}") from error
        return picture


def open_source(path: str | os.PathLike[str], index: FrameIndex | None = None) -> FieldSource:
    """Open a file of fields.

    Args:
        path: the file.
        index: the index of its pictures, if it is known.

    Raises:
        SourceMissingError: there is no such file.
        MovieFormatError: it is not a file of fields.
    """
    name = os.fsdecode(path)
    form, _ = describe_file(name)
    return FieldSource(name) if form is None or form.pde_format is None else DecodedSource(name, form, index)


def describe_bare(path: str) -> Description:
    """The fields that the pixels of a video without a description are to py-pde: between 0 and 1.

    Raises:
        MovieFormatError: the file is not a video, or its pixels are not those of a format of py-pde.
    """
    try:
        with open_container(path) as container:
            video = container.streams.best("video")
            context: Any = None if video is None else video.codec_context
    except UnreadableImageError as error:
        raise MovieFormatError(f"{path} is not a movie of fields: {error}") from error
    kind = find_kind(context.pix_fmt) if context is not None and context.pix_fmt else None
    if kind is None or kind.dtype is None:
        raise MovieFormatError(f"{path} has no video whose pixels are levels")
    found = next(
        (name for name, each in PDE_FORMATS.items() if each == PdeFormat(kind.channels, 8 * kind.dtype.itemsize)), None
    )
    if found is None:
        raise MovieFormatError(
            f"{path} has the pixel format {context.pix_fmt}, which is none of {', '.join(PDE_FORMATS)}"
        )
    return describe_pde({"video_format": found}, (context.height, context.width), path)
