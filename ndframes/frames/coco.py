"""CocoFrames: frames over a COCO or kwcoco dataset, whose images have one file or many, in image, video or asset space."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import zipfile
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import (
    ImageIdError,
    PathInfoError,
    SourceError,
    SourceKindError,
    check_choice,
    naming_image,
    shorten,
)
from ..spec.kinds import is_video_path
from ..spec.pathinfo import ChannelInfo, PathInfo, SequenceInfo
from ..system.objects.addresses import is_url
from ..system.stamp import source_error, stat_source
from .frames import Frames

if TYPE_CHECKING:
    from typing import TypeGuard

    from typing_extensions import Unpack

    from ..items.item import LazyImage
    from .options import FramesOptions

__all__ = ["CocoFrames", "Space", "list_files", "make_coco_dataset", "to_matrix"]
#: The grid on which an image is read: its own, its video's, or each file's own.
Space = Literal["image", "video", "asset"]
_Record = Mapping[str, Any]
# The parameters that kwcoco writes. Maps with other parameters are left to kwimage, whose import is slow.
_PARAMETERS = {"type", "scale", "offset", "theta", "shearx"}
_LEGACY_MAPS = ("base_to_aux", "warp_img_to_aux")


class _Description(NamedTuple):
    """The records that describe an item, an image or a video with its images, and the folder of relative file names."""

    folder: str
    image: _Record | None
    video: _Record | None
    images: Sequence[_Record]


class _BuiltInfo(NamedTuple):
    """A :class:`PathInfo`, and the records that it was built from."""

    description: _Description
    info: PathInfo


class CocoFrames(Frames):
    """Frames over a COCO dataset.

    The ids are those of the images. An image consists of all of its files: its ``file_name``, its ``auxiliary`` and its
    ``assets``. Each file is placed by its ``warp_aux_to_img`` and dequantized by its ``quantization``. The images of a video,
    in the order of ``frame_index``, are one item with a time axis in front; its id is ``("video", id)`` or the video's name.

    A file may itself be a video. An image of that file is the frame with the number ``frame_index``; without a ``frame_index``
    it is all frames, with a time axis in front. A video with a ``file_name`` and no images is that file.

    The dataset is not copied: the next read sees every change of it. One change is an exception: after an image's ``video_id``
    was edited without the methods of ``kwcoco.CocoDataset``, the videos change when the dataset's index is built again.

    Args:
        dset: a ``kwcoco.CocoDataset``, a dictionary of that form, or the path of its ``.json`` or ``.zip`` file.
        space: the grid on which images are read. ``"image"``: their own. ``"video"``: their video's, by their
            ``warp_img_to_vid``, if they belong to one. ``"asset"``: each file's own, so that only channels of equal size can be
            read together. Videos are always read in their own space.
        bundle_dpath: the folder of relative file names. ``None``: the dataset's ``bundle_dpath``, otherwise the folder of its
            file, otherwise the current folder.
        **options: as for :class:`Frames`.

    Raises:
        PathInfoError: ``dset`` is not a dataset, or two of its images or videos have the same id.
        SourceError: its file cannot be read.
        ValueError: ``space`` has a value that is not allowed.

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
        self._dataset, self._file_folder = _open_dataset(dset)
        if not isinstance(bundle_dpath, (str, os.PathLike, type(None))):
            raise PathInfoError(f"bundle_dpath={shorten(bundle_dpath)}; give the path of a folder")
        self._bundle_dpath = None if bundle_dpath is None else os.fspath(bundle_dpath)
        self._reset()
        super().__init__(**options)

    # -- the dataset ----------------------------------------------------------------------------------------------

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The dataset's dictionary of images, videos, annotations and categories; not a copy."""
        # Read through the object each time: a CocoDataset may replace its dictionary.
        dataset: Mapping[str, Any] = self._dataset if self._dataset is not None else self.dset.dataset
        return dataset

    @property
    def image_ids(self) -> Sequence[Hashable]:
        """The ids of the images, in the dataset's order."""
        return [record["id"] for record in self._records("images")]

    @property
    def video_ids(self) -> Sequence[Hashable]:
        """The ids of the videos, in the dataset's order. The image id of a video is ``("video", id)``."""
        return [record["id"] for record in self._records("videos")]

    @property
    def bundle_dpath(self) -> Path:
        """The folder of relative file names."""
        return Path(self._folder)

    def pathinfo(self, image_id: Hashable) -> PathInfo:
        """As :meth:`Frames.pathinfo`, but built again after the item's records in the dataset have changed."""
        try:
            description, before = self._describe(image_id), self._built.get(image_id)
        except (KeyError, TypeError) as error:
            raise self._unknown(image_id) from error
        if before is not None and _is_same(before.description, description):
            return before.info
        # Built from a copy: records that change while this runs then differ from the copy, and the next call sees that.
        snapshot = copy.deepcopy(description)
        info = self._complete(self._build(image_id, snapshot))
        if before is not None and before.info == info:
            info = before.info  # the same object: images that are open for it stay open
        self._built[image_id] = _BuiltInfo(snapshot, info)
        return info

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Describe an image by its files, or a video, ``("video", id)`` or its name, by its images."""
        return self._build(image_id, self._describe(image_id))

    def __contains__(self, image_id: object) -> bool:
        try:
            self._resolve(image_id)
        except (KeyError, TypeError):
            return False
        return True

    def _current_image(self, image_id: Hashable) -> LazyImage:
        info = self.pathinfo(image_id)
        image = super()._current_image(image_id)
        if image.pathinfo is not info:  # it was opened before the dataset changed
            self._images.discard(image_id)
            image = super()._current_image(image_id)
        return image

    # -- building -------------------------------------------------------------------------------------------------

    def _build(self, image_id: Hashable, description: _Description) -> PathInfo:
        with naming_image(image_id):
            if description.image is not None:
                return _build_image(image_id, description.image, description, self.space)
            assert description.video is not None  # noqa: S101
            return _build_video(image_id, description.video, description)

    def _describe(self, image_id: Hashable) -> _Description:
        """All records that the :class:`PathInfo` of an item depends on.

        Raises:
            KeyError: there is no such item.
            TypeError: ``image_id`` is not hashable.
            PathInfoError: the video of the image does not exist.
        """
        image, video = self._resolve(image_id)
        if image is None:
            assert video is not None  # noqa: S101
            return _Description(self._folder, None, video, self._images_of(video["id"]))
        video_id = image.get("video_id") if self.space == "video" else None
        if video_id is None:
            return _Description(self._folder, image, None, ())
        try:
            return _Description(self._folder, image, self._find("videos", video_id), ())
        except (KeyError, TypeError) as error:
            with naming_image(image_id):
                raise PathInfoError(
                    f"its video {shorten(video_id)} does not exist; the videos are {shorten(list(self.video_ids))}"
                ) from error

    @property
    def _folder(self) -> str:
        # Looked up at each use: the bundle_dpath of a kwcoco dataset may be assigned later.
        folder = self._bundle_dpath or getattr(self.dset, "bundle_dpath", None) or self._file_folder
        if folder is None and self._dataset is not None:
            folder = self._dataset.get("bundle_dpath")
        return os.path.join(self._working_folder, os.path.expanduser(os.fspath(folder or "")))

    # -- looking up -----------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._built: dict[Hashable, _BuiltInfo] = {}
        self._positions: dict[str, dict[Hashable, int]] = {}

    def _records(self, kind: str) -> Sequence[_Record]:
        records: Sequence[_Record] = self.dataset.get(kind) or []
        return records

    def _resolve(self, item_id: Any) -> tuple[_Record | None, _Record | None]:
        """The image with an id and ``None``, or ``None`` and the video with it.

        Raises:
            KeyError: there is no such item.
            TypeError: ``item_id`` is not hashable.
        """
        # Not _find: for the id of a video it would scan all images each time.
        image = self._find_at_position("images", item_id)
        if image is not None:
            return image, None
        if isinstance(item_id, tuple) and len(item_id) == 2 and item_id[0] == "video":
            return None, self._find("videos", item_id[1])
        if isinstance(item_id, str):
            video = next((video for video in self._records("videos") if video.get("name") == item_id), None)
            if video is not None:
                return None, video
        return self._find("images", item_id), None

    def _find(self, kind: str, item_id: Any) -> _Record:
        """The record of ``"images"`` or ``"videos"`` with an id.

        Raises:
            KeyError: there is no such record.
            TypeError: ``item_id`` is not hashable.
        """
        record = self._find_at_position(kind, item_id)
        if record is None:
            records = self._records(kind)
            # Records were added, removed or moved since the last scan.
            self._positions[kind] = _positions_by_id(records, kind)
            record = records[self._positions[kind][item_id]]
        return record

    def _find_at_position(self, kind: str, item_id: Any) -> _Record | None:
        """The record with an id, if it still has the position that it had when all records were last scanned."""
        records = self._records(kind)
        positions = self._positions.get(kind)
        if positions is None:
            positions = self._positions[kind] = _positions_by_id(records, kind)
        position = positions.get(item_id, -1)
        return records[position] if 0 <= position < len(records) and records[position]["id"] == item_id else None

    def _images_of(self, video_id: Hashable) -> Sequence[_Record]:
        """The images of a video, in any order: by kwcoco's index if it is up to date, otherwise by a scan of all images."""
        records = self._records("images")
        index: Any = getattr(self.dset, "index", None)
        # The index does not see edits of the dictionaries, so each image that it lists is checked.
        if getattr(index, "imgs", None) and len(index.imgs) == len(records):
            images = [self._find_at_position("images", image_id) for image_id in index.vidid_to_gids.get(video_id, ())]
            found = [image for image in images if image is not None and image.get("video_id") == video_id]
            if len(found) == len(images):
                return found
        return [image for image in records if image.get("video_id") == video_id]

    def _unknown(self, image_id: object) -> ImageIdError:
        error = super()._unknown(image_id)
        if isinstance(image_id, tuple) and image_id[:1] == ("video",):
            return ImageIdError(f"no video {shorten(image_id[1:])}; there are {shorten(list(self.video_ids))}")
        return error

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._reset()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # These may be as large as the dataset, and a copy builds its own.
        return {name: value for name, value in state.items() if name not in ("_built", "_positions")}


