"""Sums of what a pool uses: by the second over the last minute, since the beginning, and in flight."""

from claude_executor.core.model.cost import NOTHING, Cost

MINUTE = 60
_AMOUNTS = range(3)
"""Indexes of the amounts in a `Cost`."""


class UsageWindow:
    """Usage over the last sixty seconds, in slots of one second, and since the beginning."""

    __slots__ = ("_in_all", "_seconds", "_slots")

    def __init__(self) -> None:
        self._in_all = [0.0, 0.0, 0.0]
        self._slots = [[0.0, 0.0, 0.0] for _ in range(MINUTE)]
        self._seconds = [-1] * MINUTE

    @property
    def in_all(self) -> Cost:
        """Usage since the beginning."""
        return Cost(*self._in_all)

    def add(self, cost: Cost, now: float) -> None:
        """Add usage at `now`."""
        second = int(now)
        at = second % MINUTE
        slot, total = self._slots[at], self._in_all
        if self._seconds[at] != second:
            self._seconds[at] = second
            slot[:] = 0.0, 0.0, 0.0
        for i in _AMOUNTS:
            slot[i] += cost[i]
            total[i] += cost[i]

    def take_back(self, cost: Cost, now: float) -> None:
        """Take back usage that was counted but refused."""
        self.add(Cost(-cost.requests, -cost.input_tokens, -cost.output_tokens), now)

    def last_minute(self, now: float) -> Cost:
        """Return the usage of the minute before `now`."""
        return self.last(MINUTE, now)

    def last(self, seconds: int, now: float) -> Cost:
        """Return the usage of the last `seconds`, at most 60."""
        since = int(now) - seconds
        live = [slot for slot, second in zip(self._slots, self._seconds, strict=True) if second > since]
        return Cost(sum(s[0] for s in live), sum(s[1] for s in live), sum(s[2] for s in live))


class InFlight:
    """Sums over the requests in flight.

    Attributes:
        count: Number of requests in flight.
        reserved: Sum of their estimated costs, in the order of a `Cost`. Estimates err independently of each
            other, so their variances add up, too.
    """

    __slots__ = ("count", "reserved")

    def __init__(self) -> None:
        self.count = 0
        self.reserved = list(NOTHING)  # changed with every request, so no tuple

    def add(self, cost: Cost) -> None:
        """Add a request that starts."""
        self.count += 1
        reserved = self.reserved
        for i, more in enumerate(cost):
            reserved[i] += more

    def remove(self, cost: Cost) -> None:
        """Remove a request that has ended."""
        self.count -= 1
        reserved = self.reserved
        for i, gone in enumerate(cost):
            # Sums of floats drift: nothing becomes negative, and with nothing in flight nothing is left.
            reserved[i] = max(0.0, reserved[i] - gone) if self.count else 0.0
