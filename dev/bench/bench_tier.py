"""Crops from a warm local tier, and from a cache on the disk: microseconds per crop, files in the page cache.

The entry is in an object store, and its tiles are on the disk: some of them ("partial"), or all ("whole"). The store is in the
memory of the process, and is asked for nothing once the rounds begin, so no network is measured. Each contender runs in a process
of its own and reads the same crops, in interleaved rounds; all pixels are compared.

    python dev/bench/bench_tier.py --folder /var/tmp/bench --json tier.json
    python dev/bench/bench_tier.py --quick
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.mosaic import ensure_mosaic
from kit.comparison import Comparison
from kit.crops import draw_anywhere
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.pagecache import evict, fill
from kit.references import References
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times, unique
from peers.entries import IMAGE_ID, Entry, Ndframes

if TYPE_CHECKING:
    from peers.base import Contender

_FORMS = ("npy", "none", "zstd")
_OPTIONS = {"tile_bytes": 0, "recheck_seconds": 60}
_WAIT_SECONDS = 120.0


@dataclass
class Local(Ndframes):
    """The entry in a cache on the disk."""

    def open(self) -> None:
        super().open()
        # Files that were written in small pieces are read more slowly until the page cache has read them anew.
        evict(self.files())
        fill(self.files())


@dataclass
class Tier(Ndframes):
    """The entry in a store, with its tiles in a local tier.

    Attributes:
        tier: the folder.
        is_whole: whether all of its tiles are there.
    """

    tier: Path = Path()
    is_whole: bool = False

    def build(self) -> None:
        """Do nothing: the store is in the memory of the contender's process."""

    def files(self) -> list[Path]:
        return sorted(self.tier.rglob("*.data"))

    def open(self) -> None:
        # Otherwise the commit of a former process is used, whose objects are gone.
        self.options = {**_OPTIONS, "local_tier": self.tier}
        self.entry = replace(self.entry, workdir=f"memory://bench-{os.getpid()}")  # type: ignore[arg-type]
        self.entry.frames(**self.options).prepare()
        frames = self.entry.frames(**self.options)
        height, width, _ = frames.load_frame(IMAGE_ID).shape
        for top in range(0, height, 1024):
            frames.load_region(IMAGE_ID, (slice(top, top + 1024), slice(0, width)))
        scale = 1.0
        while self.is_whole and scale * min(height, width) >= 16:
            frames.load_region(IMAGE_ID, (slice(0, height), slice(0, width)), scale=scale)
            scale /= 2
        deadline = time.monotonic() + _WAIT_SECONDS
        while self.is_whole and any(path.stat().st_mode & 0o222 for path in self.files()):
            assert time.monotonic() < deadline, "the tier is not completed"
            time.sleep(0.01)
        evict(self.files())
        fill(self.files())
        super().open()


def make_contenders(source: Path, folder: Path) -> list[Contender]:
    contenders: list[Contender] = []
    for form in _FORMS:
        entry = Entry(source, folder / "ndframes", form)
        names = {f"tier {form}, partial": False, f"tier {form}, whole": True}
        contenders.append(Local(f"disk {form}", entry.codec, entry, _OPTIONS))
        contenders += [
            Tier(name, entry.codec, entry, tier=folder / f"tier-{os.getpid()}" / name, is_whole=is_whole)
            for name, is_whole in names.items()
            # A .npy has no overviews, so it is whole once it was read.
            if is_whole or form != "npy"
        ]
    return contenders


def run_sizes(contenders: Sequence[Contender], source: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each crop size and contender."""
    references = References(source)
    results: list[dict[str, Any]] = []
    with Comparison(contenders, references) as comparison:
        for crop_px in options.sizes:
            draw = draw_anywhere(references.shape, crop_px, options.crops)
            found = comparison.run(draw, rounds=options.rounds, seed=options.seed)
            rows: list[dict[str, Any]] = []
            for item in contenders:
                row: dict[str, Any] = {
                    "contender": item.name,
                    "role": item.role,
                    "codec": item.codec,
                    "crop_px": crop_px,
                }
                if item.name in comparison.absent:
                    rows.append({**row, "status": comparison.absent[item.name]})
                    continue
                local = found.get(f"disk {item.name.split()[1].rstrip(',')}")
                ratio = None if local is None else found[item.name].ratio_to(local)
                rows.append({**row, "status": "measured", **found[item.name].summarize(), "ratio": ratio})
            cells = [
                (row["contender"], f"{row['median_us']:.0f}", times(row["ratio"]))
                for row in rows
                if row["status"] == "measured"
            ]
            print_table(f"{crop_px} px", ("", "us", "x disk"), cells)
            print_absent(rows)
            results += rows
    return results


def render(rows: Sequence[Row]) -> Page:
    """One table and one figure per crop size."""
    tables, figures = [], []
    for size in unique(row["crop_px"] for row in rows):
        mine = [row for row in rows if row["crop_px"] == size]
        cells = [[row["contender"], number(row["median_us"]), times(row["ratio"])] for row in mine]
        tables.append(Table(f"Crops of {size} px from a local tier", ["", "µs", "ratio to the disk"], cells))
        names = [row["contender"] for row in mine]
        figures.append(Dots(f"Time per crop of {size} px", "µs", names, {"crop": [row["median_us"] for row in mine]}))
    return Page(tables, figures)


def main() -> None:
    parser = make_parser(__doc__, quick="--extent 1024 --rounds 2 --crops 20 --sizes 64 256", shape=None, rounds=9)
    parser.add_argument("--extent", type=int, default=8192, help="edge of the image in pixels")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024], help="edges of the crops in pixels")
    parser.add_argument("--crops", type=int, default=100, help="crops in a round")
    options = parse_options(parser)
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.extent, options.extent))
        contenders = [item for item in make_contenders(source, folder) if is_chosen(item.name, options)]
        write_json(options, __file__, folder, run_sizes(contenders, source, options))


if __name__ == "__main__":
    main()
