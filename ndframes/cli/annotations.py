"""The annotations of an image of a COCO dataset, as marks to draw."""

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

__all__ = ["Annotation", "find_annotations", "name_categories", "to_marks"]
_Point = tuple[float, float]
_Ring = tuple[_Point, ...]
_MOST_MASK_PIXELS = 2**28


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation, in points ``(x, y)`` of its image; ``(0, 0)`` is the corner of the first pixel.

    Attributes:
        category: the name of the category; ``""`` without one.
        colour: the colour of the category.
        box: ``(left, top, right, bottom)``.
        polygons: for each polygon, the exterior ring and its holes.
        points: the labelled keypoints.
    """

    category: str
    colour: Colour
    box: tuple[float, float, float, float] | None
    polygons: tuple[tuple[_Ring, ...], ...]
    points: tuple[_Point, ...]


def name_categories(dataset: Mapping[str, Any]) -> dict[Hashable, str]:
    """The names of the categories by their ids.

    Raises:
        CommandError: an id is a list or an object.
    """
    try:
        return {item.get("id"): str(item.get("name", item.get("id"))) for item in dataset.get("categories") or []}
    except TypeError as error:
        raise CommandError("the id of a category is a list or an object; give a number or a text") from error


def find_annotations(dataset: Mapping[str, Any], image_id: Hashable) -> list[Annotation]:
    """Read the annotations of an image, in the order of the dataset.

    Raises:
        CommandError: an annotation has neither the form of COCO nor that of kwcoco.
    """
    from ..pixels.drawing import palette_colour

    names = name_categories(dataset)
    numbers = {category_id: number for number, category_id in enumerate(names)}
    found = []
    for item in dataset.get("annotations") or []:
        if item.get("image_id") != image_id:
            continue
        # Annotations without a category are allowed, and share one more colour.
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
                f"annotation {item.get('id')!r} of image {image_id!r} is not in COCO format: {error}"
            ) from error
    return found


def to_marks(annotations: Iterable[Annotation], region: tuple[range, range], scale: float) -> list[Mark]:
    """Convert annotations to marks on a picture of a region.

    Args:
        annotations: of the image.
        region: the rows and columns of the region.
        scale: the size of the picture divided by the size of the region.
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
    """Read ``[x, y, width, height]``."""
    if not bbox:
        return None
    left, top, width, height = _finite(bbox)
    return left, top, left + width, top + height


def _read_polygons(segmentation: Any) -> Iterator[tuple[_Ring, ...]]:
    """Read COCO's lists of numbers, one or many; kwcoco's objects with an exterior and interiors; run lengths."""
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
    """The outlines of a mask in run-length encoding, which goes column by column."""
    import kwimage

    height, width = map(operator.index, segmentation["size"])
    counts = segmentation["counts"]
    # Compressed counts are text, uncompressed ones are a list.
    runs = _unpack_runs(counts) if isinstance(counts, str) else list(map(operator.index, counts))
    if min(height, width, *runs) < 0 or sum(runs) != height * width:
        raise ValueError(f"the runs have {sum(runs):,} pixels, the mask has {height:,} x {width:,}")
    # A few bytes of runs can stand for terabytes of mask.
    if sum(runs) > _MOST_MASK_PIXELS:
        raise ValueError(f"a mask of {height:,} x {width:,} pixels is too large to draw; use polygons")
    mask = kwimage.Mask.coerce({"size": [height, width], "counts": runs})
    return mask.to_multi_polygon().to_coco(style="new")


def _unpack_runs(text: str) -> list[int]:
    """Unpack run lengths in the text format of pycocotools.

    Each letter holds 5 bits, low bits first. From the fourth run on, the difference to the run before the last is stored.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{letter!r} is not allowed in run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            # The highest bit of the last letter is the sign.
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def _read_points(keypoints: Any) -> Iterator[_Point]:
    """Read ``[x, y, visibility, ...]`` or kwcoco's objects; points that are not labelled are left out."""
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
        raise ValueError(f"keypoints have {len(numbers)} numbers, not a multiple of 3")
    for x, y, visibility in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        if visibility:
            yield x, y


def _to_ring(points: Any) -> _Ring:
    """Read ``[x, y, x, y, ...]`` or ``[[x, y], ...]``."""
    if points and isinstance(points[0], (list, tuple)):
        return tuple((x, y) for x, y in map(_finite, points))
    numbers = _finite(points)
    if len(numbers) % 2:
        raise ValueError(f"a polygon has {len(numbers)} numbers, not a multiple of 2")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _finite(numbers: Any) -> list[float]:
    found = [float(number) for number in numbers]
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{found} has infinite numbers or NaN")
    return found
