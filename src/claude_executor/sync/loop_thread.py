"""Runs an event loop in a thread of its own, for code without async."""

import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from concurrent.futures import CancelledError
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from claude_executor import Closed

T = TypeVar("T")


class LoopThread:
    """An event loop that runs from `start` to `end`. Any other thread may wait for coroutines in it."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._portal: BlockingPortal | None = None

    @property
    def running(self) -> bool:
        """Whether the loop accepts coroutines."""
        return self._portal is not None

    def start(self, first: Callable[[], Awaitable[object]]) -> None:
        """Start the loop, and wait for `first`; if that fails, end the loop again."""
        self._portal = self._running.enter_context(start_blocking_portal(name="claude-executor"))
        try:
            self.wait(first)
        except BaseException:
            self.end(*sys.exc_info())
            raise

    def end(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the loop; on an exception, with everything that runs in it."""
        self._portal = None
        self._running.__exit__(kind, error, trace)

    def wait(self, fn: Callable[..., Awaitable[T]], *args: object) -> T:
        """Await a function in the loop; an interrupt (Ctrl-C) of the waiting thread cancels it."""
        if self._portal is None:
            raise Closed("enter the executor first: with Executor(...) as executor")
        ended = threading.Event()

        async def do() -> T:
            try:
                return await fn(*args)
            finally:
                ended.set()

        doing = self._portal.start_task_soon(do)
        try:
            return doing.result()
        except CancelledError:
            raise Closed("the executor was closed while the request was under way") from None
        except BaseException:
            doing.cancel()  # if it is not done, because this thread was interrupted
            ended.wait()
            raise

    def each(self, items: AsyncIterator[T]) -> Generator[T, None, None]:
        """Yield the items of an asynchronous iterator as they come."""
        while True:
            try:
                item = self.wait(items.__anext__)
            except StopAsyncIteration:
                return
            yield item
