"""What the scheduler does, one thing at a time."""

import math
from itertools import pairwise

import pytest
from tests.core.factories import HAIKU, OPUS, a_failure, a_shape, advice

from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.control.prompt_cache import PATIENCE
from claude_executor.core.control.retry import RetryPolicy
from claude_executor.core.control.spending import SpendingCap
from claude_executor.core.model import events as ev
from claude_executor.core.model.actions import Disposition, Refusal, Refuse, Start
from claude_executor.core.model.cost import NOTHING_USED, Resource, Usage
from claude_executor.core.model.failure import FailureKind
from claude_executor.core.model.headers import NO_HINTS
from claude_executor.core.model.job import Job, Phase
from claude_executor.core.model.limits import Limits
from claude_executor.core.model.request import RequestShape
from claude_executor.core.scheduling.executor_limits import CONNECTIONS_AT_ONCE
from claude_executor.core.scheduling.failure_decisions import LASTS
from claude_executor.core.scheduling.scheduler import MOST_POOLS, Scheduler
from claude_executor.core.scheduling.waiting import SHARE

PLENTY = Limits(rpm=1e6, itpm=1e9, otpm=1e9)
USAGE = Usage(1_000, 100)
SPENT_TO_OPEN = 2 * 1_100


def a_scheduler(limits=PLENTY, *, max_concurrency=100, opened=True, **options):
    """A scheduler at second 0; `opened` if its pools have answered before."""
    scheduler = Scheduler(limits, max_concurrency=max_concurrency, now=0.0, **options)
    if opened:
        for model in (HAIKU, OPUS):
            job = scheduler.submit(a_shape(model), 0.0)
            scheduler.poll(0.0)
            scheduler.on_response(job, USAGE, NO_HINTS, 0.0)
            scheduler._pool(job.pool, 0.0).slow_start.restart(0.0, factor=64.0)
        scheduler.poll(0.0)
    return scheduler


def submit(scheduler, now=0.0, model=HAIKU, **more):
    """A plain request comes."""
    return scheduler.submit(a_shape(model), now, **more)


def started(scheduler, now=0.0):
    """Who may start now."""
    return [action.job for action in scheduler.poll(now) if isinstance(action, Start)]


def refused(scheduler, now=0.0):
    """Who is turned away now, and why."""
    return [(a.job, a.refusal) for a in scheduler.poll(now) if isinstance(a, Refuse)]


def failed(scheduler, job, kind=FailureKind.SERVER, now=0.0, u=0.5, **more):
    """The attempt failed; what becomes of the job."""
    return scheduler.on_failure(job, a_failure(kind, **more), now, u)


# ---- starting


def test_a_request_starts_is_answered_and_is_over():
    """The ordinary life of a job."""
    scheduler = a_scheduler()
    job = submit(scheduler, 1.0)
    assert isinstance(job, Job)
    assert (job.phase, scheduler.idle) == (Phase.WAITING, False)
    assert scheduler.poll(1.0) == [Start(job)]
    assert (job.phase, job.attempts, job.sent_at, scheduler._executor_limits.running) == (
        Phase.RUNNING,
        1,
        1.0,
        1,
    )
    scheduler.on_response(job, USAGE, NO_HINTS, 3.0)
    assert (job.phase, scheduler.idle) == (Phase.OVER, True)
    assert scheduler.poll(3.0) == []
    assert scheduler.wake_at == math.inf


def test_where_no_limit_is_known_the_first_request_goes_alone():
    """What comes back says how fast the others may follow; other pools do not wait for it."""
    scheduler = a_scheduler(Limits(), opened=False)
    jobs = [submit(scheduler) for _ in range(5)]
    other = submit(scheduler, model=OPUS)
    assert set(map(id, started(scheduler))) == {id(jobs[0]), id(other)}
    assert started(scheduler, 0.02) == []
    scheduler.on_response(jobs[0], USAGE, NO_HINTS, 0.03)
    assert len(started(scheduler, 0.03)) >= 1


def test_where_limits_are_declared_a_pool_starts_at_their_rate():
    """Before anybody has answered: as many as can be sustained, not the whole bucket at once."""
    scheduler = a_scheduler(Limits(rpm=600), opened=False)
    for _ in range(100):
        submit(scheduler)
    count, now = 0, 0.0
    while now <= 5.0:
        count += len(started(scheduler, now))
        now = max(now + 1e-3, scheduler.wake_at)
    assert 25 <= count <= 65


def test_no_more_than_max_concurrency_are_in_flight_over_all_pools():
    """One ceiling for everything, and one more goes for each that ends."""
    scheduler = a_scheduler(max_concurrency=3)
    for model in (HAIKU, OPUS) * 5:
        submit(scheduler, model=model)
    flight = started(scheduler)
    assert len(flight) == 3
    assert started(scheduler, 5.0) == []
    assert scheduler.wake_at == math.inf  # only the end of something helps
    scheduler.on_response(flight[0], USAGE, NO_HINTS, 6.0)
    assert len(started(scheduler, 6.0)) == 1


def test_pools_that_share_the_ceiling_take_turns():
    """A saturating pool leaves room for the other."""
    scheduler = a_scheduler(max_concurrency=1)
    for model in [HAIKU] * 20 + [OPUS] * 20:
        submit(scheduler, model=model)
    order = []
    for second in range(20):
        (job,) = started(scheduler, float(second))
        order.append(job.shape.model)
        scheduler.on_response(job, USAGE, NO_HINTS, float(second))
    assert 5 <= order.count(OPUS) <= 15


def test_requests_start_as_the_limit_allows_and_wake_at_says_when():
    """Sixty a minute, one at a time: after the burst, one each second."""
    scheduler = a_scheduler(Limits(rpm=60, burst=2))
    for _ in range(6):
        submit(scheduler)
    now, times = 0.0, []
    while len(times) < 6:
        times += [now] * len(started(scheduler, now))
        assert scheduler.wake_at > now
        now = min(scheduler.wake_at, now + 100.0)
    gaps = [b - a for a, b in pairwise(times[2:])]
    assert gaps == pytest.approx([1.0] * len(gaps))


