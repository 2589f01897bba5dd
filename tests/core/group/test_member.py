"""What a member asks of its group, and what it does with the answer."""

import math
from dataclasses import replace

import pytest
from tests.core.factories import HAIKU, a_failure, a_shape, advice

from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.model.actions import Refusal, Refuse, RequestLease, Start
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import FailureKind
from claude_executor.core.model.limits import Limits
from claude_executor.core.model.sharing import (
    Lease,
    Membership,
    Outage,
    RampAllowance,
    ResourceLease,
    WhenUnreachable,
)
from claude_executor.core.scheduling.scheduler import Scheduler

POOL = "haiku-5.5"


def a_scheduler(limits=None, *, streak=2, **membership):
    return Scheduler(
        limits or Limits(rpm=600),
        max_concurrency=50,
        membership=Membership(**membership),
        breaker=BreakerPolicy(streak=streak),
        now=0.0,
    )


def a_lease(*, granted=None, level=None, in_flight=None, limits=None, **facts):
    """What the group of two answers, by default with nothing: amounts by resource, and the rest as it is."""
    columns = {
        "granted": granted or {},
        "level": {"requests": 300.0} if level is None else level,
        "in_flight": in_flight or {},
        "limits": limits or {},
    }
    resources = {
        name: ResourceLease(**{field: column[name] for field, column in columns.items() if name in column})
        for name in {name for column in columns.values() for name in column}
    }
    return Lease(resources=resources, **{"version": 1, "members": 2, "share": 0.5, **facts})


def asked(actions):
    """The one thing that is asked."""
    (reserve,) = [action for action in actions if isinstance(action, RequestLease)]
    return reserve.request


def started(actions):
    return [action.job for action in actions if isinstance(action, Start)]


def joined(scheduler, jobs=1, **grant):
    """In a group, with so many in line, of which nothing has been granted yet."""
    submitted = [scheduler.submit(a_shape(), 0.0) for _ in range(jobs)]
    asked(scheduler.poll(0.0))
    scheduler.on_lease(POOL, a_lease(**grant), 0.0)
    return submitted


def a_group_of_two(jobs):
    """Two that know the limits, with so many each in line and granted."""
    both = tuple(a_scheduler(Limits(rpm=60_000), streak=50) for _ in range(2))
    terms = {"requests": {"rate": 1_000.0, "cap": 60_000.0, "told": 60_000.0}}
    for scheduler in both:
        joined(scheduler, jobs, granted={"requests": 100.0}, limits=terms)
    return both


def begin(scheduler, count, **grant):
    """Let so many start; what the group is asked meanwhile it answers with nothing."""
    begun, now = [], 0.0
    while len(begun) < count:
        now += 0.05
        actions = scheduler.poll(now)
        begun += started(actions)
        if any(isinstance(action, RequestLease) for action in actions):
            scheduler.on_lease(POOL, a_lease(**grant), now)
        assert now < 3.0
    return begun[:count]


def test_nothing_starts_before_the_group_has_answered():
    scheduler = a_scheduler()
    scheduler.submit(a_shape(), 0.0)
    actions = scheduler.poll(0.0)
    assert started(actions) == []
    assert asked(actions).resources["requests"].limits["rate"] == 10.0


def test_it_asks_for_all_in_line_at_once_and_starts_what_it_gets():
    scheduler = a_scheduler()
    jobs = joined(scheduler, 3)
    ask = asked(scheduler.poll(0.1))
    assert ask.resources["requests"].wanted == pytest.approx(3.0)
    assert ask.resources["requests"].head == 1.0
    scheduler.on_lease(POOL, a_lease(granted={"requests": 2.0}, ask_again_in=0.25), 0.1)
    now, begun = 0.1, []
    while len(begun) < 2 and now < 5.0:  # as slowly as any pool opens
        begun += started(scheduler.poll(now))
        now += 0.05
    assert begun == jobs[:2]


def test_it_does_not_ask_again_before_it_is_told_to():
    scheduler = a_scheduler()
    joined(scheduler, 3)
    asked(scheduler.poll(0.1))
    scheduler.on_lease(POOL, a_lease(ask_again_in=0.5), 0.1)
    assert not scheduler.poll(0.3)
    assert scheduler.wake_at == pytest.approx(0.6)
    assert asked(scheduler.poll(0.6))


