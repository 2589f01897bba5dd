"""Progress of a run, computed from the executor's snapshots: rate, time left, and what limits it now."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from claude_executor import HeldBy
from claude_executor.cli.terminal.format import count, percent, span

if TYPE_CHECKING:
    from claude_executor import Executor, PoolState, Snapshot
    from claude_executor.bulk import Run

RATE_WINDOW = 10.0
"""Seconds over which rates are measured. Shorter windows flicker, longer ones lag."""
BINDING_WINDOW = 5.0
"""Seconds over which the limit that binds now is determined."""
BINDING_SHARE = 0.3
"""Fraction of those seconds for which a limit must have held the queue to be named."""
FEW = 10
"""Rows that must be done before time and cost are projected."""
MOST_BARS = 6

_Shares = dict[tuple[str, str], float]
_T = TypeVar("_T")

# Resources ("requests", "output tokens") keep their own names.
_STATES = {
    HeldBy.RETRY_AFTER: "waiting for retry-after (429)",
    HeldBy.BUDGET: "waiting for the shared budget",
    HeldBy.SPENDING: "near the spending cap: waiting for requests in flight",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One limit, the fraction of it in use, and whether it is the one that binds."""

    name: str
    limit: float
    share: float
    binds: bool


@dataclass(frozen=True, slots=True)
class View:
    """One moment of a run.

    Attributes:
        title: Name of the run.
        rows: Rows in total.
        done: Rows that succeeded or failed.
        failed: Rows that failed.
        seconds: Time since the start.
        rate: Rows per minute.
        left: Seconds until the end at this rate, or more if the limits require it; None if unknown.
        state: What limits the run now, in words.
        waits: Whether the run waits for the API to recover.
        bars: The limits.
        running: Requests in flight.
        concurrency: Maximum requests in flight.
        waiting: Requests read and not in flight.
        retries: Attempts that were retries.
        refusals: 429s.
        overloads: 529s.
        errors: Other failed attempts that were not the request's fault.
        dollars: Cost so far; None if a price is unknown. Includes earlier runs of the job if there is a cap.
        projected: Projected cost of the whole run, likewise.
        max_cost: The cap on cost, if there is one.
        tokens: Tokens so far and the cap on them, if there is one.
        deadline: Seconds until nothing more is sent, if there is a deadline.
        sharing: State of the group that shares the limits, in words; None without a group.
    """

    title: str
    rows: int
    done: int
    failed: int
    seconds: float
    rate: float
    left: float | None
    state: str
    waits: bool
    bars: tuple[Bar, ...]
    running: int
    concurrency: int
    waiting: int
    retries: int
    refusals: int
    overloads: int
    dollars: float | None
    projected: float | None
    max_cost: float | None = None
    tokens: tuple[int, int] | None = None
    deadline: float | None = None
    errors: int = 0
    sharing: str | None = None

    @property
    def share(self) -> float:
        """Fraction of the rows that are done."""
        return self.done / self.rows if self.rows else 0.0


