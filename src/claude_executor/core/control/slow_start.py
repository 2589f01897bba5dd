"""How fast a pool may open up: a start that doubles, on top of what the buckets allow.

A full bucket would allow a minute's worth of requests in its first instant. The API answers a sharp rise
with 429s of its own (acceleration limits), enforces some limits over windows shorter than a minute, and a
thousand connections opened at once stall any event loop. So a pool starts at the rate it can sustain and
doubles it every second or every round trip, whichever is longer, until only the buckets hold it back.

The unit is *sustained seconds*: the time a request occupies the resource it needs most (see `line`). At
factor 1 one sustained second may be spent per second, whatever mix of resources the requests need.
"""

import math

from claude_executor.core.control.bucket import TokenBucket

DOUBLING = 1.0
"""Seconds after which the factor doubles, or the round-trip time if that is longer."""
OFF = 64.0
"""The factor from which on pacing is off: a minute's bucket empties in a second."""
COLD_AFTER = 60.0
"""Seconds without a request after which a pool starts slowly again."""


class SlowStart:
    """The opening rate of one pool."""

    __slots__ = ("_bucket", "_doubled_at", "_used_at", "factor")

    def __init__(self, now: float) -> None:
        self.factor = 1.0
        self._bucket = TokenBucket(1.0, 1.0, now=now, level=0.0)
        self._doubled_at = now
        self._used_at = now

    def __repr__(self) -> str:
        return f"<Pace x{self.factor:g}>"

    @property
    def off(self) -> bool:
        """Whether it holds nothing back any more."""
        return self.factor >= OFF

    def ready_at(self, seconds: float) -> float:
        """The instant from which a request of so many sustained seconds may start."""
        return -math.inf if self.off else self._bucket.ready_at(seconds)

    def take(self, seconds: float, now: float, round_trip: float | None) -> None:
        """A request starts; `round_trip` is how long an answer takes, `None` before the first one."""
        if now - self._used_at > COLD_AFTER:
            self.restart(now)
        self._used_at = now
        if self.factor >= OFF:
            return
        if round_trip is None:  # nobody has said yet that even this rate is right
            self._doubled_at = now
        elif now - self._doubled_at >= max(DOUBLING, round_trip):
            self._doubled_at = now
            self.factor *= 2.0
            self._bucket.reconfigure(self.factor, max(1.0, self.factor / 2.0), now)
        self._bucket.take(seconds, now)

    def give_back(self, seconds: float, now: float) -> None:
        """A request was refused. If it is a large one it would otherwise hold up all others for minutes."""
        self._bucket.settle(seconds, now)

    def restart(self, now: float, *, factor: float = 1.0) -> None:
        """Begin again at `factor` times the sustained rate, with nothing saved up."""
        self.factor = factor
        self._bucket = TokenBucket(factor, 1.0, now=now, level=0.0)
        self._doubled_at = now
        self._used_at = now
