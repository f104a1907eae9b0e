"""Animations: GIF, PNG, WebP and AVIF files of several frames, composed by Pillow."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import SourceError, UnreadableImageError
from ...geometry.regions import to_slice
from ...system.handles import FileHandle, close_on_error
from ...system.memory import ClockCache
from ...system.process import IMPORTING
from ..reader import Reader, ReaderFacts
from .limits import check_expansion
from .sniff import sniff
from .truncation import is_gif_cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..._typing import Array
    from ...system.handles import HandlePool
    from ...system.stamp import SourceStamp

__all__ = ["AnimationForm", "AnimationReader", "has_frames", "is_animation", "may_be_animation", "scan_animation"]
# Files with these suffixes are never animations; looking at each of them would cost time.
_STILL_SUFFIXES = (".tif", ".tiff", ".jpg", ".jpeg", ".npy", ".jp2", ".svs", ".ndpi", ".ntf", ".ppm", ".pgm", ".bmp")
_HEAD_BYTES = 1 << 12
_FRAME_BYTES = 64 * 2**20
# Browsers show a frame without a duration for this long.
_DEFAULT_MS = 100


class AnimationForm(NamedTuple):
    """What all frames of an animation tell.

    Attributes:
        shape: ``(height, width, bands)`` of a composed frame: 3 bands, or 4 if any pixel is not opaque.
        durations_ms: how long each frame is shown, in milliseconds.
    """

    shape: tuple[int, int, int]
    durations_ms: tuple[int, ...]


def is_animation(path: str) -> bool:
    """Whether a file holds an animation of several frames; ``False`` if it cannot be read.

    Example:
        >>> from PIL import Image
        >>> frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
        >>> path = getfixture("tmp_path") / "a.gif"
        >>> frames[0].save(path, save_all=True, append_images=frames[1:])
        >>> is_animation(str(path)), is_animation(__file__)
        (True, False)
    """
    return may_be_animation(path) and has_frames(path)


def has_frames(path: str) -> bool:
    """As :func:`is_animation`, whatever the suffix of the path."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not _has_animation(file.read(_HEAD_BYTES)):
                return False
            with IMPORTING:
                from PIL import Image

            file.seek(0)
            with Image.open(file) as image:
                return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 - Pillow raises anything for damaged bytes; reading it as an image says what is wrong
        return False


def may_be_animation(path: str) -> bool:
    """Whether the suffix of a path allows an animation."""
    return not path.lower().endswith(_STILL_SUFFIXES)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a FIFO would wait for a writer


def _has_animation(head: bytes) -> bool:
    kind = sniff(head)
    if kind == "PNG":
        # The chunk of the animation comes before the pixels; profiles may come before it.
        place = 8
        while place + 8 <= len(head):
            name = head[place + 4 : place + 8]
            if name in (b"acTL", b"IDAT"):
                return name == b"acTL"
            place += 12 + int.from_bytes(head[place : place + 4], "big")
        return True
    if kind == "WEBP":
        return head[12:16] == b"VP8X" and len(head) > 20 and head[20] & 2 > 0
    if kind == "AVIF":
        return b"avis" in head[:64]
    return kind == "GIF"


class _Player:
    """A handle: an opened animation, at one of its frames."""

    def __init__(self, path: str, stamp: SourceStamp | None) -> None:
        from PIL import Image

        handle = FileHandle(path, stamp)
        with close_on_error(handle):
            self._file = os.fdopen(os.dup(handle.descriptor), "rb")
            size_bytes = handle.stamp.size_bytes
        handle.close()
        with close_on_error(self):
            self._file.seek(0)
            self.image: Any = Image.open(self._file)
            check_expansion(path, self.image.width * self.image.height * 4, size_bytes)
            self._refuse_many_bits(path)
            self._size_bytes = size_bytes
        self.count = int(getattr(self.image, "n_frames", 1))

    def _refuse_many_bits(self, path: str) -> None:
        """Refuse samples of more than 8 bits, which Pillow narrows."""
        head = os.pread(self._file.fileno(), _HEAD_BYTES, 0)
        at = head.find(b"av1C") if sniff(head) == "AVIF" else -1
        if (sniff(head) == "PNG" and head[24] > 8) or (at >= 0 and head[at + 6] & 0x40):
            raise UnreadableImageError(
                f"{path} is an animation of more than 8 bits a sample, which is not read exactly"
            )

    def check_end(self, path: str) -> None:
        """Refuse a GIF that ends within a frame: Pillow leaves that frame and those after it out."""
        if self.image.format == "GIF" and is_gif_cut(os.pread(self._file.fileno(), self._size_bytes, 0)):
            raise UnreadableImageError(f"{path} is truncated: it ends within a frame")

    def compose(self, number: int) -> Array:
        """A frame as it is shown, RGBA ``(h, w, 4)``."""
        self.image.seek(number)
        if self.image.format != "PNG":
            # The frames after the first may have lost their palette, so each is converted.
            return np.asarray(self.image.convert("RGBA"))
        # Pillow draws a frame onto the canvas to which a frame that is disposed of returns, so it draws onto a copy.
        canvas = self.image._prev_im  # noqa: SLF001
        if canvas is not None:
            self.image._prev_im = canvas.copy()  # noqa: SLF001
        frame = np.asarray(self.image.convert("RGBA"))
        self.image._prev_im = canvas  # noqa: SLF001
        return frame

    @property
    def duration_ms(self) -> int:
        """How long the present frame is shown, in milliseconds."""
        return round(self.image.info.get("duration") or 0) or _DEFAULT_MS

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def scan_animation(path: str, pool: HandlePool, stamp: SourceStamp | None) -> AnimationForm:
    """Compose all frames once, to learn their shape and times.

    Raises:
        UnreadableImageError: a frame does not decode, or the samples have more than 8 bits.
        SourceChangedError: the file of ``stamp`` was replaced or removed.
    """
    with IMPORTING:
        import PIL.Image  # noqa: F401 - at once, before a frame needs it

    player = _open_player(path, pool, stamp)
    is_opaque, durations, frame = True, [], None
    with _as_source_errors(path):
        try:
            player.check_end(path)
            for number in range(player.count):
                frame = player.compose(number)
                is_opaque = is_opaque and bool(frame[:, :, 3].min() == 255)
                durations.append(player.duration_ms)
        finally:
            player.close()
    assert frame is not None  # noqa: S101
    return AnimationForm((*frame.shape[:2], 3 if is_opaque else 4), tuple(durations))


def _open_player(path: str, pool: HandlePool, stamp: SourceStamp | None) -> _Player:
    def open_player() -> _Player:
        return _Player(path, stamp)

    with _as_source_errors(path):
        return pool.open(open_player)


class _as_source_errors:  # noqa: N801 - a context
    """A context in which whatever Pillow raises for damaged bytes becomes an :class:`UnreadableImageError`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, SourceError):
            raise UnreadableImageError(f"{self._path}: a frame does not decode, it is damaged: {error}") from error


class AnimationReader(Reader):
    """The composed frames of an animation, as a video. Frame ``i`` is the one that Pillow shows after ``seek(i)``.

    Args:
        path: the file.
        pool: keeps the open players.
        shape: ``(height, width, bands)`` of a frame; see :class:`AnimationForm`.
        frame_count: the number of frames.
        stamp: the file that ``path`` must be whenever it is opened.
    """

    def __init__(
        self,
        path: str,
        pool: HandlePool,
        shape: tuple[int, int, int],
        frame_count: int,
        *,
        stamp: SourceStamp | None = None,
    ) -> None:
        frame_bytes = shape[0] * shape[1] * shape[2]
        facts = ReaderFacts(
            format="animation",
            shape=shape,
            dtype=np.dtype(np.uint8),
            tile_shape=shape[:2],
            frame_count=frame_count,
            memory_bytes=4096 + min(_FRAME_BYTES, frame_count * frame_bytes),
        )
        super().__init__(path, facts)
        self._pool = pool
        self._stamp = stamp
        self._token = object()
        self._frames: ClockCache[int, Array] = ClockCache(_FRAME_BYTES, _nbytes)
        weakref.finalize(self, pool.discard, self._token)

    def count_decoded_of(self, times: Sequence[int], rows: range, cols: range) -> int:
        """As :meth:`Reader.count_decoded_of`: every frame up to the last one is composed."""
        return max(times, default=-1) + 1 if len(rows) and len(cols) else 0

    def read_frames(self, times: Sequence[int], rows: range, cols: range, bands: Sequence[int], out: Array) -> None:
        """As :meth:`Reader.read_frames`: frames are composed in rising order."""
        if not out.size:
            return
        places: dict[int, list[int]] = {}
        for place, time in enumerate(times):
            places.setdefault(time, []).append(place)
        inside = to_slice(rows), to_slice(cols)
        for number, frame in self._compose(sorted(places)):
            window = frame[inside] if bands == self.all_bands else frame[inside][:, :, list(bands)]
            for place in places[number]:
                out[place] = window

    def _compose(self, numbers: Sequence[int]) -> Iterator[tuple[int, Array]]:
        # All at once: the cache may drop these frames while others are composed.
        cached = {number: frame for number in numbers if (frame := self._frames.get(number)) is not None}
        if len(cached) == len(numbers):
            yield from ((number, cached[number]) for number in numbers)
            return
        with self._pool.borrow(self._token, lambda: _open_player(self.path, self._pool, self._stamp)) as player:
            for number in numbers:
                frame = cached.get(number)
                if frame is None:
                    with _as_source_errors(self.path):
                        frame = np.ascontiguousarray(player.compose(number)[:, :, : self.shape[2]])
                    if frame.shape != self.shape:
                        raise UnreadableImageError(f"{self.path}: frame {number:,} is {frame.shape}, not {self.shape}")
                    self._frames.put(number, frame)
                yield number, frame


def _nbytes(frame: Array) -> int:
    return frame.nbytes
