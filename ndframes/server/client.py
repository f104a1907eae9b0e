"""Client: the images of a server as Frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from ..errors import RegionError, RemoteError, UnsupportedError, check_keywords, naming_image
from ..frames.batch import check_requests, gather
from ..frames.frames import Frames
from ..frames.lazyframe import LazyFrame
from ..geometry.regions import check_inside
from ..pixels.options import ReadKeywords, ReadOptions
from ..pixels.results import too_large_error
from ..system.threads import resolve_thread_count, run_tasks
from ..text import format_bytes
from .connection import parse_address
from .names import key_from_json
from .remote_image import RemoteImage, load_items

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from typing_extensions import Unpack

    from .._typing import Array
    from ..frames.batch import Request
    from ..frames.summary import ImageSummary
    from ..geometry.kernels import Interpolation
    from ..items.item import LazyImage
    from ..pixels.values import NodataMode
    from ..spec.pathinfo import PathInfo
    from .connection import RemoteServer

__all__ = ["RemoteFrame", "RemoteFrames", "connect"]
_RECHECK_SECONDS = 5.0
_GROUP_BYTES = 2**25
_MOST_OF_A_GROUP = 1024


def connect(
    address: str,
    *,
    token: str | None = None,
    timeout: float = 60.0,
    threads: int | None = None,
    max_region_bytes: int | None = None,
    recheck_seconds: float = _RECHECK_SECONDS,
) -> RemoteFrames:
    """The images of a server as :class:`Frames`: the same reads give the same pixels and the same errors.

    The server is ``ndframes serve`` or :func:`ndframes.server.create_app`. The object pickles, and works in worker processes and
    threads. Nothing is asked before the first read.

    Args:
        address: as the server has printed it; it ends in ``#token=TOKEN``. One with the token in its path, ``/k/TOKEN/``, works, too.
        token: of the server, instead of that in the address.
        timeout: for how many seconds a request waits for its answer.
        threads: the most requests at the same time of :meth:`Frames.load_regions`; as for :class:`Frames`.
        max_region_bytes: as for :class:`Frames`. The server has limits of its own.
        recheck_seconds: for how long the shape, dtype and channels of an image are trusted. Pixels are always those that the
            server reads now.

    Raises:
        RemoteError: ``address`` is not an address of HTTP.
        ValueError: another option has a value that is not allowed.

    Example:
        >>> import ndframes as nf
        >>> nf.connect("http://127.0.0.1:8000/#token=a-token-of-this-test")
        <RemoteFrames: http://127.0.0.1:8000/>
    """
    server = parse_address(address, token=token, timeout=timeout)
    return RemoteFrames(server, threads=threads, max_region_bytes=max_region_bytes, recheck_seconds=recheck_seconds)


class RemoteFrames(Frames):
    """The images of a server; see :func:`ndframes.connect`.

    The ids are those of the server's frames if they are whole numbers or their own names in addresses, and otherwise the names
    that the server gives them. What works on files is done where the server runs, and raises :class:`UnsupportedError`
    here: descriptions of files, the cache, :meth:`prepare`, :meth:`estimate`, :meth:`explain` and :meth:`load_warped`.
    """

    def __init__(
        self, server: RemoteServer, *, threads: int | None, max_region_bytes: int | None, recheck_seconds: float
    ) -> None:
        super().__init__(
            backend=None, threads=threads, max_region_bytes=max_region_bytes, recheck_seconds=recheck_seconds
        )
        self._server = server

    @property
    def address(self) -> str:
        """The address of the server, without the token."""
        return self._server.address

    @property
    def image_ids(self) -> Sequence[Hashable]:
        """The ids of the images, as the server lists them; asked for once, until :meth:`refresh`."""
        return self._listing.image_ids

    def refresh(self) -> None:
        """Forget what is known of the images; it is asked for again."""
        super().refresh()
        self._listed: _Listing | None = None

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Not available: the files are on the server's machine.

        Raises:
            ImageIdError: there is no such image.
            UnsupportedError: there is.
        """
        self._name_of(image_id)
        raise UnsupportedError(
            f"the files of this image are where the server at {self.address} runs, and what works on files is done there"
        )

    def extents(self, image_id: Hashable) -> tuple[int, ...]:
        """As of :class:`Frames`."""
        with naming_image(image_id):
            return self._remote_image(image_id).shape()[:-1]

    def summarize(self, image_id: Hashable, channels: str | Sequence[str] | None = None) -> ImageSummary:
        """As of :class:`Frames`."""
        with naming_image(image_id):
            return self._remote_image(image_id).summarize(channels)

    def load_regions(
        self,
        requests: Iterable[Request],
        channels: str | Sequence[str] | None = None,
        *,
        workers: int | None = None,
        out: Any = None,
        read_ahead: bool = False,  # noqa: ARG002 - the server's disk is not here
        **options: Unpack[ReadKeywords],
    ) -> Any:
        """As of :class:`Frames`: several requests at the same time, each for many regions."""
        check_keywords("load_regions", options, ReadKeywords.__annotations__)
        threads = resolve_thread_count(self._threads if workers is None else workers, name="workers")
        checked = check_requests(requests)
        read_options = ReadOptions.of(**options)
        if read_options.nodata == "mask" and out is not None:
            raise RegionError("a batch with nodata='mask' returns masked arrays; leave out the argument 'out'")
        images = [self._remote_image(image_id) for image_id, _ in checked]
        counts = []
        for image, (image_id, region) in zip(images, checked, strict=True):
            with naming_image(image_id):
                if read_options.outside is not None:
                    check_inside(region, image.shape(channels))
                counts.append(image.count_result_bytes(region, channels, read_options))
        if out is None and sum(counts) > self.max_region_bytes:
            raise too_large_error(f"a batch of {len(checked):,} regions", sum(counts), self.max_region_bytes)
        results: list[Array] = [np.empty(0)] * len(checked)

        def load(numbers: Sequence[int]) -> None:
            items = [images[number].encode(checked[number][1], channels, read_options) for number in numbers]
            loaded = load_items(self._server, items, channels, read_options, max_bytes=self.max_region_bytes)
            for number, pixels in zip(numbers, loaded, strict=True):
                results[number] = pixels

        run_tasks([partial(load, group) for group in _make_groups(counts, threads)], threads=threads)
        return gather(results, out)

    def load_frame(
        self,
        image_id: Hashable,
        channels: str | Sequence[str] | None = None,
        *,
        nodata: NodataMode = "keep",
        interpolation: Interpolation | Mapping[str, Interpolation] | None = None,
    ) -> RemoteFrame:
        """As of :class:`Frames`. Of a video, it is a frame with times."""
        with naming_image(image_id):
            return RemoteFrame(self, image_id, channels, nodata=nodata, interpolation=interpolation)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.address}>"

    def _make_item(self, image_id: Hashable, on_open: Callable[[], None]) -> LazyImage:  # noqa: ARG002 - it opens no file
        return RemoteImage(
            self._server,
            self._name_of(image_id),
            image_id,
            max_region_bytes=self.max_region_bytes,
            trusted_seconds=self._recheck_seconds,
        )

    def _remote_image(self, image_id: Hashable) -> RemoteImage:
        image = self.image(image_id)
        assert isinstance(image, RemoteImage)  # noqa: S101
        return image

    def _name_of(self, image_id: Hashable) -> str:
        try:
            return self._listing.names[image_id]
        except (KeyError, TypeError) as error:
            raise self._unknown(image_id) from error

    @property
    def _listing(self) -> _Listing:
        listed = self._listed
        if listed is None:
            # Two threads may ask at the same time; either answer will do.
            listed = self._listed = _list_images(self._server)
        return listed


