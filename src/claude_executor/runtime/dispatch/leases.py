"""Carries the scheduler's lease requests to the budget that executors share, and its answers back."""

import asyncio
from collections.abc import Callable

from claude_executor.budget import Budget, Unreachable
from claude_executor.core.model.actions import RequestLease
from claude_executor.core.scheduling.scheduler import Scheduler


class LeaseRequests:
    """The lease requests of one executor, each in a task of its own."""

    def __init__(
        self,
        scheduler: Scheduler,
        budget: Budget,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        on_answer: Callable[[], None],
    ) -> None:
        """`on_answer` is called after every answer of the group, which may let requests start."""
        self._scheduler = scheduler
        self._budget = budget
        self._clock = clock
        self._random = random
        self._on_answer = on_answer
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect to the budget."""
        await self._budget.open()

    def send(self, action: RequestLease, loop: asyncio.AbstractEventLoop) -> None:
        """Send a lease request, and pass the answer to the scheduler when it arrives."""
        task = loop.create_task(self._send(action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, action: RequestLease) -> None:
        try:
            lease = await self._budget.lease(action.pool, action.request)
        except Exception as error:  # whatever it is, the pool must not wait for this lease any longer
            because = str(error) if isinstance(error, Unreachable) else type(error).__name__
            self._scheduler.on_lease_failed(action.pool, self._clock(), self._random(), because)
        else:
            self._scheduler.on_lease(action.pool, lease, self._clock())
        self._on_answer()

    async def leave(self) -> None:
        """Leave the group, which would notice by itself only after some seconds."""
        group = self._scheduler.group
        if group is None:
            return
        try:
            if self._tasks:  # their requests carry what is given back
                await asyncio.wait(self._tasks)
            for releases in group.release_all(self._clock()):
                await self._budget.lease(releases.pool, releases.request)
        except Exception:
            pass  # the group will notice
        finally:
            await self._budget.close()
