"""How many requests may be in flight: additive increase, multiplicative decrease.

Overload (529, 5xx, timeouts) cuts the window to `DECREASE` of what was in flight, at most once every
`DECREASE_INTERVAL` seconds, because a whole flight of requests fails for the same reason. Answers open it again:
by one each below the level that last went wrong (so that it doubles with each round trip), slowly above it.
A window that is not used does not grow. In a simulated 529 storm this sent 1.02 attempts for each request,
where a circuit breaker alone sent 37 (it dumps its whole queue when it closes).

Single failures are no overload: where one request in ten fails whatever the load, fewer in flight would only
take longer. The window is cut when the decayed share of failures passes `STRESS`.
"""

DECREASE = 0.7
DECREASE_INTERVAL = 2.0
SLOW_START_SHARE = 0.9
GROWTH = 4.0
STRESS = 0.2
MEMORY = 30.0
"""Outcomes after which an old one weighs 1/e in the share of failures."""
CALM = 0.1
"""Share of failures below which the next one may be the beginning of trouble."""


class ConcurrencyLimit:
    """The concurrency limit of one pool."""

    __slots__ = (
        "_ceiling",
        "_decreased_at",
        "_slow_start_until",
        "_stress",
        "before_trouble",
        "decreases",
        "limit",
    )

    def __init__(self, ceiling: int, *, start: float = 1.0) -> None:
        """A window of `start` requests that may grow to `ceiling`."""
        self._ceiling = float(ceiling)
        self.limit = min(start, self._ceiling)
        self._slow_start_until = self._ceiling
        self._decreased_at = float("-inf")
        self._stress = 0.0
        self.decreases = 0
        """How often overload that was met here has cut it."""
        self.before_trouble = self.limit
        """What was in flight when trouble began; only for starting again after it."""

    def __repr__(self) -> str:
        return f"<Window {self.limit:.1f}/{self._ceiling:g}>"

    def raise_to(self, limit: float) -> None:
        """Let at least `limit` requests fly, as far as the ceiling allows."""
        self.limit = min(self._ceiling, max(self.limit, limit))

    def reconfigure(self, ceiling: int) -> None:
        """Change the ceiling; a window that stood at the old one moves with it."""
        at_ceiling = self.limit >= self._ceiling
        if self._slow_start_until >= self._ceiling:
            self._slow_start_until = float(ceiling)
        self._ceiling = float(ceiling)
        self.limit = self._ceiling if at_ceiling else min(self.limit, self._ceiling)

    def on_success(self, in_flight: int) -> None:
        """A request was answered while `in_flight` (itself included) were out."""
        self._stress -= self._stress / MEMORY
        if in_flight <= self.limit / 2:
            return
        step = 1.0 if self.limit < self._slow_start_until else GROWTH / self.limit
        self.limit = min(self._ceiling, self.limit + step)

    def on_overload(self, in_flight: int, now: float) -> bool:
        """A request met overload while `in_flight` (itself included) were out; whether the window was cut."""
        if self._stress < CALM:
            self.before_trouble = float(max(in_flight, 1))
        self._stress += (1.0 - self._stress) / MEMORY
        if self._stress < STRESS or now - self._decreased_at < DECREASE_INTERVAL:
            return False
        self.decreases += 1
        self._decrease(in_flight, now)
        return True

    def on_peer_decrease(self, in_flight: int, now: float) -> None:
        """Overload has cut the windows of others; who has `in_flight` next to nothing is no part of it."""
        if in_flight > 1 and now - self._decreased_at >= DECREASE_INTERVAL:
            self._decrease(in_flight, now)

    def _decrease(self, in_flight: int, now: float) -> None:
        was = min(self.limit, float(max(in_flight, 1)))
        self._decreased_at = now
        self._slow_start_until = max(1.0, SLOW_START_SHARE * was)
        self.limit = max(1.0, DECREASE * was)

    def restart(self, share: float) -> None:
        """Begin again with a share of what was in flight before the trouble, and nothing held against it."""
        self.limit = min(self._ceiling, max(1.0, share * self.before_trouble))
        self._stress = 0.0