def _positions_by_id(records: Sequence[_Record], kind: str) -> dict[Hashable, int]:
    """The positions of the records of ``"images"`` or ``"videos"`` by their ids.

    Raises:
        PathInfoError: two of them have the same id.
    """
    positions = {record["id"]: position for position, record in enumerate(records)}
    if len(positions) < len(records):
        counts = Counter(record["id"] for record in records)
        (repeated, count), *others = [item for item in counts.most_common() if item[1] > 1]
        more = f", and so do {shorten([item for item, _ in others])}" if others else ""
        raise PathInfoError(
            f"{kind[:-1]} id {shorten(repeated)} occurs {count:,} times{more}; each id belongs to one {kind[:-1]}"
        )
    return positions


def _build_video(image_id: Hashable, video: _Record, description: _Description) -> PathInfo:
    if description.images:
        images = _sort_by_frame_index(description.images, video["id"])
        infos = [
            _build_image(image["id"], image, description, "video", f"image {shorten(image['id'])}: ")
            for image in images
        ]
        return SequenceInfo.of(image_id, infos, shape=_shape_of(video) or infos[0].shape)
    if video.get("file_name") is None:
        raise PathInfoError(f"video {shorten(video['id'])} has no images and no file_name")
    channel = ChannelInfo(_path_of(video, description.folder, f"video {shorten(video['id'])}: "))
    return PathInfo(image_id, (channel,), shape=_shape_of(video))


