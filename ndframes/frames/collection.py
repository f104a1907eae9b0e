"""ImageCollection: images by id, and the settings with which they are opened."""

from __future__ import annotations

import difflib
import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..cache.cache import Cache
from ..cache.keys import Keyer
from ..cache.layout import default_workdir
from ..entries.bytes import VerifyMode
from ..entries.opener import BoundOpener, ChannelOpener, WhenSourceMissing
from ..errors import (
    ImageIdError,
    NotInitializedError,
    PathInfoError,
    check_choice,
    name_image,
    naming_image,
    shorten,
    to_byte_count,
    to_seconds,
)
from ..items.factory import ItemFactory
from ..items.parts import OverviewMode
from ..spec.backends import backend_for, coerce_backend
from ..spec.kinds import is_video_path
from ..spec.pathinfo import Orientation, PathInfo, complete_info
from ..system.handles import HandlePool
from ..system.objects.access import RECHECK_SECONDS, SourceAccess
from ..system.objects.addresses import is_url
from ..system.objects.rules import SourceRules
from ..system.process import half_of_memory
from ..system.sources import current_folder
from ..system.threads import resolve_thread_count
from ..system.workers import Limits
from .open_images import OpenImages
from .summary import summarize_item

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from ..cache.keys import HashidMode
    from ..entries.conversion import Conversion
    from ..entries.opened import OpenedChannel
    from ..entries.opener import Survey
    from ..items.item import LazyImage
    from ..spec.backends import Backend, BackendPicker, BackendSpec
    from ..spec.pathinfo import ChannelInfo
    from ..system.stamp import SourceStamp
    from .summary import ImageSummary

__all__ = ["ImageCollection", "is_member"]
_MEMORY_BYTES = 256 * 2**20
# Open files, pixels and descriptions: a copy in another process makes its own.
_NOT_PICKLED = ("_pathinfos", "_images", "_opener")


class _SetByInit:
    """An attribute that ``__init__`` sets on the instance; until then, reading it raises an error that says so."""

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise NotInitializedError(
            f"{owner.__name__}.__init__ must call super().__init__(), which takes workdir=, backend= and the other options of "
            "Frames"
        )


