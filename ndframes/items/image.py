"""AlignableImageData: one image, made of one file or several, opened lazily."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from ..errors import (
    CacheEntryDamagedError,
    CacheEntryGoneError,
    ChannelError,
    RegionError,
    SourceChangedError,
    UnreadableImageError,
)
from ..formats.reader import WORTH_SHARING_SECONDS, Crop
from ..geometry.affine import (
    IDENTITY,
    box_of,
    invert,
    reach_of,
    to_affine,
    window_between,
)
from ..geometry.grid import Grid, resolve_scale, to_shape
from ..geometry.padding import (
    check_pad,
    covering,
    fold,
    inside,
    mirror,
    positions_in,
)
from ..geometry.regions import resolve_outside, resolve_region
from ..geometry.tiling import bounding_range
from ..pixels.options import ask_nothing
from ..pixels.points import sample
from ..pixels.results import (
    Result,
    allocate,
    as_slice,
    fill_of,
    finish,
    put_block,
    refuse_integers,
    result_dtype,
)
from ..pixels.stencils import apply_stencils, find_stencil
from ..pixels.values import Quantization, Values, find_nodata
from ..pixels.warp import Plane, warp
from ..spec.channels import default_codes, find_codes, parse_codes
from ..system.process import ForkAware
from ..system.stamp import is_as_stamped
from ..system.threads import count_threads, work_together
from .item import THUMBNAIL_PX, LazyImage

if TYPE_CHECKING:
    from .._typing import Array
    from ..entries.opened import OpenedChannel
    from ..formats.reader import Reader
    from ..geometry.affine import Affine
    from ..geometry.grid import Sampling
    from ..geometry.kernels import Interpolation
    from ..geometry.regions import Region, Selection
    from ..pixels.options import AsAsked
    from ..pixels.values import NodataMode
    from ..spec.pathinfo import PathInfo
    from ..system.stamp import SourceStamp
    from .item import Opener

__all__ = ["AlignableImageData", "FileRead", "NativePart", "PlannedCrop", "find_level"]
_MOST_REOPENINGS = 3
_MOST_PLANS = 64
_STRIP_PX = 256
_AT_ONCE_BYTES = 16 * 2**20
_OVERVIEW_FACTOR = 2 - 1e-6
_EPSILON = 1e-9


class NativePart(NamedTuple):
    """What one file holds of a region, on the file's own grid.

    Attributes:
        pixels: ``(h, w, bands)``, the window of the file under the region.
        channels: the codes of its bands.
        region_from_part: 3x3 matrix from the points of ``pixels`` to those of the region, pixel corners, ``(x, y)`` columns.
        path: the file.
    """

    pixels: Array
    channels: tuple[str, ...]
    region_from_part: Array
    path: str


class _Pick(NamedTuple):
    """Bands of one file, and where they go in the result: ranges where they lie side by side, so that nothing is shuffled.

    ``is_all`` says that they are the result, as they come from the file. ``is_plain`` says that the file's pixels are the
    image's; else ``src_from_img`` is the map from the image's points to the file's.
    ``alone`` is the same for a result of nothing else.
    """

    part: int
    bands: Sequence[int]
    positions: Sequence[int]
    is_all: bool
    is_plain: bool
    src_from_img: Affine | None
    alone: _Pick | None = None


def _alone(pick: _Pick) -> _Pick:
    """A file's bands as they come, side by side."""
    return pick.alone or pick._replace(positions=range(len(pick.bands)), is_all=True)


