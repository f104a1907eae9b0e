"""Hold the frames that ndframes reads against those that decoding from the beginning shows."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import av
import numpy as np

import ndframes as nf
from ndframes.video.libav import LENIENT

#: The orders in which frames are read.
ORDERS = ("random", "backwards", "strided", "batches")
# A conversion to RGB may round in another way; two frames of the kit differ by much more.
_MOST_ROUNDING = 3
_B_FRAME = 3  # FFmpeg's number


class Shown(NamedTuple):
    """A frame that decoding from the beginning shows.

    Attributes:
        pixels: as RGB of 8 bits.
        is_sound: whether it must be read: the decoder reports no damage in it or in what it may refer to, decoding again shows
            the same, and it has the size and the pixel format of the first frame. Of others, an error is right as well.
        lost: how many packets before it did not decode. ndframes may count each of them as a frame that does not decode.
    """

    pixels: np.ndarray
    is_sound: bool
    lost: int = 0


class Fault(NamedTuple):
    """A frame that was read wrongly.

    Attributes:
        order: in which it was read, and from which form.
        asked: its number.
        shown: the number of the frame of the same pixels; ``None`` if there is none.
        text: of the error; empty if there was none.
    """

    order: str
    asked: int
    shown: int | None = None
    text: str = ""


@dataclass
class Comparison:
    """What a comparison found.

    Attributes:
        path: the video.
        expected: the number of frames that decoding from the beginning shows.
        lost: the number of packets that do not decode.
        found: the number of frames of ndframes.
        accesses: how many frames were read.
        wrong: the frames that had the pixels of others, or of none.
        errors: the frames that raised an error although they are sound, or raised one that is no NdframesError.
    """

    path: Path
    expected: int
    lost: int = 0
    found: int = 0
    accesses: int = 0
    wrong: list[Fault] = field(default_factory=list)
    errors: list[Fault] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """How many frames ndframes has too few; negative for too many."""
        return self.expected - min(self.found, max(self.expected, self.found - self.lost))

    @property
    def is_exact(self) -> bool:
        """Whether nothing is wrong or missing."""
        return not (self.missing or self.wrong or self.errors)

    def __str__(self) -> str:
        wrong = [(fault.order, fault.asked, fault.shown) for fault in self.wrong[:3]]
        errors = [(fault.order, fault.asked, fault.text) for fault in self.errors[:2]]
        return (
            f"{self.path.name}: {self.found} frames of {self.expected}; of {self.accesses} accesses "
            f"{len(self.wrong)} wrong (order, asked, shown) {wrong}, {len(self.errors)} errors {errors}"
        )


def decode_in_order(path: Path, stream: int | None = None) -> list[Shown]:
    """Decode a video from the beginning to the end, in one thread.

    Args:
        path: the video.
        stream: its number in the file; ``None``: the one that FFmpeg prefers.

    Returns:
        The frames; none if FFmpeg does not open the file.
    """
    shown: list[Shown] = []
    kinds: list[int] = []
    is_sound, first, lost = True, None, 0
    for frames, is_cut in _decode(path, stream):
        is_sound = is_sound and frames is not None and not is_cut
        lost += frames is None
        for frame in frames or ():
            if frame.is_corrupt:
                _doubt_bframes(shown, kinds)
            is_sound = not (frame.is_corrupt or is_cut) and (is_sound or bool(frame.key_frame))
            form = frame.format.name, frame.height, frame.width
            first = first or form
            shown.append(Shown(frame.to_ndarray(format="rgb24"), is_sound and form == first, lost))
            kinds.append(int(frame.pict_type))
    # Some decoders fill what is missing with what lies in their memory, which is other memory if frames are kept.
    kept = [frame for frames, _ in _decode(path, stream) for frame in frames or ()]
    return [
        frame._replace(
            is_sound=frame.is_sound and np.array_equal(other.to_ndarray(format="rgb24"), frame.pixels),
            lost=lost,  # the last packets may be lost, too
        )
        for frame, other in zip(shown, kept, strict=True)
    ]


def _decode(path: Path, stream: int | None) -> Iterator[tuple[list[Any] | None, bool]]:
    """The frames of each packet, ``None`` if it does not decode, and whether the file was found to end within a packet."""
    try:
        opened = av.open(str(path), **LENIENT)
    except av.error.FFmpegError:
        return
    with opened as container:
        chosen = container.streams.best("video") if stream is None else container.streams[stream]
        if chosen is None:
            return
        chosen.thread_count = 1
        packets = [*_demux(container, chosen)]
        # No decoder need say that it had to guess the rest. Parsers copy the flag of the last packet to others before it.
        cut = len(packets) - 2 if packets[-2:][0].is_corrupt else len(packets)
        for place, packet in enumerate(packets):
            try:
                yield packet.decode(), place >= cut
            except av.error.FFmpegError:
                yield None, place >= cut


def _demux(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, up to the place where FFmpeg finds no more; the last one is empty."""
    try:
        yield from container.demux(stream)
    except av.error.InvalidDataError:
        end = av.Packet()
        end.stream = stream
        yield end


