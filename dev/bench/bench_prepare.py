"""What filling the cache costs: wall time, memory and output of ``prepare()``, against other makers of COGs.

The source is an uncompressed tiled TIFF of the mosaic, in the page cache (``--source png`` or ``jpg``: one that has to be
decoded from its beginning). Every tool runs in a process of its own, in turn, on two cores, and writes the same codec at the
same effort, the same tiles and overviews by averaging:

- ``Frames.prepare()``, which also checks what it wrote, and waits until it is on the disk;
- ``rio cogeo create``, and GDAL's COG driver by way of rasterio, which do neither;
- the limit: copying the source's bytes, without waiting for the disk and with.

"MB" is the most that the process had in memory (``ru_maxrss``; of a tree of processes the largest one, and no less than
this script's own 50 MB); "idle" is what starting Python with rasterio (with rio-cogeo) takes, which is in all the others.
Outputs are compared with the source: a lossless one must be equal, of a JPEG the mean difference is told (all are of
quality 90, but may keep colours at another resolution). ``growth`` is the memory over images of growing size.

    pip install ".[bench]"
    python dev/bench/bench_prepare.py --folder /var/tmp/bench --json dev/bench/results/prepare.json
    python dev/bench/bench_prepare.py --height 1024 --width 1536 --rounds 1 --extents 512 1024     # a look
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
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mosaic import ensure_flat, ensure_mosaic, ensure_tiff
from outcome import is_chosen, is_installed, make_parser, open_folder, print_absent, print_table, write_json
from pagecache import fill

from ndframes.spec.backends import Backend

_SCRIPT = Path(__file__).with_name("conversions.py")
_COG_TOOLS = ("ndframes", "rio cogeo", "gdal cog")
_SIDES = {"ndframes": "ndframes", "rio cogeo": "peer", "gdal cog": "peer"}
_CODECS = ("ZSTD", "DEFLATE", "NONE", "JPEG")
_REQUIRES = {"rio cogeo": "rio_cogeo", "idle rio cogeo": "rio_cogeo", "gdal cog": "rasterio"}


@dataclass(frozen=True)
class Job:
    """One way of converting: a tool of ``conversions.py``, a codec, and whether with overviews."""

    tool: str
    compress: str = ""
    overviews: bool = True

    @property
    def name(self) -> str:
        """As tables call it."""
        return " ".join(filter(None, (self.tool, self.compress.lower(), "" if self.overviews else "no overviews")))

    @property
    def status(self) -> str:
        """``"measured"``, or why it is not."""
        module = _REQUIRES.get(self.tool, "os")
        return "measured" if is_installed(module) else f"not installed: {module}"


@dataclass(frozen=True)
class Run:
    """What one run took."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    output_bytes: int


def make_jobs() -> list[Job]:
    jobs = [Job("idle"), Job("idle rio cogeo"), Job("copy"), Job("copy, fsync"), Job("ndframes", "NPY")]
    jobs += [Job(tool, codec) for codec in _CODECS for tool in _COG_TOOLS]
    return jobs + [Job(tool, "ZSTD", overviews=False) for tool in _COG_TOOLS]


def make_growth_jobs() -> list[Job]:
    return [Job("ndframes", codec) for codec in ("NPY", "NONE", "ZSTD")] + [
        Job(tool, "ZSTD") for tool in _COG_TOOLS if tool != "ndframes"
    ]


