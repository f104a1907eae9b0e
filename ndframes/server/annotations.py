"""Annotations: those of a COCO dataset as JSON, with where each of its images is in the frames of a service."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnsupportedError
from ..frames.coco import CocoFrames, to_matrix
from .catalogue import check_parameters, to_count, to_limit
from .names import is_video

if TYPE_CHECKING:
    from ..frames.frames import Frames
    from .names import Names

__all__ = ["Annotations"]
_MOST_LISTED = 10_000


class Annotations:
    """The annotations of some frames, if these are those of a dataset.

    Args:
        frames: the images.
        names: their names.
    """

    def __init__(self, frames: Frames, names: Names) -> None:
        self._frames = frames
        self._names = names

    def select(self, query: Mapping[str, str]) -> Callable[[], dict[str, Any]]:
        """Some of the annotations: a function that lists them.

        Args:
            query: ``id``, the name of an image, without which all annotations are listed; ``start``, the number of the first
                one, and ``limit``.

        Raises:
            UnsupportedError: the frames are not those of a dataset.
            RegionError: a parameter is not allowed.
            ImageIdError: there is no such image.
        """
        check_parameters(query, ("id", "start", "limit"))
        start = to_count("start", query.get("start", "0"))
        limit = to_limit(query.get("limit"), _MOST_LISTED)
        dataset = getattr(self._frames, "dataset", None)
        if not isinstance(dataset, Mapping):
            raise UnsupportedError("these images have no annotations; serve a COCO or kwcoco dataset")
        listed = slice(start, start + limit)
        if "id" not in query:
            return partial(_list, dataset, dataset.get("annotations") or [], listed)
        return partial(self._list_those_of, dataset, self._names.find(query["id"]), listed)

    def _list_those_of(self, dataset: Mapping[str, Any], image_id: Hashable, listed: slice) -> dict[str, Any]:
        members = self._members(dataset, image_id)
        wanted = {image["id"] for image in members}
        annots = [annot for annot in dataset.get("annotations") or [] if annot.get("image_id") in wanted]
        return {**_list(dataset, annots, listed), "placements": self._place(image_id, members)}

    def _members(self, dataset: Mapping[str, Any], image_id: Any) -> list[Mapping[str, Any]]:
        """The images that an item consists of: one, or all of a video."""
        images: list[Mapping[str, Any]] = dataset.get("images") or []
        if is_video(image_id):
            return [image for image in images if image.get("video_id") == image_id[1]]
        return [image for image in images if image["id"] == image_id]

    def _place(self, image_id: Any, members: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Of each image, the number of its frame and the matrix from its pixels to those of the frame, ``null`` for the identity.

        Files that are read on grids of their own have no common place.
        """
        space = self._frames.space if isinstance(self._frames, CocoFrames) else "image"
        if space == "asset" and not is_video(image_id):
            return []
        is_warped = space == "video" or is_video(image_id)
        frame_ids = self._frames.image(image_id).frame_ids if is_video(image_id) else [image_id]
        numbers = {frame_id: number for number, frame_id in enumerate(frame_ids)}
        return [
            {
                "image_id": image["id"],
                "t": numbers.get(image["id"]),
                "matrix": _warp(image) if is_warped else None,
            }
            for image in members
        ]


def _warp(image: Mapping[str, Any]) -> list[list[float]] | None:
    """The matrix from an image to its video; ``None`` if there is none."""
    if image.get("video_id") is None or image.get("warp_img_to_vid") is None:
        return None
    rows: list[list[float]] = np.asarray(to_matrix(image["warp_img_to_vid"], "warp_img_to_vid"), float).tolist()
    return rows


def _list(dataset: Mapping[str, Any], annots: list[Any], listed: slice) -> dict[str, Any]:
    return {
        "categories": _to_plain(dataset.get("categories") or []),
        "annotations": _to_plain(annots[listed]),
        "count": len(annots),
        "start": listed.stop if listed.stop < len(annots) else None,
    }


def _to_plain(value: Any) -> Any:
    """A value as JSON has it: numbers of numpy as numbers, nan and infinities as texts, other objects as their text."""
    if isinstance(value, Mapping):
        return {str(name): _to_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_to_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
