"""Reading patches: several of them as one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import naming_image
from ..geometry.regions import to_row

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from typing_extensions import Unpack

    from .._typing import Array
    from ..frames.frames import Frames
    from ..pixels.options import ReadKeywords
    from .patch import Patch

__all__ = ["load_frames", "load_patches", "stack_results"]


def load_patches(
    frames: Frames,
    patches: Sequence[Patch],
    channels: str | Sequence[str] | None = None,
    *,
    out: Any = None,
    workers: int | None = None,
    **options: Unpack[ReadKeywords],
) -> Any:
    """Read patches as one batch.

    Patches inside their images are read together, each tile under them once. Those that reach beyond their image are padded,
    with ``fill`` unless ``pad`` says otherwise, and scaled ones are resampled.

    Args:
        frames: the images.
        patches: what to read, in any order; results are in the order of the patches.
        channels: as in :meth:`ndframes.Frames.load_region`, for all patches.
        out: the arrays for the results, as in :meth:`ndframes.Frames.load_regions`.
        workers: the number of threads, as in :meth:`ndframes.Frames.load_regions`.
        **options: as in :meth:`ndframes.Frames.load_region`. A patch's own scale comes before ``scale`` and ``shape``.

    Returns:
        ``out``, or a new array ``(n, height, width, channels)``, with the time in front of the height for patches of several
        frames; a list of arrays where shapes or dtypes differ, or ``n`` is 0.

    Raises:
        NdframesError: as :meth:`ndframes.Frames.load_regions`.

    Example:
        >>> import ndframes as nf
        >>> from ndframes.feed import GridPatches
        >>> frames = nf.SimpleFrames.demo(backend=None)
        >>> patches = GridPatches(frames, (256, 256), image_ids=["coffee"], edge="pad")
        >>> load_patches(frames, patches[:4]).shape
        (4, 256, 256, 3)
    """
    groups: dict[tuple[object, object], list[int]] = {}
    for number, patch in enumerate(patches):
        own = patch.read_options
        groups.setdefault((own.get("pad"), own.get("shape")), []).append(number)
    if len(groups) <= 1:
        merged = _merge(options, patches[0]) if groups else options
        return frames.load_regions([patch.request for patch in patches], channels, workers=workers, out=out, **merged)
    results: list[Any] = [None] * len(patches)
    for numbers in groups.values():
        # Views, not items: an item of an array of numbers is a copy.
        targets = None if out is None else [out[number] for number in numbers]
        merged = _merge(options, patches[numbers[0]])
        requests = [patches[number].request for number in numbers]
        group = frames.load_regions(requests, channels, workers=workers, out=targets, **merged)
        for number, result in zip(numbers, group, strict=True):
            results[number] = result
    return stack_results(results) if out is None else out


def load_frames(
    frames: Frames,
    video_id: Hashable,
    numbers: Sequence[int],
    channels: str | Sequence[str] | None = None,
    *,
    plane: tuple[Any, ...] = (),
    workers: int | None = None,
    **options: Unpack[ReadKeywords],
) -> Any:
    """Read frames of a video or sequence by their numbers. Each frame is read once.

    Args:
        frames: the images.
        video_id: which of them.
        numbers: frames in any order, with repetitions; negative ones count from the end.
        channels: as in :meth:`ndframes.Frames.load_region`.
        plane: the region ``(y, x)`` of each frame; empty: whole frames.
        workers: the number of threads that read the images of a sequence, as in :meth:`ndframes.Frames.load_regions`.
        **options: as in :meth:`ndframes.Frames.load_region`.

    Returns:
        A new array ``(n, height, width, channels)``; of a sequence a list of arrays where shapes or dtypes differ.

    Raises:
        RegionIndexError: there is no such frame.
        NdframesError: as :meth:`ndframes.Frames.load_region`.

    Example:
        >>> import ndframes as nf
        >>> for number in range(4):
        ...     np.save(getfixture("tmp_path") / f"{number}.npy", np.full((2, 3), number, np.uint8))
        >>> walk = nf.SimpleFrames({"walk": getfixture("tmp_path")}, backend=None)
        >>> load_frames(walk, "walk", [2, 0, 2])[:, 0, 0, 0].tolist()
        [2, 0, 2]
    """
    video = frames.image(video_id)
    count = len(video.frame_ids)
    with naming_image(video_id):
        rows = [to_row(number, count) for number in numbers]
    if video.is_video:
        # One read, so that the decoder goes through the file once.
        region: Any = (rows, *plane)
        return frames.load_region(video_id, region, channels, **options)
    different = list(dict.fromkeys(rows))
    read = frames.load_regions([(video_id, (row, *plane)) for row in different], channels, workers=workers, **options)
    if len(different) == len(rows):
        return read
    places = {row: place for place, row in enumerate(different)}
    order = [places[row] for row in rows]
    return [read[place].copy() for place in order] if isinstance(read, list) else read[order]


def stack_results(results: Sequence[Array]) -> Any:
    """Results as one array ``(n, ...)``; as a list where shapes or dtypes differ, or there are none."""
    if len({(item.shape, item.dtype) for item in results}) != 1:
        return list(results)
    stack = np.ma.stack if any(isinstance(item, np.ma.MaskedArray) for item in results) else np.stack
    return stack(results)


def _merge(options: ReadKeywords, patch: Patch) -> ReadKeywords:
    """The options for a patch: its own come first, but for the kind of padding."""
    merged: ReadKeywords = {**options}
    own = patch.read_options
    if "shape" in own:
        merged.pop("scale", None)
        merged["shape"] = own["shape"]
    if "pad" in own and merged.get("pad") is None:
        merged["pad"] = own["pad"]
    return merged
