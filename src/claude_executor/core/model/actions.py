"""What the scheduler tells its shell to do, and what it decided about a job."""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from claude_executor.core.model.failure import Failure
from claude_executor.core.model.job import Job
from claude_executor.core.model.sharing import LeaseRequest


@dataclass(frozen=True, slots=True)
class RequestLease:
    """Action: put this to the group, and tell the scheduler what it says."""

    pool: str
    request: LeaseRequest


class Disposition(Enum):
    """What becomes of a job after a failed attempt."""

    AGAIN = auto()
    FAILED = auto()
    TOO_LARGE = auto()
    TOO_LATE = auto()


class Refusal(StrEnum):
    """Why a job is turned away without another attempt."""

    QUEUE_FULL = "the queue is full"
    DEADLINE = "its deadline cannot be met"
    STOPPED = "requests are stopped"
    SPENDING_CAP = "the spending cap is reached"
    CLOSED = "the executor is closed"
    UNREACHABLE = "the shared budget cannot be reached"


@dataclass(frozen=True, slots=True)
class Start:
    """Action: make an attempt of this job now."""

    job: Job


@dataclass(frozen=True, slots=True)
class Refuse:
    """Action: tell the job's owner that it will not be tried (again), and why.

    `because` is the answer that stopped everything, or how the job's own last attempt failed, and `away` why
    the shared budget cannot be asked.
    """

    job: Job
    refusal: Refusal
    cause: Failure | None = None
    unreachable_reason: str | None = None


Action = Start | Refuse | RequestLease
