"""What less urgent work leaves alone for more urgent work, while there is any about."""

import math

SHARE = 0.05
"""Of every bucket, and of the requests that may be in flight."""
LASTS = 60.0
"""Seconds for which it is kept after the last more urgent request came."""

MOST = 100
"""Priorities remembered; more of them are looked through for those that have lapsed."""


class Urgency:
    """Which priorities are about."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def seen(self, priority: int, now: float) -> None:
        """A request of this priority has come."""
        self._until[priority] = now + LASTS
        if len(self._until) > MOST:
            self._until = {other: until for other, until in self._until.items() if until > now}

    def kept_from(self, priority: int, now: float) -> float:
        """The share that requests of this priority leave alone."""
        for other, until in self._until.items():
            if other > priority and until > now:
                return SHARE
        return 0.0

    def lapses_at(self, priority: int, now: float) -> float:
        """When requests of this priority need to leave nothing alone any more, if they do now."""
        ends = [until for other, until in self._until.items() if other > priority and until > now]
        return max(ends, default=math.inf)
