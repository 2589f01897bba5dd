"""A leaking tank: what one limit of one pool holds at an instant.

Model: the level rises at the limit's rate up to the capacity and falls in steps (``take``) and in steady
flows (``begin``/``end``: one flow per answer being generated), so that a thousand running answers cost
nothing between their beginnings and ends. A flow dries up by itself when its answer is complete, however late
``end`` is called. Between two events the level is a straight line clipped at the capacity. It may fall below
zero: whoever was let in is served, and the debt delays those who come after.
"""

import heapq
import math
from dataclasses import dataclass

# A wake-up computed in floating point may find a hair too little; no level is compared more sharply than
# this.
_GRAIN = 1e-6


@dataclass(slots=True, eq=False)
class Flow:
    """One answer being generated: ``amount`` tokens leave evenly over ``seconds`` from ``begun_at`` on."""

    amount: float
    seconds: float
    begun_at: float
    dry: bool = False

    @property
    def dry_at(self) -> float:
        """When the last token has left."""
        return self.begun_at + self.seconds

    def __lt__(self, other: "Flow") -> bool:
        """Whether this one dries up first."""
        return self.dry_at < other.dry_at

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

    __slots__ = (
        "_flowing",
        "_flows",
        "_held",
        "_running",
        "_seen_at",
        "capacity",
        "lowest",
        "neighbours",
        "per_minute",
    )

    def __init__(self, per_minute: int, seconds: float, now: float) -> None:
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute / 60.0 * seconds)
        self.neighbours = 0.0
        self.lowest = self.capacity
        self._held = self.capacity
        self._seen_at = now
        self._flows: list[Flow] = []
        self._running = 0
        self._flowing = 0.0

    @property
    def per_second(self) -> float:
        """The limit per second."""
        return self.per_minute / 60.0

    def level(self, now: float) -> float:
        """What the tank holds; negative while in debt. A clock that steps back changes nothing."""
        if now <= self._seen_at:
            return self._held
        while self._flows and self._flows[0].dry_at <= now:
            flow = heapq.heappop(self._flows)
            if not flow.dry:
                self._run(flow.dry_at)
                self._dry_up(flow)
        self._run(now)
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
        heapq.heappush(self._flows, flow)
        self._running += 1
        self._flowing += flow.per_second
        return flow

    def end(self, flow: Flow, now: float) -> float:
        """Stop a flow, early or late.

        Returns:
            The tokens that were really produced.
        """
        self.level(now)
        if not flow.dry:
            self._dry_up(flow)
        return flow.drawn(now)

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

    def _run(self, now: float) -> None:
        """Let time pass in which no flow begins or dries up."""
        elapsed = now - self._seen_at
        if elapsed > 0:
            self._seen_at = now
            inflow = self.per_minute / 60.0 * (1.0 - self.neighbours) - self._flowing
            self._held = min(self.capacity, self._held + inflow * elapsed)
            self.lowest = min(self.lowest, self._held)

    def _dry_up(self, flow: Flow) -> None:
        flow.dry = True
        self._running -= 1
        # Set to nothing when nothing runs, so that rounding errors do not add up over millions of flows.
        self._flowing = self._flowing - flow.per_second if self._running else 0.0


def quoted(seconds: float) -> int:
    """A wait as ``retry-after`` gives it: whole seconds, rounded up, at least one."""
    return max(1, math.ceil(seconds - _GRAIN))
