"""CocoFrames: frames over a COCO or kwcoco dataset, its images made of one file or many, in image, video or asset space."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import zipfile
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import (
    ImageIdError,
    PathInfoError,
    check_choice,
    naming_image,
    shorten,
)
from ..spec.kinds import is_video_path
from ..spec.pathinfo import ChannelInfo, PathInfo, SequenceInfo
from .frames import Frames

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..items.item import LazyImage
    from .options import FramesOptions

__all__ = ["CocoFrames", "Space"]
#: On which grid an image is read: its own, that of its video, or each file's own.
Space = Literal["image", "video", "asset"]
_Item = Mapping[str, Any]
#: What kwcoco writes of an affine map; whatever else there is, kwimage is asked.
_PARAMETERS = {"type", "scale", "offset", "theta", "shearx"}
_LEGACY_MAPS = ("base_to_aux", "warp_img_to_aux")


class _Told(NamedTuple):
    """What a dataset says of an image, or of a video and its images, and the folder that file names start from."""

    folder: str
    image: _Item | None
    video: _Item | None
    images: Sequence[_Item]


class _Known(NamedTuple):
    """What became of what a dataset said."""

    told: _Told
    info: PathInfo


class CocoFrames(Frames):
    """Frames over a COCO dataset.

    The ids are those of the images. Each image is all of its files: its own, its ``auxiliary`` and its ``assets``, each where
    its ``warp_aux_to_img`` puts it, dequantized where it has a ``quantization``. The images of a video, one after the other in
    the order of ``frame_index``, are one item with a time axis in front: ``("video", id)``, or the video's name.

    A file may be a video. An image is then the frame of its ``frame_index``, or, if it has none, all frames, with a time axis in
    front; and so is a video that names a file and has no images.

    The dataset stays the caller's: what is changed there is seen by the next read. Only that an image was moved to another
    video by its ``video_id``, past the methods of a ``kwcoco.CocoDataset``, is not seen before its index is built again.

    Args:
        dset: a ``kwcoco.CocoDataset``, a dictionary of that form, or the path of a ``.json`` or ``.zip`` file of one.
        space: on which grid images are read. ``"image"``: their own; ``"video"``: that of their video, by their
            ``warp_img_to_vid``, if they are in one; ``"asset"``: each file's own, so that only channels of one size go together. Videos are always
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
        self._dataset, self._found_in = _open_dataset(dset)
        self._told_dpath = None if bundle_dpath is None else os.fspath(bundle_dpath)
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
        return Path(self._folder)

    def pathinfo(self, image_id: Hashable) -> PathInfo:
        """As :meth:`Frames.pathinfo`; built again where the dataset says something else than when it was built."""
        try:
            told, known = self._gather(image_id), self._known.get(image_id)
        except (KeyError, TypeError) as error:
            raise self._unknown(image_id) from error
        if known is not None and _is_same(known.told, told):
            return known.info
        snapshot = copy.deepcopy(told)  # from which it is built: what is changed meanwhile is a change
        with naming_image(image_id):
            info = self._build(image_id, snapshot)
        if known is not None and known.info == info:
            info = known.info  # what was changed is none of a reader's business
        self._known[image_id] = _Known(snapshot, info)
        return info

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """An image's files; or, of ``("video", id)`` or a video's name, its images."""
        return self._build(image_id, self._gather(image_id))

    def __contains__(self, image_id: object) -> bool:
        try:
            self._resolve(image_id)
        except (KeyError, TypeError):
            return False
        return True

    def _current_image(self, image_id: Hashable) -> LazyImage:
        info = self.pathinfo(image_id)
        image = super()._current_image(image_id)
        if image.pathinfo is not info:  # it is of what the dataset said before
            self._images.discard(image_id)
            image = super()._current_image(image_id)
        return image

    # -- building -------------------------------------------------------------------------------------------------

    def _build(self, image_id: Hashable, told: _Told) -> PathInfo:
        if told.image is not None:
            return _build_image(image_id, told.image, told, self.space)
        assert told.video is not None  # noqa: S101
        if not told.images and told.video.get("file_name") is not None:
            channel = ChannelInfo(_path_of(told.video, told.folder, f"video {told.video['id']!r}"))
            return PathInfo(image_id, (channel,), shape=_shape_of(told.video))
        if not told.images:
            raise PathInfoError(f"video {told.video['id']!r} has no images, and names no file")
        images = _in_order(told.images, told.video["id"])
        infos = [_build_image(image["id"], image, told, "video") for image in images]
        return SequenceInfo.of(image_id, infos, shape=_shape_of(told.video) or infos[0].shape)

    def _gather(self, image_id: Hashable) -> _Told:
        """All that an item's :class:`PathInfo` is made of.

        Raises:
            KeyError: there is no such item.
            TypeError: it is no id.
            PathInfoError: the video of the image is not there.
        """
        image, video = self._resolve(image_id)
        if image is None:
            assert video is not None  # noqa: S101
            return _Told(self._folder, None, video, self._images_of(video["id"]))
        video_id = image.get("video_id") if self.space == "video" else None
        if video_id is None:
            return _Told(self._folder, image, None, ())
        try:
            return _Told(self._folder, image, self._find("videos", video_id), ())
        except (KeyError, TypeError) as error:
            known = shorten(list(self.video_ids))
            raise PathInfoError(
                f"image {image_id!r} is of video {shorten(video_id)}, which is not there; there are {known}"
            ) from error

    @property
    def _folder(self) -> str:
        told = self._told_dpath or getattr(self.dset, "bundle_dpath", None) or self._found_in
        if told is None and self._dataset is not None:
            told = self._dataset.get("bundle_dpath")
        return os.fspath(told or ".")

    # -- looking up -----------------------------------------------------------------------------------------------

    def _start_unread(self) -> None:
        self._known: dict[Hashable, _Known] = {}
        self._places: dict[str, dict[Hashable, int]] = {}

    def _items(self, kind: str) -> Sequence[_Item]:
        dataset = self._dataset if self._dataset is not None else self.dset.dataset
        items: Sequence[_Item] = dataset.get(kind) or []
        return items

    def _resolve(self, item_id: Any) -> tuple[_Item | None, _Item | None]:
        """The image of that id, or else the video.

        Raises:
            KeyError: there is none.
            TypeError: it is no id.
        """
        image = self._find_where_it_was("images", item_id)
        if image is not None:
            return image, None
        if isinstance(item_id, tuple) and len(item_id) == 2 and item_id[0] == "video":
            return None, self._find("videos", item_id[1])
        if isinstance(item_id, str):
            video = next((video for video in self._items("videos") if video.get("name") == item_id), None)
            if video is not None:
                return None, video
        return self._find("images", item_id), None

    def _find(self, kind: str, item_id: Any) -> _Item:
        """The image or video of that id.

        Raises:
            KeyError: there is none.
            TypeError: it is no id.
        """
        item = self._find_where_it_was(kind, item_id)
        if item is None:
            items = self._items(kind)
            self._places[kind] = {item["id"]: number for number, item in enumerate(items)}
            item = items[self._places[kind][item_id]]
        return item

    def _find_where_it_was(self, kind: str, item_id: Any) -> _Item | None:
        """The image or video of that id, if it is where it was when all were last looked through."""
        items = self._items(kind)
        places = self._places.get(kind)
        if places is None:
            places = self._places[kind] = {item["id"]: number for number, item in enumerate(items)}
        place = places.get(item_id, -1)
        return items[place] if 0 <= place < len(items) and items[place]["id"] == item_id else None

    def _images_of(self, video_id: Hashable) -> Sequence[_Item]:
        """The images of a video, in any order: as kwcoco's index knows them, or all are looked through."""
        items = self._items("images")
        index: Any = getattr(self.dset, "index", None)
        if getattr(index, "imgs", None) and len(index.imgs) == len(items):
            images = [self._find_where_it_was("images", image_id) for image_id in index.vidid_to_gids.get(video_id, ())]
            found = [image for image in images if image is not None and image.get("video_id") == video_id]
            if len(found) == len(images):
                return found
        return [image for image in items if image.get("video_id") == video_id]

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
        return {name: value for name, value in state.items() if name not in ("_known", "_places")}