def test_a_crowd_does_not_open_all_its_connections_at_once():
    """Beyond the most ever in flight, starts are spread over time whatever the limits allow."""
    scheduler = a_scheduler(max_concurrency=1_000)
    for _ in range(600):
        submit(scheduler)
    assert len(started(scheduler)) <= CONNECTIONS_AT_ONCE
    assert 0.0 < scheduler.wake_at < 0.1
    assert len(started(scheduler, 1.0)) <= CONNECTIONS_AT_ONCE


@pytest.mark.parametrize("wrong", [{"max_concurrency": 0}, {"max_concurrency": 1, "max_queued": -1}])
def test_bounds_that_make_no_sense_are_refused(wrong):
    """At least one in flight; nobody in the queue is allowed, fewer is not."""
    with pytest.raises(ValueError, match="must be at least"):
        Scheduler(PLENTY, now=0.0, **wrong)


# ---- refusing


def test_a_full_queue_refuses_and_has_room_again():
    """Those in flight do not count, those set aside to try again do."""
    scheduler = a_scheduler(max_concurrency=1, max_queued=2)
    flying = submit(scheduler)
    scheduler.poll(0.0)
    waiting = [submit(scheduler) for _ in range(2)]
    answer = submit(scheduler)
    assert isinstance(answer, Refuse)
    assert (answer.refusal, answer.job.phase) == (Refusal.QUEUE_FULL, Phase.OVER)
    scheduler.cancel(waiting[0], 0.0)
    assert isinstance(submit(scheduler), Job)
    failed(scheduler, flying)
    assert isinstance(submit(scheduler), Refuse)


def test_a_deadline_that_cannot_be_met_is_refused_at_once():
    """In the past, or before the limits could allow it."""
    scheduler = a_scheduler(Limits(rpm=60, burst=1))
    assert submit(scheduler, 5.0, deadline_at=5.0).refusal is Refusal.DEADLINE
    assert submit(scheduler, 5.0, deadline_at=4.0).refusal is Refusal.DEADLINE
    submit(scheduler, 5.0)
    assert len(started(scheduler, 5.0)) == 1
    assert submit(scheduler, 5.0, deadline_at=5.5).refusal is Refusal.DEADLINE
    assert isinstance(submit(scheduler, 5.0, deadline_at=6.5), Job)


def test_who_is_still_waiting_at_the_deadline_is_refused():
    """At that instant, which `wake_at` names."""
    scheduler = a_scheduler(max_concurrency=1)
    submit(scheduler)
    late = submit(scheduler, deadline_at=7.0)
    scheduler.poll(0.0)
    assert scheduler.wake_at == 7.0
    assert refused(scheduler, 6.99) == []
    assert refused(scheduler, 7.0) == [(late, Refusal.DEADLINE)]
    assert late.phase is Phase.OVER


def test_a_job_that_waits_to_try_again_can_be_late_too():
    """It is told how its last attempt failed."""
    scheduler = a_scheduler(retry=RetryPolicy(ratio=0.0))
    for _ in range(20):  # spend the retry budget
        other = submit(scheduler)
        scheduler.poll(0.0)
        scheduler.on_failure(other, a_failure(FailureKind.CONFLICT), 0.0, 0.0)
        scheduler.poll(0.0)
    job = submit(scheduler, deadline_at=2.5)
    scheduler.poll(0.0)
    assert failed(scheduler, job, FailureKind.CONFLICT, u=0.0) is Disposition.AGAIN
    (action,) = [a for a in scheduler.poll(2.5) if isinstance(a, Refuse)]
    assert (action.job, action.refusal, action.cause) == (job, Refusal.DEADLINE, job.last_failure)


def test_in_flight_a_deadline_does_not_matter():
    """An attempt under way is the shell's; an answer after the deadline is an answer."""
    scheduler = a_scheduler()
    job = submit(scheduler, deadline_at=5.0)
    scheduler.poll(0.0)
    assert scheduler.poll(6.0) == []
    scheduler.on_response(job, USAGE, NO_HINTS, 7.0)
    assert scheduler.event_buffer.counters.answered == 3


def test_a_bad_key_stops_everything_and_a_missing_model_only_itself():
    """What would fail the same way is not sent, and the reason is the answer that said so."""
    scheduler = a_scheduler()
    jobs = [submit(scheduler, model=model) for model in ("claude-none", OPUS)]
    scheduler.poll(0.0)
    assert failed(scheduler, jobs[0], FailureKind.NOT_FOUND, status=404) is Disposition.FAILED
    assert submit(scheduler, model="claude-none").refusal is Refusal.STOPPED
    assert isinstance(submit(scheduler, model=OPUS), Job)
    assert failed(scheduler, jobs[1], FailureKind.AUTHENTICATION, status=401) is Disposition.FAILED
    refusal = submit(scheduler, model=OPUS)
    assert (refusal.refusal, refusal.cause) == (Refusal.STOPPED, jobs[1].last_failure)
    assert isinstance(submit(scheduler, 1.0 + LASTS), Job)  # after a while one may see


def test_one_file_that_is_gone_stops_nobody_who_asks_the_same_model():
    """A model that has answered is there: what was not found was something else."""
    scheduler = a_scheduler()
    job = submit(scheduler)
    scheduler.poll(0.0)
    assert failed(scheduler, job, FailureKind.NOT_FOUND, status=404) is Disposition.FAILED
    assert isinstance(submit(scheduler), Job)


def test_without_stops_each_meets_it_for_itself():
    """What one client of a service may not do, others may; and an API that is not there yet is waited for."""
    scheduler = a_scheduler(opened=False, retry=RetryPolicy(fail_fast=False))
    now = 0.0
    for kind in (FailureKind.NOT_FOUND, FailureKind.PERMISSION, FailureKind.AUTHENTICATION):
        job = submit(scheduler, now)
        while started(scheduler, now) != [job]:
            now = scheduler.wake_at
        assert failed(scheduler, job, kind, now, status=403) is Disposition.FAILED
    assert isinstance(submit(scheduler, now), Job)
    new = a_scheduler(opened=False, retry=RetryPolicy(fail_fast=False))
    job = submit(new)
    now = 0.0
    for _ in range(5):
        while started(new, now) != [job]:
            now = new.wake_at
        assert failed(new, job, FailureKind.UNREACHABLE, now, status=None) is Disposition.AGAIN


