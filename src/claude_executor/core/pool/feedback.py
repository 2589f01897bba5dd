"""Lessons that a pool draws from the outcome of an attempt: limits, bursts, concurrency.

Each outcome enters here once: `on_response_started`, `on_response` or `on_failure`. The learning itself is in
what they call: `LimitEstimator.observe` for headers, `ConcurrencyLimit` for concurrency, `CircuitBreaker` for
outages, `SlowStart` and `RampLimit` for how fast to open up.
"""

import math
from typing import NamedTuple

from claude_executor.core.control.limit_estimator import ROUNDING, LevelRange, LimitEstimator
from claude_executor.core.control.retry import jittered
from claude_executor.core.model.cost import AMOUNT, Cost, Resource
from claude_executor.core.model.failure import FAILURE_POLICIES, Failure, FailureKind
from claude_executor.core.model.gate import NEVER, BreakerState
from claude_executor.core.model.headers import LimitQuote, ResponseHints
from claude_executor.core.model.job import Job
from claude_executor.core.model.sharing import SharingState
from claude_executor.core.pool.pool import Pool

HEADERS_EVERY = 0.02
"""Seconds between responses whose headers are read; any sooner they say nothing new."""
CONFIDENCE = 2.0
"""Standard deviations of our own estimates within which a difference is not another user's doing."""
UNREPORTED = 0.5
"""Seconds of refill that other members of a group may have used since the group last reported the level."""
SHORTEST_BURST = 1.0
"""Seconds of refill that a bucket holds at least, beside at least two requests."""
HEADERLESS_SPAN = 10.0
"""Seconds over which admissions are counted where no headers tell the limit."""
SHORTEST_SPAN = 5.0
"""Seconds below which that count means nothing: the bucket may have been full."""
HEADERLESS_DECREASE = 0.9
"""Fraction of the admitted rate that is asked for after a refusal, so that the server's bucket can fill."""
DEFAULT_WAIT = 2.0
"""Seconds to wait after a 429 without `retry-after`; doubled with each one in a row, up to a minute."""


def on_response(pool: Pool, job: Job, hints: ResponseHints, now: float) -> bool:
    """Learn from an answered, settled attempt. Return whether it closed the circuit breaker."""
    if on_response_started(pool, job, hints, now):
        return True
    pool.breaker.on_success(job.sent_at, now, probe=False)
    return False


def on_response_started(pool: Pool, job: Job, hints: ResponseHints, now: float) -> bool:
    """Learn from the head of a response. Return whether it closed the circuit breaker."""
    pool.refused_in_row = 0
    pool.trouble = None
    was_probe, job.is_probe = job.is_probe, False  # a probe answers its question once
    if was_probe:
        pool.breaker.on_success(job.sent_at, now, probe=True)
        pool.reopen(now)
    pool.concurrency.on_success(pool.in_flight + (0 if job.running else 1))
    observe_headers(pool, job, hints, now)
    if pool.headerless:
        pool.on_headerless_response(now)
    if not pool.answered:
        # With a known limit slow start opens the pool up; without one only doubling concurrency can.
        pool.on_first_answer(NEVER if pool.limited else max(2.0, pool.in_flight + 1.0))
    return was_probe


def headers_due(pool: Pool, now: float) -> bool:
    """Whether the headers of a response are worth reading, so soon after the last ones."""
    return now - pool.headers_at >= HEADERS_EVERY


def observe_headers(pool: Pool, job: Job, hints: ResponseHints, now: float) -> None:
    """Compare the rate-limit headers of a response with what was believed while it was out."""
    if not hints.quotes:
        return
    pool.headers_at = now
    current, before = pool.believed_levels(now), job.levels_at_start or {}
    share, reserved = pool.member, pool.flight.reserved
    alone = share is not None and share.state is not SharingState.SHARED
    for resource, quote in hints.quotes.items():
        estimator = pool.estimators[resource]
        if alone and estimator.bucket is not None and estimator.announced == quote.limit:
            continue  # what the other members draw is unknown
        today = current.get(resource, quote.remaining)
        then = before.get(resource, today)
        variance, unsettled, unheard = estimator.variance(reserved), estimator.amount(reserved), 0.0
        if share is not None:
            variance += share.variance.get(estimator.name, 0.0)
            unsettled += share.in_flight.get(estimator.name, 0.0)
            unheard = UNREPORTED * estimator.rate if estimator.bucket is not None else 0.0
        reserved_output = job.reserved_output if resource is Resource.OUTPUT else 0.0
        belief = LevelRange(
            sent_at=job.sent_at,
            lowest=min(then, today),
            highest=max(then + reserved_output, today),
            unsure=CONFIDENCE * math.sqrt(variance) + unheard,
            # An estimate in flight may turn out to be anything down to nothing, but every request is one.
            unsettled=0.0 if resource is Resource.REQUESTS else unsettled,
        )
        estimator.observe(quote, belief, now)
    pool.relimit(now)


