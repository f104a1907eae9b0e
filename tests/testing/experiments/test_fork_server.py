"""ForkServer: children are told apart by how they end, and none outlives its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from ndframes.testing.experiments.fork_server import ForkServer, Task


def fail(text):
    raise ValueError(text)


def leave_a_grandchild(path):
    """Start a process that is left alone at once, and writes its file later."""
    code = f"import time; time.sleep(0.4); open({path!r}, 'w').close()"
    subprocess.Popen([sys.executable, "-c", code])
    os.kill(os.getpid(), signal.SIGKILL)


def start_sleeper():
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], check=False)


def test_each_end_is_told(fork_server):
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
    assert not any(end.is_hung for end in (good, bad, dead, exited))


def test_a_large_answer_comes_whole(fork_server):
    assert fork_server.run(partial(bytes, 5_000_000))[0].value == bytes(5_000_000)


def test_they_run_at_once(fork_server):
    started = time.monotonic()
    assert all(end.ok for end in fork_server.run(*[partial(time.sleep, 0.5)] * 8))
    assert time.monotonic() - started < 2


def test_what_takes_too_long_is_killed_with_all_that_it_started(fork_server):
    started = time.monotonic()
    hung, good = fork_server.run(start_sleeper, partial(abs, -3), seconds=0.5)
    assert time.monotonic() - started < 5
    assert (hung.is_hung, hung.status) == (True, -signal.SIGKILL)
    assert (good.is_hung, good.value) == (False, 3)


def test_a_child_is_not_done_before_its_own_children_are(fork_server, tmp_path):
    path = str(tmp_path / "late")
    end = fork_server.run(partial(leave_a_grandchild, path))[0]
    assert end.status == -signal.SIGKILL
    assert os.path.exists(path)


def test_signals_come_when_told(fork_server):
    started = time.monotonic()
    killed, stopped = fork_server.run(
        Task(partial(time.sleep, 30), [(0.2, signal.SIGKILL, False)]),
        Task(partial(time.sleep, 0.1), [(0.05, signal.SIGSTOP, True), (0.6, signal.SIGCONT, True)]),
    )
    assert killed.status == -signal.SIGKILL
    assert stopped.ok
    assert 0.5 < time.monotonic() - started < 5


RUN_FOR_LONG = """
import subprocess, sys
from functools import partial
from ndframes.testing.experiments.fork_server import ForkServer
with ForkServer() as fork_server:
    fork_server.run(partial(subprocess.run, ["sh", "-c", f"echo $$ > {sys.argv[1]}; exec sleep 60"]))
"""


def test_children_end_with_whoever_forked_them(tmp_path):
    path = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", RUN_FOR_LONG, str(path)], stderr=subprocess.PIPE) as process:
        while not path.exists() or not path.read_text():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate(timeout=10)[1]
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{path.read_text().strip()}"):
        assert time.monotonic() < deadline, "the child's child lives on"
        time.sleep(0.01)


def test_a_nursery_that_died_says_so():
    with ForkServer() as fork_server:
        fork_server._process.kill()
        fork_server._process.wait()
        with pytest.raises(RuntimeError, match="has died"):
            fork_server.run(os.getpid)
