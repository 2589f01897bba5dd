"""The limit on growth ("acceleration limit"): how many more input tokens this minute than the last.

A pool that has been quiet may not use its whole limit at once. The API answers too steep a rise with a 429
of its own, ``ramp_limit_exceeded``, whose message quotes how much this minute may use and how much the next.
From then on every minute has an allowance that grows by the same step, until it passes the limit itself.
Using all of an allowance is what makes the next one larger, so nothing is held back within it.

Minutes are the API's: they begin where its `retry-after` ends. In a group every member counts by itself, what
it takes for as many times more as there are members: each is left its share of every allowance.
"""

import math
from collections.abc import Mapping

MINUTE = 60.0
LEAST_UNTOLD = 25_000.0
"""Input tokens that any minute may use, where the API quotes no figures: the least seen quoted."""
UNTOLD_GROWTH = 2.0
"""What a minute may use, as a multiple of the last, where the API quotes no figures."""
CAUTION = 1.05
"""Our estimates of what a request takes are a little off; so much more is asked of the allowance."""


class RampLimit:
    """Allowances by the minute, in input tokens; passes everything until `refused` is called."""

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
            return "<Growth not limited>"
        return f"<Growth {self._left:.0f} of {self._allowance:.0f} left until {self._ends_at:.1f}>"

    def on_refusal(self, quoted: tuple[float, float] | None, used: float, wait: float, now: float) -> None:
        """The API says the rise is too steep.

        Args:
            quoted: What this minute and the next may use, if the API says so.
            used: What was used in the last minute, which stands in for what it does not say.
            wait: Seconds until the next minute begins.
            now: When this is read.
        """
        current, following = quoted or (used, max(LEAST_UNTOLD, used * UNTOLD_GROWTH))
        self.active = True
        self.refusals += 1
        self._step = max(0.0, following - current)
        self._allowance = following - self._step
        self._left = 0.0
        self._ends_at = now + wait

    def known_limits(self, now: float) -> dict[str, float]:
        """What others are to know of it."""
        return {"allowance": self._allowance, "step": self._step, "ends": self._ends_at - now}

    def adopt(self, terms: Mapping[str, float], now: float) -> None:
        """Take over what another one was told, which may be some minutes ago."""
        self.active = True
        self._allowance, self._step, self._left = terms["allowance"], terms["step"], 0.0
        self._ends_at = now + terms["ends"]

    def ready_at(self, tokens: float, now: float, limit: float) -> float:
        """The instant from which a request of so many tokens may start; `limit` a minute holds anyway."""
        self._roll(now, limit)
        if not self.active or tokens * CAUTION <= self._left or self._left == self._allowance > 0.0:
            return -math.inf
        return self._ends_at

    def take(self, tokens: float) -> None:
        """A request starts."""
        self._left -= tokens

    def _roll(self, now: float, limit: float) -> None:
        while self.active and now >= self._ends_at:
            self._ends_at += MINUTE
            self._allowance += self._step
            self._left = self._allowance
            self.active = self._allowance < limit and self._step > 0.0
