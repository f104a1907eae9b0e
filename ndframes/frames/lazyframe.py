"""LazyFrame: the handle of one image that behaves like an array."""

from __future__ import annotations

import base64
import html
import math
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from ..errors import RegionError, naming_image, shorten
from ..geometry.regions import to_row
from ..pixels.pictures import to_picture
from ..text import format_bytes
from .interop import to_dask, to_xarray, tokenize_state

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from .._typing import Array
    from ..geometry.regions import Region
    from ..items.item import LazyImage
    from ..items.video import VideoData
    from ..spec.backends import Backend
    from ..spec.pathinfo import ChannelInfo, PathInfo
    from ..video.metadata import VideoMetadata
    from ..video.reader import VideoErrors

__all__ = ["LazyFrame", "LazyVideo"]


class ImageSource(Protocol):
    """What a handle needs of :class:`~ndframes.Frames`."""

    def image(self, image_id: Hashable) -> LazyImage:
        """The image as it is now."""

    def load_region(self, image_id: Hashable, region: Region, channels: Sequence[str]) -> Array:
        """Read a region of it."""

    def pathinfo(self, image_id: Hashable) -> PathInfo:
        """The files that it is made of."""

    def pick_backend(self, image_id: Hashable, info: ChannelInfo) -> Backend | None:
        """The form in which one of them is cached."""


