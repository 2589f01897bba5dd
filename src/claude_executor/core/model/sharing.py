"""Messages between an executor and the budget that it shares with others.

A *group* is a number of executors, its *members*, that use the limits of one organization. A *budget* holds
the remaining amounts of those limits, pool by pool. A member sends it a `LeaseRequest` for one pool and gets
a `Lease`: the amounts that it may spend, and what the other members have learned about the pool.

All messages are plain frozen values. Every time in them is a span in seconds, never an instant, so the
clocks of members and budget need not agree. Resources go by the names that `Resource` gives them, such as
``"input tokens"``; their amounts are requests or tokens.

A budget keeps, for every pool, one token bucket for each resource: a *level* that refills at `rate` up to
`cap` (see `ResourceLine.limits`). A lease takes its amounts out of that level.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from claude_executor.core.model.cost import Cost

Amounts = Mapping[str, float]
"""Numbers by name."""


class WhenUnreachable(StrEnum):
    """Policies for the time in which a member cannot reach its budget."""

    DEGRADE = "degrade"
    """Continue with this member's share of the last known limits."""
    HOLD = "hold"
    """Start nothing until the budget answers again."""
    FAIL = "fail"
    """Refuse requests."""


class SharingState(StrEnum):
    """States of a member, for one pool."""

    JOINING = "joining"
    """The budget has not answered yet."""
    SHARED = "shared"
    """The budget has answered the last request."""
    ALONE = "alone"
    """The budget could not be reached."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Terms on which an executor takes part in a group.

    Attributes:
        weight: This member's part of the limits, relative to the other members' weights.
        when_unreachable: What the member does while it cannot reach the budget.
        members: The number of members to assume until the budget has answered for the first time.
        most: The number of requests that all members together may have in flight in one pool; None for no
            limit.
    """

    weight: float = 1.0
    when_unreachable: WhenUnreachable = WhenUnreachable.DEGRADE
    members: int = 8
    most: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0.0):
            raise ValueError(f"weight must be a positive number, got {self.weight!r}")
        if self.members < 1:
            raise ValueError(f"members must be at least 1, got {self.members!r}")
        if self.most is not None and self.most < 1:
            raise ValueError(f"max_concurrency must be at least 1, got {self.most!r}")


@dataclass(frozen=True, slots=True)
class Closure:
    """A pool that the API has closed with a 429 and a `retry-after`.

    Attributes:
        ends_in: Seconds until requests may be sent again.
        gently: Whether the pool reopens with a slow start.
    """

    ends_in: float
    gently: bool = False


@dataclass(frozen=True, slots=True)
class Outage:
    """A circuit breaker that has opened because the API is down.

    Attributes:
        probe_in: Seconds until one request may be sent as a probe; 0 if it may be sent now.
        lasted_for: Seconds since the trouble began.
    """

    probe_in: float
    lasted_for: float


