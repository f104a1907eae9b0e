"""PathInfo and ChannelInfo: the files of an image and their alignment, as frozen values. No file is opened."""

from __future__ import annotations

import math
import operator
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeVar, get_args

import numpy as np

from .._lazy import load_name
from ..errors import ChannelError, PathInfoError, shorten
from .channels import parse_codes

__all__ = [
    "ChannelInfo",
    "Orientation",
    "PathInfo",
    "SequenceInfo",
    "coerce_count",
    "coerce_frame_range",
    "complete_info",
    "slice_frames",
    "to_absolute",
    "to_path",
]
_PIXEL_FORMATS = (None, "gray", "picture")
_FRAME_ERRORS = ("raise", "nearest")
_INTERPOLATIONS = (None, "nearest", "linear", "cubic", "lanczos")
#: Whether images are read as they are stored, or turned as their orientation tag says.
Orientation = Literal["stored", "upright"]
_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_Frames = TypeVar("_Frames", bound="Sequence[Any]")
Matrix = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """One file of an image: its path, its channels, and its position in the image.

    Attributes:
        path: the file; ``str`` or path-like, stored as ``str``; a leading ``~`` is expanded. :class:`Frames` take a relative path
            from the folder that was current when they were made. Or an address, such as ``s3://bucket/a.tif``, which the ``sources=`` of
            the frames must allow.
        channels: the codes of its bands in file order, as a spec such as ``"r|g|b"`` or a list; ``None``: the default names
            for their number (``gray``, ``gray|a``, ``r|g|b``, ``r|g|b|a``, else ``band.0|band.1|...``).
        img_from_src: 3x3 or 2x3 affine matrix from file pixels to image pixels, acting on ``(x, y)`` columns, pixel
            centres at +0.5; an array, nested lists, or an object with an attribute ``matrix`` such as ``kwimage.Affine``;
            ``None``: the identity.
        shape: ``(height, width)`` of the file, if it is known without opening it.
        page: the page (or plane of ``series``) of a file with several; ``None``: the first image. Of a video: the number
            of one frame, which is then the image; ``None``: all frames, with a time axis in front.
        series: the tifffile series (an OME image, a slide's label, ...) of a TIFF with several, or the stream of a video.
        nodata: the value that marks missing pixels.
        quantization: the mapping of integers to real values: ``orig_min``, ``orig_max``, ``quant_min``, ``quant_max``,
            ``nodata``, as in kwcoco.
        hashid: a key of the content that the caller provides, for ``hashid_mode="GIVEN"``.
        driver: the GDAL driver that opens the source, for a VRT, a ``/vsi`` path or a format without magic bytes; ``None``:
            the format is detected from the first bytes.
        pixel_format: the pixels of a video: ``"gray"``, only the brightness, without conversion if the video stores it, as
            most do; ``"picture"``: gray, RGB or RGBA, as a player shows it; ``None``: the same, but for a movie of numeric
            fields, see :class:`MovieStorage`, the numbers.
        frame_errors: what happens if a frame of a video does not decode: ``"raise"`` an error, or read the ``"nearest"`` frame
            that decodes. Other frames keep their numbers.
        interpolation: how its pixels are resampled where a read does not say: ``"nearest"`` for masks and labels, ``"linear"``,
            ``"cubic"`` or ``"lanczos"``; ``None``: ``"nearest"`` for booleans, ``"linear"`` for other dtypes.
        orientation: ``"upright"`` turns the image as the orientation in its EXIF data or TIFF tag says, as photo viewers do;
            ``"stored"`` reads it as it is stored. ``None``: as the :class:`Frames`, which read it as stored unless told.
            Videos are always upright.

    Raises:
        ChannelError: the codes are malformed, or one occurs twice.
        PathInfoError: another value is invalid.

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
    interpolation: str | None = field(default=None, kw_only=True)
    orientation: str | None = field(default=None, kw_only=True)

    if TYPE_CHECKING:
        # The fields are annotated with what they hold; the constructor accepts more.

        def __init__(  # noqa: PLR0913 - the fields
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
            interpolation: str | None = None,
            orientation: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        _set(self, "path", to_path(self.path))
        _set(self, "channels", None if self.channels is None else parse_codes(self.channels))
        _check_unique(self.channels or (), f"{self.path} has")
        _set(self, "img_from_src", _to_matrix(self.img_from_src))
        _set(self, "shape", _to_shape(self.shape))
        for name in ("page", "series"):
            _set(self, name, coerce_count(name, getattr(self, name)))
        _set(self, "nodata", _to_nodata(self.nodata))
        _set(self, "quantization", _to_quantization(self.quantization))
        for name in ("hashid", "driver"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise PathInfoError(f"{name} must be a str or None, got {shorten(getattr(self, name))}")
        _check_allowed("pixel_format", self.pixel_format, _PIXEL_FORMATS)
        _check_allowed("frame_errors", self.frame_errors, _FRAME_ERRORS)
        _check_allowed("interpolation", self.interpolation, _INTERPOLATIONS)
        _check_allowed("orientation", self.orientation, (None, *get_args(Orientation)))

    def __eq__(self, other: object) -> bool:
        """Compare tuples of fields, in which a nodata of nan equals itself. Dataclasses of Python 3.13 compare field by field."""
        if type(other) is not type(self):
            return NotImplemented
        return _values(self) == _values(other)

    def __hash__(self) -> int:
        return hash(_values(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), _changed_fields(self))

    @property
    def matrix(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """``img_from_src`` as a new 3x3 float64 array."""
        return np.array(self.img_from_src or _IDENTITY, dtype=np.float64)

    @property
    def is_aligned(self) -> bool:
        """Whether file pixels coincide with image pixels."""
        return self.img_from_src is None


@dataclass(frozen=True, slots=True)
class PathInfo:
    """The files and the size of an image; :meth:`Frames.build_pathinfo` returns it.

    Attributes:
        image_id: the id of the image.
        channels: its files, at least one.
        shape: ``(height, width)`` of the image; ``None``: that of the first aligned file.
        default: the channels of a read that names none; ``None``: all.
        default_file: the index in ``channels`` of the file to read by default, for a file whose bands have no names.
        num_frames: the number of frames, if it is known; ``None`` for an image.
        frame_range: ``(start, stop)`` selects these frames of a video, ``stop`` excluded; a ``stop`` of ``None`` is the end.
            Frame 0 is then ``start``.
        is_native: whether files keep their own grids. A read is then on the grid of the files that hold its channels, which
            must have the same size.

    Raises:
        ChannelError: there are no files, several files have the same code, or the default is malformed.
        PathInfoError: another value is invalid.

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
        # The fields are annotated with what they hold; the constructor accepts more.

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
                f"PathInfo of {shorten(self.image_id)} needs a sequence of at least one ChannelInfo, got {shorten(self.channels)}"
            )
        _set(self, "channels", channels)
        self._check_codes()
        _set(self, "shape", _to_shape(self.shape))
        _set(self, "default", None if self.default is None else parse_codes(self.default))
        _set(self, "default_file", coerce_count("default_file", self.default_file))
        if self.default_file is not None and self.default_file >= len(channels):
            raise PathInfoError(
                f"default_file is {self.default_file}, but the {len(channels)} files are numbered from 0"
            )
        _set(self, "num_frames", coerce_count("num_frames", self.num_frames))
        _set(self, "frame_range", coerce_frame_range(self.frame_range))

    @classmethod
    def from_files(
        cls,
        files: Mapping[str, str | os.PathLike[str] | ChannelInfo],
        *,
        align: Literal["georeference", "extent"] | None = None,
        image_id: Hashable = None,
        default: str | Sequence[str] | None = None,
    ) -> PathInfo:
        """The description of an image from files that lie over each other. The files are opened, but no pixel is read.

        Args:
            files: the path (or a :class:`ChannelInfo`) of each file by its channels, such as
                ``{"r|g|b": "rgb.tif", "nir": "nir.tif"}``. The image has the pixels of the first file.
            align: where the others lie in the image: by the ``"georeference"`` of the files, which must be in one coordinate
                reference system; or over the same ``"extent"``, whatever their resolution. ``None``: pixel on pixel.
            image_id: the id of the image; ``None``: the name of the first file without ending.
            default: the channels of a read that names none; ``None``: all.

        Raises:
            PathInfoError: a file has no georeference, or one in another system; or ``files`` is no such mapping.
            SourceError: a file cannot be read.

        Example:
            >>> rgb, nir = (getfixture("tmp_path") / name for name in ("rgb.npy", "nir.npy"))
            >>> np.save(rgb, np.zeros((40, 60, 3), np.uint8)), np.save(nir, np.zeros((10, 15), np.uint16))
            (None, None)
            >>> info = PathInfo.from_files({"r|g|b": rgb, "nir": nir}, align="extent")
            >>> info.image_id, info.shape, info.channels[1].matrix.diagonal().tolist()
            ('rgb', (40, 60), [4.0, 4.0, 1.0])
        """
        # By name, because this package lies below those that open files.
        place: Any = load_name("ndframes.frames.placing", "info_from_files")
        info: PathInfo = place(files, align, image_id, default)
        return info

    def _check_codes(self) -> None:
        codes = [code for channel in self.channels for code in channel.channels or ()]
        _check_unique(codes, f"PathInfo of {shorten(self.image_id)}: its files have")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), _changed_fields(self))


