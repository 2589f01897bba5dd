"""The scheduler: report what happened, ask what to do, ask when to ask again.

A shell drives it with these calls, all of which take the time::

    submit, cancel                      the caller's side: a request comes, or is given up
    poll(now) -> actions                what to do now; afterwards `wake_at` says when to poll again
    on_response_started, on_response,
    on_failure, on_abandoned            an attempt makes progress or ends
    on_lease, on_lease_failed           the group that shares the limits has answered a `RequestLease`, or not
    reconfigure, close, snapshot        change the limits, close the door, look at the state

The life of a job: it waits in its pool's queue (WAITING); `poll` takes from the gates and says `Start`
(RUNNING); the attempt ends and is settled exactly once; then the job is OVER, or it is PARKED until its next
attempt is due and returns to the front of its own kind. A WAITING or PARKED job holds nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.control.retry import RetryPolicy
from claude_executor.core.control.spending import SpendingCap
from claude_executor.core.model.actions import Action, Disposition, Refusal, Refuse, Start
from claude_executor.core.model.cost import NOTHING_USED, Usage
from claude_executor.core.model.failure import Failure
from claude_executor.core.model.gate import NEVER, HeldBy
from claude_executor.core.model.headers import ResponseHints
from claude_executor.core.model.job import Job, Phase
from claude_executor.core.model.limits import Limits, pool_of
from claude_executor.core.model.request import RequestShape
from claude_executor.core.model.sharing import Lease, Membership
from claude_executor.core.model.snapshot import Snapshot
from claude_executor.core.pool import feedback
from claude_executor.core.pool.pool import Pool
from claude_executor.core.scheduling.attempts import Attempts
from claude_executor.core.scheduling.cost_model import CostModel
from claude_executor.core.scheduling.event_log import EventBuffer
from claude_executor.core.scheduling.executor_limits import ExecutorLimits
from claude_executor.core.scheduling.group import GroupCoordinator
from claude_executor.core.scheduling.inspection import snapshot
from claude_executor.core.scheduling.pools import PoolRegistry
from claude_executor.core.scheduling.waiting import PriorityReserve, WaitingRoom


class Scheduler:
    """Decides for one executor what starts, what waits, what is retried and what is refused.

    The scheduler holds no lock, reads no clock and does nothing by itself.

    Attributes:
        wake_at: The instant at which to poll again, unless something happens before.
        event_buffer: Counts and events of what happened.
        group: The group that shares the limits; None without one.
    """

    def __init__(
        self,
        limits: Limits | Mapping[str, Limits],
        *,
        max_concurrency: int,
        max_queued: int | None = None,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        reserve_max_tokens: bool = False,
        spending_caps: Iterable[SpendingCap] = (),
        membership: Membership | None = None,
        now: float,
    ) -> None:
        """Make a scheduler that nothing has been submitted to.

        Args:
            limits: The declared limits; by pool where they differ.
            max_concurrency: How many requests may be in flight.
            max_queued: How many jobs may wait; None for any number.
            retry: When failed attempts are made again.
            breaker: When a pool's circuit breaker opens.
            reserve_max_tokens: Reserve `max_tokens` of output instead of the expected length.
            spending_caps: What all requests together may cost.
            membership: How this executor takes part in a group that shares the limits; then there are
                `RequestLease` actions to perform.
            now: The current instant.
        """
        self._executor_limits = ExecutorLimits(max_concurrency, spending_caps, now)
        self._cost_model = CostModel(reserve_max_tokens=reserve_max_tokens)
        self._priority_reserve = PriorityReserve()
        self._registry = PoolRegistry(limits, self._executor_limits, breaker or BreakerPolicy())
        self._pools = self._registry.pools
        self._rotation = 0
        self._waiting = WaitingRoom(self._pools, max_queued)
        self._closed = False
        self._numbers = 0
        self._dirty = True
        self.wake_at = NEVER
        self.event_buffer = EventBuffer()
        self._attempts = Attempts(
            self._pools,
            self._waiting,
            self._executor_limits,
            self._cost_model,
            self.event_buffer,
            retry or RetryPolicy(),
            now,
        )
        self._stop_list = self._attempts.stop_list
        self.group = None
        if membership is not None:
            self.group = self._registry.group = GroupCoordinator(
                membership, self._pools, self._executor_limits, self._priority_reserve, self.event_buffer
            )

    # ---- the caller's side

    def submit(
        self,
        shape: RequestShape,
        now: float,
        *,
        priority: int = 0,
        tenant: str = "",
        deadline_at: float = NEVER,
    ) -> Job | Refuse:
        """Queue a request. Return its job, or `Refuse` if the queue is full or the deadline too near."""
        pool = self._registry.obtain(pool_of(shape.model), self._waiting, now)
        self._numbers += 1
        job = Job(self._numbers, shape, pool.name, priority, tenant, now, deadline_at)
        self.event_buffer.submitted(job, now)
        if self._closed:
            return self._refuse(job, Refusal.CLOSED, now)
        if (stop := self._stop_list.reason(shape.model, now)) is not None:
            return self._refuse(job, Refusal.STOPPED, now, stop)
        self._cost_model.on_queued(job, pool, now)
        self._executor_limits.set_worst_case(job)
        if self._executor_limits.cannot_fit(job):
            return self._refuse(job, Refusal.SPENDING_CAP, now)
        if self._waiting.full:
            at, why = self._opens_at(pool, job, now)
            asks = self._executor_limits.room > 0 and pool.lease_may_help(why, now)
            if len(pool.queue) or (at > now and not asks):
                return self._refuse(job, Refusal.QUEUE_FULL, now)
        if deadline_at <= now or (deadline_at != NEVER and pool.earliest(job) > deadline_at):
            return self._refuse(job, Refusal.DEADLINE, now, pool.trouble)
        self._priority_reserve.seen(priority, now)
        # Behind a held head it changes nothing: the fair queue promises that no job overtakes a head.
        held = pool.held if pool.held_by is not None else None
        if held is None or priority > held.priority or deadline_at != NEVER:
            self._dirty = True
        self._waiting.join(job)
        self._waiting.watch(job)
        return job

    def cancel(self, job: Job, now: float) -> None:
        """Give a job up before anything was sent, even in the moment of its start.

        A job whose attempt has been sent is reported by `on_abandoned` instead.
        """
        if job.running:
            self.on_abandoned(job, now, NOTHING_USED)
        elif self._waiting.leave(job):
            self._dirty = True
            self.event_buffer.cancelled(job, NOTHING_USED, now)

    def close(self, now: float, *, refuse_waiting: bool) -> list[Refuse]:
        """Refuse requests from now on. `refuse_waiting` also refuses those that wait, and ends retries."""
        self._closed = self._dirty = True
        if not refuse_waiting:
            return []
        self._attempts.retrying = False
        return [
            self._refuse_waiting(job, Refusal.CLOSED, now, job.last_failure)
            for job in self._waiting.everyone()
        ]

    def reconfigure(
        self,
        now: float,
        *,
        limits: Limits | Mapping[str, Limits] | None = None,
        changes: Mapping[str, float] = MappingProxyType({}),
        max_concurrency: int | None = None,
    ) -> None:
        """Change the declared limits, all of them or by field, or how many requests may be in flight."""
        self._registry.reconfigure(limits, changes, max_concurrency, now)
        self._dirty = True

    def snapshot(self, now: float) -> Snapshot:
        """Return the state at this moment."""
        return snapshot(
            self._waiting, self._executor_limits.running, self.event_buffer.counters, self._pools, now
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting and nothing is in flight."""
        return not self._executor_limits.running and not len(self._waiting)

    # ---- what to do now

    def poll(self, now: float) -> list[Action]:
        """Return what to start and what to refuse now. Sets `wake_at` to the instant to poll again."""
        if not self._dirty and now < self.wake_at:
            return []
        self._dirty = False
        actions: list[Action] = [
            self._refuse_waiting(
                job, Refusal.DEADLINE, now, job.last_failure or self._pools[job.pool].trouble
            )
            for job in self._waiting.late(now)
        ]
        for job in self._waiting.due(now, self._attempts.retry_quota):
            if (stop := self._stop_list.reason(job.shape.model, now)) is not None:
                actions.append(self._refuse(job, Refusal.STOPPED, now, stop))
            else:
                self._attempts.requeue(job, now)
        self.wake_at = min(self._waiting.next_late(), self._waiting.next_due(now, self._attempts.retry_quota))
        pools = [pool for pool in self._pools.values() if len(pool.queue) or pool.held_by is not None]
        self._rotation += 1  # pools take turns at being first, because they share the connections
        for i in range(len(pools)):
            self._drain(pools[(self._rotation + i) % len(pools)], now, actions)
        if self.group is not None:
            self.wake_at = min(self.wake_at, self.group.request_leases(now, actions))
        return actions

    def on_lease(self, name: str, grant: Lease, now: float) -> None:
        """Take over the lease that the group has granted for a pool."""
        if self.group is not None:
            self._dirty = True
            self.group.on_lease(name, grant, now)

    def on_lease_failed(self, name: str, now: float, u: float, because: str | None = None) -> None:
        """Note that the group has not answered for a pool. `because` says why; `u` is from [0, 1)."""
        if self.group is not None:
            self._dirty = True
            self.group.on_lease_failed(name, now, u, because)

    def _drain(self, pool: Pool, now: float, actions: list[Action]) -> None:
        held_by: HeldBy | None = None
        held: Job | None = None
        while (job := pool.queue.head()) is not None:
            if (stop := self._stop_list.reason(job.shape.model, now)) is not None:
                actions.append(self._refuse_waiting(job, Refusal.STOPPED, now, stop))
                continue
            if job is not pool.held:
                self._cost_model.refresh(job, pool, now)
            else:
                job.demand = pool.demand(job.cost)  # limits may have changed meanwhile
            if self._executor_limits.cannot_fit(job):
                actions.append(self._refuse_waiting(job, Refusal.SPENDING_CAP, now, None))
                continue
            if pool.member is not None and pool.member.refuses:
                refuse = self._refuse_waiting(job, Refusal.UNREACHABLE, now, job.last_failure)
                actions.append(replace(refuse, unreachable_reason=pool.member.unreachable_reason))
                continue
            if job.shape.prefix is not None and self._cost_model.prompt_cache.should_wait(job, now):
                until = self._cost_model.prompt_cache.wait_until(job)
                self._waiting.set_aside(job, until)
                self.wake_at = min(self.wake_at, until)
                continue
            at, why = self._opens_at(pool, job, now)
            if at > now:
                self.wake_at = min(self.wake_at, at, self._priority_reserve.lapses_at(job.priority, now))
                held_by, held = why, job
                break
            self._attempts.start(job, pool, now)
            actions.append(Start(job))
        pool.held = held
        if held_by != pool.held_by:
            pool.note_held(held_by, now)

    def _opens_at(self, pool: Pool, job: Job, now: float) -> tuple[float, HeldBy | None]:
        return pool.opens_at(job, now, keep=self._priority_reserve.headroom_for(job.priority, now))

    # ---- an attempt is over

    def headers_due(self, job: Job, now: float) -> bool:
        """Whether the headers of a response to `job` are worth reading; parsing them is not free."""
        return feedback.headers_due(self._pools[job.pool], now)

    def on_response_started(self, job: Job, usage: Usage, hints: ResponseHints, now: float) -> None:
        """Learn from the head of a streamed answer, whose input used `usage`."""
        self._dirty = True
        self._attempts.on_response_started(job, usage, hints, now)

    def on_response(self, job: Job, usage: Usage | None, hints: ResponseHints, now: float) -> None:
        """Settle an attempt that was answered. `usage` is what the API charged; None if it did not say."""
        self._attempts.on_response(job, usage, hints, now)
        self._dirty = True

    def on_abandoned(self, job: Job, now: float, used: Usage | None = None) -> None:
        """Settle an attempt that was abandoned, for whatever reason.

        If `used` is None its estimate stays charged: the request may have reached the API.
        """
        self._attempts.on_abandoned(job, used, now)
        self._dirty = True

    def on_failure(
        self, job: Job, failure: Failure, now: float, u: float, *, again: bool = True
    ) -> Disposition:
        """Settle an attempt that failed, and decide what becomes of its job.

        `again` is False where part of the answer is in use already. On `AGAIN` the job waits for another
        attempt.
        """
        disposition = self._attempts.on_failure(job, failure, now, u, again=again)
        self._dirty = True
        return disposition

    # ---- turning away

    def _refuse_waiting(self, job: Job, refusal: Refusal, now: float, because: Failure | None) -> Refuse:
        self._waiting.leave(job)
        return self._refuse(job, refusal, now, because)

    def _refuse(self, job: Job, refusal: Refusal, now: float, because: Failure | None = None) -> Refuse:
        job.phase = Phase.OVER
        self.event_buffer.refused(job, refusal, now)
        return Refuse(job, refusal, because)
