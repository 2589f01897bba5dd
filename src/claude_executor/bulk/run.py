"""One run: rows in, results out, through an executor; until the end, until told to stop, or until it must.

A run that is told to stop sends nothing more, lets what is in flight finish, and keeps its answers. A run
must stop when an answer would be the answer to every row that is left: a wrong key, a spent budget, a model
that does not exist.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path

from claude_executor import Closed, Event, Executor, Failed, Kind, Params, Result, Stopped
from claude_executor.bulk.results import InOrder, Results, errored, succeeded
from claude_executor.bulk.rows import NO_DEFAULTS, Defaults, Row, rows_of
from claude_executor.bulk.tally import Tally

AHEAD = 1_000
"""Rows read beyond those in flight, and results held back for the sake of order, at most."""

_FOR_EVERYBODY = frozenset({Kind.AUTHENTICATION, Kind.BILLING, Kind.SPEND_LIMIT})
_FOR_ONE_MODEL = frozenset({Kind.NOT_FOUND, Kind.PERMISSION})


class Run:
    """One run, to be looked at and stopped while it goes on. Give `listen` to the executor as `on_event`.

    Attributes:
        rows: How many rows there are.
        models: The models they ask for; empty if not known.
        tally: What became of them so far.
        stopping: Whether it was told to stop.
        fatal: The error that ended it for all rows, if one did.
    """

    def __init__(
        self,
        rows: int,
        *,
        models: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` must be the executor's."""
        self.rows = rows
        self.models = models
        self.tally = Tally()
        self.stopping = False
        self.fatal: Failed | Stopped | None = None
        self.clock = clock
        self.started_at = clock()
        self._ended_at: float | None = None
        self._impossible: set[str] = set()
        self._told: Callable[[], None] | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return (self.clock() if self._ended_at is None else self._ended_at) - self.started_at

    @property
    def unsent(self) -> int:
        """Rows of which nothing became."""
        return self.rows - self.tally.done

    def listen(self, event: Event) -> None:
        """Something happened in the executor."""
        self.tally.listen(event)

    def stop(self) -> None:
        """Send nothing more, finish what is in flight."""
        self.stopping = True
        if self._told is not None:
            self._told()

    def begin(self, told: Callable[[], None]) -> None:
        """The rows begin to move; `told` is called when it is to stop."""
        self.started_at = self.clock()
        self._told = told

    def end(self) -> None:
        """It is over."""
        self._ended_at = self.clock()
        self._told = None

    def judge(self, error: Exception, model: str) -> None:
        """See whether an error is the end of everything."""
        if self.fatal is not None or not isinstance(error, (Failed, Stopped)):
            return
        nowhere = error.kind is Kind.UNREACHABLE and not self.tally.succeeded
        if error.kind in _FOR_ONE_MODEL:
            self._impossible.add(model)
            nowhere = bool(self.models) and not self.tally.succeeded and self._impossible >= self.models
        if nowhere or error.kind in _FOR_EVERYBODY:
            self.fatal = error

    def ended_by(self, error: Exception) -> bool:
        """Whether a row has come to nothing only because the run has."""
        if self.stopping and (isinstance(error, Closed) or (isinstance(error, Failed) and error.retryable)):
            return True
        fatal = self.fatal
        return fatal is not None and isinstance(error, (Failed, Stopped)) and error.kind is fatal.kind


async def run_file(
    source: Path,
    target: Path,
    *,
    executor: Executor,
    run: Run,
    defaults: Defaults = NO_DEFAULTS,
    ordered: bool = False,
    priority: int = 0,
    overwrite: bool = False,
) -> None:
    """Send every row of a file that has been checked, and write the results as they come.

    Args:
        source: The rows, in JSONL.
        target: Where the results go.
        executor: What sends them; it must tell its events to `run`.
        run: Counts, and can be told to stop.
        defaults: What lines may leave out.
        ordered: Write the results in the order of the rows instead of that of the answers.
        priority: As for `Executor.submit`.
        overwrite: Whether `target` may exist.

    Raises:
        FileExistsError: `target` exists.
        OSError: A file could not be read or written.
        BadInput: The file was changed meanwhile.
    """
    results = Results(target, overwrite=overwrite)
    try:
        rows = rows_of(source, defaults)
        await run_rows(rows, results.write, executor=executor, run=run, ordered=ordered, priority=priority)
    finally:
        results.close()


async def run_rows(
    rows: Iterable[Row],
    write: Callable[[bytes], None],
    *,
    executor: Executor,
    run: Run,
    ordered: bool = False,
    priority: int = 0,
) -> None:
    """Send rows from anywhere, and hand the lines of their results to `write`; see `run_file`."""
    feed = _Feed(rows, write, executor, run, ordered=ordered)
    run.begin(feed.stop)
    try:
        await feed.work(priority)
    finally:
        run.end()


class _Feed:
    """Hands rows to `Executor.map` as it asks for them, and results to the file."""

    def __init__(
        self,
        rows: Iterable[Row],
        write: Callable[[bytes], None],
        executor: Executor,
        run: Run,
        *,
        ordered: bool,
    ) -> None:
        self._rows = iter(rows)
        self._write = write
        self._executor = executor
        self._run = run
        self._order = InOrder() if ordered else None
        self._pending: dict[int, tuple[str, Mapping[str, object]]] = {}
        self._handed = 0
        self._moved = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    async def work(self, priority: int) -> None:
        """Until all rows are done, or nothing more is to be done."""
        try:
            async with aclosing(self._executor.map(self, priority=priority)) as results:
                async for result in results:
                    self._take(result)
            if self._stopping is not None:
                await self._stopping
        finally:
            for line in self._order.rest() if self._order else ():
                self._write(line)

    # ---- towards the executor

    def __aiter__(self) -> "_Feed":
        return self

    async def __anext__(self) -> Params:
        while self._order is not None and self._handed - self._order.written >= 2 * AHEAD:
            self._moved.clear()
            await self._moved.wait()
        if self._run.stopping or self._run.fatal is not None:
            raise StopAsyncIteration
        row = next(self._rows, None)
        if row is None:
            raise StopAsyncIteration
        self._pending[self._handed] = (row.custom_id, row.extras)
        self._handed += 1
        return row.params

    # ---- from the executor

    def _take(self, result: Result) -> None:
        custom_id, extras = self._pending.pop(result.index)
        line = b""
        if result.message is not None:
            self._run.tally.answered(str(result.params["model"]), result.message)
            line = succeeded(custom_id, result.message, extras)
        elif result.error is not None:
            self._run.judge(result.error, str(result.params["model"]))
            # What met the end of everything has not failed: on another day it will be answered.
            if not self._run.ended_by(result.error):
                self._run.tally.lost(result.error)
                line = errored(custom_id, result.error, extras)
        self._put(result.index, line)

    def _put(self, index: int, line: bytes) -> None:
        lines = [line] if self._order is None else self._order.put(index, line)
        self._moved.set()
        for ready in lines:
            if ready:
                self._write(ready)

    def stop(self) -> None:
        """Send nothing more, let what is in flight finish; rows that were waiting come back as `Closed`."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._executor.drain(refuse_waiting=True))
        self._moved.set()
