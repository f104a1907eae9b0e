"""``ndframes doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from .._version import __version__
from ..system.mounts import file_system_of, is_remote_type
from ..system.objects.addresses import is_url
from .common import (
    echo_json,
    echo_table,
    json_option,
    show_path,
    workdir_option,
)

__all__ = ["doctor"]
# Module, distribution, and the extra that installs it; None: a required library.
_LIBRARIES = (
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
    ("obstore", "obstore", "cloud"),
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
# Docker gives a container 64 MB by default.
_LOW_SHARED_BYTES = 1 << 30
# The default of Linux; macOS starts with 256.
_LOW_OPEN_FILES = 1024
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - measured, never written


@dataclass(frozen=True, slots=True)
class _Library:
    """A library: its version, and its problem with the command that fixes it."""

    name: str
    version: str | None
    is_required: bool
    problem: str | None
    fix: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, under the keys of ``doctor --json``."""
        return {
            "name": self.name,
            "version": self.version,
            "is_needed": self.is_required,
            "problem": self.problem,
            "mend": self.fix,
        }


@click.command(short_help="Check the installation and the machine.")
@workdir_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, *, workdir: str | None, as_json: bool) -> None:
    """Check the installation and the machine: versions, disk space, memory, and settings that cause problems.

    Required libraries are imported, because an installed library may fail to load. Nothing is changed; a temporary file is
    written to the work folder, if it exists, to check that it is writable.

    Include the output in problem reports.

    \b
    For example:
      ndframes doctor
      ndframes doctor --workdir /data/work
      ndframes doctor --json | jq .advice

    Exit status: 0 no problems, 1 a required library or the work folder cannot be used.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    # First: later facts come from the modules that this imports.
    libraries = [_inspect_library(*library) for library in _LIBRARIES]
    facts: dict[str, Any] = {
        "ndframes": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "gdal": _gdal_version(),
        "parts": [library.to_dict() for library in libraries],
        "workdir": _inspect_workdir(workdir),
        "machine": _inspect_machine(),
        "processes": _inspect_processes(),
    }
    problems = _find_problems(facts, libraries)
    facts["problems"], facts["advice"] = problems, _find_advice(facts)
    if as_json:
        echo_json(facts)
    else:
        _print_facts(facts, libraries)
    if problems:
        ctx.exit(1)


def _inspect_library(module: str, distribution: str, extra: str | None) -> _Library:
    """Import a required library; look for an optional one without importing it."""
    name = module if module == distribution else f"{module} ({distribution})"
    fix = f'pip install "ndframes[{extra}]"' if extra else f"pip install {distribution}"
    if find_spec(module) is None:
        return _Library(name, None, extra is None, "not installed", fix)
    problem = _try_import(module) if extra is None else None
    return _Library(name, _version_of(module, distribution), extra is None, problem, fix if problem else None)


def _try_import(module: str) -> str | None:
    try:
        import_module(module)
    except Exception as error:  # noqa: BLE001 - any error is the problem to report
        return f"cannot be imported: {type(error).__name__}: {error}"
    return None


def _version_of(module: str, distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:  # installed by another distribution, such as opencv-python
        return str(getattr(sys.modules.get(module), "__version__", "version unknown"))


def _gdal_version() -> str | None:
    return getattr(sys.modules.get("rasterio"), "__gdal_version__", None)


def _inspect_workdir(workdir: str | None) -> dict[str, Any]:
    from ..cache.layout import default_workdir

    place = default_workdir() if workdir is None else workdir
    if is_url(place):
        return _inspect_store(str(place))
    path = Path(place).absolute()
    # A work folder that does not exist yet will be on the disk of the nearest folder above it.
    existing = path
    while not os.path.exists(existing) and existing != existing.parent:
        existing = existing.parent
    usage = shutil.disk_usage(existing)
    return {
        "path": str(path),
        "exists": existing == path,
        "is_writable": existing.is_dir() and _is_writable(existing, probe=existing == path),
        "free_bytes": usage.free,
        "total_bytes": usage.total,
        "file_system": file_system_of(existing),
    }


def _inspect_store(url: str) -> dict[str, Any]:
    """The facts of a workdir in an object store. Nothing is written to it, so whether that is allowed is not known."""
    from ..cache.cache import Cache
    from ..errors import NdframesError

    facts = {"path": url, "free_bytes": None, "total_bytes": None, "file_system": "an object store"}
    try:
        exists = Cache(url).has_marks()
    except NdframesError as error:
        return {**facts, "exists": False, "is_writable": False, "problem": str(error)}
    return {**facts, "exists": exists, "is_writable": True}


def _is_writable(folder: Path, *, probe: bool) -> bool:
    # Write a file if possible: access() does not know about quotas, or about permissions on a network mount.
    if not probe:
        return os.access(folder, os.W_OK | os.X_OK)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"ndframes")
    except OSError:
        return False
    return True


def _inspect_machine() -> dict[str, Any]:
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
    except ImportError:  # Windows
        return None, None
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def _memory_bytes() -> int | None:
    """The memory of the machine, or the limit of the container."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        # In a container, this path shows its own group.
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no control group, or "max"
        return total
    return min(total, limit)


