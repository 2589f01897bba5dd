"""Counts what the scheduler does, and records it as events while a listener is registered."""

from dataclasses import dataclass

from claude_executor.core.group.member import GroupMember
from claude_executor.core.model import events as ev
from claude_executor.core.model.actions import Refusal
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import Failure, FailureKind, Scope
from claude_executor.core.model.gate import HeldBy
from claude_executor.core.model.job import Job
from claude_executor.core.pool.pool import Pool


@dataclass(slots=True)
class Counters:
    """Counts since the executor was made.

    Attributes:
        answered: Requests that succeeded.
        failed: Requests that failed or were refused.
        cancelled: Requests that their callers gave up.
        attempts: Attempts made.
        retries: Attempts that were not the first of their request.
    """

    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    retries: int = 0


class EventBuffer:
    """Counts outcomes, and collects events until the shell takes them away with `take`.

    Attributes:
        listening: Whether events are collected at all; counts always are.
        counters: The counts.
    """

    __slots__ = ("_collected", "_limits", "counters", "listening")

    def __init__(self) -> None:
        self.counters = Counters()
        self.listening = False
        self._collected: list[ev.Event] = []
        self._limits: dict[tuple[str, str], float] = {}

    def take(self) -> list[ev.Event]:
        """Return the events since the last call."""
        collected, self._collected = self._collected, []
        return collected

    def submitted(self, job: Job, now: float) -> None:
        """Record a request that was submitted."""
        if self.listening:
            self._request(ev.RequestSubmitted, job, now)

    def started(self, job: Job, now: float, held_by: HeldBy | None = None) -> None:
        """Count and record an attempt that is sent. `held_by` is what held its queue until now."""
        self.counters.attempts += 1
        if job.attempts > 1:
            self.counters.retries += 1
        if self.listening:
            waited = now - job.submitted_at
            held_by = held_by if waited > 0.0 else None
            self._request(
                ev.AttemptStarted, job, now, attempt=job.attempts, queue_time=waited, held_by=held_by
            )

    def answered(self, job: Job, usage: Usage | None, now: float) -> None:
        """Count and record a request that was answered."""
        self.counters.answered += 1
        if self.listening:
            waited, took = job.sent_at - job.submitted_at, now - job.sent_at
            self._request(
                ev.RequestAnswered,
                job,
                now,
                attempts=job.attempts,
                queue_time=waited,
                duration=took,
                usage=usage,
            )

    def failed(self, job: Job, failure: Failure, retry_in: float | None, now: float) -> None:
        """Record an attempt that failed, and count its request as failed if `retry_in` is None."""
        if retry_in is None:
            self.counters.failed += 1
        if self.listening:
            self._request(
                ev.AttemptFailed, job, now, attempt=job.attempts, kind=failure.kind, status=failure.status,
                request_id=failure.request_id, retry_in=retry_in, usage=failure.usage,
            )  # fmt: skip

    def refused(self, job: Job, reason: Refusal, now: float) -> None:
        """Count and record a request that is refused."""
        self.counters.failed += 1
        if self.listening:
            self._request(ev.RequestRefused, job, now, reason=reason)

    def cancelled(self, job: Job, usage: Usage | None, now: float) -> None:
        """Count and record a request that its caller gave up."""
        self.counters.cancelled += 1
        if self.listening:
            self._request(ev.RequestCancelled, job, now, attempts=job.attempts, usage=usage)

    def closed(self, pool: Pool, kind: FailureKind, now: float) -> None:
        """Record that a 429 closed a pool."""
        if self.listening:
            self._collected.append(ev.PoolClosed(at=now, pool=pool.name, kind=kind, until=pool.closed_until))

    def breaker(self, pool: Pool, now: float) -> None:
        """Record that a circuit breaker changed state."""
        if self.listening:
            until = pool.breaker.opens_at if pool.breaker.opens_at > now else None
            self._collected.append(
                ev.BreakerChanged(at=now, pool=pool.name, state=pool.breaker.state, until=until)
            )

    def limits(self, pool: Pool, now: float) -> None:
        """Record the limits in force that differ from those recorded last."""
        if not self.listening:
            return
        for resource, estimator in pool.estimators.items():
            limit, key = estimator.limit, (pool.name, resource.value)
            if limit is not None and self._limits.get(key) != limit:
                self._limits[key] = limit
                self._collected.append(
                    ev.LimitLearned(
                        at=now, pool=pool.name, resource=resource, limit=limit, source=estimator.source
                    )
                )

    def sharing_changed(self, pool: Pool, member: GroupMember, now: float) -> None:
        """Record that a pool has joined its group, or can no longer reach it."""
        if self.listening:
            self._collected.append(
                ev.SharingChanged(
                    at=now,
                    pool=pool.name,
                    state=member.state,
                    members=member.members,
                    share=member.share,
                    reason=member.unreachable_reason,
                )
            )

    def stopped(self, kind: FailureKind, scope: Scope, until: float, now: float) -> None:
        """Record that requests are refused from now on."""
        if self.listening:
            self._collected.append(ev.RequestsStopped(at=now, kind=kind, scope=scope, until=until))

    def _request(self, event: type[ev.RequestEvent], job: Job, now: float, **details: object) -> None:
        self._collected.append(
            event(
                at=now,
                number=job.number,
                pool=job.pool,
                model=job.shape.model,
                tenant=job.tenant,
                submitted_at=job.submitted_at,
                **details,
            )
        )
