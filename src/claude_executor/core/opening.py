"""How fast new connections may be opened.

A request beyond the most that were ever in flight opens a connection. Thousands opened at once stall an event
loop for seconds, past their own connect timeouts (measured on loopback); so they come a few hundred a second,
whatever the limits allow. Requests that find a connection open are not held back.
"""

import math

from claude_executor.core.bucket import TokenBucket

CONNECTIONS_PER_SECOND = 300.0
CONNECTIONS_AT_ONCE = 50.0


class Opening:
    """Counts the connections that must be open by now, and paces those to come."""

    __slots__ = ("_bucket", "_open")

    def __init__(self, now: float) -> None:
        self._bucket = TokenBucket(CONNECTIONS_PER_SECOND, CONNECTIONS_AT_ONCE, now=now)
        self._open = 0

    def ready_at(self, running: int) -> float:
        """The instant from which one more than `running` requests may be in flight."""
        return -math.inf if running < self._open else self._bucket.ready_at(1.0)

    def take(self, running: int, now: float) -> None:
        """Now `running` are."""
        if running > self._open:
            self._open = running
            self._bucket.take(1.0, now)
