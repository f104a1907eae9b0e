"""Python programs in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent


def run_script(code: str, seconds: float = 100) -> str:
    """Run a program, which must end with exit status 0 and print nothing to stderr; what it prints.

    It imports what this process can import.
    """
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{dedent(code)}"],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr}"
    assert not done.stderr
    return done.stdout