class RemoteFrame(LazyFrame):
    """An image of a server as an array that stays there: ``frame[...]`` asks for the pixels that it selects."""

    @property
    def times(self) -> Array:
        """The time at which each frame of a video is shown, in seconds: a float64 array ``(t,)``.

        Raises:
            UnsupportedError: it is no video.
        """
        with naming_image(self.image_id):
            image = self._image
            assert isinstance(image, RemoteImage)  # noqa: S101
            seconds = image.seconds
            if seconds is None:
                raise UnsupportedError("only videos have times")
            return seconds

    def __repr__(self) -> str:
        extents = " x ".join(f"{extent:,}" for extent in self.shape[:-1])
        channels = "|".join(self.channels)
        return f"<{type(self).__name__} {self.image_id!r}: {extents}, {channels}, {self.dtype}, {format_bytes(self.nbytes)}>"


@dataclass(frozen=True, slots=True)
class _Listing:
    """What a server lists.

    Attributes:
        image_ids: the ids of the images.
        names: the names in addresses, of the images and of the videos of a dataset.
    """

    image_ids: tuple[Hashable, ...]
    names: Mapping[Hashable, str]


def _list_images(server: RemoteServer) -> _Listing:
    names: dict[Hashable, str] = {}
    query, count = "", 0
    while True:
        page = server.get_json(f"/frames?details=0{query}")
        try:
            names.update((key_from_json(entry["key"]), entry["id"]) for entry in page["frames"])
            count, after = page["images"], page["after"]
        except (KeyError, TypeError) as error:
            raise RemoteError(f"{server.address} does not list images; is it a server of ndframes?") from error
        if after is None:
            return _Listing(tuple(islice(names, count)), names)
        query = f"&after={quote(after)}"


def _make_groups(counts: Sequence[int], threads: int) -> list[list[int]]:
    """The numbers of the requests that are sent together: groups of about the same bytes, for all threads."""
    most = max(1, min(_GROUP_BYTES, -(-sum(counts) // threads)))
    groups: list[list[int]] = []
    used = most
    for number, count in enumerate(counts):
        if used + count > most or len(groups[-1]) == _MOST_OF_A_GROUP:
            groups.append([])
            used = 0
        groups[-1].append(number)
        used += count
    return groups
