"""What the outcome of an attempt teaches a pool about limits, bursts and concurrency.

`on_response` and `on_failure` are the two kinds of news; each corrects the pool it is given.
Most of the learning is in what they call: `LimitEstimator.observe` for the headers, `ConcurrencyLimit` for concurrency,
`CircuitBreaker` for outages, `SlowStart` for how fast to open up.
"""

import math
from typing import NamedTuple

from claude_executor.core.control.breaker import BreakerState
from claude_executor.core.control.limit_estimator import ROUNDING, LevelRange, LimitEstimator
from claude_executor.core.control.retry import jittered
from claude_executor.core.model.cost import AMOUNT, Cost, Resource
from claude_executor.core.model.failure import FAILURE_POLICIES, Failure, FailureKind
from claude_executor.core.model.gate import NEVER
from claude_executor.core.model.headers import LimitQuote, ResponseHints
from claude_executor.core.model.job import Job
from claude_executor.core.model.sharing import SharingState
from claude_executor.core.pool.pool import Pool

HEADERS_EVERY = 0.02
"""Seconds: the headers of an answer that comes sooner after the last one read tell nothing new."""
CONFIDENCE = 2.0
"""Standard deviations of our own estimates within which a difference is not somebody else's doing."""
UNREPORTED = 0.5
"""Seconds of refill that other members of a group may have used since the group told the level."""
SHORTEST_BURST = 1.0
"""Seconds; a bucket is never taken to hold less than this of its refill, and never less than two requests."""
HEADERLESS_SPAN = 10.0
"""Seconds over which is seen what we get, where no headers tell the limit."""
SHORTEST_SPAN = 5.0
"""Seconds below which that says nothing: a bucket may have been full."""
HEADERLESS_DECREASE = 0.9
"""Of what we got, so much is asked for after a refusal: the server's bucket is to fill up a little again."""
DEFAULT_WAIT = 2.0
"""Seconds to wait after a 429 that brings no `retry-after`; doubled while it goes on, up to a minute."""


def on_response(pool: Pool, job: Job, advice: ResponseHints, now: float) -> bool:
    """An attempt, already settled, was answered; whether that closed the circuit breaker."""
    if on_response_started(pool, job, advice, now):
        return True
    pool.breaker.on_success(job.sent_at, now, probe=False)
    return False


def on_response_started(pool: Pool, job: Job, advice: ResponseHints, now: float) -> bool:
    """The head of an answer is here, be it that the rest is to follow; whether that closed the breaker."""
    pool.refused_in_row = 0
    pool.trouble = None
    was_probe, job.is_probe = job.is_probe, False  # it has told what it was sent to find out
    if was_probe:
        pool.breaker.on_success(job.sent_at, now, probe=True)
        pool.reopen(now)
    pool.concurrency.on_success(pool.in_flight + (0 if job.running else 1))
    observe_headers(pool, job, advice, now)
    if pool.headerless:
        pool.on_headerless_response(now)
    if not pool.answered:
        pool.answered = True
        # With a known limit the pace opens the pool up; without one only the window can, by doubling.
        pool.concurrency.raise_to(NEVER if pool.limited else max(2.0, pool.in_flight + 1.0))
    return was_probe


def headers_due(pool: Pool, now: float) -> bool:
    """Whether the headers of an answer are worth reading, so soon after those of the last one."""
    return now - pool.headers_at >= HEADERS_EVERY


def observe_headers(pool: Pool, job: Job, advice: ResponseHints, now: float) -> None:
    """Compare the rate-limit headers of the response to an attempt with what was believed."""
    if not advice.quotes:
        return
    pool.headers_at = now
    current, before = pool.believed_levels(now), job.levels_at_start or {}
    share, reserved = pool.member, pool.flight.reserved
    alone = share is not None and share.state is not SharingState.SHARED
    for resource, quote in advice.quotes.items():
        meter = pool.estimators[resource]
        if alone and meter.bucket is not None and meter.announced == quote.limit:
            continue  # what the other members draw is not known
        today = current.get(resource, quote.remaining)
        then = before.get(resource, today)
        variance, unsettled, unheard = meter.variance(reserved), meter.amount(reserved), 0.0
        if share is not None:
            variance += share.variance.get(meter.name, 0.0)
            unsettled += share.in_flight.get(meter.name, 0.0)
            unheard = UNREPORTED * meter.rate if meter.bucket is not None else 0.0
        undrawn = job.reserved_output if resource is Resource.OUTPUT else 0.0
        belief = LevelRange(
            sent_at=job.sent_at,
            lowest=min(then, today),
            highest=max(then + undrawn, today),
            unsure=CONFIDENCE * math.sqrt(variance) + unheard,
            # An estimate in flight may turn out to be anything down to nothing, but every request is one.
            unsettled=0.0 if resource is Resource.REQUESTS else unsettled,
        )
        meter.observe(quote, belief, now)
    pool.relimit(now)


class Lesson(NamedTuple):
    """What a failure has changed.

    Attributes:
        fits: Whether the request can ever fit the limits.
        closed: Whether the pool is closed for a while.
        tripped: Whether the circuit breaker has opened, or stays open after a probe.
    """

    fits: bool
    closed: bool
    tripped: bool


