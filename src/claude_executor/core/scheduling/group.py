"""The part of a scheduler that has to do with a group: when to ask it for which pool, what it answered."""

from collections.abc import Mapping

from claude_executor.core.group.member import GroupMember
from claude_executor.core.model.actions import Action, RequestLease
from claude_executor.core.model.gate import NEVER
from claude_executor.core.model.sharing import Lease, Membership
from claude_executor.core.pool.pool import Pool
from claude_executor.core.scheduling.event_log import EventBuffer
from claude_executor.core.scheduling.executor_limits import ExecutorLimits
from claude_executor.core.scheduling.waiting import PriorityReserve


class GroupCoordinator:
    """The group of one scheduler, whose pools all have a `GroupMember`."""

    __slots__ = (
        "_by_pool",
        "_event_buffer",
        "_executor_limits",
        "_membership",
        "_pools",
        "_priority_reserve",
    )

    def __init__(
        self,
        membership: Membership,
        pools: Mapping[str, Pool],
        ceiling: ExecutorLimits,
        urgency: PriorityReserve,
        emit: EventBuffer,
    ) -> None:
        """`pools` are the scheduler's, also those that are to come."""
        self._membership = membership
        self._by_pool: dict[str, GroupMember] = {}
        self._pools = pools
        self._executor_limits = ceiling
        self._priority_reserve = urgency
        self._event_buffer = emit

    def new_member(self, pool: str) -> GroupMember:
        """Return this executor's membership of the group for a new pool of that name."""
        member = self._by_pool[pool] = GroupMember(self._membership)
        return member

    def request_leases(self, now: float, actions: list[Action]) -> float:
        """Ask where it is time to, now that it is known what is held up; when it will be time again."""
        wake_at = NEVER
        for pool, share in self._members():
            if (at := share.due_at(pool, now)) <= now:
                keep = (
                    0.0 if pool.held is None else self._priority_reserve.headroom_for(pool.held.priority, now)
                )
                ask = share.next_request(pool, now, room=self._executor_limits.room, keep=keep)
                actions.append(RequestLease(pool.name, ask))
            else:
                wake_at = min(wake_at, at)
        return wake_at

    def on_lease(self, name: str, grant: Lease, now: float) -> None:
        """It has answered what `RequestLease` asked for this pool."""
        pool, member = self._pools[name], self._by_pool[name]
        before = member.state
        member.on_lease(pool, grant, now)
        self._event_buffer.limits(pool, now)
        if before is not member.state:
            self._event_buffer.sharing_changed(pool, member, now)

    def on_lease_failed(self, name: str, now: float, u: float, because: str | None) -> None:
        """It has not answered."""
        pool, member = self._pools[name], self._by_pool[name]
        if member.on_lease_failed(pool, now, u, because):
            self._event_buffer.sharing_changed(pool, member, now)

    def release_all(self, now: float) -> list[RequestLease]:
        """What to tell it on leaving."""
        return [
            RequestLease(pool.name, share.next_request(pool, now, room=0, keep=0.0, leaving=True))
            for pool, share in self._members()
        ]

    def _members(self) -> list[tuple[Pool, GroupMember]]:
        return [(pool, self._by_pool[pool.name]) for pool in self._pools.values()]
