"""The pools of one executor: made when a model is first asked for, and dropped when they turn out unused."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.control.bucket import TokenBucket
from claude_executor.core.model.limits import Limits, normalized
from claude_executor.core.pool.pool import Pool
from claude_executor.core.scheduling.executor_limits import ExecutorLimits
from claude_executor.core.scheduling.waiting import WaitingRoom

if TYPE_CHECKING:
    from claude_executor.core.scheduling.group import GroupCoordinator

MAX_POOLS = 100
"""Pools before those are dropped that have never answered."""


class PoolRegistry:
    """Makes pools, and passes on changes of the declared limits to them.

    Attributes:
        pools: The pools by name. The scheduler's other parts look at this very mapping.
        group: The group that shares the limits; None without one.
    """

    __slots__ = ("_breaker", "_drop_at", "_executor_limits", "_limits", "group", "pools")

    def __init__(
        self,
        limits: Limits | Mapping[str, Limits],
        executor_limits: ExecutorLimits,
        breaker: BreakerPolicy,
    ) -> None:
        """Start without pools. `limits` are the declared ones, by pool where they differ."""
        self._limits = normalized(limits)
        self._executor_limits = executor_limits
        self._breaker = breaker
        self._drop_at = MAX_POOLS
        self.group: GroupCoordinator | None = None
        self.pools: dict[str, Pool] = {}

    def obtain(self, name: str, waiting: WaitingRoom, now: float) -> Pool:
        """Return the pool of this name; make it if there is none yet. Pools of `waiting` jobs are kept."""
        pool = self.pools.get(name)
        if pool is None:
            if len(self.pools) >= self._drop_at:
                self._drop_unused(waiting, now)
            member = None if self.group is None else self.group.new_member(name)
            pool = self.pools[name] = Pool(
                name,
                self._limits,
                ceiling=self._executor_limits.max_running,
                breaker=self._breaker,
                now=now,
                member=member,
                new_bucket=TokenBucket if member is None else member.new_bucket,
                executor_gates=self._executor_limits.gates,
            )
            if member is not None:
                member.attach(pool)
        return pool

    def reconfigure(
        self,
        limits: Limits | Mapping[str, Limits] | None,
        changes: Mapping[str, float],
        max_concurrency: int | None,
        now: float,
    ) -> None:
        """Replace the declared limits, or fields of them, in every pool, and the executor's concurrency.

        Raises:
            ValueError: One of the values is no limit; then nothing has changed.
        """
        declared = self._limits if limits is None else normalized(limits)
        if changes:
            declared = {pool: replace(limit, **changes) for pool, limit in declared.items()}
        if max_concurrency is not None:
            self._executor_limits.reconfigure(max_concurrency)
        self._limits = declared
        for pool in self.pools.values():
            pool.set_declared(declared, now)
            pool.concurrency.reconfigure(self._executor_limits.max_running)

    def _drop_unused(self, waiting: WaitingRoom, now: float) -> None:
        """Drop idle pools that never answered: callers may send any text as a model name."""
        used = {job.pool for job in waiting.everyone()}
        for name, pool in tuple(self.pools.items()):
            idle = not pool.in_flight and name not in used and pool.closed_until <= now
            if idle and not pool.answered and pool.member is None:
                del self.pools[name]
        self._drop_at = max(MAX_POOLS, 2 * len(self.pools))
