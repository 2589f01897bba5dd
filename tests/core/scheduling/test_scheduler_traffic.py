"""Any traffic whatever: the scheduler keeps its counts, its limits and its promises, and never gets stuck."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.core.factories import HAIKU, OPUS, a_failure, a_shape, advice, windows_hold

from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.control.retry import RetryPolicy
from claude_executor.core.model.actions import Disposition, Refuse, Start
from claude_executor.core.model.cost import AMOUNT, NOTHING, Cost, Resource, Usage
from claude_executor.core.model.failure import FAILURE_POLICIES, Failure, FailureKind, Scope
from claude_executor.core.model.job import Job, Phase
from claude_executor.core.model.limits import Limits
from claude_executor.core.scheduling.scheduler import Scheduler

TOLD = {Resource.REQUESTS: 600.0, Resource.INPUT: 300_000.0, Resource.OUTPUT: 60_000.0}


def new_scheduler(*, declared, max_concurrency, max_queued):
    """A scheduler at second 0."""
    return Scheduler(
        Limits(rpm=600, itpm=300_000, otpm=60_000) if declared else Limits(),
        max_concurrency=max_concurrency,
        max_queued=max_queued,
        retry=RetryPolicy(max_attempts=3, base=0.5, cap=8.0, ratio=0.1),
        breaker=BreakerPolicy(streak=4, volume=6, pause=1.0),
        now=0.0,
    )


def at_most_a_bucket(cost, resource):
    """More than a bucket holds goes when it is full: the books count it as one bucket."""
    return min(AMOUNT[resource](cost), TOLD[resource])


def plain(answer):
    """What a call returned, without identities: the same history gives the same."""
    if isinstance(answer, list):
        return [plain(action) for action in answer]
    if isinstance(answer, Refuse):
        return ("refuse", answer.job.number, answer.refusal, answer.cause)
    if isinstance(answer, Start):
        return ("start", answer.job.number, answer.job.cost, answer.job.attempts)
    return ("job", answer.number) if isinstance(answer, Job) else answer


class Recorded:
    """A scheduler and everything it was told, so that it can be told again."""

    def __init__(self, **how):
        self.how = how
        self.scheduler = new_scheduler(**how)
        self.jobs = {}
        self.calls = []

    def __call__(self, method, *arguments, **options):
        answer = getattr(self.scheduler, method)(
            *(self.jobs[a[1]] if isinstance(a, tuple) and a[0] == "job" else a for a in arguments), **options
        )
        job = answer.job if isinstance(answer, Refuse) else answer
        if isinstance(job, Job):
            self.jobs[job.number] = job
        self.calls.append((method, arguments, options, plain(answer), self.scheduler.wake_at))
        return answer

    def replay(self):
        again = Recorded(**self.how)
        for method, arguments, options, answer, wake_at in self.calls:
            assert plain(again(method, *arguments, **options)) == answer
            assert again.scheduler.wake_at == wake_at


class AnyTraffic(RuleBasedStateMachine):
    """The shell's part played at random, with books of its own about what happened."""

    @initialize(
        declared=st.booleans(), max_concurrency=st.integers(1, 12), max_queued=st.sampled_from([None, 3, 30])
    )
    def begin(self, declared, max_concurrency, max_queued):
        self.tell = Recorded(declared=declared, max_concurrency=max_concurrency, max_queued=max_queued)
        self.declared, self.most = declared, max_concurrency
        self.now = 0.0
        self.flying = {}
        self.ended = {}
        self.not_before = {}
        self.pool_not_before = {}
        self.ledger = {}  # (pool, resource) -> [(instant, amount)]
        self.urgent_seen = False

    # ---- the books

    @property
    def scheduler(self):
        return self.tell.scheduler

    @property
    def jobs(self):
        return self.tell.jobs

    def end(self, job, how):
        assert job.number not in self.ended, f"{job.number} ended twice: {self.ended[job.number]}, {how}"
        assert job.phase is Phase.OVER
        self.ended[job.number] = how

    def land(self, job, actual):
        """What was taken too much is given back, what was taken too little is a debt."""
        cost = self.flying.pop(job.number)
        if actual is None:
            return
        for resource in TOLD:
            surplus = at_most_a_bucket(cost, resource) - AMOUNT[resource](actual)
            if surplus > 0:
                self.ledger.setdefault((job.pool, resource), []).append((self.now, -surplus))

    def perform(self, actions):
        for action in actions:
            job = action.job
            if isinstance(action, Refuse):
                assert job.number not in self.flying
                self.end(job, action.refusal)
                continue
            assert job.number not in self.flying
            assert job.number not in self.ended
            assert job.phase is Phase.RUNNING
            assert self.now < job.deadline_at
            assert self.now >= self.not_before.pop(job.number, 0.0), "retry-after was undercut"
            assert self.now >= self.pool_not_before.get(job.pool, 0.0), "a closed pool let somebody through"
            self.flying[job.number] = job.cost
            for resource in TOLD:
                taken = at_most_a_bucket(job.cost, resource)
                self.ledger.setdefault((job.pool, resource), []).append((self.now, taken))

    def poll(self):
        actions = self.tell("poll", self.now)
        self.perform(actions)
        assert self.scheduler.wake_at > self.now
        if any(isinstance(action, Start) for action in actions):
            assert self.scheduler._executor_limits.running <= self.most
        return actions

    def pick(self, which, numbers):
        return self.jobs[sorted(numbers)[which % len(numbers)]]

    def waiting(self):
        return [n for n, job in self.jobs.items() if job.phase in (Phase.WAITING, Phase.PARKED)]

    # ---- what may happen

    @rule(
        model=st.sampled_from([HAIKU, HAIKU, OPUS]),
        size=st.sampled_from([100, 2_500, 40_000]),
        max_tokens=st.sampled_from([16, 500, 8_000]),
        priority=st.sampled_from([0, 0, 0, 5]),
        tenant=st.sampled_from(["", "a", "b"]),
        patience=st.sampled_from([math.inf, math.inf, 0.0, 1.0, 30.0]),
        copies=st.integers(1, 8),
    )
    def submit(self, model, size, max_tokens, priority, tenant, patience, copies):
        shape = a_shape(model, max_tokens=max_tokens, text_bytes=size)
        for _ in range(copies):
            answer = self.tell(
                "submit", shape, self.now, priority=priority, tenant=tenant, deadline_at=self.now + patience
            )
            if isinstance(answer, Refuse):
                self.end(answer.job, answer.refusal)

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 2.0, 20.0, 90.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def ask(self):
        self.poll()

    @precondition(lambda self: self.scheduler.wake_at < math.inf)
    @rule()
    def wake(self):
        self.now = max(self.now, self.scheduler.wake_at)
        self.poll()

    @precondition(lambda self: self.flying)
    @rule(
        which=st.integers(0),
        usage=st.sampled_from([None, Usage(20, 5), Usage(900, 100), Usage(30_000, 4_000, 500, 9_000)]),
        others=st.sampled_from([None, 0.0, 0.5, 1.0]),
        many=st.integers(1, 6),
    )
    def answer(self, which, usage, others, many):
        quotes = {}
        if others is not None:  # the organisation's limits are ten times what the user declared
            quotes = {r.name.lower(): (10 * x, math.floor(10 * x * others)) for r, x in TOLD.items()}
        for _ in range(min(many, len(self.flying))):
            job = self.pick(which, self.flying)
            self.tell("on_response", ("job", job.number), usage, advice(**quotes), self.now)
            self.land(job, None if usage is None else usage.cost())
            self.end(job, "on_response")

    @precondition(lambda self: self.flying)
    @rule(
        which=st.integers(0),
        kind=st.sampled_from(FailureKind),
        hint=st.sampled_from([None, None, 1.0, 45.0]),
        should_retry=st.sampled_from([None, None, True, False]),
        room=st.sampled_from([None, 0.0, 1.0]),
        used=st.sampled_from([None, None, Usage(10, 10)]),
        u=st.floats(0, 0.99),
        many=st.integers(1, 5),
    )
    def fail(self, which, kind, hint, should_retry, room, used, u, many):
        connection = kind in (FailureKind.UNREACHABLE, FailureKind.DROPPED, FailureKind.TIMEOUT)
        quotes = {}
        if room is not None and not connection:
            quotes = {r.name.lower(): (10 * x, 10 * x * room) for r, x in TOLD.items()}
        failure = a_failure(
            kind,
            status=None if connection else 500,
            retry_after=None if connection else hint,
            should_retry=should_retry,
            **quotes,
        )
        failure = Failure(kind, failure.hints, failure.status, usage=used)
        for _ in range(min(many, len(self.flying))):
            job = self.pick(which, self.flying)
            verdict = self.tell("on_failure", ("job", job.number), failure, self.now, u)
            refund = NOTHING if FAILURE_POLICIES[kind].refund else None
            self.land(job, used.cost() if used else refund)
            if kind in (FailureKind.QUOTA, FailureKind.RAMP):
                closed = self.pool_not_before.get(job.pool, 0.0)
                self.pool_not_before[job.pool] = max(closed, self.now + (failure.hints.retry_after or 0.0))
            if verdict is Disposition.AGAIN:
                assert job.phase in (Phase.WAITING, Phase.PARKED)
                self.not_before[job.number] = self.now + (failure.hints.retry_after or 0.0)
            else:
                self.end(job, verdict)
        if FAILURE_POLICIES[kind].scope is not Scope.REQUEST:
            self.poll()

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0), how=st.sampled_from(["on_abandoned", "cancel"]))
    def give_up_in_flight(self, which, how):
        job = self.pick(which, self.flying)
        self.tell(how, ("job", job.number), self.now)
        self.land(job, None if how == "on_abandoned" else NOTHING)
        self.end(job, how)

    @precondition(lambda self: self.waiting())
    @rule(which=st.integers(0), many=st.integers(1, 5))
    def give_up_waiting(self, which, many):
        for _ in range(min(many, len(self.waiting()))):
            job = self.pick(which, self.waiting())
            self.tell("cancel", ("job", job.number), self.now)
            self.end(job, "cancelled")

    @precondition(lambda self: self.ended)
    @rule(which=st.integers(0), how=st.sampled_from(["on_response", "on_failure", "on_abandoned", "cancel"]))
    def settle_again(self, which, how):
        job = self.pick(which, self.ended)
        more = {"on_response": (None, advice()), "on_failure": (a_failure(),)}.get(how, ())
        arguments = (*more, self.now) + ((0.5,) if how == "on_failure" else ())
        before = self.scheduler.snapshot(self.now)
        if how == "cancel":
            self.scheduler.cancel(job, self.now)
        else:
            with pytest.raises(RuntimeError, match="no attempt under way"):
                getattr(self.scheduler, how)(job, *arguments)
        assert self.scheduler.snapshot(self.now) == before

    @rule(max_concurrency=st.integers(1, 12))
    def tune_concurrency(self, max_concurrency):
        self.tell("reconfigure", self.now, max_concurrency=max_concurrency)
        self.most = max_concurrency

    @rule(share=st.sampled_from([0.1, 0.5, 1.0]))
    def tune_limits(self, share):
        """Only downwards from what the books allow."""
        if self.declared:
            changes = {"rpm": 600.0 * share, "itpm": 300_000.0 * share, "otpm": 60_000.0 * share}
            self.tell("reconfigure", self.now, changes=changes)

    @precondition(lambda self: len(self.jobs) > 30)
    @rule(refuse_waiting=st.booleans())
    def close(self, refuse_waiting):
        self.perform(self.tell("close", self.now, refuse_waiting=refuse_waiting))

    # ---- what must hold

    @invariant()
    def counts_agree_with_phases(self):
        snapshot = self.scheduler.snapshot(self.now)
        phases = [job.phase for job in self.jobs.values()]
        assert snapshot.queued == phases.count(Phase.WAITING)
        assert snapshot.waiting_to_retry == phases.count(Phase.PARKED)
        assert snapshot.running == phases.count(Phase.RUNNING) == len(self.flying)
        assert phases.count(Phase.OVER) == len(self.ended)
        assert snapshot.running == sum(pool.running for pool in snapshot.pools.values())
        assert snapshot.queued == sum(pool.queued for pool in snapshot.pools.values())
        assert self.scheduler.idle is (not snapshot.queued + snapshot.waiting_to_retry + snapshot.running)

    @invariant()
    def what_flies_is_what_pools_say(self):
        for name, pool in self.scheduler._pools.items():
            costs = [cost for n, cost in self.flying.items() if self.jobs[n].pool == name]
            assert pool.in_flight == len(costs)
            sums = [sum(amounts) for amounts in zip(NOTHING, *costs, strict=True)]
            assert pool.flight.reserved == pytest.approx(sums, abs=1.0)
            assert sum(self.jobs[n].is_probe for n in self.flying if self.jobs[n].pool == name) <= 1
            for meter in pool.estimators.values():
                assert meter.bucket is None or meter.bucket.level(self.now) <= meter.bucket.capacity

    def teardown(self):
        if not hasattr(self, "tell"):
            return
        self.land_everything()
        self.the_limits_were_kept()
        self.tell.replay()

    def land_everything(self):
        """Everything in flight is answered, time goes to `wake_at` again and again: the line empties."""
        polls = 0
        while True:
            for number in list(self.flying):
                self.tell("on_response", ("job", number), Usage(500, 50), advice(), self.now)
                self.land(self.jobs[number], Cost(1.0, 500.0, 50.0))
                self.end(self.jobs[number], "on_response")
            self.poll()
            polls += 1
            if not self.flying:
                if self.scheduler.idle:
                    break
                assert self.scheduler.wake_at < math.inf, (
                    "nothing in flight, somebody waits, and no time to wake"
                )
                self.now = self.scheduler.wake_at
            assert polls <= 30 + 10 * len(self.jobs)
        assert set(self.ended) == set(self.jobs)
        for pool in self.scheduler._pools.values():
            assert (pool.in_flight, any(pool.flight.reserved), len(pool.queue)) == (0, False, 0)

    def the_limits_were_kept(self):
        """No bucket admitted more than a minute's worth and its refill, less what was given back."""
        if not self.declared:
            return
        for (_, resource), events in self.ledger.items():
            rate = TOLD[resource] / 60.0
            begun = events[0][0]
            earned = [rate * (at - begun) for at, _ in events]
            capacity = [TOLD[resource]] * len(events)
            windows_hold(events[-150:], capacity, earned[-150:], 1e-3)


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_recorded_quarter_of_an_hour_gives_the_same_actions_again():
    """A list of (command, now, u) is all there is to know: a fresh scheduler does exactly the same."""
    tell, now, step = Recorded(declared=True, max_concurrency=10, max_queued=None), 0.0, 0
    flying, starts = [], 0
    while now < 900.0:
        step += 1
        u = (step * 0.618) % 1.0
        if step % 3:
            shape = a_shape((HAIKU, OPUS)[step % 2], text_bytes=100 + 37 * (step % 50))
            tell("submit", shape, now, priority=step % 7 // 6, tenant="abc"[step % 3])
        flying += [action.job for action in tell("poll", now) if isinstance(action, Start)]
        if flying and step % 2:
            job = flying.pop(0)
            starts += 1
            if step % 11 == 1:
                failure = a_failure(
                    (FailureKind.QUOTA, FailureKind.OVERLOADED, FailureKind.SERVER)[step % 3], retry_after=2.0
                )
                tell("on_failure", ("job", job.number), failure, now, u)
            else:
                usage = Usage(100 + step % 900, step % 300)
                tell("on_response", ("job", job.number), usage, advice(requests=(600, 300)), now)
        now += 0.7 * u
    assert starts > 500
    tell.replay()
