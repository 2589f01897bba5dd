"""Sums over the requests in flight."""

import pytest

from claude_executor.core.model.cost import NOTHING, Cost
from claude_executor.core.pool.usage import InFlight


def test_nothing_in_flight_has_nothing_reserved():
    """Whatever rounding has left over."""
    flight = InFlight()
    costs = [Cost(1.0, 0.1 * n, 0.3 * n, 1e9 / n, 0.7) for n in range(1, 50)]
    for cost in costs:
        flight.add(cost)
    assert flight.count == 49
    assert flight.reserved[1] == pytest.approx(0.1 * sum(range(1, 50)))
    for cost in costs:
        flight.remove(cost)
        assert min(flight.reserved) >= 0.0
    assert (flight.count, tuple(flight.reserved)) == (0, NOTHING)
