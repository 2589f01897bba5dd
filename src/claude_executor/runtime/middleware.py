"""The executor as middleware of the SDK: an unchanged client is paced, learned from and protected.

The SDK calls its middleware within its own loop of retries, once for each. Here one such call makes every
attempt that the executor's policy allows, each in its turn, and what it gives back in the end is marked as
not to be retried: so there is one owner of retries, and the caller still gets the SDK's own exceptions.

A synchronous client works in its caller's thread, where the executor is not. The turns are given out on the
executor's event loop; the thread waits for them and makes the attempts itself.
"""

import asyncio
import copy
import queue
from collections.abc import Awaitable, Callable, Mapping
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
from claude_executor.runtime.attempt import AttemptContext
from claude_executor.runtime.count_tokens import TokenCountLimiter
from claude_executor.runtime.pump import Pump
from claude_executor.runtime.stream_tap import AsyncBody, StreamTap, SyncBody, tapped
from claude_executor.sdk.failures import failure_from, hints_of, mark_nested
from claude_executor.sdk.outcome import FailedAttempt, Reply
from claude_executor.sdk.usage import usage_from_json

MESSAGES = "/v1/messages"
"""The one path that draws on the limits of messages."""
COUNT_TOKENS = "/v1/messages/count_tokens"
"""Has a limit of its own. So have batches, models and files, which are left alone."""

Answer = anthropic.AsyncAPIResponse[Any] | anthropic.APIResponse[Any]
Came = Reply[object] | StreamTap
"""What a successful attempt brings: that all of an answer is here, and its id; or its beginning."""

_given_up: ContextVar[tuple[str | None, Exception] | None] = ContextVar("given up", default=None)
"""The call that ended last in this context without any answer, by the SDK's own mark, and how."""


class ExecutorMiddleware(anthropic.Middleware):
    """For the SDK's clients, both kinds; see `Executor.middleware`."""

    def __init__(
        self, pump: Pump, counting: TokenCountLimiter, options: RequestOptions | Callable[[], RequestOptions]
    ) -> None:
        """`options` are those of each call."""
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
        if call.turn is not None and not call.counts:
            try:
                came = await call.read_async(await call_next(request))
            except Exception as error:
                came = call.broke(error)
            self._count_part(call.turn, came)
            return cast("anthropic.AsyncAPIResponse[Any]", call.outcome())
        if asyncio.get_running_loop() is not self._loop():
            raise RuntimeError(
                "this executor lives in another event loop than the client that uses its middleware: "
                "enter the executor where the client is used"
            )

        async def attempt() -> Came | FailedAttempt:
            try:
                return await call.read_async(await call_next(call.next_request()))
            except Exception as error:  # whatever it is, the attempt must be settled
                return call.broke(error)

        await self._carry(call, attempt)
        return cast("anthropic.AsyncAPIResponse[Any]", call.outcome())

    def handle(
        self, request: anthropic.APIRequest, call_next: anthropic.CallNext
    ) -> "anthropic.APIResponse[Any]":
        """Carry a request of the synchronous client, from any thread but the executor's own."""
        call = self._call_of(request)
        if call is None:
            return call_next(request)
        if call.turn is not None and not call.counts:
            try:
                came = call.read(call_next(request))
            except Exception as error:
                came = call.broke(error)
            self._count_part(call.turn, came)
            return cast("anthropic.APIResponse[Any]", call.outcome())
        loop = self._loop()
        if _running_loop() is loop:
            raise RuntimeError(
                "a synchronous client would block the event loop that its executor lives in, for ever: use "
                "AsyncAnthropic here, or call it in a thread (asyncio.to_thread)"
            )
        turns: queue.SimpleQueue[asyncio.Future[Came | FailedAttempt] | None] = queue.SimpleQueue()

        async def attempt() -> Came | FailedAttempt:
            turn: asyncio.Future[Came | FailedAttempt] = loop.create_future()
            turns.put(turn)
            return await turn

        carrying = asyncio.run_coroutine_threadsafe(self._carry(call, attempt), loop)
        carrying.add_done_callback(lambda _: turns.put(None))
        try:
            while (turn := turns.get()) is not None:
                try:
                    came = call.read(call_next(call.next_request()))
                except Exception as error:  # whatever it is, the attempt must be settled
                    came = call.broke(error)
                loop.call_soon_threadsafe(_tell, turn, came)
            carrying.result()
        except CancelledError:
            raise Closed("the executor was closed while the request was under way") from None
        finally:
            carrying.cancel()  # if it is not over, because this thread was interrupted
        return cast("anthropic.APIResponse[Any]", call.outcome())

    def _count_part(self, turn: AttemptContext, came: Came | FailedAttempt) -> None:
        """What a part took is the whole's, which lives on the executor's event loop."""
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
                raise ended[1]  # the SDK wants to try again what has been tried often enough
            _given_up.set(None)
        counts, turn = path == COUNT_TOKENS, self._pump.turn()
        nested = turn is not None or (counts and self._count_limiter.counting)
        return _Call(request, counts=counts, turn=turn, nested=nested)

    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._pump.loop is None:
            raise Closed("this client's executor is not open: use it within async with Executor(...)")
        return self._pump.loop

    async def _carry(self, call: "_Call", attempt: Callable[[], Awaitable[Came | FailedAttempt]]) -> None:
        """On the executor's event loop: have attempts made until one succeeds, or it is enough."""
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
        self, call: "_Call", attempt: Callable[[], Awaitable[Came | FailedAttempt]], options: RequestOptions
    ) -> None:
        pump = self._pump
        job = pump.accept(shape_of(call.params), options)
        came: Came = await pump.attempt(job, attempt)
        if isinstance(came, StreamTap):
            came.follow(pump, job)
        else:
            pump.on_response(job, came)

    async def _count(
        self, call: "_Call", attempt: Callable[[], Awaitable[Came | FailedAttempt]], options: RequestOptions
    ) -> None:
        async def while_open() -> Came | FailedAttempt:
            self._loop()
            return await attempt()

        await self._count_limiter.carry(while_open, deadline=options.deadline, again=call.turn is None)


