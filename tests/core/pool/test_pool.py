"""Everything a request needs is looked at together and taken together."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.factories import a_job

from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.control.slow_start import OFF
from claude_executor.core.model.cost import NOTHING, Cost, Resource
from claude_executor.core.model.gate import NEVER, HeldBy
from claude_executor.core.model.limits import DEFAULT, Limits
from claude_executor.core.pool.gates import MARGIN, ON_THE_WAY
from claude_executor.core.pool.pool import Pool

LIMITS = Limits(rpm=600, itpm=600_000, otpm=60_000)


def a_pool(limits=LIMITS, *, ceiling=100, opened=True, name="haiku-5.5"):
    """A pool at second 0; `opened` if nothing but its limits is in the way."""
    limits = limits if isinstance(limits, dict) else {DEFAULT: limits}
    pool = Pool(name, limits, ceiling=ceiling, breaker=BreakerPolicy(streak=1, pause=5.0), now=0.0)
    if opened:
        pool.on_first_answer(ceiling)
        pool.slow_start.restart(0.0, factor=OFF)
    return pool


def start(pool, now=0.0, **more):
    """An attempt under way."""
    job = a_job(**more)
    pool.take(job, now)
    return job


def may_start(pool, now=0.0, keep=0.0, **more):
    """True, or when and what it waits for."""
    at, why = pool.opens_at(a_job(**more), now, keep=keep)
    return True if at <= now else (at, why)


def test_a_pool_takes_its_own_limits_or_those_for_all():
    """An entry of its own wins over the star; without either nothing is declared."""
    own = {DEFAULT: Limits(rpm=60), "haiku-5.5": Limits(rpm=120)}
    assert a_pool(own).estimators[Resource.REQUESTS].limit == 120
    assert a_pool(own, name="opus-5").estimators[Resource.REQUESTS].limit == 60
    assert a_pool({"opus-5": Limits(rpm=1)}).estimators[Resource.REQUESTS].limit is None


def test_new_limits_reach_every_bucket():
    """Each resource gets its new ceiling."""
    pool = a_pool()
    pool.set_declared({DEFAULT: Limits(rpm=60, tpm=6_000, burst=10)}, 0.0)
    capacities = {r: m.bucket.capacity for r, m in pool.estimators.items() if m.bucket is not None}
    assert capacities == {Resource.REQUESTS: 10.0, Resource.TOKENS: 1_000.0}


@pytest.mark.parametrize(
    ("cost", "seconds", "resource", "rush"),
    [
        (Cost(1, 100, 10), 0.1, "requests", 0.1),
        (Cost(1, 50_000, 10), 5.0, "input tokens", 5.0),
        (Cost(1, 1_000, 2_000), 2.0, "output tokens", 0.1),
    ],
)
def test_a_request_occupies_what_it_needs_most_of(cost, seconds, resource, rush):
    """Its charge is the longest of the times it takes to refill what it takes; output comes in no rush."""
    assert a_pool().demand(cost) == (seconds, resource, rush)
    assert a_pool(Limits()).demand(cost) == (1.0, "", 0.0)


def test_where_nothing_is_in_the_way_it_may_start():
    """An open pool with full buckets."""
    assert may_start(a_pool())
    assert may_start(a_pool(Limits()))


@pytest.mark.parametrize("resource", [Resource.REQUESTS, Resource.INPUT, Resource.OUTPUT])
def test_each_bucket_can_hold_it_up(resource):
    """The instant is the one at which that bucket has it, and the reason is its name."""
    pool = a_pool()
    bucket = pool.estimators[resource].bucket
    bucket.correct(-bucket.rate, 0.0)
    at, why = pool.opens_at(a_job(cost=Cost(1.0, 10_000.0, 1_000.0)), 0.0)
    assert why == resource.value
    assert at == pytest.approx({Resource.REQUESTS: 1.1}.get(resource, 2.0))
    assert pool.earliest(a_job(cost=Cost(1.0, 10_000.0, 1_000.0))) == at


def test_tokens_together_are_one_bucket():
    """`tpm` counts input and output alike."""
    pool = a_pool(Limits(tpm=6_000))
    job = start(pool, cost=Cost(1.0, 1_000.0, 500.0))
    assert pool.estimators[Resource.TOKENS].bucket.level(0.0) == 4_500
    pool.settle(job, Cost(1.0, 1_000.0, 100.0), 0.0)
    assert pool.estimators[Resource.TOKENS].bucket.level(0.0) == 4_900


def test_the_latest_of_all_reasons_is_named():
    """What holds longest is what limits."""
    pool = a_pool()
    pool.estimators[Resource.REQUESTS].bucket.correct(-10.0, 0.0)
    pool.close(0.5, 0.0, gently=True)
    at, why = pool.opens_at(a_job(), 0.0)
    assert (round(at, 6), why) == (1.1, "requests")
    pool.close(30.0, 0.0, gently=True)
    at, why = pool.opens_at(a_job(), 0.0)
    assert at >= 30.0
    assert why in (HeldBy.RETRY_AFTER, HeldBy.RAMP_UP)


def test_a_closed_gate_holds_until_it_opens():
    """And never opens earlier for a later word."""
    pool = a_pool()
    pool.close(10.0, 0.0, gently=False)
    pool.close(7.0, 0.0, gently=False)
    assert pool.closed_until == 10.0
    assert pool.earliest(a_job()) == 10.0
    assert may_start(pool, 9.99) == (10.0, HeldBy.RETRY_AFTER)
    assert may_start(pool, 10.0) is True


def test_the_window_counts_what_is_in_flight():
    """When it is full only the end of something helps."""
    pool = a_pool(ceiling=3)
    jobs = [start(pool) for _ in range(3)]
    assert may_start(pool) == (NEVER, HeldBy.CONCURRENCY)
    pool.settle(jobs[0], NOTHING, 0.0)
    assert may_start(pool) is True


def test_before_the_first_answer_one_request_goes():
    """The wait for it is called starting up; the longer no refusal comes, the more may follow."""
    pool = a_pool(Limits(), opened=False)
    assert may_start(pool) is True
    start(pool)
    at, why = pool.opens_at(a_job(), 0.0)
    assert (at > 0.0, why) == (True, HeldBy.RAMP_UP)
    started = 1
    while (now := max(0.0, pool.opens_at(a_job(), 0.0)[0])) < 6.0:
        assert pool.opens_at(a_job(), now)[0] <= now
        start(pool, now)
        started += 1
    assert started >= 2


def test_a_window_below_one_more_still_lets_one_go():
    """With nothing in flight there is always room for one."""
    pool = a_pool()
    pool.concurrency.restart(1.0)
    assert may_start(pool, keep=0.9) is True


def test_the_breaker_holds_the_line_and_lets_one_probe_through():
    """Open: until the pause is over. Half-open: until the probe is back."""
    pool = a_pool()
    pool.breaker.on_failure(0.0, 0.0, 0.0, probe=False)
    assert may_start(pool) == (5.0, HeldBy.BREAKER)
    assert may_start(pool, 5.0) is True
    assert start(pool, 5.0).is_probe
    assert may_start(pool, 6.0) == (NEVER, HeldBy.BREAKER)


def test_less_urgent_work_leaves_some_of_everything():
    """With `keep` a share of each bucket and of the window stays free."""
    pool = a_pool(ceiling=20)
    for _ in range(19):
        start(pool)
    assert may_start(pool) is True
    assert may_start(pool, keep=0.05) == (NEVER, HeldBy.CONCURRENCY)
    for resource, rate in ((Resource.REQUESTS, 10.0), (Resource.INPUT, 10_000.0), (Resource.OUTPUT, 1_000.0)):
        pool = a_pool()
        pool.estimators[resource].bucket.correct(2.9 * rate, 0.0)  # 5 % of a bucket are three seconds
        assert may_start(pool) is True
        at, why = pool.opens_at(a_job(), 0.0, keep=0.05)
        assert at == pytest.approx(0.2, abs=0.01)
        assert why == resource.value


def test_one_margin_is_kept_for_all_answers_in_flight():
    """Three standard deviations of their sum, which grows with the root of their number."""
    pool = a_pool(ceiling=200)
    bucket = pool.estimators[Resource.OUTPUT].bucket
    cost = Cost(1.0, 0.0, 100.0, output_variance=400.0)
    for _ in range(99):
        start(pool, cost=cost)
    need = 100.0 + MARGIN * math.sqrt(100 * 400.0)
    bucket.correct(need, 0.0)
    assert may_start(pool, cost=cost) is True
    bucket.correct(need - 10.0, 0.0)
    assert may_start(pool, cost=cost) == (pytest.approx(ON_THE_WAY + 0.01), "output tokens")


def test_the_margin_never_takes_most_of_a_small_bucket():
    """However unsure, half of the bucket can be used."""
    pool = a_pool(Limits(otpm=1_000))
    pool.estimators[Resource.OUTPUT].bucket.correct(600.0, 0.0)
    assert may_start(pool, cost=Cost(1.0, 0.0, 100.0, output_variance=1e9)) is True


def test_an_attempt_that_was_free_gives_everything_back():
    """Taken and refunded, every bucket is as before."""
    pool = a_pool()
    before = pool.believed_levels(0.0)
    pool.settle(start(pool), NOTHING, 0.0)
    assert pool.believed_levels(0.0) == before
    assert pool.used.last_minute(0.0) == NOTHING


def test_an_attempt_of_unknown_cost_keeps_its_estimate():
    """Lost: it was sent, so it is taken to have cost what was expected."""
    pool = a_pool()
    job = start(pool)
    pool.settle(job, None, 0.0)
    assert pool.estimators[Resource.INPUT].bucket.level(0.0) == 599_000
    assert pool.used.last_minute(0.0)[:3] == job.cost[:3]


costs = st.builds(
    Cost, st.just(1.0), st.floats(0, 1e6), st.floats(0, 1e5), st.floats(0, 1e9), st.floats(0, 1e9)
)


@settings(max_examples=80, deadline=None)
@given(
    script=st.lists(
        st.tuples(st.floats(0, 30), costs, st.sampled_from(["free", "unknown", "known"]), st.integers(0, 5)),
        min_size=1,
        max_size=30,
    )
)
def test_whatever_flies_lands_without_a_trace(script):
    """After the last landing nothing is in flight or uncertain; no bucket ever overflows."""
    pool, now, flight = a_pool(), 0.0, []

    def land(how, cost):
        job = flight.pop(0)
        pool.settle(job, {"free": NOTHING, "unknown": None, "known": cost}[how], now)

    for gap, cost, how, landings in script:
        now += gap
        flight.append(start(pool, now, cost=cost))
        for _ in range(min(landings, len(flight))):
            land(how, cost)
        assert pool.in_flight == len(flight)
        assert min(pool.flight.reserved) >= 0.0
        for meter in pool.estimators.values():
            assert meter.bucket is None or meter.bucket.level(now) <= meter.bucket.capacity
    while flight:
        land("unknown", NOTHING)
    assert pool.in_flight == 0
    assert not any(pool.flight.reserved)
    output = pool.estimators[Resource.OUTPUT].bucket
    assert pool.believed_levels(now)[Resource.OUTPUT] == output.level(now)


def test_round_trips_are_averaged():
    """The last ones count most."""
    pool = a_pool()
    pool.note_round_trip(2.0)
    assert pool.round_trip == 2.0
    pool.note_round_trip(12.0)
    assert 2.0 < pool.round_trip < 4.0


def test_a_full_bucket_earns_nothing_before_the_request_has_arrived():
    """The server's is full until then; counting on a refill it never had ends an opening burst in 429s."""
    pool = a_pool()
    bucket = pool.estimators[Resource.REQUESTS].bucket
    for _ in range(50):
        start(pool, 5.0)
    assert bucket.level(5.0 + ON_THE_WAY) == 550
    start(pool, 6.0)
    assert bucket.level(7.0) == pytest.approx(549 + 10.0 * (2.0 - ON_THE_WAY))


def test_what_holds_the_line_is_added_up():
    """By reason, for as long as each lasted."""
    pool = a_pool()
    pool.note_held("requests", 10.0)
    pool.note_held("output tokens", 13.0)
    pool.note_held(None, 14.0)
    pool.note_held("requests", 20.0)
    pool.note_held(None, 21.5)
    assert pool.held_for == {"requests": 4.5, "output tokens": 1.0}
    assert pool.held_by is None


def test_the_repr_tells_the_state():
    """Name, line, flight and window."""
    pool = a_pool(ceiling=5)
    start(pool)
    assert repr(pool) == "<Pool haiku-5.5: 0 waiting, 1 in flight, <Window 5.0/5>>"
