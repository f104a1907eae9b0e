"""VideoFrames: which image of a COCO dataset is which frame of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PatchError, UnsupportedError, shorten
from ..frames.coco import to_matrix

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from ..frames.coco import CocoFrames

__all__ = ["VideoFrames"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class VideoFrames:
    """The images of each video, in the order of their frames.

    Attributes:
        numbers: for each id of a video, ``("video", id)`` or its name, the numbers of its images.
        warped: the numbers of the images that are warped into their video.
        is_video_space: whether images are read on the grid of their video, too.
    """

    numbers: Mapping[Hashable, _Ints]
    warped: frozenset[int]
    is_video_space: bool

    @classmethod
    def of(cls, frames: CocoFrames) -> VideoFrames:
        """Those of a dataset.

        Raises:
            PathInfoError: the ``warp_img_to_vid`` of an image is not an affine transform.
        """
        dataset = frames.dataset
        images = dataset["images"]
        members: dict[Hashable, list[int]] = {video["id"]: [] for video in dataset.get("videos") or []}
        warped = []
        for number, image in enumerate(images if members else ()):
            if image.get("video_id") in members:
                members[image["video_id"]].append(number)
                warp = image.get("warp_img_to_vid")
                if warp is not None and not np.array_equal(to_matrix(warp, "warp_img_to_vid"), np.eye(3)):
                    warped.append(number)
        found: dict[Hashable, _Ints] = {}
        for video in dataset.get("videos") or []:
            # As CocoFrames sorts them.
            order = sorted(members[video["id"]], key=lambda number: images[number].get("frame_index") or 0)
            found["video", video["id"]] = np.array(order, np.int64)
            if video.get("name") is not None:
                found[video["name"]] = found["video", video["id"]]
        return cls(found, frozenset(warped), frames.space == "video")

    def find(self, video_id: Hashable, time: slice | int) -> int | None:
        """The number of the image that is a frame of a video; ``None`` if there is no such video.

        Raises:
            PatchError: there is no such frame, or it is not one frame.
            UnsupportedError: the frame is warped into its video.
        """
        numbers = self.numbers.get(video_id)
        if numbers is None:
            return None
        if isinstance(time, slice):
            raise UnsupportedError(
                f"a patch of the frames {time} has several sets of annotations; ask for those of each frame by an integer"
            )
        if not -len(numbers) <= time < len(numbers):
            raise PatchError(
                f"video {shorten(video_id)} has no frame {time}; its {len(numbers):,} images are its frames"
            )
        number = int(numbers[time])
        self.check_unwarped(number)
        return number

    def check_unwarped(self, number: int) -> None:
        """Check that the annotations of an image are on the grid of its video.

        Raises:
            UnsupportedError: they are not.
        """
        if number in self.warped:
            raise UnsupportedError(
                "its warp_img_to_vid moves it on the grid of its video, but annotations are on its own grid; take patches of "
                "images with space='image'"
            )
