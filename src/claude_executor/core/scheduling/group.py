"""The part of a scheduler that has to do with a group: when to ask it for which pool, what it answered."""

from collections.abc import Mapping

from claude_executor.core.group.member import GroupMember
from claude_executor.core.model.actions import Action, RequestLease
from claude_executor.core.model.gate import NEVER
from claude_executor.core.model.sharing import Lease, Membership
from claude_executor.core.pool.pool import Pool
from claude_executor.core.scheduling.event_log import Emitter
from claude_executor.core.scheduling.executor_limits import Ceiling
from claude_executor.core.scheduling.waiting import Urgency


class GroupCoordinator:
    """The group of one scheduler, whose pools all have a `GroupMember`."""

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

    def new_member(self) -> GroupMember:
        """For a new pool."""
        return GroupMember(self._membership)

    def request_leases(self, now: float, actions: list[Action]) -> float:
        """Ask where it is time to, now that it is known what is held up; when it will be time again."""
        wake_at = NEVER
        for pool, share in self._members():
            if (at := share.due_at(pool, now)) <= now:
                keep = 0.0 if pool.held is None else self._urgency.kept_from(pool.held.priority, now)
                ask = share.next_request(pool, now, room=self._ceiling.room, keep=keep)
                actions.append(RequestLease(pool.name, ask))
            else:
                wake_at = min(wake_at, at)
        return wake_at

    def on_lease(self, name: str, grant: Lease, now: float) -> None:
        """It has answered what `RequestLease` asked for this pool."""
        pool = self._pools[name]
        assert pool.member is not None
        before = pool.member.state
        pool.member.on_lease(pool, grant, now)
        self._emit.limits(pool, now)
        if before is not pool.member.state:
            self._emit.sharing_changed(pool, pool.member, now)

    def on_lease_failed(self, name: str, now: float, u: float, because: str | None) -> None:
        """It has not answered."""
        pool = self._pools[name]
        assert pool.member is not None
        if pool.member.on_lease_failed(pool, now, u, because):
            self._emit.sharing_changed(pool, pool.member, now)

    def release_all(self, now: float) -> list[RequestLease]:
        """What to tell it on leaving."""
        return [
            RequestLease(pool.name, share.next_request(pool, now, room=0, keep=0.0, leaving=True))
            for pool, share in self._members()
        ]

    def _members(self) -> list[tuple[Pool, GroupMember]]:
        return [(pool, pool.member) for pool in self._pools.values() if pool.member is not None]