@dataclass(frozen=True, slots=True)
class SequenceInfo(PathInfo):
    """A sequence of images on one grid, with a time axis in front. Use :meth:`of` to make one.

    Attributes:
        images: the images in their order. The ``img_from_src`` of their files map to the common grid. ``channels`` are the
            files of all images, and ``shape`` is that of the grid, or ``None`` for that of the first image.
    """

    images: tuple[PathInfo, ...] = field(default=(), kw_only=True)

    @classmethod
    def of(cls, image_id: Hashable, images: Sequence[PathInfo], *, shape: Sequence[int] | None = None) -> SequenceInfo:
        """The sequence of these images.

        Raises:
            PathInfoError: there are no images, or one of them is not a :class:`PathInfo`.

        Example:
            >>> images = [PathInfo(number, (ChannelInfo(f"{number}.png"),)) for number in range(3)]
            >>> SequenceInfo.of("walk", images).num_frames
            3
        """
        found = tuple(images)
        if not found or not all(isinstance(image, PathInfo) for image in found):
            raise PathInfoError(f"a sequence {shorten(image_id)} needs at least one PathInfo, got {shorten(images)}")
        files = tuple(channel for image in found for channel in image.channels)
        return cls(image_id, files, shape=_to_shape(shape), num_frames=len(found), images=found)

    def _check_codes(self) -> None:
        """Allow the same codes in all images."""


