"""A view of an executor whose requests share their options."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from claude_executor.core.model.options import RequestOptions

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AbstractAsyncContextManager

    from anthropic import Middleware
    from anthropic.lib.streaming import AsyncMessageStream
    from anthropic.types import Message

    from claude_executor.executor import Executor
    from claude_executor.runtime.calls import Cost
    from claude_executor.runtime.map import MapJournal, Params, Result
P = ParamSpec("P")
T = TypeVar("T")


class Session:
    """What an agent, a user's turn or a job uses in place of the executor; `Executor.session` makes it.

    All its requests share one tenant, one priority and one deadline, which is an instant: what is left of it
    gets shorter with every call.
    """

    def __init__(self, executor: "Executor", options: RequestOptions) -> None:
        self._executor = executor
        self._options = options
        self._deadline_at = None if options.deadline is None else executor.clock() + options.deadline

    @property
    def options(self) -> RequestOptions:
        """The options of a request that is made now."""
        left = None if self._deadline_at is None else self._deadline_at - self._executor.clock()
        return RequestOptions(self._options.priority, self._options.tenant, left)

    async def submit(self, params: "Params") -> "Message":
        """As `Executor.submit`."""
        t = self.options
        return await self._executor.submit(params, priority=t.priority, tenant=t.tenant, deadline=t.deadline)

    def stream(
        self, params: "Params", *, idle_timeout: float = 60.0
    ) -> "AbstractAsyncContextManager[AsyncMessageStream[None]]":
        """As `Executor.stream`."""
        t = self.options
        return self._executor.stream(
            params, priority=t.priority, tenant=t.tenant, deadline=t.deadline, idle_timeout=idle_timeout
        )

    def map(
        self,
        prompts: "Iterable[Params] | AsyncIterable[Params]",
        *,
        ordered: bool = False,
        buffer: int | None = None,
        journal: "MapJournal | None" = None,
    ) -> "AsyncGenerator[Result, None]":
        """As `Executor.map`."""
        t = self.options
        return self._executor.map(
            prompts,
            ordered=ordered,
            buffer=buffer,
            priority=t.priority,
            tenant=t.tenant,
            deadline=t.deadline,
            journal=journal,
        )

    async def call(
        self,
        fn: Callable[..., Awaitable[T]],
        *args: object,
        cost: "Cost | None" = None,
        **kwargs: object,
    ) -> T:
        """As `Executor.call`."""
        return await self._executor.call(fn, *args, cost=cost, options=self.options, **kwargs)

    def limited(
        self, cost: "Cost | None" = None
    ) -> "Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]":
        """As `Executor.limited`."""
        return self._executor.limited(cost, options=lambda: self.options)

    def middleware(self) -> "Middleware":
        """As `Executor.middleware`."""
        return self._executor.middleware(lambda: self.options)
