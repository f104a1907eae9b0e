"""A comparison: all contenders read the same crops in interleaved rounds, so that other load affects all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kit.crops import Crop, CropDrawer, cover, digest, digest_all
from kit.measurements import Measurements, Round, time_reads
from kit.pagecache import fill
from kit.processes import ContenderProcess, start

if TYPE_CHECKING:
    from kit.references import References
    from peers.base import Contender

_BLOCK_PX = 1024


class Comparison:
    """Contenders in their processes, open, with their pixels checked.

    Every contender first reads the whole image once. That compares all of its pixels and brings its files into the page
    cache. Contenders that may keep all decoded pixels drop them then, and before each round: a benchmark has one image, which
    fits their caches, so a cached image would show nothing about reading. With ``is_whole_image_read=False`` only one
    corner is read and compared.

    Attributes:
        absent: by name, why a contender does not take part.
        pixels: by name, which reference a contender's pixels equal.
    """

    def __init__(
        self, contenders: Iterable[Contender], references: References, *, is_whole_image_read: bool = True
    ) -> None:
        self.pixels: dict[str, str] = {}
        self._references = references
        self._is_whole_image_read = is_whole_image_read
        self._field = start(contenders, self._check)
        self.absent = self._field.absent

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self._field.close()

    def run(self, draw: CropDrawer, *, rounds: int, seed: int, batch: int | None = None) -> dict[str, Measurements]:
        """Time every contender in each round, in another order each time.

        Args:
            draw: chooses the crops of a round.
            rounds: how many.
            seed: of the crops and the order.
            batch: how many crops are requested at once; ``None``: one at a time.
        """
        rng = np.random.default_rng(seed)
        found = {process.name: Measurements() for process in self._field.processes}
        for _ in range(rounds):
            crops = draw(rng)
            for process in self._field.shuffled(rng):
                process.call(drop_decoded)
                one = process.call(read_crops, crops) if batch is None else process.call(read_batches, crops, batch)
                found[process.name].rounds.append(one)
            # After all contenders, since comparing brings the reference pixels into the processor's caches.
            for process in self._field.processes:
                self._references.match(process.contender, crops, found[process.name].rounds[-1].digests)
        return found

    def _check(self, process: ContenderProcess) -> None:
        process.call(open_with_checker)
        blocks = cover(self._references.shape, _BLOCK_PX)
        if not self._is_whole_image_read:
            fill(process.contender.files())
            blocks = blocks[-1:]
        one = process.call(read_crops, blocks)
        self.pixels[process.name] = self._references.match(process.contender, blocks, one.digests)
        process.call(drop_decoded)


def open_with_checker(contender: Contender) -> None:
    """Open it, and a second reader for comparing pixels, so that the timed reader never caches a compared tile."""
    contender.checker = copy.copy(contender)
    contender.checker.open()
    contender.open()


def drop_decoded(contender: Contender) -> None:
    """Drop its decoded pixels, in its process."""
    contender.drop_decoded()


def read_crops(contender: Contender, crops: Sequence[Crop]) -> Round:
    """Read crops one by one."""
    times_us, cpu_seconds = time_reads(crops, contender.read)
    return Round(times_us, cpu_seconds, [digest(_checker(contender).read(crop)) for crop in crops])


def read_batches(contender: Contender, crops: Sequence[Crop], batch: int) -> Round:
    """Read crops ``batch`` at a time."""
    batches = [crops[first : first + batch] for first in range(0, len(crops), batch)]
    times_us, cpu_seconds = time_reads(batches, contender.read_batch)
    digests = [each for item in batches for each in digest_all(_checker(contender).read_batch(item))]
    return Round(times_us, cpu_seconds, digests)


def _checker(contender: Contender) -> Contender:
    assert contender.checker is not None
    return contender.checker
