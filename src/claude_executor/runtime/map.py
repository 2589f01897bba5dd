"""Submits many requests from one iterable, with bounded memory: the work of `Executor.map`.

A fixed number of workers pull from the iterable, submit, and put results into a bounded queue. When the
consumer is slow the queue is full and the workers wait; when the iterable is slow they wait for it. Workers
are added only while there is work for them, so five prompts do not cost a thousand tasks. When the iterable
raises, the requests taken before are finished and yielded first.
"""

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from claude_executor.errors import Closed, ExecutorError

if TYPE_CHECKING:
    from anthropic.types import Message

Params = Mapping[str, object]
"""The arguments of ``messages.create`` as a mapping: ``{"model": …, "max_tokens": …, "messages": […]}``."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one request of `Executor.map`: exactly one of `message` and `error` is set.

    Attributes:
        index: The index of the request among the prompts, from 0.
        params: The request.
        message: The response.
        error: An `ExecutorError`, or the `ValueError` or `TypeError` of invalid parameters.
        attempts: Requests sent for it; None if not known, as for an answer from a journal.
        queue_time: Seconds the request waited for its turn.
        duration: Seconds the last attempt took.
    """

    index: int
    params: Params = field(repr=False)
    message: "Message | None" = field(default=None, repr=False)
    error: Exception | None = None
    attempts: int | None = None
    queue_time: float | None = None
    duration: float | None = None


class MapAnswer(NamedTuple):
    """A response, and how it came about; see `Result`."""

    message: "Message"
    attempts: int
    queue_time: float
    duration: float


class MapJournal(Protocol):
    """A store of results for `Executor.map`, so that a second call does not repeat answered requests.

    `claude_executor.bulk.Journal` is one, on a file. `map` enters it before its first request, and leaves it
    after its last.
    """

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...

    def find(self, index: int, params: Params) -> Result | None:
        """Return the stored result of a request, if any. Called for every request, in their order."""
        ...

    async def keep(self, result: Result) -> None:
        """Store a result, which is yielded afterwards. `map` raises what this raises."""
        ...


async def map_requests(
    submit: Callable[[Params], Awaitable[MapAnswer]],
    prompts: Iterable[Params] | AsyncIterable[Params],
    *,
    room: int,
    ordered: bool,
    tasks: set[asyncio.Task[None]],
    journal: MapJournal | None = None,
) -> AsyncGenerator[Result, None]:
    """Yield a `Result` for each of `prompts`; at most `room` of them are held at a time.

    `tasks` holds the workers while they live, so that its owner can end them.
    """
    async with journal if journal is not None else nullcontext():
        crew = _WorkerPool(submit, prompts, room=room, ordered=ordered, tasks=tasks, journal=journal)
        crew.spawn()
        try:
            while (result := await crew.next()) is not None:
                yield result
        finally:
            await crew.cancel_all()


