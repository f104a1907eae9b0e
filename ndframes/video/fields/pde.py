"""Files of py-pde: the comment that describes its fields as a :class:`Description`, and back.

py-pde writes the memory of a field ``(x, y, component)`` as the memory of a picture. The pictures have as many pixels as the
field, in the same order: the first axis of the field is that of the rows.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...errors import MovieFormatError, MovieGridError
from ...text import count_noun
from .description import Description
from .times import read_times, times_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._typing import Array

__all__ = [
    "PDE_FORMATS",
    "PdeFormat",
    "describe_pde",
    "find_format",
    "find_times",
    "limits_of",
    "parse_comment",
    "to_comment",
]
_log = logging.getLogger("ndframes")
_VERSION = 1
#: Frames per second: py-pde leaves it to FFmpeg.
_RATE = Fraction(25)
_RANKS = {"ScalarField": 0, "VectorField": 1, "Tensor2Field": 2}
#: The dimensions of the space of a grid, where its axes are fewer.
_DIMENSIONS = {"PolarSymGrid": 2, "SphericalSymGrid": 3, "CylindricalSymGrid": 3}


class PdeFormat(NamedTuple):
    """A video format of py-pde.

    Attributes:
        samples: of a pixel.
        bits: of a sample.
    """

    samples: int
    bits: int


PDE_FORMATS = {
    "gray": PdeFormat(1, 8),
    "rgb24": PdeFormat(3, 8),
    "rgb32": PdeFormat(4, 8),
    "gray16le": PdeFormat(1, 16),
    "gbrp16le": PdeFormat(3, 16),
    "gbrap16le": PdeFormat(4, 16),
}


def find_format(channels: int, bits: int) -> str | None:
    """The video format of the fewest bits, and then of the fewest samples, that holds so many channels and bits.

    ``None`` if there is none.
    """
    fitting = [
        (each.bits, each.samples, name)
        for name, each in PDE_FORMATS.items()
        if each.samples >= channels and each.bits >= bits
    ]
    return min(fitting)[2] if fitting else None


def parse_comment(comment: str | None, name: str) -> dict[str, Any] | None:
    """The data in the comment of a file of py-pde; ``None`` if the comment is of another kind.

    Raises:
        MovieFormatError: the comment is damaged.
    """
    # It is quoted for a shell, and so begins with a quote: the JSON of ndframes does not.
    if not comment or not comment.startswith("'{") or '"video_format"' not in comment or '"vmin"' not in comment:
        return None
    try:
        stored = json.loads(shlex.split(comment)[0])
    except (ValueError, IndexError, RecursionError) as error:
        raise MovieFormatError(f"{name}: py-pde's description of its fields is damaged: {error}") from error
    return stored if isinstance(stored, dict) else None


def to_comment(metadata: Mapping[str, Any], name: str) -> str:
    """The comment of a file for py-pde.

    Args:
        metadata: what :func:`parse_comment` shall return.
        name: of the file, for errors.

    Raises:
        MovieFormatError: the data is not JSON.
    """
    try:
        return shlex.quote(json.dumps({**metadata, "version": _VERSION}))
    except (TypeError, ValueError, RecursionError) as error:
        raise MovieFormatError(f"{name}: its info cannot be stored as JSON: {error}") from error


def describe_pde(metadata: Mapping[str, Any], picture_shape: tuple[int, int], name: str) -> Description:
    """What a file of py-pde holds.

    Args:
        metadata: the data in its comment.
        picture_shape: ``(height, width)`` of its pictures.
        name: of the file, for errors.

    Raises:
        MovieFormatError: the data is damaged, or of an unknown video format.
    """
    if metadata.get("version", _VERSION) != _VERSION:
        _log.warning("%s has version %r of py-pde's metadata, which is not known", name, metadata["version"])
    video_format = metadata["video_format"]
    if video_format not in PDE_FORMATS:
        raise MovieFormatError(f"{name} has py-pde's video format {video_format!r}; known: {', '.join(PDE_FORMATS)}")
    samples, bits = PDE_FORMATS[video_format]
    try:
        shape, components = _find_fields(metadata, picture_shape, samples)
        low, high = (limits_of(metadata.get(key, value), components, name) for key, value in (("vmin", 0), ("vmax", 1)))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MovieFormatError(f"{name}: py-pde's description of its fields is damaged: {error!r}") from error
    if len(low) > samples or shape[0] * shape[1] != picture_shape[0] * picture_shape[1]:
        raise MovieFormatError(
            f"{name}: pictures of {picture_shape[0]} x {picture_shape[1]} px as {video_format} do not hold fields of "
            f"{shape[0]} x {shape[1]} with {count_noun(len(low), 'channel')}"
        )
    return Description(
        height=shape[0],
        width=shape[1],
        bands=len(low),
        has_bands=components != (1,),
        dtype=np.dtype(np.float64),
        coding="levels",
        bits=bits,
        is_exact=False,
        is_complex=False,
        vmin=low,
        vmax=high,
        nan="clip",
        rate=_RATE,
        info=dict(metadata),
        pde_format=video_format,
    )


def _find_fields(
    metadata: Mapping[str, Any], picture_shape: tuple[int, int], samples: int
) -> tuple[tuple[int, int], tuple[int, ...]]:
    """The shape of the grid, with one row if it has one axis, and the number of components of each field."""
    attributes = metadata.get("field_attributes")
    if attributes is None:
        # py-pde then takes the width for the first axis.
        return (picture_shape[1], picture_shape[0]), (1,) * samples
    fields = json.loads(attributes["fields"]) if "fields" in attributes else [attributes]
    grids = [json.loads(field["grid"]) for field in fields]
    shape = tuple(np.atleast_1d(grids[0]["shape"]).tolist())
    dimensions = [_DIMENSIONS.get(grid["class"], len(shape)) for grid in grids]
    ranks = [_RANKS[json.loads(field["class"])] for field in fields]
    height, width = (1, *shape) if len(shape) == 1 else shape
    return (height, width), tuple(dim**rank for dim, rank in zip(dimensions, ranks, strict=True))


def limits_of(given: Any, components: Sequence[int], name: str) -> tuple[float, ...]:
    """The limit of each channel.

    Args:
        given: a number, or one for each field; more are ignored, as py-pde does.
        components: the number of channels of each field.
        name: of the file, for errors.

    Raises:
        MovieGridError: there are fewer limits than fields.
    """
    limits = np.asarray(given, np.float64)
    if limits.ndim == 0:
        limits = np.full(len(components), limits)
    if limits.ndim > 1 or len(limits) < len(components):
        raise MovieGridError(
            f"{name} has {len(components)} fields, and limits {given}; give a number, or one for each field"
        )
    return tuple(np.repeat(limits[: len(components)], components).tolist())


def find_times(form: Description, path: str, count: int) -> Array:
    """The time of each of ``count`` frames: from the file beside the movie if py-pde wrote one, else by its interval.

    Args:
        form: what the movie holds.
        path: the movie.
        count: of its frames.
    """
    info = form.info
    start, interval = info.get("t_start"), info.get("dt")
    times: Array = (0 if start is None else start) + (1 if interval is None else interval) * np.arange(
        count, dtype=np.float64
    )
    if info.get("write_times"):
        if not os.path.exists(times_path(path)):
            _log.warning("%s does not exist: the times of %s are taken as equidistant", times_path(path), path)
        stored = read_times(path)[:count]
        times[: len(stored)] = stored
    return times
