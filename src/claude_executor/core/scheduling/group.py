"""The group of one scheduler: which pool must ask it when, and what its answers change."""

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
    """The group of one scheduler. Every pool of the scheduler is a `GroupMember` of its own."""

    __slots__ = (
        "_event_buffer",
        "_executor_limits",
        "_members",
        "_membership",
        "_pools",
        "_priority_reserve",
    )

    def __init__(
        self,
        membership: Membership,
        pools: Mapping[str, Pool],
        executor_limits: ExecutorLimits,
        priority_reserve: PriorityReserve,
        event_buffer: EventBuffer,
    ) -> None:
        """Coordinate the pools of a scheduler.

        Args:
            membership: The terms on which the executor takes part.
            pools: The scheduler's pools. It may add some later.
            executor_limits: The executor's own limits: a lease for more than they allow would lie idle.
            priority_reserve: The reserve for higher priorities, which the group must leave too.
            event_buffer: The buffer for the events of the group.
        """
        self._membership = membership
        self._members: dict[str, GroupMember] = {}
        self._pools = pools
        self._executor_limits = executor_limits
        self._priority_reserve = priority_reserve
        self._event_buffer = event_buffer

    def new_member(self, pool: str) -> GroupMember:
        """Return this executor's membership of the group for a new pool of that name."""
        member = self._members[pool] = GroupMember(self._membership)
        return member

    def request_leases(self, now: float, actions: list[Action]) -> float:
        """Append a `RequestLease` for every pool that must ask now.

        Call it after all queues have been polled: only then it is known what holds them back.

        Returns:
            The instant at which the next pool must ask.
        """
        wake_at = NEVER
        for name, member in self._members.items():
            if (at := member.due_at(now)) <= now:
                head = self._pools[name].held
                keep = 0.0 if head is None else self._priority_reserve.headroom_for(head.priority, now)
                request = member.next_request(now, room=self._executor_limits.room, keep=keep)
                actions.append(RequestLease(name, request))
            else:
                wake_at = min(wake_at, at)
        return wake_at

    def on_lease(self, name: str, lease: Lease, now: float) -> None:
        """Apply the answer to the `RequestLease` of the pool `name`."""
        pool, member = self._pools[name], self._members[name]
        before = member.state
        member.on_lease(lease, now)
        self._event_buffer.limits(pool, now)
        if before is not member.state:
            self._event_buffer.sharing_changed(pool, member, now)

    def on_lease_failed(self, name: str, now: float, u: float, because: str | None) -> None:
        """Continue without an answer to the `RequestLease` of the pool `name`.

        Args:
            name: The name of the pool.
            now: The current instant.
            u: A random number from [0, 1).
            because: Why there was no answer, for users.
        """
        member = self._members[name]
        if member.on_lease_failed(now, u, because):
            self._event_buffer.sharing_changed(self._pools[name], member, now)

    def release_all(self, now: float) -> list[RequestLease]:
        """Return the last request of every pool, which gives back everything and leaves the group."""
        return [
            RequestLease(name, member.next_request(now, room=0, keep=0.0, leaving=True))
            for name, member in self._members.items()
        ]
