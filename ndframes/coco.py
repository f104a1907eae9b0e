"""CocoFrames: frames over a COCO or kwcoco dataset, its images made of one file or many, in image, video or asset space."""

from __future__ import annotations

import copy
import json
import os
import zipfile
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .errors import ImageIdError, PathInfoError, shorten
from .frames import Frames
from .opener import check_choice
from .pathinfo import ChannelInfo, PathInfo, SequenceInfo

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .frames import FramesOptions
    from .image import LazyImage

__all__ = ["CocoFrames", "Space"]

#: On which grid an image is read: its own, that of its video, or each file's own.
Space = Literal["image", "video", "asset"]

_Item = Mapping[str, Any]
_LEGACY_MAPS = ("base_to_aux", "warp_img_to_aux")


class CocoFrames(Frames):
    """Frames over a COCO dataset.

    The ids are those of the images. Each image is all of its files: its own, its ``auxiliary`` and its ``assets``, each where
    its ``warp_aux_to_img`` puts it, dequantized where it has a ``quantization``. The images of a video, one after the other in
    the order of ``frame_index``, are one item with a time axis in front: ``("video", id)``, or the video's name.

    The dataset stays the caller's: what is changed there is seen by the next read.

    Args:
        dset: a ``kwcoco.CocoDataset``, a dictionary of that form, or the path of a ``.json`` or ``.zip`` file of one.
        space: on which grid images are read. ``"image"``: their own; ``"video"``: that of their video, by their
            ``warp_img_to_vid``; ``"asset"``: each file's own, so that only channels of one size go together. Videos are always
            read in their own space.
        bundle_dpath: the folder that relative file names start from. ``None``: what the dataset says, or the folder that it
            lies in, or the current one.
        **options: as for :class:`Frames`.

    Raises:
        PathInfoError: ``dset`` is none of these, or the file is no dataset.
        ValueError: there is no such space.

    Example:
        >>> import ndframes as nf
        >>> photo = nf.demo_paths()["coffee"]
        >>> dataset = {"images": [{"id": 7, "file_name": str(photo), "height": 400, "width": 600}]}
        >>> frames = nf.CocoFrames(dataset, backend=None)
        >>> frames.image_ids, frames.load_region(7, (slice(0, 64), slice(-32, None))).shape
        ([7], (64, 32, 3))
    """

    def __init__(
        self,
        dset: Any,
        *,
        space: Space = "image",
        bundle_dpath: str | os.PathLike[str] | None = None,
        **options: Unpack[FramesOptions],
    ) -> None:
        check_choice("space", space, Space)
        self.dset = dset
        self.space = space
        self._dataset, found = _open_dataset(dset)
        self._bundle_dpath = None if bundle_dpath is None else Path(bundle_dpath)
        self._found_in = found
        self._start_unread()
        super().__init__(**options)

    # -- what is in the dataset -----------------------------------------------------------------------------------

    @property
    def image_ids(self) -> Sequence[Hashable]:
        """The ids of the images, in the dataset's order."""
        return [item["id"] for item in self._items("images")]

    @property
    def video_ids(self) -> Sequence[Hashable]:
        """The ids of the videos, in the dataset's order; ``("video", id)`` is the item of one."""
        return [item["id"] for item in self._items("videos")]

    @property
    def bundle_dpath(self) -> Path:
        """The folder that relative file names start from."""
        told = self._bundle_dpath or getattr(self.dset, "bundle_dpath", None) or self._found_in or "."
        return Path(os.fspath(told))

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """An image's files; or, of ``("video", id)`` or a video's name, its images."""
        video = self._find_video(image_id)
        if video is not None:
            return self._build_sequence(image_id, video)
        return self._build_image(image_id, self._find("images", image_id), self.space)

    def __contains__(self, image_id: object) -> bool:
        try:
            return self._find("images", image_id) is not None or self._find_video(image_id) is not None
        except (KeyError, TypeError):
            return False

    # -- seeing changes -------------------------------------------------------------------------------------------

    def pathinfo(self, image_id: Hashable) -> PathInfo:
        """As :meth:`Frames.pathinfo`; built again where the dataset was changed."""
        self._look_again(image_id)
        return super().pathinfo(image_id)

    def _current_image(self, image_id: Hashable) -> LazyImage:
        self._look_again(image_id)
        return super()._current_image(image_id)

    def _look_again(self, image_id: Hashable) -> None:
        """Forget what an image was, if the dataset says something else of it than when it was built."""
        try:
            seen = self._seen.get(image_id)
            now = self._gather(image_id)
        except (KeyError, TypeError):  # there is none; who builds it says so
            seen, now = None, None
            self._forget(image_id)
        if now is not None and (seen is None or seen != now):
            if seen is not None:
                self._forget(image_id)
            self._seen[image_id] = copy.deepcopy(now)

    def _gather(self, image_id: Hashable) -> list[Any]:
        """All that an item's :class:`PathInfo` is made of."""
        video = self._find_video(image_id)
        if video is not None:
            return [self.bundle_dpath, video, *self._images_of(video["id"])]
        image = self._find("images", image_id)
        if self.space == "video" and image.get("video_id") is not None:
            return [self.bundle_dpath, image, self._find("videos", image["video_id"])]
        return [self.bundle_dpath, image]

    def _forget(self, image_id: Hashable) -> None:
        try:
            self._pathinfos.pop(image_id, None)
            self._images.discard(image_id)
            self._seen.pop(image_id, None)
        except TypeError:  # no id at all: it has no hash
            pass

    # -- building -------------------------------------------------------------------------------------------------

    def _build_image(self, image_id: Hashable, image: _Item, space: Space) -> PathInfo:
        vid_from_img, shape = np.eye(3), _shape_of(image)
        if space == "video":
            if image.get("video_id") is None:
                raise PathInfoError(
                    f"image {image_id!r} is in no video, so it has no place in one; read it in space='image'"
                )
            video = self._find("videos", image["video_id"])
            vid_from_img = _to_matrix(image.get("warp_img_to_vid"), f"image {image_id!r}: warp_img_to_vid")
            shape = _shape_of(video) or shape
        channels = [
            self._build_channel(image_id, item, None if space == "asset" else vid_from_img, is_base=item is image)
            for item in _files_of(image)
        ]
        if not channels:
            raise PathInfoError(f"image {image_id!r} names no file: it has no file_name, auxiliary or assets")
        default = image.get("channels") if image.get("file_name") is not None else None
        return PathInfo(
            image_id,
            channels,
            shape=None if space == "asset" else shape,
            default=default if default else None,
            is_native=space == "asset",
        )

    def _build_channel(self, image_id: Hashable, item: _Item, space_from_img: Any, *, is_base: bool) -> ChannelInfo:
        matrix = None if space_from_img is None else space_from_img @ _img_from_file(item, f"image {image_id!r}")
        codes = item.get("channels")
        return ChannelInfo(
            self.bundle_dpath / os.fspath(item["file_name"]),
            channels=str(codes) if codes else None,
            img_from_src=matrix,
            shape=None if is_base else _shape_of(item),
            nodata=item.get("nodata"),
            quantization=item.get("quantization"),
        )

    def _build_sequence(self, item_id: Hashable, video: _Item) -> SequenceInfo:
        images = [self._build_image(image["id"], image, "video") for image in self._images_of(video["id"])]
        if not images:
            raise PathInfoError(f"video {video['id']!r} has no images")
        return SequenceInfo.of(item_id, images, shape=_shape_of(video))

    # -- looking up -----------------------------------------------------------------------------------------------

    def _start_unread(self) -> None:
        self._seen: dict[Hashable, list[Any]] = {}
        self._places: dict[str, dict[Hashable, int]] = {}

    def _items(self, kind: str) -> Sequence[_Item]:
        dataset = self._dataset if self._dataset is not None else self.dset.dataset
        items: Sequence[_Item] = dataset.get(kind) or []
        return items

    def _find(self, kind: str, item_id: Any) -> _Item:
        """The image or video of that id.

        Raises:
            KeyError: there is none.
        """
        items = self._items(kind)
        place = self._places.get(kind, {}).get(item_id, -1)
        if 0 <= place < len(items) and items[place].get("id") == item_id:
            return items[place]
        self._places[kind] = {item["id"]: number for number, item in enumerate(items)}
        return items[self._places[kind][item_id]]

    def _find_video(self, item_id: Any) -> _Item | None:
        if isinstance(item_id, tuple) and len(item_id) == 2 and item_id[0] == "video":
            return self._find("videos", item_id[1])
        if isinstance(item_id, str):
            return next((video for video in self._items("videos") if video.get("name") == item_id), None)
        return None

    def _images_of(self, video_id: Hashable) -> list[_Item]:
        images = [image for image in self._items("images") if image.get("video_id") == video_id]
        return sorted(images, key=lambda image: image.get("frame_index") or 0)

    def _unknown(self, image_id: object) -> ImageIdError:
        error = super()._unknown(image_id)
        if isinstance(image_id, tuple) and image_id[:1] == ("video",):
            return ImageIdError(f"no video {shorten(image_id[1:])}; there are {shorten(list(self.video_ids))}")
        return error

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._start_unread()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_seen", "_places")}


