"""LazyFrame: a handle of one image that is indexed like an array."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from .._lazy import load_name
from ..errors import NdframesError, RegionError, naming_image, shorten
from ..geometry.regions import to_row
from ..pixels.options import ReadOptions
from ..pixels.pictures import to_picture
from ..pixels.results import result_dtype
from ..text import format_bytes
from .interop import ImageCatalog, to_dask, to_xarray, tokenize_state

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from typing_extensions import Self, Unpack

    from .._typing import Array
    from ..entries.opened import OpenedChannel
    from ..geometry.kernels import Interpolation
    from ..geometry.regions import Region
    from ..items.item import LazyImage
    from ..items.video import VideoData
    from ..pixels.options import ReadKeywords
    from ..pixels.values import NodataMode
    from ..video.decoder import VideoErrors
    from ..video.metadata import VideoMetadata
    from .view import FramesView

__all__ = ["LazyFrame", "LazyVideo"]


class ReadableCatalog(ImageCatalog, Protocol):
    """A catalog of images that also reads regions of them; :class:`~ndframes.Frames` is one."""

    def load_region(
        self, image_id: Hashable, region: Region, channels: Sequence[str], **options: Unpack[ReadKeywords]
    ) -> Array:
        """Read a region of an image into a new array."""


class LazyFrame:
    """An image as an array that stays on disk: ``frame[...]`` reads only the pixels that it selects.

    The axes are ``(y, x, channel)``, with ``t`` in front for a sequence; the channel axis is always present. All basic indices
    of numpy work, and so does a list of integers on the first axis. Each read returns a new array. A handle pickles as its
    :class:`~ndframes.Frames` and an image id.

    Example:
        >>> import ndframes as nf
        >>> frame = nf.SimpleFrames.demo(backend=None).load_frame("astronaut")
        >>> frame.shape, frame.dtype, frame.channels
        ((512, 512, 3), dtype('uint8'), ('r', 'g', 'b'))
        >>> frame[100:102, 200, 0]
        array([81, 83], dtype=uint8)
    """

    def __init__(
        self,
        frames: ReadableCatalog,
        image_id: Hashable,
        channels: str | Sequence[str] | None = None,
        *,
        nodata: NodataMode = "keep",
        interpolation: Interpolation | Mapping[str, Interpolation] | None = None,
    ) -> None:
        self._frames = frames
        self.image_id = image_id
        # What a read does without them is the catalog's affair.
        self._keywords: ReadKeywords = {} if nodata == "keep" else {"nodata": nodata}
        if interpolation is not None:
            self._keywords["interpolation"] = interpolation
        # Checked here: an unknown channel or option raises an error now, not at the first read.
        self._options = ReadOptions.of(**self._keywords)
        self._codes = frames.image(image_id).select(channels)

    @property
    def frames(self) -> ReadableCatalog:
        """The :class:`~ndframes.Frames` that the image belongs to."""
        return self._frames

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes along the last axis."""
        return self._codes

    @property
    def shape(self) -> tuple[int, ...]:
        """``(height, width, channels)``, with the number of frames in front for a sequence."""
        with naming_image(self.image_id):
            return self._image.shape(self._codes)

    @property
    def frame_ids(self) -> Sequence[Hashable]:
        """The ids of the frames along the time axis; empty for an image.

        A frame of a video has its number in the file as its id. A frame of a folder, glob or pattern has the number in its
        file's name, or the file's name; ``frame_ids.index(120)`` is the index of the frame with number 120.
        """
        with naming_image(self.image_id):
            return self._image.frame_ids

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels."""
        with naming_image(self.image_id):
            return result_dtype(self._image.dtype(self._codes), self._options)

    @property
    def nodata(self) -> NodataMode:
        """How reads treat pixels without data; see :meth:`Frames.load_region`."""
        return self._options.nodata

    @property
    def interpolation(self) -> Interpolation | Mapping[str, Interpolation] | None:
        """How reads resample files on other grids; see :meth:`Frames.load_region`. ``None``: by its default."""
        return self._keywords.get("interpolation")

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the whole array in memory."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[int, ...]:
        """The shape of the blocks that are decoded as a whole; crops along their borders decode no pixel in vain."""
        # The files of an image may have different tiles; those of its first file count.
        reader = self._first_file.reader
        return (*(reader.tile_frames for _ in self.shape[:-3]), *reader.tile_shape, len(self._codes))

    def with_options(
        self, nodata: NodataMode | None = None, interpolation: Interpolation | Mapping[str, Interpolation] | None = None
    ) -> Self:
        """The same frame with other options; ``None`` keeps one."""
        return type(self)(
            self._frames,
            self.image_id,
            self._codes,
            nodata=self.nodata if nodata is None else nodata,
            interpolation=self.interpolation if interpolation is None else interpolation,
        )

    def to_dask(
        self,
        *,
        chunks: Any = None,
        nodata: NodataMode | None = None,
        interpolation: Interpolation | Mapping[str, Interpolation] | None = None,
    ) -> Any:
        """This frame as a :class:`dask.array.Array` of the same shape, dtype and pixels; pixels are read when it is computed.

        Each block is one read by the thread, process or machine that computes it, which must see the source and the cache
        under the same paths. The array's name is a digest of the state of the sources: equal for the same pixels, different
        after a file has changed. A block that is computed after such a change raises
        :class:`~ndframes.errors.SourceChangedError`. A file that was written less than two seconds ago is hashed;
        the array's name differs later, when the file's times identify it.

        Args:
            chunks: the shape of the blocks. ``None``: whole tiles, up to 32 MiB; a size such as ``"100 MB"``: whole tiles, up
                to that size, at least one; otherwise as in dask, such as ``(512, 512, 3)``.
            nodata: as in :meth:`Frames.load_region`; ``"mask"`` gives an array of masked blocks. ``None``: as the frame.
            interpolation: likewise.

        Raises:
            MissingExtraError: dask is not installed.
            RegionError: ``chunks`` does not divide an array of this shape into blocks.

        Example:
            >>> import ndframes as nf
            >>> frame = nf.SimpleFrames.demo(backend=None).load_frame("coffee")
            >>> lazy = frame.to_dask(chunks=(200, 300, 3))
            >>> lazy.shape, lazy.numblocks, int(lazy.max().compute())
            ((400, 600, 3), (2, 2, 1), 255)
        """
        return to_dask(self.with_options(nodata, interpolation), chunks)

    def view(self, *, height: int = 600) -> FramesView:
        """The page of this image in a notebook; see :meth:`ndframes.Frames.view`.

        Raises:
            MissingExtraError: the extra ``serve`` is not installed.
            ValueError: the height is not allowed.
        """
        # By its name: the package server stands on this one.
        shown: FramesView = load_name("ndframes.server.notebook", "show")(self.frames, self.image_id, height=height)
        return shown

    def to_xarray(
        self,
        *,
        chunks: Any = None,
        nodata: NodataMode | None = None,
        interpolation: Interpolation | Mapping[str, Interpolation] | None = None,
    ) -> Any:
        """This frame as a :class:`xarray.DataArray` over the array of :meth:`to_dask`; its name is the image's id.

        The dimensions are ``y``, ``x`` and ``channel``, with ``t`` in front for a sequence or a video. The coordinates:

        - ``y`` and ``x`` are pixel centres: in pixels (0.5, 1.5, ...), or in the units of the CRS if the image's first file has
          a georeference without rotation;
        - ``channel`` are the codes;
        - ``t`` is the time in seconds of each frame of a video, otherwise its position (0, 1, ...); beside it ``frame`` is the
          id of each frame, as in :attr:`frame_ids`;
        - ``spatial_ref`` holds a georeference as rioxarray expects it: ``crs_wkt`` and ``GeoTransform``.

        The attribute ``image_id`` holds the image's id.

        Args:
            chunks: as in :meth:`to_dask`.
            nodata: ``"keep"`` or ``"nan"``, as in :meth:`to_dask`; xarray has no masked arrays.
            interpolation: as in :meth:`to_dask`.

        Raises:
            MissingExtraError: xarray or dask is not installed.
            RegionError: as :meth:`to_dask`, or ``nodata="mask"``.

        Example:
            >>> import ndframes as nf
            >>> photo = nf.SimpleFrames.demo(backend=None).load_frame("coffee").to_xarray()
            >>> photo.dims, photo.attrs
            (('y', 'x', 'channel'), {'image_id': 'coffee'})
            >>> photo.sel(y=slice(10, 12), x=20.5, channel=["b", "r"]).values.tolist()
            [[11, 30], [11, 29]]
        """
        return to_xarray(self.with_options(nodata, interpolation), chunks)

    def __dask_tokenize__(self) -> object:
        # Without this method, dask would name an array by the pickle of the handle, which a changed file does not change.
        return tokenize_state(self)

    def __getitem__(self, index: Any) -> Array:
        first = index[0] if isinstance(index, tuple) and index else index
        if isinstance(first, (list, np.ndarray)):
            return self._read_rows(first, index[1:] if isinstance(index, tuple) else ())
        return self._read(index)

    def _read(self, index: Any) -> Array:
        # frame[None] asks for a new axis, as in numpy. As a region, None would be everything; (None,) raises an error.
        region: Any = (None,) if index is None else index
        return self._frames.load_region(self.image_id, region, self._codes, **self._keywords)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        # numpy 2 passes copy; numpy 1 calls this method without it.
        if copy is False:
            raise ValueError(
                f"image {shorten(self.image_id)} is on disk: it cannot become an array without a copy; leave out copy=False"
            )
        return np.asarray(self[...], dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        *times, height, width, _ = self.shape
        opened = self._first_file
        where = f"cached as {opened.reader.format}" if opened.is_cached else "read directly"
        *spans, tile_height, tile_width, _ = self.chunks
        tile = " x ".join(str(extent) for extent in (*(span for span in spans if span > 1), tile_height, tile_width))
        count = f"{times[0]:,} frames of " if times else ""
        return (
            f"<{type(self).__name__} {self.image_id!r}: {count}{height:,} x {width:,} px, {'|'.join(self._codes)}, {self.dtype}, "
            f"{format_bytes(self.nbytes)}{self._describe_time()}; {where}, tiles {tile}>"
        )

    def _describe_time(self) -> str:
        """The part of the repr that describes a video's times."""
        return ""

    def _repr_html_(self) -> str:
        # Imported here: most handles are never shown, and this loads libraries for pictures.
        from ..formats.export import encode_png

        try:
            with naming_image(self.image_id):
                thumbnail = self._image.load_thumbnail()
            picture = base64.b64encode(encode_png(to_picture(thumbnail))).decode("ascii")
            shown = f'<img src="data:image/png;base64,{picture}" style="image-rendering:auto">'
            caption = repr(self)
        # A notebook shows a card in place of a traceback: a file may open, and its pixels be damaged.
        except NdframesError as error:
            shown = f"<p><b>{type(error).__name__}</b>: {html.escape(str(error))}</p>"
            caption = f"<{type(self).__name__} {self.image_id!r}: cannot be shown>"
        return f'<figure style="margin:0">{shown}<figcaption><code>{html.escape(caption)}</code></figcaption></figure>'

    @property
    def _first_file(self) -> OpenedChannel:
        """The first of the files that hold the channels."""
        with naming_image(self.image_id):
            image = self._image
            return image.opened(image.bands_by_part(self._codes)[0][0])

    @property
    def _image(self) -> LazyImage:
        # Not stored: Frames opens the image again when its sources have changed, and closes it when memory is short.
        return self._frames.image(self.image_id)

    def _read_rows(self, rows: Sequence[int] | Array, rest: tuple[Any, ...]) -> Array:
        """Rows by number, in any order: each row is read once, and adjacent rows in one read."""
        listed = self._to_rows(rows)
        if not listed:
            return self._read((slice(0, 0), *rest))
        pixels_of: dict[int, Array] = {}
        # A read per row would decode the tiles under several rows several times.
        for run in _find_runs(sorted(set(listed))):
            pixels_of.update(zip(run, self._read((slice(run.start, run.stop), *rest)), strict=True))
        stack = np.ma.stack if self.nodata == "mask" else np.stack
        stacked: Array = stack([pixels_of[row] for row in listed])
        return stacked

    def _to_rows(self, rows: Iterable[int]) -> list[int]:
        """Row numbers from 0; negative ones count from the end."""
        height = len(self)
        with naming_image(self.image_id):
            return [to_row(row, height) for row in rows]


