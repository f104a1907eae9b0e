"""Forks: what registers is told in the child, in every child, and nothing else is."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import subprocess
import sys
import threading
import time

import pytest

from ndframes.system import process as _process
from ndframes.system.process import ForkAware, core_count

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Witness(ForkAware):
    """Remembers in which process it was told of a fork."""

    def __init__(self) -> None:
        self.told: list[int] = []
        super().__init__()

    def _after_fork_in_child(self) -> None:
        self.told.append(os.getpid())


def exit_code_in_fork(check) -> int:
    child = os.fork()
    if not child:
        code = 99
        try:
            code = check()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_is_told_once_and_its_parent_never():
    witness = Witness()
    assert exit_code_in_fork(lambda: 0 if witness.told == [os.getpid()] else 1) == 0
    assert witness.told == []


def test_a_grandchild_is_told_again():
    witness = Witness()

    def in_child() -> int:
        return exit_code_in_fork(lambda: 0 if witness.told == [os.getppid(), os.getpid()] else 1)

    assert exit_code_in_fork(in_child) == 0


def test_multiprocessing_s_fork_tells_too():
    witness = Witness()

    def report(connection) -> None:
        connection.send((witness.told, os.getpid()))

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=report, args=(sender,))
    process.start()
    told, child = receiver.recv()
    process.join()
    assert told == [child]


def test_what_is_gone_is_not_kept_for_the_sake_of_forks():
    from ndframes.system.process import _FORK_AWARE

    witness = Witness()
    assert witness in _FORK_AWARE
    before = len(_FORK_AWARE)
    del witness
    gc.collect()
    assert len(_FORK_AWARE) < before


def test_objects_may_come_and_go_while_others_fork():
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            [Witness() for _ in range(50)]

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    steady = Witness()
    try:
        codes = [exit_code_in_fork(lambda: 0 if steady.told == [os.getpid()] else 1) for _ in range(30)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 30


def test_a_subclass_must_say_what_it_forgets():
    with pytest.raises(TypeError, match="abstract"):
        ForkAware()


def test_core_count_follows_the_affinity_of_the_process():
    assert core_count() == len(os.sched_getaffinity(0))

    def narrowed() -> int:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        return 0 if core_count() == 1 else 1

    assert exit_code_in_fork(narrowed) == 0


def test_core_count_without_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert core_count() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert core_count() == 1


# -- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_waits_until_nobody_is_inside_a_gate():
    gate = _process.ForkGate()
    inside, leave = threading.Event(), threading.Event()
    log = []

    def work():
        with gate, gate:
            inside.set()
            leave.wait(10)
            log.append("left")

    def let_go():
        time.sleep(0.2)
        leave.set()

    threads = [threading.Thread(target=work), threading.Thread(target=let_go)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    with gate:  # the thread that forks may be inside itself
        pid = os.fork()
        if pid == 0:
            with gate:
                os._exit(0 if log == ["left"] and gate._inside == 2 else 1)
        assert log == ["left"]
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for thread in threads:
        thread.join()
    assert (gate._inside, gate._is_closed) == (0, False)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_does_not_wait_for_ever():
    gate = _process.ForkGate(max_wait_seconds=0.1)
    inside, leave = threading.Event(), threading.Event()

    def work():
        with gate:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    leave.set()
    thread.join()


_FAULTS = """
import resource, sys
import numpy as np
from ndframes.system import process as _process

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        blocks = [np.ones(300_000, np.uint8) for _ in range(5)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

count_faults()
given_back = count_faults()
_process.keep_freed_memory()
count_faults()
print(given_back, count_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's allocator")
def test_memory_that_is_let_go_of_is_kept_for_the_next():
    told = ("MALLOC_", "GLIBC_TUNABLES")  # by which it learns nothing; Dask's workers are started with such
    environment = {name: value for name, value in os.environ.items() if not name.startswith(told)}
    run = subprocess.run([sys.executable, "-c", _FAULTS], env=environment, check=True, capture_output=True, text=True)
    given_back, kept = map(int, run.stdout.split())
    assert given_back > 5_000
    assert kept < given_back / 100