def _build_image(image_id: Hashable, image: _Item, told: _Told, space: Space) -> PathInfo:
    who = f"image {image_id!r}"
    shape, vid_from_img = _shape_of(image), np.eye(3)
    if space == "video":
        shape = _shape_of(told.video or {}) or shape
        vid_from_img = _to_matrix(image.get("warp_img_to_vid"), f"{who}: warp_img_to_vid")
    channels = []
    for item in _files_of(image):
        img_from_file = _img_from_file(item, who)
        is_moved_base = item is image and not np.array_equal(
            img_from_file, np.eye(3)
        )  # so the image's size is not its own
        path = _path_of(item, told.folder, who)
        channels.append(
            ChannelInfo(
                path,
                page=_frame_of(image, who) if is_video_path(path) else None,
                channels=_codes_of(item),
                img_from_src=None if space == "asset" else vid_from_img @ img_from_file,
                shape=None if is_moved_base else _shape_of(item),
                nodata=item.get("nodata"),
                quantization=item.get("quantization"),
            )
        )
    if not channels:
        raise PathInfoError(f"{who} names no file: it has no file_name, auxiliary or assets")
    has_file = image.get("file_name") is not None
    return PathInfo(
        image_id,
        channels,
        shape=None if space == "asset" else shape,
        default=_codes_of(image) if has_file else None,
        default_file=0 if has_file else None,
        is_native=space == "asset",
    )


