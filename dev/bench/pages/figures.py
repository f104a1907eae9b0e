"""Figures as SVG: dots, bars and lines on logarithmic axes.

Written without a plotting library, so that the same results give the same bytes with every version of every library, and a
test can compare the committed figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_COLOURS = ("#0b6e99", "#d9730d", "#4d7c0f", "#9333ea", "#be123c", "#57534e", "#0f766e", "#a16207")
#: Outlines of the markers around (0, 0). There is one less than colours, so that pairs repeat late.
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "M-3.5 -3.5h7v7h-7z",
    "M0 -4.8L4.8 0L0 4.8L-4.8 0z",
    "M0 -4.5L4.5 3.5H-4.5z",
    "M0 4.5L4.5 -3.5H-4.5z",
    "M-4.5 0L3.5 -4.5V4.5z",
    "M-1.5 -4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
)
_WIDTH_PX = 760
_ROW_PX = 17
_TITLE_PX = 26
_AXIS_PX = 42
_MARGIN_PX = 14
_LINES_HEIGHT_PX = 260
#: Mean width of a character of 12 px text in a wide bold font, since the reader's font is not known.
_CHARACTER_PX = 7.3
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.title{font-weight:bold}.ours{font-weight:bold}"
    ".tick{font-size:11px;fill:#555}.grid{stroke:#ddd}.axis{stroke:#333}"
)


@dataclass(frozen=True)
class Dots:
    """One row per name, with one dot per series.

    Attributes:
        title: above the figure.
        axis: the quantity and its unit.
        names: of the rows, from the top.
        series: by label, one value per row; ``None``: no dot.
    """

    title: str
    axis: str
    names: Sequence[str]
    series: Mapping[str, Sequence[float | None]]

    def to_svg(self) -> str:
        """Return the SVG document."""
        labels = list(self.series) if len(self.series) > 1 else []
        frame = _Frame.for_rows(self.names, has_legend=bool(labels))
        scale = _Scale.over([value for row in self.series.values() for value in row if value], frame.left, frame.right)
        body = [*frame.draw_names(self.names), *frame.draw_x_axis(scale, self.axis), *frame.draw_legend(labels)]
        for index, values in enumerate(self.series.values()):
            body += [_marker(scale.place(value), frame.row(row), index) for row, value in enumerate(values) if value]
        return _document(self.title, frame.height, body)


@dataclass(frozen=True)
class Bars:
    """One bar per name that starts at 1: to the right for larger ratios, to the left for smaller ones."""

    title: str
    axis: str
    names: Sequence[str]
    values: Sequence[float]

    def to_svg(self) -> str:
        """Return the SVG document."""
        frame = _Frame.for_rows(self.names, right_px=60)
        scale = _Scale.over([1, *self.values], frame.left, frame.right)
        one = scale.place(1)
        body = [*frame.draw_names(self.names), *frame.draw_x_axis(scale, self.axis)]
        for row, value in enumerate(self.values):
            left, right = sorted((one, scale.place(value)))
            colour = _COLOURS[value < 1]
            middle = frame.row(row)
            body.append(
                f'<rect x="{left:.1f}" y="{middle - 5:.1f}" width="{right - left:.1f}" height="10" fill="{colour}"/>'
            )
            label = f"{value:.2g}" if value < 100 else f"{value:.0f}"
            body.append(_text(right + 5, middle + 4, label, kind="tick"))
        body.append(f'<path class="axis" d="M{one:.1f} {frame.top}V{frame.bottom}"/>')
        return _document(self.title, frame.height, body)


@dataclass(frozen=True)
class Lines:
    """One line per series over growing images.

    Attributes:
        title: above the figure.
        x_axis: the quantity and its unit, on a binary logarithmic axis.
        y_axis: the quantity and its unit.
        series: by label, points ``(x, y)``. Lines of ndframes are solid, others dashed.
    """

    title: str
    x_axis: str
    y_axis: str
    series: Mapping[str, Sequence[tuple[float, float]]]

    def to_svg(self) -> str:
        """Return the SVG document."""
        right_px = 40 + _CHARACTER_PX * max(map(len, self.series))
        height = _TITLE_PX + 20 + max(_LINES_HEIGHT_PX, _ROW_PX * len(self.series)) + _AXIS_PX
        frame = _Frame(70, _WIDTH_PX - right_px, _TITLE_PX + 20, height - _AXIS_PX)
        points = [point for line in self.series.values() for point in line]
        across = _Scale.over([x for x, _ in points], frame.left + 20, frame.right - 20)
        up = _Scale.over([y for _, y in points], frame.bottom - 8, frame.top + 8)
        ticks = sorted({x for x, _ in points})
        body = [*frame.draw_x_axis(across, self.x_axis, ticks), *frame.draw_y_axis(up, self.y_axis)]
        for index, (label, line) in enumerate(self.series.items()):
            places = [(across.place(x), up.place(y)) for x, y in line]
            way = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
            is_ours = label.startswith("ndframes")
            look = 'stroke-width="2"' if is_ours else 'stroke-width="1.2" stroke-dasharray="5 3"'
            body.append(f'<path d="M{way}" fill="none" stroke="{_colour(index)}" {look}/>')
            body += [_marker(x, y, index) for x, y in places]
            row = frame.top + _ROW_PX * index + 8
            body += [_marker(frame.right + 14, row, index), _text(frame.right + 24, row + 4, label, kind=_kind(label))]
        return _document(self.title, height, body)


Figure = Dots | Bars | Lines


@dataclass(frozen=True)
class _Scale:
    """A logarithmic axis from ``low`` at pixel ``start`` to ``high`` at pixel ``stop``."""

    low: float
    high: float
    start: float
    stop: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, stop: float) -> _Scale:
        """An axis that holds all values, with some space at both ends."""
        low, high = min(values), max(values)
        space = max((high / low) ** 0.04, 1.03)
        return cls(low / space, high * space, start, stop)

    def place(self, value: float) -> float:
        """The pixel of a value."""
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round numbers on the axis: fewer per decade on a longer axis."""
        decades = math.log10(self.high / self.low)
        if decades < 0.7:
            digits: Sequence[float] = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
        else:
            digits = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        numbers = (float(f"{digit}e{exponent}") for exponent in exponents for digit in digits)
        return [number for number in numbers if self.low <= number <= self.high]


@dataclass(frozen=True)
class _Frame:
    """The rectangle between the axes, in pixels."""

    left: float
    right: float
    top: float
    bottom: float

    @classmethod
    def for_rows(cls, names: Sequence[str], *, has_legend: bool = False, right_px: float = 24) -> _Frame:
        """A frame with one row per name, and room for the names on its left."""
        top = _TITLE_PX + (20 if has_legend else 0)
        left = _MARGIN_PX + _CHARACTER_PX * max(map(len, names)) + 8
        return cls(round(left), _WIDTH_PX - right_px, top, top + _ROW_PX * len(names))

    @property
    def height(self) -> float:
        """Of the document."""
        return self.bottom + _AXIS_PX

    def row(self, index: int) -> float:
        """The middle of a row."""
        return self.top + _ROW_PX * (index + 0.5)

    def draw_names(self, names: Sequence[str]) -> Iterator[str]:
        for index, name in enumerate(names):
            yield _text(self.left - 8, self.row(index) + 4, name, kind=_kind(name), anchor="end")

    def draw_x_axis(self, scale: _Scale, title: str, ticks: Sequence[float] | None = None) -> Iterator[str]:
        for tick in scale.ticks() if ticks is None else ticks:
            place = scale.place(tick)
            yield f'<path class="grid" d="M{place:.1f} {self.top}V{self.bottom}"/>'
            yield _text(place, self.bottom + 15, f"{tick:,g}", kind="tick", anchor="middle")
        yield f'<path class="axis" d="M{self.left} {self.bottom}H{self.right}"/>'
        yield _text((self.left + self.right) / 2, self.bottom + 32, title, anchor="middle")

    def draw_y_axis(self, scale: _Scale, title: str) -> Iterator[str]:
        for tick in scale.ticks():
            place = scale.place(tick)
            yield f'<path class="grid" d="M{self.left} {place:.1f}H{self.right}"/>'
            yield _text(self.left - 6, place + 4, f"{tick:,g}", kind="tick", anchor="end")
        yield f'<path class="axis" d="M{self.left} {self.top}V{self.bottom}"/>'
        yield _text(self.left - 6, self.top - 8, title, anchor="end")

    def draw_legend(self, labels: Sequence[str]) -> Iterator[str]:
        widths = [30 + 6.8 * len(label) for label in labels]
        place = max(_MARGIN_PX, min(self.left, _WIDTH_PX - sum(widths)))
        for index, (label, width) in enumerate(zip(labels, widths, strict=True)):
            yield _marker(place + 5, self.top - 12, index)
            yield _text(place + 14, self.top - 8, label)
            place += width


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _kind(label: str) -> str:
    return "ours" if label.startswith("ndframes") else ""


def _marker(x: float, y: float, index: int) -> str:
    outline = _MARKERS[index % len(_MARKERS)]
    return f'<path d="{outline}" transform="translate({x:.1f} {y:.1f})" fill="{_colour(index)}"/>'


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "start") -> str:
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'


def _document(title: str, height: float, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX} {height:.0f}" '
        f'width="{_WIDTH_PX}" height="{height:.0f}" role="img">'
    )
    background = f'<rect width="{_WIDTH_PX}" height="{height:.0f}" fill="#fff"/>'
    lines = [
        head,
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        background,
        _text(_MARGIN_PX, 17, title, kind="title"),
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
