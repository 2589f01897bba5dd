"""The limit on growth: allowances by the minute."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_executor.core.control.ramp import MINUTE, RampLimit

LIMIT = 2_000_000.0


def limited(quoted=(25_000.0, 95_000.0), used=20_000.0, wait=15.0, now=100.0):
    """Told at second 100 that the rise is too steep, fifteen seconds before the next minute."""
    growth = RampLimit()
    growth.on_refusal(quoted, used, wait, now)
    return growth


def spend(growth, now, tokens=1_000.0, limit=LIMIT):
    """How many tokens start at this instant."""
    spent = 0.0
    while growth.ready_at(tokens, now, limit) <= now and spent < 10 * LIMIT:
        growth.take(tokens)
        spent += tokens
    return spent


def test_until_the_api_complains_growth_is_not_limited():
    """Whatever starts."""
    growth = RampLimit()
    growth.take(1e9)
    assert growth.ready_at(1e9, 0.0, LIMIT) == -math.inf
    assert repr(growth) == "<RampLimit inactive>"


def test_after_the_refusal_nothing_goes_until_the_next_minute():
    """The instant is the end of the wait that was told."""
    growth = limited()
    assert growth.ready_at(1.0, 100.0, LIMIT) == 115.0
    assert growth.ready_at(1.0, 114.9, LIMIT) == 115.0
    assert growth.ready_at(1.0, 115.0, LIMIT) == -math.inf


def test_the_allowance_is_what_was_quoted_and_grows_by_the_same_step():
    """25,000 now and 95,000 next: then 165,000, and so on, until the limit itself is passed."""
    growth, now = limited(), 115.0
    for allowance in (95_000, 165_000, 235_000):
        assert 0.9 * allowance <= spend(growth, now) <= allowance
        assert growth.ready_at(1_000.0, now, LIMIT) == now + MINUTE
        now += MINUTE
    for _ in range(40):
        growth.ready_at(1.0, now, LIMIT)
        now += MINUTE
    assert not growth.active
    assert spend(growth, now) > LIMIT


def test_where_nothing_is_quoted_the_last_minute_stands_in():
    """Twice what was used, and the same step again."""
    growth = limited(quoted=None, used=50_000.0)
    assert 90_000 <= spend(growth, 115.0) <= 100_000
    assert 130_000 <= spend(growth, 115.0 + MINUTE) <= 150_000


def test_one_request_goes_each_minute_however_large():
    """More than the whole allowance starts with a fresh minute, not never."""
    growth = limited(quoted=None, used=0.0)
    assert growth.ready_at(80_000.0, 115.0, LIMIT) == -math.inf
    growth.take(80_000.0)
    assert growth.ready_at(80_000.0, 115.0, LIMIT) == 115.0 + MINUTE
    assert growth.ready_at(80_000.0, 115.0 + MINUTE, LIMIT) == -math.inf


def test_without_growth_there_is_nothing_to_follow():
    """The same figure twice: after the minute told, the limits alone hold."""
    growth = limited(quoted=(50_000.0, 50_000.0))
    assert growth.ready_at(1.0, 110.0, LIMIT) == 115.0
    assert growth.ready_at(1e9, 115.0, LIMIT) == -math.inf
    assert not growth.active


def test_the_repr_tells_the_state():
    """What is left of which allowance, and until when."""
    growth = limited()
    growth.ready_at(1.0, 115.0, LIMIT)
    growth.take(5_000.0)
    assert repr(growth) == "<RampLimit 90000 of 95000 left until 175.0>"


@settings(max_examples=80, deadline=None)
@given(
    quoted=st.one_of(st.none(), st.tuples(st.floats(0, 1e6), st.floats(0, 1e6))),
    used=st.floats(0, 1e6),
    wait=st.floats(0, 100),
    limit=st.sampled_from([1e3, 1e6, math.inf]),
    wishes=st.lists(st.tuples(st.floats(0, 200), st.floats(0, 1e6)), min_size=1, max_size=30),
)
def test_nobody_waits_for_ever_and_a_minute_holds_its_allowance(quoted, used, wait, limit, wishes):
    """Every request starts at the instant named; a minute holds its allowance, or one larger request."""
    growth = limited(quoted, used, wait)
    now, minute, spent, largest = 100.0, None, 0.0, 0.0
    for gap, tokens in wishes:
        now += gap
        at = growth.ready_at(tokens, now, limit)
        assert at < math.inf
        now = max(now, at)
        assert growth.ready_at(tokens, now, limit) <= now
        growth.take(tokens)
        if not growth.active:
            break
        if minute != growth._ends_at:
            minute, spent, largest = growth._ends_at, 0.0, 0.0
        spent, largest = spent + tokens, max(largest, tokens)
        assert now < growth._ends_at
        assert spent <= max(growth._allowance, largest) + 1e-6
