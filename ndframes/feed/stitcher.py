"""Stitcher: from a model's values for overlapping patches to one image, exactly, in the memory of a band of rows."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsFloat

import numpy as np

from ..errors import PatchError, check_choice, naming_image, shorten
from ..pixels.rounding import round_to_dtype
from .bands import BAND_ROWS, BandSums
from .counts import to_factor
from .patch import Patch
from .results import ArraySink, FileSink, to_array_sink, to_path
from .windows import to_pair

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable
    from types import TracebackType

    from typing_extensions import Self

    from .._typing import Array
    from ..frames.lazyframe import LazyFrame
    from .bands import Blend
    from .patch import PatchRegion
    from .results import Sink

__all__ = ["Reduce", "Stitcher", "Weights"]
#: How much each pixel of a patch counts: less towards its edges, or only where no other patch holds it deeper inside.
Weights = Literal["linear", "gaussian", "centre"]
#: How values become the result: their weighted mean, their maximum, or the channel with the largest weighted mean.
Reduce = Literal["mean", "max", "argmax"]
_MOST_WEIGHT = 1 << 12
# The standard deviation of gaussian weights, as a share of the patch.
_SIGMA = 1 / 8
_MOST_LABELS_MESSAGE = "give dtype='uint16', or a wider one"


class _Place(NamedTuple):
    """Where a patch lies in the result.

    Attributes:
        top: its first row, which may be outside.
        left: its first column.
        exact: ``(height, width)``, maybe with a fraction.
    """

    top: int
    left: int
    exact: tuple[float, float]

    def rows_within(self, height: int) -> range:
        """The rows inside the result that the patch may reach."""
        # Values may be one row higher than a height with a fraction, never than a whole one.
        bottom = self.top + math.ceil(self.exact[0] - 1e-6)
        return range(min(max(self.top, 0), height), min(max(bottom, 0), height))

    def cols_within(self, width: int) -> range:
        """The columns inside the result that the patch may reach."""
        end = self.left + math.ceil(self.exact[1] - 1e-6)
        return range(min(max(self.left, 0), width), min(max(end, 0), width))


class Stitcher:
    """Puts a model's values for patches together to one image.

    The values of a model that returns its input come out as they went in, bit for bit, for dtypes of up to 32 bits: weights are
    integers, and sums are float64, so that ``sum(v * w) / sum(w)`` is exact.

    Patches may come in any order, overlap in any way, and hang over the edges of the image, where their pixels are ignored. The
    result does not depend on the order. Memory is that of the rows between the top and the bottom of a patch, ``8 * (k + 1)`` bytes
    a pixel for ``k`` channels, if patches come from top to bottom, as those of :class:`GridPatches` do. With ``patches``, finished rows
    are written as soon as their last patch was added. Without, they wait in an unnamed file, since a later patch may reach them.
    After a patch above an earlier one, all rows that are not written stay in memory.

    A ``with`` block closes it; an error in the block discards what was begun.

    A file takes more disk space while it is made, in its own folder: ``.npy`` none, ``.tif`` that of the pixels without compression
    and once more that of the file. Rows that wait take ``8 * (k + 1)`` bytes a pixel, there or, for arrays, in the folder for
    temporary files. On Linux these files have no names, so a process that is killed leaves nothing; elsewhere it may leave a hidden
    ``.part`` file, as it may on a file system without unnamed files.

    Args:
        shape: ``(height, width)`` of the image.
        dtype: of the result. ``None``: that of ``out`` if it is an array; otherwise uint8 for ``reduce="argmax"``, else float32.
        weights: ``"linear"``: a pixel counts by its distance from the edges of its patch, in y times in x; ``"gaussian"``: by a bell of
            an eighth of the patch, rounded to integers; ``"centre"``: only the patch counts that holds the pixel farthest from its edges.
        out: ``None``: an array in memory. A path that ends in ``.tif`` or ``.tiff`` is written as a cloud optimized GeoTIFF, ``.npy``
            as an array; the file appears when the stitcher is closed. Or an array ``(height, width)`` or ``(height, width, k)``.
        scale: the factor from the image to the result; for a model that returns a value for each 4 x 4 pixels, ``0.25``. The result
            has ``round(extent * scale)`` pixels. A patch is placed at the nearest pixel of the result.
        fill: the value of uncovered pixels, which is the nodata value of the result. ``nan``: not-a-numbers; a result of
            integers then has to be covered, since it cannot hold them.
        reduce: ``"mean"`` or ``"max"`` of each channel, or ``"argmax"``: the number of the channel with the largest weighted mean.
        patches: the patches that will be added, in any order. ``None``: unknown.
        image_id: the id of the result. ``None``: its path, or ``"stitched"``.

    Raises:
        PatchError: an argument is not valid; or ``patches`` do not cover a result of integers that has no ``fill``.
        OutputError: ``out`` cannot be written.
        ValueError: ``weights`` or ``reduce`` has a value that is not allowed.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.feed import GridPatches, Stitcher
        >>> frames = nf.SimpleFrames.demo(backend=None)
        >>> stitcher = Stitcher((400, 600), dtype="uint8")
        >>> for patch in GridPatches(frames, (256, 256), overlap=64, image_ids=["coffee"]):
        ...     stitcher.add(patch, frames.load_region(*patch.request))
        >>> stitched = stitcher.close()
        >>> stitched.shape, bool((stitched[...] == frames.load_image("coffee")).all())
        ((400, 600, 3), True)
    """

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        shape: tuple[int, int],
        *,
        dtype: Any = None,
        weights: Weights = "linear",
        out: Any = None,
        scale: float = 1,
        fill: SupportsFloat = math.nan,
        reduce: Reduce = "mean",
        patches: Iterable[Patch] | None = None,
        image_id: Hashable = None,
    ) -> None:
        check_choice("weights", weights, Weights)
        check_choice("reduce", reduce, Reduce)
        scale = to_factor("scale", scale)
        self._img_shape = to_pair("shape", shape)
        self._shape = _scaled(self._img_shape, scale)
        self._weights: Weights = weights
        self._reduce: Reduce = reduce
        self._scale = scale
        self._path = to_path(out)
        self._out = None if self._path is not None else out
        self._image_id = image_id if image_id is not None else self._path or "stitched"
        self._dtype = _to_dtype(dtype, self._out, reduce)
        self._fill = _to_fill(fill, self._dtype)
        self._planned = None if patches is None else self._plan(patches)
        self._sums: BandSums | None = None
        self._sink: Sink | None = None
        self._result: LazyFrame | None = None
        self._channel_count = 0
        self._is_covered = True
        self._is_discarded = False

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` of the result."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the result."""
        return self._dtype

    @property
    def covered(self) -> Array:
        """Which pixels of the result some patch covers: a new array of bool, ``(height, width)``."""
        return np.zeros(self._shape, bool) if self._sums is None else self._sums.covered()

    def add(self, patch: Patch | tuple[Hashable, PatchRegion] | PatchRegion, values: Any, weight: Any = None) -> None:
        """Add a model's values for one patch.

        Args:
            patch: the patch, a request ``(image_id, region)``, or a region ``(y, x)`` in pixels of the image.
            values: ``(h, w)`` or ``(h, w, k)``, numbers: the size of the patch, by the factor from its scale to that of the stitcher.
            weight: a factor of the weights, a number or ``(h, w)``, from 0. Pixels of weight 0 are not covered. ``None``: 1.

        Raises:
            PatchError: the values, their shape or the weight do not fit, or no patch of ``patches`` is left for these rows.
            OutputError: finished rows cannot be written.
        """
        if self._result is not None or self._is_discarded:
            raise PatchError("the stitcher is closed; make a new one")
        patch = _to_patch(patch)
        with naming_image(patch.image_id):
            pixels, place = self._check(patch, values)
            sums = self._start(pixels.shape[2])
            height, width = self._shape
            planned_rows = place.rows_within(height)
            written = sums.find_written(planned_rows)
            if written is not None:
                raise PatchError(
                    f"{_name(patch)} reaches row {written} of the result, which is finished: more patches are there than in patches="
                )
            rows = range(planned_rows.start, min(planned_rows.stop, place.top + pixels.shape[0]))
            cols = range(max(place.left, 0), min(width, place.left + pixels.shape[1]))
            if rows and cols:
                window = np.s_[
                    rows.start - place.top : rows.stop - place.top, cols.start - place.left : cols.stop - place.left
                ]
                weights = self._weigh(patch, pixels.shape[:2], weight)
                order = place.top * (1 << 32) + place.left
                sums.add(rows.start, cols.start, pixels[window], weights[window], place=order)
            sums.count_down(planned_rows)

    def close(self) -> LazyFrame:
        """Finish, write what is not written yet, and return the result. A closed stitcher returns it again.

        After an error, it is not closed: add the patches that are missing, or make room for the file, and close it again.

        Raises:
            PatchError: a pixel of a result of integers is not covered, and there is no ``fill``.
            OutputError: the result cannot be written.
        """
        if self._is_discarded:
            raise PatchError("the stitcher is closed, and its result was discarded; make a new one")
        if self._result is None:
            if self._needs_cover:
                # Before anything is written, so that the missing patches can still be added.
                gap = (0, 0) if self._sums is None else self._sums.find_gap()
                if gap is not None:
                    raise self._no_fill(gap)
            # Without any patch, one channel without data.
            sums = self._start(self._channel_count or 1)
            assert self._sink is not None  # noqa: S101
            sums.finish()
            # Means of labels are no labels, and means with a fill value are no values.
            has_overviews = self._reduce != "argmax" and (self._is_covered or math.isnan(self._fill))
            nodata = None if self._needs_cover else self._fill
            self._result = self._sink.close(self._image_id, nodata, has_overviews=has_overviews)
        return self._result

    def discard(self) -> None:
        """Close without a result, and remove the file that was begun. It does nothing after :meth:`close`."""
        if self._result is None:
            self._is_discarded = True
            if self._sums is not None and self._sink is not None:
                self._sums.discard()
                self._sink.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._is_discarded:
                self.close()
        finally:
            self.discard()

    def __repr__(self) -> str:
        height, width = self._shape
        where = self._path or "memory"
        return f"<Stitcher: {height:,} x {width:,} px of {self._dtype}, {self._reduce} by {self._weights} weights, to {where}>"

    # -- checks ---------------------------------------------------------------------------------------------------

    @property
    def _needs_cover(self) -> bool:
        """Whether every pixel must be covered: there is no value for others."""
        return math.isnan(self._fill) and self._dtype.kind != "f"

    def _place_of(self, patch: Patch) -> _Place:
        factor = self._scale / (1 if patch.scale is None else patch.scale)
        height, width = patch.shape
        top, left = (math.floor(start * self._scale + 0.5) for start in (patch.rows.start, patch.cols.start))
        return _Place(top, left, (height * factor, width * factor))

    def _check(self, patch: Patch, values: Any) -> tuple[Array, _Place]:
        if patch.image_shape not in (None, self._img_shape):
            raise PatchError(
                f"{_name(patch)} is of an image of {patch.image_shape} px, the stitcher of one of {self._img_shape} px"
            )
        pixels, place = np.asarray(values), self._place_of(patch)
        exact = place.exact
        is_fitting = pixels.ndim in (2, 3) and all(
            abs(found - expected) < 1 - 1e-6 for found, expected in zip(pixels.shape, exact, strict=False)
        )
        if not is_fitting or not pixels.size or pixels.dtype.kind not in "biuf":
            raise PatchError(
                f"the values of {_name(patch)} are {pixels.shape} {pixels.dtype}; expected numbers ({exact[0]:g}, {exact[1]:g}) or "
                f"({exact[0]:g}, {exact[1]:g}, k): {patch.shape} px, times {self._scale:g} for the scale of the stitcher"
                + ("" if patch.scale is None else f", divided by {patch.scale:g} for that of the patch")
            )
        if pixels.ndim == 2:
            pixels = pixels[:, :, np.newaxis]
        if self._channel_count and pixels.shape[2] != self._channel_count:
            raise PatchError(
                f"the values of {_name(patch)} have {pixels.shape[2]} channels, those before {self._channel_count}"
            )
        if self._dtype.kind != "f" and pixels.dtype.kind == "f":
            # An infinite logit is a certain label, but an infinite mean is no integer.
            is_bad = np.isnan(pixels) if self._reduce == "argmax" else ~np.isfinite(pixels)
            if is_bad.any():
                raise PatchError(
                    f"the values of {_name(patch)} contain {pixels[is_bad][0]}, which {self._dtype} cannot hold"
                )
        return pixels, place

    def _weigh(self, patch: Patch, shape: tuple[int, int], weight: Any) -> Array:
        """The weight of each pixel of a patch, float64."""
        weights = _weights_of(self._weights, *shape)
        if weight is None:
            return weights
        try:
            factors = np.asarray(weight, np.float64)
        except (TypeError, ValueError):
            factors = np.full((), np.nan)
        if factors.shape not in ((), shape) or not np.isfinite(factors).all() or (factors < 0).any():
            raise PatchError(
                f"the weight of {_name(patch)} is {shorten(weight)}; give a finite number from 0, or an array {shape} of them"
            )
        return weights * factors

    def _plan(self, patches: Iterable[Patch]) -> Array:
        """For each band the number of patches that reach it."""
        height, width = self._shape
        # One more band, where the differences of the last one end.
        changes = np.zeros(-(-height // BAND_ROWS) + 1, np.int64)
        windows = []
        for patch in patches:
            place = self._place_of(_to_patch(patch))
            rows, cols = place.rows_within(height), place.cols_within(width)
            if rows:
                changes[rows.start // BAND_ROWS] += 1
                changes[-(-rows.stop // BAND_ROWS)] -= 1
                windows.append((rows.start, rows.stop, cols.start, cols.stop))
        if self._needs_cover:
            gap = _find_gap(np.array(windows, np.int64).reshape(-1, 4), self._shape)
            if gap is not None:
                raise self._no_fill(gap)
        planned: Array = np.cumsum(changes)[:-1]
        return planned

    def _no_fill(self, pixel: tuple[int, int]) -> PatchError:
        return PatchError(
            f"no patch covers the pixel (y, x) = {pixel} of the result, and {self._dtype} has no nan for it; give fill=, a value of "
            "pixels without data, or patches that cover the image"
        )

    # -- rows -----------------------------------------------------------------------------------------------------

    def _start(self, channel_count: int) -> BandSums:
        """The sums; made when the number of channels is known."""
        if self._sums is None:
            limits = None if self._dtype.kind in "fb" else np.iinfo(self._dtype)
            if self._reduce == "argmax" and limits is not None and channel_count - 1 > limits.max:
                raise PatchError(
                    f"{channel_count} channels do not fit into labels of {self._dtype}; {_MOST_LABELS_MESSAGE}"
                )
            self._channel_count = channel_count
            shape = (*self._shape, 1 if self._reduce == "argmax" else channel_count)
            self._sink = self._make_sink(shape)
            blend: Blend = "max" if self._reduce == "max" else "first" if self._weights == "centre" else "mean"
            folder = None if self._path is None else os.path.dirname(os.path.realpath(self._path))
            self._sums = BandSums(
                (*self._shape, channel_count), blend, self._write, planned=self._planned, folder=folder
            )
        return self._sums

    def _make_sink(self, shape: tuple[int, int, int]) -> Sink:
        if self._path is not None:
            return FileSink(self._path, shape, self._dtype)
        return (
            ArraySink(np.empty(shape, self._dtype))
            if self._out is None
            else to_array_sink(self._out, shape, self._dtype)
        )

    def _write(self, first_row: int, values: Array, weights: Array) -> None:
        is_empty = weights == 0
        has_empty = bool(is_empty.any())
        if has_empty and self._needs_cover:
            row, col = np.argwhere(is_empty)[0].tolist()
            raise self._no_fill((first_row + row, col))
        self._is_covered &= not has_empty
        if self._reduce == "argmax":
            values = values.argmax(axis=2)[:, :, np.newaxis].astype(self._dtype)
        pixels = round_to_dtype(values, self._dtype)
        if has_empty:
            pixels[is_empty] = self._fill
        assert self._sink is not None  # noqa: S101
        self._sink.write(first_row, pixels)


def _scaled(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (max(1, round(extent * scale)) for extent in shape)
    return height, width


def _to_patch(patch: Any) -> Patch:
    if isinstance(patch, Patch):
        return patch
    if isinstance(patch, Sequence) and len(patch) == 2 and not isinstance(patch[0], slice):
        return Patch(*patch)
    return Patch(None, patch)


def _name(patch: Patch) -> str:
    rows, cols = patch.rows, patch.cols
    return f"patch {patch.index} (rows {rows.start}:{rows.stop}, columns {cols.start}:{cols.stop})"


def _to_dtype(dtype: Any, out: Any, reduce: Reduce) -> np.dtype[Any]:
    """The dtype of the result, checked."""
    if dtype is None and out is not None:
        dtype = np.asarray(out).dtype
    try:
        found: np.dtype[Any] = np.dtype(("uint8" if reduce == "argmax" else "float32") if dtype is None else dtype)
    except TypeError as error:
        raise PatchError(f"dtype={shorten(dtype)} is not a dtype of numpy") from error
    if found.kind not in "biuf":
        raise PatchError(f"dtype={found}; give one of integers, floats or bools")
    # An array of foreign byte order is compared with, and copied from, one of this machine.
    native: np.dtype[Any] = found.newbyteorder("=")
    return native


def _to_fill(fill: Any, dtype: np.dtype[Any]) -> float:
    """The value of uncovered pixels, checked; an int for integers."""
    try:
        value = float(fill)
    except (TypeError, ValueError) as error:
        raise PatchError(f"fill={shorten(fill)}; give a number") from error
    if dtype.kind == "f" or math.isnan(value):
        return value
    limits = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if not (math.isfinite(value) and value == int(value) and limits[0] <= int(fill) <= limits[1]):
        raise PatchError(
            f"fill={shorten(fill)} is no value of {dtype}; give an integer from {limits[0]} to {limits[1]}"
        )
    return int(fill)


def _find_gap(windows: Array, shape: tuple[int, int]) -> tuple[int, int] | None:
    """A pixel ``(y, x)`` that no window ``(top, bottom, left, right)`` covers; ``None`` if they cover all pixels."""
    height, width = shape
    for first in range(0, height, BAND_ROWS):
        covered = np.zeros((min(BAND_ROWS, height - first), width), bool)
        is_near = (windows[:, 0] < first + BAND_ROWS) & (windows[:, 1] > first)
        for top, bottom, left, right in windows[is_near].tolist():
            covered[max(top - first, 0) : bottom - first, left:right] = True
        if not covered.all():
            row, col = np.argwhere(~covered)[0].tolist()
            return first + row, col
    return None


# -- weights ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _weights_of(kind: Weights, height: int, width: int) -> Array:
    """The weights of a patch: float64 ``(height, width)`` with whole numbers from 1, read-only."""
    if kind == "centre":
        weights = np.minimum.outer(_distances(height), _distances(width))
    else:
        along = _bell if kind == "gaussian" else _distances
        weights = np.multiply.outer(along(height), along(width))
    weights = weights.astype(np.float64)
    weights.flags.writeable = False
    return weights


def _distances(extent: int) -> Array:
    """The distance of each pixel from the ends of an axis, in pixels, from 1."""
    # With a limit: 24 bits of a float32 times the sum of the weights must fit into the 53 bits of a float64.
    rising = np.arange(1, extent + 1)
    distances: Array = np.minimum(np.minimum(rising, rising[::-1]), _MOST_WEIGHT)
    return distances


def _bell(extent: int) -> Array:
    """A Gaussian over an axis as whole numbers from 1: with rounded weights the sums are exact."""
    offsets = (np.arange(extent) + 0.5) / extent - 0.5
    bell: Array = np.maximum(np.rint(np.exp(-0.5 * (offsets / _SIGMA) ** 2) * _MOST_WEIGHT), 1).astype(np.int64)
    return bell
