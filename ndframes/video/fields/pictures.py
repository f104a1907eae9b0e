"""Pictures of fields: how the channels of a field are arranged in the pictures of a video, and how a preview looks.

One channel is gray. Two to four are red, green, blue and alpha. More are gray tiles side by side, in rows, and so are fields of
one column. In files for py-pde the memory of the picture is that of the field ``(y, x, sample)``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import MovieError
from .pde import PDE_FORMATS

if TYPE_CHECKING:
    from ..._typing import Array
    from .description import Description

__all__ = ["Arrangement", "arrange", "level_arrangement", "preview_arrangement", "rearrange", "to_preview"]
_LEAST_PREVIEW_PX = 16  # encoders refuse smaller pictures
# FFV1 stores these. In arrays of 8 bits blue comes first.
_FORMATS = {(1, 8): "gray", (1, 16): "gray16le", (2, 8): "bgr0", (3, 8): "bgr0", (4, 8): "bgra",
            (2, 16): "gbrp16le", (3, 16): "gbrp16le", (4, 16): "gbrap16le"}  # fmt: skip
_RGBA, _BGRA = [0, 1, 2, 3], [2, 1, 0, 3]
# For each video format of py-pde, the format of the pictures. The planes of these are green, blue, red, alpha in memory.
_STORED = {**{name: name for name in PDE_FORMATS}, "rgb24": "bgr0", "rgb32": "bgra"}
_GBRA_FROM_RGBA, _RGBA_FROM_GBRA = [1, 2, 0, 3], [2, 0, 1, 3]


class Arrangement(NamedTuple):
    """How planes become a picture.

    Attributes:
        planes: the number of planes.
        height: of a plane.
        width: of a plane.
        pixel_format: FFmpeg's name of the format of the picture.
        rows: the rows of tiles.
        columns: the columns of tiles.
        pde_format: the video format of py-pde, if the arrangement is its.
    """

    planes: int
    height: int
    width: int
    pixel_format: str
    rows: int = 1
    columns: int = 1
    pde_format: str | None = None

    @property
    def array_format(self) -> str:
        """FFmpeg's name of the format of the picture as an array."""
        return "bgr24" if self.pixel_format == "bgr0" else self.pixel_format

    @property
    def picture_shape(self) -> tuple[int, int]:
        """``(height, width)`` of the picture."""
        return self.height * self.rows, self.width * self.columns


def level_arrangement(form: Description) -> Arrangement:
    """How the levels of a field are stored."""
    if form.pde_format is not None:
        return Arrangement(form.planes, form.height, form.width, _STORED[form.pde_format], pde_format=form.pde_format)
    # FFV1 refuses high pictures of one column.
    return _arrangement(form.planes, form.height, form.width, form.bits, least_columns=2 if form.width == 1 else 1)


def preview_arrangement(form: Description) -> Arrangement:
    """How the preview of a field with packed values is stored."""
    return _arrangement(form.bands, form.height, form.width, 8)


def _arrangement(planes: int, height: int, width: int, bits: int, least_columns: int = 1) -> Arrangement:
    found = _FORMATS.get((planes, bits))
    if found is not None and least_columns == 1:
        return Arrangement(planes, height, width, found)
    columns = max(math.ceil(math.sqrt(planes)), least_columns)
    return Arrangement(planes, height, width, _FORMATS[1, bits], math.ceil(planes / columns), columns)


def arrange(levels: Array, form: Arrangement) -> Array:
    """Planes ``(y, x, plane)`` as the array of a picture."""
    if form.pde_format is not None:
        return _to_memory(levels, form.pde_format)
    if form.pixel_format.startswith("gray"):
        count = form.rows * form.columns
        tiles = np.zeros((count, form.height, form.width), levels.dtype)
        tiles[: form.planes] = levels.transpose(2, 0, 1)
        grid = tiles.reshape(form.rows, form.columns, form.height, form.width).swapaxes(1, 2)
        return np.ascontiguousarray(grid).reshape(form.picture_shape)
    picture = np.zeros((form.height, form.width, max(3, form.planes)), levels.dtype)
    picture[:, :, _order(form)] = levels
    return picture


