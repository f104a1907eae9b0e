"""What comes of a benchmark: tables for people, JSON for ``report.py``, and a description of where it was measured."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import ndframes as nf

_LIBRARIES = (
    "async-tiff",
    "av",
    "decord",
    "imagecodecs",
    "matplotlib",
    "ndsampler",
    "numpy",
    "opencv-python-headless",
    "pyvips",
    "pyvips-binary",
    "rasterio",
    "rio-cogeo",
    "tensorstore",
    "tifffile",
    "torch",
    "torchcodec",
    "zarr",
)


def make_parser(doc: str, *, shape: tuple[int, int] | None = (16384, 12288)) -> argparse.ArgumentParser:
    """The options that every benchmark has; ``shape`` is the default one of the image, ``None`` where it has several."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the data here, to use it again; else in a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="contenders with one of these in their name")
    if shape is not None:
        parser.add_argument("--height", type=int, default=shape[0], help="of the image, in pixels")
        parser.add_argument("--width", type=int, default=shape[1], help="of the image, in pixels")
    return parser


def is_chosen(name: str, options: argparse.Namespace) -> bool:
    """Whether ``--only`` leaves a contender of this name in."""
    return options.only is None or any(text in name for text in options.only)


def is_installed(module: str) -> bool:
    """Whether a module could be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package that it is in is missing
        return False


@contextmanager
def open_folder(options: argparse.Namespace) -> Iterator[Path]:
    """The folder for data: the one that was named, which stays, or one that goes."""
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        yield options.folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="ndframes-bench-") as folder:
        yield Path(folder).resolve()


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns of text, the first one to the left, the others to the right."""
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
    """Who did not take part, and why: nobody is left out in silence."""
    for row in rows:
        if row["status"] != "measured":
            print(f"{row['contender']}: {row['status']}")


def write_json(options: argparse.Namespace, name: str, folder: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write what was found where ``--json`` says, with all that it depends on."""
    if options.json is None:
        return
    parameters = {key: value for key, value in vars(options).items() if key not in ("folder", "json")}
    outcome = {
        "benchmark": name,
        "parameters": parameters,
        "environment": describe_environment(folder),
        "results": list(results),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(outcome, indent=1, default=str) + "\n")


def describe_environment(folder: Path) -> dict[str, Any]:
    """The machine, the system, the versions, the disk and the day."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _find_cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "load_average": os.getloadavg(),
        "system": platform.platform(),
        "file_system": _find_file_system(folder),
        "python": platform.python_version(),
        "ndframes": nf.__version__,
        "commit": _find_commit(),
        "libraries": {name: _find_version(name) for name in _LIBRARIES},
        "gdal": _find_gdal(),
    }


def _find_cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _find_file_system(folder: Path) -> str:
    """The type of the mount that ``folder`` lies on, the deepest one."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    above = {str(parent) for parent in (folder, *folder.parents)}
    return max((mount for mount in mounts if mount[0] in above), key=lambda mount: len(mount[0]))[1]


def _find_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _find_gdal() -> str | None:
    try:
        import rasterio
    except ModuleNotFoundError:
        return None
    return rasterio.__gdal_version__


def _find_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # not a clone, or no git
        return None
