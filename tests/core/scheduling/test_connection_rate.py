"""New connections come at a bounded rate; those that are open are not held back."""

import math

from claude_executor.core.scheduling.executor_limits import (
    CONNECTIONS_AT_ONCE,
    CONNECTIONS_PER_SECOND,
    ConnectionRate,
)


def test_a_crowd_opens_its_connections_little_by_little():
    """At most so many at once, and then so many a second."""
    opening, now = ConnectionRate(0.0), 0.0
    for running in range(1_000):
        now = max(now, opening.ready_at(running))
        opening.take(running + 1, now)
        assert running + 1 <= CONNECTIONS_AT_ONCE + CONNECTIONS_PER_SECOND * now + 1e-6
    assert now < 1_000 / CONNECTIONS_PER_SECOND + 1.0


def test_what_has_been_open_is_free():
    """Up to the most that were ever in flight nobody waits, however often they come and go."""
    opening = ConnectionRate(0.0)
    for running in range(1, 51):
        opening.take(running, 0.0)
    assert opening.ready_at(50) > 0.0
    for _ in range(10):
        for running in range(50):
            assert opening.ready_at(running) == -math.inf
            opening.take(running + 1, 0.0)
