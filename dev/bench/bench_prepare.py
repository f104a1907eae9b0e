"""Filling the cache: time, memory and output size of ``prepare()``, against other writers of COGs.

The source is an uncompressed tiled TIFF of the mosaic, in the page cache. With ``--source png`` or ``jpg`` it is a file that
must be decoded from its beginning. Every tool runs in a new process on two cores, in interleaved rounds, and writes the same
codec with the same effort, the same tile size, and overviews by averaging:

- ``Frames.prepare()``, which also verifies what it wrote and waits until it is on the disk;
- ``rio cogeo create``, and GDAL's COG driver through rasterio, which do neither;
- the baseline: copying the bytes of the source, with and without waiting for the disk.

"MB" is the peak memory of the process (``ru_maxrss``; of a tree of processes the largest one; at least this script's own
50 MB). "idle" starts Python and imports rasterio (or rio-cogeo), which all other results include. Outputs are compared with
the source: lossless ones must be equal; for JPEG the mean difference is reported (all have quality 90, but some subsample
the chroma). The task *growth* measures memory for images of growing size.

    pip install ".[bench]"
    python dev/bench/bench_prepare.py --folder /var/tmp/bench --json dev/bench/results/prepare.json
    python dev/bench/bench_prepare.py --quick
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.mosaic import ensure_flat, ensure_mosaic, ensure_tiff
from kit.options import is_chosen, is_installed, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.pagecache import fill
from ndframes.spec.backends import Backend
from pages.figures import Dots, Lines
from pages.page import Page, Row, Table, number, times, unique
from peers import converters

_COG_TOOLS = ("ndframes", "rio cogeo", "gdal cog")
_ROLES = {"ndframes": "ndframes", "rio cogeo": "peer", "gdal cog": "peer"}
_CODECS = ("ZSTD", "DEFLATE", "NONE", "JPEG")
_REQUIRES = {"rio cogeo": "rio_cogeo", "idle rio cogeo": "rio_cogeo", "gdal cog": "rasterio"}


@dataclass(frozen=True)
class Conversion:
    """A tool of ``peers/converters.py``, a codec, and whether to write overviews."""

    tool: str
    compress: str = ""
    overviews: bool = True

    @property
    def name(self) -> str:
        """In tables."""
        return " ".join(filter(None, (self.tool, self.compress.lower(), "" if self.overviews else "no overviews")))

    @property
    def status(self) -> str:
        """``"measured"``, or why it is not."""
        module = _REQUIRES.get(self.tool, "os")
        return "measured" if is_installed(module) else f"not installed: {module}"


@dataclass(frozen=True)
class Run:
    """The cost of one run."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    output_bytes: int


def make_conversions() -> list[Conversion]:
    """The conversions of the task *prepare*."""
    found = [Conversion(tool) for tool in ("idle", "idle rio cogeo", "copy", "copy, fsync")]
    found.append(Conversion("ndframes", "NPY"))
    found += [Conversion(tool, codec) for codec in _CODECS for tool in _COG_TOOLS]
    return found + [Conversion(tool, "ZSTD", overviews=False) for tool in _COG_TOOLS]


def make_growth_conversions() -> list[Conversion]:
    """The conversions of the task *growth*."""
    return [Conversion("ndframes", codec) for codec in ("NPY", "NONE", "ZSTD")] + [
        Conversion(tool, "ZSTD") for tool in _COG_TOOLS if tool != "ndframes"
    ]


