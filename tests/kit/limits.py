"""A process with few file descriptors."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def run_limited(script: str, limit: int, *arguments: str) -> str:
    """Run a script in a process that may have ``limit`` files open; return what it prints."""
    prelude = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
    command = [sys.executable, "-W", "error", "-c", prelude + textwrap.dedent(script), *arguments]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout
