"""Records: detections and images as a COCO dataset."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PatchError, shorten
from ..spec.kinds import is_video_path
from ..spec.pathinfo import ChannelInfo, PathInfo, SequenceInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._typing import Array

__all__ = ["LabelNames", "make_annotations", "make_categories", "make_image"]
#: The name of each label: by its number, or as a mapping.
LabelNames = Sequence[str] | Mapping[Any, str]


def make_image(info: PathInfo, time: int | None, shape: tuple[int, int], number: int) -> dict[str, Any]:
    """The record of an image, or of one frame of a video or sequence, from the description of its files.

    Args:
        info: the description.
        time: the number of the frame; ``None`` for an image.
        shape: ``(height, width)``.
        number: the id of the record.
    """
    name = f"{info.image_id}" if time is None else f"{info.image_id}#{time}"
    record: dict[str, Any] = {"id": number, "name": name, "file_name": None, "height": shape[0], "width": shape[1]}
    if time is not None:
        if isinstance(info, SequenceInfo):
            info = info.images[time]
        else:
            record["frame_index"] = time + (info.frame_range or (0,))[0]
    own = _find_own(info)
    auxiliary = []
    for position, channel in enumerate(info.channels):
        fields = _describe(channel)
        if channel.page is not None and is_video_path(channel.path):
            record["frame_index"] = channel.page
        if position == own:
            record.update(fields)
        else:
            auxiliary.append({**fields, "warp_aux_to_img": {"type": "affine", "matrix": channel.matrix.tolist()}})
    if auxiliary:
        record["auxiliary"] = auxiliary
    return record


def _find_own(info: PathInfo) -> int | None:
    """The position of the file that is the image itself: read by default, on its grid."""
    if len(info.channels) == 1:
        return 0 if info.channels[0].is_aligned else None
    if info.default_file is not None:
        return info.default_file if info.channels[info.default_file].is_aligned else None
    codes = [channel.channels if channel.is_aligned else None for channel in info.channels]
    return codes.index(info.default) if info.default is not None and info.default in codes else None


def _describe(channel: ChannelInfo) -> dict[str, Any]:
    """The entries of a file."""
    fields: dict[str, Any] = {"file_name": channel.path}
    if channel.channels is not None:
        fields["channels"] = "|".join(channel.channels)
    if channel.shape is not None:
        fields["height"], fields["width"] = channel.shape
    if channel.nodata is not None:
        fields["nodata"] = channel.nodata
    if channel.quantization is not None:
        fields["quantization"] = dict(channel.quantization)
    return fields


def make_categories(labels: Iterable[Any], names: LabelNames | None) -> tuple[list[dict[str, Any]], dict[Any, int]]:
    """The records of categories, and the id of each label.

    Args:
        labels: those that occur.
        names: of all labels; ``None``: a text is its own name, a number ``n`` gets ``"class_n"``.

    Raises:
        PatchError: a label has no name, or is neither a number nor a text.
    """
    found = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
    if names is None:
        named = {label: label if isinstance(label, str) else f"class_{_to_number(label)}" for label in found}
    else:
        listed = names if isinstance(names, Mapping) else dict(enumerate(names))
        unknown = [label for label in found if label not in listed and label not in listed.values()]
        if unknown:
            raise PatchError(
                f"the model returned the labels {shorten(unknown)}, which have no name in names={shorten(names)}"
            )
        # A model may return the names themselves.
        named = {**listed, **{label: label for label in found if label not in listed}}
    ids: dict[Any, int] = {}
    by_name: dict[str, int] = {}
    taken = {label for label in named if not isinstance(label, str)}
    for label, name in named.items():
        if name not in by_name:
            # A number stays what it is, so that results compare with the model's.
            free = next(number for number in range(1, len(named) + 2) if number not in taken)
            by_name[name] = int(label) if not isinstance(label, str) else free
            taken.add(by_name[name])
        ids[label] = by_name[name]
    return [{"id": number, "name": name} for name, number in sorted(by_name.items(), key=lambda item: item[1])], ids


def _to_number(label: Any) -> int:
    try:
        number = int(label)
    except (TypeError, ValueError):
        number = -1
    if number != label or number < 0:
        raise PatchError(f"the model returned the label {shorten(label)}; labels are numbers from 0, or names")
    return number


def make_annotations(
    merged: Mapping[str, Array], image_number: int, shape: tuple[int, int], first: int
) -> tuple[list[dict[str, Any]], list[Hashable]]:
    """The records of the boxes of one image, and the label of each.

    Args:
        merged: the result of :func:`merge_detections`.
        image_number: the id of the image's record.
        shape: ``(height, width)`` of the image; boxes are cut at its edges, and those outside are left out.
        first: the id of the first record.
    """
    limits = np.array([shape[1], shape[0]] * 2)
    boxes = np.clip(merged["boxes"], 0, limits)
    is_inside = (merged["boxes"][:, :2] < limits[:2]).all(axis=1) & (merged["boxes"][:, 2:] > 0).all(axis=1)
    extra = {name: column for name, column in merged.items() if name not in ("boxes", "scores", "labels")}
    records: list[dict[str, Any]] = []
    labels: list[Hashable] = []
    for box in np.flatnonzero(is_inside).tolist():
        x0, y0, x1, y1 = boxes[box].tolist()
        records.append(
            {
                "id": first + len(records),
                "image_id": image_number,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": float(merged["scores"][box]),
                **{name: _to_plain(column[box]) for name, column in extra.items()},
            }
        )
        labels.append(_to_plain(merged["labels"][box]))
    return records, labels


def _to_plain(value: Any) -> Any:
    """A value that JSON can hold, from one of numpy."""
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
