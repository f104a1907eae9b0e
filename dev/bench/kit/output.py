"""Results of a benchmark: tables on the terminal, and JSON from which ``pages`` renders the documentation."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit.environment import describe_environment

#: Options that change nothing in the results.
_NOT_PARAMETERS = ("folder", "json", "quick")


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print columns of text: the first one left-aligned, the others right-aligned."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    print(f"\n{title}")
    for row in cells:
        first, *others = (
            cell.ljust(widths[0]) if not column else cell.rjust(widths[column]) for column, cell in enumerate(row)
        )
        print("  ".join((first, *others)).rstrip())
    sys.stdout.flush()


def print_absent(rows: Sequence[dict[str, Any]]) -> None:
    """Print which contenders took no part, and why."""
    for row in rows:
        if row["status"] != "measured":
            print(f"{row['contender']}: {row['status']}")


def write_json(options: argparse.Namespace, script: str, folder: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write results to ``--json``, with the parameters and the environment that they depend on.

    Args:
        options: of the command line.
        script: the ``__file__`` of ``bench_NAME.py``.
        folder: where the data is; its file system is recorded.
        results: one dict per row.
    """
    if options.json is None:
        return
    parameters = {key: value for key, value in vars(options).items() if key not in _NOT_PARAMETERS}
    outcome = {
        "benchmark": Path(script).stem.removeprefix("bench_"),
        "parameters": parameters,
        "environment": describe_environment(folder),
        "results": list(results),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(outcome, indent=1, default=str) + "\n")
