"""ClipDataset: a fixed number of frames around a frame of a video or sequence."""

from __future__ import annotations

import hashlib
import operator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, SupportsIndex

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import PatchError, RegionError, check_choice, naming_image, shorten
from ..feed.counts import to_count
from ..feed.order import check_seed, mix
from ..feed.patch import Patch
from ..feed.reading import load_frames
from ..frames.frames import check_frames
from .batch import to_dtype
from .naming import note_item

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from ..frames.frames import Frames
    from ..pixels.options import ReadKeywords

__all__ = ["Anchor", "BeyondEnd", "ClipDataset"]
#: Which frame of a clip the requested frame is.
Anchor = Literal["start", "middle", "end"]
#: What stands for frames before the first and after the last: the nearest one, zeros marked in ``mask``, or an error.
BeyondEnd = Literal["repeat", "mask", "error"]
_TRANSFORM = 0x636C697073


class ClipDataset(Dataset[dict[str, Any]]):
    """Clips as dictionaries with the keys ``frames`` ``(t, c, h, w)``, ``pts`` ``(t,)``, ``mask`` ``(t,)`` and ``clip``.

    ``pts`` are the times of the frames in seconds, float64; of a sequence without times their numbers. ``mask`` is false where
    the video has no frame. ``clip`` is ``(image_id, frame)``. Each frame is decoded once; a crop of it is all that is read.
    Batches have these values in :attr:`Batch.more`, and ``clip`` there as a list of pairs.

    Give a stock ``DataLoader`` a :class:`Sampler`: with ``shuffle=True`` alone, all epochs have the same augmentations.
    :class:`PatchLoader` needs none.

    Args:
        frames: the videos.
        clips: pairs ``(image_id, frame)``, or triples with a region of the frames, slices ``(y, x)``. As the region of a
            :class:`~ndframes.feed.Patch` it may reach beyond the frames, and is padded with zeros: a negative start lies
            outside, and does not count from the end. An open end of a slice is the edge of the frame.
        num_frames: the number of frames of each clip.
        every: the step between them.
        at: which frame of the clip the given one is: ``"start"``, the first; ``"middle"``, the one with the number
            ``num_frames // 2``, counted from 0; or ``"end"``, the last.
        policy: what stands for frames before the first and after the last of the video: ``"repeat"``, the nearest frame;
            ``"mask"``, zeros, with not-a-numbers in ``pts``; or ``"error"``: a clip that needs some is an error at
            construction. ``mask`` is false for such frames with ``"repeat"``, too.
        times: instead of ``num_frames`` and ``every``: the frames that are shown at these times in seconds, counted from that
            of the given frame.
        channels: as for :meth:`ndframes.Frames.load_region`.
        transform: called with a sample and a ``numpy.random.Generator`` that depends on ``seed``, the epoch and the item only.
        seed: of these generators.
        dtype: of the frames; values are cast, not scaled. ``None``: that of the video.

    Attributes:
        frames: the videos.
        clips: the clips as triples ``(image_id, frame, region)``.
        fingerprint: a digest of the clips and of everything on which their frames depend.

    Raises:
        PatchError: an argument is not valid, or a clip lies outside of its video.
        RegionError: a region is not made of two slices without a step.
        ValueError: the seed is not an integer from 0.

    Example:
        >>> import ndframes as nf
        >>> path = getfixture("tmp_path") / "walk.mp4"
        >>> _ = nf.write_video(path, np.zeros((10, 32, 48, 3), np.uint8), fps=5)
        >>> frames = nf.SimpleFrames({"walk": path}, workdir=getfixture("tmp_path"))
        >>> clip = ClipDataset(frames, [("walk", 8)], num_frames=4, policy="mask")[0]
        >>> clip["frames"].shape, clip["pts"].tolist(), clip["mask"].tolist()
        (torch.Size([4, 3, 32, 48]), [1.6, 1.8, nan, nan], [True, True, False, False])
    """

    #: Whether an index names the epoch, too; told to samplers by the class.
    decodes_epochs: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913 - one keyword for each option
        self,
        frames: Frames,
        clips: Iterable[tuple[Any, ...]],
        *,
        num_frames: int | None = None,
        every: int = 1,
        at: Anchor = "start",
        policy: BeyondEnd = "repeat",
        times: Sequence[float] | None = None,
        channels: str | Sequence[str] | None = None,
        transform: Callable[[dict[str, Any], np.random.Generator], Any] | None = None,
        seed: int = 0,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        check_choice("at", at, Anchor)
        check_choice("policy", policy, BeyondEnd)
        if (num_frames is None) == (times is None):
            raise PatchError("give either num_frames or times")
        count = 0 if num_frames is None else to_count("num_frames", num_frames, "a number of frames")
        every = to_count("every", every, "a number of frames")
        check_frames(frames)
        self.frames = frames
        first = {"start": 0, "middle": count // 2, "end": count - 1}[at]
        self._steps = (np.arange(count) - first) * every
        self._seconds = None if times is None else _to_seconds(times)
        self._policy: BeyondEnd = policy
        self._channels, self._transform, self._seed = channels, transform, check_seed(seed)
        self._dtype = to_dtype(dtype)
        # Height and width of the frames of each video.
        self._shapes: dict[Hashable, tuple[int, int]] = {}
        self.clips = list(self._checked(clips))
        if not self.clips:
            raise PatchError("there are no clips; give at least one pair (image_id, frame)")
        seconds = None if self._seconds is None else self._seconds.tolist()
        definition = (self.clips, self._steps.tolist(), seconds, policy, seed)
        self.fingerprint = hashlib.blake2b(repr(definition).encode(), digest_size=12).hexdigest()

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # Python's own iteration ends at an IndexError, and indices go on with the next epoch.
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        number = operator.index(index)
        if number < 0:
            raise IndexError(f"index {number}; indices of a dataset are counted from 0")
        epoch, item = divmod(number, len(self))
        action = "reading"
        try:
            sample = self._read(*self.clips[item])
            if self._transform is None:
                return sample
            action = "transforming"
            key = mix(_TRANSFORM, self._seed, epoch, item)
            found: dict[str, Any] = self._transform(sample, np.random.Generator(np.random.Philox(key=key)))
        except Exception as error:
            note_item(error, action, epoch, item, self.clips[item])
            raise
        return found

    def _read(self, image_id: Hashable, frame: int, region: tuple[slice, slice] | None) -> dict[str, Any]:
        with naming_image(image_id):
            numbers, times = self._find(image_id, frame)
            is_inside = (numbers >= 0) & (numbers < len(times))
            read = numbers.clip(0, len(times) - 1)
            pts = times[read]
            options: ReadKeywords = {}
            if region is not None:
                options = Patch(image_id, region, image_shape=self._shapes[image_id]).read_options
            pixels = load_frames(self.frames, image_id, read.tolist(), self._channels, plane=region or (), **options)
        if self._policy == "mask":
            pixels[~is_inside] = 0
            pts = np.where(is_inside, pts, np.nan)
        tensor = torch.from_numpy(pixels).movedim(-1, -3)
        return {
            "frames": tensor if self._dtype is None else tensor.to(self._dtype),
            "pts": torch.from_numpy(pts),
            "mask": torch.from_numpy(is_inside),
            "clip": (image_id, frame),
        }

    def _find(self, image_id: Hashable, frame: int) -> tuple[Any, Any]:
        """The numbers of a clip's frames, which may lie outside of the video, and the times of all frames of the video."""
        times = self._times(image_id)
        if self._seconds is None:
            numbers = frame + self._steps
        else:
            moments = times[frame] + self._seconds
            # As LazyVideo.at_time: a time that was computed may round to just below that of its frame.
            numbers = np.searchsorted(times, moments + 1e-9, side="right") - 1
            step = times[-1] - times[-2] if len(times) > 1 else np.inf
            numbers = np.where(moments >= times[-1] + step - 1e-9, len(times), numbers)
        return numbers, times

    def _times(self, image_id: Hashable) -> Any:
        frame = self.frames.load_frame(image_id)
        return np.asarray(getattr(frame, "times", np.arange(len(frame))), np.float64)

    def _checked(self, clips: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, int, tuple[slice, slice] | None]]:
        """Clips as triples, whose regions have no open ends."""
        counts: dict[Hashable, int] = {}
        for clip in clips:
            image_id, frame, plane = _to_clip(clip)
            with naming_image(image_id):
                if image_id not in counts:
                    extents = self.frames.extents(image_id)
                    if len(extents) < 3:
                        raise PatchError("it has no time axis; give videos or sequences")
                    counts[image_id], self._shapes[image_id] = extents[0], (extents[1], extents[2])
                self._check_frames(image_id, frame, counts[image_id])
                yield image_id, frame, None if plane is None else _close_ends(plane, self._shapes[image_id])

    def _check_frames(self, image_id: Hashable, frame: int, count: int) -> None:
        if not 0 <= frame < count:
            raise PatchError(f"frame {frame} of a clip is out of range; there are {count:,} frames")
        if self._policy == "error":
            numbers = self._find(image_id, frame)[0]
            if numbers.min() < 0 or numbers.max() >= count:
                raise PatchError(
                    f"the clip at frame {frame} needs the frames {numbers.min()} to {numbers.max()} of {count:,}; use "
                    "policy='repeat' or 'mask', or other clips"
                )


