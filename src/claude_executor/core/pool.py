"""The live state of one pool: the models that share one set of limits at the API.

Admission is one question, `opens_at`, and one act, `take`: the buckets, the pace, the concurrency window,
the breaker and the gate that a 429 closes are looked at together and taken together. There is no moment at
which a request holds one of them and waits for another.

Estimates. A request reserves what it is expected to take (see `estimate`). What it may take beyond that is
covered once for all requests in flight: `MARGIN` standard deviations of their sum,
``MARGIN * sqrt(sum of variances)``, stay in the bucket.

Output tokens. The server draws output as it is produced: we have taken the whole answer at its start, the
server has not. What is still to be drawn (`Undrawn`) lies between our level and the one it announces.
"""

import math
from collections.abc import Mapping

from claude_executor.core.breaker import BreakerPolicy, CircuitBreaker
from claude_executor.core.cost import Cost, Resource
from claude_executor.core.growth import Growth
from claude_executor.core.job import Job
from claude_executor.core.limits import DEFAULT, Limits
from claude_executor.core.line import Line
from claude_executor.core.meter import Meter
from claude_executor.core.pace import Pace
from claude_executor.core.tally import Usages
from claude_executor.core.window import Window

MARGIN = 3.0
MARGIN_MOST = 0.5
"""The margin is never more than half a bucket."""
REOPENING_SHARE = 0.25
"""Share of its former flight that a pool starts with after an outage: two round trips below full speed."""

PROBING = 0.5
"""Seconds after which a second request follows the first one, unless that was answered before."""

CONCURRENCY = "concurrency"
BREAKER = "circuit breaker"
GATE = "told to wait"
START = "starting up"
NEVER = math.inf


