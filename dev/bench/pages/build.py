"""Render ``results/NAME.json`` as ``docs/performance/NAME.rst`` and ``NAME-1.svg``, ``NAME-2.svg`` and so on.

``bench_NAME.py`` says what its page shows. The same JSON gives the same bytes.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pages.page import Page, Row, Table, unique

BENCH = Path(__file__).resolve().parents[1]
RESULTS = BENCH / "results"
DOCS = BENCH.parents[1] / "docs" / "performance"


def build(results: Path, out: Path) -> list[Path]:
    """Write the pages of all JSON files in ``results``; return what was written."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in sorted(results.glob("*.json")):
        for name, text in render(path).items():
            written.append(out / name)
            written[-1].write_text(text, encoding="utf-8")
    return written


def render(path: Path) -> dict[str, str]:
    """Return the texts of one benchmark's page and figures, by file name."""
    outcome = json.loads(path.read_text(encoding="utf-8"))
    rows = outcome["results"]
    script = importlib.import_module(f"bench_{outcome['benchmark']}")
    page: Page = script.render([row for row in rows if row["status"] == "measured"])
    files = {f"{path.stem}-{index}.svg": figure.to_svg() for index, figure in enumerate(page.figures, start=1)}
    lines: list[str] = []
    for name, figure in zip(files, page.figures, strict=True):
        lines += [f".. image:: performance/{name}", f"   :alt: {figure.title}", ""]
    for table in page.tables:
        lines += format_table(table)
    lines += [*format_absent(rows), *format_environment(outcome)]
    return {f"{path.stem}.rst": "\n".join(lines), **files}


def format_table(table: Table) -> list[str]:
    """A list-table, whose cells may have any width."""
    lines = [f".. list-table:: {table.title}", "   :header-rows: 1", ""]
    for row in (table.header, *table.rows):
        lines += [f"   {'* -' if not column else '  -'} {cell}".rstrip() for column, cell in enumerate(row)]
    return [*lines, ""]


def format_absent(rows: Sequence[Row]) -> list[str]:
    """Which contenders took no part, and why."""
    absent = unique((row["contender"], row["status"]) for row in rows if row["status"] != "measured")
    return [f"Not measured: {'; '.join(f'{name} ({reason})' for name, reason in absent)}.", ""] if absent else []


def format_environment(outcome: Mapping[str, Any]) -> list[str]:
    """Where and with what it was measured, as a paragraph."""
    where = outcome["environment"]
    libraries = ", ".join(f"{name} {version}" for name, version in where["libraries"].items() if version)
    parameters = ", ".join(
        f"{name} {_flat(value)}" for name, value in outcome["parameters"].items() if value not in (None, [], False)
    )
    return [
        f"Measured on {where['date']} at commit {where['commit']} by ``dev/bench/bench_{outcome['benchmark']}.py`` "
        f"({parameters}): {where['cpu']}, {where['cores']} cores, {where['memory_bytes'] / 2**30:.0f} GiB, "
        f"{where['file_system']}; Python {where['python']}, GDAL {where['gdal']}, {libraries}.",
        "",
    ]


def _flat(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
