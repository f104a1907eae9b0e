"""Metadata of Zarr: arrays and groups of version 3, and images of OME-Zarr 0.5, as JSON. Nothing is read here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..spec.nodata import pack_nodata

if TYPE_CHECKING:
    from ..spec.nodata import Nodata

__all__ = ["ArrayLayout", "Hierarchy", "ZarrKey", "parse_key"]
_AXES = ("t", "c", "y", "x")
_AXIS_TYPES = {"t": "time", "c": "channel", "y": "space", "x": "space"}
_COLOURS = {"r": "FF0000", "g": "00FF00", "b": "0000FF"}
_WHITE = "FFFFFF"
# No leading zeros: each chunk has one address. More digits than any index has are no key.
_KEY = re.compile(
    r"(?:(?P<state>[0-9a-f]{24})/(?:(?P<level>0|[1-9][0-9]?)/)?)?"
    r"(?:zarr\.json|c(?P<chunk>(?:/(?:0|[1-9][0-9]{0,11})){3,4}))"
)


@dataclass(frozen=True, slots=True)
class ZarrKey:
    """What an address in a hierarchy stands for.

    Attributes:
        state: of the image; ``None``: the metadata of the present state.
        level: of an array; ``None``: a group.
        chunk: the place of a chunk in the grid; ``None``: the metadata.
    """

    state: str | None = None
    level: int | None = None
    chunk: tuple[int, ...] | None = None


def parse_key(text: str) -> ZarrKey | None:
    """The meaning of ``zarr.json``, ``STATE/zarr.json``, ``STATE/LEVEL/zarr.json`` and ``STATE/LEVEL/c/...``; ``None``: no key.

    Example:
        >>> parse_key("0123456789abcdef01234567/2/c/0/5/10").chunk
        (0, 5, 10)
        >>> parse_key(".zattrs"), parse_key("0123456789abcdef01234567/c/0/5/10")
        (None, None)
    """
    found = _KEY.fullmatch(text)
    if found is None or (found["chunk"] and not found["level"]):
        return None
    chunk = found["chunk"] and tuple(map(int, found["chunk"][1:].split("/")))
    return ZarrKey(found["state"], int(found["level"]) if found["level"] else None, chunk or None)


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """How one resolution of an image is cut into chunks.

    Attributes:
        shape: ``(c, y, x)``, with ``t`` in front where there are several frames.
        chunk_shape: of every chunk, those at the edges included.
        dtype: of the pixels.
        is_interleaved: whether the channels of a pixel are adjacent in the bytes of a chunk, as in a stored tile.
        is_zstd: whether the bytes of a chunk are compressed.
    """

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_interleaved: bool = False
    is_zstd: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes."""
        return _AXES[len(_AXES) - len(self.shape) :]

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of chunks along each axis."""
        return tuple(-(-extent // chunk) for extent, chunk in zip(self.shape, self.chunk_shape, strict=True))

    @property
    def chunk_bytes(self) -> int:
        """The bytes of the pixels of a chunk."""
        return math.prod(self.chunk_shape) * self.dtype.itemsize

    def to_json(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """The metadata of the array."""
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.chunk_shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": _FILLS.get(self.dtype.kind, 0),
            "codecs": self._list_codecs(),
            "attributes": attributes,
            "dimension_names": list(self.axes),
        }

    def _list_codecs(self) -> list[dict[str, Any]]:
        codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        if self.is_interleaved:
            # The stored order of the axes: (y, x, c), or (t, y, x, c).
            order = [0, 2, 3, 1] if len(self.shape) == len(_AXES) else [1, 2, 0]
            codecs.insert(0, {"name": "transpose", "configuration": {"order": order}})
        if self.is_zstd:
            codecs.append({"name": "zstd", "configuration": {"level": 0, "checksum": False}})
        return codecs


_FILLS: dict[str, Any] = {"b": False, "f": 0.0, "c": [0.0, 0.0]}


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The metadata of an image as a group with an array for each resolution.

    Attributes:
        name: of the image.
        state: of its files.
        levels: the resolutions; each has half the height and width of the one before.
        channels: their codes.
        nodata: what marks missing pixels, for each channel.
    """

    name: str
    state: str
    levels: tuple[ArrayLayout, ...]
    channels: tuple[str, ...]
    nodata: tuple[Nodata | None, ...]

    def root(self) -> dict[str, Any]:
        """The metadata of the whole, which names the present state: the arrays are at ``STATE/LEVEL``."""
        nodes = {self.state: self._group(""), **self._arrays(f"{self.state}/")}
        return {**self._group(f"{self.state}/"), "consolidated_metadata": _consolidate(nodes)}

    def group(self) -> dict[str, Any]:
        """The metadata of the group of a state, whose arrays are ``0``, ``1`` and so on."""
        return {**self._group(""), "consolidated_metadata": _consolidate(self._arrays(""))}

    def array(self, level: int) -> dict[str, Any]:
        """The metadata of one array."""
        return self.levels[level].to_json(self._attributes())

    def _group(self, prefix: str) -> dict[str, Any]:
        multiscale = {
            "name": self.name,
            "axes": [{"name": axis, "type": _AXIS_TYPES[axis]} for axis in self.levels[0].axes],
            "datasets": [
                {"path": f"{prefix}{level}", "coordinateTransformations": self._place(level)}
                for level in range(len(self.levels))
            ],
        }
        ome = {"version": "0.5", "multiscales": [multiscale], "omero": {"channels": self._list_channels()}}
        return {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome, **self._attributes()}}

    def _arrays(self, prefix: str) -> dict[str, Any]:
        return {f"{prefix}{level}": self.array(level) for level in range(len(self.levels))}

    def _attributes(self) -> dict[str, Any]:
        nodata = [_to_plain(pack_nodata(value)) for value in self.nodata]
        return {"ndframes": {"state": self.state, "channels": list(self.channels), "nodata": nodata}}

    def _place(self, level: int) -> list[dict[str, Any]]:
        """Where the pixels of a level lie: the first pixel has its centre between those that it was averaged from."""
        others = len(self.levels[0].shape) - 2
        step = float(2**level)
        shift = (step - 1) / 2
        scale = {"type": "scale", "scale": [1.0] * others + [step] * 2}
        return [scale, {"type": "translation", "translation": [0.0] * others + [shift] * 2}] if level else [scale]

    def _list_channels(self) -> list[dict[str, Any]]:
        is_coloured = {*self.channels} >= {*_COLOURS}
        low, high = _limits_of(self.levels[0].dtype)
        return [
            {
                "label": code,
                "color": _COLOURS.get(code, _WHITE) if is_coloured else _WHITE,
                # The others would be added to the picture as white.
                "active": code in _COLOURS if is_coloured else not number,
                "window": {"min": low, "max": high, "start": low, "end": high},
            }
            for number, code in enumerate(self.channels)
        ]


def _consolidate(nodes: dict[str, Any]) -> dict[str, Any]:
    """The metadata of all nodes at once, since a group cannot be listed over HTTP."""
    return {"kind": "inline", "must_understand": False, "metadata": nodes}


def _limits_of(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The range in which a viewer shows values at first: of an integer all, otherwise 0 to 1."""
    if dtype.kind not in "ui":
        return 0.0, 1.0
    info = np.iinfo(dtype)
    return float(info.min), float(info.max)


def _to_plain(value: Any) -> Any:
    """A value of nodata as JSON has it: not-a-number and infinities as texts, as Zarr writes them."""
    if isinstance(value, dict):
        return {name: _to_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