class Pool:
    """Buckets, line, window, breaker and pace of the models that share limits."""

    __slots__ = (
        "_undrawn", "answered", "blocked_for", "breaker", "closed_until", "first_at", "growth",
        "held_by", "held_since", "in_flight", "line", "meters", "name", "pace", "refusals",
        "refused_in_row", "reserved", "round_trip", "used", "variance", "window",
    )  # fmt: skip

    def __init__(
        self, name: str, limits: Mapping[str, Limits], *, ceiling: int, breaker: BreakerPolicy, now: float
    ) -> None:
        """A pool with its share of the declared `limits`, and at most `ceiling` requests in flight."""
        self.name = name
        mine = _declared(limits, name)
        self.meters = {r: Meter(r, told, burst=mine.burst, now=now) for r, told in _by_resource(mine)}
        self.line: Line[Job] = Line()
        self.window = Window(ceiling)
        self.breaker = CircuitBreaker(breaker)
        self.pace = Pace(now)
        self.growth = Growth()
        self.used = Usages()
        self.in_flight = 0
        self.answered = False
        self.first_at = now
        self.closed_until = -math.inf
        self.refusals = 0
        self.refused_in_row = 0
        self.round_trip = 0.0
        self.variance = dict.fromkeys(Resource, 0.0)
        self.reserved = dict.fromkeys(Resource, 0.0)
        self.held_by: str | None = None
        self.blocked_for: dict[str, float] = {}
        self.held_since = now
        self._undrawn = Undrawn()

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {len(self.line)} waiting, {self.in_flight} in flight, {self.window!r}>"

    def tell(self, limits: Mapping[str, Limits], now: float) -> None:
        """The user changes the ceilings."""
        mine = _declared(limits, self.name)
        for resource, told in _by_resource(mine):
            self.meters[resource].tell(told, mine.burst, now)

    def seconds(self, cost: Cost) -> tuple[float, str]:
        """How long a request occupies the resource it needs most, and which that is."""
        most, which = 0.0, ""
        for resource, meter in self.meters.items():
            if meter.bucket is not None:
                seconds = cost.of(resource) / meter.bucket.rate
                if seconds > most:
                    most, which = seconds, resource.value
        return most, which

    def _rush(self, cost: Cost) -> float:
        """What a request asks of the pace: as `seconds`, but for what is counted when it arrives.

        Output is counted as it is produced, so it cannot come in a rush.
        """
        return max(
            cost.of(resource) / meter.bucket.rate if meter.bucket is not None else 0.0
            for resource, meter in self.meters.items()
            if resource is not Resource.OUTPUT
        )

    def opens_at(self, job: Job, now: float, *, keep: float = 0.0) -> tuple[float, str]:
        """The instant from which `job` may start, and what holds it until then.

        `keep` is the share of every bucket and of the window to leave for more urgent work. The instant is
        infinite where no amount of waiting helps, only the end of something in flight.
        """
        admitted = self.breaker.admits_at(now)
        if admitted is None:
            return NEVER, BREAKER
        at, why = self.closed_until, GATE
        if not self.answered:
            if (ready := self._unanswered_ready_at()) > max(at, now):
                at, why = ready, START
        elif self.in_flight and self.in_flight + keep * self.window.limit > self.window.limit - 1.0:
            return NEVER, CONCURRENCY
        if admitted > max(at, now):
            at, why = admitted, BREAKER
        for resource, ready in self._buckets_ready_at(job.cost, keep):
            if ready > at:
                at, why = ready, resource.value
        for ready in (
            self.pace.ready_at(self._rush(job.cost)) if self.in_flight or self.answered else at,
            self.growth.ready_at(job.cost.input_tokens, now, self.meters[Resource.INPUT].limit or NEVER),
        ):
            if ready > at:
                at, why = ready, START
        return at, why

    def _unanswered_ready_at(self) -> float:
        """Before the first answer has told us anything.

        Where limits were declared: at the rate they sustain, which is the pace's to keep. Where not: one
        request, and twice as many each `PROBING`. A refusal comes at once; so the longer none comes, the
        safer it is not to wait for a long answer.
        """
        if not self.in_flight or any(meter.told is not None for meter in self.meters.values()):
            return -math.inf
        return self.first_at + PROBING * math.log2(self.in_flight + 1)

    def earliest(self, job: Job) -> float:
        """The instant before which `job` cannot start even if it were next in line."""
        return max(
            self.closed_until, *(ready for _, ready in self._buckets_ready_at(job.cost, 0.0)), -math.inf
        )

    def _buckets_ready_at(self, cost: Cost, keep: float) -> list[tuple[Resource, float]]:
        ready: list[tuple[Resource, float]] = []
        for resource, meter in self.meters.items():
            bucket = meter.bucket
            if bucket is None:
                continue
            floor = meter.rounding + keep * bucket.capacity
            unsure = self.variance[resource] + cost.variance_of(resource)
            if unsure:
                floor += min(MARGIN * math.sqrt(unsure), MARGIN_MOST * bucket.capacity)
            ready.append((resource, bucket.ready_at(cost.of(resource), floor=floor)))
        return ready

    def take(self, job: Job, now: float) -> None:
        """Start `job`: take everything it needs."""
        cost = job.cost
        for resource, meter in self.meters.items():
            if meter.bucket is not None:
                meter.bucket.take(cost.of(resource), now)
        self.growth.take(cost.input_tokens)
        self.pace.take(self._rush(cost), now, self.round_trip if self.answered else None)
        if not self.answered and not self.in_flight:
            self.first_at = now
        self.in_flight += 1
        for resource in Resource:
            self.variance[resource] += cost.variance_of(resource)
            self.reserved[resource] += cost.of(resource)
        self._undrawn.begin(cost.output_tokens, now)
        job.is_probe = self.breaker.started()
        job.sent_at = now
        job.believed = self.believed(now)

    def settle(self, job: Job, actual: Cost | None, now: float) -> None:
        """The attempt is over: replace its estimate by what it took; `None` where that is not known."""
        self.in_flight -= 1
        for resource in Resource:
            self.variance[resource] -= job.cost.variance_of(resource)
            self.reserved[resource] -= job.cost.of(resource)
            if not self.in_flight or self.variance[resource] < 0.0:
                self.variance[resource] = 0.0  # what is left is rounding
            if not self.in_flight:
                self.reserved[resource] = 0.0
        self._undrawn.end(job.cost.output_tokens, job.sent_at, last=not self.in_flight)
        self.used.add(job.cost if actual is None else actual, now)
        if actual is None:
            return
        for resource, meter in self.meters.items():
            if meter.bucket is not None:
                meter.bucket.settle(job.cost.of(resource) - actual.of(resource), now)

    def note_round_trip(self, seconds: float, output_share: float) -> None:
        """An answer took so many seconds, in `output_share` of which its output was produced."""
        self.round_trip = 0.9 * self.round_trip + 0.1 * seconds if self.round_trip else seconds
        self._undrawn.lasts = self.round_trip * output_share

    def believed(self, now: float) -> dict[Resource, float]:
        """The levels the server's buckets are taken to have."""
        levels = {r: m.bucket.level(now) for r, m in self.meters.items() if m.bucket is not None}
        if Resource.OUTPUT in levels:
            levels[Resource.OUTPUT] += self._undrawn.left(now)
        return levels

    def close(self, until: float, now: float, *, gently: bool) -> None:
        """The API said to wait. `gently`: afterwards open as from a cold start."""
        self.closed_until = max(self.closed_until, until)
        if gently:
            self.pace.restart(max(now, self.closed_until))

    def reopen(self, now: float) -> None:
        """An outage is over: begin with a part of what was in flight before it."""
        self.window.restart(REOPENING_SHARE)
        self.pace.restart(now)

    def hold(self, why: str | None, now: float) -> None:
        """Keep count of what holds the line up, and for how long."""
        if self.held_by is not None:
            self.blocked_for[self.held_by] = self.blocked_for.get(self.held_by, 0.0) + now - self.held_since
        self.held_by = why
        self.held_since = now


class Undrawn:
    """Output tokens taken here and not yet produced there, over all requests in flight.

    Every answer is taken to be produced evenly over `lasts` seconds. Then two sums are enough: of the
    amounts, and of amount times start. An answer that takes longer counts as drawing on.
    """

    __slots__ = ("_amounts", "_amounts_times_start", "lasts")

    def __init__(self) -> None:
        self.lasts = 0.0
        self._amounts = 0.0
        self._amounts_times_start = 0.0

    def begin(self, amount: float, now: float) -> None:
        """An answer of `amount` tokens begins to be produced."""
        self._amounts += amount
        self._amounts_times_start += amount * now

    def end(self, amount: float, started_at: float, *, last: bool) -> None:
        """The answer is complete; `last` if no other is in flight."""
        self._amounts = 0.0 if last else self._amounts - amount
        self._amounts_times_start = 0.0 if last else self._amounts_times_start - amount * started_at

    def left(self, now: float) -> float:
        """Tokens still to be produced."""
        if self.lasts <= 0.0:
            return self._amounts
        drawn = (now * self._amounts - self._amounts_times_start) / self.lasts
        return max(0.0, self._amounts - drawn)


def _by_resource(limits: Limits) -> tuple[tuple[Resource, float | None], ...]:
    return (
        (Resource.REQUESTS, limits.rpm),
        (Resource.INPUT, limits.itpm),
        (Resource.OUTPUT, limits.otpm),
        (Resource.TOKENS, limits.tpm),
    )


def _declared(limits: Mapping[str, Limits], pool: str) -> Limits:
    return limits.get(pool) or limits.get(DEFAULT) or Limits()
