"""Other tries of requests: how many, and for how long; and the threads in which they wait."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.forking import in_fork

from ndframes.errors import StoreUnavailableError
from ndframes.system.objects.fetching import merge_places
from ndframes.system.objects.request_threads import RequestThreads
from ndframes.system.objects.requests import TransientError
from ndframes.system.objects.retries import Limits, Retries
from ndframes.system.objects.store import Place

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Clock:
    """A clock that only waiting moves on."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.waits = []
        monkeypatch.setattr("ndframes.system.objects.retries.time", SimpleNamespace(monotonic=lambda: self.now))

    def is_set(self):
        return False

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


def fail(clock, seconds):
    def attempt(number):
        clock.now += seconds
        raise TransientError(f"failed {number}")

    return attempt


@pytest.mark.parametrize("run", range(20))
def test_a_store_that_is_down_is_given_up_within_half_a_minute(monkeypatch, run):
    clock = Clock(monkeypatch)
    with pytest.raises(StoreUnavailableError, match="s3://b: cannot read 'a': the store failed 10, in 11 tries"):
        Retries("s3://b", Limits()).run(fail(clock, 0.01), "read 'a'", clock)
    assert len(clock.waits) == 10
    assert all(later <= 2 * 2 * earlier for earlier, later in zip(clock.waits, clock.waits[1:], strict=False))
    assert 5 < clock.now < 30


@pytest.mark.parametrize("name", ["idle_seconds", "write_seconds"])
def test_a_mute_store_is_given_up_within_a_minute_and_a_half(monkeypatch, name):
    clock = Clock(monkeypatch)
    with pytest.raises(StoreUnavailableError):
        Retries("s3://b", Limits()).run(fail(clock, getattr(Limits(), name)), "read 'a'", clock)
    assert 60 < clock.now < 90


def test_no_try_begins_when_the_process_ends(monkeypatch):
    is_closing = threading.Event()
    is_closing.set()
    with pytest.raises(StoreUnavailableError, match="in 1 tries"):
        Retries("s3://b", Limits()).run(fail(Clock(monkeypatch), 0), "read 'a'", is_closing)


def test_other_errors_are_raised_at_once():
    calls = []

    def attempt(number):
        calls.append(number)
        raise KeyError(number)

    with pytest.raises(KeyError):
        Retries("s3://b", Limits()).run(attempt, "read 'a'")
    assert calls == [0]


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=30))
def test_runs_contain_their_places_and_nothing_else(pairs):
    places = [Place(*pair) for pair in pairs]
    runs = merge_places(places)
    wanted = {byte for offset, length in places for byte in range(offset, offset + length)}
    fetched = [byte for run in runs for byte in range(run.place.offset, run.place.offset + run.place.length)]
    assert sorted(wanted) == fetched
    for index, place in enumerate(places):
        holders = [run for run in runs if index in run.indices]
        assert len(holders) == (place.length > 0)
        for run in holders:
            assert run.place.offset <= place.offset
            assert place.offset + place.length <= run.place.offset + run.place.length


def test_long_runs_are_several_requests():
    places = [Place(index << 20, 1 << 20) for index in range(40)]
    assert [run.place.length for run in merge_places(places)] == [8 << 20] * 5
    # What overlaps is never cut.
    assert len(merge_places([Place(0, 7 << 20), Place(6 << 20, 7 << 20), Place(12 << 20, 7 << 20)])) == 1


def test_threads_are_as_many_as_are_needed_and_allowed():
    threads = RequestThreads(3)
    for number in range(5):
        assert threads.run(lambda number=number: number) == number
    assert threads._started == 1
    running = threading.Barrier(4, timeout=60)
    pending = [threads.submit(running.wait) for _ in range(3)]
    waiting = threads.submit(lambda: "last")
    assert threads._started == 3
    running.wait()
    assert [one.result() for one in [*pending, waiting]][-1] == "last"
    assert threads._started == 3


def test_errors_are_raised_where_the_result_is_asked_for():
    def fail():
        raise KeyError("a")

    threads = RequestThreads(1)
    pending = threads.submit(fail)
    assert threads.run(lambda: 1) == 1
    for _ in range(2):
        with pytest.raises(KeyError):
            pending.result()


def test_a_forked_child_has_threads_of_its_own():
    threads = RequestThreads(2)
    is_over = threading.Event()
    pending = threads.submit(is_over.wait)
    in_fork(lambda: pending.is_lost and threads.run(lambda: True))
    assert not pending.is_lost
    is_over.set()
    assert pending.result() is True


def test_closing_waits_for_what_runs_and_drops_what_waits(monkeypatch):
    threads = RequestThreads(1)
    is_running, is_over = threading.Event(), threading.Event()
    done = []
    threads.submit(lambda: (is_running.set(), is_over.wait(), done.append(1)))
    threads.submit(lambda: done.append(2))
    assert is_running.wait(60)
    threading.Timer(0.05, is_over.set).start()
    threads.close()
    assert done == [1]
    monkeypatch.setattr("ndframes.system.objects.request_threads._EXIT_SECONDS", 0.05)
    never = RequestThreads(1)
    is_running.clear()
    is_over.clear()
    never.submit(lambda: (is_running.set(), is_over.wait()))
    assert is_running.wait(60)
    never.close()  # not for ever
    is_over.set()
