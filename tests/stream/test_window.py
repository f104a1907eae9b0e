"""Windows and their schedule, against a model that looks at all frames at once."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndframes.errors import StreamError
from ndframes.stream.window import Decimation, Schedule, Window, to_fraction


def model(window: Window, times: list[Fraction]) -> list[tuple[int, ...]]:
    """Every window by the definition, without any state."""
    first = (window.count - 1) * window.step
    if first >= len(times):
        return []
    if window.interval is None:
        ends = list(range(first, len(times), window.every or 1))
    else:
        interval = to_fraction(window.interval)
        points = math.ceil((times[-1] - times[first]) / interval) + 2
        ends = []
        for k in range(points):
            after = [f for f in range(first, len(times)) if times[f] >= times[first] + k * interval]
            if after and after[0] not in ends:
                ends.append(after[0])
    return [tuple(end - place * window.step for place in reversed(range(window.count))) for end in ends]


def run(window: Window, times: list[Fraction], first_index: int = 0) -> list[tuple[int, ...]]:
    schedule = Schedule(window)
    found = [schedule.take(first_index + index, time) for index, time in enumerate(times)]
    return [indices for indices in found if indices is not None]


rates = st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(24), Fraction(1, 3), Fraction(240), Fraction(7)])
intervals = st.one_of(
    st.sampled_from([0.2, 0.04, 1 / 3, 1, 0.1, Fraction(1001, 30000), 2.5]), st.floats(0.005, 3, allow_nan=False)
)
windows = st.builds(
    Window, count=st.integers(1, 5), step=st.integers(1, 4), every=st.none() | st.integers(1, 7)
) | st.builds(Window, count=st.integers(1, 5), step=st.integers(1, 4), interval=intervals)


@settings(max_examples=500, deadline=None)
@given(windows, rates, st.integers(0, 60))
def test_schedules_are_those_of_the_model_at_even_times(window, rate, length):
    times = [index / rate for index in range(length)]
    assert run(window, times) == model(window, times)


@settings(max_examples=500, deadline=None)
@given(windows, st.lists(st.fractions(Fraction(1, 1000), 2, max_denominator=1000), max_size=40), st.integers(0, 10**9))
def test_schedules_are_those_of_the_model_at_uneven_times(window, steps, first_index):
    times = [sum(steps[: place + 1], Fraction(0)) for place in range(len(steps))]
    shifted = [tuple(index + first_index for index in indices) for indices in model(window, times)]
    assert run(window, times, first_index) == shifted


def test_a_frame_exactly_on_time_is_taken():
    ends = [indices[-1] for indices in run(Window(interval=0.2), [index / Fraction(25) for index in range(20)])]
    assert ends == [0, 5, 10, 15]
    # The same with times as floats, as files give them.
    ends = [indices[-1] for indices in run(Window(interval=0.2), [index / 25 for index in range(20)])]
    assert ends == [0, 5, 10, 15]
    assert run(Window(count=3, step=2, interval=1), [Fraction(index) for index in range(8)]) == [
        (0, 2, 4), (1, 3, 5), (2, 4, 6), (3, 5, 7),
    ]  # fmt: skip


def test_a_long_gap_is_one_run_and_keeps_the_points():
    times = [Fraction(0), Fraction(1, 10), Fraction(35, 10), Fraction(36, 10), Fraction(41, 10)]
    assert run(Window(interval=1), times) == [(0,), (2,), (4,)]


def test_a_restart_begins_a_new_window():
    schedule = Schedule(Window(count=2, every=2))
    assert [schedule.take(index, index) for index in range(4)] == [None, (0, 1), None, (2, 3)]
    schedule.restart()
    assert [schedule.take(index, index) for index in range(4, 8)] == [None, (4, 5), None, (6, 7)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": 0}, {"count": 1.5}, {"count": True}, {"step": -1}, {"every": 0}, {"every": "2"}, {"interval": 0},
        {"interval": -1}, {"interval": math.inf}, {"interval": math.nan}, {"interval": "1"}, {"every": 1, "interval": 1},
    ],
)  # fmt: skip
def test_windows_that_are_not_allowed(arguments):
    with pytest.raises(StreamError, match=next(iter(arguments))):
        Window(**arguments)


@settings(max_examples=300, deadline=None)
@given(rates, st.sampled_from([1, 5, 12.5, 0.5, 29.97, 10**6]), st.integers(0, 80))
def test_decimation_keeps_the_first_frame_of_each_interval(rate, fps, length):
    times = [index / rate for index in range(length)]
    decimation = Decimation(fps)
    kept = [index for index, time in enumerate(times) if decimation.keeps(time)]
    places: dict[int, int] = {}
    for index, time in enumerate(times):
        places.setdefault(math.floor(time * to_fraction(fps)), index)
    assert kept == list(places.values())
    assert all(Decimation(None).keeps(time) for time in times)
