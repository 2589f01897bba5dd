"""A leaking tank: what one limit of one pool holds at an instant.

Model: the level rises at the limit's rate up to the capacity and falls in steps (``take``) and in steady
flows (``begin``/``end``: one flow per answer being generated), so that a thousand running answers cost
nothing between their beginnings and ends. Between two events the level is a straight line clipped at the
capacity. It may fall below zero: whoever was let in is served, and the debt delays those who come after.
"""

import math
from dataclasses import dataclass

# A wake-up computed in floating point may find a hair too little; no level is compared more sharply than
# this.
_GRAIN = 1e-6


@dataclass(slots=True)
class Flow:
    """One answer being generated: ``amount`` tokens leave evenly over ``seconds`` from ``begun_at`` on."""

    amount: float
    seconds: float
    begun_at: float

    @property
    def per_second(self) -> float:
        """How fast the tank drains for this answer."""
        return self.amount / self.seconds

    def drawn(self, now: float) -> float:
        """How many tokens the answer has really produced by ``now``."""
        return self.amount * min(1.0, max(0.0, now - self.begun_at) / self.seconds)


class Tank:
    """One limit, continuously refilled.

    Args:
        per_minute: The limit.
        seconds: Capacity in seconds' worth of the limit.
        now: The current instant in seconds; every method takes the same clock.
    """

    __slots__ = ("_flowing", "_flows", "_held", "_seen_at", "capacity", "lowest", "neighbours", "per_minute")

    def __init__(self, per_minute: int, seconds: float, now: float) -> None:
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute / 60.0 * seconds)
        self.neighbours = 0.0
        self.lowest = self.capacity
        self._held = self.capacity
        self._seen_at = now
        self._flows = 0
        self._flowing = 0.0

    @property
    def per_second(self) -> float:
        """The limit per second."""
        return self.per_minute / 60.0

    def level(self, now: float) -> float:
        """What the tank holds; negative while in debt. A clock that steps back changes nothing."""
        elapsed = now - self._seen_at
        if elapsed > 0:
            self._seen_at = now
            inflow = self.per_minute / 60.0 * (1.0 - self.neighbours) - self._flowing
            self._held = min(self.capacity, self._held + inflow * elapsed)
            self.lowest = min(self.lowest, self._held)
        return self._held

    def holds(self, need: float, now: float) -> bool:
        """Whether ``need`` is there, forgiving less than a millionth of a token."""
        return self.level(now) + _GRAIN >= need

    def take(self, amount: float, now: float) -> None:
        """Remove ``amount`` at once, into debt if need be. A negative amount gives back, to the capacity."""
        self._held = min(self.capacity, self.level(now) - amount)
        self.lowest = min(self.lowest, self._held)

    def begin(self, amount: float, seconds: float, now: float) -> Flow:
        """Let ``amount`` flow out evenly over ``seconds`` (more than 0)."""
        self.level(now)
        flow = Flow(amount, seconds, now)
        self._flows += 1
        self._flowing += flow.per_second
        return flow

    def end(self, flow: Flow, now: float) -> float:
        """Stop a flow, early or late, and set right what a late timer let out too much.

        Returns:
            The tokens that were really produced.
        """
        self.level(now)
        self._flows -= 1
        self._flowing = self._flowing - flow.per_second if self._flows else 0.0
        drawn = flow.drawn(now)
        ran_out = flow.per_second * max(0.0, now - flow.begun_at)
        self.take(drawn - ran_out, now)
        return drawn

    def wait(self, need: float, now: float) -> float:
        """Seconds of plain refill until ``need`` is there: the API does not know anybody's next move."""
        return max(0.0, need - self.level(now)) / self.per_second

    def full_in(self, now: float) -> float:
        """Seconds of plain refill until the tank is full."""
        return self.wait(self.capacity, now)

    def change(self, per_minute: int, seconds: float, now: float) -> None:
        """Change the limit; what was refilled until now was refilled at the old one."""
        self.level(now)
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute / 60.0 * seconds)
        self._held = min(self.capacity, self._held)


def quoted(seconds: float) -> int:
    """A wait as ``retry-after`` gives it: whole seconds, rounded up, at least one."""
    return max(1, math.ceil(seconds - _GRAIN))
