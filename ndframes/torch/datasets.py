"""Datasets of patches, for the stock DataLoader and for PatchLoader."""

from __future__ import annotations

import operator
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, SupportsIndex, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import PatchError, RegionError, shorten
from ..feed.order import mix
from ..feed.patches import Patches
from ..feed.reading import load_patches
from ..feed.windows import name_dataset
from ..frames.frames import check_frames
from .batch import Sample, Samples, to_dtype
from .naming import note_item, note_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .._typing import Array
    from ..feed.patch import Patch
    from ..frames.frames import Frames
    from ..system.serving import Allocate

__all__ = ["PatchDataset", "PatchSamples"]
_S = TypeVar("_S")
# Tells the generators of transforms from the draws of the patches.
_TRANSFORM = 0x7472616E73


class PatchSamples(Dataset[_S], Generic[_S]):
    """Patches as samples of a training loop: what all datasets of this package share.

    The index ``epoch * len(dataset) + i`` is item ``i`` of an epoch, so that a worker process that lives for several epochs
    needs no message; :class:`~ndframes.torch.Sampler` makes such indices. A ``DataLoader`` asks for whole batches, which are
    read by one call. No ``worker_init_fn`` is needed.

    A stock ``DataLoader`` without a ``Sampler`` (``shuffle=True`` alone) delivers the same random patches and augmentations in
    each epoch, because torch's own samplers do not name the epoch. Torch's ``Subset`` and ``ConcatDataset`` do not either.

    Attributes:
        frames: the images.
        patches: which regions are read, in which order.
        transform: changes the samples.
        fingerprint: a digest of everything on which the patches depend.
    """

    #: Whether an index names the epoch, too; told to samplers by the class.
    decodes_epochs: ClassVar[bool] = True

    def __init__(
        self,
        frames: Frames,
        patches: Patches,
        *,
        channels: str | Sequence[str] | None = None,
        transform: Callable[[Any, np.random.Generator], Any] | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        check_frames(frames)
        if not isinstance(patches, Patches):
            raise PatchError(f"patches={shorten(patches)}; give GridPatches, RandomPatches or others of ndframes.feed")
        self.frames, self.patches = frames, patches
        self.transform = transform
        self._channels = channels
        self._dtype = to_dtype(dtype)
        # The seeds of the patches are part of it: other patches get other augmentations.
        self.fingerprint = patches.fingerprint
        self._key = int(self.fingerprint[:16], 16)
        self._check_first(patches.at(0))
        # Shape and dtype of an item of the last batch.
        self._item: tuple[tuple[int, ...], np.dtype[Any]] | None = None

    def _check_first(self, patch: Patch) -> None:
        """Check that a patch is one of these images.

        Raises:
            PatchError: it is not.
        """
        if patch.image_id not in self.frames:
            raise PatchError(
                f"{name_dataset(self.frames)} has no image {shorten(patch.image_id)}, which the first patch shows; give the "
                "frames that the patches were made from"
            )

    def __len__(self) -> int:
        return len(self.patches)

    def __iter__(self) -> Iterator[_S]:
        # Python's own iteration ends at an IndexError, and indices go on with the next epoch.
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: SupportsIndex) -> _S:
        return self.__getitems__([operator.index(index)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[_S]:
        """The samples of a batch, whose patches are read by one call."""
        return self.read(indices)

    def read(self, indices: Sequence[int], allocate: Allocate | None = None) -> list[_S]:
        """As :meth:`__getitems__`, with the pixels in memory of ``allocate``, if their shape can be foreseen."""
        places = [self._locate(index) for index in indices]
        patches = [self.patches.at(item, epoch=epoch) for epoch, item in places]
        images = self.to_images(self._read(places, patches, allocate))
        samples: Any = Samples(
            [self._make(image, *place, patch) for image, place, patch in zip(images, places, patches, strict=True)],
            images if isinstance(images, torch.Tensor) else None,
        )
        if self.transform is None:
            return samples  # type: ignore[no-any-return]
        return [
            self._transformed(sample, *place, patch)
            for sample, place, patch in zip(samples, places, patches, strict=True)
        ]

    def _read(self, places: Sequence[tuple[int, int]], patches: Sequence[Patch], allocate: Allocate | None) -> Any:
        """As :meth:`_load`; an error names the patch that cannot be read."""
        try:
            return self._load(patches, allocate)
        except Exception as failure:
            image_id = getattr(failure, "image_id", None)
            suspects = [
                (place, patch)
                for place, patch in zip(places, patches, strict=True)
                if image_id is None or patch.image_id == image_id
            ]
            if len(suspects) == 1:
                note_item(failure, "reading", *suspects[0][0], suspects[0][1])
                raise
            for place, patch in suspects:
                # One by one, to find the one at fault.
                try:
                    self._load([patch], None)
                except Exception as error:
                    note_item(error, "reading", *place, patch)
                    raise
            note_items(failure, "reading", places)  # only together
            raise

    def _load(self, patches: Sequence[Patch], allocate: Allocate | None) -> Any:
        """Read patches, into new memory or where the caller wants them."""
        # Workers share the cores, and so do the processes of a DataLoader, which is what None means there.
        workers = 1 if allocate is not None and self.frames.threads is None else None
        shapes = {patch.shape for patch in patches}
        if allocate is None or self._item is None or len(shapes) != 1 or shapes != {self._item[0][-3:-1]}:
            pixels = load_patches(self.frames, patches, self._channels, workers=workers)
            # The next batch is probably like it.
            self._item = (pixels.shape[1:], pixels.dtype) if isinstance(pixels, np.ndarray) else None
            return pixels
        shape, dtype = self._item
        try:
            out = allocate((len(patches), *shape), dtype)
            return load_patches(self.frames, patches, self._channels, workers=workers, out=out)
        except RegionError:  # images of this batch have other channels or another dtype
            self._item = None
            return load_patches(self.frames, patches, self._channels, workers=workers)

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

    def _make(self, image: torch.Tensor, epoch: int, item: int, patch: Patch) -> _S:
        try:
            return self.make_sample(image, patch)
        except Exception as error:
            note_item(error, "making the sample of", epoch, item, patch)
            raise

    def _transformed(self, sample: _S, epoch: int, item: int, patch: Patch) -> Any:
        assert self.transform is not None  # noqa: S101
        try:
            found = self.transform(sample, self.generator(epoch, item))
        except Exception as error:
            note_item(error, "transforming", epoch, item, patch)
            raise
        # A new pair loses the patch, which collate wants.
        return Sample(*found, patch) if type(found) is tuple and len(found) == 2 else found


class PatchDataset(PatchSamples[dict[str, Any]]):
    """Patches as dictionaries with the keys ``"image"``, a tensor ``(c, h, w)``, and ``"patch"``, the :class:`Patch`.

    Give a stock ``DataLoader`` a :class:`Sampler`: with ``shuffle=True`` alone, all epochs have the same random patches and
    augmentations. :class:`PatchLoader` needs none.

    Args:
        frames: the images.
        patches: which regions are read, in which order.
        channels: as for :meth:`ndframes.Frames.load_region`.
        transform: called with a sample and a ``numpy.random.Generator``, returns a sample, or anything that :func:`collate`
            takes. The generator depends on the patches, the epoch and the item only, so that a resumed run sees the same
            augmentations.
        dtype: of the tensors; values are cast, not scaled. ``None``: that of the frames.
        with_patch: whether samples have the key ``"patch"``; without it torch's own collation works, too.

    Raises:
        PatchError: the patches are not of these frames, or an argument is not valid.

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
