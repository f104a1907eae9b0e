"""Frames: image ids in, pixels out. SimpleFrames: a mapping from ids to paths."""

from __future__ import annotations

import difflib
import time
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache.keys import Keyer
from ..cache.layout import default_workdir
from ..cache.store import Cache
from ..entries.bytes import VerifyMode
from ..entries.opener import BoundOpener, ChannelOpener, WhenSourceMissing
from ..errors import (
    ImageIdError,
    NdframesError,
    PathInfoError,
    RegionError,
    SourceChangedError,
    check_choice,
    name_image,
    naming_image,
    shorten,
)
from ..items.image import AlignableImageData
from ..items.sequence import ImageSequence
from ..pixels.options import ask
from ..spec.backends import backend_for, coerce_backend
from ..spec.kinds import is_video_name, is_whole_video
from ..spec.pathinfo import SequenceInfo
from ..system.handles import HandlePool
from ..system.memory import ClockCache
from ..system.process import half_of_memory
from ..system.threads import count_threads
from ..system.workers import Limits
from .batch import check_batch_bytes, check_requests, load_batch, load_each
from .explain import explain_item
from .lazyframe import LazyFrame, LazyVideo

if TYPE_CHECKING:
    import os
    from collections.abc import (
        Callable,
        Hashable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from concurrent.futures import Executor

    from .._typing import Array
    from ..cache.keys import HashidMode
    from ..entries.conversion import Conversion
    from ..entries.opener import Survey
    from ..geometry.kernels import Interpolation
    from ..geometry.regions import PadMode, Region
    from ..items.item import LazyImage
    from ..pixels.values import NodataMode
    from ..spec.backends import Backend, BackendPicker, BackendSpec
    from ..spec.pathinfo import ChannelInfo, PathInfo
    from .batch import Request
    from .explain import Explanation
    from .prepare import ErrorPolicy, PrepareReport

__all__ = ["Frames"]
_MEMORY_BYTES = 256 * 2**20
_UNSTABLE_TRIES = 3
_NOT_PICKLED = ("_pathinfos", "_images", "_opener")


class Frames(ABC):
    """Images by id: any crop of any of them, from a cache of tiles that fills itself.

    A subclass writes the property :attr:`image_ids` and the method :meth:`build_pathinfo`; everything else is here.
    Instances pickle small (no handles, no pixels) and work under fork, spawn, forkserver and threads.

    Args:
        workdir: the folder under which the cache lies. ``None``: ``$NDFRAMES_WORKDIR``, else the user's cache folder.
        backend: the form of cache entries: ``"auto"`` (lossless tiles; videos as they are), ``"cog"``, ``"npy"``,
            ``"intra"`` (videos of key frames; images as ``"auto"``), a dict with options, ``None`` to read sources directly,
            or a callable ``(image_id, channel_info)`` that returns one of these.
        hashid_mode: what tells one source from another: ``"PATH"``, ``"PIXELS"``, ``"GIVEN"`` or ``"DVC"``.
        isolate: whether each conversion is done in a child process that may use 4 GiB of memory and an hour of
            computing, for files that may have been made to do harm; :class:`Limits` sets other limits.
        max_bytes: the budget of the cache; see :class:`Cache`. ``None``: no limit.
        min_free_bytes: what the cache leaves free on its disk; see :class:`Cache`.
        memory_bytes: the budget of what is kept open or in memory between reads.
        tile_bytes: how much of that is for decoded tiles, so that crops that overlap decode what they share once;
            0 keeps none. ``None``: a quarter.
        threads: how many threads may decode the tiles of a read, the caller's included; the others take part where that
            is sooner done. ``None``: one for each core; one in a worker process of ``multiprocessing``, such as a data
            loader's, which shares the cores with others.
        max_region_bytes: a result of more bytes is refused before it is allocated; ``None``: half the machine's memory.
        verify: how much of an entry is checked while it is read. ``"open"``: its description, when it is opened;
            ``"first-touch"``: also every tile, before it is decoded for the first time; ``"always"``: every time.
        when_source_missing: what becomes of an image whose file is gone: ``"raise"``, or ``"use"`` what the cache has.
        recheck_seconds: how long a source that was looked at is taken to be unchanged. 0 looks at it before every read, which
            takes some microseconds, and on a network file system many more; a change is never missed. Otherwise, what
            changes is served as it was for no longer than that.

    Raises:
        BackendError: ``backend`` names something unknown.
        HashidError: so does ``hashid_mode``.
        CacheError: a budget is no number of bytes.
        ValueError: ``verify``, ``when_source_missing``, ``threads`` or ``recheck_seconds`` is none of its values.

    Example:
        >>> import ndframes as nf
        >>> frames = nf.SimpleFrames.demo(workdir=getfixture("tmp_path"))
        >>> frames.load_region("astronaut", (slice(100, 164), slice(-64, None))).shape
        (64, 64, 3)
    """

    def __init__(  # noqa: PLR0913 - a keyword for each thing that a user may choose
        self,
        *,
        workdir: str | os.PathLike[str] | None = None,
        backend: BackendSpec | BackendPicker = "auto",
        hashid_mode: HashidMode = "PATH",
        isolate: bool | Limits = False,
        max_bytes: int | None = None,
        min_free_bytes: int | None = None,
        memory_bytes: int = _MEMORY_BYTES,
        tile_bytes: int | None = None,
        threads: int | None = None,
        max_region_bytes: int | None = None,
        verify: VerifyMode = "first-touch",
        when_source_missing: WhenSourceMissing = "raise",
        recheck_seconds: float = 0,
    ) -> None:
        check_choice("verify", verify, VerifyMode)
        check_choice("when_source_missing", when_source_missing, WhenSourceMissing)
        count_threads(threads)
        self._threads = threads
        self._limits = Limits() if isolate is True else isolate or None
        self._verify = verify
        self._when_source_missing = when_source_missing
        self._recheck_seconds = _to_seconds(recheck_seconds)
        if not callable(backend):
            coerce_backend(backend)  # raises where it is none
        self._backend = backend
        self._keyer = Keyer(hashid_mode)
        self._tile_bytes = memory_bytes // 4 if tile_bytes is None else min(tile_bytes, memory_bytes)
        self._memory_bytes = memory_bytes - self._tile_bytes
        self._max_region_bytes = half_of_memory() if max_region_bytes is None else max_region_bytes
        self._cache = Cache(
            default_workdir() if workdir is None else workdir, max_bytes=max_bytes, min_free_bytes=min_free_bytes
        )
        self._start_empty()

    @property
    def max_region_bytes(self) -> int:
        """A result of more bytes is refused before it is allocated."""
        return self._max_region_bytes

    @property
    def backend(self) -> BackendSpec | BackendPicker:
        """The form of cache entries, as given to the constructor."""
        return self._backend

    @backend.setter
    def backend(self, backend: BackendSpec | BackendPicker) -> None:
        self._backend = backend
        self._start_empty()

    @property
    def hashid_mode(self) -> HashidMode:
        """How sources are identified, as given to the constructor."""
        return self._keyer.mode

    def refresh(self) -> None:
        """Drop all opened images, so that the next read opens them anew."""
        self._start_empty()

    @property
    def cache(self) -> Cache:
        """The cache under the workdir."""
        return self._cache

    @cache.setter
    def cache(self, cache: Cache) -> None:
        self._cache = cache
        self._start_empty()

    # -- what a subclass writes ---------------------------------------------------------------------------------

    @property
    @abstractmethod
    def image_ids(self) -> Sequence[Hashable]:
        """The ids of the images, in order."""

    @abstractmethod
    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Describe the image ``image_id``: its files and how they line up. Called once an image; opens nothing."""

    # -- what an image is ---------------------------------------------------------------------------------------

    def pathinfo(self, image_id: Hashable) -> PathInfo:
        """What :meth:`build_pathinfo` says of ``image_id``, asked once.

        Raises:
            ImageIdError: there is no such image.
        """
        try:
            known = self._pathinfos.get(image_id)
            if known is None:
                known = self._pathinfos[image_id] = self.build_pathinfo(image_id)
        except ImageIdError:
            raise
        except (KeyError, IndexError, TypeError) as error:
            if not _knows(self.image_ids, image_id):
                raise self._unknown(image_id) from error
            raise
        return known

    def image(self, image_id: Hashable) -> LazyImage:
        """The image, opened lazily: kept as long as the memory budget allows and its sources stay as they are."""
        with naming_image(image_id):
            return self._current_image(image_id)

    # -- reading ------------------------------------------------------------------------------------------------

    def load_region(  # noqa: PLR0913 - a keyword for each thing that a user may choose
        self,
        image_id: Hashable,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        pad: PadMode | None = None,
        fill: complex = 0,
        scale: float | tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        interpolation: Interpolation | Mapping[str, Interpolation] = "linear",
        antialias: bool = True,
        nodata: NodataMode = "keep",
    ) -> Array:
        """Read a region of an image.

        Equals ``a[region]`` for the image's whole array ``a`` of shape ``(height, width, channels)``: negative starts,
        steps, clipping and empty results included. Channels of files that do not lie on the image's own grid are warped onto
        it, so that all line up; a crop of that is the crop of the whole.

        Args:
            image_id: which image.
            region: slices in the order y, x, channel; missing ones and ``None`` are everything. A box of kwimage stands for
                the slices of y and x, its corners rounded outward to whole pixels; see :data:`~ndframes.geometry.regions.BoxLike`.
            channels: a spec such as ``"r|g|b"`` or a list of codes, in any order; ``None``: the default ones.
            pad: what stands outside the image. Slices are then coordinates in the unbounded plane (a negative start
                lies outside, nothing wraps), and the result has exactly the shape asked for. ``"constant"`` puts
                ``fill``, ``"edge"`` the nearest pixel, ``"reflect"`` the mirror image. ``None``: no padding.
            fill: the value outside for ``pad="constant"``, and of channels where their file does not reach.
            scale: resample the region: the result's size over the region's, one number or ``(y, x)``. The result has as
                many pixels as come nearest to that, and each covers exactly ``1 / scale`` of the image's. It is made from
                the coarsest overview that still loses nothing.
            shape: resample the region to exactly this ``(height, width)``, instead of ``scale``.
            interpolation: how values between pixels are found: ``"nearest"``, which makes up no new ones, for masks;
                ``"linear"``; ``"cubic"`` or ``"lanczos"``, which are sharper. A mapping from channel codes names it for some,
                the others are linear. Pixels that are taken as they are need none.
            antialias: whether shrinking averages all the pixels that one of the result covers. ``False`` looks at the
                nearest ones only, and at the image itself, not at its overviews.
            nodata: what becomes of pixels that hold no data: ``"keep"`` leaves them their number; ``"nan"`` makes them
                not-a-numbers, and the result floats; ``"mask"`` gives a :class:`numpy.ma.MaskedArray`. Where nodata is told by
                the file, its :class:`ChannelInfo` or its quantization, it takes no part in any mean. What lies outside of a
                file, or of the image, holds no data either.

        Returns:
            A new, writable, C-contiguous array in the source's dtype; the channel axis is last. Quantized channels come as the
            values that they stand for.

        Raises:
            ImageIdError, ChannelError, RegionError, RegionTooLargeError: the request cannot be met.
            SourceError: the source cannot be read.
            CacheError: the cache cannot be written.

        Example:
            >>> import ndframes as nf
            >>> frames = nf.SimpleFrames.demo(backend=None)
            >>> crop = frames.load_region("coffee", (slice(-2, 2), slice(0, 3)), "r", pad="constant", fill=7)
            >>> crop[:, :, 0]
            array([[ 7,  7,  7],
                   [ 7,  7,  7],
                   [21, 21, 20],
                   [21, 21, 20]], dtype=uint8)
        """
        tries_left = _UNSTABLE_TRIES
        while True:
            try:
                image = self._current_image(image_id)
                asked = ask(fill, interpolation, antialias, nodata)
                if scale is None and shape is None:
                    return image.load_region(region, channels, pad=pad, asked=asked)
                return image.load_scaled(region, channels, scale=scale, shape=shape, pad=pad, asked=asked)
            except NdframesError as error:
                name_image(error, image_id)
                tries_left -= 1
                if not tries_left or not isinstance(error, SourceChangedError):
                    raise
                self._images.discard(image_id)

    def load_warped(
        self,
        image_id: Hashable,
        transform: Any,
        shape: tuple[int, int],
        channels: str | Sequence[str] | None = None,
        *,
        fill: complex = 0,
        interpolation: Interpolation | Mapping[str, Interpolation] = "linear",
        antialias: bool = True,
        nodata: NodataMode = "keep",
    ) -> Array:
        """Read an image through any affine map: rotated, scaled, sheared.

        Only what the result needs is read. Any part of it is what a larger result has there.

        Args:
            image_id: which image.
            transform: 3x3 matrix from points ``(x, y)`` of the image to those of the result, pixel centres at +0.5: an array,
                nested lists, or an object with a ``matrix`` such as ``kwimage.Affine``.
            shape: ``(height, width)`` of the result.
            channels: as in :meth:`load_region`, and so are those that follow.
            fill: the value outside of the image.
            interpolation: likewise.
            antialias: likewise.
            nodata: likewise.

        Returns:
            A new array ``(height, width, channels)``.

        Raises:
            RegionError: the transform is none, or cannot be inverted, or the shape is none.
            NdframesError: as :meth:`load_region`.

        Example:
            >>> import numpy as np
            >>> import ndframes as nf
            >>> frames = nf.SimpleFrames.demo(backend=None)
            >>> quarter_turn = [[0, -1, 512], [1, 0, 0], [0, 0, 1]]
            >>> turned = frames.load_warped("astronaut", quarter_turn, (512, 512))
            >>> np.array_equal(turned, np.rot90(frames.load_image("astronaut"), -1))
            True
        """
        asked = ask(fill, interpolation, antialias, nodata)
        return self._read(image_id, lambda image: image.load_warped(transform, shape, channels, asked=asked))

    def _read(self, image_id: Hashable, read: Callable[[LazyImage], Array]) -> Array:
        """What ``read`` gives, tried again where the image's source was changed meanwhile; errors name the image."""
        tries_left = _UNSTABLE_TRIES
        while True:
            try:
                return read(self._current_image(image_id))
            except NdframesError as error:
                name_image(error, image_id)
                tries_left -= 1
                if not tries_left or not isinstance(error, SourceChangedError):
                    raise
                self._images.discard(image_id)

    def load_regions(  # noqa: PLR0913 - as load_region
        self,
        requests: Iterable[Request],
        channels: str | Sequence[str] | None = None,
        *,
        workers: int | None = None,
        out: Any = None,
        read_ahead: bool = False,
        pad: PadMode | None = None,
        fill: complex = 0,
        scale: float | tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        interpolation: Interpolation | Mapping[str, Interpolation] = "linear",
        antialias: bool = True,
        nodata: NodataMode = "keep",
    ) -> Any:
        """Read many regions of any images, in one batch: equal to as many calls of :meth:`load_region`, in their order.

        A tile that several of them touch is decoded once, and tiles are decoded by several threads.

        Args:
            requests: pairs ``(image_id, region)``; the same one may come more than once.
            channels: as in :meth:`load_region`, for all of them.
            workers: how many threads work at once, the caller's included. ``None``: what ``threads`` says of the frames.
            out: where the results go: an array ``(n, ...)`` of their shape and dtype, or anything that shares its memory
                with numpy, such as a torch tensor on the CPU, pinned or not; or a list of arrays. ``None``: a new array.
            read_ahead: whether the system is told first which tiles will be read, in the order of the file, so that a
                cold disk fetches them side by side; of no use where they are in its page cache.
            pad: as in :meth:`load_region`, and so are those that follow.
            fill: likewise.
            scale: likewise.
            shape: likewise.
            interpolation: likewise.
            antialias: likewise.
            nodata: likewise; ``"mask"`` goes without ``out``.

        Returns:
            ``out``, or a new array ``(n, ...)``; a list of arrays where shapes or dtypes differ, or where ``n`` is 0.

        Raises:
            RegionError: a request is no pair, or ``out`` does not fit.
            RegionTooLargeError: the batch has more bytes than ``max_region_bytes``.
            ValueError: ``workers`` is no number.
            NdframesError: as :meth:`load_region`; ``out`` may be half filled.

        Example:
            >>> import numpy as np
            >>> import ndframes as nf
            >>> frames = nf.SimpleFrames.demo(workdir=getfixture("tmp_path"))
            >>> windows = [("coffee", (slice(y, y + 64), slice(0, 64))) for y in range(0, 256, 32)]
            >>> batch = frames.load_regions(windows)
            >>> batch.shape, np.array_equal(batch[2], frames.load_region(*windows[2]))
            ((8, 64, 64, 3), True)
        """
        checked, threads = check_requests(requests), count_threads(self._threads if workers is None else workers)
        if nodata == "mask" and out is not None:
            raise RegionError("a batch with nodata='mask' gives masked arrays; leave out to them")
        is_alone = interpolation != "linear" or not antialias or nodata != "keep"
        if pad is None and scale is None and shape is None and not is_alone and not fill:
            try:
                return load_batch(checked, channels, self, threads=threads, out=out, is_read_ahead=read_ahead)
            except SourceChangedError:  # a single read tries again, and again
                pass
        elif out is None:
            check_batch_bytes(checked, channels, self, is_padded=pad is not None, scale=scale, shape=shape)
        load = partial(
            self.load_region,
            channels=channels,
            pad=pad,
            fill=fill,
            scale=scale,
            shape=shape,
            interpolation=interpolation,
            antialias=antialias,
            nodata=nodata,
        )
        return load_each(checked, load, threads=threads, out=out)

    def load_image(
        self, image_id: Hashable, channels: str | Sequence[str] | None = None, *, cache: bool = True
    ) -> Array:
        """Read a whole image into a new array ``(height, width, channels)``.

        Args:
            image_id: which image.
            channels: as in :meth:`load_region`.
            cache: whether the cache may be used and filled; ``False`` decodes the source.
        """
        if cache:
            return self.load_region(image_id, None, channels)
        with naming_image(image_id):
            opener = BoundOpener(self._opener, lambda _: None)
            return self._make_item(self.pathinfo(image_id), opener).load_region(None, channels)

    def load_frame(self, image_id: Hashable, channels: str | Sequence[str] | None = None) -> LazyFrame:
        """A handle of an image that behaves like an array and reads what is indexed."""
        with naming_image(image_id):
            kind = LazyVideo if self.image(image_id).is_video else LazyFrame
            return kind(self, image_id, channels)

    def explain(
        self,
        image_id: Hashable,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        scale: float | tuple[float, float] | None = None,
    ) -> Explanation:
        """Say what reading a region would touch, without converting anything or reading pixels."""
        with naming_image(image_id):
            as_is = self._make_item(self.pathinfo(image_id), self._opener_of(image_id, converts=False))
            return explain_item(as_is, region, channels, scale=scale)

    # -- filling the cache --------------------------------------------------------------------------------------

    def prepare(
        self,
        image_ids: Sequence[Hashable] | None = None,
        *,
        workers: int = 0,
        executor: Executor | None = None,
        errors: ErrorPolicy = "raise",
        progress: bool | None = None,
    ) -> PrepareReport:
        """Convert everything that is not in the cache yet.

        Args:
            image_ids: which images; ``None``: all.
            workers: how many worker processes; 0 works in this process, with a thread for each core. A worker that
                crashes costs the one image that it was working on.
            executor: run the conversions on this instead: any ``concurrent.futures.Executor``, a Dask client's
                ``get_executor()`` included.
            errors: ``"raise"`` finishes what can be finished, then raises one error that lists all failures;
                ``"collect"`` returns them in the report.
            progress: whether to show a progress bar on stderr; ``None``: if stderr is a terminal.

        Returns:
            What was prepared, what was there already, and what failed and why.

        Raises:
            PrepareError: some images failed, and ``errors="raise"``.
        """
        from .prepare import prepare

        return prepare(self, image_ids, workers=workers, executor=executor, errors=errors, progress=progress)

    def pick_backend(self, image_id: Hashable, info: ChannelInfo) -> Backend | None:
        """The form in which ``info`` is cached; ``None`` where the source is read directly."""
        spec = self._backend(image_id, info) if callable(self._backend) else self._backend
        return backend_for(spec, is_video=is_video_name(info.path))

    def plan_channel(self, image_id: Hashable, info: ChannelInfo) -> Conversion | None:
        """The conversion that gives ``info`` its cache entry; ``None`` where the source is read directly."""
        return self._opener.plan(info, self.pick_backend(image_id, info))

    def survey_channel(self, image_id: Hashable, info: ChannelInfo) -> Survey:
        """Find out what ``info`` needs in order to have its cache entry, whole and of the source's present state."""
        return self._opener.survey(info, self.pick_backend(image_id, info))

    # -- a collection -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.image_ids)

    def __contains__(self, image_id: object) -> bool:
        return _knows(self.image_ids, image_id)

    def __getitem__(self, index: int) -> LazyFrame:
        """The frame at a position of :attr:`image_ids`."""
        return self.load_frame(self.image_ids[index])

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {len(self):,} images, backend {self._describe_backend()}, {self.cache.workdir}>"
        )

    # -- inside -------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _NOT_PICKLED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_empty()

    def _current_image(self, image_id: Hashable) -> LazyImage:
        try:
            image = self._images.get(image_id)
        except TypeError:  # no id at all: it has no hash
            image = None
        if image is not None and self._is_current(image):
            return image
        fresh = self._make_item(
            self.pathinfo(image_id),
            self._opener_of(image_id),
            on_open=lambda opened: self._images.put(image_id, opened),
            threads=self._threads,
        )
        self._images.put(image_id, fresh)
        return fresh

    def _is_current(self, image: LazyImage) -> bool:
        """Whether an image's sources are the files that were opened, or were so a short while ago."""
        if not self._recheck_seconds:
            return image.is_current()
        now = time.monotonic()
        if now >= image.trusted_until:
            if not image.is_current():
                return False
            image.trusted_until = now + self._recheck_seconds
        return True

    def _make_item(
        self,
        info: PathInfo,
        opener: BoundOpener,
        on_open: Callable[[LazyImage], None] | None = None,
        threads: int | None = 1,
    ) -> LazyImage:
        def make_image(
            info: PathInfo, note: Callable[[LazyImage], None] | None, *, converts: bool = True
        ) -> AlignableImageData:
            way = opener if converts else BoundOpener(opener.opener, opener.pick, converts=False)
            return AlignableImageData(info, way, max_region_bytes=self._max_region_bytes, on_open=note, threads=threads)

        if len(info.channels) == 1 and is_whole_video(info.channels[0]):
            from ..items.video import VideoData

            return VideoData(info, opener, self._cache, max_region_bytes=self._max_region_bytes, on_open=on_open)
        for channel in info.channels:
            if is_whole_video(channel):
                raise PathInfoError(
                    f"{channel.path} is a video among the files of an image; say which of its frames, by ChannelInfo(page=...) "
                    "or the frame_index of a dataset's image"
                )
        if not isinstance(info, SequenceInfo):
            return make_image(info, on_open)
        return ImageSequence(info, make_image, max_region_bytes=self._max_region_bytes, on_open=on_open)

    def _start_empty(self) -> None:
        self._pathinfos: dict[Hashable, PathInfo] = {}
        self._images: ClockCache[Hashable, LazyImage] = ClockCache(self._memory_bytes, _cost)
        self._opener = ChannelOpener(
            self._cache,
            self._keyer,
            HandlePool(),
            verify=self._verify,
            when_source_missing=self._when_source_missing,
            tile_bytes=self._tile_bytes,
            limits=self._limits,
        )

    def _opener_of(self, image_id: Hashable, *, converts: bool = True) -> BoundOpener:
        return BoundOpener(self._opener, lambda info: self.pick_backend(image_id, info), converts)

    def _describe_backend(self) -> str:
        if callable(self._backend):
            return "picked per channel"
        backend = coerce_backend(self._backend)
        return "none" if backend is None else backend.type

    def _unknown(self, image_id: object) -> ImageIdError:
        ids, name = self.image_ids, shorten(image_id)
        close = difflib.get_close_matches(name.strip("'"), [str(item) for item in ids[:10_000]], n=3)
        first = f"the first is {ids[0]!r}" if len(ids) else "so nothing can be read"
        hint = f"; close: {', '.join(close)}" if close else f"; there are {len(ids):,}, {first}"
        return ImageIdError(f"no image {name}{hint}")


def _to_seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not value >= 0:
        raise ValueError(f"recheck_seconds={shorten(value)}; give a number of seconds, 0 to look before every read")
    return float(value)


def _cost(image: LazyImage) -> int:
    return image.memory_bytes


def _knows(ids: Any, image_id: object) -> bool:
    try:
        return image_id in ids
    except (TypeError, ValueError):  # unhashable, or not comparable with the ids, which may be an array
        return False