def test_a_more_urgent_head_asks_at_once_and_leaves_nothing_alone():
    scheduler = a_scheduler()
    joined(scheduler, 3)
    asked(scheduler.poll(0.1))
    scheduler.on_lease(POOL, a_lease(ask_again_in=0.5), 0.1)
    scheduler.submit(a_shape(), 0.2, priority=1)
    ask = asked(scheduler.poll(0.2))
    assert ask.headroom == 0.0
    scheduler.on_lease(
        POOL, a_lease(granted={"requests": ask.resources["requests"].head}, ask_again_in=0.0), 0.2
    )
    actions = scheduler.poll(0.4)  # a pool opens slowly
    assert [job.priority for job in started(actions)] == [1]
    assert asked(actions).headroom > 0.0


def test_what_holds_is_what_the_group_is_short_of():
    scheduler = a_scheduler(Limits(rpm=600, otpm=6_000))
    joined(scheduler, 3)
    assert scheduler.snapshot(0.0).pools[POOL].held_by == "shared budget"
    asked(scheduler.poll(0.1))
    scheduler.on_lease(POOL, a_lease(ask_again_in=0.5, short_of="output tokens"), 0.1)
    scheduler.poll(0.1)
    assert scheduler.snapshot(0.1).pools[POOL].held_by == "output tokens"


def test_where_nobody_may_queue_one_may_wait_for_the_answer_of_the_group():
    scheduler = Scheduler(Limits(rpm=600), max_concurrency=50, max_queued=0, membership=Membership(), now=0.0)
    job = scheduler.submit(a_shape(), 0.0)
    assert not isinstance(job, Refuse)
    assert isinstance(scheduler.submit(a_shape(), 0.0), Refuse)
    asked(scheduler.poll(0.0))
    scheduler.on_lease(POOL, a_lease(short_of="requests", ask_again_in=0.5), 0.0)
    scheduler.cancel(job, 0.1)
    scheduler.poll(0.1)
    assert isinstance(scheduler.submit(a_shape(), 0.1), Refuse)


def with_no_queue(**grant):
    """A member that lets nobody queue, has had one request, and has heard that."""
    scheduler = Scheduler(
        Limits(rpm=6_000), max_concurrency=50, max_queued=0, membership=Membership(most=4), now=0.0
    )
    job = scheduler.submit(a_shape(), 0.0)
    scheduler.poll(0.0)
    scheduler.on_lease(POOL, a_lease(granted={"requests": 1.0}, permits=1.0), 0.0)
    (started_job,) = started(scheduler.poll(0.1))
    scheduler.on_response(started_job, Usage(10, 10), advice(), 1.0)
    scheduler.poll(3.0)
    scheduler.on_lease(POOL, a_lease(**grant), 3.0)
    assert job is started_job
    return scheduler


def test_where_nobody_may_queue_a_member_that_was_idle_is_not_full():
    scheduler = with_no_queue(permits=0.0)
    assert not isinstance(scheduler.submit(a_shape(), 3.1), Refuse)
    assert isinstance(scheduler.submit(a_shape(), 3.1), Refuse)
    asked(scheduler.poll(3.1))
    scheduler.on_lease(
        POOL, a_lease(permits=0.0, ask_again_in=0.25), 3.1
    )  # now it is known that there are none
    (waiting,) = scheduler._waiting.everyone()
    scheduler.cancel(waiting, 3.2)
    assert isinstance(scheduler.submit(a_shape(), 3.2), Refuse)


def test_where_nobody_may_queue_one_may_wait_to_probe():
    scheduler = with_no_queue(permits=0.0, outage=Outage(1.0, 1.0))
    assert isinstance(scheduler.submit(a_shape(), 3.1), Refuse)
    assert not isinstance(scheduler.submit(a_shape(), 4.1), Refuse)
    assert asked(scheduler.poll(4.1)).wants_probe


