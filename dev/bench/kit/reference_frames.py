"""Reference frames of a video: those that decoding it from the beginning yields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from kit.crops import digest
from kit.processes import ContenderError
from ndframes.video.index import decode_all
from ndframes.video.indexing import build_index
from ndframes.video.planes import to_pixels

_STEP_PX = 8
_MAX_DIFFERENCE = 8


class ReferenceFrames:
    """Compares frames of a contender with the reference, by digest and, if that differs, by a sample of the pixels.

    The sample tells rounding differences in the colour conversion, which depend on a library's version, from a wrong frame.

    Args:
        path: the video.
        count: how many frames it must have.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._path = str(path)
        self._digests: list[bytes] = []
        samples = []
        for pixels in self._decode():
            self._digests.append(digest(pixels))
            samples.append(self.take_sample(pixels))
        assert len(samples) == count, f"{path} has {len(samples)} frames, not {count}"
        self._samples = np.stack(samples)
        self._digests_of_crops = lru_cache(maxsize=256)(self._digest_crop)

    @staticmethod
    def take_sample(pixels: np.ndarray) -> np.ndarray:
        """Every eighth pixel of every eighth row."""
        return np.ascontiguousarray(pixels[::_STEP_PX, ::_STEP_PX])

    def check(self, number: int, found: bytes, sample: np.ndarray) -> float:
        """Return the largest difference of a frame to the reference, in levels: 0 if every pixel is equal.

        Args:
            number: of the frame.
            found: the digest of the contender's pixels.
            sample: of the contender's pixels, from :meth:`take_sample`.

        Raises:
            ContenderError: it resembles a neighbouring frame more, or differs by more than rounding.
        """
        if found == self._digests[number]:
            return 0.0
        near = range(max(0, number - 3), min(len(self._samples), number + 4))
        means = {other: np.abs(self._samples[other].astype(int) - sample).mean() for other in near}
        nearest = min(means, key=lambda other: means[other])
        largest = float(np.abs(self._samples[number].astype(int) - sample).max())
        if nearest != number or largest > _MAX_DIFFERENCE:
            raise ContenderError(
                f"wrong frame: for {number} it returns one that resembles {nearest}, {largest:.0f} levels off"
            )
        return max(largest, 1.0)

    def check_crop(self, numbers: range, top: int, left: int, extent_px: int, found: Sequence[bytes]) -> float:
        """Check a box of pixels in several frames, which must all be equal; return 0.

        Raises:
            ContenderError: a pixel differs.
        """
        if list(found) != self._digests_of_crops(numbers, top, left, extent_px):
            raise ContenderError(f"wrong pixels in frames {numbers} at {top}, {left}")
        return 0.0

    def _digest_crop(self, numbers: range, top: int, left: int, extent_px: int) -> list[bytes]:
        return [
            digest(pixels[top : top + extent_px, left : left + extent_px])
            for number, pixels in enumerate(self._decode())
            if number in numbers
        ]

    def _decode(self) -> Iterator[np.ndarray]:
        index = build_index(self._path)
        for frame in decode_all(self._path, index.stream):
            yield to_pixels(frame, is_gray=index.is_gray)
