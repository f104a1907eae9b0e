"""Small figures as SVG: dots or lines on a logarithmic axis. The same figures give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COLOURS = ("#0b6e99", "#d9730d", "#4d7c0f", "#9333ea", "#be123c", "#57534e", "#0f766e", "#a16207")
_MARKERS = "osD^vPX"  # one less than colours, so that a pair comes again late
_ROW_INCHES = 0.2
_WIDTH_INCHES = 7.2
#: Its text stays text, which is small and can be searched; its ids do not come from chance.
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ndframes",
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Dots:
    """A row for each name, and in it a dot for each series.

    Attributes:
        title: over the panel.
        axis: what the numbers are, with their unit.
        names: of the rows, from the top.
        series: by label, a number for each row; ``None`` where there is none.
    """

    title: str
    axis: str
    names: Sequence[str]
    series: Mapping[str, Sequence[float | None]]

    @property
    def height_inches(self) -> float:
        """What its rows take."""
        return _ROW_INCHES * len(self.names) + 0.9

    def draw(self, axes: Any) -> None:
        rows = range(len(self.names))
        for number, (label, values) in enumerate(self.series.items()):
            points = [(value, row) for value, row in zip(values, rows, strict=True) if value]
            style = {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}
            axes.plot(*zip(*points, strict=True), linestyle="none", markersize=4, label=label, **style)
        axes.set_yticks(list(rows), self.names)
        axes.set_ylim(len(self.names) - 0.5, -0.5)
        _scale(axes, "x")
        axes.set_xlabel(self.axis)
        axes.grid(axis="x", color="#dddddd", linewidth=0.5)
        for text in axes.get_yticklabels():
            text.set_fontweight("bold" if text.get_text().startswith("ndframes") else "normal")
        if len(self.series) > 1:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(self.series), frameon=False)


@dataclass(frozen=True)
class Bars:
    """A bar for each name, from 1: to the right what is more than that, to the left what is less."""

    title: str
    axis: str
    names: Sequence[str]
    values: Sequence[float]

    @property
    def height_inches(self) -> float:
        """What its rows take."""
        return _ROW_INCHES * len(self.names) + 0.9

    def draw(self, axes: Any) -> None:
        colours = [_COLOURS[0] if value >= 1 else _COLOURS[1] for value in self.values]
        widths = [value - 1 for value in self.values]
        axes.barh(range(len(self.names)), widths, left=1, color=colours, height=0.6)
        axes.set_yticks(range(len(self.names)), self.names)
        axes.set_ylim(len(self.names) - 0.5, -0.5)
        _scale(axes, "x")
        axes.axvline(1, color="#333333", linewidth=0.8)
        axes.set_xlabel(self.axis)
        for row, value in enumerate(self.values):
            axes.annotate(f" {value:.2g}" if value < 100 else f" {value:.0f}", (max(value, 1), row), va="center")


@dataclass(frozen=True)
class Lines:
    """A line for each series over growing images."""

    title: str
    x_axis: str
    y_axis: str
    series: Mapping[str, Sequence[tuple[float, float]]]

    @property
    def height_inches(self) -> float:
        """Enough for the lines to be told apart."""
        return 3.2

    def draw(self, axes: Any) -> None:
        for number, (label, points) in enumerate(self.series.items()):
            style = {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}
            is_ours = label.startswith("ndframes")
            width = 1.6 if is_ours else 0.9
            dashes = "-" if is_ours else "--"
            axes.plot(*zip(*points, strict=True), dashes, markersize=4, linewidth=width, label=label, **style)
        ticks = sorted({x for points in self.series.values() for x, _ in points})
        axes.set_xscale("log", base=2)
        _scale(axes, "y")
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.set_xlabel(self.x_axis)
        axes.set_ylabel(self.y_axis)
        axes.grid(axis="both", color="#dddddd", linewidth=0.5)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


Panel = Dots | Bars | Lines


def write_figure(path: Path, panel: Panel) -> None:
    """Draw one panel into a file of its own."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(_WIDTH_INCHES, panel.height_inches), layout="constrained")
        panel.draw(axes)
        axes.minorticks_off()
        axes.set_title(panel.title, loc="left", fontsize=9)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _scale(axes: Any, direction: str) -> None:
    """A logarithmic axis with plain numbers on it, as many as there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.set(**{f"{direction}scale": "log"})
    axis = getattr(axes, f"{direction}axis")
    least, most = axis.get_data_interval()
    decades = math.log10(most / least)
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