@pytest.mark.parametrize("flying", [0.0, 5_000.0])
def test_output_that_others_have_reserved_is_not_there_again(flying):
    """The server has not drawn it yet, so it announces more; and it may turn out to be less."""
    scheduler = a_scheduler(Limits(rpm=600, otpm=60_000))
    level, others = {"output tokens": 10_000.0}, {"output tokens": flying}
    joined(scheduler, 1, granted={"requests": 1.0, "output tokens": 500.0}, level=level, in_flight=others)
    (job,) = started(scheduler.poll(0.2))
    scheduler.on_lease(POOL, a_lease(level=level, in_flight=others), 0.2)
    told = advice(requests=(600, 590), output=(60_000, 17_500))
    scheduler.on_response(job, Usage(10, 10), told, 0.3)
    fix = asked(scheduler.poll(3.0)).resources["output tokens"].correction
    assert fix == 0.0 if flying else fix > 500.0


def test_who_wants_nothing_shows_that_it_is_there():
    scheduler = a_scheduler()
    (job,) = joined(scheduler, 1)
    scheduler.cancel(job, 0.0)
    scheduler.poll(0.0)
    assert 0.0 < scheduler.wake_at <= 2.0
    assert asked(scheduler.poll(scheduler.wake_at)).resources["requests"].wanted == 0.0


def test_a_429_of_one_closes_all():
    one, other = a_scheduler(), a_scheduler()
    joined(one, 1, granted={"requests": 1.0})
    (job,) = started(one.poll(0.2))
    refusal = a_failure(FailureKind.QUOTA, status=429, retry_after=5.0, requests=(600, 0))
    one.on_failure(job, refusal, 0.3, 0.0)
    request = asked(one.poll(0.32))
    told = request.updates
    assert told.closure is not None
    assert request.resources["requests"].ceiling <= 0.0
    joined(other, 1)
    other.on_lease(POOL, a_lease(closure=told.closure), 0.4)
    assert other.snapshot(0.4).pools[POOL].closed_for == pytest.approx(told.closure.ends_in)


def test_a_breaker_that_opens_is_told_and_one_probe_closes_it_for_all():
    one, other = a_scheduler(), a_scheduler()
    joined(
        one, 4, granted={"requests": 4.0}, limits={"requests": {"rate": 10.0, "cap": 600.0, "told": 600.0}}
    )
    now, jobs = 0.0, []
    while len(jobs) < 2:
        now += 0.1
        jobs += started(one.poll(now))
    for job in jobs:
        one.on_failure(job, a_failure(FailureKind.OVERLOADED, status=529), now, 0.0)
    now += 0.05
    told = asked(one.poll(now)).updates
    assert told.outage is not None
    joined(other, 1)
    other.on_lease(POOL, a_lease(outage=told.outage), now)
    assert other.snapshot(now).breaker == "open"
    assert not started(other.poll(now))
    other.on_lease(
        POOL,
        a_lease(outage=Outage(0.0, 2.0), may_probe=True, granted={"requests": 1.0}),
        now + told.outage.probe_in,
    )
    (probe,) = started(other.poll(now + told.outage.probe_in + 0.01))
    other.on_response(probe, Usage(10, 10), advice(), now + told.outage.probe_in + 1.0)
    # What was asked before comes now, and knows nothing of it.
    other.on_lease(POOL, a_lease(outage=Outage(0.0, 3.0)), now + told.outage.probe_in + 1.05)
    assert other.snapshot(now + told.outage.probe_in + 1.05).breaker == "closed"
    assert asked(other.poll(now + told.outage.probe_in + 1.1)).updates.recovered


def test_who_has_enough_asks_to_probe_all_the_same():
    scheduler = a_scheduler()
    joined(scheduler, 2, outage=Outage(1.0, 1.0))
    assert not asked(scheduler.poll(0.1)).wants_probe
    scheduler.on_lease(POOL, a_lease(granted={"requests": 1.0}, outage=Outage(0.9, 1.0)), 0.1)
    assert not started(scheduler.poll(1.1))
    scheduler.on_lease(POOL, a_lease(outage=Outage(0.0, 1.0)), 1.1)
    ask = asked(scheduler.poll(1.2))
    assert ask.wants_probe
    scheduler.on_lease(
        POOL,
        a_lease(
            granted={"requests": ask.resources["requests"].head}, outage=Outage(0.0, 1.0), may_probe=True
        ),
        1.2,
    )
    assert started(scheduler.poll(1.2))


