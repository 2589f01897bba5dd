"""The live state of one pool: the models that share one set of limits at the API.

Admission is one question, `opens_at`, and one act, `take`: the buckets, the pace, the concurrency window,
the breaker and the gate that a 429 closes are looked at together and taken together. There is no moment at
which a request holds one of them and waits for another.

Estimates. A request reserves what it is expected to take (see `estimate`). What it may take beyond that is
covered once for all requests in flight: `MARGIN` standard deviations of their sum,
``MARGIN * sqrt(sum of variances)``, stay in the bucket.

Output tokens. The server draws output as it is produced: we have taken the whole answer at its start, the
server has not. So what it announces lies between our level and that with everything in flight given back.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from claude_executor.core.control.breaker import BreakerPolicy, BreakerState, CircuitBreaker
from claude_executor.core.control.bucket import TokenBucket
from claude_executor.core.control.concurrency import ConcurrencyLimit
from claude_executor.core.control.fair_queue import FairQueue
from claude_executor.core.control.limit_estimator import LimitEstimator
from claude_executor.core.control.ramp import RampLimit
from claude_executor.core.control.slow_start import SlowStart
from claude_executor.core.group.leased_bucket import LeasedBucket
from claude_executor.core.model.cost import AMOUNT, NOTHING, Cost, Resource, Usage
from claude_executor.core.model.gate import BREAKER, CONCURRENCY, GATE, GROUP, NEVER, START
from claude_executor.core.model.job import UNKNOWN_DEMAND, Demand, Job
from claude_executor.core.model.limits import DEFAULT, Limits, cache_reads_count
from claude_executor.core.model.sharing import SharingState
from claude_executor.core.pool.usage import InFlight, UsageWindow

if TYPE_CHECKING:
    from claude_executor.core.group.member import GroupMember
    from claude_executor.core.model.failure import Failure

MARGIN = 3.0
MARGIN_MOST = 0.5
"""The margin is never more than half a bucket."""
REOPENING_SHARE = 0.25
"""Share of its former flight that a pool starts with after an outage: two round trips below full speed."""

ON_THE_WAY = 0.1
"""Seconds after which a request has surely reached the server's buckets."""
PROBING = 0.5
"""Seconds after which a second request follows the first one, unless that was answered before."""


