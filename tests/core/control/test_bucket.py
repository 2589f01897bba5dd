"""A token bucket admits no more than it may, and exactly when it says."""

import asyncio
import math
from itertools import pairwise

import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.factories import windows_hold

from claude_executor.core.control.bucket import TokenBucket
from claude_executor.testing import run_virtual

examples = settings(max_examples=80, deadline=None)

rates = st.floats(0.01, 50_000)
spans = st.floats(0, 100)
shares = st.floats(0.001, 1)
starts = st.sampled_from([0.0, 0.1, 1_000.0, 86_400.0 / 7, 1e9 / 3])


@pytest.mark.parametrize(
    ("taken", "wait", "level"),
    [
        (0, 0, 60),
        (0, 99, 60),
        (60, 0, 0),
        (60, 1, 2),
        (60, 29.5, 59),
        (60, 31, 60),
        (90, 0, -30),
        (90, 15, 0),
    ],
)
def test_a_level_is_what_was_left_and_what_came_since(taken, wait, level):
    """The level falls by what is taken, rises at the rate, and stops at the capacity."""
    bucket = TokenBucket(2.0, 60.0, now=100.0)
    bucket.take(taken, 100.0)
    assert bucket.level(100.0 + wait) == level


@pytest.mark.parametrize(
    ("level", "amount", "floor", "wait"),
    [
        (60, 60, 0, None),
        (60, 61, 0, None),  # more than it can hold: goes when full
        (59, 61, 0, 0.5),
        (0, 10, 0, 5),
        (-10, 10, 0, 10),
        (-10, 0, 0, 5),  # in debt nothing goes, not even nothing
        (20, 10, 10, None),
        (20, 10, 11, 0.5),
        (50, 40, 40, 5),  # amount and floor together count for at most the capacity
        (60, 40, 40, None),
    ],
)
def test_an_amount_is_ready_when_it_has_come(level, amount, floor, wait):
    """`ready_at` names the instant at which the amount and the floor are there."""
    bucket = TokenBucket(2.0, 60.0, now=100.0, level=level)
    assert bucket.ready_at(amount, floor=floor) == (-math.inf if wait is None else 100.0 + wait)


@pytest.mark.parametrize(
    ("rate", "capacity"), [(0, 1), (1, 0), (-1, 1), (1, -1), (math.inf, 1), (1, math.inf), (math.nan, 1)]
)
def test_a_bucket_needs_a_rate_and_a_capacity(rate, capacity):
    """What is not positive and finite is refused with both numbers named."""
    with pytest.raises(ValueError, match=rf"rate={rate} capacity={capacity}"):
        TokenBucket(rate, capacity, now=0.0)


def test_a_bucket_starts_full_unless_told_otherwise():
    """No level means full; a level above the capacity is clipped."""
    assert TokenBucket(1.0, 5.0, now=0.0).level(0.0) == 5.0
    assert TokenBucket(1.0, 5.0, now=0.0, level=3.0).level(0.0) == 3.0
    assert TokenBucket(1.0, 5.0, now=0.0, level=9.0).level(0.0) == 5.0


def test_the_repr_tells_the_state():
    """Level, capacity, instant and rate can be read off."""
    assert repr(TokenBucket(2.0, 60.0, now=1.5, level=-3.0)) == "<TokenBucket -3/60 at 1.500, +2/s>"


@examples
@given(
    now=starts,
    rate=rates,
    seconds=st.floats(0.01, 120),
    wishes=st.lists(st.tuples(spans, shares), min_size=1, max_size=60),
)
def test_no_window_admits_more_than_capacity_and_refill(now, rate, seconds, wishes):
    """However takes are timed, w seconds admit at most capacity + rate * w."""
    capacity = rate * seconds
    bucket, events, earned, begun = TokenBucket(rate, capacity, now=now), [], [], now
    for gap, share in wishes:
        now = max(now + gap, bucket.ready_at(share * capacity))
        bucket.take(share * capacity, now)
        events.append((now, share * capacity))
        earned.append(rate * (now - begun))
    # no clock is finer than its last digit
    windows_hold(events, [capacity] * len(events), earned, 1e-6 * (1 + capacity) + 4 * rate * math.ulp(now))