def coerce_frame_range(value: Iterable[Any] | None) -> tuple[int, int | None] | None:
    """A checked range of frames, ``(start, stop)``.

    Raises:
        PathInfoError: the value is not such a pair.

    Example:
        >>> coerce_frame_range([2, None])
        (2, None)
    """
    if value is None:
        return None
    try:
        first, last = value
        start, stop = operator.index(first), None if last is None else operator.index(last)
    except (TypeError, ValueError) as error:
        raise PathInfoError(f"frame_range must be (start, stop) in whole frames, got {shorten(value)}") from error
    if start < 0 or (stop is not None and stop <= start):
        raise PathInfoError(f"frame_range must be (start, stop) with 0 <= start < stop, got {shorten(value)}")
    return start, stop


def slice_frames(frames: _Frames, frame_range: tuple[int, int | None] | None, path: str, noun: str) -> _Frames:
    """The frames in a range; all frames for ``None``.

    Args:
        frames: all frames.
        frame_range: a result of :func:`coerce_frame_range`.
        path: the path of the frames, for the message.
        noun: what the frames are called in the message.

    Raises:
        PathInfoError: the range goes beyond the last frame.

    Example:
        >>> slice_frames(range(10), (7, None), "walk.mp4", "frames")
        range(7, 10)
    """
    if frame_range is None:
        return frames
    start, stop = frame_range
    if max(start + 1, stop or 0) > len(frames):
        raise PathInfoError(f"{path}: frame_range={frame_range} goes beyond the {len(frames):,} {noun} there")
    return frames[start:stop]  # type: ignore[return-value]


