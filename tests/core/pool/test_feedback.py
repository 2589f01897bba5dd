"""What the outcome of an attempt teaches a pool."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.factories import a_failure, a_job, advice

from claude_executor.core.control.breaker import BreakerPolicy, BreakerState
from claude_executor.core.model.cost import NOTHING, Cost, Resource
from claude_executor.core.model.failure import FailureKind
from claude_executor.core.model.headers import NO_HINTS
from claude_executor.core.model.limits import DEFAULT, Limits
from claude_executor.core.pool import feedback
from claude_executor.core.pool.pool import Pool

LIMITS = Limits(rpm=600, itpm=600_000, otpm=60_000)
POLICY = BreakerPolicy(streak=8, pause=1.0)
USED = Cost(1.0, 900.0, 50.0)


def a_pool(limits=LIMITS, ceiling=100):
    """A pool at second 0 that nobody has answered yet."""
    return Pool("haiku-5.5", {DEFAULT: limits}, ceiling=ceiling, breaker=POLICY, now=0.0)


def sent(pool, now=0.0, **more):
    """An attempt under way."""
    job = a_job(**more)
    pool.take(job, now)
    return job


def answered(pool, job, now=1.0, actual=USED, headers=NO_HINTS):
    """The attempt is answered."""
    pool.settle(job, actual, now)
    return feedback.on_response(pool, job, headers, now)


def refused(pool, job, now=1.0, u=0.0, **headers):
    """A 429, settled as the scheduler does."""
    pool.settle(job, NOTHING, now)
    return feedback.on_quota_refusal(pool, job, a_failure(FailureKind.QUOTA, status=429, **headers), now, u)


def overloaded(pool, job, now=1.0, hint=None):
    """The attempt met overload, settled as the scheduler does."""
    pool.settle(job, NOTHING, now)
    return feedback.on_overload(pool, job, hint, now, 0.0)


def test_the_first_answer_opens_the_window():
    """One request probes; then the pace holds the line where a limit is known, else the window itself."""
    for limits, opens in ((LIMITS, 100.0), (Limits(), 2.0)):
        pool = a_pool(limits)
        assert pool.concurrency.limit == 1.0
        answered(pool, sent(pool))
        assert pool.concurrency.limit == opens


def test_a_limit_in_the_first_headers_opens_the_window_too():
    """Nothing declared, everything learned with the first answer."""
    pool = a_pool(Limits())
    answered(pool, sent(pool), headers=advice(requests=(600, 599)))
    assert pool.concurrency.limit == 100.0
    assert pool.estimators[Resource.REQUESTS].limit == 600
    assert pool.estimators[Resource.REQUESTS].bucket.level(1.0) == 599


def test_an_answer_is_settled():
    """What it took is taken, what it did not is given back."""
    pool = a_pool()
    answered(pool, sent(pool), now=2.0)
    assert pool.in_flight == 0
    assert pool.estimators[Resource.OUTPUT].bucket.level(2.0) == 60_000
    assert pool.used.last_minute(2.0) == Cost(1.0, 900.0, 50.0)


def test_news_is_compared_with_what_was_believed_meanwhile():
    """A header that reflects our own request, sent or settled, teaches nothing."""
    for remaining in (59_000, 60_000):
        pool = a_pool()
        job = sent(pool, cost=Cost(1.0, 1_000.0, 1_000.0))
        answered(pool, job, 0.001, Cost(1.0, 1_000.0, 1_000.0), advice(output=(60_000, remaining)))
        assert pool.estimators[Resource.OUTPUT].bucket.level(0.001) == pytest.approx(59_000)


def test_headers_of_others_spending_lower_the_level():
    """Half of the bucket gone that we did not take."""
    pool = a_pool()
    answered(pool, sent(pool), headers=advice(input=(600_000, 300_000)))
    assert pool.estimators[Resource.INPUT].bucket.level(1.0) == pytest.approx(300_000, abs=2_000)


@settings(max_examples=80, deadline=None)
@given(hint=st.floats(0.01, 1e4), u=st.floats(0, 1, exclude_max=True))
def test_a_429_closes_the_pool_at_least_as_long_as_told(hint, u):
    """Jitter is only added."""
    pool = a_pool()
    assert not refused(pool, sent(pool), 1.0, u, retry_after=hint, requests=(600, 0))
    assert 1.0 + hint <= pool.closed_until <= 1.0 + 1.1 * hint + 0.05 + 1e-9
    assert pool.opens_at(a_job(), 1.0)[0] >= 1.0 + hint


def test_a_shorter_wait_does_not_open_earlier():
    """Two refusals in flight together: the longer one holds."""
    pool = a_pool()
    jobs = [sent(pool), sent(pool)]
    refused(pool, jobs[0], retry_after=20.0)
    refused(pool, jobs[1], retry_after=5.0)
    assert pool.closed_until == 21.0
    assert pool.refusals == 2


def test_a_429_without_a_hint_waits_longer_each_time():
    """Up to a minute, and from the beginning after an answer."""
    pool, now, waits = a_pool(), 0.0, []
    for _ in range(8):
        refused(pool, sent(pool, now), now)
        waits.append(pool.closed_until - now)
        now = pool.closed_until
    assert waits == sorted(waits)
    assert waits[1] == 2 * waits[0]
    assert waits[-1] == 60.0
    answered(pool, sent(pool, now), now)
    refused(pool, sent(pool, now), now)
    assert pool.closed_until - now == waits[0]


def test_the_bucket_that_refused_is_emptied_and_no_other():
    """Its level is not positive afterwards; the others keep theirs."""
    pool = a_pool()
    refused(
        pool, sent(pool), retry_after=2.0, requests=(600, 600), input=(600_000, 0), output=(60_000, 60_000)
    )
    assert pool.estimators[Resource.INPUT].bucket.level(1.0) <= 0.0
    assert pool.estimators[Resource.REQUESTS].bucket.level(1.0) == 600
    assert pool.estimators[Resource.OUTPUT].bucket.level(1.0) == 60_000


def test_a_long_wait_tells_how_far_down_the_level_is():
    """`retry-after` is the time until this request fits, so a long one means debt."""
    pool = a_pool()
    job = sent(pool, cost=Cost(1.0, 10_000.0, 10.0))
    refused(pool, job, retry_after=30.0, input=(600_000, 0))
    assert pool.estimators[Resource.INPUT].bucket.level(1.0) == pytest.approx(10_000 - 30 * 10_000)


def test_a_refusal_that_tells_nothing_is_about_requests():
    """No quotes at all: the request bucket is emptied, if there is one."""
    pool = a_pool()
    refused(pool, sent(pool), retry_after=1.0)
    assert pool.estimators[Resource.REQUESTS].bucket.level(1.0) <= 0.0
    pool = a_pool(Limits(itpm=600_000))
    assert not refused(pool, sent(pool), retry_after=1.0)


def test_what_a_full_bucket_refuses_can_never_fit():
    """More input than the whole limit, said by name and twice: our own estimate may be wrong once."""
    pool, full = a_pool(), {"requests": (600, 599), "input": (600_000, 600_000)}
    for resource, answers in ((Resource.INPUT, [False, True]), (None, [False, False])):
        job, now = a_job(cost=Cost(1.0, 700_000.0, 10.0), charge=0.0), 0.0
        for fits_never in answers:
            now += 200.0
            pool.take(job, now)
            assert refused(pool, job, now, resource=resource, retry_after=60.0, **full) is fits_never


@pytest.mark.parametrize(
    ("named", "shortened"), [(None, Resource.REQUESTS), (Resource.INPUT, Resource.INPUT)], ids=str
)
def test_a_refusal_with_room_everywhere_shortens_the_burst(named, shortened):
    """The limit is enforced over less than a minute; halved each time, but not below a second's worth."""
    pool, quotes = a_pool(), {}
    for name, limit in (("requests", 600), ("input", 600_000), ("output", 60_000)):
        quotes[name] = (limit, limit * 0.9)
    bucket = pool.estimators[shortened].bucket
    before = bucket.capacity
    refused(pool, sent(pool), **quotes, retry_after=1.0, resource=named)
    assert bucket.capacity == before / 2
    for second in range(100, 2_000, 100):
        refused(pool, sent(pool, second), second, **quotes, retry_after=1.0, resource=named)
    assert bucket.rate <= bucket.capacity <= 2 * bucket.rate
    assert pool.estimators[Resource.OUTPUT].bucket.capacity == 60_000


