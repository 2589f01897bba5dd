"""What all pools share."""

import math

import pytest
from tests.core.factories import a_job, a_shape

from claude_executor.core.control.spending import SpendingCap
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.gate import NEVER, HeldBy
from claude_executor.core.scheduling.executor_limits import CONNECTIONS_AT_ONCE, ExecutorLimits


def opens_at(limits, job, keep):
    """When all gates let it pass, and which one is the last."""
    ready = [(gate.opens_at(job, 0.0, keep), gate.held_by) for gate in limits.gates]
    return max(ready, key=lambda entry: entry[0])


def take(limits, job, now):
    """Pass all gates."""
    for gate in limits.gates:
        gate.take(job, now)


def fly(ceiling, count, now=0.0):
    """So many attempts start."""
    jobs = [a_job(n) for n in range(count)]
    for job in jobs:
        ceiling.set_worst_case(job)
        take(ceiling, job, now)
    return jobs


def test_no_more_are_in_flight_than_allowed():
    """A place comes free when one of them is over."""
    ceiling = ExecutorLimits(3, (), 0.0)
    jobs = fly(ceiling, 3)
    assert opens_at(ceiling, a_job(), 0.0) == (NEVER, HeldBy.CONCURRENCY)
    ceiling.release(jobs[0], None)
    assert opens_at(ceiling, a_job(), 0.0)[0] == -math.inf
    ceiling.reconfigure(2)
    assert opens_at(ceiling, a_job(), 0.0) == (NEVER, HeldBy.CONCURRENCY)
    with pytest.raises(ValueError, match="max_concurrency must be at least 1, got 0"):
        ceiling.reconfigure(0)


def test_a_share_of_the_places_is_kept():
    """But one may always go."""
    ceiling = ExecutorLimits(20, (), 0.0)
    fly(ceiling, 19)
    assert opens_at(ceiling, a_job(), 0.0)[0] < NEVER
    assert opens_at(ceiling, a_job(), 0.05) == (NEVER, HeldBy.CONCURRENCY)
    assert opens_at(ExecutorLimits(1, (), 0.0), a_job(), 0.05)[0] < NEVER


def test_new_connections_are_paced():
    """Those that are open already are not."""
    ceiling = ExecutorLimits(1_000, (), 0.0)
    jobs = fly(ceiling, int(CONNECTIONS_AT_ONCE))
    at, why = opens_at(ceiling, a_job(), 0.0)
    assert at > 0.0
    assert why == HeldBy.CONNECTIONS
    ceiling.release(jobs[0], None)
    assert opens_at(ceiling, a_job(), 0.0)[0] <= 0.0


def test_a_spending_cap_holds_and_then_refuses():
    """It holds while what is in flight may turn out cheaper."""
    most = SpendingCap(1.0).worst_case(a_shape())
    ceiling = ExecutorLimits(9, [SpendingCap(1.5 * most)], 0.0)
    [job] = fly(ceiling, 1)
    other = a_job(2)
    ceiling.set_worst_case(other)
    assert opens_at(ceiling, other, 0.0) == (NEVER, HeldBy.SPENDING)
    assert not ceiling.cannot_fit(other)
    ceiling.release(job, Usage(int(most)))
    assert ceiling.cannot_fit(other)
    assert not ExecutorLimits(9, (), 0.0).cannot_fit(a_job())