def _build_image(
    image_id: Hashable, image: _Record, description: _Description, space: Space, prefix: str = ""
) -> PathInfo:
    """The files of an image; error messages start with ``prefix``."""
    shape, vid_from_img = _shape_of(image), np.eye(3)
    if space == "video":
        shape = _shape_of(description.video or {}) or shape
        vid_from_img = to_matrix(image.get("warp_img_to_vid"), f"{prefix}warp_img_to_vid")
    channels = []
    for record in list_files(image, prefix):
        img_from_src = _img_from_src(record, prefix)
        # The height and width of an image are also those of its own file, unless that file is warped into the image.
        is_warped_own_file = record is image and not np.array_equal(img_from_src, np.eye(3))
        path = _path_of(record, description.folder, prefix)
        channels.append(
            ChannelInfo(
                path,
                page=_frame_of(image, prefix) if is_video_path(path) else None,
                channels=_codes_of(record),
                img_from_src=None if space == "asset" else vid_from_img @ img_from_src,
                shape=None if is_warped_own_file else _shape_of(record),
                nodata=record.get("nodata"),
                quantization=record.get("quantization"),
            )
        )
    if not channels:
        raise PathInfoError(f"{prefix}names no file: file_name, auxiliary and assets are missing or empty")
    has_file = image.get("file_name") is not None
    return PathInfo(
        image_id,
        channels,
        shape=None if space == "asset" else shape,
        # The codes of the image's own file may be known only once it is open; its number stands for them until then.
        default=_codes_of(image) if has_file else None,
        default_file=0 if has_file else None,
        is_native=space == "asset",
    )


