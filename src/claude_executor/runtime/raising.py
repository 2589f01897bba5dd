"""Turns the decision of the core about a job into the exception that its caller gets."""

from typing import Protocol

from claude_executor.core.model.actions import Disposition, Refusal, Refuse
from claude_executor.core.model.failure import Failure, FailureKind
from claude_executor.core.model.job import Job
from claude_executor.errors import (
    BudgetUnreachable,
    Closed,
    DeadlineExceeded,
    ExecutorError,
    Failed,
    QueueFull,
    SpendingCapReached,
    Stopped,
    StreamInterrupted,
    TooLarge,
)

_REMEDY = {
    FailureKind.AUTHENTICATION: "check the API key (ANTHROPIC_API_KEY)",
    FailureKind.BILLING: "check credit and payment in the Claude Console",
    FailureKind.SPEND_LIMIT: "raise the spend limit in the Claude Console, or wait until it resets",
    FailureKind.PERMISSION: "check what the API key's workspace may use in the Claude Console",
    FailureKind.NOT_FOUND: "check the name of the model and the base URL (ANTHROPIC_BASE_URL)",
    FailureKind.UNREACHABLE: "check the network and the base URL (ANTHROPIC_BASE_URL)",
    FailureKind.TOO_LARGE: "shorten the request: the API takes at most 32 MB",
}
"""The remedies for failures that a retry cannot fix."""


class Attempted(Protocol):
    """The progress of a request; a `Job` has it."""

    @property
    def attempts(self) -> int:
        """The number of attempts made."""
        ...

    @property
    def sent(self) -> bool:
        """Whether the API may have been given the request in any of them."""
        ...


def rejection(refuse: Refuse) -> ExecutorError:
    """Return the exception for a request that is turned away; `Failed` if it had been sent before."""
    job, because = refuse.job, refuse.cause
    if job.sent and job.last_failure is not None:
        return _failed(
            job, job.last_failure, f"gave up after {_times(job.attempts)} because {refuse.refusal}"
        )
    if refuse.refusal is Refusal.QUEUE_FULL:
        return QueueFull("too many requests are waiting (max_queued); submit again when some have finished")
    if refuse.refusal is Refusal.DEADLINE:
        why = f": the API is failing ({describe(because)})" if because is not None else ""
        return DeadlineExceeded(f"the request cannot start before its deadline{why}; allow more time")
    if refuse.refusal is Refusal.STOPPED and because is not None:
        return Stopped(f"not sent because an earlier request failed: {describe(because)}", kind=because.kind)
    if refuse.refusal is Refusal.SPENDING_CAP:
        return SpendingCapReached(
            "not sent: the request could cost more than the spending cap has left; raise the cap"
        )
    if refuse.refusal is Refusal.UNREACHABLE:
        why = f" ({refuse.unreachable_reason})" if refuse.unreachable_reason else ""
        return BudgetUnreachable(
            f"not sent: the shared budget cannot be reached{why}; "
            "check Redis, or continue without it: RedisBudget(…, when_unreachable='degrade')"
        )
    return Closed("the executor is closed; nothing was sent")


def failure(job: Attempted, last: Failure, disposition: Disposition) -> ExecutorError:
    """Return the exception for a request whose last attempt failed."""
    if not job.sent:
        if disposition is Disposition.TOO_LATE:
            return DeadlineExceeded(f"nothing could be sent before its deadline: {describe(last)}")
        return Stopped(f"nothing was sent{_in_vain(job)}: {describe(last)}", kind=last.kind)
    if disposition is Disposition.TOO_LARGE:
        return TooLarge(f"the request is larger than a rate limit, which was unused: {describe(last)}")
    if disposition is Disposition.TOO_LATE:
        return _failed(job, last, f"its deadline passed after {_times(job.attempts)}")
    return _failed(job, last, f"gave up after {_times(job.attempts)}" if job.attempts > 1 else "")


def interruption(job: Job, last: Failure) -> StreamInterrupted:
    """Return the exception for a response that broke off."""
    return StreamInterrupted(
        f"the response broke off: {describe(last)}",
        kind=last.kind,
        attempts=job.attempts,
        status=last.status,
        request_id=last.request_id,
    )


def _failed(job: Attempted, last: Failure, what: str) -> Failed:
    return Failed(
        f"{what}: {describe(last)}" if what else describe(last),
        kind=last.kind,
        attempts=job.attempts,
        status=last.status,
        request_id=last.request_id,
    )


def _in_vain(job: Attempted) -> str:
    return f" in {_times(job.attempts)}" if job.attempts > 1 else ""


def describe(failure: Failure) -> str:
    """Return one line for a person: what went wrong, the API's own words, and what to do about it."""
    if failure.kind is FailureKind.AUTHENTICATION and failure.status is None and failure.detail:
        return failure.detail  # there is no key, or it cannot be sent: the detail says what to do
    if failure.kind is FailureKind.UNREACHABLE and failure.detail:
        return f"{failure.detail}; {_REMEDY[failure.kind]}"
    parts = [failure.kind.value]
    if failure.status is not None:
        exchange = f", {failure.request_id}" if failure.request_id else ""
        parts.append(f" (HTTP {failure.status}{exchange})")
    if failure.detail:
        parts.append(f": {failure.detail.rstrip('.')}")
    if failure.kind in _REMEDY:
        parts.append(f"; {_REMEDY[failure.kind]}")
    return "".join(parts)


def _times(attempts: int) -> str:
    return "1 attempt" if attempts == 1 else f"{attempts} attempts"