@dataclass(frozen=True, slots=True)
class RampAllowance:
    """The growth of traffic that the API allows, in input tokens of the whole organization.

    Attributes:
        allowance: Tokens that the current minute may use.
        step: Tokens by which the allowance grows every minute.
        ends_in: Seconds until the current minute ends.
        number: The budget's number for this allowance, another one for every report. Members leave it 0.
    """

    allowance: float
    step: float
    ends_in: float
    number: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLine:
    """One resource in a `LeaseRequest`.

    Attributes:
        wanted: The amount that the member would like to be granted; 0 if it needs none.
        head: The part of `wanted` that the first request in the queue needs. A budget grants at least the
            `head` of every resource, or nothing of any.
        returned: The amount to put back into the level: reserved and not used. Negative where requests took
            more than they had reserved.
        leased: The amount granted earlier that this member has not spent yet.
        in_flight: The amount that this member's requests in flight have reserved.
        variance: The variance of `in_flight`, which is a sum of estimates.
        level: The level as the member believes it, without `leased`. It matters only where the budget does
            not know the resource yet, or has lost its memory.
        correction: The amount by which response headers have corrected the level since the last request. A
            budget applies it if the request's `version` is current.
        ceiling: The most that the level can be, from a refusal of the API; None if there was none.
        limits: The member's knowledge of the limit, by name; empty if it has none. A budget uses ``"rate"``
            (amount per second), ``"cap"`` (the largest level) and ``"rounding"`` (a reserve to leave in the
            bucket), and passes on everything else as it is, except ``"told"`` and ``"burst_told"``: those
            are the smallest values that any present member has in `declared`, or missing.
        declared: The limits that this member's user has declared: ``"told"``, the amount per minute, and
            ``"burst_told"``, the burst in seconds. Undeclared ones are missing.
    """

    wanted: float = 0.0
    head: float = 0.0
    returned: float = 0.0
    leased: float = 0.0
    in_flight: float = 0.0
    variance: float = 0.0
    level: float | None = None
    correction: float = 0.0
    ceiling: float | None = None
    limits: Amounts = field(default_factory=dict[str, float])
    declared: Amounts = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUpdates:
    """A member's discoveries about a pool since its last request that was answered.

    Attributes:
        limits_changed: Whether the `limits` of some resource differ from those that the budget returned
            last. A budget stores them if the request's `version` is current.
        closure: A 429 that has closed the pool.
        outage: A circuit breaker that has opened, or whose pause has become longer.
        recovered: Whether the circuit breaker has closed: a probe was answered.
        overloaded: Whether overload has made this member reduce its concurrency limit.
        ramp: A limit on growth that the API has announced.
    """

    limits_changed: bool = False
    closure: Closure | None = None
    outage: Outage | None = None
    recovered: bool = False
    overloaded: bool = False
    ramp: RampAllowance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """One call of a member for one pool: a report and a request.

    Attributes:
        seq: The number of the request, counting up. A budget applies a report only once: if it has seen this
            number of this member before, it ignores `updates` and the `returned`, `correction` and `ceiling`
            of every line, because only the answer had been lost.
        version: The `Lease.version` of the last answer; -1 before the first.
        weight: The member's weight, see `Membership`.
        resources: A line for every resource that has a known or declared limit.
        updates: Discoveries since the last answer.
        headroom: The fraction of every bucket that the first request in the queue must leave for requests of
            a higher priority.
        running: Requests in flight.
        waiting: Requests in the queue.
        held_by: The name of what holds the queue back, for listings; None if nothing does.
        max_concurrency: The member's `Membership.most`. Of several members the smallest number holds.
        known_members: The largest number of members that the member remembers; None before the first
            answer.
        wants_probe: Whether the member would send the breaker's probe now, whatever that takes.
        probing: Whether the member's probe is in flight.
        returning: Whether the member could not reach the budget until now. Refill of the time in between has
            been used.
        leaving: Whether the member leaves the group. It needs no grant.
    """

    seq: int
    version: int
    weight: float
    resources: Mapping[str, ResourceLine] = field(default_factory=dict[str, ResourceLine])
    updates: PoolUpdates = PoolUpdates()
    headroom: float = 0.0
    running: int = 0
    waiting: int = 0
    held_by: str | None = None
    max_concurrency: int | None = None
    known_members: int | None = None
    wants_probe: bool = False
    probing: bool = False
    returning: bool = False
    leaving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLease:
    """One resource in a `Lease`.

    Attributes:
        granted: The amount that the member may spend, in addition to what it has.
        level: The level after this grant; None where the budget does not know the resource.
        leased: The amount granted to the other members that they have not spent yet.
        in_flight: The amount that the other members' requests in flight have reserved.
        variance: The variance of `in_flight`.
        limits: The group's knowledge of the limit, as in `ResourceLine.limits`.
    """

    granted: float = 0.0
    level: float | None = None
    leased: float = 0.0
    in_flight: float = 0.0
    variance: float = 0.0
    limits: Amounts = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The budget's answer to a `LeaseRequest`.

    Attributes:
        version: The number of changes of limits and levels so far. A correction that was made without
            knowledge of the last one would count the same headers twice; its version shows that.
        resources: A line for every resource that the budget knows or has granted.
        ask_again_in: Seconds until another request is worth while; 0 if everything wanted was granted.
        short_of: The name of the resource that there was too little of; None if all was granted.
        may_probe: Whether the grant is for the breaker's probe. Only one member may probe at a time.
        members: The number of members.
        share: The part of the limits that is this member's, between 0 and 1.
        closure: The 429 that keeps the pool closed; None while it is open.
        outage: The state of the breaker; None while it is closed.
        overloads: How often overload has made members reduce their concurrency so far. Members that see the
            same overload count once.
        permits: The number of requests that the member may have in flight; None for no limit.
        ramp: The limit on growth; None if there is none.
    """

    version: int
    resources: Mapping[str, ResourceLease] = field(default_factory=dict[str, ResourceLease])
    ask_again_in: float = 0.0
    short_of: str | None = None
    may_probe: bool = False
    members: int = 1
    share: float = 1.0
    closure: Closure | None = None
    outage: Outage | None = None
    overloads: int = 0
    permits: float | None = None
    ramp: RampAllowance | None = None


class SharedLimit(Protocol):
    """A pool's view of the group that shares its limits: what the group lets this member do.

    Attributes:
        state: Whether the group has answered, and still does.
        share: The fraction of the limits that is this member's.
        members: Members of the group, as far as is known.
        short: The resource that the group had too little of when it was last asked; None if none.
        in_flight: What the requests in flight of the other members have reserved.
        variance: The variance of those reservations.
        may_probe: Whether the group has granted the breaker's probe to this member.
        unreachable_reason: Why the group could not be asked; None while it can.
    """

    state: SharingState
    share: float
    members: int
    short: str | None
    in_flight: Amounts
    variance: Amounts
    may_probe: bool
    unreachable_reason: str | None

    @property
    def waits(self) -> bool:
        """Whether nothing may start without the group."""
        ...

    @property
    def refuses(self) -> bool:
        """Whether requests are refused because the group cannot be asked."""
        ...

    @property
    def permits_lag(self) -> bool:
        """Whether more permits were not needed when the group was last asked, and may be granted now."""
        ...

    def full(self, in_flight: int) -> bool:
        """Whether no more than `in_flight` requests may be in flight."""
        ...

    def force(self) -> None:
        """Ask the group at the next opportunity: the user has changed the limits."""
        ...

    def on_start(self, cost: Cost) -> None:
        """Count a request that starts, for what the next lease asks for."""
        ...

    def on_limits_changed(self, now: float) -> None:
        """Take account of buckets that have come into being or changed."""
        ...
