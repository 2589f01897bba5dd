"""A token bucket that may be settled, corrected, retuned, and driven into debt.

Model. The bucket holds `level` tokens, refills continuously at `rate` per second and never holds more than
`capacity`. Written down is the level at one instant; everything later follows from it::

    level(now) = min(capacity, level + rate * (now - at))

Promise. However takes are timed, a window of *w* seconds admits at most ``capacity + rate * w`` tokens, as
long as callers take only what `ready_at` allows and no single amount exceeds the capacity.

Debt. Costs are estimates. When the truth turns out larger, the level goes below zero and nothing is
admitted until the refill has paid it back. An amount larger than the whole bucket may go when the bucket
is full and leaves it in debt: refusing it for ever would help nobody, and the rate still holds over time.

Most callers want `ready_at`. Compare it with the clock (``bucket.ready_at(n) <= now``), never compare
levels with amounts: `ready_at` is computed from the written-down state alone, so a timer set to it always
finds the tokens there, whereas a level computed at wake-up may be short by one floating-point rounding, and
the timer would be set again, for ever.
"""

import math
from typing import Protocol


class TokenBucket:
    """One limited resource. Time is in seconds; a clock that goes backward creates no tokens."""

    __slots__ = ("_at", "_level", "capacity", "rate")

    def __init__(self, rate: float, capacity: float, *, now: float, level: float | None = None) -> None:
        """A bucket refilling at `rate` a second up to `capacity`; full unless `level` says otherwise."""
        if not (rate > 0 and capacity > 0 and math.isfinite(rate) and math.isfinite(capacity)):
            raise ValueError(f"a bucket needs a positive rate and capacity, got {rate=} {capacity=}")
        self.rate = rate
        self.capacity = capacity
        self._level = capacity if level is None else min(level, capacity)
        self._at = now

    def __repr__(self) -> str:
        return f"<TokenBucket {self._level:.6g}/{self.capacity:.6g} at {self._at:.3f}, +{self.rate:.6g}/s>"

    def level(self, now: float) -> float:
        """Tokens held at `now`; negative while in debt."""
        if now <= self._at:
            return self._level
        return min(self.capacity, self._level + self.rate * (now - self._at))

    def ready_at(self, amount: float, floor: float = 0.0) -> float:
        """The instant from which `amount` may be taken, leaving `floor` behind; minus infinity if already.

        Both together count for at most the capacity, so that every request's time comes.
        """
        need = min(amount + floor, self.capacity)
        if need <= self._level:
            return -math.inf
        return self._at + (need - self._level) / self.rate

    def take(self, amount: float, now: float, *, idle: float = 0.0) -> float:
        """Remove `amount`, whether it is there or not, and tell what is left.

        Asking `ready_at` first is the caller's part. A bucket that was full earns nothing for `idle` seconds.
        """
        self._refill(now)
        if self._level >= self.capacity:
            self._at = max(self._at, now + idle)
        self._level -= amount
        return self._level

    def settle(self, surplus: float, now: float) -> None:
        """Give `surplus` back (or, if negative, take more): the estimate minus what was really used."""
        self._refill(now)
        self._level = min(self.capacity, self._level + surplus)

    def correct(self, level: float, now: float) -> None:
        """Set the level to what somebody who knows better says it is."""
        self._level = min(self.capacity, level)
        self._at = max(self._at, now)

    def reconfigure(self, rate: float, capacity: float, now: float) -> None:
        """Change rate and capacity from `now` on; what was earned until now is earned at the old rate."""
        self._refill(now)
        self._level = min(capacity, self._level)
        self.rate = rate
        self.capacity = capacity

    def _refill(self, now: float) -> None:
        """Write down what has been earned until now."""
        if now > self._at:
            self._level = min(self.capacity, self._level + self.rate * (now - self._at))
            self._at = now


class NewBucket(Protocol):
    """Makes the bucket of one resource: a bucket of its own, or one that a group leases to this member."""

    def __call__(self, rate: float, capacity: float, *, now: float) -> TokenBucket:
        """Return a full bucket that refills at `rate` a second up to `capacity`."""
        ...
