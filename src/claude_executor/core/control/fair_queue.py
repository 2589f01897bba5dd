"""The fair queue of one pool: which job is next.

Order. First by priority, higher numbers first. Within a priority, tenants share equally, however much
work each has waiting. Within a tenant, size classes (small, input-heavy, output-heavy, …) share in proportion
to the work that waits in each. They run dry together, so a file sorted by size or kind runs as mixed as a
shuffled one, and no bucket idles while another is short. Within a size class, in order of arrival.

Sharing is start-time fair queueing (Goyal, Vin, Cheng 1996). Every flow carries a finish tag; its next
request starts at ``start = max(virtual time, finish)``, the flow with the smallest start tag is the head, the
virtual time moves there, and ``finish = start + charge / weight``. The charge of a request is the time it
occupies the resource it needs most, ``max(cost / rate)`` in seconds: dominant-resource fairness. The weight
of a tenant is 1, that of a size class the sum of the charges that wait in it.

Nothing overtakes: once `head` has shown a request the virtual time is its start tag, newcomers of its
priority start no earlier, and it stays the head until it starts. So a large request waits for its tokens but
is never starved by small ones. The token bucket fills up meanwhile; waiting at the head costs latency, not
throughput.

A cancelled request stays where it is, marked, and is skipped when it comes up: removing it from the middle
would make cancelling thousands quadratic.
"""

import heapq
from bisect import insort
from collections.abc import Hashable
from operator import itemgetter
from typing import Generic, Protocol, TypeVar


class Queueable(Protocol):
    """A job as the queue sees it."""

    @property
    def number(self) -> int:
        """Order of arrival."""
        ...

    @property
    def priority(self) -> int:
        """Larger goes first."""
        ...

    @property
    def tenant(self) -> str:
        """The tenant; tenants share fairly."""
        ...

    @property
    def size_class(self) -> Hashable:
        """Class of requests with similar costs."""
        ...

    @property
    def charge(self) -> float:
        """Seconds of the resource the job needs most; 0 if it has been charged before."""
        ...

    @property
    def waiting(self) -> bool:
        """False once cancelled."""
        ...


J = TypeVar("J", bound=Queueable)


class FairQueue(Generic[J]):
    """Jobs waiting for one pool. `head` looks, `pop` takes what `head` showed."""

    __slots__ = ("_discarded", "_head", "_length", "_priorities", "_shares")

    def __init__(self) -> None:
        self._head: J | None = None  # the head, until it starts, leaves, or another job goes before it
        self._shares: dict[int, _FairShare[J]] = {}
        self._priorities: list[int] = []  # of the classes, in ascending order
        self._length = 0
        self._discarded = 0

    def __len__(self) -> int:
        return self._length

    def push(self, job: J) -> None:
        """Add a job. Its number decides its place in its size class, also when it returns for a retry."""
        shared = self._shares.get(job.priority)
        if shared is None:
            shared = self._shares[job.priority] = _FairShare(depth=0)
            insort(self._priorities, job.priority)
        shared.push(job)
        self._length += 1
        shown = self._head
        if shown is not None and (job.priority > shown.priority or job.number < shown.number):
            self._head = None

    def head(self) -> J | None:
        """Return the next job without removing it; None if the queue is empty."""
        while self._head is None and self._priorities:
            self._head = self._shares[self._priorities[-1]].head()
            if self._head is None:
                del self._shares[self._priorities.pop()]
        return self._head

    def pop(self) -> J:
        """Remove and return the head, and charge its flow.

        Raises:
            LookupError: The queue is empty.
        """
        if self.head() is None:
            raise LookupError("the queue is empty")
        self._length -= 1
        self._head = None
        shared = self._shares[self._priorities[-1]]
        job = shared.pop()
        if shared.empty:
            del self._shares[self._priorities.pop()]
        return job

    def jobs(self) -> list[J]:
        """Return all jobs in the queue, in no particular order."""
        return [job for shared in self._shares.values() for job in shared.jobs()]

    def discard(self, job: J) -> None:
        """Discard a cancelled job: it is skipped when it comes up, or swept out with many others."""
        self._shares[job.priority].discard(job)
        self._length -= 1
        self._discarded += 1
        if job is self._head:
            self._head = None
        if self._discarded > _SWEEP_AT + 2 * self._length:
            self._discarded = 0
            for shared in self._shares.values():
                shared.sweep()

    def adjust(self, job: J, surcharge: float) -> None:
        """Charge a job's tenant for the seconds it took beyond its estimate; negative ones are given back."""
        shared = self._shares.get(job.priority)
        if shared is not None:
            shared.adjust(job, surcharge)


