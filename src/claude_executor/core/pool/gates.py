"""The gates of one pool: each puts one mechanism of `core.control` into the joint admission.

The mechanisms know numbers, not jobs or pools, and nothing of each other. A gate knows the job, the pool's
facts that its mechanism needs, and the name that a queue is held by when the gate is the last to open.
"""

import math
from collections.abc import Callable

from claude_executor.core.control.breaker import CircuitBreaker
from claude_executor.core.control.bucket import TokenBucket
from claude_executor.core.control.concurrency import ConcurrencyLimit
from claude_executor.core.control.limit_estimator import LimitEstimator
from claude_executor.core.control.ramp import RampLimit
from claude_executor.core.control.slow_start import SlowStart
from claude_executor.core.model.cost import Resource
from claude_executor.core.model.gate import NEVER, BreakerState, HeldBy
from claude_executor.core.model.job import Job
from claude_executor.core.model.sharing import SharedLimit, SharingState
from claude_executor.core.pool.usage import InFlight

MARGIN = 3.0
"""Standard deviations of all estimates in flight, together, that stay in a bucket."""
MARGIN_MOST = 0.5
"""Fraction of a bucket that the margin never exceeds."""
ON_THE_WAY = 0.1
"""Seconds after which a request has surely reached the server's buckets."""
PROBING = 0.5
"""Seconds after which a second request follows an unanswered first one; twice as many each time."""

Scale = Callable[[float], float]
"""Scales an amount of this executor to the whole group's, if each member takes as much for its share."""


class BreakerGate:
    """Holds requests while the circuit breaker is open, except one probe at a time."""

    held_by = HeldBy.BREAKER
    takes = True
    __slots__ = ("_breaker",)

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return the end of the breaker's pause, or `NEVER` while a probe is out."""
        if self._breaker.state is BreakerState.CLOSED:
            return -math.inf
        at = self._breaker.admits_at(now)
        return NEVER if at is None else at

    def take(self, job: Job, now: float) -> None:
        """Count the request; the first one after a pause is the probe."""
        job.is_probe = self._breaker.on_start()


class MembershipGate:
    """Holds requests until the group has answered for the first time, or while its policy is to wait."""

    held_by = HeldBy.BUDGET
    takes = True
    __slots__ = ("_member",)

    def __init__(self, member: SharedLimit) -> None:
        self._member = member

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return `NEVER` while nothing may start without the group."""
        return NEVER if self._member.waits else -math.inf

    def take(self, job: Job, now: float) -> None:
        """Count the request towards what the next lease asks for."""
        self._member.on_start(job.cost)


class PermitGate:
    """Holds requests beyond the number that the group lets this member have in flight."""

    held_by = HeldBy.CONCURRENCY
    takes = False
    __slots__ = ("_in_flight", "_member")

    def __init__(self, member: SharedLimit, in_flight: InFlight) -> None:
        self._member = member
        self._in_flight = in_flight

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return `NEVER` while all permits are in use."""
        return NEVER if self._member.full(self._in_flight.count) else -math.inf

    def take(self, job: Job, now: float) -> None:
        """Take nothing: permits are counted by what is in flight."""


class ProbePermitGate:
    """Holds the breaker's probe until the group has granted it to this member."""

    held_by = HeldBy.BREAKER
    takes = False
    __slots__ = ("_breaker", "_member")

    def __init__(self, member: SharedLimit, breaker: CircuitBreaker) -> None:
        self._member = member
        self._breaker = breaker

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return `NEVER` where the next request would be a probe that another member may send instead."""
        if self._breaker.state is BreakerState.CLOSED:
            return -math.inf
        at = self._breaker.admits_at(now)
        probes = at is not None and at <= now
        waits = probes and self._member.state is SharingState.SHARED and not self._member.may_probe
        return NEVER if waits else -math.inf

    def take(self, job: Job, now: float) -> None:
        """Take nothing: the member forgets its permission when the probe starts."""


class RetryAfterGate:
    """Holds requests until the instant that a 429 has named.

    Attributes:
        until: That instant.
    """

    held_by = HeldBy.RETRY_AFTER
    takes = False
    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until = -math.inf

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return the instant that the API named."""
        return self.until

    def take(self, job: Job, now: float) -> None:
        """Take nothing."""


