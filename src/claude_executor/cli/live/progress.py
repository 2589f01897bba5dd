"""What a person who watches a run wants to know at this moment, worked out from the executor's snapshot."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from claude_executor.cli.terminal.format import count, percent, span

if TYPE_CHECKING:
    from claude_executor import Executor, PoolState, Snapshot
    from claude_executor.bulk import Run

RATE_WINDOW = 10.0
"""Seconds over which rates are taken: shorter and they flicker, longer and they lag."""
BINDING_WINDOW = 5.0
"""Seconds over which is judged what binds now."""
BINDING_SHARE = 0.3
"""Share of those seconds for which something must have held the line up to be named."""
FEW = 10
"""Rows before which nothing is foretold."""
MOST_BARS = 6

_Shares = dict[tuple[str, str], float]
_T = TypeVar("_T")

_BREAKER = "circuit breaker"
_GROUP = "shared budget"
_SAID = {
    "told to wait": "told to wait by a 429",
    "starting up": "starting up",
    "opening connections": "opening connections",
    _GROUP: "waiting for the shared budget",
    "spending cap": "near the cap: waiting for what is in flight",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One limit, the share of it that is being used, and whether it is the one that binds."""

    name: str
    limit: float
    share: float
    binds: bool


@dataclass(frozen=True, slots=True)
class View:
    """One moment of a run.

    Attributes:
        title: What runs.
        rows: Rows there are.
        done: Rows that are answered or failed.
        failed: Rows that failed.
        seconds: Time since the start.
        rate: Rows a minute.
        left: Seconds until the end at this rate, or more if the limits want it; `None` if it cannot be said.
        state: What holds it up now, in words.
        waits: Whether it waits for the API to recover.
        bars: The limits.
        running: Requests in flight.
        concurrency: How many may be.
        waiting: Requests read and not in flight.
        retries: Attempts that were repetitions.
        refusals: 429s.
        overloads: 529s.
        errors: Other attempts that failed without fault of the request.
        dollars: Cost so far; `None` if a price is not known.
        projected: Cost of the whole run at this rate of spending.
        budget: What it may cost, if that was told; the two above are then those of earlier starts, too.
        tokens: Tokens so far and how many it may take, if that was told.
        deadline: Seconds until nothing more is sent, if that was told.
        sharing: With whom the limits are shared, in words; `None` if with nobody.
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
    budget: float | None = None
    tokens: tuple[int, int] | None = None
    deadline: float | None = None
    errors: int = 0
    sharing: str | None = None

    @property
    def share(self) -> float:
        """How much of it is done."""
        return self.done / self.rows if self.rows else 0.0


class SlidingValue(Generic[_T]):
    """What a total was a few seconds ago."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._totals: deque[tuple[float, _T]] = deque()

    def before(self, now: float, total: _T) -> tuple[float, _T]:
        """Take in what it is now; when that was, and what it was then."""
        totals = self._totals
        totals.append((now, total))
        while len(totals) > 2 and totals[1][0] <= now - self._seconds:
            totals.popleft()
        return totals[0]


