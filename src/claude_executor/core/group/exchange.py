"""Knowledge about a pool that a member and its group pass on to each other.

They exchange limits, closures of the pool, outages, overload, and limits on growth. A member reports each
discovery once. It does not report back what it has learned from the group.
"""

import math
from collections.abc import Mapping

from claude_executor.core.model.gate import BreakerState
from claude_executor.core.model.sharing import Amounts, Closure, Lease, Outage, PoolUpdates, RampAllowance
from claude_executor.core.pool.pool import Pool

TOLERANCE = 0.02
"""Seconds by which two instants may differ and still count as the same."""
CHANGE = 0.02
"""Relative change of a limit below which it is not reported."""


class PeerExchange:
    """The difference between what one member knows about a pool and what its group knows.

    A report counts as received when the request that carried it has been answered.
    """

    __slots__ = (
        "_closed_until",
        "_limits",
        "_open",
        "_opens_at",
        "_overloads",
        "_overloads_acknowledged",
        "_overloads_sent",
        "_ramp",
        "_ramps_acknowledged",
        "_ramps_sent",
    )  # fmt: skip

    def __init__(self) -> None:
        self._limits: Mapping[str, Amounts] = {}
        self._overloads: int | None = None
        self._overloads_sent = self._overloads_acknowledged = 0
        self._ramp = 0.0
        self._ramps_sent = self._ramps_acknowledged = 0
        self.on_request_lost()

    def on_request_lost(self) -> None:
        """Report again what the last request has carried: it was not answered."""
        self._overloads_sent, self._ramps_sent = self._overloads_acknowledged, self._ramps_acknowledged
        self._closed_until = -math.inf
        self._open = False
        self._opens_at = -math.inf

    def urgent(self, pool: Pool, now: float) -> bool:
        """Whether a discovery should be passed on to the group at once."""
        return (
            self._closed_now(pool, now)
            or self._opened(pool)
            or self._recovered(pool)
            or pool.concurrency.decreases > self._overloads_sent
            or self._ramp_refused(pool)
        )

    def report(self, limits: Mapping[str, Amounts], pool: Pool, now: float) -> PoolUpdates:
        """Return every discovery that the group does not know yet, and take it as sent.

        Args:
            limits: What this member knows of each limited resource.
            pool: The pool in question.
            now: The current instant.
        """
        breaker, closure, outage, ramp = pool.breaker, None, None, None
        recovered = self._recovered(pool)
        if self._closed_now(pool, now):
            closure = Closure(pool.closed_until - now, gently=pool.slow_start.factor <= 1.0)
            self._closed_until = pool.closed_until
        if self._opened(pool):
            outage = Outage(max(0.0, breaker.opens_at - now), max(0.0, now - breaker.tripped_at))
        if outage is not None or recovered:
            self._open, self._opens_at = not recovered, breaker.opens_at
        if self._ramp_refused(pool):
            known = pool.ramp.known_limits(now)
            ramp = RampAllowance(known["allowance"], known["step"], known["ends"])
        overloaded = pool.concurrency.decreases > self._overloads_sent
        self._overloads_sent, self._ramps_sent = pool.concurrency.decreases, pool.ramp.refusals
        return PoolUpdates(
            limits_changed=_differ(limits, self._limits),
            closure=closure,
            outage=outage,
            recovered=recovered,
            overloaded=overloaded,
            ramp=ramp,
        )

    def apply(self, lease: Lease, pool: Pool, now: float, *, limits_changed: bool) -> None:
        """Give the pool what other members have learned, and take the last report as received.

        Args:
            lease: The answer of the group.
            pool: The pool in question.
            now: The current instant.
            limits_changed: Whether the limits in the lease may differ from those of the last one.
        """
        self._overloads_acknowledged, self._ramps_acknowledged = self._overloads_sent, self._ramps_sent
        if limits_changed:
            self._apply_limits(lease, pool, now)
        closure = lease.closure
        if closure is not None and now + closure.ends_in > pool.closed_until + TOLERANCE:
            pool.close(now + closure.ends_in, now, gently=closure.gently)
            self._closed_until = pool.closed_until
        self._apply_breaker(lease.outage, pool, now)
        if self._overloads is not None and lease.overloads > self._overloads:
            pool.concurrency.on_peer_decrease(pool.in_flight, now)
        self._overloads = lease.overloads
        if (ramp := lease.ramp) is not None and ramp.number != self._ramp:
            self._ramp = ramp.number
            pool.ramp.adopt({"allowance": ramp.allowance, "step": ramp.step, "ends": ramp.ends_in}, now)

    def _apply_limits(self, lease: Lease, pool: Pool, now: float) -> None:
        known = {name: line.limits for name, line in lease.resources.items() if line.limits}
        if not known:
            return
        for meter in pool.estimators.values():
            if (limits := known.get(meter.name)) is not None:
                meter.adopt(limits, now)
        pool.relimit(now)
        self._limits = known
        pool.on_peer_limits()

    def _apply_breaker(self, outage: Outage | None, pool: Pool, now: float) -> None:
        breaker = pool.breaker
        if outage is None:
            if self._open and breaker.state is not BreakerState.CLOSED:
                breaker.on_peer_closed()
                pool.reopen(now)
            self._open = False
            return
        if self._recovered(pool):
            return  # our probe has succeeded since the request was sent, and the group does not know it yet
        opens_at, closed = now + outage.probe_in, breaker.state is BreakerState.CLOSED
        if outage.probe_in > 0.0 and (closed or opens_at > breaker.opens_at + TOLERANCE):
            breaker.on_peer_opened(opens_at, now - outage.lasted_for)
        elif closed:
            breaker.on_peer_opened(now, now - outage.lasted_for)
        self._open, self._opens_at = True, breaker.opens_at

    def _closed_now(self, pool: Pool, now: float) -> bool:
        return pool.closed_until > max(now, self._closed_until + TOLERANCE)

    def _opened(self, pool: Pool) -> bool:
        return pool.breaker.state is BreakerState.OPEN and (
            not self._open or pool.breaker.opens_at > self._opens_at + TOLERANCE
        )

    def _recovered(self, pool: Pool) -> bool:
        return self._open and pool.breaker.state is BreakerState.CLOSED

    def _ramp_refused(self, pool: Pool) -> bool:
        return pool.ramp.active and pool.ramp.refusals > self._ramps_sent


def _differ(ours: Mapping[str, Amounts], theirs: Mapping[str, Amounts]) -> bool:
    """Whether the limits that this member knows differ from those that the group knows."""
    for name, mine in ours.items():
        known = theirs.get(name, {})
        for key in mine.keys() | known.keys():
            a, b = mine.get(key, math.inf), known.get(key, math.inf)
            # The rate of other clients is small or zero: it is compared with the limit, not with itself.
            scale = abs(mine.get("rate", 0.0)) if key == "others" else abs(b)
            if a != b and not abs(a - b) <= CHANGE * max(scale, 1e-9):
                return True
    return False