def _frame_of(image: _Record, prefix: str) -> int | None:
    """The number of the frame of a video file that is the image; ``None`` for all frames."""
    number = image.get("frame_index")
    if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 0):
        raise PathInfoError(
            f"{prefix}frame_index must be the number of a frame in its video file, got {shorten(number)}"
        )
    return number


def _sort_by_frame_index(images: Sequence[_Record], video_id: object) -> list[_Record]:
    try:
        return sorted(images, key=lambda image: image.get("frame_index") or 0)
    except TypeError as error:
        raise PathInfoError(
            f"video {shorten(video_id)}: the frame_index of an image is not a number: {error}"
        ) from error


def _is_same(before: _Description, now: _Description) -> bool:
    try:
        return before == now
    except Exception:  # noqa: BLE001 - records may contain arrays and any objects, whose == may raise whatever it likes
        return pickle.dumps(before) == pickle.dumps(now)


def _open_dataset(dset: Any) -> tuple[_Record | None, str | None]:
    """The dataset as a dictionary, or ``None`` if ``dset`` is an object that holds it, and the folder of its file."""
    if isinstance(dset, (str, os.PathLike)):
        path = Path(os.path.expanduser(os.fspath(dset)))
        return _read_dataset(path), str(path.absolute().parent)
    if isinstance(dset, Mapping):
        _check_dataset(dset, "the dataset")
        return dset, None
    if isinstance(getattr(dset, "dataset", None), Mapping):
        return None, None
    raise PathInfoError(f"a dataset must be a kwcoco.CocoDataset, a dictionary or a path, got {shorten(dset)}")


def _read_dataset(path: Path) -> _Record:
    try:
        stat_source(str(path))  # opening a FIFO would block
        dataset = json.loads(_read_json(path))
    except SourceKindError as error:
        raise SourceKindError(f"{path} is not a regular file; give the path of a dataset") from error
    except SourceError:
        raise
    except OSError as error:
        raise source_error(str(path), error) from error
    except RecursionError as error:
        raise PathInfoError(
            f"{path} cannot be read as a dataset: its lists or objects are nested too deeply"
        ) from error
    except (ValueError, zipfile.BadZipFile) as error:
        raise PathInfoError(f"{path} cannot be read as a dataset: {error}") from error
    _check_dataset(dataset, str(path))
    checked: _Record = dataset
    return checked


def _read_json(path: Path) -> bytes:
    """The content of a JSON file, or of the only JSON file in a zip archive."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".json")]
        if len(names) != 1:
            raise ValueError(f"the archive holds {len(names)} .json files; give one with a single .json file")
        return archive.read(names[0])


def _check_dataset(dataset: Any, name: str) -> None:
    """Check the images and the videos of a dataset, as far as every read relies on them.

    Raises:
        PathInfoError: they are not lists of dictionaries with ids, or an id occurs twice.
    """
    found = dataset if isinstance(dataset, Mapping) else {}
    for kind, records in (("images", found.get("images")), ("videos", found.get("videos") or [])):
        if not _are_records(records) or not all("id" in item for item in records):
            raise PathInfoError(
                f"{name} is not a COCO dataset: {kind!r} must be a list of dictionaries, each with an 'id'"
            )
        try:
            _positions_by_id(records, kind)
        except TypeError as error:
            raise PathInfoError(
                f"{name} is not a COCO dataset: an id of its {kind} is a list or a dictionary"
            ) from error
        except PathInfoError as error:
            raise PathInfoError(f"{name}: {error}") from error


def _are_records(items: Any) -> TypeGuard[list[_Record]]:
    return isinstance(items, list) and all(isinstance(item, Mapping) for item in items)


def list_files(image: _Record, prefix: str = "") -> Iterator[_Record]:
    """The records of an image's files: the image itself if it has a ``file_name``, then its auxiliary files and assets.

    Raises:
        PathInfoError: the auxiliary files or assets are not a list of dictionaries.
    """
    if image.get("file_name") is not None:
        yield image
    for key in ("auxiliary", "assets"):
        items = image.get(key) or []
        if not _are_records(items):
            raise PathInfoError(f"{prefix}{key} must be a list of dictionaries, got {shorten(items)}")
        yield from (item for item in items if item.get("file_name") is not None)


def _path_of(record: _Record, folder: str, prefix: str) -> str:
    name = record["file_name"]
    if not isinstance(name, (str, os.PathLike)):
        raise PathInfoError(f"{prefix}a file_name must be a str or path-like, got {shorten(name)}")
    # An address stays one: whether it may be read is for sources= to say, and never for the dataset.
    return os.fspath(name) if is_url(name) else os.path.join(folder, os.fspath(name))


def _codes_of(record: _Record) -> Any:
    """The codes of a file's bands for :class:`ChannelInfo`."""
    codes = record.get("channels")
    # Not for objects, which may warn when they are asked for their length.
    return None if isinstance(codes, (str, list, tuple)) and not codes else codes


