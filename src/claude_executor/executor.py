"""The executor: the doors through which requests come. An `Engine` carries them out."""

import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from claude_executor.budget import Budget
from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.control.retry import RetryPolicy
from claude_executor.core.control.spending import SpendingCap
from claude_executor.core.model.events import Event
from claude_executor.core.model.limits import Limits
from claude_executor.core.model.options import RequestOptions
from claude_executor.core.model.snapshot import Snapshot
from claude_executor.runtime.calls import CostHint, shape_for
from claude_executor.runtime.engine import Engine
from claude_executor.runtime.map import MapJournal, Params, Result
from claude_executor.runtime.options import OptionsSource, options_source, request_options
from claude_executor.runtime.session import Session

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic, Middleware
    from anthropic.lib.streaming import AsyncMessageStream
    from anthropic.types import Message


P = ParamSpec("P")
T = TypeVar("T")


class Executor:
    """Sends Claude requests as fast as your rate limits allow, and no faster.

    Use it as ``async with Executor(…) as executor``, in one event loop, from any number of coroutines.

    Methods that send requests take the same options and raise the same exceptions: see `submit`. `options` is
    a `RequestOptions`; in its place, `priority`, `tenant` and `deadline` give the fields of one.
    """

    def __init__(
        self,
        limits: Limits | Mapping[str, Limits] | None = None,
        *,
        client: "AsyncAnthropic | None" = None,
        api_key: str | None = None,
        base_url: str | None = None,
        max_concurrency: int = 200,
        max_queued: int | None = None,
        retry: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        timeout: float = 600.0,
        reserve_max_tokens: bool = False,
        spending_caps: Iterable[SpendingCap] = (),
        budget: Budget | None = None,
        on_event: Callable[[Event], None] | None = None,
        attempt_context: Callable[[int], AbstractContextManager[object]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Set up an executor. Nothing is connected before it is entered.

        Args:
            limits: What may be used per minute: one `Limits`, or a mapping of model (or pool) to `Limits`.
                Limits you leave out are learned from the API's response headers.
            client: An SDK client to use. Its retries are switched off for the executor's calls, and it is not
                closed. By default the executor builds one, on aiohttp, and closes it.
            api_key: For the client that is built; by default ``ANTHROPIC_API_KEY``.
            base_url: For the client that is built; by default ``ANTHROPIC_BASE_URL``.
            max_concurrency: Requests in flight at once, at most.
            max_queued: Requests waiting at once, at most; more raise `QueueFull`. Unbounded by default.
            retry: When to retry.
            breaker: When to pause because the API is down.
            timeout: Seconds that one response may take; a `timeout` in a request takes precedence. Long
                responses (`max_tokens` over 21,333) are streamed: only a minute of silence ends them.
            reserve_max_tokens: Reserve `max_tokens` for every request: Amazon Bedrock charges it up front.
            spending_caps: What all requests together may cost. A request in flight counts as the most it can
                cost, so a cap is never exceeded; requests that no longer fit raise `SpendingCapReached`.
            budget: Shares the limits with other executors, on this machine or others: a `RedisBudget`.
                Learned limits are shared, too; `max_concurrency` and `spending_caps` are not.
            on_event: Called with every `Event`, on the event loop: it must not block.
            attempt_context: Called with a request's `number` for each of its attempts; returns the context in
                which the caller sends it, the parent of the SDK's spans. It must not block or raise.
            clock: Seconds on a steady clock.
            random: Random numbers from [0, 1), for jitter.

        Raises:
            ValueError: An argument is out of range.
        """
        self._engine = Engine(
            limits,
            client=client,
            api_key=api_key,
            base_url=base_url,
            max_concurrency=max_concurrency,
            max_queued=max_queued,
            retry=retry,
            breaker=breaker,
            timeout=timeout,
            reserve_max_tokens=reserve_max_tokens,
            spending_caps=spending_caps,
            budget=budget,
            on_event=on_event,
            attempt_context=attempt_context,
            clock=clock,
            random=random,
        )
        self._scheduler = self._engine.scheduler
        self._runner = self._engine.runner
        self.clock = clock

    def __repr__(self) -> str:
        s = self.snapshot()
        waiting = f"queued {s.queued} | running {s.running} | waiting-to-retry {s.waiting_to_retry}"
        return f"<Executor [{waiting} | breaker {s.breaker}]>"

    async def __aenter__(self) -> Self:
        """Bind the executor to the running event loop, and build the client if none was given."""
        await self._engine.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was submitted; on an exception, refuse waiting requests and abandon the rest."""
        await self._engine.close(finish=kind is None)

    async def submit(
        self,
        params: Params,
        *,
        options: RequestOptions | None = None,
        priority: int | None = None,
        tenant: str | None = None,
        deadline: float | None = None,
    ) -> "Message":
        """Send one request when the limits allow, and return the response.

        Args:
            params: What ``messages.create`` takes, as a mapping.
            options: How the request stands among others, in place of the three keywords below.
            priority: Larger goes first; requests of the same priority share. 0 by default.
            tenant: Requests of different tenants share the limits fairly.
            deadline: Seconds from now by which the last attempt must have started. How long a response may
                take is `timeout`.

        Raises:
            TypeError: `params` hold something that JSON cannot represent, or options were given in both ways.
            ValueError: `params` cannot be a request.
            Rejected: The request was not sent; it is safe to submit it again later.
            Failed: The request was sent and did not succeed.
        """
        answer = await self._runner.answer(params, request_options(options, priority, tenant, deadline))
        return answer.message

    def stream(
        self,
        params: Params,
        *,
        options: RequestOptions | None = None,
        priority: int | None = None,
        tenant: str | None = None,
        deadline: float | None = None,
        idle_timeout: float = 60.0,
    ) -> "AbstractAsyncContextManager[AsyncMessageStream[None]]":
        """Send one request when the limits allow, and stream the response as the SDK's own stream object.

        Use it as ``async with executor.stream(params) as stream``, and in the block whatever the SDK's stream
        offers: ``async for text in stream.text_stream``, events, ``await stream.get_final_message()``.

        A stream that fails before its first event is retried. Its place in flight is free as soon as the
        response ends or the block is left; leaving the executor waits for open streams.

        Args:
            params: What ``messages.create`` takes, as a mapping.
            idle_timeout: Seconds of silence that end the stream, unless `params` hold a `timeout`.

        Raises:
            StreamInterrupted: The stream broke off while it was read. The exception carries what had arrived.
        """
        chosen = request_options(options, priority, tenant, deadline)
        return self._runner.stream(params, chosen, idle_timeout=idle_timeout)

    async def count_tokens(self, params: Params, *, deadline: float | None = None) -> int:
        """Count the input tokens of a request by the API, which is free.

        Counts have a limit of their own, in requests a minute. They hold no place in flight, and are no part
        of `snapshot()` or of events. Failed counts are retried as the policy says, also within `call`.
        Leaving the executor does not wait for counts.

        Args:
            params: What ``messages.create`` or ``messages.count_tokens`` takes. What does not affect the
                count, such as `max_tokens`, is not sent.
            deadline: Seconds from now by which the last attempt must have started.
        """
        return await self._runner.count_tokens(params, deadline=deadline)

    async def call(
        self,
        fn: Callable[..., Awaitable[T]],
        *args: object,
        cost: CostHint | None = None,
        options: RequestOptions | None = None,
        priority: int | None = None,
        tenant: str | None = None,
        deadline: float | None = None,
        **kwargs: object,
    ) -> T:
        """Call a coroutine function that uses Claude, under the same limits, retries and breaker.

        An SDK exception about a request to a model is a failed attempt, and the function is called again as
        the policy says; any other exception passes through. Create the function's client with
        ``max_retries=0``. (If `fn` is a method of an SDK client, the executor switches its retries off.) The
        cost is read from a result with the `usage` of an SDK message; otherwise the estimate stands.

        Requests that the function makes through this executor share the call's place in flight, and are not
        paced or retried by themselves. Their cost is known, and `cost` should cover all of them.

        Args:
            fn: The function, such as ``client.messages.create`` or one of your own. Wrap a function that has
                parameters called `cost`, `options`, `priority`, `tenant` or `deadline` in a `partial`.
            args: For `fn`.
            cost: What the call will probably use: a request, as for `submit`, or ``Estimate.about(…)``, or a
                function of the arguments that returns either. Not needed if the arguments are a request.
            kwargs: For `fn`.

        Raises:
            ValueError: The size of the call is not known: give `cost`.
        """
        chosen = request_options(options, priority, tenant, deadline)
        return await self._runner.call(partial(fn, *args, **kwargs), shape_for(cost, args, kwargs), chosen)

    def limited(
        self,
        cost: CostHint | None = None,
        *,
        options: OptionsSource | None = None,
        priority: int | None = None,
        tenant: str | None = None,
        deadline: float | None = None,
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """Return a decorator: every call of the decorated function goes through `call`.

        Args:
            cost: See `call`.
            options: Options, or a function that returns them at each call. A deadline begins with each call.
        """
        return self._runner.limited(cost, options_source(options, priority, tenant, deadline))

    def middleware(
        self,
        options: OptionsSource | None = None,
        *,
        priority: int | None = None,
        tenant: str | None = None,
        deadline: float | None = None,
    ) -> "Middleware":
        """Return middleware that puts an SDK client under the executor's limits, retries and breaker.

        Give it to ``AsyncAnthropic(middleware=[…])``, or to ``Anthropic`` in any thread but the executor's.
        Every message that the client asks for, streamed or not, waits for its turn. A request that was sent
        ends as the SDK ends it, with the SDK's own exceptions; one that was turned away raises `Rejected`.
        Token counts have a limit of their own. Other requests pass untouched. The client may be created
        before the executor is entered, and works while the executor is open.

        Args:
            options: Options, or a function that returns them at each request, when a deadline begins.
        """
        return self._runner.middleware(options_source(options, priority, tenant, deadline))

    def session(
        self,
        options: RequestOptions | None = None,
        *,
        priority: int | None = None,
        tenant: str | None = None,
        deadline: float | None = None,
    ) -> Session:
        """Return a view of this executor whose requests share a priority, a tenant and a deadline.

        For an agent's many calls, or a user's turn: `deadline` is in seconds from now, for all of them.
        """
        return Session(self._runner, request_options(options, priority, tenant, deadline))

    def map(
        self,
        prompts: "Iterable[Params] | AsyncIterable[Params]",
        *,
        ordered: bool = False,
        buffer: int | None = None,
        options: RequestOptions | None = None,
        priority: int | None = None,
        tenant: str | None = None,
        deadline: float | None = None,
        journal: MapJournal | None = None,
    ) -> "AsyncGenerator[Result, None]":
        """Submit every request of an iterable, which may be endless, and yield results as they complete.

        Results come in order of completion, unlike those of `concurrent.futures.Executor.map`; `Result.index`
        is the position of the request. A failed request is a result too, with its `error` set. Memory is
        bounded: requests are taken from `prompts` as there is room, and no faster than results are consumed.

        Args:
            prompts: Requests, from any iterable, synchronous or not.
            ordered: Yield in the order of `prompts` instead of in order of completion.
            buffer: Requests taken from `prompts` and not yet yielded, at most; by default 1,000 more than
                `max_concurrency`. Requests of different sizes mix better in a larger buffer.
            deadline: Seconds from now. Requests that are too late become results with a `DeadlineExceeded`.
            journal: Where answers are kept before they are yielded, such as `claude_executor.bulk.Journal`.
                Requests that have an answer there are not sent: that answer is yielded.
        """
        chosen = request_options(options, priority, tenant, deadline)
        return self._runner.map(prompts, chosen, ordered=ordered, buffer=buffer, journal=journal)

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
        """Change limits while running. `limits` replaces the declared limits; the rest changes parts of them.

        Limits that were not declared and are not given are still learned from the API.

        Raises:
            ValueError: A number is out of range; nothing is changed.
        """
        parts = {"rpm": rpm, "tpm": tpm, "itpm": itpm, "otpm": otpm, "burst": burst}
        self._engine.reconfigure(limits, parts, max_concurrency)

    def snapshot(self) -> Snapshot:
        """Return levels, queue, requests in flight, breaker, and what limits throughput, at this moment."""
        return self._scheduler.snapshot(self.clock())

    async def drain(self, *, refuse_waiting: bool = False) -> None:
        """Wait until no request is waiting or in flight.

        Args:
            refuse_waiting: Refuse new and waiting requests with `Closed`; wait only for those in flight.
        """
        await self._engine.drain(refuse_waiting=refuse_waiting)
