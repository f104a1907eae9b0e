"""AlignableImageData: one image, made of one file or several, opened lazily."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ._process import ForkAware
from .channels import default_codes, find_codes, parse_codes
from .crew import count_threads, work_together
from .errors import (
    CacheEntryDamagedError,
    CacheEntryGoneError,
    RegionError,
    RegionTooLargeError,
    SourceChangedError,
    UnreadableImageError,
    UnsupportedError,
    shorten,
)
from .formats.reader import WORTH_SHARING_SECONDS, Array, Crop, Reader
from .regions import PAD_MODES, Region, Selection, resolve_outside, resolve_region
from .stamp import is_as_stamped
from .warp import INTERPOLATIONS, Interpolation, Sampling, resample, resolve_scale

if TYPE_CHECKING:
    from .pathinfo import ChannelInfo, PathInfo
    from .stamp import SourceStamp

__all__ = ["AlignableImageData", "Errand", "OpenedChannel", "Opener", "PlannedCrop", "find_level", "too_large_error"]

_THUMBNAIL_PX = 192
_MOST_REOPENINGS = 3
_MOST_PLANS = 64
_STRIP_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class OpenedChannel:
    """A channel's file, ready to read.

    Attributes:
        reader: of the cache entry, or of the source itself.
        stamp: the source's state when it was opened; ``None`` for a source that is no local file.
        entry_path: where its cache entry is, or would be; ``None`` where none is asked for.
        is_cached: whether it is that entry that is read.
        is_settled: whether a change of the source is sure to show in its stamp.
        is_lost: whether the source was gone, and the entry stands for it.
    """

    reader: Reader
    stamp: SourceStamp | None
    entry_path: Path | None = None
    is_cached: bool = False
    is_settled: bool = True
    is_lost: bool = False


class Opener(Protocol):
    """What an image needs in order to open its files."""

    def open(self, info: ChannelInfo) -> OpenedChannel:
        """Open a file, from the cache or from the source."""

    def reopen(self, info: ChannelInfo, opened: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:
        """Open anew what failed with ``error``: by way of the cache again, or the source itself."""

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:
        """Whether what was opened is still what would be opened now."""


class _Pick(NamedTuple):
    """Bands of one file, and where they go in the result: ranges where they lie side by side, so that nothing is shuffled.

    ``is_all`` says that they are the result, as they come from the file.
    """

    part: int
    bands: Sequence[int]
    positions: Sequence[int]
    is_all: bool


class _Plan(NamedTuple):
    """What a read of some channels is: settled once, since it stands on the way of every crop.

    Attributes:
        codes: the channels' codes.
        shape: ``(height, width, channels)`` of the whole image in them.
        dtype: of the result.
        picks: what comes from which file.
    """

    codes: tuple[str, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    picks: tuple[_Pick, ...]


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


class Errand(NamedTuple):
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


class AlignableImageData(ForkAware):
    """One image made of one file or several, each opened when it is first read.

    Regions are in image space. Files that lie on the image's own grid are read as they are; a file with another
    resolution or position raises :class:`~ndframes.UnsupportedError`.

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
        for info in pathinfo.channels:
            _check_supported(info)
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
        return self.pathinfo.default or self.channels

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of image space."""
        return self.pathinfo.shape or self.opened(0).reader.shape[:2]

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

    def load_region(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        pad: str | None = None,
        fill: complex = 0,
    ) -> Array:
        """Read a region into a new array; see :meth:`ndframes.Frames.load_region`."""
        plan = self._plan(channels)
        if pad is not None:
            return self._load_padded(resolve_outside(region, plan.shape), plan, pad, fill)
        selection = resolve_region(region, plan.shape)
        rows, cols, bands = selection.ranges
        plan = self._narrow(plan, bands)
        out = self._allocate(selection.shape, plan.dtype)
        self._fill(out.reshape(selection.full_shape) if True in selection.dropped else out, rows, cols, plan)
        return out

    def load_scaled(
        self,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        scale: float | tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        interpolation: Interpolation = "linear",
        antialias: bool = True,
    ) -> Array:
        """Read a region resampled; see :meth:`ndframes.Frames.load_region`."""
        check_interpolation(interpolation)
        plan = self._plan(channels)
        selection = resolve_region(region, plan.shape)
        rows, cols = resolve_scale(selection, scale, shape)
        plan = self._narrow(plan, selection.ranges[2])
        out = self._allocate((rows.count, cols.count, len(plan.codes)), plan.dtype)
        for pick in plan.picks if out.size else ():
            self._sample(pick, rows, cols, interpolation, out, antialias=antialias)
        return out

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
        if is_padded:
            rows, cols, bands = map(len, resolve_outside(region, plan.shape))
        else:
            selection = resolve_region(region, plan.shape)
            rows, cols, bands = selection.full_shape
            if scale is not None or shape is not None:
                rows, cols = (axis.count for axis in resolve_scale(selection, scale, shape))
        return rows * cols * bands * plan.dtype.itemsize

    def plan_crop(self, region: Region, channels: str | Sequence[str] | None = None) -> PlannedCrop:
        """Resolve a region without reading it."""
        plan = self._plan(channels)
        selection = resolve_region(region, plan.shape)
        return PlannedCrop(self._narrow(plan, selection.ranges[2]), selection)

    def route(self, crop: PlannedCrop, out: Array) -> Iterator[Errand]:
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
            yield Errand(pick.part, reader, Crop(rows, cols, pick.bands, target), finish)

    def load_thumbnail(self, max_px: int = _THUMBNAIL_PX) -> Array:
        """A small copy of the default channels, from the smallest stored level that is still at least ``max_px``."""
        plan = self._plan(None)
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

    def _sample(
        self,
        pick: _Pick,
        rows: Sampling,
        cols: Sampling,
        interpolation: Interpolation,
        out: Array,
        *,
        antialias: bool,
    ) -> None:
        """One file's bands resampled, a few rows at a time: the window under them may be far larger than the result."""
        reader = self.opened(pick.part).reader
        level = find_level(reader, rows, cols, interpolation, antialias=antialias)
        height, width, _ = reader.level_shape(level)
        factor_y, factor_x = reader.level_factors(level)
        rows, cols = rows.in_plane(factor_y), cols.in_plane(factor_x)
        whole_rows, whole_cols = rows.find_pixels(height), cols.find_pixels(width)
        if whole_rows is not None and whole_cols is not None:
            self._read_part(pick, whole_rows, whole_cols, out, level)
            return
        window_cols = cols.footprint(width, interpolation, antialias=antialias)
        every_band = pick._replace(positions=range(len(pick.bands)), is_all=True)
        row_bytes = len(window_cols) * len(pick.bands) * reader.dtype.itemsize
        for place, strip in rows.cut(max(1, int(_STRIP_BYTES / row_bytes / rows.step))):
            window_rows = strip.footprint(height, interpolation, antialias=antialias)
            window = np.empty((len(window_rows), len(window_cols), len(pick.bands)), reader.dtype)
            self._read_part(every_band, window_rows, window_cols, window, level)
            out[place, :, pick.positions] = resample(
                window,
                strip.in_plane(1, window_rows.start),
                cols.in_plane(1, window_cols.start),
                interpolation,
                antialias=antialias,
            )

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A new array for a result of ``shape``, if the limit allows it."""
        needed = math.prod(shape, start=dtype.itemsize)
        if needed > self._max_region_bytes:
            extents = " x ".join(f"{extent:,}" for extent in shape)
            raise too_large_error(f"the region is {extents} of {dtype}", needed, self._max_region_bytes)
        return np.empty(shape, dtype)

    def _fill(self, out: Array, rows: range, cols: range, plan: _Plan) -> None:
        """The way of every crop: each file fills its own channels of ``out``."""
        for pick in plan.picks:
            self._read_part(pick, rows, cols, out, 0)

    def _read_part(self, pick: _Pick, rows: range, cols: range, out: Array, level: int) -> None:
        """Read from one file; where its cache entry fails meanwhile, from a new one, in the end from the source."""
        opened = self._opened[pick.part] or self.opened(pick.part)
        try:
            self._read_into(opened.reader, rows, cols, pick, out, level)
        except (CacheEntryDamagedError, CacheEntryGoneError) as error:
            self._read_again(opened, error, pick, rows, cols, out, level)

    def _read_again(
        self,
        opened: OpenedChannel,
        error: Exception,
        pick: _Pick,
        rows: range,
        cols: range,
        out: Array,
        level: int,
    ) -> None:
        for number in range(_MOST_REOPENINGS):
            is_last = number == _MOST_REOPENINGS - 1
            opened = self._reopen(pick.part, opened, error, directly=is_last and level == 0)
            try:
                self._read_into(opened.reader, rows, cols, pick, out, level)
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
            if (opened.reader.shape, opened.reader.dtype) != (failed.reader.shape, failed.reader.dtype):
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

    def _load_padded(self, ranges: tuple[range, ...], plan: _Plan, pad: str, fill: complex) -> Array:
        if pad not in PAD_MODES:
            raise RegionError(f"pad={pad!r}; allowed: None, {', '.join(map(repr, PAD_MODES))}")
        rows, cols, bands = ranges
        plan = self._narrow(plan, bands)
        out = self._allocate((len(rows), len(cols), len(bands)), plan.dtype)
        height, width = plan.shape[:2]
        if pad == "constant":
            out[...] = _check_fill(fill, out.dtype)
            inner_rows, inner_cols = _inside(rows, height), _inside(cols, width)
            target = out[_positions(inner_rows, rows), _positions(inner_cols, cols)]
            self._fill(target, inner_rows, inner_cols, plan)
            return out
        row_indices, col_indices = _mirror(rows, height, pad), _mirror(cols, width, pad)
        row_window, col_window = _covering(row_indices), _covering(col_indices)
        window = self._allocate((len(row_window), len(col_window), len(bands)), plan.dtype)
        self._fill(window, row_window, col_window, plan)
        out[...] = window[np.ix_(row_indices - row_window.start, col_indices - col_window.start)]
        return out

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
        return known or self._remember(spec, self._plan_codes(self._parse(channels)))

    def _parse(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        if channels is None:
            return self.default_channels
        return self.channels if channels == "<all>" else parse_codes(channels)

    def _plan_codes(self, codes: tuple[str, ...]) -> _Plan:
        """As :meth:`_plan`, for codes that are parsed; ``()`` reads nothing, in the dtype of the default."""
        places = [(part, band) for part in range(len(self._opened)) for band in range(len(self._codes_of(part)))]
        found: dict[int, tuple[list[int], list[int]]] = {}
        for position, index in enumerate(find_codes(self.channels, codes)):
            part, band = places[index]
            bands, positions = found.setdefault(part, ([], []))
            bands.append(band)
            positions.append(position)
        picks = tuple(
            _Pick(part, _as_range(pair[0]), _as_range(pair[1]), is_all=pair[1] == [*range(len(codes))])
            for part, pair in found.items()
        )
        dtypes = [self.opened(pick.part).reader.dtype for pick in picks]
        dtype = np.result_type(*dtypes) if dtypes else self.dtype()
        return _Plan(codes, (*self.image_shape, len(codes)), dtype, picks)

    def _narrow(self, plan: _Plan, bands: range) -> _Plan:
        """The plan for some of the channels of ``plan``."""
        if len(bands) == len(plan.codes) and bands.step == 1:
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
        expected = self.pathinfo.shape or (reader.shape[:2] if part == 0 else self.image_shape)
        if reader.shape[:2] != expected:
            raise UnsupportedError(
                f"{info.path} is {reader.shape[0]} x {reader.shape[1]} in an image of {expected[0]} x {expected[1]}; "
                "channels of another size are not aligned yet"
            )

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()


def find_level(
    reader: Reader, rows: Sampling, cols: Sampling, interpolation: Interpolation = "linear", *, antialias: bool = True
) -> int:
    """The coarsest level of a file from which a resampled region still loses nothing; 0 is the image."""
    # An overview is a mean, which is no value of a mask.
    return reader.find_level(rows.step, cols.step) if interpolation == "linear" and antialias else 0


def check_interpolation(interpolation: object) -> None:
    """Refuse an interpolation that there is not.

    Raises:
        ValueError: the message says which there are.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation={shorten(interpolation)}; allowed: {', '.join(map(repr, INTERPOLATIONS))}")


