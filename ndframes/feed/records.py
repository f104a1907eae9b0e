"""Records: reading the annotations of a COCO dataset into columns, with errors that name what is wrong."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..errors import NdframesError, PatchError, name_image, shorten
from ..frames.coco import CocoFrames
from .columns import BoxColumns, Ids, KeypointColumns, SegmentColumns
from .masks import decode_counts
from .windows import name_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Source", "open_frames", "read_attributes", "read_boxes", "read_keypoints", "read_segments"]
_Record = Mapping[str, Any]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_BACKGROUND = "background"
_NO_BOX = (np.nan,) * 4


def open_frames(coco: Any) -> CocoFrames:
    """``coco`` itself if it is a :class:`~ndframes.CocoFrames`, otherwise frames over it.

    Raises:
        PathInfoError: it is not a dataset.
    """
    return coco if isinstance(coco, CocoFrames) else CocoFrames(coco, backend=None)


class Source:
    """The records of a dataset, annotations sorted by image.

    Attributes:
        frames: over the dataset.
        name: of the dataset, for messages.
        images: the records of the images.
        annots: the records of the annotations, sorted by image.
        image_numbers: for each annotation the number of its image.

    Raises:
        PatchError: an annotation names no image of the dataset, or has no id.
    """

    def __init__(self, frames: CocoFrames) -> None:
        self.frames = frames
        self.name = name_dataset(frames)
        self.images: Sequence[_Record] = frames.dataset["images"]
        annots: list[_Record] = list(frames.dataset.get("annotations") or [])
        numbers = {image["id"]: number for number, image in enumerate(self.images)}
        found = [numbers.get(annot.get("image_id"), -1) for annot in annots]
        for annot, number in zip(annots, found, strict=True):
            if number < 0 or annot.get("id") is None:
                what = "id" if number >= 0 else "image"
                raise PatchError(
                    f"{self.name}: annotation {shorten(annot.get('id'))} has the {what} "
                    f"{shorten(annot.get('image_id' if number < 0 else 'id'))}, which does not exist; correct or remove it"
                )
        order = np.argsort(np.array(found, np.int64), kind="stable")
        self.annots = [annots[number] for number in order.tolist()]
        self.image_numbers: _Ints = np.array(found, np.int64)[order]

    def fail(self, number: int, message: str, *, count: int = 1) -> NoReturn:
        """Raise a :class:`PatchError` that names an annotation and its image.

        Args:
            number: of the annotation.
            message: what is wrong with it, and what to do.
            count: the number of annotations with this fault.
        """
        annot = self.annots[number]
        others = f" ({count - 1:,} other annotations have such a fault)" if count > 1 else ""
        error = PatchError(f"annotation {shorten(annot['id'])} of {self.name}: {message}{others}")
        name_image(error, annot["image_id"])
        raise error

    def check(self, is_bad: Any, describe: Callable[[int], str]) -> None:
        """Raise an error for the first annotation that is bad."""
        bad = np.flatnonzero(is_bad)
        if len(bad):
            self.fail(int(bad[0]), describe(int(bad[0])), count=len(bad))


# -- boxes ---------------------------------------------------------------------------------------------------------


def read_boxes(source: Source, segments: SegmentColumns) -> BoxColumns:
    """The boxes of all annotations.

    Raises:
        PatchError: a box or a category is not valid, an image has no size, or there are no images.
    """
    if not source.images:
        raise PatchError(f"{source.name} has no images; give a dataset with at least one")
    heights, widths = _sizes_of(source)
    boxes = _boxes_of(source, segments, heights, widths)
    names, category_ids, labels = _labels_of(source)
    annots = source.annots
    areas = np.array([_to_number(annot.get("area")) for annot in annots], np.float64)
    source.check(areas < 0, lambda n: f"its area is {annots[n]['area']}; give an area from 0, or none")
    sizes = (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])
    return BoxColumns(
        dataset=source.name,
        image_ids=Ids(image["id"] for image in source.images),
        heights=heights,
        widths=widths,
        image_stops=np.searchsorted(source.image_numbers, np.arange(len(source.images) + 1)).astype(np.int64),
        boxes=boxes,
        labels=labels,
        crowds=np.array([bool(annot.get("iscrowd")) for annot in annots], np.bool_),
        areas=np.where(np.isnan(areas), sizes, areas),
        annot_ids=Ids(annot["id"] for annot in annots),
        names=names,
        category_ids=category_ids,
    )


def _sizes_of(source: Source) -> tuple[_Ints, _Ints]:
    """The heights and widths of all images; files are opened only where they are not described."""
    sizes = np.zeros((2, len(source.images)), np.int64)
    for number, image in enumerate(source.images):
        size: Any = (image.get("height"), image.get("width"))
        if None in size:
            size = _read_size(source, image)
        try:
            sizes[:, number] = size
        except (TypeError, ValueError, OverflowError):
            sizes[:, number] = 0
        if sizes[:, number].min() < 1:
            error = PatchError(
                f"{source.name}: its height and width are {shorten(image.get('height'))} and "
                f"{shorten(image.get('width'))}; give numbers of pixels above 0"
            )
            name_image(error, image["id"])
            raise error
    return sizes[0], sizes[1]


def _read_size(source: Source, image: _Record) -> tuple[int, int]:
    try:
        height, width = source.frames.extents(image["id"])[-2:]
    except NdframesError as error:
        named = PatchError(
            f"{source.name}: it has no height and width, and its file cannot be read; add them to the image: {error}"
        )
        name_image(named, image["id"])
        raise named from error
    return height, width


def _boxes_of(source: Source, segments: SegmentColumns, heights: _Ints, widths: _Ints) -> _Floats:
    annots = source.annots
    given = [annot.get("bbox") for annot in annots]
    try:
        boxes = np.array([_NO_BOX if box is None else box for box in given], np.float64).reshape(len(annots), 4)
    except (TypeError, ValueError):
        boxes = np.array([_to_box(source, number, box) for number, box in enumerate(given)], np.float64)
    has_none = np.array([box is None for box in given], np.bool_)

    def show(number: int) -> str:
        return f"its bbox is {shorten(given[number])}"

    remedy = "give [x, y, width, height] with a width and height from 0, in pixels of the image"
    source.check(~has_none & ~np.isfinite(boxes).all(axis=1), lambda n: f"{show(n)}, which is not finite; {remedy}")
    source.check((boxes[:, 2:] < 0).any(axis=1), lambda n: f"{show(n)}, which is inverted; {remedy}")
    boxes[:, 2:] += boxes[:, :2]
    image_heights, image_widths = heights[source.image_numbers], widths[source.image_numbers]
    if has_none.any():
        boxes[has_none] = segments.bounds(image_heights)[:, has_none].T
    source.check(
        ~np.isfinite(boxes).all(axis=1),
        lambda _: "it has neither a bbox nor a segmentation; give it a bbox, or remove it",
    )
    x0, y0, x1, y1 = boxes.T
    # A box of no width on the border of its image is allowed, as it is inside.
    is_outside = (x1 < 0) | (y1 < 0) | (x0 > image_widths) | (y0 > image_heights)
    is_outside |= ((x1 <= 0) | (x0 >= image_widths)) & (x0 < x1) | ((y1 <= 0) | (y0 >= image_heights)) & (y0 < y1)
    source.check(
        is_outside,
        lambda n: (
            f"{show(n)}, which lies outside of its image of {image_heights[n]:,} x {image_widths[n]:,} px (height x width); "
            "correct the bbox or the size of the image, or remove the annotation"
        ),
    )
    inside = np.stack([x0, y0, x1, y1])
    np.clip(inside[::2], 0, image_widths, out=inside[::2])
    np.clip(inside[1::2], 0, image_heights, out=inside[1::2])
    return inside


def _to_box(source: Source, number: int, box: Any) -> Any:
    if box is None:
        return _NO_BOX
    try:
        values = np.array(box, np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.shape != (4,):
        source.fail(number, f"its bbox is {shorten(box)}; give four numbers [x, y, width, height]")
    return values


def _labels_of(source: Source) -> tuple[tuple[str, ...], tuple[Hashable, ...], _Ints]:
    """The names and ids of the categories by label, and the labels of all annotations."""
    names, ids = [_BACKGROUND], [None]
    labels: dict[Hashable, int] = {}
    for category in source.frames.dataset.get("categories") or []:
        # In kwcoco a category of this name stands for the absence of all others.
        if category.get("name") == _BACKGROUND:
            ids[0], labels[category["id"]] = category["id"], 0
            continue
        labels[category["id"]] = len(names)
        names.append(str(category.get("name", category["id"])))
        ids.append(category["id"])
    found = np.array([labels.get(annot.get("category_id"), -1) for annot in source.annots], np.int64)
    source.check(
        found < 0,
        lambda n: (
            f"its category_id is {shorten(source.annots[n].get('category_id'))}; the categories of the dataset are "
            f"{shorten(list(labels))}; add the category, or correct the annotation"
        ),
    )
    return tuple(names), tuple(ids), found


def _to_number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float, np.number)) else np.nan


# -- segmentations -------------------------------------------------------------------------------------------------


def read_segments(source: Source) -> SegmentColumns:
    """The polygons and run-length codes of all annotations.

    Raises:
        PatchError: a segmentation is not valid.
    """
    reader = _SegmentReader(source)
    for number, annot in enumerate(source.annots):
        segment = annot.get("segmentation")
        if segment is not None and not (isinstance(segment, Sequence) and not segment):
            try:
                reader.add(number, segment)
            except (TypeError, ValueError, KeyError, AttributeError) as error:
                source.fail(
                    number,
                    f"its segmentation is not valid: {error}; give polygons [[x, y, x, y, ...], ...], or a run-length code "
                    "{'size': [height, width], 'counts': ...} of the image's size",
                )
        reader.end()
    return reader.finish()


class _SegmentReader:
    """Collects the segmentations of annotations in order."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._points, self._codes = array("d"), [np.zeros(0, np.uint32)]
        self._point_stops, self._parts = array("q", [0]), array("q")
        self._ring_stops, self._count_stops = array("q", [0]), array("q", [0])
        self._part = self._count = 0

    def add(self, number: int, segment: Any) -> None:
        """Add a segmentation in any of the forms of COCO and kwcoco."""
        if isinstance(segment, Mapping):
            if "counts" in segment:
                self._add_code(number, segment)
                return
            segment = [segment]
        elif isinstance(segment[0], (int, float, np.number)):
            segment = [segment]  # a flat list of numbers is one ring
        for polygon in segment:
            if isinstance(polygon, Mapping):
                for ring in (polygon["exterior"], *(polygon.get("interiors") or ())):
                    self._add_ring([value for point in ring for value in point])
            else:
                self._add_ring(polygon)
            self._part += 1

    def _add_ring(self, values: Any) -> None:
        if len(values) % 2:
            raise ValueError(f"a polygon has {len(values)} coordinates, which is not an even number")
        # Fewer than three corners hold no pixel. Some tools write such rings.
        if len(values) >= 6:
            self._points.extend(values)
            self._point_stops.append(len(self._points) // 2)
            self._parts.append(self._part)

    def _add_code(self, number: int, segment: _Record) -> None:
        image = self._source.images[self._source.image_numbers[number]]
        size, counts = list(segment["size"]), segment["counts"]
        if size != [image.get("height") or size[0], image.get("width") or size[1]]:
            raise ValueError(
                f"the run-length code has the size {shorten(size)}, its image "
                f"{shorten([image.get('height'), image.get('width')])} (height, width)"
            )
        found = decode_counts(counts) if isinstance(counts, (str, bytes)) else np.array(counts, np.int64)
        if found.ndim != 1 or (found < 0).any() or found.sum() != size[0] * size[1]:
            raise ValueError(
                f"the run-length code describes {found.sum():,} pixels of an image of {size[0]:,} x {size[1]:,}"
            )
        self._codes.append(found.astype(np.uint32))
        self._count += len(found)

    def end(self) -> None:
        """End an annotation."""
        self._ring_stops.append(len(self._parts))
        self._count_stops.append(self._count)

    def finish(self) -> SegmentColumns:
        """The columns.

        Raises:
            PatchError: a coordinate is not finite.
        """
        ring_stops = np.array(self._ring_stops, np.int64)
        point_stops = np.array(self._point_stops, np.int64)
        points = np.array(self._points, np.float64).reshape(-1, 2)
        bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
        if len(bad):
            ring = int(np.searchsorted(point_stops, bad[0], side="right")) - 1
            number = int(np.searchsorted(ring_stops, ring, side="right")) - 1
            self._source.fail(number, "a coordinate of its segmentation is not finite; give numbers")
        counts = np.concatenate(self._codes)
        count_stops = np.array(self._count_stops, np.int64)
        return SegmentColumns(ring_stops, point_stops, np.array(self._parts, np.int64), points, count_stops, counts)


# -- keypoints -----------------------------------------------------------------------------------------------------


def read_keypoints(source: Source) -> KeypointColumns:
    """The keypoints of all annotations, in COCO's form or kwcoco's.

    Raises:
        PatchError: keypoints are not valid.
    """
    dataset = source.frames.dataset
    named = dataset.get("keypoint_categories") or []
    places = {record.get("id"): place for place, record in enumerate(named)}
    places_by_name = {record.get("name"): place for place, record in enumerate(named)}
    own_names = {item["id"]: item.get("keypoints") or () for item in dataset.get("categories") or []}
    names = {str(item.get("name", item["id"])): item.get("keypoints") or () for item in dataset.get("categories") or []}
    rows = np.full(len(source.annots), -1, np.int64)
    found: list[_Floats] = []
    for number, annot in enumerate(source.annots):
        given = annot.get("keypoints")
        if not given:
            continue
        try:
            own = {name: place for place, name in enumerate(own_names.get(annot.get("category_id"), ()))}
            points = _to_points(given, places, places_by_name or own)
        except (TypeError, ValueError, KeyError) as error:
            source.fail(
                number, f"its keypoints are not valid: {error!r}; give [x, y, visibility, ...] with finite numbers"
            )
        rows[number] = len(found)
        found.append(points)
    width = max((len(points) for points in found), default=max(map(len, names.values()), default=0))
    values = np.zeros((len(found), width, 3))
    for row, points in enumerate(found):
        values[row, : len(points)] = points
    return KeypointColumns(rows, values, names)


def _to_points(given: Any, places: Mapping[Any, int], places_by_name: Mapping[Any, int]) -> _Floats:
    if not isinstance(given[0], Mapping):
        points = np.array(given, np.float64).reshape(-1, 3)
    else:
        points = np.zeros((max(len(places), len(places_by_name)) or len(given), 3))
        for number, record in enumerate(given):
            points[_place_of(record, number, places, places_by_name)] = *record["xy"], record.get("visible", 2)
    if not np.isfinite(points).all():
        raise ValueError(f"they are not finite: {shorten(points.tolist())}")
    return points


def _place_of(
    record: Mapping[str, Any], number: int, places: Mapping[Any, int], places_by_name: Mapping[Any, int]
) -> int:
    """The place of a keypoint of kwcoco's form: by the id of its category, by its name, or in the order of the list."""
    if places and "keypoint_category_id" in record:
        return places[record["keypoint_category_id"]]
    if places_by_name and "keypoint_category" in record:
        return places_by_name[record["keypoint_category"]]
    if places:
        raise KeyError("keypoint_category_id")
    return number


def read_attributes(source: Source, name: str) -> Iterable[Any]:
    """For each annotation the value of an attribute of it, its image or its video; ``None`` where all lack it."""
    videos = {video["id"]: video for video in source.frames.dataset.get("videos") or []}
    for annot, number in zip(source.annots, source.image_numbers.tolist(), strict=True):
        image = source.images[number]
        for record in (annot, image, videos.get(image.get("video_id")) or {}):
            if record.get(name) is not None:
                yield record[name]
                break
        else:
            yield None
