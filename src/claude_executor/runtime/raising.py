"""Turns what the core decided about a job into the exception its caller gets."""

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
"""What a person can do about a failure that trying again will not mend."""


def rejection(refuse: Refuse) -> ExecutorError:
    """The exception for a request that is turned away; `Failed` if it had been sent before."""
    job, because = refuse.job, refuse.cause
    if job.sent and job.last_failure is not None:
        return _failed(
            job, job.last_failure, f"given up after {_times(job.attempts)}, because {refuse.refusal}"
        )
    if refuse.refusal is Refusal.QUEUE_FULL:
        return QueueFull("too many requests are waiting (max_queued); try again when some are done")
    if refuse.refusal is Refusal.DEADLINE:
        why = f", for the API is in trouble ({describe(because)})" if because is not None else ""
        return DeadlineExceeded(f"the request cannot start before its deadline{why}; allow it more time")
    if refuse.refusal is Refusal.STOPPED and because is not None:
        return Stopped(
            f"not sent, because an earlier request met this: {describe(because)}", kind=because.kind
        )
    if refuse.refusal is Refusal.SPENDING_CAP:
        return SpendingCapReached(
            "not sent: it could cost more than the spending cap has left; raise the cap"
        )
    if refuse.refusal is Refusal.UNREACHABLE:
        why = f" ({refuse.unreachable_reason})" if refuse.unreachable_reason else ""
        return BudgetUnreachable(
            f"not sent: the shared budget cannot be reached{why}; see to Redis, or let it degrade (when_unreachable=)"
        )
    return Closed("the executor is closed; nothing was sent")


def failure(job: Job, last: Failure, verdict: Disposition) -> ExecutorError:
    """The exception for a request whose last attempt failed."""
    if not job.sent:
        if verdict is Disposition.TOO_LATE:
            return DeadlineExceeded(f"nothing could be sent before its deadline: {describe(last)}")
        return Stopped(f"nothing was sent{_in_vain(job)}: {describe(last)}", kind=last.kind)
    if verdict is Disposition.TOO_LARGE:
        return TooLarge(f"the request is larger than a limit that was not in use: {describe(last)}")
    if verdict is Disposition.TOO_LATE:
        return _failed(job, last, f"its deadline passed after {_times(job.attempts)}")
    return _failed(job, last, f"failed after {_times(job.attempts)}" if job.attempts > 1 else "failed")


def interruption(job: Job, last: Failure) -> StreamInterrupted:
    """The exception for an answer that was broken off."""
    return StreamInterrupted(
        f"the answer was broken off: {describe(last)}",
        kind=last.kind,
        attempts=job.attempts,
        status=last.status,
        request_id=last.request_id,
    )


def _failed(job: Job, last: Failure, what: str) -> Failed:
    return Failed(
        f"{what}: {describe(last)}",
        kind=last.kind,
        attempts=job.attempts,
        status=last.status,
        request_id=last.request_id,
    )


def _in_vain(job: Job) -> str:
    return f" in {_times(job.attempts)}" if job.attempts > 1 else ""


def describe(failure: Failure) -> str:
    """One line for a person: what it was, the API's own words, and what to do about it."""
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
