"""Snapshot of an executor: its state at one moment, as plain values."""

from dataclasses import dataclass

from claude_executor.core.model.gate import BreakerState, HeldBy
from claude_executor.core.model.limits import LimitSource
from claude_executor.core.model.sharing import SharingState


@dataclass(frozen=True, slots=True)
class ResourceState:
    """State of one limited resource of a pool.

    Attributes:
        limit: The limit in force, per minute.
        source: Where the limit comes from: ``"declared"`` or ``"response headers"``.
        level: Amount in the bucket now; negative in debt.
        capacity: Amount in the bucket when it is full.
        foreign_rate: Amount per minute that other users of the organization seem to draw.
        used: Amount used in the last minute.
        used_in_all: Amount used since the beginning.
    """

    limit: float
    source: LimitSource
    level: float
    capacity: float
    foreign_rate: float
    used: float
    used_in_all: float

    @property
    def utilization(self) -> float:
        """Fraction of the limit used in the last minute."""
        return self.used / self.limit


@dataclass(frozen=True, slots=True)
class PoolState:
    """State of one pool of models.

    Attributes:
        resources: The limited resources, by name.
        queued: Requests in the queue.
        running: Requests in flight.
        concurrency: Requests that may be in flight.
        breaker: State of the circuit breaker.
        probe_in: Seconds until the circuit breaker lets a probe through; 0 unless it is open.
        closed_for: Seconds until the pool opens again after a 429; 0 while it is open.
        held_by: What the head of the queue is waiting for; None if nothing holds it.
        held_for: Seconds for which each limit has held the queue back so far.
        round_trip: Seconds an answer takes, averaged.
        refusals: Responses with status 429 so far.
        sharing: State of sharing limits with other executors: ``"joining"``, ``"shared"`` or ``"alone"``;
            None without sharing.
        members: Executors that share the limits, as far as known.
        share: This executor's fraction of the limits.
        unreachable_reason: Why the group is unreachable; None while it is reachable.
    """

    resources: dict[str, ResourceState]
    queued: int
    running: int
    concurrency: float
    breaker: BreakerState
    probe_in: float
    closed_for: float
    held_by: HeldBy | None
    held_for: dict[HeldBy, float]
    round_trip: float
    refusals: int
    sharing: SharingState | None = None
    members: int = 1
    share: float = 1.0
    unreachable_reason: str | None = None

    @property
    def binding(self) -> HeldBy | None:
        """The limit that has held the queue back longest; None if none has."""
        return max(self.held_for, key=self.held_for.__getitem__) if self.held_for else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of a whole executor.

    Attributes:
        queued: Requests in a queue, or waiting for another one to write their prefix to the prompt cache.
        running: Requests in flight.
        waiting_to_retry: Requests whose next attempt is due later.
        answered: Requests that succeeded.
        failed: Requests that failed or were refused.
        attempts: Attempts made.
        retries: Attempts that were not the first of their request.
        pools: The pools in use, by name.
    """

    queued: int
    running: int
    waiting_to_retry: int
    answered: int
    failed: int
    attempts: int
    retries: int
    pools: dict[str, PoolState]

    @property
    def breaker(self) -> BreakerState:
        """The worst state of any pool's circuit breaker."""
        states = {pool.breaker for pool in self.pools.values()}
        worst_first = (BreakerState.OPEN, BreakerState.HALF_OPEN)
        return next((state for state in worst_first if state in states), BreakerState.CLOSED)
