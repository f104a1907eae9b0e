"""Parts: the files of one item, each opened when it is first read, and reopened if its cache entry fails."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np

from ..errors import CacheEntryDamagedError, CacheEntryGoneError, SourceChangedError, UnreadableImageError
from ..formats.pyramid import PyramidReader
from ..formats.reader import WORTH_SHARING_SECONDS, Crop, Reader
from ..formats.upright import UprightReader
from ..geometry.affine import invert, spanned_shape, to_affine
from ..pixels.values import Quantization, ValueEncoding, resolve_nodata
from ..spec.channels import default_codes
from ..system.objects.addresses import is_url
from ..system.process import ForkAware
from ..system.stamp import is_unchanged
from ..system.threads import resolve_thread_count, run_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._typing import Array
    from ..entries.opened import OpenedChannel
    from ..geometry.affine import Affine
    from ..geometry.kernels import Interpolation
    from ..spec.pathinfo import ChannelInfo, PathInfo
    from ..system.stamp import SourceStamp

__all__ = [
    "Opener",
    "OverviewMode",
    "Parts",
    "Pick",
    "as_range",
    "find_target",
    "put_bands",
    "shape_text",
    "side_by_side",
]
#: The levels that scaled reads of a source use: the image's ``"own"`` pyramid of 2 x 2 means, or the overviews that other
#: programs stored in the ``"source"``. Cache entries always use their own.
OverviewMode = Literal["own", "source"]
_ENTRY_FAILED = (CacheEntryDamagedError, CacheEntryGoneError)
_MOST_REOPENINGS = 3


class Opener(Protocol):
    """What :class:`Parts` needs in order to open files."""

    def open(self, info: ChannelInfo) -> OpenedChannel:
        """Open a file, from the cache or from the source."""

    def reopen(self, info: ChannelInfo, opened: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:
        """Open a file that failed with ``error`` again: from the cache, or directly from the source."""

    def is_current(self, info: ChannelInfo, opened: OpenedChannel) -> bool:
        """Whether opening now would give the same file."""


class Pick(NamedTuple):
    """Bands of one file, and their positions in the result.

    Both are ranges if the numbers are consecutive, so that copying the bands needs no fancy indexing.

    Attributes:
        part: the number of the file.
        bands: the numbers of its bands.
        positions: the numbers of the result's channels.
        is_all: whether these bands, in this order, are the whole result.
        is_plain: whether the file's pixels are the image's pixels, on the same grid and as they are stored.
        src_from_img: the affine map from image points to points of the file; ``None`` for the identity.
        interpolation: how the bands are resampled if the read does not say.
        alone: the same bands as the only ones of a result.
    """

    part: int
    bands: Sequence[int]
    positions: Sequence[int]
    is_all: bool
    is_plain: bool
    src_from_img: Affine | None
    interpolation: Interpolation = "linear"
    alone: Pick | None = None


class Parts(ForkAware):
    """The files of one image, or the one file of a video.

    Each is opened when it is first used. Safe to share between threads and across a fork.

    Args:
        pathinfo: describes the files.
        opener: opens them, from the cache or from the sources.
        on_open: called after a file was opened, because the item then uses more memory.
        threads: the most threads that decode one crop; ``None``: one for each core, and one in a worker process.
        has_frames: whether the file is a video or an animation.
        overviews: which levels scaled reads of sources use; see :data:`OverviewMode`.

    Attributes:
        pathinfo: as given.
        src_from_img: for each file the affine map from image points to its own; ``None`` for the identity.
    """

    def __init__(
        self,
        pathinfo: PathInfo,
        opener: Opener,
        *,
        on_open: Callable[[], None] | None = None,
        threads: int | None = 1,
        has_frames: bool = False,
        overviews: OverviewMode = "own",
    ) -> None:
        self.pathinfo = pathinfo
        self._has_frames = has_frames
        self._opener = opener
        self._on_open = on_open
        self._threads = threads
        self._overviews = overviews
        infos = pathinfo.channels
        # The files whose own pyramid is not used, and the pyramids of the others with the readers that they are of.
        self._with_source_overviews: set[int] = set()
        self._pyramids: dict[int, tuple[Reader, PyramidReader]] = {}
        self._opened: list[OpenedChannel | None] = [None] * len(infos)
        self._stamps: tuple[tuple[str, SourceStamp], ...] = ()
        self._stamps_suffice = True  # nothing is opened yet
        self._first_aligned = next((number for number, info in enumerate(infos) if info.is_aligned), 0)
        self.src_from_img = [
            None if info.is_aligned or pathinfo.is_native else invert(to_affine(info.matrix, info.path))
            for info in infos
        ]
        self._quantizations = [Quantization.from_info(info) for info in infos]
        # Filled without a lock: threads that do it at once compute equal values.
        self._values: dict[int, ValueEncoding] = {}
        # Reentrant: the check of one file may open another, which gives the image its shape.
        self._lock = threading.RLock()
        super().__init__()

    def __len__(self) -> int:
        return len(self._opened)

    @property
    def memory_bytes(self) -> int:
        """The memory that the opened files use."""
        return 4096 + sum(opened.reader.memory_bytes for opened in self._opened if opened is not None)

    @property
    def image_shape(self) -> tuple[int, int]:
        """``(height, width)`` of image space: as described, or as the first aligned file has it."""
        if self.pathinfo.shape is not None:
            return self.pathinfo.shape
        part = self._first_aligned
        info, (height, width) = self.pathinfo.channels[part], self.reader(part).shape[:2]
        return (height, width) if info.is_aligned else spanned_shape(info.matrix, height, width)

    def opened(self, part: int) -> OpenedChannel:
        """A file, opened if it is not yet.

        Raises:
            SourceError: it cannot be read, or does not fit its description.
            CacheError: the cache cannot be written.
        """
        opened = self._opened[part]
        # Without the lock first: once a file is open, its readers never wait for each other here.
        if opened is None:
            with self._lock:
                opened = self._opened[part]
                if opened is None:
                    opened = self._opener.open(self.pathinfo.channels[part])
                    self._check(part, opened.reader)
                    self._keep(part, opened)
        return opened

    def reader(self, part: int) -> Reader:
        """The reader of a file, opened if it is not yet; errors as for :meth:`opened`."""
        return self.opened(part).reader

    def levels(self, part: int) -> Reader:
        """A reader of a file that has all levels which scaled reads use; errors as for :meth:`opened`."""
        return self._levels_of(part, self.reader(part))

    def interpolation(self, part: int) -> Interpolation:
        """The interpolation of a file's bands where the read names none: as described, or by the dtype."""
        # A mean of booleans is no boolean. Rounded to one, it loses or adds area.
        by_dtype: Interpolation = "nearest" if self.values(part).dtype == bool else "linear"
        named: Any = self.pathinfo.channels[part].interpolation
        return named or by_dtype

    def codes(self, part: int) -> tuple[str, ...]:
        """The channel codes of a file's bands."""
        named = self.pathinfo.channels[part].channels
        if named is not None:
            return named
        facts = self.reader(part).facts
        return facts.channels or default_codes(facts.shape[2])

    def values(self, part: int) -> ValueEncoding:
        """The meaning of the stored numbers of a file."""
        values = self._values.get(part)
        if values is None:
            reader = self.reader(part)
            nodata = resolve_nodata(self.pathinfo.channels[part], reader.nodata)
            values = self._values[part] = ValueEncoding(reader.dtype, nodata, self._quantizations[part])
        return values

    def is_current(self) -> bool:
        """Whether every opened source is still the file that was opened: one ``stat`` for each."""
        for path, stamp in self._stamps:
            if not is_unchanged(path, stamp):
                return self._is_current_by_opener()
        return self._stamps_suffice or self._is_current_by_opener()

    def read(self, part: int, read: Callable[[Reader], None]) -> None:
        """Call ``read`` with the reader of a file, and again with another reader if the cache entry fails.

        Raises:
            SourceChangedError: the source changed its shape or dtype meanwhile.
            NdframesError: whatever ``read`` raises.
        """
        opened = self._opened[part] or self.opened(part)
        try:
            read(opened.reader)
        except _ENTRY_FAILED as error:
            self.read_again(part, opened, error, read)

    def read_pick(self, pick: Pick, rows: range, cols: range, out: Array, *, level: int = 0) -> None:
        """Read the bands of one file into their positions in ``out``.

        Args:
            pick: which bands of which file, and their positions.
            rows: y coordinates in the file's level, of any step.
            cols: x coordinates, likewise.
            out: ``(len(rows), len(cols), channels)``.
            level: 0 for full resolution, 1 for the first level of :meth:`levels`, and so on.
        """
        # Not by read(): every crop comes through here, and making a closure for each would cost time.
        opened = self._opened[pick.part] or self.opened(pick.part)
        try:
            self._read_into(opened.reader, rows, cols, pick, out, level)
        except _ENTRY_FAILED as error:
            read = partial(self._read_into, rows=rows, cols=cols, pick=pick, out=out, level=level)
            self.read_again(pick.part, opened, error, read)

    def for_each(self, picks: Sequence[Pick], read: Callable[[Pick], None]) -> None:
        """Call ``read`` for each pick; for all at the same time where reads wait for a network."""
        is_distant = any(opened is not None and opened.reader.facts.is_distant for opened in self._opened)
        if is_distant and len(picks) > 1:
            run_tasks([partial(read, pick) for pick in picks], threads=len(picks))
            return
        for pick in picks:
            read(pick)

    def read_again(self, part: int, failed: OpenedChannel, error: Exception, read: Callable[[Reader], None]) -> None:
        """Call ``read`` again after a cache entry failed with ``error``: with a new entry, and finally with the source."""
        for number in range(_MOST_REOPENINGS):
            is_last = number == _MOST_REOPENINGS - 1
            failed = self.reopen(part, failed, error, directly=is_last)
            try:
                read(failed.reader)
            except _ENTRY_FAILED as again:
                if is_last:
                    raise
                error = again
            else:
                return

    def reopen(self, part: int, failed: OpenedChannel, error: Exception, *, directly: bool) -> OpenedChannel:
        """Open a file again that failed with ``error``; ``directly`` opens the source instead of a cache entry.

        Raises:
            SourceChangedError: the source has another shape, dtype or number of frames now.
        """
        with self._lock:
            opened = self._opened[part]
            if opened is not None and opened.reader is not failed.reader and not directly:
                return opened  # another thread has reopened it already
            info = self.pathinfo.channels[part]
            opened = self._opener.reopen(info, failed, error, directly=directly)
            # Plans and results in progress depend on both, so a reader that differs must not replace this one.
            now, before = opened.reader.facts, failed.reader.facts
            if (now.shape, now.dtype, now.frame_count) != (before.shape, before.dtype, before.frame_count):
                raise SourceChangedError(f"{info.path} changed while it was being read")
            self._keep(part, opened)
        return opened

    def _read_into(self, reader: Reader, rows: range, cols: range, pick: Pick, out: Array, level: int) -> None:
        """Read directly into ``out`` if the positions and the dtype allow it, otherwise copy from another array."""
        if level and level > reader.own_levels:
            reader = self._levels_of(pick.part, reader)
        target = out if pick.is_all else find_target(reader, pick, out)
        pixels = np.empty((len(rows), len(cols), len(pick.positions)), reader.dtype) if target is None else target
        if not reader.is_shareable or not self._share(reader, Crop(rows, cols, pick.bands, pixels, level)):
            reader.read(rows, cols, pick.bands, pixels, level=level)
        if target is None:
            put_bands(pixels, pick, out)

    def _share(self, reader: Reader, crop: Crop) -> bool:
        """Read a crop with several threads if that saves time; return whether it was read."""
        if self._threads == 1 or not crop.out.size or reader.estimate_seconds(crop) < WORTH_SHARING_SECONDS:
            return False
        # Resolved here, because None means another number in a worker process that was forked since.
        threads = resolve_thread_count(self._threads)
        if threads > 1:
            if reader.facts.is_distant:
                # Each task would request its own tiles, which lie beside those of others.
                reader.read_ahead([crop])
            run_tasks(reader.split([crop]), threads=threads)
        return threads > 1

    def _levels_of(self, part: int, reader: Reader) -> Reader:
        if part in self._with_source_overviews and reader.overview_shapes:
            return reader
        # Without a lock: threads that do it at once make equal pyramids.
        image, pyramid = self._pyramids.get(part, (None, None))
        if pyramid is None or image is not reader:
            pyramid = PyramidReader(reader)
            self._pyramids[part] = reader, pyramid
        return pyramid

    def _is_current_by_opener(self) -> bool:
        return all(
            opened is None or self._opener.is_current(info, opened)
            for info, opened in zip(self.pathinfo.channels, self._opened, strict=True)
        )

    def _keep(self, part: int, opened: OpenedChannel) -> None:
        # Decided when the file is opened first: if the source then replaces a failing entry, levels keep their meaning.
        if self._overviews == "source" and self._opened[part] is None and not opened.is_cached:
            self._with_source_overviews.add(part)
        self._opened[part] = opened
        kept = [(info.path, item) for info, item in zip(self.pathinfo.channels, self._opened, strict=True) if item]
        # A stamp tells of every change only if the source was settled; otherwise the opener has to decide.
        # Objects have no stat: the opener asks for their state from time to time.
        self._stamps_suffice = all(
            item.stamp is not None and item.is_settled and not is_url(path) for path, item in kept
        )
        self._stamps = tuple((path, item.stamp) for path, item in kept if item.stamp is not None and not is_url(path))
        if self._on_open is not None:
            self._on_open()

    def _check(self, part: int, reader: Reader) -> None:
        """Check a file against its description.

        Raises:
            UnreadableImageError: its bands or its shape differ, or it has several frames.
        """
        info, shape = self.pathinfo.channels[part], reader.shape[:2]
        if reader.frame_count is not None and not self._has_frames:
            raise UnreadableImageError(
                f"{info.path} is an animation of {reader.frame_count:,} frames among the images of a sequence; choose one by "
                "ChannelInfo(page=...), or read it on its own as a video"
            )
        band_count = reader.facts.channel_count
        if info.channels is not None and len(info.channels) != band_count:
            raise UnreadableImageError(
                f"{info.path} has {band_count} bands, but {len(info.channels)} channels are named for it: {'|'.join(info.channels)}"
            )
        if info.shape not in (None, shape):
            raise UnreadableImageError(
                f"{info.path} is {shape_text(shape)}, but said to be {shape_text(info.shape or ())} (height x width)"
                f"{_hint_of_turn(reader, info.shape)}"
            )
        # image_shape opens the first aligned file: asking for it while that file is opened would recurse for ever.
        expected = self.pathinfo.shape or (None if part == self._first_aligned else self.image_shape)
        fills_image = info.is_aligned and info.shape is None and not self.pathinfo.is_native
        if fills_image and expected not in (None, shape):
            raise UnreadableImageError(
                f"{info.path} is {shape_text(shape)} in an image of {shape_text(expected or ())}; say how it lies there by "
                f"img_from_src, or give its own shape if it covers just a part{_hint_of_turn(reader, expected)}"
            )

    def _after_fork_in_child(self) -> None:
        # The readers stay: their handle pools start anew by themselves.
        self._lock = threading.RLock()


