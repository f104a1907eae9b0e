"""ReadWork: what a worker of ``prefetch`` does with a chunk of requests."""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ..errors import SharedMemoryError, shorten
from ..system.portable_error import PortableError, add_note
from ..text import count_noun
from .patch import Patch
from .reading import load_frames, load_patches, stack_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..frames.batch import Request
    from ..frames.frames import Frames
    from ..pixels.options import ReadKeywords
    from ..system.serving import Allocate

__all__ = ["ChunkErrors", "ReadResult", "ReadWork"]
#: What happens with requests that cannot be read.
ChunkErrors = Literal["raise", "skip"]


class ReadResult(NamedTuple):
    """The pixels of a chunk.

    Attributes:
        array: one array ``(n, ...)``, or a list of arrays.
        failed: the positions of the requests that could not be read, each with its error.
    """

    array: Any
    failed: list[tuple[int, PortableError]]


class ReadWork:
    """Reads chunks of requests. A pickle of it holds the frames, and so is small.

    Args:
        frames: the images.
        channels: of all requests.
        options: of all requests.
        errors: what happens with requests that cannot be read.
        video_id: the video to which frame numbers belong; ``None`` if no request is a number.
    """

    def __init__(
        self,
        frames: Frames,
        channels: str | Sequence[str] | None,
        options: ReadKeywords,
        *,
        errors: ChunkErrors = "raise",
        video_id: Hashable = None,
    ) -> None:
        self._frames = frames
        self._channels = channels
        self._options = options
        self._errors = errors
        self._video_id = video_id
        # Workers share the cores: one thread each, unless the frames were made with a number.
        self._threads = 1 if frames.threads is None else None
        # The shape and dtype of an item of the last chunk. The next chunk is probably like it, and can then be read
        # straight into the memory of its consumer.
        self._expected: tuple[tuple[int, ...], np.dtype[Any]] | None = None
        self._is_guessing = "nodata" not in options

    def __call__(self, requests: Sequence[Patch | Request | int], allocate: Allocate) -> ReadResult:
        """Read one chunk.

        Raises:
            Exception: a request cannot be read, and ``errors="raise"``.
        """
        try:
            return ReadResult(self._read_into(requests, allocate), [])
        except Exception as error:  # noqa: BLE001 - passed on below
            failure = error
        # Not in the handler, where each error would get the first one as its context.
        return self._read_each(requests, failure)

    def _read_into(self, requests: Sequence[Patch | Request | int], allocate: Allocate) -> Any:
        """Read a chunk into the consumer's memory if its shape can be foreseen."""
        if self._is_guessing and self._expected is not None and self._is_like_last(requests, self._expected[0]):
            shape, dtype = self._expected
            try:
                return self._read(requests, allocate((len(requests), *shape), dtype))
            except SharedMemoryError:
                raise
            except Exception:  # noqa: BLE001 - the guess was wrong, or the next lines raise the same again
                result = self._read(requests)
            # A wrong guess costs up to a read, so the first one is the last.
            self._is_guessing = False
            return result
        result = self._read(requests)
        self._expected = (result.shape[1:], result.dtype) if isinstance(result, np.ndarray) else None
        return result

    def _is_like_last(self, requests: Sequence[Patch | Request | int], shape: tuple[int, ...]) -> bool:
        """Whether the chunk may have items of this shape, and can be read into memory that is given."""
        if any(isinstance(request, Patch) and request.shape != shape[-3:-1] for request in requests):
            return False
        # Frame numbers are read without it, and so are mixtures.
        return {type(request) for request in requests} in ({Patch}, {tuple})

    def _read(self, requests: Sequence[Patch | Request | int], out: Any = None) -> Any:
        patches = [request for request in requests if isinstance(request, Patch)]
        if len(patches) == len(requests):
            return load_patches(self._frames, patches, self._channels, workers=self._threads, out=out, **self._options)
        pairs = [request for request in requests if isinstance(request, tuple)]
        if len(pairs) == len(requests):
            return self._frames.load_regions(pairs, self._channels, workers=self._threads, out=out, **self._options)
        numbers = [request for request in requests if isinstance(request, int)]
        if len(numbers) == len(requests):
            return load_frames(
                self._frames, self._video_id, numbers, self._channels, workers=self._threads, **self._options
            )
        return stack_results([self._read([request])[0] for request in requests])

    def _read_each(self, requests: Sequence[Patch | Request | int], failure: Exception) -> ReadResult:
        """Read the requests of a chunk that failed one by one, to find those at fault."""
        results, failed = [], []
        for position, request in enumerate(requests):
            try:
                results.append(self._read([request])[0])
            except Exception as error:
                add_note(error, f"while reading {shorten(request)} in process {os.getpid()}")
                if self._errors == "raise":
                    raise
                failed.append((position, PortableError(error)))
        if failed:
            return ReadResult(stack_results(results), failed)
        # Only together: they are too large, or the sources changed meanwhile.
        first = shorten(requests[0])
        add_note(
            failure, f"while reading {count_noun(len(requests), 'request')} from {first} on in process {os.getpid()}"
        )
        raise failure
