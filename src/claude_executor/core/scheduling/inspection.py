"""Reads the state of a scheduler off its parts, as plain values."""

from collections.abc import Mapping

from claude_executor.core.model.gate import BreakerState
from claude_executor.core.model.snapshot import PoolState, ResourceState, Snapshot
from claude_executor.core.pool.pool import Pool
from claude_executor.core.scheduling.event_log import Counters
from claude_executor.core.scheduling.waiting import WaitingRoom


def snapshot(
    waiting: WaitingRoom, running: int, counters: Counters, pools: Mapping[str, Pool], now: float
) -> Snapshot:
    """Return the state of an executor at this moment."""
    return Snapshot(
        queued=waiting.queued + waiting.aside,
        running=running,
        waiting_to_retry=waiting.parked - waiting.aside,
        answered=counters.answered,
        failed=counters.failed,
        attempts=counters.attempts,
        retries=counters.retries,
        pools={name: state_of(pool, now) for name, pool in pools.items()},
    )


def state_of(pool: Pool, now: float) -> PoolState:
    """Return the state of one pool."""
    used = pool.used.last_minute(now)
    resources = {
        resource.value: ResourceState(
            limit=limit,
            source=estimator.source,
            level=estimator.bucket.level(now),
            capacity=estimator.bucket.capacity,
            foreign_rate=estimator.foreign_rate * 60.0,
            used=estimator.amount(used),
            used_in_all=estimator.amount(pool.used.in_all),
        )
        for resource, estimator in pool.estimators.items()
        if estimator.bucket is not None and (limit := estimator.limit) is not None
    }
    held_for = dict(pool.held_for)
    if pool.held_by is not None:
        held_for[pool.held_by] = held_for.get(pool.held_by, 0.0) + now - pool.held_since
    return PoolState(
        resources=resources,
        queued=len(pool.queue),
        running=pool.in_flight,
        concurrency=pool.concurrency.limit,
        breaker=pool.breaker.state,
        probe_in=max(0.0, pool.breaker.opens_at - now) if pool.breaker.state is BreakerState.OPEN else 0.0,
        closed_for=max(0.0, pool.closed_until - now),
        held_by=pool.held_by,
        held_for=held_for,
        round_trip=pool.round_trip,
        refusals=pool.refusals,
        sharing=None if pool.member is None else pool.member.state,
        members=1 if pool.member is None else pool.member.members,
        share=1.0 if pool.member is None else pool.member.share,
        unreachable_reason=None if pool.member is None else pool.member.unreachable_reason,
    )
