"""ndsampler's frames, by ndframes: the same names, signatures and return conventions over the same pixels.

To put it under a ``CocoSampler``::

    import ndsampler
    from ndframes.compat import ndsampler as compat
    ndsampler.coco_frames.CocoFrames = compat.CocoFrames

The classes here neither read nor convert. Each is a :class:`ndframes.Frames`, and accepts the keywords of that class for
what ndsampler lacks (padding, scaling, batches, ``explain``, ...). Sizes are ``(height, width)``, regions are slices
``(y, x[, channel])`` in pixels with exclusive stops, pixels come as new arrays in the files' dtype.
"""

from __future__ import annotations

import copy
import os
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ubelt as ub

from ..cache.layout import FOLDER
from ..errors import SourceError
from ..frames.coco import CocoFrames as _CocoFrames
from ..frames.coco import list_files
from ..frames.frames import Frames as _Frames
from ..frames.photographs import demo_paths
from ..spec.backends import Backend, coerce_backend
from ..spec.channels import parse_codes
from ..spec.pathinfo import ChannelInfo, PathInfo

if TYPE_CHECKING:
    from .._typing import Array
    from ..frames.lazyframe import LazyFrame
    from ..frames.prepare import PrepareReport

__all__ = ["AlignableImageData", "CocoFrames", "Frames", "SimpleFrames"]


