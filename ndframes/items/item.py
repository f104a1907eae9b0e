"""LazyImage: what every item of Frames is, and what it needs in order to open its files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from ..entries.opened import OpenedChannel
from ..pixels.options import ask_nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from .._typing import Array
    from ..geometry.regions import Region
    from ..pixels.options import AsAsked
    from ..spec.pathinfo import ChannelInfo, PathInfo

__all__ = [
    "THUMBNAIL_PX",
    "LazyImage",
    "OpenedChannel",
    "Opener",
]
THUMBNAIL_PX = 192


class Opener(Protocol):
    """What an image needs in order to open its files."""

    def open(self, info: ChannelInfo) -> OpenedChannel:
        """Open a file, from the cache or from the source."""

    def reopen(self, info: ChannelInfo, opened: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:
        """Open anew what failed with ``error``: by way of the cache again, or the source itself."""

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:
        """Whether what was opened is still what would be opened now."""


class LazyImage(ABC):
    """One item of :class:`~ndframes.Frames`: opened lazily, read by regions. The last three axes are y, x and the channel.

    Attributes:
        pathinfo: what it was made from.
        is_video: whether it is a video file, of which each frame has its time.
        trusted_until: by the monotonic clock, when its sources are to be looked at again; kept by its owner.
    """

    pathinfo: PathInfo
    is_video = False
    trusted_until = 0.0

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """What keeping it open costs."""

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """The codes of all its channels."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of image space."""

    @abstractmethod
    def shape(self, channels: str | Sequence[str] | None = None) -> tuple[int, ...]:
        """The shape of a read of everything."""

    @abstractmethod
    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """The dtype of a read: those of the files touched, promoted by ``np.result_type``."""

    @abstractmethod
    def select(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` asks for, checked.

        Raises:
            ChannelError: there is no such channel.
        """

    @abstractmethod
    def opened(self, part: int) -> OpenedChannel:
        """One of its files, opened if need be."""

    @abstractmethod
    def bands_by_part(self, codes: Sequence[str]) -> list[tuple[int, int]]:
        """Which of its files a read of ``codes`` touches, and how many bands of each."""

    @abstractmethod
    def is_current(self) -> bool:
        """Whether every source that was opened is still the file that it was then."""

    @abstractmethod
    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        pad: str | None = None,
        asked: AsAsked = ask_nothing,
    ) -> Array:
        """Read a region into a new array; see :meth:`ndframes.Frames.load_region`."""

    @abstractmethod
    def load_scaled(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        scale: float | tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        pad: str | None = None,
        asked: AsAsked = ask_nothing,
    ) -> Array:
        """Read a region resampled; see :meth:`ndframes.Frames.load_region`."""

    @abstractmethod
    def load_warped(
        self,
        transform: Any,
        shape: tuple[int, int],
        channels: str | Sequence[str] | None = None,
        *,
        asked: AsAsked = ask_nothing,
    ) -> Array:
        """Read through any affine map; see :meth:`ndframes.Frames.load_warped`."""

    @abstractmethod
    def load_thumbnail(self, max_px: int = THUMBNAIL_PX) -> Array:
        """A small copy of the default channels, of at most about ``max_px`` in height and width."""

    @abstractmethod
    def count_result_bytes(
        self,
        region: Region,
        channels: str | Sequence[str] | None = None,
        *,
        is_padded: bool = False,
        scale: float | tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
    ) -> int:
        """The size of what a read gives, in bytes; no pixel is read."""
