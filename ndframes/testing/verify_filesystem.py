"""Check whether a file system meets the requirements of the cache: ``python -m ndframes.testing.verify_filesystem DIR``.

Probes test single properties first; then the experiments of :mod:`~ndframes.testing.experiments.harness` test the cache as
a whole. Everything happens in a new folder under ``DIR``, which is removed afterwards. Locks that do not exclude other
processes are not a failure: conversions may then be repeated, with the right result.

Exit status: 0 all checks passed, 1 a check failed, 2 the folder cannot be used, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..system.interrupts import lost_interrupts_repeated
from ..system.mounts import file_system_of
from .experiments.fork_server import ForkServer
from .experiments.harness import FULL, QUICK, plan_experiments
from .experiments.probes import PROBES, probe_locks, run_probe

if TYPE_CHECKING:
    from .experiments.harness import TrialCounts
    from .experiments.results import ExperimentResult

__all__ = ["main", "verify"]
_LINE_CHARS = 100
_REMOVAL_SECONDS = 10.0
Log = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Example:
        >>> main([str(getfixture("tmp_path") / "nowhere")])
        2
    """
    options = _parse(arguments)
    folder = options.folder
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        _log(f"{folder} is not a writable folder")
        return 2
    results = []
    try:
        with lost_interrupts_repeated():
            for result in verify(folder, FULL if options.full else QUICK, log=_log):
                results.append(result)
                _log(f"  {'ok' if result.ok else 'NOT OK'}, {result.seconds:.1f} s")
    except OSError as error:
        _log(f"{folder} cannot be used: {error}")
        return 2
    except KeyboardInterrupt:
        _log("interrupted; nothing is left behind")
        return 130
    _print_results(folder, results, as_json=options.json)
    return 0 if all(result.ok for result in results) else 1


def verify(folder: str, counts: TrialCounts = QUICK, *, log: Log = lambda _: None) -> Iterator[ExperimentResult]:
    """Probe the file system of ``folder``, then run the experiments on it; yields each result.

    Args:
        folder: where to work. Nothing is left behind, even if the caller stops in the middle.
        counts: how often each experiment tries.
        log: called with a line before each check, and with lines of progress.

    Raises:
        OSError: the folder cannot be written.
    """
    place = tempfile.mkdtemp(prefix="ndframes-verify-", dir=folder)
    try:
        with ForkServer() as fork_server:
            for name in PROBES:
                log(name)
                yield run_probe(name, fork_server, place)
            log("locks")
            locks, is_exclusive = probe_locks(fork_server, place)
            yield locks
            plan = plan_experiments(
                fork_server,
                place,
                counts,
                locks="exclusive" if is_exclusive else "ineffective",
                log=lambda line: log(f"  {line}"),
            )
            for title, experiment in plan:
                log(title)
                yield experiment()
    finally:
        _remove(place)


def _remove(place: str) -> None:
    """Remove a folder, in which a process of the last trial may still write for a moment."""
    until = time.monotonic() + _REMOVAL_SECONDS
    while os.path.lexists(place) and time.monotonic() < until:
        shutil.rmtree(place, ignore_errors=True)
        time.sleep(0.01)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ndframes.testing.verify_filesystem",
        description="Check whether a file system meets the requirements of the cache.",
    )
    parser.add_argument("folder", metavar="DIR", help="the folder to test; nothing is left behind in it")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON document")
    parser.add_argument(
        "--full", action="store_true", help="run the full counts, about half an hour [default: a minute]"
    )
    return parser.parse_args(arguments)


def _print_results(folder: str, results: Sequence[ExperimentResult], *, as_json: bool) -> None:
    path, file_system = os.path.abspath(folder), file_system_of(folder)
    is_ok = all(result.ok for result in results)
    if as_json:
        findings = [result.to_dict() for result in results]
        _print(json.dumps({"folder": path, "file_system": file_system, "ok": is_ok, "findings": findings}))
        return
    _print(f"{path}: {file_system or 'unknown file system'}")
    _print(_tabulate(results))
    _print("all checks passed" if is_ok else "a check failed: keep the cache on another disk")


def _tabulate(results: Sequence[ExperimentResult]) -> str:
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        verdict = "skipped" if result.skipped else "ok" if result.ok else "NOT OK"
        text = str(result).removeprefix(f"{result.name}: ").partition("\n")[0]
        lines.append(f"{result.name:<{width}}  {verdict:<7}  {result.seconds:>7.1f} s  {text.rstrip(': ')}")
        lines += [f"{'':<{width}}  {note.splitlines()[-1][:_LINE_CHARS]}" for note in result.notes]
    return "\n".join(lines)


# Results go to stdout and progress to stderr, so that the output of --json can be piped.
def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _log(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
