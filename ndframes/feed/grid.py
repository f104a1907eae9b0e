"""GridPatches: the windows of a regular grid over images and videos."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import PatchError, check_choice, shorten
from .areas import Area, parse_areas
from .counts import to_number
from .patch import Patch
from .patches import Patches
from .windows import Extents, Window, to_pair

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping

    from ..frames.frames import Frames

__all__ = ["Edge", "GridPatches"]
#: What happens at the end of an image that the grid does not divide: the last window is shifted in, hangs over the edge, is
#: cut, or is left out.
Edge = Literal["shift", "pad", "keep", "drop"]
_Ints = np.ndarray[Any, np.dtype[np.int64]]


class _Axis(NamedTuple):
    """The grid along one axis.

    Attributes:
        extent: of a window.
        stride: from one window to the next.
        edge: what happens at the end.
    """

    extent: int
    stride: int
    edge: Edge

    def counts(self, extents: _Ints) -> _Ints:
        """The number of windows over axes of these extents; one where a window does not fit."""
        inside = np.maximum(extents - self.extent, 0)
        whole = inside // self.stride + 1
        # Pixels are left over, and the next window would not begin after the end: it may if windows do not touch.
        is_short = (inside % self.stride > 0) & (whole * self.stride < extents) & (extents > self.extent)
        found: _Ints = whole + is_short if self.edge != "drop" else whole
        return found

    def start(self, number: int, extent: int) -> int:
        """The start of a window on an axis of this extent."""
        start = number * self.stride
        return min(start, max(0, extent - self.extent)) if self.edge == "shift" else start

    def starts(self, extent: int) -> _Ints:
        """The starts of all windows on an axis of this extent."""
        starts: _Ints = np.arange(int(self.counts(np.array([extent]))[0])) * self.stride
        return np.minimum(starts, max(0, extent - self.extent)) if self.edge == "shift" else starts


class GridPatches(Patches):
    """The windows of a regular grid, image after image, frame after frame, row by row. They do not depend on the epoch.

    A window that is larger than its image is padded. One that no image holds is an error, unless ``edge`` is ``"pad"``.

    Args:
        frames: the images.
        shape: ``(height, width)`` of each patch's pixels.
        stride: from one window to the next in y and x, in pixels of the patch; ``None``: what ``overlap`` gives.
        overlap: of neighbours, in pixels of the patch, or below 1 as a fraction of it; one number or ``(y, x)``.
        edge: what happens where the grid does not divide an image. ``"shift"``: the last window is moved in, so that it
            overlaps more; ``"pad"``: it hangs over the edge; ``"keep"``: it is cut, as is one that is larger than its image;
            ``"drop"``: there is none.
        image_ids: the images, in the order of the patches, or the id of one; ``None``: all.
        within: for each image the polygons or boxes to stay in, in pixels of the image (see :meth:`Area.of
            <ndframes.feed.areas.Area.of>`). Images that are not named give no patches. ``None``: no restriction.
        min_covered: the share of a window that must lie in ``within``; 0: any pixel of it.
        scale: the factor from the image to the patch.
        times: the number of frames of each patch of a video or sequence; ``None``: one frame, read as an image.
        every: the step between these frames.

    Raises:
        PatchError: there is no patch, or an argument is not valid.
        SourceError: the size of an image is not described, and its file cannot be read.

    Example:
        >>> import ndframes as nf
        >>> frames = nf.SimpleFrames.demo(backend=None)
        >>> patches = GridPatches(frames, (256, 256), image_ids=["astronaut", "coffee"], overlap=0.25)
        >>> len(patches), patches[-1].request
        (15, ('coffee', (slice(144, 400, None), slice(344, 600, None))))
    """

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        frames: Frames,
        shape: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] | None = None,
        overlap: float | tuple[float, float] = 0,
        edge: Edge = "shift",
        image_ids: Iterable[Hashable] | None = None,
        within: Mapping[Any, Any] | None = None,
        min_covered: float = 0,
        scale: float | None = None,
        times: int | None = None,
        every: int = 1,
    ) -> None:
        super().__init__()
        check_choice("edge", edge, Edge)
        self._edge: Edge = edge
        least_covered = to_number("min_covered", min_covered, 1)
        self._window = window = Window.of(shape, scale, times, every)
        self._extents = extents = Extents.of(frames, image_ids)
        window.check_fits(extents, may_pad=edge == "pad")
        strides = _to_strides(window.shape, stride, overlap)
        img_strides = [stride if scale is None else max(1, round(stride / scale)) for stride in strides]
        height, width = window.img_shape
        self._rows, self._cols = _Axis(height, img_strides[0], edge), _Axis(width, img_strides[1], edge)
        # A window hangs over the end of time under no edge: frames cannot be padded.
        time_edge: Edge = "drop" if edge == "drop" else "shift"
        self._times = _Axis(window.frame_span, 1 if times is None else times * every, time_edge)
        self._time_counts = np.where(extents.frames > 0, self._times.counts(np.maximum(extents.frames, 1)), 1)
        self._col_counts = self._cols.counts(extents.widths)
        counts = self._rows.counts(extents.heights) * self._col_counts
        areas = parse_areas(within, extents.shapes())
        # For each image the numbers of its windows in one frame; without areas all.
        self._chosen: dict[int, _Ints] | None = None
        if areas is not None:
            self._chosen = self._find_covered(areas, least_covered)
            counts = np.array([len(self._chosen.get(number, ())) for number in range(len(extents))])
        self._plane_counts = counts
        self._stops = np.cumsum(counts * self._time_counts)
        if not len(self):
            raise PatchError(
                f"no window lies in the areas of within, for the images {shorten(list(within or ()))} of {extents.dataset}; use "
                "other areas, or a smaller min_covered"
            )

    def __len__(self) -> int:
        return int(self._stops[-1])

    def _make(self, epoch: int, index: int) -> Patch:  # noqa: ARG002 - the same in all epochs
        number = int(np.searchsorted(self._stops, index, side="right"))
        place = index - (int(self._stops[number - 1]) if number else 0)
        time_number, plane_number = divmod(place, int(self._plane_counts[number]))
        if self._chosen is not None:
            plane_number = int(self._chosen[number][plane_number])
        row, col = divmod(plane_number, int(self._col_counts[number]))
        height, width = self._extents.shape(number)
        frame_count = int(self._extents.frames[number])
        time = self._times.start(time_number, frame_count) if frame_count else None
        region = self._window.region(time, self._rows.start(row, height), self._cols.start(col, width))
        patch_shape = self._window.shape if self._window.scale is not None else None
        if self._edge == "keep":
            *front, rows, cols = region
            region = (*front, slice(rows.start, min(rows.stop, height)), slice(cols.start, min(cols.stop, width)))
            patch_shape = None
        return Patch(
            self._extents.image_ids[number],
            region,
            scale=self._window.scale,
            index=index,
            image_shape=(height, width),
            result_shape=patch_shape,
        )

    def _find_covered(self, areas: Mapping[Hashable, Area], min_covered: float) -> dict[int, _Ints]:
        """For each image with an area the numbers of the windows that it covers."""
        numbers = {image_id: number for number, image_id in enumerate(self._extents.image_ids)}
        height, width = self._window.img_shape
        least = max(1, math.ceil(min_covered * height * width))
        chosen = {}
        for image_id, area in areas.items():
            number = numbers[image_id]
            img_height, img_width = self._extents.shape(number)
            lefts = self._cols.starts(img_width)
            found = []
            for row, top in enumerate(self._rows.starts(img_height).tolist()):
                covered = area.count_in_columns(top, top + height, lefts, lefts + width)
                found.append(np.flatnonzero(covered >= least) + row * len(lefts))
            chosen[number] = np.concatenate(found)
        return chosen

    def _definition(self) -> Iterator[object]:
        yield from self._extents.definition()
        yield self._window, self._rows, self._cols
        for number, chosen in sorted((self._chosen or {}).items()):
            yield from (number, chosen.astype("<i8").tobytes())

    def __repr__(self) -> str:
        height, width = self._window.shape
        return f"<GridPatches: {len(self):,} of {height} x {width} px from {len(self._extents):,} images>"


def _to_strides(shape: tuple[int, int], stride: Any, overlap: Any) -> tuple[int, int]:
    """The stride in y and x, in pixels of the patch.

    Raises:
        PatchError: it is not positive, or both are given.
    """
    if stride is not None:
        if np.any(np.asarray(overlap) != 0):
            raise PatchError("stride and overlap exclude each other; give one of them")
        return to_pair("stride", stride)
    try:
        pair = np.broadcast_to(np.asarray(overlap, np.float64), 2).tolist()
    except (TypeError, ValueError) as error:
        raise PatchError(f"overlap={shorten(overlap)}; give pixels or a fraction, one number or (y, x)") from error
    # Below 1 a fraction; 1 is a pixel.
    pixels = [round(extent * share) if 0 <= share < 1 else share for extent, share in zip(shape, pair, strict=True)]
    strides = [extent - shared for extent, shared in zip(shape, pixels, strict=True)]
    if not all(0 <= shared < extent and shared == int(shared) for extent, shared in zip(shape, pixels, strict=True)):
        raise PatchError(
            f"overlap={shorten(overlap)} of patches of {shape[0]} x {shape[1]} px; give whole pixels below that, or a fraction "
            "below 1"
        )
    return int(strides[0]), int(strides[1])