def _shape_of(record: _Record) -> tuple[int, int] | None:
    height, width = record.get("height"), record.get("width")
    return None if height is None or width is None else (height, width)


def _img_from_src(record: _Record, prefix: str) -> Any:
    """The map from a file's pixels to its image: ``warp_aux_to_img``, or the inverse of its predecessors."""
    for key in ("warp_aux_to_img", "warp_img_from_asset"):
        if record.get(key) is not None:
            return to_matrix(record[key], f"{prefix}{key}")
    for key in _LEGACY_MAPS:
        if record.get(key) is not None:
            inverse = np.linalg.inv(to_matrix(record[key], f"{prefix}{key}"))
            inverse[2] = 0, 0, 1  # rounding of the inversion may have left other values there
            return inverse
    return np.eye(3)


def to_matrix(transform: Any, name: str) -> Any:
    """A 3x3 matrix from a matrix, or from a dictionary with a matrix or with affine parameters.

    Raises:
        PathInfoError: ``transform`` is not an invertible affine map.
    """
    if transform is None:
        return np.eye(3)
    try:
        with np.errstate(invalid="ignore", over="ignore"):  # infinite parameters, which are refused below
            given = (
                transform.get("matrix") if isinstance(transform, Mapping) else getattr(transform, "matrix", transform)
            )
            if given is None:
                given = _compose(transform) if isinstance(transform, Mapping) else np.eye(3)
            matrix = np.array(given, np.float64)
    except (TypeError, ValueError, KeyError) as error:
        raise PathInfoError(f"{name} is not an affine transform: {shorten(transform)}") from error
    if matrix.shape == (2, 3):
        matrix = np.vstack([matrix, [0, 0, 1]])
    if (
        matrix.shape != (3, 3)
        or not np.isfinite(matrix).all()
        or not np.allclose(matrix[2], (0, 0, 1))
        or not abs(np.linalg.det(matrix)) > 0
    ):
        raise PathInfoError(f"{name} is not an invertible affine matrix, 3x3 or 2x3: {shorten(transform)}")
    matrix[2] = 0, 0, 1
    return matrix


def _compose(parameters: Mapping[str, Any]) -> Any:
    """The matrix that scales by ``scale``, then shears by ``shearx``, rotates by ``theta`` and moves by ``offset``."""
    if not parameters.keys() <= _PARAMETERS:
        import kwimage

        return kwimage.Affine.coerce(dict(parameters)).matrix
    if parameters.get("type", "affine") != "affine":
        raise ValueError(parameters["type"])
    scale_x, scale_y = _pair(parameters.get("scale"), 1)
    offset_x, offset_y = _pair(parameters.get("offset"), 0)
    shear, theta = parameters.get("shearx") or 0, parameters.get("theta") or 0
    rotation = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    linear = rotation @ np.array([[1, shear], [0, 1]]) @ np.diag([scale_x, scale_y])
    return np.hstack([linear, [[offset_x], [offset_y]]])


def _pair(value: Any, default: float) -> tuple[float, float]:
    """A value for x and one for y, from one number for both or from two."""
    x, y = np.broadcast_to(np.asarray(default if value is None else value, np.float64), 2).tolist()
    return x, y


def make_coco_dataset(dataset: Mapping[str, Any]) -> Any:
    """A ``kwcoco.CocoDataset`` of a dictionary of that form.

    Example:
        >>> make_coco_dataset({"images": [{"id": 1, "file_name": "a.png"}], "categories": [], "annotations": []}).n_images
        1
    """
    import kwcoco

    return kwcoco.CocoDataset(dict(dataset))