def _to_clip(clip: Any) -> tuple[Any, int, tuple[Any, ...] | None]:
    try:
        image_id, frame, *plane = clip
        region = tuple(plane[0]) if plane else None
        return image_id, operator.index(frame), region
    except (TypeError, ValueError) as error:
        raise PatchError(
            f"a clip must be (image_id, frame) or (image_id, frame, (y, x)), got {shorten(clip)}"
        ) from error


def _close_ends(plane: tuple[Any, ...], shape: Sequence[int]) -> tuple[slice, slice]:
    """A region of frames of a shape, checked as that of a patch; open ends become the edges.

    Raises:
        RegionError: it is not made of two slices without a step, or one of them runs backwards.
    """
    if len(plane) != 2:
        raise RegionError(f"a clip needs a region (y, x), got {shorten(plane)}")
    closed = [
        slice(0 if axis.start is None else axis.start, extent if axis.stop is None else axis.stop, axis.step)
        if isinstance(axis, slice)
        else axis
        for axis, extent in zip(plane, shape, strict=True)
    ]
    rows, cols = Patch(None, (closed[0], closed[1])).region[-2:]
    return rows, cols


def _to_seconds(times: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Times from that of a clip's frame, checked."""
    try:
        seconds = np.asarray(times, np.float64)
    except (TypeError, ValueError):
        seconds = np.empty(0)
    if seconds.ndim != 1 or not len(seconds) or not np.isfinite(seconds).all():
        raise PatchError(f"times={shorten(times)}; give at least one finite number of seconds, in a list")
    return seconds
