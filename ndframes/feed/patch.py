"""Patch: one region of one image, as the item of a sampler and as the request of a read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ..errors import RegionError, shorten

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ..pixels.options import ReadKeywords

__all__ = ["Patch", "PatchKind", "PatchRegion"]
#: What a patch was chosen for: a place in a grid, any place, a box, a place without boxes, a place where a model failed.
PatchKind = Literal["grid", "random", "positive", "negative", "hard"]
#: Slices ``(y, x)`` of an image; ``(t, y, x)`` of a video or sequence, where an integer ``t`` is one frame.
PatchRegion = tuple[slice, slice] | tuple[slice | int, slice, slice]


@dataclass(frozen=True, slots=True)
class Patch:
    """One region of one image.

    It is the request of a read, the item of a sampler, and the key by which results are put together again.

    Attributes:
        image_id: the image.
        region: slices ``(y, x)``, in pixels of the image; they may reach beyond it. Of a video or sequence ``(t, y, x)``;
            an integer ``t`` is one frame, which is then read as an image.
        scale: the factor from the region's size to the result's; ``None``: 1.
        index: the number of the patch in its sequence.
        image_shape: ``(height, width)`` of the image; ``None``: unknown, and the region is read with padding.
        kind: what the patch was chosen for.
        annot_id: the annotation that it was chosen for.
        result_shape: the exact ``(height, width)`` of the result; ``None``: that of the region, scaled and rounded.
        is_repeat: whether it only fills up the share of a rank, which another rank has, too.

    Raises:
        RegionError: the region is not made of slices with integer ends.

    Example:
        >>> patch = Patch("scene", (slice(-16, 48), slice(0, 64)), image_shape=(512, 512))
        >>> patch.request, patch.shape, patch.is_inside
        (('scene', (slice(-16, 48, None), slice(0, 64, None))), (64, 64), False)
    """

    image_id: Hashable
    region: PatchRegion
    scale: float | None = field(default=None, kw_only=True)
    index: int = field(default=0, kw_only=True)
    image_shape: tuple[int, int] | None = field(default=None, kw_only=True)
    kind: PatchKind = field(default="grid", kw_only=True)
    annot_id: Hashable = field(default=None, kw_only=True)
    result_shape: tuple[int, int] | None = field(default=None, kw_only=True)
    is_repeat: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.region, tuple) or len(self.region) not in (2, 3):
            raise RegionError(f"a patch needs a region (y, x) or (t, y, x), got {shorten(self.region)}")
        for axis in self.region[-2:]:
            # Open ends depend on the image, so two patches could not be compared.
            if not isinstance(axis, slice) or not isinstance(axis.start, int) or not isinstance(axis.stop, int):
                raise RegionError(f"a patch needs slices with integer start and stop in y and x, got {shorten(axis)}")
            if axis.step not in (None, 1) or axis.stop < axis.start:
                raise RegionError(
                    f"a patch needs slices without a step whose stop is not below their start, got {axis}"
                )

    def __hash__(self) -> int:
        # Before Python 3.12 slices have no hash.
        ends = tuple((axis.start, axis.stop, axis.step) if isinstance(axis, slice) else axis for axis in self.region)
        return hash((self.image_id, ends, self.scale, self.index))

    @property
    def request(self) -> tuple[Hashable, PatchRegion]:
        """``(image_id, region)``, as :meth:`ndframes.Frames.load_regions` takes it."""
        return self.image_id, self.region

    @property
    def rows(self) -> slice:
        """The y coordinates in the image."""
        rows: slice = self.region[-2]
        return rows

    @property
    def cols(self) -> slice:
        """The x coordinates in the image."""
        cols: slice = self.region[-1]
        return cols

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` of the result."""
        if self.result_shape is not None:
            return self.result_shape
        factor = 1 if self.scale is None else self.scale
        height, width = self.rows.stop - self.rows.start, self.cols.stop - self.cols.start
        return round(height * factor), round(width * factor)

    @property
    def is_inside(self) -> bool:
        """Whether no pixel of the region is outside of the image."""
        if self.image_shape is None:
            return False
        height, width = self.image_shape
        is_in_y = self.rows.start >= 0 and self.rows.stop <= height
        return bool(is_in_y and self.cols.start >= 0 and self.cols.stop <= width)

    @property
    def read_options(self) -> ReadKeywords:
        """The keywords with which :meth:`ndframes.Frames.load_region` reads this patch."""
        options: ReadKeywords = {}
        if not self.is_inside:
            options["pad"] = "constant"
        if self.scale is not None:
            options["shape"] = self.shape
        return options
