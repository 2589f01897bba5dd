"""Attempts: what each takes from the limits when it starts, and what its outcome teaches.

Every way out of an attempt settles it exactly once.
"""

from collections.abc import Mapping

from claude_executor.core.control.retry import RetryPolicy, RetryQuota
from claude_executor.core.model.actions import Disposition
from claude_executor.core.model.cost import NOTHING, NOTHING_USED, Cost, Usage
from claude_executor.core.model.failure import FAILURE_POLICIES, Failure, Scope
from claude_executor.core.model.gate import BreakerState
from claude_executor.core.model.headers import ResponseHints
from claude_executor.core.model.job import Job, Phase
from claude_executor.core.pool import feedback
from claude_executor.core.pool.pool import Pool
from claude_executor.core.scheduling.cost_model import CostModel
from claude_executor.core.scheduling.event_log import EventBuffer
from claude_executor.core.scheduling.executor_limits import ExecutorLimits
from claude_executor.core.scheduling.failure_decisions import RetryContext, StopList, decide, scope_of
from claude_executor.core.scheduling.waiting import WaitingRoom


class Attempts:
    """Starts attempts and settles them.

    Attributes:
        stop_list: Models whose requests are refused without being sent, after a failure that others share.
        retry_quota: What retries are paid from.
        retrying: Whether anything is retried; False once the executor is being torn down.
    """

    __slots__ = (
        "_cost_model", "_event_buffer", "_executor_limits", "_policy", "_pools", "_reached", "_waiting",
        "retry_quota", "retrying", "stop_list",
    )  # fmt: skip

    def __init__(
        self,
        pools: Mapping[str, Pool],
        waiting: WaitingRoom,
        executor_limits: ExecutorLimits,
        cost_model: CostModel,
        event_buffer: EventBuffer,
        policy: RetryPolicy,
        now: float,
    ) -> None:
        """Work on the scheduler's own pools, waiting room, limits, cost model and event buffer."""
        self._pools = pools
        self._waiting = waiting
        self._executor_limits = executor_limits
        self._cost_model = cost_model
        self._event_buffer = event_buffer
        self._policy = policy
        self._reached = not policy.fail_fast  # then a silent API is taken to be down, not misaddressed
        self.stop_list = StopList()
        self.retry_quota = RetryQuota(policy.ratio, now)
        self.retrying = True

    def start(self, job: Job, pool: Pool, now: float) -> None:
        """Start an attempt and take what it needs. The caller has asked the gates."""
        self._cost_model.on_start(job)
        self._waiting.start(job)
        pool.take(job, now)
        if job.shape.prefix is not None:
            self._cost_model.prompt_cache.on_start(job, now)
        job.charge, job.responding = 0.0, False
        job.attempts += 1
        if job.attempts == 1:
            self.retry_quota.earn(now)
        self._event_buffer.started(job, now, pool.held_by)

    def on_response_started(self, job: Job, usage: Usage, hints: ResponseHints, now: float) -> None:
        """Learn from the head of a streamed answer, whose input used `usage`."""
        pool = self._pools[job.pool]
        job.responding = self._reached = True
        pool.note_round_trip(now - job.sent_at)
        if feedback.on_response_started(pool, job, hints, now):
            self._event_buffer.breaker(pool, now)
        if hints.quotes:
            self._event_buffer.limits(pool, now)
        self._free_followers(job, usage, now)

    def on_response(self, job: Job, usage: Usage | None, hints: ResponseHints, now: float) -> None:
        """Settle an attempt that was answered. `usage` is what the API charged; None if it did not say."""
        pool, actual = self._settle(job, usage, now)
        self._reached = True
        if usage is not None and actual is not None:
            self._cost_model.on_response(job, pool, usage, actual)
        if job.responding:  # the head has taught the rest; how long the body took is up to its reader
            pool.breaker.on_success(job.sent_at, now, probe=False)
        else:
            pool.note_round_trip(now - job.sent_at)
            if feedback.on_response(pool, job, hints, now):
                self._event_buffer.breaker(pool, now)
        if job.pays_retry:
            self.retry_quota.earn(now, succeeded_retry=True)
        if hints.quotes:
            self._event_buffer.limits(pool, now)
        self._event_buffer.answered(job, usage, now)

    def on_abandoned(self, job: Job, used: Usage | None, now: float) -> None:
        """Settle an attempt that was abandoned. If `used` is None its estimate stays charged."""
        pool, _ = self._settle(job, used, now)
        self._event_buffer.cancelled(job, used, now)
        if job.is_probe:
            pool.breaker.on_probe_abandoned()

    def on_failure(
        self, job: Job, failure: Failure, now: float, u: float, *, again: bool = True
    ) -> Disposition:
        """Settle an attempt that failed, and decide what becomes of its job.

        Args:
            job: The job whose attempt failed.
            failure: How it failed.
            now: The current instant.
            u: A number drawn from [0, 1).
            again: False where part of the answer is in use already, so that it cannot be retried.

        Returns:
            `AGAIN` if the job waits for another attempt.
        """
        policy = FAILURE_POLICIES[failure.kind]
        used = NOTHING_USED if failure.usage is None and policy.refund else failure.usage
        pool, _ = self._settle(job, used, now)
        if not policy.retry:
            pool.slow_start.give_back(job.slow_start_seconds, now)
        job.last_failure = failure
        self._reached = self._reached or failure.status is not None
        lesson = feedback.on_failure(pool, job, failure, now, u)
        self._event_buffer.limits(pool, now)
        if lesson.closed:
            self._event_buffer.closed(pool, failure.kind, now)
        if lesson.tripped:
            self._event_buffer.breaker(pool, now)
        getting_through = pool.breaker.state is BreakerState.CLOSED
        context = RetryContext(
            self._reached, getting_through, lesson.fits, pool.closed_until, self.retrying and again
        )
        disposition, delay = decide(job, failure, context, self._policy, now, u)
        retried = disposition is Disposition.AGAIN
        self._event_buffer.failed(job, failure, delay if retried else None, now)
        if not retried:
            if disposition is Disposition.FAILED:  # one that came too late or was too large concerns no other
                self._stop_others(job, failure, now)
            return disposition
        job.pays_retry = policy.counts and getting_through
        if delay > 0.0 or job.pays_retry:
            self._waiting.park(job, now + delay)
        else:
            self.requeue(job, now)
        return disposition

    def requeue(self, job: Job, now: float) -> None:
        """Put a job back into its queue, among others of its kind."""
        self._cost_model.on_queued(job, self._pools[job.pool], now)
        self._waiting.join(job)

    def _stop_others(self, job: Job, failure: Failure, now: float) -> None:
        """Refuse, for a while, the requests that would fail the same way."""
        scope = scope_of(failure, reached=self._reached, answered=self._pools[job.pool].answered)
        if scope is not Scope.REQUEST and self._policy.fail_fast:
            until = self.stop_list.add(job.shape.model, failure, scope, now)
            self._waiting.recall(lambda job: self.stop_list.reason(job.shape.model, now) is not None, now)
            self._event_buffer.stopped(failure.kind, scope, until, now)

    def _settle(self, job: Job, used: Usage | None, now: float) -> tuple[Pool, Cost | None]:
        """End the attempt of a job: every way out of an attempt comes through here, once.

        `used` is what it took: `NOTHING_USED` if it was not even charged as a request, None if unknown.
        Returns the job's pool, and the cost the attempt was settled to.

        Raises:
            RuntimeError: The job has no attempt under way; settling it twice would lose count.
        """
        if job.phase is not Phase.RUNNING:
            phase = job.phase.name.lower()
            raise RuntimeError(f"request {job.number} has no attempt under way, it is {phase}")
        job.phase = Phase.OVER
        self._executor_limits.release(job, used)
        if job.shape.prefix is not None:
            self._free_followers(job, used, now)
        pool = self._pools[job.pool]
        actual = None if used is None else NOTHING if used is NOTHING_USED else pool.cost_of(used)
        pool.settle(job, actual, now)
        return pool, actual

    def _free_followers(self, job: Job, used: Usage | None, now: float) -> None:
        """Recall the jobs that wait for this one to write their common prefix to the prompt cache."""
        if self._cost_model.prompt_cache.on_response(job, used, now):
            mine = job.shape
            self._waiting.recall(
                lambda other: (
                    not other.attempts
                    and other.shape.prefix == mine.prefix
                    and other.shape.model == mine.model
                ),
                now,
            )
