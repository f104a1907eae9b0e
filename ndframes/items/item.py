"""LazyImage: the interface of every item of Frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ..pixels.options import DEFAULT_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from .._typing import Array
    from ..entries.opened import OpenedChannel
    from ..geometry.regions import Region
    from ..pixels.options import ReadOptions
    from ..spec.nodata import Nodata
    from ..spec.pathinfo import PathInfo
    from .explain import FileExplanation, SampledRegion
    from .parts import Pick
    from .plan import PlannedCrop

__all__ = ["THUMBNAIL_PX", "LazyImage"]
THUMBNAIL_PX = 192


class LazyImage(ABC):
    """One item of :class:`~ndframes.Frames`: opened lazily, read by regions. The last three axes are y, x and channel.

    Attributes:
        pathinfo: the description that it was made from.
        is_video: whether it is a video file, whose frames have times.
        trusted_until: the monotonic time until which its sources are not checked again; set by its owner.
    """

    pathinfo: PathInfo
    is_video = False
    trusted_until = 0.0

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """The memory that it uses while it is open."""

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """The codes of all its channels."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of image space."""

    @property
    def frame_ids(self) -> Sequence[object]:
        """The ids of its frames along the time axis; empty for an image."""
        return range(0)

    @abstractmethod
    def shape(self, channels: str | Sequence[str] | None = None) -> tuple[int, ...]:
        """The shape of a read of everything."""

    @abstractmethod
    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """The dtype of a read: the dtypes of the files that it reads, promoted by ``np.result_type``."""

    @abstractmethod
    def select(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` stands for, checked.

        Raises:
            ChannelError: there is no such channel.
        """

    @abstractmethod
    def opened(self, part: int) -> OpenedChannel:
        """One of its files, opened if it is not yet."""

    @abstractmethod
    def bands_by_part(self, codes: Sequence[str]) -> list[tuple[int, int]]:
        """The numbers of the files that a read of ``codes`` reads, each with the number of its bands."""

    @abstractmethod
    def is_current(self) -> bool:
        """Whether every opened source is still the file that was opened."""

    @abstractmethod
    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Array:
        """Read a region into a new array; see :meth:`ndframes.Frames.load_region`."""

    @abstractmethod
    def load_warped(
        self,
        transform: Any,
        shape: tuple[int, int],
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Array:
        """Read through any affine map; see :meth:`ndframes.Frames.load_warped`."""

    @abstractmethod
    def load_thumbnail(self, max_px: int = THUMBNAIL_PX) -> Array:
        """A small copy of the default channels, about ``max_px`` high and wide at most."""

    @abstractmethod
    def count_result_bytes(
        self,
        region: Region,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> int:
        """The bytes of the result of a read; no pixel is read."""

    @abstractmethod
    def explain(self, sampled: SampledRegion) -> list[FileExplanation]:
        """What a read does with each file."""

    def image_at(self, time: int) -> LazyImage:  # noqa: ARG002
        """The item that has the files of a frame: the image of a sequence; an image and a video themselves."""
        return self

    def find_stored(self, codes: Sequence[str]) -> Pick | None:  # noqa: ARG002
        """The file whose pixels, as they are stored and with all bands, are those of a read of ``codes``; ``None``: no file."""
        return None

    def find_nodata(self, codes: Sequence[str]) -> tuple[Nodata | None, ...]:
        """What marks the missing pixels of each channel in a read that keeps them; ``None``: nothing does."""
        return (None,) * len(codes)

    def plan_crop(self, region: Region, channels: str | Sequence[str] | None = None) -> PlannedCrop | None:  # noqa: ARG002
        """A region resolved for a batch; ``None`` for items that are read one region at a time."""
        return None
