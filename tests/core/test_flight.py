"""Sums over the requests in flight."""

import pytest

from claude_executor.core.cost import NOTHING, Cost
from claude_executor.core.flight import Flight


def test_answers_are_taken_to_be_produced_evenly():
    """Over as long as they last; not at all while that is not known."""
    short, long = Cost(1.0, 0.0, 100.0), Cost(1.0, 0.0, 200.0)
    flight = Flight()
    flight.begin(short, 0.0)
    assert flight.undrawn(50.0) == 100.0
    flight.lasts = 10.0
    flight.begin(long, 5.0)
    assert flight.undrawn(5.0) == pytest.approx(250.0)
    assert flight.undrawn(8.0) == pytest.approx(20.0 + 140.0)
    flight.end(short, 0.0)
    assert flight.undrawn(8.0) == pytest.approx(140.0)
    assert flight.undrawn(1_000.0) == 0.0
    flight.end(long, 5.0)
    assert flight.undrawn(8.0) == 0.0


def test_nothing_in_flight_has_nothing_reserved():
    """Whatever rounding has left over."""
    flight = Flight()
    costs = [Cost(1.0, 0.1 * n, 0.3 * n, 1e9 / n, 0.7) for n in range(1, 50)]
    for cost in costs:
        flight.begin(cost, 1.0)
    assert flight.reserved.input_tokens == pytest.approx(0.1 * sum(range(1, 50)))
    for cost in costs:
        flight.end(cost, 1.0)
        assert min(flight.reserved) >= 0.0
    assert (flight.count, flight.reserved) == (0, NOTHING)
