"""HardWindows: places where a model failed, drawn by score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NdframesError, PatchError, naming_image, shorten
from .patch import Patch

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from .columns import BoxColumns
    from .order import Draws

__all__ = ["HardItem", "HardWindows"]
#: A patch or a request ``(image_id, (y, x))``, and its score.
HardItem = tuple["Patch | tuple[Hashable, tuple[slice, slice]]", float]
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
    def of(cls, hard: Iterable[HardItem], columns: BoxColumns, shape: tuple[int, int]) -> HardWindows:
        """Those of requests or patches with scores.

        A patch whose result has the ``shape`` is taken as it is. Any other region becomes a window of that shape around its
        centre, moved into the image.

        Raises:
            PatchError: an item is not valid, or the scores sum to zero.
        """
        items = list(hard)
        windows, scores = np.zeros((len(items), 5), np.int64), np.zeros(len(items))
        for number, pair in enumerate(items):
            try:
                item, score = pair
                patch = item if isinstance(item, Patch) else Patch(*item)
                scores[number] = score
            except (TypeError, ValueError) as error:
                reason = f": {error}" if isinstance(error, NdframesError) else ""
                raise PatchError(
                    f"hard: {shorten(pair)} is not a pair of a patch, or of (image_id, (y, x)), and a score{reason}"
                ) from error
            windows[number] = _window_of(patch, columns, shape)
        if not (np.isfinite(scores).all() and (scores >= 0).all()) or not scores.any():
            raise PatchError(
                f"hard: the scores are {shorten(scores.tolist())}; give finite numbers from 0, one of them above 0"
            )
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


def _window_of(patch: Patch, columns: BoxColumns, shape: tuple[int, int]) -> tuple[int, int, int, int, int]:
    image = columns.image_ids.find(patch.image_id)
    with naming_image(patch.image_id):
        if image is None:
            raise PatchError(f"hard: {columns.dataset} has no such image; give the places of a model on this dataset")
        if len(patch.region) == 3:
            raise PatchError(f"hard: the region {patch.region} has a time axis; give regions (y, x) of images")
    spans = []
    extents = int(columns.heights[image]), int(columns.widths[image])
    for axis, length, extent in zip((patch.rows, patch.cols), shape, extents, strict=True):
        start = min(max((axis.start + axis.stop - length) // 2, 0), max(0, extent - length))
        spans += [axis.start, axis.stop] if patch.shape == shape else [start, start + length]
    return image, spans[0], spans[1], spans[2], spans[3]
