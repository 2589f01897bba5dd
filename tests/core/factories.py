"""Jobs, shapes and answers for the tests of the core."""

from claude_executor.core.model.cost import Cost, Resource
from claude_executor.core.model.failure import Failure, FailureKind
from claude_executor.core.model.headers import LimitQuote, ResponseHints
from claude_executor.core.model.job import Job, Phase
from claude_executor.core.model.request import RequestShape

HAIKU = "claude-haiku-5-5"
OPUS = "claude-opus-5"
SOME_COST = Cost(1.0, 1_000.0, 100.0)


def a_shape(model=HAIKU, *, max_tokens=500, text_bytes=2_500):
    """What is known of a plain request."""
    return RequestShape(model, max_tokens, text_bytes, 14)


def a_job(
    number=1,
    *,
    model=HAIKU,
    pool="haiku-5.5",
    priority=0,
    tenant="",
    cost=SOME_COST,
    charge=1.0,
    size_class=("", 0),
    deadline_at=float("inf"),
    phase=Phase.WAITING,
    attempts=0,
    pays_retry=False,
):
    """A job as the scheduler would have made it, in any phase."""
    job = Job(number, a_shape(model), pool, priority, tenant, 0.0, deadline_at)
    job.cost, job.charge, job.size_class = cost, charge, size_class
    job.phase, job.attempts, job.pays_retry = phase, attempts, pays_retry
    return job


def advice(*, retry_after=None, should_retry=None, full_in=None, **remaining):
    """Headers that quote (limit, remaining) of requests, input or output."""
    quotes = {Resource[name.upper()]: LimitQuote(*pair, full_in) for name, pair in remaining.items()}
    return ResponseHints(quotes, retry_after, should_retry)


def a_failure(kind=FailureKind.SERVER, *, status=500, resource=None, used=None, **headers):
    """A failed attempt, with what its headers said."""
    return Failure(kind, advice(**headers), status=status, resource=resource, usage=used)


def windows_hold(events, capacity_at, earned, tolerance):
    """No window from one event to another holds more than its first capacity and what came during it.

    `events` are (instant, amount); amounts given back are negative and count only inside a window.
    """
    for first in range(len(events)):
        total = 0.0
        for last in range(first, len(events)):
            total += events[last][1]
            assert total <= capacity_at[first] + earned[last] - earned[first] + tolerance
