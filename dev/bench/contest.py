"""A contest: contenders that read the same crops in turn, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from crops import Crop, CropDrawer, cover, digest, digest_all
from lanes import Lane, LaneError
from pagecache import fill
from references import References, WrongPixelsError

if TYPE_CHECKING:
    from contenders import Contender

_TOUR_PX = 1024


@dataclass(frozen=True)
class Turn:
    """What a contender did in one round.

    Attributes:
        times_us: of each crop, or of each batch of crops.
        digests: of each crop's pixels.
        cpu_seconds: of all threads, while it was timed.
    """

    times_us: list[float]
    digests: list[bytes]
    cpu_seconds: float


@dataclass
class Samples:
    """What a contender did in all rounds."""

    turns: list[Turn] = field(default_factory=list)

    @property
    def round_medians_us(self) -> list[float]:
        """The median of each round."""
        return [statistics.median(turn.times_us) for turn in self.turns]

    def summarize(self) -> dict[str, Any]:
        """The median and the quartiles over all rounds, the medians of each, and how many cores were busy."""
        times_us = [each for turn in self.turns for each in turn.times_us]
        first, median, third = np.percentile(times_us, (25, 50, 75)).tolist()
        return {
            "median_us": median,
            "first_quartile_us": first,
            "third_quartile_us": third,
            "round_medians_us": self.round_medians_us,
            "busy_cores": sum(turn.cpu_seconds for turn in self.turns) * 1e6 / sum(times_us),
        }

    def ratio_to(self, other: Samples) -> float:
        """How many times as long as another it took: the median over the rounds, each compared with itself."""
        pairs = zip(self.round_medians_us, other.round_medians_us, strict=True)
        return statistics.median(mine / its for mine, its in pairs)


class Contest:
    """Contenders in their lanes, open and found right; and why the others do not take part.

    Every contender first reads the whole image once, which is compared to the last pixel, and brings its files into the page
    cache. Who keeps all of it decoded forgets that, and once more before each round: one image is not much to keep, and a
    memory that holds all of it says nothing of reading. Where not even that may happen, only a corner is read.

    Attributes:
        lanes: of those who take part.
        absent: by name, why a contender does not: ``"not installed: ..."``, ``"wrong pixels ..."`` or its error.
        pixels: by name, which reference its pixels equal.
    """

    def __init__(self, contenders: Iterable[Contender], references: References, *, is_toured: bool = True) -> None:
        self.lanes: list[Lane] = []
        self.absent: dict[str, str] = {}
        self.pixels: dict[str, str] = {}
        self._references = references
        self._is_toured = is_toured
        for contender in contenders:
            self._admit(contender)

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self.lanes:
            lane.close()

    def run(self, draw: CropDrawer, *, rounds: int, seed: int, batch: int | None = None) -> dict[str, Samples]:
        """Time ``rounds`` turns of each, in another order each round: neighbours, too, should not always be the same.

        Args:
            draw: chooses the crops of a round.
            rounds: how many.
            seed: of crops and order.
            batch: how many crops are asked for at once; ``None``: each by itself.
        """
        rng = np.random.default_rng(seed)
        samples = {lane.name: Samples() for lane in self.lanes}
        for _ in range(rounds):
            crops = draw(rng)
            for index in rng.permutation(len(self.lanes)).tolist():
                lane = self.lanes[index]
                lane.call(forget)
                turn = lane.call(take_turn, crops) if batch is None else lane.call(take_batch_turn, crops, batch)
                samples[lane.name].turns.append(turn)
            # Only now, so that nobody finds the mosaic's pixels in the processor's caches.
            for lane in self.lanes:
                self._references.match(lane.contender, crops, samples[lane.name].turns[-1].digests)
        return samples

    def _admit(self, contender: Contender) -> None:
        if contender.missing:
            self.absent[contender.name] = f"not installed: {', '.join(contender.missing)}"
            return
        lane = None
        try:
            contender.build()
            lane = Lane(contender)
            self._check(lane)
        except (LaneError, WrongPixelsError) as error:
            self.absent[contender.name] = str(error).partition("\n")[0]
            if lane is not None:
                lane.close()
        else:
            self.lanes.append(lane)

    def _check(self, lane: Lane) -> None:
        lane.call(open_contender)
        blocks = cover(self._references.shape, _TOUR_PX)
        if not self._is_toured:
            fill(lane.contender.files())
            blocks = blocks[-1:]
        turn = lane.call(take_turn, blocks)
        self.pixels[lane.name] = self._references.match(lane.contender, blocks, turn.digests)
        lane.call(forget)


def open_contender(contender: Contender) -> None:
    """Open it, and a twin that reads for the comparison of pixels, so that no memory of the first one learns of that."""
    contender.twin = copy.copy(contender)
    contender.twin.open()
    contender.open()


def forget(contender: Contender) -> None:
    contender.forget()


def take_turn(contender: Contender, crops: Sequence[Crop]) -> Turn:
    """Read crops one by one."""
    times_us, cpu_seconds = time_reads(crops, contender.read)
    return Turn(times_us, [digest(_twin(contender).read(crop)) for crop in crops], cpu_seconds)


def take_batch_turn(contender: Contender, crops: Sequence[Crop], batch: int) -> Turn:
    """Read crops ``batch`` at a time."""
    batches = [crops[first : first + batch] for first in range(0, len(crops), batch)]
    times_us, cpu_seconds = time_reads(batches, contender.read_batch)
    return Turn(
        times_us, [each for item in batches for each in digest_all(_twin(contender).read_batch(item))], cpu_seconds
    )


def _twin(contender: Contender) -> Contender:
    assert contender.twin is not None
    return contender.twin


def time_reads(requests: Sequence[Any], read: Callable[[Any], Any]) -> tuple[list[float], float]:
    """Time the reads one after the other, in microseconds each; and what all threads took together, in seconds."""
    times_us = []
    cpu_started = time.process_time()
    for request in requests:
        started = time.perf_counter()
        pixels = read(request)
        times_us.append((time.perf_counter() - started) * 1e6)
        del pixels  # before the next is read: nobody keeps crops for ever
    return times_us, time.process_time() - cpu_started
