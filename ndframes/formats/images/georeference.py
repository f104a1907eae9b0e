"""Georeference: where an image lies on Earth, as GDAL reads it from the file, and as tags of a GeoTIFF."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import tifffile
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, MemoryFile

from ...system.objects.object_file import ObjectStream
from ...system.objects.rules import is_network_path
from ...system.process import ForkGate

if TYPE_CHECKING:
    from ...system.objects.object_file import ObjectFile

__all__ = ["Georeference", "find_georeference", "find_object_georeference", "is_same_crs", "to_geotiff_tags"]
# The place must be part of the file: a sidecar may change without a trace in the file that keys identify.
_OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": False,
    "GDAL_GEOREF_SOURCES": "INTERNAL",
}
_GATE = ForkGate()
_NO_PLACE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams.
_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
_ASCII = 2


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where an image lies on Earth.

    Attributes:
        crs_wkt: the coordinate reference system as WKT; empty if the file names none.
        world_from_src: the affine map ``(a, b, c, d, e, f)`` from the file's pixels to coordinates of that system:
            ``(a x + b y + c, d x + e y + f)``, pixel corners.
    """

    crs_wkt: str
    world_from_src: tuple[float, float, float, float, float, float]


class _QuietDataset(DatasetReader):  # type: ignore[misc]
    """A dataset that does not warn if it has no georeference, which most images do not have."""

    def _has_gcps_or_rpcs(self) -> bool:
        return True


def find_georeference(path: str, driver: str | None = None) -> Georeference | None:
    """The georeference of a file; ``None`` if it has none, or GDAL does not read it. No pixel is read.

    Args:
        path: the file.
        driver: the GDAL driver to open it with; ``None``: any.
    """
    if is_network_path(path):
        return None
    with _GATE, rasterio.Env(**_OPTIONS):
        try:
            dataset = _QuietDataset(path, driver=None if driver is None else [driver], sharing=False)
        # A .npy, or a format that another library reads.
        except (RasterioError, UnicodeEncodeError):
            return None
        return _read_place(dataset)


def find_object_georeference(file: ObjectFile) -> Georeference | None:
    """The georeference of a TIFF in an object, as :func:`find_georeference` finds that of a file.

    GDAL gets a file of one pixel with the same tags: it would read the object in its own way.
    """
    stream = ObjectStream(file)
    with tifffile.TiffFile(stream) as tiff:
        tags = tiff.pages.first.tags
        extra = [
            (number, tags[number].dtype, tags[number].count, tags[number].value, True)
            for number in _TAGS
            if number in tags
        ]
    if stream.error is not None:
        raise stream.error
    if not extra:
        return None
    data = io.BytesIO()
    tifffile.imwrite(data, np.zeros((1, 1), np.uint8), extratags=extra, metadata=None)
    with _GATE, rasterio.Env(**_OPTIONS), MemoryFile(data.getvalue()) as memory:
        return _read_place(_QuietDataset(memory.name, driver=["GTiff"], sharing=False))


def _read_place(dataset: _QuietDataset) -> Georeference | None:
    with dataset:
        place = tuple(float(number) for number in dataset.transform[:6])
        crs = dataset.crs
    if place == _NO_PLACE:
        return None
    return Georeference("" if not crs else crs.to_wkt(), place)  # type: ignore[arg-type]


def is_same_crs(one: str, other: str) -> bool:
    """Whether two texts describe the same coordinate reference system."""
    with _GATE, rasterio.Env(**_OPTIONS):
        return bool(rasterio.CRS.from_wkt(one) == rasterio.CRS.from_wkt(other))


def to_geotiff_tags(georeference: Georeference) -> tuple[tuple[int, int, tuple[Any, ...]], ...]:
    """The tags of a GeoTIFF at this place: ``(number, type, values)``.

    GDAL makes them, because the keys of a coordinate reference system fill a book.
    """
    with _GATE, rasterio.Env(**_OPTIONS), MemoryFile() as memory:
        profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
        transform = rasterio.Affine(*georeference.world_from_src)
        with memory.open(**profile, crs=georeference.crs_wkt or None, transform=transform):
            pass
        data = bytes(memory.getbuffer())
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tags = tiff.pages.first.tags
        return tuple((number, int(tags[number].dtype), _values(tags[number])) for number in _TAGS if number in tags)


def _values(tag: Any) -> tuple[Any, ...]:
    if tag.dtype == _ASCII:
        return tuple(f"{tag.value}\0".encode())
    return tuple(tag.value) if isinstance(tag.value, tuple) else (tag.value,)
