"""Windows: the extents of the items of a dataset, and of the window that a patch reads from them."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import PatchError, naming_image, shorten
from ..frames.frames import check_frames
from .counts import to_count, to_factor

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from ..frames.frames import Frames

__all__ = ["Extents", "Oversize", "Window", "name_dataset", "to_ids", "to_pair"]
#: Whether a patch that no image holds is an error, or padded as one that is larger than its image.
Oversize = Literal["shift", "pad"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Extents:
    """The extents of some images and videos, as columns.

    Attributes:
        image_ids: their ids.
        frames: the number of frames of each; 0 for an image, which has no time axis.
        heights: in pixels.
        widths: in pixels.
        dataset: where they are from, for messages.
    """

    image_ids: Sequence[Hashable]
    frames: _Ints
    heights: _Ints
    widths: _Ints
    dataset: str

    @classmethod
    def of(cls, frames: Frames, image_ids: Iterable[Hashable] | None = None) -> Extents:
        """Those of some images of ``frames``; ``None``: of all. Files are opened only where the extents are not described.

        Raises:
            PatchError: there are no images, or one is named twice.
            NdframesError: as :meth:`ndframes.Frames.extents`.
            TypeError: they are no images.
        """
        check_frames(frames)
        ids = list(frames.image_ids) if image_ids is None else to_ids(image_ids)
        if not ids:
            what = f"{name_dataset(frames)} has no images" if image_ids is None else "there are no images in image_ids"
            raise PatchError(f"{what} to take patches from; give at least one")
        shapes = np.array([(0, *frames.extents(image_id))[-3:] for image_id in ids], np.int64)
        frame_counts, heights, widths = shapes.T
        return cls(ids, frame_counts, heights, widths, name_dataset(frames))

    def __len__(self) -> int:
        return len(self.image_ids)

    def shape(self, number: int) -> tuple[int, int]:
        """``(height, width)`` of one of them."""
        return int(self.heights[number]), int(self.widths[number])

    def shapes(self) -> dict[Hashable, tuple[int, int]]:
        """``(height, width)`` by id."""
        return dict(zip(self.image_ids, zip(self.heights.tolist(), self.widths.tolist(), strict=True), strict=True))

    def definition(self) -> Iterator[object]:
        """For a fingerprint: the ids and the extents."""
        yield len(self.image_ids)
        yield "\n".join(map(repr, self.image_ids)).encode()
        for column in (self.frames, self.heights, self.widths):
            yield column.astype("<i8").tobytes()


@dataclass(frozen=True, slots=True)
class Window:
    """What a patch reads: a window of pixels and of frames, and the shape of its result.

    Attributes:
        shape: ``(height, width)`` of the result.
        scale: the factor from the image to the result; ``None``: 1.
        times: how many frames; ``None``: one frame, without a time axis in the result.
        every: the step between them.
    """

    shape: tuple[int, int]
    scale: float | None = None
    times: int | None = None
    every: int = 1

    @classmethod
    def of(cls, shape: Any, scale: float | None, times: int | None, every: int) -> Window:
        """The window, checked.

        Raises:
            PatchError: a value is not valid.
        """
        if scale is not None:
            scale = to_factor("scale", scale)
        if times is not None:
            times = to_count("times", times, "a number of frames")
        every = to_count("every", every, "a number of frames")
        return cls(to_pair("shape", shape), None if scale == 1 else scale, times, every)

    @property
    def img_shape(self) -> tuple[int, int]:
        """``(height, width)`` of the window in pixels of the image."""
        if self.scale is None:
            return self.shape
        height, width = (max(1, round(extent / self.scale)) for extent in self.shape)
        return height, width

    @property
    def frame_span(self) -> int:
        """The number of frames from the first to the last."""
        return ((self.times or 1) - 1) * self.every + 1

    def region(self, time: int | None, top: int, left: int) -> Any:
        """The region of the window at a place; ``time`` is ``None`` in an image."""
        height, width = self.img_shape
        plane = slice(top, top + height), slice(left, left + width)
        if time is None:
            return plane
        return (time if self.times is None else slice(time, time + self.frame_span, self.every), *plane)

    def check_fits(self, extents: Extents, *, may_pad: bool = False) -> None:
        """Check that some image holds the window, and that every video is long enough.

        Raises:
            PatchError: otherwise; the message gives the largest image, or the shortest video.
        """
        height, width = self.img_shape
        if not may_pad and not ((extents.heights >= height) & (extents.widths >= width)).any():
            largest = int(np.argmax(extents.heights * extents.widths))
            tall, wide = extents.shape(largest)
            raise PatchError(
                f"no image of {extents.dataset} holds a patch of {height:,} x {width:,} px; the largest is "
                f"{shorten(extents.image_ids[largest])} with {tall:,} x {wide:,} px; use a smaller shape or a larger scale, "
                "or edge='pad' to pad all images"
            )
        if self.times is None:
            return
        if not extents.frames.all():
            with naming_image(extents.image_ids[int(np.argmin(extents.frames))]):
                raise PatchError(
                    f"it has no time axis, but patches of times={self.times} frames are requested; leave it out of image_ids, or "
                    "use times=None"
                )
        shortest = int(np.argmin(extents.frames))
        if extents.frames[shortest] < self.frame_span:
            with naming_image(extents.image_ids[shortest]):
                raise PatchError(
                    f"it has {extents.frames[shortest]:,} frames, but times={self.times} with every={self.every} needs "
                    f"{self.frame_span:,}; leave it out of image_ids, or use fewer frames"
                )


def to_ids(image_ids: Iterable[Hashable]) -> list[Hashable]:
    """The ids in ``image_ids``; a text is one id.

    Raises:
        PatchError: an id is given twice.

    Example:
        >>> to_ids("scene"), to_ids(["a", "b"])
        (['scene'], ['a', 'b'])
    """
    ids: list[Hashable] = [image_ids] if isinstance(image_ids, (str, bytes)) else list(image_ids)
    repeated = [image_id for image_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise PatchError(f"image_ids names {shorten(repeated)} more than once; give each id once")
    return ids


def name_dataset(frames: object) -> str:
    """What a message calls a dataset: by its path if it has one."""
    dset = getattr(frames, "dset", None)
    for name in (getattr(dset, "fpath", None), dset):
        if isinstance(name, (str, os.PathLike)):
            return f"the dataset {name}"
    return f"the {type(frames).__name__}" if dset is None else "the dataset"


def to_pair(name: str, value: Any) -> tuple[int, int]:
    """``(y, x)`` from a pair of pixels, or from one number for both.

    Raises:
        PatchError: not one or two integers above 0.

    Example:
        >>> to_pair("shape", 256)
        (256, 256)
    """
    try:
        first, second = (value, value) if hasattr(value, "__index__") else value
        return to_count(name, first), to_count(name, second)
    except (TypeError, ValueError) as error:
        raise PatchError(f"{name}={shorten(value)}; give (height, width) in pixels, above 0") from error
