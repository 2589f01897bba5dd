"""One run: rows in, results out, through an executor; until the end, until told to stop, or until it must.

A run that is told to stop sends nothing more, lets what is in flight finish, and keeps its answers. A run
must stop when an answer would be the answer to every row that is left: a wrong key, a spent budget, a model
that does not exist.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Protocol

from claude_executor import Closed, Event, Executor, Failed, Kind, Params, Result, Stopped
from claude_executor.bulk.copies import Copies
from claude_executor.bulk.journal import ResultsFile
from claude_executor.bulk.order import put_in_order
from claude_executor.bulk.results import Mark, errored, hash_of, succeeded
from claude_executor.bulk.resume import Rest
from claude_executor.bulk.rows import NO_DEFAULTS, Defaults, Row, rows_of
from claude_executor.bulk.sources import Source
from claude_executor.bulk.tally import Tally

SKIPPED_AT_ONCE = 1_000
"""Rows passed over before the event loop gets its turn."""

_FOR_EVERYBODY = frozenset({Kind.AUTHENTICATION, Kind.BILLING, Kind.SPEND_LIMIT})
_FOR_ONE_MODEL = frozenset({Kind.NOT_FOUND, Kind.PERMISSION})


class Run:
    """One run, to be looked at and stopped while it goes on. Give `listen` to the executor as `on_event`.

    Attributes:
        rows: How many rows there are to do.
        models: The models they ask for; empty if not known.
        rest: What became of the other rows at earlier starts, if there were any.
        tally: What became of them so far.
        stopping: Whether it was told to stop.
        fatal: The error that ended it for all rows, if one did.
    """

    def __init__(
        self,
        rows: int,
        *,
        models: frozenset[str] = frozenset(),
        rest: Rest | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` must be the executor's."""
        self.rows = rows
        self.models = models
        self.rest = rest
        self.tally = Tally()
        self.stopping = False
        self.fatal: Failed | Stopped | None = None
        self.clock = clock
        self.started_at = clock()
        self._ended_at: float | None = None
        self._reached = False
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

    def judge(self, error: Exception | None, model: str) -> None:
        """See whether an error is the end of everything; `None` stands for an answer."""
        self._reached = self._reached or error is None
        if self.fatal is not None or not isinstance(error, (Failed, Stopped)):
            return
        nowhere = error.kind is Kind.UNREACHABLE and not self._reached
        if error.kind in _FOR_ONE_MODEL:
            self._impossible.add(model)
            nowhere = bool(self.models) and not self._reached and self._impossible >= self.models
        if nowhere or error.kind in _FOR_EVERYBODY:
            self.fatal = error

    def ended_by(self, error: Exception) -> bool:
        """Whether a row has come to nothing only because the run has."""
        unsent = isinstance(error, (Closed, Stopped))
        if self.stopping and (unsent or (isinstance(error, Failed) and error.retryable)):
            return True
        fatal = self.fatal
        return fatal is not None and isinstance(error, (Failed, Stopped)) and error.kind is fatal.kind


class _Sink(Protocol):
    """Where lines go; see `ResultsFile`."""

    @property
    def end(self) -> int: ...
    def add(self, line: bytes) -> asyncio.Future[None]: ...
    async def room(self) -> None: ...
    async def synced(self) -> None: ...


async def run_file(
    source: Path | Source,
    results: ResultsFile,
    *,
    executor: Executor,
    run: Run,
    rest: Rest | None = None,
    defaults: Defaults = NO_DEFAULTS,
    ordered: bool = False,
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
        defaults: What lines may leave out.
        ordered: At the end, put the results in the order of the rows.
        dedupe: Send rows that ask the same only once, and give all of them the answer.
        priority: As for `Executor.submit`.

    Raises:
        OSError: A file could not be read or written. What is counted is on disk.
        BadInput: The file was changed meanwhile.
    """
    rows = _to_send(rows_of(source, defaults), rest)
    copies = await asyncio.to_thread(Copies, results) if dedupe else None
    await _run(_Feed(rows, results, executor, run, copies), run, priority)
    if ordered:
        await asyncio.to_thread(put_in_order, results, rows_of(source, defaults))


async def run_rows(
    rows: Iterable[Row],
    write: Callable[[bytes], None],
    *,
    executor: Executor,
    run: Run,
    priority: int = 0,
) -> None:
    """Send rows from anywhere, and hand the lines of their results to `write`; see `run_file`."""
    await _run(_Feed(_to_send(rows, None), _Handed(write), executor, run, None), run, priority)


async def _run(feed: "_Feed", run: Run, priority: int) -> None:
    run.begin(feed.stop)
    try:
        await feed.work(priority)
    finally:
        run.end()


async def _to_send(rows: Iterable[Row], rest: Rest | None) -> AsyncIterator[Row]:
    """Those of the rows that are to be sent. Of a file that has grown no more is read than was counted."""
    pairs = zip(rows, rest.sends, strict=False) if rest is not None else ((row, True) for row in rows)
    for number, (row, sends) in enumerate(pairs):
        if sends:
            yield row
        elif number % SKIPPED_AT_ONCE == 0:
            await asyncio.sleep(0)


class _Handed:
    """Lines that are handed on to a function, and are then done with."""

    end = 0

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def add(self, line: bytes) -> asyncio.Future[None]:
        self._write(line)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def room(self) -> None:
        """There always is."""

    async def synced(self) -> None:
        """They are done with, and it may be told."""
        await asyncio.sleep(0)


class _Feed:
    """Hands rows to `Executor.map` as it asks for them, and results to the file."""

    def __init__(
        self,
        rows: AsyncIterator[Row],
        results: _Sink,
        executor: Executor,
        run: Run,
        copies: Copies | None,
    ) -> None:
        self._rows = rows
        self._results = results
        self._executor = executor
        self._run = run
        self._copies = copies
        self._pending: dict[int, tuple[Row, int]] = {}
        self._handed = 0
        self._stopping: asyncio.Task[None] | None = None

    async def work(self, priority: int) -> None:
        """Until all rows are done, or nothing more is to be done."""
        try:
            async with aclosing(self._executor.map(self, priority=priority)) as results:
                async for result in results:
                    self._take(result)
                    await self._results.room()
            if self._stopping is not None:
                await self._stopping
        finally:
            await self._results.synced()

    # ---- towards the executor

    def __aiter__(self) -> "_Feed":
        return self

    async def __anext__(self) -> Params:
        while True:
            if self._copies is not None:
                await self._copies.room()
            if self._run.stopping or self._run.fatal is not None:
                raise StopAsyncIteration
            row = await anext(self._rows)
            hash_ = hash_of(row.params)
            if self._copies is None or not self._follows(row, hash_, self._copies):
                break
        self._pending[self._handed] = (row, hash_)
        self._handed += 1
        return row.params

    def _follows(self, row: Row, hash_: int, copies: Copies) -> bool:
        """Whether another row that asks the same is sent in its place, or has been."""
        known = copies.answer(hash_)
        if known is not None:
            first, message = known
            mark = Mark(hash_, time.time(), copy_of=first)
            self._add(succeeded(row.custom_id, message, row.extras, mark), self._run.tally.copied)
            return True
        return copies.follow(row, hash_)

    # ---- from the executor

    def _take(self, result: Result) -> None:
        row, hash_ = self._pending.pop(result.index)
        self._run.judge(result.error, str(row.params["model"]))
        followers = self._copies.settle(hash_) if self._copies is not None else ()
        self._write(row, result, Mark.of(result, hash_, time.time()))
        for follower in followers:
            self._write(follower, result, Mark(hash_, time.time(), copy_of=row.custom_id))

    def _write(self, row: Row, result: Result, mark: Mark) -> None:
        tally, message, error = self._run.tally, result.message, result.error
        if message is not None:
            model, is_copy = str(row.params["model"]), mark.copy_of is not None
            count = tally.copied if is_copy else partial(tally.answered, model, message)
            place = self._results.end
            on_disk = self._add(succeeded(row.custom_id, message, row.extras, mark), count)
            if self._copies is not None and not is_copy:
                self._copies.keep(mark.hash, row.custom_id, message, place, on_disk)
        # What met the end of everything has not failed: on another day it will be answered.
        elif error is not None and not self._run.ended_by(error):
            self._add(errored(row.custom_id, error, row.extras, mark), partial(tally.lost, error))

    def _add(self, line: bytes, count: Callable[[], None]) -> asyncio.Future[None]:
        """Add a line, and count it when it is on disk."""
        on_disk = self._results.add(line)
        on_disk.add_done_callback(partial(self._written, count))
        return on_disk

    def _written(self, count: Callable[[], None], group: asyncio.Future[None]) -> None:
        if group.cancelled() or group.exception() is not None:
            self.stop()
        else:
            count()

    def stop(self) -> None:
        """Send nothing more, let what is in flight finish; rows that were waiting come back as `Closed`."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._executor.drain(refuse_waiting=True))