def make_source(folder: Path, shape: tuple[int, int], suffix: str) -> Path:
    """Make the file to convert, in a child process: ``ru_maxrss`` of later children starts at this process's own peak."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        mosaic = pool.submit(ensure_mosaic, folder, shape).result()
        if suffix == ".tif":
            return pool.submit(ensure_tiff, mosaic).result()
        return pool.submit(ensure_flat, mosaic, suffix).result()


def run_once(
    conversion: Conversion, source: Path, folder: Path, options: argparse.Namespace, *, is_checked: bool
) -> tuple[Run, float | None]:
    """Run a conversion; if ``is_checked``, also return the mean difference of its pixels."""
    fill([source])
    os.sync()  # so that this run does not wait for data that the previous one wrote
    target_folder = Path(tempfile.mkdtemp(prefix="prepared-", dir=folder))
    try:
        target = target_folder if conversion.tool == "ndframes" else target_folder / "out.tif"
        run = _measure(_command(conversion, source, target, options), target_folder)
        difference = None
        if is_checked and conversion.compress:
            difference = _check(conversion, source, target_folder, options)
    finally:
        shutil.rmtree(target_folder)
    return run, difference


def run_rounds(
    conversions: Sequence[Conversion], source: Path, folder: Path, options: argparse.Namespace, rounds: int
) -> list[dict[str, Any]]:
    """Run every conversion once per round, starting with another one each time."""
    present = [item for item in conversions if item.status == "measured"]
    runs: dict[Conversion, list[Run]] = {item: [] for item in present}
    differences = {}
    for round_number in range(rounds):
        start = round_number % max(1, len(present))
        for item in present[start:] + present[:start]:
            run, difference = run_once(item, source, folder, options, is_checked=not runs[item])
            runs[item].append(run)
            differences.setdefault(item, difference)
    return [
        {"contender": item.name, "tool": item.tool, "codec": item.compress.lower(), "overviews": item.overviews}
        | {"role": _ROLES.get(item.tool, "baseline"), "status": item.status}
        | (summarize(runs[item], differences[item]) if item in runs else {})
        for item in conversions
    ]


def summarize(runs: Sequence[Run], difference: float | None) -> dict[str, Any]:
    return {
        "wall_seconds": statistics.median(run.wall_seconds for run in runs),
        "all_wall_seconds": [run.wall_seconds for run in runs],
        "cpu_seconds": statistics.median(run.cpu_seconds for run in runs),
        "peak_bytes": max(run.peak_bytes for run in runs),
        "output_bytes": runs[0].output_bytes,
        "mean_difference": difference,
    }


def add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    """Add to each peer's row its time divided by that of ndframes with the same codec and overviews."""
    own = {(row["codec"], row["overviews"]): row for row in rows if row["role"] == "ndframes"}
    for row in rows:
        mine = own.get((row["codec"], row["overviews"]))
        if row["role"] == "peer" and row["status"] == "measured" and mine is not None:
            row["ratio_to_ndframes"] = row["wall_seconds"] / mine["wall_seconds"]


