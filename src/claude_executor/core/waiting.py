"""Where jobs are while they hold nothing: in their pool's line, or parked until their next attempt is due.

Lines keep the order; this keeps the count, the clock and the phases. Entries of jobs that are over are
skipped when they come up, and swept out when they become many.
"""

import heapq
from collections.abc import Iterator, Mapping

from claude_executor.core.job import Job, Phase
from claude_executor.core.pool import NEVER, Pool
from claude_executor.core.retry import RetryBudget

SWEEP_AT = 1_000
"""Deadlines of jobs that are over, before they are swept out."""

_Heap = list[tuple[float, int, Job]]


class Waiting:
    """The jobs that wait. `queued` of them stand in line, `parked` of them are not due yet."""

    __slots__ = ("_deadlines", "_parked", "_pools", "parked", "queued")

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._parked: _Heap = []
        self._deadlines: _Heap = []
        self.queued = 0
        self.parked = 0

    def __len__(self) -> int:
        return self.queued + self.parked

    def join(self, job: Job, *, in_front: bool = False) -> None:
        """Stand in line."""
        job.phase = Phase.WAITING
        self.queued += 1
        self._pools[job.pool].line.push(job, in_front=in_front)

    def watch(self, job: Job) -> None:
        """Mind the job's deadline, for as long as it waits."""
        if job.deadline_at == NEVER:
            return
        if len(self._deadlines) > SWEEP_AT + 2 * len(self):
            self._deadlines = [entry for entry in self._deadlines if entry[2].phase is not Phase.OVER]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (job.deadline_at, job.number, job))

    def park(self, job: Job, until: float) -> None:
        """Wait elsewhere until the next attempt is due."""
        job.phase = Phase.PARKED
        self.parked += 1
        heapq.heappush(self._parked, (until, job.number, job))

    def recall(self, now: float) -> None:
        """Let all parked jobs be due now."""
        self._parked = [(min(at, now), number, job) for at, number, job in self._parked]
        heapq.heapify(self._parked)

    def start(self, job: Job) -> None:
        """The head of a line starts."""
        self._pools[job.pool].line.pop()
        self.queued -= 1
        job.phase = Phase.RUNNING

    def leave(self, job: Job) -> bool:
        """Go away; whether the job was waiting at all."""
        if job.phase is Phase.WAITING:
            self.queued -= 1
            self._pools[job.pool].line.left()
        elif job.phase is Phase.PARKED:
            self.parked -= 1
        else:
            return False
        job.phase = Phase.OVER
        return True

    def everyone(self) -> list[Job]:
        """All of them, in no particular order."""
        jobs = [job for _, _, job in self._parked if job.phase is Phase.PARKED]
        for pool in self._pools.values():
            jobs.extend(pool.line.all())
        return jobs

    def due(self, now: float, budget: RetryBudget) -> Iterator[Job]:
        """Parked jobs whose next attempt is due and, where it is a retry to be paid for, affordable."""
        while (at := self.next_due(now, budget)) <= now:
            _, _, job = heapq.heappop(self._parked)
            if job.pays_retry:
                budget.take(at)
            self.parked -= 1
            yield job

    def next_due(self, now: float, budget: RetryBudget) -> float:
        """When a parked job will be due and affordable."""
        while self._parked and self._parked[0][2].phase is not Phase.PARKED:
            heapq.heappop(self._parked)
        if not self._parked:
            return NEVER
        at, _, job = self._parked[0]
        return max(at, budget.ready_at(now)) if job.pays_retry else at

    def late(self, now: float) -> Iterator[Job]:
        """Jobs that are still waiting at their deadline."""
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].phase is Phase.OVER):
            job = heapq.heappop(self._deadlines)[2]
            if job.phase in (Phase.WAITING, Phase.PARKED):
                yield job

    def next_late(self) -> float:
        """When the next job will be late."""
        return self._deadlines[0][0] if self._deadlines else NEVER
