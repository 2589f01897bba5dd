"""The slow start of a pool: a rate that doubles until only the buckets limit it.

A full bucket would allow a minute's worth of requests in its first instant. But the API refuses sharp rises
(429s of acceleration limits) and enforces some limits over less than a minute, and a thousand connections
opened at once stall any event loop. So a pool starts at the rate it can sustain and doubles it every second
or every round trip, whichever is longer, until only the buckets hold it back.

The unit is *sustained seconds*: the time for which a request occupies the resource it needs most (see
`fair_queue`). At factor 1 one sustained second may be spent per second, whatever resources the requests need.
"""

import math

from claude_executor.core.control.bucket import TokenBucket

DOUBLING = 1.0
"""Seconds until the factor doubles, unless a round trip takes longer."""
OFF_FACTOR = 64.0
"""Factor from which the slow start is off: a minute's bucket empties in a second."""
COLD_AFTER = 60.0
"""Seconds without a request after which a pool starts slowly again."""


class SlowStart:
    """The slow start of one pool.

    Attributes:
        factor: The rate allowed now, as a multiple of the sustained rate.
    """

    __slots__ = ("_bucket", "_doubled_at", "_used_at", "factor")

    def __init__(self, now: float) -> None:
        self.factor = 1.0
        self._bucket = TokenBucket(1.0, 1.0, now=now, level=0.0)
        self._doubled_at = now
        self._used_at = now

    def __repr__(self) -> str:
        return f"<SlowStart x{self.factor:g}>"

    @property
    def off(self) -> bool:
        """Whether the slow start is over and holds nothing back."""
        return self.factor >= OFF_FACTOR

    def ready_at(self, seconds: float) -> float:
        """Return the instant from which a request of `seconds` sustained seconds may start."""
        return -math.inf if self.off else self._bucket.ready_at(seconds)

    def take(self, seconds: float, now: float, round_trip: float | None) -> None:
        """Count a request that starts.

        Args:
            seconds: The sustained seconds of the request.
            now: The current instant.
            round_trip: Seconds an answer takes; None before the first one.
        """
        if now - self._used_at > COLD_AFTER:
            self.restart(now)
        self._used_at = now
        if self.factor >= OFF_FACTOR:
            return
        if round_trip is None:  # no answer has confirmed even this rate yet
            self._doubled_at = now
        elif now - self._doubled_at >= max(DOUBLING, round_trip):
            self._doubled_at = now
            self.factor *= 2.0
            self._bucket.reconfigure(self.factor, max(1.0, self.factor / 2.0), now)
        self._bucket.take(seconds, now)

    def give_back(self, seconds: float, now: float) -> None:
        """Give back the seconds of a refused request; a large one would hold others for minutes."""
        self._bucket.settle(seconds, now)

    def restart(self, now: float, *, factor: float = 1.0) -> None:
        """Start again at `factor` times the sustained rate, with nothing saved up."""
        self.factor = factor
        self._bucket = TokenBucket(factor, 1.0, now=now, level=0.0)
        self._doubled_at = now
        self._used_at = now
