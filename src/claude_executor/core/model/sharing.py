"""What a member of a group and the group say to each other, as plain values.

Spans are in seconds, so that nobody's clock matters; amounts go by the name of the resource.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from claude_executor.core.model.cost import Cost


class WhenUnreachable(StrEnum):
    """What a member does while the group cannot be asked."""

    DEGRADE = "degrade"
    """Go on with its share of the limits."""
    HOLD = "hold"
    """Wait."""
    FAIL = "fail"
    """Refuse what comes."""


class SharingState(StrEnum):
    """How a member stands to its group."""

    JOINING = "joining"
    SHARED = "shared"
    ALONE = "alone"


@dataclass(frozen=True, slots=True)
class Membership:
    """How an executor takes part in a group.

    Attributes:
        weight: Its share, relative to the other members'.
        when_unreachable: What it does while the group cannot be asked.
        members: How many there are taken to be as long as the group has never been reached.
        most: How many requests of a pool all together may have in flight; `None` if that is not limited.
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


Amounts = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRequest:
    """What a member tells and asks. Spans are in seconds, amounts by the name of the resource.

    Attributes:
        seq: Its number: what comes twice is told once.
        version: Which corrections the member has heard of; its own count only if it has heard of all.
        head: What the first request in line takes; that much or nothing.
        want: What it would like to have, that included.
        back: What it gives back.
        held: What it has and what of its requests is not drawn yet: granted, but not seen by the server.
        flying: What its requests in flight have reserved.
        variance: How unsure that is.
        keep: The share of the group's buckets that its first request leaves alone, for more urgent ones.
        level: What it believes the levels to be, should nobody know.
        fix: What the headers have corrected.
        drain: What the levels are at most.
        terms: The limits as it knows them.
        changed: Whether it has learned something about them.
        declared: What its own user has said of them: ``told`` a minute, and ``burst_told`` in seconds.
        closed: Seconds for which the pool is closed, if that is news.
        gently: Whether it opens as from a cold start afterwards.
        breaker: ``"open"`` or ``"closed"``, if that is news.
        pause: Seconds until the breaker lets a probe through.
        lasted: Seconds for which there has been trouble.
        probing: Whether it has a probe out.
        probes: Whether it would send one, whatever that takes.
        cut: Whether overload has cut the window, if that is news.
        growth: What the API has said of how fast the organisation may grow, if that is news; see `RampLimit`.
        running: Requests in flight.
        waiting: Requests in line.
        most: How many all together may have in flight, as far as this one has been told.
        members: How many there are, if it has ever been told.
        binds: What holds its line up.
        leave: Whether it leaves the group.
        returns: Whether it has been on its own until now.
    """

    seq: int
    weight: float
    version: int
    head: Amounts = field(default_factory=dict[str, float])
    want: Amounts = field(default_factory=dict[str, float])
    back: Amounts = field(default_factory=dict[str, float])
    held: Amounts = field(default_factory=dict[str, float])
    flying: Amounts = field(default_factory=dict[str, float])
    variance: Amounts = field(default_factory=dict[str, float])
    keep: float = 0.0
    level: Amounts = field(default_factory=dict[str, float])
    fix: Amounts = field(default_factory=dict[str, float])
    drain: Amounts = field(default_factory=dict[str, float])
    terms: Mapping[str, Amounts] = field(default_factory=dict[str, Amounts])
    changed: bool = False
    declared: Mapping[str, Amounts] = field(default_factory=dict[str, Amounts])
    closed: float | None = None
    gently: bool = False
    breaker: str | None = None
    pause: float = 0.0
    lasted: float = 0.0
    probing: bool = False
    probes: bool = False
    cut: bool = False
    growth: Amounts = field(default_factory=dict[str, float])
    running: int = 0
    waiting: int = 0
    most: int | None = None
    members: int | None = None
    binds: str | None = None
    leave: bool = False
    returns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The answer to an `LeaseRequest`.

    Attributes:
        got: What may be spent.
        again: Seconds after which asking again is worth while.
        short: Which resource there was too little of, if not all was granted.
        probe: Whether it is for the breaker's probe.
        version: How often something has been corrected so far.
        level: What is left in all.
        held: What the other members hold.
        flying: What their requests in flight have reserved.
        variance: How unsure that is.
        terms: The limits as the group knows them.
        members: How many there are.
        share: What is this one's, of all.
        closed: Seconds for which the pool is closed.
        gently: Whether it opens as from a cold start afterwards.
        breaker: Seconds until a probe, and seconds since the trouble began; `None` while it is closed.
        cuts: How often overload has cut the windows of all.
        permits: How many requests it may have in flight; `None` if that is not limited.
        growth: How fast the organisation may grow, and the number of that news; empty if nothing limits it.
    """

    got: Amounts
    again: float
    short: str | None
    probe: bool
    version: int
    level: Amounts
    held: Amounts
    flying: Amounts
    variance: Amounts
    terms: Mapping[str, Amounts]
    members: int
    share: float
    closed: float
    gently: bool
    breaker: tuple[float, float] | None
    cuts: int
    permits: float | None
    growth: Amounts


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
