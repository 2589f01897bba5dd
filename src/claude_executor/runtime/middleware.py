"""The executor as middleware of the SDK: an unchanged client is paced, learned from and protected.

The SDK calls its middleware within its own loop of retries, once for each. Here one such call makes every
attempt that the executor's policy allows, each in its turn, and marks the final response as not to be
retried. So the executor alone retries, and the caller still gets the SDK's own exceptions.

A synchronous client works in its caller's thread, where the executor is not. The executor's event loop gives
the turns; the thread waits for them and makes the attempts itself.
"""

import asyncio
import copy
import queue
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import anthropic
import httpx2
import orjson

from claude_executor.core.model.failure import Failure, FailureKind
from claude_executor.core.model.headers import NO_HINTS
from claude_executor.core.model.options import RequestOptions
from claude_executor.core.model.request import shape_of
from claude_executor.errors import Closed, ExecutorError
from claude_executor.runtime.count_tokens import TokenCountLimiter
from claude_executor.runtime.dispatch.attempt import AttemptContext
from claude_executor.runtime.dispatch.pump import Pump
from claude_executor.runtime.stream_tap import AsyncBody, StreamTap, SyncBody, tapped
from claude_executor.sdk.failures import failure_from, hints_of, mark_nested
from claude_executor.sdk.outcome import FailedAttempt, Reply
from claude_executor.sdk.usage import usage_from_json

MESSAGES = "/v1/messages"
"""The only path that draws on the limits of messages."""
COUNT_TOKENS = "/v1/messages/count_tokens"
"""The path of token counts, which have a limit of their own. Batches, models and files pass untouched."""

Answer = anthropic.AsyncAPIResponse[Any] | anthropic.APIResponse[Any]
Came = Reply[object] | StreamTap
"""The outcome of a successful attempt: the id of a whole answer, or the beginning of a stream."""
Outcome = Came | FailedAttempt

_given_up: ContextVar[tuple[str | None, Exception] | None] = ContextVar("given up", default=None)
"""The last call in this context that ended without any response: its idempotency key, and its exception."""