def _frame_of(image: _Item, who: str) -> int | None:
    """Which frame of its video file an image is; ``None``: all of them."""
    number = image.get("frame_index")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 0):
        raise PathInfoError(
            f"{who}: frame_index must be the number of a frame in its video file, got {shorten(number)}"
        )
    return number


def _in_order(images: Sequence[_Item], video_id: object) -> list[_Item]:
    try:
        return sorted(images, key=lambda image: image.get("frame_index") or 0)
    except TypeError as error:
        raise PathInfoError(f"video {video_id!r}: the frame_index of an image is no number: {error}") from error


def _is_same(before: _Told, now: _Told) -> bool:
    try:
        return before == now
    except Exception:  # noqa: BLE001 - arrays and other people's objects in it, which do not say whether they are equal
        return pickle.dumps(before) == pickle.dumps(now)


def _open_dataset(dset: Any) -> tuple[_Item | None, str | None]:
    """The dataset as a dictionary, ``None`` where an object holds it, and the folder of its file."""
    if isinstance(dset, (str, os.PathLike)):
        path = Path(os.fspath(dset))
        return _read_dataset(path), str(path.absolute().parent)
    if isinstance(dset, Mapping):
        _check_dataset(dset, "the dataset")
        return dset, None
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


def _path_of(item: _Item, folder: str, who: str) -> str:
    name = item["file_name"]
    if not isinstance(name, (str, os.PathLike)):
        raise PathInfoError(f"{who}: a file_name must be a str or path-like, got {shorten(name)}")
    return os.path.join(folder, os.fspath(name))


def _codes_of(item: _Item) -> Any:
    """The codes of a file's bands, as :class:`ChannelInfo` takes them; streams of kwcoco follow each other."""
    codes = getattr(item.get("channels"), "spec", item.get("channels"))
    return codes.replace(",", "|") if isinstance(codes, str) and codes else codes or None


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
            inverse = np.linalg.inv(_to_matrix(item[key], f"{who}: {key}"))
            inverse[2] = 0, 0, 1
            return inverse
    return np.eye(3)


def _to_matrix(transform: Any, who: str) -> Any:
    """A 3x3 matrix, from a matrix, or a dictionary of one or of an affine's parameters.

    Raises:
        PathInfoError: it is none that can be inverted.
    """
    if transform is None:
        return np.eye(3)
    try:
        given = transform.get("matrix") if isinstance(transform, Mapping) else getattr(transform, "matrix", transform)
        if given is None:
            given = _compose(transform) if isinstance(transform, Mapping) else np.eye(3)
        matrix = np.array(given, np.float64)
    except (TypeError, ValueError, KeyError) as error:
        raise PathInfoError(f"{who} is no affine transform: {shorten(transform)}") from error
    if matrix.shape == (2, 3):
        matrix = np.vstack([matrix, [0, 0, 1]])
    if (
        matrix.shape != (3, 3)
        or not np.isfinite(matrix).all()
        or not np.allclose(matrix[2], (0, 0, 1))
        or not abs(np.linalg.det(matrix)) > 0
    ):
        raise PathInfoError(f"{who} is no affine 3x3 matrix that can be inverted: {shorten(transform)}")
    matrix[2] = 0, 0, 1
    return matrix


def _compose(parameters: Mapping[str, Any]) -> Any:
    """The matrix of an affine map that is told by ``scale``, then ``shearx``, then ``theta``, then ``offset``, each if it is there."""
    if not parameters.keys() <= _PARAMETERS:
        import kwimage

        return kwimage.Affine.coerce(dict(parameters)).matrix
    if parameters.get("type", "affine") != "affine":
        raise ValueError(parameters["type"])
    scale_x, scale_y = _pair(parameters.get("scale"), 1)
    offset_x, offset_y = _pair(parameters.get("offset"), 0)
    shear, theta = parameters.get("shearx") or 0, parameters.get("theta") or 0
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    linear = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([scale_x, scale_y])
    return np.hstack([linear, [[offset_x], [offset_y]]])


def _pair(value: Any, default: float) -> tuple[float, float]:
    """A value per axis, x first, of one for both or two."""
    x, y = np.broadcast_to(np.asarray(default if value is None else value, np.float64), 2).tolist()
    return x, y
