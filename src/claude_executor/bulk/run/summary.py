"""The summary of a run: rows, tokens, cost, time, and what limited it."""

from dataclasses import asdict, dataclass

from claude_executor import PoolState, Snapshot
from claude_executor.bulk.costs.prices import NOTHING_SPENT, Spent
from claude_executor.bulk.run.counters import FailureGroup, RunCounters
from claude_executor.bulk.run.run import Run

LEAST_SAVING = 1.0
"""Seconds below which a saving is not reported."""


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """Limit that held a run back for the longest time.

    Attributes:
        held_by: The reason that requests waited, such as ``"output tokens"``.
        pool: The pool of models whose requests waited.
        seconds: How long they waited.
        share: That time as a fraction of the run.
        limit: The limit per minute, if the reason is a limit.
        source: Where that limit comes from.
        saving: Seconds that twice the limit would have saved; `None` if that is not known.
        next: What would have limited the run then.
    """

    held_by: str
    pool: str
    seconds: float
    share: float
    limit: float | None = None
    source: str | None = None
    saving: float | None = None
    next: str | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a run.

    Attributes:
        rows: Rows to do.
        succeeded: Rows that were answered.
        failed: Rows that failed.
        unsent: Rows that are neither answered nor failed, because the run was stopped.
        seconds: Duration of the run.
        rows_per_minute: Rows answered or failed, per minute.
        spent: Tokens and money of the answers.
        attempts: Requests sent.
        retries: Requests that were retries.
        refusals: 429 responses.
        overloads: 529 responses.
        errors: Other failed attempts that were not the fault of the request: 5xx, timeouts, connections.
        failures: Groups of failed rows, by kind.
        bottleneck: What limited the run, if anything did.
        stopped: Why the run ended early, if it did.
        copied: Rows that got the answer of an equal request, and were not sent.
        answered_before: Rows that earlier starts answered.
        failed_before: Rows that failed permanently at earlier starts, and were not sent again.
        wasted: Tokens and money of failed attempts, where known; not part of `spent`.
        spent_before: Tokens and money that earlier starts spent, if there is a cap on them.
        max_cost: The cap on dollars, if there is one.
        max_tokens_total: The cap on tokens.
        deadline: The cap on the duration, in seconds, if there is one.
    """

    rows: int
    succeeded: int
    failed: int
    unsent: int
    seconds: float
    rows_per_minute: float
    spent: Spent
    attempts: int
    retries: int
    refusals: int
    overloads: int
    failures: tuple[FailureGroup, ...]
    bottleneck: Bottleneck | None
    stopped: str | None
    copied: int = 0
    answered_before: int = 0
    failed_before: int = 0
    wasted: Spent = NOTHING_SPENT
    spent_before: Spent = NOTHING_SPENT
    max_cost: float | None = None
    max_tokens_total: int | None = None
    deadline: float | None = None
    errors: int = 0

    def as_dict(self) -> dict[str, object]:
        """Return the summary as plain values, for JSON."""
        return asdict(self)


def summarize(run: Run, snapshot: Snapshot, *, stopped: str | None = None) -> Summary:
    """Summarize a run, finished or in progress."""
    counters, seconds = run.counters, run.seconds
    return Summary(
        rows=run.rows,
        succeeded=counters.succeeded,
        failed=counters.failed,
        unsent=run.unsent,
        seconds=seconds,
        rows_per_minute=60.0 * counters.done / seconds if seconds > 0 else 0.0,
        spent=counters.spent,
        attempts=snapshot.attempts,
        retries=snapshot.retries,
        refusals=counters.refusals,
        overloads=counters.overloads,
        failures=tuple(counters.failures),
        bottleneck=_bottleneck(counters, seconds, snapshot),
        stopped=stopped,
        copied=counters.copies,
        answered_before=run.rest.answered if run.rest is not None else 0,
        failed_before=run.rest.failed if run.rest is not None else 0,
        wasted=counters.wasted,
        spent_before=run.before,
        max_cost=run.caps.dollars,
        max_tokens_total=run.caps.tokens,
        deadline=run.caps.seconds,
        errors=counters.errors,
    )


def stop_reason(run: Run) -> str | None:
    """Return why a run ended before all rows were done; None if it did not."""
    if run.fatal is not None:
        return str(run.fatal)
    if not run.unsent:
        return None
    if run.at_cap:
        return "spending cap reached"
    if run.late:
        return "deadline reached"
    return "stopped" if run.stopping else None


def _bottleneck(counters: RunCounters, seconds: float, snapshot: Snapshot) -> Bottleneck | None:
    held = [
        (held_for, why, name)
        for name, pool in snapshot.pools.items()
        for why, held_for in pool.held_for.items()
    ]
    if not held or seconds <= 0:
        return None
    held_for, why, name = max(held)
    pool = snapshot.pools[name]
    resource = pool.resources.get(why)
    share = min(1.0, held_for / seconds)
    if resource is None:
        return Bottleneck(why, name, held_for, share)
    saving, then = None, None
    if len(snapshot.pools) == 1:  # the counts of the run are then those of the pool
        saving, then = _saving(why, pool, counters, snapshot.attempts, held_for)
    return Bottleneck(why, name, held_for, share, resource.limit, resource.source, saving, then)


def _saving(
    binding: str, pool: PoolState, counters: RunCounters, attempts: int, held_for: float
) -> tuple[float | None, str | None]:
    """Return the seconds that twice the binding limit would save, and the limit that would bind then."""
    spent = counters.spent
    inputs = spent.input_tokens + spent.cache_written_tokens
    amounts = {
        "requests": attempts,
        "input tokens": inputs,
        "output tokens": spent.output_tokens,
        "tokens": inputs + spent.output_tokens,
    }
    least = {
        name: _least(amounts[name], resource.limit, resource.capacity)
        for name, resource in pool.resources.items()
        if name in amounts
    }
    now = least.pop(binding, None)
    if now is None:
        return None, None
    bound = pool.resources[binding]
    doubled = _least(amounts[binding], 2.0 * bound.limit, 2.0 * bound.capacity)
    if pool.concurrency > 0:
        least["concurrency"] = attempts * pool.round_trip / pool.concurrency
    then = max(least, key=least.__getitem__, default=None)
    floor = least[then] if then is not None else 0.0
    saving = min(held_for, now - max(doubled, floor))
    if saving < LEAST_SAVING:
        return None, None
    return saving, then if floor > doubled else None


def _least(amount: float, limit: float, at_once: float) -> float:
    """Return the minimum time for an amount: a full bucket at once, the rest at the limit per minute."""
    return 60.0 * max(0.0, amount - at_once) / limit
