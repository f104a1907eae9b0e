"""The machine, the system and the versions that results depend on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import ndframes as nf

#: Distributions that the metadata does not list by name: parts of an extra, and peers that are installed by hand.
_FURTHER_LIBRARIES = ("pyvips-binary", "stream-infer", "supervision", "torch", "torchcodec")


def describe_environment(folder: Path) -> dict[str, Any]:
    """Describe where a benchmark runs; ``folder`` is where its data is."""
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
        "libraries": {name: _find_version(name) for name in _list_libraries()},
        "gdal": _find_gdal(),
    }


def _list_libraries() -> list[str]:
    """The distributions that ndframes and its extra ``bench`` require."""
    try:
        lines = metadata.requires("ndframes") or []
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        lines = []
    chosen = [line for line in lines if "extra ==" not in line or "extra == 'bench'" in line]
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in chosen} - {"ndframes"}
    return sorted(names.union(_FURTHER_LIBRARIES))


def _find_cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def _find_file_system(folder: Path) -> str:
    """The type of the innermost mount that contains ``folder``."""
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
    except (OSError, subprocess.CalledProcessError):  # not a clone, or git is not installed
        return None
