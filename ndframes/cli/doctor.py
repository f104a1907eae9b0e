"""``ndframes doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from .._version import __version__
from ..system.mounts import file_system_of, is_remote_type
from .common import (
    echo_json,
    echo_table,
    json_option,
    show_path,
    workdir_option,
)

__all__ = ["doctor"]
# module, distribution, and the extra that brings it; no extra: it is needed.
_PARTS = (
    ("numpy", "numpy", None),
    ("rasterio", "rasterio", None),
    ("tifffile", "tifffile", None),
    ("imagecodecs", "imagecodecs", None),
    ("cv2", "opencv-python-headless", None),
    ("av", "av", None),
    ("filelock", "filelock", None),
    ("click", "click", None),
    ("ubelt", "ubelt", None),
    ("kwimage", "kwimage", None),
    ("kwcoco", "kwcoco", None),
    ("skimage", "scikit-image", "demo"),
    ("distributed", "distributed", "dask"),
)
_VARIABLES = (
    "NDFRAMES_WORKDIR",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
    "GDAL_CACHEMAX",
    "GDAL_NUM_THREADS",
)
_LOW_FREE_BYTES = 10 * 10**9
_LOW_SHARED_BYTES = 1 << 30
_LOW_OPEN_FILES = 1024
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, never written


@dataclass(frozen=True, slots=True)
class _Part:
    """One library: what is there of it, and the line that mends it where that is not enough."""

    name: str
    version: str | None
    is_needed: bool
    problem: str | None
    mend: str | None


@click.command(short_help="Look this installation and this machine over.")
@workdir_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, workdir: str | None, as_json: bool) -> None:
    """Look this installation and this machine over: versions, disk, memory, and settings that bite.

    Every needed library is really imported, since one that is there may still not load. Nothing is changed; a
    temporary file is written into the work folder, if that exists, to see whether it can be.

    Advice is printed last. Put the output into a report about a problem.

    \b
    In use:
      ndframes doctor
      ndframes doctor --workdir /data/work
      ndframes doctor --json | jq .advice

    Exit status: 0 all that is needed is there, 1 something that is needed is not.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    parts = [_examine(*part) for part in _PARTS]
    facts: dict[str, Any] = {
        "ndframes": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "gdal": _gdal_version(),
        "parts": [asdict(part) for part in parts],
        "workdir": _look_at_workdir(workdir),
        "machine": _look_at_machine(),
        "processes": _look_at_processes(),
    }
    problems = _find_problems(facts, parts)
    facts["problems"], facts["advice"] = problems, _advise(facts)
    if as_json:
        echo_json(facts)
    else:
        _print_facts(facts, parts)
    if problems:
        ctx.exit(1)


def _examine(module: str, distribution: str, extra: str | None) -> _Part:
    """Import a needed library, and look for an optional one."""
    name = module if module == distribution else f"{module} ({distribution})"
    mend = f'pip install "ndframes[{extra}]"' if extra else f"pip install {distribution}"
    if find_spec(module) is None:
        return _Part(name, None, extra is None, "not installed", mend)
    problem = _try_import(module) if extra is None else None
    return _Part(name, _version_of(module, distribution), extra is None, problem, mend if problem else None)


def _try_import(module: str) -> str | None:
    try:
        import_module(module)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong with this library
        return f"does not import: {type(error).__name__}: {error}"
    return None


def _version_of(module: str, distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # another distribution brings this module, such as opencv-python
        return str(getattr(sys.modules.get(module), "__version__", "version unknown"))


def _gdal_version() -> str | None:
    return getattr(sys.modules.get("rasterio"), "__gdal_version__", None)


def _look_at_workdir(workdir: str | None) -> dict[str, Any]:
    from ..cache.layout import default_workdir

    path = (default_workdir() if workdir is None else Path(workdir)).absolute()
    there = path
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    usage = shutil.disk_usage(there)
    return {
        "path": str(path),
        "exists": there == path,
        "is_writable": there.is_dir() and _is_writable(there, probe=there == path),
        "free_bytes": usage.free,
        "total_bytes": usage.total,
        "file_system": file_system_of(there),
    }


def _is_writable(folder: Path, *, probe: bool) -> bool:
    if not probe:
        return os.access(folder, os.W_OK | os.X_OK)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"ndframes")
    except OSError:
        return False
    return True


def _look_at_machine() -> dict[str, Any]:
    from ..system.process import core_count

    soft, hard = _open_file_limits()
    return {
        "cores": core_count(),
        "memory_bytes": _memory_bytes(),
        "open_files_soft": soft,
        "open_files_hard": hard,
        "shared_memory_bytes": shutil.disk_usage(_SHARED_MEMORY).total if os.path.isdir(_SHARED_MEMORY) else None,
    }


