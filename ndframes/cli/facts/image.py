"""Facts about an image file, for ``ndframes info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...system.objects.addresses import is_url
from ..common import backend_of, show_path
from .entries import count_entry_bytes

if TYPE_CHECKING:
    from ...formats.reader import Reader
    from ...items.explain import FileExplanation
    from ...spec.backends import Backend
    from ..sources import ImageArgument

__all__ = ["collect_image", "rows_of_image"]
_Facts = dict[str, Any]
_CROP_PX = 256


def collect_image(argument: ImageArgument, workdir: str | None, backend: str) -> _Facts:
    """Describe an image file, its cache entry, and the cost of a crop. Reads only the header, and converts nothing."""
    from ...spec.backends import coerce_backend
    from ...spec.nodata import pack_nodata

    # Without a backend: the facts are those of the file, even if it is cached.
    path, direct = argument.path, argument.open_frames(None, None)
    if is_url(path) and not argument.can_read(direct):
        direct = argument.open_frames(workdir, "auto")
        argument.check_is_image(direct)
    image = direct.image(path)
    reader = image.opened(0).reader
    region = _middle(reader.shape)
    slices = tuple(slice(axis.start, axis.stop) for axis in region)
    facts: _Facts = {
        "path": path,
        "file_bytes": direct.look_at(path).size_bytes,
        "format": reader.format,
        "shape": reader.shape,
        "dtype": reader.dtype.name,
        "channels": image.channels,
        "nodata": pack_nodata(reader.nodata),
        "tile_shape": reader.tile_shape,
        "overview_shapes": reader.overview_shapes,
        "decoded_bytes": reader.nbytes,
        "cache": None,
        "crop": {
            "region": [[axis.start, axis.stop] for axis in region],
            "result_bytes": len(region[0]) * len(region[1]) * reader.shape[2] * reader.dtype.itemsize,
            "from_source": _cost_of(direct.explain(path, slices).files[0]),
            "from_cache": None,
        },
    }
    form = coerce_backend(backend_of(backend))
    if form is not None:
        frames = argument.open_frames(workdir, backend)
        explained = frames.explain(path, slices).files[0]
        facts["cache"] = {
            "workdir": str(frames.cache.workdir),
            "entry_path": explained.entry_path,
            "is_cached": explained.is_cached,
            "entry_bytes": count_entry_bytes(frames, explained.entry_path) if explained.is_cached else None,
        }
        facts["crop"]["from_cache"] = (
            _cost_of(explained) if explained.is_cached else _expected_cost(form, reader, region)
        )
    return facts


def _middle(shape: tuple[int, int, int]) -> tuple[range, range]:
    """Rows and columns of a crop from the middle; a small image gives a smaller crop."""
    starts = [max(0, (extent - _CROP_PX) // 2) for extent in shape[:2]]
    rows, cols = (range(start, min(extent, start + _CROP_PX)) for start, extent in zip(starts, shape[:2], strict=True))
    return rows, cols


def _cost_of(explained: FileExplanation) -> _Facts:
    """The cost of a read, as explained."""
    if not explained.tiles:  # the pixels are memory-mapped
        return {"tile_shape": None, "tiles": 0, "decoded_bytes": 0}
    return {
        "tile_shape": explained.tile_shape,
        "tiles": explained.tiles,
        "decoded_bytes": explained.decoded_bytes,
    }


def _expected_cost(form: Backend, reader: Reader, region: tuple[range, range]) -> _Facts:
    """The cost of a read from an entry of that form, which does not exist yet."""
    from ...formats.tiled.cog_writer import choose_grid
    from ...geometry.tiling import count_touched_tiles

    if form.type == "npy":
        return {"tile_shape": None, "tiles": 0, "decoded_bytes": 0}
    extent, _ = choose_grid(reader, form)
    # Tiles are cut off at the edges of a small image.
    tile_shape = min(extent, reader.shape[0]), min(extent, reader.shape[1])
    tiles = count_touched_tiles(*region, tile_shape)
    pixel_bytes = reader.shape[2] * reader.dtype.itemsize
    return {
        "tile_shape": tile_shape,
        "tiles": tiles,
        "decoded_bytes": tiles * tile_shape[0] * tile_shape[1] * pixel_bytes,
    }


def rows_of_image(facts: _Facts) -> dict[str, str]:
    """The facts as text, by label."""
    from ...spec.nodata import format_nodata, unpack_nodata
    from ...text import format_bytes

    height, width, bands = facts["shape"]
    has_strips = facts["tile_shape"][1] == width
    overviews = ", ".join(_join_extents(shape) for shape in facts["overview_shapes"])
    crop, cached = facts["crop"], facts["cache"]
    nodata = unpack_nodata(facts["nodata"])
    rows = {
        "path": show_path(facts["path"]),
        "format": f"{facts['format']}, {format_bytes(facts['file_bytes'])}",
        "size": f"{height:,} x {width:,} px (height x width), {format_bytes(facts['decoded_bytes'])} decoded",
        "pixels": f"{facts['dtype']}, {bands} {'channel' if bands == 1 else 'channels'}: {_codes(facts['channels'])}",
        **({} if nodata is None else {"nodata": format_nodata(nodata)}),
        "tiling": f"{'strips' if has_strips else 'tiles'} of {_join_extents(facts['tile_shape'])}",
        "overviews": overviews or "none",
    }
    if cached is not None:
        state = f"exists, {format_bytes(cached['entry_bytes'])}" if cached["is_cached"] else "does not exist yet"
        rows["cache entry"] = f"{state}\n{show_path(cached['entry_path'])}"
    lines = [f"from the source: {_describe_cost(crop['from_source'], 'strip' if has_strips else 'tile')}"]
    if cached is not None:
        lines.append(f"from the cache:  {_describe_cost(crop['from_cache'], 'tile')}")
    (top, bottom), (left, right) = crop["region"]
    rows["a crop"] = "\n".join(
        [f"{top}:{bottom},{left}:{right} from the middle, {format_bytes(crop['result_bytes'])}", *lines]
    )
    return rows


def _describe_cost(cost: _Facts, noun: str) -> str:
    from ...text import format_bytes

    if cost["tile_shape"] is None:
        return "memory-mapped, nothing to decode"
    count = f"{cost['tiles']:,} {noun if cost['tiles'] == 1 else noun + 's'} of {_join_extents(cost['tile_shape'])}"
    return f"{count}, {format_bytes(cost['decoded_bytes'])} decoded"


def _codes(codes: tuple[str, ...]) -> str:
    return "|".join(codes) if len(codes) <= 8 else f"{'|'.join(codes[:3])}|...|{codes[-1]}"


def _join_extents(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{extent:,}" for extent in shape)