def _inspect_processes() -> dict[str, Any]:
    import multiprocessing

    cv2: Any = sys.modules.get("cv2")
    return {
        "start_method": multiprocessing.get_context().get_start_method(),
        "cv2_threads": cv2.getNumThreads() if cv2 is not None else None,
        "environment": {name: os.environ.get(name) for name in _VARIABLES},
    }


def _find_problems(facts: dict[str, Any], libraries: list[_Library]) -> list[str]:
    """Reasons why ndframes cannot work."""
    found = [
        f"{library.name}: {library.problem}; fix: {library.fix}"
        for library in libraries
        if library.is_required and library.fix
    ]
    workdir = facts["workdir"]
    if "problem" in workdir:
        found.append(f"workdir {workdir['problem']}")
    elif not workdir["is_writable"]:
        found.append(f"workdir {workdir['path']} is not writable; choose another with --workdir or NDFRAMES_WORKDIR")
    return found


def _find_advice(facts: dict[str, Any]) -> list[str]:
    """Settings that work, but may cause problems."""
    from ..text import format_bytes

    workdir, machine, processes = facts["workdir"], facts["machine"], facts["processes"]
    advice = []
    if workdir["free_bytes"] is not None and workdir["free_bytes"] < _LOW_FREE_BYTES:
        advice.append(f"the disk of the workdir has only {format_bytes(workdir['free_bytes'])} free")
    kind = workdir["file_system"] or ""
    if is_remote_type(kind):
        advice.append(f"the workdir is on {kind}, a network or user-space file system; a local disk is faster")
    if kind in ("tmpfs", "ramfs"):
        advice.append(f"the workdir is on {kind}: it uses memory, and is lost on a restart")
    soft = machine["open_files_soft"]
    if soft is not None and 0 <= soft < _LOW_OPEN_FILES:
        advice.append(f"the limit of open files is {soft:,}; raise it with 'ulimit -n 4096'")
    shared = machine["shared_memory_bytes"]
    if shared is not None and shared < _LOW_SHARED_BYTES:
        advice.append(
            f"{_SHARED_MEMORY} has only {format_bytes(shared)}, and data loaders pass batches through it; in a container, use "
            "--shm-size=8g or --ipc=host"
        )
    if processes["start_method"] == "fork":
        advice.append(
            "the start method of processes is fork: ndframes reopens its files in the child, but the threads of other "
            "libraries are lost; if workers hang, use multiprocessing_context='spawn' or 'forkserver'"
        )
    if machine["cores"] > 1 and processes["environment"]["OMP_NUM_THREADS"] is None:
        advice.append(
            f"OMP_NUM_THREADS is not set: each worker process may start {machine['cores']} threads of its own; set it to 1, and "
            "call cv2.setNumThreads(0) in workers"
        )
    return advice


def _describe_space(workdir: dict[str, Any]) -> str:
    from ..text import format_bytes

    if workdir["free_bytes"] is None:
        return "not limited"
    return f"{format_bytes(workdir['free_bytes'])} of {format_bytes(workdir['total_bytes'])}"


def _print_facts(facts: dict[str, Any], libraries: list[_Library]) -> None:
    from ..text import format_bytes

    workdir, machine, processes = facts["workdir"], facts["machine"], facts["processes"]
    state = "exists" if workdir["exists"] else "does not exist yet"
    if "problem" in workdir:
        state = "cannot be asked"
    writable = "writable" if workdir["is_writable"] else "NOT writable"
    if workdir["free_bytes"] is None:
        is_http = workdir["path"].lower().startswith("http")
        writable = "read-only" if is_http else "writes are tried when the first entry is published"
    total, shared = machine["memory_bytes"], machine["shared_memory_bytes"]
    echo_table(
        {
            "ndframes": facts["ndframes"],
            "python": f"{facts['python']}, {show_path(facts['executable'])}",
            "platform": facts["platform"],
            "GDAL": f"{facts['gdal'] or 'not found'} (bundled with rasterio)",
            **{library.name: _describe_library(library) for library in libraries},
        }
    )
    click.echo()
    echo_table(
        {
            "workdir": f"{show_path(workdir['path'])}: {state}, {writable}",
            "free space": _describe_space(workdir),
            "file system": workdir["file_system"] or "unknown",
            "cores": machine["cores"],
            "memory": "unknown" if total is None else format_bytes(total),
            "open files": f"{_describe_limit(machine['open_files_soft'])}, can be raised to {_describe_limit(machine['open_files_hard'])}",
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
        click.echo("\nno problems found")


def _describe_library(library: _Library) -> str:
    if library.problem is None:
        return str(library.version)
    kind = "" if library.is_required else "optional, "
    return f"{kind}{library.problem}; {library.fix}"


def _describe_limit(limit: int | None) -> str:
    if limit is None:
        return "unknown"
    return "no limit" if limit < 0 else f"{limit:,}"
