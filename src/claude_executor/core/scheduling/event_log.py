"""Turns what the scheduler does into events, for whoever listens; costs nothing while nobody does."""

from claude_executor.core.group.member import GroupMember
from claude_executor.core.model import events as ev
from claude_executor.core.model.actions import Refusal
from claude_executor.core.model.cost import Usage
from claude_executor.core.model.failure import Failure, FailureKind, Scope
from claude_executor.core.model.gate import HeldBy
from claude_executor.core.model.job import Job
from claude_executor.core.pool.pool import Pool


class EventBuffer:
    """Collects events until the shell takes them away with `take`."""

    __slots__ = ("_collected", "_limits", "listening")

    def __init__(self) -> None:
        self.listening = False
        self._collected: list[ev.Event] = []
        self._limits: dict[tuple[str, str], float] = {}

    def take(self) -> list[ev.Event]:
        """What has happened since the last call."""
        collected, self._collected = self._collected, []
        return collected

    def submitted(self, job: Job, now: float) -> None:
        """A request has come."""
        if self.listening:
            self._request(ev.RequestSubmitted, job, now)

    def started(self, job: Job, now: float, held_by: HeldBy | None = None) -> None:
        """An attempt is sent; `held_by` is what its pool's line was held up by until now."""
        if self.listening:
            waited = now - job.submitted_at
            held_by = held_by if waited > 0.0 else None
            self._request(
                ev.AttemptStarted, job, now, attempt=job.attempts, queue_time=waited, held_by=held_by
            )

    def answered(self, job: Job, usage: Usage | None, now: float) -> None:
        """A request was answered."""
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
        """An attempt failed."""
        if self.listening:
            self._request(
                ev.AttemptFailed, job, now, attempt=job.attempts, kind=failure.kind, status=failure.status,
                request_id=failure.request_id, retry_in=retry_in, usage=failure.usage,
            )  # fmt: skip

    def refused(self, job: Job, reason: Refusal, now: float) -> None:
        """A request was turned away."""
        if self.listening:
            self._request(ev.RequestRefused, job, now, reason=reason)

    def cancelled(self, job: Job, usage: Usage | None, now: float) -> None:
        """A request was given up by its caller."""
        if self.listening:
            self._request(ev.RequestCancelled, job, now, attempts=job.attempts, usage=usage)

    def closed(self, pool: Pool, kind: FailureKind, now: float) -> None:
        """A 429 closed a pool."""
        if self.listening:
            self._collected.append(ev.PoolClosed(at=now, pool=pool.name, kind=kind, until=pool.closed_until))

    def breaker(self, pool: Pool, now: float) -> None:
        """A circuit breaker changed state."""
        if self.listening:
            until = pool.breaker.opens_at if pool.breaker.opens_at > now else None
            self._collected.append(
                ev.BreakerChanged(at=now, pool=pool.name, state=pool.breaker.state, until=until)
            )

    def limits(self, pool: Pool, now: float) -> None:
        """Headers were read; says which limits in force are news."""
        if not self.listening:
            return
        for resource, meter in pool.estimators.items():
            limit, key = meter.limit, (pool.name, resource.value)
            if limit is not None and self._limits.get(key) != limit:
                self._limits[key] = limit
                self._collected.append(
                    ev.LimitLearned(
                        at=now, pool=pool.name, resource=resource, limit=limit, source=meter.source
                    )
                )

    def sharing_changed(self, pool: Pool, share: GroupMember, now: float) -> None:
        """A pool has joined its group, or lost it."""
        if self.listening:
            self._collected.append(
                ev.SharingChanged(
                    at=now,
                    pool=pool.name,
                    state=share.state,
                    members=share.members,
                    share=share.share,
                    reason=share.unreachable_reason,
                )
            )

    def stopped(self, kind: FailureKind, scope: Scope, until: float, now: float) -> None:
        """Requests are refused from now on."""
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