def to_absolute(path: str, folder: str, driver: str | None = None) -> str:
    """A path, taken from ``folder`` if it is relative.

    Names that are no paths stay: URLs, and names that only the GDAL driver understands.

    Example:
        >>> to_absolute("a/b.tif", "/data"), to_absolute("https://host/b.tif", "/data")
        ('/data/a/b.tif', 'https://host/b.tif')
    """
    if os.path.isabs(path) or "://" in path:
        return path
    absolute = os.path.join(folder, path)
    return absolute if driver is None or os.path.exists(absolute) else path


def complete_info(info: PathInfo, folder: str, orientation: Orientation) -> PathInfo:
    """The same description with all that it leaves to the :class:`Frames`; itself if it leaves nothing.

    Args:
        info: the description.
        folder: the folder of relative paths.
        orientation: that of files that name none.

    Example:
        >>> complete_info(PathInfo(1, [ChannelInfo("a.png")]), "/data", "stored").channels[0].path
        '/data/a.png'
    """
    channels = [_complete(channel, folder, orientation) for channel in info.channels]
    if all(new is old for new, old in zip(channels, info.channels, strict=True)):
        return info
    if isinstance(info, SequenceInfo):
        images = [complete_info(image, folder, orientation) for image in info.images]
        return SequenceInfo.of(info.image_id, images, shape=info.shape)
    return replace(info, channels=tuple(channels))


def _complete(channel: ChannelInfo, folder: str, orientation: Orientation) -> ChannelInfo:
    path = to_absolute(channel.path, folder, channel.driver)
    # "stored" is what None means in the end, so most descriptions stay as they are.
    is_turned = channel.orientation is None and orientation == "upright"
    if path == channel.path and not is_turned:
        return channel
    return replace(channel, path=path, orientation="upright" if is_turned else channel.orientation)


