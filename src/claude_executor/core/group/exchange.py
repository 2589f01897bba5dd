"""What a member of a group has learned and the others are to know, and what it makes of what they tell.

That is: the limits, how long the pool is closed, whether the breaker has opened, that overload has cut the
window, and how fast the API lets the organisation grow. Each is told once, when it is new, and what the group
told is not told back.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from claude_executor.core.model.gate import BreakerState
from claude_executor.core.model.sharing import Amounts, Lease, LeaseRequest
from claude_executor.core.pool.pool import Pool

LATE = 0.02
"""Seconds by which two instants may differ and be the same news."""
CHANGE = 0.02
"""Relative change of a limit below which it is not worth telling."""


class PeerUpdates:
    """What the group and one member of it know of each other's news, for one pool."""

    __slots__ = (
        "_closed",
        "_decreases",
        "_decreases_acknowledged",
        "_decreases_sent",
        "_limits",
        "_open",
        "_opens_at",
        "_ramp",
        "_ramp_acknowledged",
        "_ramp_sent",
    )  # fmt: skip

    def __init__(self) -> None:
        self._limits: Mapping[str, Amounts] = {}
        self._decreases: float | None = None
        self._decreases_sent = self._decreases_acknowledged = 0
        self._ramp = 0.0
        self._ramp_sent = self._ramp_acknowledged = 0
        self.forget()

    def forget(self) -> None:
        """The group has not heard it: what it has been told, it has to be told again."""
        self._decreases_sent, self._ramp_sent = self._decreases_acknowledged, self._ramp_acknowledged
        self._closed = -math.inf
        self._open = False
        self._opens_at = -math.inf

    def urgent(self, pool: Pool, now: float) -> bool:
        """Whether there is something that cannot wait."""
        return (
            self._closed_for(pool, now) is not None
            or self._breaker(pool) is not None
            or pool.concurrency.decreases > self._decreases_sent
            or self._ramp_is_new(pool)
        )

    def encode(self, ask: LeaseRequest, pool: Pool, now: float) -> LeaseRequest:
        """What is new goes with `ask`."""
        terms = {meter.name: meter.known_limits() for meter, _ in pool.limited}
        closed, breaker = self._closed_for(pool, now), self._breaker(pool)
        cut, steep = pool.concurrency.decreases > self._decreases_sent, self._ramp_is_new(pool)
        self._decreases_sent, self._ramp_sent = pool.concurrency.decreases, pool.ramp.refusals
        if closed is not None:
            self._closed = pool.closed_until
        if breaker is not None:
            self._open, self._opens_at = breaker == "open", pool.breaker.opens_at
        return replace(
            ask,
            terms=terms,
            changed=_differ(terms, self._limits),
            closed=closed,
            gently=pool.slow_start.factor <= 1.0,
            breaker=breaker,
            pause=max(0.0, pool.breaker.opens_at - now),
            lasted=max(0.0, now - pool.breaker.tripped_at),
            probing=pool.breaker.probing,
            cut=cut,
            growth=pool.ramp.known_limits(now) if steep else {},
        )

    def apply(self, grant: Lease, pool: Pool, now: float, *, limits: bool) -> None:
        """Take in what the others have learned; of the `limits` only if they are others than before."""
        self._decreases_acknowledged, self._ramp_acknowledged = self._decreases_sent, self._ramp_sent
        if limits and grant.terms:
            for meter in pool.estimators.values():
                if (terms := grant.terms.get(meter.name)) is not None:
                    meter.adopt(terms, now)
            pool.relimit(now)
            self._limits = grant.terms
            pool.on_peer_limits()
        if grant.closed > 0.0 and now + grant.closed > pool.closed_until + LATE:
            pool.close(now + grant.closed, now, gently=grant.gently)
            self._closed = pool.closed_until
        self._apply_breaker(grant, pool, now)
        if self._decreases is not None and grant.cuts > self._decreases:
            pool.concurrency.on_peer_decrease(pool.in_flight, now)
        self._decreases = grant.cuts
        if grant.growth and grant.growth["told"] != self._ramp:
            self._ramp = grant.growth["told"]
            pool.ramp.adopt(grant.growth, now)

    def _apply_breaker(self, grant: Lease, pool: Pool, now: float) -> None:
        breaker = pool.breaker
        if grant.breaker is None:
            if self._open and breaker.state is not BreakerState.CLOSED:
                breaker.on_peer_closed()
                pool.reopen(now)
            self._open = False
            return
        if self._breaker(pool) == "closed":
            return  # the probe has succeeded since this was asked, and the group is yet to hear of it
        pause, lasted = grant.breaker
        if pause > 0.0 and (breaker.state is BreakerState.CLOSED or now + pause > breaker.opens_at + LATE):
            breaker.on_peer_opened(now + pause, now - lasted)
        elif breaker.state is BreakerState.CLOSED:
            breaker.on_peer_opened(now, now - lasted)
        self._open, self._opens_at = True, breaker.opens_at

    def _ramp_is_new(self, pool: Pool) -> bool:
        return pool.ramp.active and pool.ramp.refusals > self._ramp_sent

    def _closed_for(self, pool: Pool, now: float) -> float | None:
        if pool.closed_until <= max(now, self._closed + LATE):
            return None
        return pool.closed_until - now

    def _breaker(self, pool: Pool) -> str | None:
        breaker = pool.breaker
        if breaker.state is BreakerState.OPEN:
            return "open" if not self._open or breaker.opens_at > self._opens_at + LATE else None
        return "closed" if breaker.state is BreakerState.CLOSED and self._open else None


def _differ(ours: Mapping[str, Amounts], theirs: Mapping[str, Amounts]) -> bool:
    """Whether what we know of the limits differs from what the group knows."""
    for name, mine in ours.items():
        known = theirs.get(name, {})
        for key in mine.keys() | known.keys():
            a, b = mine.get(key, math.inf), known.get(key, math.inf)
            if a != b and not abs(a - b) <= CHANGE * max(
                abs(mine.get("rate", 0.0)) if key == "others" else abs(b), 1e-9
            ):
                return True
    return False
