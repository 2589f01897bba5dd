"""One budget for many executors: what a member of a group asks for a pool, and what it makes of the answer.

A group is a number of executors that use the limits of one organisation. What is left of them is kept in one
place that all can ask. A member asks not for each request but ahead, for those at the head of its line and
for what it expects within `AHEAD` seconds, and tells in the same breath what its answers have taught it: what
they took, what the headers said, how long the pool is closed, whether the breaker has opened. Learned here,
it is known to all within a fraction of a second.

States: JOINING until the first answer; SHARED; ALONE when there has been none for a while. Then the member
goes on with its share of the limits as it last knew it, or waits, or refuses, as `WhenUnreachable` says; it asks again
every `RETRY` seconds, and rejoins with nothing saved up.
"""

import math

from claude_executor.core.group.exchange import PeerUpdates
from claude_executor.core.group.leased_bucket import LeasedBucket
from claude_executor.core.model.cost import Cost
from claude_executor.core.model.gate import NEVER, BreakerState, HeldBy
from claude_executor.core.model.sharing import (
    Amounts,
    Lease,
    LeaseRequest,
    Membership,
    SharingState,
    WhenUnreachable,
)
from claude_executor.core.pool.pool import Pool

AHEAD = 0.25
"""Seconds of requests that a member asks for at once."""
MOST = 0.5
"""Seconds of the whole group's limits that it asks for at most."""
GAP = 0.02
"""Seconds between two calls for one pool, at least."""
HEARTBEAT = 2.0
"""Seconds after which a member that wants nothing shows that it is there."""
RETRY = 1.0
"""Seconds between attempts to reach the group, at least; up to half as many more, by chance."""
MEMORY = 0.02
"""Weight of the newest request in the average that the next ones are expected to take."""
REMEMBERED = 60.0
"""Seconds for which a larger group is remembered: after an outage its members come back one by one."""