def print_results(title: str, rows: Sequence[dict[str, Any]]) -> None:
    header = ("", "wall s", "cpu s", "MB", "output MB", "x ndframes", "difference")
    cells = [
        (
            row["contender"],
            f"{row['wall_seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['output_bytes'] / 1e6:.1f}",
            f"{row['ratio_to_ndframes']:.2f}" if "ratio_to_ndframes" in row else "",
            "" if row["mean_difference"] is None else f"{row['mean_difference']:.3g}",
        )
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(title, header, cells)
    print_absent(rows)


def _command(conversion: Conversion, source: Path, target: Path, options: argparse.Namespace) -> list[str]:
    command = [sys.executable, converters.__file__, conversion.tool, str(source), str(target)]
    command += ["--compress", conversion.compress, "--overviews" if conversion.overviews else "--no-overviews"]
    return [*command, "--blocksize", str(options.blocksize), "--threads", str(options.threads)]


def _measure(command: list[str], target_folder: Path) -> Run:
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    output_bytes = sum(path.stat().st_size for path in target_folder.rglob("*") if path.is_file())
    return Run(wall_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output_bytes)


def _check(conversion: Conversion, source: Path, target_folder: Path, options: argparse.Namespace) -> float:
    """Return the mean difference of a pixel, which must be 0 for a lossless codec."""
    suffix = ".npy" if conversion.compress == "NPY" else ".tif"
    target = next(target_folder.rglob(f"*{suffix}"))
    command = _command(Conversion("check"), source, target, options)
    difference = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert conversion.compress == "JPEG" or difference == 0, f"{conversion.name}: pixels differ from the source"
    return difference


def run_growth(folder: Path, options: argparse.Namespace, choose: Callable[[Conversion], bool]) -> list[dict[str, Any]]:
    """Run each conversion once on square images of growing size."""
    results = []
    for extent in options.extents:
        source = make_source(folder, (extent, extent), ".tif")
        conversions = [item for item in make_growth_conversions() if choose(item)]
        rows = run_rounds(conversions, source, folder, options, 1)
        add_ratios(rows)
        print_results(f"growth: {extent} x {extent} pixels", rows)
        results += [{"job": "growth", "extent_px": extent, **row} for row in rows]
    return results


def render(rows: Sequence[Row]) -> Page:
    """Times and memory of each conversion, and memory by image size."""
    prepared = [row for row in rows if row["job"] == "prepare"]
    cells = [
        [
            row["contender"],
            f"{row['wall_seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            number(row["peak_bytes"] / 1e6),
            number(row["output_bytes"] / 1e6),
            times(row.get("ratio_to_ndframes")),
        ]
        for row in prepared
    ]
    header = ["", "wall s", "cpu s", "peak MB", "output MB", "ratio to ndframes"]
    names, seconds = [row["contender"] for row in prepared], [row["wall_seconds"] for row in prepared]
    tables = [Table("Filling the cache", header, cells)]
    figures: list[Dots | Lines] = [Dots("Time of filling the cache", "seconds", names, {"wall": seconds})]
    growth = [row for row in rows if row["job"] == "growth"]
    if growth:
        series = {
            name: [(row["extent_px"], row["peak_bytes"] / 1e6) for row in growth if row["contender"] == name]
            for name in unique(row["contender"] for row in growth)
        }
        tables.append(make_growth_table("Peak memory in MB, by the edge of a square image", series))
        figures.append(Lines("Peak memory of filling the cache", "edge of the image in pixels", "MB", series))
    return Page(tables, figures)


def make_growth_table(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> Table:
    extents = unique(extent for points in series.values() for extent, _ in points)
    cells = [
        [name, *(number(dict(points)[extent]) if extent in dict(points) else "" for extent in extents)]
        for name, points in series.items()
    ]
    return Table(title, ["", *(f"{extent:,} px" for extent in extents)], cells)


def main() -> None:
    quick = "--height 1024 --width 1536 --rounds 1 --extents 512 1024"
    parser = make_parser(__doc__, quick=quick, rounds=3)
    parser.add_argument("--threads", type=int, default=2, help="cores of each process")
    own_extent = Backend(type="cog").tile_extent_for(np.dtype(np.uint8), 3)
    parser.add_argument(
        "--blocksize", type=int, default=own_extent, help="edge of all tools' tiles in pixels; default: ndframes' own"
    )
    parser.add_argument("--source", choices=["tif", "png", "jpg"], default="tif", help="format of the source")
    parser.add_argument("--extents", type=int, nargs="*", default=[4096, 8192, 16384], help="of growing images")
    options = parse_options(parser)

    def choose(item: Conversion) -> bool:
        return is_chosen(item.name, options)

    with open_folder(options) as folder:
        source = make_source(folder, (options.height, options.width), f".{options.source}")
        conversions = [item for item in make_conversions() if choose(item)]
        rows = run_rounds(conversions, source, folder, options, options.rounds)
        add_ratios(rows)
        print_results(f"prepare: {source.name}, {source.stat().st_size / 1e6:.0f} MB", rows)
        results = [{"job": "prepare", **row} for row in rows] + run_growth(folder, options, choose)
        write_json(options, __file__, folder, results)


if __name__ == "__main__":
    main()
