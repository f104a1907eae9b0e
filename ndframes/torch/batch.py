"""Batch: images in one tensor, and targets of any length packed into few tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..errors import PatchError, shorten

if TYPE_CHECKING:
    from ..feed.patch import Patch

__all__ = ["Batch", "Column", "Sample", "Samples", "to_dtype"]


class Sample(tuple):  # type: ignore[type-arg]
    """``(image, target)``, as torchvision's detectors take it, and the patch that it was read from.

    Attributes:
        patch: the patch.
    """

    patch: Patch

    def __new__(cls, image: torch.Tensor, target: Any, patch: Patch) -> Sample:
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


class Column(NamedTuple):
    """The values of one key of the targets, those of one sample after those of the other.

    Attributes:
        values: one tensor ``(sum of the counts, ...)``; ``(n,)`` if each sample has one value without axes.
        counts: how many rows of it belong to each sample; ``None`` if each has one value.
        shapes: of each sample, where they differ in more than their number of rows, such as masks of patches of different
            shapes. The values are then packed flat. ``None`` otherwise.
    """

    values: Any
    counts: list[int] | None = None
    shapes: list[tuple[int, ...]] | None = None

    def split(self) -> Sequence[torch.Tensor]:
        """The values of each sample: views."""
        if self.counts is None:
            parts: Sequence[torch.Tensor] = self.values.unbind()
            return parts
        parts = torch.split(self.values, self.counts)
        if self.shapes is None:
            return parts
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of a loader. It unpacks to ``images, targets``.

    Attributes:
        images: ``(n, c, h, w)``, of clips ``(n, t, c, h, w)``; a list where shapes or dtypes differ.
        patches: where the images come from; empty unless all samples say it.
        more: by key, what dictionaries have besides the image, and ``"label"``, the second part of pairs ``(image, label)``.
            Numbers, arrays and tensors are one tensor ``(n, ...)`` if their shapes are equal. Anything else is a list with the
            value of each sample. A batch of clips has ``pts``, ``mask`` and ``clip`` here.
    """

    images: torch.Tensor | list[torch.Tensor]
    patches: list[Patch] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    # A tensor costs a file descriptor on its way from a worker process, so each key of the targets is one tensor.
    _columns: dict[Any, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def targets(self) -> list[dict[str, torch.Tensor]]:
        """The target of each sample: views of one tensor for each key. Empty dictionaries if samples are no pairs with a target.

        So the ``pts`` and ``mask`` of clips are not here, but in :attr:`more`.
        """
        parts = {key: column.split() for key, column in self._columns.items()}
        return [{key: part[number] for key, part in parts.items()} for number in range(len(self))]

    def __iter__(self) -> Iterator[Any]:
        """Unpack to ``images, targets``; other values are in :attr:`more`."""
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
        columns = {key: column._replace(values=change(column.values)) for key, column in self._columns.items()}
        return replace(self, images=images, more=more, _columns=columns)

    def __repr__(self) -> str:
        shape = tuple(self.images.shape) if isinstance(self.images, torch.Tensor) else f"{len(self.images)} images"
        return f"<Batch: {shape}, targets with {list(self._columns)}>"


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
