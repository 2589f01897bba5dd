"""One run: rows in, results out, through an executor; until the end, until told to stop, or until it must.

A run that is told to stop sends nothing more, lets what is in flight finish, and keeps its answers. A run
must stop when an answer would be the answer to every row that is left: a wrong key, a spend limit, a model
that does not exist, a shared budget that cannot be asked. And it ends at its caps: on money and on tokens,
when what is left of them is not surely enough for a row, and on time. Rows that were not sent then are
neither answered nor failed.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path

from claude_executor import (
    BudgetUnreachable,
    Closed,
    Event,
    Executor,
    Failed,
    FailureKind,
    Refusal,
    RequestRefused,
    SpendingCapReached,
    Stopped,
)
from claude_executor.bulk.costs.caps import NO_CAPS, Caps
from claude_executor.bulk.costs.prices import NOTHING_SPENT, Spent
from claude_executor.bulk.input.rows import NO_DEFAULTS, Row, RowDefaults, some_rows_of
from claude_executor.bulk.input.sources import Source
from claude_executor.bulk.results.pipe_writer import PipeWriter
from claude_executor.bulk.results.writer import ResultsFile
from claude_executor.bulk.run.counters import RunCounters
from claude_executor.bulk.run.dedupe import Deduplicator
from claude_executor.bulk.run.feeder import CallbackSink, Feeder
from claude_executor.bulk.run.resume import RemainingRows
from claude_executor.bulk.run.validate import Survey

_FOR_EVERYBODY = frozenset({FailureKind.AUTHENTICATION, FailureKind.BILLING, FailureKind.SPEND_LIMIT})
_FOR_ONE_MODEL = frozenset({FailureKind.NOT_FOUND, FailureKind.PERMISSION})


class Run:
    """One run, to be looked at and stopped while it goes on. Give `listen` to the executor as `on_event`.

    Attributes:
        rows: How many rows there are to do.
        models: The models they ask for; empty if not known.
        rest: What became of the other rows at earlier starts, if there were any.
        caps: What the whole job may take.
        before: What earlier starts have spent.
        counters: What became of them so far.
        stopping: Whether it was told to stop.
        late: Whether that was because its time was up.
        at_cap: Whether a row did not fit any more under the caps on money and tokens.
        fatal: The error that ended it for all rows, if one did.
    """

    def __init__(
        self,
        rows: int,
        *,
        models: frozenset[str] = frozenset(),
        rest: RemainingRows | None = None,
        caps: Caps = NO_CAPS,
        before: Spent = NOTHING_SPENT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` must be the executor's, which also keeps the caps on money and tokens."""
        self.rows = rows
        self.models = models
        self.rest = rest
        self.caps = caps
        self.before = before
        self.counters = RunCounters()
        self.stopping = False
        self.late = False
        self.at_cap = False
        self.fatal: Failed | Stopped | BudgetUnreachable | None = None
        self.clock = clock
        self.started_at = clock()
        self._ended_at: float | None = None
        self._reached = False
        self._impossible: set[str] = set()
        self._told: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return (self.clock() if self._ended_at is None else self._ended_at) - self.started_at

    @property
    def unsent(self) -> int:
        """Rows of which nothing became."""
        return self.rows - self.counters.done

    @property
    def over(self) -> bool:
        """Whether no more rows are to be sent."""
        return self.stopping or self.at_cap or self.fatal is not None

    @property
    def spent(self) -> Spent:
        """What the job has spent on answers, earlier starts included."""
        return self.before + self.counters.spent

    def listen(self, event: Event) -> None:
        """Something happened in the executor."""
        if isinstance(event, RequestRefused) and event.reason == Refusal.SPENDING_CAP:
            self.at_cap = True
        self.counters.listen(event)

    def stop(self) -> None:
        """Send nothing more, finish what is in flight."""
        self.stopping = True
        if self._told is not None:
            self._told()

    def begin(self, told: Callable[[], None]) -> None:
        """The rows begin to move; `told` is called when it is to stop."""
        self.started_at = self.clock()
        self._told = told
        if self.caps.seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self.caps.seconds, self._time_is_up)

    def end(self) -> None:
        """It is over."""
        self._ended_at = self.clock()
        self._told = None
        if self._timer is not None:
            self._timer.cancel()

    def _time_is_up(self) -> None:
        if not self.stopping:
            self.late = True
            self.stop()

    def on_result(self, error: Exception | None, model: str) -> None:
        """See whether an error is the end of everything; `None` stands for an answer."""
        self._reached = self._reached or error is None
        self.at_cap = self.at_cap or isinstance(error, SpendingCapReached)
        if self.fatal is None and isinstance(error, BudgetUnreachable):
            self.fatal = error
        if self.fatal is not None or not isinstance(error, (Failed, Stopped)):
            return
        nowhere = error.kind is FailureKind.UNREACHABLE and not self._reached
        if error.kind in _FOR_ONE_MODEL:
            self._impossible.add(model)
            nowhere = bool(self.models) and not self._reached and self._impossible >= self.models
        if nowhere or error.kind in _FOR_EVERYBODY:
            self.fatal = error

    def ended_by(self, error: Exception) -> bool:
        """Whether a row has come to nothing only because the run has."""
        if isinstance(error, (SpendingCapReached, BudgetUnreachable)):
            return True
        fatal = self.fatal
        unsent = isinstance(error, (Closed, Stopped))
        given_up = isinstance(error, Failed) and error.retryable
        if (self.stopping and (unsent or given_up)) or (self.at_cap and given_up):
            return True
        if isinstance(fatal, BudgetUnreachable):  # it also ends the retries of rows that were sent
            return given_up
        return fatal is not None and isinstance(error, (Failed, Stopped)) and error.kind is fatal.kind