class LazyFrame:
    """An image as an array that stays on disk: ``frame[...]`` reads just what it selects.

    The axes are ``(y, x, channel)``; the channel axis is always there. Every basic index of numpy works, and a list of
    integers on the first axis. Pickles as its :class:`~ndframes.Frames` and an id.

    Example:
        >>> import ndframes as nf
        >>> frame = nf.SimpleFrames.demo(backend=None).load_frame("astronaut")
        >>> frame.shape, frame.dtype, frame.channels
        ((512, 512, 3), dtype('uint8'), ('r', 'g', 'b'))
        >>> frame[100:102, 200, 0]
        array([81, 83], dtype=uint8)
    """

    def __init__(self, frames: ImageSource, image_id: Hashable, channels: str | Sequence[str] | None = None) -> None:
        self._frames = frames
        self.image_id = image_id
        self._codes = frames.image(image_id).select(channels)

    @property
    def frames(self) -> ImageSource:
        """The :class:`~ndframes.Frames` that it is of."""
        return self._frames

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes along the last axis."""
        return self._codes

    @property
    def shape(self) -> tuple[int, ...]:
        """``(height, width, channels)``; a sequence has the number of its frames in front."""
        return self._image.shape(self._codes)

    @property
    def frame_ids(self) -> Sequence[Hashable]:
        """What each frame along the time axis is called: the id of a sequence's image, or its number in a video; empty for an image.

        Of a folder, a pattern or a glob they are the numbers or the names of its images; ``frame_ids.index(120)`` is the place of
        number 120.
        """
        return self._image.frame_ids

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what is read."""
        return self._image.dtype(self._codes)

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
        """The bytes that all of it would take in memory."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[int, ...]:
        """The shape of the blocks that are read at once; crops that keep to them are cheapest."""
        reader = self._image.opened(self._image.bands_by_part(self._codes)[0][0]).reader
        return (*(reader.tile_frames for _ in self.shape[:-3]), *reader.tile_shape, len(self._codes))

    def to_dask(self, *, chunks: Any = None) -> Any:
        """This frame as a lazy :class:`dask.array.Array`, equal to it: no pixel is read before it is computed.

        Each block is one read, in whichever thread, process or machine computes it; it has to see the source's path, and the
        cache's. The name of the array follows from the state of the sources: it is the same for the same pixels, and another
        one once a file is changed. A block that is computed after that raises. A file that was written within the last two
        seconds is read to be known, and the name is another one after them.

        Args:
            chunks: the shape of the blocks. ``None``: whole tiles, as many as fit into 32 MiB; ``"100 MB"``: as many as fit
                into that, one at least; anything else as dask has it, such as ``(512, 512, 3)``.

        Returns:
            A dask array of this shape and dtype.

        Raises:
            MissingExtraError: dask is not installed.
            RegionError: the chunks are none.

        Example:
            >>> import ndframes as nf
            >>> frame = nf.SimpleFrames.demo(backend=None).load_frame("coffee")
            >>> lazy = frame.to_dask(chunks=(200, 300, 3))
            >>> lazy.shape, lazy.numblocks, int(lazy.max().compute())
            ((400, 600, 3), (2, 2, 1), 255)
        """
        return to_dask(self, chunks)

    def to_xarray(self, *, chunks: Any = None) -> Any:
        """This frame as a lazy :class:`xarray.DataArray` over :meth:`to_dask`.

        Its dimensions are ``y``, ``x`` and ``channel``, with ``t`` in front for a sequence. Coordinates are the centres of the
        pixels (0.5, 1.5, ...), the codes of the channels, and the numbers of the images; the attribute ``image_id`` says what it is.

        Args:
            chunks: as in :meth:`to_dask`.

        Raises:
            MissingExtraError: xarray or dask is not installed.
            RegionError: the chunks are none.

        Example:
            >>> import ndframes as nf
            >>> photo = nf.SimpleFrames.demo(backend=None).load_frame("coffee").to_xarray()
            >>> photo.dims, photo.attrs
            (('y', 'x', 'channel'), {'image_id': 'coffee'})
            >>> photo.sel(y=slice(10, 12), x=20.5, channel=["b", "r"]).values.tolist()
            [[11, 30], [11, 29]]
        """
        return to_xarray(self, chunks)

    def __dask_tokenize__(self) -> object:
        return tokenize_state(self)

    def __getitem__(self, index: Any) -> Array:
        first = index[0] if isinstance(index, tuple) and index else index
        if isinstance(first, (list, np.ndarray)):
            return self._read_rows(first, index[1:] if isinstance(index, tuple) else ())
        return self._read(index)

    def _read(self, index: Any) -> Array:
        region: Any = (None,) if index is None else index  # numpy's new axis, which no region has
        return self._frames.load_region(self.image_id, region, self._codes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an ndframes LazyFrame lies on disk: it cannot become an array without a copy")
        return np.asarray(self[...], dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        *times, height, width, _ = self.shape
        opened = self._image.opened(self._image.bands_by_part(self._codes)[0][0])
        where = f"cached as {opened.reader.format}" if opened.is_cached else "read directly"
        *spans, tile_height, tile_width, _ = self.chunks
        tile = " x ".join(str(extent) for extent in (*(span for span in spans if span > 1), tile_height, tile_width))
        count = f"{times[0]:,} frames of " if times else ""
        return (
            f"<{type(self).__name__} {self.image_id!r}: {count}{height:,} x {width:,} px, {'|'.join(self._codes)}, {self.dtype}, "
            f"{format_bytes(self.nbytes)}{self._describe_time()}; {where}, tiles {tile}>"
        )

    def _describe_time(self) -> str:
        """What a video adds to what it is."""
        return ""

    def _repr_html_(self) -> str:
        from ..formats.export import encode_png

        picture = base64.b64encode(encode_png(to_picture(self._image.load_thumbnail()))).decode("ascii")
        return (
            f'<figure style="margin:0"><img src="data:image/png;base64,{picture}" '
            f'style="image-rendering:auto"><figcaption><code>{html.escape(repr(self))}</code></figcaption></figure>'
        )

    @property
    def _image(self) -> LazyImage:
        return self._frames.image(self.image_id)

    def _read_rows(self, rows: Sequence[int] | Array, rest: tuple[Any, ...]) -> Array:
        """Rows by number, in the order asked for: each read once, neighbours together."""
        wanted = self._to_rows(rows)
        if not wanted:
            return self._read((slice(0, 0), *rest))
        pieces: dict[int, Array] = {}
        for run in _runs(sorted(set(wanted))):
            pieces.update(zip(run, self._read((slice(run.start, run.stop), *rest)), strict=True))
        return np.stack([pieces[row] for row in wanted])

    def _to_rows(self, rows: Iterable[int]) -> list[int]:
        """Rows by number, counted from 0."""
        height = len(self)
        with naming_image(self.image_id):
            return [to_row(row, height) for row in rows]


class LazyVideo(LazyFrame):
    """A video as an array that stays in its file: ``(t, y, x, channel)``. Frames are decoded when they are read.

    Frame ``i`` is the ``i``-th one that decoding from the beginning shows, whatever the container says.
    """

    @property
    def fps(self) -> float | None:
        """Frames a second on average, as the container says; ``None`` where it does not."""
        rate = self._video.index.rate
        return None if rate is None else float(rate)

    @property
    def times(self) -> Array:
        """When each frame is shown, in seconds."""
        return self._video.seconds

    @property
    def keyframes(self) -> Array:
        """The numbers of the frames at which decoding can begin."""
        return self._video.keyframes

    @property
    def metadata(self) -> VideoMetadata:
        """What the file says of the video, and what its frames are; the dict that was written with it is its ``metadata``."""
        return self._video.metadata

    def read(self, indices: Iterable[int] | None = None, *, errors: VideoErrors = "raise") -> tuple[list[int], Array]:
        """Read frames of which some may not decode.

        Args:
            indices: their numbers, in any order; one may come twice, and negative ones count from the end. ``None``: all.
            errors: what becomes of a frame that does not decode: ``"raise"``, an error; ``"skip"``, it is left out;
                ``"nearest"``, the nearest frame that does stands for it.

        Returns:
            The numbers of the frames that are there, and their pixels ``(frames, height, width, channels)``.

        Raises:
            RegionIndexError: there is no such frame.
            UnreadableImageError: one does not decode, and ``errors="raise"``; or none that could stand for it does.
            ValueError: ``errors`` is none of these.
        """
        wanted = list(range(len(self))) if indices is None else self._to_rows(indices)
        with naming_image(self.image_id):
            return self._video.read(wanted, self._codes, errors)

    def at_time(self, seconds: float | Sequence[float]) -> Array:
        """The frames that are shown at these times: one, or as many as there are times.

        Before the first frame that is the first one, behind the last one the last.

        Args:
            seconds: a time as in :attr:`times`, or several in any order.

        Returns:
            ``(height, width, channels)``, or ``(times, height, width, channels)``.

        Raises:
            RegionError: one is no number.
        """
        times = np.asarray(seconds, np.float64)
        if np.isnan(times).any():
            raise RegionError(f"video {self.image_id!r}: at_time({shorten(seconds)}); nan is no time")
        numbers = np.searchsorted(self.times, times + 1e-9, side="right") - 1
        found = numbers.clip(0, len(self) - 1)
        return self[int(found)] if times.ndim == 0 else self[found.tolist()]

    def _read_rows(self, rows: Sequence[int] | Array, rest: tuple[Any, ...]) -> Array:
        """Frames by number: all in one request, so that it is known of each which one comes next."""
        return self._read((self._to_rows(rows) or slice(0, 0), *rest))

    def _describe_time(self) -> str:
        return "" if self.fps is None else f", {self.fps:.6g} frames a second"

    @property
    def _video(self) -> VideoData:
        image = self._image
        assert image.is_video  # noqa: S101
        return cast("VideoData", image)


def _runs(numbers: Sequence[int]) -> list[range]:
    """Sorted numbers as runs of neighbours."""
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs
