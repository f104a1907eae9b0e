"""PathInfo and ChannelInfo: where an image's pixels lie, and how they line up. Frozen values, nothing opened."""

from __future__ import annotations

import math
import operator
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar

import numpy as np

from ..errors import ChannelError, PathInfoError, shorten
from .channels import parse_codes

__all__ = ["ChannelInfo", "PathInfo", "SequenceInfo", "cut_frames", "to_frame_range"]
_PIXEL_FORMATS = (None, "gray")
_FRAME_ERRORS = ("raise", "nearest")
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_Frames = TypeVar("_Frames", bound="Sequence[Any]")
Matrix = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """One file of an image: its path, the channels it holds, and how it lies in the image.

    Attributes:
        path: the file; ``str`` or path-like, kept as ``str``.
        channels: the codes of its bands, in file order (a spec such as ``"r|g|b"`` or a list); ``None``: they are
            named by their number (``gray``, ``gray|a``, ``r|g|b``, ``r|g|b|a``, else ``band.0|band.1|...``).
        img_from_src: 3x3 or 2x3 affine matrix from file pixels to image pixels, acting on ``(x, y)`` columns, pixel
            centres at +0.5; an array, nested lists, or an object with a ``matrix`` such as ``kwimage.Affine``;
            ``None``: the identity.
        shape: ``(height, width)`` of the file where it is known without opening it.
        page: which page (or plane of ``series``) of a file that holds several; ``None``: the first image. Of a video: the number
            of one frame, which then is the image; ``None``: all of them, with a time axis in front.
        series: which tifffile series (an OME image, a slide's label, ...) of a TIFF that holds several; which stream of a video.
        nodata: the value that marks missing pixels.
        quantization: how integers stand for real values: ``orig_min``, ``orig_max``, ``quant_min``, ``quant_max``,
            ``nodata``, as in kwcoco.
        hashid: the caller's own key for the content, for ``hashid_mode="GIVEN"``.
        driver: opens the source with this GDAL driver, whatever its bytes look like: the way to opt in to a VRT, a
            ``/vsi`` path or a format that no magic bytes tell. ``None``: the format is told by the file's bytes.
        pixel_format: what a video's pixels become: ``"gray"``, the brightness alone, which most videos store as a plane of its
            own, and which is then taken as it is; ``None``: gray, RGB or RGBA, as the video has it.
        frame_errors: what stands for a frame of a video that does not decode: ``"raise"``, an error; ``"nearest"``, the nearest
            frame that does. The others keep their numbers.

    Raises:
        ChannelError: the codes are not well formed, or one stands there twice.
        PathInfoError: another value cannot be.

    Example:
        >>> info = ChannelInfo("scene_nir.tif", channels="nir", img_from_src=np.diag([4, 4, 1]))
        >>> info.channels, info.is_aligned, info.matrix[0].tolist()
        (('nir',), False, [4.0, 0.0, 0.0])
    """

    path: str
    channels: tuple[str, ...] | None = field(default=None, kw_only=True)
    img_from_src: Matrix | None = field(default=None, kw_only=True)
    shape: tuple[int, int] | None = field(default=None, kw_only=True)
    page: int | None = field(default=None, kw_only=True)
    series: int | None = field(default=None, kw_only=True)
    nodata: float | None = field(default=None, kw_only=True)
    quantization: tuple[tuple[str, Any], ...] | None = field(default=None, kw_only=True)
    hashid: str | None = field(default=None, kw_only=True)
    driver: str | None = field(default=None, kw_only=True)
    pixel_format: str | None = field(default=None, kw_only=True)
    frame_errors: str = field(default="raise", kw_only=True)

    if TYPE_CHECKING:

        def __init__(  # noqa: PLR0913 - the values a file may come with
            self,
            path: str | os.PathLike[str],
            *,
            channels: str | Sequence[str] | None = None,
            img_from_src: Any = None,
            shape: Sequence[int] | None = None,
            page: int | None = None,
            series: int | None = None,
            nodata: float | None = None,
            quantization: Mapping[str, Any] | None = None,
            hashid: str | None = None,
            driver: str | None = None,
            pixel_format: str | None = None,
            frame_errors: str = "raise",
        ) -> None: ...

    def __post_init__(self) -> None:
        _set(self, "path", _to_path(self.path))
        _set(self, "channels", None if self.channels is None else parse_codes(self.channels))
        _check_once(self.channels or (), f"{self.path} is said to hold")
        _set(self, "img_from_src", _to_matrix(self.img_from_src))
        _set(self, "shape", _to_shape(self.shape))
        for name in ("page", "series"):
            _set(self, name, _to_count(name, getattr(self, name)))
        _set(self, "nodata", _to_nodata(self.nodata))
        _set(self, "quantization", _to_quantization(self.quantization))
        for name in ("hashid", "driver"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise PathInfoError(f"{name} must be a str or None, got {shorten(getattr(self, name))}")
        _check_allowed("pixel_format", self.pixel_format, _PIXEL_FORMATS)
        _check_allowed("frame_errors", self.frame_errors, _FRAME_ERRORS)

    def __eq__(self, other: object) -> bool:
        """As tuples of fields compare: a nodata of nan is equal to itself, which dataclasses of Python 3.13 deny."""
        if type(other) is not type(self):
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash(_values(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), _given(self))

    @property
    def matrix(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """``img_from_src`` as a new 3x3 float64 array."""
        return np.array(self.img_from_src or _IDENTITY, dtype=np.float64)

    @property
    def is_aligned(self) -> bool:
        """Whether file pixels are image pixels."""
        return self.img_from_src is None


@dataclass(frozen=True, slots=True)
class PathInfo:
    """An image as :meth:`Frames.build_pathinfo` describes it: its files and its size.

    Attributes:
        image_id: the id it was built for.
        channels: its files; at least one.
        shape: ``(height, width)`` of image space; ``None``: that of the first aligned file.
        default: the channels that are read when none are asked for; ``None``: all.
        default_file: which of ``channels`` is read instead, where ``default`` is ``None`` since nobody named its bands.
        num_frames: how many frames it has in time, where that is known; ``None`` for an image.
        frame_range: of a video, ``(start, stop)``: only these of its frames, ``stop`` excluded; a ``stop`` of ``None`` is the
            end. Frame 0 is then ``start``.
        is_native: whether files stay on their own grids: a read is on that of the files that hold its channels, which must
            be of one size.

    Raises:
        ChannelError: no files, a code that several files hold, or a default that is not well formed.
        PathInfoError: another value cannot be.

    Example:
        >>> files = ChannelInfo("a.png", channels="rgb"), ChannelInfo("b.png", channels="nir")
        >>> info = PathInfo(1, files, default="nir|r")
        >>> info.default
        ('nir', 'r')
    """

    image_id: Hashable
    channels: tuple[ChannelInfo, ...]
    shape: tuple[int, int] | None = field(default=None, kw_only=True)
    default: tuple[str, ...] | None = field(default=None, kw_only=True)
    default_file: int | None = field(default=None, kw_only=True)
    num_frames: int | None = field(default=None, kw_only=True)
    frame_range: tuple[int, int | None] | None = field(default=None, kw_only=True)
    is_native: bool = field(default=False, kw_only=True)

    if TYPE_CHECKING:

        def __init__(
            self,
            image_id: Hashable,
            channels: Sequence[ChannelInfo],
            *,
            shape: Sequence[int] | None = None,
            default: str | Sequence[str] | None = None,
            default_file: int | None = None,
            num_frames: int | None = None,
            frame_range: tuple[int, int | None] | None = None,
            is_native: bool = False,
        ) -> None: ...

    def __post_init__(self) -> None:
        if not _has_hash(self.image_id):
            raise PathInfoError(f"an image id must be hashable, got {shorten(self.image_id)}")
        channels = tuple(self.channels) if isinstance(self.channels, Iterable) else ()
        if not channels or not all(isinstance(channel, ChannelInfo) for channel in channels):
            raise ChannelError(
                f"PathInfo of {self.image_id!r} needs a sequence of one ChannelInfo or more, got {shorten(self.channels)}"
            )
        _set(self, "channels", channels)
        self._check_codes()
        _set(self, "shape", _to_shape(self.shape))
        _set(self, "default", None if self.default is None else parse_codes(self.default))
        _set(self, "default_file", _to_count("default_file", self.default_file))
        if self.default_file is not None and self.default_file >= len(channels):
            raise PathInfoError(
                f"default_file is {self.default_file}, but there are {len(channels)} files, counted from 0"
            )
        _set(self, "num_frames", _to_count("num_frames", self.num_frames))
        _set(self, "frame_range", to_frame_range(self.frame_range))

    def _check_codes(self) -> None:
        named = [code for channel in self.channels for code in channel.channels or ()]
        _check_once(named, f"PathInfo of {self.image_id!r}: several files hold")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), _given(self))


@dataclass(frozen=True, slots=True)
class SequenceInfo(PathInfo):
    """Images that follow each other in time, on one grid: an item with a time axis in front. :meth:`of` makes one.

    Attributes:
        images: what each image is, its files brought to the common grid by their ``img_from_src``; ``channels`` are the files
            of all of them, and ``shape`` is that of the grid, or ``None`` for that of the first image.
    """

    images: tuple[PathInfo, ...] = field(default=(), kw_only=True)

    @classmethod
    def of(cls, image_id: Hashable, images: Sequence[PathInfo], *, shape: Sequence[int] | None = None) -> SequenceInfo:
        """The sequence of these images.

        Raises:
            PathInfoError: there are none, or one is none.

        Example:
            >>> images = [PathInfo(number, (ChannelInfo(f"{number}.png"),)) for number in range(3)]
            >>> SequenceInfo.of("walk", images).num_frames
            3
        """
        found = tuple(images)
        if not found or not all(isinstance(image, PathInfo) for image in found):
            raise PathInfoError(f"a sequence {image_id!r} needs one PathInfo or more, got {shorten(images)}")
        files = tuple(channel for image in found for channel in image.channels)
        return cls(image_id, files, shape=_to_shape(shape), num_frames=len(found), images=found)

    def _check_codes(self) -> None:
        """Every image has channels of the same codes."""


def to_frame_range(given: Iterable[Any] | None) -> tuple[int, int | None] | None:
    """A range of frames, checked.

    Raises:
        PathInfoError: it is none.

    Example:
        >>> to_frame_range([2, None])
        (2, None)
    """
    if given is None:
        return None
    try:
        first, last = given
        start, stop = operator.index(first), None if last is None else operator.index(last)
    except (TypeError, ValueError) as error:
        raise PathInfoError(f"frame_range must be (start, stop) in whole frames, got {shorten(given)}") from error
    if start < 0 or (stop is not None and stop <= start):
        raise PathInfoError(f"frame_range must be (start, stop) with 0 <= start < stop, got {shorten(given)}")
    return start, stop


def cut_frames(frames: _Frames, frame_range: tuple[int, int | None] | None, path: str, noun: str) -> _Frames:
    """The frames at the places of a range; all of them for ``None``.

    Args:
        frames: what is there.
        frame_range: as :func:`to_frame_range` gives it.
        path: where it is, for messages.
        noun: what it is, likewise.

    Raises:
        PathInfoError: the range goes beyond them.

    Example:
        >>> cut_frames(range(10), (7, None), "walk.mp4", "frames")
        range(7, 10)
    """
    if frame_range is None:
        return frames
    start, stop = frame_range
    if max(start + 1, stop or 0) > len(frames):
        raise PathInfoError(f"{path}: frame_range={frame_range} goes beyond the {len(frames):,} {noun} there")
    return frames[start:stop]  # type: ignore[return-value]


def _check_allowed(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise PathInfoError(f"{name}={shorten(value)}; allowed: {', '.join(map(repr, allowed))}")


def _values(value: ChannelInfo) -> tuple[Any, ...]:
    return tuple(getattr(value, item.name) for item in fields(value))


def _given(value: ChannelInfo | PathInfo) -> dict[str, Any]:
    """The fields of a value that are not as by default: all that a pickle needs."""
    return {
        item.name: getattr(value, item.name) for item in fields(value) if getattr(value, item.name) is not item.default
    }


def _rebuild(kind: type[ChannelInfo] | type[PathInfo], given: dict[str, Any]) -> ChannelInfo | PathInfo:
    """Make a value of the same constructor arguments; so nodata nan is again the one nan that equals itself."""
    return kind(**given)


def _set(value: object, name: str, item: object) -> None:
    """Normalise one field of a frozen value while it is being made."""
    object.__setattr__(value, name, item)


def _has_hash(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _check_once(codes: Sequence[str], who: str) -> None:
    twice = sorted(code for code, count in Counter(codes).items() if count > 1)
    if twice:
        raise ChannelError(f"{who} channel {'|'.join(twice)!r} more than once; give each band a code of its own")


def _to_path(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise PathInfoError(f"a path must be a str or path-like and not empty, got {shorten(path)}")
    return os.fsdecode(path)


def _to_matrix(matrix: Any) -> Matrix | None:
    given = getattr(matrix, "matrix", matrix)
    if given is None:
        return None
    try:
        array = np.asarray(given)
        array = array.astype(np.float64) if array.dtype.kind in "biufO" else np.empty(0)
    except (TypeError, ValueError, OverflowError) as error:
        raise PathInfoError(f"img_from_src must be a 3x3 matrix of real numbers, got {shorten(matrix)}") from error
    if array.shape == (2, 3):
        array = np.vstack([array, [0, 0, 1]])
    if array.shape != (3, 3) or not np.isfinite(array).all() or tuple(array[2]) != (0, 0, 1):
        raise PathInfoError(
            f"img_from_src must be a finite affine 3x3 matrix whose last row is 0 0 1, got {shorten(matrix)}"
        )
    if np.linalg.matrix_rank(array[:2, :2]) < 2:
        raise PathInfoError(f"img_from_src must be invertible, got {shorten(matrix)}")
    rows: Matrix = tuple(tuple(row) for row in (array + 0.0).tolist())  # which makes 0.0 of -0.0
    return None if rows == _IDENTITY else rows


def _to_shape(shape: Sequence[int] | None) -> tuple[int, int] | None:
    if shape is None:
        return None
    try:
        height, width = (_to_whole(extent) for extent in shape)
    except (TypeError, ValueError) as error:
        raise PathInfoError(f"shape must be (height, width) in whole pixels, got {shorten(shape)}") from error
    if height < 1 or width < 1:
        raise PathInfoError(f"shape must be (height, width) of at least one pixel, got {shorten(shape)}")
    return height, width


def _to_count(name: str, value: SupportsIndex | None) -> int | None:
    if value is None:
        return None
    try:
        number = _to_whole(value)
    except TypeError as error:
        raise PathInfoError(f"{name} must be a whole number or None, got {shorten(value)}") from error
    if number < 0:
        raise PathInfoError(f"{name} counts from 0, got {shorten(value)}")
    return number


def _to_whole(value: SupportsIndex) -> int:
    """A whole number as int: numpy's integers too, and floats and strings not even if they look like one."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError("a truth value is no number")
    return operator.index(value)


def _to_nodata(nodata: Any) -> float | None:
    if nodata is None:
        return None
    value = nodata.item() if isinstance(nodata, np.generic) else nodata
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PathInfoError(f"nodata must be a number or None, got {shorten(nodata)}")
    number: float = _same_nan(value)
    return number


def _same_nan(value: Any) -> Any:
    """The one nan that equals itself inside tuples, in place of any other."""
    return math.nan if isinstance(value, float) and math.isnan(value) else value


def _to_quantization(quantization: Any) -> tuple[tuple[str, Any], ...] | None:
    """As sorted pairs, which hash; from a mapping, or from such pairs."""
    if quantization is None:
        return None
    try:
        pairs = tuple((name, _same_nan(value)) for name, value in sorted(dict(quantization).items()))
        hash(pairs)
    except (TypeError, ValueError) as error:
        raise PathInfoError(
            f"quantization must map names to numbers, as in kwcoco, got {shorten(quantization)}"
        ) from error
    if not all(isinstance(name, str) for name, _ in pairs):
        raise PathInfoError(f"quantization must map names to numbers, as in kwcoco, got {shorten(quantization)}")
    return pairs