def test_models_that_nobody_has_heard_of_are_forgotten():
    """Whatever clients ask for as a model; one that answers, is asked for now or was told to wait stays."""
    scheduler = a_scheduler(retry=RetryPolicy(fail_fast=False))
    waiting = submit(scheduler, model="claude-wanted")
    scheduler.poll(0.0)
    now = 0.0
    for number in range(5 * MOST_POOLS):
        job = submit(scheduler, now, model=f"claude-{number}")
        while not job.running:
            scheduler.poll(now)
            now = max(now + 0.001, min(scheduler.wake_at, now + 1.0))
        failed(scheduler, job, FailureKind.NOT_FOUND, now, status=404)
    assert len(scheduler.snapshot(0.0).pools) <= MOST_POOLS + 1
    assert {"haiku-5.5", waiting.pool} <= scheduler.snapshot(0.0).pools.keys()


def test_one_large_row_that_is_refused_holds_up_nobody():
    """It would occupy the limit for minutes; when the API will not have it that time is not waited for."""
    scheduler = a_scheduler(Limits(rpm=1_000, itpm=2_000_000, otpm=400_000), opened=False)
    first = submit(scheduler)
    scheduler.poll(0.0)
    scheduler.on_response(first, USAGE, NO_HINTS, 1.0)
    large = scheduler.submit(a_shape(text_bytes=40_000_000), 1.0)
    now = 1.0
    while started(scheduler, now) != [large]:
        now = scheduler.wake_at
    small = submit(scheduler, now)
    refused_at = now + 1.0
    assert failed(scheduler, large, FailureKind.TOO_LARGE, refused_at, status=413) is Disposition.FAILED
    now = refused_at
    while started(scheduler, now) != [small]:
        now = scheduler.wake_at
    assert now < refused_at + 2.0


def test_a_stop_turns_away_those_in_line_and_those_set_aside():
    """All that would fail the same way, at the next poll."""
    scheduler = a_scheduler(max_concurrency=2)
    one, two = submit(scheduler), submit(scheduler)
    scheduler.poll(0.0)
    in_line = submit(scheduler)
    assert failed(scheduler, one, FailureKind.OVERLOADED, status=529, retry_after=50.0) is Disposition.AGAIN
    failed(scheduler, two, FailureKind.BILLING, status=402)
    assert sorted(job.number for job, _ in refused(scheduler)) == [one.number, in_line.number]
    assert scheduler.idle


def test_a_stop_of_one_model_hurries_no_other():
    """A job told to wait half a minute waits it, whatever happens to other models meanwhile."""
    scheduler = a_scheduler()
    patient, doomed = submit(scheduler), submit(scheduler, model=OPUS)
    scheduler.poll(0.0)
    failed(scheduler, patient, FailureKind.OVERLOADED, status=529, retry_after=30.0, u=0.0)
    failed(scheduler, doomed, FailureKind.NOT_FOUND, status=404)
    assert scheduler.poll(1.0) == []
    assert scheduler.poll(29.9) == []
    assert started(scheduler, 30.0) == [patient]


def test_one_late_request_to_a_silent_host_stops_nobody():
    """That an attempt was too late to repeat does not prove that the address is wrong; three in a row do."""
    scheduler = a_scheduler(opened=False)
    job = submit(scheduler, deadline_at=0.1)
    scheduler.poll(0.0)
    assert failed(scheduler, job, FailureKind.UNREACHABLE, status=None, u=0.9) is Disposition.TOO_LATE
    job = submit(scheduler, 1.0)
    assert isinstance(job, Job)
    now, verdict = 1.0, Disposition.AGAIN
    while verdict is Disposition.AGAIN:
        if job in started(scheduler, now):
            verdict = failed(scheduler, job, FailureKind.UNREACHABLE, now, status=None)
            scheduler.poll(now)
        now = min(scheduler.wake_at, now + 10.0)
    assert (verdict, job.attempts) == (Disposition.FAILED, 3)
    assert submit(scheduler, now).refusal is Refusal.STOPPED


# ---- failing


def test_a_failed_request_tries_again_when_it_is_due_and_keeps_its_place():
    """Parked for the delay and then before those of its kind."""
    scheduler = a_scheduler(max_concurrency=1)
    job, other = submit(scheduler), submit(scheduler)
    scheduler.poll(0.0)
    assert failed(scheduler, job, u=0.5) is Disposition.AGAIN
    assert job.phase is Phase.PARKED
    assert started(scheduler, 0.0) == [other]
    assert scheduler.wake_at == 0.5
    third = submit(scheduler)
    scheduler.poll(0.5)
    scheduler.on_response(other, USAGE, NO_HINTS, 1.0)
    assert started(scheduler, 1.0) == [job]
    scheduler.on_response(job, USAGE, NO_HINTS, 1.0)
    assert started(scheduler, 1.0) == [third]
    assert (job.attempts, scheduler.event_buffer.counters.retries) == (2, 1)


def test_while_it_waits_to_try_again_a_request_holds_nothing():
    """Its slot is free; a refusal gives its tokens back."""
    scheduler = a_scheduler(Limits(rpm=600, itpm=600_000), max_concurrency=1)
    pool = scheduler._pools["haiku-5.5"]
    level = pool.estimators[Resource.INPUT].bucket.level(0.0)
    job = submit(scheduler)
    scheduler.poll(0.0)
    failed(scheduler, job, FailureKind.OVERLOADED, status=529)
    assert (scheduler._executor_limits.running, pool.in_flight, any(pool.flight.reserved)) == (0, 0, False)
    assert pool.estimators[Resource.INPUT].bucket.level(0.0) == level


def test_a_429_sends_the_job_back_and_closes_its_pool_only():
    """It counts as no attempt, everybody in the pool waits as told, other pools do not."""
    scheduler = a_scheduler()
    jobs = [submit(scheduler) for _ in range(3)]
    scheduler.poll(0.0)
    for job in jobs:
        assert (
            failed(scheduler, job, FailureKind.QUOTA, status=429, retry_after=20.0, u=0.1)
            is Disposition.AGAIN
        )
        assert (job.phase, job.counted_attempts) == (Phase.WAITING, 0)
    newcomer = submit(scheduler, model=OPUS)
    assert started(scheduler, 1.0) == [newcomer]
    assert scheduler.wake_at >= 20.0
    assert started(scheduler, 19.99) == []
    fresh, now, back = submit(scheduler, 19.99), 20.0, []
    while len(back) < 4:
        now = max(now, scheduler.wake_at)
        back += started(scheduler, now)
    assert back[3] is fresh


