"""Whether a file system keeps what the cache relies on: ``python -m ndframes.testing.verify_filesystem DIR``.

First the single properties are probed, then what the cache makes of them, by the experiments of :mod:`.harness`, all in
a new folder under ``DIR`` that is removed afterwards. Locks that do not exclude are no failure: work may be done twice
there, and the result is right all the same.

Exit status: 0 every promise holds, 1 one does not, 2 the folder cannot be used, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..system.mounts import file_system_of
from .experiments.fork_server import ForkServer
from .experiments.harness import FULL, QUICK, plan_experiments
from .experiments.probes import PROBES, probe_locks, run_probe

if TYPE_CHECKING:
    from .experiments.harness import Counts
    from .experiments.scene import Findings

__all__ = ["main", "verify"]
_LINE_CHARS = 100
Say = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status.

    Example:
        >>> main([str(getfixture("tmp_path") / "nowhere")])
        2
    """
    parser = argparse.ArgumentParser(
        prog="python -m ndframes.testing.verify_filesystem", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("folder", metavar="DIR", help="where a cache is to lie; nothing is left behind there")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--full", action="store_true", help="the full counts, half an hour; else about a minute")
    given = parser.parse_args(arguments)
    if not os.path.isdir(given.folder) or not os.access(given.folder, os.W_OK):
        _say(f"{given.folder} is no folder that can be written")
        return 2
    findings = []
    try:
        for found in verify(given.folder, FULL if given.full else QUICK, say=_say):
            findings.append(found)
            _say(f"  {'ok' if found.ok else 'NOT OK'}, {found.seconds:.1f} s")
    except OSError as error:
        _say(f"{given.folder} cannot be used: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted; nothing is left behind")
        return 130
    is_ok = all(found.ok for found in findings)
    if given.json:
        _print(json.dumps({
            "folder": os.path.abspath(given.folder),
            "file_system": file_system_of(given.folder),
            "ok": is_ok,
            "findings": [found.to_dict() for found in findings],
        }))  # fmt: skip
    else:
        _print(f"{os.path.abspath(given.folder)}: {file_system_of(given.folder) or 'unknown file system'}")
        _print(_tabulate(findings))
        _print("every promise holds" if is_ok else "a promise does not hold: keep the cache on another disk")
    return 0 if is_ok else 1


def verify(folder: str, counts: Counts = QUICK, *, say: Say = lambda _: None) -> Iterator[Findings]:
    """Probe the file system of ``folder``, then run the experiments on it; yields what each came to.

    Args:
        folder: nothing is left behind there, not even when this is left in the middle.
        counts: how often each experiment tries.
        say: called with a line before each check, and now and then.

    Raises:
        OSError: nothing can be written there at all.
    """
    place = tempfile.mkdtemp(prefix="ndframes-verify-", dir=folder)
    try:
        with ForkServer() as fork_server:
            for name in PROBES:
                say(name)
                yield run_probe(name, fork_server, place)
            say("locks")
            locks, excludes = probe_locks(fork_server, place)
            yield locks
            for name, experiment in plan_experiments(
                fork_server, place, counts, locks="work" if excludes else "lie", say=lambda line: say(f"  {line}")
            ):
                say(name)
                yield experiment()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _tabulate(findings: Sequence[Findings]) -> str:
    width = max(len(found.name) for found in findings)
    lines = []
    for found in findings:
        verdict = "skipped" if found.skipped else "ok" if found.ok else "NOT OK"
        text = str(found).removeprefix(f"{found.name}: ").partition("\n")[0]
        lines.append(f"{found.name:<{width}}  {verdict:<7}  {found.seconds:>7.1f} s  {text.rstrip(': ')}")
        lines += [f"{'':<{width}}  {note.splitlines()[-1][:_LINE_CHARS]}" for note in found.notes]
    return "\n".join(lines)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
