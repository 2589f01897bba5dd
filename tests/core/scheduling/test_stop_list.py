"""Refusing at once what would only fail again."""

import pytest
from tests.core.factories import HAIKU, OPUS, a_failure

from claude_executor.core.model.failure import FailureKind, Scope
from claude_executor.core.scheduling.failure_decisions import LASTS, StopList

GONE = a_failure(FailureKind.NOT_FOUND, status=404)
NO_KEY = a_failure(FailureKind.AUTHENTICATION, status=401)


def test_nothing_is_stopped_to_begin_with():
    """No reason until there is one."""
    assert StopList().reason(HAIKU, 0.0) is None


@pytest.mark.parametrize(
    ("scope", "other"), [(Scope.MODEL, None), (Scope.EVERYTHING, NO_KEY)], ids=["model", "everything"]
)
def test_a_stop_reaches_as_far_as_its_scope(scope, other):
    """One model, or all of them, with the answer that stopped them as the reason."""
    stops = StopList()
    stops.add(HAIKU, NO_KEY, scope, 100.0)
    assert stops.reason(HAIKU, 100.0) is NO_KEY
    assert stops.reason(OPUS, 100.0) is other


def test_a_stop_lasts_a_while_and_then_somebody_may_see():
    """Until the instant announced, and not at it."""
    stops = StopList()
    until = stops.add(HAIKU, GONE, Scope.MODEL, 100.0)
    assert until == 100.0 + LASTS
    assert stops.reason(HAIKU, until - 1e-6) is GONE
    assert stops.reason(HAIKU, until) is None
    assert stops.reason(HAIKU, 100.0) is None  # it is forgotten, not hidden


def test_a_newer_stop_prolongs_the_older():
    """Failing again on the first try after a stop stops again."""
    stops = StopList()
    stops.add(HAIKU, GONE, Scope.MODEL, 100.0)
    stops.add(HAIKU, NO_KEY, Scope.MODEL, 130.0)
    assert stops.reason(HAIKU, 120.0 + LASTS) is NO_KEY


def test_the_reason_for_everything_goes_before_the_reason_for_a_model():
    """And the model's own outlives it."""
    stops = StopList()
    stops.add(HAIKU, NO_KEY, Scope.EVERYTHING, 100.0)
    stops.add(HAIKU, GONE, Scope.MODEL, 130.0)
    assert stops.reason(HAIKU, 131.0) is NO_KEY
    assert stops.reason(HAIKU, 110.0 + LASTS) is GONE
