"""Render the benchmarks' results for the documentation.

    python dev/bench/pages                            # dev/bench/results/*.json -> docs/performance/
    python dev/bench/pages --results . --out /tmp/pages

``tests/whole/test_benchmarks.py`` checks that the committed pages are those of the committed JSON.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # a folder that is run has itself on the path, not its parent

from pages.build import DOCS, RESULTS, build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder of the pages")
    options = parser.parse_args()
    for path in build(options.results, options.out):
        print(path)


if __name__ == "__main__":
    main()
