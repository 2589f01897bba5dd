"""Gates: everything that may hold a job back, and the one question each of them answers.

Admission asks all gates of a job together and takes from all of them together, or from none. There is no
moment at which a request holds one limit and waits for another, so requests cannot deadlock and a waiting
request costs nothing.
"""

import math
from enum import StrEnum
from typing import Protocol

from claude_executor.core.model.job import Job

NEVER = math.inf
"""The instant of a gate that time alone does not open: only the end of something in flight does."""


class HeldBy(StrEnum):
    """Names of what can hold a queue back. A resource appears under its own name, see `Resource`."""

    REQUESTS = "requests"
    INPUT = "input tokens"
    OUTPUT = "output tokens"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"
    BREAKER = "circuit breaker"
    RETRY_AFTER = "retry-after"
    RAMP_UP = "ramp-up"
    CONNECTIONS = "opening connections"
    SPENDING = "spending cap"
    BUDGET = "shared budget"


class BreakerState(StrEnum):
    """States of a circuit breaker: it passes requests, holds them, or passes one of them as a probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Gate(Protocol):
    """One limit that may hold a job back.

    Attributes:
        held_by: What a queue is held by while this gate is the last to open.
        takes: Whether a job takes anything here; a gate that only looks is not asked to `take`.
    """

    held_by: HeldBy
    takes: bool

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return the instant from which the job may pass; any instant up to `now` means at once.

        Args:
            job: The job at the head of its queue.
            now: The current instant.
            keep: The fraction of the limit to leave free for jobs of a higher priority.

        Returns:
            Minus infinity if nothing holds the job, `NEVER` if no amount of waiting helps.
        """
        ...

    def take(self, job: Job, now: float) -> None:
        """Take what the job needs. The caller has asked `opens_at` of every gate before."""
        ...