class ImageCollection(ABC):
    """Images by id: their descriptions, their open items, and the settings with which they are opened.

    :class:`~ndframes.Frames` adds reading, and documents the arguments.
    """

    # Those that methods read first.
    _pathinfos: dict[Hashable, PathInfo] = cast("Any", _SetByInit())
    _images: OpenImages = cast("Any", _SetByInit())
    _opener: ChannelOpener = cast("Any", _SetByInit())
    _cache: Cache = cast("Any", _SetByInit())
    _keyer: Keyer = cast("Any", _SetByInit())
    _backend_spec: BackendSpec | BackendPicker = cast("Any", _SetByInit())
    _memory_bytes: int = cast("Any", _SetByInit())
    _threads: int | None = cast("Any", _SetByInit())
    _access: SourceAccess = cast("Any", _SetByInit())
    _max_region_bytes: int = cast("Any", _SetByInit())

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        *,
        workdir: str | os.PathLike[str] | None = None,
        local_tier: str | os.PathLike[str] | None = None,
        tier_bytes: int | str | None = None,
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
        recheck_seconds: float | None = None,
        overviews: OverviewMode = "own",
        orientation: Orientation = "stored",
        sources: str | Iterable[str] | None = None,
    ) -> None:
        check_choice("verify", verify, VerifyMode)
        check_choice("overviews", overviews, OverviewMode)
        check_choice("when_source_missing", when_source_missing, WhenSourceMissing)
        check_choice("orientation", orientation, Orientation)
        self._orientation = orientation
        # Only to check the value. The number is resolved in the process that reads, where None may mean another one.
        resolve_thread_count(threads)
        self._threads = threads
        self._limits = _to_limits(isolate)
        self._verify = verify
        self._when_source_missing = when_source_missing
        self._overviews: OverviewMode = overviews
        self._recheck_seconds = 0.0 if recheck_seconds is None else to_seconds("recheck_seconds", recheck_seconds)
        # Where a number is given, an image is trusted as a whole, and a check of it asks.
        object_seconds = RECHECK_SECONDS if recheck_seconds is None else 0.0
        self._access = SourceAccess(SourceRules.of(sources), object_seconds)
        self._set_backend(backend)
        self._keyer = Keyer(hashid_mode, self._access)
        # Relative paths mean this folder, whatever becomes the current one later.
        self._working_folder = current_folder()
        budget_bytes = to_byte_count("memory_bytes", memory_bytes)
        # Taken out of memory_bytes, so that both together stay within it.
        self._tile_bytes = (
            budget_bytes // 4 if tile_bytes is None else min(to_byte_count("tile_bytes", tile_bytes), budget_bytes)
        )
        self._memory_bytes = budget_bytes - self._tile_bytes
        self._max_region_bytes = (
            half_of_memory() if max_region_bytes is None else to_byte_count("max_region_bytes", max_region_bytes)
        )
        self._cache = Cache(
            default_workdir() if workdir is None else workdir,
            max_bytes=max_bytes,
            min_free_bytes=min_free_bytes,
            local_tier=local_tier,
            tier_bytes=tier_bytes,
        )
        self.refresh()

    @property
    def backend(self) -> BackendSpec | BackendPicker:
        """The form of cache entries, as given. Assigning another one closes all images."""
        return self._backend_spec

    @backend.setter
    def backend(self, backend: BackendSpec | BackendPicker) -> None:
        self._set_backend(backend)
        self.refresh()

    @property
    def hashid_mode(self) -> HashidMode:
        """How sources are identified."""
        return self._keyer.mode

    @property
    def threads(self) -> int | None:
        """The most threads that decode the tiles of one read, as given."""
        return self._threads

    @property
    def max_region_bytes(self) -> int:
        """The largest result that is allowed, in bytes."""
        return self._max_region_bytes

    @property
    def open_image_count(self) -> int:
        """How many images are open in this process."""
        return len(self._images)

    @property
    def cache(self) -> Cache:
        """The cache under the workdir. Assigning another one closes all images."""
        return self._cache

    @cache.setter
    def cache(self, cache: Cache) -> None:
        self._cache = cache
        self.refresh()

    @property
    def is_distant(self) -> bool:
        """Whether reads wait for a network, since the cache, or sources that are read directly, are in an object store."""
        return self._cache.is_distant or (self._backend_spec is None and bool(self._access.rules.prefixes))

    def refresh(self) -> None:
        """Close all images and forget their descriptions; the next read of each builds and opens it again."""
        self._access.forget()
        self._images = OpenImages(memory_bytes=self._memory_bytes, recheck_seconds=self._recheck_seconds)
        self._pathinfos = {}
        self._opener = ChannelOpener(
            self._cache,
            self._keyer,
            HandlePool(),
            verify=self._verify,
            when_source_missing=self._when_source_missing,
            tile_bytes=self._tile_bytes,
            limits=self._limits,
            access=self._access,
        )

    # -- to be written by a subclass ----------------------------------------------------------------------------

    @property
    @abstractmethod
    def image_ids(self) -> Sequence[Hashable]:
        """The ids of the images, in order."""

    @abstractmethod
    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Describe the image ``image_id``: its files and their alignment. Called once for each image; opens no file."""

    # -- images -------------------------------------------------------------------------------------------------

    def pathinfo(self, image_id: Hashable) -> PathInfo:
        """The description of an image, built once by :meth:`build_pathinfo`.

        Raises:
            ImageIdError: there is no such image.
            PathInfoError: :meth:`build_pathinfo` returned something else.
        """
        try:
            # Two threads may build the same description; either one will do.
            known = self._pathinfos.get(image_id)
            if known is None:
                built = _check_pathinfo(image_id, self.build_pathinfo(image_id))
                known = self._pathinfos[image_id] = self._complete(built)
        except ImageIdError:
            raise
        # A subclass often looks the id up in a dict or a list. The error is its own if the id exists.
        except (KeyError, IndexError, TypeError) as error:
            # == of an array or a tensor gives another one, which proves nothing; its hash is that of no id.
            is_array = hasattr(image_id, "item") and not isinstance(image_id, np.generic)
            if is_array or not is_member(self.image_ids, image_id):
                raise self._unknown(image_id) from error
            raise
        return known

    def image(self, image_id: Hashable) -> LazyImage:
        """The image, opened lazily, and kept open while the memory budget allows it and its sources do not change."""
        with naming_image(image_id):
            return self._current_image(image_id)

    def peek(self, image_id: Hashable) -> LazyImage | None:
        """The image if it is kept open; ``None`` if :meth:`image` would make it. Its sources may have changed."""
        return self._images.peek(image_id)

    def extents(self, image_id: Hashable) -> tuple[int, ...]:
        """``(height, width)`` of an image, ``(frames, height, width)`` of a video or sequence. Converts nothing.

        Files are opened only if the image's description does not give its size.

        Raises:
            ImageIdError: there is no such image.
            SourceError: its file cannot be read.
        """
        with naming_image(image_id):
            info = self.pathinfo(image_id)
            # A video's shape is that of its frames; their number is known once it was indexed.
            factory = self._factory(self._opener_of(image_id, converts=False))
            if (
                info.shape is not None
                and type(info) is PathInfo
                and not any(map(factory.is_whole_video, info.channels))
            ):
                return info.shape
            item = factory.make(info)
            return (*item.shape()[:-3], *item.image_shape)

    def summarize(self, image_id: Hashable, channels: str | Sequence[str] | None = None) -> ImageSummary:
        """Describe an image without reading its pixels: its shape, dtype, channels and state. Converts nothing.

        Args:
            image_id: the image.
            channels: as in :meth:`load_region`.

        Raises:
            ImageIdError: there is no such image.
            ChannelError: it has no such channel.
            SourceError: one of its files cannot be read.
        """
        with naming_image(image_id):
            factory = self._factory(self._opener_of(image_id, converts=False))
            return summarize_item(factory.make(self.pathinfo(image_id)), channels, look=self.look_at)

    # -- entries -------------------------------------------------------------------------------------------------

    def pick_backend(self, image_id: Hashable, info: ChannelInfo) -> Backend | None:
        """The form of the cache entry of ``info``; ``None`` where the source is read directly."""
        is_video = is_video_path(info.path)
        if callable(self._backend_spec):
            picked = self._backend_spec(image_id, info)
            return backend_for(picked, is_video=is_video, is_distant=is_video and is_url(info.path))
        if not is_video:
            return self._backend_for_images
        if is_url(info.path):
            return backend_for(self._backend_spec, is_video=True, is_distant=True)
        return self._backend_for_videos

    def plan_channel(self, image_id: Hashable, info: ChannelInfo) -> Conversion | None:
        """The conversion that makes the cache entry of ``info``; ``None`` if the source is read directly."""
        return self._opener.plan(info, self.pick_backend(image_id, info))

    def look_at(self, path: str) -> SourceStamp:
        """The state of a source: of a file now, of an object as it was seen within ``recheck_seconds``.

        Raises:
            SourceError: it does not exist, or may not be read.
        """
        return self._access.recheck(path)

    def hash_source(self, path: str) -> str:
        """The SHA-256 digest of a source's bytes in hexadecimal.

        Raises:
            SourceError: it cannot be read.
        """
        return self._access.hash(path, "sha256")

    def look_ahead(self, image_ids: Iterable[Hashable], *, seconds: float | None = None) -> None:
        """Look at the sources of many images at the same time, as far as they are objects, before each is surveyed or opened.

        Args:
            image_ids: the images.
            seconds: how long ago an object may have been looked at; ``None``: as long as it is trusted.
        """
        if self._access.rules.prefixes and (seconds is not None or self._access.recheck_seconds):
            paths = (path for image_id in image_ids for path in self._list_paths(image_id))
            self._access.preload(paths, seconds=seconds)

    def _list_paths(self, image_id: Hashable) -> list[str]:
        """The paths of an image's files; none if it cannot be described, which the read of it tells."""
        try:
            return [channel.path for channel in self.pathinfo(image_id).channels]
        except Exception:  # noqa: BLE001 - build_pathinfo is the user's code
            return []

    def survey_channel(self, image_id: Hashable, info: ChannelInfo) -> Survey:
        """The cache entry of ``info``, and the job that makes it if it is missing, damaged or out of date."""
        return self._opener.survey(info, self.pick_backend(image_id, info))

    def reopen(self, image_id: Hashable, part: int, opened: OpenedChannel, error: Exception) -> OpenedChannel:
        """Open a file of an image again after its cache entry failed; a damaged entry is moved away, and made again.

        Args:
            image_id: the image.
            part: the number of the file in ``pathinfo(image_id).channels``.
            opened: what failed.
            error: how it failed.

        Raises:
            SourceError: the source is needed, and cannot be read.
            CacheError: the cache cannot be written.
        """
        with naming_image(image_id):
            info = self.pathinfo(image_id).channels[part]
            self._images.discard(image_id)
            return self._opener.reopen(info, self.pick_backend(image_id, info), opened, error, directly=False)

    # -- a collection -------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.image_ids)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.image_ids)

    def __contains__(self, image_id: object) -> bool:
        return is_member(self.image_ids, image_id)

    # -- internal -------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _NOT_PICKLED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.refresh()

    def _set_backend(self, backend: BackendSpec | BackendPicker) -> None:
        self._backend_spec = backend
        if not callable(backend):  # else it picks for each file
            self._backend_for_images = backend_for(backend, is_video=False)
            self._backend_for_videos = backend_for(backend, is_video=True)

    def _complete(self, info: PathInfo) -> PathInfo:
        """The description with what it leaves to these frames: the folder of relative paths, and the orientation."""
        return complete_info(info, self._working_folder, self._orientation)

    def _current_image(self, image_id: Hashable) -> LazyImage:
        return self._images.get(image_id, self._make_item)

    def _make_item(self, image_id: Hashable, on_open: Callable[[], None]) -> LazyImage:
        factory = self._factory(self._opener_of(image_id), threads=self._threads)
        return factory.make(self.pathinfo(image_id), on_open)

    def _factory(self, opener: BoundOpener, threads: int | None = 1) -> ItemFactory:
        return ItemFactory(opener, self._cache, self._max_region_bytes, threads, self._overviews)

    def _opener_of(self, image_id: Hashable, *, converts: bool = True) -> BoundOpener:
        return BoundOpener(self._opener, lambda info: self.pick_backend(image_id, info), converts=converts)

    def _describe_backend(self) -> str:
        if callable(self._backend_spec):
            return "picked per channel"
        backend = coerce_backend(self._backend_spec)
        return "none" if backend is None else backend.type

    def _unknown(self, image_id: object) -> ImageIdError:
        ids, name = self.image_ids, shorten(image_id)
        same = next((item for item in ids[:10_000] if str(item) == _text_of(image_id)), None)
        if same is not None and type(same) is not type(image_id):
            kinds = f"ids are {type(same).__name__}, you gave {type(image_id).__name__}"
            return ImageIdError(f"no image {name}: {kinds}; give {shorten(same)}")
        # Among the first ids only, because a comparison with millions of them would take minutes.
        close = difflib.get_close_matches(name.strip("'"), [str(item) for item in ids[:10_000]], n=3)
        first = f"the first is {shorten(ids[0])}" if len(ids) else "so nothing can be read"
        hint = f"; close: {', '.join(close)}" if close else f"; there are {len(ids):,}, {first}"
        return ImageIdError(f"no image {name}{hint}")