def test_too_large_is_said_the_second_time():
    """A request that a full bucket refused twice will never fit, and stops nobody else."""
    scheduler = a_scheduler()
    job = scheduler.submit(a_shape(text_bytes=3_000_000), 0.0)
    scheduler.poll(0.0)
    quotes = {"requests": (50, 49), "input": (50_000, 50_000), "output": (8_000, 8_000)}
    told = {"status": 429, "resource": Resource.INPUT, "retry_after": 60.0, **quotes}
    assert failed(scheduler, job, FailureKind.QUOTA, **told) is Disposition.AGAIN
    assert started(scheduler, 10_000.0) == [job]
    assert failed(scheduler, job, FailureKind.QUOTA, 10_000.0, **told) is Disposition.TOO_LARGE
    assert job.phase is Phase.OVER
    assert isinstance(submit(scheduler), Job)


def test_retries_wait_for_their_budget():
    """With nothing earned, no more than the floor at once; the others follow as the trickle allows."""
    scheduler = a_scheduler(retry=RetryPolicy(ratio=0.0))
    jobs = [submit(scheduler) for _ in range(30)]
    scheduler.poll(0.0)
    for job in jobs:
        assert failed(scheduler, job, FailureKind.CONFLICT, status=409, u=0.0) is Disposition.AGAIN
    assert len(started(scheduler, 0.0)) == 10
    assert 0.0 < scheduler.wake_at <= 1.0
    assert len(started(scheduler, 5.0)) == 5


def test_an_outage_is_waited_out():
    """The breaker opens, single probes go, and everything is answered in the end; nobody fails."""
    scheduler = a_scheduler(max_concurrency=20, breaker=BreakerPolicy(streak=5, pause=1.0))
    jobs = [submit(scheduler) for _ in range(40)]
    now, flights = 0.0, []
    while now < 300.0:
        flight = started(scheduler, now)
        flights.append(len(flight))
        for job in flight:
            assert failed(scheduler, job, FailureKind.SERVER, now) is Disposition.AGAIN
        scheduler.poll(now)
        now = scheduler.wake_at
    assert max(flights[5:]) == 1
    assert sum(flights) < 100
    assert scheduler.snapshot(now).breaker in ("open", "half-open")
    while not scheduler.idle:
        for job in started(scheduler, now):
            scheduler.on_response(job, USAGE, NO_HINTS, now)
        scheduler.poll(now)
        now = min(scheduler.wake_at, now + 100.0)
    assert all(job.phase is Phase.OVER for job in jobs)
    assert scheduler.snapshot(now).breaker == "closed"


@pytest.mark.parametrize("end", ["cancelled", "on_abandoned", "quota", "invalid", "conflict"])
def test_a_probe_that_says_nothing_of_the_service_makes_room_for_the_next(end):
    """Whatever becomes of the one request let through, the pool is not stuck."""
    scheduler = a_scheduler(breaker=BreakerPolicy(streak=1, pause=1.0))
    first = submit(scheduler)
    scheduler.poll(0.0)
    failed(scheduler, first, FailureKind.SERVER, u=0.0)
    probe = next(iter(started(scheduler, 1.0)), None) or started(scheduler, 2.0)[0]
    submit(scheduler, 2.0)
    assert started(scheduler, 2.0) == []
    assert probe.is_probe
    if end == "cancelled":
        scheduler.cancel(probe, 2.0)
    elif end == "on_abandoned":
        scheduler.on_abandoned(probe, 2.0)
    else:
        kind = {"quota": FailureKind.QUOTA, "invalid": FailureKind.INVALID, "conflict": FailureKind.CONFLICT}[
            end
        ]
        failed(scheduler, probe, kind, 2.0, retry_after=1.0, u=0.0)
    assert len(started(scheduler, 4.0)) == 1


# ---- settling once


@pytest.mark.parametrize("first", ["on_response", "on_failure", "on_abandoned", "cancel"])
@pytest.mark.parametrize("second", ["on_response", "on_failure", "on_abandoned"])
def test_nothing_is_settled_twice(first, second):
    """The second time is a mistake of the shell's, and changes nothing."""

    def settle(how):
        if how == "on_response":
            scheduler.on_response(job, USAGE, NO_HINTS, 1.0)
        elif how == "on_failure":
            failed(scheduler, job, FailureKind.INVALID, 1.0, status=400)
        else:
            getattr(scheduler, how)(job, 1.0)

    scheduler = a_scheduler()
    job = submit(scheduler)
    scheduler.poll(0.0)
    settle(first)
    before = scheduler.snapshot(1.0)
    with pytest.raises(RuntimeError, match=f"request {job.number} has no attempt under way, it is over"):
        settle(second)
    assert scheduler.snapshot(1.0) == before
    scheduler.cancel(job, 1.0)  # but one may always lose interest
    assert scheduler.snapshot(1.0) == before


def test_what_waits_cannot_be_settled():
    """Nothing was sent."""
    scheduler = a_scheduler(max_concurrency=1)
    submit(scheduler)
    job = submit(scheduler)
    scheduler.poll(0.0)
    with pytest.raises(RuntimeError, match="it is waiting"):
        scheduler.on_response(job, USAGE, NO_HINTS, 1.0)


def test_cancelling_in_the_moment_of_its_turn_gives_everything_back():
    """Nothing was sent, so nothing was spent; when it was sent it is lost, and was."""
    for how, spent in (("cancel", 0), ("on_abandoned", 1)):
        scheduler = a_scheduler(Limits(rpm=600))
        bucket = scheduler._pools["haiku-5.5"].estimators[Resource.REQUESTS].bucket
        level = bucket.level(0.0)
        job = submit(scheduler)
        scheduler.poll(0.0)
        getattr(scheduler, how)(job, 0.0)
        assert level - bucket.level(0.0) == spent
        assert scheduler.idle


# ---- priorities


