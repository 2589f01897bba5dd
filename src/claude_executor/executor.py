"""The executor: the ways in, the client, and the life of both. What moves requests is the `pump`."""

import asyncio
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
from claude_executor.core.model.options import DEFAULT_OPTIONS, RequestOptions
from claude_executor.core.model.snapshot import Snapshot
from claude_executor.core.scheduling.scheduler import Scheduler
from claude_executor.runtime.calls import CostHint, shape_for
from claude_executor.runtime.client import ClientHandle
from claude_executor.runtime.count_tokens import TokenCountLimiter
from claude_executor.runtime.map import MapJournal, Params, Result
from claude_executor.runtime.pump import Pump
from claude_executor.runtime.requests import RequestRunner
from claude_executor.runtime.session import Session

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic, Middleware
    from anthropic.lib.streaming import AsyncMessageStream
    from anthropic.types import Message


P = ParamSpec("P")
T = TypeVar("T")


class Executor:
    """Pushes requests through one organisation's limits. Use it as ``async with Executor(…) as executor``.

    Many coroutines may call `submit` at once; that is what it is for. It belongs to the event loop it was
    entered in.
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
        """Nothing is connected before the executor is entered.

        Args:
            limits: What may be used per minute: one `Limits`, or a mapping of model (or pool) to `Limits`.
                What is not declared is learned from the API's response headers.
            client: An SDK client to use; its retries are switched off for the executor's calls, and it is not
                closed. By default one is built, on aiohttp, and closed on leaving.
            api_key: For the client that is built; by default ``ANTHROPIC_API_KEY``.
            base_url: For the client that is built; by default ``ANTHROPIC_BASE_URL``.
            max_concurrency: Requests in flight at once, at most.
            max_queued: Requests waiting at once, at most; more raise `QueueFull`. By default no bound.
            retry: When to try again.
            breaker: When to pause because the API is down.
            timeout: Seconds that one answer may take; a `timeout` in a request goes before it. Long answers
                (`max_tokens` over 21,333) come as streams: only a minute's silence ends them.
            reserve_max_tokens: Reserve `max_tokens` for every request, for platforms that charge it up front
                (Amazon Bedrock). The Claude API does not.
            spending_caps: What all requests together may cost. What is in flight counts as the most it can cost, so a
                cap is never passed; a request that does not fit any more raises `SpendingCapReached`.
            budget: Share the limits with other executors, on this machine or others: a `RedisBudget`. What
                one of them learns of the limits all of them know. `max_concurrency` and `caps` are this
                one's own.
            on_event: Called with every `Event`, on the event loop: it must not block.
            attempt_context: Makes the context in which each attempt is sent, given the `number` of its request, in the
                caller's own coroutine: so the SDK's spans find their parent. It must not block or raise.
            clock: Seconds on a steady clock.
            random: Numbers from [0, 1), for jitter.

        Raises:
            ValueError: An argument is out of range.
        """
        self._client_handle = ClientHandle(
            client, api_key=api_key, base_url=base_url, max_concurrency=max_concurrency, timeout=timeout
        )
        self._scheduler = Scheduler(
            limits if limits is not None else Limits(),
            max_concurrency=max_concurrency,
            max_queued=max_queued,
            retry=retry,
            breaker=breaker,
            reserve_max_tokens=reserve_max_tokens,
            spending_caps=spending_caps,
            membership=None if budget is None else budget.membership,
            now=clock(),
        )
        self._pump = Pump(
            self._scheduler,
            clock=clock,
            random=random,
            on_event=on_event,
            attempt_context=attempt_context,
            budget=budget,
        )
        self._count_limiter = TokenCountLimiter(limits, retry or RetryPolicy(), random)
        self._runner = RequestRunner(
            self._client_handle,
            self._pump,
            self._count_limiter,
            clock=clock,
            max_concurrency=max_concurrency,
        )
        self.clock = clock

    def __repr__(self) -> str:
        s = self.snapshot()
        waiting = f"queued {s.queued} | running {s.running} | waiting-to-retry {s.waiting_to_retry}"
        return f"<Executor [{waiting} | breaker {s.breaker}]>"

    async def __aenter__(self) -> Self:
        """Connect to the event loop, and build the client if none was given."""
        await self._client_handle.open()
        try:
            await self._pump.start()
        except BaseException:
            await self._client_handle.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was submitted; on an exception, refuse what has not been sent and abandon the rest."""
        map_tasks = self._runner.map_tasks
        for task in map_tasks:  # of a `map` that was left before its end
            task.cancel()
        self._pump.close(refuse_waiting=False)
        try:
            if map_tasks:
                await asyncio.wait(set(map_tasks))
            if kind is None:
                await self.drain()
        finally:
            # After a clean end nobody waits any more; otherwise everybody is to know that it is over.
            self._pump.stop()
            await self._pump.leave()
            await self._client_handle.close()

    async def submit(
        self, params: Params, *, priority: int = 0, tenant: str = "", deadline: float | None = None
    ) -> "Message":
        """Send one request when the limits allow, and return the answer.

        Args:
            params: What ``messages.create`` takes, as a mapping.
            priority: Larger goes first; equal ones share.
            tenant: Requests of different tenants share the limits fairly.
            deadline: Seconds from now by which the last attempt must have started, at the latest. How long an
                answer may take is `timeout`.

        Raises:
            TypeError: `params` hold something that JSON cannot.
            ValueError: `params` cannot be a request.
            Rejected: It was not sent; trying again later is safe.
            Failed: It was sent and did not succeed.
        """
        return (await self._runner.answer(params, RequestOptions(priority, tenant, deadline))).message

    def stream(
        self,
        params: Params,
        *,
        priority: int = 0,
        tenant: str = "",
        deadline: float | None = None,
        idle_timeout: float = 60.0,
    ) -> "AbstractAsyncContextManager[AsyncMessageStream[None]]":
        """Send one request when the limits allow, and give the SDK's own stream of its answer.

        Use it as ``async with executor.stream(params) as stream``, and in the block whatever the SDK's stream
        has: ``async for text in stream.text_stream``, events, ``await stream.get_final_message()``.

        A failure before the first event is tried again like that of any request. Its place in flight is free
        as soon as the answer ends or the block is left; leaving the executor waits for streams that are open.

        Args:
            params: What ``messages.create`` takes, as a mapping.
            priority: As for `submit`.
            tenant: As for `submit`.
            deadline: As for `submit`.
            idle_timeout: Seconds without a sign of life after which the answer is given up, where `params` hold no
                `timeout`.

        Raises:
            StreamInterrupted: The answer was broken off while it was being read: by an error within it, by a
                lost connection, or because it just ended. It carries what had come.
            TypeError: As for `submit`.
            ValueError: As for `submit`.
            Rejected: As for `submit`.
            Failed: As for `submit`.
        """
        return self._runner.stream(
            params, RequestOptions(priority, tenant, deadline), idle_timeout=idle_timeout
        )

    async def count_tokens(self, params: Params, *, deadline: float | None = None) -> int:
        """Count the input tokens of a request by the API, which is free.

        Counts have a limit of their own, in requests a minute, and take nothing of the limits of messages: no
        place in flight, no attempt of `snapshot()`, no event. Failed counts are retried as the policy says, also
        within `call`. Leaving the executor does not wait for them.

        Args:
            params: What ``messages.create`` takes, or what ``messages.count_tokens`` takes. What plays no part
                in the count, such as `max_tokens`, is left out.
            deadline: Seconds from now by which the last attempt must have started.

        Raises:
            TypeError: `params` hold something that JSON cannot represent.
            ValueError: `params` cannot be a request.
            Rejected: Nothing was sent.
            Failed: The count was asked for and did not succeed.
        """
        return await self._runner.count_tokens(params, deadline=deadline)

    async def call(
        self,
        fn: Callable[..., Awaitable[T]],
        *args: object,
        cost: CostHint | None = None,
        options: RequestOptions = DEFAULT_OPTIONS,
        **kwargs: object,
    ) -> T:
        """Call somebody's coroutine function that asks Claude, under the same limits, retries and breaker.

        What the SDK raises of a request that asked a model is a failed attempt, and it is called again as the
        policy says: a client it uses should not retry by itself (``max_retries=0``; for a method of the SDK's
        client that is given here itself, it is seen to). Whatever else it raises comes through. What it took
        is read from what it returns, if that has an SDK message's `usage`, and known of what it asks of this
        executor; otherwise the estimate stands.

        What the function asks of this executor is sent as part of the call, in its place: not paced or tried
        again by itself, at the options of the call. So `cost` should be that of all of it.

        Args:
            fn: The function, such as ``client.messages.create`` or one of your own.
            args: For `fn`.
            cost: What it will probably take: a request, as for `submit`, or ``Estimate.about(…)``, or a
                function of the arguments that gives either. Not needed where the arguments are a request.
            options: How it stands among other requests.
            kwargs: For `fn`.

        Raises:
            ValueError: It cannot be told what the call will take.
            Rejected: As for `submit`.
            Failed: As for `submit`.
        """
        return await self._runner.call(partial(fn, *args, **kwargs), shape_for(cost, args, kwargs), options)

    def limited(
        self,
        cost: CostHint | None = None,
        *,
        options: RequestOptions | Callable[[], RequestOptions] = DEFAULT_OPTIONS,
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[Any, Any, T]]]:
        """A decorator: every call of the function goes through `call`.

        Args:
            cost: As for `call`.
            options: As for `call`, or what gives them when a call is made.
        """
        return self._runner.limited(cost, options)

    def middleware(
        self, options: RequestOptions | Callable[[], RequestOptions] = DEFAULT_OPTIONS
    ) -> "Middleware":
        """What puts an unchanged client of the SDK under the executor's limits, retries and breaker.

        ``AsyncAnthropic(middleware=[executor.middleware()])``, or the synchronous ``Anthropic`` in any thread
        but the executor's. Every message that the client asks for, as a stream or not, waits for its turn
        among all others. If it was sent it ends as the SDK ends it, with the SDK's own exceptions; if it was
        turned away, with `Rejected`. Counting tokens is paced by the limit it has of its own. Whatever else
        the client does is left alone.

        The client may be made before the executor is entered; it is used while the executor is.

        Args:
            options: As for `limited`.
        """
        return self._runner.middleware(options)

    def session(self, *, priority: int = 0, tenant: str = "", deadline: float | None = None) -> Session:
        """A view of this executor whose requests share a priority, a tenant and a deadline.

        For an agent's many calls, or a user's turn: `deadline` is in seconds from now, for all of them.
        """
        return Session(self._runner, RequestOptions(priority, tenant, deadline))

    def map(
        self,
        prompts: "Iterable[Params] | AsyncIterable[Params]",
        *,
        ordered: bool = False,
        buffer: int | None = None,
        priority: int = 0,
        tenant: str = "",
        deadline: float | None = None,
        journal: MapJournal | None = None,
    ) -> "AsyncGenerator[Result, None]":
        """Submit every request of an iterable, which may be endless, and yield results as they come.

        A failed request is a result too, with its `error` set: one bad row does not end the others. Memory is
        bounded: requests are taken from `prompts` as there is room, and no faster than results are consumed.

        Args:
            prompts: Requests, from any iterable, synchronous or not.
            ordered: Yield in the order of `prompts` instead of in order of completion.
            buffer: Requests taken from `prompts` and not yet yielded, at most. More of them mix better
                where a file is sorted by size. By default `max_concurrency` and a thousand more.
            priority: As for `submit`.
            tenant: As for `submit`.
            deadline: Seconds from now by which the last attempts must have started; what is later is a
                result with a `DeadlineExceeded`.
            journal: Where answers are kept before they are yielded, such as `claude_executor.bulk.Journal`.
                Requests whose answers are there already are not sent: those answers are yielded.
        """
        options = RequestOptions(priority, tenant, deadline)
        return self._runner.map(prompts, options, ordered=ordered, buffer=buffer, journal=journal)

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
        """Change limits while running. `limits` replaces what was declared; the rest changes parts of it.

        What was not declared and is not given stays learned from the API.

        Raises:
            ValueError: A number is out of range; then nothing is changed.
        """
        parts = {"rpm": rpm, "tpm": tpm, "itpm": itpm, "otpm": otpm, "burst": burst}
        changes = {name: value for name, value in parts.items() if value is not None}
        self._scheduler.reconfigure(
            self.clock(), limits=limits, changes=changes, max_concurrency=max_concurrency
        )
        self._runner.max_concurrency = max_concurrency or self._runner.max_concurrency
        if limits is not None:
            self._count_limiter.reconfigure(limits)
        self._pump.pump()

    def snapshot(self) -> Snapshot:
        """Levels, line, requests in flight, breaker, and what limits us, at this moment."""
        return self._scheduler.snapshot(self.clock())

    async def drain(self, *, refuse_waiting: bool = False) -> None:
        """Wait until nothing is waiting and nothing is in flight.

        Args:
            refuse_waiting: Accept nothing more, refuse with `Closed` what has not been sent, and wait only
                for what is in flight: how to stop soon without losing an answer that is being paid for.
        """
        if refuse_waiting:
            self._pump.close(refuse_waiting=True)
        await self._pump.idle.wait()
