"""Running a check in a forked child."""

from __future__ import annotations

import os
import signal


def in_fork(check, seconds: float = 20) -> None:
    """Run ``check``, which must return True, in a forked child; end the child after ``seconds``."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the default action ends the process
        signal.setitimer(signal.ITIMER_REAL, seconds)
        code = 1
        try:
            code = 0 if check() is True else 2
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) == 0, "the child ran out of time" if os.WIFSIGNALED(status) else "failed"
