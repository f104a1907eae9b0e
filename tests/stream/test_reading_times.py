"""The times of live frames: by the sender within a connection, by their arrival between two."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ndframes.stream.reading_times import StreamClock

FRAME = Fraction(1, 25)


def place_all(clock: StreamClock, stamps, arrivals, interval=FRAME) -> list[float]:
    return [float(clock.place(stamp, at, interval)) for stamp, at in zip(stamps, arrivals, strict=True)]


def test_the_timestamps_count_from_the_first_frame():
    clock = StreamClock(is_live=True)
    stamps = [Fraction(90 + place * 3, 75) for place in (0, 1, 2, 5)]
    # However late they arrive.
    assert place_all(clock, stamps, [100.0, 100.5, 100.5, 100.9]) == [0.0, 0.04, 0.08, 0.2]


def test_a_reconnect_goes_on_at_the_time_that_has_passed():
    clock = StreamClock(is_live=True)
    place_all(clock, [Fraction(5), 5 + FRAME], [100.0, 100.04])
    clock.restart()
    assert place_all(clock, [Fraction(0), FRAME, 2 * FRAME], [103.0, 103.0, 103.0]) == [3.0, 3.04, 3.08]


def test_what_connections_send_at_once_does_not_add_up():
    clock = StreamClock(is_live=True)
    for connection in range(50):
        clock.restart()
        times = place_all(clock, [place * FRAME for place in range(20)], [10.0 * connection] * 20)
        assert times[0] == 10.0 * connection


def test_a_frame_without_a_timestamp_follows_the_one_before():
    clock = StreamClock(is_live=True)
    assert place_all(clock, [Fraction(0), None, 2 * FRAME], [0.0, 0.3, 0.3]) == [0.0, 0.04, 0.08]
    untimed = StreamClock(is_live=True)
    assert place_all(untimed, [None, None, None], [7.0, 7.5, 7.75], None) == [0.0, 0.5, 0.75]


def test_a_timestamp_that_leaps_by_hours_does_not_move_the_times():
    clock = StreamClock(is_live=True)
    stamps = [Fraction(0), FRAME, Fraction(7200), 3 * FRAME, 4 * FRAME]
    assert place_all(clock, stamps, [0.0, 0.04, 0.08, 0.12, 0.16]) == [0.0, 0.04, 0.08, 0.12, 0.16]


def test_a_clock_that_is_set_back_to_zero_goes_on():
    clock = StreamClock(is_live=True)
    stamps = [Fraction(100), 100 + FRAME, Fraction(0), FRAME]
    assert place_all(clock, stamps, [0.0, 0.04, 0.08, 0.12]) == [0.0, 0.04, 0.08, 0.12]


def test_a_recording_is_not_paced_by_its_arrival():
    clock = StreamClock(is_live=False)
    # A gap of an hour is one.
    assert place_all(clock, [Fraction(0), FRAME, Fraction(3600), None], [0.0] * 4) == [0.0, 0.04, 3600.0, 3600.04]


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.fractions(-100, 100_000, max_denominator=90_000)), st.floats(0, 50), st.booleans()
        )
    ),
    st.sampled_from([None, FRAME]),
    st.booleans(),
)
def test_times_always_rise(frames, interval, is_live):
    clock = StreamClock(is_live=is_live)
    arrived, times = 0.0, []
    for stamp, waited, restarts in frames:
        arrived += waited
        if restarts:
            clock.restart()
        times.append(clock.place(stamp, arrived, interval))
    assert all(later > earlier for earlier, later in pairwise(times))
    assert times[:1] in ([], [0])
