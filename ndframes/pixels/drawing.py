"""Marks on a picture and a legend below it, drawn by Pillow."""

from __future__ import annotations

import colorsys
import math
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .pictures import checkerboard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .._typing import Array

__all__ = [
    "MIN_WIDTH_PX",
    "Colour",
    "Legend",
    "LegendEntry",
    "Mark",
    "draw_legend",
    "draw_marks",
    "palette_colour",
    "scale_bar_length",
]
Colour = tuple[int, int, int]
_Point = tuple[float, float]
# Colours that differ from each other and from most colours of photographs.
_PALETTE: tuple[Colour, ...] = (
    (255, 75, 75), (60, 170, 255), (255, 210, 40), (70, 220, 100), (255, 120, 240), (255, 150, 30), (0, 230, 215),
    (180, 135, 255), (200, 255, 80), (255, 180, 170),
)  # fmt: skip
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_OVERSAMPLING = 3  # Pillow draws without antialiasing, so marks are drawn larger and shrunk
_LINE_WIDTH, _CASING_WIDTH = 7, 13  # before shrinking; odd, because Pillow does not centre lines of even width
_POINT_PX = 4.0
_INSIDE_ALPHA = 56
_CASING = (0, 0, 0, 150)
_MAX_COORDINATE_PX = 1e5  # Pillow uses 32-bit integers
_LABEL_PX = 13
_MAX_LABEL_WIDTH_PX = 130
_TEXT_PX = 14
_TITLE_PX = 17
_MARGIN_PX = 10
_GAP_PX = 18
_LINE_HEIGHT_PX = 22
_SWATCH_PX, _RAMP_PX = 14, 40
_SWATCH_GAP_PX = 6
MIN_WIDTH_PX = 360
_TEXT_COLOUR, _NOTE_COLOUR, _BACKGROUND = (34, 34, 34), (105, 105, 105), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Mark:
    """An annotation on a picture. Points are ``(x, y)`` in pixels of the picture, with pixel centres at +0.5.

    Attributes:
        colour: the colour of all parts.
        label: a short text beside it; ``""`` for none.
        box: ``(left, top, right, bottom)``.
        polygons: for each polygon its outer ring, then its holes.
        points: single points.
    """

    colour: Colour
    label: str = ""
    box: tuple[float, float, float, float] | None = None
    polygons: tuple[tuple[tuple[_Point, ...], ...], ...] = ()
    points: tuple[_Point, ...] = ()

    def rings(self) -> Iterator[Sequence[_Point]]:
        """The outlines of the box and the polygons."""
        if self.box is not None:
            left, top, right, bottom = self.box
            yield (left, top), (right, top), (right, bottom), (left, bottom)
        for polygon in self.polygons:
            yield from polygon

    def bounds(self, shape: tuple[int, ...]) -> tuple[float, float, float, float] | None:
        """``(left, top, right, bottom)``, clipped to a picture of ``shape``; ``None`` if it is outside."""
        points = [*(point for ring in self.rings() for point in ring), *self.points]
        if not points:
            return None
        xs, ys = zip(*points, strict=True)
        left, right = max(0.0, min(xs)), min(float(shape[1]), max(xs))
        top, bottom = max(0.0, min(ys)), min(float(shape[0]), max(ys))
        return (left, top, right, bottom) if left <= right and top <= bottom else None


class LegendEntry(NamedTuple):
    """A text in a legend, after a swatch of its colour.

    Attributes:
        text: the text.
        colour: the colour of the swatch; ``None``: the checkerboard.
        is_ramp: whether the swatch is a ramp from black to the colour.
    """

    text: str
    colour: Colour | None
    is_ramp: bool = False

    @property
    def swatch_px(self) -> int:
        """The width of the swatch."""
        return _RAMP_PX if self.is_ramp else _SWATCH_PX