def _open_dataset(dset: Any) -> tuple[_Item | None, Path | None]:
    """The dataset as a dictionary, ``None`` where an object holds it, and the folder of its file."""
    if isinstance(dset, (str, os.PathLike)):
        path = Path(os.fspath(dset))
        return _read_dataset(path), path.absolute().parent
    if isinstance(dset, Mapping):
        _check_dataset(dset, "the dataset")
        told = dset.get("bundle_dpath")
        return dset, None if told is None else Path(os.fspath(told))
    if isinstance(getattr(dset, "dataset", None), Mapping):
        return None, None
    raise PathInfoError(f"a dataset is a kwcoco.CocoDataset, a dictionary or a path, got {shorten(dset)}")


def _read_dataset(path: Path) -> _Item:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(".json")]
                if len(names) != 1:
                    raise PathInfoError(f"{path} holds {len(names)} .json files; a dataset is one")
                dataset = json.loads(archive.read(names[0]))
        else:
            dataset = json.loads(path.read_bytes())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise PathInfoError(f"{path} is no dataset that can be read: {error}") from error
    _check_dataset(dataset, str(path))
    checked: _Item = dataset
    return checked


def _check_dataset(dataset: Any, name: str) -> None:
    images = dataset.get("images") if isinstance(dataset, Mapping) else None
    if not isinstance(images, list) or not all(isinstance(item, Mapping) and "id" in item for item in images):
        raise PathInfoError(f"{name} is no COCO dataset: it has no list of images, each with an id")


