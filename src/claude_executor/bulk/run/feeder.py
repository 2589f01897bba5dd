"""Feeds rows to an executor as it asks for them, and writes the lines of their results to a sink."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Protocol

from claude_executor import Executor, Params, Result
from claude_executor.bulk.input.rows import Row
from claude_executor.bulk.results.line import Provenance, errored, hash_of, succeeded
from claude_executor.bulk.run.counters import RunCounters
from claude_executor.bulk.run.dedupe import Deduplicator


class Sink(Protocol):
    """A destination of result lines; see `ResultsFile`."""

    @property
    def end(self) -> int:
        """The offset of the next line."""
        ...

    def add(self, line: bytes) -> asyncio.Future[None]:
        """Add a line. The future is done when the line is safe."""
        ...

    async def backpressure(self) -> None:
        """Wait while too much is unwritten."""
        ...

    async def flush(self) -> None:
        """Wait until everything is written."""
        ...


class RunProgress(Protocol):
    """The part of a run that the feeder reads and reports to.

    Attributes:
        over: Whether nothing more is to be sent.
        counters: Counts of the run.
    """

    @property
    def over(self) -> bool: ...  # noqa: D102 - see above

    @property
    def counters(self) -> RunCounters: ...  # noqa: D102 - see above

    def on_result(self, error: Exception | None, model: str) -> None:
        """Judge the outcome of one row: it may stop the run."""
        ...

    def ended_by(self, error: Exception) -> bool:
        """Whether the error is what ended the run, and no failure of its row."""
        ...


class CallbackSink:
    """A sink that passes each line to a function and reports it written at once."""

    end = 0

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def add(self, line: bytes) -> asyncio.Future[None]:
        """Pass a line to the function."""
        self._write(line)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def backpressure(self) -> None:
        """Return at once: nothing is ever unwritten."""

    async def flush(self) -> None:
        """Let the callbacks of written lines run."""
        await asyncio.sleep(0)


class Feeder:
    """Feeds rows to `Executor.map` as it asks for them, and writes their results to the sink."""

    def __init__(
        self,
        rows: Iterable[Row | None],
        results: Sink,
        executor: Executor,
        run: RunProgress,
        copies: Deduplicator | None,
    ) -> None:
        """Take the rows; a `None` among them gives the event loop a turn."""
        self._rows = iter(rows)
        self._results = results
        self._executor = executor
        self._run = run
        self._copies = copies
        self._pending: dict[int, tuple[Row, int]] = {}
        self._handed = 0
        self._stopping: asyncio.Task[None] | None = None
        self._group: asyncio.Future[None] | None = None
        self._counts: list[Callable[[], None]] = []

    async def work(self, priority: int) -> None:
        """Work until all rows are done or the run is over."""
        try:
            async with aclosing(self._executor.map(self, priority=priority)) as results:
                async for result in results:
                    self._take(result)
                    await self._results.backpressure()
            if self._stopping is not None:
                await self._stopping
        finally:
            await self._results.flush()

    # ---- towards the executor

    def __aiter__(self) -> "Feeder":
        return self

    async def __anext__(self) -> Params:
        while True:
            if self._copies is not None:
                await self._copies.room()
            if self._run.over:
                raise StopAsyncIteration
            try:
                row = next(self._rows)
            except StopIteration:
                raise StopAsyncIteration from None
            if row is None:
                await asyncio.sleep(0)
                continue
            hash_ = hash_of(row.params)
            if self._copies is None or not self._follows(row, hash_, self._copies):
                break
        self._pending[self._handed] = (row, hash_)
        self._handed += 1
        return row.params

    def _follows(self, row: Row, hash_: int, copies: Deduplicator) -> bool:
        """Whether the row gets, or waits for, the answer to an equal request."""
        earlier = copies.answer(hash_)
        if earlier is not None:
            first, message = earlier
            mark = Provenance(hash_, time.time(), copy_of=first)
            self._add(succeeded(row.custom_id, message, row.extras, mark), self._run.counters.copied)
            return True
        return copies.follow(row, hash_)

    # ---- from the executor

    def _take(self, result: Result) -> None:
        row, hash_ = self._pending.pop(result.index)
        self._run.on_result(result.error, str(row.params["model"]))
        followers = self._copies.settle(hash_) if self._copies is not None else ()
        self._write(row, result, Provenance.of(result, hash_, time.time()))
        for follower in followers:
            self._write(follower, result, Provenance(hash_, time.time(), copy_of=row.custom_id))

    def _write(self, row: Row, result: Result, mark: Provenance) -> None:
        counters, message, error = self._run.counters, result.message, result.error
        if message is not None:
            model, is_copy = str(row.params["model"]), mark.copy_of is not None
            count = counters.copied if is_copy else partial(counters.answered, model, message)
            offset = self._results.end
            on_disk = self._add(succeeded(row.custom_id, message, row.extras, mark), count)
            if self._copies is not None and not is_copy:
                self._copies.keep(mark.hash, row.custom_id, message, offset, on_disk)
        # A row that was ended by the end of the whole run has not failed: the next start sends it.
        elif error is not None and not self._run.ended_by(error):
            self._add(errored(row.custom_id, error, row.extras, mark), partial(counters.lost, error))

    def _add(self, line: bytes, count: Callable[[], None]) -> asyncio.Future[None]:
        """Add a line, and count its row when the group of the line is on disk."""
        on_disk = self._results.add(line)
        if on_disk is not self._group:
            self._group, self._counts = on_disk, []
            on_disk.add_done_callback(partial(self._written, self._counts))
        self._counts.append(count)
        return on_disk

    def _written(self, counts: list[Callable[[], None]], group: asyncio.Future[None]) -> None:
        if group.cancelled() or group.exception() is not None:
            self.stop()
            return
        wrong: list[Exception] = []
        for count in counts:
            try:
                count()
            except Exception as error:  # the other rows are on disk too
                wrong.append(error)
        if wrong:
            raise wrong[0]

    def stop(self) -> None:
        """Send nothing more and let what is in flight finish. Waiting rows come back as `Closed`."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._executor.drain(refuse_waiting=True))
