"""Inference: run a model over patches, and put its answers together to an image or to the boxes of an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PatchError, naming_image, shorten
from ..frames.coco import make_coco_dataset
from .batches import read_batches
from .counts import to_count, to_factor
from .detections import make_annotations, make_categories, make_image
from .merge import check_part, merge_detections, to_numpy
from .patch import Patch
from .planes import group_by_plane, key_of
from .stitcher import Stitcher

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from .._typing import Array
    from ..frames.frames import Frames
    from ..frames.lazyframe import LazyFrame
    from .batches import ProgressCallback
    from .detections import LabelNames
    from .merge import MergeRule
    from .planes import Plane
    from .stitcher import Reduce, Weights

__all__ = ["MapModel", "detect", "stitch"]
#: Takes pixels ``(n, h, w, c)`` in the dtype of the frames, and returns values ``(n, h, w)`` or ``(n, h, w, k)``.
MapModel = Callable[["Array"], Any]
#: Takes pixels ``(n, h, w, c)``, and returns for each patch a mapping with ``boxes``, ``scores`` and ``labels``.
DetectionModel = Callable[["Array"], Sequence[Mapping[str, Any]]]


def stitch(  # noqa: PLR0913 - one keyword for each option
    frames: Frames,
    patches: Iterable[Patch],
    model: MapModel,
    *,
    image_id: Hashable = None,
    batch_size: int = 16,
    out: Any = None,
    weights: Weights = "linear",
    reduce: Reduce = "mean",
    dtype: Any = None,
    fill: float = math.nan,
    channels: str | Sequence[str] | None = None,
    progress: ProgressCallback | None = None,
) -> LazyFrame | dict[Hashable, LazyFrame]:
    """Run a model over the patches of images, and stitch its values together.

    A thread reads the next batch while the model runs. A result is finished as soon as the last patch of its image is done, and its
    rows earlier; see :class:`Stitcher` for the memory that it takes.

    The model may return fewer or more pixels than a patch has, by a whole factor. The result is on the grid of its values: that of
    the image times the ``scale`` of the patches times that factor; all patches of an image must have one scale.

    Args:
        frames: the images.
        patches: which regions; patches of a video or sequence must be single frames.
        model: takes pixels ``(n, h, w, c)`` in the dtype of the frames; regions outside of an image are 0. Returns an array or tensor
            ``(n, h, w)`` or ``(n, h, w, k)``.
        image_id: only the patches of this image; ``None``: of all images.
        batch_size: the most patches that the model gets at once. Patches of another shape begin a new batch.
        out: as for :class:`Stitcher`; for several images a mapping from image ids to that, or ``None``.
        weights: as for :class:`Stitcher`.
        reduce: as for :class:`Stitcher`.
        dtype: of the result. ``None``: that of the model's values, or uint8 for ``reduce="argmax"``; or that of ``out``.
        fill: as for :class:`Stitcher`.
        channels: as for :meth:`ndframes.Frames.load_regions`.
        progress: called after each batch with the number of patches that are done, and of all.

    Returns:
        The result ``(height, width, k)``, if the patches are of one image, or ``image_id`` is given; its id is that of the image.
        Otherwise a dict of results by image id, by ``(image_id, time)`` for frames of a video.

    Raises:
        PatchError: the patches or the values of the model are not valid; the message names the patch and what was expected.
        OutputError: ``out`` cannot be written.
        NdframesError: as :meth:`ndframes.Frames.load_regions`.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.feed import GridPatches, stitch
        >>> frames = nf.SimpleFrames.demo(backend=None)
        >>> patches = GridPatches(frames, (128, 128), overlap=32, image_ids=["coffee"])
        >>> brightness = stitch(frames, patches, lambda pixels: pixels.mean(axis=3))
        >>> brightness.shape, bool(brightness[100, 100, 0] == frames.load_image("coffee")[100, 100].mean())
        ((400, 600, 1), True)
    """
    batch_size = to_count("batch_size", batch_size, "a number of patches")
    planes = group_by_plane(frames, patches, image_id)
    outs = _outs_of(out, planes.values())
    _check_scales(planes.values())
    jobs = {
        key: _StitchJob(plane, {"out": outs.get(plane.key), "weights": weights, "reduce": reduce, "fill": fill}, dtype)
        for key, plane in planes.items()
    }
    todo = [patch for plane in planes.values() for patch in plane.patches]
    done = 0
    try:
        # Closed, so that no thread is left reading after an error of the model.
        with closing(read_batches(frames, todo, channels, batch_size)) as batches:
            for batch, pixels in batches:
                values = _check_values(model(pixels), batch)
                for patch, item in zip(batch, values, strict=True):
                    jobs[key_of(patch)].add(patch, item)
                done += len(batch)
                if progress is not None:
                    progress(done, len(todo))
    finally:
        for job in jobs.values():
            job.discard()
    results = {job.plane.key: job.result for job in jobs.values()}
    return next(iter(results.values())) if len(results) == 1 else results


class _StitchJob:
    """The stitching of one image. The stitcher is made with the first values, which give its scale and dtype."""

    def __init__(self, plane: Plane, options: dict[str, Any], dtype: Any) -> None:
        self.plane = plane
        self._options = options
        self._dtype = dtype
        self._left = len(plane.patches)
        self._stitcher: Stitcher | None = None
        # Made without values, so that wrong options and an output that cannot be written are errors before the model runs.
        self._make(dtype, 1, patches=None).discard()

    @property
    def result(self) -> LazyFrame:
        """The result, after all patches were added."""
        assert self._stitcher is not None  # noqa: S101
        return self._stitcher.close()

    def add(self, patch: Patch, values: Array) -> None:
        """Add the values of a patch, and finish after the last one."""
        if self._stitcher is None:
            dtype = self._dtype
            if dtype is None and self._options["reduce"] != "argmax" and not _is_array(self._options["out"]):
                dtype = values.dtype
            with naming_image(self.plane.image_id):
                scale = (patch.scale or 1) * _factor_between(patch, values.shape)
                self._stitcher = self._make(dtype, scale, patches=self.plane.patches)
        self._stitcher.add(patch, values)
        self._left -= 1
        if not self._left:
            with naming_image(self.plane.image_id):
                self._stitcher.close()

    def discard(self) -> None:
        """Remove what was begun, if it is not finished."""
        if self._stitcher is not None:
            self._stitcher.discard()

    def _make(self, dtype: Any, scale: float, *, patches: Iterable[Patch] | None) -> Stitcher:
        plane = self.plane
        with naming_image(plane.image_id):
            return Stitcher(plane.shape, dtype=dtype, scale=scale, patches=patches, image_id=plane.key, **self._options)


def detect(  # noqa: PLR0913 - one keyword for each option
    frames: Frames,
    patches: Iterable[Patch],
    model: DetectionModel,
    *,
    image_id: Hashable = None,
    batch_size: int = 16,
    whole: float | None = None,
    rule: MergeRule = "seam",
    iou: float = 0.5,
    ios: float = 0.5,
    class_agnostic: bool = False,
    max_gap: float = 0,
    names: LabelNames | None = None,
    channels: str | Sequence[str] | None = None,
    progress: ProgressCallback | None = None,
) -> Any:
    """Run a detector over the patches of images, and merge its boxes to annotations of the images.

    Args:
        frames: the images.
        patches: which regions; patches of a video or sequence must be single frames.
        model: takes pixels ``(n, h, w, c)`` in the dtype of the frames; regions outside of an image are 0. Returns for each patch a
            mapping with ``boxes`` ``(n, 4)`` xyxy in pixels of the patch, ``scores`` and ``labels``, arrays or tensors. Other entries
            of length ``n`` become entries of the annotations.
        image_id: only the patches of this image; ``None``: of all images.
        batch_size: the most patches that the model gets at once. Patches of another shape begin a new batch.
        whole: the scale of one more patch that spans the whole image, for objects that are larger than the other patches, such as
            ``0.25``; ``None``: there is none.
        rule: as for :func:`merge_detections`, as are ``iou``, ``ios``, ``class_agnostic`` and ``max_gap``.
        iou: see there.
        ios: see there.
        class_agnostic: see there.
        max_gap: see there.
        names: the names of the labels, by number or as a mapping; all of them become categories. ``None``: a text is its own name, a
            number ``n`` gets ``"class_n"``.
        channels: as for :meth:`ndframes.Frames.load_regions`.
        progress: called after each batch with the number of patches that are done, and of all.

    Returns:
        A ``kwcoco.CocoDataset``. Its images are those of the patches, with the ids of the frames where these are integers, and with the
        files of the frames, so that ``CocoFrames`` reads it. Its annotations have a ``bbox`` ``(x, y, width, height)`` within the
        image, a ``score`` and a ``category_id``, which is the label if that is a number.

    Raises:
        PatchError: the patches or the answers of the model are not valid; the message names the patch and what was expected.
        NdframesError: as :meth:`ndframes.Frames.load_regions`.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.feed import GridPatches, detect
        >>> frames = nf.SimpleFrames.demo(backend=None)
        >>> patches = GridPatches(frames, (200, 300), image_ids=["coffee"])
        >>> find = lambda pixels: [{"boxes": [[20, 30, 60, 50]], "scores": [0.9], "labels": ["cup"]} for _ in pixels]
        >>> found = detect(frames, patches, find)
        >>> found.n_images, found.n_annots, found.annots().objs[3]["bbox"]
        (1, 4, [320.0, 230.0, 40.0, 20.0])
    """
    batch_size = to_count("batch_size", batch_size, "a number of patches")
    planes = group_by_plane(frames, patches, image_id)
    if whole is not None:
        for plane in planes.values():
            plane.patches.append(_whole_patch(plane, whole))
    merge = partial(merge_detections, rule=rule, iou=iou, ios=ios, class_agnostic=class_agnostic, max_gap=max_gap)
    # Without boxes, so that wrong options are errors before the model runs.
    merge([], [])
    todo = [patch for plane in planes.values() for patch in plane.patches]
    parts: dict[Any, list[Mapping[str, Any]]] = {key: [] for key in planes}
    merged: dict[Any, dict[str, Any]] = {}
    done = 0
    with closing(read_batches(frames, todo, channels, batch_size)) as batches:
        for batch, pixels in batches:
            for patch, part in zip(batch, _check_parts(model(pixels), batch), strict=True):
                key = key_of(patch)
                parts[key].append(check_part(part, patch, len(parts[key])))
                if len(parts[key]) == len(planes[key].patches):
                    # The boxes of an image are merged as soon as it is done, and take less memory from then on.
                    merged[key] = merge(parts.pop(key), planes[key].patches)
            done += len(batch)
            if progress is not None:
                progress(done, len(todo))
    return _to_dataset(frames, planes, merged, names)


def _to_dataset(
    frames: Frames, planes: Mapping[Any, Plane], merged: Mapping[Any, dict[str, Any]], names: LabelNames | None
) -> Any:
    """The dataset of all images and boxes."""
    numbers = _number_images(planes)
    images, labels = [], []
    annotations: list[dict[str, Any]] = []
    for key, plane in planes.items():
        images.append(make_image(frames.pathinfo(plane.image_id), plane.time, plane.shape, numbers[key]))
        found, found_labels = make_annotations(merged[key], numbers[key], plane.shape, len(annotations) + 1)
        annotations += found
        labels += found_labels
    categories, ids = make_categories(labels, names)
    for annotation, label in zip(annotations, labels, strict=True):
        annotation["category_id"] = ids[label]
    return make_coco_dataset({"images": images, "categories": categories, "annotations": annotations})


def _number_images(planes: Mapping[Any, Plane]) -> dict[Any, int]:
    """An integer id for each image: its own, if that is one."""
    kept = {
        key: int(plane.image_id)
        for key, plane in planes.items()
        if plane.time is None and isinstance(plane.image_id, (int, np.integer)) and not isinstance(plane.image_id, bool)
    }
    taken = set(kept.values())
    free = (number for number in range(1, len(planes) + len(taken) + 1) if number not in taken)
    return {key: kept[key] if key in kept else next(free) for key in planes}


def _whole_patch(plane: Plane, scale: float) -> Patch:
    scale = to_factor("whole", scale, "the scale of a pass over the whole image, such as 0.25, or None")
    height, width = plane.shape
    region: Any = (slice(0, height), slice(0, width))
    region = region if plane.time is None else (plane.time, *region)
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    number = len(plane.patches)
    return Patch(plane.image_id, region, scale=float(scale), index=number, image_shape=plane.shape, result_shape=shape)


# -- answers of models ------------------------------------------------------------------------------------------------


def _check_parts(answer: Any, batch: Sequence[Patch]) -> Sequence[Any]:
    if isinstance(answer, (Mapping, str)) or not isinstance(answer, Sequence) or len(answer) != len(batch):
        found = f"{len(answer)} items" if isinstance(answer, Sequence) else f"a {type(answer).__name__}"
        raise PatchError(
            f"the model returned {found} for {_names(batch)}; expected a list of {len(batch)} mappings with boxes, scores and labels"
        )
    return answer


def _check_values(answer: Any, batch: Sequence[Patch]) -> Array:
    """The values of a batch as an array ``(n, h, w)`` or ``(n, h, w, k)``."""
    count, (height, width) = len(batch), batch[0].shape
    expected = f"expected numbers ({count}, {height}, {width}) or ({count}, {height}, {width}, k), or h and w by a whole factor less or more"
    try:
        values = to_numpy(answer)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PatchError(
            f"the model returned a {type(answer).__name__} for {_names(batch)}, which is no array: {error}; {expected}"
        ) from error
    if (
        values.dtype.kind not in "biuf"
        or values.ndim not in (3, 4)
        or len(values) != count
        or _find_factor(batch[0], values.shape[1:]) is None
    ):
        raise PatchError(f"the model returned {values.shape} {values.dtype} for {_names(batch)}; {expected}")
    return values


def _find_factor(patch: Patch, shape: tuple[int, ...]) -> float | None:
    """The factor from the size of a patch to that of its values: a whole number, or 1 over one. ``None`` if there is no such factor."""
    if not all(shape):
        return None
    (height, width), (rows, cols) = patch.shape, shape[:2]
    if rows >= height:
        number = round(rows / height)
        return number if (rows, cols) == (height * number, width * number) else None
    # The longer side, whose ratio is rounded less.
    number = round(height / rows if height > width else width / cols)
    is_fitting = number and abs(rows - height / number) < 1 and abs(cols - width / number) < 1
    return 1 / number if is_fitting else None


def _factor_between(patch: Patch, shape: tuple[int, ...]) -> float:
    factor = _find_factor(patch, shape)
    assert factor is not None  # noqa: S101 - the shape was checked with the batch
    return factor


def _names(batch: Sequence[Patch]) -> str:
    first, last = batch[0], batch[-1]
    if first is last:
        return f"patch {first.index} of image {shorten(first.image_id)}"
    if first.image_id == last.image_id:
        return f"patches {first.index} to {last.index} of image {shorten(first.image_id)}"
    return f"patches {first.index} of image {shorten(first.image_id)} to {last.index} of {shorten(last.image_id)}"


def _check_scales(planes: Iterable[Plane]) -> None:
    for plane in planes:
        scales = {patch.scale or 1 for patch in plane.patches}
        if len(scales) > 1:
            with naming_image(plane.image_id):
                raise PatchError(
                    f"its patches have the scales {shorten(sorted(scales))}; stitch those of each scale on their own"
                )


def _outs_of(out: Any, planes: Iterable[Plane]) -> dict[Hashable, Any]:
    """Where the result of each image goes."""
    keys = [plane.key for plane in planes]
    if out is None:
        return {}
    if isinstance(out, Mapping):
        unknown = [key for key in out if key not in keys]
        if unknown:
            raise PatchError(f"out names {shorten(unknown)}, of which there are no patches; there are {shorten(keys)}")
        return dict(out)
    if len(keys) > 1:
        raise PatchError(
            f"out={shorten(out)} is for one image, but the patches are of {len(keys):,}; give a mapping from image ids, or image_id="
        )
    return {keys[0]: out}


def _is_array(out: Any) -> bool:
    return out is not None and not isinstance(out, str) and hasattr(out, "shape")