class _Queue(Generic[J]):
    """Jobs of one size class, by number."""

    __slots__ = ("_jobs", "_pushes", "work")

    def __init__(self) -> None:
        self._jobs: list[tuple[int, int, J, float]] = []  # a heap, because jobs return for retries
        self._pushes = 0
        self.work = 0.0
        """The sum of the charges, as they were when the jobs joined."""

    def push(self, job: J) -> None:
        self._pushes += 1
        self.work += job.charge
        heapq.heappush(self._jobs, (job.number, self._pushes, job, job.charge))

    def head(self) -> J | None:
        jobs = self._jobs
        while jobs:
            job = jobs[0][2]
            if job.waiting:
                return job
            heapq.heappop(jobs)
        return None

    def pop(self) -> J:
        _, _, job, charge = heapq.heappop(self._jobs)
        self.work = self.work - charge if self._jobs else 0.0  # any rest is rounding
        return job

    def discard(self, job: J) -> None:
        self.work -= job.charge

    def jobs(self) -> list[J]:
        return [job for _, _, job, _ in self._jobs if job.waiting]

    def sweep(self) -> None:
        self._jobs = [entry for entry in self._jobs if entry[2].waiting]
        heapq.heapify(self._jobs)


class _Flow(Generic[J]):
    """One competitor for a share, with its finish tag; `owed` is charged when its next job starts."""

    __slots__ = ("finish", "owed", "queue", "queued")

    def __init__(self, queue: "_Queue[J] | _FairShare[J]") -> None:
        self.queue = queue
        self.finish = 0.0
        self.owed = 0.0
        self.queued = False


_LEVELS = 2  # tenants, and their size classes
_SWEEP_AT = 1_000  # cancelled jobs
_MAX_IDLE_FLOWS = 1_000  # idle flows remembered while others have jobs


class _FairShare(Generic[J]):
    """Flows that share; tenants at depth 0, size classes at depth 1."""

    __slots__ = ("_depth", "_flows", "_order", "_starts", "_virtual_time", "work")

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self.work = 1.0
        """Weight of this share: all tenants weigh the same."""
        self._flows: dict[Hashable, _Flow[J]] = {}
        self._starts: list[tuple[float, int, Hashable]] = []  # a heap of the flows that have jobs
        self._virtual_time = 0.0
        self._order = 0

    @property
    def empty(self) -> bool:
        """Whether no flow has jobs."""
        return not self._starts

    def _key(self, job: J) -> Hashable:
        return job.tenant if self._depth == 0 else job.size_class

    def push(self, job: J) -> None:
        key = self._key(job)
        flow = self._flows.get(key)
        if flow is None:
            inner: _Queue[J] | _FairShare[J] = (
                _Queue() if self._depth == _LEVELS - 1 else _FairShare(self._depth + 1)
            )
            flow = self._flows[key] = _Flow(inner)
        flow.queue.push(job)
        if not flow.queued:
            self._enter(key, flow)

    def _enter(self, key: Hashable, flow: _Flow[J]) -> None:
        flow.queued = True
        self._order += 1
        heapq.heappush(self._starts, (max(self._virtual_time, flow.finish), self._order, key))

    def head(self) -> J | None:
        while self._starts:
            start, _, key = self._starts[0]
            flow = self._flows[key]
            job = flow.queue.head()
            if job is not None:
                self._virtual_time = start
                return job
            heapq.heappop(self._starts)
            self._retire(key, flow)
        return None

    def pop(self) -> J:
        start, _, key = self._starts[0]
        flow = self._flows[key]
        queue = flow.queue
        weight = queue.work if queue.work > 0.0 else 1.0  # nothing is known of free requests
        job = queue.pop()
        flow.finish = finish = start + (job.charge + flow.owed) / weight
        flow.owed = 0.0
        if queue.head() is None:
            heapq.heappop(self._starts)
            self._retire(key, flow)
        else:
            self._order += 1
            heapq.heapreplace(self._starts, (max(self._virtual_time, finish), self._order, key))
        return job

    def jobs(self) -> list[J]:
        return [job for flow in self._flows.values() for job in flow.queue.jobs()]

    def sweep(self) -> None:
        for flow in self._flows.values():
            flow.queue.sweep()

    def _retire(self, key: Hashable, flow: _Flow[J]) -> None:
        """Retire a flow without jobs, but keep its finish tag while it is ahead: pausing must not pay."""
        flow.queued = False
        flow.finish += flow.owed
        flow.owed = 0.0
        if not self._starts:
            self._flows.clear()  # no job waits, so no share is unfair
        elif flow.finish <= self._virtual_time:
            del self._flows[key]
        elif len(self._flows) - len(self._starts) > _MAX_IDLE_FLOWS:
            self._forget()

    def _forget(self) -> None:
        """Drop the half of the idle flows that are least ahead: every job may bring a new tenant."""
        pausing = [(flow.finish, key) for key, flow in self._flows.items() if not flow.queued]
        pausing.sort(key=itemgetter(0))
        for _, key in pausing[: len(pausing) // 2]:
            del self._flows[key]

    def discard(self, job: J) -> None:
        self._flows[self._key(job)].queue.discard(job)

    def adjust(self, job: J, surcharge: float) -> None:
        flow = self._flows.get(self._key(job))
        if flow is None:
            return
        if flow.queued:
            flow.owed += surcharge  # its start tag is in the heap already
        else:
            flow.finish += surcharge
