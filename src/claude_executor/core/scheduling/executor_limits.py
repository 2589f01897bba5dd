"""Limits that all pools of one executor share: requests in flight, new connections, spending."""

import math
from collections.abc import Iterable

from claude_executor.core.control.bucket import TokenBucket
from claude_executor.core.control.spending import SpendingCap, SpendingCaps
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.gate import NEVER, Gate, HeldBy
from claude_executor.core.model.job import Job

CONNECTIONS_PER_SECOND = 300.0
CONNECTIONS_AT_ONCE = 50.0


class ExecutorLimits:
    """Limits of one executor over all its pools.

    Attributes:
        running: Requests in flight.
        max_running: How many there may be.
        gates: The gates that every job of the executor passes.
    """

    __slots__ = ("_spending", "gates", "max_running", "running")

    def __init__(self, max_running: int, caps: Iterable[SpendingCap], now: float) -> None:
        """Allow `max_running` requests in flight, within the spending caps."""
        self.reconfigure(max_running)
        self.running = 0
        self._spending = SpendingCaps(caps)
        spending: tuple[Gate, ...] = (SpendingGate(self._spending),) if self._spending.any else ()
        self.gates: tuple[Gate, ...] = (ExecutorConcurrencyGate(self), *spending, ConnectionGate(self, now))

    def reconfigure(self, max_running: int) -> None:
        """Change how many requests may be in flight."""
        if max_running < 1:
            raise ValueError(f"max_concurrency must be at least 1, got {max_running}")
        self.max_running = max_running

    @property
    def room(self) -> int:
        """Number of requests that may still be started."""
        return max(0, self.max_running - self.running)

    def set_worst_case(self, job: Job) -> None:
        """Work out what the next attempt of `job` can cost at most."""
        self._spending.set_worst_case(job)

    def cannot_fit(self, job: Job) -> bool:
        """Whether `job` exceeds a spending cap even if everything in flight turns out to cost nothing."""
        return bool(job.worst_case) and not self._spending.could_fit(job)

    def release(self, job: Job, usage: Usage | None) -> None:
        """Count an attempt that has ended. `usage` is what it took; None charges its worst case."""
        self.running -= 1
        if job.worst_case:
            self._spending.settle(job, usage)


class ExecutorConcurrencyGate:
    """Holds requests beyond `max_concurrency` in flight, and counts those that are; one may always be."""

    held_by = HeldBy.CONCURRENCY
    takes = True
    __slots__ = ("_limits",)

    def __init__(self, limits: ExecutorLimits) -> None:
        self._limits = limits

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return `NEVER` while the limit is in use."""
        running, most = self._limits.running, self._limits.max_running
        return NEVER if running and running + keep * most > most - 1 else -math.inf

    def take(self, job: Job, now: float) -> None:
        """Count one more in flight."""
        self._limits.running += 1


class SpendingGate:
    """Holds requests that could pass a spending cap, until what is in flight is settled."""

    held_by = HeldBy.SPENDING
    takes = True
    __slots__ = ("_spending",)

    def __init__(self, spending: SpendingCaps) -> None:
        self._spending = spending

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return `NEVER` while the worst case of the job does not fit."""
        return NEVER if job.worst_case and not self._spending.fits(job) else -math.inf

    def take(self, job: Job, now: float) -> None:
        """Reserve the job's worst case."""
        if job.worst_case:
            self._spending.reserve(job)


class ConnectionGate:
    """Paces requests that need a new connection; connections that are open already are free."""

    held_by = HeldBy.CONNECTIONS
    takes = True
    __slots__ = ("_bucket", "_limits", "_open")

    def __init__(self, limits: ExecutorLimits, now: float) -> None:
        self._limits = limits
        self._bucket = TokenBucket(CONNECTIONS_PER_SECOND, CONNECTIONS_AT_ONCE, now=now)
        self._open = 0

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return the instant from which one more request may be in flight."""
        return -math.inf if self._limits.running < self._open else self._bucket.ready_at(1.0)

    def take(self, job: Job, now: float) -> None:
        """Open a connection if more requests are in flight than ever before, this one included."""
        if self._limits.running > self._open:
            self._open = self._limits.running
            self._bucket.take(1.0, now)