def _check_allowed(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise PathInfoError(f"{name}={shorten(value)}; allowed: {', '.join(map(repr, allowed))}")


def _values(value: ChannelInfo) -> tuple[Any, ...]:
    return tuple(getattr(value, item.name) for item in fields(value))


def _changed_fields(value: ChannelInfo | PathInfo) -> dict[str, Any]:
    """The fields that differ from their defaults, which a pickle stores."""
    # By identity, because == on an id that a user made may return an array, or raise.
    return {
        item.name: getattr(value, item.name) for item in fields(value) if getattr(value, item.name) is not item.default
    }


def _rebuild(kind: type[ChannelInfo] | type[PathInfo], values: dict[str, Any]) -> ChannelInfo | PathInfo:
    """Unpickle through the constructor, which replaces a nodata of nan by the nan that equals itself."""
    return kind(**values)


def _set(value: object, name: str, item: object) -> None:
    """Set a field of a frozen value, in its ``__post_init__``."""
    object.__setattr__(value, name, item)


def _has_hash(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _check_unique(codes: Sequence[str], subject: str) -> None:
    if len(set(codes)) < len(codes):
        repeated = sorted(code for code, count in Counter(codes).items() if count > 1)
        raise ChannelError(
            f"{subject} channel {shorten('|'.join(repeated))} more than once; give each band its own code"
        )


def to_path(path: object) -> str:
    """A path as a str, with a leading ``~`` expanded.

    Raises:
        PathInfoError: it is no path, or empty.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise PathInfoError(f"a path must be a str or path-like and not empty, got {shorten(path)}")
    return os.path.expanduser(os.fsdecode(path))


def _to_matrix(matrix: Any) -> Matrix | None:
    value = getattr(matrix, "matrix", matrix)
    if value is None:
        return None
    try:
        array = np.asarray(value)
        # astype would also convert strings, and drop the imaginary parts of complex numbers.
        array = array.astype(np.float64) if array.dtype.kind in "biufO" else np.empty(0)
    except (TypeError, ValueError, OverflowError) as error:
        raise PathInfoError(
            f"img_from_src must be a matrix of real numbers, 3x3 or 2x3, got {shorten(matrix)}"
        ) from error
    if array.shape == (2, 3):
        array = np.vstack([array, [0, 0, 1]])
    if array.shape != (3, 3) or not np.isfinite(array).all() or tuple(array[2]) != (0, 0, 1):
        raise PathInfoError(
            f"img_from_src must be a finite affine matrix, 2x3, or 3x3 with a last row of 0 0 1, got {shorten(matrix)}"
        )
    # Not the determinant, which is tiny for a small but valid scale.
    if np.linalg.matrix_rank(array[:2, :2]) < 2:
        raise PathInfoError(f"img_from_src must be invertible, got {shorten(matrix)}")
    # Rows of tuples rather than an array: they hash, compare and pickle by value.
    rows: Matrix = tuple(tuple(row) for row in (array + 0.0).tolist())  # + 0.0 replaces -0.0
    return None if rows == _IDENTITY else rows


def _to_shape(shape: Sequence[int] | None) -> tuple[int, int] | None:
    if shape is None:
        return None
    try:
        height, width = (_to_int(extent) for extent in shape)
    except (TypeError, ValueError) as error:
        raise PathInfoError(f"shape must be (height, width) in whole pixels, got {shorten(shape)}") from error
    if height < 1 or width < 1:
        raise PathInfoError(f"shape must be (height, width) of at least 1 pixel, got {shorten(shape)}")
    return height, width


def coerce_count(name: str, value: SupportsIndex | None) -> int | None:
    """A checked number of something.

    Raises:
        PathInfoError: the value is not a whole number of at least 0, or ``None``; the message names it.

    Example:
        >>> coerce_count("page", 3), coerce_count("page", None)
        (3, None)
    """
    if value is None:
        return None
    try:
        number = _to_int(value)
    except TypeError as error:
        raise PathInfoError(f"{name} must be a whole number or None, got {shorten(value)}") from error
    if number < 0:
        raise PathInfoError(f"{name} must be 0 or more, got {shorten(value)}")
    return number


def _to_int(value: SupportsIndex) -> int:
    """An int from an integer of Python or numpy; floats and strings are refused."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError("a bool is not a number")
    return operator.index(value)


def _to_nodata(nodata: Any) -> float | None:
    if nodata is None:
        return None
    # A Python number, so that equal values pickle and hash alike.
    value = nodata.item() if isinstance(nodata, np.generic) else nodata
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PathInfoError(f"nodata must be a number or None, got {shorten(nodata)}")
    number: float = _same_nan(value)
    return number


def _same_nan(value: Any) -> Any:
    """Replace any nan by ``math.nan``: tuples compare items by identity first, so it equals itself there."""
    return math.nan if isinstance(value, float) and math.isnan(value) else value


def _to_quantization(quantization: Any) -> tuple[tuple[str, Any], ...] | None:
    """Sorted pairs, which are hashable, from a mapping or from such pairs."""
    if quantization is None:
        return None
    try:
        pairs = tuple((name, _same_nan(value)) for name, value in sorted(dict(quantization).items()))
        # Fails here rather than at the first use of the info as a key.
        hash(pairs)
    except (TypeError, ValueError) as error:
        raise PathInfoError(
            f"quantization must map names to numbers, as in kwcoco, got {shorten(quantization)}"
        ) from error
    if not all(isinstance(name, str) for name, _ in pairs):
        raise PathInfoError(f"quantization must map names to numbers, as in kwcoco, got {shorten(quantization)}")
    return pairs
