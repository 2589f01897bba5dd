"""What becomes of a request whose attempt failed: again, and when, or not."""

from dataclasses import dataclass

from claude_executor.core.control.retry import RetryPolicy
from claude_executor.core.model.actions import Disposition
from claude_executor.core.model.failure import FAILURE_POLICIES, Failure, FailureKind, Scope
from claude_executor.core.model.job import Job

FIRST_ATTEMPTS = 3
"""Attempts to reach an API that has never answered: that is a wrong address sooner than an outage."""

HOPELESS = 5
"""Times `max_attempts` after which a request is given up in any case: the outage may be its own doing."""
_MAY_BE_CHARGED = frozenset(
    {FailureKind.TIMEOUT, FailureKind.DROPPED, FailureKind.TRUNCATED, FailureKind.GARBLED}
)


@dataclass(frozen=True, slots=True)
class RetryContext:
    """What the verdict depends on beside the job and its failure.

    Attributes:
        reached: Whether the API has ever answered.
        getting_through: Whether others are being answered, that is, the circuit breaker is closed.
        fits: Whether the request could ever fit the limits.
        opens_at: When the pool opens again that a 429 has closed.
        retrying: Whether anything is retried at all; not while the executor is being torn down.
    """

    reached: bool
    getting_through: bool
    fits: bool
    opens_at: float
    retrying: bool


def decide(
    job: Job, failure: Failure, circumstances: RetryContext, policy: RetryPolicy, now: float, u: float
) -> tuple[Disposition, float]:
    """What becomes of the job, and in how many seconds it may stand in line again. Counts the attempt.

    What holds up everybody (a closed pool, an open breaker) is not in those seconds: the pool sees to it.
    """
    job.sent = job.sent or failure.sent
    treatment = FAILURE_POLICIES[failure.kind]
    waits_for_quota = failure.kind in (FailureKind.QUOTA, FailureKind.RAMP)
    nowhere = failure.kind is FailureKind.UNREACHABLE and not circumstances.reached
    if treatment.counts and (circumstances.getting_through or nowhere or failure.kind in _MAY_BE_CHARGED):
        job.counted_attempts += 1  # while nothing gets through, failing says little about the request
    if waits_for_quota:
        delay = 0.0
    elif failure.kind is FailureKind.DROPPED and job.attempts == 1:
        delay = 0.0  # most likely a kept-alive connection that the other side had already closed
    else:
        delay = policy.delay(job.attempts - 1, u, retry_after=failure.hints.retry_after)
    most = min(policy.max_attempts, FIRST_ATTEMPTS) if nowhere else policy.max_attempts
    told_not_to = failure.hints.should_retry is False and not waits_for_quota
    if not circumstances.fits:
        return Disposition.TOO_LARGE, delay
    if not (treatment.retry and circumstances.retrying) or told_not_to:
        return Disposition.FAILED, delay
    hopeless = failure.kind is not FailureKind.OVERLOADED and job.attempts >= HOPELESS * policy.max_attempts
    if job.counted_attempts >= most or (hopeless and not waits_for_quota):
        return Disposition.FAILED, delay
    too_late = max(now + delay, circumstances.opens_at) >= job.deadline_at
    return (Disposition.TOO_LATE if too_late else Disposition.AGAIN), delay


def scope_of(failure: Failure, *, reached: bool, answered: bool) -> Scope:
    """What else would fail the same way; `on_response`, if its model's pool has ever answered.

    Then it is the request's own that something was not found, such as a file, or not permitted.
    """
    if failure.kind is FailureKind.UNREACHABLE and not reached:
        return Scope.EVERYTHING
    if answered and FAILURE_POLICIES[failure.kind].scope is Scope.MODEL:
        return Scope.REQUEST
    return FAILURE_POLICIES[failure.kind].scope


LASTS = 60.0
"""Seconds a stop lasts."""


class StopList:
    """What is stopped, and until when."""

    __slots__ = ("_by_model",)

    def __init__(self) -> None:
        self._by_model: dict[str | None, tuple[float, Failure]] = {}  # None: every model

    def add(self, model: str, failure: Failure, scope: Scope, now: float) -> float:
        """Stop whatever `scope` says; until when."""
        until = now + LASTS
        self._by_model[None if scope is Scope.EVERYTHING else model] = (until, failure)
        return until

    def reason(self, model: str, now: float) -> Failure | None:
        """Why requests for a model are not sent, if they are not."""
        if not self._by_model:
            return None
        for key in (None, model):
            until, failure = self._by_model.get(key, (now, None))
            if until > now:
                return failure
            self._by_model.pop(key, None)
        return None
