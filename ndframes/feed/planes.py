"""Planes: patches grouped by what they are cut from, an image or one frame of a video."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import PatchError, naming_image, shorten
from ..frames.frames import check_frames
from .patch import Patch

if TYPE_CHECKING:
    from ..frames.frames import Frames

__all__ = ["Plane", "group_by_plane"]


@dataclass(frozen=True, slots=True)
class Plane:
    """Patches of one image, or of one frame of a video or sequence.

    Attributes:
        image_id: the image or video.
        time: the number of the frame; ``None`` for an image.
        shape: ``(height, width)``.
        patches: in the order in which they came.
    """

    image_id: Hashable
    time: int | None
    shape: tuple[int, int]
    patches: list[Patch]

    @property
    def key(self) -> Hashable:
        """The image id; ``(image_id, time)`` for a frame."""
        return self.image_id if self.time is None else (self.image_id, self.time)


def check_patch(patch: object) -> None:
    """Check that an item is a patch.

    Raises:
        PatchError: it is something else.
    """
    if not isinstance(patch, Patch):
        raise PatchError(f"{shorten(patch)} is not a Patch; give GridPatches or a list of Patch objects")


def key_of(patch: Patch) -> tuple[Hashable, int | None]:
    """The image id and the time of a patch.

    Raises:
        PatchError: it is a window in time.
    """
    time = patch.region[0] if len(patch.region) == 3 else None
    if isinstance(time, slice):
        with naming_image(patch.image_id):
            raise PatchError(
                f"patch {patch.index} spans frames {time.start} to {time.stop}; give patches of single frames"
            )
    return patch.image_id, time


def group_by_plane(
    frames: Frames, patches: Iterable[Patch], image_id: Hashable = None
) -> dict[tuple[Hashable, int | None], Plane]:
    """Group patches by their planes. Repeated ones, which fill up the share of a rank, are left out.

    Args:
        frames: the images, for the extents of those that patches do not give.
        patches: in any order; a sequence is read from its beginning, and its state does not change.
        image_id: of this image only; ``None``: all.

    Raises:
        PatchError: an item is not a patch, a window in time, or there are none.
        NdframesError: as :meth:`ndframes.Frames.extents`.
    """
    check_frames(frames)
    # By index, because iterating Patches counts them as delivered.
    items: Iterable[Any] = (patches[n] for n in range(len(patches))) if isinstance(patches, Sequence) else patches
    planes: dict[tuple[Hashable, int | None], Plane] = {}
    for patch in items:
        check_patch(patch)
        if patch.is_repeat or image_id not in (None, patch.image_id):
            continue
        key = key_of(patch)
        if key not in planes:
            height, width = patch.image_shape or frames.extents(patch.image_id)[-2:]
            planes[key] = Plane(*key, (height, width), [])
        plane = planes[key]
        if patch.image_shape is None:
            patch = replace(patch, image_shape=plane.shape)  # noqa: PLW2901 - the same patch, better described
        plane.patches.append(patch)
    if not planes:
        of_image = "" if image_id is None else f" of image {shorten(image_id)}"
        raise PatchError(f"there are no patches{of_image}; give at least one")
    return planes
