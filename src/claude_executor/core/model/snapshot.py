"""The state of an executor at one moment, as plain values for people and programs to read."""

from dataclasses import dataclass

from claude_executor.core.model.gate import BreakerState, HeldBy
from claude_executor.core.model.limits import LimitSource
from claude_executor.core.model.sharing import SharingState


@dataclass(frozen=True, slots=True)
class ResourceState:
    """One limited resource of a pool.

    Attributes:
        limit: Amount per minute in force.
        source: Where that number comes from: ``"declared"`` or ``"response headers"``.
        level: What the bucket holds now; negative in debt.
        capacity: What it holds when full.
        foreign_rate: Amount per minute that others of the organisation seem to draw.
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
    def utilisation(self) -> float:
        """Share of the limit used in the last minute."""
        return self.used / self.limit


@dataclass(frozen=True, slots=True)
class PoolState:
    """One pool of models.

    Attributes:
        resources: Its limited resources, by name.
        queued: Requests in line.
        running: Requests in flight.
        concurrency: How many may be in flight.
        breaker: State of its circuit breaker.
        probe_in: Seconds until its circuit breaker lets a probe through; 0 unless it is open.
        closed_for: Seconds until it opens again after a 429; 0 when open.
        held_by: What the head of the line is waiting for; `None` if for nothing.
        held_for: Seconds for which each thing has held the line up so far.
        round_trip: Seconds an answer takes, averaged.
        refusals: 429s so far.
        sharing: How it shares its limits with other executors: ``"joining"``, ``"shared"`` or ``"alone"``;
            `None` where it does not.
        members: Executors that share them, as far as is known.
        share: What is this one's, of all.
        unreachable_reason: Why those who share them cannot be asked; `None` while they can.
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
        """What has held the line up longest."""
        return max(self.held_for, key=self.held_for.__getitem__) if self.held_for else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole executor.

    Attributes:
        queued: Requests in line, or waiting for one that writes their common beginning to the cache.
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
        """The worst state any pool's circuit breaker is in."""
        states = {pool.breaker for pool in self.pools.values()}
        worst_first = (BreakerState.OPEN, BreakerState.HALF_OPEN)
        return next((state for state in worst_first if state in states), BreakerState.CLOSED)
