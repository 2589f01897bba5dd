"""The account of a job: what its results file and its timeline say together. Unknown values are `None`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from claude_executor import BreakerState, HeldBy, LimitSource, PoolState, ResourceState, Snapshot
from claude_executor.bulk.report.history import Axis, History, Limit, read_history
from claude_executor.bulk.report.lines import Floats, Rows, read_rows
from claude_executor.bulk.run.run import Run
from claude_executor.bulk.run.summary import Bottleneck, summarize
from claude_executor.bulk.run.timeline import timeline_of

if TYPE_CHECKING:
    from pathlib import Path

    from claude_executor.bulk.costs.prices import Spent

SPREAD_PERCENTILES = (50, 90, 95, 99, 100)


class Spread(NamedTuple):
    """A value's percentiles over all rows: `SPREAD_PERCENTILES`, in this order."""

    name: str
    values: tuple[float, ...]


class LimitUse(NamedTuple):
    """One limit, and how far the job used it.

    Attributes:
        pool: The pool of models.
        resource: The limited resource.
        limit: The limit as it was last.
        used: Amount used in total.
        share: Fraction used of what the limit allowed while the job ran.
        held: Seconds for which the limit blocked the queue.
    """

    pool: str
    resource: str
    limit: Limit
    used: float
    share: float
    held: float


@dataclass(frozen=True, slots=True)
class Account:
    """The account of a job.

    Attributes:
        rows: The results of its rows.
        history: Its timeline.
        axis: Its running time.
        seconds: Length of its running time in seconds.
        attempts: Requests sent.
        retries: Requests that repeated another.
        refusals: 429s.
        overloads: 529s.
        limited: The limit that held the job up most, if one did.
    """

    rows: Rows
    history: History
    axis: Axis
    seconds: float | None
    attempts: int | None
    retries: int | None
    refusals: int | None
    overloads: int | None
    limited: Bottleneck | None

    @property
    def succeeded(self) -> int:
        """Rows that were answered."""
        return int(self.rows.succeeded.sum())

    @property
    def failed(self) -> int:
        """Rows that failed."""
        return len(self.rows) - self.succeeded

    @property
    def rows_per_minute(self) -> float | None:
        """Throughput over the running time."""
        return 60.0 * len(self.rows) / self.seconds if self.seconds else None

    @property
    def spent(self) -> Spent:
        """Tokens and money that the answers cost."""
        return self.rows.spent

    @property
    def known_dollars(self) -> float | None:
        """The cost of the answers that have a known price; `None` if none has."""
        dollars = self.rows.dollars[self.rows.succeeded]
        known = dollars[~np.isnan(dollars)]
        return float(known.sum()) if len(known) or not len(dollars) else None

    @property
    def arrived_at(self) -> Floats:
        """Running time at which each row's result arrived; `nan` where it is unknown."""
        return np.where(np.isnan(self.rows.at), math.nan, self.axis.seconds(self.rows.at))

    @property
    def line_times(self) -> Floats:
        """Running time of each line of the timeline."""
        return self.axis.seconds(self.history.at)

    @property
    def spreads(self) -> list[Spread]:
        """Percentiles of the time in the queue and of the response time."""
        columns = {"time in queue": self.rows.queue_time, "response time": self.rows.duration}
        return [
            Spread(name, tuple(np.percentile(known, SPREAD_PERCENTILES, method="inverted_cdf").tolist()))
            for name, values in columns.items()
            if len(known := values[~np.isnan(values) & self.rows.succeeded])
        ]

    @property
    def uses(self) -> list[LimitUse]:
        """The limits, the most used first."""
        found: list[LimitUse] = []
        for pool in self.history.pools:
            used, held = self.history.amounts(pool, "used"), self.history.amounts(pool, "held")
            for resource, limits in self.history.limits(pool).items():
                drawn = float(used[resource].sum()) if resource in used else 0.0
                holding = float(held[resource].sum()) if resource in held else 0.0
                # The bucket was full when the job began.
                given = limits[-1].capacity + limits[-1].limit * self.axis.length / 60.0
                share = drawn / given if given > 0 else 0.0
                found.append(LimitUse(pool, resource, limits[-1], drawn, share, holding))
        return sorted(found, key=lambda use: -use.share)


def account_of(results: Path) -> Account:
    """Read a results file, and its timeline if it has one.

    Raises:
        OSError: One of them exists and cannot be read.
    """
    rows, history = read_rows(results), read_history(timeline_of(results))
    came = ~np.isnan(rows.at)
    first = float((rows.at - np.nan_to_num(rows.duration))[came].min(initial=math.inf))
    axis = Axis(history.runs, first, float(rows.at[came].max(initial=-math.inf)))
    attempts, retries, refusals, overloads = (
        int(history.counts(name).sum()) if history else None for name in ("attempts", "retries", "429", "529")
    )
    if attempts is None and not np.isnan(rows.attempts).all():
        attempts = int(np.nansum(rows.attempts))
        retries = int(np.nansum(np.maximum(0.0, rows.attempts - 1.0)))
    limited = _limited(rows, history, axis.length, attempts or 0)
    seconds = axis.length if axis.length > 0 else None
    return Account(rows, history, axis, seconds, attempts, retries, refusals, overloads, limited)


def _limited(rows: Rows, history: History, seconds: float, attempts: int) -> Bottleneck | None:
    """Return the bottleneck that the closing summary would name if all runs had been one."""
    now = 0.0
    run = Run(len(rows), clock=lambda: now)
    now = seconds
    run.counters.spent = rows.spent
    took = rows.duration[~np.isnan(rows.duration)]
    pools = {name: _pool(history, name, float(took.mean()) if len(took) else 0.0) for name in history.pools}
    return summarize(run, Snapshot(0, 0, 0, 0, 0, attempts, 0, pools)).bottleneck


_HELD_BY = frozenset(HeldBy)
_SOURCES = frozenset(LimitSource)


def _source(name: str) -> LimitSource:
    """Return the source that a timeline names; a file may hold anything."""
    return LimitSource(name) if name in _SOURCES else LimitSource.UNKNOWN


def _pool(history: History, name: str, round_trip: float) -> PoolState:
    used = history.amounts(name, "used")
    allowed = history.now(name, "concurrency")
    allowed = allowed[allowed > 0]
    resources = {
        resource: ResourceState(
            limit=limits[-1].limit,
            source=_source(limits[-1].source),
            level=0.0,
            capacity=limits[-1].capacity,
            foreign_rate=0.0,
            used=0.0,
            used_in_all=float(used[resource].sum()) if resource in used else 0.0,
        )
        for resource, limits in history.limits(name).items()
    }
    return PoolState(
        resources=resources,
        queued=0,
        running=0,
        concurrency=float(allowed[-1]) if len(allowed) else 0.0,
        breaker=BreakerState.CLOSED,
        probe_in=0.0,
        closed_for=0.0,
        held_by=None,
        held_for={
            HeldBy(why): float(spans.sum())
            for why, spans in history.amounts(name, "held").items()
            if why in _HELD_BY
        },
        round_trip=round_trip,
        refusals=0,
    )
