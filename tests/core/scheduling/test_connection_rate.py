"""New connections come at a bounded rate; those that are open are not held back."""

import math

from tests.core.factories import a_job

from claude_executor.core.scheduling.executor_limits import (
    CONNECTIONS_AT_ONCE,
    CONNECTIONS_PER_SECOND,
    ConnectionGate,
    ExecutorLimits,
)


def a_gate():
    """A gate of an executor with room for many."""
    limits = ExecutorLimits(10_000, (), 0.0)
    return limits, ConnectionGate(limits, 0.0)


def test_a_crowd_opens_its_connections_little_by_little():
    """At most so many at once, and then so many a second."""
    (limits, gate), now = a_gate(), 0.0
    for running in range(1_000):
        now = max(now, gate.opens_at(a_job(), now, 0.0))
        limits.running = running + 1
        gate.take(a_job(), now)
        assert running + 1 <= CONNECTIONS_AT_ONCE + CONNECTIONS_PER_SECOND * now + 1e-6
    assert now < 1_000 / CONNECTIONS_PER_SECOND + 1.0


def test_what_has_been_open_is_free():
    """Up to the most that were ever in flight nobody waits, however often they come and go."""
    limits, gate = a_gate()
    for running in range(1, 51):
        limits.running = running
        gate.take(a_job(), 0.0)
    assert gate.opens_at(a_job(), 0.0, 0.0) > 0.0
    for _ in range(10):
        for running in range(50):
            limits.running = running
            assert gate.opens_at(a_job(), 0.0, 0.0) == -math.inf
            limits.running = running + 1
            gate.take(a_job(), 0.0)