def on_failure(pool: Pool, job: Job, failure: Failure, now: float, u: float) -> Lesson:
    """An attempt, already settled, has failed."""
    observe_headers(pool, job, failure.hints, now)
    refused, fits, tripped = failure.kind in (FailureKind.QUOTA, FailureKind.RAMP), True, False
    if refused:
        fits = not on_quota_refusal(pool, job, failure, now, u)
    if FAILURE_POLICIES[failure.kind].overload:
        pool.trouble = failure
        tripped = on_overload(pool, job, failure.hints.retry_after, now, u)
    elif job.is_probe:
        pool.breaker.on_probe_abandoned()
    return Lesson(fits, refused, tripped)


def on_quota_refusal(pool: Pool, job: Job, failure: Failure, now: float, u: float) -> bool:
    """A 429 for want of quota, already settled: close the pool for a while, and learn why.

    Returns whether the request can never fit, because a bucket that was full refused it.
    """
    advice = failure.hints
    hint = advice.retry_after
    if hint is None:
        hint = min(60.0, DEFAULT_WAIT * 2.0 ** min(pool.refused_in_row, 5))
    pool.refused_in_row += 1
    pool.refusals += 1
    until = now + jittered(hint, u)
    if failure.kind is FailureKind.RAMP:
        used = pool.group_total(pool.used.last_minute(now).input_tokens)
        pool.ramp.on_refusal(failure.ramp, used, hint, now)
        pool.close(until, now, gently=False)
        return False
    culprits = _culprits(pool, job, failure)
    pool.close(until, now, gently=not culprits or not advice.quotes)
    if not culprits:
        # There is room in every bucket: the limit is enforced over a shorter time than a minute, and it was
        # the burst that was too large.
        _shorten_burst(pool.estimators[failure.resource or Resource.REQUESTS], now)
    for resource in culprits:
        meter, quote = pool.estimators[resource], advice.quotes.get(resource)
        if pool.headerless:
            _learn_from_refusal(pool, meter, job, now)
        bucket, need = meter.bucket, meter.amount(job.cost)
        if bucket is None:
            pool.concurrency.on_overload(pool.in_flight + 1, now)
            continue
        if resource is failure.resource and quote is not None and _is_full(quote, bucket.capacity):
            job.refused_by_full += 1
            if job.refused_by_full > 1 and need > quote.remaining:
                return True
        # `retry-after` is the wait until this request fits, so it tells how far down the level is.
        bucket.correct(min(bucket.level(now), 0.0, need - hint * bucket.rate), now)
    return False


def _learn_from_refusal(pool: Pool, meter: LimitEstimator, job: Job, now: float) -> None:
    """No headers tell the limit: what was let in lately is what there is."""
    lately = min(HEADERLESS_SPAN, now - pool.first_at)
    if lately < SHORTEST_SPAN:
        return
    got = meter.amount(pool.admitted.last(round(lately), now)) / lately
    if got > 0.0:
        meter.assume(got, now)
        meter.back_off_to(HEADERLESS_DECREASE * got, job.sent_at, now)


def on_overload(pool: Pool, job: Job, hint: float | None, now: float, u: float) -> bool:
    """An attempt met overload; whether that opened the circuit breaker."""
    if (
        pool.breaker.state is BreakerState.CLOSED
    ):  # a probe that fails tells nothing new about how many are too many
        pool.concurrency.on_overload(pool.in_flight + 1, now)
    return pool.breaker.on_failure(job.sent_at, now, u, probe=job.is_probe, hint=hint)


def _culprits(pool: Pool, job: Job, failure: Failure) -> list[Resource]:
    """Which buckets refused: the one the API names, unless it shows plenty in it, or those that are short.

    Nothing told at all: the requests, or those that are held to, if requests are not. Plenty in all of them:
    none.
    """
    quotes = failure.hints.quotes
    if not quotes:
        named = failure.resource or Resource.REQUESTS
        if pool.headerless and pool.limited and pool.estimators[named].bucket is None:
            return [meter.resource for meter, _ in pool.limited]
        return [named]
    suspects = [failure.resource] if failure.resource in quotes else list(quotes)
    return [r for r in suspects if r is not None and quotes[r].remaining < _plenty(r, job.cost)]


def _plenty(resource: Resource, cost: Cost) -> float:
    """More than this cannot have been too little: the estimate and the rounding of the header allowed for."""
    if resource is Resource.REQUESTS:
        return 2.0
    if resource is Resource.OUTPUT:
        return 1.0 + ROUNDING  # output is drawn as it is produced: any is enough to begin
    return 1.5 * AMOUNT[resource](cost) + 2.0 * ROUNDING


def _is_full(quote: LimitQuote, capacity: float) -> bool:
    return quote.remaining >= 0.95 * min(quote.limit, capacity)


def _shorten_burst(meter: LimitEstimator, now: float) -> None:
    if meter.bucket is not None:
        held = meter.bucket.capacity / meter.bucket.rate
        shortest = max(SHORTEST_BURST, 2.0 / meter.rate if meter.resource is Resource.REQUESTS else 0.0)
        meter.shorten_burst(max(shortest, held / 2.0), now)