def _check_supported(info: ChannelInfo) -> None:
    if not info.is_aligned:
        raise UnsupportedError(
            f"{info.path} has a transform into image space; channels on another grid are not read yet"
        )
    if info.quantization is not None:
        raise UnsupportedError(f"{info.path} has a quantization; quantized channels are not read yet")


def _find_target(reader: Reader, pick: _Pick, out: Array) -> Array | None:
    """The part of ``out`` into which the bands of ``pick`` can be read as they are, if there is one."""
    positions = pick.positions
    if not isinstance(positions, range) or reader.dtype != out.dtype:
        return None
    return out if len(positions) == out.shape[2] else out[:, :, positions.start : positions.stop]


def _put(pixels: Array, pick: _Pick, out: Array) -> None:
    out[:, :, pick.positions] = pixels


def too_large_error(what: str, needed_bytes: int, max_bytes: int) -> RegionTooLargeError:
    """The error for a result of more bytes than are allowed."""
    return RegionTooLargeError(
        f"{what}: {needed_bytes:,} bytes, over the limit of {max_bytes:,}; read it in parts, or raise max_region_bytes"
    )


def _as_range(numbers: list[int]) -> Sequence[int]:
    """``numbers`` as a range of step 1, where they are one."""
    run = range(numbers[0], numbers[0] + len(numbers))
    return run if numbers == [*run] else numbers


