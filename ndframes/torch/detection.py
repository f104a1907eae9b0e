"""DetectionPatches: patches with their boxes, labels, masks and keypoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import MissingExtraError
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
    from 1, ``area`` ``(n,)`` float32, ``iscrowd`` ``(n,)`` bool, and ``image_id``, an int64 without axes: the id of the image,
    or its place in the dataset if not all ids are integers. On request it has ``masks``, ``(n, h, w)`` uint8 of 0 and 1, or
    ``(h, w)`` of labels as :func:`ndframes.feed.annotations` makes them, and ``keypoints`` ``(n, k, 3)`` float32.

    Give a stock ``DataLoader`` a :class:`Sampler`: with ``shuffle=True`` alone, all epochs have the same random patches and
    augmentations. :class:`PatchLoader` needs none.

    Args:
        coco: a :class:`~ndframes.CocoFrames`, or what it takes.
        patches: which regions are read, in which order.
        channels: as for :meth:`ndframes.Frames.load_region`.
        masks: ``"instance"``: a mask of each box; ``"semantic"``: one of all classes; ``None``: none.
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

    Raises:
        MissingExtraError: ``tv_tensors`` without torchvision.
        PatchError: an annotation is not valid.

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
        ids = self._table.columns.image_ids
        # A tensor holds no other ids.
        self._image_ids = ids.take(np.arange(len(ids)))
        if self._image_ids.dtype == np.object_:
            self._image_ids = np.arange(len(ids))
        self._options: dict[str, Any] = {"masks": masks, "keypoints": keypoints, "min_visibility": min_visibility}
        self._tv_tensors = tv_tensors
        if tv_tensors:
            _import_tv_tensors()

    def make_sample(self, image: torch.Tensor, patch: Patch) -> Sample:
        """``(image, target)``."""
        found = find_annotations(self._table, patch, **self._options)
        target = {key: torch.from_numpy(found[key]) for key in ("boxes", "labels", "area", "iscrowd")}
        target["image_id"] = torch.tensor(int(self._image_ids[self._table.find_image(patch)]))
        if "masks" in found:
            masks = found["masks"]
            target["masks"] = torch.from_numpy(masks.view(np.uint8) if masks.dtype == np.bool_ else masks)
        if "keypoints" in found:
            target["keypoints"] = torch.from_numpy(found["keypoints"])
        if self._tv_tensors:
            image, target = _to_tv_tensors(image, target)
        return Sample(image, target, patch)


def _to_tv_tensors(image: torch.Tensor, target: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
    tv_tensors = _import_tv_tensors()
    canvas = image.shape[-2:]
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=canvas)
    more = {"masks": tv_tensors.Mask(target["masks"])} if "masks" in target else {}
    return tv_tensors.Image(image), {**target, "boxes": boxes, **more}


def _import_tv_tensors() -> Any:
    try:
        from torchvision import tv_tensors  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        # No extra of this package: its build must fit that of torch.
        raise MissingExtraError(
            "tv_tensors=True needs torchvision, in the build for your torch; see https://pytorch.org/get-started",
            name="torchvision",
        ) from error
    return tv_tensors
