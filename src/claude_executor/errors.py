"""What can go wrong, as one tree; every exception answers the question "was anything sent?".

::

    ExecutorError
    ├── Rejected                 nothing was sent, nothing is charged: trying again later is always safe
    │   ├── QueueFull            more requests are waiting than `max_queued` allows
    │   ├── DeadlineExceeded     it could not start before its deadline
    │   ├── BudgetSpent          it could cost more than a spending cap has left
    │   ├── BudgetUnreachable    the shared budget cannot be asked, and the policy is to refuse then
    │   ├── Stopped              a bad key, a spend limit, no connection: the others would meet it as well
    │   ├── TooLarge             the API refused it although its limit was unused: it can never fit
    │   └── Closed               the executor has been closed
    └── Failed                   it was sent, at least once
        └── StreamInterrupted    its answer was broken off while it was being read

A bad argument is a `ValueError` or `TypeError`, as everywhere in Python, raised before anything is sent.
"""

from typing import TYPE_CHECKING

from claude_executor.core.model.actions import Refusal, Refuse, Verdict
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import TREATMENT, Failure, Kind
from claude_executor.core.model.job import Job

if TYPE_CHECKING:
    from anthropic.types import Message

__all__ = [
    "BudgetSpent",
    "BudgetUnreachable",
    "Closed",
    "DeadlineExceeded",
    "ExecutorError",
    "Failed",
    "QueueFull",
    "Rejected",
    "Stopped",
    "StreamInterrupted",
    "TooLarge",
]


class ExecutorError(Exception):
    """Base of everything the executor raises of its own."""


class Rejected(ExecutorError):
    """The request was not sent (`TooLarge`: not read), and nothing was charged for it.

    Attributes:
        retry_after: Seconds after which trying again is worth while, where that is known.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(Rejected):
    """More requests are waiting than `max_queued` allows."""


class DeadlineExceeded(Rejected):
    """The request could not start before its deadline."""


class BudgetSpent(Rejected):
    """The request could cost more than is left under a spending cap."""


class BudgetUnreachable(Rejected):
    """The budget that is shared with other executors cannot be asked, and is to be asked for everything."""


class Stopped(Rejected):
    """Not sent, because of something that would meet all others as well.

    That is an answer which an earlier request got (a wrong key, a spent limit, a model that does not exist),
    a key that is missing or cannot be sent, or that no connection can be made.

    Attributes:
        kind: What it was.
    """

    def __init__(self, message: str, *, kind: Kind, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.kind = kind


class TooLarge(Rejected):
    """The API refused the request for want of a limit that was not in use: it is larger than the limit."""


class Closed(Rejected):
    """The executor has been closed, or was never opened."""


class Failed(ExecutorError):
    """The request was sent and did not succeed. The SDK's exception, if there was one, is `__cause__`.

    Attributes:
        kind: What went wrong with the last attempt.
        attempts: How often it was sent.
        status: HTTP status of the last response, if there was one.
        request_id: The API's id of the last exchange, if it gave one.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: Kind,
        attempts: int,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.attempts = attempts
        self.status = status
        self.request_id = request_id

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed another time."""
        return TREATMENT[self.kind].retry


class StreamInterrupted(Failed):
    """An answer was broken off after its reader had seen some of it; so it was not tried again.

    Attributes:
        message: What had come of it, if anything.
        usage: What that took, as far as it is known.
    """

    message: "Message | None" = None
    usage: Usage | None = None


_REMEDY = {
    Kind.AUTHENTICATION: "check the API key (ANTHROPIC_API_KEY)",
    Kind.BILLING: "check credit and payment in the Claude Console",
    Kind.SPEND_LIMIT: "raise the spend limit in the Claude Console, or wait until it resets",
    Kind.PERMISSION: "check what the API key's workspace may use in the Claude Console",
    Kind.NOT_FOUND: "check the name of the model and the base URL (ANTHROPIC_BASE_URL)",
    Kind.UNREACHABLE: "check the network and the base URL (ANTHROPIC_BASE_URL)",
    Kind.TOO_LARGE: "shorten the request: the API takes at most 32 MB",
}
"""What a person can do about a failure that trying again will not mend."""


def rejection(refuse: Refuse) -> ExecutorError:
    """The exception for a request that is turned away; `Failed` if it had been sent before."""
    job, because = refuse.job, refuse.because
    if job.sent and job.last is not None:
        return _failed(job, job.last, f"given up after {_times(job.attempts)}, because {refuse.refusal}")
    if refuse.refusal is Refusal.QUEUE_FULL:
        return QueueFull("too many requests are waiting (max_queued); try again when some are done")
    if refuse.refusal is Refusal.DEADLINE:
        why = f", for the API is in trouble ({describe(because)})" if because is not None else ""
        return DeadlineExceeded(f"the request cannot start before its deadline{why}; allow it more time")
    if refuse.refusal is Refusal.STOPPED and because is not None:
        return Stopped(
            f"not sent, because an earlier request met this: {describe(because)}", kind=because.kind
        )
    if refuse.refusal is Refusal.SPENT:
        return BudgetSpent("not sent: it could cost more than the spending cap has left; raise the cap")
    if refuse.refusal is Refusal.ALONE:
        why = f" ({refuse.away})" if refuse.away else ""
        return BudgetUnreachable(
            f"not sent: the shared budget cannot be reached{why}; see to Redis, or let it degrade (alone=)"
        )
    return Closed("the executor is closed; nothing was sent")


def failure(job: Job, last: Failure, verdict: Verdict) -> ExecutorError:
    """The exception for a request whose last attempt failed."""
    if not job.sent:
        if verdict is Verdict.TOO_LATE:
            return DeadlineExceeded(f"nothing could be sent before its deadline: {describe(last)}")
        return Stopped(f"nothing was sent{_in_vain(job)}: {describe(last)}", kind=last.kind)
    if verdict is Verdict.TOO_LARGE:
        return TooLarge(f"the request is larger than a limit that was not in use: {describe(last)}")
    if verdict is Verdict.TOO_LATE:
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
