"""ImageSummary: what is known of an image without reading its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import SourceMissingError
from ..spec.pathinfo import SequenceInfo
from ..system.stamp import stat_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..items.item import LazyImage
    from ..spec.pathinfo import PathInfo
    from ..system.stamp import SourceStamp

__all__ = ["FileStamp", "ImageSummary", "digest_files", "stamp_files", "summarize_item"]
_STATE_BYTES = 12
#: A file: its path, the number of its page, and what the file system says of it; ``None``: it is not there.
FileStamp: TypeAlias = "tuple[str, int | None, tuple[int, ...] | None]"


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """What is known of an image, a sequence or a video without reading its pixels.

    Attributes:
        kind: ``"image"``, ``"sequence"`` or ``"video"``.
        shape: of a read of everything: ``(y, x, channel)``, with time in front of a sequence and a video.
        channels: the codes that are read.
        dtype: the name of the dtype of the read.
        all_channels: the codes of all channels.
        state: a digest that changes when one of the files changes.
    """

    kind: str
    shape: tuple[int, ...]
    channels: tuple[str, ...]
    dtype: str
    all_channels: tuple[str, ...]
    state: str

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain data."""
        return asdict(self)


def summarize_item(
    item: LazyImage, channels: str | Sequence[str] | None = None, *, look: Callable[[str], SourceStamp] = stat_source
) -> ImageSummary:
    """Describe a read of everything; files are opened, and none is converted if the item was made so.

    Raises:
        ChannelError: there is no such channel.
        SourceError: a file is missing or cannot be read.
    """
    codes = item.select(channels)
    kind = "video" if item.is_video else "image" if not isinstance(item.pathinfo, SequenceInfo) else "sequence"
    return ImageSummary(
        kind=kind,
        shape=tuple(item.shape(codes)),
        channels=codes,
        dtype=item.dtype(codes).name,
        all_channels=item.channels,
        state=digest_files(stamp_files(item.pathinfo, look)),
    )


def stamp_files(info: PathInfo, look: Callable[[str], SourceStamp] = stat_source) -> tuple[tuple[FileStamp, ...], ...]:
    """The files of an image, or of each image of a sequence, as they are now. Opens none of them.

    Args:
        info: the image.
        look: the state of a source, as :meth:`ndframes.Frames.look_at` gives it.
    """
    images = info.images if isinstance(info, SequenceInfo) else (info,)
    return tuple(
        tuple((file.path, file.page, _state_of(file.path, look)) for file in image.channels) for image in images
    )


def digest_files(stamps: Iterable[Iterable[FileStamp]]) -> str:
    """A digest that changes when one of the files of an image changes."""
    digest = hashlib.blake2b(digest_size=_STATE_BYTES)
    for stamp in chain.from_iterable(stamps):
        digest.update(repr(stamp).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _state_of(path: str, look: Callable[[str], SourceStamp]) -> tuple[int, ...] | None:
    try:
        # Without the number of the file system, which changes with every mount.
        return look(path)[1:]
    except SourceMissingError:  # the item is open, so its cache entry is read in its place
        return None
