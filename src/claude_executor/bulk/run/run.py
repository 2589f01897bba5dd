"""One run: rows in, results out, through an executor, until all rows are done or the run is stopped.

A stopped run sends nothing more, lets what is in flight finish, and keeps the answers. A run stops by itself
when every remaining row would meet the same error: a wrong key, a spend limit, a model that does not exist, a
shared budget that is not reachable. It also ends at its caps: on money and tokens when the next row might
exceed them, and on time. Rows that were not sent then are neither answered nor failed.
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
    """The state of one run, to watch and to stop. Pass `listen` to the executor as `on_event`.

    Attributes:
        rows: Number of rows to do.
        models: The models of the rows; empty if not known.
        rest: Results of the other rows at earlier starts, if known.
        caps: Caps on the whole job.
        before: Tokens and money that earlier starts spent.
        counters: Counts of the rows so far.
        stopping: Whether the run was stopped.
        late: Whether the deadline stopped the run.
        at_cap: Whether a row no longer fitted under the caps on money and tokens.
        fatal: The error that ended the run for all rows, if one did.
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
        """Start a run. `clock` must be that of the executor, which keeps the caps on money and tokens."""
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
        self._on_stop: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """Duration of the run so far, or in total."""
        return (self.clock() if self._ended_at is None else self._ended_at) - self.started_at

    @property
    def unsent(self) -> int:
        """Rows that are neither answered nor failed."""
        return self.rows - self.counters.done

    @property
    def over(self) -> bool:
        """Whether the run sends no more rows."""
        return self.stopping or self.at_cap or self.fatal is not None

    @property
    def spent(self) -> Spent:
        """Tokens and money that the job spent on answers, earlier starts included."""
        return self.before + self.counters.spent

    def listen(self, event: Event) -> None:
        """Count an event of the executor."""
        if isinstance(event, RequestRefused) and event.reason == Refusal.SPENDING_CAP:
            self.at_cap = True
        self.counters.listen(event)

    def stop(self) -> None:
        """Send nothing more and let what is in flight finish."""
        self.stopping = True
        if self._on_stop is not None:
            self._on_stop()

    def begin(self, on_stop: Callable[[], None]) -> None:
        """Start the clock and the deadline. `on_stop` is called when the run is stopped."""
        self.started_at = self.clock()
        self._on_stop = on_stop
        if self.caps.seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self.caps.seconds, self._time_is_up)

    def end(self) -> None:
        """Stop the clock."""
        self._ended_at = self.clock()
        self._on_stop = None
        if self._timer is not None:
            self._timer.cancel()

    def _time_is_up(self) -> None:
        if not self.stopping:
            self.late = True
            self.stop()

    def on_result(self, error: Exception | None, model: str) -> None:
        """Decide whether an error ends the run for all rows; `None` stands for an answer."""
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
        """Whether a row has no result only because the run ended."""
        if isinstance(error, (SpendingCapReached, BudgetUnreachable)):
            return True
        fatal = self.fatal
        unsent = isinstance(error, (Closed, Stopped))
        given_up = isinstance(error, Failed) and error.retryable
        if (self.stopping and (unsent or given_up)) or (self.at_cap and given_up):
            return True
        if isinstance(fatal, BudgetUnreachable):  # this also ends the retries of rows that were sent
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
    """Send the rows of a validated source, and write their results as they come.

    A row counts when its result is on disk, whatever happens to the process afterwards.

    Args:
        source: The rows.
        results: The results file.
        executor: Sends the rows. Its events must go to ``run.listen``.
        run: Counts the rows, and can be stopped.
        rest: Which rows are to be sent; by default all of them.
        survey: Result of the validation. A file that has changed since is refused; with `rest` this matters,
            because `rest` goes by position.
        defaults: What rows may leave out.
        dedupe: Send rows with equal requests once, and copy the answer.
        priority: Priority of the requests; see `Executor.submit`.

    Raises:
        OSError: A file cannot be read or written. What is counted is on disk.
        BadInput: The source was changed meanwhile.
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
    """Send rows from anywhere, and pass the lines of their results to `write`; see `run_file`.

    Raises:
        OSError: The reader of the lines is gone.
    """
    sink = write if isinstance(write, PipeWriter) else CallbackSink(write)
    await _run(Feeder(rows, sink, executor, run, None), run, priority)


async def _run(feed: Feeder, run: Run, priority: int) -> None:
    run.begin(feed.stop)
    try:
        await feed.work(priority)
    finally:
        run.end()
