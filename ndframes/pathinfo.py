"""PathInfo and ChannelInfo: where an image's pixels lie, and how they line up. Frozen values, nothing opened."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .channels import parse_codes
from .errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ChannelInfo", "PathInfo"]

_IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
Matrix = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """One file of an image: its path, the channels it holds, and how it lies in the image.

    Attributes:
        path: the file; ``str`` or path-like, kept as ``str``.
        channels: the codes of its bands, in file order (a spec such as ``"r|g|b"`` or a list); ``None``: they are
            named by their number (``gray``, ``gray|a``, ``r|g|b``, ``r|g|b|a``, else ``band.0|band.1|...``).
        img_from_src: 3x3 affine matrix from file pixels to image pixels, acting on ``(x, y)`` columns, pixel centres
            at +0.5; ``None``: the identity.
        shape: ``(height, width)`` of the file where it is known without opening it.
        page: which page (or plane of ``series``) of a file that holds several; ``None``: the first image.
        series: which tifffile series (an OME image, a slide's label, ...) of a TIFF that holds several.
        nodata: the value that marks missing pixels.
        quantization: how integers stand for real values: ``orig_min``, ``orig_max``, ``quant_min``, ``quant_max``,
            ``nodata``, as in kwcoco.
        hashid: the caller's own key for the content, for ``hashid_mode="GIVEN"``.
        driver: opens the source with this GDAL driver, whatever its bytes look like: the way to opt in to a VRT, a
            ``/vsi`` path or a format that no magic bytes tell. ``None``: the format is told by the file's bytes.

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
        ) -> None: ...

    def __post_init__(self) -> None:
        _set(self, "path", _to_path(self.path))
        _set(self, "channels", None if self.channels is None else parse_codes(self.channels))
        _set(self, "img_from_src", _to_matrix(self.img_from_src))
        _set(self, "shape", _to_shape(self.shape))
        for name in ("page", "series"):
            _check_page(name, getattr(self, name))
        if isinstance(self.quantization, Mapping):
            _set(self, "quantization", tuple(sorted(self.quantization.items())))

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
        num_frames: how many frames it has in time, where that is known; ``None`` for an image.

    Example:
        >>> info = PathInfo(1, (ChannelInfo("a.png", channels="rgb"), ChannelInfo("b.png", channels="nir")), default="nir|r")
        >>> info.default
        ('nir', 'r')
    """

    image_id: Hashable
    channels: tuple[ChannelInfo, ...]
    shape: tuple[int, int] | None = field(default=None, kw_only=True)
    default: tuple[str, ...] | None = field(default=None, kw_only=True)
    num_frames: int | None = field(default=None, kw_only=True)

    if TYPE_CHECKING:

        def __init__(
            self,
            image_id: Hashable,
            channels: Sequence[ChannelInfo],
            *,
            shape: Sequence[int] | None = None,
            default: str | Sequence[str] | None = None,
            num_frames: int | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        channels = tuple(self.channels)
        if not channels or not all(isinstance(channel, ChannelInfo) for channel in channels):
            raise ChannelError(f"PathInfo of {self.image_id!r} needs one ChannelInfo or more, got {self.channels!r}")
        named = [code for channel in channels for code in channel.channels or ()]
        twice = sorted({code for code in named if named.count(code) > 1})
        if twice:
            raise ChannelError(f"PathInfo of {self.image_id!r}: several files hold channel {'|'.join(twice)!r}")
        _set(self, "channels", channels)
        _set(self, "shape", _to_shape(self.shape))
        _set(self, "default", None if self.default is None else parse_codes(self.default))


def _set(value: object, name: str, item: object) -> None:
    """Normalise one field of a frozen value while it is being made."""
    object.__setattr__(value, name, item)


def _to_path(path: object) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"a path must be a str or path-like, got {path!r} ({type(path).__name__})")
    return os.fsdecode(path)


def _to_matrix(matrix: Any) -> Matrix | None:
    if matrix is None:
        return None
    array = np.asarray(matrix, dtype=np.float64)
    if array.shape == (2, 3):
        array = np.vstack([array, [0, 0, 1]])
    if array.shape != (3, 3) or not np.isfinite(array).all() or tuple(array[2]) != (0, 0, 1):
        raise ValueError(f"img_from_src must be a finite affine 3x3 matrix whose last row is 0 0 1, got {matrix!r}")
    if np.linalg.det(array) == 0:
        raise ValueError(f"img_from_src must be invertible, got {matrix!r}")
    rows: Matrix = tuple(tuple(row) for row in array.tolist())
    return None if rows == _IDENTITY else rows


def _to_shape(shape: Sequence[int] | None) -> tuple[int, int] | None:
    if shape is None:
        return None
    if len(shape) < 2 or not all(int(extent) == extent > 0 for extent in shape[:2]):
        raise ValueError(f"shape must be (height, width) in whole pixels, got {shape!r}")
    return int(shape[0]), int(shape[1])


def _check_page(name: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError(f"{name} counts from 0, got {value!r}")