changes = st.one_of(
    st.tuples(st.just("take"), shares),
    st.tuples(st.just("give back"), shares),
    st.tuples(st.just("charge more"), shares),
    st.tuples(st.just("lower"), st.floats(-1, 1)),
    st.tuples(st.just("rate"), st.floats(0.1, 100)),
    st.tuples(st.just("capacity"), st.floats(1, 1_000)),
)


@examples
@given(now=starts, script=st.lists(st.tuples(spans, changes), min_size=1, max_size=50))
def test_no_window_admits_more_while_limits_change(now, script):
    """A window admits at most the capacity at its start, what came at the rates in force, and refunds.

    Corrections downward, further charges and changes of rate or capacity never add to that.
    """
    bucket = TokenBucket(10.0, 100.0, now=now)
    total, events, capacity_at, earned = 0.0, [], [], []
    for gap, (what, number) in script:
        then, now, rate = now, now + gap, bucket.rate
        if what == "take":
            amount = number * bucket.capacity
            now = max(now, bucket.ready_at(amount))
        total += rate * (now - then)
        capacity_at.append(bucket.capacity)
        if what == "take":
            bucket.take(amount, now)
        elif what == "give back":
            amount = -number * bucket.capacity
            bucket.settle(-amount, now)
        else:
            amount = 0.0
            if what == "charge more":
                bucket.settle(-number * bucket.capacity, now)
            elif what == "lower":
                bucket.correct(min(bucket.level(now), number * bucket.capacity), now)
            elif what == "rate":
                bucket.reconfigure(number, bucket.capacity, now)
            else:
                bucket.reconfigure(bucket.rate, number, now)
        assert bucket.level(now) <= bucket.capacity
        events.append((now, amount))
        earned.append(total)
    windows_hold(events, capacity_at, earned, 1e-3)


@examples
@given(
    now=starts,
    rate=rates,
    seconds=st.floats(0.01, 120),
    wishes=st.lists(st.tuples(shares, st.floats(0, 0.5)), min_size=1, max_size=80),
)
def test_a_timer_set_to_ready_at_never_has_to_be_set_again(now, rate, seconds, wishes):
    """Taking at the instant named needs one waking each, and leaves no debt beyond rounding."""
    capacity = rate * seconds
    bucket = TokenBucket(rate, capacity, now=now)
    for share, floor in wishes:
        amount = share * capacity
        at = bucket.ready_at(amount, floor=floor * capacity)
        now = max(now, at)
        bucket.level(now)  # looking changes nothing
        assert bucket.ready_at(amount, floor=floor * capacity) <= now
        need = min(amount + floor * capacity, capacity)
        assert bucket.level(now) >= need - 1e-9 * capacity - rate * math.ulp(now)
        if at > -math.inf:  # and it is not named too late either
            assert bucket.level(at) <= need + 1e-9 * capacity + rate * math.ulp(now)
        bucket.take(amount, now)


def test_ten_thousand_units_need_ten_thousand_wakings():
    """A third of a token a second, at an awkward instant: no waking comes too early for its token."""
    bucket, now = TokenBucket(1 / 3, 1.0, now=1e9 / 7, level=0.0), 1e9 / 7
    begun = now
    for _ in range(10_000):
        now = bucket.ready_at(1.0)
        assert bucket.ready_at(1.0) <= now
        bucket.take(1.0, now)
    assert now - begun == pytest.approx(30_000, abs=0.01)


def test_settling_may_drive_it_into_debt_and_the_refill_pays_it_back():
    """A request that took more than was reserved is paid for before the next one goes."""
    bucket = TokenBucket(2.0, 60.0, now=0.0)
    bucket.take(60.0, 0.0)
    bucket.settle(-30.0, 10.0)
    assert bucket.level(10.0) == -10.0
    assert bucket.ready_at(0.0) == 15.0
    assert bucket.ready_at(1.0) == 15.5


def test_what_is_given_back_never_overfills():
    """A refund stops at the capacity."""
    bucket = TokenBucket(2.0, 60.0, now=0.0)
    bucket.take(10.0, 0.0)
    bucket.settle(30.0, 1.0)
    assert bucket.level(1.0) == 60.0
    bucket.correct(70.0, 1.0)
    assert bucket.level(1.0) == 60.0