def test_urgent_work_goes_first():
    """Whoever came first."""
    scheduler = a_scheduler(max_concurrency=1)
    flying = submit(scheduler)
    assert started(scheduler) == [flying]
    bulk, urgent = submit(scheduler), submit(scheduler, priority=10)
    for job in (urgent, bulk):
        scheduler.on_response(flying, USAGE, NO_HINTS, 1.0)
        (flying,) = started(scheduler, 1.0)
        assert flying is job


@pytest.mark.parametrize("resource", ["concurrency", "requests"])
def test_bulk_leaves_the_last_twentieth_to_urgent_work(resource):
    """While urgent requests have come lately; alone it may use everything."""
    limits = Limits(rpm=6_000, burst=1) if resource == "requests" else PLENTY  # a bucket of a hundred
    slots = 100 if resource == "concurrency" else 1_000
    for urgent_about in (False, True):
        scheduler = a_scheduler(limits, max_concurrency=slots)
        now = 10.0
        if urgent_about:
            job = submit(scheduler, now, priority=1)
            scheduler.poll(now)
            scheduler.on_response(job, USAGE, NO_HINTS, now)
            scheduler._pools["haiku-5.5"].estimators[Resource.REQUESTS].bucket.settle(1.0, now)
        scheduler._executor_limits.gates[-1]._open = 300  # connections enough are open
        for _ in range(200):
            submit(scheduler, now)
        flight = len(started(scheduler, now))
        assert flight == (100 - 100 * SHARE if urgent_about else 100)
        submit(scheduler, now, priority=1)
        assert len(started(scheduler, now)) == urgent_about


def test_when_nothing_urgent_has_come_for_a_while_bulk_has_it_all():
    """The reserve is for those who are about."""
    scheduler = a_scheduler(max_concurrency=20)
    job = submit(scheduler, priority=1)
    scheduler.poll(0.0)
    scheduler.on_response(job, USAGE, NO_HINTS, 0.0)
    for _ in range(50):
        submit(scheduler)
    assert len(started(scheduler, 1.0)) == 19
    assert len(started(scheduler, 100.0)) == 1


# ---- changing and closing


def test_limits_can_be_changed_while_it_runs():
    """All of them or by field, for pools that exist and pools to come; and how many may fly."""
    scheduler = a_scheduler(Limits(rpm=600), max_concurrency=5)
    scheduler.reconfigure(0.0, changes={"rpm": 60.0, "itpm": 6_000.0})
    scheduler.reconfigure(0.0, max_concurrency=7)
    for pool in (scheduler._pools["haiku-5.5"], scheduler._pool("new", 0.0)):
        limits = {r: m.limit for r, m in pool.estimators.items() if m.limit is not None}
        assert limits == {Resource.REQUESTS: 60.0, Resource.INPUT: 6_000.0}
    scheduler.reconfigure(0.0, limits=Limits(otpm=5.0))
    limits = {r: m.limit for r, m in scheduler._pool("new", 0.0).estimators.items() if m.limit is not None}
    assert limits == {Resource.OUTPUT: 5.0}


def test_a_wrong_change_changes_nothing():
    """Not even that part of it which was right."""
    scheduler = a_scheduler(Limits(rpm=600), max_concurrency=5)
    for wrong in (
        {"changes": {"rpm": -1.0}, "max_concurrency": 9},
        {"changes": {"rpm": 1.0}, "max_concurrency": 0},
    ):
        with pytest.raises(ValueError, match="must be"):
            scheduler.reconfigure(0.0, **wrong)
    assert scheduler._pools["haiku-5.5"].estimators[Resource.REQUESTS].limit == 600
    assert scheduler._executor_limits.max_running == 5


def test_more_slots_are_used_at_once_and_fewer_as_they_become_free():
    """Nothing in flight is cut off."""
    scheduler = a_scheduler(max_concurrency=2)
    for _ in range(10):
        submit(scheduler)
    flight = started(scheduler)
    scheduler.reconfigure(0.0, max_concurrency=4)
    flight += started(scheduler)
    assert len(flight) == 4
    scheduler.reconfigure(0.0, max_concurrency=1)
    for job in flight[:3]:
        scheduler.on_response(job, USAGE, NO_HINTS, 0.0)
        assert started(scheduler) == []
    scheduler.on_response(flight[3], USAGE, NO_HINTS, 0.0)
    assert len(started(scheduler)) == 1


def test_a_closed_door_lets_those_inside_finish():
    """New ones are refused; what waits goes on, retries included."""
    scheduler = a_scheduler(max_concurrency=1)
    job, waiting = submit(scheduler), submit(scheduler)
    scheduler.poll(0.0)
    assert scheduler.close(0.0, refuse_waiting=False) == []
    assert submit(scheduler).refusal is Refusal.CLOSED
    assert failed(scheduler, job) is Disposition.AGAIN
    assert started(scheduler) == [waiting]


def test_tearing_down_refuses_all_that_waits_and_retries_nothing():
    """In line or set aside, each with what it knows of its last attempt."""
    scheduler = a_scheduler(max_concurrency=2)
    parked, flying = submit(scheduler), submit(scheduler)
    scheduler.poll(0.0)
    failed(scheduler, parked)
    in_line = submit(scheduler)
    actions = scheduler.close(0.0, refuse_waiting=True)
    assert sorted(actions, key=lambda action: action.job.number) == [
        Refuse(parked, Refusal.CLOSED, parked.last_failure),
        Refuse(in_line, Refusal.CLOSED, None),
    ]
    assert failed(scheduler, flying) is Disposition.FAILED
    assert scheduler.idle
    assert scheduler.poll(100.0) == []


# ---- learning and telling


def test_what_an_answer_used_is_settled_and_learned():
    """The level is what the API counted, and the next estimate is nearer to it."""
    scheduler = a_scheduler(Limits(itpm=600_000), opened=False)
    job = submit(scheduler)
    scheduler.poll(0.0)
    before = job.cost.input_tokens
    scheduler.on_response(job, Usage(5_000, 10, 100, 70_000), NO_HINTS, 0.0)
    assert scheduler._pools["haiku-5.5"].estimators[Resource.INPUT].bucket.level(0.0) == 600_000 - 5_100
    job = submit(scheduler)
    scheduler.poll(5.0)
    assert job.cost.input_tokens > before
    level = scheduler._pools["haiku-5.5"].estimators[Resource.INPUT].bucket.level(5.0)
    scheduler.on_response(job, None, NO_HINTS, 5.0)  # not told: the estimate stands
    assert scheduler._pools["haiku-5.5"].estimators[Resource.INPUT].bucket.level(5.0) == level