class LazyVideo(LazyFrame):
    """A video as an array that stays on disk: ``(t, y, x, channel)``. Frames are decoded when they are read.

    Frame ``i`` is the ``i``-th frame that a decoder shows if it starts at the beginning, whatever the container says.
    """

    @property
    def fps(self) -> float | None:
        """The average number of frames per second according to the container; ``None`` if it does not state one."""
        with naming_image(self.image_id):
            rate = self._video.index.rate
        return None if rate is None else float(rate)

    @property
    def times(self) -> Array:
        """The time at which each frame is shown, in seconds: a float64 array ``(t,)``."""
        with naming_image(self.image_id):
            return self._video.seconds

    @property
    def keyframes(self) -> Array:
        """The numbers of the frames at which decoding can start: an int64 array."""
        with naming_image(self.image_id):
            return self._video.keyframes

    @property
    def metadata(self) -> VideoMetadata:
        """The file's description of the video and its frames; ``metadata.metadata`` is the dict that was written with it."""
        with naming_image(self.image_id):
            return self._video.metadata

    def read(self, indices: Iterable[int] | None = None, *, errors: VideoErrors = "raise") -> tuple[list[int], Array]:
        """Read whole frames of a video that may be damaged.

        Args:
            indices: the numbers of the frames, in any order, with repetitions; negative ones count from the end. ``None``: all.
            errors: what happens to a frame that cannot be decoded: ``"raise"`` an error, ``"skip"`` the frame, or return the
                ``"nearest"`` frame that can be decoded in its place.

        Returns:
            The numbers of the frames that were not skipped, and their pixels ``(frames, height, width, channels)``.

        Raises:
            RegionIndexError: there is no such frame.
            RegionError: ``indices`` are not whole numbers.
            UnreadableImageError: a frame cannot be decoded, and ``errors="raise"``; or no frame can replace it.
            ValueError: ``errors`` has a value that is not allowed.
        """
        if indices is not None and (isinstance(indices, (str, bytes)) or not isinstance(indices, Iterable)):
            raise RegionError(
                f"video {shorten(self.image_id)}: indices={shorten(indices)}; give frame numbers, such as [5] or range(0, 100, 5)"
            )
        numbers = list(range(len(self))) if indices is None else self._to_rows(indices)
        with naming_image(self.image_id):
            return self._video.read(numbers, self._codes, errors)

    def at_time(self, seconds: float | Sequence[float]) -> Array:
        """The frames that are shown at the given times.

        A time before the first frame selects the first frame; a time after the last frame selects the last one.

        Args:
            seconds: one time on the scale of :attr:`times`, or several in any order.

        Returns:
            ``(height, width, channels)`` for one time, ``(times, height, width, channels)`` for several.

        Raises:
            RegionError: a time is not a number, or the times have more than one axis.
        """
        try:
            times = np.asarray(seconds, np.float64)
        except (TypeError, ValueError) as error:
            raise RegionError(
                f"video {shorten(self.image_id)}: at_time({shorten(seconds)}); give times in seconds"
            ) from error
        if np.isnan(times).any() or times.ndim > 1:
            what = "has more than one axis" if times.ndim > 1 else "contains nan"
            raise RegionError(
                f"video {shorten(self.image_id)}: at_time({shorten(seconds)}) {what}; give times in seconds"
            )
        # A time that the caller computed, such as 7 / fps, may round to just below the time of its frame.
        numbers = np.searchsorted(self.times, times + 1e-9, side="right") - 1
        found = numbers.clip(0, len(self) - 1)
        return self[int(found)] if times.ndim == 0 else self[found.tolist()]

    def _read_rows(self, rows: Sequence[int] | Array, rest: tuple[Any, ...]) -> Array:
        """Frames by number, in one read: the decoder then goes through the file once."""
        return self._read((self._to_rows(rows) or slice(0, 0), *rest))

    def _describe_time(self) -> str:
        return "" if self.fps is None else f", {self.fps:.6g} frames a second"

    @property
    def _video(self) -> VideoData:
        image = self._image
        # Frames.load_frame makes this handle for videos only.
        assert image.is_video  # noqa: S101
        return cast("VideoData", image)


def _find_runs(numbers: Sequence[int]) -> list[range]:
    """Sorted numbers as ranges of consecutive ones."""
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs
