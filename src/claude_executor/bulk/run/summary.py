"""How a run went, in numbers: what was done, what it took, and what held it up."""

from dataclasses import asdict, dataclass

from claude_executor import PoolState, Snapshot
from claude_executor.bulk.costs.prices import NOTHING_SPENT, Spent
from claude_executor.bulk.run.counters import FailureGroup, RunCounters
from claude_executor.bulk.run.run import Run

LEAST_SAVING = 1.0
"""Seconds below which a saving is not worth a word."""


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """What held the run up longest.

    Attributes:
        held_by: What it was, such as ``"output tokens"``.
        pool: The pool of models it held up.
        seconds: For how long.
        share: For which share of the run.
        limit: The limit in force, per minute, if it is one of the limits.
        source: Where that limit comes from.
        saving: Seconds that twice the limit would have saved; `None` where that cannot be said.
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
    """How a run went.

    Attributes:
        rows: Rows there were to do.
        succeeded: Rows that were answered.
        failed: Rows that were not.
        unsent: Rows that were not tried to the end, because the run was stopped.
        seconds: How long it took.
        rows_per_minute: How fast it was.
        spent: Tokens and money of the answers.
        attempts: Requests sent.
        retries: Those of them that were not the first for their row.
        refusals: 429s.
        overloads: 529s.
        errors: Other attempts that failed without fault of the request: 5xx, timeouts, connections.
        failures: The failures by kind.
        bottleneck: What held it up, if something did.
        stopped: Why it ended early, if it did.
        copied: Rows that were answered without being sent, because another row asked the same.
        answered_before: Rows that had been answered at earlier starts.
        failed_before: Rows that had failed at earlier starts, and were left at that.
        wasted: Tokens and money of attempts that failed, where it is known; `spent` does not hold them.
        spent_before: What earlier starts had spent, if there is a cap on that.
        max_cost: The cap on dollars, if there is one.
        max_tokens_total: The cap on tokens.
        deadline: The seconds after which nothing more was to be sent.
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
        """The same as plain values, for JSON."""
        return asdict(self)


def summarise(run: Run, snapshot: Snapshot, *, stopped: str | None = None) -> Summary:
    """How a run went, or is going."""
    tally, seconds = run.counters, run.seconds
    return Summary(
        rows=run.rows,
        succeeded=tally.succeeded,
        failed=tally.failed,
        unsent=run.unsent,
        seconds=seconds,
        rows_per_minute=60.0 * tally.done / seconds if seconds > 0 else 0.0,
        spent=tally.spent,
        attempts=snapshot.attempts,
        retries=snapshot.retries,
        refusals=tally.refusals,
        overloads=tally.overloads,
        failures=tuple(tally.failures),
        bottleneck=_bottleneck(tally, seconds, snapshot),
        stopped=stopped,
        copied=tally.copies,
        answered_before=run.rest.answered if run.rest is not None else 0,
        failed_before=run.rest.failed if run.rest is not None else 0,
        wasted=tally.wasted,
        spent_before=run.before,
        max_cost=run.caps.dollars,
        max_tokens_total=run.caps.tokens,
        deadline=run.caps.seconds,
        errors=tally.errors,
    )


def _bottleneck(tally: RunCounters, seconds: float, snapshot: Snapshot) -> Bottleneck | None:
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
        saving, then = _saving(why, pool, tally, snapshot.attempts, held_for)
    return Bottleneck(why, name, held_for, share, resource.limit, resource.source, saving, then)


def _saving(
    binding: str, pool: PoolState, tally: RunCounters, attempts: int, held_for: float
) -> tuple[float | None, str | None]:
    """Seconds that twice the limit that binds would save, until the next one binds."""
    spent = tally.spent
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
    """Seconds that an amount takes at least: a full bucket at once, the rest at so much a minute."""
    return 60.0 * max(0.0, amount - at_once) / limit
