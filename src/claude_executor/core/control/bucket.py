"""A token bucket that can be settled, corrected, reconfigured and driven into debt.

Model. The bucket holds `level` tokens, refills continuously at `rate` per second and never holds more than
`capacity`. It stores the level at one instant, from which every later level follows::

    level(now) = min(capacity, level + rate * (now - at))

Promise. However the takes are timed, any *w* seconds admit at most ``capacity + rate * w`` tokens, as long as
callers take only what `ready_at` allows and no single amount exceeds the capacity.

Debt. Costs are estimates. When the real cost is larger, the level drops below zero and nothing is admitted
until the refill has paid the debt back. An amount larger than the whole bucket may be taken when the bucket
is full, and leaves it in debt: refusing it forever would help no one, and the rate still holds over time.

Most callers want `ready_at`. Compare it with the clock (``bucket.ready_at(n) <= now``), never compare
levels with amounts. `ready_at` depends on the stored state alone, so a timer set to it always finds the
tokens there; a level computed at wake-up may be short by one floating-point rounding, and the timer would be
set again, forever.
"""

import math
from typing import Protocol


class TokenBucket:
    """The bucket of one limited resource. A clock that goes backward creates no tokens.

    Attributes:
        rate: Refill, in tokens per second.
        capacity: The most tokens the bucket can hold.
    """

    __slots__ = ("_at", "_level", "capacity", "rate")

    def __init__(self, rate: float, capacity: float, *, now: float, level: float | None = None) -> None:
        """Create a bucket that refills at `rate` a second up to `capacity`; full unless `level` is given.

        Raises:
            ValueError: `rate` or `capacity` is not a positive, finite number.
        """
        if not (rate > 0 and capacity > 0 and math.isfinite(rate) and math.isfinite(capacity)):
            raise ValueError(f"a bucket needs a positive rate and capacity, got {rate=} {capacity=}")
        self.rate = rate
        self.capacity = capacity
        self._level = capacity if level is None else min(level, capacity)
        self._at = now

    def __repr__(self) -> str:
        return f"<TokenBucket {self._level:.6g}/{self.capacity:.6g} at {self._at:.3f}, +{self.rate:.6g}/s>"

    def level(self, now: float) -> float:
        """Return the tokens in the bucket at `now`; negative while in debt."""
        if now <= self._at:
            return self._level
        return min(self.capacity, self._level + self.rate * (now - self._at))

    def ready_at(self, amount: float, floor: float = 0.0) -> float:
        """Return the instant from which `amount` may be taken, leaving `floor` behind.

        Minus infinity means that it may be taken already.

        Together they count as the capacity at most, so that every request can start some day.
        """
        need = min(amount + floor, self.capacity)
        if need <= self._level:
            return -math.inf
        return self._at + (need - self._level) / self.rate

    def take(self, amount: float, now: float, *, idle: float = 0.0) -> float:
        """Remove `amount`, whether the bucket holds it or not, and return the level that is left.

        The caller asks `ready_at` first. A bucket that was full earns nothing for the next `idle` seconds.
        """
        self._refill(now)
        if self._level >= self.capacity:
            self._at = max(self._at, now + idle)
        self._level -= amount
        return self._level

    def settle(self, surplus: float, now: float) -> None:
        """Give back `surplus`, the estimate minus the real use; a negative one is taken in addition."""
        self._refill(now)
        self._level = min(self.capacity, self._level + surplus)

    def correct(self, level: float, now: float) -> None:
        """Replace the level by a better-known one."""
        self._level = min(self.capacity, level)
        self._at = max(self._at, now)

    def reconfigure(self, rate: float, capacity: float, now: float) -> None:
        """Change rate and capacity from `now` on; the refill until then is at the old rate."""
        self._refill(now)
        self._level = min(capacity, self._level)
        self.rate = rate
        self.capacity = capacity

    def _refill(self, now: float) -> None:
        """Store the level at `now`."""
        if now > self._at:
            self._level = min(self.capacity, self._level + self.rate * (now - self._at))
            self._at = now


class NewBucket(Protocol):
    """Factory of the bucket of one resource: a bucket of its own, or one leased from a group."""

    def __call__(self, rate: float, capacity: float, *, now: float) -> TokenBucket:
        """Return a full bucket that refills at `rate` a second up to `capacity`."""
        ...
