"""Counts of the last minute."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.model.cost import NOTHING, Cost
from claude_executor.core.model.limits import DEFAULT, Limits
from claude_executor.core.model.snapshot import Snapshot
from claude_executor.core.pool.pool import Pool
from claude_executor.core.pool.usage import UsageWindow
from claude_executor.core.scheduling.inspection import state_of


def test_what_was_used_is_forgotten_after_a_minute():
    """It counts for sixty seconds and then no more."""
    used = UsageWindow()
    used.add(Cost(1, 100, 10, 5), 100.5)
    used.add(Cost(1, 100, 10), 130.0)
    assert used.last_minute(130.0) == Cost(2, 200, 20)
    assert used.last_minute(159.9) == Cost(2, 200, 20)
    assert used.last_minute(161.0) == Cost(1, 100, 10)
    assert used.last_minute(500.0) == NOTHING


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1_000)), max_size=40))
def test_a_minute_is_a_minute_give_or_take_a_second(events):
    """Whatever the gaps, the sum is that of the last fifty-nine to sixty seconds."""
    used, now, seen = UsageWindow(), 0.0, []
    for gap, amount in events:
        now += gap
        used.add(Cost(0, amount, 0), now)
        seen.append((now, amount))
        total = used.last_minute(now).input_tokens
        assert sum(a for at, a in seen if at > now - 59) <= total <= sum(a for at, a in seen if at > now - 61)


def a_pool(breaker, held_for=None):
    """The state of a pool of which only this matters."""
    state = state_of(Pool("x", {}, ceiling=1, breaker=BreakerPolicy(), now=0.0), 0.0)
    return replace(state, breaker=breaker, held_for=held_for or {})


def test_the_worst_breaker_is_the_one_that_is_shown():
    """Open before half-open before closed; with no pools nothing is wrong."""

    def shown(*states):
        pools = {str(number): a_pool(state) for number, state in enumerate(states)}
        return Snapshot(0, 0, 0, 0, 0, 0, 0, pools).breaker

    assert shown() == "closed"
    assert shown("closed", "half-open") == "half-open"
    assert shown("half-open", "open", "closed") == "open"


def test_what_has_held_the_line_up_longest_binds():
    """Nothing, if nothing has."""
    assert a_pool("closed").binding is None
    assert a_pool("closed", {"requests": 3.0, "output tokens": 5.0}).binding == "output tokens"


def test_utilization_is_what_was_used_of_the_limit():
    """In the last minute, as a share; and all that was ever used is counted too."""
    pool = Pool("x", {DEFAULT: Limits(rpm=600)}, ceiling=1, breaker=BreakerPolicy(), now=0.0)
    pool.used.add(Cost(300, 0, 0), 0.0)
    pool.used.add(Cost(450, 0, 0), 100.0)
    requests = state_of(pool, 100.0).resources["requests"]
    assert (requests.used, requests.utilization, requests.used_in_all) == (450, 0.75, 750)