class ProgressTracker:
    """Looks at a run again and again, and remembers a little, for what is measured over a while."""

    def __init__(self, run: Run, executor: Executor, *, title: str, max_concurrency: int) -> None:
        """`max_concurrency` is the executor's."""
        self.run = run
        self._max_concurrency = max_concurrency
        self._executor = executor
        self._title = title
        self._done = SlidingValue[int](RATE_WINDOW)
        self._held = SlidingValue[_Shares](BINDING_WINDOW)
        self._used: dict[tuple[str, str], SlidingValue[float]] = {}
        self._alone_since: float | None = None

    def look(self) -> View:
        """The run at this moment."""
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
            bars=() if run.stopping else _bars(snapshot, held, shares),  # limits are then those of stopping
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
            budget=run.caps.dollars,
            tokens=(run.spent.tokens, run.caps.tokens) if run.caps.tokens is not None else None,
        )

    def _rate(self, seconds: float, done: int) -> float:
        then, before = self._done.before(seconds, done)
        if seconds <= RATE_WINDOW:
            then, before = 0.0, 0
        return 60.0 * (done - before) / (seconds - then) if seconds > then else 0.0

    def _least(self, snapshot: Snapshot) -> float:
        """Seconds that the limits want for the rows that are not sent yet, if those take what the others did.

        At first more is answered than the limits give for long, because their buckets are full.
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
                # What a full bucket gives on top of the rate is a burst, not more than all of the limit.
                shares[name, resource] = min(1.0, max(0.0, drawn / state.limit))
        return shares

    def _holding(self, seconds: float, snapshot: Snapshot) -> tuple[str, str] | None:
        """The pool and the thing that held the line up for most of the last few seconds."""
        held = {
            (name, str(why)): so_far
            for name, pool in snapshot.pools.items()
            for why, so_far in pool.held_for.items()
        }
        since, before = self._held.before(seconds, held)
        lately = {key: so_far - before.get(key, 0.0) for key, so_far in held.items()}
        longest = max(lately, key=lately.__getitem__, default=None)
        if longest is None or lately[longest] < BINDING_SHARE * (seconds - since):
            return None
        return longest

    def _state(self, snapshot: Snapshot, held: tuple[str, str] | None, shares: _Shares) -> tuple[str, bool]:
        if self.run.stopping:
            return f"stopping: {snapshot.running} still in flight; once more aborts", False
        broken = [name for name, pool in snapshot.pools.items() if pool.breaker != "closed"]
        if broken:
            return self._outage(snapshot.pools[broken[0]]), True
        if held is None:
            if snapshot.waiting_to_retry > snapshot.running:
                return f"waiting to try {count(snapshot.waiting_to_retry, 'row')} again", False
            return "nothing holds it up: answers are on their way", False
        name, why = held
        pool = snapshot.pools[name]
        of = f" of {name}" if len(snapshot.pools) > 1 else ""
        if why in pool.resources:
            return f"limited by {why}{of}, {percent(shares[held])}", False
        if why == "concurrency":
            after = f"after the {self._trouble}, " if pool.concurrency < self._max_concurrency else ""
            return f"limited by concurrency{of}, {after}{pool.running} in flight", False
        if why == "told to wait" and pool.closed_for >= 1:
            return f"told to wait by a 429{of}, {pool.closed_for:.0f} s more", False
        if why == _BREAKER:  # it has closed again, and the pool opens up by and by
            return f"recovering from the {self._trouble}{of}", False
        return _SAID.get(why, why) + of, False

    @property
    def _trouble(self) -> str:
        return "overload" if self.run.counters.overloads else "failures"

    def _outage(self, pool: PoolState) -> str:
        what = "API overloaded" if self.run.counters.overloads else "API failing"
        if pool.probe_in >= 0.5:
            return f"{what}: waiting, next probe in {pool.probe_in:.0f} s"
        return f"{what}: probing"

    def _sharing(self, snapshot: Snapshot) -> str | None:
        """With how many the limits are shared, or what becomes of that; of all pools the worst off."""
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
            return "joining those who share the limits"
        return f"one of {worst.members} who share the limits" if worst.members > 1 else "alone in its group"

    def _alone(self, pool: PoolState) -> str:
        now = self.run.clock()
        if self._alone_since is None:
            self._alone_since = now
        meanwhile = "waiting" if pool.held_by == _GROUP else f"on {percent(pool.share)} of the limits"
        why = f", because of {pool.unreachable_reason}" if pool.unreachable_reason is not None else ""
        return f"shared budget: away for {span(now - self._alone_since)}, {meanwhile}{why}"


def _bars(snapshot: Snapshot, held: tuple[str, str] | None, shares: _Shares) -> tuple[Bar, ...]:
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
    if len(bars) > MOST_BARS:  # then only those that matter
        bars = sorted(bars, key=lambda bar: -bar.share)[:MOST_BARS]
    return tuple(bars)