def test_more_than_it_can_hold_goes_when_it_is_full_and_is_paid_for_afterwards():
    """An oversize amount waits for a full bucket, not for ever, and the rate still holds."""
    bucket = TokenBucket(2.0, 60.0, now=0.0, level=0.0)
    assert bucket.ready_at(100.0) == 30.0
    bucket.take(100.0, 30.0)
    assert bucket.level(30.0) == -40.0
    assert bucket.ready_at(100.0) == 30.0 + 50.0


@examples
@given(steps=st.lists(st.tuples(st.floats(-50, 50), shares), min_size=1, max_size=60))
def test_a_backward_clock_creates_no_tokens(steps):
    """However the clock jumps about, no more is admitted than came until the latest instant it showed."""
    bucket, now, latest, admitted = TokenBucket(2.0, 60.0, now=0.0), 0.0, 0.0, 0.0
    for jump, share in steps:
        now += jump
        latest = max(latest, now)
        if bucket.ready_at(60.0 * share) <= now:
            bucket.take(60.0 * share, now)
            admitted += 60.0 * share
        assert admitted <= 60.0 + 2.0 * latest + 1e-6


@pytest.mark.parametrize("change", ["take", "settle", "correct", "reconfigure"])
def test_no_change_at_an_earlier_instant_refills_twice(change):
    """After the clock went back and forth again the level is what one refill makes it."""
    bucket = TokenBucket(2.0, 60.0, now=0.0, level=0.0)
    bucket.take(0.0, 10.0)
    assert bucket.level(10.0) == 20.0
    if change == "reconfigure":
        bucket.reconfigure(2.0, 60.0, 5.0)
    elif change == "correct":
        bucket.correct(20.0, 5.0)
    else:
        getattr(bucket, change)(0.0, 5.0)
    assert bucket.level(10.0) == 20.0
    assert bucket.level(12.0) == 24.0


def test_what_came_before_a_change_of_rate_came_at_the_old_rate():
    """Retuning refills first, then clips to the new capacity."""
    bucket = TokenBucket(2.0, 60.0, now=0.0, level=0.0)
    bucket.reconfigure(1.0, 60.0, 10.0)
    assert bucket.level(10.0) == 20.0
    assert bucket.level(15.0) == 25.0
    bucket.reconfigure(10.0, 5.0, 15.0)
    assert bucket.level(15.0) == bucket.level(99.0) == 5.0
    bucket.reconfigure(10.0, 500.0, 15.0)
    assert bucket.level(16.0) == 15.0
    assert bucket.level(999.0) == 500.0


def test_somebody_who_knows_better_sets_the_level():
    """From that instant on, up or down, also into debt."""
    bucket = TokenBucket(2.0, 60.0, now=0.0)
    for level in (10.0, 50.0, -20.0):
        bucket.correct(level, 5.0)
        assert bucket.level(5.0) == level
        assert bucket.level(6.0) == level + 2.0


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 40),
    period=st.sampled_from([1.0, 7.0, 60.0]),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_aiolimiter_agrees_for_requests_of_one_token(size, period, gaps):
    """An independent leaky bucket lets the same requests through, and the next one at the same instant."""

    async def main():
        loop = asyncio.get_running_loop()
        limiter = AsyncLimiter(size, period)
        bucket = TokenBucket(size / period, float(size), now=loop.time())
        times = []
        for gap in gaps:
            await asyncio.sleep(gap * period / size)
            ready = bucket.ready_at(1.0) <= loop.time()
            if abs(bucket.level(loop.time()) - 1.0) > 1e-6:  # else rounding may decide
                assert limiter.has_capacity(1) is ready
            if not ready:
                at = bucket.ready_at(1.0)
                if at - loop.time() > 1e-5:
                    await asyncio.sleep(at - loop.time() - 1e-6)
                    assert not limiter.has_capacity(1)
                await asyncio.sleep(2e-6)
            assert limiter.has_capacity(1)
            await limiter.acquire()
            bucket.take(1.0, loop.time())
            times.append(loop.time())
        assert all(a <= b for a, b in pairwise(times))

    run_virtual(main())
