"""HardWindows: places where a model failed, drawn by score."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NdframesError, PatchError, name_image, naming_image, shorten
from .patch import Patch
from .patches import Patches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .columns import BoxColumns
    from .order import Draws

__all__ = ["HardPlaces", "HardWindows"]
_Place = Patch | tuple[Hashable, tuple[slice, slice]]
#: Patches or requests ``(image_id, (y, x))`` and their scores: pairs, a mapping, or :class:`~ndframes.feed.Patches` and a score
#: for each.
HardPlaces = Iterable[tuple[_Place, float]] | Mapping[_Place, float] | tuple[Patches, Sequence[float]]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class HardWindows:
    """Windows with scores.

    Attributes:
        windows: rows of the number of the image, the first and last row, and the first and last column, the last ones exclusive.
        stops: the cumulative scores.
    """

    windows: _Ints
    stops: _Floats

    @classmethod
    def of(cls, hard: HardPlaces, columns: BoxColumns, shape: tuple[int, int]) -> HardWindows | None:
        """Make the windows of requests or patches with scores; ``None`` if the list is empty.

        A patch whose result has the ``shape`` is taken as it is. Any other region becomes a window of that shape around its
        centre, moved into the image.

        Raises:
            PatchError: an item is not valid or shows nothing of its image, or the scores sum to zero.
        """
        pairs = _pairs_of(hard)
        if not pairs:
            return None
        windows, scores = np.zeros((len(pairs), 5), np.int64), np.zeros(len(pairs))
        for number, pair in enumerate(pairs):
            patch, scores[number] = _parse(number, pair)
            windows[number] = _window_of(number, patch, columns, shape)
            if not 0 <= scores[number] < np.inf:
                error = PatchError(f"hard[{number}]: its score is {scores[number]}; give a finite number from 0")
                name_image(error, patch.image_id)
                raise error
        if not scores.any():
            raise PatchError("hard: the scores sum to zero; give one of them a score above 0")
        return cls(windows, np.cumsum(scores))

    def draw(self, draws: Draws) -> tuple[int, int, int, int, int]:
        """The number of an image, and a window in it: top, bottom, left, right."""
        place = int(np.searchsorted(self.stops, draws.unit() * float(self.stops[-1]), side="right"))
        image, top, bottom, left, right = self.windows[place].tolist()
        return image, top, bottom, left, right

    def definition(self) -> Iterator[object]:
        """For a fingerprint."""
        yield self.windows.astype("<i8").tobytes()
        yield self.stops.astype("<f8").tobytes()


def _pairs_of(hard: Any) -> list[Any]:
    """Pairs of a place and its score.

    Raises:
        PatchError: ``hard`` is not iterable, or the numbers of patches and scores differ.
    """
    if isinstance(hard, Mapping):
        return list(hard.items())
    try:
        items = list(hard)
        if len(items) != 2 or not isinstance(items[0], Patches):
            return items
        patches, scores = items[0], list(items[1])
    except TypeError as error:
        raise PatchError(f"hard={shorten(hard)}; give pairs of a patch and its score") from error
    if len(patches) != len(scores):
        raise PatchError(f"hard: there are {len(patches):,} patches and {len(scores):,} scores; give a score for each")
    return list(zip(patches[:], scores, strict=True))


def _parse(number: int, pair: Any) -> tuple[Patch, float]:
    try:
        item, score = pair
        return item if isinstance(item, Patch) else Patch(*item), float(score)
    except (TypeError, ValueError) as error:
        reason = f": {error}" if isinstance(error, NdframesError) else ""
        raise PatchError(
            f"hard[{number}]: {shorten(pair)} is not a pair of a patch, or of (image_id, (y, x)), and a score{reason}"
        ) from error


def _window_of(
    number: int, patch: Patch, columns: BoxColumns, shape: tuple[int, int]
) -> tuple[int, int, int, int, int]:
    image = columns.image_ids.find(patch.image_id)
    with naming_image(patch.image_id):
        if image is None:
            raise PatchError(
                f"hard[{number}]: {columns.dataset} has no such image; give the places of a model on this dataset"
            )
        if len(patch.region) == 3:
            raise PatchError(
                f"hard[{number}]: the region {patch.region} has a time axis; give regions (y, x) of images"
            )
    spans = []
    extents = int(columns.heights[image]), int(columns.widths[image])
    for axis, length, extent in zip((patch.rows, patch.cols), shape, extents, strict=True):
        if min(axis.stop, extent) <= max(axis.start, 0):
            with naming_image(patch.image_id):
                raise PatchError(
                    f"hard[{number}]: the region {patch.region} shows no pixel of the image, which has {extents[0]:,} x "
                    f"{extents[1]:,} px; give regions (y, x) that do"
                )
        start = min(max((axis.start + axis.stop - length) // 2, 0), max(0, extent - length))
        spans += [axis.start, axis.stop] if patch.shape == shape else [start, start + length]
    return image, spans[0], spans[1], spans[2], spans[3]
