"""Counts of the last minute."""

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_executor.core.cost import NOTHING, Cost
from claude_executor.core.snapshot import PoolState, ResourceState, Snapshot
from claude_executor.core.tally import Usages


def test_what_was_used_is_forgotten_after_a_minute():
    """It counts for sixty seconds and then no more."""
    used = Usages()
    used.add(Cost(1, 100, 10, 5), 100.5)
    used.add(Cost(1, 100, 10), 130.0)
    assert used.total(130.0) == Cost(2, 200, 20)
    assert used.total(159.9) == Cost(2, 200, 20)
    assert used.total(161.0) == Cost(1, 100, 10)
    assert used.total(500.0) == NOTHING


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1_000)), max_size=40))
def test_a_minute_is_a_minute_give_or_take_a_second(events):
    """Whatever the gaps, the sum is that of the last fifty-nine to sixty seconds."""
    used, now, seen = Usages(), 0.0, []
    for gap, amount in events:
        now += gap
        used.add(Cost(0, amount, 0), now)
        seen.append((now, amount))
        total = used.last_minute(now).input_tokens
        assert sum(a for at, a in seen if at > now - 59) <= total <= sum(a for at, a in seen if at > now - 61)


def a_pool(breaker, held_for=None):
    """The state of a pool of which only this matters."""
    return PoolState({}, 0, 0, 1.0, breaker, 0.0, None, held_for or {}, 0.0, 0)


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


def test_utilisation_is_what_was_used_of_the_limit():
    """In the last minute, as a share."""
    assert ResourceState(600.0, "told", 0.0, 600.0, 0.0, 450.0).utilisation == 0.75
