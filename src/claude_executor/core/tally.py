"""Counts: what has happened so far, and what was used in the last minute."""

from claude_executor.core.cost import NOTHING, Cost

MINUTE = 60


class Tally:
    """Counts over the executor's whole life."""

    __slots__ = ("answered", "attempts", "cancelled", "failed", "retries")

    def __init__(self) -> None:
        self.answered = 0
        self.failed = 0
        self.cancelled = 0
        self.attempts = 0
        self.retries = 0


class Usages:
    """What was used: in the last sixty seconds, in slots of one second, and in all."""

    __slots__ = ("_seconds", "_slots", "in_all")

    def __init__(self) -> None:
        self.in_all = NOTHING
        self._slots = [(0.0, 0.0, 0.0)] * MINUTE
        self._seconds = [-1] * MINUTE

    def add(self, cost: Cost, now: float) -> None:
        """Something was used at `now`."""
        total = self.in_all
        self.in_all = Cost(
            total.requests + cost.requests,
            total.input_tokens + cost.input_tokens,
            total.output_tokens + cost.output_tokens,
        )
        second = int(now)
        slot = second % MINUTE
        requests, inputs, outputs = self._slots[slot] if self._seconds[slot] == second else (0.0, 0.0, 0.0)
        self._seconds[slot] = second
        self._slots[slot] = (
            requests + cost.requests,
            inputs + cost.input_tokens,
            outputs + cost.output_tokens,
        )

    def take_back(self, cost: Cost, now: float) -> None:
        """Something was not used after all."""
        self.add(Cost(-cost.requests, -cost.input_tokens, -cost.output_tokens), now)

    def last_minute(self, now: float) -> Cost:
        """Everything used in the minute before `now`."""
        return self.last(MINUTE, now)

    def last(self, seconds: int, now: float) -> Cost:
        """Everything used in so many seconds before `now`, at most a minute of them."""
        since = int(now) - seconds
        live = [slot for slot, second in zip(self._slots, self._seconds, strict=True) if second > since]
        return Cost(sum(s[0] for s in live), sum(s[1] for s in live), sum(s[2] for s in live))