def test_the_prompt_cache_is_free_but_for_the_model_that_counts_it():
    """Haiku 3.5 is charged for reads."""
    model = "claude-3-5-haiku-20241022"
    scheduler = a_scheduler(Limits(itpm=600_000), opened=False)
    job = submit(scheduler, model=model)
    scheduler.poll(0.0)
    scheduler.on_response(job, Usage(5_000, 10, 0, 70_000), NO_HINTS, 0.0)
    assert scheduler._pools["haiku-3.5"].estimators[Resource.INPUT].bucket.level(0.0) == 600_000 - 75_000


def test_a_failure_that_says_what_it_used_is_charged_that():
    """A stream that broke off after its first tokens."""
    scheduler = a_scheduler(Limits(otpm=60_000), opened=False)
    job = submit(scheduler)
    scheduler.poll(0.0)
    failure = a_failure(FailureKind.DROPPED, status=200)
    scheduler.on_failure(job, type(failure)(FailureKind.DROPPED, usage=Usage(10, 33)), 0.0, 0.5)
    assert scheduler._pools["haiku-5.5"].estimators[Resource.OUTPUT].bucket.level(0.0) == 60_000 - 33


def test_whoever_listens_hears_of_everything():
    """One event for each thing that happens, in order; nothing is kept while nobody listens."""
    scheduler = a_scheduler(Limits(rpm=600), breaker=BreakerPolicy(streak=2, pause=1.0), max_queued=5)
    assert scheduler.event_buffer.take() == []
    scheduler.event_buffer.listening = True
    one, two, three = (submit(scheduler, tenant="t") for _ in range(3))
    scheduler.poll(1.0)
    scheduler.on_response(one, USAGE, advice(requests=(300, 200)), 2.0)
    failed(scheduler, two, FailureKind.SERVER, 3.0)
    failed(scheduler, three, FailureKind.SERVER, 3.0)
    four = submit(scheduler, 4.0, deadline_at=3.0)
    assert isinstance(four, Refuse)
    found = scheduler.event_buffer.take()
    assert [type(event).__name__ for event in found] == [
        "RequestSubmitted", "RequestSubmitted", "RequestSubmitted",
        "AttemptStarted", "AttemptStarted", "AttemptStarted", "LimitLearned", "RequestAnswered",
        "AttemptFailed", "BreakerChanged", "AttemptFailed", "RequestSubmitted", "RequestRefused",
    ]  # fmt: skip
    learned = next(event for event in found if isinstance(event, ev.LimitLearned))
    assert (learned.resource, learned.limit, learned.source) == ("requests", 300, "response headers")
    answered = next(event for event in found if isinstance(event, ev.RequestAnswered))
    assert (answered.number, answered.tenant, answered.queue_time, answered.duration) == (
        one.number,
        "t",
        1.0,
        1.0,
    )
    retried = [event.retry_in for event in found if isinstance(event, ev.AttemptFailed)]
    assert all(seconds is not None for seconds in retried)
    assert scheduler.event_buffer.take() == []


def test_a_request_that_is_given_up_is_an_event():
    """In line it has taken nothing; in flight it may have."""
    scheduler = a_scheduler(Limits(rpm=600))
    scheduler.event_buffer.listening = True
    waiting, running = submit(scheduler), submit(scheduler)
    scheduler.cancel(waiting, 1.0)
    scheduler.poll(2.0)
    scheduler.on_abandoned(running, 3.0, USAGE)
    found = [event for event in scheduler.event_buffer.take() if isinstance(event, ev.RequestCancelled)]
    assert [(event.number, event.attempts, event.usage) for event in found] == [
        (waiting.number, 0, NOTHING_USED),
        (running.number, 1, USAGE),
    ]
    assert found[1].submitted_at == running.submitted_at


def test_events_of_refusals_and_stops():
    """A 429 closes a pool, a bad key stops the run, a probe closes the breaker again."""
    scheduler = a_scheduler(breaker=BreakerPolicy(streak=1, pause=1.0))
    scheduler.event_buffer.listening = True
    job = submit(scheduler)
    scheduler.poll(0.0)
    failed(scheduler, job, FailureKind.QUOTA, status=429, retry_after=5.0, u=0.0)
    closed = next(event for event in scheduler.event_buffer.take() if isinstance(event, ev.PoolClosed))
    assert (closed.pool, closed.until) == ("haiku-5.5", 5.0)
    (job,) = started(scheduler, 20.0)
    failed(scheduler, job, FailureKind.SERVER, 20.0, u=0.0)
    now = 22.0
    while not (flight := started(scheduler, now)):
        now = scheduler.wake_at
    scheduler.on_response(flight[0], USAGE, NO_HINTS, now)
    states = [(e.state, e.until) for e in scheduler.event_buffer.take() if isinstance(e, ev.BreakerChanged)]
    assert states == [("open", 21.0), ("closed", None)]
    job = submit(scheduler, 50.0)
    scheduler.poll(60.0)
    failed(scheduler, job, FailureKind.AUTHENTICATION, 60.0, status=401)
    stopped = next(event for event in scheduler.event_buffer.take() if isinstance(event, ev.RequestsStopped))
    assert (stopped.kind, stopped.until) == (FailureKind.AUTHENTICATION, 60.0 + LASTS)


def test_a_snapshot_tells_the_state():
    """Counts, pools, levels, and what holds the line up."""
    scheduler = a_scheduler(Limits(rpm=60, burst=2))
    for _ in range(4):
        submit(scheduler)
    jobs = started(scheduler)
    parked = jobs[0]
    failed(scheduler, parked, FailureKind.GARBLED, status=200)
    scheduler.poll(0.0)
    snapshot = scheduler.snapshot(0.5)
    assert snapshot.running == len(jobs) - 1
    assert snapshot.queued + snapshot.waiting_to_retry + snapshot.running == 4
    assert (snapshot.answered, snapshot.failed, snapshot.retries) == (2, 0, 0)
    pool = snapshot.pools["haiku-5.5"]
    assert pool.binding == pool.held_by == "requests"
    assert pool.held_for["requests"] == 0.5
    requests = pool.resources["requests"]
    assert (requests.limit, requests.source, requests.capacity) == (60, "declared", 2)
    assert set(pool.resources) == {"requests"}
    assert snapshot.breaker == "closed"


