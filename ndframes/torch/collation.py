"""Collate: make a batch of samples, whose keys and dtypes must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import default_collate

from ..errors import PatchError, shorten
from .batch import Batch, Column

if TYPE_CHECKING:
    from ..feed.patch import Patch

__all__ = ["collate"]
_FORMS = (
    "return a dict with the key 'image', or a pair (image, target) whose target is a dict of tensors, or (image, label) whose "
    "label is a number or a tensor"
)
_LABELS = (bool, int, float, complex, np.number, np.bool_, np.ndarray, torch.Tensor)
# torch makes tensors of these dtypes of Python's numbers.
_PYTHON_DTYPES = {bool: "bool", int: "int64", float: "float64", complex: "complex128"}


def collate(samples: Sequence[Any]) -> Batch:
    """Make a batch of samples; the ``collate_fn`` of a ``torch.utils.data.DataLoader``.

    All samples of a batch must have the same keys, and for each key the same dtype; nothing is left out or cast. Images may
    differ in shape and dtype, and targets in their number of rows.

    Args:
        samples: of :class:`PatchDataset`, :class:`ClipDataset` or :class:`DetectionPatches`, or your own: dictionaries with a
            key ``"image"``, pairs ``(image, target)``, where the target is a dictionary of tensors and numbers, or pairs
            ``(image, label)``, where the label is a number, an array or a tensor and is found in ``batch.more["label"]``.
            Images are tensors.

    Raises:
        TypeError: a sample has none of these forms, an image is not a tensor, or a value of a target is not a number or tensor.
        PatchError: there are no samples, or they differ in their form, their keys, or the dtype of a key.

    Example:
        >>> image, target = torch.zeros(3, 8, 8), {"boxes": torch.tensor([[0.0, 0, 4, 4]])}
        >>> batch = collate([(image, target), (image, {"boxes": torch.zeros(0, 4)})])
        >>> batch.images.shape, [len(target["boxes"]) for target in batch.targets]
        (torch.Size([2, 3, 8, 8]), [1, 0])
        >>> collate([(image, 3), (image, 5)]).more["label"]
        tensor([3, 5])
    """
    if not len(samples):
        raise PatchError("there are no samples to collate; give at least one")
    forms = [_form_of(sample, number) for number, sample in enumerate(samples)]
    for number, form in enumerate(forms):
        if form != forms[0]:
            raise PatchError(
                f"sample {number} is a {form}, but sample 0 a {forms[0]}; give all samples of a batch the same form"
            )
    images = [_image_of(sample, number) for number, sample in enumerate(samples)]
    whole = getattr(samples, "images", None)
    batch = Batch(_stack(images) if whole is None else whole, _patches_of(samples))
    if forms[0] == "pair (image, target)":
        return Batch(batch.images, batch.patches, _columns=_pack([sample[1] for sample in samples]))
    values = samples if forms[0] == "dict" else [{"label": sample[1]} for sample in samples]
    keys = [key for key in _keys_of(values, "") if key not in ("image", "frames", "patch")]
    more = {key: _collate_values(key, [sample[key] for sample in values]) for key in keys}
    return Batch(batch.images, batch.patches, more)


def _form_of(sample: Any, number: int) -> str:
    if isinstance(sample, Mapping):
        if not {"image", "frames"}.isdisjoint(sample):
            return "dict"
        found = f"a dict with the keys {shorten(list(sample))}"
    elif isinstance(sample, tuple) and len(sample) == 2:
        if isinstance(sample[1], Mapping):
            return "pair (image, target)"
        if isinstance(sample[1], _LABELS):
            return "pair (image, label)"
        found = f"a pair whose second part is {_describe(sample[1])}"
    else:
        found = f"{_describe(sample)}"
    raise TypeError(f"sample {number} is {found}; {_FORMS}")


def _image_of(sample: Any, number: int) -> torch.Tensor:
    key: Any = ("image" if "image" in sample else "frames") if isinstance(sample, Mapping) else 0
    image = sample[key]
    if isinstance(image, torch.Tensor):
        return image
    remedy = (
        "use torch.from_numpy(image) of an array (c, h, w)" if isinstance(image, np.ndarray) else "give a torch.Tensor"
    )
    kind = type(image)
    raise TypeError(f"the image of sample {number} is a {kind.__module__}.{kind.__qualname__}; {remedy}")


def _patches_of(samples: Sequence[Any]) -> list[Patch]:
    found = [
        sample.get("patch") if isinstance(sample, Mapping) else getattr(sample, "patch", None) for sample in samples
    ]
    # All or none, so that a patch and its image have the same place.
    return [] if None in found else found  # type: ignore[return-value]


def _stack(images: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    return torch.stack(images) if len({(image.shape, image.dtype) for image in images}) == 1 else images


def _keys_of(values: Sequence[Mapping[Any, Any]], place: str) -> list[Any]:
    """The keys of all of these, in the order of the first."""
    first = values[0]
    for number, value in enumerate(values):
        if value.keys() == first.keys():
            continue
        for key in (*value, *first):
            if (key in value) != (key in first):
                has, lacks = (number, 0) if key in value else (0, number)
                raise PatchError(
                    f"sample {has} has the key {shorten(key)}{place}, which sample {lacks} has not; give all samples of a batch "
                    "the same keys"
                )
    return list(first)


def _check_dtypes(key: Any, dtypes: list[str], place: str) -> None:
    for number, dtype in enumerate(dtypes):
        if dtype != dtypes[0]:
            raise PatchError(
                f"{shorten(key)}{place} is {dtype} in sample {number}, but {dtypes[0]} in sample 0; give all samples of a batch "
                "the same dtype"
            )


def _collate_values(key: Any, values: list[Any]) -> Any:
    dtypes = [_dtype_of(value) for value in values]
    _check_dtypes(key, dtypes, "")
    if not isinstance(values[0], _LABELS) or len({np.shape(value) for value in values}) > 1:
        return values
    try:
        return default_collate(values)
    except (TypeError, RuntimeError):  # arrays of a dtype that torch does not know
        return values


def _dtype_of(value: Any) -> str:
    """The name of the dtype of a number, an array or a tensor; of anything else that of its class."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype).removeprefix("torch.")
    dtype = getattr(value, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind not in "SU":  # whose names have the length of the text
        return str(dtype.name)
    return _PYTHON_DTYPES.get(type(value), type(value).__qualname__)


def _pack(targets: list[Mapping[str, Any]]) -> dict[Any, Column]:
    """One tensor for each key."""
    place = " in its target"
    columns = {}
    for key in _keys_of(targets, place):
        values = [_to_tensor(target[key], key, number) for number, target in enumerate(targets)]
        if len({value.dtype for value in values}) > 1:
            _check_dtypes(key, [_dtype_of(value) for value in values], " of the target")
        if not any(value.ndim for value in values):
            columns[key] = Column(torch.stack(values))
            continue
        shapes = None
        if len({value.shape[1:] for value in values}) > 1 or not all(value.ndim for value in values):
            shapes = [tuple(value.shape) for value in values]
            values = [value.reshape(-1) for value in values]
        columns[key] = Column(torch.cat(values), [len(value) for value in values], shapes)
    return columns


def _to_tensor(value: Any, key: Any, number: int) -> torch.Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{shorten(key)} of the target of sample {number} is {_describe(value)}; targets have tensors and numbers only: "
            "leave it out, or return a dict with the key 'image', whose other values may be anything"
        ) from error


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    name = type(value).__qualname__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