def rearrange(picture: Array, form: Arrangement) -> Array:
    """Undo :func:`arrange`: the planes ``(y, x, plane)``, as a view where that is possible.

    Raises:
        MovieError: the picture has another size.
    """
    if form.pde_format is not None:
        return _from_memory(picture, form)
    if picture.shape[:2] != form.picture_shape:
        raise MovieError(
            f"its picture has {picture.shape[0]} x {picture.shape[1]} px, instead of {form.picture_shape[0]} x {form.picture_shape[1]}"
        )
    if form.pixel_format.startswith("gray"):
        grid: Array = picture.reshape(form.rows, form.height, form.columns, form.width).swapaxes(1, 2)
        tiles: Array = grid.reshape(-1, form.height, form.width)[: form.planes]
        return np.moveaxis(tiles, 0, 2)
    return picture[:, :, _order(form)]


def _order(form: Arrangement) -> list[int]:
    """Which channel of a picture each plane is."""
    return (_BGRA if form.pixel_format.startswith("bgr") else _RGBA)[: form.planes]


def _to_memory(levels: Array, pde_format: str) -> Array:
    """The array of a picture whose memory is that of ``(y, x, sample)``; samples without a plane are 0, or opaque."""
    height, width, planes = levels.shape
    samples = PDE_FORMATS[pde_format].samples
    memory = np.zeros((height, width, samples), levels.dtype)
    memory[:, :, :planes] = levels
    if pde_format.startswith("gray"):
        return memory[:, :, 0]
    if pde_format.startswith("gb"):
        planes_first = memory.reshape(samples, height, width)[_RGBA_FROM_GBRA[:samples]]
        return np.ascontiguousarray(planes_first.transpose(1, 2, 0))
    if pde_format == "rgb24":
        return np.ascontiguousarray(memory[:, :, ::-1])
    if planes < samples:
        memory[:, :, -1] = np.iinfo(levels.dtype).max
    return memory


def _from_memory(picture: Array, form: Arrangement) -> Array:
    """Undo :func:`_to_memory`; the sides of the picture may be the other way round."""
    assert form.pde_format is not None  # noqa: S101
    samples = PDE_FORMATS[form.pde_format].samples
    if picture.shape[0] * picture.shape[1] != form.height * form.width:
        raise MovieError(
            f"its picture has {picture.shape[0]} x {picture.shape[1]} px, for {form.height} x {form.width}"
        )
    if form.pde_format.startswith("gb"):
        picture = np.ascontiguousarray(picture[:, :, _GBRA_FROM_RGBA[:samples]].transpose(2, 0, 1))
    elif form.pde_format == "rgb24":
        picture = np.ascontiguousarray(picture[:, :, ::-1])
    return picture.reshape(form.height, form.width, samples)[:, :, : form.planes]


def to_preview(field: Array, form: Description) -> Array:
    """A picture ``(height, width)`` or ``(height, width, 3 or 4)`` of a field ``(y, x, channel)``: uint8, with even sides."""
    low, high = np.asarray(form.vmin), np.asarray(form.vmax)
    with np.errstate(all="ignore"):  # any numbers are allowed here
        shown = (np.asarray(field, np.float64) - low) * (255 / (high - low))
    levels = np.nan_to_num(shown, nan=0, posinf=255, neginf=0).clip(0, 255).round().astype(np.uint8)
    picture = arrange(levels, preview_arrangement(form))
    factors = [max(1, -(-_LEAST_PREVIEW_PX // extent)) for extent in picture.shape[:2]]
    picture = picture.repeat(factors[0], 0).repeat(factors[1], 1)
    odd = [(0, extent % 2) for extent in picture.shape[:2]]
    return np.pad(picture, [*odd, *[(0, 0)] * (picture.ndim - 2)], mode="edge")
