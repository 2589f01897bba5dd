"""What went wrong, and what follows from it: again or not, when, and at whose expense.

Three questions about every failed attempt, each answered in one place:

* *What was it?* `classify` names the failure from what the API says, in the order in which the API's
  documentation allows one to rely on it: HTTP status, `error.type`, `error.details.error_code`; the message
  only where nothing else tells two cases apart.
* *What does it mean?* `FAILURE_POLICIES` is a table with one row for each kind.
* *When again?* `RetryPolicy.delay`: full jitter, ``u * min(cap, base * 2**k)``. A `retry-after` is obeyed and
  never undercut; jitter is only ever added to it, for a hundred jobs told "7" must not come back as one.

`RetryQuota` bounds the sum: retries may be a fifth of recent requests, so that a struggling API gets 1.2
times the load and not six times.
"""

from dataclasses import dataclass

MOST_JITTER = 2.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is made again.

    Attributes:
        max_attempts: Attempts that count (see `FailurePolicy.counts`) before a request fails.
        base: Seconds within which the first retry falls; doubled for every further one.
        cap: Seconds within which any retry falls.
        ratio: Retries allowed, as a fraction of requests.
        fail_fast: Whether an answer that others would meet as well (a wrong key, a spent limit, a model that does
            not exist, no connection to begin with) has those refused unsent for a minute. Without, each meets
            it for itself: for a service, whose clients are not to pay for what one of them asks for.
    """

    max_attempts: int = 6
    base: float = 1.0
    cap: float = 30.0
    ratio: float = 0.2
    fail_fast: bool = True

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")
        if not (self.base > 0 and self.cap > 0 and self.ratio >= 0):
            raise ValueError(f"base and cap must be positive seconds and budget not negative, got {self}")

    def delay(self, retries: int, u: float, *, hint: float | None = None) -> float:
        """Seconds to wait before the next attempt.

        Args:
            retries: Retries already made of this request.
            u: A number from [0, 1).
            hint: The API's `retry-after` in seconds: the wait is never shorter than it.
        """
        if hint is not None:
            return jittered(hint, u)
        return u * min(self.cap, self.base * 2.0 ** min(retries, 32))


def jittered(hint: float, u: float) -> float:
    """Seconds to wait where `hint` were asked for: a little longer, never shorter, and not all at once.

    After `MOST_JITTER` the buckets keep requests apart.
    """
    return hint + u * min(MOST_JITTER, 0.05 + 0.1 * hint)


class RetryQuota:
    """How many retries may be under way: a fraction of the executor's requests, and a small trickle.

    A retry takes one and gets it back if it succeeds; every request earns `fraction`; besides, `TRICKLE` a
    second is earned up to `FLOOR`, so that a quiet executor can retry too. Nothing fails for want of budget:
    a retry waits until `ready_at`.
    """

    TRICKLE = 1.0
    FLOOR = 10.0
    CEILING = 100.0

    __slots__ = ("_at", "_fraction", "_level")

    def __init__(self, fraction: float, now: float) -> None:
        self._fraction = fraction
        self._level = self.FLOOR
        self._at = now

    def ready_at(self, now: float) -> float:
        """The instant from which one retry may be made."""
        self._refill(now)
        return now if self._level >= 1.0 else self._at + (1.0 - self._level) / self.TRICKLE

    def take(self, now: float) -> None:
        """One retry is made."""
        self._refill(now)
        self._level -= 1.0

    def earn(self, now: float, *, succeeded_retry: bool = False) -> None:
        """A request was sent for the first time or, if `succeeded_retry`, a retry was answered."""
        self._refill(now)
        self._level = min(self.CEILING, self._level + (1.0 if succeeded_retry else self._fraction))

    def _refill(self, now: float) -> None:
        if now > self._at:
            if self._level < self.FLOOR:
                self._level = min(self.FLOOR, self._level + self.TRICKLE * (now - self._at))
            self._at = now
