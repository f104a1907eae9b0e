"""Advice: which cached form fits a video, and what each would cost, tried on a few of its frames."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..formats.stack import StackPart, StackReader
from ..formats.tiled.tile_cache import TileCache
from ..formats.tiled.volume_writer import write_volume
from ..geometry.regions import to_slice
from ..spec.backends import Backend
from ..system.handles import HandlePool
from ..video.intra import write_intra
from .payload import PayloadFile, open_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._typing import Array
    from ..formats.reader import Reader
    from ..system.segments import Payload
    from ..video.stack import VideoStack

__all__ = ["FormEstimate", "advise", "estimate_forms"]
_SAMPLE_FRAMES = 16
_CROP_PX = 128
_TRIES = 5
# So much sooner a form must be than the video itself, or it is not worth its room.
_WORTH = 2.0


@dataclass(frozen=True, slots=True)
class FormEstimate:
    """What one form of a video would cost.

    Attributes:
        form: the backend's name; ``"none"`` for the video as it is.
        entry_bytes: the size of its cache entry.
        frame_seconds: to read a whole frame, anywhere.
        crop_seconds: to read a crop of 128 x 128 pixels over 16 frames, anywhere.
        prepare_seconds: to make the entry, by one thread.
    """

    form: str
    entry_bytes: int
    frame_seconds: float
    crop_seconds: float
    prepare_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def estimate_forms(stack: VideoStack) -> list[FormEstimate]:
    """Try every form on up to 16 frames from the middle of a video.

    Sizes are those of the sample times the number of frames; seconds are this machine's, now.
    """
    count = stack.frame_count or 0
    index = stack.video.index
    start = int(index.keys[index.find_key(count // 2)])
    part = StackPart(stack, range(start, min(count, start + _SAMPLE_FRAMES)))
    length = part.frame_count or 1
    height, width, _ = part.frame_shape
    _read(part, range(1), range(height), range(width))
    started = time.perf_counter()
    for _ in stack.video.decode(part.frames):
        pass
    decode = (time.perf_counter() - started) / length
    started = time.perf_counter()
    pixels = _read(part, range(length), range(height), range(width))
    show = (time.perf_counter() - started) / length  # decoded, and made into pixels
    before = float(np.mean(np.arange(count) - index.keys[np.searchsorted(index.keys, np.arange(count), "right") - 1]))
    found = [FormEstimate("none", 0, before * decode + show, before * decode + min(count, _SAMPLE_FRAMES) * show, 0.0)]
    writers: dict[str, Callable[[IO[bytes]], Payload]] = {
        "intra": lambda file: write_intra(file, stack, frames=part.frames),
        "cog": lambda file: write_volume(file, part, Backend(type="cog")),
    }
    for form, write in writers.items():
        found.append(_try_form(form, write, part, count))
    frame, crop = _reading_seconds(_Pixels(part, pixels))
    found.append(FormEstimate("npy", stack.nbytes, frame, crop, count * (show + frame)))
    return found


def advise(estimates: Sequence[FormEstimate]) -> str:
    """Which form fits which use, in a line.

    Example:
        >>> forms = [FormEstimate("none", 0, 0.2, 0.25, 0), FormEstimate("intra", 9, 0.01, 0.1, 5), FormEstimate("cog", 9, 0.1, 0.002, 9)]
        >>> advise(forms)
        "'intra' for whole frames at random, 'cog' for crops of some frames; neither where frames are read in their order"
    """
    forms = {item.form: item for item in estimates}
    as_is = forms["none"]
    is_frame_worth = forms["intra"].frame_seconds * _WORTH < as_is.frame_seconds
    is_crop_worth = forms["cog"].crop_seconds * _WORTH < as_is.crop_seconds
    told = ["'intra' for whole frames at random"] if is_frame_worth else []
    told += ["'cog' for crops of some frames"] if is_crop_worth else []
    if not told:
        return "none: its frames are read about as soon as they are from any other form"
    return f"{', '.join(told)}; {'neither' if len(told) == 2 else 'none'} where frames are read in their order"


def _try_form(form: str, write: Callable[[IO[bytes]], Payload], part: StackPart, count: int) -> FormEstimate:
    length = part.frame_count or 1
    with tempfile.NamedTemporaryFile(suffix=f".{form}") as file, _Pool() as pool:
        started = time.perf_counter()
        payload = write(file)
        file.flush()
        seconds = time.perf_counter() - started
        entry = PayloadFile(file.name, payload.segments)
        reader = open_frames(file.name, payload.layout, part.shape, part.dtype, length, entry, TileCache(0), pool)
        frame, crop = _reading_seconds(reader)
        return FormEstimate(form, file.tell() * count // length, frame, crop, seconds / length * count)


def _read(reader: Reader, times: range, rows: range, cols: range) -> Array:
    out = np.empty((len(times), len(rows), len(cols), reader.shape[2]), reader.dtype)
    reader.read_frames(times, rows, cols, reader.all_bands, out)
    return out


def _reading_seconds(reader: Reader) -> tuple[float, float]:
    """To read a frame, and a crop; each of other pixels than the one before."""
    height, width, _ = reader.frame_shape
    times = range(reader.frame_count or 1)
    frames = [(times[number : number + 1], range(height), range(width)) for number in times[::3]]
    tops, lefts = (
        range(0, max(1, extent - _CROP_PX), max(1, (extent - _CROP_PX) // _TRIES)) for extent in (height, width)
    )
    crops = [
        (times, range(top, min(height, top + _CROP_PX)), range(left, min(width, left + _CROP_PX)))
        for top, left in zip(tops, lefts, strict=False)
    ]
    frame, crop = (float(np.median([_seconds(reader, *wanted) for wanted in some])) for some in (frames, crops))
    return frame, crop


def _seconds(reader: Reader, times: range, rows: range, cols: range) -> float:
    started = time.perf_counter()
    _read(reader, times, rows, cols)
    return time.perf_counter() - started


class _Pixels(StackReader):
    """The sample as an array: what a mapped file comes to."""

    def __init__(self, part: StackPart, pixels: Array) -> None:
        super().__init__(part.path, replace(part.facts, format="npy"))
        self._pixels = pixels

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:  # noqa: ARG002
        out[...] = self._pixels[times[0] : times[-1] + 1, to_slice(rows), to_slice(cols)]


class _Pool(HandlePool):
    """Handles that are let go of at the end."""

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