class DiscoveryGate:
    """Spaces requests out before the first answer, where no limit was declared.

    One request goes at once, and twice as many after every `PROBING` seconds. A refusal comes back in one
    round trip, so the longer none comes, the safer it is not to wait for a long answer.

    Attributes:
        active: Whether the pool has no answer yet.
    """

    held_by = HeldBy.RAMP_UP
    takes = True
    __slots__ = ("_declared", "_first_at", "_in_flight", "active")

    def __init__(self, in_flight: InFlight, declared: Callable[[], bool], now: float) -> None:
        """`declared` says whether the user has declared any limit, whose own pace holds then."""
        self._in_flight = in_flight
        self._declared = declared
        self._first_at = now
        self.active = True

    @property
    def first_at(self) -> float:
        """The instant at which the first request was sent."""
        return self._first_at

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return the instant at which one more unanswered request is safe."""
        if not self.active or not self._in_flight.count or self._declared():
            return -math.inf
        return self._first_at + PROBING * math.log2(self._in_flight.count + 1)

    def take(self, job: Job, now: float) -> None:
        """Start counting with the first request."""
        if self.active and not self._in_flight.count:
            self._first_at = now


class ConcurrencyGate:
    """Holds requests beyond the concurrency limit of the pool, once it has been answered."""

    held_by = HeldBy.CONCURRENCY
    takes = False
    __slots__ = ("_concurrency", "_discovery", "_in_flight")

    def __init__(self, concurrency: ConcurrencyLimit, in_flight: InFlight, discovery: DiscoveryGate) -> None:
        self._concurrency = concurrency
        self._in_flight = in_flight
        self._discovery = discovery

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return `NEVER` while the limit is in use; one request may always be in flight."""
        in_flight, limit = self._in_flight.count, self._concurrency.limit
        if not in_flight or self._discovery.active:
            return -math.inf
        return NEVER if in_flight + keep * limit > limit - 1.0 else -math.inf

    def take(self, job: Job, now: float) -> None:
        """Take nothing: what is in flight is counted by the pool."""


class ResourceGate:
    """Holds requests until the bucket of one resource has what they are expected to take.

    A margin for all estimates in flight stays in the bucket: they err independently of each other, so their
    variances add up, and one pooled margin does instead of padding every request.
    """

    takes = True
    __slots__ = (
        "_amount",
        "_bucket",
        "_estimator",
        "_in_flight",
        "_resource",
        "_variance",
        "_varies",
        "held_by",
    )

    def __init__(self, estimator: LimitEstimator, bucket: TokenBucket, in_flight: InFlight) -> None:
        self.held_by = HeldBy(estimator.name)
        self._estimator = estimator
        self._bucket = bucket
        self._in_flight = in_flight
        self._amount = estimator.amount
        self._variance = estimator.variance
        self._resource = estimator.resource
        self._varies = estimator.resource is not Resource.REQUESTS  # every request is one

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return the instant at which the bucket holds the job's cost above the margin."""
        bucket, cost = self._bucket, job.cost
        floor = self._estimator.rounding
        if keep:
            floor += keep * bucket.capacity
        if self._varies:
            variance = self._variance(self._in_flight.reserved) + self._variance(cost)
            floor += min(MARGIN * math.sqrt(variance), MARGIN_MOST * bucket.capacity)
        return bucket.ready_at(self._amount(cost), floor)

    def take(self, job: Job, now: float) -> None:
        """Take the job's cost. A full bucket earns nothing until the request arrives at the server."""
        assert job.levels_at_start is not None
        level = self._bucket.take(self._amount(job.cost), now, idle=ON_THE_WAY)
        job.levels_at_start[self._resource] = level


class SlowStartGate:
    """Holds requests to the pace of slow start, once something has been sent."""

    held_by = HeldBy.RAMP_UP
    takes = True
    __slots__ = ("_discovery", "_in_flight", "_round_trip", "_scale", "_slow_start")

    def __init__(
        self,
        slow_start: SlowStart,
        in_flight: InFlight,
        discovery: DiscoveryGate,
        scale: Scale,
        round_trip: Callable[[], float],
    ) -> None:
        self._slow_start = slow_start
        self._in_flight = in_flight
        self._discovery = discovery
        self._scale = scale
        self._round_trip = round_trip

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return the instant at which the pace allows the job."""
        if self._slow_start.off or (self._discovery.active and not self._in_flight.count):
            return -math.inf
        return self._slow_start.ready_at(self._scale(job.demand.slow_start_seconds))

    def take(self, job: Job, now: float) -> None:
        """Take the job's share of the pace, and remember it in case the job is refused for good."""
        slow_start = self._slow_start
        job.slow_start_seconds = 0.0 if slow_start.off else self._scale(job.demand.slow_start_seconds)
        slow_start.take(job.slow_start_seconds, now, None if self._discovery.active else self._round_trip())


class RampGate:
    """Holds requests to the growth that the API has allowed, after it has refused a steeper one."""

    held_by = HeldBy.RAMP_UP
    takes = True
    __slots__ = ("_limit", "_ramp", "_scale")

    def __init__(self, ramp: RampLimit, scale: Scale, limit: Callable[[], float]) -> None:
        """`limit` returns the input tokens a minute that hold anyway."""
        self._ramp = ramp
        self._scale = scale
        self._limit = limit

    def opens_at(self, job: Job, now: float, keep: float) -> float:
        """Return the end of the minute whose allowance is used up."""
        if not self._ramp.active:
            return -math.inf
        return self._ramp.ready_at(self._scale(job.cost.input_tokens), now, self._limit())

    def take(self, job: Job, now: float) -> None:
        """Take the job's input tokens from the allowance of this minute."""
        if self._ramp.active:
            self._ramp.take(self._scale(job.cost.input_tokens))