def _open_file_limits() -> tuple[int | None, int | None]:
    try:
        import resource
    except ImportError:  # not on Windows
        return None, None
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def _memory_bytes() -> int | None:
    """The machine's memory, or what a container may use of it."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no such limit, or "max"
        return total
    return min(total, limit)


def _look_at_processes() -> dict[str, Any]:
    import multiprocessing

    cv2: Any = sys.modules.get("cv2")
    return {
        "start_method": multiprocessing.get_context().get_start_method(),
        "cv2_threads": cv2.getNumThreads() if cv2 is not None else None,
        "environment": {name: os.environ.get(name) for name in _VARIABLES},
    }


def _find_problems(facts: dict[str, Any], parts: list[_Part]) -> list[str]:
    """What keeps ndframes from working."""
    found = [
        f"{part.name}: {part.problem}; mend it with: {part.mend}" for part in parts if part.is_needed and part.mend
    ]
    workdir = facts["workdir"]
    if not workdir["is_writable"]:
        found.append(f"workdir {workdir['path']} cannot be written; choose another with --workdir or NDFRAMES_WORKDIR")
    return found


def _advise(facts: dict[str, Any]) -> list[str]:
    """What will work, but may bite."""
    from ..text import format_bytes

    workdir, machine, processes = facts["workdir"], facts["machine"], facts["processes"]
    advice = []
    if workdir["free_bytes"] < _LOW_FREE_BYTES:
        advice.append(f"the workdir's disk has {format_bytes(workdir['free_bytes'])} left; entries need room")
    kind = workdir["file_system"] or ""
    if is_remote_type(kind):
        advice.append(f"the workdir lies on {kind}, a network or user-space file system; a local disk is quicker")
    if kind in ("tmpfs", "ramfs"):
        advice.append(f"the workdir lies on {kind}: it takes memory, and is gone after a restart")
    soft = machine["open_files_soft"]
    if soft is not None and 0 <= soft < _LOW_OPEN_FILES:
        advice.append(f"at most {soft:,} files may be open; 'ulimit -n 4096' gives room")
    shared = machine["shared_memory_bytes"]
    if shared is not None and shared < _LOW_SHARED_BYTES:
        advice.append(
            f"{_SHARED_MEMORY} has {format_bytes(shared)}; data loaders pass batches through it "
            "(in a container: --shm-size=8g or --ipc=host)"
        )
    if processes["start_method"] == "fork":
        advice.append(
            "processes start by fork: ndframes reopens its files in the child, but other libraries' threads do not "
            "survive; where workers hang, use multiprocessing_context='spawn' or 'forkserver'"
        )
    if machine["cores"] > 1 and processes["environment"]["OMP_NUM_THREADS"] is None:
        advice.append(
            f"OMP_NUM_THREADS is not set: with one worker a core, each starts up to {machine['cores']} threads more; "
            "set it to 1, and call cv2.setNumThreads(0) in workers"
        )
    return advice


def _print_facts(facts: dict[str, Any], parts: list[_Part]) -> None:
    from ..text import format_bytes

    workdir, machine, processes = facts["workdir"], facts["machine"], facts["processes"]
    state = "is there" if workdir["exists"] else "not there yet"
    writable = "writable" if workdir["is_writable"] else "NOT writable"
    total, shared = machine["memory_bytes"], machine["shared_memory_bytes"]
    echo_table(
        {
            "ndframes": facts["ndframes"],
            "python": f"{facts['python']}, {show_path(facts['executable'])}",
            "platform": facts["platform"],
            "GDAL": f"{facts['gdal'] or 'not there'}, inside rasterio",
            **{part.name: _describe_part(part) for part in parts},
        }
    )
    click.echo()
    echo_table(
        {
            "workdir": f"{show_path(workdir['path'])}: {state}, {writable}",
            "free space": f"{format_bytes(workdir['free_bytes'])} of {format_bytes(workdir['total_bytes'])}",
            "file system": workdir["file_system"] or "unknown",
            "cores": machine["cores"],
            "memory": "unknown" if total is None else format_bytes(total),
            "open files": f"{_count(machine['open_files_soft'])}, can be raised to {_count(machine['open_files_hard'])}",
            _SHARED_MEMORY: "none" if shared is None else format_bytes(shared),
            "start method": processes["start_method"],
            "cv2 threads": "unknown" if processes["cv2_threads"] is None else processes["cv2_threads"],
            **{name: "not set" if value is None else value for name, value in processes["environment"].items()},
        }
    )
    for heading, lines in (("problems", facts["problems"]), ("advice", facts["advice"])):
        if lines:
            click.echo(f"\n{heading}:")
            for line in lines:
                click.echo(click.wrap_text(line, 100, initial_indent="- ", subsequent_indent="  "))
    if not facts["problems"]:
        click.echo("\nall that is needed is there")


def _describe_part(part: _Part) -> str:
    if part.problem is None:
        return str(part.version)
    kind = "" if part.is_needed else "optional, "
    return f"{kind}{part.problem}; {part.mend}"


def _count(limit: int | None) -> str:
    if limit is None:
        return "unknown"
    return "no limit" if limit < 0 else f"{limit:,}"
