"""The peak of the memory of a conversion in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

BOUND_BYTES = 600e6
CODE = """
import json, sys, time
import ndframes as nf
path, workdir, backend, workers = sys.argv[1:]
frames = nf.SimpleFrames({"big": path}, workdir=workdir, backend=backend)
started = time.perf_counter()
report = frames.prepare(workers=int(workers))
print(json.dumps({"prepared": report.prepared, "seconds": time.perf_counter() - started}))
"""


def convert_in_child(path, workdir, backend, workers):
    """Prepare in a process of its own; return its figures, with the peak of the memory of each process by its id."""
    command = [sys.executable, "-c", CODE, str(path), str(workdir), backend, str(workers)]
    peaks: dict[int, tuple[int, int]] = {}
    # Sampled from outside: a worker ends before it could report its peak, and ru_maxrss is inherited from the parent.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for pid in [process.pid, *children_of(process.pid)]:
                peaks[pid] = tuple(map(max, zip(memory_of(pid), peaks.get(pid, (0, 0)), strict=True)))
            time.sleep(0.02)
        assert process.returncode == 0
        return json.loads(process.stdout.read()), peaks


def children_of(pid: int) -> list[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        return [int(child) for task in tasks for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def memory_of(pid: int) -> tuple[int, int]:
    """The peak of the resident memory of a process, mapped files included, and its anonymous memory now; in bytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        status = ""
    found = dict(re.findall(r"(VmHWM|RssAnon):\s+(\d+) kB", status))
    return int(found.get("VmHWM", 0)) * 1024, int(found.get("RssAnon", 0)) * 1024