def test_a_burst_nobody_knows_is_not_shortened():
    """Refused with room everywhere, for a resource that has no bucket."""
    pool = a_pool(Limits(itpm=600_000))
    assert not refused(pool, sent(pool), retry_after=1.0, input=(600_000, 500_000))
    assert pool.estimators[Resource.INPUT].bucket.capacity == 600_000


def test_a_429_for_growth_limits_growth_and_empties_nothing():
    """The buckets are as they were; the pool waits for the next minute and then follows its allowance."""
    pool = a_pool()
    job = sent(pool)
    pool.settle(job, NOTHING, 1.0)
    levels = pool.believed_levels(1.0)
    failure = a_failure(FailureKind.RAMP, status=429, retry_after=20.0, input=(600_000, 0))
    failure = replace(failure, ramp=(2_000.0, 4_000.0))
    assert not feedback.on_quota_refusal(pool, job, failure, 1.0, 0.0)
    assert pool.believed_levels(1.0) == levels
    assert pool.opens_at(a_job(), 1.0)[0] == 21.0
    answered(pool, sent(pool, 30.0), 31.0)
    starts, now = 0, 31.0
    while now < 80.0:
        now = max(now, pool.opens_at(a_job(), now)[0])
        answered(pool, sent(pool, now), now)
        starts += 1
    assert starts <= 4