class GroupMember:
    """One pool of one member. Attached to its `Pool`, whose buckets are purses then.

    Attributes:
        state: How it stands to the group.
        members: How many there are, as far as is known.
        share: What is this one's, of all.
        short: Of what the group had too little when it was asked last; `None` if of nothing.
        in_flight: What the other members' requests in flight have reserved.
        variance: How unsure that is.
        permits: How many requests this one may have in flight; `None` if that is not limited for the group.
        may_probe: Whether the group has granted the breaker's probe.
        asking: Whether an answer is due.
        unreachable_reason: Why the group could not be asked; `None` while it can.
    """

    __slots__ = (
        "_again_at",
        "_asked_at",
        "_asked_for",
        "_flow",
        "_force",
        "_mean",
        "_membership",
        "_needed", "_pool",
        "_seq",
        "_started",
        "_updates",
        "_version",
        "_wide",
        "_wide_at",
        "asking",
        "in_flight",
        "may_probe",
        "members",
        "permits",
        "share",
        "short",
        "state",
        "unreachable_reason",
        "variance",
    )  # fmt: skip

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._pool: Pool
        self.state = SharingState.JOINING
        self.members = membership.members
        self.share = 1.0 / membership.members
        self.short: str | None = None
        self.in_flight: Amounts = {}
        self.variance: Amounts = {}
        self.permits: float | None = None
        self.may_probe = False
        self.asking = False
        self.unreachable_reason: str | None = None
        self._asked_for = 0
        self._seq = 0
        self._version = -1
        self._asked_at = -math.inf
        self._again_at = -math.inf
        self._mean: dict[str, float] = {}
        self._flow = 0.0
        self._started = 0
        self._force = False
        self._needed = 0
        self._updates = PeerUpdates()
        self._wide, self._wide_at = 0, -math.inf

    @property
    def refuses(self) -> bool:
        """Whether requests are to be refused."""
        return self.state is SharingState.ALONE and self._membership.when_unreachable is WhenUnreachable.FAIL

    @property
    def waits(self) -> bool:
        """Whether nothing may start, whatever there is."""
        if self.state is SharingState.ALONE:
            return self._membership.when_unreachable is not WhenUnreachable.DEGRADE
        return self.state is SharingState.JOINING

    def full(self, in_flight: int) -> bool:
        """Whether no more than `in_flight` requests may be in flight."""
        return self.permits is not None and in_flight >= self.permits

    @property
    def permits_lag(self) -> bool:
        """Whether it has no more permits because it was in need of no more when it asked last."""
        return self.state is SharingState.SHARED and self.permits is not None and self.permits >= self._needed

    def force(self) -> None:
        """The user has changed the limits: the group is to know."""
        self._force = True
        self._again_at = -math.inf

    def attach(self, pool: Pool) -> None:
        """Take part in the group for `pool`, whose buckets are leased from now on."""
        self._pool = pool

    def new_bucket(self, rate: float, capacity: float, *, now: float) -> LeasedBucket:
        """Return the leased bucket of a resource whose limit has become known."""
        return LeasedBucket(rate, capacity, now=now)

    def on_limits_changed(self, now: float) -> None:
        """Detach buckets that have come into being while the group cannot be asked."""
        self.detach_new_buckets(self._pool, now)

    def on_start(self, cost: Cost) -> None:
        """A request starts."""
        self._started += 1
        self.may_probe = False
        for meter, _ in self._pool.limited:
            amount = meter.amount(cost)
            self._mean[meter.name] = (1.0 - MEMORY) * self._mean.get(meter.name, amount) + MEMORY * amount

    # ---- asking

    def due_at(self, pool: Pool, now: float) -> float:
        """When the group is to be asked next."""
        if self.asking:
            return NEVER
        if self.state is SharingState.ALONE:
            return self._again_at
        earliest = self._asked_at + GAP
        if self.state is SharingState.JOINING or self._has_urgent_updates(pool, now):
            return earliest
        if self._needs_lease(pool, now):
            more_urgent = pool.held is not None and pool.held.priority > self._asked_for
            return earliest if more_urgent else max(earliest, self._again_at)
        return self._asked_at + HEARTBEAT

    def _needs_lease(self, pool: Pool, now: float) -> bool:
        if pool.held is not None:
            if pool.held_by == HeldBy.BREAKER:
                return not self.may_probe and pool.breaker.admits_at(now) == now
            if pool.held_by == HeldBy.CONCURRENCY and self.full(pool.in_flight):
                return True
            if pool.held_by == HeldBy.BUDGET or any(meter.name == pool.held_by for meter, _ in pool.limited):
                return True
        ahead = self._flow * AHEAD
        return ahead >= 1.0 and any(
            purse.granted < 0.5 * ahead * self._mean.get(meter.name, 0.0)
            for meter, purse in pool.limited
            if isinstance(purse, LeasedBucket)
        )

    def _has_urgent_updates(self, pool: Pool, now: float) -> bool:
        return (
            self._force
            or any(not purse.known for purse in _leased_buckets(pool))
            or self._updates.urgent(pool, now)
        )

    def next_request(
        self, pool: Pool, now: float, *, room: int, keep: float, leaving: bool = False
    ) -> LeaseRequest:
        """What is to be said now.

        `room` more requests may be in flight, and the first in line leaves the share `keep` alone. Who is
        `leaving` keeps nothing.
        """
        since = min(HEARTBEAT, max(GAP, now - self._asked_at))
        weight = 1.0 - math.exp(-since / 1.0)
        self._flow += weight * (self._started / since - self._flow)
        self._started = 0
        self.asking, self._asked_at = True, now
        self._seq += 1
        head: dict[str, float] = {}
        want: dict[str, float] = {}
        back: dict[str, float] = {}
        fix: dict[str, float] = {}
        drain: dict[str, float] = {}
        level: dict[str, float] = {}
        held: dict[str, float] = {}
        flying: dict[str, float] = {}
        variance: dict[str, float] = {}
        job = pool.held
        self._asked_for = job.priority if job is not None else 0
        gated = now < pool.closed_until or pool.breaker.state is not BreakerState.CLOSED
        jobs = float(min(len(pool.queue), room))
        if pool.answered:
            jobs = min(jobs, max(0.0, pool.concurrency.limit - pool.in_flight))
        if self.permits is not None:
            jobs = min(jobs, max(0.0, self.permits - pool.in_flight))
        expected = max(jobs, self._flow * AHEAD if self._flow * AHEAD >= 1.0 else 0.0)
        longest = max((self._mean.get(m.name, 0.0) / b.rate for m, b in pool.limited), default=0.0)
        if longest > 0.0:
            expected = min(expected, max(1.0, MOST / longest))
        for meter, purse in pool.limited:
            assert isinstance(purse, LeasedBucket)
            name = meter.name
            first = meter.amount(job.cost) if job is not None else 0.0
            target = max(first, first + (expected - 1.0) * self._mean.get(name, first)) if expected else first
            if gated:
                target = first if self._may_ask_probe(pool, now) else 0.0
            if leaving:
                target = 0.0
            surplus = purse.granted - target
            if surplus > 0.0 and (target == 0.0 or surplus > target):
                purse.granted -= surplus
                purse.owed += surplus
            lacking = max(0.0, target - purse.granted)
            if lacking > 0.0:
                want[name] = lacking
                head[name] = max(0.0, first - purse.granted)
            back[name], purse.owed = purse.owed, 0.0
            if purse.correction:
                fix[name], purse.correction = purse.correction, 0.0
            if purse.ceiling < math.inf:
                drain[name], purse.ceiling = purse.ceiling, math.inf
            # While alone nobody knows what the others use: it is taken to be all there is.
            level[name] = max(0.0, purse.level(now) - purse.granted) if purse.fallback is None else 0.0
            held[name] = purse.granted
            flying[name] = meter.amount(pool.flight.reserved)
            variance[name] = meter.variance(pool.flight.reserved)
        declared = {m.name: said for m in pool.estimators.values() if (said := m.user_limits())}
        ask = LeaseRequest(
            seq=self._seq, weight=self._membership.weight, version=self._version, head=head, want=want,
            back=back, held=held, flying=flying, variance=variance, keep=keep, level=level, fix=fix,
            drain=drain, declared=declared, running=pool.in_flight, waiting=len(pool.queue),
            binds=pool.held_by, most=self._membership.most,
            members=self._wide or None,
            probes=job is not None and gated and self._may_ask_probe(pool, now),
            returns=self.state is SharingState.ALONE, leave=leaving,
        )  # fmt: skip
        self._force = False
        self._needed = pool.in_flight + len(pool.queue)
        return self._updates.encode(ask, pool, now)

    def _may_ask_probe(self, pool: Pool, now: float) -> bool:
        return now >= pool.closed_until and pool.breaker.admits_at(now) == now

    # ---- the answer

    def on_lease(self, pool: Pool, grant: Lease, now: float) -> None:
        """The group has answered."""
        self.asking = False
        self.unreachable_reason = None
        if self.state is SharingState.ALONE:
            for alone in _leased_buckets(pool):
                alone.reattach(now)
        self.state = SharingState.SHARED
        self._count(grant, now)
        self._again_at = now + grant.again
        self.short, self.in_flight, self.variance = grant.short, grant.flying, grant.variance
        self.may_probe = grant.probe and not pool.breaker.probing
        self.permits = grant.permits
        self._updates.apply(grant, pool, now, limits=grant.version != self._version)
        self._version = grant.version
        for meter, purse in pool.limited:
            assert isinstance(purse, LeasedBucket)
            purse.granted += grant.got.get(meter.name, 0.0)
            if meter.name in grant.level:
                purse.on_level(grant.level[meter.name] + grant.held.get(meter.name, 0.0) + purse.granted, now)

    def _count(self, grant: Lease, now: float) -> None:
        if grant.members >= self._wide or now > self._wide_at + REMEMBERED:
            self._wide, self._wide_at = grant.members, now
        self.members, self.share = grant.members, grant.share

    def on_lease_failed(self, pool: Pool, now: float, u: float, because: str | None = None) -> bool:
        """The group has not answered; whether that is news. `u` is from [0, 1)."""
        self.asking = False
        self.unreachable_reason = because
        self._again_at = now + RETRY * (1.0 + 0.5 * u)
        self._wide_at = now
        news = self.state is not SharingState.ALONE
        self.state = SharingState.ALONE
        self._updates.forget()
        if news:
            self.short = None
            if self._wide > self.members:
                self.members = self._wide
                self.share = min(self.share, 1.0 / self.members)
        if self._membership.most is not None:
            self.permits = max(1.0, math.floor(self._membership.most * self.share))
        self.detach_new_buckets(pool, now)
        return news

    def detach_new_buckets(self, pool: Pool, now: float) -> None:
        """While alone, have every bucket refill at this member's share."""
        if (
            self.state is not SharingState.ALONE
            or self._membership.when_unreachable is not WhenUnreachable.DEGRADE
        ):
            return
        for purse in _leased_buckets(pool):
            if purse.fallback is None:
                purse.detach(self.share, now)


def _leased_buckets(pool: Pool) -> list[LeasedBucket]:
    return [purse for _, purse in pool.limited if isinstance(purse, LeasedBucket)]