def _check_fill(fill: complex, dtype: np.dtype[Any]) -> Array:
    """The fill value in the image's dtype, if it can be said there."""
    value = np.asarray(fill)
    if value.ndim == 0 and value.dtype.kind in ("biufc" if dtype.kind == "c" else "biuf"):
        with np.errstate(all="ignore"):
            cast = value.astype(dtype)
        if dtype.kind in "fc" or cast == value:
            return cast
    raise RegionError(f"fill={fill!r} is no value of {dtype}")


def _inside(axis: range, extent: int) -> range:
    """The part of ``axis`` that lies in ``range(extent)``."""
    first = max(0, -(axis.start // axis.step)) if axis.start < 0 else 0
    last = len(range(axis.start, min(axis.stop, extent), axis.step))
    return axis[min(first, last) : last]


def _positions(inner: range, outer: range) -> slice:
    first = (inner.start - outer.start) // outer.step if inner else 0
    return slice(first, first + len(inner))


def _mirror(axis: range, extent: int, pad: str) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Per position of ``axis`` the pixel that stands there: the nearest one, or the one behind the mirror."""
    indices = np.arange(axis.start, axis.stop, axis.step, dtype=np.intp)
    if pad == "edge" or extent == 1:
        return indices.clip(0, extent - 1)
    period = 2 * (extent - 1)
    indices %= period
    return np.where(indices < extent, indices, period - indices)


def _covering(indices: np.ndarray[Any, np.dtype[np.intp]]) -> range:
    return range(int(indices.min()), int(indices.max()) + 1) if indices.size else range(0)
