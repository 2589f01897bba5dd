"""The parts of an executor: built together, opened and closed together."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from claude_executor.budget import Budget
from claude_executor.core.control.breaker import BreakerPolicy
from claude_executor.core.control.retry import RetryPolicy
from claude_executor.core.control.spending import SpendingCap
from claude_executor.core.model.events import Event
from claude_executor.core.model.limits import Limits
from claude_executor.core.scheduling.scheduler import Scheduler
from claude_executor.runtime.count_tokens import TokenCountLimiter
from claude_executor.runtime.dispatch.pump import Pump
from claude_executor.runtime.requests import RequestRunner
from claude_executor.sdk.client import ClientHandle

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic


class Engine:
    """The scheduler of an executor, its pump, its client and its request runner.

    Attributes:
        client: The SDK client, given or built.
        scheduler: Decides which request starts when.
        runner: Carries out requests.
    """

    def __init__(
        self,
        limits: Limits | Mapping[str, Limits] | None,
        *,
        client: "AsyncAnthropic | None",
        api_key: str | None,
        base_url: str | None,
        max_concurrency: int,
        max_queued: int | None,
        retry: RetryPolicy | None,
        breaker: BreakerPolicy | None,
        timeout: float,
        reserve_max_tokens: bool,
        spending_caps: Iterable[SpendingCap],
        budget: Budget | None,
        on_event: Callable[[Event], None] | None,
        attempt_context: Callable[[int], AbstractContextManager[object]] | None,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """Build the parts; `Executor` says what the arguments mean."""
        self.client = ClientHandle(
            client, api_key=api_key, base_url=base_url, max_concurrency=max_concurrency, timeout=timeout
        )
        self.scheduler = Scheduler(
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
            self.scheduler,
            clock=clock,
            random=random,
            on_event=on_event,
            attempt_context=attempt_context,
            budget=budget,
        )
        self._count_limiter = TokenCountLimiter(limits, retry or RetryPolicy(), random)
        self.runner = RequestRunner(
            self.client, self._pump, self._count_limiter, clock=clock, max_concurrency=max_concurrency
        )
        self._clock = clock

    async def open(self) -> None:
        """Open the client, and bind the pump to the running event loop."""
        await self.client.open()
        try:
            await self._pump.start()
        except BaseException:
            await self.client.close()
            raise

    async def close(self, *, finish: bool) -> None:
        """Accept no more requests, and close everything.

        Args:
            finish: Whether to finish first what was submitted. Otherwise waiting requests are refused, and
                those in flight abandoned.
        """
        map_tasks = self.runner.map_tasks
        for task in map_tasks:  # the workers of a `map` that was left before its end
            task.cancel()
        self._pump.close(refuse_waiting=False)
        try:
            if map_tasks:
                await asyncio.wait(set(map_tasks))
            if finish:
                await self.drain()
        finally:
            # After a clean end no request waits any more; otherwise all of them are refused here.
            self._pump.stop()
            await self._pump.leave()
            await self.client.close()

    async def drain(self, *, refuse_waiting: bool = False) -> None:
        """Wait until no request is waiting or in flight; see `Executor.drain`."""
        if refuse_waiting:
            self._pump.close(refuse_waiting=True)
        await self._pump.idle.wait()

    def reconfigure(
        self,
        limits: Limits | Mapping[str, Limits] | None,
        parts: Mapping[str, float | None],
        max_concurrency: int | None,
    ) -> None:
        """Change limits while running; see `Executor.reconfigure`. Parts that are None stay as they are."""
        changes = {name: value for name, value in parts.items() if value is not None}
        self.scheduler.reconfigure(
            self._clock(), limits=limits, changes=changes, max_concurrency=max_concurrency
        )
        self.runner.max_concurrency = max_concurrency or self.runner.max_concurrency
        if limits is not None:
            self._count_limiter.reconfigure(limits)
        self._pump.pump()
