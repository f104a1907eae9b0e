"""A forked child, for tests of what it must not inherit."""

from __future__ import annotations

import os
import signal


def in_fork(check, seconds: float = 20) -> None:
    """Run ``check`` in a forked child that a watchdog ends; it must return True."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # whose default is to end the process
        signal.setitimer(signal.ITIMER_REAL, seconds)
        code = 1
        try:
            code = 0 if check() is True else 2
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0, (
        "the child died of its watchdog" if os.WIFSIGNALED(status) else "failed"
    )
