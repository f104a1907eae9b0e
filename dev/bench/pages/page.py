"""What a benchmark shows in the documentation: tables and figures. Each ``bench_NAME.py`` has a ``render(rows) -> Page``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pages.figures import Figure

#: One item of ``results`` in a JSON file.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Cells of text under a title."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Page:
    """The tables and figures of one benchmark."""

    tables: Sequence[Table]
    figures: Sequence[Figure]


def number(value: float) -> str:
    """Format with three significant digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def times(ratio: float | None) -> str:
    """Format a ratio; ``None`` is empty."""
    return "" if ratio is None else f"×{ratio:.2f}"


def unique(values: Iterable[Any]) -> list[Any]:
    """Distinct values in the order of their first occurrence."""
    return list(dict.fromkeys(values))
