"""One pool of one member of a group: when to ask the group for a lease, what to ask for, what to do with it.

A group is a number of executors that use the limits of one organization; a budget that all of them can reach
keeps their levels. A member asks it not for each request but ahead (see `demand`), and reports in the same
call what its responses have taught it: what requests took, what headers said, how long the pool is closed,
whether the breaker has opened. All members know it within a fraction of a second.

States: JOINING until the first answer; SHARED; ALONE after a call that was not answered. Alone, the member
continues with its share of the last known limits, waits, or refuses, as `WhenUnreachable` says. It asks again
every `RETRY` seconds, and rejoins with nothing saved up.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from claude_executor.core.group.demand import AHEAD, NO_TARGET, RecentStarts, Target, demand
from claude_executor.core.group.exchange import PeerExchange
from claude_executor.core.group.leased_bucket import LeasedBucket
from claude_executor.core.model.cost import Cost
from claude_executor.core.model.gate import NEVER, BreakerState, HeldBy
from claude_executor.core.model.sharing import (
    Amounts,
    Lease,
    LeaseRequest,
    Membership,
    ResourceLine,
    SharingState,
    WhenUnreachable,
)
from claude_executor.core.pool.pool import Pool

if TYPE_CHECKING:
    from claude_executor.core.control.bucket import Bucket
    from claude_executor.core.control.limit_estimator import LimitEstimator

GAP = 0.02
"""Seconds between two calls for one pool, at least."""
HEARTBEAT = 2.0
"""Seconds after which a member that needs nothing calls all the same, to show that it is alive."""
RETRY = 1.0
"""Seconds between attempts to reach the budget, at least; up to half as many more, by chance."""
REMEMBERED = 60.0
"""Seconds for which a larger group is remembered: after an outage its members come back one by one."""


class GroupMember:
    """The membership of one pool in a group. The buckets of the pool are all made by `new_bucket`.

    Attributes:
        state: Whether the budget has answered, and still does.
        members: The number of members, as far as is known.
        share: The part of the limits that is this member's, between 0 and 1.
        short: The resource that there was too little of when the budget was last asked; None if none.
        in_flight: The amounts that the other members' requests in flight have reserved.
        variance: The variances of those amounts.
        permits: The number of requests that this member may have in flight; None for no limit.
        may_probe: Whether the group has granted the breaker's probe to this member.
        asking: Whether a request has been sent and not answered.
        unreachable_reason: Why the budget could not be reached; None while it can.
    """

    __slots__ = (
        "_accounts", "_ask_again_at", "_asked_at", "_asked_priority", "_buckets", "_exchange", "_force",
        "_known_members", "_known_members_at", "_limited", "_membership", "_needed_permits", "_pool",
        "_seq", "_starts", "_version", "asking", "in_flight", "may_probe", "members", "permits",
        "share", "short", "state", "unreachable_reason", "variance",
    )  # fmt: skip

    def __init__(self, membership: Membership) -> None:
        """Join a group on these terms. Pass `new_bucket` to the pool, then `attach` it."""
        self._membership = membership
        self._pool: Pool
        self._buckets: dict[Bucket, LeasedBucket] = {}
        self._limited: list[tuple[LimitEstimator, Bucket]] = []
        self._accounts: list[tuple[LimitEstimator, LeasedBucket]] = []
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
        self._starts = RecentStarts()
        self._exchange = PeerExchange()
        self._seq = 0
        self._version = -1
        self._asked_at = self._ask_again_at = -math.inf
        self._asked_priority = 0
        self._needed_permits = 0
        self._force = False
        self._known_members, self._known_members_at = 0, -math.inf

    def new_bucket(self, rate: float, capacity: float, *, now: float) -> LeasedBucket:
        """Return the bucket of a resource whose limit has become known: it holds what the group grants."""
        bucket = LeasedBucket(rate, capacity, now=now)
        self._buckets[bucket] = bucket
        return bucket

    def attach(self, pool: Pool) -> None:
        """Share the limits of `pool`, whose buckets `new_bucket` has made."""
        self._pool = pool
        self._find_accounts()

    def on_limits_changed(self, now: float) -> None:
        """Take account of buckets that the pool has made or dropped."""
        self._find_accounts()
        self._detach(now)

    def _find_accounts(self) -> None:
        limited = self._pool.limited
        if limited is self._limited:
            return
        self._limited = limited
        self._accounts = [(meter, self._buckets[bucket]) for meter, bucket in limited]
        self._buckets = {bucket: self._buckets[bucket] for _, bucket in limited}

    @property
    def refuses(self) -> bool:
        """Whether requests are refused because the budget cannot be reached."""
        return self.state is SharingState.ALONE and self._membership.when_unreachable is WhenUnreachable.FAIL

    @property
    def waits(self) -> bool:
        """Whether nothing may start until the budget answers."""
        if self.state is SharingState.ALONE:
            return self._membership.when_unreachable is not WhenUnreachable.DEGRADE
        return self.state is SharingState.JOINING

    def full(self, in_flight: int) -> bool:
        """Whether `in_flight` requests use up all permits."""
        return self.permits is not None and in_flight >= self.permits

    @property
    def permits_lag(self) -> bool:
        """Whether the budget may grant more permits: this member needed no more when it last asked."""
        return (
            self.state is SharingState.SHARED
            and self.permits is not None
            and self.permits >= self._needed_permits
        )

    def force(self) -> None:
        """Ask at the next opportunity: the user has changed the limits, and the group must know."""
        self._force = True
        self._ask_again_at = -math.inf

    def on_start(self, cost: Cost) -> None:
        """Count a request that starts, for what the next lease is to cover."""
        self.may_probe = False
        self._starts.add(cost, self._accounts)

    # ---- the request

    def due_at(self, now: float) -> float:
        """Return the instant at which the group must be asked next."""
        if self.asking:
            return NEVER
        if self.state is SharingState.ALONE:
            return self._ask_again_at
        earliest = self._asked_at + GAP
        if self.state is SharingState.JOINING or self._has_urgent_updates(now):
            return earliest
        if self._needs_lease(now):
            head = self._pool.held
            more_urgent = head is not None and head.priority > self._asked_priority
            return earliest if more_urgent else max(earliest, self._ask_again_at)
        return self._asked_at + HEARTBEAT

    def _has_urgent_updates(self, now: float) -> bool:
        return (
            self._force
            or any(not bucket.known for _, bucket in self._accounts)
            or self._exchange.urgent(self._pool, now)
        )

    def _needs_lease(self, now: float) -> bool:
        pool = self._pool
        if pool.held is not None:
            if pool.held_by is HeldBy.BREAKER:
                return not self.may_probe and pool.breaker.admits_at(now) == now
            if pool.held_by is HeldBy.CONCURRENCY and self.full(pool.in_flight):
                return True
            if pool.held_by is HeldBy.BUDGET or any(m.name == pool.held_by for m, _ in self._accounts):
                return True
        ahead = self._starts.per_second * AHEAD
        mean = self._starts.mean
        return ahead >= 1.0 and any(
            bucket.granted < 0.5 * ahead * mean.get(meter.name, 0.0) for meter, bucket in self._accounts
        )

    def next_request(self, now: float, *, room: int, keep: float, leaving: bool = False) -> LeaseRequest:
        """Return the request to send now. Until its answer `asking` is set.

        Args:
            now: The current instant.
            room: The number of further requests that the executor may have in flight.
            keep: The fraction of every bucket to leave for requests of a higher priority.
            leaving: Whether the member leaves the group and returns everything.
        """
        pool, job = self._pool, self._pool.held
        self._starts.advance(now - self._asked_at)
        self.asking, self._asked_at = True, now
        self._seq += 1
        self._force = False
        self._asked_priority = job.priority if job is not None else 0
        self._needed_permits = pool.in_flight + len(pool.queue)
        only_probe = now < pool.closed_until or pool.breaker.state is not BreakerState.CLOSED
        probes = only_probe and now >= pool.closed_until and pool.breaker.admits_at(now) == now
        head = {meter.name: meter.amount(job.cost) for meter, _ in self._accounts} if job is not None else {}
        targets: Mapping[str, Target] = {}
        if not only_probe and not leaving:
            targets = self._demand(head, room)
        elif probes and not leaving:
            targets = {name: Target(amount, amount) for name, amount in head.items()}
        limits = {meter.name: meter.known_limits() for meter, _ in self._accounts}
        return LeaseRequest(
            seq=self._seq,
            version=self._version,
            weight=self._membership.weight,
            resources=self._lines(targets, limits, now),
            updates=self._exchange.report(limits, pool, now),
            headroom=keep,
            running=pool.in_flight,
            waiting=len(pool.queue),
            held_by=pool.held_by,
            max_concurrency=self._membership.most,
            known_members=self._known_members or None,
            wants_probe=job is not None and probes,
            probing=pool.breaker.probing,
            returning=self.state is SharingState.ALONE,
            leaving=leaving,
        )

    def _demand(self, head: Amounts, room: int) -> dict[str, Target]:
        pool = self._pool
        startable = float(min(len(pool.queue), room))
        if pool.answered:
            startable = min(startable, max(0.0, pool.concurrency.limit - pool.in_flight))
        if self.permits is not None:
            startable = min(startable, max(0.0, self.permits - pool.in_flight))
        rates = {meter.name: bucket.rate for meter, bucket in self._accounts}
        per_second, mean = self._starts.per_second, self._starts.mean
        return demand(head, mean, rates, startable=startable, per_second=per_second)

    def _lines(
        self, targets: Mapping[str, Target], limits: Mapping[str, Amounts], now: float
    ) -> dict[str, ResourceLine]:
        reserved = self._pool.flight.reserved
        lines = {
            meter.name: ResourceLine(declared=declared)
            for meter in self._pool.estimators.values()
            if (declared := meter.user_limits())
        }
        for meter, bucket in self._accounts:
            name = meter.name
            lines[name] = bucket.request(
                targets.get(name, NO_TARGET),
                now,
                in_flight=meter.amount(reserved),
                variance=meter.variance(reserved),
                limits=limits[name],
                declared=lines[name].declared if name in lines else {},
            )
        return lines

    # ---- the answer

    def on_lease(self, lease: Lease, now: float) -> None:
        """Take what the group has granted, and what other members have reported."""
        self.asking = False
        self.unreachable_reason = None
        if self.state is SharingState.ALONE:
            for _, bucket in self._accounts:
                bucket.reattach(now)
        self.state = SharingState.SHARED
        if lease.members >= self._known_members or now > self._known_members_at + REMEMBERED:
            self._known_members, self._known_members_at = lease.members, now
        self.members, self.share = lease.members, lease.share
        self._ask_again_at = now + lease.ask_again_in
        self.short = lease.short_of
        self.in_flight = {name: line.in_flight for name, line in lease.resources.items()}
        self.variance = {name: line.variance for name, line in lease.resources.items()}
        self.may_probe = lease.may_probe and not self._pool.breaker.probing
        self.permits = lease.permits
        self._exchange.apply(lease, self._pool, now, limits_changed=lease.version != self._version)
        self._version = lease.version
        for meter, bucket in self._accounts:
            if (line := lease.resources.get(meter.name)) is not None:
                bucket.on_lease(line, now)

    def on_lease_failed(self, now: float, u: float, because: str | None = None) -> bool:
        """Continue alone: the budget has not answered.

        Args:
            now: The current instant.
            u: A random number from [0, 1).
            because: The reason, for users.

        Returns:
            Whether the member was not alone before.
        """
        self.asking = False
        self.unreachable_reason = because
        self._ask_again_at = now + RETRY * (1.0 + 0.5 * u)
        self._known_members_at = now
        changed = self.state is not SharingState.ALONE
        self.state = SharingState.ALONE
        self._exchange.on_request_lost()
        if changed:
            self.short = None
            if self._known_members > self.members:
                self.members = self._known_members
                self.share = min(self.share, 1.0 / self.members)
        if self._membership.most is not None:
            self.permits = max(1.0, math.floor(self._membership.most * self.share))
        self._detach(now)
        return changed

    def _detach(self, now: float) -> None:
        """Make every bucket refill at this member's share while the budget cannot be reached."""
        if (
            self.state is not SharingState.ALONE
            or self._membership.when_unreachable is not WhenUnreachable.DEGRADE
        ):
            return
        for _, bucket in self._accounts:
            if bucket.fallback is None:
                bucket.detach(self.share, now)
