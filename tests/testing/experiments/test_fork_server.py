"""ForkServer: results, signals, time limits, and the end of all processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from ndframes.testing.experiments.fork_server import ForkServer, Task, TimedSignal


def fail(text):
    raise ValueError(text)


def leave_a_grandchild(path):
    """Start a process that writes its file after its parent is dead."""
    code = f"import time; time.sleep(0.4); open({path!r}, 'w').close()"
    subprocess.Popen([sys.executable, "-c", code])
    os.kill(os.getpid(), signal.SIGKILL)


def start_sleeper():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], check=False)


def meet(folder, number, count):
    """Return once all of ``count`` processes have called this."""
    open(os.path.join(folder, str(number)), "w").close()
    while len(os.listdir(folder)) < count:
        time.sleep(0.01)


def stop_until_resumed():
    os.kill(os.getpid(), signal.SIGSTOP)
    return "resumed"


def test_results_say_how_a_child_ended(fork_server):
    good, bad, dead, exited = fork_server.run(
        partial(pow, 2, 10),
        partial(fail, "no such thing"),
        partial(os.abort),
        partial(os._exit, 7),
    )
    assert (good.ok, good.value) == (True, 1024)
    assert (bad.ok, bad.status) == (False, 1)
    assert "ValueError: no such thing" in bad.problem
    assert dead.status == -signal.SIGABRT
    assert exited.status == 7
    assert not any(result.timed_out for result in (good, bad, dead, exited))


def test_a_large_value_is_returned_whole(fork_server):
    assert fork_server.run(partial(bytes, 5_000_000))[0].value == bytes(5_000_000)


def test_children_run_at_once(fork_server, tmp_path):
    results = fork_server.run(*(partial(meet, str(tmp_path), number, 8) for number in range(8)))
    assert all(result.ok for result in results)


def test_late_children_are_killed_with_their_own_children(fork_server):
    late, good = fork_server.run(start_sleeper, partial(abs, -3), seconds=1.5)
    assert (late.timed_out, late.status) == (True, -signal.SIGKILL)
    assert (good.timed_out, good.value) == (False, 3)


def test_run_waits_for_grandchildren(fork_server, tmp_path):
    path = str(tmp_path / "late")
    result = fork_server.run(partial(leave_a_grandchild, path))[0]
    assert result.status == -signal.SIGKILL
    assert os.path.exists(path)


def test_signals_are_sent_to_a_child_or_its_group(fork_server):
    killed, resumed, group = fork_server.run(
        Task(partial(time.sleep, 60), [TimedSignal(0.2, signal.SIGKILL)]),
        Task(stop_until_resumed, [TimedSignal(0.1 * number, signal.SIGCONT) for number in range(1, 300)]),
        Task(start_sleeper, [TimedSignal(0.2, signal.SIGKILL, to_group=True)]),
        seconds=30,
    )
    assert (killed.status, killed.timed_out) == (-signal.SIGKILL, False)
    assert (resumed.value, resumed.timed_out) == ("resumed", False)
    assert (group.status, group.timed_out) == (-signal.SIGKILL, False)


RUN_FOR_LONG = """
import subprocess, sys
from functools import partial
from ndframes.system.interrupts import lost_interrupts_repeated
from ndframes.testing.experiments.fork_server import ForkServer
with lost_interrupts_repeated(), ForkServer() as fork_server:
    fork_server.run(partial(subprocess.run, ["sh", "-c", f"echo $$ > {sys.argv[1]}; exec sleep 60"]))
"""


def test_all_processes_end_on_ctrl_c(tmp_path):
    path = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", RUN_FOR_LONG, str(path)], stderr=subprocess.PIPE) as process:
        while not path.exists() or not path.read_text():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate(timeout=30)[1]
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{path.read_text().strip()}"):
        assert time.monotonic() < deadline, "the grandchild is still alive"
        time.sleep(0.01)


def test_a_dead_server_is_an_error():
    with ForkServer() as fork_server:
        fork_server._process.kill()
        fork_server._process.wait()
        with pytest.raises(RuntimeError, match="has died"):
            fork_server.run(os.getpid)
