"""BoxPatches: windows around the boxes of a dataset, and windows without boxes, in fixed shares."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from ..errors import PatchError, check_choice, shorten
from ..text import count_noun
from .balance import Balance, BalanceSpec
from .counts import to_count, to_number
from .hard import HardPlaces, HardWindows
from .negatives import FreeWindows
from .order import Draws, EpochOrders, check_seed
from .patch import Patch, PatchKind
from .patches import Patches
from .positives import Placing
from .records import Source, open_frames, read_attributes
from .table import AnnotationTable, table_of
from .thinning import thin_boxes
from .windows import Extents, Oversize, Window, to_ids, to_pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .columns import BoxColumns

__all__ = ["BoxPatches"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
# The windows of negatives have as many sizes, since for each the free places are counted.
_SIZES = 8
# Distinguishes the keys of the order from those of the items.
_ORDER = 1


class BoxPatches(Patches):
    """Windows around boxes (positives), and windows away from all boxes (negatives).

    A window that is larger than its image is padded. A patch of kind "positive" has the ``annot_id`` of its box. A patch shows one
    image and has no time axis; a frame of a video is one of the images.

    Args:
        coco: a :class:`~ndframes.CocoFrames` or what it takes, or an :class:`AnnotationTable` of it.
        shape: ``(height, width)`` of each patch's pixels.
        length: the number of patches in an epoch.
        seed: of the patches. Patch ``i`` is a function of the seed, the epoch, ``i`` and the length.
        positives: the share of positives in each epoch, to within one patch.
        balance: how likely each box is. ``None``: all alike. ``"class"``: all classes alike, and all boxes of a class.
            ``"repeat"``: images by their repeat factor, the largest ``max(1, sqrt(t / f))`` of their classes, where ``f`` is the
            share of images with the class and ``t`` 0.001, or as in ``("repeat", t)`` (LVIS). A list of pairs ``(attribute,
            weights)``: by an attribute of the annotation, its image or its video, each level within the last; ``"class"`` is the
            name of the class; ``weights`` is a mapping from values, or ``None`` for all alike.
        jitter: how far a window's centre moves from that of its box, as a share of the window; a box that fits stays inside.
        scale_jitter: the least and the largest factor by which windows are scaled, log-uniform; the result has ``shape`` again.
            For negatives, one of eight factors.
        away: the distance in pixels of the image, in x or y, that negatives keep from all boxes, crowds included. All windows
            that do are equally likely.
        allow_cut: the share of a box that a window around another box may cut off; if no place among a few allows that, the one
            that cuts the fewest boxes is taken.
        hard: places where a model failed, with scores: pairs of a patch or a request ``(image_id, (y, x))`` and its score, a
            mapping of these, or a pair of :class:`Patches` and the scores of all. They are drawn by score and not compared with
            the boxes. ``None``, or no places: none.
        hard_share: the share of these among the negatives, to within one patch.
        thin: whether boxes that lie in the window around another one are left out. Each box is still in the window around one
            that is left, of the same group if ``balance`` makes groups.
        image_ids: the images, or the id of one; ``None``: all.
        edge: what happens if a patch is larger than every image. ``"shift"``: it is an error; ``"pad"``: it is padded.

    Raises:
        PatchError: there is no window for the positives or negatives, an annotation is not valid, or an argument is not.
        PathInfoError: ``coco`` is not a dataset.
        ValueError: the seed is not an integer from 0.

    Example:
        >>> image = {"id": 1, "file_name": "a.png", "height": 900, "width": 900}
        >>> annot = {"id": 5, "image_id": 1, "category_id": 3, "bbox": [100, 200, 30, 40]}
        >>> dataset = {"images": [image], "annotations": [annot], "categories": [{"id": 3, "name": "cat"}]}
        >>> patches = BoxPatches(dataset, (256, 256), 100, positives=0.25)
        >>> sum(patch.annot_id == 5 for patch in patches)
        25
    """

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        coco: Any,
        shape: int | tuple[int, int],
        length: SupportsIndex,
        *,
        seed: SupportsIndex = 0,
        positives: float = 0.5,
        balance: BalanceSpec = None,
        jitter: float = 0.5,
        scale_jitter: tuple[float, float] = (1, 1),
        away: float = 16,
        allow_cut: float = 0.3,
        hard: HardPlaces | None = None,
        hard_share: float = 0.25,
        thin: bool = False,
        image_ids: Iterable[Hashable] | None = None,
        edge: Oversize = "shift",
    ) -> None:
        super().__init__()
        check_choice("edge", edge, Oversize)
        self._length, self._seed = to_count("length", length, "a number of patches"), check_seed(seed)
        self._shape = to_pair("shape", shape)
        self._factors = _to_factors(scale_jitter)
        columns = self._columns = table_of(coco).columns
        self._images = _find_images(columns, image_ids)
        if edge != "pad":
            self._check_fits()
        self._placing = Placing(columns, to_number("jitter", jitter), to_number("allow_cut", allow_cut, 1))
        self._positive_count = round(to_number("positives", positives, 1) * self._length)
        self._numbers, self._weight_stops = np.zeros(0, np.int64), np.zeros(0)
        if self._positive_count:
            self._numbers, self._weight_stops = self._weigh_boxes(coco, balance, thin=thin)
        self._hard = HardWindows.of(() if hard is None else hard, columns, self._shape)
        negative_count = self._length - self._positive_count
        share = to_number("hard_share", hard_share, 1)
        self._hard_count = 0 if self._hard is None else round(share * negative_count)
        self._free: list[FreeWindows] = []
        distance = to_number("away", away)
        if negative_count > self._hard_count:
            self._free = self._find_free(distance)
        self._digest = _digest_of(columns, self._numbers, self._weight_stops)
        self._orders = EpochOrders(self._length, self._seed, _ORDER)

    def __len__(self) -> int:
        return self._length

    def _make(self, epoch: int, index: int) -> Patch:
        draws = Draws(self._seed, epoch, index)
        # By the place in a random order, so that the shares are exact in each epoch.
        place = self._orders[epoch][index]
        if place < self._positive_count:
            return self._make_positive(draws, index)
        if place < self._positive_count + self._hard_count and self._hard is not None:
            image, top, bottom, left, right = self._hard.draw(draws)
            return self._patch(index, image, top, left, (bottom - top, right - left), "hard")
        free = self._free[draws.below(len(self._free))]
        image, top, left = free.draw(draws)
        return self._patch(index, image, top, left, free.shape, "negative")

    def _make_positive(self, draws: Draws, index: int) -> Patch:
        total = float(self._weight_stops[-1])
        number = int(self._numbers[np.searchsorted(self._weight_stops, draws.unit() * total, side="right")])
        image = int(np.searchsorted(self._columns.image_stops, number, side="right")) - 1
        low, high = self._factors
        shape = self._window_shape(low if low == high else low * (high / low) ** draws.unit())
        top, left = self._placing.place(number, image, shape, draws)
        return self._patch(index, image, top, left, shape, "positive", self._columns.annot_ids[number])

    def _patch(
        self,
        index: int,
        image: int,
        top: int,
        left: int,
        shape: tuple[int, int],
        kind: PatchKind,
        annot_id: Hashable = None,
    ) -> Patch:
        is_scaled = shape != self._shape
        return Patch(
            self._columns.image_ids[image],
            (slice(top, top + shape[0]), slice(left, left + shape[1])),
            scale=self._shape[0] / shape[0] if is_scaled else None,
            index=index,
            image_shape=(int(self._columns.heights[image]), int(self._columns.widths[image])),
            kind=kind,
            annot_id=annot_id,
            result_shape=self._shape if is_scaled else None,
        )

    # -- construction ---------------------------------------------------------------------------------------------

    def _window_shape(self, factor: float) -> tuple[int, int]:
        height, width = self._shape
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _check_fits(self) -> None:
        columns = self._columns
        extents = Extents(
            columns.image_ids.take(self._images).tolist(),
            np.zeros(len(self._images), np.int64),
            columns.heights[self._images],
            columns.widths[self._images],
            columns.dataset,
        )
        Window(self._window_shape(self._factors[0])).check_fits(extents)

    def _weigh_boxes(self, coco: Any, balance: BalanceSpec, *, thin: bool) -> tuple[_Ints, _Floats]:
        """The numbers of the boxes that are drawn, and their cumulative weights."""
        columns, images = self._columns, np.zeros(len(self._columns.image_ids), np.bool_)
        images[self._images] = True
        is_chosen = images[columns.image_numbers]
        if not is_chosen.any():
            raise PatchError(
                f"{columns.dataset} has no annotations in {self._name_images()}; give annotated images, or positives=0"
            )
        x0, y0, x1, y1 = columns.boxes
        is_drawable = is_chosen & ~columns.crowds & (columns.labels > 0) & (x0 < x1) & (y0 < y1)
        numbers = np.flatnonzero(is_drawable)
        if not len(numbers):
            raise PatchError(
                f"{columns.dataset} has no positive window: the {np.count_nonzero(is_chosen):,} annotations of "
                f"{self._name_images()} are crowds, background, or boxes without an area; give images with other boxes, or "
                "positives=0"
            )

        def read(name: str) -> Iterable[Any]:
            if isinstance(coco, AnnotationTable):
                raise PatchError(f"balance: a table has no attribute {name!r}; give the dataset that it was made from")
            return read_attributes(Source(open_frames(coco)), name)

        weighing = Balance.of(balance, columns, numbers, len(self._images), read)
        chosen = np.ones(len(numbers), np.bool_)
        if thin:
            chosen = weighing.weigh(chosen) > 0
            places = np.flatnonzero(chosen)
            chosen[places] = thin_boxes(columns, numbers[places], weighing.groups[places], self._window_shape(1))
        weights = weighing.weigh(chosen)
        drawn = np.flatnonzero(weights)
        return numbers[drawn], np.cumsum(weights[drawn])

    def _find_free(self, away: float) -> list[FreeWindows]:
        low, high = self._factors
        count = 1 if low == high else _SIZES
        factors = [low * (high / low) ** ((number + 0.5) / count) for number in range(count)]
        shapes = list(dict.fromkeys(self._window_shape(factor) for factor in factors))
        found = [FreeWindows.of(self._columns, self._images, shape, away) for shape in shapes]
        usable = [free for free in found if free.count]
        if not usable:
            height, width = shapes[0]
            raise PatchError(
                f"no window of {height:,} x {width:,} px in {self._name_images()} of {self._columns.dataset} is {away:g} px away "
                "from all boxes; use a smaller away or shape, images without boxes, or positives=1"
            )
        return usable

    def _name_images(self) -> str:
        ids = shorten(self._columns.image_ids.take(self._images).tolist())
        return f"the {count_noun(len(self._images), 'image')} {ids}"

    def _definition(self) -> Iterator[object]:
        yield self._digest
        yield self._images.astype("<i8").tobytes()
        yield self._shape, self._length, self._seed, self._factors, self._positive_count, self._hard_count
        yield self._placing.jitter, self._placing.allow_cut
        for free in self._free:
            yield from free.definition()
        if self._hard is not None:
            yield from self._hard.definition()

    def __repr__(self) -> str:
        height, width = self._shape
        return (
            f"<BoxPatches: {len(self):,} of {height} x {width} px around {len(self._numbers):,} boxes in "
            f"{len(self._images):,} images>"
        )


def _find_images(columns: BoxColumns, image_ids: Iterable[Hashable] | None) -> _Ints:
    """The numbers of some images.

    Raises:
        PatchError: there are none, one is named twice, or one is not in the dataset.
    """
    if image_ids is None:
        return np.arange(len(columns.image_ids))
    ids = to_ids(image_ids)
    numbers = [columns.image_ids.find(image_id) for image_id in ids]
    unknown = [image_id for image_id, number in zip(ids, numbers, strict=True) if number is None]
    if unknown or not ids:
        what = f"names {shorten(unknown)}, which {columns.dataset} does not have" if unknown else "is empty"
        raise PatchError(f"image_ids {what}; give ids of images of {columns.dataset}, or None for all")
    return np.unique(np.array(numbers, np.int64))


def _to_factors(value: Any) -> tuple[float, float]:
    """The least and the largest factor.

    Raises:
        PatchError: they are not two numbers above 0 in order.
    """
    try:
        low, high = (float(factor) for factor in value)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not 0 < low <= high < math.inf:
        raise PatchError(f"scale_jitter={shorten(value)}; give the least and the largest factor, above 0")
    return low, high


def _digest_of(columns: BoxColumns, numbers: _Ints, weight_stops: _Floats) -> bytes:
    """A digest of the boxes and their weights; made once, because a state is asked for after each batch."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (
        columns.image_ids.to_bytes(),
        columns.annot_ids.to_bytes(),
        *(c.astype("<i8").tobytes() for c in (columns.heights, columns.widths, columns.image_stops, columns.labels)),
        columns.boxes.astype("<f8").tobytes(),
        columns.crowds.tobytes(),
        numbers.astype("<i8").tobytes(),
        weight_stops.astype("<f8").tobytes(),
    ):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()
