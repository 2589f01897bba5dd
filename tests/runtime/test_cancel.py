"""Cancelling: at every point at which a caller can be cancelled, and in crowds."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from claude_executor import Limits, RetryPolicy
from claude_executor.simulator import Faults, Latency, Rates, Settings

SLOW = Settings(rates=Rates(rpm=600, itpm=600_000, otpm=100_000), latency=Latency(0.5, 50.0))


def prompt(text="Hello"):
    return {"model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": text}]}


class CancelAt:
    """Runs a coroutine and cancels its task when it suspends for the n-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], n: int) -> None:
        self.coroutine = coroutine
        self.n = n
        self.suspended = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.coroutine.__await__()
        resume = steps.send
        value: Any = None
        while True:
            try:
                waiting_for = resume(value)
            except StopIteration as end:
                return end.value
            self.suspended += 1
            if self.suspended == self.n:
                asyncio.current_task().cancel()
            try:
                value, resume = (yield waiting_for), steps.send
            except BaseException as error:
                value, resume = error, steps.throw

    async def run(self) -> Any:
        return await self


SITUATIONS = {
    "at once": Faults(),
    "failing": Faults(error_500=1.0),
    "refused": Faults(rate_limited_plain=1.0),
    "dropped": Faults(reset=1.0),
    "overloaded": Faults(overloaded=1.0),
}


@pytest.mark.parametrize("queued", [False, True], ids=["first", "queued"])
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("n", [*range(1, 15), 18, 22, 27])
@pytest.mark.simulator(SLOW)
async def test_cancelled_at_any_await_the_executor_is_as_before(simulator, executor_on, situation, n, queued):
    """Whatever a caller waits for when it is cancelled, nothing stays taken and the next one is served."""
    async with executor_on(
        simulator, Limits(rpm=600), max_concurrency=1, retry=RetryPolicy(max_attempts=3), random=lambda: 0.5
    ) as executor:
        other = asyncio.create_task(executor.submit(prompt("other"))) if queued else None
        await asyncio.sleep(0)
        simulator.set_faults(SITUATIONS[situation])
        asyncio.get_running_loop().call_later(20.0, simulator.set_faults, Faults())
        cancelled = CancelAt(executor.submit(prompt("cancelled")), n)
        task = asyncio.create_task(cancelled.run())
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(20.0)
        if cancelled.suspended >= n:
            assert isinstance(ended, asyncio.CancelledError)
        if other is not None:
            await asyncio.gather(other, return_exceptions=True)
        assert "[queued 0 | running 0 | waiting-to-retry 0 |" in repr(executor)
        assert (await executor.submit(prompt("after"))).stop_reason
        await executor.drain()
        level = executor.snapshot().pools["haiku-5.5"].resources["requests"].level
        await asyncio.sleep(60.0)
        full = executor.snapshot().pools["haiku-5.5"].resources["requests"]
        assert level <= full.level == pytest.approx(full.capacity)


@pytest.mark.simulator(SLOW)
async def test_cancelling_a_crowd_frees_everything(simulator, executor_on):
    """Of two thousand callers all but ten are cancelled in mid-run; the ten are answered soon."""
    async with executor_on(simulator, Limits(rpm=600, burst=1.0), max_concurrency=50) as executor:
        tasks = [asyncio.create_task(executor.submit(prompt(f"{i}"))) for i in range(2000)]
        await asyncio.sleep(3.0)
        for task in tasks[:-10]:
            task.cancel()
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*tasks[-10:])
        assert asyncio.get_running_loop().time() - began < 10.0
        await asyncio.gather(*tasks, return_exceptions=True)
        assert "[queued 0 | running 0 | waiting-to-retry 0 |" in repr(executor)


@pytest.mark.simulator(SLOW)
async def test_leaving_the_block_leaves_no_task(simulator, executor_on):
    """Breaking out of `map` and out of the block with an exception leaves no task and no timer behind."""
    before = asyncio.all_tasks()
    waiting = []

    async def break_out():
        async with executor_on(simulator, Limits(rpm=600)) as executor:
            waiting.extend(asyncio.create_task(executor.submit(prompt(f"{i}"))) for i in range(5))
            async for _ in executor.map(prompt(f"{i}") for i in range(100)):
                raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        await break_out()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.simulator(SLOW)
async def test_leaving_the_block_waits_for_what_was_submitted(simulator, executor_on):
    """Tasks started inside the block and not awaited are finished when it is left."""
    async with executor_on(simulator, Limits(rpm=600)) as executor:
        tasks = [asyncio.create_task(executor.submit(prompt(f"{i}"))) for i in range(20)]
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert all(task.done() and task.result().stop_reason for task in tasks)


@pytest.mark.simulator(SLOW)
async def test_a_waiter_that_was_closed_kept_its_place_for_ever(simulator, executor_on):
    """Whoever leaves the line, in whatever way, leaves nothing behind."""
    async with executor_on(simulator, Limits(rpm=60, burst=1.0)) as executor, asyncio.timeout(600):
        await executor.submit(prompt())
        waiting = executor.submit(prompt())
        waiting.send(None)
        assert executor.snapshot().queued == 1
        waiting.close()
        assert executor.snapshot().queued == 0


@pytest.mark.simulator(SLOW)
async def test_a_request_from_another_event_loop_stayed_in_line_for_ever(simulator, executor_on):
    """It is told what to use instead, and nothing is left of it."""
    async with executor_on(simulator) as executor:

        def elsewhere():
            with asyncio.Runner() as runner:
                runner.run(executor.submit(prompt()))

        with pytest.raises(RuntimeError, match=r"claude_executor\.sync"):
            await asyncio.to_thread(elsewhere)
        assert executor.snapshot().queued == executor.snapshot().running == 0
    assert simulator.stats()["requests"] == 0