# An unknown keyword of a subclass arrives here, and Python's message names this function.
ImageCollection.__init__.__qualname__ = "Frames"


def _to_limits(isolate: object) -> Limits | None:
    """The limits of the processes that convert; ``None`` for conversions in this process."""
    if isinstance(isolate, Limits):
        return isolate
    # By identity: any text is true, "False" included.
    if not any(isolate is item for item in (True, False, None)):
        raise ValueError(f"isolate={shorten(isolate)}; allowed: True, False or ndframes.Limits(...)")
    return Limits() if isolate else None


def _text_of(image_id: Any) -> str:
    """The text of an id, or of the number in an array or tensor without axes."""
    is_scalar = hasattr(image_id, "item") and getattr(image_id, "ndim", None) == 0
    return str(image_id.item() if is_scalar else image_id)


def _check_pathinfo(image_id: Hashable, info: object) -> PathInfo:
    if isinstance(info, PathInfo):
        return info
    hint = ", such as PathInfo(image_id, [ChannelInfo(path)])" if isinstance(info, (str, os.PathLike)) else ""
    error = PathInfoError(f"build_pathinfo returned {shorten(info)}; it must return a PathInfo{hint}")
    name_image(error, image_id)
    raise error


def is_member(ids: Any, image_id: object) -> bool:
    """Whether ``image_id`` is one of ``ids``, which may be any container."""
    try:
        return image_id in ids
    except (TypeError, ValueError):  # not hashable, or not comparable with the ids, which may be an array
        return False
