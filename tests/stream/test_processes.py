"""Processes of pipelines: scripts without a guard, daemonic processes, signals, and what is left behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from kit.ahead import Script, all_children, session_members
from kit.numbered import read_number, write_clip
from kit.waiting import wait_until

from ndframes.errors import AlgorithmError
from ndframes.stream import Pipeline, Source
from ndframes.stream.remote import _read as read_in_process
from ndframes.system.ring import release_handle

COUNT = 20


def see(frames) -> int | None:
    return read_number(frames[-1])


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return str(write_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", COUNT))


def test_a_reader_that_has_ended_takes_slots_back(clip):
    mine, its = (Connection(end.detach()) for end in socket.socketpair())

    def serve() -> None:
        with its:
            read_in_process(its, (Source(clip), False))

    before = threading.active_count()
    server = threading.Thread(target=serve)
    server.start()
    with mine:
        slots = []
        while (item := mine.recv()) is not None:
            slots.append(item[2])
            if item[-1] is not None:
                release_handle(item[-1])
        server.join(30)
        assert not server.is_alive()
        assert set(slots) >= {0, 1, 2, 3}
        with contextlib.suppress(OSError):
            mine.send(0)  # an error in a thread is one of the test
        wait_until(lambda: threading.active_count() == before)


def run_file(tmp_path, text: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a script from a file, as users do."""
    path = tmp_path / "script.py"
    path.write_text(
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n{text}"
    )
    command = [sys.executable, path, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


WITHOUT_GUARD = """
from ndframes.stream import Pipeline, Source
from test_processes import see
print("main runs")
print(len(Pipeline(Source(sys.argv[1]), mode="realtime").add("x", lambda frames: 1).run()["x"]) > 0)
print(len(Pipeline(sys.argv[1]).add("x", see, worker="process").run()["x"]))
"""


def test_a_script_without_a_guard(clip, tmp_path):
    done = run_file(tmp_path, WITHOUT_GUARD, clip)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"main runs\nTrue\n{COUNT}\n", "")


OWN_FUNCTION = """
from ndframes.stream import Pipeline
def see(frames):
    return 7
{guard}print([each.value for each in Pipeline(sys.argv[1]).add("x", see, worker="process").run()["x"]][:2])
"""


def test_a_function_of_the_main_module_in_a_process(clip, tmp_path):
    done = run_file(tmp_path, OWN_FUNCTION.format(guard="if __name__ == '__main__': "), clip)
    assert (done.returncode, done.stdout) == (0, "[7, 7]\n"), done.stderr
    done = run_file(tmp_path, OWN_FUNCTION.format(guard=""), clip)
    assert done.returncode == 1
    assert "put what runs the pipeline under if __name__ == '__main__'" in done.stderr.splitlines()[-1]


def run_in_daemon(clip: str, answers: multiprocessing.SimpleQueue) -> None:
    pipeline = Pipeline(Source(clip, name="cam"), mode="realtime").add("x", see, worker="process")
    answers.put({each.value - each.index for each in pipeline.run()["x"]})


def test_a_pipeline_in_a_daemonic_process(clip):
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=run_in_daemon, args=(clip, answers), daemon=True)
    process.start()
    process.join(120)
    assert process.exitcode == 0
    assert answers.get() == {0}


def test_what_does_not_pickle_is_named(clip):
    with pytest.raises(AlgorithmError, match=r"algorithm x cannot start: .*does not pickle.*worker='thread'"):
        Pipeline(clip).add("x", lambda frames: 1, worker="process").run()


ENDLESS = """
import os
from ndframes.stream import Pipeline, Source
from ndframes.system.interrupts import lost_interrupts_repeated
from test_processes import see
source = Source("lavfi:testsrc2=size=160x120:rate=25,realtime", name="cam")
pipeline = Pipeline(source, mode="realtime").add("x", see, worker="process")
@pipeline.on_result
def tell(result):
    if result.index >= 5:  # a busy machine skips frames
        print("reading", flush=True)
with lost_interrupts_repeated():
    pipeline.run()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_parent_leaves_nothing(number):
    path = [str(Path(__file__).parent)]
    script = Script(f"import sys; sys.path[:0] = {path!r}\n{ENDLESS}")
    assert script.read_line() == "reading"
    assert len(session_members(script.process.pid)) >= 3
    if number == signal.SIGINT:
        script.signal_group(number)
    else:
        os.kill(script.process.pid, number)
    status, _, errors = script.finish()
    assert status == -number
    # One traceback, that of the parent.
    assert errors.count("KeyboardInterrupt") == (number == signal.SIGINT)


@pytest.mark.parametrize("place", [0, 1])
def test_a_killed_reader_or_worker_is_an_error_in_seconds(place):
    source = Source("lavfi:testsrc2=size=160x120:rate=25,realtime", name="cam")
    before = all_children()
    pipeline = Pipeline(source, mode="realtime").add("x", see, worker="process")
    pipeline.start()
    wait_until(lambda: len(pipeline.results["x"]) > 3, 60)
    mine = sorted(all_children() - before)
    assert len(mine) == 2
    os.kill(mine[place], signal.SIGKILL)
    killed = time.monotonic()
    with pytest.raises(Exception, match=r"process.* was killed by signal 9"):
        pipeline.wait(60)
    assert time.monotonic() - killed < 60
    assert pipeline.state == "failed"
    wait_until(lambda: not set(mine) & all_children(), 20)
