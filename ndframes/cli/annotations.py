"""The annotations of one image of a COCO dataset, as marks on a picture of it."""

from __future__ import annotations

import math
import operator
from collections.abc import (
    Hashable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .common import CommandError

if TYPE_CHECKING:
    from ..pixels.drawing import Colour, Mark

__all__ = ["Annotation", "find_annotations", "to_marks"]
_Point = tuple[float, float]
_Ring = tuple[_Point, ...]
_MOST_MASK_PIXELS = 2**28


@dataclass(frozen=True, slots=True)
class Annotation:
    """What an annotation says, in points (x, y) of its image, pixel corners.

    Attributes:
        category: its name; ``""`` where it has none.
        colour: that of the category.
        box: ``(left, top, right, bottom)``.
        polygons: each a ring, then its holes.
        points: its keypoints, the ones that are there.
    """

    category: str
    colour: Colour
    box: tuple[float, float, float, float] | None
    polygons: tuple[tuple[_Ring, ...], ...]
    points: tuple[_Point, ...]


def find_annotations(dataset: Mapping[str, Any], image_id: Hashable) -> list[Annotation]:
    """Those of an image, in the dataset's order.

    Raises:
        CommandError: one of them is not formed as COCO or kwcoco say.
    """
    from ..pixels.drawing import palette_colour

    names = {item.get("id"): str(item.get("name", item.get("id"))) for item in dataset.get("categories") or []}
    numbers = {category_id: number for number, category_id in enumerate(names)}
    found = []
    for item in dataset.get("annotations") or []:
        if item.get("image_id") != image_id:
            continue
        category_id = item.get("category_id")
        try:
            found.append(
                Annotation(
                    names.get(category_id, ""),
                    palette_colour(numbers.get(category_id, len(names))),
                    _read_box(item.get("bbox")),
                    tuple(_read_polygons(item.get("segmentation"))),
                    tuple(_read_points(item.get("keypoints"))),
                )
            )
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise CommandError(
                f"annotation {item.get('id')!r} of image {image_id!r} is not as COCO says: {error}"
            ) from error
    return found


def to_marks(annotations: Iterable[Annotation], region: tuple[range, range], scale: float) -> list[Mark]:
    """They on a picture of a region.

    Args:
        annotations: of the image.
        region: its rows and columns.
        scale: the picture's size over the region's.
    """
    from ..pixels.drawing import Mark

    top, left = region[0].start, region[1].start

    def move(ring: Sequence[_Point]) -> _Ring:
        return tuple(((x - left) * scale, (y - top) * scale) for x, y in ring)

    marks = []
    for item in annotations:
        corners = () if item.box is None else move((item.box[:2], item.box[2:]))
        polygons = tuple(tuple(map(move, rings)) for rings in item.polygons)
        box = (*corners[0], *corners[1]) if corners else None
        marks.append(Mark(item.colour, item.category, box, polygons, move(item.points)))
    return marks


def _read_box(bbox: Any) -> tuple[float, float, float, float] | None:
    """``[x, y, width, height]``."""
    if not bbox:
        return None
    left, top, width, height = _finite(bbox)
    return left, top, left + width, top + height


def _read_polygons(segmentation: Any) -> Iterator[tuple[_Ring, ...]]:
    """Lists of numbers, one or many; kwcoco's dictionaries of an exterior and interiors; run lengths."""
    if not segmentation:
        return
    if isinstance(segmentation, Mapping):
        yield from _read_polygons(_from_mask(segmentation) if "counts" in segmentation else [segmentation])
    elif isinstance(segmentation[0], Mapping):
        for part in segmentation:
            yield _to_ring(part["exterior"]), *map(_to_ring, part.get("interiors") or ())
    elif isinstance(segmentation[0], (list, tuple)):
        for part in segmentation:
            yield (_to_ring(part),)
    else:
        yield (_to_ring(segmentation),)


def _from_mask(segmentation: Mapping[str, Any]) -> Any:
    """The outlines of a mask that is given by its runs, column by column."""
    import kwimage

    height, width = map(operator.index, segmentation["size"])
    counts = segmentation["counts"]
    runs = _unpack_runs(counts) if isinstance(counts, str) else list(map(operator.index, counts))
    if min(height, width, *runs) < 0 or sum(runs) != height * width:
        raise ValueError(f"runs of {sum(runs):,} pixels in all, for a mask of {height:,} x {width:,}")
    if sum(runs) > _MOST_MASK_PIXELS:
        raise ValueError(f"a mask of {height:,} x {width:,} pixels, which is too large to draw; give its polygons")
    mask = kwimage.Mask.coerce({"size": [height, width], "counts": runs})
    return mask.to_multi_polygon().to_coco(style="new")


def _unpack_runs(text: str) -> list[int]:
    """Runs as pycocotools packs them: 5 bits a letter, low ones first, from the third on less the last but one."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{letter!r} in runs of a mask")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def _read_points(keypoints: Any) -> Iterator[_Point]:
    """``[x, y, visibility, ...]``, or kwcoco's dictionaries; those that are not labelled are left out."""
    if not keypoints:
        return
    if isinstance(keypoints[0], Mapping):
        for point in keypoints:
            if point.get("visible", 2):
                x, y = _finite(point["xy"])
                yield x, y
        return
    numbers = _finite(keypoints)
    if len(numbers) % 3:
        raise ValueError(f"{len(numbers)} numbers of keypoints, which come in threes")
    for x, y, visibility in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        if visibility:
            yield x, y


def _to_ring(points: Any) -> _Ring:
    """``[x, y, x, y, ...]`` or ``[[x, y], ...]``."""
    if points and isinstance(points[0], (list, tuple)):
        return tuple((x, y) for x, y in map(_finite, points))
    numbers = _finite(points)
    if len(numbers) % 2:
        raise ValueError(f"a polygon of {len(numbers)} numbers, which come in pairs")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _finite(numbers: Any) -> list[float]:
    found = [float(number) for number in numbers]
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{found} are not all finite numbers")
    return found