class _Plan(NamedTuple):
    """What a read of some channels is: settled once, since it stands on the way of every crop.

    Attributes:
        codes: the channels' codes.
        shape: ``(height, width, channels)`` of the whole image in them.
        dtype: of the result.
        picks: what comes from which file.
        is_plain: whether all of them are the image's pixels as they are.
    """

    codes: tuple[str, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    picks: tuple[_Pick, ...]
    is_plain: bool


class PlannedCrop(NamedTuple):
    """A region of an image, resolved: what :meth:`AlignableImageData.route` reads.

    Attributes:
        plan: what a read of its channels is.
        selection: which pixels.
    """

    plan: _Plan
    selection: Selection

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the result."""
        return self.selection.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the result."""
        return self.plan.dtype

    @property
    def nbytes(self) -> int:
        """Of the result."""
        return math.prod(self.shape, start=self.dtype.itemsize)

    @property
    def is_plain(self) -> bool:
        """Whether it is made of files' pixels as they are, so that :meth:`AlignableImageData.route` tells which."""
        return self.plan.is_plain


class FileRead(NamedTuple):
    """What one file has to do with a crop.

    Attributes:
        part: which of the image's files.
        reader: reads it.
        crop: what is read from it.
        finish: brings that to its place, where it was not read into it.
    """

    part: int
    reader: Reader
    crop: Crop
    finish: Callable[[], None] | None


class AlignableImageData(LazyImage, ForkAware):
    """One image made of one file or several, each opened when it is first read.

    Regions are in image space. Files that lie on the image's own grid are read as they are; one with another resolution,
    position or rotation is warped onto it, where the map between them is no shift by whole pixels. A crop is the crop of the
    whole, whatever it takes.

    Args:
        pathinfo: the image's files.
        opener: opens them, from the cache or from the source.
        max_region_bytes: a result of more bytes than this is refused.
        on_open: called whenever a file was opened, since the image then costs more memory.
        threads: how many decode at once where there is much to be decoded; ``None``: one for each core, one in a
            worker process.
    """

    def __init__(
        self,
        pathinfo: PathInfo,
        opener: Opener,
        *,
        max_region_bytes: int,
        on_open: Callable[[AlignableImageData], None] | None = None,
        threads: int | None = 1,
    ) -> None:
        self.pathinfo = pathinfo
        self._opener = opener
        self._on_open = on_open
        self._threads = threads
        self._max_region_bytes = max_region_bytes
        self._opened: list[OpenedChannel | None] = [None] * len(pathinfo.channels)
        self._watched: tuple[tuple[str, SourceStamp], ...] = ()
        self._is_watched_enough = True  # nothing is opened yet
        self._plans: dict[str | tuple[str, ...] | None, _Plan] = {}
        self._lock = threading.RLock()
        infos = pathinfo.channels
        self._maps = [
            None if info.is_aligned or pathinfo.is_native else invert(to_affine(info.matrix, info.path))
            for info in infos
        ]
        self._quantizations = [Quantization.from_info(info) for info in infos]
        self._first_aligned = next((number for number, info in enumerate(infos) if info.is_aligned), 0)
        self._values: dict[int, Values] = {}
        super().__init__()

    @property
    def memory_bytes(self) -> int:
        """What keeping this image open costs."""
        return 4096 + sum(opened.reader.memory_bytes for opened in self._opened if opened is not None)

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of all its channels, file after file."""
        return tuple(code for part in range(len(self._opened)) for code in self._codes_of(part))

    @property
    def default_channels(self) -> tuple[str, ...]:
        """The codes that are read when none are asked for."""
        part = self.pathinfo.default_file
        return self.pathinfo.default or (self.channels if part is None else self._codes_of(part))

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of image space."""
        if self.pathinfo.shape is not None:
            return self.pathinfo.shape
        part = self._first_aligned
        info, (height, width) = self.pathinfo.channels[part], self.opened(part).reader.shape[:2]
        return (height, width) if info.is_aligned else reach_of(info.matrix, height, width)

    def shape(self, channels: str | Sequence[str] | None = None) -> tuple[int, int, int]:
        """``(height, width, channels)`` of a read of everything."""
        return self._plan(channels).shape

    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """The dtype of a read: those of the files touched, promoted by ``np.result_type``."""
        return self._plan(channels).dtype

    def select(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` asks for, checked.

        Raises:
            ChannelError: the image has no such channel.
        """
        return self._plan(channels).codes

    def opened(self, part: int) -> OpenedChannel:
        """The file of one of the image's channels, opened if need be."""
        opened = self._opened[part]
        if opened is None:
            with self._lock:
                opened = self._opened[part]
                if opened is None:
                    opened = self._opener.open(self.pathinfo.channels[part])
                    self._check_part(part, opened.reader)
                    self._keep(part, opened)
        return opened

    def bands_by_part(self, codes: Sequence[str]) -> list[tuple[int, int]]:
        """Which of ``pathinfo.channels`` a read of ``codes`` touches, and how many bands of each."""
        return [(pick.part, len(pick.bands)) for pick in self._plan_codes(tuple(codes)).picks]

    def is_plain(self, part: int) -> bool:
        """Whether the pixels of one of ``pathinfo.channels`` are the image's, as they are stored."""
        return self._plan_codes(self._codes_of(part)).is_plain

    def is_current(self) -> bool:
        """Whether every source that was opened is still the file that it was then."""
        for path, stamp in self._watched:
            if not is_as_stamped(path, stamp):
                return self._ask_opener()
        return self._is_watched_enough or self._ask_opener()

    def _ask_opener(self) -> bool:
        return all(
            opened is None or self._opener.is_current(info, opened)
            for info, opened in zip(self.pathinfo.channels, self._opened, strict=True)
        )

    @overload
    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        fused: Literal[True] = True,
        pad: str | None = None,
        asked: AsAsked = ask_nothing,
    ) -> Array: ...

    @overload
    def load_region(
        self, region: Region = None, channels: str | Sequence[str] | None = None, *, fused: Literal[False]
    ) -> list[NativePart]: ...

    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        fused: bool = True,
        pad: str | None = None,
        asked: AsAsked = ask_nothing,
    ) -> Array | list[NativePart]:
        """Read a region into a new array; see :meth:`ndframes.Frames.load_region`.

        Args:
            region: which part.
            channels: which channels.
            fused: ``False`` gives :meth:`load_parts` instead.
            pad: as there.
            asked: the other options from there.
        """
        if not fused:
            return self.load_parts(region, channels)
        plan = self._plan(channels)
        if pad is not None:
            return self._load_padded(resolve_outside(region, plan.shape), plan, pad, asked)
        selection = resolve_region(region, plan.shape)
        rows, cols, bands = selection.ranges
        plan = self._narrow(plan, bands)
        if not plan.is_plain or asked.nodata != "keep":
            result = self._new_result(selection.shape, plan, asked)
            self._fill(result.reshaped(selection.full_shape), rows, cols, plan, asked)
            return finish(result, asked.nodata)
        out = allocate(selection.shape, plan.dtype, self._max_region_bytes)
        full = out.reshape(selection.full_shape) if True in selection.dropped else out
        for pick in plan.picks:
            self._read_part(pick, rows, cols, full, 0)
        return out

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
        plan = self._plan(channels)
        if pad is None:
            selection = resolve_region(region, plan.shape)
            refuse_integers(selection)
            rows, cols, bands = selection.ranges
        else:
            check_pad(pad)
            rows, cols, bands = resolve_outside(region, plan.shape)
        samplings = resolve_scale(rows, cols, scale, shape)
        plan = self._narrow(plan, bands)
        if pad in ("edge", "reflect"):
            return self._scale_padded(samplings, plan, str(pad), asked)
        return self._load_grid(Grid.of_axes(*samplings), plan, asked, is_bounded=pad is not None)

    def load_warped(
        self,
        transform: Any,
        shape: tuple[int, int],
        channels: str | Sequence[str] | None = None,
        *,
        asked: AsAsked = ask_nothing,
    ) -> Array:
        """Read through any affine map; see :meth:`ndframes.Frames.load_warped`."""
        plan = self._plan(channels)
        img_from_out = invert(to_affine(transform, "transform"))
        return self._load_grid(Grid(img_from_out, to_shape(shape)), plan, asked, is_bounded=True)

    def load_parts(self, region: Region = None, channels: str | Sequence[str] | None = None) -> list[NativePart]:
        """What each file holds of a region, as it is stored there, and how to bring it to the region's grid.

        A file that does not reach into the region gives a part without pixels.

        Raises:
            RegionError: the region has steps or integers.
        """
        plan = self._plan(channels)
        selection = resolve_region(region, plan.shape)
        refuse_integers(selection)
        rows, cols, bands = selection.ranges
        if rows.step != 1 or cols.step != 1:
            raise RegionError("parts of a region are windows: give slices without steps in y and x")
        plan = self._narrow(plan, bands)
        return [self._load_part(pick, rows, cols, plan) for pick in plan.picks]

    def _load_part(self, pick: _Pick, rows: range, cols: range, plan: _Plan) -> NativePart:
        reader = self.opened(pick.part).reader
        src_from_img = pick.src_from_img or IDENTITY
        (top, bottom), (left, right) = box_of(src_from_img, rows, cols)
        window_rows, window_cols = (
            window_between(top, bottom, reader.shape[0]),
            window_between(left, right, reader.shape[1]),
        )
        stored = np.empty((len(window_rows), len(window_cols), len(pick.bands)), reader.dtype)
        every = _alone(pick)
        self._read_part(every, window_rows, window_cols, stored, 0)
        src_from_part = np.array([[1.0, 0, window_cols.start], [0, 1, window_rows.start], [0, 0, 1]])
        region_from_img = np.array([[1.0, 0, -cols.start], [0, 1, -rows.start], [0, 0, 1]])
        return NativePart(
            self._values_of(pick.part).decode(stored, "keep")[0],
            tuple(plan.codes[position] for position in pick.positions),
            region_from_img @ self.pathinfo.channels[pick.part].matrix @ src_from_part,
            self.pathinfo.channels[pick.part].path,
        )

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
        plan = self._plan(channels)
        ranges = resolve_outside(region, plan.shape) if is_padded else resolve_region(region, plan.shape).ranges
        rows, cols, bands = map(len, ranges)
        if scale is not None or shape is not None:
            rows, cols = (axis.count for axis in resolve_scale(ranges[0], ranges[1], scale, shape))
        return rows * cols * bands * plan.dtype.itemsize

    def plan_crop(self, region: Region, channels: str | Sequence[str] | None = None) -> PlannedCrop:
        """Resolve a region without reading it."""
        plan = self._plan(channels)
        selection = resolve_region(region, plan.shape)
        return PlannedCrop(self._narrow(plan, selection.ranges[2]), selection)

    def route(self, crop: PlannedCrop, out: Array) -> Iterator[FileRead]:
        """What each file has to do in order that ``out``, of the crop's shape, holds it."""
        rows, cols, _ = crop.selection.ranges
        full = out[tuple(np.newaxis if gone else slice(None) for gone in crop.selection.dropped)]
        for pick in crop.plan.picks:
            reader = self.opened(pick.part).reader
            target = _find_target(reader, pick, full)
            finish = None
            if target is None:
                target = np.empty((len(rows), len(cols), len(pick.positions)), reader.dtype)
                finish = partial(_put, target, pick, full)
            yield FileRead(pick.part, reader, Crop(rows, cols, pick.bands, target), finish)

    def load_thumbnail(self, max_px: int = THUMBNAIL_PX) -> Array:
        """A small copy of the default channels, from the smallest stored level that is still at least ``max_px``."""
        plan = self._plan(None)
        if not plan.is_plain:
            scale = min(1.0, max_px / max(self.image_shape))
            return self.load_scaled(scale=scale) if scale < 1 else self.load_region()
        readers = [self.opened(pick.part).reader for pick in plan.picks]
        level = 0
        while all(len(reader.overview_shapes) > level for reader in readers) and all(
            max(reader.overview_shapes[level]) >= max_px for reader in readers
        ):
            level += 1
        height, width = readers[0].level_shape(level)[:2]
        step = max(1, -(-max(height, width) // max_px))
        rows, cols = range(0, height, step), range(0, width, step)
        out = np.empty((len(rows), len(cols), len(plan.codes)), plan.dtype)
        for pick in plan.picks:
            self._read_part(pick, rows, cols, out, level)
        return out

    def find_window(
        self, part: int, grid: Grid, interpolation: Interpolation = "linear", *, antialias: bool = True
    ) -> tuple[int, range, range]:
        """Which level of a file a grid over the image is made from, and which rows and columns of it."""
        reader = self.opened(part).reader
        source, level = self._locate(part, reader, grid, interpolation, antialias=antialias, mode="keep")
        height, width, _ = reader.level_shape(level)
        rows, cols = source.footprint((height, width), interpolation, antialias=antialias)
        return level, rows, cols

    # -- onto the image's grid ----------------------------------------------------------------------------------

    def _load_grid(self, grid: Grid, plan: _Plan, asked: AsAsked, *, is_bounded: bool) -> Array:
        """All of a plan's files on a grid over the image; ``is_bounded``: what is not in the image is not there."""
        result = self._new_result((*grid.shape, len(plan.codes)), plan, asked)
        if not result.pixels.size:
            return finish(result, asked.nodata)
        is_inside = grid.inside(*plan.shape[:2]) if is_bounded else True
        if is_inside is not False:
            for pick in plan.picks:
                self._bring(pick, grid, result, plan, asked)
        if is_inside is not True:
            outside = np.ones(grid.shape, bool) if is_inside is False else ~np.asarray(is_inside)
            result.pixels[outside] = fill_of(result, asked)
            if result.missing is not None:
                result.missing[outside] = True
        return finish(result, asked.nodata)

    def _bring(self, pick: _Pick, grid: Grid, result: Result, plan: _Plan, asked: AsAsked) -> None:
        """One file's bands onto a grid over the image."""
        for some, interpolation in _by_interpolation(pick, plan.codes, asked.interpolation):
            self._warp_onto(some, grid, result, interpolation, asked)

    def _warp_onto(self, pick: _Pick, grid: Grid, result: Result, interpolation: Interpolation, asked: AsAsked) -> None:
        reader, values = self.opened(pick.part).reader, self._values_of(pick.part)
        source, level = self._locate(
            pick.part, reader, grid, interpolation, antialias=asked.antialias, mode=asked.nodata
        )
        height, width, _ = reader.level_shape(level)
        axes = source.axes
        if axes is not None and axes[0].is_whole and axes[1].is_whole and values.is_plain and result.missing is None:
            self._copy(pick, axes, (height, width), result, asked, level)
            return
        every = _alone(pick)

        def read(rows: range, cols: range) -> tuple[Array, Array | None]:
            stored = np.empty((len(rows), len(cols), len(pick.bands)), reader.dtype)
            self._read_part(every, rows, cols, stored, level)
            return values.decode(stored, asked.nodata)

        factor_y, factor_x = reader.level_factors(level) if level else (1.0, 1.0)
        extent = reader.shape[0] / factor_y, reader.shape[1] / factor_x
        plane = Plane((height, width), extent, len(pick.bands) * values.dtype.itemsize, read)
        for block in warp(plane, source, interpolation, antialias=asked.antialias):
            put_block(block, pick.positions, result, asked)

    def _warp_at_once(self, pick: _Pick, rows: range, cols: range, out: Array, asked: AsAsked) -> bool:
        """The short ways of :meth:`_bring`, for most crops of most files; whether it was one of them."""
        interpolation = asked.interpolation
        if not isinstance(interpolation, str) or not self._values_of(pick.part).is_plain:
            return False
        reader = self.opened(pick.part).reader
        src_from_img = pick.src_from_img or IDENTITY
        a, b, c, d, e, f = src_from_img
        if max(abs(a), abs(b), abs(d), abs(e)) >= _OVERVIEW_FACTOR:
            return False
        if b or d or a <= 0 or e <= 0:
            grid = Grid.of_pixels(rows, cols).through(src_from_img)
            return self._warp_turned(pick, reader, grid, out, interpolation)
        return self._warp_straight(
            pick,
            reader,
            (rows.start * e + f, e),
            (cols.start * a + c, a),
            out,
            interpolation,
            antialias=asked.antialias,
        )

    def _warp_straight(
        self,
        pick: _Pick,
        reader: Reader,
        down: tuple[float, float],
        across: tuple[float, float],
        out: Array,
        interpolation: Interpolation,
        *,
        antialias: bool,
    ) -> bool:
        """A file that is only finer or coarser; ``down`` and ``across``: where its pixels begin, and how far they go."""
        stencils, window = [], []
        for axis, (start, step) in enumerate((down, across)):
            begin = math.floor(start)
            stencil = find_stencil(
                round(start - begin, 12),
                step,
                out.shape[axis],
                interpolation,
                antialias=antialias,
                dtype=reader.dtype,
            )
            first = begin + stencil.first
            if first < 0 or first + stencil.extent > reader.shape[axis]:
                return False  # at a border
            stencils.append(stencil)
            window.append(range(first, first + stencil.extent))
        stored = self._read_window(pick, reader, window[0], window[1], out)
        if stored is None:
            return False
        out[:, :, as_slice(pick.positions)] = apply_stencils(
            stored,
            stencils[0],
            stencils[1],
            rows_first=down[1] > 1,
            may_overshoot=interpolation != "linear",
        )
        return True

    def _warp_turned(self, pick: _Pick, reader: Reader, grid: Grid, out: Array, interpolation: Interpolation) -> bool:
        """A file that is rotated, sheared or mirrored, and not finer than the image: then all is one step."""
        if max(grid.steps) > 1 + _EPSILON:
            return False
        window = grid.footprint_inside(reader.shape[:2], interpolation, antialias=False)
        stored = None if window is None else self._read_window(pick, reader, window[0], window[1], out)
        if window is None or stored is None:
            return False
        local = grid.in_plane(1, 1, window[0].start, window[1].start)
        out[:, :, as_slice(pick.positions)] = sample(stored, local, interpolation, antialias=False)
        return True

    def _read_window(self, pick: _Pick, reader: Reader, rows: range, cols: range, out: Array) -> Array | None:
        """A window of a file; ``None`` where it is so large that it is better read in parts, or holds not-a-numbers."""
        stored = np.empty((len(rows), len(cols), len(pick.bands)), reader.dtype)
        if max(stored.nbytes, out.nbytes) > _AT_ONCE_BYTES:
            return None
        self._read_part(_alone(pick), rows, cols, stored, 0)
        return None if stored.dtype.kind in "fc" and np.isnan(stored.min()) else stored

    def _copy(
        self,
        pick: _Pick,
        axes: tuple[Sampling, Sampling],
        shape: tuple[int, int],
        result: Result,
        asked: AsAsked,
        level: int,
    ) -> None:
        """Whole pixels, as they are stored, as far as the file reaches."""
        planes = [range(round(axis.start), round(axis.start) + axis.count) for axis in axes]
        inner = [inside(plane, extent) for plane, extent in zip(planes, shape, strict=True)]
        if inner != planes:
            result.pixels[:, :, pick.positions] = fill_of(result, asked)
        target = result.pixels[positions_in(inner[0], planes[0]), positions_in(inner[1], planes[1])]
        if target.size:
            self._read_part(pick, inner[0], inner[1], target, level)

    def _locate(
        self,
        part: int,
        reader: Reader,
        grid: Grid,
        interpolation: Interpolation,
        *,
        antialias: bool,
        mode: NodataMode,
    ) -> tuple[Grid, int]:
        """A grid over the image as one over the level of a file that it is made from; and that level."""
        src_from_img = self._maps[part]
        source = grid if src_from_img is None else grid.through(src_from_img)
        if self._values_of(part).mixes(mode):
            return source, 0
        level = find_level(reader, *source.steps, interpolation, antialias=antialias)
        return (source.in_plane(*reader.level_factors(level)) if level else source), level

    def _scale_padded(self, samplings: tuple[Sampling, Sampling], plan: _Plan, pad: str, asked: AsAsked) -> Array:
        """A region resampled of which what lies outside of the image is what its nearest or mirrored points are."""
        result = self._new_result((samplings[0].count, samplings[1].count, len(plan.codes)), plan, asked)
        runs = [list(fold(sampling, extent, pad)) for sampling, extent in zip(samplings, plan.shape[:2], strict=True)]
        for rows, cols in product(*runs):
            target = result.at(rows.place, cols.place)
            grid = Grid.of_axes(rows.sampling, cols.sampling)
            piece = self._new_result((*grid.shape, len(plan.codes)), plan, asked)
            for pick in plan.picks if piece.pixels.size else ():
                self._bring(pick, grid, piece, plan, asked)
            turned = np.s_[:: rows.direction, :: cols.direction]
            target.pixels[...] = piece.pixels[turned]
            if target.missing is not None and piece.missing is not None:
                target.missing[...] = piece.missing[turned]
        return finish(result, asked.nodata)

    def _new_result(self, shape: tuple[int, ...], plan: _Plan, asked: AsAsked) -> Result:
        """A new array for a result, in the dtype that it needs; and one for what is missing, where that is asked for."""
        pixels = allocate(shape, result_dtype(plan.dtype, asked), self._max_region_bytes)
        return Result(pixels, None if asked.nodata == "keep" else np.zeros(shape, bool))

    def _fill(self, result: Result, rows: range, cols: range, plan: _Plan, asked: AsAsked) -> None:
        """Each file fills its own channels of a result, of pixels of the image."""
        for pick in plan.picks:
            if pick.is_plain and result.missing is None:
                self._read_part(pick, rows, cols, result.pixels, 0)
            elif result.pixels.size:
                self._bring_pixels(pick, rows, cols, result, plan, asked)

    def _bring_pixels(self, pick: _Pick, rows: range, cols: range, result: Result, plan: _Plan, asked: AsAsked) -> None:
        """One file's bands at some pixels of the image; with steps by way of all the pixels between, a few rows at a time."""
        if rows.step == 1 and cols.step == 1:
            if result.missing is None and self._warp_at_once(pick, rows, cols, result.pixels, asked):
                return
            self._bring(pick, Grid.of_pixels(rows, cols), result, plan, asked)
            return
        all_cols = bounding_range(cols)
        count = max(1, _STRIP_PX // abs(rows.step))
        for first in range(0, len(rows), count):
            some = rows[first : first + count]
            all_rows = bounding_range(some)
            strip = self._new_result((len(all_rows), len(all_cols), len(plan.codes)), plan, asked)
            self._bring_pixels(pick, all_rows, all_cols, strip, plan, asked)
            at = np.s_[:: some.step if len(some) > 1 else 1, :: cols.step if len(cols) > 1 else 1]
            place = slice(first, first + len(some))
            bands = as_slice(pick.positions)
            result.pixels[place, :, bands] = strip.pixels[at][:, :, bands]
            if result.missing is not None and strip.missing is not None:
                result.missing[place, :, bands] = strip.missing[at][:, :, bands]

    def read_file(self, part: int, read: Callable[[Reader], None]) -> None:
        """Have ``read`` read from one file; where its entry fails meanwhile, from a new one, or the source."""
        opened = self._opened[part] or self.opened(part)
        try:
            read(opened.reader)
        except (CacheEntryDamagedError, CacheEntryGoneError) as error:
            self._read_again(opened, error, part, read, 0)

    def _read_part(self, pick: _Pick, rows: range, cols: range, out: Array, level: int) -> None:
        opened = self._opened[pick.part] or self.opened(pick.part)
        try:  # as read_file, without a call more on the way of every crop
            self._read_into(opened.reader, rows, cols, pick, out, level)
        except (CacheEntryDamagedError, CacheEntryGoneError) as error:
            read = partial(self._read_into, rows=rows, cols=cols, pick=pick, out=out, level=level)
            self._read_again(opened, error, pick.part, read, level)

    def _read_again(
        self, opened: OpenedChannel, error: Exception, part: int, read: Callable[[Reader], None], level: int
    ) -> None:
        for number in range(_MOST_REOPENINGS):
            is_last = number == _MOST_REOPENINGS - 1
            opened = self._reopen(part, opened, error, directly=is_last and level == 0)
            try:
                read(opened.reader)
            except (CacheEntryDamagedError, CacheEntryGoneError) as again:
                if is_last:
                    raise
                error = again
            else:
                return

    def _read_into(self, reader: Reader, rows: range, cols: range, pick: _Pick, out: Array, level: int) -> None:
        """Read one file's bands to their places in the result, straight into it where they lie side by side."""
        target = out if pick.is_all else _find_target(reader, pick, out)
        pixels = np.empty((len(rows), len(cols), len(pick.positions)), reader.dtype) if target is None else target
        if not reader.is_shareable or not self._share(reader, Crop(rows, cols, pick.bands, pixels, level)):
            reader.read(rows, cols, pick.bands, pixels, level=level)
        if target is None:
            _put(pixels, pick, out)

    def _share(self, reader: Reader, crop: Crop) -> bool:
        """Have several threads read a crop, if that is worth it; whether they did."""
        if self._threads == 1 or not crop.out.size or reader.estimate_seconds(crop) < WORTH_SHARING_SECONDS:
            return False
        threads = count_threads(self._threads)
        if threads > 1:
            work_together(reader.split([crop]), threads=threads)
        return threads > 1

    def _reopen(self, part: int, failed: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:
        with self._lock:
            opened = self._opened[part]
            if opened is not None and opened is not failed and not directly:
                return opened  # another thread was quicker
            opened = self._opener.reopen(self.pathinfo.channels[part], failed, error, directly=directly)
            again, before = opened.reader, failed.reader
            if (again.shape, again.dtype, again.frame_count) != (before.shape, before.dtype, before.frame_count):
                raise SourceChangedError(f"{self.pathinfo.channels[part].path} changed while it was being read")
            self._keep(part, opened)
        return opened

    def _keep(self, part: int, opened: OpenedChannel) -> None:
        self._opened[part] = opened
        kept = [(info.path, item) for info, item in zip(self.pathinfo.channels, self._opened, strict=True) if item]
        self._is_watched_enough = all(item.stamp is not None and item.is_settled for _, item in kept)
        self._watched = tuple((path, item.stamp) for path, item in kept if item.stamp is not None)
        if self._on_open is not None:
            self._on_open(self)

    def _load_padded(self, ranges: tuple[range, ...], plan: _Plan, pad: str, asked: AsAsked) -> Array:
        check_pad(pad)
        rows, cols, bands = ranges
        plan = self._narrow(plan, bands)
        result = self._new_result((len(rows), len(cols), len(bands)), plan, asked)
        self._fill_padded(result, (rows, cols), plan, pad, asked)
        return finish(result, asked.nodata)

    def _fill_padded(self, result: Result, ranges: tuple[range, range], plan: _Plan, pad: str, asked: AsAsked) -> None:
        (rows, cols), (height, width) = ranges, plan.shape[:2]
        if pad == "constant":
            result.pixels[...] = fill_of(result, asked)
            if result.missing is not None:
                result.missing[...] = True
            inner_rows, inner_cols = inside(rows, height), inside(cols, width)
            target = result.at(positions_in(inner_rows, rows), positions_in(inner_cols, cols))
            if target.missing is not None:
                target.missing[...] = False
            self._fill(target, inner_rows, inner_cols, plan, asked)
            return
        row_indices, col_indices = mirror(rows, height, pad), mirror(cols, width, pad)
        row_window, col_window = covering(row_indices), covering(col_indices)
        window = self._new_result((len(row_window), len(col_window), len(plan.codes)), plan, asked)
        self._fill(window, row_window, col_window, plan, asked)
        at = np.ix_(row_indices - row_window.start, col_indices - col_window.start)
        result.pixels[...] = window.pixels[at]
        if result.missing is not None and window.missing is not None:
            result.missing[...] = window.missing[at]

    def _codes_of(self, part: int) -> tuple[str, ...]:
        named = self.pathinfo.channels[part].channels
        return named if named is not None else default_codes(self.opened(part).reader.shape[2])

    def _plan(self, channels: str | Sequence[str] | None) -> _Plan:
        """What a read of ``channels`` is.

        Raises:
            ChannelError: the image has no such channel.
        """
        spec = tuple(channels) if isinstance(channels, list) else channels
        try:
            known = self._plans.get(spec)  # type: ignore[arg-type]
        except TypeError:  # what is no spec may have no hash
            known = None
        return known or self._remember(spec, self._plan_codes(self.parse(channels)))

    def parse(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` asks for, there or not."""
        if channels is None:
            return self.default_channels
        return self.channels if channels == "<all>" else parse_codes(channels)

    def _plan_codes(self, codes: tuple[str, ...]) -> _Plan:
        """As :meth:`_plan`, for codes that are parsed; ``()`` reads nothing, in the dtype of the default."""
        places = [(part, band) for part in range(len(self._opened)) for band in range(len(self._codes_of(part)))]
        found: dict[int, tuple[list[int], list[int]]] = {}
        known = self.channels
        self._check_named_once(known, codes)
        for position, index in enumerate(find_codes(known, codes)):
            part, band = places[index]
            bands, positions = found.setdefault(part, ([], []))
            bands.append(band)
            positions.append(position)
        picks = tuple(self._pick(part, *pair, len(codes)) for part, pair in found.items())
        dtypes = [self._values_of(pick.part).dtype for pick in picks]
        dtype = np.result_type(*dtypes) if dtypes else self.dtype()
        is_plain = all(pick.is_plain for pick in picks)
        shape = self._native_shape(picks) if self.pathinfo.is_native and picks else self.image_shape
        return _Plan(codes, (*shape, len(codes)), dtype, picks, is_plain)

    def _check_named_once(self, known: Sequence[str], codes: Sequence[str]) -> None:
        """Bands that nobody named may go by the name of another file's."""
        twice = [code for code in dict.fromkeys(codes) if known.count(code) > 1]
        if twice:
            several = ", ".join(
                f"{info.path} ({'|'.join(self._codes_of(part))})"
                for part, info in enumerate(self.pathinfo.channels)
                if not {*twice}.isdisjoint(self._codes_of(part))
            )
            raise ChannelError(f"several files hold {'|'.join(twice)!r}: {several}; name the channels of each")

    def _native_shape(self, picks: Sequence[_Pick]) -> tuple[int, int]:
        """The common size of files that stay on their own grids.

        Raises:
            ChannelError: there is none.
        """
        sizes = {self.opened(pick.part).reader.shape[:2]: self._codes_of(pick.part) for pick in picks}
        if len(sizes) > 1:
            several = ", ".join(f"{'|'.join(codes)} ({_by(shape)})" for shape, codes in sizes.items())
            raise ChannelError(
                f"channels on grids of their own do not go into one array: {several}; ask for one of them"
            )
        return next(iter(sizes))

    def _pick(self, part: int, bands: list[int], positions: list[int], channel_count: int) -> _Pick:
        src_from_img = self._maps[part]
        shape = self.opened(part).reader.shape[:2]
        is_there = src_from_img is None and (self.pathinfo.is_native or shape == self.image_shape)
        is_plain = is_there and self._values_of(part).is_plain
        is_all = positions == [*range(channel_count)]
        pick = _Pick(part, _as_range(bands), _as_range(positions), is_all, is_plain, src_from_img)
        return pick._replace(alone=pick._replace(positions=range(len(bands)), is_all=True))

    def _values_of(self, part: int) -> Values:
        values = self._values.get(part)
        if values is None:
            reader = self.opened(part).reader
            nodata = find_nodata(self.pathinfo.channels[part], reader.nodata)
            values = self._values[part] = Values(reader.dtype, nodata, self._quantizations[part])
        return values

    def _narrow(self, plan: _Plan, bands: Sequence[int]) -> _Plan:
        """The plan for some of the channels of ``plan``."""
        if len(bands) == len(plan.codes) and (not isinstance(bands, range) or bands.step == 1):
            return plan
        codes = tuple(plan.codes[band] for band in bands)
        key = ("", *codes)  # no code is empty, so this is no other spec
        return self._plans.get(key) or self._remember(key, self._plan_codes(codes))

    def _remember(self, spec: Any, plan: _Plan) -> _Plan:
        if len(self._plans) < _MOST_PLANS:
            self._plans[spec] = plan
        return plan

    def _check_part(self, part: int, reader: Reader) -> None:
        info = self.pathinfo.channels[part]
        if info.channels is not None and len(info.channels) != reader.shape[2]:
            raise UnreadableImageError(
                f"{info.path} has {reader.shape[2]} bands, but {len(info.channels)} channels are named for it: {'|'.join(info.channels)}"
            )
        if info.shape not in (None, reader.shape[:2]):
            raise UnreadableImageError(f"{info.path} is {_by(reader.shape)}, but said to be {_by(info.shape or ())}")
        expected = self.pathinfo.shape or (None if part == self._first_aligned else self.image_shape)
        is_unsaid = info.is_aligned and info.shape is None and not self.pathinfo.is_native
        if is_unsaid and expected not in (None, reader.shape[:2]):
            raise UnreadableImageError(
                f"{info.path} is {_by(reader.shape)} in an image of {_by(expected or ())}; say how it lies there by "
                "img_from_src, or give its own shape if it covers just a part"
            )

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()


def find_level(
    reader: Reader, step_y: float, step_x: float, interpolation: Interpolation = "linear", *, antialias: bool = True
) -> int:
    """The coarsest level of a file from which a resampled region still loses nothing; 0 is the image."""
    # An overview is a mean, which is no value of a mask.
    return reader.find_level(step_y, step_x) if interpolation != "nearest" and antialias else 0


def _find_target(reader: Reader, pick: _Pick, out: Array) -> Array | None:
    """The part of ``out`` into which the bands of ``pick`` can be read as they are, if there is one."""
    positions = pick.positions
    if not isinstance(positions, range) or reader.dtype != out.dtype:
        return None
    return out if len(positions) == out.shape[2] else out[:, :, positions.start : positions.stop]


def _by_interpolation(
    pick: _Pick, codes: Sequence[str], wanted: Interpolation | Mapping[str, Interpolation]
) -> list[tuple[_Pick, Interpolation]]:
    """A file's bands, those together that are interpolated alike."""
    if not isinstance(wanted, Mapping):
        return [(pick, wanted)]
    groups: dict[Interpolation, list[int]] = {}
    for number, position in enumerate(pick.positions):
        groups.setdefault(wanted.get(codes[position], "linear"), []).append(number)
    if len(groups) == 1:
        return [(pick, next(iter(groups)))]
    return [
        (
            pick._replace(
                bands=_as_range([pick.bands[number] for number in numbers]),
                positions=_as_range([pick.positions[number] for number in numbers]),
                is_all=False,
                alone=None,
            ),
            name,
        )
        for name, numbers in groups.items()
    ]


def _put(pixels: Array, pick: _Pick, out: Array) -> None:
    out[:, :, pick.positions] = pixels


def _as_range(numbers: list[int]) -> Sequence[int]:
    """``numbers`` as a range of step 1, where they are one."""
    run = range(numbers[0], numbers[0] + len(numbers))
    return run if numbers == [*run] else numbers


def _by(shape: Sequence[int]) -> str:
    return f"{shape[0]:,} x {shape[1]:,} px"
