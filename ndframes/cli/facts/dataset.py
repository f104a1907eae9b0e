"""Facts about a COCO dataset and its images, for ``ndframes info``."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from ...errors import shorten
from ...system.objects.addresses import is_url
from ..annotations import name_categories
from ..common import CommandError, backend_of, show_path
from .entries import count_entry_bytes

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from ...formats.reader import Reader
    from ...frames.frames import Frames
    from ...spec.pathinfo import ChannelInfo
    from ..sources import ImageArgument

__all__ = ["collect_dataset", "collect_dataset_image", "rows_of_dataset", "rows_of_dataset_image"]
_Facts = dict[str, Any]
_LISTED = 8
_NO_CATEGORY = "no category"


def collect_dataset(path: str, dataset: Mapping[str, Any]) -> _Facts:
    """Count the content of a dataset. Opens no image."""
    images, annotations = dataset["images"], dataset.get("annotations") or []
    by_image = Counter(_id_in(item, "image_id", "annotation") for item in annotations)
    return {
        "path": path,
        "file_bytes": os.path.getsize(path),
        "images": len(images),
        "videos": len(dataset.get("videos") or []),
        "annotations": len(annotations),
        "annotated_images": sum(1 for image in images if by_image[image["id"]]),
        "categories": _count_categories(dataset, annotations),
        "sizes": _counts(_size_of(image) for image in images),
        "channels": _counts(_codes_of(image) for image in images),
        "image_ids": [image["id"] for image in images],
    }


def rows_of_dataset(facts: _Facts) -> dict[str, str]:
    """The facts as text, by label."""
    from ...text import count_noun, format_bytes

    videos = f" in {count_noun(facts['videos'], 'video')}" if facts["videos"] else ""
    rows = {
        "path": show_path(facts["path"]),
        "format": f"COCO dataset, {format_bytes(facts['file_bytes'])}",
        "images": f"{facts['images']:,}{videos}",
        "sizes": _describe_counts(facts["sizes"], "image"),
        "channels": _describe_counts(facts["channels"], "image"),
        "categories": _describe_counts(facts["categories"], "annotation") if facts["categories"] else "none",
        "annotations": f"{facts['annotations']:,}, in {count_noun(facts['annotated_images'], 'image')}",
    }
    if facts["image_ids"]:
        rows["image ids"] = (
            f"{_list_first(facts['image_ids'])}\ndetails of an image: --image-id {facts['image_ids'][0]}"
        )
    return rows


def collect_dataset_image(image_argument: ImageArgument, workdir: str | None, backend: str) -> _Facts:
    """Describe an image of a dataset and its files. Reads only headers, and converts nothing."""
    dataset = image_argument.dataset or {}
    # Without a backend: the facts are those of the files, even if they are cached.
    direct = image_argument.open_frames(workdir, None)
    cached = None if backend_of(backend) is None else image_argument.open_frames(workdir, backend)
    image = direct.image(image_argument.image_id)
    info = direct.pathinfo(image_argument.image_id)
    item = next(item for item in dataset["images"] if item["id"] == image_argument.image_id)
    annotations = [each for each in dataset.get("annotations") or [] if each.get("image_id") == image_argument.image_id]
    files = [_collect_file(image_argument, part, each, direct, cached) for part, each in enumerate(info.channels)]
    return {
        "path": image_argument.path,
        "image_id": image_argument.image_id,
        "name": item.get("name"),
        "shape": image.image_shape,
        "channels": image.channels,
        "default_channels": info.default or image.channels,
        "video": _video_of(dataset, item),
        "annotations": len(annotations),
        "categories": _count_categories(dataset, annotations, is_all=False),
        "workdir": None if cached is None else str(cached.cache.workdir),
        "files": files,
    }


def _collect_file(
    image_argument: ImageArgument, part: int, info: ChannelInfo, direct: Frames, cached: Frames | None
) -> _Facts:
    from ...geometry.affine import decompose_affine
    from ...pixels.values import resolve_nodata
    from ...spec.channels import default_codes
    from ...spec.nodata import pack_nodata

    reader: Reader = direct.image(image_argument.image_id).opened(part).reader
    codes = info.channels or reader.facts.channels or default_codes(reader.shape[2])
    return {
        "path": info.path,
        "file_bytes": direct.look_at(info.path).size_bytes,
        "format": reader.format,
        "channels": codes,
        "shape": reader.shape,
        "dtype": reader.dtype.name,
        "tile_shape": reader.tile_shape,
        "overview_shapes": reader.overview_shapes,
        "img_from_src": info.matrix.tolist(),
        **decompose_affine(info.matrix),
        "nodata": pack_nodata(resolve_nodata(info, reader.nodata)),
        "quantization": None if info.quantization is None else dict(info.quantization),
        "cache": None if cached is None else _collect_entry(image_argument, codes, cached),
    }


def _collect_entry(image_argument: ImageArgument, codes: Sequence[str], cached: Frames) -> _Facts:
    # An empty region: only the existence of the entry matters.
    explained = cached.explain(image_argument.image_id, (slice(0), slice(0)), codes).files[0]
    return {
        "entry_path": explained.entry_path,
        "is_cached": explained.is_cached,
        "entry_bytes": count_entry_bytes(cached, explained.entry_path) if explained.is_cached else None,
    }


def rows_of_dataset_image(facts: _Facts) -> dict[str, str]:
    """The facts as text, by label, with a table of the files."""
    height, width = facts["shape"]
    name = "" if facts["name"] is None else f", {facts['name']}"
    rows = {
        "image": f"{facts['image_id']}{name}, of {show_path(facts['path'])}",
        "size": f"{height:,} x {width:,} px (height x width)",
        "channels": "|".join(facts["channels"]),
    }
    if facts["default_channels"] != facts["channels"]:
        rows["default"] = "|".join(facts["default_channels"])
    if facts["video"] is not None:
        rows["video"] = facts["video"]
    found = f"{facts['annotations']:,}: {_list_first(facts['categories'], lambda item: f'{item[0]} {item[1]:,}')}"
    rows["annotations"] = found if facts["annotations"] else "none"
    rows["files"] = "\n".join(_table(facts["files"], os.path.dirname(os.path.abspath(facts["path"]))))
    return rows


def _describe_nodata(packed: object) -> str:
    from ...spec.nodata import format_nodata, unpack_nodata

    nodata = unpack_nodata(packed)
    return "" if nodata is None else format_nodata(nodata)


def _table(files: Sequence[_Facts], folder: str) -> list[str]:
    """A line for each file, in columns; columns without content are left out."""
    columns = {
        "channels": ["|".join(file["channels"]) for file in files],
        "height x width": [f"{file['shape'][0]:,} x {file['shape'][1]:,}" for file in files],
        "dtype": [file["dtype"] for file in files],
        "onto the image": [_describe_position(file) for file in files],
        "nodata": [_describe_nodata(file["nodata"]) for file in files],
        "values": ["" if file["quantization"] is None else _describe_values(file["quantization"]) for file in files],
        "cache": ["" if file["cache"] is None else _describe_entry(file["cache"]) for file in files],
        "file": [show_path(_path_in(folder, file["path"])) for file in files],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    widths = [max(len(name), *map(len, cells)) for name, cells in shown.items()]
    lines = zip(
        shown, *([cell or "none" for cell in cells] for cells in zip(*shown.values(), strict=True)), strict=True
    )
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*lines, strict=True)
    ]


def _path_in(folder: str, path: str) -> str:
    """The path relative to ``folder``, if it is in there."""
    # Other paths stay as they are: a chain of ".." is harder to read.
    if is_url(path):
        return path
    inner = os.path.relpath(path, folder)
    return path if inner.startswith(os.pardir) else inner


def _describe_position(file: _Facts) -> str:
    import numpy as np

    from ...geometry.affine import describe_affine

    return describe_affine(np.array(file["img_from_src"]))


def _describe_values(quantization: Mapping[str, Any]) -> str:
    stored = f"{quantization.get('quant_min', 0):g}..{quantization['quant_max']:g}"
    nodata = quantization.get("nodata")
    text = f"{stored} -> {quantization.get('orig_min', 0):g}..{quantization.get('orig_max', 1):g}"
    return text if nodata is None else f"{text}, {nodata:g} -> no data"


def _describe_entry(entry: _Facts) -> str:
    from ...text import format_bytes

    return f"cached, {format_bytes(entry['entry_bytes'])}" if entry["is_cached"] else "not cached"


def _count_categories(
    dataset: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], *, is_all: bool = True
) -> list[tuple[str, int]]:
    """The categories and their numbers of annotations, the largest first."""
    names = name_categories(dataset)
    # Ids may have no category in the dataset, and categories may have no annotations.
    found = Counter(names.get(_id_in(item, "category_id", "annotation"), _NO_CATEGORY) for item in annotations)
    every = [name for name in dict.fromkeys([*names.values(), *found]) if is_all or found[name]]
    return sorted(((name, found[name]) for name in every), key=lambda pair: -pair[1])


def _video_of(dataset: Mapping[str, Any], item: Mapping[str, Any]) -> str | None:
    if item.get("video_id") is None:
        return None
    videos = {video["id"]: video.get("name") for video in dataset.get("videos") or []}
    name = videos.get(_id_in(item, "video_id", "image")) or item["video_id"]
    return f"{name}, frame {item['frame_index']}" if item.get("frame_index") is not None else str(name)


def _id_in(item: Mapping[str, Any], key: str, noun: str) -> Hashable:
    """An id that a record refers to.

    Raises:
        CommandError: it is a list or an object.
    """
    found = item.get(key)
    if isinstance(found, (list, dict)):
        raise CommandError(f"{noun} {shorten(item.get('id'))}: {key} is {shorten(found)}; give a number or a text")
    identifier: Hashable = found
    return identifier


def _size_of(image: Mapping[str, Any]) -> str:
    extents = image.get("height"), image.get("width")
    if None in extents:
        return "not given"
    height, width = (f"{extent:,}" if isinstance(extent, int) else shorten(extent) for extent in extents)
    return f"{height} x {width} px"


def _codes_of(image: Mapping[str, Any]) -> str:
    """The channels that the dataset gives for an image."""
    from ...frames.coco import list_files

    named = [item.get("channels") for item in list_files(image, f"image {image['id']!r}: ")]
    return "|".join(str(codes) for codes in named if codes) or "not given"


def _counts(values: Iterable[str]) -> list[tuple[str, int]]:
    return Counter(values).most_common()


def _describe_counts(counts: Sequence[tuple[str, int]], noun: str) -> str:
    from ...text import count_noun

    lines = [f"{value}: {count_noun(count, noun)}" for value, count in counts[:_LISTED]]
    more = len(counts) - _LISTED
    return "\n".join([*lines, f"and {more:,} more"] if more > 0 else lines) or "none"


def _list_first(values: Sequence[Any], describe: Any = str) -> str:
    listed = ", ".join(describe(value) for value in values[:_LISTED])
    more = len(values) - _LISTED
    return f"{listed}, and {more:,} more" if more > 0 else listed