class Frames(_Frames):
    """Images by id, under ndsampler's conventions. A subclass writes :attr:`image_ids` and :meth:`_build_pathinfo`.

    Args:
        hashid_mode: ``"PATH"``, ``"PIXELS"``, ``"GIVEN"`` or ``"DVC"``; see :class:`ndframes.Frames`.
        workdir: the folder that holds the cache; ``None``: as for :class:`ndframes.Frames`.
        backend: ``None``, ``"auto"``, ``"cog"``, ``"npy"`` or a dictionary, ndsampler's own included. The
            ``"auto"`` compression of ndsampler may be lossy; here it is lossless.
        **options: the other keywords of :class:`ndframes.Frames`.

    Example:
        >>> frames = SimpleFrames.demo(workdir=getfixture("tmp_path"), backend="npy")
        >>> frames.load_region(1, (slice(-20), slice(-10))).shape, frames.load_image(8).shape
        ((492, 502, 3), (512, 512))
    """

    def __init__(
        self,
        hashid_mode: Any = "PATH",
        workdir: str | os.PathLike[str] | None = None,
        backend: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(workdir=workdir, backend=_to_backend(backend), hashid_mode=hashid_mode, **options)

    # -- what an image is -----------------------------------------------------------------------------------------

    @abstractmethod
    def _build_pathinfo(self, image_id: Hashable) -> dict[str, Any]:
        """Describe an image, as a dictionary.

        ``{"id", "default": key, "channels": {key: {"path", "channels": spec, "warp_aux_to_img", ...}}, "width", "height"}``;
        the last two may be left out. :meth:`_populate_chan_info` completes each of the channels.
        """

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Convert the result of :meth:`_build_pathinfo` to a :class:`PathInfo`."""
        told = self._build_pathinfo(image_id)
        height, width = told.get("height"), told.get("width")
        return PathInfo(
            image_id,
            [_to_channel({"channels": key, **chan}) for key, chan in told["channels"].items()],
            shape=None if height is None or width is None else (height, width),
            default=told.get("default"),
        )

    def _lookup_pathinfo(self, image_id: Hashable) -> dict[str, Any]:
        """The current result of :meth:`_build_pathinfo`, with the cache entries that exist now."""
        return self._build_pathinfo(image_id)

    def _populate_chan_info(self, chan: dict[str, Any], root: str | os.PathLike[str] = "") -> None:
        """Complete a channel that has a ``file_name`` under ``root``, or a ``path``.

        Sets ``path``; ``cache``, the path of its entry, which may not exist yet; and ``cache_type``: ``"cog"`` if the entry
        exists and is a COG, else ``None``. Callers that see a ``cache_type`` open the entry as an image without checking that
        it exists, and few programs read ``.npy`` files as images.
        """
        if "file_name" in chan:
            chan["path"] = os.path.join(root, chan["file_name"])
        chan.update(hashid_mode=self.hashid_mode, cache=None, cache_type=None)
        if self.backend is None:
            return
        try:
            survey = self.survey_channel(None, _to_channel(chan))
        except SourceError:  # the file is missing, so it has no entry; a read raises the error
            return
        if survey.key is not None:
            chan["cache"] = str(self.cache.path(survey.key))
            if survey.job is None and survey.key.suffix == ".tif":
                chan["cache_type"] = "cog"

    # -- reading --------------------------------------------------------------------------------------------------

    def load_region(
        self,
        image_id: Hashable,
        region: Any = None,
        channels: Any = ub.NoParam,
        width: int | None = None,  # noqa: ARG002 - the images know their size
        height: int | None = None,  # noqa: ARG002
        **options: Any,
    ) -> Array:
        """Read a region into a new array ``(height, width, channels)``; see :meth:`ndframes.Frames.load_region`.

        Args:
            image_id: which image.
            region: slices; missing ones and ``None`` are everything.
            channels: a spec such as ``"r|g"``, a list, a kwcoco channel spec, or ``"<all>"``; by default that of the
                image's own file, or all if it has none.
            width: of no use.
            height: of no use.
            **options: the keywords of :meth:`ndframes.Frames.load_region`.
        """
        return super().load_region(image_id, region, self._to_spec(image_id, channels), **options)

    def load_image(  # type: ignore[override] # None if noreturn
        self, image_id: Hashable, channels: Any = ub.NoParam, cache: bool = True, noreturn: bool = False
    ) -> Array | None:
        """Read a whole image into a new array ``(height, width, channels)``; one band on the image's own grid has two axes.

        Args:
            image_id: which image.
            channels: as in :meth:`load_region`.
            cache: whether the cache may be used and filled.
            noreturn: only fill the cache.
        """
        spec = self._to_spec(image_id, channels)
        if noreturn:
            if cache:
                image = self.image(image_id)
                for part, _ in image.bands_by_part(image.select(spec)):
                    # Opening a part converts its file, and reads no pixels.
                    image.opened(part)
            return None
        whole = super().load_image(image_id, spec, cache=cache)
        # ndsampler returns what the image reader returns, and that has two axes for one band.
        return whole[:, :, 0] if whole.shape[2:] == (1,) and self._is_on_grid(image_id, spec) else whole

    def load_frame(self, image_id: Hashable, channels: Any = ub.NoParam, **options: Any) -> LazyFrame:
        """A handle of an image that behaves like an array ``(height, width, channels)`` and reads what is indexed."""
        return super().load_frame(image_id, self._to_spec(image_id, channels), **options)

    def _load_alignable(self, image_id: Hashable, cache: bool = True) -> AlignableImageData:
        return AlignableImageData(self._lookup_pathinfo(image_id), self._backend if cache else None)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override] # pixels, not a handle
        """The image at a position of :attr:`image_ids`, whole."""
        whole: Array = self.load_image(self.image_ids[index])  # type: ignore[assignment] # noreturn is False
        return whole

    def __iter__(self) -> Iterator[Array]:  # type: ignore[override] # as above
        """The images, one after the other, whole."""
        return (self[index] for index in range(len(self)))

    # -- the cache ------------------------------------------------------------------------------------------------

    def prepare(  # type: ignore[override] # it has other names here
        self,
        gids: Sequence[Hashable] | None = None,
        workers: int | None = 0,
        use_stamp: bool = True,  # noqa: ARG002 - entries are checked instead: that is fast, and never out of date
        **options: Any,
    ) -> PrepareReport:
        """Convert everything that is not in the cache yet; see :meth:`ndframes.Frames.prepare`.

        Args:
            gids: which images; ``None``: all.
            workers: how many worker processes; 0 works in this one, with threads.
            use_stamp: of no use.
            **options: the keywords of :meth:`ndframes.Frames.prepare`.
        """
        return super().prepare(gids, workers=workers or 0, **options)

    @property
    def cache_dpath(self) -> str | None:
        """The folder of the cache, of all backends; ``None`` without a backend."""
        return None if self.backend is None else str(self.cache.root)

    @property
    def workdir(self) -> str:
        """The folder that holds the cache."""
        return str(self.cache.workdir)

    @property
    def _backend(self) -> dict[str, Any]:
        """The backend as ndsampler describes it: ``{"type": None | "cog" | "npy", "config": {...}}``."""
        backend = coerce_backend(self.backend)  # type: ignore[arg-type] # never a callable: _to_backend refuses one
        if backend is None:
            return {"type": None, "config": {}}
        default = Backend(type=backend.type)
        config = {name: value for name, value in backend.to_dict().items() if value != getattr(default, name)}
        # Named even if it is the default, as there.
        return {
            "type": backend.type,
            "config": {"compress": backend.compress, **config} if backend.type == "cog" else config,
        }

    def _update_backend(self, backend: Any) -> None:
        self.backend = _to_backend(backend)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _to_spec(self, image_id: Hashable, channels: Any) -> str | list[str] | None:
        """Channels as :class:`ndframes.Frames` takes them."""
        # A channel spec of kwcoco holds its text in ``spec``.
        asked = None if channels is ub.NoParam else getattr(channels, "spec", channels)
        if asked is None:
            return self._own_codes(image_id)
        if isinstance(asked, str):
            return asked
        pieces = [self._own_codes(image_id) if item is None else [item] for item in asked]
        return None if None in pieces else [code for piece in pieces for code in piece or ()]

    def _own_codes(self, image_id: Hashable) -> list[str] | None:
        """The codes of a file without a spec that has others beside it: it is the default, and they are not."""
        files = self.pathinfo(image_id).channels
        if len(files) == 1 or files[0].channels is not None:
            return None
        image = self.image(image_id)
        return list(image.channels[: image.opened(0).reader.shape[2]])

    def _is_on_grid(self, image_id: Hashable, spec: str | list[str] | None) -> bool:
        info = self.pathinfo(image_id)
        codes = info.default if spec is None else parse_codes(spec)
        holders = [
            file for file in info.channels if codes is None or file.channels is None or codes[0] in file.channels
        ]
        return all(file.is_aligned for file in holders)


class SimpleFrames(Frames):
    """Frames over a mapping from ids to paths, one file an image.

    Args:
        id_to_path: the mapping; looked up when an image is first read.
        workdir: as for :class:`Frames`.
        backend: as for :class:`Frames`.
        **options: the other keywords of :class:`ndframes.Frames`.

    Example:
        >>> frames = SimpleFrames.demo(workdir=getfixture("tmp_path"))
        >>> frames.image_ids[:3], frames[0].shape
        ([1, 2, 3], (512, 512, 3))
    """

    def __init__(
        self,
        id_to_path: Mapping[Any, str | os.PathLike[str]],
        workdir: str | os.PathLike[str] | None = None,
        backend: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(workdir=workdir, backend=backend, **options)
        self.id_to_path = id_to_path

    @property
    def image_ids(self) -> list[Hashable]:
        """The mapping's keys, in its order."""
        return list(self.id_to_path)

    @classmethod
    def demo(cls, **options: Any) -> SimpleFrames:
        """A few photographs, numbered from 1, from scikit-image's wheel."""
        return cls(dict(enumerate(demo_paths().values(), 1)), **options)

    def _build_pathinfo(self, image_id: Hashable) -> dict[str, Any]:
        chan = {"path": self.id_to_path[image_id], "channels": None, "warp_aux_to_img": None}
        self._populate_chan_info(chan)
        return {"id": image_id, "default": None, "channels": {None: chan}}


class CocoFrames(Frames, _CocoFrames):
    """Frames over a kwcoco dataset.

    Args:
        dset: a ``kwcoco.CocoDataset``; the next read sees its changes.
        hashid_mode: as for :class:`Frames`.
        workdir: as for :class:`Frames`.
        verbose: of no use.
        backend: as for :class:`Frames`.
        **options: the other keywords of :class:`ndframes.CocoFrames`.
    """

    def __init__(
        self,
        dset: Any,
        hashid_mode: Any = "PATH",
        workdir: str | os.PathLike[str] | None = None,
        verbose: int = 0,
        backend: Any = "auto",
        **options: Any,
    ) -> None:
        self.verbose = verbose
        backend = _to_backend(backend)
        # Not super(): that is Frames, which has no dataset.
        _CocoFrames.__init__(self, dset, workdir=workdir, backend=backend, hashid_mode=hashid_mode, **options)

    # Frames.build_pathinfo would call _build_pathinfo, which needs the result of this method.
    build_pathinfo = _CocoFrames.build_pathinfo

    @property
    def image_ids(self) -> Any:
        """The ids of the images, in the dataset's order, as an array."""
        return np.array(_CocoFrames.image_ids.fget(self))  # type: ignore[attr-defined]

    @property
    def hashid(self) -> str:
        """That of the dataset, made if it has none."""
        if getattr(self.dset, "hashid", None) is None:
            self.dset._build_hashid()  # noqa: SLF001 - kwcoco has no other name for it
        return str(self.dset.hashid)

    def _build_pathinfo(self, image_id: Hashable) -> dict[str, Any]:
        from delayed_image import FusedChannelSpec  # whose normal form CocoSampler looks up

        info, image = self.pathinfo(image_id), self._find("images", image_id)
        channels = _Channels()
        for file, record in zip(info.channels, list_files(image), strict=True):
            key = _key_of(record)
            norm = None if key is None else FusedChannelSpec.coerce(key).normalize().spec
            warp = None if record is image and file.is_aligned else _warp_of(record, file)
            channels[key] = {"path": file.path, "channels": key, "norm_channels": norm, "warp_aux_to_img": warp}
            self._populate_chan_info(channels[key])
            # Last: with this key, the path would be that of a file in the current folder.
            channels[key]["file_name"] = record["file_name"]
        return {
            "id": image_id,
            "channels": channels,
            "default": _key_of(image) if image.get("file_name") is not None else None,
            "width": image.get("width"),
            "height": image.get("height"),
            "norm_to_chan_lut": _Keys((chan["norm_channels"], key) for key, chan in channels.items()),
        }


class _Channels(dict[Any, dict[str, Any]]):
    """An image's channels. Missing ones have no entry: CocoSampler looks up all channels of all images of a video."""

    def __missing__(self, key: object) -> dict[str, Any]:
        return {"path": None, "cache": None, "cache_type": None}


class _Keys(dict[Any, Any]):
    """From normal forms to the keys of :class:`_Channels`; an unknown form is its own key."""

    def __missing__(self, spec: object) -> object:
        return spec


class AlignableImageData:
    """One image, from its pathinfo.

    Args:
        pathinfo: the result of ``_build_pathinfo`` of a :class:`Frames`.
        cache_backend: as for :class:`Frames`; the cache is the one that ``pathinfo`` names.

    Example:
        >>> frames = SimpleFrames.demo(workdir=getfixture("tmp_path"), backend="cog")
        >>> image = AlignableImageData(frames._build_pathinfo(1), "cog")
        >>> image[0:10, 0:20].shape, len(list(frames.cache.ls()))
        ((10, 20, 3), 1)
    """

    def __init__(self, pathinfo: dict[str, Any], cache_backend: Any = None) -> None:
        self.pathinfo = pathinfo
        self.cache_backend = cache_backend
        self._frames = _Described(pathinfo, cache_backend)

    def load_region(self, img_region: Any = None, channels: Any = ub.NoParam, fused: bool = True) -> Any:
        """Read a region of the image: slices ``(y, x)``.

        Args:
            img_region: as in :meth:`Frames.load_region`.
            channels: likewise.
            fused: whether all channels come as one array ``(height, width, channels)``. ``False``:
                ``{"subregions": [{"im", "channels"}, ...]}``, one for each requested channel; ``im.finalize()`` returns
                its array.
        """
        load = self._load_fused_region if fused else self._load_prefused_region
        return load(img_region, channels)

    def __getitem__(self, img_region: Any) -> Array:
        return self._load_fused_region(img_region)

    def _load_fused_region(self, img_region: Any, channels: Any = ub.NoParam) -> Array:
        return self._frames.load_region(self._frames.image_ids[0], img_region, channels)

    def _load_prefused_region(self, img_region: Any, channels: Any = ub.NoParam) -> dict[str, Any]:
        from delayed_image import DelayedIdentity

        subregions = [
            {"im": DelayedIdentity(self._load_fused_region(img_region, [name])), "channels": [name]}
            for name in self._coerce_channels(channels)
        ]
        return {"subregions": subregions}

    def _coerce_channels(self, channels: Any = ub.NoParam) -> list[Any]:
        """The requested channels as a list."""
        if channels is ub.NoParam:
            default = self.pathinfo.get("default")
            return [default] if default in self.pathinfo["channels"] else list(self.pathinfo["channels"])
        if isinstance(channels, str):
            return list(self.pathinfo["channels"]) if channels == "<all>" else [channels]
        return list(channels)


class _Described(Frames):
    """Frames over one image with a given pathinfo."""

    def __init__(self, pathinfo: dict[str, Any], backend: Any) -> None:
        chan: dict[str, Any] = next(iter(pathinfo["channels"].values()), {})
        # The work folder is what comes before the cache's own folder in the path of an entry.
        workdir = (chan.get("cache") or "").rpartition(FOLDER)[0] or None
        super().__init__(chan.get("hashid_mode", "PATH"), workdir, backend)
        self._told = pathinfo

    @property
    def image_ids(self) -> list[Hashable]:
        return [self._told.get("id")]

    def _build_pathinfo(self, image_id: Hashable) -> dict[str, Any]:  # noqa: ARG002 - there is only one
        return self._told


def _key_of(record: Mapping[str, Any]) -> str | None:
    """The channels of a file as its dataset spells them; ``None`` if it has none."""
    spec = record.get("channels")
    spec = getattr(spec, "spec", spec)
    return "|".join(spec) if isinstance(spec, (list, tuple)) else spec or None


def _warp_of(record: Mapping[str, Any], file: ChannelInfo) -> Any:
    """The transform of an auxiliary file or asset as its dataset has it, otherwise as a matrix."""
    given = record.get("warp_aux_to_img")
    return {"type": "affine", "matrix": file.matrix.tolist()} if given is None else copy.deepcopy(given)


def _to_backend(spec: Any) -> Backend | None:
    """Convert a backend in the spelling of ndsampler."""
    if isinstance(spec, Mapping):
        # ndsampler's switch between two converters; here there is one.
        spec = {key: value for key, value in spec.items() if key != "_hack_use_cli"}
        config = spec.get("config")
        if isinstance(config, Mapping) and config.get("compress") == "RAW":
            # ndsampler calls tiles without compression RAW.
            spec["config"] = {**config, "compress": "NONE"}
    return coerce_backend(spec)


def _to_channel(chan: Mapping[str, Any]) -> ChannelInfo:
    """Convert a channel of a pathinfo to a :class:`ChannelInfo`."""
    warp = chan.get("warp_aux_to_img")
    if warp is not None:
        import kwimage

        warp = kwimage.Affine.coerce(warp)
    return ChannelInfo(
        chan["path"],
        channels=chan.get("channels"),
        img_from_src=warp,
        hashid=chan.get("hashid"),
    )
