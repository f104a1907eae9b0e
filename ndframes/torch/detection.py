"""DetectionPatches: patches with their boxes, labels, masks and keypoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..feed.table import table_of
from ..feed.targets import find_annotations
from ..frames.coco import CocoFrames
from .batch import Sample
from .datasets import PatchSamples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..feed.patch import Patch
    from ..feed.patches import Patches
    from ..feed.targets import MaskMode

__all__ = ["DetectionPatches"]


class DetectionPatches(PatchSamples[Sample]):
    """Patches with their boxes, as torchvision's detectors take them: pairs ``(image, target)``.

    A target has the keys ``boxes`` ``(n, 4)`` float32 ``(x0, y0, x1, y1)`` in pixels of the patch, ``labels`` ``(n,)`` int64
    from 1, ``image_id``, ``area`` and ``iscrowd``, and on request ``masks`` ``(n, h, w)`` uint8 and ``keypoints`` ``(n, k, 3)``.

    Args:
        coco: a :class:`~ndframes.CocoFrames`, or what it takes.
        patches: which regions are read, in which order.
        channels: as for :meth:`ndframes.Frames.load_region`.
        masks: ``"instance"``: the target has masks.
        keypoints: whether it has keypoints.
        min_visibility: boxes of which less lies in the patch are left out.
        tv_tensors: whether images, boxes and masks are torchvision's ``tv_tensors``, which its transforms recognize.
        transform: as for :class:`PatchDataset`; a sample is a pair ``(image, target)``.
        dtype: of the images; ``None``: that of the frames.

    Raises:
        PatchError: an annotation is not valid, the patches are not of this dataset, or an argument is not valid.
        UnsupportedError: patches have several frames, whose annotations differ.

    Attributes:
        names: the name of each label; label 0 is the background.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.feed import BoxPatches
        >>> photo = {"id": 1, "file_name": str(nf.demo_paths()["rocket"]), "width": 640, "height": 427}
        >>> box = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [310, 130, 30, 200]}
        >>> coco = {"images": [photo], "annotations": [box], "categories": [{"id": 7, "name": "rocket"}]}
        >>> dataset = DetectionPatches(coco, BoxPatches(coco, (256, 256), 100, positives=1))
        >>> image, target = dataset[0]
        >>> image.shape, target["labels"].tolist(), dataset.names[1]
        (torch.Size([3, 256, 256]), [1], 'rocket')
    """

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        coco: Any,
        patches: Patches,
        *,
        channels: str | Sequence[str] | None = None,
        masks: MaskMode | None = None,
        keypoints: bool = False,
        min_visibility: float = 0.25,
        tv_tensors: bool = False,
        transform: Callable[[Sample, np.random.Generator], Any] | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        frames = coco if isinstance(coco, CocoFrames) else CocoFrames(coco)
        self._table = table_of(frames)  # not of coco, which may be a path and would be read again
        super().__init__(frames, patches, channels=channels, transform=transform, dtype=dtype)
        self._table.find_image(patches.at(0))
        self.names = self._table.names
        self._options: dict[str, Any] = {"masks": masks, "keypoints": keypoints, "min_visibility": min_visibility}
        self._tv_tensors = tv_tensors

    def make_sample(self, image: torch.Tensor, patch: Patch) -> Sample:
        """``(image, target)``."""
        found = find_annotations(self._table, patch, **self._options)
        target = {key: torch.from_numpy(found[key]) for key in ("boxes", "labels", "area", "iscrowd")}
        target["image_id"] = torch.tensor(self._table.find_image(patch))
        if "masks" in found:
            target["masks"] = torch.from_numpy(found["masks"].astype(np.uint8))
        if "keypoints" in found:
            target["keypoints"] = torch.from_numpy(found["keypoints"])
        if self._tv_tensors:
            image, target = _to_tv_tensors(image, target)
        return Sample(image, target, patch)


def _to_tv_tensors(image: torch.Tensor, target: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
    from torchvision import tv_tensors  # type: ignore[import-not-found]  # no dependency: it must fit torch's build

    canvas = image.shape[-2:]
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=canvas)
    more = {"masks": tv_tensors.Mask(target["masks"])} if "masks" in target else {}
    return tv_tensors.Image(image), {**target, "boxes": boxes, **more}
