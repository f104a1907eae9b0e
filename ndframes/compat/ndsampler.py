"""The frames of ndsampler, implemented by ndframes: the same names, signatures and return conventions.

To use it under a ``CocoSampler``::

    import ndsampler
    from ndframes.compat import ndsampler as compat
    ndsampler.coco_frames.CocoFrames = compat.CocoFrames

Each class is a :class:`ndframes.Frames`, and accepts the keywords of its methods too (``pad``, ``scale``, ...). Shapes are
``(height, width)``; regions are slices ``(y, x[, channel])`` in pixels with exclusive stops; results are new arrays in the
dtype of the files.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ubelt as ub

from ..cache.layout import FOLDER
from ..errors import SourceError
from ..frames.coco import CocoFrames as _CocoFrames
from ..frames.frames import Frames as _Frames
from ..frames.photographs import demo_paths
from ..spec.backends import coerce_backend
from ..spec.channels import parse_codes
from ..spec.pathinfo import ChannelInfo, PathInfo

if TYPE_CHECKING:
    from .._typing import Array
    from ..frames.lazyframe import LazyFrame
    from ..frames.prepare import PrepareReport
    from ..spec.backends import Backend

__all__ = ["AlignableImageData", "CocoFrames", "Frames", "SimpleFrames"]


class Frames(_Frames):
    """Images by id. A subclass defines :attr:`image_ids` and :meth:`_build_pathinfo`.

    Args:
        hashid_mode: ``"PATH"``, ``"PIXELS"``, ``"GIVEN"`` or ``"DVC"``; see :class:`ndframes.Frames`.
        workdir: the folder that holds the cache; ``None``: as for :class:`ndframes.Frames`.
        backend: ``None``, ``"auto"``, ``"cog"``, ``"npy"`` or a dictionary, such as one of ndsampler. ``"auto"`` compression
            is always lossless here; that of ndsampler may not be.
        **options: other keywords of :class:`ndframes.Frames`.

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

    # -- describing images -----------------------------------------------------------------------------------------

    @abstractmethod
    def _build_pathinfo(self, image_id: Hashable) -> dict[str, Any]:
        """Describe an image by a dictionary.

        ``{"id", "default": key, "channels": {key: {"path", "channels": spec, "warp_aux_to_img", ...}}, "width", "height"}``;
        ``width`` and ``height`` are optional. :meth:`_populate_chan_info` completes a channel.
        """

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Convert the dictionary of :meth:`_build_pathinfo`."""
        pathinfo = self._build_pathinfo(image_id)
        height, width = pathinfo.get("height"), pathinfo.get("width")
        return PathInfo(
            image_id,
            [_to_channel({"channels": key, **chan}) for key, chan in pathinfo["channels"].items()],
            shape=None if height is None or width is None else (height, width),
            default=pathinfo.get("default"),
        )

    def _lookup_pathinfo(self, image_id: Hashable) -> dict[str, Any]:
        # Not memoized: the dictionary says which cache entries exist, and that changes.
        return self._build_pathinfo(image_id)

    def _populate_chan_info(self, chan: dict[str, Any], root: str | os.PathLike[str] = "") -> None:
        """Complete a channel that has a ``file_name`` under ``root``, or a ``path``.

        Sets ``path``; ``cache``, the path of its cache entry; and ``cache_type``: ``"cog"`` if that entry exists and is a
        TIFF, else ``None``. With a ``cache_type``, CocoSampler opens the entry as an image without further checks.
        """
        if "file_name" in chan:
            chan["path"] = os.path.join(root, chan["file_name"])
        chan.update(hashid_mode=self.hashid_mode, cache=None, cache_type=None)
        if self.backend is None:
            return
        try:
            survey = self.survey_channel(None, _to_channel(chan))
        except SourceError:  # a missing file has no entry; reading it raises the error again
            return
        if survey.key is not None:
            chan["cache"] = str(self.cache.path(survey.key))
            if survey.conversion is None and survey.key.suffix == ".tif":
                chan["cache_type"] = "cog"

    # -- reading --------------------------------------------------------------------------------------------------

    def load_region(
        self,
        image_id: Hashable,
        region: Any = None,
        channels: Any = ub.NoParam,
        width: int | None = None,  # noqa: ARG002 - part of ndsampler's signature
        height: int | None = None,  # noqa: ARG002
        **options: Any,
    ) -> Array:
        """Read a region into a new array ``(height, width, channels)``; see :meth:`ndframes.Frames.load_region`.

        Args:
            image_id: the image.
            region: slices ``(y, x[, channel])``; ``None`` and missing slices select everything.
            channels: a spec such as ``"r|g"``, a list, a kwcoco channel spec, or ``"<all>"``. By default, the channels of
                the image's own file, or all channels if it has no such file.
            width: ignored.
            height: ignored.
            **options: keywords of :meth:`ndframes.Frames.load_region`.
        """
        return super().load_region(image_id, region, self._to_spec(image_id, channels), **options)

    def load_image(  # type: ignore[override] # None with noreturn
        self, image_id: Hashable, channels: Any = ub.NoParam, cache: bool = True, noreturn: bool = False
    ) -> Array | None:
        """Read a whole image into a new array ``(height, width, channels)``, or ``(height, width)``.

        The channel axis is left out, as in ndsampler, if the image has one band that is not warped.

        Args:
            image_id: the image.
            channels: as in :meth:`load_region`.
            cache: whether to use and fill the cache.
            noreturn: fill the cache and return ``None``.
        """
        spec = self._to_spec(image_id, channels)
        if noreturn:
            if cache:
                image = self.image(image_id)
                for part, _ in image.bands_by_part(image.select(spec)):
                    image.opened(part)
            return None
        whole = super().load_image(image_id, spec, cache=cache)
        # ndsampler returns what the image reader returns, and that has two axes for one band.
        return whole[:, :, 0] if whole.shape[2:] == (1,) and self._is_on_grid(image_id, spec) else whole

    def load_frame(self, image_id: Hashable, channels: Any = ub.NoParam) -> LazyFrame:
        """Open an image as a lazy array ``(height, width, channels)`` that reads what is indexed."""
        return super().load_frame(image_id, self._to_spec(image_id, channels))

    def _load_alignable(self, image_id: Hashable, cache: bool = True) -> AlignableImageData:
        return AlignableImageData(self._lookup_pathinfo(image_id), self.backend if cache else None)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override] # an array, not a LazyFrame
        """Read the image at a position of :attr:`image_ids`."""
        whole: Array = self.load_image(self.image_ids[index])  # type: ignore[assignment] # not None without noreturn
        return whole

    def __iter__(self) -> Iterator[Array]:  # type: ignore[override] # as above
        """Read the images one after another."""
        return (self[index] for index in range(len(self)))

    # -- the cache ------------------------------------------------------------------------------------------------

    def prepare(  # type: ignore[override] # ndsampler's parameters
        self,
        gids: Sequence[Hashable] | None = None,
        workers: int | None = 0,
        use_stamp: bool = True,  # noqa: ARG002 - a stamp file can be stale; checking each entry is quick
        **options: Any,
    ) -> PrepareReport:
        """Convert every image that the cache lacks; see :meth:`ndframes.Frames.prepare`.

        Args:
            gids: ids of the images; ``None``: all.
            workers: the number of worker processes; 0 or ``None`` converts in threads of this process.
            use_stamp: ignored.
            **options: keywords of :meth:`ndframes.Frames.prepare`.
        """
        return super().prepare(gids, workers=workers or 0, **options)

    @property
    def cache_dpath(self) -> str | None:
        """The folder of the cache, for all backends; ``None`` without a backend."""
        return None if self.backend is None else str(self.cache.root)

    @property
    def workdir(self) -> str:
        """The folder that holds the cache."""
        return str(self.cache.workdir)

    def _update_backend(self, backend: Any) -> None:
        self.backend = _to_backend(backend)
        self.refresh()

    # -- inside ---------------------------------------------------------------------------------------------------

    def _to_spec(self, image_id: Hashable, channels: Any) -> str | list[str] | None:
        """Convert ndsampler's ``channels`` to those of :class:`ndframes.Frames`."""
        spec = None if channels is ub.NoParam else getattr(channels, "spec", channels)
        if spec is None:
            return self._default_codes(image_id)
        if isinstance(spec, str):
            return spec
        pieces = [self._default_codes(image_id) if item is None else [item] for item in spec]
        return None if None in pieces else [code for piece in pieces for code in piece or ()]

    def _default_codes(self, image_id: Hashable) -> list[str] | None:
        """The codes of the image's own file, if it has no spec and there are other files; else ``None``: the default."""
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
    """Frames over a mapping from image ids to paths, one file for each image.

    Args:
        id_to_path: the mapping; it is not copied.
        workdir: as for :class:`Frames`.
        backend: as for :class:`Frames`.
        **options: other keywords of :class:`ndframes.Frames`.

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
        """The keys of the mapping, in its order."""
        return list(self.id_to_path)

    @classmethod
    def demo(cls, **options: Any) -> SimpleFrames:
        """Open the photographs of scikit-image, numbered from 1."""
        return cls(dict(enumerate(demo_paths().values(), 1)), **options)

    def _build_pathinfo(self, image_id: Hashable) -> dict[str, Any]:
        chan = {"path": self.id_to_path[image_id], "channels": None, "warp_aux_to_img": None}
        self._populate_chan_info(chan)
        return {"id": image_id, "default": None, "channels": {None: chan}}


class CocoFrames(Frames, _CocoFrames):
    """Frames over a kwcoco dataset.

    Args:
        dset: a ``kwcoco.CocoDataset``; the next read sees changes of it.
        hashid_mode: as for :class:`Frames`.
        workdir: as for :class:`Frames`.
        verbose: ignored.
        backend: as for :class:`Frames`.
        **options: other keywords of :class:`ndframes.CocoFrames`.
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
        _CocoFrames.__init__(self, dset, workdir=workdir, backend=backend, hashid_mode=hashid_mode, **options)

    build_pathinfo = _CocoFrames.build_pathinfo

    @property
    def image_ids(self) -> Any:
        """The ids of the images, in the dataset's order, as an array."""
        return np.array(_CocoFrames.image_ids.fget(self))  # type: ignore[attr-defined]

    @property
    def hashid(self) -> str:
        """The hash of the dataset, computed if it has none."""
        if getattr(self.dset, "hashid", None) is None:
            self.dset._build_hashid()  # noqa: SLF001 - kwcoco has no public way to compute it
        return str(self.dset.hashid)

    def _build_pathinfo(self, image_id: Hashable) -> dict[str, Any]:
        from delayed_image import FusedChannelSpec  # CocoSampler looks channels up by its normal form

        info, image = self.pathinfo(image_id), self._find("images", image_id)
        items = [image, *(image.get("auxiliary") or ()), *(image.get("assets") or ())]
        specs = [item["channels"] for item in items if item.get("channels")]
        # CocoSampler compares specs as text: use the dataset's spelling.
        spelled = {parse_codes(str(spec)): spec for spec in specs}
        channels = _ChannelMap()
        for file in info.channels:
            key = spelled.get(file.channels or ())
            norm = None if key is None else FusedChannelSpec.coerce(key).normalize().spec
            warp = None if file.is_aligned else {"type": "affine", "matrix": file.matrix.tolist()}
            channels[key] = {"path": file.path, "channels": key, "norm_channels": norm, "warp_aux_to_img": warp}
            self._populate_chan_info(channels[key])
        return {
            "id": image_id,
            "channels": channels,
            "default": spelled.get(info.default or ()),
            "width": image.get("width"),
            "height": image.get("height"),
            "norm_to_chan_lut": _KeyMap((chan["norm_channels"], key) for key, chan in channels.items()),
        }


