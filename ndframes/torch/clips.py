"""ClipDataset: a fixed number of frames around a frame of a video or sequence."""

from __future__ import annotations

import hashlib
import operator
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import PatchError, check_choice, naming_image, shorten
from ..feed.counts import to_count
from ..feed.order import mix
from ..feed.reading import load_frames
from .batch import to_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from ..frames.frames import Frames

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

    Args:
        frames: the videos.
        clips: pairs ``(image_id, frame)``, or triples with a region ``(y, x)`` of the frames.
        num_frames: the number of frames of each clip.
        every: the step between them.
        at: which frame of the clip the given one is.
        policy: what stands for frames beyond the ends of the video.
        times: instead of ``num_frames`` and ``every``: the frames that are shown at these times in seconds, counted from that
            of the given frame.
        channels: as for :meth:`ndframes.Frames.load_region`.
        transform: called with a sample and a ``numpy.random.Generator`` that depends on ``seed``, the epoch and the item only.
        seed: of these generators.
        dtype: of the frames; values are cast, not scaled. ``None``: that of the video.

    Raises:
        PatchError: an argument is not valid, or a clip lies outside of its video.

    Example:
        >>> import ndframes as nf
        >>> path = getfixture("tmp_path") / "walk.mp4"
        >>> _ = nf.write_video(path, np.zeros((10, 32, 48, 3), np.uint8), fps=5)
        >>> frames = nf.SimpleFrames({"walk": path}, workdir=getfixture("tmp_path"))
        >>> clip = ClipDataset(frames, [("walk", 8)], num_frames=4, policy="mask")[0]
        >>> clip["frames"].shape, clip["pts"].tolist(), clip["mask"].tolist()
        (torch.Size([4, 3, 32, 48]), [1.6, 1.8, nan, nan], [True, True, False, False])
    """

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
        self.frames, self.clips = frames, [_to_clip(clip) for clip in clips]
        if not self.clips:
            raise PatchError("there are no clips; give at least one pair (image_id, frame)")
        first = {"start": 0, "middle": count // 2, "end": count - 1}[at]
        self._steps = (np.arange(count) - first) * every
        self._seconds = None if times is None else np.asarray(times, np.float64)
        self._policy: BeyondEnd = policy
        self._channels, self._transform, self._seed, self._dtype = channels, transform, seed, to_dtype(dtype)
        self._check_clips()
        definition = repr((self.clips, self._steps.tolist(), times and list(times), policy, seed))
        #: By which a state recognizes the clips.
        self.fingerprint = hashlib.blake2b(definition.encode(), digest_size=12).hexdigest()

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # Python's own iteration ends at an IndexError, and indices go on with the next epoch.
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        epoch, item = divmod(operator.index(index), len(self))
        image_id, frame, plane = self.clips[item]
        with naming_image(image_id):
            numbers, times = self._find(image_id, frame)
            is_inside = (numbers >= 0) & (numbers < len(times))
            read = numbers.clip(0, len(times) - 1)
            pts = times[read]
            pixels = load_frames(self.frames, image_id, read.tolist(), self._channels, plane=plane)
        if self._policy == "mask":
            pixels[~is_inside] = 0
            pts = np.where(is_inside, pts, np.nan)
        tensor = torch.from_numpy(pixels).movedim(-1, -3)
        sample = {
            "frames": tensor if self._dtype is None else tensor.to(self._dtype),
            "pts": torch.from_numpy(pts),
            "mask": torch.from_numpy(is_inside),
            "clip": (image_id, frame),
        }
        if self._transform is None:
            return sample
        found: dict[str, Any] = self._transform(
            sample, np.random.Generator(np.random.Philox(key=mix(_TRANSFORM, self._seed, epoch, item)))
        )
        return found

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

    def _check_clips(self) -> None:
        counts: dict[Hashable, int] = {}
        for image_id, frame, _ in self.clips:
            with naming_image(image_id):
                if image_id not in counts:
                    extents = self.frames.extents(image_id)
                    if len(extents) < 3:
                        raise PatchError("it has no time axis; give videos or sequences")
                    counts[image_id] = extents[0]
                if not 0 <= frame < counts[image_id]:
                    raise PatchError(f"frame {frame} of a clip is out of range; there are {counts[image_id]:,} frames")
                if self._policy == "error":
                    numbers = self._find(image_id, frame)[0]
                    if numbers.min() < 0 or numbers.max() >= counts[image_id]:
                        raise PatchError(
                            f"the clip at frame {frame} needs the frames {numbers.min()} to {numbers.max()} of "
                            f"{counts[image_id]:,}; use policy='repeat' or 'mask', or other clips"
                        )


def _to_clip(clip: Any) -> tuple[Any, int, tuple[Any, ...]]:
    try:
        image_id, frame, *plane = clip
        region = tuple(plane[0]) if plane else ()
        return image_id, operator.index(frame), region
    except (TypeError, ValueError) as error:
        raise PatchError(
            f"a clip must be (image_id, frame) or (image_id, frame, (y, x)), got {shorten(clip)}"
        ) from error
