"""The waiting room: jobs that hold nothing, queued in their pools or parked until their next attempt is due.

The queues keep the order; the waiting room keeps the count, the clock and the phases. Entries of jobs that
are over are skipped when they come up, and swept out when they become many.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping

from claude_executor.core.control.retry import RetryQuota
from claude_executor.core.model.gate import NEVER
from claude_executor.core.model.job import Job, Phase
from claude_executor.core.pool.pool import Pool

SWEEP_AT = 1_000
"""Entries of jobs that are over, before they are swept out."""

_Heap = list[tuple[float, int, Job]]


class WaitingRoom:
    """The jobs that wait.

    Attributes:
        queued: Jobs in a pool's queue.
        parked: Jobs whose next attempt is not due yet.
        aside: Those of the parked jobs that had no attempt: they wait for another job's prompt cache.
    """

    __slots__ = ("_deadlines", "_parked", "_paying", "_pools", "_room", "aside", "parked", "queued")

    def __init__(self, pools: Mapping[str, Pool], room: int | None) -> None:
        """Make a waiting room for `room` jobs; None for any number."""
        if room is not None and room < 0:
            raise ValueError(f"max_queued must be at least 0, got {room}")
        self._pools = pools
        self._room = room
        self._parked: _Heap = []
        self._paying: _Heap = []  # retries to be paid for, apart: an exhausted quota holds no other job
        self._deadlines: _Heap = []
        self.queued = 0
        self.parked = 0
        self.aside = 0

    def __len__(self) -> int:
        return self.queued + self.parked

    @property
    def full(self) -> bool:
        """Whether no other job may wait."""
        return self._room is not None and len(self) >= self._room

    def join(self, job: Job) -> None:
        """Put a job into its pool's queue."""
        job.phase = Phase.WAITING
        self.queued += 1
        self._pools[job.pool].queue.push(job)

    def watch(self, job: Job) -> None:
        """Watch the deadline of a job for as long as it waits."""
        if job.deadline_at == NEVER:
            return
        if len(self._deadlines) > SWEEP_AT + 2 * len(self):
            self._deadlines = [entry for entry in self._deadlines if entry[2].phase is not Phase.OVER]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (job.deadline_at, job.number, job))

    def park(self, job: Job, until: float) -> None:
        """Park a job until its next attempt is due."""
        job.phase = Phase.PARKED
        self.parked += 1
        self.aside += not job.attempts
        heapq.heappush(self._paying if job.pays_retry else self._parked, (until, job.number, job))

    def set_aside(self, job: Job, until: float) -> None:
        """Park the head of a queue until `until`, or until the job it waits for has ended."""
        job.charge = 0.0  # it was not served yet
        self._pools[job.pool].queue.pop()
        self.queued -= 1
        self.park(job, until)

    def recall(self, wanted: Callable[[Job], bool], now: float) -> None:
        """Make the wanted parked jobs due now, without taking from the retry quota."""
        entries: _Heap = []
        for at, number, job in self._parked + self._paying:
            recalled = job.phase is Phase.PARKED and wanted(job)
            job.pays_retry = job.pays_retry and not recalled
            entries.append((min(at, now) if recalled else at, number, job))
        self._parked = [entry for entry in entries if not entry[2].pays_retry]
        self._paying = [entry for entry in entries if entry[2].pays_retry]
        heapq.heapify(self._parked)
        heapq.heapify(self._paying)

    def start(self, job: Job) -> None:
        """Move the head of a queue into flight."""
        self._pools[job.pool].queue.pop()
        self.queued -= 1
        job.phase = Phase.RUNNING

    def leave(self, job: Job) -> bool:
        """Remove a job. Return whether it was waiting at all."""
        if job.phase is Phase.WAITING:
            self.queued -= 1
            self._pools[job.pool].queue.discard(job)
        elif job.phase is Phase.PARKED:
            self._unparked(job)
        else:
            return False
        job.phase = Phase.OVER
        if len(self._parked) + len(self._paying) > SWEEP_AT + 2 * self.parked:
            self._parked, self._paying = _still_parked(self._parked), _still_parked(self._paying)
        return True

    def everyone(self) -> list[Job]:
        """Return all waiting jobs, in no particular order."""
        jobs = [job for _, _, job in self._parked + self._paying if job.phase is Phase.PARKED]
        for pool in self._pools.values():
            jobs.extend(pool.queue.jobs())
        return jobs

    def due(self, now: float, quota: RetryQuota) -> Iterator[Job]:
        """Yield parked jobs whose next attempt is due and, if it is a retry to be paid for, affordable."""
        while _first(self._parked) <= now:
            yield self._unpark(self._parked)
        while _first(self._paying) <= now and quota.ready_at(now) <= now:
            quota.take(now)
            yield self._unpark(self._paying)

    def next_due(self, now: float, quota: RetryQuota) -> float:
        """Return the instant at which a parked job will be due and affordable."""
        return min(_first(self._parked), max(_first(self._paying), quota.ready_at(now)))

    def _unpark(self, heap: _Heap) -> Job:
        job = heapq.heappop(heap)[2]
        self._unparked(job)
        return job

    def _unparked(self, job: Job) -> None:
        self.parked -= 1
        self.aside -= not job.attempts

    def late(self, now: float) -> Iterator[Job]:
        """Yield jobs that still wait at their deadline."""
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].phase is Phase.OVER):
            job = heapq.heappop(self._deadlines)[2]
            if job.phase in (Phase.WAITING, Phase.PARKED):
                yield job

    def next_late(self) -> float:
        """Return the earliest deadline of a waiting job."""
        return self._deadlines[0][0] if self._deadlines else NEVER


def _still_parked(heap: _Heap) -> _Heap:
    live = [entry for entry in heap if entry[2].phase is Phase.PARKED]
    heapq.heapify(live)
    return live


def _first(heap: _Heap) -> float:
    """Return when the first job of the heap that is still parked is due."""
    while heap and heap[0][2].phase is not Phase.PARKED:
        heapq.heappop(heap)
    return heap[0][0] if heap else NEVER


SHARE = 0.05
"""Fraction of every bucket and of the concurrency limit that stays free for higher priorities."""
LASTS = 60.0
"""Seconds for which it stays free after the last request of a higher priority."""

MOST = 100
"""Priorities remembered before those that have lapsed are dropped."""


class PriorityReserve:
    """Headroom that lower priorities leave while higher-priority requests have been seen recently."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def seen(self, priority: int, now: float) -> None:
        """Note that a request of this priority has come."""
        self._until[priority] = now + LASTS
        if len(self._until) > MOST:
            self._until = {other: until for other, until in self._until.items() if until > now}

    def headroom_for(self, priority: int, now: float) -> float:
        """Return the fraction that requests of this priority leave free."""
        for other, until in self._until.items():
            if other > priority and until > now:
                return SHARE
        return 0.0

    def lapses_at(self, priority: int, now: float) -> float:
        """Return the instant from which requests of this priority may use everything."""
        ends = [until for other, until in self._until.items() if other > priority and until > now]
        return max(ends, default=math.inf)
