"""Scheduling: encoders do not leave real-time threads behind."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

import ndframes as nf
from ndframes.system.scheduling import keeping_scheduling


def policies() -> set[int]:
    """The scheduling policies of all threads of this process."""
    found = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            found.add(os.sched_getscheduler(int(thread)))
        except ProcessLookupError:
            pass
    return found


@pytest.fixture
def may_be_realtime():
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pytest.skip("this user may not have real-time threads")
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.usefixtures("may_be_realtime")
def test_the_policy_of_this_thread_and_of_new_ones_is_restored():
    end = threading.Event()
    with keeping_scheduling():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        thread = threading.Thread(target=end.wait)
        thread.start()
        assert os.SCHED_FIFO in policies()
    assert policies() == {os.SCHED_OTHER}
    end.set()
    thread.join()


@pytest.mark.usefixtures("may_be_realtime")
def test_a_policy_of_the_user_is_kept():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(7))
    try:
        with keeping_scheduling():
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == (os.SCHED_FIFO, 7)
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_an_av1_encoder_has_no_real_time_threads(tmp_path):
    with nf.VideoWriter(tmp_path / "a.mp4", 25, codec="av1") as writer:
        for number in range(3):
            writer.append(np.full((64, 64, 3), number, np.uint8))
            assert policies() == {os.SCHED_OTHER}
    assert policies() == {os.SCHED_OTHER}
