"""The executor: performs what the core decides. asyncio, one pump, one timer.

A caller's own coroutine carries its request: it waits for its turn on one future, makes the attempt itself,
and tells the scheduler how it went. No task is made for it, so cancelling the caller cancels the request,
and nothing outlives ``async with``. The pump asks the scheduler what to do whenever something happened, and
sets one timer for when to ask again; nobody polls.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, cast

from claude_executor.core.breaker import BreakerPolicy
from claude_executor.core.estimate import Shape, shape_of
from claude_executor.core.events import Event
from claude_executor.core.job import Action, Job, Refuse
from claude_executor.core.limits import Limits
from claude_executor.core.retry import RetryPolicy
from claude_executor.core.scheduler import Scheduler
from claude_executor.core.snapshot import Snapshot
from claude_executor.core.verdict import Verdict
from claude_executor.errors import Closed, ExecutorError, failure, rejection
from claude_executor.fan_out import Params, Result, fan_out
from claude_executor.outcome import Broken, Reply

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import Message

    from claude_executor.transport import Transport

T = TypeVar("T")

LOOK_AHEAD = 1_000
"""Requests that `Executor.map` keeps ready beyond those in flight."""

SHORTEST_TIMER = 0.0005
"""Seconds; a timer set to less might find the clock where it was."""


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
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
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
            timeout: Seconds that one answer may take.
            reserve_max_tokens: Reserve `max_tokens` for every request, for platforms that charge it up front
                (Amazon Bedrock). The Claude API does not.
            on_event: Called with every `Event`, on the event loop: it must not block.
            clock: Seconds on a steady clock.
            chance: Numbers from [0, 1), for jitter.

        Raises:
            ValueError: An argument is out of range.
        """
        if not timeout > 0:
            raise ValueError(f"timeout must be a positive number of seconds, got {timeout}")
        self._scheduler = Scheduler(
            limits if limits is not None else Limits(),
            max_concurrency=max_concurrency,
            max_queued=max_queued,
            retry=retry,
            breaker=breaker,
            reserve_max_tokens=reserve_max_tokens,
            now=clock(),
        )
        self._client = client
        self._own_client: AsyncAnthropic | None = None
        self._connect_with = (api_key, base_url)
        self._max_concurrency = max_concurrency
        self._timeout = timeout
        self._on_event = on_event
        self._scheduler.emit.listening = on_event is not None
        self._clock = clock
        self._chance = chance
        self._transport: Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        s = self.snapshot()
        waiting = f"queued {s.queued} | running {s.running} | waiting-to-retry {s.waiting_to_retry}"
        return f"<Executor [{waiting} | breaker {s.breaker}]>"

    async def __aenter__(self) -> Self:
        """Connect to the event loop, and build the client if none was given."""
        if self._loop is not None:
            raise Closed("an executor can be entered only once; make another")
        self._loop = asyncio.get_running_loop()
        if self._client is None:
            # Importing the SDK takes seconds and its constructor reads files: not on the event loop.
            self._client = self._own_client = await asyncio.to_thread(self._build_client)
        from claude_executor.transport import Transport

        self._transport = Transport(self._client, timeout=self._timeout)
        return self

    def _build_client(self) -> "AsyncAnthropic":
        from claude_executor.transport import default_client

        api_key, base_url = self._connect_with
        return default_client(max_concurrency=self._max_concurrency, api_key=api_key, base_url=base_url)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what was submitted; on an exception, refuse what has not been sent and abandon the rest."""
        for task in self._tasks:  # of a `map` that was left before its end
            task.cancel()
        self._scheduler.close(self._clock(), refuse_waiting=False)
        try:
            if self._tasks:
                await asyncio.wait(set(self._tasks))
            if kind is None:
                await self.drain()
        finally:
            # After a clean end nobody waits any more; otherwise everybody is to know that it is over.
            self._perform(self._scheduler.close(self._clock(), refuse_waiting=True))
            if self._timer is not None:
                self._timer.cancel()
            self._transport = None
            if self._own_client is not None:
                await self._own_client.close()

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
            ValueError: `params` cannot be a request.
            Rejected: It was not sent; trying again later is safe.
            Failed: It was sent and did not succeed.
        """
        if not isinstance(params, Mapping):
            raise TypeError(f"a request is a mapping, as for messages.create, got {type(params).__name__}")
        if params.get("stream"):
            raise ValueError("submit() returns whole messages; leave 'stream' out of the request")
        transport = self._transport
        if transport is None:
            raise Closed("enter the executor first: async with Executor(...) as executor")
        job = self._accept(shape_of(params), priority, tenant, deadline)
        return await self._carry(job, lambda: transport.send(params))

    def map(
        self,
        prompts: "Iterable[Params] | AsyncIterable[Params]",
        *,
        ordered: bool = False,
        look_ahead: int | None = None,
        priority: int = 0,
        tenant: str = "",
    ) -> "AsyncGenerator[Result, None]":
        """Submit every request of an iterable, which may be endless, and yield results as they come.

        A failed request is a result too, with its `error` set: one bad row does not end the others. Memory is
        bounded: requests are taken from `prompts` as there is room, and no faster than results are consumed.

        Args:
            prompts: Requests, from any iterable, synchronous or not.
            ordered: Yield in the order of `prompts` instead of in order of completion.
            look_ahead: Requests taken from `prompts` and not yet yielded, at most. More of them mix better
                where a file is sorted by size. By default `max_concurrency` and a thousand more.
            priority: As for `submit`.
            tenant: As for `submit`.
        """
        if look_ahead is not None and look_ahead < 1:
            raise ValueError(f"look_ahead must be at least 1, got {look_ahead}")

        async def one(params: Params) -> "Message":
            return await self.submit(params, priority=priority, tenant=tenant)

        room = look_ahead if look_ahead is not None else self._max_concurrency + LOOK_AHEAD
        return fan_out(one, prompts, room=room, ordered=ordered, tasks=self._tasks)

    def tune(
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
        self._scheduler.tune(self._clock(), limits=limits, changes=changes, max_concurrency=max_concurrency)
        self._max_concurrency = max_concurrency or self._max_concurrency
        self._pump()

    def snapshot(self) -> Snapshot:
        """Levels, line, requests in flight, breaker, and what limits us, at this moment."""
        return self._scheduler.snapshot(self._clock())

    async def drain(self, *, refuse_waiting: bool = False) -> None:
        """Wait until nothing is waiting and nothing is in flight.

        Args:
            refuse_waiting: Accept nothing more, refuse with `Closed` what has not been sent, and wait only
                for what is in flight: how to stop soon without losing an answer that is being paid for.
        """
        if refuse_waiting:
            self._perform(self._scheduler.close(self._clock(), refuse_waiting=True))
            self._announce()
        await self._idle.wait()

    # ---- carrying a request

    def _accept(self, shape: Shape, priority: int, tenant: str, deadline: float | None) -> Job:
        if not isinstance(priority, int) or not isinstance(tenant, str):
            raise TypeError(f"priority must be an int and tenant a str, got {priority!r} and {tenant!r}")
        if deadline is not None and not deadline < float("inf"):
            raise ValueError(f"deadline must be a finite number of seconds, got {deadline!r}")
        now = self._clock()
        deadline_at = float("inf") if deadline is None else now + deadline
        job = self._scheduler.submit(shape, now, priority=priority, tenant=tenant, deadline_at=deadline_at)
        if isinstance(job, Refuse):
            self._announce()
            raise rejection(job)
        self._idle.clear()
        self._pump()
        return job

    async def _carry(self, job: Job, attempt: "Callable[[], Awaitable[Reply[T] | Broken]]") -> T:
        """Make attempts, each in its turn, until one is answered or the scheduler says it is enough."""
        cause: Exception | None = None
        while True:
            await self._turn(job, cause)
            try:
                outcome = await attempt()
            except BaseException:
                self._scheduler.lost(job, self._clock())
                self._pump()
                raise
            now = self._clock()
            if isinstance(outcome, Reply):
                self._scheduler.answered(job, outcome.usage, outcome.advice, now)
                self._pump()
                return outcome.value
            cause = outcome.cause
            verdict = self._scheduler.failed(job, outcome.failure, now, self._chance())
            self._pump()
            if verdict is not Verdict.AGAIN:
                raise failure(job, outcome.failure, verdict) from cause

    async def _turn(self, job: Job, cause: Exception | None) -> None:
        """Wait until the scheduler starts the job."""
        told, job.owner = job.owner, None
        if isinstance(told, Refuse):
            raise rejection(told) from cause
        if job.running:
            return
        assert self._loop is not None
        turn: asyncio.Future[None] = self._loop.create_future()
        job.owner = turn
        try:
            await turn
        except asyncio.CancelledError:
            self._scheduler.cancel(job, self._clock())
            self._pump()
            raise
        except ExecutorError as error:
            raise error from cause
        finally:
            job.owner = None

    # ---- the pump

    def _pump(self) -> None:
        """Do what the scheduler says, and set the timer to when it wants to be asked again."""
        now = self._clock()
        self._perform(self._scheduler.poll(now))
        wake_at = self._scheduler.wake_at
        if wake_at < self._timer_at and self._loop is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = wake_at
            self._timer = self._loop.call_later(max(wake_at - now, SHORTEST_TIMER), self._on_timer)
        self._announce()

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self._pump()

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            turn = cast("asyncio.Future[None] | None", action.job.owner)
            if turn is None:
                action.job.owner = action  # its caller has not begun to wait yet, and will look here first
            elif not turn.done():
                if isinstance(action, Refuse):
                    turn.set_exception(rejection(action))
                else:
                    turn.set_result(None)
        if self._scheduler.idle:
            self._idle.set()

    def _announce(self) -> None:
        """Tell whoever listens. An observer's mistake is reported, it does not disturb the requests."""
        if self._on_event is None:
            return
        for event in self._scheduler.emit.take():
            try:
                self._on_event(event)
            except Exception as error:  # the observer's code may raise anything
                context = {"message": "on_event raised an exception", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)
