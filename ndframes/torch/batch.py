"""Batches: images in one tensor, and targets of any length packed into few tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import default_collate

from ..errors import PatchError, shorten

if TYPE_CHECKING:
    from ..feed.patch import Patch

__all__ = ["Batch", "Sample", "Samples", "collate", "to_dtype"]


class Sample(tuple):  # type: ignore[type-arg]
    """``(image, target)``, as torchvision's detectors take it, and the patch that it was read from.

    Attributes:
        patch: the patch.
    """

    patch: Patch

    def __new__(cls, image: torch.Tensor, target: dict[str, Any], patch: Patch) -> Sample:
        """Make the pair; tuples are filled here."""
        self = super().__new__(cls, (image, target))
        self.patch = patch
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Sample, (*self, self.patch)


class Samples(list):  # type: ignore[type-arg]
    """Samples whose images are views of one tensor, so that :func:`collate` need not copy them.

    Attributes:
        images: the images, ``(n, c, h, w)``; ``None`` if a transform replaced them.
    """

    def __init__(self, samples: Sequence[Any] = (), images: torch.Tensor | None = None) -> None:
        super().__init__(samples)
        self.images = images


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of a loader.

    Targets differ in length, and a tensor costs a file descriptor on its way from a worker process. So each key of the targets
    is one tensor, and :attr:`targets` are views of it.

    Attributes:
        images: ``(n, c, h, w)``; a list where shapes differ.
        patches: where the images come from; empty if the samples do not say.
        packed: for each key of the targets their values one after the other.
        counts: how many values of each sample there are, by key.
        shapes: of the values of each sample, for the keys whose values differ in more than their number, such as masks of patches
            of different shapes; they are packed flat.
        more: other values of the samples, by key, as torch collates them.
    """

    images: torch.Tensor | list[torch.Tensor]
    patches: list[Patch] = field(default_factory=list)
    packed: dict[str, torch.Tensor] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)
    shapes: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def targets(self) -> list[dict[str, torch.Tensor]]:
        """The target of each sample: views of the packed tensors."""
        parts: dict[str, Sequence[torch.Tensor]] = {}
        for key, values in self.packed.items():
            parts[key] = torch.split(values, self.counts[key])
            if key in self.shapes:
                parts[key] = [part.view(shape) for part, shape in zip(parts[key], self.shapes[key], strict=True)]
        scalars = {key for key in self.packed if key.startswith(_SCALAR)}
        return [
            {
                key.removeprefix(_SCALAR): part[number][0] if key in scalars else part[number]
                for key, part in parts.items()
            }
            for number in range(len(self))
        ]

    def __iter__(self) -> Iterator[Any]:
        """Unpack to ``images, targets``."""
        yield self.images
        yield self.targets

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory; torch's loader calls this with ``pin_memory=True``."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def to(self, device: Any, *, non_blocking: bool = False) -> Batch:
        """A copy on a device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def _mapped(self, change: Any) -> Batch:
        images = (
            change(self.images) if isinstance(self.images, torch.Tensor) else [change(image) for image in self.images]
        )
        more = {key: change(value) if isinstance(value, torch.Tensor) else value for key, value in self.more.items()}
        return replace(
            self, images=images, packed={key: change(value) for key, value in self.packed.items()}, more=more
        )

    def __repr__(self) -> str:
        shape = tuple(self.images.shape) if isinstance(self.images, torch.Tensor) else f"{len(self.images)} images"
        return f"<Batch: {shape}, targets with {[key.removeprefix(_SCALAR) for key in self.packed]}>"


# Before the key of a target without axes, such as an image id.
_SCALAR = "\0"


def collate(samples: Sequence[Any]) -> Batch:
    """Make a batch of samples; the ``collate_fn`` of a ``torch.utils.data.DataLoader``.

    Args:
        samples: of :class:`PatchDataset`, :class:`ClipDataset` or :class:`DetectionPatches`, or pairs ``(image, target)`` and
            dictionaries with a key ``"image"`` of your own.

    Raises:
        TypeError: a sample has neither form.

    Example:
        >>> image, target = torch.zeros(3, 8, 8), {"boxes": torch.tensor([[0.0, 0, 4, 4]])}
        >>> batch = collate([(image, target), (image, {"boxes": torch.zeros(0, 4)})])
        >>> batch.images.shape, [len(target["boxes"]) for target in batch.targets]
        (torch.Size([2, 3, 8, 8]), [1, 0])
    """
    images = [_image_of(sample) for sample in samples]
    whole = getattr(samples, "images", None)
    batch = Batch(_stack(images) if whole is None else whole, _patches_of(samples))
    if isinstance(samples[0], Mapping):
        keys = [key for key in samples[0] if key not in ("image", "frames", "patch")]
        return replace(batch, more={key: _collate_values([sample[key] for sample in samples]) for key in keys})
    packed, counts, shapes = _pack([sample[1] for sample in samples])
    return replace(batch, packed=packed, counts=counts, shapes=shapes)


def _image_of(sample: Any) -> torch.Tensor:
    image: torch.Tensor
    if isinstance(sample, Mapping) and not {"image", "frames"}.isdisjoint(sample):
        image = sample["image"] if "image" in sample else sample["frames"]
    elif isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[1], Mapping):
        image = sample[0]
    else:
        raise TypeError(
            f"a sample must be a dict with the key 'image' or a pair (image, target), got {type(sample).__name__}; "
            "return one of these from the transform"
        )
    return image


def _patches_of(samples: Sequence[Any]) -> list[Patch]:
    found = [
        sample.get("patch") if isinstance(sample, Mapping) else getattr(sample, "patch", None) for sample in samples
    ]
    return [patch for patch in found if patch is not None]


def _stack(images: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    return torch.stack(images) if len({(image.shape, image.dtype) for image in images}) == 1 else images


def _collate_values(values: list[Any]) -> Any:
    try:
        return default_collate(values)
    except (TypeError, RuntimeError):  # a type that torch does not know, or tensors of different shapes
        return values


_Packed = tuple[dict[str, torch.Tensor], dict[str, list[int]], dict[str, list[tuple[int, ...]]]]


def _pack(targets: list[Mapping[str, Any]]) -> _Packed:
    """For each key one tensor, the number of rows of each target in it, and the shapes where these differ."""
    packed: dict[str, torch.Tensor] = {}
    counts: dict[str, list[int]] = {}
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for key in targets[0]:
        values = [torch.as_tensor(target[key]) for target in targets]
        if not values[0].ndim:
            packed[_SCALAR + key], counts[_SCALAR + key] = torch.stack(values), [1] * len(values)
            continue
        if len({value.shape[1:] for value in values}) > 1:
            shapes[key] = [tuple(value.shape) for value in values]
            values = [value.reshape(-1) for value in values]
        packed[key], counts[key] = torch.cat(values), [len(value) for value in values]
    return packed, counts, shapes


def to_dtype(dtype: Any) -> torch.dtype | None:
    """A torch dtype from itself or its name; ``None`` stays.

    Raises:
        PatchError: it is neither.
    """
    if dtype is None:
        return None
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise PatchError(f"dtype={shorten(dtype)}; give a torch dtype or its name, such as 'float32'")
    return found
