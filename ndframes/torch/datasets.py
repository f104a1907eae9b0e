"""Datasets of patches, for the stock DataLoader and for PatchLoader."""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from ..feed.annotations import AnnotationTable, annotations
from ..feed.order import mix
from ..feed.reading import load_patches
from ..frames.coco import CocoFrames
from .collate import Sample, Samples, to_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._typing import Array
    from ..feed.masks import MaskForm
    from ..feed.patch import Patch
    from ..feed.patches import Patches
    from ..frames.frames import Frames

__all__ = ["DetectionPatches", "PatchDataset", "PatchSamples"]
_S = TypeVar("_S")
# Tells the generators of transforms from the draws of the patches.
_TRANSFORM = 0x7472616E73


class PatchSamples(Dataset[_S], Generic[_S]):
    """Patches as samples of a training loop: what all datasets of this package share.

    The index ``epoch * len(dataset) + i`` is item ``i`` of an epoch, so that a worker process that lives for several epochs
    needs no message; :class:`~ndframes.torch.Sampler` makes such indices. A ``DataLoader`` asks for whole batches, which are
    read by one call. No ``worker_init_fn`` is needed.
    """

    def __init__(
        self,
        frames: Frames,
        patches: Patches,
        *,
        channels: str | Sequence[str] | None = None,
        transform: Callable[[Any, np.random.Generator], Any] | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        self.frames, self.patches = frames, patches
        self.transform = transform
        self._channels = channels
        self._dtype = to_dtype(dtype)
        # The seeds of the patches are part of it: other patches get other augmentations.
        self._key = int(patches.fingerprint[:16], 16)

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: SupportsIndex) -> _S:
        return self.__getitems__([operator.index(index)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[_S]:
        """The samples of a batch, whose patches are read by one call."""
        places = [self._locate(index) for index in indices]
        patches = [self.patches.at(item, epoch=epoch) for epoch, item in places]
        images = self.to_images(load_patches(self.frames, patches, self._channels))
        samples: Any = Samples(
            [self.make_sample(image, patch) for image, patch in zip(images, patches, strict=True)],
            images if isinstance(images, torch.Tensor) else None,
        )
        if self.transform is None:
            return samples  # type: ignore[no-any-return]
        return [
            self._transformed(sample, *place, patch)
            for sample, place, patch in zip(samples, places, patches, strict=True)
        ]

    @abstractmethod
    def make_sample(self, image: torch.Tensor, patch: Patch) -> _S:
        """The sample of an image ``(c, h, w)`` and the patch that it shows."""

    def to_images(self, arrays: Array | list[Array]) -> torch.Tensor | list[torch.Tensor]:
        """Arrays ``(n, h, w, c)`` as tensors ``(n, c, h, w)`` in ``channels_last`` memory, without a copy."""
        if isinstance(arrays, list):
            return [self._to_tensor(array).permute(2, 0, 1) for array in arrays]
        return self._to_tensor(arrays).movedim(-1, -3)

    def generator(self, epoch: int, item: int) -> np.random.Generator:
        """The random generator of an item: a function of the patches, the epoch and the item alone."""
        return np.random.Generator(np.random.Philox(key=mix(_TRANSFORM, self._key, epoch, item)))

    def _to_tensor(self, array: Array) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self._dtype is None else tensor.to(self._dtype)

    def _locate(self, index: int) -> tuple[int, int]:
        """``(epoch, item)`` of an index."""
        if index < 0:
            raise IndexError(f"index {index}; indices of a dataset are counted from 0")
        return divmod(index, len(self.patches))

    def _transformed(self, sample: _S, epoch: int, item: int, patch: Patch) -> Any:
        assert self.transform is not None  # noqa: S101
        found = self.transform(sample, self.generator(epoch, item))
        # A new pair loses the patch, which collate wants.
        return Sample(*found, patch) if type(found) is tuple and len(found) == 2 else found


class PatchDataset(PatchSamples[dict[str, Any]]):
    """Patches as dictionaries with the keys ``"image"``, a tensor ``(c, h, w)``, and ``"patch"``, the :class:`Patch`.

    Args:
        frames: the images.
        patches: which regions are read, in which order.
        channels: as for :meth:`ndframes.Frames.load_region`.
        transform: called with a sample and a ``numpy.random.Generator``, returns a sample. The generator depends on the
            patches, the epoch and the item only, so that a resumed run sees the same augmentations.
        dtype: of the tensors; values are cast, not scaled. ``None``: that of the frames.
        with_patch: whether samples have the key ``"patch"``; without it torch's own collation works, too.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.feed import GridPatches
        >>> frames = nf.SimpleFrames.demo(backend=None)
        >>> dataset = PatchDataset(frames, GridPatches(frames, 64, image_ids=["coffee"]))
        >>> len(dataset), dataset[3]["image"].shape, dataset[3]["patch"].region
        (70, torch.Size([3, 64, 64]), (slice(0, 64, None), slice(192, 256, None)))
    """

    def __init__(
        self,
        frames: Frames,
        patches: Patches,
        *,
        channels: str | Sequence[str] | None = None,
        transform: Callable[[dict[str, Any], np.random.Generator], Any] | None = None,
        dtype: str | torch.dtype | None = None,
        with_patch: bool = True,
    ) -> None:
        super().__init__(frames, patches, channels=channels, transform=transform, dtype=dtype)
        self._with_patch = with_patch

    def make_sample(self, image: torch.Tensor, patch: Patch) -> dict[str, Any]:
        """``{"image": image, "patch": patch}``."""
        return {"image": image, "patch": patch} if self._with_patch else {"image": image}


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

    def __init__(
        self,
        coco: Any,
        patches: Patches,
        *,
        channels: str | Sequence[str] | None = None,
        masks: MaskForm | None = None,
        keypoints: bool = False,
        min_visibility: float = 0.25,
        tv_tensors: bool = False,
        transform: Callable[[Sample, np.random.Generator], Any] | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        frames = coco if isinstance(coco, CocoFrames) else CocoFrames(coco)
        super().__init__(frames, patches, channels=channels, transform=transform, dtype=dtype)
        self._table = AnnotationTable.of(coco)
        self.names = self._table.names
        self._options = {"masks": masks, "keypoints": keypoints, "min_visibility": min_visibility}
        self._tv_tensors = tv_tensors

    def make_sample(self, image: torch.Tensor, patch: Patch) -> Sample:
        """``(image, target)``."""
        found = annotations(self._table, patch, **self._options)
        target = {key: torch.from_numpy(found[key]) for key in ("boxes", "labels", "area", "iscrowd")}
        target["image_id"] = torch.tensor(self._table.image_number(patch.image_id))
        if "masks" in found:
            target["masks"] = torch.from_numpy(found["masks"].astype(np.uint8))
        if "keypoints" in found:
            target["keypoints"] = torch.from_numpy(found["keypoints"])
        return Sample(*(_to_tv_tensors(image, target) if self._tv_tensors else (image, target)), patch)


def _to_tv_tensors(image: torch.Tensor, target: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
    from torchvision import tv_tensors  # not a dependency: its build must fit torch's

    canvas = image.shape[-2:]
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=canvas)  # type: ignore[call-overload]
    more = {"masks": tv_tensors.Mask(target["masks"])} if "masks" in target else {}
    return tv_tensors.Image(image), {**target, "boxes": boxes, **more}
