"""Frames: image ids in, pixels out."""

from __future__ import annotations

from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Literal

from .._lazy import load_name
from ..entries.opener import BoundOpener
from ..errors import (
    ImageIdError,
    NdframesError,
    RegionError,
    SourceChangedError,
    check_keywords,
    name_image,
    naming_image,
    shorten,
)
from ..geometry.regions import check_inside
from ..pixels.options import ReadKeywords, ReadOptions, WarpKeywords
from ..system.threads import resolve_thread_count
from .batch import check_batch_bytes, check_requests, load_batch, load_each
from .collection import ImageCollection
from .explain import explain_item
from .lazyframe import LazyFrame, LazyVideo

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from concurrent.futures import Executor

    from typing_extensions import Unpack

    from .._typing import Array
    from ..geometry.kernels import Interpolation
    from ..geometry.regions import PadMode, Region
    from ..items.item import LazyImage
    from ..pixels.values import NodataMode
    from .batch import Request
    from .engines import DaskClient
    from .estimate import PrepareEstimate
    from .explain import Explanation
    from .prepare import ErrorPolicy, PrepareReport
    from .view import FramesView

__all__ = ["Frames", "check_frames"]
_UNSTABLE_TRIES = 3
_DISTANT_THREADS = 32


class Frames(ImageCollection):
    """Images by id: any crop of any image, from a cache of tiles that fills itself.

    A subclass defines the property :attr:`image_ids` and the method :meth:`build_pathinfo`. Instances pickle small (without
    handles and pixels) and work under fork, spawn, forkserver and threads.

    Args:
        workdir: the folder of the cache, or its address in an object store, such as ``s3://bucket/prefix`` (:doc:`/cloud`).
            ``None``: ``$NDFRAMES_WORKDIR``, otherwise the user's cache folder.
        local_tier: for a workdir in an object store: a folder on this machine's disk that keeps what is read, for all processes.
        tier_bytes: how much that may take on the disk: a number of bytes, or a text such as ``"500GB"``. ``None``: no limit.
        backend: the form of cache entries: ``"auto"`` (lossless tiles; videos are read directly), ``"cog"``, ``"npy"``,
            ``"intra"`` (videos as key frames; images as ``"auto"``), a dict with options, ``None`` to read sources directly,
            or a callable ``(image_id, channel_info)`` that returns one of these.
        hashid_mode: how sources are identified: ``"PATH"``, ``"PIXELS"``, ``"GIVEN"`` or ``"DVC"``.
        isolate: whether conversions run in a child process that may use 4 GiB of memory and an hour of CPU time, for files
            that you do not trust; :class:`Limits` sets other limits.
        max_bytes: the budget of the cache in bytes; see :class:`Cache`. ``None``: no limit.
        min_free_bytes: the bytes that the cache leaves free on its disk; see :class:`Cache`.
        memory_bytes: the budget of memory for open files and decoded tiles.
        tile_bytes: the part of that for decoded tiles, which overlapping crops share; 0 keeps none. ``None``: a quarter.
        threads: the most threads that decode the tiles of one read, the caller's included. Small reads use one.
            ``None``: one for each core, and one in a worker process of ``multiprocessing``, such as a data loader's.
        max_region_bytes: larger results raise an error before they are allocated. ``None``: half of the machine's memory.
        verify: how much of an entry is checked. ``"open"``: its description, when it is opened; ``"first-touch"``: also each
            tile before it is first decoded; ``"always"``: each tile every time.
        when_source_missing: ``"raise"`` an error if an image's file is gone, or ``"use"`` its cache entry.
        recheck_seconds: for how long a source is trusted to be unchanged. 0 checks it before every read, by a ``stat`` or a
            request, and never misses a change. ``None``: 0 for files, and 60 for objects at addresses.
        overviews: the levels from which scaled reads of a source are computed. ``"own"``: its own pyramid of 2 x 2 means, so that
            they are the same through every backend; ``"source"``: the overviews that the file holds, where there is no cache entry.
            They are quick to read, but may be out of date or of another kind.
        orientation: ``"upright"`` turns images as the orientation in their EXIF data or TIFF tag says, as photo viewers do.
            ``"stored"`` reads them as they are stored. Cache entries serve both.
        sources: the addresses under which sources may be read, such as ``["s3://imagery/"]``; all others are refused, also those
            in a dataset's file. ``None``: files only.

    Raises:
        BackendError: ``backend`` is unknown.
        HashidError: ``hashid_mode`` is unknown.
        CacheError: a budget is not a number of bytes.
        ValueError, TypeError: another option has a value that is not allowed, or does not exist.

    Example:
        >>> import ndframes as nf
        >>> frames = nf.SimpleFrames.demo(workdir=getfixture("tmp_path"))
        >>> frames.load_region("astronaut", (slice(100, 164), slice(-64, None))).shape
        (64, 64, 3)
    """

    # -- reading ------------------------------------------------------------------------------------------------

    def load_region(  # noqa: PLR0913 - one keyword for each option
        self,
        image_id: Hashable,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        pad: PadMode | None = None,
        fill: complex = 0,
        scale: float | tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        interpolation: Interpolation | Mapping[str, Interpolation] | None = None,
        antialias: bool = True,
        nodata: NodataMode = "keep",
        outside: Literal["raise"] | None = None,
    ) -> Array:
        """Read a region of an image.

        Equals ``a[region]``, where ``a`` is the whole image as an array ``(height, width, channels)``; negative starts, steps,
        clipping and empty results included: a negative start counts from the end, so that a box that was shifted beyond the
        upper or left edge selects other pixels, or none. ``pad`` and ``outside`` take slices as coordinates. Channels of files on other grids are warped onto the image's grid; the crop equals
        the crop of the whole warped image.

        Args:
            image_id: the image.
            region: slices in the order y, x, channel; missing ones and ``None`` select everything. A box of kwimage selects
                the pixels that it touches; see :data:`~ndframes.geometry.regions.BoxLike`.
            channels: a spec such as ``"r|g|b"`` or a list of codes, in any order; ``None``: the default channels.
            pad: how to pad. Slices are then coordinates in the unbounded plane (a negative start lies outside, nothing wraps),
                and the result has exactly the requested shape. ``"constant"`` pads with ``fill``, ``"edge"`` with the nearest
                pixel, ``"reflect"`` with the mirrored image. ``None``: no padding.
            fill: the value outside the image for ``pad="constant"``, and of channels outside their file.
            scale: the factor from the region's size to the result's, one number or ``(y, x)``. The result's size is rounded;
                each of its pixels covers exactly ``1 / scale`` pixels of the image. It is computed from the coarsest level of
                the image's pyramid of 2 x 2 means that loses nothing, and is the same through every backend.
            shape: the exact ``(height, width)`` of the result, instead of ``scale``.
            interpolation: ``"nearest"`` (for masks: it creates no new values), ``"linear"``, ``"cubic"`` or ``"lanczos"``
                (sharper). A mapping from channel codes sets it for each channel. ``None``, and for channels that are not in
                the mapping: ``ChannelInfo.interpolation``, otherwise ``"nearest"`` for booleans and ``"linear"`` for other
                dtypes. Pixels that are not resampled are never interpolated.
            antialias: whether shrinking averages all pixels that a pixel of the result covers. ``False`` interpolates between
                the nearest pixels of full resolution.
            nodata: ``"keep"`` keeps pixels without data as they are stored; ``"nan"`` returns floats with not-a-numbers in
                their place; ``"mask"`` returns a :class:`numpy.ma.MaskedArray`. With the latter two, and for quantized
                channels, pixels without data take no part in any mean. Pixels outside a file or the image have no data.
            outside: ``"raise"`` takes slices as coordinates, and raises an error for a region that leaves the image, such as one
                with y and x swapped. ``None``: numpy's rules, or ``pad``.

        Returns:
            A new, writable, C-contiguous array in the source's dtype; the channel axis is last. Quantized channels are decoded
            to their real values.

        Raises:
            ImageIdError, ChannelError, RegionError, RegionTooLargeError: the request is not valid.
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
        try:
            options = ReadOptions.of(fill, interpolation, antialias, nodata, pad, scale, shape, outside)
            image = self._current_image(image_id)
            if options.outside is not None:
                check_inside(region, image.shape(channels))
            return image.load_region(region, channels, options)
        except NdframesError as error:
            if not isinstance(error, SourceChangedError):
                name_image(error, image_id)
                raise
            return self._read_again(image_id, error, methodcaller("load_region", region, channels, options))

    def load_warped(
        self,
        image_id: Hashable,
        transform: Any,
        shape: tuple[int, int],
        channels: str | Sequence[str] | None = None,
        **options: Unpack[WarpKeywords],
    ) -> Array:
        """Read an image through any affine map: rotated, scaled, sheared.

        Only the pixels that the result needs are read. A pixel of the result does not depend on ``shape``.

        Args:
            image_id: the image.
            transform: 3x3 matrix from image points ``(x, y)`` to points of the result, pixel centres at +0.5: an array, nested
                lists, or an object with a ``matrix`` such as ``kwimage.Affine``.
            shape: ``(height, width)`` of the result.
            channels: as in :meth:`load_region`.
            **options: ``fill``, ``interpolation``, ``antialias`` and ``nodata`` as in :meth:`load_region`.

        Returns:
            A new array ``(height, width, channels)``.

        Raises:
            RegionError: the transform is not an invertible affine matrix, or its pixels cover far more than the image, or the shape is not
                ``(height, width)``.
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
        check_keywords("load_warped", options, WarpKeywords.__annotations__)
        with naming_image(image_id):
            checked = ReadOptions.of(**options)
        try:
            return self._current_image(image_id).load_warped(transform, shape, channels, checked)
        except NdframesError as error:
            return self._read_again(image_id, error, methodcaller("load_warped", transform, shape, channels, checked))

    def load_regions(
        self,
        requests: Iterable[Request],
        channels: str | Sequence[str] | None = None,
        *,
        workers: int | None = None,
        out: Any = None,
        read_ahead: bool = False,
        **options: Unpack[ReadKeywords],
    ) -> Any:
        """Read many regions of any images as one batch; each result equals that of :meth:`load_region`.

        A tile under several regions is decoded once. Several threads decode.

        Args:
            requests: pairs ``(image_id, region)``; a pair may occur several times.
            channels: as in :meth:`load_region`, for all regions.
            workers: the number of threads, the caller's included. ``None``: the frames' ``threads``.
            out: the arrays for the results: an array ``(n, ...)`` of their shape and dtype, anything that shares its memory
                with numpy, such as a torch tensor on the CPU, or a list of arrays. ``None``: a new array.
            read_ahead: whether to ask the operating system first to fetch the tiles, so that a cold disk reads them in
                parallel. It does not help for files in the page cache.
            **options: as in :meth:`load_region`. ``nodata="mask"`` needs ``out=None``.

        Returns:
            ``out``, or a new array ``(n, ...)``; a list of arrays where shapes or dtypes differ, or ``n`` is 0.

        Raises:
            RegionError: a request is not a pair, or ``out`` does not fit.
            RegionTooLargeError: the batch has more bytes than ``max_region_bytes``.
            ValueError: ``workers`` is not a number of threads.
            NdframesError: as :meth:`load_region`; ``out`` may be partly filled.

        Example:
            >>> import numpy as np
            >>> import ndframes as nf
            >>> frames = nf.SimpleFrames.demo(workdir=getfixture("tmp_path"))
            >>> windows = [("coffee", (slice(y, y + 64), slice(0, 64))) for y in range(0, 256, 32)]
            >>> batch = frames.load_regions(windows)
            >>> batch.shape, np.array_equal(batch[2], frames.load_region(*windows[2]))
            ((8, 64, 64, 3), True)
        """
        check_keywords("load_regions", options, ReadKeywords.__annotations__)
        threads = resolve_thread_count(self._threads if workers is None else workers, name="workers")
        checked = check_requests(requests)
        self.look_ahead(image_id for image_id, _ in checked)
        read_options = ReadOptions.of(**options)
        if read_options.nodata == "mask" and out is not None:
            raise RegionError("a batch with nodata='mask' returns masked arrays; leave out the argument 'out'")
        if self.is_distant:
            # They wait for the network most of the time, and not for a core.
            threads = max(threads, _DISTANT_THREADS)
        if read_options.is_default:
            try:
                return load_batch(checked, channels, self, threads=threads, out=out, is_read_ahead=read_ahead)
            except SourceChangedError:  # single reads open the source again
                pass
        elif out is None:
            # With out, the caller has allocated the results.
            check_batch_bytes(checked, channels, self, read_options)
        return load_each(checked, partial(self.load_region, channels=channels, **options), threads=threads, out=out)

    def load_image(
        self, image_id: Hashable, channels: str | Sequence[str] | None = None, *, cache: bool = True
    ) -> Array:
        """Read a whole image into a new array ``(height, width, channels)``.

        Args:
            image_id: the image.
            channels: as in :meth:`load_region`.
            cache: whether to use and fill the cache; ``False`` decodes the source.
        """
        if cache:
            return self.load_region(image_id, None, channels)
        with naming_image(image_id):
            # A backend of None reads the source. The item is not kept, so it does not replace the cached one.
            opener = BoundOpener(self._opener, lambda _: None)
            return self._factory(opener).make(self.pathinfo(image_id)).load_region(None, channels)

    def load_frame(
        self,
        image_id: Hashable,
        channels: str | Sequence[str] | None = None,
        *,
        nodata: NodataMode = "keep",
        interpolation: Interpolation | Mapping[str, Interpolation] | None = None,
    ) -> LazyFrame:
        """A handle of an image that is indexed like an array and reads only what is indexed.

        Args:
            image_id: the image.
            channels: as in :meth:`load_region`.
            nodata: as in :meth:`load_region`, for each read of the handle.
            interpolation: likewise; ``None``: the default of :meth:`load_region`.
        """
        with naming_image(image_id):
            kind = LazyVideo if self.image(image_id).is_video else LazyFrame
            return kind(self, image_id, channels, nodata=nodata, interpolation=interpolation)

    def explain(
        self,
        image_id: Hashable,
        region: Region = None,
        channels: str | Sequence[str] | None = None,
        *,
        scale: float | tuple[float, float] | None = None,
    ) -> Explanation:
        """What reading a region would do: which tiles of which files it decodes. Converts nothing, reads no pixels."""
        with naming_image(image_id):
            # Another item than the one that is read, because this one must convert nothing.
            item = self._factory(self._opener_of(image_id, converts=False)).make(self.pathinfo(image_id))
            return explain_item(item, region, channels, scale=scale)

    def __getitem__(self, image_id: Hashable) -> LazyFrame:
        """The frame of an id, as :meth:`load_frame`. Ids are also what iteration gives, and what ``in`` looks for.

        Raises:
            ImageIdError: there is no such image. The image at a position is ``frames[frames.image_ids[position]]``.
        """
        try:
            return self.load_frame(image_id)
        except ImageIdError as error:
            if isinstance(image_id, int):
                hint = f"frames[...] takes an id, not a position; that is frames[frames.image_ids[{image_id}]]"
                raise ImageIdError(f"{error}; {hint}") from error
            raise

    def view(self, image_id: Hashable | None = None, *, height: int = 600) -> FramesView:
        """The page of these images, at one of them if an id is given, in a notebook; elsewhere, its ``address`` opens it.

        A service runs in this process for it, until its method ``stop`` or until nothing refers to the view any more. Needs the extra
        ``serve``. In a Jupyter whose browser runs on another machine, the extra ``notebook`` is needed where its server runs.

        Args:
            image_id: the image to show; ``None``: the list of all.
            height: of the page in the notebook, in pixels, 200 to 4000.

        Raises:
            ImageIdError: there is no such image.
            MissingExtraError: the extra ``serve`` is not installed.
            ValueError: the height is not allowed.

        Example:
            >>> import ndframes as nf
            >>> page = nf.SimpleFrames.demo(backend=None).view("coffee")
            >>> page.address.endswith("&id=coffee"), page.stop()
            (True, True)
        """
        # By its name: the package server stands on this one.
        shown: FramesView = load_name("ndframes.server.notebook", "show")(self, image_id, height=height)
        return shown

    # -- the cache ------------------------------------------------------------------------------------------------

    def prepare(
        self,
        image_ids: Sequence[Hashable] | None = None,
        *,
        workers: int = 0,
        executor: Executor | DaskClient | None = None,
        errors: ErrorPolicy = "raise",
        progress: bool | None = None,
    ) -> PrepareReport:
        """Convert everything that is not in the cache yet.

        Args:
            image_ids: the images, or one id; ``None``: all.
            workers: the number of worker processes; 0 converts in this process, with one thread for each core. If a worker
                crashes, only its current image fails.
            executor: runs the conversions instead: any ``concurrent.futures.Executor``, a Dask ``Client``, or
                :func:`ndframes.ray_executor`; see :doc:`clusters`. It has at most four images for each of its workers at a time.
            errors: ``"raise"`` raises one error at the end that lists all failures; ``"collect"`` returns them in the report.
            progress: whether to show a progress bar on stderr; ``None``: if stderr is a terminal.

        Returns:
            The numbers of prepared and present entries, and the failures.

        Raises:
            PrepareError: some images failed, and ``errors="raise"``.
            ValueError: ``workers``, ``executor`` or ``errors`` has a value that is not allowed, or both of the first are given.
                An executor whose jobs are no ``concurrent.futures.Future`` is refused before anything is submitted to it.
        """
        # Imported here, because a program that only reads never prepares.
        from .prepare import prepare

        return prepare(self, image_ids, workers=workers, executor=executor, errors=errors, progress=progress)

    def estimate(self, image_ids: Sequence[Hashable] | None = None, *, workers: int = 0) -> PrepareEstimate:
        """What :meth:`prepare` would do: how many files, their bytes now, the bytes of their entries, and how long it takes.

        Bytes and seconds are expected from a few samples of each kind of file, which are converted to temporary files; this
        takes some seconds. Nothing is added to the cache.

        Args:
            image_ids: as in :meth:`prepare`.
            workers: as in :meth:`prepare`.

        Example:
            >>> import ndframes as nf
            >>> frames = nf.SimpleFrames.demo(workdir=getfixture("tmp_path"))
            >>> estimate = frames.estimate("coffee")
            >>> estimate.files, estimate.present, estimate.bytes_now
            (1, 0, 466706)
        """
        from .estimate import estimate_prepare

        return estimate_prepare(self, image_ids, workers=workers)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {len(self):,} images, backend {self._describe_backend()}, {self.cache.workdir}>"
        )

    def _read_again(self, image_id: Hashable, error: NdframesError, read: Callable[[LazyImage], Array]) -> Array:
        """Open and read an image again if ``error`` says that its source changed; the final error names the image."""
        tries_left = _UNSTABLE_TRIES - 1  # bounded, since something may write to a file all the time
        while tries_left and isinstance(error, SourceChangedError):
            tries_left -= 1
            self._images.discard(image_id)
            try:
                return read(self._current_image(image_id))
            except NdframesError as again:
                error = again
        name_image(error, image_id)
        raise error


def check_frames(frames: object) -> None:
    """Check that an argument is :class:`~ndframes.Frames`.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(frames, Frames):
        raise TypeError(f"frames={shorten(frames)}; give Frames, such as SimpleFrames or CocoFrames")
