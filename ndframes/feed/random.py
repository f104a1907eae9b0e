"""RandomPatches: windows at random places of images and videos."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from ..errors import PatchError, check_choice, shorten
from ..text import count_noun
from .areas import Area, parse_areas
from .counts import to_count
from .order import Draws, check_seed
from .patch import Patch
from .patches import Patches
from .windows import Extents, Oversize, Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..frames.frames import Frames

__all__ = ["ImageWeights", "RandomPatches"]
#: How likely each image is: by its number of windows, all alike, or as given.
ImageWeights = Literal["positions", "images"] | Mapping[Any, float] | Sequence[float]
_Ints = np.ndarray[Any, np.dtype[np.int64]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]


class RandomPatches(Patches):
    """Windows at random places, every possible window as likely as any other, unless ``weights`` says otherwise.

    An image that is smaller than a window has one place for it, and the window is padded.

    Args:
        frames: the images.
        shape: ``(height, width)`` of each patch's pixels.
        length: the number of patches in an epoch.
        seed: of the places. Patch ``i`` of an epoch is a function of the seed, the epoch and ``i``.
        weights: how likely each image is. ``"positions"``: all windows of all images are equally likely; ``"images"``: all
            images are; a mapping from image ids (missing ones have the weight 0) or a list, one for each image.
        image_ids: the images, or the id of one; ``None``: all.
        within: for each image the polygons or boxes in which the centre of a window must lie, in pixels of the image (see
            :meth:`Area.of <ndframes.feed.areas.Area.of>`). Images that are not named give no patches. ``None``: no restriction.
        scales: the factor from the image to the patch, or several of them, which are then equally likely.
        times: the number of frames of each patch of a video or sequence; ``None``: one frame, read as an image.
        every: the step between these frames.
        edge: what happens if a patch is larger than every image. ``"shift"``: it is an error; ``"pad"``: it is padded.

    Raises:
        PatchError: there is no window, or an argument is not valid.
        SourceError: the size of an image is not described, and its file cannot be read.

    Example:
        >>> import ndframes as nf
        >>> frames = nf.SimpleFrames.demo(backend=None)
        >>> patches = RandomPatches(frames, (64, 64), 1000, seed=1)
        >>> patches[17] == RandomPatches(frames, (64, 64), 2000, seed=1)[17], frames.load_region(*patches[17].request).shape
        (True, (64, 64, 3))
    """

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        frames: Frames,
        shape: int | tuple[int, int],
        length: SupportsIndex,
        *,
        seed: SupportsIndex = 0,
        weights: ImageWeights = "positions",
        image_ids: Iterable[Hashable] | None = None,
        within: Mapping[Any, Any] | None = None,
        scales: float | Sequence[float] = 1,
        times: int | None = None,
        every: int = 1,
        edge: Oversize = "shift",
    ) -> None:
        super().__init__()
        check_choice("edge", edge, Oversize)
        self._length, self._seed = to_count("length", length, "a number of patches"), check_seed(seed)
        self._extents = extents = Extents.of(frames, image_ids)
        factors = (
            list(scales) if isinstance(scales, (Sequence, np.ndarray)) and not isinstance(scales, str) else [scales]
        )
        if not factors:
            raise PatchError("scales is empty; give at least one factor")
        areas = parse_areas(within, extents.shapes())
        self._places = []
        for factor in factors:
            window = Window.of(shape, factor, times, every)
            window.check_fits(extents, may_pad=edge == "pad")
            self._places.append(_Places.of(extents, window, weights, areas))

    def __len__(self) -> int:
        return self._length

    def _make(self, epoch: int, index: int) -> Patch:
        draws = Draws(self._seed, epoch, index)
        places = self._places[draws.below(len(self._places))] if len(self._places) > 1 else self._places[0]
        number, region = places.draw(self._extents, draws)
        return Patch(
            self._extents.image_ids[number],
            region,
            scale=places.window.scale,
            index=index,
            image_shape=self._extents.shape(number),
            kind="random",
            result_shape=None if places.window.scale is None else places.window.shape,
        )

    def _definition(self) -> Iterator[object]:
        yield from self._extents.definition()
        yield self._length, self._seed
        for places in self._places:
            yield from places.definition()

    def __repr__(self) -> str:
        height, width = self._places[0].window.shape
        return f"<RandomPatches: {len(self):,} of {height} x {width} px from {len(self._extents):,} images>"


@dataclass(frozen=True, slots=True)
class _Places:
    """All places of one window, in all images.

    Attributes:
        window: the window.
        downs: for each image the number of places in y.
        acrosses: in x.
        stops: the cumulative numbers of the places of each image's frames.
        weight_stops: the cumulative weights of the images; ``None``: the numbers of their places.
        areas: for each image the centres of windows; ``None``: all.
    """

    window: Window
    downs: _Ints
    acrosses: _Ints
    stops: _Ints
    weight_stops: _Floats | None
    areas: dict[int, _Centres] | None

    @classmethod
    def of(
        cls, extents: Extents, window: Window, weights: ImageWeights, areas: Mapping[Hashable, Area] | None
    ) -> _Places:
        height, width = window.img_shape
        downs, acrosses = np.maximum(extents.heights - height, 0) + 1, np.maximum(extents.widths - width, 0) + 1
        counts = downs * acrosses
        centres = None
        if areas is not None:
            centres = {
                number: _Centres.of(areas[image_id], extents.shape(number), window)
                for number, image_id in enumerate(extents.image_ids)
                if image_id in areas
            }
            counts = np.array([centres[n].count if n in centres else 0 for n in range(len(extents))], np.int64)
        counts = counts * np.maximum(extents.frames - window.frame_span + 1, 1)
        if not counts.any():
            raise PatchError(
                f"no window has its centre in the areas of within in {_name_images(extents)}; use other areas, or a smaller shape"
            )
        return cls(window, downs, acrosses, np.cumsum(counts), _sum_weights(weights, extents, counts), centres)

    def draw(self, extents: Extents, draws: Draws) -> tuple[int, Any]:
        """A place: the number of an image, and the region of the window."""
        if self.weight_stops is None:
            place = draws.below(int(self.stops[-1]))
            number = int(np.searchsorted(self.stops, place, side="right"))
            place -= int(self.stops[number - 1]) if number else 0
        else:
            total = float(self.weight_stops[-1])
            number = int(np.searchsorted(self.weight_stops, draws.unit() * total, side="right"))
            place = draws.below(int(self.stops[number] - (self.stops[number - 1] if number else 0)))
        frame_count = int(extents.frames[number])
        if self.areas is None:
            time, place = divmod(place, int(self.downs[number]) * int(self.acrosses[number]))
            top, left = divmod(place, int(self.acrosses[number]))
        else:
            time, place = divmod(place, self.areas[number].count)
            top, left = self.areas[number].start(place)
        return number, self.window.region(time if frame_count else None, top, left)

    def definition(self) -> Iterator[object]:
        yield self.window
        yield self.stops.astype("<i8").tobytes()
        yield b"" if self.weight_stops is None else self.weight_stops.astype("<f8").tobytes()
        for number, centres in sorted((self.areas or {}).items(), key=lambda item: item[0]):
            yield from (
                number,
                *(column.astype("<i8").tobytes() for column in (centres.tops, centres.lefts, centres.stops)),
            )


@dataclass(frozen=True, slots=True)
class _Centres:
    """The places of a window whose centre lies in an area, as runs along x.

    Attributes:
        tops: the y coordinate of each run's windows.
        lefts: the x coordinate of the first window of each run.
        stops: the cumulative numbers of places.
    """

    tops: _Ints
    lefts: _Ints
    stops: _Ints

    @classmethod
    def of(cls, area: Area, shape: tuple[int, int], window: Window) -> _Centres:
        spans = []
        for extent, length in zip(shape, window.img_shape, strict=True):
            # A window that is larger than the image has one place; its centre is then any pixel of the area.
            first = length // 2
            spans.append((first, first + extent - length + 1) if length <= extent else None)
        rows, cols = spans
        top, bottom = rows or (0, shape[0])
        left, right = cols or (0, shape[1])
        inside = area.clipped(top, bottom, left, right)
        tops, lefts, rights = inside.rows - top, inside.starts - left, inside.stops - left
        if cols is None:
            lefts, rights = np.zeros_like(lefts), np.minimum(rights, 1)
        if rows is None:
            tops = np.zeros_like(tops)
        merged = Area.joined(tops, lefts, rights)
        return cls(merged.rows, merged.starts, np.cumsum(merged.stops - merged.starts))

    @property
    def count(self) -> int:
        return int(self.stops[-1]) if len(self.stops) else 0

    def start(self, place: int) -> tuple[int, int]:
        """``(top, left)`` of a place."""
        run = int(np.searchsorted(self.stops, place, side="right"))
        return int(self.tops[run]), int(self.lefts[run]) + place - (int(self.stops[run - 1]) if run else 0)


def _sum_weights(weights: ImageWeights, extents: Extents, counts: _Ints) -> _Floats | None:
    """The cumulative weights of the images; ``None`` for their numbers of windows.

    Raises:
        PatchError: they are not weights of these images, or all are 0.
    """
    if isinstance(weights, str):
        if weights == "positions":
            return None
        if weights != "images":
            raise PatchError(f"weights={weights!r}; give 'positions', 'images', a mapping or a list")
        values = np.ones(len(extents))
    elif isinstance(weights, Mapping):
        known = set(extents.image_ids)
        unknown = [image_id for image_id in weights if image_id not in known]
        if unknown:
            raise PatchError(
                f"weights names {shorten(unknown)}, which are not among {_name_images(extents)}; correct them"
            )
        values = np.array([weights.get(image_id, 0) for image_id in extents.image_ids], np.float64)
    else:
        values = np.asarray(weights, np.float64)
        if values.shape != (len(extents),):
            raise PatchError(
                f"weights has {shorten(np.shape(weights))} numbers for {len(extents):,} images of {extents.dataset}; give one for "
                "each"
            )
    if not (np.isfinite(values).all() and (values >= 0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(values) & (values >= 0)))[0])
        raise PatchError(f"the weight of image {shorten(extents.image_ids[bad])} is {values[bad]}; give numbers from 0")
    # An image without windows cannot be drawn.
    usable = np.where(counts > 0, values, 0)
    total = math.fsum(usable)
    if not total > 0:
        raise PatchError(
            f"the weights of {_name_images(extents)} that hold a window sum to zero; give one of them a weight above 0"
        )
    return np.cumsum(usable / total)


def _name_images(extents: Extents) -> str:
    ids = shorten(list(extents.image_ids))
    return f"the {count_noun(len(extents), 'image')} {ids} of {extents.dataset}"
