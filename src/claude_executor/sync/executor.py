"""The executor for code without async: the same one, on an event loop in a thread of its own.

::

    from claude_executor.sync import Executor

    with Executor() as executor:
        message = executor.submit({"model": …, "max_tokens": …, "messages": […]})

Any number of threads may use it at once, and so may code that runs inside an event loop, such as a notebook's
cell: it waits like any other blocking call, and nothing is patched.
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
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar, Unpack, cast

import claude_executor
from claude_executor import (
    BreakerPolicy,
    Budget,
    Event,
    Limits,
    MapJournal,
    Params,
    RequestOptions,
    Result,
    RetryPolicy,
    Snapshot,
    SpendingCap,
)
from claude_executor.sync.loop_thread import LoopThread

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic, Middleware
    from anthropic.lib.streaming import AsyncMessageStream, ParsedMessageStreamEvent
    from anthropic.types import Message

__all__ = ["Executor", "ExecutorOptions", "Stream", "map_sync", "submit_sync"]

T = TypeVar("T")

_DEFAULT_OPTIONS = RequestOptions()


class ExecutorOptions(TypedDict, total=False):
    """The arguments of `claude_executor.Executor` by name."""

    client: "AsyncAnthropic | None"
    api_key: str | None
    base_url: str | None
    max_concurrency: int
    max_queued: int | None
    retry: RetryPolicy | None
    breaker: BreakerPolicy | None
    timeout: float
    reserve_max_tokens: bool
    spending_caps: Iterable[SpendingCap]
    budget: Budget | None
    on_event: Callable[[Event], None] | None
    attempt_context: Callable[[int], AbstractContextManager[object]] | None
    clock: Callable[[], float]
    random: Callable[[], float]


class Executor:
    """Pushes requests through one organisation's limits. Use it as ``with Executor(…) as executor``.

    An interrupt (Ctrl-C) while a method waits ends what it waits for. Methods raise what those of
    `claude_executor.Executor` raise.
    """

    def __init__(
        self, limits: Limits | Mapping[str, Limits] | None = None, **options: Unpack[ExecutorOptions]
    ) -> None:
        """Nothing is started before the executor is entered.

        Args:
            limits: As for `claude_executor.Executor`.
            options: As for `claude_executor.Executor`. `on_event` and `attempt_context` are called in the executor's
                own thread.
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
        """Finish what was submitted; on an exception, refuse what has not been sent and abandon the rest."""
        try:
            self._thread.wait(self._executor.__aexit__, kind, error, trace)
        except BaseException:  # interrupted while something was to be finished
            self._thread.end(*sys.exc_info())
            raise
        self._thread.end(kind, error, trace)

    def submit(
        self, params: Params, *, priority: int = 0, tenant: str = "", deadline: float | None = None
    ) -> "Message":
        """Send one request when the limits allow, wait, and return the answer."""
        submit = partial(self._executor.submit, priority=priority, tenant=tenant, deadline=deadline)
        return self._thread.wait(submit, params)

    def count_tokens(self, params: Params, *, deadline: float | None = None) -> int:
        """Count the input tokens of a request by the API, which is free."""
        return self._thread.wait(partial(self._executor.count_tokens, deadline=deadline), params)

    def map(
        self,
        prompts: Iterable[Params] | AsyncIterable[Params],
        *,
        ordered: bool = False,
        buffer: int | None = None,
        priority: int = 0,
        tenant: str = "",
        deadline: float | None = None,
        journal: MapJournal | None = None,
    ) -> Generator[Result, None, None]:
        """Submit every request of an iterable, which may be endless, and yield results as they come.

        The iterable is read in one thread of its own, so that it may block without holding anything up.
        """
        results = self._executor.map(
            prompts if isinstance(prompts, AsyncIterable) else _read(prompts),
            ordered=ordered,
            buffer=buffer,
            priority=priority,
            tenant=tenant,
            deadline=deadline,
            journal=journal,
        )
        try:
            yield from self._thread.each(results)
        finally:
            if self._thread.running:
                self._thread.wait(results.aclose)

    @contextmanager
    def stream(
        self,
        params: Params,
        *,
        priority: int = 0,
        tenant: str = "",
        deadline: float | None = None,
        idle_timeout: float = 60.0,
    ) -> "Generator[Stream, None, None]":
        """Send one request when the limits allow, and read its answer as it comes.

        Use it as ``with executor.stream(params) as stream``.
        """
        opened = self._executor.stream(
            params, priority=priority, tenant=tenant, deadline=deadline, idle_timeout=idle_timeout
        )
        stream = Stream(self._thread, self._thread.wait(opened.__aenter__))
        try:
            yield stream
        finally:
            if self._thread.running:
                self._thread.wait(opened.__aexit__, None, None, None)

    def middleware(
        self, options: RequestOptions | Callable[[], RequestOptions] = _DEFAULT_OPTIONS
    ) -> "Middleware":
        """What puts an unchanged ``Anthropic`` under this executor's limits, retries and breaker."""
        return self._executor.middleware(options)

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
        """Change limits while running."""

        async def tune() -> None:
            self._executor.reconfigure(
                limits,
                rpm=rpm,
                tpm=tpm,
                itpm=itpm,
                otpm=otpm,
                burst=burst,
                max_concurrency=max_concurrency,
            )

        self._thread.wait(tune)

    def snapshot(self) -> Snapshot:
        """Levels, line, requests in flight, breaker, and what limits us, at this moment."""

        async def snapshot() -> Snapshot:
            return self._executor.snapshot()

        return self._thread.wait(snapshot)

    def drain(self, *, refuse_waiting: bool = False) -> None:
        """Wait until nothing is waiting and nothing is in flight."""
        self._thread.wait(partial(self._executor.drain, refuse_waiting=refuse_waiting))


class Stream:
    """An answer as it comes: what the SDK's stream has, for code without async."""

    def __init__(self, thread: LoopThread, stream: "AsyncMessageStream[None]") -> None:
        self._thread = thread
        self._stream = stream

    def __iter__(self) -> "Iterator[ParsedMessageStreamEvent[None]]":
        """Its events."""
        return self._thread.each(aiter(self._stream))

    @property
    def text_stream(self) -> Iterator[str]:
        """Its text, piece by piece."""
        return self._thread.each(aiter(self._stream.text_stream))

    def get_final_message(self) -> "Message":
        """Read the rest of it; the message that it makes."""
        return self._thread.wait(self._stream.get_final_message)

    def get_final_text(self) -> str:
        """Read the rest of it; all of its text."""
        return self._thread.wait(self._stream.get_final_text)


def submit_sync(
    params: Params, limits: Limits | Mapping[str, Limits] | None = None, **options: Unpack[ExecutorOptions]
) -> "Message":
    """Send one request through an executor made for it. For more than one, make an `Executor`."""
    with Executor(limits, **options) as executor:
        return executor.submit(params)


def map_sync(
    prompts: Iterable[Params] | AsyncIterable[Params],
    limits: Limits | Mapping[str, Limits] | None = None,
    *,
    ordered: bool = False,
    **options: Unpack[ExecutorOptions],
) -> Generator[Result, None, None]:
    """`Executor.map` of an executor made for it."""
    with Executor(limits, **options) as executor:
        yield from executor.map(prompts, ordered=ordered)


_END = object()


async def _read(items: Iterable[T]) -> AsyncGenerator[T, None]:
    """Read an iterable, which may block, in a thread that does nothing else and keeps nobody from leaving."""
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
            except Exception as error:  # whatever it is, it is told to who wants the item
                failed = error
            with suppress(RuntimeError):  # the loop is closed: nobody wants it any more
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
