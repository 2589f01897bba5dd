"""The live state of one pool: the models that share one set of limits at the API.

Admission is one question, `Pool.opens_at`, and one act, `Pool.take`, put to all gates of the pool (see
`gates`): they are asked together and taken together, or not at all.

Output tokens. The server draws output while it is produced; we take the whole answer when it starts. What the
server announces therefore lies between our level and that with everything in flight given back.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from claude_executor.core.control.breaker import BreakerPolicy, CircuitBreaker
from claude_executor.core.control.bucket import Bucket, NewBucket, TokenBucket
from claude_executor.core.control.concurrency import ConcurrencyLimit
from claude_executor.core.control.fair_queue import FairQueue
from claude_executor.core.control.limit_estimator import LimitEstimator
from claude_executor.core.control.ramp import RampLimit
from claude_executor.core.control.slow_start import SlowStart
from claude_executor.core.model.cost import AMOUNT, NOTHING, Cost, Resource, Usage
from claude_executor.core.model.gate import NEVER, Gate, HeldBy
from claude_executor.core.model.job import UNKNOWN_DEMAND, Demand, Job
from claude_executor.core.model.limits import Limits, cache_reads_count, limits_of
from claude_executor.core.model.sharing import SharedLimit
from claude_executor.core.pool import gates
from claude_executor.core.pool.usage import InFlight, UsageWindow

if TYPE_CHECKING:
    from claude_executor.core.model.failure import Failure

REOPENING_SHARE = 0.25
"""Fraction of its former concurrency that a pool restarts with after an outage."""


class Pool:
    """Queue, gates and beliefs of the models that share limits.

    Attributes:
        name: The pool's name, such as ``"haiku-5.5"``.
        member: The group that shares the limits; None where this executor has them to itself.
        estimators: What is believed about each resource.
        limited: The estimators that have a bucket, with it.
        queue: The jobs that wait.
        concurrency: How many requests may be in flight.
        breaker: Whether the service is taken to be up.
        discovery: Whether any answer has come yet.
        slow_start: How fast the pool may open up.
        ramp: How fast the API lets usage grow.
        flight: What the requests in flight have reserved.
        used: What was used lately.
        admitted: What the API has let in lately, counted while no headers tell the limit.
        headers_at: When rate-limit headers were last read.
        refusals: 429s so far.
        refused_in_row: 429s since the last answer.
        round_trip: Seconds an answer takes, averaged.
        trouble: The overload that the pool is suffering from; None after an answer.
        held: The job at the head of the queue that a gate holds.
        held_by: What that gate is called.
        held_for: Seconds for which each gate has held the queue so far.
    """

    __slots__ = (
        "_cache_reads_count", "_first_gates", "_gates", "_headerless_at", "_last_gates", "_resource_gates",
        "_retry_after", "_takers", "admitted", "breaker", "concurrency", "discovery", "estimators", "flight",
        "headers_at", "held", "held_by", "held_for", "held_since", "limited", "member", "name", "queue",
        "ramp", "refusals", "refused_in_row", "round_trip", "slow_start", "trouble", "used",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        limits: Mapping[str, Limits],
        *,
        ceiling: int,
        breaker: BreakerPolicy,
        now: float,
        member: SharedLimit | None = None,
        new_bucket: NewBucket = TokenBucket,
        executor_gates: Sequence[Gate] = (),
    ) -> None:
        """Make a pool that nothing has been sent to.

        Args:
            name: The pool's name.
            limits: The declared limits, by pool.
            ceiling: How many of its requests may be in flight at most.
            breaker: When its circuit breaker opens.
            now: The current instant.
            member: The group that shares the limits, if one does.
            new_bucket: Makes the bucket of a resource.
            executor_gates: Gates of the whole executor, asked first.
        """
        self.name = name
        self.member = member
        self._cache_reads_count = cache_reads_count(name)
        declared = limits_of(limits, name)
        self.estimators = {
            resource: LimitEstimator(resource, limit, burst=declared.burst, now=now, new_bucket=new_bucket)
            for resource, limit in declared.by_resource()
        }
        self.queue: FairQueue[Job] = FairQueue()
        self.concurrency = ConcurrencyLimit(ceiling)
        self.breaker = CircuitBreaker(breaker)
        self.slow_start = SlowStart(now)
        self.ramp = RampLimit()
        self.used = UsageWindow()
        self.admitted = UsageWindow()
        self.flight = InFlight()
        self.headers_at = -math.inf
        self._headerless_at = now
        self.refusals = 0
        self.refused_in_row = 0
        self.round_trip = 0.0
        self.trouble: Failure | None = None
        self.held: Job | None = None
        self.held_by: HeldBy | None = None
        self.held_for: dict[HeldBy, float] = {}
        self.held_since = now
        self._retry_after = gates.RetryAfterGate()
        self.discovery = gates.DiscoveryGate(self.flight, self._is_declared, now)
        self._first_gates: tuple[Gate, ...] = (*executor_gates, gates.BreakerGate(self.breaker))
        if member is not None:
            self._first_gates += (
                gates.MembershipGate(member),
                gates.PermitGate(member, self.flight),
                gates.ProbePermitGate(member, self.breaker),
            )
        self._first_gates += (
            self._retry_after,
            gates.ConcurrencyGate(self.concurrency, self.flight, self.discovery),
        )
        self._last_gates: tuple[Gate, ...] = (
            gates.SlowStartGate(
                self.slow_start, self.flight, self.discovery, self.group_total, lambda: self.round_trip
            ),
            gates.RampGate(
                self.ramp, self.group_total, lambda: self.estimators[Resource.INPUT].limit or NEVER
            ),
        )
        self.limited: list[tuple[LimitEstimator, Bucket]] = []
        self._resource_gates: tuple[gates.ResourceGate, ...] = ()
        self._collect_gates()
        self._find_limited()

    def __repr__(self) -> str:
        waiting, in_flight = len(self.queue), self.in_flight
        return f"<Pool {self.name}: {waiting} waiting, {in_flight} in flight, {self.concurrency!r}>"

    @property
    def in_flight(self) -> int:
        """Requests in flight."""
        return self.flight.count

    # ---- limits

    def set_declared(self, limits: Mapping[str, Limits], now: float) -> None:
        """Take over the limits that the user declares now."""
        declared = limits_of(limits, self.name)
        for resource, limit in declared.by_resource():
            self.estimators[resource].set_declared(limit, declared.burst, now)
        self.relimit(now)
        if self.member is not None:
            self.member.force()

    def relimit(self, now: float) -> None:
        """Find the buckets again after a limit has become known or has changed."""
        self._find_limited()
        if self.member is not None:
            self.member.on_limits_changed(now)

    def _find_limited(self) -> None:
        limited = [(e, e.bucket) for e in self.estimators.values() if e.bucket is not None]
        if limited == self.limited:  # asked after every response with headers, and seldom other than before
            return
        self.limited = limited
        self._resource_gates = tuple(
            gates.ResourceGate(each, bucket, self.flight) for each, bucket in limited
        )
        self._collect_gates()

    def _collect_gates(self) -> None:
        discovery = (self.discovery,) if self.discovery.active else ()
        self._gates = (*self._first_gates, *discovery, *self._resource_gates, *self._last_gates)
        self._takers = tuple(gate for gate in self._gates if gate.takes)

    def _is_declared(self) -> bool:
        return any(estimator.declared is not None for estimator in self.estimators.values())

    @property
    def answered(self) -> bool:
        """Whether an answer has come, or a peer has passed on what its answers taught."""
        return not self.discovery.active

    def on_peer_limits(self) -> None:
        """Open up as after the pool's own first answer: a peer has learned the limits."""
        if self.discovery.active:
            self.on_first_answer(NEVER)

    def on_first_answer(self, concurrency: float) -> None:
        """Leave discovery, with at least `concurrency` requests allowed in flight."""
        self.discovery.active = False
        self._collect_gates()  # the gate of discovery has done its work
        self.concurrency.raise_to(concurrency)

    @property
    def headerless(self) -> bool:
        """Whether no response so far has carried rate-limit headers."""
        return self.headers_at == -math.inf

    def on_headerless_response(self, now: float) -> None:
        """Ask for a little more, since nothing shows the limit and nothing was refused."""
        for estimator, _ in self.limited:
            estimator.probe_upward(now - self._headerless_at, now)
        self._headerless_at = now

    def believed_levels(self, now: float) -> dict[Resource, float]:
        """Return the levels of the server's buckets once everything in flight has been drawn."""
        return {estimator.resource: bucket.level(now) for estimator, bucket in self.limited}

    # ---- costs

    def demand(self, cost: Cost) -> Demand:
        """Return how long a request of this cost occupies the pool's limits."""
        if not self.limited:
            return UNKNOWN_DEMAND  # one request is as good as another
        longest, which, slow_start_seconds = 0.0, "", 0.0
        for estimator, bucket in self.limited:
            seconds = estimator.amount(cost) / bucket.rate
            if seconds > longest:
                longest, which = seconds, estimator.name
            if seconds > slow_start_seconds and estimator.resource is not Resource.OUTPUT:
                slow_start_seconds = seconds
        return Demand(longest, which, slow_start_seconds)

    def cost_of(self, usage: Usage) -> Cost:
        """Return what this pool's limits are charged for an attempt that used `usage`."""
        return usage.cost(cache_reads_count=self._cache_reads_count)

    def group_total(self, mine: float) -> float:
        """Return what the whole group uses if every member uses as much for its share as this one."""
        return mine if self.member is None else mine / self.member.share

    # ---- admission

    def opens_at(self, job: Job, now: float, *, keep: float = 0.0) -> tuple[float, HeldBy | None]:
        """Return the instant from which `job` may start, and which gate opens last.

        Args:
            job: The job at the head of the queue.
            now: The current instant.
            keep: The fraction of every limit to leave free for jobs of a higher priority.

        Returns:
            The instant (`NEVER` if only the end of something in flight helps) and the gate that opens last.
        """
        at, why = -math.inf, None
        for gate in self._gates:
            ready = gate.opens_at(job, now, keep)
            if ready > at:
                at, why = ready, gate.held_by
                if at == NEVER:
                    return at, self._lacking(why)
        return at, why

    def _lacking(self, why: HeldBy) -> HeldBy:
        """Name what the group is short of, where the job waits for a lease: all that it needs, or nothing."""
        if self.member is None or all(gate.held_by != why for gate in self._resource_gates):
            return why
        return HeldBy(self.member.short or HeldBy.BUDGET)

    def earliest(self, job: Job) -> float:
        """Return the instant before which `job` cannot start even if it were next in the queue."""
        closed_until = self._retry_after.until
        if self.member is not None:
            return closed_until  # when the group will grant it cannot be known
        return max([closed_until, *(gate.opens_at(job, closed_until, 0.0) for gate in self._resource_gates)])

    def lease_may_help(self, why: HeldBy | None, now: float) -> bool:
        """Whether asking the group could unblock the queue; a group is asked only while a job waits."""
        member = self.member
        if member is None or why is HeldBy.BUDGET:
            return member is not None
        if self.closed_until > now or self.breaker.admits_at(now) != now:
            return False
        lags = why is HeldBy.CONCURRENCY and member.permits_lag
        return why is HeldBy.BREAKER or (lags and self.in_flight + 1.0 <= self.concurrency.limit)

    def take(self, job: Job, now: float) -> None:
        """Start `job`: take what it needs from every gate."""
        job.levels_at_start = {}
        for gate in self._takers:
            gate.take(job, now)
        self.flight.add(job.cost)
        if self.headerless:
            self.admitted.add(job.cost, now)
        job.sent_at = now
        job.reserved_output = AMOUNT[Resource.OUTPUT](self.flight.reserved)
        if self.member is not None:
            job.reserved_output += self.member.in_flight.get(Resource.OUTPUT, 0.0)

    def settle(self, job: Job, actual: Cost | None, now: float) -> None:
        """End an attempt: replace its estimate by what it took. None keeps the estimate charged."""
        self.flight.remove(job.cost)
        self.used.add(job.cost if actual is None else actual, now)
        if self.headerless and actual is NOTHING:
            self.admitted.take_back(job.cost, now)
        if actual is None:
            return
        for estimator, bucket in self.limited:
            surplus = estimator.amount(job.cost) - estimator.amount(actual)
            if not surplus:
                continue
            if actual is NOTHING:  # it was refused, which says nothing of estimates
                bucket.settle(surplus, now)
            else:
                estimator.settle(surplus, now)

    # ---- outcomes, as `feedback` reads them

    def note_round_trip(self, seconds: float) -> None:
        """Average in how long an answer took."""
        self.round_trip = 0.9 * self.round_trip + 0.1 * seconds if self.round_trip else seconds

    @property
    def closed_until(self) -> float:
        """The instant until which a 429 has closed the pool."""
        return self._retry_after.until

    def close(self, until: float, now: float, *, gently: bool) -> None:
        """Hold the queue until the instant that the API named; `gently` restarts slow start afterwards."""
        self._retry_after.until = max(self._retry_after.until, until)
        if gently:
            self.slow_start.restart(max(now, self._retry_after.until))

    def reopen(self, now: float) -> None:
        """Begin again after an outage, with a part of what was in flight before it."""
        self.concurrency.restart(REOPENING_SHARE)
        self.slow_start.restart(now)

    def note_held(self, why: HeldBy | None, now: float) -> None:
        """Account the time since the last call to what held the queue, and note what holds it now."""
        if self.held_by is not None:
            self.held_for[self.held_by] = self.held_for.get(self.held_by, 0.0) + now - self.held_since
        self.held_by = why
        self.held_since = now
