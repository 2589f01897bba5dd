"""The executor for code without async: `claude_executor.Executor` on an event loop in a thread of its own.

::

    from claude_executor.sync import Executor

    with Executor() as executor:
        message = executor.submit({"model": …, "max_tokens": …, "messages": […]})

Any number of threads may use it at once. So may code that runs inside an event loop, such as a notebook's
cell: the call blocks like any other, and nothing is patched.
"""

import asyncio
import queue
import sys
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack, cast

import claude_executor
from claude_executor import (
    ExecutorOptions,
    Limits,
    MapJournal,
    Params,
    RequestKeywords,
    RequestOptions,
    Result,
    Snapshot,
)
from claude_executor.sync.loop_thread import LoopThread

if TYPE_CHECKING:
    from anthropic import Middleware
    from anthropic.lib.streaming import AsyncMessageStream, ParsedMessageStreamEvent
    from anthropic.types import Message

__all__ = ["Executor", "ExecutorOptions", "Stream", "map_sync", "submit_sync"]

T = TypeVar("T")


class Executor:
    """Sends Claude requests as fast as your rate limits allow. Use it as ``with Executor(…) as executor``.

    Methods take the options of requests, and raise exceptions, as those of `claude_executor.Executor` do. An
    interrupt (Ctrl-C) while a method waits ends what it waits for.
    """

    def __init__(
        self, limits: Limits | Mapping[str, Limits] | None = None, **options: Unpack[ExecutorOptions]
    ) -> None:
        """Set up an executor. Nothing is started before it is entered.

        Args:
            limits: See `claude_executor.Executor`.
            options: See `claude_executor.Executor`. `on_event` and `attempt_context` are called in the
                executor's own thread.
        """
        self._executor = claude_executor.Executor(limits, **options)
        self._thread = LoopThread()

    def __repr__(self) -> str:
        return repr(self._executor)

    def __enter__(self) -> Self:
        """Start the thread, and build the client if none was given."""
        self._thread.start(self._executor.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was submitted; on an exception, refuse waiting requests and abandon the rest."""
        try:
            self._thread.wait(self._executor.__aexit__, kind, error, trace)
        except BaseException:  # interrupted while something was to be finished
            self._thread.end(*sys.exc_info())
            raise
        self._thread.end(kind, error, trace)

    def submit(self, params: Params, **keywords: Unpack[RequestKeywords]) -> "Message":
        """Send one request when the limits allow, wait, and return the response."""
        return self._thread.wait(partial(self._executor.submit, **keywords), params)

    def count_tokens(self, params: Params, *, deadline: float | None = None) -> int:
        """Count the input tokens of a request by the API, which is free."""
        return self._thread.wait(partial(self._executor.count_tokens, deadline=deadline), params)

    def map(
        self,
        prompts: Iterable[Params] | AsyncIterable[Params],
        *,
        ordered: bool = False,
        buffer: int | None = None,
        journal: MapJournal | None = None,
        **keywords: Unpack[RequestKeywords],
    ) -> Generator[Result, None, None]:
        """Submit every request of an iterable, which may be endless, and yield results as they complete.

        A thread of its own reads the iterable, so that it may block without holding anything up.
        """
        results = self._executor.map(
            prompts if isinstance(prompts, AsyncIterable) else _read(prompts),
            ordered=ordered,
            buffer=buffer,
            journal=journal,
            **keywords,
        )
        try:
            yield from self._thread.each(results)
        finally:
            if self._thread.running:
                self._thread.wait(results.aclose)

    @contextmanager
    def stream(
        self, params: Params, *, idle_timeout: float = 60.0, **keywords: Unpack[RequestKeywords]
    ) -> "Generator[Stream, None, None]":
        """Send one request when the limits allow, and stream the response.

        Use it as ``with executor.stream(params) as stream``.
        """
        opened = self._executor.stream(params, idle_timeout=idle_timeout, **keywords)
        stream = Stream(self._thread, self._thread.wait(opened.__aenter__))
        try:
            yield stream
        finally:
            if self._thread.running:
                self._thread.wait(opened.__aexit__, None, None, None)

    def middleware(
        self,
        options: RequestOptions | Callable[[], RequestOptions] | None = None,
        *,
        priority: int | None = None,
        tenant: str | None = None,
        deadline: float | None = None,
    ) -> "Middleware":
        """Return middleware that puts an ``Anthropic`` client under the limits, retries and breaker."""
        return self._executor.middleware(options, priority=priority, tenant=tenant, deadline=deadline)

    def reconfigure(
        self,
        limits: Limits | Mapping[str, Limits] | None = None,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        itpm: float | None = None,
        otpm: float | None = None,
        burst: float | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        """Change limits while running; see `claude_executor.Executor.reconfigure`."""

        async def reconfigure() -> None:
            self._executor.reconfigure(
                limits,
                rpm=rpm,
                tpm=tpm,
                itpm=itpm,
                otpm=otpm,
                burst=burst,
                max_concurrency=max_concurrency,
            )

        self._thread.wait(reconfigure)

    def snapshot(self) -> Snapshot:
        """Return levels, queue, requests in flight, breaker, and what limits throughput, at this moment."""

        async def snapshot() -> Snapshot:
            return self._executor.snapshot()

        return self._thread.wait(snapshot)

    def drain(self, *, refuse_waiting: bool = False) -> None:
        """Wait until no request is waiting or in flight; see `claude_executor.Executor.drain`."""
        self._thread.wait(partial(self._executor.drain, refuse_waiting=refuse_waiting))


class Stream:
    """A streamed response: the SDK's stream object for code without async."""

    def __init__(self, thread: LoopThread, stream: "AsyncMessageStream[None]") -> None:
        self._thread = thread
        self._stream = stream

    def __iter__(self) -> "Iterator[ParsedMessageStreamEvent[None]]":
        """Yield the events of the response."""
        return self._thread.each(aiter(self._stream))

    @property
    def text_stream(self) -> Iterator[str]:
        """The text of the response, piece by piece."""
        return self._thread.each(aiter(self._stream.text_stream))

    def get_final_message(self) -> "Message":
        """Read the rest of the response, and return the whole message."""
        return self._thread.wait(self._stream.get_final_message)

    def get_final_text(self) -> str:
        """Read the rest of the response, and return all of its text."""
        return self._thread.wait(self._stream.get_final_text)


def submit_sync(
    params: Params, limits: Limits | Mapping[str, Limits] | None = None, **options: Unpack[ExecutorOptions]
) -> "Message":
    """Send one request through an executor of its own. For more than one request, use an `Executor`."""
    with Executor(limits, **options) as executor:
        return executor.submit(params)


def map_sync(
    prompts: Iterable[Params] | AsyncIterable[Params],
    limits: Limits | Mapping[str, Limits] | None = None,
    *,
    ordered: bool = False,
    **options: Unpack[ExecutorOptions],
) -> Generator[Result, None, None]:
    """Submit every request of an iterable through an executor of their own; see `Executor.map`."""
    with Executor(limits, **options) as executor:
        yield from executor.map(prompts, ordered=ordered)


_END = object()


async def _read(items: Iterable[T]) -> AsyncGenerator[T, None]:
    """Read an iterable, which may block, in a daemon thread that does nothing else."""
    loop = asyncio.get_running_loop()
    wanted: queue.SimpleQueue[asyncio.Future[T | object] | None] = queue.SimpleQueue()

    def read() -> None:
        source: Iterator[T] | None = None
        while (turn := wanted.get()) is not None:
            item: T | object = _END
            failed: Exception | None = None
            try:
                source = iter(items) if source is None else source
                item = next(source, _END)
            except Exception as error:  # whatever it is, the reader of the item gets it
                failed = error
            with suppress(RuntimeError):  # the loop is closed, and the item is not needed
                loop.call_soon_threadsafe(_resolve, turn, item, failed)

    threading.Thread(target=read, name="claude-executor prompts", daemon=True).start()
    try:
        while True:
            turn: asyncio.Future[T | object] = loop.create_future()
            wanted.put(turn)
            item = await turn
            if item is _END:
                return
            yield cast("T", item)
    finally:
        wanted.put(None)


def _resolve(turn: "asyncio.Future[T | object]", item: T | object, failed: Exception | None) -> None:
    if turn.done():
        return
    if failed is None:
        turn.set_result(item)
    else:
        turn.set_exception(failed)