class _WorkerPool:
    def __init__(
        self,
        submit: Callable[[Params], Awaitable[MapAnswer]],
        prompts: Iterable[Params] | AsyncIterable[Params],
        *,
        room: int,
        ordered: bool,
        tasks: set[asyncio.Task[None]],
        journal: MapJournal | None,
    ) -> None:
        self._submit = submit
        self._journal = journal
        self._source: Iterator[Params] | AsyncIterator[Params] = (
            aiter(prompts) if isinstance(prompts, AsyncIterable) else iter(prompts)
        )
        self._pulling = False
        self._exhausted = False
        self._taken = 0
        self._yielded = 0
        self._room = room
        self._ordered = ordered
        self._done: dict[int, Result] = {}
        # Single futures, not a lock and two events: every request would have to pass all three.
        self._result_ready: asyncio.Future[None] | None = None
        self._parked: deque[asyncio.Future[None]] = deque()
        self._source_error: Exception | None = None
        self._broken: BaseException | None = None
        self._tasks = tasks
        self._mine: set[asyncio.Task[None]] = set()

    def spawn(self) -> None:
        """Add a worker."""
        task = asyncio.create_task(self._work(), name="claude-executor map worker")
        self._mine.add(task)
        self._tasks.add(task)
        task.add_done_callback(self._leave)

    def _leave(self, task: asyncio.Task[None]) -> None:
        self._mine.discard(task)
        self._tasks.discard(task)
        if task.cancelled():  # without an error its row would be missing unnoticed
            self._broken = (
                Closed("the executor was left before map() had ended: take all results inside `async with`")
                if task.cancelling()
                else RuntimeError("a request of map() was cancelled by something other than its executor")
            )
        elif (error := task.exception()) is not None:
            self._broken = error
        self._wake()

    async def cancel_all(self) -> None:
        """Cancel all workers, and with them the requests they carry."""
        mine = set(self._mine)
        for task in mine:
            task.cancel()
        if mine:
            await asyncio.wait(mine)

    async def next(self) -> Result | None:
        """Return the next result to yield; None after the last."""
        while True:
            if self._ordered:
                result = self._done.pop(self._yielded, None)
            else:
                result = self._done.pop(next(iter(self._done))) if self._done else None
            if result is not None:
                self._yielded += 1
                self._call_one()
                return result
            if self._broken is not None:
                raise self._broken
            if not self._mine:
                if self._source_error is not None:
                    raise self._source_error
                return None
            self._result_ready = asyncio.get_running_loop().create_future()
            await self._result_ready

    def _wake(self) -> None:
        """Wake the consumer: there may be a result, or no worker any more."""
        if self._result_ready is not None and not self._result_ready.done():
            self._result_ready.set_result(None)

    async def _work(self) -> None:
        while (item := await self._pull()) is not None:
            result = await self._carry(*item)
            self._done[result.index] = result
            self._wake()

    async def _carry(self, index: int, params: Params) -> Result:
        journal = self._journal
        try:
            if journal is not None and (known := journal.find(index, params)) is not None:
                return known
            answer = await self._submit(params)
        except (ExecutorError, ValueError, TypeError) as error:
            result = Result(index, params, error=error)
        else:
            result = Result(
                index, params, answer.message, None, answer.attempts, answer.queue_time, answer.duration
            )
        if journal is not None:
            await journal.keep(result)
        return result

    async def _pull(self) -> tuple[int, Params] | None:
        while not self._exhausted and (self._pulling or self._is_full()):
            await self._park()
        if self._exhausted:
            self._call_one()  # a worker that parks would wait for ever
            return None
        self._pulling = True
        try:
            if isinstance(self._source, AsyncIterator):
                params = await anext(self._source)
            else:
                params = next(self._source)
        except (StopIteration, StopAsyncIteration):
            self._exhausted = True
            return None
        except asyncio.CancelledError:
            if (worker := asyncio.current_task()) is not None and worker.cancelling():
                raise
            error = RuntimeError("the iterable given to map() raised CancelledError: catch it there")
            self._exhausted, self._source_error = True, error
            return None
        except Exception as error:  # the caller's code: raised when the rest is done
            self._exhausted, self._source_error = True, error
            return None
        else:
            index, self._taken = self._taken, self._taken + 1
        finally:
            self._pulling = False
            if self._exhausted or not self._is_full():
                self._call_one()
        if len(self._mine) < self._room:
            self.spawn()
        return index, params

    def _is_full(self) -> bool:
        return self._taken - self._yielded >= self._room

    async def _park(self) -> None:
        """Wait until it may be a worker's turn to pull."""
        place = asyncio.get_running_loop().create_future()
        self._parked.append(place)
        await place  # no call is lost here: workers are cancelled all at once, or not at all

    def _call_one(self) -> None:
        while self._parked:
            place = self._parked.popleft()
            if not place.done():
                place.set_result(None)
                return