# ---- prompts that begin alike


def prefixed(scheduler, now=0.0, **more):
    """A job with a prefix to be cached."""
    shape = RequestShape(HAIKU, 500, 40_050, 14, b"p", 40_000)
    job = scheduler.submit(shape, now, **more)
    assert isinstance(job, Job)
    return job


def test_one_request_writes_the_cache_and_the_others_read_it():
    """They wait aside, hold up nobody, and are costed as what is left of them."""
    scheduler = a_scheduler()
    jobs, plain = [prefixed(scheduler) for _ in range(5)], submit(scheduler)
    scheduler.poll(0.0)
    scheduler.poll(1.0)
    assert [job.running for job in [*jobs, plain]] == [True, False, False, False, False, True]
    assert (scheduler.snapshot(1.0).queued, scheduler.snapshot(1.0).waiting_to_retry) == (4, 0)
    written = Usage(input_tokens=20, output_tokens=5, cache_creation_tokens=10_000)
    scheduler.on_response(jobs[0], written, NO_HINTS, 2.0)
    scheduler.poll(2.0)
    scheduler.poll(4.0)
    assert all(job.running for job in jobs[1:])
    assert jobs[1].cost.input_tokens < 100 < 1_000 < jobs[0].cost.input_tokens


def test_followers_do_not_wait_for_ever():
    """The one that went ahead may take very long."""
    scheduler = a_scheduler()
    jobs = [prefixed(scheduler) for _ in range(3)]
    scheduler.poll(0.0)
    scheduler.poll(1.0)
    assert [job.running for job in jobs] == [True, False, False]
    assert scheduler.wake_at <= 1.0 + PATIENCE
    scheduler.poll(1.0 + PATIENCE)
    assert jobs[1].running


@pytest.mark.parametrize("how", ["on_failure", "on_abandoned"])
def test_when_the_first_is_lost_the_next_goes_ahead(how):
    """Without it nobody would."""
    scheduler = a_scheduler()
    jobs = [prefixed(scheduler) for _ in range(3)]
    scheduler.poll(0.0)
    scheduler.poll(1.0)
    if how == "on_abandoned":
        scheduler.on_abandoned(jobs[0], 2.0)
    else:
        scheduler.on_failure(jobs[0], a_failure(FailureKind.INVALID, status=400), 2.0, 0.5)
    scheduler.poll(2.0)
    scheduler.poll(3.0)
    assert [job.running for job in jobs[1:]] == [True, False]


def test_a_follower_can_be_cancelled():
    """It waits like any other."""
    scheduler = a_scheduler()
    first, second = prefixed(scheduler), prefixed(scheduler)
    scheduler.poll(0.0)
    scheduler.poll(1.0)
    scheduler.cancel(second, 2.0)
    scheduler.on_abandoned(first, 10.0)
    assert scheduler.poll(10.0) == []
    assert scheduler.idle


def test_the_end_of_a_leader_does_not_cut_the_wait_of_those_who_were_refused():
    """A job that was told to wait shares its prefix with many, and waits as it was told."""
    scheduler = a_scheduler()
    told = prefixed(scheduler)
    scheduler.poll(0.0)
    failed(scheduler, told, FailureKind.OVERLOADED, 1.0, status=529, retry_after=30.0)
    leader = prefixed(scheduler, 2.0)
    scheduler.poll(2.0)
    assert leader.running
    scheduler.on_response(leader, Usage(20, 5, cache_creation_tokens=10_000), NO_HINTS, 3.0)
    scheduler.poll(3.0)
    scheduler.poll(20.0)
    assert not told.running
    scheduler.poll(60.0)
    assert told.running


def test_a_probe_whose_answer_streams_for_an_hour_lets_the_others_go():
    """Its first event has told what it was sent to find out."""
    scheduler = a_scheduler(breaker=BreakerPolicy(streak=1, pause=1.0))
    job = submit(scheduler)
    scheduler.poll(0.0)
    failed(scheduler, job, FailureKind.OVERLOADED, 1.0, status=529)
    others = [submit(scheduler, 1.0) for _ in range(3)]
    for second in range(2, 60):
        scheduler.poll(float(second))
    probe = next(j for j in [job, *others] if j.running)
    assert probe.is_probe
    begun = {probe}
    scheduler.on_response_started(probe, Usage(1_000, 1), NO_HINTS, 60.0)
    for second in range(60, 70):
        for other in started(scheduler, float(second)):
            scheduler.on_response_started(other, Usage(1_000, 1), NO_HINTS, float(second))
            begun.add(other)
    assert begun == {job, *others}


def test_a_slow_reader_is_no_slow_api():
    """How long a stream took says nothing of how fast requests may come."""
    scheduler = a_scheduler()
    job = submit(scheduler)
    scheduler.poll(0.0)
    scheduler.on_response_started(job, Usage(1_000, 1), NO_HINTS, 0.5)
    scheduler.on_response(job, USAGE, NO_HINTS, 600.0)
    assert scheduler.snapshot(600.0).pools["haiku-5.5"].round_trip < 1.0


def test_bulk_leaves_room_however_long_urgent_requests_have_been_coming():
    """Also when none of its own has come for more than a minute."""
    scheduler = a_scheduler(max_concurrency=20)
    for _ in range(100):
        submit(scheduler)
    for second in range(0, 300, 10):
        urgent = submit(scheduler, float(second), priority=1)
        scheduler.poll(float(second))
        assert urgent.running
        scheduler.on_response(urgent, USAGE, NO_HINTS, second + 0.5)
    assert 18 <= scheduler._executor_limits.running <= 19


def test_newcomers_do_not_overtake_those_who_came_before_any_limit_was_known():
    """The first headers give charges a meaning; who waited before them has no less weight for it."""
    scheduler = a_scheduler(Limits(), opened=False)
    early = [submit(scheduler) for _ in range(500)]
    scheduler.poll(0.0)
    scheduler.on_response(early[0], USAGE, advice(requests=(600, 599)), 1.0)
    late = [submit(scheduler, 1.0) for _ in range(500)]
    order = []
    for tenth in range(10, 300):
        for job in started(scheduler, tenth / 10):
            order.append(job)
            scheduler.on_response(job, USAGE, NO_HINTS, tenth / 10)
    assert sum(job in late for job in order[:300]) <= 60