class _Call:
    """One call through a client, and what the last attempt at it brought."""

    def __init__(
        self, request: anthropic.APIRequest, *, counts: bool, turn: AttemptContext | None, nested: bool
    ) -> None:
        """Begin a call.

        Args:
            request: What the SDK wants to send.
            counts: Whether it counts tokens; otherwise it asks for a message.
            turn: The attempt that the call is part of, if any.
            nested: Whether its retries are somebody else's.
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
        """This is what came."""
        self._answer, self._error = answer, None

    async def read_async(self, answer: "anthropic.AsyncAPIResponse[Any]") -> Came | FailedAttempt:
        """Take what the API said, of a stream only the beginning."""
        self.take(answer)
        if answer.http_response.is_success and self._request.stream:
            body = AsyncBody(StreamTap(answer.http_response, self.params))
            answer.http_response = tapped(body)
            return await body.begin()
        await answer.http_response.aread()
        return self._judge(answer.http_response)

    def read(self, answer: "anthropic.APIResponse[Any]") -> Came | FailedAttempt:
        """As `read_async`."""
        self.take(answer)
        if answer.http_response.is_success and self._request.stream:
            body = SyncBody(StreamTap(answer.http_response, self.params))
            answer.http_response = tapped(body)
            return body.begin()
        answer.http_response.read()
        return self._judge(answer.http_response)

    def broke(self, error: Exception) -> FailedAttempt:
        """There was no answer, or it broke off."""
        self._answer, self._error = None, error
        return failure_from(error, self.params)

    def outcome(self) -> Answer:
        """What the SDK is given: the last answer, marked as final, or the last exception."""
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
            pass  # it is no message
        detail = "the answer is incomplete or is not JSON"
        advice, request_id = hints_of(response.headers), response.headers.get("request-id")
        return FailedAttempt(
            Failure(FailureKind.GARBLED, advice, response.status_code, detail, request_id=request_id), None
        )


def _add(turn: AttemptContext, came: Came | FailedAttempt) -> None:
    if isinstance(came, StreamTap):
        came.follow_part(turn)
    elif isinstance(came, FailedAttempt):
        turn.took(came.failure.usage)
    else:
        turn.took(came.usage, came.value)


def _tell(turn: "asyncio.Future[Came | FailedAttempt]", came: Came | FailedAttempt) -> None:
    if not turn.done():
        turn.set_result(came)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