def _hint_of_turn(reader: Reader, expected: tuple[int, int] | None) -> str:
    """What to do if a shape is that of the picture as its orientation tag turns it."""
    turn, (height, width) = reader.facts.orientation, reader.shape[:2]
    if expected != (width, height):
        return ""
    if isinstance(reader, UprightReader):
        return "; orientation='upright' has turned it, and orientation='stored' leaves it in that size"
    if turn >= 5:
        return f"; its EXIF orientation is {turn}, and orientation='upright' turns it to that size"
    return ""


def find_target(reader: Reader, pick: Pick, out: Array) -> Array | None:
    """The view of ``out`` that the bands of ``pick`` can be read into; ``None`` if they need a copy."""
    positions = pick.positions
    if not isinstance(positions, range) or reader.dtype != out.dtype:
        return None
    return out if len(positions) == out.shape[2] else out[:, :, positions.start : positions.stop]


def put_bands(pixels: Array, pick: Pick, out: Array) -> None:
    """Copy the bands of ``pick`` to their positions."""
    out[:, :, pick.positions] = pixels


def side_by_side(pick: Pick) -> Pick:
    """The same bands as the only ones of a result."""
    return pick.alone or pick._replace(positions=range(len(pick.bands)), is_all=True)


def as_range(numbers: list[int]) -> Sequence[int]:
    """``numbers`` as a range if they are consecutive, otherwise unchanged."""
    run = range(numbers[0], numbers[0] + len(numbers))
    return run if numbers == [*run] else numbers


def shape_text(shape: Sequence[int]) -> str:
    """``(height, width, ...)`` as text."""
    return f"{shape[0]:,} x {shape[1]:,} px"
