"""Many requests from an iterable: `Executor.map`."""

import asyncio
import itertools

import pytest

from claude_executor import Closed, Failed
from claude_executor.runtime.map import MapAnswer, map_requests
from claude_executor.simulator import Faults, Latency, Rates, Settings

QUICK = Settings(rates=Rates(rpm=60_000, itpm=None, otpm=None), latency=Latency(0.2, 300.0, 0.8))


def prompt(text="Hello"):
    return {"model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": text}]}


@pytest.mark.simulator(QUICK)
async def test_every_prompt_has_one_result(simulator, executor_on):
    """Results come as they are done, each with its index, none missing and none twice."""
    async with executor_on(simulator) as executor:
        order = [result.index async for result in executor.map(prompt(f"{i}") for i in range(300))]
    assert sorted(order) == list(range(300))
    assert order != sorted(order)


@pytest.mark.simulator(QUICK)
async def test_ordered_results_keep_the_order(simulator, executor_on):
    """With `ordered=True` results come in the order of the prompts."""
    async with executor_on(simulator) as executor:
        order = [r.index async for r in executor.map((prompt(f"{i}") for i in range(300)), ordered=True)]
    assert order == list(range(300))


@pytest.mark.simulator(QUICK)
async def test_asynchronous_iterables_are_prompts_too(simulator, executor_on):
    """`map` takes an async generator."""

    async def prompts():
        for i in range(20):
            await asyncio.sleep(0.01)
            yield prompt(f"{i}")

    async with executor_on(simulator) as executor:
        assert len([r async for r in executor.map(prompts()) if r.message]) == 20


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.simulator(QUICK)
async def test_an_endless_generator_is_taken_from_no_faster_than_results_are_consumed(
    simulator, executor_on, ordered
):
    """Of an endless generator no more is held than `buffer`, and a slow consumer slows the taking."""
    taken = 0

    def endless():
        nonlocal taken
        for taken in itertools.count(1):
            yield prompt(f"{taken}")

    async with executor_on(simulator) as executor:
        consumed = 0
        results = executor.map(endless(), buffer=20, ordered=ordered)
        async for _ in results:
            consumed += 1
            await asyncio.sleep(1.0)
            assert taken - consumed <= 20
            if consumed == 30:
                break
        await results.aclose()
        assert "[queued 0 | running 0 |" in repr(executor)


@pytest.mark.simulator(QUICK)
async def test_a_bad_row_is_a_result_and_does_not_end_the_others(simulator, executor_on):
    """Failed requests, and things that are no request, come as results with an error."""
    rows = [prompt("a"), {"model": "m"}, prompt("b") | {"model": "claude-none"}, prompt("c")]
    async with executor_on(simulator) as executor:
        results = {r.index: r async for r in executor.map(rows)}
    assert results[0].message
    assert results[3].message
    assert isinstance(results[1].error, ValueError)
    assert isinstance(results[2].error, Failed)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.simulator(QUICK)
async def test_an_exception_in_the_iterable_comes_after_what_was_submitted(simulator, executor_on, ordered):
    """What the generator of prompts raises is raised by `map` when all that it gave before is yielded."""

    def broken():
        for number in range(40):
            yield prompt(f"{number}")
        raise OSError("disk")

    yielded = []

    async def consume(results):
        async for result in results:
            yielded.append(result.index)  # noqa: PERF401 - what came before the exception is to be seen

    async with executor_on(simulator) as executor:
        with pytest.raises(OSError, match="disk"):
            await consume(executor.map(broken(), ordered=ordered))
        assert "[queued 0 | running 0 |" in repr(executor)
    assert sorted(yielded) == list(range(40))
    assert simulator.verdict().answered == 40


@pytest.mark.simulator(QUICK)
async def test_results_say_how_they_came_about(simulator, executor_on):
    """Attempts, the wait for the turn, and the time of the last attempt."""
    simulator.set_faults(error_500=0.3)
    async with executor_on(simulator, max_concurrency=10) as executor:
        results = [r async for r in executor.map(prompt(f"{i}") for i in range(100))]
    assert sum(r.attempts for r in results) == simulator.verdict().requests > 100
    assert max(r.queue_time for r in results) > 1
    assert all(r.duration > 0.01 for r in results)


