"""The part of a scheduler that has to do with a group: when to ask it for which pool, what it answered."""

from collections.abc import Mapping

from claude_executor.core.group.member import Share
from claude_executor.core.model.actions import Action, Reserve
from claude_executor.core.model.gate import NEVER
from claude_executor.core.model.sharing import Grant, Membership
from claude_executor.core.pool.pool import Pool
from claude_executor.core.scheduling.event_log import Emitter
from claude_executor.core.scheduling.executor_limits import Ceiling
from claude_executor.core.scheduling.waiting import Urgency


class Group:
    """The group of one scheduler, whose pools all have a `Share`."""

    __slots__ = ("_ceiling", "_emit", "_membership", "_pools", "_urgency")

    def __init__(
        self,
        membership: Membership,
        pools: Mapping[str, Pool],
        ceiling: Ceiling,
        urgency: Urgency,
        emit: Emitter,
    ) -> None:
        """`pools` are the scheduler's, also those that are to come."""
        self._membership = membership
        self._pools = pools
        self._ceiling = ceiling
        self._urgency = urgency
        self._emit = emit

    def share(self) -> Share:
        """For a new pool."""
        return Share(self._membership)

    def ask(self, now: float, actions: list[Action]) -> float:
        """Ask where it is time to, now that it is known what is held up; when it will be time again."""
        wake_at = NEVER
        for pool, share in self._shared():
            if (at := share.due_at(pool, now)) <= now:
                keep = 0.0 if pool.held is None else self._urgency.kept_from(pool.held.priority, now)
                ask = share.ask(pool, now, room=self._ceiling.room, keep=keep)
                actions.append(Reserve(pool.name, ask))
            else:
                wake_at = min(wake_at, at)
        return wake_at

    def granted(self, name: str, grant: Grant, now: float) -> None:
        """It has answered what `Reserve` asked for this pool."""
        pool = self._pools[name]
        assert pool.share is not None
        before = pool.share.standing
        pool.share.granted(pool, grant, now)
        self._emit.limits(pool, now)
        if before is not pool.share.standing:
            self._emit.standing(pool, pool.share, now)

    def unreachable(self, name: str, now: float, u: float, because: str | None) -> None:
        """It has not answered."""
        pool = self._pools[name]
        assert pool.share is not None
        if pool.share.unreachable(pool, now, u, because):
            self._emit.standing(pool, pool.share, now)

    def farewell(self, now: float) -> list[Reserve]:
        """What to tell it on leaving."""
        return [
            Reserve(pool.name, share.ask(pool, now, room=0, keep=0.0, leaving=True))
            for pool, share in self._shared()
        ]

    def _shared(self) -> list[tuple[Pool, Share]]:
        return [(pool, pool.share) for pool in self._pools.values() if pool.share is not None]
