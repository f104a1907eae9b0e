"""Estimate what each cached form of a video would cost, by trying it on a few frames."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..formats.images.arrays import ArrayReader
from ..formats.tiled.tile_cache import TileCache
from ..formats.tiled.volume_writer import write_volume
from ..spec.backends import Backend
from ..system.handles import HandlePool
from ..video.intra import write_intra
from .payload import WrittenFile, open_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._typing import Array
    from ..formats.reader import Reader
    from ..system.segments import Manifest
    from ..video.reader import VideoReader

__all__ = ["FormEstimate", "advise", "estimate_forms"]
_SAMPLE_FRAMES = 16
_CROP_PX = 128
_TRIES = 5
# A form is worth its room on disk if it is read this many times faster than the video itself.
_LEAST_SPEEDUP = 2.0


@dataclass(frozen=True, slots=True)
class FormEstimate:
    """What one form of a video would cost.

    Attributes:
        form: the name of the backend; ``"none"`` for the video itself.
        entry_bytes: the size of the cache entry.
        frame_seconds: the time to read a whole frame, at random.
        crop_seconds: the time to read a crop of 128 x 128 pixels over 16 frames, at random.
        prepare_seconds: the time to make the entry, with one thread.
    """

    form: str
    entry_bytes: int
    frame_seconds: float
    crop_seconds: float
    prepare_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def estimate_forms(video: VideoReader) -> list[FormEstimate]:
    """Try every form that stores its pixels on up to 16 frames from the middle of a video.

    Sizes are extrapolated from the sample; times are measured on this machine, now.
    """
    count, index = video.frame_count or 0, video.decoder.index
    # At a key frame, so that no frame before the sample is decoded.
    start = int(index.keys[index.find_key(count // 2)])
    times = range(start, min(count, start + _SAMPLE_FRAMES))
    rows, cols = range(video.shape[0]), range(video.shape[1])
    _read(video, times[:1], rows, cols)  # opens the decoder, which is not to be measured
    decode = _seconds(lambda: [None for _ in video.decoder.decode(times)]) / len(times)
    started = time.perf_counter()
    pixels = _read(video, times, rows, cols)
    show = (time.perf_counter() - started) / len(times)  # to decode, and to convert to pixels
    # The mean distance of a frame from its key frame, where decoding must begin.
    before = float(np.mean(np.arange(count) - index.keys[np.searchsorted(index.keys, np.arange(count), "right") - 1]))
    found = [FormEstimate("none", 0, before * decode + show, before * decode + min(count, _SAMPLE_FRAMES) * show, 0.0)]
    # An array in memory is read like a mapped .npy, and the writer of tiles need not decode the video again.
    sample = ArrayReader(video.path, pixels, format="npy", has_frames=True)
    writers: dict[str, tuple[Callable[[IO[bytes]], Manifest], float]] = {
        "intra": (lambda file: write_intra(file, video, frames=times), 0.0),
        # write_intra decodes the video itself; write_volume gets pixels, so the time to decode is added.
        "cog": (lambda file: write_volume(file, sample, Backend(type="cog")), show),
    }
    if video.dtype.kind == "f":
        del writers["intra"]  # no codec of it stores floats
    for form, (write, read_seconds) in writers.items():
        found.append(_try_form(form, write, read_seconds, sample, count))
    frame, crop = _reading_seconds(sample)
    found.append(FormEstimate("npy", video.nbytes, frame, crop, count * (show + frame)))
    return found


def advise(estimates: Sequence[FormEstimate]) -> str:
    """Say in one line which form suits which use.

    Example:
        >>> forms = [FormEstimate("none", 0, 0.2, 0.25, 0), FormEstimate("intra", 9, 0.01, 0.1, 5), FormEstimate("cog", 9, 0.1, 0.002, 9)]
        >>> advise(forms)
        "'intra' for whole frames at random, 'cog' for crops of some frames; neither where frames are read in their order"
    """
    forms = {item.form: item for item in estimates}
    as_is = forms["none"]
    is_intra_faster = "intra" in forms and forms["intra"].frame_seconds * _LEAST_SPEEDUP < as_is.frame_seconds
    is_cog_faster = forms["cog"].crop_seconds * _LEAST_SPEEDUP < as_is.crop_seconds
    advice = ["'intra' for whole frames at random"] if is_intra_faster else []
    advice += ["'cog' for crops of some frames"] if is_cog_faster else []
    if not advice:
        return "none: its frames are read about as soon as they are from any other form"
    return f"{', '.join(advice)}; {'neither' if len(advice) == 2 else 'none'} where frames are read in their order"


def _try_form(
    form: str, write: Callable[[IO[bytes]], Manifest], read_seconds: float, sample: Reader, count: int
) -> FormEstimate:
    """Write the sample and read it again; reading a frame of the source took ``read_seconds`` before ``write``."""
    length = sample.frame_count or 1
    with tempfile.NamedTemporaryFile(suffix=f".{form}") as file, closing(HandlePool()) as pool:
        started = time.perf_counter()
        payload = write(file)
        file.flush()
        seconds = (time.perf_counter() - started) / length + read_seconds
        entry = WrittenFile(file.name, payload.segments)
        # A cache without room: tiles that are kept would make the later reads look fast.
        reader = open_frames(file.name, payload.layout, sample.facts, entry, TileCache(0), pool)
        frame, crop = _reading_seconds(reader)
        return FormEstimate(form, file.tell() * count // length, frame, crop, seconds * count)


def _read(reader: Reader, times: range, rows: range, cols: range) -> Array:
    out = np.empty((len(times), len(rows), len(cols), reader.shape[2]), reader.dtype)
    reader.read_frames(times, rows, cols, reader.all_bands, out)
    return out


def _reading_seconds(reader: Reader) -> tuple[float, float]:
    """The median times to read a frame and a crop."""
    height, width, _ = reader.shape
    times = range(reader.frame_count or 1)
    # Each read touches pixels that no read before has brought into a cache.
    frames = [(times[number : number + 1], range(height), range(width)) for number in times[::3]]
    tops, lefts = (
        range(0, max(1, extent - _CROP_PX), max(1, (extent - _CROP_PX) // _TRIES)) for extent in (height, width)
    )
    crops = [
        (times, range(top, min(height, top + _CROP_PX)), range(left, min(width, left + _CROP_PX)))
        for top, left in zip(tops, lefts, strict=False)
    ]
    frame, crop = (
        float(np.median([_seconds(partial(_read, reader, *region)) for region in some])) for some in (frames, crops)
    )
    return frame, crop


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
