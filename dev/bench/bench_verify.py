"""Checking an entry while it is read: ``verify="open"``, ``"first-touch"`` and ``"always"``.

Random crops of one image, in each form of entry and of several sizes. In each round every contender is opened anew and reads
the same crops twice: "first" is the first read of a crop, with the file in the page cache; "again" is the second one. The
baseline is a copied slice of a numpy memmap. All pixels are compared.

    python dev/bench/bench_verify.py --folder /var/tmp/bench --json verify.json
    python dev/bench/bench_verify.py --quick
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.mosaic import ensure_mosaic
from kit.crops import Crop, cover, digest, draw_anywhere
from kit.measurements import Measurements, Round, time_reads
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.processes import ContenderProcess, running
from kit.references import References
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times, unique
from peers.base import Contender, Memmap
from peers.entries import Entry, Ndframes

_MODES = ("open", "first-touch", "always")
_FORMS = ("npy", "zstd", "none")


def make_contenders(source: Path, folder: Path) -> list[Contender]:
    contenders: list[Contender] = [Memmap("memmap", "raw", source)]
    for form in _FORMS:
        entry = Entry(source, folder / "ndframes", form)
        contenders += [Ndframes(f"ndframes {form}, {mode}", entry.codec, entry, {"verify": mode}) for mode in _MODES]
    return contenders


def read_round(contender: Contender, crops: list[Crop]) -> tuple[Round, Round]:
    """Open, read all crops twice, close; in the contender's process."""
    contender.open()
    contender.read(crops[0]._replace(bottom=crops[0].top + 1, right=crops[0].left + 1))  # opens what is opened lazily
    first, again = (time_reads(crops, contender.read) for _ in range(2))
    digests = [digest(contender.read(crop)) for crop in crops]
    contender.close()
    return Round(*first, digests), Round(*again, digests)


def run_sizes(contenders: Sequence[Contender], source: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each crop size and contender."""
    references = References(source)
    blocks = cover(references.shape, 1024)
    results = []

    def check(process: ContenderProcess) -> None:
        references.match(process.contender, blocks, process.call(read_round, blocks)[0].digests)

    with running(contenders, check) as field:
        for crop_px in options.sizes:
            rng = np.random.default_rng(options.seed)
            draw = draw_anywhere(references.shape, crop_px, options.crops)
            found = {process.name: (Measurements(), Measurements()) for process in field.processes}
            for _ in range(options.rounds):
                crops = draw(rng)
                for process in field.shuffled(rng):
                    for one, kept in zip(process.call(read_round, crops), found[process.name], strict=True):
                        references.match(process.contender, crops, one.digests)
                        kept.rounds.append(one)
            rows = [list_result(item, field.absent, found) for item in contenders]
            print_results(crop_px, rows)
            results += [{"crop_px": crop_px, **row} for row in rows]
    return results


def list_result(
    contender: Contender, absent: dict[str, str], found: dict[str, tuple[Measurements, Measurements]]
) -> dict[str, Any]:
    """Return one row; the ratios are to the same form with ``verify="open"``."""
    row: dict[str, Any] = {"contender": contender.name, "role": contender.role, "codec": contender.codec}
    if contender.name in absent:
        return {**row, "status": absent[contender.name]}
    row["status"] = "measured"
    unchecked = found.get(f"{contender.name.partition(',')[0]}, open")
    for index, visit in enumerate(("first", "again")):
        mine = found[contender.name][index]
        row[f"{visit}_us"] = mine.summarize()["median_us"]
        row[f"{visit}_ratio"] = None if unchecked is None else mine.ratio_to(unchecked[index])
    return row


def print_results(crop_px: int, rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        (
            row["contender"],
            f"{row['first_us']:.0f}",
            times(row["first_ratio"]),
            f"{row['again_us']:.0f}",
            times(row["again_ratio"]),
        )
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(f"{crop_px} px", ("", "first us", "x open", "again us", "x open"), cells)
    print_absent(rows)


def render(rows: Sequence[Row]) -> Page:
    """One table and one figure per crop size."""
    tables, figures = [], []
    header = ["", "first µs", "ratio to open", "again µs", "ratio to open"]
    for size in unique(row["crop_px"] for row in rows):
        mine = [row for row in rows if row["crop_px"] == size]
        cells = [
            [
                row["contender"],
                number(row["first_us"]),
                times(row["first_ratio"]),
                number(row["again_us"]),
                times(row["again_ratio"]),
            ]
            for row in mine
        ]
        tables.append(Table(f"Crops of {size} px, with checks", header, cells))
        series = {visit: [row[f"{visit}_us"] for row in mine] for visit in ("first", "again")}
        figures.append(Dots(f"Time per crop of {size} px", "µs", [row["contender"] for row in mine], series))
    return Page(tables, figures)


def main() -> None:
    quick = "--height 1024 --width 1024 --rounds 2 --crops 20 --sizes 64 256"
    parser = make_parser(__doc__, quick=quick, shape=(8192, 8192), rounds=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024], help="edges of the crops in pixels")
    parser.add_argument("--crops", type=int, default=60, help="crops in a round")
    options = parse_options(parser)
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.height, options.width))
        contenders = [item for item in make_contenders(source, folder) if is_chosen(item.name, options)]
        write_json(options, __file__, folder, run_sizes(contenders, source, options))


if __name__ == "__main__":
    main()
