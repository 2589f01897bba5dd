"""Retries: when a failed attempt is made again, and how many may be made in total.

Every failed attempt raises three questions, each answered in one place:

* *What was it?* `failure.classify` names the failure by the fields of the API's error that its documentation
  declares stable: HTTP status, `error.type`, `error.details.error_code`; by the message only where nothing
  else distinguishes two cases.
* *What does it mean?* `failure.FAILURE_POLICIES` is a table with one row for each kind.
* *When is the retry?* `RetryPolicy.delay`: full jitter, ``u * min(cap, base * 2**k)``. A `retry-after` is
  never undercut; jitter is only added to it, because a hundred jobs with a `retry-after` of 7 must not return
  as one.

`RetryQuota` bounds the sum: retries may be a fifth of recent requests, so that a struggling API gets 1.2
times the load instead of six times.
"""

from dataclasses import dataclass

MAX_JITTER = 2.0
"""Most seconds added to a `retry-after`; beyond that the buckets keep requests apart."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Policy for retries: when and how often a failed attempt is made again.

    Attributes:
        max_attempts: Attempts after which a request fails; only those that count (`FailurePolicy.counts`).
        base: Longest delay before the first retry, in seconds; it doubles for each further one.
        cap: Longest delay before any retry, in seconds.
        ratio: Retries allowed, as a fraction of requests.
        fail_fast: Whether a failure that would hit other requests as well (a wrong key, a spent limit, an
            unknown model, no connection from the start) stops them for a minute: they are refused unsent. Set
            to False in a multi-tenant service, where one client's bad request must not stop the others.
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
            raise ValueError(f"base and cap must be positive seconds and ratio not negative, got {self}")

    def delay(self, retries: int, u: float, *, retry_after: float | None = None) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            retries: Retries of this request so far.
            u: A random number from [0, 1).
            retry_after: The API's `retry-after` in seconds; the wait is never shorter.
        """
        if retry_after is not None:
            return jittered(retry_after, u)
        return u * min(self.cap, self.base * 2.0 ** min(retries, 32))


def jittered(retry_after: float, u: float) -> float:
    """Return `retry_after` plus jitter, in seconds, so that jobs do not return together."""
    return retry_after + u * min(MAX_JITTER, 0.05 + 0.1 * retry_after)


class RetryQuota:
    """Quota of retries of an executor: a fraction of its requests, and a small trickle.

    A retry takes one unit and gives it back if it succeeds. Every request earns `fraction`. Besides, the
    quota refills slowly up to `FLOOR`, so that a quiet executor can retry too. No request fails because the
    quota is used up: its retry waits until `ready_at`.
    """

    TRICKLE = 1.0
    """Retries per second that the quota refills by while it is below `FLOOR`."""
    FLOOR = 10.0
    """Retries up to which the quota refills by itself; also the quota at the start."""
    CEILING = 100.0
    """Most retries that can be saved up."""

    __slots__ = ("_at", "_fraction", "_level")

    def __init__(self, fraction: float, now: float) -> None:
        self._fraction = fraction
        self._level = self.FLOOR
        self._at = now

    def ready_at(self, now: float) -> float:
        """Return the instant from which one retry may be made."""
        self._refill(now)
        return now if self._level >= 1.0 else self._at + (1.0 - self._level) / self.TRICKLE

    def take(self, now: float) -> None:
        """Take one retry out of the quota."""
        self._refill(now)
        self._level -= 1.0

    def earn(self, now: float, *, succeeded_retry: bool = False) -> None:
        """Earn for a request sent for the first time or, if `succeeded_retry`, for an answered retry."""
        self._refill(now)
        self._level = min(self.CEILING, self._level + (1.0 if succeeded_retry else self._fraction))

    def _refill(self, now: float) -> None:
        if now > self._at:
            if self._level < self.FLOOR:
                self._level = min(self.FLOOR, self._level + self.TRICKLE * (now - self._at))
            self._at = now
