"""A view of an executor whose requests share their options."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from claude_executor.core.model.options import RequestOptions
from claude_executor.runtime.calls import CostHint, shape_for
from claude_executor.runtime.map import MapJournal, Params, Result
from claude_executor.runtime.requests import RequestRunner

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from anthropic import Middleware
    from anthropic.lib.streaming import AsyncMessageStream
    from anthropic.types import Message

P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """A view of an executor for an agent, a user's turn or a job; `Executor.session` returns one.

    All requests of a session share one priority, one tenant and one deadline. The deadline is an instant:
    later requests have less time left.
    """

    def __init__(self, runner: RequestRunner, options: RequestOptions) -> None:
        self._runner = runner
        self._options = options
        self._deadline_at = None if options.deadline is None else runner.clock() + options.deadline

    @property
    def options(self) -> RequestOptions:
        """The options of a request made now; `deadline` is the time that is left."""
        left = None if self._deadline_at is None else self._deadline_at - self._runner.clock()
        return self._options._replace(deadline=left)

    async def submit(self, params: Params) -> "Message":
        """Send one request; see `Executor.submit`."""
        return (await self._runner.answer(params, self.options)).message

    def stream(
        self, params: Params, *, idle_timeout: float = 60.0
    ) -> "AbstractAsyncContextManager[AsyncMessageStream[None]]":
        """Send one request and stream its answer; see `Executor.stream`."""
        return self._runner.stream(params, self.options, idle_timeout=idle_timeout)

    async def count_tokens(self, params: Params) -> int:
        """Count the input tokens of a request; see `Executor.count_tokens`."""
        return await self._runner.count_tokens(params, deadline=self.options.deadline)

    def map(
        self,
        prompts: Iterable[Params] | AsyncIterable[Params],
        *,
        ordered: bool = False,
        buffer: int | None = None,
        journal: MapJournal | None = None,
    ) -> AsyncGenerator[Result, None]:
        """Submit every request of an iterable; see `Executor.map`."""
        return self._runner.map(prompts, self.options, ordered=ordered, buffer=buffer, journal=journal)

    async def call(
        self,
        fn: Callable[..., Awaitable[T]],
        *args: object,
        cost: CostHint | None = None,
        **kwargs: object,
    ) -> T:
        """Call a coroutine function under the executor's limits; see `Executor.call`."""
        shape = shape_for(cost, args, kwargs)
        return await self._runner.call(partial(fn, *args, **kwargs), shape, self.options)

    def limited(
        self, cost: CostHint | None = None
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """Decorate a coroutine function; see `Executor.limited`."""
        return self._runner.limited(cost, lambda: self.options)

    def middleware(self) -> "Middleware":
        """Put a client of the SDK under the executor; see `Executor.middleware`."""
        return self._runner.middleware(lambda: self.options)
