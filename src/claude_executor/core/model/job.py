"""A request inside the scheduler, and what can become of it."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from claude_executor.core.model.cost import NOTHING, Cost, Resource
from claude_executor.core.model.failure import Failure
from claude_executor.core.model.request import RequestShape


class Phase(Enum):
    """Where a job stands: in line, set aside until its next attempt is due, in flight, or done with."""

    WAITING = auto()
    PARKED = auto()
    RUNNING = auto()
    OVER = auto()


class Demand(NamedTuple):
    """What a request occupies of its pool's limits.

    Attributes:
        seconds: How long it occupies the resource it needs most; 1 where nothing is known of limits.
        resource: Which resource that is.
        slow_start_seconds: The same, but for what is counted when the request arrives, for the pace of the pool's opening:
            output is counted as it is produced, so it cannot come in a rush.
    """

    seconds: float
    resource: str
    slow_start_seconds: float


UNKNOWN_DEMAND = Demand(1.0, "", 0.0)


@dataclass(slots=True, eq=False)
class Job:
    """One request, from being submitted until it is answered, failed, refused or cancelled.

    Attributes:
        number: Order of arrival.
        shape: What is known of the request; holds none of its text.
        pool: The pool its model is counted in.
        priority: Larger goes first.
        tenant: Who shares with whom.
        submitted_at: When it arrived.
        deadline_at: When it is of no more use; infinite if never.
        cost: What its next or current attempt is expected to take.
        demand: What that occupies of the limits.
        size_class: Which requests it is like in what it costs: the resource it needs most, and how much.
        worst_case: What its next attempt can cost at most, under each spending cap; empty where there is none.
        charge: What its turn costs its flow in the line, in seconds; 0 once it had a turn.
        charged: What it was charged, in the end; `None` while that is no number of seconds.
        phase: Where it stands.
        attempts: Attempts made.
        counted_attempts: Attempts that count towards the most a request may have.
        sent: Whether the API may have been given it in any of them.
        pays_retry: Whether its current attempt is a retry that was paid for from the retry budget.
        refused_by_full: How often a bucket that was full has refused it.
        composite: Whether it was several requests in one: then it says nothing of single ones.
        last_failure: How its last attempt failed.
        sent_at: When its last attempt was started.
        is_probe: Whether that attempt is the circuit breaker's probe.
        responding: Whether its answer has begun to come, piece by piece.
        levels_at_start: The levels the server's buckets were believed to come to when it was sent.
        reserved_output: The output tokens that were reserved then, its own among them, and those of other members of
            a group: so far above that level the server's was, at most.
        slow_start_seconds: What it took of the pace of its pool's opening, in seconds.
        waiter: The shell's own mark; the core does not look at it.
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
    waiter: object = None

    @property
    def waiting(self) -> bool:
        """Whether it stands in line."""
        return self.phase is Phase.WAITING

    @property
    def running(self) -> bool:
        """Whether an attempt is under way."""
        return self.phase is Phase.RUNNING
