"""What all pools share: requests in flight, new connections, and what may be spent in all."""

import math
from collections.abc import Iterable

from claude_executor.core.control.bucket import TokenBucket
from claude_executor.core.control.spending import SpendingCap, SpendingCaps
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.gate import CONCURRENCY, NEVER, OPENING, SPENDING
from claude_executor.core.model.job import Job


class ExecutorLimits:
    """Ceilings of one executor, over all its pools.

    Attributes:
        running: Requests in flight.
        max_running: How many there may be.
    """

    __slots__ = ("_opening", "_spending", "max_running", "running")

    def __init__(self, most_running: int, caps: Iterable[SpendingCap], now: float) -> None:
        self.reconfigure(most_running)
        self.running = 0
        self._opening = ConnectionRate(now)
        self._spending = SpendingCaps(caps)

    def reconfigure(self, most_running: int) -> None:
        """Change how many requests may be in flight."""
        if most_running < 1:
            raise ValueError(f"max_concurrency must be at least 1, got {most_running}")
        self.max_running = most_running

    @property
    def room(self) -> int:
        """How many more requests there may be in flight."""
        return max(0, self.max_running - self.running)

    def set_worst_case(self, job: Job) -> None:
        """Work out what the next attempt of `job` can cost at most."""
        self._spending.set_worst_case(job)

    def opens_at(self, job: Job, keep: float) -> tuple[float, str]:
        """The instant from which `job` may start, and what holds it until then; see `Pool.opens_at`.

        `keep` is the share of the requests in flight to leave for more urgent work.
        """
        if self.running and self.running + keep * self.max_running > self.max_running - 1:
            return NEVER, CONCURRENCY
        if job.worst_case and not self._spending.fits(job):
            return NEVER, SPENDING
        return self._opening.ready_at(self.running), OPENING

    def cannot_fit(self, job: Job) -> bool:
        """Whether `job` does not fit under a spending cap, whatever becomes of what is in flight."""
        return bool(job.worst_case) and not self._spending.could_fit(job)

    def take(self, job: Job, now: float) -> None:
        """An attempt starts."""
        self.running += 1
        self._opening.take(self.running, now)
        if job.worst_case:
            self._spending.reserve(job)

    def release(self, job: Job, usage: Usage | None) -> None:
        """It is over and took `usage`; `None` where that is not known."""
        self.running -= 1
        if job.worst_case:
            self._spending.settle(job, usage)


CONNECTIONS_PER_SECOND = 300.0
CONNECTIONS_AT_ONCE = 50.0


class ConnectionRate:
    """Counts the connections that must be open by now, and paces those to come."""

    __slots__ = ("_bucket", "_open")

    def __init__(self, now: float) -> None:
        self._bucket = TokenBucket(CONNECTIONS_PER_SECOND, CONNECTIONS_AT_ONCE, now=now)
        self._open = 0

    def ready_at(self, running: int) -> float:
        """The instant from which one more than `running` requests may be in flight."""
        return -math.inf if running < self._open else self._bucket.ready_at(1.0)

    def take(self, running: int, now: float) -> None:
        """Now `running` are."""
        if running > self._open:
            self._open = running
            self._bucket.take(1.0, now)
