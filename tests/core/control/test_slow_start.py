"""A start that doubles."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_executor.core.control.slow_start import COLD_AFTER, DOUBLING, OFF_FACTOR, SlowStart


def starts(pace, now, until, *, seconds=0.01, round_trip=0.0):
    """As many requests as may start until then."""
    times = []
    while (now := max(now, pace.ready_at(seconds))) < until:
        pace.take(seconds, now, round_trip)
        times.append(now)
        if pace.factor >= OFF_FACTOR:
            break
    return times


def test_it_begins_at_the_sustained_rate():
    """Within the first second there is no more than a second's saved up and a second's refill."""
    times = starts(SlowStart(0.0), 0.0, 0.99)
    assert 50 <= len(times) <= 200


def test_it_doubles_every_second_until_it_is_out_of_the_way():
    """From factor 1 to off takes a few seconds, not minutes, and each second allows at most twice as much."""
    pace = SlowStart(0.0)
    times = starts(pace, 0.0, 60.0)
    assert pace.factor >= OFF_FACTOR
    assert pace.ready_at(1e9) == -math.inf
    assert math.log2(OFF_FACTOR) * DOUBLING <= times[-1] <= 2 * math.log2(OFF_FACTOR) * DOUBLING


def test_with_long_round_trips_it_doubles_once_for_each():
    """Before an answer has come nothing is known of how the rise was taken."""
    pace = SlowStart(0.0)
    starts(pace, 0.0, 25.0, round_trip=10.0)
    assert 2.0 <= pace.factor <= 4.0


def test_a_pool_that_is_not_used_does_not_get_faster():
    """Waiting is no evidence: the factor is what was used, doubled."""
    pace = SlowStart(0.0)
    pace.take(0.01, 0.0, 0.0)
    pace.take(0.01, 50.0, 0.0)
    assert pace.factor == 2.0


def test_after_a_while_without_requests_it_starts_slowly_again():
    """A cold pool is a new pool; a pause is not."""
    pace = SlowStart(0.0)
    now = starts(pace, 0.0, 60.0)[-1]
    pace.take(0.01, now + COLD_AFTER, 0.0)
    assert pace.factor >= OFF_FACTOR
    pace.take(0.01, now + 2 * COLD_AFTER + 1.0, 0.0)
    assert pace.factor == 1.0


def test_starting_again_saves_nothing_up():
    """After a restart the first request waits for its own refill."""
    pace = SlowStart(0.0)
    pace.restart(100.0)
    assert pace.ready_at(0.5) == 100.5
    pace.restart(100.0, factor=4.0)
    assert pace.ready_at(0.5) == 100.125
    assert repr(pace) == "<SlowStart x4>"


def test_a_restart_may_lie_in_the_future():
    """A pool that is closed until then opens slowly then."""
    pace = SlowStart(0.0)
    pace.restart(130.0)
    assert pace.ready_at(0.0) == -math.inf or pace.ready_at(0.0) <= 130.0
    assert pace.ready_at(1.0) == 131.0


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.floats(0, 5), min_size=1, max_size=60),
    gaps=st.lists(st.floats(0, 20), min_size=60, max_size=60),
    round_trip=st.floats(0, 30),
)
def test_a_request_is_never_paced_for_ever(sizes, gaps, round_trip):
    """Every request, however large, may start at a finite instant, and does when that comes."""
    pace, now = SlowStart(0.0), 0.0
    for seconds, gap in zip(sizes, gaps, strict=False):
        now = max(now + gap, pace.ready_at(seconds))
        assert now < math.inf
        assert pace.ready_at(seconds) <= now
        pace.take(seconds, now, round_trip)
        assert 1.0 <= pace.factor <= OFF_FACTOR


@settings(max_examples=60, deadline=None)
@given(seconds=st.floats(0.001, 0.5), round_trip=st.floats(0, 5))
def test_in_any_second_at_most_twice_the_factor_starts(seconds, round_trip):
    """The rise is bounded: while pacing is on, a second holds no more than the factor's bucket and refill."""
    pace, now, done = SlowStart(0.0), 0.0, []
    for _ in range(300):
        now = max(now, pace.ready_at(seconds))
        pace.take(seconds, now, round_trip)
        if pace.factor >= OFF_FACTOR:
            break
        done.append(now)
        lately = sum(seconds for at in done if at > now - 1.0)
        assert lately <= max(1.0, pace.factor / 2.0) + pace.factor + 1e-6