def make_source(folder: Path, shape: tuple[int, int], suffix: str) -> Path:
    """The file to convert. Made in a child: a child's peak memory is never told to be less than its parent's was."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        mosaic = pool.submit(ensure_mosaic, folder, shape).result()
        if suffix == ".tif":
            return pool.submit(ensure_tiff, mosaic).result()
        return pool.submit(ensure_flat, mosaic, suffix).result()


def run_job(
    job: Job, source: Path, folder: Path, options: argparse.Namespace, *, is_checked: bool
) -> tuple[Run, float | None]:
    """Run once; also, if asked for, the mean difference of a pixel."""
    fill([source])
    os.sync()  # what the job before has written shall not be this one's burden
    target_folder = Path(tempfile.mkdtemp(prefix="prepared-", dir=folder))
    try:
        target = target_folder if job.tool == "ndframes" else target_folder / "out.tif"
        run = _measure(_command(job, source, target, options), target_folder)
        difference = _check(job, source, target_folder, options) if is_checked and job.compress else None
    finally:
        shutil.rmtree(target_folder)
    return run, difference


def run_rounds(
    jobs: Sequence[Job], source: Path, folder: Path, options: argparse.Namespace, rounds: int
) -> list[dict[str, Any]]:
    """Every job once a round, the first one moved on by one each time."""
    present = [job for job in jobs if job.status == "measured"]
    runs: dict[Job, list[Run]] = {job: [] for job in present}
    differences = {}
    for number in range(rounds):
        start = number % max(1, len(present))
        for job in present[start:] + present[:start]:
            run, difference = run_job(job, source, folder, options, is_checked=not runs[job])
            runs[job].append(run)
            differences.setdefault(job, difference)
    return [
        {"contender": job.name, "tool": job.tool, "codec": job.compress.lower(), "overviews": job.overviews}
        | {"side": _SIDES.get(job.tool, "limit"), "status": job.status}
        | (summarize(runs[job], differences[job]) if job in runs else {})
        for job in jobs
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
    """To each peer's row, how many times as long it takes as ndframes with the same codec and overviews."""
    own = {(row["codec"], row["overviews"]): row for row in rows if row["side"] == "ndframes"}
    for row in rows:
        mine = own.get((row["codec"], row["overviews"]))
        if row["side"] == "peer" and row["status"] == "measured" and mine is not None:
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


def _command(job: Job, source: Path, target: Path, options: argparse.Namespace) -> list[str]:
    command = [sys.executable, str(_SCRIPT), job.tool, str(source), str(target), "--compress", job.compress]
    command += ["--overviews" if job.overviews else "--no-overviews"]
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


def _check(job: Job, source: Path, target_folder: Path, options: argparse.Namespace) -> float:
    """The mean difference of a pixel, which must be 0 where nothing may be lost."""
    suffix = ".npy" if job.compress == "NPY" else ".tif"
    target = next(target_folder.rglob(f"*{suffix}"))
    command = _command(Job("check"), source, target, options)
    difference = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert job.compress == "JPEG" or difference == 0, f"{job.name} gives other pixels than its source has"
    return difference


def run_growth(folder: Path, options: argparse.Namespace, choose: Callable[[Job], bool]) -> list[dict[str, Any]]:
    """Each job once on square images of growing size."""
    results = []
    for extent in options.extents:
        source = make_source(folder, (extent, extent), ".tif")
        rows = run_rounds([job for job in make_growth_jobs() if choose(job)], source, folder, options, 1)
        add_ratios(rows)
        print_results(f"growth: {extent} x {extent}", rows)
        results += [{"job": "growth", "extent_px": extent, **row} for row in rows]
    return results


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    own_extent = Backend(type="cog").tile_extent_for(np.dtype(np.uint8), 3)
    parser.add_argument("--blocksize", type=int, default=own_extent, help="edge of all tools' tiles: ndframes' default")
    parser.add_argument("--source", choices=["tif", "png", "jpg"], default="tif")
    parser.add_argument("--extents", type=int, nargs="*", default=[4096, 8192, 16384], help="of growing images")
    options = parser.parse_args()

    def choose(job: Job) -> bool:
        return is_chosen(job.name, options)

    with open_folder(options) as folder:
        source = make_source(folder, (options.height, options.width), f".{options.source}")
        rows = run_rounds([job for job in make_jobs() if choose(job)], source, folder, options, options.rounds)
        add_ratios(rows)
        print_results(f"prepare: {source.name}, {source.stat().st_size / 1e6:.0f} MB", rows)
        results = [{"job": "prepare", **row} for row in rows] + run_growth(folder, options, choose)
        write_json(options, "prepare", folder, results)


if __name__ == "__main__":
    main()
