"""Which pages of a TIFF form the image: one page, the planes of a series, or rows; and its smaller copies."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ....errors import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ChosenPages", "choose_pages", "orientation_of"]
_BAND_AXES = "SC"
# Formats that spread levels, channels or planes over pages in their own way. A description that does not match the pages of
# such a file is damage; other descriptions may be left from an earlier life of the file.
_SLIDES_AND_STACKS = ("ome", "svs", "ndpi", "scn", "bif", "philips", "qpi", "lsm")
_DESCRIBED = (
    *_SLIDES_AND_STACKS,
    *("imagej", "mmstack", "ndtiff", "fluoview", "stk", "sis", "avs", "eer", "scanimage", "nih", "mdgel"),
)
# tifffile's kinds of series that it could not arrange as the file describes.
_PLAIN_KINDS = ("generic", "uniform")
# tifffile's names for the axes of an image with channels last; ``None``: it did not write any.
_IMAGE_AXES = (None, "YXS", "YXC")
# More columns than this are the planes of a stack, not the channels of an image.
_MOST_CHANNELS_IN_ROWS = 16
_REDUCED, _MASK, _MASK_PHOTOMETRIC = 1, 4, 4
_LISTED = 6


@dataclass(frozen=True)
class ChosenPages:
    """The pages of an image.

    Attributes:
        levels: for each resolution, largest first, the pages that hold its bands.
        rows: tifffile's series of an image whose rows are stored as pages; ``None``: it is not.
    """

    levels: list[list[Any]]
    rows: Any = None

    @property
    def keyframe(self) -> Any:
        """The page that describes the samples."""
        return self.levels[0][0].keyframe


def choose_pages(path: str, tiff: Any, page: int | None, series: int | None) -> ChosenPages:
    """Find the pages of the image that was asked for.

    Args:
        path: the file, for messages.
        tiff: tifffile's file.
        page: the page of the file, or with ``series`` the plane of that series; ``None``: the file must hold one image.
        series: tifffile's series.

    Raises:
        UnreadableImageError: there is no such page, or the file holds several images and none was chosen.
    """
    if series is None and page is not None:
        _check_count(path, "page", page, len(tiff.pages))
        return ChosenPages([[tiff.pages[page]]])
    if page is None and not series and _is_in_rows(tiff):
        return ChosenPages([[tiff.pages.first]], _check_rows(path, tiff.series[0]))
    if series is None and not _is_described(tiff):
        return ChosenPages(_choose_plain(path, tiff))
    return _choose_series(path, tiff, page, series)


def orientation_of(page: Any) -> int:
    """The value of the orientation tag; 1 is upright."""
    tag = page.tags.get(274)
    value = 1 if tag is None else int(tag.value)
    return value if 1 <= value <= 8 else 1


def _is_described(tiff: Any) -> bool:
    """Whether a description says what the pages are."""
    if any(getattr(tiff, f"is_{name}", False) for name in _DESCRIBED):
        return True
    # tifffile believes the description of a single page that tells of more; it may have been copied from another file.
    return bool(tiff.is_shaped) and (len(tiff.pages) > 1 or _is_truncated(tiff.pages.first))


# -- series ---------------------------------------------------------------------------------------------------------------


def _choose_series(path: str, tiff: Any, page: int | None, series: int | None) -> ChosenPages:
    number = series or 0
    _check_count(path, "series", number, len(tiff.series))
    chosen = tiff.series[number]
    if chosen.kind in _PLAIN_KINDS:
        if any(getattr(tiff, f"is_{name}") for name in _SLIDES_AND_STACKS):
            raise UnreadableImageError(
                f"{path}: its pages do not match its description, it may be damaged; choose one with page="
            )
        if series is None:
            return ChosenPages(_choose_plain(path, tiff))
    if series is None and page is None and _has_equals(tiff.series):
        listed = [f"{index}: {item.axes} {tuple(item.shape)}" for index, item in enumerate(tiff.series)]
        raise UnreadableImageError(
            f"{path} holds {len(tiff.series)} images; choose one with series=: {_list_first(listed)}"
        )
    return ChosenPages([_plane_pages(path, tiff, level, page) for level in chosen.levels])


def _has_equals(series: list[Any]) -> bool:
    """Whether the first series is one of several images, and not a slide before its label and its overview."""
    if series[0].kind == "shaped":
        return len(series) > 1
    areas = [_area(item.keyframe) for item in series if item.kind == "ome"]
    return any(area >= areas[0] for area in areas[1:])


def _plane_pages(path: str, tiff: Any, level: Any, page: int | None) -> list[Any]:
    pages = list(level.pages)
    long_axes = [axis for axis, extent in zip(level.axes, level.shape, strict=True) if extent > 1 and axis not in "YX"]
    if page is None and (len(long_axes) > 1 or any(axis not in _BAND_AXES for axis in long_axes)):
        _refuse_stack(path, tiff, level, len(pages))
    if any(item is None or item.parent is not tiff for item in pages):
        raise UnreadableImageError(
            f"{path} lacks some of its planes, or keeps them in other files; choose one with page="
        )
    if page is not None:
        _check_count(path, "page", page, len(pages))
        return [pages[page]]
    return pages


def _refuse_stack(path: str, tiff: Any, level: Any, count: int) -> None:
    """Raise, unless the axes are those of a single page: its samples, depth or time in one."""
    if count == 1 and level.keyframe.shape == tuple(level.shape) and "S" in level.axes:
        return
    choice = f"page=0 ... page={count - 1}" if count > 1 else "page=0"
    if len(tiff.series) > 1:
        choice += " of series=0"
    raise UnreadableImageError(
        f"{path} is a stack of axes {level.axes} {tuple(level.shape)}; choose a plane with {choice}"
    )


# -- plain files ----------------------------------------------------------------------------------------------------------


def _choose_plain(path: str, tiff: Any) -> list[list[Any]]:
    """The page of the only image, and of its smaller copies."""
    full: list[Any] = []
    others: list[Any] = []
    for page in _walk(tiff):
        if page.subfiletype & _MASK or page.photometric == _MASK_PHOTOMETRIC or not page.shape:
            continue
        (others if page.subfiletype & _REDUCED else full).append(page)
    if not full:  # a file whose only pages are said to be small copies of another
        full = [page for page in others if _area(page) == max(map(_area, others))] or [tiff.pages.first]
    image = full[0]
    if len(full) > 1:
        if _is_pyramid(full):
            return [[page] for page in full]
        # Raw files of cameras have a small picture in their first page, and the image in a page below it.
        inner = [page for page in full if page.is_subifd]
        outer = [page for page in full if not page.is_subifd]
        if len(outer) > 1:
            _refuse_pages(path, outer)
        image = max(full, key=_area) if inner else image
        if sum(_area(page) == _area(image) for page in full) > 1:
            raise UnreadableImageError(
                f"{path} holds several images of {image.imagelength} x {image.imagewidth} px below its first page; none of them "
                "can be chosen"
            )
    copies = [page for page in others if _is_copy(page, image)]
    return [[image], *([page] for page in sorted(copies, key=_area, reverse=True))]


def _walk(tiff: Any) -> Iterator[Any]:
    """All pages and the pages below them."""
    for page in tiff.pages:
        yield page
        if page.subifds:
            yield from page.pages


def _area(page: Any) -> int:
    return int(page.imagelength) * int(page.imagewidth)


def _is_copy(page: Any, image: Any) -> bool:
    """Whether a page has the samples of another in a lower resolution."""
    is_alike = (page.samplesperpixel, page.dtype, page.photometric) == (
        image.samplesperpixel,
        image.dtype,
        image.photometric,
    )
    return is_alike and _is_smaller(page, image)


def _is_smaller(page: Any, image: Any) -> bool:
    sizes = [(each.imagelength, each.imagewidth) for each in (page, image)]
    return all(small <= large for small, large in zip(*sizes, strict=True)) and sizes[0] != sizes[1]


def _is_pyramid(pages: list[Any]) -> bool:
    """Whether each page is half as large as the one before; some writers do not say that these are copies."""
    return all(
        _is_copy(small, large)
        and all(abs(2 * getattr(small, name) - getattr(large, name)) <= 2 for name in ("imagelength", "imagewidth"))
        for large, small in itertools.pairwise(pages)
    )


def _refuse_pages(path: str, pages: list[Any]) -> None:
    listed = [f"{page.index}: {' x '.join(map(str, page.shape))} {page.dtype}" for page in pages]
    raise UnreadableImageError(
        f"{path} holds {len(pages)} images; choose one with page= (--page on the command line): {_list_first(listed)}"
    )


def _list_first(items: list[str]) -> str:
    more = len(items) - _LISTED
    return "; ".join(items[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


# -- rows -----------------------------------------------------------------------------------------------------------------


def _is_in_rows(tiff: Any) -> bool:
    """Whether the first page describes an image in which this page is a row.

    tifffile writes an array ``(h, w, c)`` without named axes as ``h`` pages of ``w`` rows and ``c`` columns, or as one page
    with all rows behind it.
    """
    page = tiff.pages.first
    description = _parse_description(page)
    shape = description.get("shape")
    return (
        isinstance(shape, list)
        and len(shape) == 3
        and shape[1:] == [*page.shape]
        and 2 <= shape[2] <= _MOST_CHANNELS_IN_ROWS
        and shape[2] < min(shape[:2])
        and page.samplesperpixel == 1
        and description.get("axes") in _IMAGE_AXES
        # A single page is an image of its own, whose description was copied from another.
        and (_is_truncated(page) or len(tiff.pages) > 1)
    )


def _is_truncated(page: Any) -> bool:
    """Whether tifffile wrote all pixels behind one page and omitted the other pages."""
    return bool(_parse_description(page).get("truncated"))


def _check_rows(path: str, series: Any) -> Any:
    if len(series.shape) != 3 or series.kind != "shaped":
        raise UnreadableImageError(f"{path}: its pages do not match its description, it may be damaged")
    return series


def _parse_description(page: Any) -> dict[str, Any]:
    """Tifffile's description of the array that it wrote; empty if it is not there."""
    if not page.description.startswith('{"shape":'):
        return {}
    try:
        description = json.loads(page.description)
    except ValueError:
        return {}
    return description if isinstance(description, dict) else {}


def _check_count(path: str, name: str, index: int, count: int) -> None:
    if index >= count:
        raise UnreadableImageError(f"{path} has no {name} {index}; it has {count}, counted from 0")