def _doubt_bframes(shown: list[Shown], kinds: list[int]) -> None:
    """The B-frames right before a damaged frame may refer to it."""
    for place in range(len(shown) - 1, -1, -1):
        if kinds[place] != _B_FRAME:
            break
        shown[place] = shown[place]._replace(is_sound=False)


def compare(
    path: Path,
    *,
    orders: tuple[str, ...] = ORDERS,
    backends: tuple[Any, ...] = (None,),
    in_process: bool = False,
    is_old: bool = True,
    accesses: int | None = None,
    seed: int = 0,
    workdir: Path | None = None,
) -> Comparison:
    """Read the frames of a video in several orders, and compare each with decoding from the beginning.

    Args:
        path: the video.
        orders: of :data:`ORDERS`; each begins with a decoder of its own.
        backends: the forms in the cache; ``None`` is the video itself.
        in_process: whether to read the frames in another process as well, backwards; it finds the stored index.
        is_old: whether the file counts as one that did not change lately, so that its index is stored, and it stays open.
        accesses: how many frames to read in each order; ``None``: each once.
        seed: of the random order.
        workdir: the cache; ``None``: a folder next to the video.
    """
    workdir = workdir or path.with_name(path.name + "-cache")
    shown = decode_in_order(path)
    result = Comparison(path, len(shown), max((frame.lost for frame in shown), default=0))
    read = partial(read_in_order, path, workdir, is_old=is_old, accesses=accesses, seed=seed)
    for backend in backends:
        for order in orders:
            _take(result, f"{order}, {backend}", shown, read(backend, order))
    if in_process:
        future = _other_process().submit(read, backends[0], "backwards")
        _take(result, "another process", shown, future.result())
    return result


class Reading(NamedTuple):
    """The frames of one opening: how many there are, and the pixels or the error of each that was read."""

    count: int
    frames: list[tuple[int, np.ndarray | str]]


def read_in_order(
    path: Path, workdir: Path, backend: Any, order: str, *, is_old: bool, accesses: int | None = None, seed: int = 0
) -> Reading:
    """Open a video and read its frames in an order; see :func:`compare`."""
    if is_old:
        with mock.patch("ndframes.system.stamp._LONGEST_TICK_NS", 0):
            return read_in_order(path, workdir, backend, order, is_old=False, accesses=accesses, seed=seed)
    try:
        video = nf.open(path, workdir=workdir, backend=backend)
        count = len(video)
    except Exception as error:
        return Reading(0, [(-1, _describe(error))])
    numbers = _arrange(count, order, accesses, seed)
    size = 8 if order == "batches" else 1
    frames: list[tuple[int, np.ndarray | str]] = []
    for start in range(0, len(numbers), size):
        asked = numbers[start : start + size]
        pixels: Any = None
        # A batch with one frame that does not decode is an error; the others are then read alone.
        if size > 1:
            with contextlib.suppress(nf.NdframesError):
                pixels = video[asked]
        for place, number in enumerate(asked):
            try:
                frames.append((number, video[number] if pixels is None else pixels[place]))
            except Exception as error:
                frames.append((number, _describe(error)))
    return Reading(count, frames)


def _arrange(count: int, order: str, accesses: int | None, seed: int) -> list[int]:
    if order == "backwards":
        numbers = list(range(count - 1, -1, -1))
    elif order == "strided":
        numbers = [number for start in range(7) for number in range(start, count, 7)]
    else:
        numbers = np.random.default_rng(seed).permutation(count).tolist()
    return numbers[:accesses]


def _describe(error: Exception) -> str:
    is_ours = isinstance(error, nf.NdframesError)
    return f"{'' if is_ours else 'foreign '}{type(error).__name__}: {error}"[:300]


def _take(result: Comparison, order: str, shown: list[Shown], reading: Reading) -> None:
    """Add the faults of one opening to the result."""
    result.found = reading.count
    result.accesses += len(reading.frames)
    for number, got in reading.frames:
        if isinstance(got, str):
            may_fail = not shown if number < 0 else _may_fail(number, shown, result.lost)
            if not may_fail or got.startswith("foreign"):
                result.errors.append(Fault(order, number, text=got))
        elif not any(_is_same(got, frame.pixels) for frame in shown[max(number - result.lost, 0) : number + 1]):
            found = next((place for place, frame in enumerate(shown) if _is_same(got, frame.pixels)), None)
            result.wrong.append(Fault(order, number, found))


def _may_fail(number: int, shown: list[Shown], lost: int) -> bool:
    """Whether a frame may raise an error; if packets are lost, its number may be that of a later frame."""
    candidates = shown[max(number - lost, 0) : number + 1]
    return not all(frame.is_sound for frame in candidates) or (lost > 0 and number >= len(shown) - lost)


def _is_same(got: np.ndarray, right: np.ndarray) -> bool:
    pixels = got >> 8 if got.dtype == np.uint16 else got
    if pixels.shape[:2] != right.shape[:2]:
        return False
    difference = pixels[:, :, :3].astype(np.int16) - right
    return int(np.abs(difference).max()) <= _MOST_ROUNDING


@cache
def _other_process() -> ProcessPoolExecutor:
    """A process that opens no video but by :func:`compare`."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