class Lesson(NamedTuple):
    """Changes that a failure has made.

    Attributes:
        fits: Whether the request can ever fit the limits.
        closed: Whether the pool is closed for a while.
        tripped: Whether the circuit breaker has opened, or stays open after a probe.
    """

    fits: bool
    closed: bool
    tripped: bool


def on_failure(pool: Pool, job: Job, failure: Failure, now: float, u: float) -> Lesson:
    """Learn from a failed, settled attempt. Return what it has changed."""
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
    """Close the pool for a while after a 429, and learn which limit it was.

    Returns:
        Whether the request can never fit, because a full bucket refused it.
    """
    hints = failure.hints
    hint = hints.retry_after
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
    pool.close(until, now, gently=not culprits or not hints.quotes)
    if not culprits:
        # Every bucket has room: the limit is enforced over less than a minute, and the burst was too large.
        _shorten_burst(pool.estimators[failure.resource or Resource.REQUESTS], now)
    for resource in culprits:
        estimator, quote = pool.estimators[resource], hints.quotes.get(resource)
        if pool.headerless:
            _learn_from_refusal(pool, estimator, job, now)
        bucket, need = estimator.bucket, estimator.amount(job.cost)
        if bucket is None:
            pool.concurrency.on_overload(pool.in_flight + 1, now)
            continue
        if resource is failure.resource and quote is not None and _is_full(quote, bucket.capacity):
            job.refused_by_full += 1
            if job.refused_by_full > 1 and need > quote.remaining:
                return True
        # `retry-after` is the wait until this request fits, which shows how far down the level is.
        bucket.correct(min(bucket.level(now), 0.0, need - hint * bucket.rate), now)
    return False


def _learn_from_refusal(pool: Pool, estimator: LimitEstimator, job: Job, now: float) -> None:
    """Take what the API let in lately for the limit, since no headers tell it."""
    lately = min(HEADERLESS_SPAN, now - pool.discovery.first_at)
    if lately < SHORTEST_SPAN:
        return
    got = estimator.amount(pool.admitted.last(round(lately), now)) / lately
    if got > 0.0:
        estimator.assume(got, now)
        estimator.back_off_to(HEADERLESS_DECREASE * got, job.sent_at, now)


def on_overload(pool: Pool, job: Job, hint: float | None, now: float, u: float) -> bool:
    """Learn from an attempt that met overload. Return whether it opened the circuit breaker."""
    if pool.breaker.state is BreakerState.CLOSED:  # a failed probe says nothing about how many are too many
        pool.concurrency.on_overload(pool.in_flight + 1, now)
    return pool.breaker.on_failure(job.sent_at, now, u, probe=job.is_probe, retry_after=hint)


def _culprits(pool: Pool, job: Job, failure: Failure) -> list[Resource]:
    """Return the resources whose buckets refused a request.

    The API may name one, which counts unless its header shows plenty; otherwise every resource that is short.
    Without any headers it is the requests, or the resources with a bucket if requests have none. An empty
    list means that all of them have plenty.
    """
    quotes = failure.hints.quotes
    if not quotes:
        named = failure.resource or Resource.REQUESTS
        if pool.headerless and pool.limited and pool.estimators[named].bucket is None:
            return [estimator.resource for estimator, _ in pool.limited]
        return [named]
    suspects = [failure.resource] if failure.resource in quotes else list(quotes)
    return [r for r in suspects if r is not None and quotes[r].remaining < _plenty(r, job.cost)]


def _plenty(resource: Resource, cost: Cost) -> float:
    """Return the level from which a refusal is no shortage, allowing for estimate and rounding."""
    if resource is Resource.REQUESTS:
        return 2.0
    if resource is Resource.OUTPUT:
        return 1.0 + ROUNDING  # output is drawn as it is produced: any is enough to begin
    return 1.5 * AMOUNT[resource](cost) + 2.0 * ROUNDING


def _is_full(quote: LimitQuote, capacity: float) -> bool:
    return quote.remaining >= 0.95 * min(quote.limit, capacity)


def _shorten_burst(estimator: LimitEstimator, now: float) -> None:
    if estimator.bucket is not None:
        held = estimator.bucket.capacity / estimator.bucket.rate
        shortest = max(
            SHORTEST_BURST, 2.0 / estimator.rate if estimator.resource is Resource.REQUESTS else 0.0
        )
        estimator.shorten_burst(max(shortest, held / 2.0), now)