@pytest.mark.simulator(QUICK, faults=Faults(invalid_key=True))
async def test_a_stopped_run_yields_an_error_for_every_row(simulator, executor_on):
    """A bad key gives every row an honest error and is asked about once."""
    async with executor_on(simulator) as executor:
        errors = [r.error async for r in executor.map(prompt(f"{i}") for i in range(500))]
    assert len(errors) == 500
    assert all(errors)
    assert simulator.stats()["requests"] == 1


async def test_an_empty_iterable_has_no_results(simulator, executor_on):
    """Nothing in, nothing out."""
    async with executor_on(simulator) as executor:
        assert [r async for r in executor.map([])] == []


async def test_bad_buffer_is_refused(simulator, executor_on):
    """`buffer` below 1 is a ValueError."""
    async with executor_on(simulator) as executor:
        with pytest.raises(ValueError, match="buffer"):
            executor.map([], buffer=0)


@pytest.mark.parametrize("room", [1, 2, 30])
@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.simulator(QUICK)
async def test_workers_who_wait_for_a_turn_that_never_comes_go_home(simulator, executor_on, room, quick):
    """Each wakes the next: none waits for ever, whether for room or for a source that takes its time."""

    async def prompts():
        for number in range(40):
            if not quick:
                await asyncio.sleep(0.3)
            yield prompt(f"{number}")

    async with executor_on(simulator) as executor:
        assert len([result async for result in executor.map(prompts(), buffer=room)]) == 40
        assert not [task for task in asyncio.all_tasks() if "map worker" in task.get_name()]


@pytest.mark.simulator(QUICK)
async def test_the_next_prompt_is_pulled_while_the_last_is_answered(simulator, executor_on):
    """Of two workers one waits for a slow source while the other has its request under way."""
    running = []

    async def prompts():
        for number in range(40):
            running.append(executor.snapshot().running)
            await asyncio.sleep(0.3)
            yield prompt(f"{number}")

    async with executor_on(simulator) as executor:
        assert len([result async for result in executor.map(prompts(), buffer=2)]) == 40
    assert sum(running) > 30


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("cancels", ["the source", "a submit"])
async def test_a_cancellation_from_inside_does_not_look_like_the_end(cancels, ordered):
    """Of a source, or of what sends a request: results are missing, so it is no normal end, nor a hang."""

    async def source():
        for number in range(10):
            if number == 3 and cancels == "the source":
                raise asyncio.CancelledError
            yield prompt(f"{number}")

    async def submit(params):
        await asyncio.sleep(0.1)
        if cancels == "a submit" and params == prompt("3"):
            raise asyncio.CancelledError
        return MapAnswer(None, 1, 0.0, 0.1)

    found = []

    async def consume():
        async for result in map_requests(submit, source(), room=4, ordered=ordered, tasks=set()):
            found.append(result.index)  # noqa: PERF401 - some come before the error

    async with asyncio.timeout(60):
        with pytest.raises(RuntimeError, match=r"CancelledError|was cancelled"):
            await consume()
    assert {0, 1, 2} <= set(found)
    assert 3 not in found


@pytest.mark.simulator(QUICK)
async def test_who_still_takes_results_when_the_executor_is_left_is_told(simulator, executor_on):
    """In another task: what is missing is an error, not the end."""
    found = []

    async def consume(executor):
        async for result in executor.map(prompt(f"{i}") for i in range(2_000)):
            found.append(result)  # noqa: PERF401 - some come before the error

    async with executor_on(simulator) as executor:
        consuming = asyncio.create_task(consume(executor))
        await asyncio.sleep(1.0)
    with pytest.raises(Closed, match="left before map"):
        await consuming
    assert 0 < len(found) < 2_000