@dataclass(frozen=True, slots=True)
class Legend:
    """The legend below a picture.

    Attributes:
        title: the first line.
        channels: the colours of the pixels.
        marks: the colours of the marks.
        notes: further lines.
        bar: the length of a scale bar in pixels of the picture, and its text.
    """

    title: str
    channels: Sequence[LegendEntry]
    marks: Sequence[LegendEntry] = ()
    notes: Sequence[str] = field(default=())
    bar: tuple[float, str] | None = None


def palette_colour(number: int) -> Colour:
    """A colour for each number; small numbers have the colours that differ most.

    Example:
        >>> len({palette_colour(number) for number in range(500)})
        500
    """
    if number < len(_PALETTE):
        return _PALETTE[number]
    # Steps of the golden ratio never repeat a hue, and keep away from those before.
    red, green, blue = colorsys.hsv_to_rgb((number * _GOLDEN_RATIO) % 1, 0.55 + 0.45 * ((number * 0.37) % 1), 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def scale_bar_length(longest: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... up to ``longest``.

    Example:
        >>> scale_bar_length(199), scale_bar_length(7), scale_bar_length(0.3)
        (100.0, 5.0, 0.2)
    """
    power = 10.0 ** math.floor(math.log10(longest))
    # The margin: a length that a rounding error keeps just below one of these numbers still gives that number.
    return next(step * power for step in (5, 2, 1) if step * power <= longest * (1 + 1e-9))


def draw_marks(picture: Array, marks: Sequence[Mark]) -> Array:
    """A copy of ``picture``, ``(h, w, 3)`` uint8, with marks, which are clipped to it.

    A label is placed beside its mark. It is omitted if it would cover another label.
    """
    from PIL import Image, ImageDraw

    if not marks:
        same: Array = picture.copy()
        return same
    height, width = picture.shape[:2]
    large = Image.new("RGBA", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    for mark in marks:
        _draw_polygons(large, mark)
    pen = ImageDraw.Draw(large)
    for mark in marks:
        # In a loop of their own, so that no casing covers the line of another mark.
        _draw_lines(pen, mark, _CASING_WIDTH, _CASING)
    for mark in marks:
        _draw_lines(pen, mark, _LINE_WIDTH, (*mark.colour, 255))
    shown = Image.fromarray(picture).convert("RGBA")
    # With a whole factor, BOX is the exact mean of each block.
    shown.alpha_composite(large.resize((width, height), Image.Resampling.BOX))
    _draw_labels(ImageDraw.Draw(shown), marks, (height, width))
    drawn: Array = np.array(shown.convert("RGB"))
    return drawn


def _draw_polygons(large: Any, mark: Mark) -> None:
    """Fill the polygons, without their holes."""
    from PIL import Image, ImageDraw

    for rings in mark.polygons:
        outer, *holes = (_enlarge(ring) for ring in rings)
        box = _box_within(outer, large.size)
        if box is None or len(outer) < 3:
            continue
        left, top, right, bottom = box
        inside = Image.new("L", (right - left, bottom - top))
        pen = ImageDraw.Draw(inside)
        for ring, value in ((outer, _INSIDE_ALPHA), *((hole, 0) for hole in holes if len(hole) >= 3)):
            pen.polygon([(x - left, y - top) for x, y in ring], fill=value)
        patch = Image.new("RGB", inside.size, mark.colour)
        patch.putalpha(inside)
        large.alpha_composite(patch, (left, top))


def _draw_lines(pen: Any, mark: Mark, width: int, colour: tuple[int, ...]) -> None:
    for ring in mark.rings():
        enlarged = _enlarge(ring)
        # Two points more than the ring, so that Pillow draws the last joint too.
        pen.line([*enlarged, *enlarged[:2]], fill=colour, width=width, joint="curve")
    radius = _POINT_PX * _OVERSAMPLING + (width - _LINE_WIDTH) / 2
    for x, y in _enlarge(mark.points):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _enlarge(points: Iterable[_Point]) -> list[_Point]:
    """Points in Pillow's coordinates on the enlarged canvas, where pixel centres are at whole numbers."""
    return [
        (
            min(max(x, -_MAX_COORDINATE_PX), _MAX_COORDINATE_PX) * _OVERSAMPLING - 0.5,
            min(max(y, -_MAX_COORDINATE_PX), _MAX_COORDINATE_PX) * _OVERSAMPLING - 0.5,
        )
        for x, y in points
    ]


def _box_within(points: Sequence[_Point], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The bounds of ``points`` in pixels of an image of ``size``: left, top, right, bottom."""
    if not points:
        return None
    xs, ys = zip(*points, strict=True)
    left, right = max(0, math.floor(min(xs))), min(size[0], math.ceil(max(xs)) + 1)
    top, bottom = max(0, math.floor(min(ys))), min(size[1], math.ceil(max(ys)) + 1)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _draw_labels(pen: Any, marks: Sequence[Mark], shape: tuple[int, int]) -> None:
    # The first marks have the first choice of places.
    font = _font(_LABEL_PX)
    taken: list[tuple[float, ...]] = []
    for mark in marks:
        bounds = mark.bounds(shape)
        if not mark.label or bounds is None:
            continue
        text = _fit_text(mark.label, font, min(_MAX_LABEL_WIDTH_PX, shape[1] - 8))
        extent = math.ceil(font.getlength(text)) + 8, _LABEL_PX + 6
        place = next(
            (box for box in _label_boxes(bounds, extent, shape) if not any(_overlap(box, other) for other in taken)),
            None,
        )
        if place is None:
            continue
        taken.append(place)
        pen.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=mark.colour)
        pen.text(
            ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2),
            text,
            font=font,
            fill=_text_colour_on(mark.colour),
            anchor="mm",
        )


def _label_boxes(
    bounds: tuple[float, float, float, float], extent: tuple[int, int], shape: tuple[int, int]
) -> Iterator[tuple[int, int, int, int]]:
    """The boxes inside of the picture where a label of ``extent`` (width, height) may be: above, in or below its mark."""
    left, top, right, bottom = bounds
    width, height = extent
    for x, y in (
        (left, top - height),
        (left, top),
        (right - width, top),
        (left, bottom),
        (left, bottom - height),
        (right - width, bottom - height),
        (right - width, top - height),
    ):
        column = round(min(max(x, 0), max(0, shape[1] - width)))
        if 0 <= round(y) <= shape[0] - height:
            yield column, round(y), column + width, round(y) + height


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _text_colour_on(colour: Colour) -> Colour:
    """Black or white, whichever has more contrast to ``colour``."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else (255, 255, 255)


def draw_legend(picture: Array, legend: Legend) -> Array:
    """The picture with the legend below it, on white. A narrow picture gets a margin on its right."""
    width = max(picture.shape[1], MIN_WIDTH_PX)
    strip = _draw_legend_strip(legend, width)
    sheet = np.full((picture.shape[0] + strip.shape[0], width, 3), 255, np.uint8)
    sheet[: picture.shape[0], : picture.shape[1]] = picture
    sheet[picture.shape[0] :] = strip
    return sheet


def _draw_legend_strip(legend: Legend, width: int) -> Array:
    from PIL import Image, ImageDraw

    font, heading = _font(_TEXT_PX), _font(_TITLE_PX)
    room = width - 2 * _MARGIN_PX
    rows = [*_lay_out(legend.channels, font, room), *_lay_out(legend.marks, font, room)]
    notes = [line for note in legend.notes for line in _wrap_text(note, font, room)]
    height = 2 * _MARGIN_PX + _LINE_HEIGHT_PX * (1 + len(rows) + len(notes) + (legend.bar is not None))
    strip = Image.new("RGB", (width, height), _BACKGROUND)
    pen = ImageDraw.Draw(strip)
    y = _MARGIN_PX + _LINE_HEIGHT_PX / 2
    pen.text((_MARGIN_PX, y), _fit_text(legend.title, heading, room), font=heading, fill=_TEXT_COLOUR, anchor="lm")
    for row in rows:
        y += _LINE_HEIGHT_PX
        for x, entry in row:
            _draw_swatch(strip, round(x), round(y - _SWATCH_PX / 2), entry)
            pen.text((x + entry.swatch_px + _SWATCH_GAP_PX, y), entry.text, font=font, fill=_TEXT_COLOUR, anchor="lm")
    for note in notes:
        y += _LINE_HEIGHT_PX
        pen.text((_MARGIN_PX, y), note, font=font, fill=_NOTE_COLOUR, anchor="lm")
    if legend.bar is not None:
        _draw_bar(pen, y + _LINE_HEIGHT_PX, *legend.bar, font)
    return np.array(strip)


def _draw_swatch(strip: Any, left: int, top: int, entry: LegendEntry) -> None:
    from PIL import Image, ImageDraw

    width = entry.swatch_px
    if entry.colour is None:
        patch = checkerboard(_SWATCH_PX, width)
    else:
        ramp = np.linspace(0, 1, width - 2) if entry.is_ramp else np.ones(width - 2)
        patch = np.rint(np.ones((_SWATCH_PX, 1, 1)) * np.pad(ramp, 1)[:, np.newaxis] * entry.colour).astype(np.uint8)
    strip.paste(Image.fromarray(patch), (left, top))
    ImageDraw.Draw(strip).rectangle((left, top, left + width - 1, top + _SWATCH_PX - 1), outline=(120, 120, 120))


def _draw_bar(pen: Any, y: float, length_px: float, text: str, font: Any) -> None:
    left, right = _MARGIN_PX, _MARGIN_PX + round(length_px)
    pen.line((left, y, right, y), fill=_TEXT_COLOUR, width=2)
    for x in (left, right):
        pen.line((x, y - 5, x, y + 5), fill=_TEXT_COLOUR, width=2)
    pen.text((right + 10, y), text, font=font, fill=_TEXT_COLOUR, anchor="lm")


def _lay_out(entries: Sequence[LegendEntry], font: Any, room: float) -> list[list[tuple[float, LegendEntry]]]:
    """Lay out entries in lines; each with its x."""
    lines: list[list[tuple[float, LegendEntry]]] = []
    # So that the first entry begins a line.
    x = math.inf
    for entry in entries:
        before = entry.swatch_px + _SWATCH_GAP_PX
        text = _fit_text(entry.text, font, room - before)
        extent = before + font.getlength(text)
        if x + extent > _MARGIN_PX + room:
            lines.append([])
            x = _MARGIN_PX
        lines[-1].append((x, entry._replace(text=text)))
        x += extent + _GAP_PX
    return lines


def _wrap_text(text: str, font: Any, room: float) -> Iterator[str]:
    """Break a text into lines of at most ``room`` pixels."""
    line = ""
    for word in text.split():
        longer = f"{line} {_to_ascii(word)}" if line else _to_ascii(word)
        if line and font.getlength(longer) > room:
            yield _fit_text(line, font, room)
            longer = _to_ascii(word)
        line = longer
    yield _fit_text(line, font, room)


def _fit_text(text: str, font: Any, room: float) -> str:
    """``text`` in letters that the font has, with its middle cut out if it is wider than ``room``."""
    text = _to_ascii(text)
    if font.getlength(text) <= room:
        return text
    # The end often tells names apart, so the middle is cut.
    for kept in range(len(text) - 1, 1, -1):
        shorter = f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"
        if font.getlength(shorter) <= room:
            return shorter
    return text[:1]


def _to_ascii(text: str) -> str:
    """``text`` in ASCII, because Pillow's font has no other letters: accents are dropped, other letters become ``?``.

    Example:
        >>> _to_ascii("Löffel 匙")
        'Loffel ?'
    """
    # NFKD separates letters from their accents.
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in letters)


@lru_cache(maxsize=4)
def _font(size_px: int) -> Any:
    """Pillow's default font."""
    from PIL import ImageFont

    return ImageFont.load_default(size_px)
