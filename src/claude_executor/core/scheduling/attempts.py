"""An attempt, from its start to its end: what it takes, and what its outcome teaches.

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
from claude_executor.core.scheduling.inspection import Counters
from claude_executor.core.scheduling.waiting import WaitingRoom


class Attempts:
    """Starts attempts and settles them.

    Attributes:
        retry_quota: What retries are paid from.
        retrying: Whether anything is retried at all; not while the executor is being torn down.
    """

    __slots__ = (
        "_cost_model",
        "_counters",
        "_event_buffer",
        "_executor_limits",
        "_policy",
        "_pools",
        "_reached",
        "_stop_list",
        "_waiting",
        "retry_quota",
        "retrying",
    )  # fmt: skip

    def __init__(
        self,
        pools: Mapping[str, Pool],
        waiting: WaitingRoom,
        ceiling: ExecutorLimits,
        pricing: CostModel,
        stops: StopList,
        tally: Counters,
        emit: EventBuffer,
        policy: RetryPolicy,
        now: float,
    ) -> None:
        """All but the policy are the scheduler's own parts."""
        self._pools = pools
        self._waiting = waiting
        self._executor_limits = ceiling
        self._cost_model = pricing
        self._stop_list = stops
        self._counters = tally
        self._event_buffer = emit
        self._policy = policy
        self._reached = not policy.fail_fast  # then an API that does not answer is taken to be away for now
        self.retry_quota = RetryQuota(policy.ratio, now)
        self.retrying = True

    def start(self, job: Job, pool: Pool, now: float) -> None:
        """Take what it needs; the caller has seen that it is there."""
        self._cost_model.on_start(job)
        self._waiting.start(job)
        pool.take(job, now)
        if job.shape.prefix is not None:
            self._cost_model.prompt_cache.on_start(job, now)
        job.charge, job.responding = 0.0, False
        job.attempts += 1
        self._counters.attempts += 1
        if job.attempts == 1:
            self.retry_quota.earn(now)
        else:
            self._counters.retries += 1
        self._event_buffer.started(job, now, pool.held_by)

    def on_response_started(self, job: Job, usage: Usage, advice: ResponseHints, now: float) -> None:
        """Its answer begins to come, and will have used so much of the input."""
        pool = self._pools[job.pool]
        job.responding = self._reached = True
        pool.note_round_trip(now - job.sent_at)
        if feedback.on_response_started(pool, job, advice, now):
            self._event_buffer.breaker(pool, now)
        if advice.quotes:
            self._event_buffer.limits(pool, now)
        self._free_followers(job, usage, now)

    def on_response(self, job: Job, usage: Usage | None, advice: ResponseHints, now: float) -> None:
        """It was answered, and used so much."""
        pool, actual = self._settle(job, usage, now)
        self._reached = True
        self._counters.answered += 1
        if usage is not None and actual is not None:
            self._cost_model.on_response(job, pool, usage, actual)
        if job.responding:  # the rest was learned then; how long it took since is its reader's doing
            pool.breaker.on_success(job.sent_at, now, probe=False)
        else:
            pool.note_round_trip(now - job.sent_at)
            if feedback.on_response(pool, job, advice, now):
                self._event_buffer.breaker(pool, now)
        if job.pays_retry:
            self.retry_quota.earn(now, succeeded_retry=True)
        if advice.quotes:
            self._event_buffer.limits(pool, now)
        self._event_buffer.answered(job, usage, now)

    def on_abandoned(self, job: Job, used: Usage | None, now: float) -> None:
        """It was cancelled, or ended in a way nobody foresaw, having used so much, if that is known."""
        pool, _ = self._settle(job, used, now)
        self._counters.cancelled += 1
        self._event_buffer.cancelled(job, used, now)
        if job.is_probe:
            pool.breaker.on_probe_abandoned()

    def on_failure(
        self, job: Job, failure: Failure, now: float, u: float, *, again: bool = True
    ) -> Disposition:
        """It failed: what becomes of the job. On `AGAIN` it is back among those waiting.

        Without `again` it is over: what has come of its answer is in use already.
        """
        treatment = FAILURE_POLICIES[failure.kind]
        used = NOTHING_USED if failure.usage is None and treatment.refund else failure.usage
        pool, _ = self._settle(job, used, now)
        if not treatment.retry:
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
        verdict, delay = decide(
            job,
            failure,
            RetryContext(
                self._reached, getting_through, lesson.fits, pool.closed_until, self.retrying and again
            ),
            self._policy,
            now,
            u,
        )
        self._event_buffer.failed(job, failure, delay if verdict is Disposition.AGAIN else None, now)
        if verdict is not Disposition.AGAIN:
            self._counters.failed += 1
            if (
                verdict is Disposition.FAILED
            ):  # one that came too late, or was too large, says nothing of others
                self._stop(job, failure, now)
            return verdict
        job.pays_retry = treatment.counts and getting_through
        if delay > 0.0 or job.pays_retry:
            self._waiting.park(job, now + delay)
        else:
            self.requeue(job, now)
        return verdict

    def _stop(self, job: Job, failure: Failure, now: float) -> None:
        """A job has failed; where others would fail the same way, do not send them."""
        scope = scope_of(failure, reached=self._reached, answered=self._pools[job.pool].answered)
        if scope is not Scope.REQUEST and self._policy.fail_fast:
            until = self._stop_list.add(job.shape.model, failure, scope, now)
            # They will be turned away, not sent.
            self._waiting.recall(lambda job: self._stop_list.reason(job.shape.model, now) is not None, now)
            self._event_buffer.stopped(failure.kind, scope, until, now)

    def _settle(self, job: Job, used: Usage | None, now: float) -> tuple[Pool, Cost | None]:
        """End the attempt of a job, and settle it: every way out of an attempt comes through here, once.

        `used` is what it took: `NOTHING_USED` if it was not charged, not even as a request, `None` if that is
        not known. Returns its pool, and what it was settled to.

        Raises:
            RuntimeError: The job has no attempt under way: it would be settled twice.
        """
        if job.phase is not Phase.RUNNING:
            raise RuntimeError(
                f"request {job.number} has no attempt under way, it is {job.phase.name.lower()}"
            )
        job.phase = Phase.OVER
        self._executor_limits.release(job, used)
        if job.shape.prefix is not None:
            self._free_followers(job, used, now)
        pool = self._pools[job.pool]
        actual = None if used is None else NOTHING if used is NOTHING_USED else pool.cost_of(used)
        pool.settle(job, actual, now)
        return pool, actual

    def _free_followers(self, job: Job, used: Usage | None, now: float) -> None:
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

    def requeue(self, job: Job, now: float) -> None:
        """Back into line, to its place among its like."""
        self._cost_model.on_queued(job, self._pools[job.pool], now)
        self._waiting.join(job)
