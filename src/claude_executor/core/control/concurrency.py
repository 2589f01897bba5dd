"""The concurrency limit of a pool: additive increase, multiplicative decrease (AIMD).

Overload (529, 5xx, timeouts) cuts the limit to `DECREASE` of the requests in flight, at most once every
`DECREASE_INTERVAL` seconds, because all requests in flight fail for the same reason. Answers raise it again:
by one each below the level of the last cut (so that it doubles with each round trip), slowly above it. An
unused limit does not grow. In a simulated 529 storm this sent 1.02 attempts per request, where a circuit
breaker alone sent 37 (it releases its whole queue when it closes).

Single failures are no overload: where one request in ten fails at any load, a lower limit would only take
longer. The limit is cut when the decayed share of failures passes `FAILURE_THRESHOLD`.
"""

DECREASE = 0.7
"""Limit after a cut, as a fraction of the requests in flight."""
DECREASE_INTERVAL = 2.0
"""Least seconds between two cuts."""
SLOW_START_SHARE = 0.9
"""Where growth becomes slow, as a fraction of the requests in flight at the last cut."""
GROWTH = 4.0
"""Growth per round trip above that, in requests."""
FAILURE_THRESHOLD = 0.2
"""Share of failures from which they count as overload."""
MEMORY = 30.0
"""Outcomes after which an old one weighs 1/e in the share of failures."""
CALM_BELOW = 0.1
"""Share of failures below which the next failure may be the first of an overload."""


class ConcurrencyLimit:
    """The concurrency limit of one pool.

    Attributes:
        limit: How many requests may be in flight now.
        decreases: How many times overload met by this executor has cut the limit.
        before_overload: Requests in flight when the last overload began; only for restarting after it.
    """

    __slots__ = (
        "_ceiling",
        "_decreased_at",
        "_failure_share",
        "_slow_start_until",
        "before_overload",
        "decreases",
        "limit",
    )

    def __init__(self, ceiling: int, *, start: float = 1.0) -> None:
        """Start at `start` requests and grow to `ceiling` at most."""
        self._ceiling = float(ceiling)
        self.limit = min(start, self._ceiling)
        self._slow_start_until = self._ceiling
        self._decreased_at = float("-inf")
        self._failure_share = 0.0
        self.decreases = 0
        self.before_overload = self.limit

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.limit:.1f}/{self._ceiling:g}>"

    def raise_to(self, limit: float) -> None:
        """Allow at least `limit` requests in flight, as far as the ceiling permits."""
        self.limit = min(self._ceiling, max(self.limit, limit))

    def reconfigure(self, ceiling: int) -> None:
        """Change the ceiling; a limit that stood at the old ceiling moves with it."""
        at_ceiling = self.limit >= self._ceiling
        if self._slow_start_until >= self._ceiling:
            self._slow_start_until = float(ceiling)
        self._ceiling = float(ceiling)
        self.limit = self._ceiling if at_ceiling else min(self.limit, self._ceiling)

    def on_success(self, in_flight: int) -> None:
        """Count a request answered while `in_flight` requests, itself included, were in flight."""
        self._failure_share -= self._failure_share / MEMORY
        if in_flight <= self.limit / 2:
            return
        step = 1.0 if self.limit < self._slow_start_until else GROWTH / self.limit
        self.limit = min(self._ceiling, self.limit + step)

    def on_overload(self, in_flight: int, now: float) -> bool:
        """Count a request that met overload while `in_flight`, itself included, were in flight.

        Returns:
            Whether the limit was cut.
        """
        if self._failure_share < CALM_BELOW:
            self.before_overload = float(max(in_flight, 1))
        self._failure_share += (1.0 - self._failure_share) / MEMORY
        if self._failure_share < FAILURE_THRESHOLD or now - self._decreased_at < DECREASE_INTERVAL:
            return False
        self.decreases += 1
        self._decrease(in_flight, now)
        return True

    def on_peer_decrease(self, in_flight: int, now: float) -> None:
        """Cut the limit because a peer cut its own, unless this executor is almost idle."""
        if in_flight > 1 and now - self._decreased_at >= DECREASE_INTERVAL:
            self._decrease(in_flight, now)

    def _decrease(self, in_flight: int, now: float) -> None:
        used = min(self.limit, float(max(in_flight, 1)))
        self._decreased_at = now
        self._slow_start_until = max(1.0, SLOW_START_SHARE * used)
        self.limit = max(1.0, DECREASE * used)

    def restart(self, fraction: float) -> None:
        """Start again at a fraction of `before_overload`, and forget past failures."""
        self.limit = min(self._ceiling, max(1.0, fraction * self.before_overload))
        self._failure_share = 0.0