def test_a_burst_is_never_shortened_to_less_than_two_requests():
    """Six requests a minute and one at a time would lose the time between them."""
    pool = a_pool(Limits(rpm=6))
    for second in range(0, 2_000, 100):
        refused(pool, sent(pool, second), second, requests=(6, 5))
    assert pool.estimators[Resource.REQUESTS].bucket.capacity == pytest.approx(2.0)


def test_after_a_429_the_pool_opens_at_the_refill_rate():
    """Not as a herd: the second request of a second's worth comes later than the first."""
    pool = a_pool()
    answered(pool, sent(pool))
    refused(pool, sent(pool, 1.0), retry_after=10.0, requests=(600, 0))
    starts, now = [], pool.closed_until
    while now < pool.closed_until + 1.0:
        now = max(now, pool.opens_at(job := a_job(), now)[0])
        pool.take(job, now)
        pool.settle(job, Cost(1.0, 0.0, 0.0), now)
        starts.append(now)
    assert len(starts) <= 12  # ten a second


def outage(pool, flight=40):
    """So many are in flight at second 2, and all meet overload at second 3."""
    return [overloaded(pool, job, 3.0) for job in [sent(pool, 2.0) for _ in range(flight)]]


def test_overload_cuts_the_window_and_then_opens_the_breaker():
    """Both learn from it; the breaker says when it opened, once."""
    pool = a_pool()
    answered(pool, sent(pool))
    assert outage(pool).count(True) == 1
    assert pool.concurrency.limit < 40
    assert pool.breaker.state is BreakerState.OPEN
    assert pool.opens_at(a_job(), 3.0)[0] >= 4.0


def test_a_failing_probe_does_not_cut_the_window_again():
    """It tells nothing new about how many are too many."""
    pool = a_pool()
    answered(pool, sent(pool))
    outage(pool)
    limit = pool.concurrency.limit
    assert pool.opens_at(a_job(), 10.0)[0] <= 10.0
    probe = sent(pool, 10.0)
    assert probe.is_probe
    assert overloaded(pool, probe, 11.0)
    assert pool.concurrency.limit == limit


def test_the_end_of_an_outage_reopens_with_a_part_of_what_flew_before():
    """Not with one, not with all, and slowly."""
    pool = a_pool()
    answered(pool, sent(pool))
    outage(pool)
    pool.opens_at(a_job(), 10.0)
    assert answered(pool, sent(pool, 10.0), 11.0)
    assert pool.breaker.state is BreakerState.CLOSED
    assert 4 <= pool.concurrency.limit <= 20


def test_headers_of_a_failure_are_heard_like_any_other():
    """And a response without any says nothing."""
    pool = a_pool()
    job = sent(pool)
    pool.settle(job, NOTHING, 1.0)
    before = pool.believed_levels(1.0)
    feedback.observe_headers(pool, job, NO_HINTS, 1.0)
    assert pool.believed_levels(1.0) == before
    feedback.observe_headers(pool, job, advice(requests=(600, 10)), 1.0)
    assert pool.estimators[Resource.REQUESTS].bucket.level(1.0) == pytest.approx(10, abs=11)


# ---- an API that sends no headers


def test_without_headers_refusals_tell_the_rate():
    """What came through in the last seconds is what there is; for a little less is asked, then for more."""
    pool = a_pool(Limits(rpm=3_000))
    meter = pool.estimators[Resource.REQUESTS]
    for tenth in range(200):
        answered(pool, sent(pool, tenth / 10), tenth / 10 + 0.05)
    jobs = [sent(pool, 20.0) for _ in range(5)]
    for job in jobs:
        refused(pool, job, 20.1, retry_after=1.0)
    assert meter.rate == pytest.approx(0.9 * 10.0, rel=0.1)
    assert meter.limit == 3_000
    before = meter.rate
    for second in range(22, 32):
        answered(pool, sent(pool, float(second)), second + 0.05)
    assert before * 1.1 < meter.rate < before * 1.4


def test_a_plain_429_among_answers_with_headers_does_not_lower_the_rate():
    """Some proxy may have sent it; the headers know better."""
    pool = a_pool(Limits(rpm=3_000))
    for second in range(10):
        answered(pool, sent(pool, float(second)), second + 0.5, headers=advice(requests=(3_000, 2_999)))
    refused(pool, sent(pool, 11.0), 11.1, retry_after=1.0)
    assert pool.estimators[Resource.REQUESTS].rate == pytest.approx(50.0)


def test_early_refusals_say_nothing_of_the_rate():
    """In the first seconds a full bucket has been used up."""
    pool = a_pool(Limits(rpm=3_000))
    for tenth in range(20):
        answered(pool, sent(pool, tenth / 10), tenth / 10 + 0.05)
    refused(pool, sent(pool, 2.0), 2.1, retry_after=1.0)
    assert pool.estimators[Resource.REQUESTS].rate == pytest.approx(50.0)
