"""Where images lie on Earth, and how the files of one image lie in it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import PathInfoError, check_choice, shorten
from ..formats.images.sniff import open_image
from ..formats.upright import UprightReader
from ..geometry.affine import Affine, compose, invert, to_affine
from ..spec.channels import parse_codes
from ..spec.pathinfo import ChannelInfo, PathInfo
from ..system.handles import HandlePool
from ..system.objects.addresses import is_url
from ..system.process import IMPORTING
from ..system.stamp import stat_source

if TYPE_CHECKING:
    from ..entries.opened import OpenedChannel
    from ..formats.images.georeference import Georeference
    from ..formats.reader import Reader
    from ..items.item import LazyImage

__all__ = ["Align", "find_place", "info_from_files"]
#: How files lie over each other: by their georeference, over the same extent, or pixel on pixel.
Align = Literal["georeference", "extent"]
# A pixel's size and its distance to another file are differences of coordinates in the millions.
_EPSILON = 1e-6


def info_from_files(files: Mapping[str, Any], align: Align | None, image_id: Hashable, default: Any = None) -> PathInfo:
    """The description of an image by its files; see :meth:`ndframes.PathInfo.from_files`."""
    if align is not None:
        check_choice("align", align, Align)
    if not isinstance(files, Mapping) or not files:
        raise PathInfoError(f"files={shorten(files)}; give a mapping from channels to paths, such as {{'r|g|b': path}}")
    infos = [
        replace(file, channels=parse_codes(codes))
        if isinstance(file, ChannelInfo)
        else ChannelInfo(file, channels=codes)
        for codes, file in files.items()
    ]
    first = infos[0]
    if image_id is None:
        image_id = os.path.splitext(os.path.basename(first.path))[0]
    if align is None:
        return PathInfo(image_id, infos, default=default)
    if align == "georeference":
        matrices = _by_georeference(infos)
        shape = _shape_of(first)
    else:
        shapes = [_shape_of(info) for info in infos]
        shape = shapes[0]
        matrices = [(shape[1] / width, 0.0, 0.0, 0.0, shape[0] / height, 0.0) for height, width in shapes]
    placed = [replace(info, img_from_src=_to_matrix(matrix)) for info, matrix in zip(infos, matrices, strict=True)]
    return PathInfo(image_id, placed, shape=shape, default=default)


def find_place(image: LazyImage, codes: tuple[str, ...]) -> Georeference | None:
    """The georeference of an image: that of the first of its files with these channels that has one."""
    for part, _ in image.bands_by_part(codes):
        info, opened = image.pathinfo.channels[part], image.opened(part)
        if info.page or info.series:
            continue  # GDAL reads the place of the first image of a file only
        found = _place_of(info, opened)
        if found is not None:
            src_from_img = invert(to_affine(info.matrix, info.path))
            if isinstance(opened.reader, UprightReader):
                src_from_img = compose(opened.reader.stored_from_upright, src_from_img)
            return replace(found, world_from_src=compose(found.world_from_src, src_from_img))
    return None


def _place_of(info: ChannelInfo, opened: OpenedChannel) -> Georeference | None:
    """The georeference of a file: from its entry where there is no file, otherwise as GDAL reads it."""
    is_object = is_url(info.path)
    if opened.entry is not None and (opened.is_lost or is_object):
        return _of_entry(opened.entry.trailer.meta)
    if opened.object is not None:
        with IMPORTING:
            from ..formats.images.georeference import find_object_georeference

        return find_object_georeference(opened.object)
    # The reader of a copy knows where that is.
    return _find(replace(info, path=opened.reader.path)) if is_object else _find(info)


def _of_entry(meta: Mapping[str, Any]) -> Georeference | None:
    """The georeference that an entry keeps of its source."""
    from ..formats.images.georeference import Georeference

    kept = meta.get("georeference")
    return None if kept is None else Georeference(kept["crs_wkt"], tuple(kept["world_from_src"]))


def _by_georeference(infos: list[ChannelInfo]) -> list[Affine]:
    """For each file the affine map to the pixels of the first."""
    places = []
    for info in infos:
        place = _find(info)
        if place is None:
            raise PathInfoError(
                f"{info.path} has no georeference; align='extent' lays files of the same extent over each other, and "
                "ChannelInfo(img_from_src=...) places a file by a matrix"
            )
        if info.orientation == "upright" and isinstance(reader := _open(info), UprightReader):
            place = replace(place, world_from_src=compose(place.world_from_src, reader.stored_from_upright))
        places.append(place)
    for info, place in zip(infos, places, strict=True):
        if not _is_same_crs(place.crs_wkt, places[0].crs_wkt):
            raise PathInfoError(
                f"{info.path} and {infos[0].path} have different coordinate reference systems ({_name(place.crs_wkt)}, "
                f"{_name(places[0].crs_wkt)}); warp them to one first, for example with gdalwarp"
            )
    img_from_world = invert(places[0].world_from_src)
    return [compose(img_from_world, place.world_from_src) for place in places]


def _find(info: ChannelInfo) -> Georeference | None:
    # Imported here, because it loads GDAL.
    with IMPORTING:
        from ..formats.images.georeference import find_georeference

    if info.driver is None:
        stat_source(info.path)  # GDAL knows names that are no files
    return find_georeference(info.path, info.driver)


def _shape_of(info: ChannelInfo) -> tuple[int, int]:
    if info.shape is not None:
        return info.shape
    height, width, _ = _open(info).shape
    return height, width


def _open(info: ChannelInfo) -> Reader:
    """A reader of a file, turned as its description says. Its files are closed: it is for its facts."""
    pool = HandlePool()
    try:
        reader = open_image(info, pool)
    finally:
        pool.close()
    is_turned = info.orientation == "upright" and reader.facts.orientation != 1
    return UprightReader(reader) if is_turned else reader


def _is_same_crs(one: str, other: str) -> bool:
    if one == other or not one or not other:
        return one == other
    from ..formats.images.georeference import is_same_crs

    return is_same_crs(one, other)


def _name(crs_wkt: str) -> str:
    """The name in a WKT, such as ``WGS 84 / UTM zone 33N``."""
    return crs_wkt.split('"')[1] if '"' in crs_wkt else "none"


def _to_matrix(affine: Affine) -> Any:
    """The 3x3 matrix; numbers that rounding moved off a whole or decimal number are put back."""
    exact = np.array([affine[:3], affine[3:], (0, 0, 1)], np.float64)
    rounded = exact.round(6)
    return np.where(np.abs(exact - rounded) < _EPSILON / 10, rounded, exact)