class Pool:
    """Buckets, line, window, breaker and pace of the models that share limits."""

    __slots__ = (
        "_cache_reads_count",
        "_headerless_at",
        "admitted",
        "answered",
        "breaker",
        "closed_until",
        "concurrency",
        "estimators",
        "first_at",
        "flight",
        "headers_at",
        "held",
        "held_by",
        "held_for",
        "held_since",
        "limited",
        "member",
        "name",
        "queue",
        "ramp",
        "refusals",
        "refused_in_row",
        "round_trip",
        "slow_start",
        "trouble",
        "used",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        limits: Mapping[str, Limits],
        *,
        ceiling: int,
        breaker: BreakerPolicy,
        now: float,
        share: "GroupMember | None" = None,
    ) -> None:
        """A pool with its share of the declared `limits`, and at most `ceiling` requests in flight.

        With a `share` the limits are those of a group.
        """
        self.name = name
        self.member = share
        self._cache_reads_count = cache_reads_count(name)
        mine = _declared(limits, name)
        make = TokenBucket if share is None else LeasedBucket
        self.estimators = {
            r: LimitEstimator(r, told, burst=mine.burst, now=now, make=make) for r, told in _by_resource(mine)
        }
        self.limited = self._find_limited()
        self.queue: FairQueue[Job] = FairQueue()
        self.concurrency = ConcurrencyLimit(ceiling)
        self.breaker = CircuitBreaker(breaker)
        self.slow_start = SlowStart(now)
        self.ramp = RampLimit()
        self.used = UsageWindow()
        self.admitted = UsageWindow()
        self.flight = InFlight()
        self.answered = False
        self.headers_at = -math.inf
        self._headerless_at = now
        self.first_at = now
        self.closed_until = -math.inf
        self.refusals = 0
        self.refused_in_row = 0
        self.round_trip = 0.0
        self.trouble: Failure | None = None
        self.held: Job | None = None
        self.held_by: str | None = None
        self.held_for: dict[str, float] = {}
        self.held_since = now

    def __repr__(self) -> str:
        return (
            f"<Pool {self.name}: {len(self.queue)} waiting, {self.in_flight} in flight, {self.concurrency!r}>"
        )

    @property
    def in_flight(self) -> int:
        """Requests in flight."""
        return self.flight.count

    def set_declared(self, limits: Mapping[str, Limits], now: float) -> None:
        """The user changes the ceilings."""
        mine = _declared(limits, self.name)
        for resource, told in _by_resource(mine):
            self.estimators[resource].set_declared(told, mine.burst, now)
        self.relimit(now)
        if self.member is not None:
            self.member.force()

    def relimit(self, now: float) -> None:
        """A limit has become known, or another one."""
        self.limited = self._find_limited()
        if self.member is not None:
            self.member.detach_new_buckets(self, now)

    def on_peer_limits(self) -> None:
        """Others know the limits: as good as an answer."""
        if not self.answered:
            self.answered = True
            self.concurrency.raise_to(NEVER)

    @property
    def headerless(self) -> bool:
        """Whether no headers have ever told the limits."""
        return self.headers_at == -math.inf

    def on_headerless_response(self, now: float) -> None:
        """An answer came, and its headers said nothing of limits."""
        for meter, _ in self.limited:
            meter.probe_upward(now - self._headerless_at, now)
        self._headerless_at = now

    def _find_limited(self) -> list[tuple[LimitEstimator, TokenBucket]]:
        """The meters that have a bucket; asked for with every request, and seldom other than before."""
        return [(m, m.bucket) for m in self.estimators.values() if m.bucket is not None]

    def demand(self, cost: Cost) -> Demand:
        """What a request that takes so much occupies."""
        if not self.limited:
            return UNKNOWN_DEMAND  # one request is as good as another
        most, which, rush = 0.0, "", 0.0
        for meter, bucket in self.limited:
            seconds = meter.amount(cost) / bucket.rate
            if seconds > most:
                most, which = seconds, meter.name
            if seconds > rush and meter.resource is not Resource.OUTPUT:
                rush = seconds
        return Demand(most, which, rush)

    def cost_of(self, usage: Usage) -> Cost:
        """What an attempt that took so much is charged here."""
        return usage.cost(cache_reads_count=self._cache_reads_count)

    def group_total(self, mine: float) -> float:
        """What all members of a group come to, if each does as much for its share as this one."""
        return mine if self.member is None else mine / self.member.share

    def opens_at(self, job: Job, now: float, *, keep: float = 0.0) -> tuple[float, str]:
        """The instant from which `job` may start, and what holds it until then.

        `keep` is the share of every bucket and of the window to leave for more urgent work. The instant is
        infinite where no amount of waiting helps, only the end of something in flight.
        """
        admitted = now
        if self.breaker.state is not BreakerState.CLOSED:
            probe_at = self.breaker.admits_at(now)
            if probe_at is None:
                return NEVER, BREAKER
            admitted = probe_at
        if self.member is not None and (barred := self._barred(self.member, admitted <= now)) is not None:
            return NEVER, barred
        in_flight = self.flight.count
        at, why = self.closed_until, GATE
        if not self.answered:
            if (ready := self._unanswered_ready_at()) > max(at, now):
                at, why = ready, START
        elif in_flight and in_flight + keep * self.concurrency.limit > self.concurrency.limit - 1.0:
            return NEVER, CONCURRENCY
        if admitted > now and admitted > at:
            at, why = admitted, BREAKER
        ready, short = self._buckets_ready_at(job.cost, keep)
        if ready > at:
            at, why = ready, short
        paced = (in_flight or self.answered) and not self.slow_start.off
        if (
            paced
            and (ready := self.slow_start.ready_at(self.group_total(job.demand.slow_start_seconds))) > at
        ):
            at, why = ready, START
        if self.ramp.active:
            most = self.estimators[Resource.INPUT].limit or NEVER
            if (ready := self.ramp.ready_at(self.group_total(job.cost.input_tokens), now, most)) > at:
                at, why = ready, START
        return at, why

    def _barred(self, share: "GroupMember", admitted: bool) -> str | None:
        """What the group says to this pool's opening, if that is no."""
        if share.waits:
            return GROUP
        if share.full(self.flight.count):
            return CONCURRENCY
        probes = admitted and self.breaker.state is not BreakerState.CLOSED
        return BREAKER if probes and share.state is SharingState.SHARED and not share.may_probe else None

    def lease_may_help(self, why: str, now: float) -> bool:
        """Whether that may be over when the group has been asked, which is done when somebody waits."""
        share = self.member
        if share is None or why == GROUP:
            return share is not None
        if self.closed_until > now or self.breaker.admits_at(now) != now:
            return False
        lags = why == CONCURRENCY and share.permits_lag
        return why == BREAKER or (lags and self.in_flight + 1.0 <= self.concurrency.limit)

    def _unanswered_ready_at(self) -> float:
        """Before the first answer has told us anything.

        Where limits were declared: at the rate they sustain, which is the pace's to keep. Where not: one
        request, and twice as many each `PROBING`. A refusal comes at once; so the longer none comes, the
        safer it is not to wait for a long answer.
        """
        if not self.in_flight or any(meter.declared is not None for meter in self.estimators.values()):
            return -math.inf
        return self.first_at + PROBING * math.log2(self.in_flight + 1)

    def earliest(self, job: Job) -> float:
        """The instant before which `job` cannot start even if it were next in line."""
        if self.member is not None:
            return self.closed_until  # when the group will grant it nobody knows
        return max(self.closed_until, self._buckets_ready_at(job.cost, 0.0)[0])

    def _buckets_ready_at(self, cost: Cost, keep: float) -> tuple[float, str]:
        """When every bucket has what `cost` takes, and which is the last to have it."""
        at, which = -math.inf, ""
        reserved = self.flight.reserved
        for meter, bucket in self.limited:
            floor = meter.rounding + keep * bucket.capacity
            unsure = meter.variance(reserved) + meter.variance(cost)
            if unsure:
                floor += min(MARGIN * math.sqrt(unsure), MARGIN_MOST * bucket.capacity)
            ready = bucket.ready_at(meter.amount(cost), floor)
            if ready > at:
                at, which = ready, meter.name
        if at == NEVER and self.member is not None:
            which = self.member.short or GROUP  # the whole of what was asked for is there, or nothing of it
        return at, which

    def take(self, job: Job, now: float) -> None:
        """Start `job`: take everything it needs."""
        cost = job.cost
        # The server's bucket stays full, and earns nothing, until the request arrives there.
        job.levels_at_start = {
            meter.resource: bucket.take(meter.amount(cost), now, idle=ON_THE_WAY)
            for meter, bucket in self.limited
        }
        if self.ramp.active:
            self.ramp.take(self.group_total(cost.input_tokens))
        job.slow_start_seconds = (
            0.0 if self.slow_start.off else self.group_total(job.demand.slow_start_seconds)
        )
        self.slow_start.take(job.slow_start_seconds, now, self.round_trip if self.answered else None)
        if not self.answered and not self.flight.count:
            self.first_at = now
        if self.member is not None:
            self.member.on_start(self, cost)
        self.flight.add(cost)
        if self.headerless:
            self.admitted.add(cost, now)
        job.is_probe = self.breaker.on_start()
        job.sent_at = now
        job.reserved_output = AMOUNT[Resource.OUTPUT](self.flight.reserved)
        if self.member is not None:
            job.reserved_output += self.member.in_flight.get(Resource.OUTPUT, 0.0)

    def settle(self, job: Job, actual: Cost | None, now: float) -> None:
        """The attempt is over: replace its estimate by what it took; `None` where that is not known."""
        self.flight.remove(job.cost)
        self.used.add(job.cost if actual is None else actual, now)
        if self.headerless and actual is NOTHING:
            self.admitted.take_back(job.cost, now)
        if actual is None:
            return
        for meter, bucket in self.limited:
            surplus = meter.amount(job.cost) - meter.amount(actual)
            if not surplus:
                continue
            if actual is NOTHING:  # it was refused, which says nothing of estimates
                bucket.settle(surplus, now)
            else:
                meter.settle(surplus, now)

    def note_round_trip(self, seconds: float) -> None:
        """An answer took so many seconds."""
        self.round_trip = 0.9 * self.round_trip + 0.1 * seconds if self.round_trip else seconds

    def believed_levels(self, now: float) -> dict[Resource, float]:
        """The levels of the server's buckets when all that is in flight has been drawn."""
        return {meter.resource: bucket.level(now) for meter, bucket in self.limited}

    def close(self, until: float, now: float, *, gently: bool) -> None:
        """The API said to wait. `gently`: afterwards open as from a cold start."""
        self.closed_until = max(self.closed_until, until)
        if gently:
            self.slow_start.restart(max(now, self.closed_until))

    def reopen(self, now: float) -> None:
        """An outage is over: begin with a part of what was in flight before it."""
        self.concurrency.restart(REOPENING_SHARE)
        self.slow_start.restart(now)

    def note_held(self, why: str | None, now: float) -> None:
        """Keep count of what holds the line up, and for how long."""
        if self.held_by is not None:
            self.held_for[self.held_by] = self.held_for.get(self.held_by, 0.0) + now - self.held_since
        self.held_by = why
        self.held_since = now


def _by_resource(limits: Limits) -> tuple[tuple[Resource, float | None], ...]:
    return (
        (Resource.REQUESTS, limits.rpm),
        (Resource.INPUT, limits.itpm),
        (Resource.OUTPUT, limits.otpm),
        (Resource.TOKENS, limits.tpm),
    )


def _declared(limits: Mapping[str, Limits], pool: str) -> Limits:
    return limits.get(pool) or limits.get(DEFAULT) or Limits()
