"""The ramp limit ("acceleration limit"): how many more input tokens this minute than the last.

A pool that has been quiet may not use its whole limit at once. The API answers too steep a rise with a
special 429, ``ramp_limit_exceeded``, whose message quotes how much this minute and the next may use. Nothing
more starts this minute. From then on every minute has an allowance that grows by the same step, whether it is
used up or not, until it reaches the limit itself. Within a minute nothing is paced. The API may let only an
allowance that is used up grow; then it refuses again and quotes new figures, which replace these.

The minutes are the API's: they begin where its `retry-after` ends. In a group every member keeps its own
count and multiplies what it takes by the number of members, so each gets its share of every allowance.
"""

import math
from collections.abc import Mapping

MINUTE = 60.0
MIN_UNQUOTED = 25_000.0
"""Least allowance where the API quotes no figures, in input tokens: the smallest one seen quoted."""
UNQUOTED_GROWTH = 2.0
"""Allowance where the API quotes no figures, as a multiple of the use in the last minute."""
SAFETY_FACTOR = 1.05
"""Factor on the estimate of a request, which may be a little low."""


class RampLimit:
    """Allowances by the minute, in input tokens; holds nothing back before the first refusal.

    Attributes:
        active: Whether the limit holds requests back.
        refusals: Refusals for too steep a rise so far.
    """

    __slots__ = ("_allowance", "_ends_at", "_left", "_step", "active", "refusals")

    def __init__(self) -> None:
        self.active = False
        self.refusals = 0
        self._allowance = 0.0
        self._left = 0.0
        self._step = 0.0
        self._ends_at = 0.0

    def __repr__(self) -> str:
        if not self.active:
            return "<RampLimit inactive>"
        return f"<RampLimit {self._left:.0f} of {self._allowance:.0f} left until {self._ends_at:.1f}>"

    def on_refusal(
        self, quoted: tuple[float, float] | None, used: float, next_minute_in: float, now: float
    ) -> None:
        """Limit the ramp after a refusal for too steep a rise.

        Args:
            quoted: Allowances of this minute and the next, if the API quotes them.
            used: Input tokens used in the last minute, the substitute for figures not quoted.
            next_minute_in: Seconds until the next minute begins.
            now: The current instant.
        """
        current, following = quoted or (used, max(MIN_UNQUOTED, used * UNQUOTED_GROWTH))
        self.active = True
        self.refusals += 1
        self._step = max(0.0, following - current)
        self._allowance = following - self._step
        self._left = 0.0
        self._ends_at = now + next_minute_in

    def known_limits(self, now: float) -> dict[str, float]:
        """Return what the other members of a group should know: tokens, and seconds from now."""
        return {"allowance": self._allowance, "step": self._step, "ends": self._ends_at - now}

    def adopt(self, limits: Mapping[str, float], now: float) -> None:
        """Take over a peer's `known_limits`, which may be minutes old."""
        self.active = True
        self._allowance, self._step, self._left = limits["allowance"], limits["step"], 0.0
        self._ends_at = now + limits["ends"]

    def ready_at(self, tokens: float, now: float, limit: float) -> float:
        """Return the instant from which a request may start.

        Args:
            tokens: Input tokens of the request.
            now: The current instant.
            limit: The limit in force, per minute; allowances beyond it are not needed.
        """
        self._roll(now, limit)
        if not self.active or tokens * SAFETY_FACTOR <= self._left or self._left == self._allowance > 0.0:
            return -math.inf
        return self._ends_at

    def take(self, tokens: float) -> None:
        """Take the input tokens of a request that starts."""
        self._left -= tokens

    def _roll(self, now: float, limit: float) -> None:
        """Begin every minute that is due by `now`."""
        while self.active and now >= self._ends_at:
            self._ends_at += MINUTE
            self._allowance += self._step
            self._left = self._allowance
            self.active = self._allowance < limit and self._step > 0.0