async def run_file(
    source: Path | Source,
    results: ResultsFile,
    *,
    executor: Executor,
    run: Run,
    rest: RemainingRows | None = None,
    survey: Survey | None = None,
    defaults: RowDefaults = NO_DEFAULTS,
    dedupe: bool = False,
    priority: int = 0,
) -> None:
    """Send the rows of a file that has been checked, and journal the results as they come.

    A row counts as done when its result is on disk, whatever happens to the process afterwards.

    Args:
        source: The rows.
        results: Where the results go.
        executor: What sends them; it must tell its events to `run`.
        run: Counts, and can be told to stop.
        rest: Which rows are to be sent; all of them if left out.
        survey: What the check said: a file that was changed since then is refused. With `rest` this matters,
            for that goes by where rows stand.
        defaults: What lines may leave out.
        dedupe: Send rows that ask the same only once, and give all of them the answer.
        priority: As for `Executor.submit`.

    Raises:
        OSError: A file could not be read or written. What is counted is on disk.
        BadInput: The file was changed meanwhile.
    """
    wanted = repeat(True) if rest is None else rest.sends
    rows = some_rows_of(source, defaults, wanted, None if survey is None else survey.stamp)
    copies = await asyncio.to_thread(Deduplicator, results) if dedupe else None
    await _run(Feeder(rows, results, executor, run, copies), run, priority)


async def run_rows(
    rows: Iterable[Row],
    write: Callable[[bytes], None] | PipeWriter,
    *,
    executor: Executor,
    run: Run,
    priority: int = 0,
) -> None:
    """Send rows from anywhere, and hand the lines of their results to `write`; see `run_file`.

    Raises:
        OSError: The outlet is closed.
    """
    sink = write if isinstance(write, PipeWriter) else CallbackSink(write)
    await _run(Feeder(rows, sink, executor, run, None), run, priority)


async def _run(feed: Feeder, run: Run, priority: int) -> None:
    run.begin(feed.stop)
    try:
        await feed.work(priority)
    finally:
        run.end()
