"""Tell it what happened, ask what to do, ask when to ask again.

A shell drives it with four kinds of call, all of which take the time::

    submit, cancel              the caller's side: a request comes, or goes away
    poll(now) -> actions        what to do now; afterwards `wake_at` says when to ask again
    answered, failed, lost      an attempt is over
    tune, close, snapshot       change the limits, shut the door, look at the state

The life of a job: it stands in its pool's line (WAITING); `poll` takes from the buckets and says `Start`
(RUNNING); the attempt ends and is settled exactly once; then the job is OVER, or it is PARKED until its next
attempt is due and goes back to the front of its own kind. While WAITING or PARKED it holds nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from claude_executor.core import feedback
from claude_executor.core.breaker import BreakerPolicy, State
from claude_executor.core.cost import NOTHING, Cost, Usage
from claude_executor.core.emit import Emitter
from claude_executor.core.estimate import Estimator, Shape
from claude_executor.core.headers import Advice
from claude_executor.core.job import Action, Failure, Job, Phase, Refusal, Refuse, Start
from claude_executor.core.limits import Limits, by_pool, cache_reads_count, pool_of
from claude_executor.core.opening import Opening
from claude_executor.core.pool import CONCURRENCY, NEVER, Pool
from claude_executor.core.retry import TREATMENT, Kind, RetryBudget, RetryPolicy, Scope
from claude_executor.core.snapshot import Snapshot, state_of
from claude_executor.core.stops import Stops
from claude_executor.core.tally import Tally
from claude_executor.core.urgency import Urgency
from claude_executor.core.verdict import Circumstances, Verdict, judge, reach
from claude_executor.core.waiting import Waiting

OPENING = "opening connections"


class Scheduler:
    """Decides for one executor. Holds no lock and does nothing by itself."""

    def __init__(
        self,
        limits: Limits | Mapping[str, Limits],
        *,
        max_concurrency: int,
        max_queued: int | None = None,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        reserve_max_tokens: bool = False,
        now: float,
    ) -> None:
        """`max_queued` bounds the jobs that are neither in flight nor over; `None` does not."""
        self._limits = by_pool(limits)
        self._max_concurrency = _at_least(1, max_concurrency, "max_concurrency")
        self._max_queued = None if max_queued is None else _at_least(0, max_queued, "max_queued")
        self._policy = retry or RetryPolicy()
        self._breaker_policy = breaker or BreakerPolicy()
        self._budget = RetryBudget(self._policy.budget, now)
        self._estimator = Estimator(reserve_max_tokens=reserve_max_tokens)
        self._opening = Opening(now)
        self._urgency = Urgency()
        self._pools: dict[str, Pool] = {}
        self._turn = 0
        self._waiting = Waiting(self._pools)
        self._stops = Stops()
        self._reached = False
        self._closed = False
        self._retrying = True
        self._numbers = 0
        self.running = 0
        self.tally = Tally()
        self.wake_at = NEVER
        self.emit = Emitter()

    # ---- the caller's side

    def submit(
        self, shape: Shape, now: float, *, priority: int = 0, tenant: str = "", deadline_at: float = NEVER
    ) -> Job | Refuse:
        """A request comes. `Refuse` at once where it cannot be served: queue full, deadline out of reach."""
        pool = self._pool(pool_of(shape.model), now)
        self._numbers += 1
        job = Job(self._numbers, shape, pool.name, priority, tenant, now, deadline_at)
        if self._closed:
            return self._refuse(job, Refusal.CLOSED, now)
        if (stop := self._stops.reason(shape.model, now)) is not None:
            return self._refuse(job, Refusal.STOPPED, now, stop)
        self._price(job, pool, now)
        if self._max_queued is not None and len(self._waiting) >= self._max_queued:
            at_once = not len(pool.line) and self._opens_at(pool, job, now)[0] <= now
            if not at_once:
                return self._refuse(job, Refusal.QUEUE_FULL, now)
        if deadline_at <= now or (deadline_at != NEVER and pool.earliest(job) > deadline_at):
            return self._refuse(job, Refusal.DEADLINE, now)
        self._urgency.seen(priority, now)
        self._waiting.join(job)
        self._waiting.watch(job)
        return job

    def cancel(self, job: Job, now: float) -> None:
        """The owner of a job lost interest before anything was sent, be it in the moment of its turn.

        For a job whose attempt has been sent it is `lost`.
        """
        if job.running:
            self._give_up(job, NOTHING, now)
        elif self._waiting.leave(job):
            self.tally.cancelled += 1

    def close(self, now: float, *, refuse_waiting: bool) -> list[Refuse]:
        """Refuse what comes from now on and, if asked, what is waiting; then nothing is retried either."""
        self._closed = True
        if not refuse_waiting:
            return []
        self._retrying = False
        return [self._turn_away(job, Refusal.CLOSED, now, job.last) for job in self._waiting.everyone()]

    def tune(
        self,
        now: float,
        *,
        limits: Limits | Mapping[str, Limits] | None = None,
        changes: Mapping[str, float] = MappingProxyType({}),
        max_concurrency: int | None = None,
    ) -> None:
        """Change the declared limits (all of them, or by field), or how many requests may be in flight."""
        declared = self._limits if limits is None else by_pool(limits)
        if changes:
            declared = {pool: replace(limit, **changes) for pool, limit in declared.items()}
        if max_concurrency is not None:
            self._max_concurrency = _at_least(1, max_concurrency, "max_concurrency")
        self._limits = declared
        for pool in self._pools.values():
            pool.tell(declared, now)
            pool.window.retune(self._max_concurrency)

    def snapshot(self, now: float) -> Snapshot:
        """The state at this moment."""
        return Snapshot(
            queued=self._waiting.queued,
            running=self.running,
            waiting_to_retry=self._waiting.parked,
            answered=self.tally.answered,
            failed=self.tally.failed,
            attempts=self.tally.attempts,
            retries=self.tally.retries,
            pools={name: state_of(pool, now) for name, pool in self._pools.items()},
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting and nothing is in flight."""
        return not self.running and not len(self._waiting)

    # ---- what to do now

    def poll(self, now: float) -> list[Action]:
        """What may start now, and what is to be refused. Sets `wake_at` to the next time to ask."""
        actions: list[Action] = [
            self._turn_away(job, Refusal.DEADLINE, now, job.last) for job in self._waiting.late(now)
        ]
        for job in self._waiting.due(now, self._budget):
            if (stop := self._stops.reason(job.shape.model, now)) is not None:
                actions.append(self._refuse(job, Refusal.STOPPED, now, stop))
            else:
                self._rejoin(job, now)
        self.wake_at = min(self._waiting.next_late(), self._waiting.next_due(now, self._budget))
        pools = list(self._pools.values())
        self._turn += 1  # pools take turns at being first, for they share one ceiling on concurrency
        for i in range(len(pools)):
            self._drain(pools[(self._turn + i) % len(pools)], now, actions)
        return actions

    def _drain(self, pool: Pool, now: float, actions: list[Action]) -> None:
        held_by: str | None = None
        while (job := pool.line.head()) is not None:
            if (stop := self._stops.reason(job.shape.model, now)) is not None:
                actions.append(self._turn_away(job, Refusal.STOPPED, now, stop))
                continue
            job.cost = self._estimator.cost(job.shape, now)  # it knows more now than when the job came
            at, why = self._opens_at(pool, job, now)
            if at > now:
                self.wake_at = min(self.wake_at, at)
                held_by = why
                break
            self._start(pool, job, now)
            actions.append(Start(job))
        if held_by != pool.held_by:
            pool.hold(held_by, now)

    def _opens_at(self, pool: Pool, job: Job, now: float) -> tuple[float, str]:
        keep = self._urgency.kept_from(job.priority, now)
        if self.running and self.running + keep * self._max_concurrency > self._max_concurrency - 1:
            return NEVER, CONCURRENCY
        at, why = pool.opens_at(job, now, keep=keep)
        ready = self._opening.ready_at(self.running)
        return (ready, OPENING) if ready > max(at, now) else (at, why)

    def _start(self, pool: Pool, job: Job, now: float) -> None:
        if job.charge:
            job.charge = pool.seconds(job.cost)[0]
        self._waiting.start(job)
        self.running += 1
        self._opening.take(self.running, now)
        pool.take(job, now)
        job.charge = 0.0
        job.attempts += 1
        self.tally.attempts += 1
        if job.attempts == 1:
            self._budget.earn(now)
        else:
            self.tally.retries += 1
        self.emit.started(job, now)

    # ---- an attempt is over

    def answered(
        self, job: Job, usage: Usage | None, advice: Advice, now: float, *, output_share: float = 1.0
    ) -> None:
        """It was answered, and used so much."""
        pool = self._over(job)
        self._reached = True
        self.tally.answered += 1
        actual = None if usage is None else usage.cost(cache_reads_count=cache_reads_count(pool.name))
        if usage is not None and actual is not None:
            self._estimator.learn(job.shape, usage, now)
            pool.line.adjust(job, pool.seconds(actual)[0] - pool.seconds(job.cost)[0])
        if feedback.answered(pool, job, actual, advice, now, output_share=output_share):
            self.emit.breaker(pool, now)
        if job.pays_retry:
            self._budget.earn(now, succeeded_retry=True)
        self.emit.limits(pool, now)
        self.emit.answered(job, usage, now)

    def lost(self, job: Job, now: float) -> None:
        """It was cancelled, or ended in a way nobody foresaw. It was sent, so its estimate stays taken."""
        self._give_up(job, None, now)

    def _give_up(self, job: Job, spent: Cost | None, now: float) -> None:
        pool = self._over(job)
        self.tally.cancelled += 1
        pool.settle(job, spent, now)
        if job.is_probe:
            pool.breaker.forget()

    def failed(self, job: Job, failure: Failure, now: float, u: float) -> Verdict:
        """It failed: what becomes of the job. On `AGAIN` it is back among those waiting."""
        pool = self._over(job)
        treatment = TREATMENT[failure.kind]
        job.last = failure
        self._reached = self._reached or failure.status is not None
        spent = NOTHING if treatment.refund else None
        if failure.usage is not None:
            spent = failure.usage.cost(cache_reads_count=cache_reads_count(pool.name))
        pool.settle(job, spent, now)
        feedback.hear(pool, job, failure.advice, now)
        self.emit.limits(pool, now)
        fits = True
        if failure.kind in (Kind.QUOTA, Kind.RAMP):
            fits = not feedback.quota_refused(pool, job, failure, now, u)
            self.emit.closed(pool, failure.kind, now)
        if treatment.overload:
            if feedback.overloaded(pool, job, failure.advice.retry_after, now, u):
                self.emit.breaker(pool, now)
        elif job.is_probe:
            pool.breaker.forget()
        getting_through = pool.breaker.state is State.CLOSED
        verdict, delay = judge(
            job,
            failure,
            Circumstances(self._reached, getting_through, fits, pool.closed_until, self._retrying),
            self._policy,
            now,
            u,
        )
        self.emit.failed(job, failure, delay if verdict is Verdict.AGAIN else None, now)
        if verdict is not Verdict.AGAIN:
            self.tally.failed += 1
            if verdict is Verdict.FAILED:  # one that came too late, or was too large, says nothing of others
                self._stop(job, failure, now)
            return verdict
        job.pays_retry = treatment.counts and getting_through
        if delay > 0.0 or job.pays_retry:
            self._waiting.park(job, now + delay)
        else:
            self._rejoin(job, now)
        return verdict

    def _stop(self, job: Job, failure: Failure, now: float) -> None:
        """A job has failed; where others would fail the same way, do not send them."""
        scope = reach(failure, reached=self._reached)
        if scope is not Scope.REQUEST:
            until = self._stops.add(job.shape.model, failure, scope, now)
            self._waiting.recall(lambda model: self._stops.reason(model, now) is not None, now)
            self.emit.stopped(failure.kind, scope, until, now)

    # ---- moving jobs about

    def _over(self, job: Job) -> Pool:
        """End the attempt of a job: every way out of an attempt comes through here, and then settles it.

        Raises:
            RuntimeError: The job has no attempt under way: it would be settled twice.
        """
        if job.phase is not Phase.RUNNING:
            raise RuntimeError(
                f"request {job.number} has no attempt under way, it is {job.phase.name.lower()}"
            )
        job.phase = Phase.OVER
        self.running -= 1
        return self._pools[job.pool]

    def _rejoin(self, job: Job, now: float) -> None:
        """Back into line, to its place among its like."""
        self._price(job, self._pools[job.pool], now)
        self._waiting.join(job)

    def _turn_away(self, job: Job, refusal: Refusal, now: float, because: Failure | None) -> Refuse:
        self._waiting.leave(job)
        return self._refuse(job, refusal, now, because)

    def _refuse(self, job: Job, refusal: Refusal, now: float, because: Failure | None = None) -> Refuse:
        job.phase = Phase.OVER
        self.tally.failed += 1
        self.emit.refused(job, refusal.value, now)
        return Refuse(job, refusal, because)

    def _price(self, job: Job, pool: Pool, now: float) -> None:
        job.cost = self._estimator.cost(job.shape, now)
        seconds, resource = pool.seconds(job.cost)
        job.build = (resource, math.frexp(seconds)[1] // 3)  # alike: the same resource, within a factor of 8
        if not job.attempts:
            job.charge = seconds

    def _pool(self, name: str, now: float) -> Pool:
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = Pool(
                name, self._limits, ceiling=self._max_concurrency, breaker=self._breaker_policy, now=now
            )
        return pool


def _at_least(least: int, value: int, name: str) -> int:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value