class ExecutorMiddleware(anthropic.Middleware):
    """Middleware for both kinds of SDK client; see `Executor.middleware`."""

    def __init__(
        self, pump: Pump, counting: TokenCountLimiter, options: RequestOptions | Callable[[], RequestOptions]
    ) -> None:
        """`options` are those of each request, or a function that returns them."""
        self._pump = pump
        self._count_limiter = counting
        self._options = options

    def __repr__(self) -> str:
        return "<ExecutorMiddleware>"

    async def handle_async(
        self, request: anthropic.APIRequest, call_next: anthropic.AsyncCallNext
    ) -> "anthropic.AsyncAPIResponse[Any]":
        """Carry a request of the asynchronous client."""
        call = self._call_of(request)
        if call is None:
            return await call_next(request)

        async def attempt() -> Outcome:
            try:
                return await call.read_async(await call_next(call.next_request()))
            except Exception as error:  # whatever it is, the attempt must be settled
                return call.broke(error)

        if call.turn is not None and not call.counts:
            self._count_part(call.turn, await attempt())
        elif asyncio.get_running_loop() is not self._loop():
            raise RuntimeError(
                "this executor lives in another event loop than the client that uses its middleware: "
                "enter the executor where the client is used"
            )
        else:
            await self._carry(call, attempt)
        return cast("anthropic.AsyncAPIResponse[Any]", call.result())

    def handle(
        self, request: anthropic.APIRequest, call_next: anthropic.CallNext
    ) -> "anthropic.APIResponse[Any]":
        """Carry a request of the synchronous client, from any thread but the executor's own."""
        call = self._call_of(request)
        if call is None:
            return call_next(request)

        def attempt() -> Outcome:
            try:
                return call.read(call_next(call.next_request()))
            except Exception as error:  # whatever it is, the attempt must be settled
                return call.broke(error)

        if call.turn is not None and not call.counts:
            self._count_part(call.turn, attempt())
        elif _running_loop() is (loop := self._loop()):
            raise RuntimeError(
                "a synchronous client would block the event loop that its executor lives in, for ever: use "
                "AsyncAnthropic here, or call it in a thread (asyncio.to_thread)"
            )
        else:
            _ThreadTurns(loop).run(partial(self._carry, call), attempt)
        return cast("anthropic.APIResponse[Any]", call.result())

    def _count_part(self, turn: AttemptContext, came: Outcome) -> None:
        """Count what a part used as used by the whole, which lives on the executor's event loop."""
        loop = self._pump.loop
        if loop is None:
            return  # everything is over
        if _running_loop() is loop:
            _add(turn, came)
        else:
            loop.call_soon_threadsafe(_add, turn, came)

    def _call_of(self, request: anthropic.APIRequest) -> "_Call | None":
        path = request.url.partition("?")[0]
        if request.method.lower() != "post" or path not in (MESSAGES, COUNT_TOKENS):
            return None
        if not isinstance(request.json, Mapping):
            return None
        ended = _given_up.get()
        if ended is not None:
            if request.retries_taken and ended[0] == request.options.idempotency_key:
                raise ended[1]  # the SDK retries what the executor has given up
            _given_up.set(None)
        counts, turn = path == COUNT_TOKENS, self._pump.turn()
        nested = turn is not None or (counts and self._count_limiter.counting)
        return _Call(request, counts=counts, turn=turn, nested=nested)

    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._pump.loop is None:
            raise Closed(
                "the executor of this client is not open: use the client within async with Executor(...)"
            )
        return self._pump.loop

    async def _carry(self, call: "_Call", attempt: Callable[[], Awaitable[Outcome]]) -> None:
        """Have attempts made until one succeeds or the policy ends them. Runs on the executor's loop."""
        options = self._options if isinstance(self._options, RequestOptions) else self._options()
        try:
            if call.counts:
                await self._count(call, attempt, options)
            else:
                await self._ask(call, attempt, options)
        except ExecutorError:
            if not call.sent:
                raise

    async def _ask(
        self, call: "_Call", attempt: Callable[[], Awaitable[Outcome]], options: RequestOptions
    ) -> None:
        pump = self._pump
        job = pump.accept(shape_of(call.params), options)
        came: Came = await pump.attempt(job, attempt)
        if isinstance(came, StreamTap):
            came.follow(pump, job)
        else:
            pump.on_response(job, came)

    async def _count(
        self, call: "_Call", attempt: Callable[[], Awaitable[Outcome]], options: RequestOptions
    ) -> None:
        async def while_open() -> Outcome:
            self._loop()
            return await attempt()

        await self._count_limiter.carry(while_open, deadline=options.deadline, again=call.turn is None)


