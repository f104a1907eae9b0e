"""AlignableImageData: one image, made of one file or several, opened lazily."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ._process import ForkAware
from .channels import default_codes, find_codes, parse_codes
from .errors import (
    CacheEntryDamagedError,
    CacheEntryGoneError,
    RegionError,
    RegionTooLargeError,
    SourceChangedError,
    UnreadableImageError,
    UnsupportedError,
)
from .regions import PAD_MODES, Region, resolve_outside, resolve_region

if TYPE_CHECKING:
    from .formats.reader import Array, Reader
    from .pathinfo import ChannelInfo, PathInfo
    from .stamp import SourceStamp

__all__ = ["AlignableImageData", "OpenedChannel", "Opener"]

_THUMBNAIL_PX = 192
_MOST_REOPENINGS = 3


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


@dataclass(frozen=True, slots=True)
class _Pick:
    """Bands of one file, and where they go in the result."""

    part: int
    bands: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)


class AlignableImageData(ForkAware):
    """One image made of one file or several, each opened when it is first read.

    Regions are in image space. Files that lie on the image's own grid are read as they are; a file with another
    resolution or position raises :class:`~ndframes.UnsupportedError`.

    Args:
        pathinfo: the image's files.
        opener: opens them, from the cache or from the source.
        max_region_bytes: a result of more bytes than this is refused.
        on_open: called whenever a file was opened, since the image then costs more memory.
    """

    def __init__(
        self,
        pathinfo: PathInfo,
        opener: Opener,
        *,
        max_region_bytes: int,
        on_open: Callable[[AlignableImageData], None] | None = None,
    ) -> None:
        self.pathinfo = pathinfo
        self._opener = opener
        self._on_open = on_open
        self._max_region_bytes = max_region_bytes
        self._opened: list[OpenedChannel | None] = [None] * len(pathinfo.channels)
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
        return (*self.image_shape, len(self.select(channels)))

    def dtype(self, channels: str | Sequence[str] | None = None) -> np.dtype[Any]:
        """The dtype of a read: those of the files touched, promoted by ``np.result_type``."""
        return np.result_type(*(self.opened(pick.part).reader.dtype for pick in self._picks(self.select(channels))))

    def select(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` asks for, checked.

        Raises:
            ChannelError: the image has no such channel.
        """
        codes = (
            self.default_channels
            if channels is None
            else self.channels
            if channels == "<all>"
            else parse_codes(channels)
        )
        find_codes(self.channels, codes)
        return codes

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
        return [(pick.part, len(pick.bands)) for pick in self._picks(codes)]

    def is_current(self) -> bool:
        """Whether every source that was opened is still the file that it was then."""
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
        codes = self.select(channels)
        shape = (*self.image_shape, len(codes))
        if pad is not None:
            return self._load_padded(resolve_outside(region, shape), codes, pad, fill)
        selection = resolve_region(region, shape)
        rows, cols, bands = selection.ranges
        wanted = [codes[band] for band in bands]
        out = self._allocate(selection.shape, wanted)
        self._fill(out.reshape(selection.full_shape), rows, cols, wanted)
        return out

    def load_thumbnail(self, max_px: int = _THUMBNAIL_PX) -> Array:
        """A small copy of the default channels, from the smallest stored level that is still at least ``max_px``."""
        picks = self._picks(self.default_channels)
        readers = [self.opened(pick.part).reader for pick in picks]
        level = 0
        while all(len(reader.overview_shapes) > level for reader in readers) and all(
            max(reader.overview_shapes[level]) >= max_px for reader in readers
        ):
            level += 1
        height, width = readers[0].level_shape(level)[:2]
        step = max(1, -(-max(height, width) // max_px))
        rows, cols = range(0, height, step), range(0, width, step)
        out = np.empty((len(rows), len(cols), len(self.default_channels)), self.dtype())
        for pick in picks:
            self._read_part(pick, rows, cols, out, level)
        return out

    def _allocate(self, shape: tuple[int, ...], codes: Sequence[str]) -> Array:
        """A new array for a result of ``shape``, if the limit allows it."""
        dtype = self.dtype(codes) if codes else self.dtype()
        needed = math.prod(shape) * dtype.itemsize
        if needed > self._max_region_bytes:
            raise RegionTooLargeError(
                f"the region is {' x '.join(f'{extent:,}' for extent in shape)} of {dtype}: {needed:,} bytes, over the limit of "
                f"{self._max_region_bytes:,}; read it in parts, or raise max_region_bytes"
            )
        return np.empty(shape, dtype)

    def _fill(self, out: Array, rows: range, cols: range, codes: Sequence[str]) -> None:
        """The way of every crop: each file fills its own channels of ``out``."""
        for pick in self._picks(codes):
            self._read_part(pick, rows, cols, out, 0)

    def _read_part(self, pick: _Pick, rows: range, cols: range, out: Array, level: int) -> None:
        """Read from one file; where its cache entry fails meanwhile, from a new one, in the end from the source."""
        opened = self.opened(pick.part)
        for number in range(_MOST_REOPENINGS):
            try:
                _read_into(opened.reader, rows, cols, pick, out, level)
            except (CacheEntryDamagedError, CacheEntryGoneError) as error:
                is_last = number == _MOST_REOPENINGS - 1
                opened = self._reopen(pick.part, opened, error, directly=is_last and level == 0)
            else:
                return
        _read_into(opened.reader, rows, cols, pick, out, level)

    def _reopen(self, part: int, failed: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:
        with self._lock:
            opened = self._opened[part]
            if opened is not None and opened is not failed and not directly:
                return opened  # another thread was quicker
            opened = self._opener.reopen(self.pathinfo.channels[part], failed, error, directly=directly)
            if opened.reader.shape != failed.reader.shape:
                raise SourceChangedError(f"{self.pathinfo.channels[part].path} changed while it was being read")
            self._keep(part, opened)
        return opened

    def _keep(self, part: int, opened: OpenedChannel) -> None:
        self._opened[part] = opened
        if self._on_open is not None:
            self._on_open(self)

    def _load_padded(self, ranges: tuple[range, ...], codes: tuple[str, ...], pad: str, fill: complex) -> Array:
        if pad not in PAD_MODES:
            raise RegionError(f"pad={pad!r}; allowed: None, {', '.join(map(repr, PAD_MODES))}")
        rows, cols, bands = ranges
        wanted = [codes[band] for band in bands]
        out = self._allocate((len(rows), len(cols), len(wanted)), wanted)
        height, width = self.image_shape
        if pad == "constant":
            out[...] = _check_fill(fill, out.dtype)
            inner_rows, inner_cols = _inside(rows, height), _inside(cols, width)
            target = out[_positions(inner_rows, rows), _positions(inner_cols, cols)]
            self._fill(target, inner_rows, inner_cols, wanted)
            return out
        row_indices, col_indices = _mirror(rows, height, pad), _mirror(cols, width, pad)
        row_window, col_window = _covering(row_indices), _covering(col_indices)
        window = self._allocate((len(row_window), len(col_window), len(wanted)), wanted)
        self._fill(window, row_window, col_window, wanted)
        out[...] = window[np.ix_(row_indices - row_window.start, col_indices - col_window.start)]
        return out

    def _codes_of(self, part: int) -> tuple[str, ...]:
        named = self.pathinfo.channels[part].channels
        return named if named is not None else default_codes(self.opened(part).reader.shape[2])

    def _picks(self, codes: Sequence[str]) -> list[_Pick]:
        """Which bands of which files make up ``codes``."""
        places = [(part, band) for part in range(len(self._opened)) for band in range(len(self._codes_of(part)))]
        picks: dict[int, _Pick] = {}
        for position, index in enumerate(find_codes(self.channels, codes)):
            part, band = places[index]
            pick = picks.setdefault(part, _Pick(part))
            pick.bands.append(band)
            pick.positions.append(position)
        return list(picks.values())

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


def _check_supported(info: ChannelInfo) -> None:
    if not info.is_aligned:
        raise UnsupportedError(
            f"{info.path} has a transform into image space; channels on another grid are not read yet"
        )
    if info.quantization is not None:
        raise UnsupportedError(f"{info.path} has a quantization; quantized channels are not read yet")


def _read_into(reader: Reader, rows: range, cols: range, pick: _Pick, out: Array, level: int) -> None:
    """Read one file's bands to their places in the result, straight into it where they lie side by side."""
    first, count = pick.positions[0], len(pick.positions)
    if pick.positions == list(range(first, first + count)) and reader.dtype == out.dtype:
        reader.read(rows, cols, pick.bands, out[:, :, first : first + count], level=level)
        return
    pixels = np.empty((len(rows), len(cols), count), reader.dtype)
    reader.read(rows, cols, pick.bands, pixels, level=level)
    out[:, :, pick.positions] = pixels


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