class SlidingValue(Generic[_T]):
    """Remembers what a total was a few seconds ago."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._totals: deque[tuple[float, _T]] = deque()

    def before(self, now: float, total: _T) -> tuple[float, _T]:
        """Record the total, and return an earlier instant and the total at that instant."""
        totals = self._totals
        totals.append((now, total))
        while len(totals) > 2 and totals[1][0] <= now - self._seconds:
            totals.popleft()
        return totals[0]


class ProgressTracker:
    """Takes a `View` of a run again and again, and remembers totals for rates over the last seconds."""

    def __init__(self, run: Run, executor: Executor, *, title: str, max_concurrency: int) -> None:
        """Make a tracker that has seen nothing yet. `max_concurrency` is that of the executor."""
        self.run = run
        self._max_concurrency = max_concurrency
        self._executor = executor
        self._title = title
        self._done = SlidingValue[int](RATE_WINDOW)
        self._held = SlidingValue[dict[tuple[str, HeldBy], float]](BINDING_WINDOW)
        self._used: dict[tuple[str, str], SlidingValue[float]] = {}
        self._alone_since: float | None = None

    def look(self) -> View:
        """Take a view of the run at this moment."""
        run, snapshot, seconds = self.run, self._executor.snapshot(), self.run.seconds
        tally = run.counters
        rate = self._rate(seconds, tally.done)
        shares = self._shares(snapshot)
        held = self._holding(seconds, snapshot)
        state, waits = self._state(snapshot, held, shares)
        dollars = tally.spent.dollars
        before = run.before.dollars or 0.0 if run.caps.dollars is not None else 0.0
        foretold = tally.done >= FEW
        limit = run.caps.seconds
        known_rate = rate > 0 and foretold and not run.stopping
        return View(
            title=self._title,
            rows=run.rows,
            done=tally.done,
            failed=tally.failed,
            seconds=seconds,
            rate=rate,
            left=max(run.unsent * 60.0 / rate, self._least(snapshot)) if known_rate else None,
            state=state,
            sharing=self._sharing(snapshot),
            waits=waits,
            bars=() if run.stopping else _bars(snapshot, held, shares),  # while stopping, nothing is limited
            running=snapshot.running,
            concurrency=round(max((pool.concurrency for pool in snapshot.pools.values()), default=0)),
            waiting=snapshot.queued + snapshot.waiting_to_retry,
            retries=snapshot.retries,
            refusals=tally.refusals,
            overloads=tally.overloads,
            errors=tally.errors,
            deadline=max(0.0, limit - seconds) if limit is not None and not run.stopping else None,
            dollars=before + dollars if dollars is not None else None,
            projected=before + dollars * run.rows / tally.done if dollars is not None and foretold else None,
            max_cost=run.caps.dollars,
            tokens=(run.spent.tokens, run.caps.tokens) if run.caps.tokens is not None else None,
        )

    def _rate(self, seconds: float, done: int) -> float:
        then, before = self._done.before(seconds, done)
        if seconds <= RATE_WINDOW:
            then, before = 0.0, 0
        return 60.0 * (done - before) / (seconds - then) if seconds > then else 0.0

    def _least(self, snapshot: Snapshot) -> float:
        """Minimum seconds that the limits require for the unsent rows, if these use as much as the others.

        The first rows are answered faster than the limits allow in the long run: the buckets start full.
        """
        sent = self.run.counters.done + snapshot.running
        rows = max(0, self.run.rows - sent) / sent
        return max(
            (
                60.0 * (rows * state.used_in_all - state.level) / state.limit
                for pool in snapshot.pools.values()
                for state in pool.resources.values()
            ),
            default=0.0,
        )

    def _shares(self, snapshot: Snapshot) -> _Shares:
        now = self.run.clock()
        shares: _Shares = {}
        for name, pool in snapshot.pools.items():
            for resource, state in pool.resources.items():
                used = self._used.setdefault((name, resource), SlidingValue(RATE_WINDOW))
                then, before = used.before(now, state.used_in_all)
                drawn = 60.0 * (state.used_in_all - before) / max(1.0, now - then)
                # A full bucket allows a burst above the rate; that still counts as 100 %.
                shares[name, resource] = min(1.0, max(0.0, drawn / state.limit))
        return shares

    def _holding(self, seconds: float, snapshot: Snapshot) -> tuple[str, HeldBy] | None:
        """The pool and the limit that held its queue for most of the last few seconds."""
        held = {
            (name, why): so_far
            for name, pool in snapshot.pools.items()
            for why, so_far in pool.held_for.items()
        }
        since, before = self._held.before(seconds, held)
        lately = {key: so_far - before.get(key, 0.0) for key, so_far in held.items()}
        longest = max(lately, key=lately.__getitem__, default=None)
        if longest is None or lately[longest] < BINDING_SHARE * (seconds - since):
            return None
        return longest

    def _state(
        self, snapshot: Snapshot, held: tuple[str, HeldBy] | None, shares: _Shares
    ) -> tuple[str, bool]:
        if self.run.stopping:
            return f"stopping: {snapshot.running} in flight; press Ctrl-C again to abort", False
        broken = [name for name, pool in snapshot.pools.items() if pool.breaker != "closed"]
        if broken:
            return self._outage(snapshot.pools[broken[0]]), True
        if held is None:
            if snapshot.waiting_to_retry > snapshot.running:
                return f"waiting to retry {count(snapshot.waiting_to_retry, 'row')}", False
            return "waiting for responses", False
        name, why = held
        pool = snapshot.pools[name]
        of = f" of {name}" if len(snapshot.pools) > 1 else ""
        if why in pool.resources:
            return f"limited by {why}{of}, {percent(shares[held])}", False
        if why == HeldBy.CONCURRENCY:
            after = f"after the {self._trouble}, " if pool.concurrency < self._max_concurrency else ""
            return f"limited by concurrency{of}, {after}{pool.running} in flight", False
        if why == HeldBy.RETRY_AFTER and pool.closed_for >= 1:
            return f"{_STATES[HeldBy.RETRY_AFTER]}{of}, {pool.closed_for:.0f} s left", False
        if why == HeldBy.BREAKER:  # closed again: the pool is opening up
            return f"recovering from the {self._trouble}{of}", False
        return _STATES.get(HeldBy(why), why) + of, False

    @property
    def _trouble(self) -> str:
        return "overload" if self.run.counters.overloads else "failures"

    def _outage(self, pool: PoolState) -> str:
        what = "API overloaded" if self.run.counters.overloads else "API failing"
        if pool.probe_in >= 0.5:
            return f"{what}: waiting, next probe in {pool.probe_in:.0f} s"
        return f"{what}: probing"

    def _sharing(self, snapshot: Snapshot) -> str | None:
        """State of the group that shares the limits; of several pools, that of the worst."""
        pools = [pool for pool in snapshot.pools.values() if pool.sharing is not None]
        worst = min(
            pools, key=lambda pool: ("alone", "joining", "shared").index(str(pool.sharing)), default=None
        )
        if worst is None or worst.sharing != "alone":
            self._alone_since = None
        if worst is None:
            return None
        if worst.sharing == "alone":
            return self._alone(worst)
        if worst.sharing == "joining":
            return "joining the group that shares the limits"
        return (
            f"sharing the limits with {count(worst.members - 1, 'other')}"
            if worst.members > 1
            else "the only member of its group"
        )

    def _alone(self, pool: PoolState) -> str:
        now = self.run.clock()
        if self._alone_since is None:
            self._alone_since = now
        meanwhile = (
            "waiting" if pool.held_by == HeldBy.BUDGET else f"using {percent(pool.share)} of the limits"
        )
        why = f" ({pool.unreachable_reason})" if pool.unreachable_reason is not None else ""
        return f"shared budget: unreachable for {span(now - self._alone_since)}{why}, {meanwhile}"


def _bars(snapshot: Snapshot, held: tuple[str, HeldBy] | None, shares: _Shares) -> tuple[Bar, ...]:
    many = len(snapshot.pools) > 1
    bars = [
        Bar(
            f"{name} {resource}" if many else resource,
            state.limit,
            shares[name, resource],
            held == (name, resource),
        )
        for name, pool in snapshot.pools.items()
        for resource, state in pool.resources.items()
    ]
    if len(bars) > MOST_BARS:  # only the fullest
        bars = sorted(bars, key=lambda bar: -bar.share)[:MOST_BARS]
    return tuple(bars)
