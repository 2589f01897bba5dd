"""Carries out what the doors of an executor are given: requests, streams, calls, maps and SDK clients.

`Executor` and `Session` are two doors to the same `RequestRunner`; they differ only in where the options of a
request come from.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from claude_executor.core.model.options import RequestOptions
from claude_executor.core.model.request import RequestShape
from claude_executor.runtime.calls import CostHint, UnknownCost, as_attempt, shape_for, usage_in
from claude_executor.runtime.count_tokens import TokenCountLimiter
from claude_executor.runtime.dispatch.pump import Pump, require_finite
from claude_executor.runtime.map import MapAnswer, MapJournal, Params, Result, map_requests
from claude_executor.runtime.options import OptionsSource
from claude_executor.sdk.client import ClientHandle
from claude_executor.sdk.outcome import FailedAttempt, Reply
from claude_executor.sdk.retries import without_retries
from claude_executor.sdk.validation import require_countable, validated_shape

if TYPE_CHECKING:
    import asyncio

    from anthropic import Middleware
    from anthropic.lib.streaming import AsyncMessageStream

P = ParamSpec("P")
T = TypeVar("T")

BUFFER = 1_000
"""Requests that `map` keeps ready beyond those in flight."""


class RequestRunner:
    """Validates what a door is given, has the pump give it its turn, and the transport send it.

    Attributes:
        max_concurrency: Requests in flight at once, at most: the size of a `map` is derived from it.
        map_tasks: The workers of all `map` calls that have not ended.
        clock: Seconds on the executor's steady clock.
    """

    def __init__(
        self,
        client: ClientHandle,
        pump: Pump,
        token_counts: TokenCountLimiter,
        *,
        clock: Callable[[], float],
        max_concurrency: int,
    ) -> None:
        self._client = client
        self._pump = pump
        self._token_counts = token_counts
        self.clock = clock
        self.max_concurrency = max_concurrency
        self.map_tasks: set[asyncio.Task[None]] = set()

    async def answer(self, params: Params, options: RequestOptions) -> MapAnswer:
        """Send one request and return its whole answer, with how it came about."""
        transport = self._client.transport
        shape = validated_shape(params)
        if params.get("stream"):
            raise ValueError("submit() returns whole messages; use stream(), or leave 'stream' out")
        if (turn := self._pump.turn()) is not None:
            began = self.clock()
            reply = await turn.send(partial(transport.send, params))
            return MapAnswer(reply.value, 1, 0.0, self.clock() - began)
        takes_long = transport.takes_long(params)
        job = self._pump.accept(shape, options)
        begun = partial(self._pump.on_response_started, job) if takes_long else None
        reply = await self._pump.attempt(job, partial(transport.send, params, begun))
        message = self._pump.on_response(job, reply)
        return MapAnswer(message, job.attempts, job.sent_at - job.submitted_at, self.clock() - job.sent_at)

    @asynccontextmanager
    async def stream(
        self, params: Params, options: RequestOptions, *, idle_timeout: float
    ) -> "AsyncGenerator[AsyncMessageStream[None]]":
        """Send one request and open the stream of its answer."""
        transport = self._client.transport
        shape = validated_shape(params)
        wanted = {name: value for name, value in params.items() if name != "stream"}
        attempt = partial(transport.open, wanted, idle_timeout=idle_timeout)
        if (turn := self._pump.turn()) is not None:
            events = await turn.send(attempt)
            stream = events.open(turn.part(events.message_id))
        else:
            job = self._pump.accept(shape, options)
            events = await self._pump.attempt(job, attempt)
            stream = events.open(self._pump.on_response_started(job, events.usage, events.hints))
        try:
            yield stream
        finally:
            await stream.close()

    async def call(self, fn: Callable[[], Awaitable[T]], shape: RequestShape, options: RequestOptions) -> T:
        """Call a coroutine function in its turn, as often as the policy says."""
        _ = self._client.transport  # the executor must be open, though the function has a client of its own
        if (turn := self._pump.turn()) is not None:
            known = turn.known
            value = await without_retries(fn)()
            turn.returned(value, usage_in(value), known)
            return value
        job = self._pump.accept(shape, options)
        return self._pump.on_response(job, await self._pump.attempt(job, as_attempt(fn)))

    async def count_tokens(self, params: Params, *, deadline: float | None) -> int:
        """Count the input tokens of a request by the API."""
        _ = self._client.transport
        self._pump.require_own_loop()
        require_countable(params)
        require_finite(deadline)

        async def attempt() -> Reply[int] | FailedAttempt:
            return await self._client.transport.count_tokens(params)

        return await self._token_counts.count(attempt, deadline=deadline)

    def limited(
        self, cost: CostHint | None, options: OptionsSource
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """Return a decorator: every call of the decorated function goes through `call`."""

        def decorate(fn: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
            @wraps(fn)
            async def called(*args: P.args, **kwargs: P.kwargs) -> T:
                try:
                    shape = shape_for(cost, args, kwargs)
                except UnknownCost:
                    raise UnknownCost(
                        "limited() needs to know the call's size: @executor.limited(Estimate.about("
                        "'claude-haiku-5-5', input_tokens=…, output_tokens=…))"
                    ) from None
                now = options if isinstance(options, RequestOptions) else options()
                return await self.call(partial(fn, *args, **kwargs), shape, now)

            return called

        return decorate

    def middleware(self, options: OptionsSource) -> "Middleware":
        """Return middleware that puts a client of the SDK under the executor."""
        from claude_executor.runtime.middleware import ExecutorMiddleware

        return ExecutorMiddleware(self._pump, self._token_counts, options)

    def map(
        self,
        prompts: Iterable[Params] | AsyncIterable[Params],
        options: RequestOptions,
        *,
        ordered: bool,
        buffer: int | None,
        journal: MapJournal | None,
    ) -> AsyncGenerator[Result, None]:
        """Submit every request of an iterable, and yield the results."""
        if buffer is not None and buffer < 1:
            raise ValueError(f"buffer must be at least 1, got {buffer}")
        if self._pump.turn() is not None:
            raise RuntimeError(
                "map() cannot be used within call() or limited(): its requests would wait for the place that "
                "the call holds, so take it out of there"
            )
        deadline_at = None if options.deadline is None else self.clock() + options.deadline

        async def submit(params: Params) -> MapAnswer:
            left = None if deadline_at is None else deadline_at - self.clock()
            return await self.answer(params, options._replace(deadline=left))

        room = buffer if buffer is not None else self.max_concurrency + BUFFER
        return map_requests(
            submit, prompts, room=room, ordered=ordered, tasks=self.map_tasks, journal=journal
        )