class _ThreadTurns:
    """Attempts that a thread makes, each when the event loop gives it the turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._turns: queue.SimpleQueue[asyncio.Future[Outcome] | None] = queue.SimpleQueue()

    def run(
        self,
        carry: Callable[[Callable[[], Awaitable[Outcome]]], Coroutine[Any, Any, None]],
        attempt: Callable[[], Outcome],
    ) -> None:
        """Make an attempt at every turn, in this thread, until `carry` has ended on the event loop.

        Raises:
            Closed: The executor was closed meanwhile.
            Exception: What `carry` raised.
        """
        carrying = asyncio.run_coroutine_threadsafe(carry(self._give_turn), self._loop)
        carrying.add_done_callback(lambda _: self._turns.put(None))
        try:
            while (turn := self._turns.get()) is not None:
                self._loop.call_soon_threadsafe(_resolve, turn, attempt())
            carrying.result()
        except CancelledError:
            raise Closed("the executor was closed while the request was under way") from None
        finally:
            carrying.cancel()  # if it is not over, because this thread was interrupted

    async def _give_turn(self) -> Outcome:
        """Let the thread make an attempt, and wait for the outcome; runs on the event loop."""
        turn: asyncio.Future[Outcome] = self._loop.create_future()
        self._turns.put(turn)
        return await turn


class _Call:
    """One call through a client, and the response or exception of its last attempt."""

    def __init__(
        self, request: anthropic.APIRequest, *, counts: bool, turn: AttemptContext | None, nested: bool
    ) -> None:
        """Begin a call.

        Args:
            request: What the SDK wants to send.
            counts: Whether it counts tokens; otherwise it asks for a message.
            turn: The attempt that the call is part of, if any.
            nested: Whether an outer attempt or count is retried in its place.
        """
        self.params = cast("Mapping[str, object]", request.json)
        self.counts = counts
        self.turn = turn
        self._nested = nested
        self._request = request
        self._attempts = 0
        self._answer: Answer | None = None
        self._error: Exception | None = None

    @property
    def sent(self) -> bool:
        """Whether an attempt has ended."""
        return self._answer is not None or self._error is not None

    def next_request(self) -> anthropic.APIRequest:
        """The request, numbered as the SDK would number this attempt."""
        request = copy.copy(self._request)
        request.retries_taken = self._request.retries_taken + self._attempts
        self._attempts += 1
        return request

    def take(self, answer: Answer) -> None:
        """Keep the response of the last attempt."""
        self._answer, self._error = answer, None

    async def read_async(self, answer: "anthropic.AsyncAPIResponse[Any]") -> Outcome:
        """Read a response, of a stream only the beginning, and return the outcome of the attempt."""
        self.take(answer)
        if answer.http_response.is_success and self._request.stream:
            body = AsyncBody(StreamTap(answer.http_response, self.params))
            answer.http_response = tapped(body)
            return await body.begin()
        await answer.http_response.aread()
        return self._judge(answer.http_response)

    def read(self, answer: "anthropic.APIResponse[Any]") -> Outcome:
        """Read a response of the synchronous client; see `read_async`."""
        self.take(answer)
        if answer.http_response.is_success and self._request.stream:
            body = SyncBody(StreamTap(answer.http_response, self.params))
            answer.http_response = tapped(body)
            return body.begin()
        answer.http_response.read()
        return self._judge(answer.http_response)

    def broke(self, error: Exception) -> FailedAttempt:
        """Return the outcome of an attempt that ended with an exception."""
        self._answer, self._error = None, error
        return failure_from(error, self.params)

    def result(self) -> Answer:
        """Return the last response, marked as final, or raise the last exception."""
        if self._answer is not None:
            response = self._answer.http_response
            if not response.is_success and self._nested:
                mark_nested(response)
            elif not response.is_success:
                response.headers["x-should-retry"] = "false"
            return self._answer
        assert self._error is not None
        if not isinstance(self._error, anthropic.RetryableError):
            _given_up.set((self._request.options.idempotency_key, self._error))
        raise self._error

    def _judge(self, response: httpx2.Response) -> Reply[object] | FailedAttempt:
        try:
            body: object = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            body = None
        if not response.is_success:
            return failure_from(anthropic.APIStatusError("", response=response, body=body), self.params)
        try:
            message = cast("dict[str, object]", body)
            if self.counts and isinstance(message["input_tokens"], int):
                return Reply(None, None, lambda: NO_HINTS)
            if message["stop_reason"] is not None:
                usage = usage_from_json(cast("dict[str, object]", message["usage"]))
                return Reply(message.get("id"), usage, partial(hints_of, response.headers))
        except (KeyError, TypeError):
            pass  # not a message
        detail = "the response is incomplete or is not JSON"
        hints, request_id = hints_of(response.headers), response.headers.get("request-id")
        return FailedAttempt(
            Failure(FailureKind.GARBLED, hints, response.status_code, detail, request_id=request_id), None
        )


def _add(turn: AttemptContext, came: Outcome) -> None:
    if isinstance(came, StreamTap):
        came.follow_part(turn)
    elif isinstance(came, FailedAttempt):
        turn.took(came.failure.usage)
    else:
        turn.took(came.usage, came.value)


def _resolve(turn: "asyncio.Future[Outcome]", came: Outcome) -> None:
    if not turn.done():
        turn.set_result(came)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