# ---- spending caps


def test_under_a_spending_cap_requests_wait_for_those_in_flight_and_then_are_refused():
    """Nothing is sent that could cost more than is left."""
    most = SpendingCap(1.0).worst_case(a_shape())
    scheduler = a_scheduler(spending_caps=[SpendingCap(2.5 * most + SPENT_TO_OPEN)])
    jobs = [submit(scheduler) for _ in range(4)]
    scheduler.poll(0.0)
    scheduler.poll(5.0)
    assert [job.running for job in jobs] == [True, True, False, False]
    assert scheduler.snapshot(5.0).pools["haiku-5.5"].held_by == "spending cap"
    scheduler.on_response(jobs[0], USAGE, NO_HINTS, 6.0)
    scheduler.poll(6.0)
    assert [job.running for job in jobs[1:]] == [True, True, False]
    scheduler.on_abandoned(jobs[1], 7.0)
    scheduler.on_abandoned(jobs[2], 7.0)
    assert [action.refusal for action in scheduler.poll(7.0)] == [Refusal.SPENDING_CAP]
    refused = scheduler.submit(a_shape(), 8.0)
    assert isinstance(refused, Refuse)
    assert refused.refusal is Refusal.SPENDING_CAP


def test_what_was_not_charged_is_not_spent():
    """A request that was refused, or never sent, costs nothing."""
    most = SpendingCap(1.0).worst_case(a_shape())
    scheduler = a_scheduler(spending_caps=[SpendingCap(most + SPENT_TO_OPEN)])
    job = submit(scheduler)
    for second in range(20):
        scheduler.poll(100.0 * second)
        assert job.running
        scheduler.on_failure(
            job, a_failure(FailureKind.QUOTA, status=429, retry_after=5.0), 100.0 * second + 1, 0.5
        )
    scheduler.poll(3_000.0)
    scheduler.cancel(job, 3_000.0)
    other = submit(scheduler, 3_000.0)
    scheduler.poll(3_100.0)
    assert other.running


# ---- answers that come piece by piece


def test_the_beginning_of_an_answer_frees_those_who_share_its_prefix():
    """The cache is written when the first event comes, long before the last."""
    scheduler = a_scheduler()
    first, second = prefixed(scheduler), prefixed(scheduler)
    scheduler.poll(0.0)
    scheduler.poll(1.0)
    assert not second.running
    scheduler.on_response_started(first, Usage(20, 1, cache_creation_tokens=10_000), NO_HINTS, 2.0)
    scheduler.poll(2.0)
    scheduler.poll(4.0)
    assert first.running
    assert second.running
    assert second.cost.input_tokens < 100


def test_the_beginning_of_an_answer_tells_the_limits():
    """With no limit told the second request need not wait for the end of a long first answer."""
    scheduler = a_scheduler(Limits(), opened=False)
    first = submit(scheduler)
    scheduler.poll(0.0)
    scheduler.on_response_started(first, Usage(1_000, 1), advice(requests=(600, 590)), 0.2)
    assert scheduler.snapshot(0.2).pools["haiku-5.5"].resources["requests"].limit == 600
    submit(scheduler, 0.2)
    scheduler.poll(0.2)
    assert len(started(scheduler, 2.0)) == 1 or scheduler._executor_limits.running == 2
    scheduler.on_response(first, USAGE, NO_HINTS, 30.0)


def test_a_stream_that_breaks_in_use_is_not_tried_again():
    """Its caller has read some of it; but others learn from it as from any failure."""
    scheduler = a_scheduler()
    job = submit(scheduler)
    scheduler.poll(0.0)
    failure = a_failure(FailureKind.DROPPED, status=None, used=Usage(1_000, 40))
    assert scheduler.on_failure(job, failure, 3.0, 0.5, again=False) is Disposition.FAILED
    assert job.phase is Phase.OVER
    assert scheduler.idle
    assert scheduler._pools[job.pool].breaker._failed == 1


def test_a_stream_that_is_closed_early_costs_what_it_took():
    """The rest of its estimate is given back."""
    scheduler = a_scheduler(Limits(otpm=60_000))
    job = submit(scheduler)
    scheduler.poll(0.0)
    bucket = scheduler._pools[job.pool].estimators[Resource.OUTPUT].bucket
    before = bucket.level(0.0)
    scheduler.on_abandoned(job, 0.0, Usage(1_000, 10))
    assert bucket.level(0.0) == pytest.approx(before + job.cost.output_tokens - 10)


def test_a_head_that_was_held_started_with_what_it_needed_of_the_old_limits():
    """When limits are raised, the one in front holds up nobody behind it."""
    scheduler = a_scheduler(Limits(rpm=2), opened=False)
    for _ in range(20):
        submit(scheduler)
    begun, now = [], 0.0
    while now < 47.0:
        for job in started(scheduler, now):
            begun.append(now)
            scheduler.on_response(job, USAGE, NO_HINTS, now)
        if now == 40.0:
            scheduler.reconfigure(now, limits=Limits(rpm=6_000))
            scheduler.poll(now)
        now = min(at for at in (scheduler.wake_at, 40.0, 47.0) if at > now)
    assert begun[1] < 40.0
    assert len(begun) == 20
    assert begun[2] > 40.0  # it is the pace that holds it, and no longer than a second
    assert begun[-1] - begun[2] < 1.0


def test_after_a_pause_a_large_request_held_up_all_that_followed():
    """Its size counts for the buckets; the pace, which begins anew, has not made it wait either."""
    scheduler = a_scheduler(Limits(rpm=6_000, itpm=300_000))
    large = RequestShape(HAIKU, 100, 0, 150_000, expected_output=50.0)
    job = scheduler.submit(large, 100.0)
    small = submit(scheduler, 100.0)
    assert started(scheduler, 100.0) == [job]
    scheduler.on_response(job, Usage(150_000, 50), NO_HINTS, 101.0)
    assert started(scheduler, 102.0) == [small]