def test_overload_that_one_meets_cuts_the_windows_of_all():
    one, other = a_group_of_two(jobs=12)
    running = begin(one, 8)
    for job in running[:7]:
        one.on_failure(job, a_failure(FailureKind.OVERLOADED, status=529), 3.0, 0.0)
    assert one.snapshot(3.0).pools[POOL].concurrency < 12.0
    assert asked(one.poll(3.1)).updates.overloaded
    begin(other, 8)
    flying = other.snapshot(3.0).running
    assert other.snapshot(3.0).pools[POOL].concurrency > flying
    other.on_lease(POOL, a_lease(overloads=1), 3.2)
    assert other.snapshot(3.2).pools[POOL].concurrency == pytest.approx(0.7 * flying)
    assert not asked(other.poll(3.3)).updates.overloaded  # it is no news to the group
    other.on_lease(POOL, a_lease(overloads=1), 3.4)
    assert other.snapshot(3.4).pools[POOL].concurrency == pytest.approx(0.7 * flying)


def test_no_more_fly_than_the_group_permits():
    scheduler = a_scheduler(Limits(rpm=60_000), most=4)
    joined(scheduler, 5, granted={"requests": 5.0}, permits=2.0)
    (first, _) = begin(scheduler, 2, permits=2.0)
    assert not started(scheduler.poll(3.0))
    assert scheduler.snapshot(3.0).pools[POOL].held_by == "concurrency"
    scheduler.on_lease(POOL, a_lease(permits=2.0), 3.0)
    scheduler.on_response(first, Usage(10, 10), advice(), 3.1)
    assert len(started(scheduler.poll(3.1))) == 1
    scheduler.on_lease(POOL, a_lease(permits=4.0), 3.2)
    scheduler.on_lease_failed(POOL, 3.2, 0.0)  # which leaves it half of four
    assert not started(scheduler.poll(3.3))


def test_growth_that_the_api_limits_is_limited_for_all_by_their_shares():
    one, other = a_group_of_two(jobs=3)
    (job,) = begin(one, 1)
    refusal = replace(a_failure(FailureKind.RAMP, status=429, retry_after=2.0), ramp=(30_000.0, 40_000.0))
    one.on_failure(job, refusal, 3.0, 0.0)
    told = asked(one.poll(3.1))
    assert told.updates.ramp == RampAllowance(30_000.0, 10_000.0, pytest.approx(1.9))
    other.on_lease(POOL, a_lease(ramp=replace(told.updates.ramp, number=1.0)), 3.1)
    growth = other._pools[POOL].ramp
    assert growth.ready_at(1.0, 3.2, math.inf) == pytest.approx(5.0)
    assert growth.ready_at(1.0, 5.1, math.inf) < 5.1
    before = repr(growth)
    other.on_lease(POOL, a_lease(ramp=replace(told.updates.ramp, number=1.0)), 5.2)
    assert repr(growth) == before  # what is heard twice is taken in once
    assert other._pools[POOL].group_total(100.0) == 200.0
    assert not asked(other.poll(8.0)).updates.ramp


def test_overload_and_growth_are_told_again_when_the_call_that_told_them_was_in_vain():
    (one, _) = a_group_of_two(jobs=12)
    running = begin(one, 8)
    refusal = replace(a_failure(FailureKind.RAMP, status=429, retry_after=30.0), ramp=(30_000.0, 40_000.0))
    one.on_failure(running[7], refusal, 3.0, 0.0)
    for job in running[:7]:
        one.on_failure(job, a_failure(FailureKind.OVERLOADED, status=529), 3.0, 0.0)
    for now in (3.1, 6.0):
        told = asked(one.poll(now))
        assert told.updates.overloaded
        assert told.updates.ramp
        one.on_lease_failed(POOL, now, 0.0)
    assert asked(one.poll(9.0)).updates.ramp
    one.on_lease(POOL, a_lease(), 9.0)
    told = asked(one.poll(12.0))
    assert not told.updates.overloaded
    assert not told.updates.ramp


def test_what_headers_taught_one_is_told_and_adopted():
    one, other = a_scheduler(Limits()), a_scheduler(Limits())
    joined(one, 1)
    (job,) = started(one.poll(0.1))
    one.on_response(job, Usage(10, 10), advice(requests=(300, 200)), 1.0)
    told = asked(one.poll(1.1))
    assert told.resources["requests"].limits["announced"] == 300.0
    assert told.resources["requests"].level == pytest.approx(200.0, abs=2.0)
    joined(other, 1, limits={"requests": told.resources["requests"].limits})
    assert other.snapshot(1.0).pools[POOL].resources["requests"].limit == 300.0


