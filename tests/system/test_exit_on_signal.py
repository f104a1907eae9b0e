"""A worker process that gets SIGTERM ends, wherever the signal finds it."""

from __future__ import annotations

import signal
import subprocess
import sys

CODE = """
import os, signal, time
from ndframes.system.workers import exit_on_signal
signal.signal(signal.SIGTERM, exit_on_signal)
class Trap:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
Trap()
time.sleep(60)
"""


def test_an_exit_that_a_finalizer_drops_ends_the_process_still():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, b"")
