"""What becomes of what each door is given: a request, a stream or a call, on its own or as part of a call."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from claude_executor.core.model.options import RequestOptions
from claude_executor.core.model.request import RequestShape
from claude_executor.runtime.calls import as_attempt, once, usage_in
from claude_executor.runtime.client import ClientHandle
from claude_executor.runtime.map import MapAnswer, Params
from claude_executor.runtime.pump import Pump
from claude_executor.sdk.validation import validated_shape

if TYPE_CHECKING:
    from anthropic.lib.streaming import AsyncMessageStream

T = TypeVar("T")


class RequestRunner:
    """Measures what it is given, has the pump give it its turn, and the transport send it."""

    def __init__(self, connection: ClientHandle, pump: Pump, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._pump = pump
        self._clock = clock

    async def answer(self, params: Params, options: RequestOptions) -> MapAnswer:
        """One request, answered whole."""
        transport = self._connection.transport
        shape = validated_shape(params)
        if params.get("stream"):
            raise ValueError("submit() returns whole messages; use stream(), or leave 'stream' out")
        if (turn := self._pump.turn()) is not None:
            began = self._clock()
            reply = await turn.send(partial(transport.send, params))
            return MapAnswer(reply.value, 1, 0.0, self._clock() - began)
        takes_long = transport.takes_long(params)
        job = self._pump.accept(shape, options)
        begun = partial(self._pump.on_response_started, job) if takes_long else None
        reply = await self._pump.attempt(job, partial(transport.send, params, begun))
        message = self._pump.on_response(job, reply)
        return MapAnswer(message, job.attempts, job.sent_at - job.submitted_at, self._clock() - job.sent_at)

    @asynccontextmanager
    async def stream(
        self, params: Params, options: RequestOptions, *, idle_timeout: float
    ) -> "AsyncGenerator[AsyncMessageStream[None]]":
        """One request, answered piece by piece."""
        transport = self._connection.transport
        shape = validated_shape(params)
        wanted = {name: value for name, value in params.items() if name != "stream"}
        attempt = partial(transport.open, wanted, silence=idle_timeout)
        if (turn := self._pump.turn()) is not None:
            events = await turn.send(attempt)
            stream = events.open(turn.part(events.message_id))
        else:
            job = self._pump.accept(shape, options)
            events = await self._pump.attempt(job, attempt)
            stream = events.open(self._pump.on_response_started(job, events.usage, events.advice))
        try:
            yield stream
        finally:
            await stream.close()

    async def call(self, fn: Callable[[], Awaitable[T]], shape: RequestShape, options: RequestOptions) -> T:
        """Somebody's coroutine function."""
        _ = self._connection.transport  # it must be open, though the function has a client of its own
        if (turn := self._pump.turn()) is not None:
            known = turn.known
            value = await once(fn)()
            turn.returned(value, usage_in(value), known)
            return value
        job = self._pump.accept(shape, options)
        return self._pump.on_response(job, await self._pump.attempt(job, as_attempt(fn)))