def test_alone_it_goes_on_with_its_share():
    scheduler = a_scheduler(members=4)
    for _ in range(100):
        scheduler.submit(a_shape(), 0.0)
    scheduler.poll(0.0)
    scheduler.on_lease_failed(POOL, 0.0, 0.0)
    begun, now = 0, 0.0
    while now < 20.0:
        for action in scheduler.poll(now):
            if isinstance(action, Start):
                begun += 1
                scheduler.on_response(action.job, Usage(10, 10), advice(), now)
            elif isinstance(action, RequestLease):
                scheduler.on_lease_failed(POOL, now, 0.0)
        now += 0.05
    assert begun == pytest.approx(20.0 * 10.0 / 4.0, abs=5)


@pytest.mark.parametrize("alone", [WhenUnreachable.HOLD, WhenUnreachable.FAIL])
def test_alone_it_waits_or_refuses_where_that_is_the_policy(alone):
    scheduler = a_scheduler(when_unreachable=alone)
    job = scheduler.submit(a_shape(), 0.0)
    scheduler.poll(0.0)
    scheduler.on_lease_failed(POOL, 0.0, 0.0)
    actions = scheduler.poll(0.1)
    assert not started(actions)
    refused = [(action.job, action.refusal) for action in actions if isinstance(action, Refuse)]
    assert refused == ([(job, Refusal.UNREACHABLE)] if alone is WhenUnreachable.FAIL else [])


def test_joining_and_losing_the_group_are_events():
    scheduler = a_scheduler()
    scheduler.event_buffer.listening = True
    joined(scheduler)
    scheduler.on_lease_failed(POOL, 1.0, 0.0)
    scheduler.on_lease_failed(POOL, 2.0, 0.0)
    states = [
        event.state for event in scheduler.event_buffer.take() if type(event).__name__ == "SharingChanged"
    ]
    assert states == ["shared", "alone"]


def test_a_larger_group_is_remembered_when_it_comes_back_one_by_one():
    scheduler = a_scheduler()
    joined(scheduler, 1, members=8, share=0.125)
    scheduler.on_lease(POOL, a_lease(members=1, share=1.0), 5.0)
    scheduler.on_lease_failed(POOL, 6.0, 0.0)
    assert scheduler.snapshot(6.0).pools[POOL].share == pytest.approx(0.125)


def test_after_a_long_outage_it_says_how_many_there_were():
    scheduler = a_scheduler()
    joined(scheduler, 1, members=8, share=0.125)
    for now in (5.0, 50.0, 100.0):
        asked(scheduler.poll(now))
        scheduler.on_lease_failed(POOL, now, 0.0)
    for now in (102.0, 105.0):
        assert asked(scheduler.poll(now)).known_members == 8
        scheduler.on_lease(POOL, a_lease(), now)


def test_leaving_gives_back_what_was_granted():
    scheduler = a_scheduler()
    joined(scheduler, 1, granted={"requests": 3.0})
    for job in started(scheduler.poll(0.1)):
        scheduler.on_response(job, Usage(10, 10), advice(), 0.2)
    (farewell,) = scheduler.group.release_all(1.0)
    assert farewell.request.leaving
    assert farewell.request.resources["requests"].returned == pytest.approx(2.0)
    assert farewell.request.resources["requests"].leased == 0.0


def test_leaving_in_haste_gives_back_what_was_granted_for_those_in_line():
    scheduler = a_scheduler()
    joined(scheduler, 30, granted={"requests": 20.0})
    begun = len(started(scheduler.poll(0.1)))
    scheduler.close(0.2, refuse_waiting=True)
    (farewell,) = scheduler.group.release_all(0.2)
    assert farewell.request.resources["requests"].returned == pytest.approx(20.0 - begun)
    assert not farewell.request.resources["requests"].wanted


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"weight": math.inf}, {"members": 0}])
def test_a_membership_is_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Membership(**wrong)


def test_models_have_pools_of_their_own():
    scheduler = a_scheduler()
    scheduler.submit(a_shape(HAIKU), 0.0)
    scheduler.submit(a_shape("claude-opus-5"), 0.0)
    pools = {action.pool for action in scheduler.poll(0.0) if isinstance(action, RequestLease)}
    assert pools == {POOL, "opus-5"}