def _files_of(image: _Item) -> Iterator[_Item]:
    """What an image is made of, the image itself first if it has a file."""
    if image.get("file_name") is not None:
        yield image
    for key in ("auxiliary", "assets"):
        yield from (item for item in image.get(key) or [] if item.get("file_name") is not None)


def _shape_of(item: _Item) -> tuple[int, int] | None:
    height, width = item.get("height"), item.get("width")
    return None if height is None or width is None else (height, width)


def _img_from_file(item: _Item, who: str) -> Any:
    """Where a file lies in its image: ``warp_aux_to_img``, by any of its names; some old ones are the other way round."""
    for key in ("warp_aux_to_img", "warp_img_from_asset"):
        if item.get(key) is not None:
            return _to_matrix(item[key], f"{who}: {key}")
    for key in _LEGACY_MAPS:
        if item.get(key) is not None:
            return np.linalg.inv(_to_matrix(item[key], f"{who}: {key}"))
    return np.eye(3)


def _to_matrix(transform: Any, who: str) -> Any:
    """A 3x3 matrix, from a matrix, or a dictionary of one or of an affine's parameters.

    Raises:
        PathInfoError: it is none that can be inverted.
    """
    if transform is None:
        return np.eye(3)
    try:
        if isinstance(transform, Mapping) and transform.get("matrix") is None:
            import kwimage

            transform = kwimage.Affine.coerce(dict(transform)).matrix
        elif isinstance(transform, Mapping):
            transform = transform["matrix"]
        matrix = np.eye(3) if transform is None else np.array(getattr(transform, "matrix", transform), np.float64)
    except (TypeError, ValueError, KeyError) as error:
        raise PathInfoError(f"{who} is no affine transform: {shorten(transform)}") from error
    if matrix.shape == (2, 3):
        matrix = np.vstack([matrix, [0, 0, 1]])
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not abs(np.linalg.det(matrix)) > 0:
        raise PathInfoError(f"{who} is no affine 3x3 matrix that can be inverted: {shorten(transform)}")
    return matrix
