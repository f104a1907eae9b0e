"""AlignableImageData: one image, made of one file or several, opened lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from ..errors import RegionError, shorten
from ..geometry.affine import IDENTITY, invert, pixels_between, to_affine, window_bounds
from ..geometry.grid import Grid, resolve_scale, to_shape
from ..geometry.regions import resolve_region, resolve_unclipped
from ..pixels.options import DEFAULT_OPTIONS
from ..pixels.results import Result, allocate, check_keeps_axes, finish
from ..text import count_noun
from .explain import explain_parts
from .fuse import fuse_grid, fuse_padded, fuse_padded_grid, fuse_region
from .item import THUMBNAIL_PX, LazyImage
from .parts import shape_text, side_by_side
from .plan import PlannedCrop, Planner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from ..entries.opened import OpenedChannel
    from ..geometry.regions import Region
    from ..pixels.options import ReadOptions
    from ..spec.nodata import Nodata
    from .explain import FileExplanation, SampledRegion
    from .parts import Parts, Pick
    from .plan import Plan

__all__ = ["AlignableImageData", "NativePart"]


class NativePart(NamedTuple):
    """The pixels of one file under a region, on the file's own grid.

    Attributes:
        pixels: ``(h, w, bands)``, the window of the file under the region.
        channels: the codes of its bands.
        region_from_part: 3x3 matrix from points of ``pixels`` to points of the region; pixel corners, ``(x, y)`` columns.
        path: the file.
    """

    pixels: Array
    channels: tuple[str, ...]
    region_from_part: Array
    path: str


class AlignableImageData(LazyImage):
    """One image made of one file or several, each opened when it is first read.

    Regions are in image space. Files on the image's own grid are read as they are; files with another resolution, position
    or rotation are warped onto it. A crop always equals the crop of the whole image.

    Args:
        parts: the image's files.
        max_region_bytes: the largest result that is allowed, in bytes.

    Attributes:
        pathinfo: the description that it was made from.
        planner: makes the plans of its reads.
    """

    def __init__(self, parts: Parts, *, max_region_bytes: int) -> None:
        self.pathinfo = parts.pathinfo
        self._parts = parts
        self.planner = Planner(parts)
        self._max_region_bytes = max_region_bytes

    def __repr__(self) -> str:
        # Only what is described: a repr opens no file.
        info = self.pathinfo
        shape = "" if info.shape is None else f"{shape_text(info.shape)}, "
        files = [info.path + (f" ({'|'.join(info.channels)})" if info.channels else "") for info in info.channels]
        shown = ", ".join(files[:4]) + (f" and {len(files) - 4:,} more" if len(files) > 4 else "")
        return f"<{type(self).__name__} {shorten(info.image_id)}: {shape}{count_noun(len(files), 'file')}: {shown}>"

    @property
    def memory_bytes(self) -> int:
        """The memory that it uses while it is open."""
        return self._parts.memory_bytes

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of all its channels, file after file."""
        return self.planner.channels

    @property
    def default_channels(self) -> tuple[str, ...]:
        """The codes that are read by default."""
        return self.planner.default_channels

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of image space."""
        return self._parts.image_shape

    def shape(self, channels: str | Sequence[str] | None = None) -> tuple[int, int, int]:
        """``(height, width, channels)`` of a read of everything."""
        return self.planner.plan(channels).shape

    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """The dtype of a read: the dtypes of the files that it reads, promoted by ``np.result_type``."""
        return self.planner.plan(channels).dtype

    def select(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` stands for, checked.

        Raises:
            ChannelError: the image has no such channel.
        """
        return self.planner.plan(channels).codes

    def parse(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` stands for; the image may lack some of them."""
        return self.planner.parse(channels)

    def opened(self, part: int) -> OpenedChannel:
        """The file of one of ``pathinfo.channels``, opened if it is not yet."""
        return self._parts.opened(part)

    def bands_by_part(self, codes: Sequence[str]) -> list[tuple[int, int]]:
        """The numbers of the files that a read of ``codes`` reads, each with the number of its bands."""
        return [(pick.part, len(pick.bands)) for pick in self.planner.plan_codes(tuple(codes)).picks]

    def is_current(self) -> bool:
        """Whether every opened source is still the file that was opened."""
        return self._parts.is_current()

    @overload
    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
        *,
        fused: Literal[True] = True,
    ) -> Array: ...

    @overload
    def load_region(
        self, region: Region = None, channels: str | Sequence[str] | None = None, *, fused: Literal[False]
    ) -> list[NativePart]: ...

    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
        *,
        fused: bool = True,
    ) -> Array | list[NativePart]:
        """Read a region into a new array; see :meth:`ndframes.Frames.load_region`.

        Args:
            region: the region.
            channels: the channels.
            options: padding, resampling, nodata.
            fused: ``False`` returns :meth:`load_parts` instead.
        """
        if not fused:
            return self.load_parts(region, channels)
        plan = self.planner.plan(channels)
        if options is not DEFAULT_OPTIONS:  # asked first, because most crops need not ask for the rest
            if options.is_resampled:
                return self._load_scaled(region, plan, options)
            if options.pad is not None:
                return self._load_padded(region, plan, options)
        selection = resolve_region(region, plan.shape)
        rows, cols, bands = selection.ranges
        plan = self.planner.narrow(plan, bands)
        if not plan.is_plain or options.nodata != "keep":
            result = self._allocate(selection.shape, plan, options)
            fuse_region(self._parts, plan, result.reshaped(selection.full_shape), rows, cols, options)
            return finish(result, options.nodata)
        # Most crops end here: the files are read straight into the result, without a mask or a copy.
        out = allocate(selection.shape, plan.dtype, self._max_region_bytes)
        full = out.reshape(selection.full_shape) if True in selection.dropped else out
        if len(plan.picks) == 1:
            self._parts.read_pick(plan.picks[0], rows, cols, full)
        else:
            self._parts.for_each(plan.picks, lambda pick: self._parts.read_pick(pick, rows, cols, full))
        return out

    def load_warped(
        self,
        transform: Any,
        shape: tuple[int, int],
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> Array:
        """Read through any affine map; see :meth:`ndframes.Frames.load_warped`."""
        plan = self.planner.plan(channels)
        img_from_out = invert(to_affine(transform, "transform"))
        return self._load_grid(Grid(img_from_out, to_shape(shape)), plan, options, is_bounded=True)

    def load_parts(self, region: Region = None, channels: str | Sequence[str] | None = None) -> list[NativePart]:
        """The pixels of each file under a region, on the file's own grid, and the matrix that maps them to the region.

        A file outside the region gives a part without pixels.

        Raises:
            RegionError: the region has steps or integers.
        """
        plan = self.planner.plan(channels)
        selection = resolve_region(region, plan.shape)
        check_keeps_axes(selection)
        rows, cols, bands = selection.ranges
        if rows.step != 1 or cols.step != 1:
            raise RegionError("parts of a region are windows: give slices without steps in y and x")
        plan = self.planner.narrow(plan, bands)
        return [self._load_part(pick, rows, cols, plan) for pick in plan.picks]

    def count_result_bytes(
        self,
        region: Region,
        channels: str | Sequence[str] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ) -> int:
        """The bytes of the result of a read; no pixel is read."""
        plan = self.planner.plan(channels)
        is_padded = options.pad is not None
        ranges = resolve_unclipped(region, plan.shape) if is_padded else resolve_region(region, plan.shape).ranges
        rows, cols, bands = map(len, ranges)
        if options.is_resampled:
            rows, cols = (axis.count for axis in resolve_scale(ranges[0], ranges[1], options.scale, options.shape))
        return rows * cols * bands * plan.dtype.itemsize

    def plan_crop(self, region: Region, channels: str | Sequence[str] | None = None) -> PlannedCrop:
        """A region resolved for a batch; no pixel is read."""
        plan = self.planner.plan(channels)
        selection = resolve_region(region, plan.shape)
        return PlannedCrop(self._parts, self.planner.narrow(plan, selection.ranges[2]), selection)

    def find_stored(self, codes: Sequence[str]) -> Pick | None:
        """As :meth:`LazyImage.find_stored`."""
        plan = self.planner.plan(codes)
        if len(plan.picks) != 1 or not plan.is_plain or not plan.picks[0].is_all:
            return None
        (pick,) = plan.picks
        return pick if pick.bands == self._parts.reader(pick.part).all_bands else None

    def find_nodata(self, codes: Sequence[str]) -> tuple[Nodata | None, ...]:
        """As :meth:`LazyImage.find_nodata`. A quantized channel is read as real values, whose missing ones are nan."""
        found: list[Nodata | None] = [None] * len(codes)
        for pick in self.planner.plan(codes).picks:
            values = self._parts.values(pick.part)
            nodata = values.nodata if values.is_plain else None
            for band, position in zip(pick.bands, pick.positions, strict=True):
                found[position] = nodata[band] if isinstance(nodata, tuple) else nodata
        return tuple(found)

    def load_thumbnail(self, max_px: int = THUMBNAIL_PX) -> Array:
        """A small copy of the default channels: the whole image, scaled to ``max_px`` at most."""
        scale = max_px / max(self.image_shape)
        return self.load_region(options=DEFAULT_OPTIONS._replace(scale=scale if scale < 1 else None))

    def explain(self, sampled: SampledRegion) -> list[FileExplanation]:
        """What a read does with each file; channels that the image lacks are left out."""
        return list(explain_parts(self._parts, self.planner, sampled))

    def _load_padded(self, region: Region, plan: Plan, options: ReadOptions) -> Array:
        rows, cols, bands = resolve_unclipped(region, plan.shape)
        plan = self.planner.narrow(plan, bands)
        result = self._allocate((len(rows), len(cols), len(bands)), plan, options)
        fuse_padded(self._parts, plan, result, rows, cols, options)
        return finish(result, options.nodata)

    def _load_scaled(self, region: Region, plan: Plan, options: ReadOptions) -> Array:
        if options.pad is None:
            selection = resolve_region(region, plan.shape)
            check_keeps_axes(selection)
            rows, cols, bands = selection.ranges
        else:
            rows, cols, bands = resolve_unclipped(region, plan.shape)
        samplings = resolve_scale(rows, cols, options.scale, options.shape)
        plan = self.planner.narrow(plan, bands)
        # A constant needs no folded axes: points outside the image are filled.
        if options.pad not in ("edge", "reflect"):
            return self._load_grid(Grid.of_axes(*samplings), plan, options, is_bounded=options.pad is not None)
        result = self._allocate((samplings[0].count, samplings[1].count, len(plan.codes)), plan, options)
        fuse_padded_grid(self._parts, plan, result, samplings, options)
        return finish(result, options.nodata)

    def _load_grid(self, grid: Grid, plan: Plan, options: ReadOptions, *, is_bounded: bool) -> Array:
        result = self._allocate((*grid.shape, len(plan.codes)), plan, options)
        fuse_grid(self._parts, plan, result, grid, options, is_bounded=is_bounded)
        return finish(result, options.nodata)

    def _load_part(self, pick: Pick, rows: range, cols: range, plan: Plan) -> NativePart:
        reader, info = self._parts.reader(pick.part), self.pathinfo.channels[pick.part]
        (top, bottom), (left, right) = window_bounds(pick.src_from_img or IDENTITY, rows, cols)
        src_rows = pixels_between(top, bottom, reader.shape[0])
        src_cols = pixels_between(left, right, reader.shape[1])
        stored = np.empty((len(src_rows), len(src_cols), len(pick.bands)), reader.dtype)
        self._parts.read_pick(side_by_side(pick), src_rows, src_cols, stored)
        src_from_part = np.array([[1.0, 0, src_cols.start], [0, 1, src_rows.start], [0, 0, 1]])
        region_from_img = np.array([[1.0, 0, -cols.start], [0, 1, -rows.start], [0, 0, 1]])
        return NativePart(
            self._parts.values(pick.part).decode(stored, "keep", pick.bands)[0],
            tuple(plan.codes[position] for position in pick.positions),
            region_from_img @ info.matrix @ src_from_part,
            info.path,
        )

    def _allocate(self, shape: tuple[int, ...], plan: Plan, options: ReadOptions) -> Result:
        return Result.allocate(shape, plan.dtype, options, self._max_region_bytes)
