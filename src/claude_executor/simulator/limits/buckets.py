"""A token bucket with steady outflows: the level of one limit of one pool.

Model: the level rises at the limit's rate up to the capacity. It falls in steps (``take``) and in steady
flows (``begin`` and ``end``, one flow per answer being generated), so a thousand answers in flight cost
nothing between their beginnings and ends. A flow dries up by itself when its answer is complete, however late
``end`` is called. Between two events the level is a straight line clipped at the capacity. It may fall below
zero: an admitted request is served, and the debt delays later ones.
"""

import heapq
import math
from dataclasses import dataclass

# The tolerance of every comparison of levels: a wake-up computed in floating point may come slightly early.
_GRAIN = 1e-6


@dataclass(slots=True, eq=False)
class Flow:
    """One answer being generated: its tokens leave the bucket at a steady rate.

    Attributes:
        amount: The tokens of the answer.
        seconds: The time over which they leave.
        begun_at: The instant of the first one.
        dry: Whether the flow has ended.
    """

    amount: float
    seconds: float
    begun_at: float
    dry: bool = False

    @property
    def dry_at(self) -> float:
        """The instant at which the last token leaves."""
        return self.begun_at + self.seconds

    def __lt__(self, other: "Flow") -> bool:
        """Whether this flow dries up first; for the heap."""
        return self.dry_at < other.dry_at

    @property
    def per_second(self) -> float:
        """The tokens that leave the bucket per second."""
        return self.amount / self.seconds

    def drawn(self, now: float) -> float:
        """Return the tokens produced by ``now``."""
        return self.amount * min(1.0, max(0.0, now - self.begun_at) / self.seconds)


class LimitBucket:
    """The bucket of one limit, continuously refilled and full at the start.

    Args:
        per_minute: The limit.
        seconds: The capacity, in seconds of the limit.
        now: The current instant in seconds. All methods take instants of the same clock.

    Attributes:
        per_minute: The limit.
        capacity: The highest level.
        lowest: The lowest level so far.
        neighbours: The fraction of the refill that other users take.
    """

    __slots__ = (
        "_flows",
        "_level",
        "_outflow",
        "_running",
        "_updated_at",
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
        self._level = self.capacity
        self._updated_at = now
        self._flows: list[Flow] = []
        self._running = 0
        self._outflow = 0.0

    @property
    def per_second(self) -> float:
        """The limit per second."""
        return self.per_minute / 60.0

    def level(self, now: float) -> float:
        """Return the level; negative while in debt. A clock that steps back changes nothing."""
        if now <= self._updated_at:
            return self._level
        while self._flows and self._flows[0].dry_at <= now:
            flow = heapq.heappop(self._flows)
            if not flow.dry:
                self._run(flow.dry_at)
                self._dry_up(flow)
        self._run(now)
        return self._level

    def holds(self, need: float, now: float) -> bool:
        """Whether the level covers ``need``, up to rounding."""
        return self.level(now) + _GRAIN >= need

    def take(self, amount: float, now: float) -> None:
        """Remove ``amount`` at once, even into debt. A negative amount is returned, up to the capacity."""
        self._level = min(self.capacity, self.level(now) - amount)
        self.lowest = min(self.lowest, self._level)

    def begin(self, amount: float, seconds: float, now: float) -> Flow:
        """Start a flow of ``amount`` over ``seconds``, which must be greater than 0."""
        self.level(now)
        flow = Flow(amount, seconds, now)
        heapq.heappush(self._flows, flow)
        self._running += 1
        self._outflow += flow.per_second
        return flow

    def end(self, flow: Flow, now: float) -> float:
        """Stop a flow, early or late.

        Returns:
            The tokens that were produced.
        """
        self.level(now)
        if not flow.dry:
            self._dry_up(flow)
        return flow.drawn(now)

    def wait(self, need: float, now: float) -> float:
        """Return the seconds of refill until ``need`` is there, as if no other request came."""
        return max(0.0, need - self.level(now)) / self.per_second

    def full_in(self, now: float) -> float:
        """Return the seconds of refill until the bucket is full."""
        return self.wait(self.capacity, now)

    def change(self, per_minute: int, seconds: float, now: float) -> None:
        """Change the limit from ``now`` on; the level until then follows the old one."""
        self.level(now)
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute / 60.0 * seconds)
        self._level = min(self.capacity, self._level)

    def _run(self, now: float) -> None:
        """Advance the level over a time in which no flow begins or dries up."""
        elapsed = now - self._updated_at
        if elapsed > 0:
            self._updated_at = now
            inflow = self.per_minute / 60.0 * (1.0 - self.neighbours) - self._outflow
            self._level = min(self.capacity, self._level + inflow * elapsed)
            self.lowest = min(self.lowest, self._level)

    def _dry_up(self, flow: Flow) -> None:
        flow.dry = True
        self._running -= 1
        # Exactly zero when no flow is left, so that rounding errors do not add up over millions of flows.
        self._outflow = self._outflow - flow.per_second if self._running else 0.0


def retry_after_seconds(seconds: float) -> int:
    """Round a wait as ``retry-after`` does: up to whole seconds, at least one."""
    return max(1, math.ceil(seconds - _GRAIN))
