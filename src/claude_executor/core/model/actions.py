"""Actions that the scheduler asks of its shell, and its decisions about jobs."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from claude_executor.core.model.failure import Failure
from claude_executor.core.model.job import Job
from claude_executor.core.model.sharing import LeaseRequest


@dataclass(frozen=True, slots=True)
class RequestLease:
    """Action: send this request to the group and pass its answer to the scheduler.

    Attributes:
        pool: The pool that needs the lease.
        request: The message to the group.
    """

    pool: str
    request: LeaseRequest


class Disposition(Enum):
    """Fate of a job after a failed attempt."""

    AGAIN = auto()
    FAILED = auto()
    TOO_LARGE = auto()
    TOO_LATE = auto()


class Refusal(StrEnum):
    """Reason to refuse a job without another attempt."""

    QUEUE_FULL = "the queue is full"
    DEADLINE = "its deadline cannot be met"
    STOPPED = "requests are stopped"
    SPENDING_CAP = "the spending cap is reached"
    CLOSED = "the executor is closed"
    UNREACHABLE = "the shared budget cannot be reached"


@dataclass(frozen=True, slots=True)
class Start:
    """Action: make an attempt of this job now.

    Attributes:
        job: The job to send.
    """

    job: Job


@dataclass(frozen=True, slots=True)
class Refuse:
    """Action: end the wait for this job with a refusal; it gets no further attempt.

    Attributes:
        job: The refused job.
        refusal: The reason.
        cause: The failure that stopped all requests, or the job's own last failure; None without one.
        unreachable_reason: Why the shared budget cannot be reached; None if it can.
    """

    job: Job
    refusal: Refusal
    cause: Failure | None = None
    unreachable_reason: str | None = None


Action = Start | Refuse | RequestLease
