"""Decisions after a failed attempt: retry or not, when, and which other requests to stop."""

from dataclasses import dataclass

from claude_executor.core.control.retry import RetryPolicy
from claude_executor.core.model.actions import Disposition
from claude_executor.core.model.failure import FAILURE_POLICIES, Failure, FailureKind, Scope
from claude_executor.core.model.job import Job

FIRST_ATTEMPTS = 3
"""Attempts to reach an API that has never answered: more likely a wrong address than an outage."""

HOPELESS = 5
"""Multiple of `max_attempts` after which a request fails in any case: it may cause the errors itself."""
_MAY_BE_CHARGED = frozenset(
    {FailureKind.TIMEOUT, FailureKind.DROPPED, FailureKind.TRUNCATED, FailureKind.GARBLED}
)


@dataclass(frozen=True, slots=True)
class RetryContext:
    """Facts that a decision depends on beside the job and its failure.

    Attributes:
        reached: Whether the API has ever answered this executor.
        getting_through: Whether other requests are answered, that is, the circuit breaker is closed.
        fits: Whether the request could ever fit the limits.
        opens_at: The instant at which the pool opens again after a 429.
        retrying: Whether anything is retried; False while the executor is being torn down.
    """

    reached: bool
    getting_through: bool
    fits: bool
    opens_at: float
    retrying: bool


def decide(
    job: Job, failure: Failure, context: RetryContext, policy: RetryPolicy, now: float, u: float
) -> tuple[Disposition, float]:
    """Decide what becomes of the job, and in how many seconds it may queue again. Counts the attempt.

    Waiting that concerns the whole pool (a 429, an open breaker) is not in those seconds:
    its gates see to it.
    """
    job.sent = job.sent or failure.sent
    policy_of_kind = FAILURE_POLICIES[failure.kind]
    waits_for_quota = failure.kind in (FailureKind.QUOTA, FailureKind.RAMP)
    nowhere = failure.kind is FailureKind.UNREACHABLE and not context.reached
    if policy_of_kind.counts and (context.getting_through or nowhere or failure.kind in _MAY_BE_CHARGED):
        job.counted_attempts += 1  # while nothing gets through, failing says little about the request
    if waits_for_quota:
        delay = 0.0
    elif failure.kind is FailureKind.DROPPED and job.attempts == 1:
        delay = 0.0  # most likely a kept-alive connection that the other side had already closed
    else:
        delay = policy.delay(job.attempts - 1, u, retry_after=failure.hints.retry_after)
    most = min(policy.max_attempts, FIRST_ATTEMPTS) if nowhere else policy.max_attempts
    final = failure.hints.should_retry is False and not waits_for_quota
    if not context.fits:
        return Disposition.TOO_LARGE, delay
    if not (policy_of_kind.retry and context.retrying) or final:
        return Disposition.FAILED, delay
    hopeless = failure.kind is not FailureKind.OVERLOADED and job.attempts >= HOPELESS * policy.max_attempts
    if job.counted_attempts >= most or (hopeless and not waits_for_quota):
        return Disposition.FAILED, delay
    too_late = max(now + delay, context.opens_at) >= job.deadline_at
    return (Disposition.TOO_LATE if too_late else Disposition.AGAIN), delay


def scope_of(failure: Failure, *, reached: bool, answered: bool) -> Scope:
    """Return which other requests would fail the same way.

    Args:
        failure: How a request failed for good.
        reached: Whether the API has ever answered this executor.
        answered: Whether the pool of the request's model has ever answered. Then a 404 or 403 concerns the
            request alone, for example a file that does not exist.
    """
    if failure.kind is FailureKind.UNREACHABLE and not reached:
        return Scope.EVERYTHING
    if answered and FAILURE_POLICIES[failure.kind].scope is Scope.MODEL:
        return Scope.REQUEST
    return FAILURE_POLICIES[failure.kind].scope


LASTS = 60.0
"""Seconds for which a failure stops others; then one is let through again, to see."""


class StopList:
    """Models whose requests are refused unsent, because they would only fail again.

    Bad keys, spend limits and models that do not exist are such failures. A stop ends after `LASTS`,
    because a service may outlive a spend limit.
    """

    __slots__ = ("_by_model",)

    def __init__(self) -> None:
        self._by_model: dict[str | None, tuple[float, Failure]] = {}  # None: every model

    def add(self, model: str, failure: Failure, scope: Scope, now: float) -> float:
        """Stop requests for the model, or for all models if `scope` says so. Return until when."""
        until = now + LASTS
        self._by_model[None if scope is Scope.EVERYTHING else model] = (until, failure)
        return until

    def reason(self, model: str, now: float) -> Failure | None:
        """Return the failure that stops requests for a model, or None."""
        if not self._by_model:
            return None
        for key in (None, model):
            until, failure = self._by_model.get(key, (now, None))
            if until > now:
                return failure
            self._by_model.pop(key, None)
        return None
