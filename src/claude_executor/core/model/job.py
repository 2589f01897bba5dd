"""Jobs: requests inside the scheduler."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from claude_executor.core.model.cost import NOTHING, Cost, Resource
from claude_executor.core.model.failure import Failure
from claude_executor.core.model.request import RequestShape


class Phase(Enum):
    """Phase of a job: in the queue, parked until its retry is due, in flight, or over."""

    WAITING = auto()
    PARKED = auto()
    RUNNING = auto()
    OVER = auto()


class Demand(NamedTuple):
    """Time for which a request occupies the limits of its pool.

    Attributes:
        seconds: Seconds of the resource the request needs most; 1 while no limits are known.
        resource: Name of that resource.
        slow_start_seconds: The same without output, for the slow start of the pool: output is counted as it
            is produced, so it cannot arrive in a rush.
    """

    seconds: float
    resource: str
    slow_start_seconds: float


UNKNOWN_DEMAND = Demand(1.0, "", 0.0)


@dataclass(slots=True, eq=False)
class Job:
    """One request, from being submitted until it is answered, failed, refused or cancelled.

    Attributes:
        number: Number of the request, in order of arrival.
        shape: Measured size of the request; contains none of its text.
        pool: The pool of its model.
        priority: Larger goes first.
        tenant: The tenant it belongs to; tenants share the limits fairly.
        submitted_at: The instant of its submission.
        deadline_at: The instant by which its last attempt must start; infinite without a deadline.
        cost: Estimated cost of its next or current attempt.
        demand: Time for which that cost occupies the limits.
        size_class: Class of requests with similar costs: the resource it needs most, and how much.
        worst_case: The most its next attempt can cost, under each spending cap; empty without a cap.
        charge: Seconds its flow in the queue is charged for its start; 0 once it has started.
        charged: Seconds it was charged in the end; None while the limits are unknown.
        phase: Current phase.
        attempts: Attempts made.
        counted_attempts: Attempts that count towards `RetryPolicy.max_attempts`.
        sent: Whether the API may have received any attempt.
        pays_retry: Whether the current attempt is a retry paid from the retry quota.
        refused_by_full: Refusals by a bucket that was believed to be full.
        composite: Whether it was several requests in one, whose usage says nothing about single ones.
        last_failure: Failure of its last attempt; None without one.
        sent_at: The instant at which its last attempt started.
        is_probe: Whether the current attempt is the circuit breaker's probe.
        responding: Whether its streamed answer has begun to arrive.
        levels_at_start: Levels of the server's buckets, as believed when its last attempt was sent.
        reserved_output: Output tokens reserved at that instant, its own and those of the group's other
            members included: the server's level was higher by this much at most.
        slow_start_seconds: Sustained seconds it took from the slow start of its pool.
    """

    number: int
    shape: RequestShape
    pool: str
    priority: int
    tenant: str
    submitted_at: float
    deadline_at: float
    cost: Cost = NOTHING
    demand: Demand = UNKNOWN_DEMAND
    worst_case: tuple[float, ...] = ()
    size_class: tuple[str, int] = ("", 0)
    charge: float = 0.0
    charged: float | None = None
    phase: Phase = Phase.WAITING
    attempts: int = 0
    counted_attempts: int = 0
    sent: bool = False
    pays_retry: bool = False
    refused_by_full: int = 0
    composite: bool = False
    last_failure: Failure | None = None
    sent_at: float = 0.0
    is_probe: bool = False
    responding: bool = False
    levels_at_start: dict[Resource, float] | None = None
    reserved_output: float = 0.0
    slow_start_seconds: float = 0.0

    @property
    def waiting(self) -> bool:
        """Whether the job is in the queue."""
        return self.phase is Phase.WAITING

    @property
    def running(self) -> bool:
        """Whether an attempt is in flight."""
        return self.phase is Phase.RUNNING
