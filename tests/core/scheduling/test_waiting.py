"""Where jobs are while they hold nothing."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.core.factories import HAIKU, OPUS, a_job

from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.control.retry import RetryQuota
from claude_executor.core.model.gate import NEVER
from claude_executor.core.model.job import Phase
from claude_executor.core.model.limits import pool_of
from claude_executor.core.pool.pool import Pool
from claude_executor.core.scheduling.waiting import SWEEP_AT, WaitingRoom


def a_crowd():
    """Nobody yet, and two pools to wait for."""
    policy = BreakerPolicy()
    return WaitingRoom(
        {name: Pool(name, {}, ceiling=9, breaker=policy, now=0.0) for name in map(pool_of, (HAIKU, OPUS))},
        room=None,
    )


def nothing_left():
    """A retry quota that is spent, and grows by one a second."""
    quota = RetryQuota(0.0, 0.0)
    while quota.ready_at(0.0) <= 0.0:
        quota.take(0.0)
    return quota


def parked(waiting, number, until, **more):
    """A job whose attempt failed, set aside until then."""
    job = a_job(number, phase=Phase.RUNNING, attempts=1, **more)
    waiting.park(job, until)
    return job


def due(waiting, now, quota=None):
    """Whose turn to stand in line again it is."""
    return [job.number for job in waiting.due(now, quota or RetryQuota(0.2, 0.0))]


def test_who_joins_is_counted_and_stands_in_line():
    """In the line of his pool, until he starts."""
    waiting, job = a_crowd(), a_job(1)
    waiting.join(job)
    assert (waiting.queued, waiting.parked, len(waiting)) == (1, 0, 1)
    assert waiting.everyone() == [job]
    waiting.start(job)
    assert (len(waiting), job.phase) == (0, Phase.RUNNING)
    assert waiting.everyone() == []


def test_parked_jobs_come_up_when_they_are_due():
    """In order of their instants, whatever the order in which they were parked."""
    waiting = a_crowd()
    for number, until in ((1, 30.0), (2, 10.0), (3, 20.0)):
        parked(waiting, number, until)
    quota = RetryQuota(0.2, 0.0)
    assert waiting.next_due(0.0, quota) == 10.0
    assert due(waiting, 9.99) == []
    assert due(waiting, 20.0) == [2, 3]
    assert (waiting.parked, waiting.next_due(20.0, quota)) == (1, 30.0)
    assert due(waiting, 99.0) == [1]
    assert waiting.next_due(99.0, quota) == NEVER


def test_a_retry_waits_until_it_can_be_paid_for():
    """Nothing fails for want of quota; one after the other they are affordable."""
    waiting, quota = a_crowd(), nothing_left()
    for number in range(3):
        parked(waiting, number, 0.0, pays_retry=True)
    assert due(waiting, 0.0, quota) == []
    assert waiting.next_due(0.0, quota) == pytest.approx(1.0)
    assert due(waiting, 1.0, quota) == [0]
    assert due(waiting, 3.0, quota) == [1, 2]
    assert waiting.next_due(3.0, quota) == NEVER


def test_who_need_not_pay_does_not_wait_behind_those_who_must():
    """A spent retry quota holds up the retries it is for and nobody else."""
    waiting, quota = a_crowd(), nothing_left()
    for number in range(1_000):
        parked(waiting, number, 0.0, pays_retry=True)
    parked(waiting, 1_000, 0.5)
    assert waiting.next_due(0.0, quota) == 0.5
    assert due(waiting, 0.5, quota) == [1_000]


def test_a_retry_is_paid_for_once_and_only_when_it_goes():
    """Asking when it is due takes nothing from the quota."""
    waiting, quota = a_crowd(), RetryQuota(0.0, 0.0)
    for number in range(20):
        parked(waiting, number, 0.0, pays_retry=True)
    for _ in range(50):
        waiting.next_due(0.0, quota)
    assert len(due(waiting, 0.0, quota)) == RetryQuota.FLOOR


def test_who_leaves_is_gone_wherever_he_was():
    """From the line and from the park; nobody leaves twice, and nobody who has started."""
    waiting = a_crowd()
    queued, set_aside = a_job(1), parked(a_crowd(), 2, 5.0)
    waiting.join(queued)
    waiting.park(set_aside, 5.0)
    for job in (queued, set_aside):
        assert waiting.leave(job)
        assert job.phase is Phase.OVER
        assert not waiting.leave(job)
    assert not waiting.leave(a_job(3, phase=Phase.RUNNING))
    assert (waiting.queued, waiting.parked, waiting.everyone()) == (0, 0, [])
    assert due(waiting, 99.0) == []
    assert waiting.next_due(0.0, RetryQuota(0.2, 0.0)) == NEVER


def test_a_deadline_is_minded_wherever_the_job_waits():
    """In line or parked it is late at its deadline, once; in flight or over it is not."""
    waiting = a_crowd()
    jobs = [a_job(number, deadline_at=10.0 + number) for number in range(4)]
    for job in jobs:
        waiting.watch(job)
        waiting.join(job)
    waiting.start(jobs[0])
    waiting.start(jobs[1])
    waiting.park(jobs[1], 50.0)
    waiting.leave(jobs[2])
    assert waiting.next_late() == 10.0
    assert [job.number for job in waiting.late(10.99)] == []
    assert [job.number for job in waiting.late(13.0)] == [1, 3]
    assert [job.number for job in waiting.late(99.0)] == []
    assert waiting.next_late() == NEVER


def test_without_a_deadline_nobody_is_late():
    """An infinite deadline is none."""
    waiting = a_crowd()
    waiting.watch(a_job(1))
    assert waiting.next_late() == NEVER


def test_deadlines_of_jobs_that_are_over_are_swept_out():
    """A million answered requests with a deadline in an hour take no memory."""
    waiting = a_crowd()
    for number in range(20_000):
        job = a_job(number, deadline_at=3_600.0)
        waiting.watch(job)
        job.phase = Phase.OVER
    assert len(waiting._deadlines) <= SWEEP_AT + 2
    late = a_job(0, deadline_at=3_600.0)
    waiting.watch(late)
    waiting.join(late)
    assert list(waiting.late(3_600.0)) == [late]


def test_a_stop_recalls_those_it_concerns_and_nobody_else():
    """The others were told how long to wait, and wait as long."""
    waiting, quota = a_crowd(), nothing_left()
    parked(waiting, 1, 30.0, model=HAIKU)
    parked(waiting, 2, 30.0, model=OPUS, pool="opus-5")
    parked(waiting, 3, 40.0, model=OPUS, pool="opus-5", pays_retry=True)
    parked(waiting, 4, 40.0, model=HAIKU, pays_retry=True)
    gone = parked(waiting, 5, 40.0, model=OPUS, pool="opus-5")
    waiting.leave(gone)
    waiting.recall(lambda job: job.shape.model == OPUS, 5.0)
    assert due(waiting, 0.0, quota) == []
    assert sorted(due(waiting, 5.0, quota)) == [2, 3]
    assert due(waiting, 30.0, quota) == [1]
    assert due(waiting, 40.0, RetryQuota(0.2, 0.0)) == [4]


@pytest.mark.parametrize("pays", [False, True])
def test_after_a_recall_the_others_still_come_up_in_order(pays):
    """By their instants, whoever was taken from among them."""
    waiting, untils = a_crowd(), [(37 * number) % 101 for number in range(100)]
    for number, until in enumerate(untils):
        model, pool = (OPUS, "opus-5") if until % 3 == 0 else (HAIKU, "haiku-5.5")
        parked(waiting, number, float(until), model=model, pool=pool, pays_retry=pays)
    waiting.recall(lambda job: job.shape.model == OPUS, -1.0)
    assert sorted(untils[number] for number in due(waiting, -1.0)) == sorted(u for u in untils if u % 3 == 0)
    quota, found = RetryQuota(0.0, 0.0), []
    for second in range(500):
        found += due(waiting, float(second), quota)
    assert [untils[number] for number in found] == sorted(u for u in untils if u % 3)


class AnyWait(RuleBasedStateMachine):
    """Jobs join, park, start and leave in any order; counts and phases always agree."""

    @initialize()
    def begin(self):
        self.waiting, self.quota, self.now = a_crowd(), RetryQuota(0.2, 0.0), 0.0
        self.jobs = []

    def those(self, *phases):
        return [job for job in self.jobs if job.phase in phases]

    @rule(model=st.sampled_from([HAIKU, OPUS]), deadline=st.sampled_from([NEVER, 3.0, 20.0]))
    def join(self, model, deadline):
        job = a_job(len(self.jobs), model=model, pool=pool_of(model), deadline_at=self.now + deadline)
        self.jobs.append(job)
        self.waiting.watch(job)
        self.waiting.join(job)

    @rule(model=st.sampled_from([HAIKU, OPUS]))
    def start(self, model):
        job = self.waiting._pools[pool_of(model)].queue.head()
        if job is not None:
            self.waiting.start(job)

    @precondition(lambda self: self.those(Phase.RUNNING))
    @rule(which=st.integers(0), seconds=st.floats(0, 20), pays=st.booleans())
    def park(self, which, seconds, pays):
        running = self.those(Phase.RUNNING)
        job = running[which % len(running)]
        job.pays_retry = pays
        self.waiting.park(job, self.now + seconds)

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0))
    def leave(self, which):
        job = self.jobs[which % len(self.jobs)]
        waits = job.phase in (Phase.WAITING, Phase.PARKED)
        assert self.waiting.leave(job) is waits

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds):
        self.now += seconds
        for job in list(self.waiting.late(self.now)):
            assert job.deadline_at <= self.now
            assert self.waiting.leave(job)
        for job in self.waiting.due(self.now, self.quota):
            assert job.phase is Phase.PARKED
            self.waiting.join(job)
        assert self.waiting.next_due(self.now, self.quota) > self.now
        assert self.waiting.next_late() > self.now

    @rule(model=st.sampled_from([HAIKU, OPUS]))
    def recall(self, model):
        self.waiting.recall(lambda job: job.shape.model == model, self.now)

    @invariant()
    def counts_agree_with_phases(self):
        assert self.waiting.queued == len(self.those(Phase.WAITING))
        assert self.waiting.parked == len(self.those(Phase.PARKED))
        everyone = self.waiting.everyone()
        assert len(everyone) == len(self.waiting)
        assert set(map(id, everyone)) == set(map(id, self.those(Phase.WAITING, Phase.PARKED)))


TestAnyWait = AnyWait.TestCase
TestAnyWait.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