class _ChannelMap(dict[Any, dict[str, Any]]):
    """The channels of an image. CocoSampler asks for every channel of a video, also of images that lack it."""

    def __missing__(self, key: object) -> dict[str, Any]:
        return {"path": None, "cache": None, "cache_type": None}


class _KeyMap(dict[Any, Any]):
    """Normal forms of channel specs to the keys of a :class:`_ChannelMap`; an unknown spec is its own key."""

    def __missing__(self, spec: object) -> object:
        return spec


class AlignableImageData:
    """One image, described by a dictionary.

    Args:
        pathinfo: the dictionary that ``_build_pathinfo`` of a :class:`Frames` returns.
        cache_backend: the backend, as for :class:`Frames`; the cache is the one that ``pathinfo`` names.

    Example:
        >>> frames = SimpleFrames.demo(workdir=getfixture("tmp_path"), backend="cog")
        >>> image = AlignableImageData(frames._build_pathinfo(1), "cog")
        >>> image[0:10, 0:20].shape, len(list(frames.cache.ls()))
        ((10, 20, 3), 1)
    """

    def __init__(self, pathinfo: dict[str, Any], cache_backend: Any = None) -> None:
        self.pathinfo = pathinfo
        self.cache_backend = cache_backend
        self._frames = _SingleImageFrames(pathinfo, cache_backend)

    def load_region(self, img_region: Any = None, channels: Any = ub.NoParam, fused: bool = True) -> Any:
        """Read a region of the image.

        Args:
            img_region: slices ``(y, x)``, as in :meth:`Frames.load_region`.
            channels: as in :meth:`Frames.load_region`.
            fused: whether to return one array ``(height, width, channels)``. With ``False``, the result is
                ``{"subregions": [{"im", "channels"}, ...]}``, one item for each channel; ``im.finalize()`` returns its array.
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
        """The keys of the requested channels, as a list."""
        if channels is ub.NoParam:
            default = self.pathinfo.get("default")
            return [default] if default in self.pathinfo["channels"] else list(self.pathinfo["channels"])
        if isinstance(channels, str):
            return list(self.pathinfo["channels"]) if channels == "<all>" else [channels]
        return list(channels)


class _SingleImageFrames(Frames):
    """Frames over one image, described by a dictionary."""

    def __init__(self, pathinfo: dict[str, Any], backend: Any) -> None:
        # The dictionary has no workdir: take it from the path of a cache entry.
        chan: dict[str, Any] = next(iter(pathinfo["channels"].values()), {})
        workdir = (chan.get("cache") or "").rpartition(FOLDER)[0] or None
        super().__init__(chan.get("hashid_mode", "PATH"), workdir, backend)
        self._described = pathinfo

    @property
    def image_ids(self) -> list[Hashable]:
        return [self._described.get("id")]

    def _build_pathinfo(self, image_id: Hashable) -> dict[str, Any]:  # noqa: ARG002 - there is one image
        return self._described


def _to_backend(spec: Any) -> Backend | None:
    """Convert ndsampler's backend dictionaries: ``RAW`` means no compression, and ``_hack_use_cli`` means nothing here."""
    if isinstance(spec, Mapping):
        spec = {key: value for key, value in spec.items() if key != "_hack_use_cli"}
        config = spec.get("config")
        if isinstance(config, Mapping) and config.get("compress") == "RAW":
            spec["config"] = {**config, "compress": "NONE"}
    return coerce_backend(spec)


def _to_channel(chan: Mapping[str, Any]) -> ChannelInfo:
    """Convert a channel of a pathinfo dictionary."""
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
