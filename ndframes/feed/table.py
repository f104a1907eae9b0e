"""AnnotationTable: all annotations of a dataset as arrays."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PatchError, naming_image
from .records import Source, open_frames, read_boxes, read_keypoints, read_segments
from .videos import VideoFrames

if TYPE_CHECKING:
    from collections.abc import Hashable

    from .columns import BoxColumns, KeypointColumns, SegmentColumns
    from .patch import Patch

__all__ = ["AnnotationTable", "table_of"]
_Bounds = np.ndarray[Any, np.dtype[Any]]
_MOST_CLASSES_OF_BYTES = 254

# The tables of datasets that were given to annotations(), with the number of images and annotations that they had.
_TABLES: weakref.WeakKeyDictionary[Any, tuple[tuple[int, int], AnnotationTable]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class AnnotationTable:
    """All annotations of a dataset as arrays.

    It is a copy: it does not see later changes of the dataset. Forked workers share it, and it pickles as arrays.

    The labels of classes are 1 to n in the order of the dataset's categories; 0 is the background, as torchvision's detectors
    expect. ``names[label]`` is the name of a class. A category with the name "background" has the label 0.

    A patch may show an annotation by its box, its segmentation or its keypoints, which may reach beyond the box.

    Boxes that reach over the border of their image are cut off there. A box that lies outside of its image, is inverted or is
    not finite is an error. An annotation without a box gets that around its segmentation.

    Args:
        coco: a :class:`~ndframes.CocoFrames`, or what it takes: a ``kwcoco.CocoDataset``, a dictionary or a path.

    Attributes:
        columns: the boxes of all annotations.
        segments: their polygons and run-length codes.
        keypoints: their keypoints.
        bounds: for each annotation the pixels of its box, its segmentation and its labelled keypoints, as rows ``x0, y0, x1, y1``;
            ``columns.boxes`` itself if no annotation reaches beyond its box.
        videos: the images of each video.

    Raises:
        PatchError: an annotation, or the size of an image, is not valid; the message names the dataset, the image and the
            annotation, and says what to do.
        PathInfoError: ``coco`` is not a dataset.

    Example:
        >>> image = {"id": 1, "file_name": "a.png", "height": 100, "width": 100}
        >>> annot = {"id": 5, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40]}
        >>> table = AnnotationTable({"images": [image], "annotations": [annot], "categories": [{"id": 3, "name": "cat"}]})
        >>> len(table), table.names
        (1, ('background', 'cat'))
    """

    columns: BoxColumns
    segments: SegmentColumns
    keypoints: KeypointColumns
    bounds: _Bounds
    videos: VideoFrames

    def __init__(self, coco: Any) -> None:
        source = Source(open_frames(coco))
        segments, keypoints = read_segments(source), read_keypoints(source)
        columns = read_boxes(source, segments)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "segments", segments)
        object.__setattr__(self, "keypoints", keypoints)
        object.__setattr__(self, "bounds", _join_bounds(columns, segments, keypoints))
        object.__setattr__(self, "videos", VideoFrames.of(source.frames))

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes by label; the first is the background."""
        return self.columns.names

    @property
    def category_ids(self) -> tuple[Hashable, ...]:
        """The ids of the categories by label; the first is the background's, or ``None``."""
        return self.columns.category_ids

    @property
    def ignore_index(self) -> int:
        """The value of semantic masks where nothing is to be learned: 255, or -1 if there are more than 254 classes."""
        return 255 if len(self.names) - 1 <= _MOST_CLASSES_OF_BYTES else -1

    def find_image(self, patch: Patch) -> int:
        """The number of the image that a patch shows.

        Raises:
            PatchError: it shows no image of the dataset.
            UnsupportedError: it shows several frames, or one that is warped into its video.
        """
        with naming_image(patch.image_id):
            number = self.columns.image_ids.find(patch.image_id)
            if number is None:
                number = self.videos.find(patch.image_id, patch.region[0])
            elif self.videos.is_video_space:
                self.videos.check_unwarped(number)
            if number is None:
                raise PatchError(f"{self.columns.dataset} has no such image; give the dataset of the patches")
        return number

    def __repr__(self) -> str:
        return (
            f"<AnnotationTable: {len(self):,} annotations of {len(self.names) - 1:,} classes in "
            f"{len(self.columns.image_ids):,} images>"
        )


def _join_bounds(columns: BoxColumns, segments: SegmentColumns, keypoints: KeypointColumns) -> _Bounds:
    images = columns.image_numbers
    heights, widths = columns.heights[images], columns.widths[images]
    boxes = columns.boxes
    parts = boxes, segments.bounds(heights), keypoints.bounds()
    # In whole pixels, as windows are. No part outside of the image is shown.
    lows = np.maximum(np.floor(np.minimum.reduce([part[:2] for part in parts])), 0)
    highs = np.minimum(np.ceil(np.maximum.reduce([part[2:] for part in parts])), [widths, heights])
    if np.array_equal(lows, np.floor(boxes[:2])) and np.array_equal(highs, np.ceil(boxes[2:])):
        return boxes
    return np.concatenate([lows, highs]).astype(np.int32)


def table_of(coco: Any) -> AnnotationTable:
    """The table of a dataset; that of an object is kept as long as the object lives.

    Raises:
        PatchError, PathInfoError: as :class:`AnnotationTable`.
    """
    if isinstance(coco, AnnotationTable):
        return coco
    dataset = getattr(coco, "dataset", None)
    if isinstance(coco, str) or not isinstance(dataset, Mapping):
        return AnnotationTable(coco)
    # Looking at every record would take longer than the rest; additions and removals are what usually happens.
    state = len(dataset.get("images") or ()), len(dataset.get("annotations") or ())
    known = _TABLES.get(coco)
    if known is None or known[0] != state:
        known = _TABLES[coco] = state, AnnotationTable(coco)
    return known[1]
