"""The executor as middleware of the SDK's asynchronous client: `Executor.middleware`."""

import asyncio
import gc
import gzip
import json

import anthropic
import httpx2
import pytest
from anthropic.types import Message
from anthropic.types.beta import BetaMessage

from claude_executor import (
    Closed,
    DeadlineExceeded,
    Executor,
    Limits,
    QueueFull,
    RequestOptions,
    RetryPolicy,
    SpendingCap,
    SpendingCapReached,
    Stopped,
)
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import loop_time, simulated_client

FLOWING = Settings(
    rates=Rates(rpm=6_000, itpm=2_000_000, otpm=400_000),
    latency=Latency(0.5, 100.0, 0.1),
    output_tokens=Lengths(60, 0.3),
)


def prompt(text="Hello", **more):
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 256,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


async def create(client, text="Hello"):
    return await client.messages.create(**prompt(text))


async def create_beta(client, text="Hello"):
    return await client.beta.messages.create(**prompt(text))


async def create_raw(client, text="Hello"):
    return await (await client.messages.with_raw_response.create(**prompt(text))).parse()


async def create_streaming_response(client, text="Hello"):
    async with client.messages.with_streaming_response.create(**prompt(text)) as response:
        return await response.parse()


async def create_stream(client, text="Hello"):
    events = [event async for event in await client.messages.create(**prompt(text, stream=True))]
    assert events[-1].type == "message_stop"
    return events[0].message


async def create_raw_stream(client, text="Hello"):
    response = await client.messages.with_raw_response.create(**prompt(text, stream=True))
    events = [event async for event in await response.parse()]
    assert events[-1].type == "message_stop"
    return events[0].message


async def stream(client, text="Hello"):
    async with client.messages.stream(**prompt(text)) as stream:
        return await stream.get_final_message()


async def stream_beta(client, text="Hello"):
    async with client.beta.messages.stream(**prompt(text)) as stream:
        return await stream.get_final_message()


DOORS = [
    create,
    create_beta,
    create_raw,
    create_streaming_response,
    create_stream,
    create_raw_stream,
    stream,
    stream_beta,
]
STREAMS = [create_stream, create_raw_stream, stream, stream_beta]


@pytest.fixture
def pair(executor_on):
    """An executor, and a client with its middleware that would retry by itself."""

    def make(simulator, limits=None, request_options=None, **options):
        executor = executor_on(simulator, limits, **options)
        middleware = (
            executor.middleware() if request_options is None else executor.middleware(request_options)
        )
        return executor, simulated_client(simulator, max_retries=2, middleware=[middleware])

    return make


def free(executor):
    """Whether no place and no estimate is held."""
    snapshot = executor.snapshot()
    pools = executor._scheduler._pools.values()
    return snapshot.running == 0 and not any(any(pool.flight.reserved) for pool in pools)


def answered(executor):
    return executor._scheduler.event_buffer.counters.answered


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.simulator(FLOWING)
async def test_every_door_is_paced(simulator, pair, door):
    """Forty at once start no faster than one request in a tenth of a second, and are what the SDK gives."""
    executor, client = pair(simulator, Limits(rpm=600, burst=1.0))
    async with executor:
        began = loop_time()
        messages = await asyncio.gather(*(door(client, f"{number}") for number in range(40)))
        assert loop_time() - began >= 3.0
        assert free(executor)
    assert all(isinstance(message, Message | BetaMessage) for message in messages)
    assert answered(executor) == 40
    verdict = simulator.verdict()
    assert verdict.clean


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.simulator(FLOWING)
async def test_what_an_answer_took_is_known(simulator, pair, door):
    """After each door the buckets agree with the server's."""
    executor, client = pair(simulator, Limits(rpm=6_000, itpm=2_000_000, otpm=400_000))
    async with executor:
        await asyncio.gather(*(door(client, f"{number}") for number in range(50)))
        used = executor._scheduler._pools["haiku-5.5"].used.last_minute(loop_time())
    assert used.output_tokens == simulator.stats()["tokens"]["haiku-5.5"]["output"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(error_500=1.0), anthropic.InternalServerError),
        (Faults(reset=1.0), anthropic.APIConnectionError),
    ],
)
async def test_attempts_are_the_policys(pair, door, faults, error):
    """Not the SDK's three times ours; and what is raised is the SDK's own."""
    simulator = Simulator(FLOWING, faults=faults, clock=loop_time)
    executor, client = pair(simulator, retry=RetryPolicy(max_attempts=4))
    async with executor:
        with pytest.raises(error):
            await door(client)
        with pytest.raises(error):  # the end of one call is not that of the next
            await door(client)
        assert free(executor)
    tally = executor._scheduler.event_buffer.counters
    assert tally.failed == 2
    assert simulator.stats()["requests"] == tally.attempts >= 8


@pytest.mark.simulator(FLOWING, faults=Faults(error_500=0.4))
async def test_how_often_it_was_tried_is_told(simulator, pair):
    """`retries_taken` counts the executor's retries, as the header of each request does."""
    executor, client = pair(simulator)
    async with executor:
        responses = [
            await client.messages.with_raw_response.create(**prompt(f"{number}")) for number in range(20)
        ]
    told = sum(response.retries_taken for response in responses)
    assert told == simulator.stats()["by_status"]["500"] > 5


@pytest.mark.parametrize("door", DOORS)
async def test_a_wrong_key_is_sent_once(pair, door):
    """It raises what the SDK raises, and later requests are turned away unsent."""
    simulator = Simulator(Settings(keys=frozenset({"right"})), clock=loop_time)
    executor, client = pair(simulator)
    async with executor:
        with pytest.raises(anthropic.AuthenticationError):
            await door(client)
        with pytest.raises(Stopped):
            await door(client)
    assert simulator.stats()["requests"] == 1


@pytest.mark.simulator(FLOWING)
async def test_who_is_turned_away_is_told_by_us(simulator, pair):
    """Nothing is sent for them, and the SDK does not try them again."""
    executor, client = pair(simulator, max_concurrency=1, max_queued=1)
    with pytest.raises(Closed, match="not open"):
        await create(client)
    async with executor:
        late = simulated_client(simulator, middleware=[executor.middleware(RequestOptions(deadline=-1.0))])
        with pytest.raises(DeadlineExceeded):
            await create(late)
        done = await asyncio.gather(*(create(client) for _ in range(5)), return_exceptions=True)
    assert [type(one) for one in done].count(QueueFull) == 3
    with pytest.raises(Closed):
        await create(client)
    executor, client = pair(simulator, spending_caps=[SpendingCap(1e-9)])
    async with executor:
        with pytest.raises(SpendingCapReached):
            await create(client)
    assert simulator.stats()["requests"] == 2


@pytest.mark.simulator(FLOWING)
async def test_nobody_is_paced_twice(simulator):
    """An executor on a client with its own middleware, and a call of such a client, take one place each."""
    client = simulated_client(simulator, max_retries=2)
    executor = Executor(Limits(rpm=600), client=client, max_concurrency=1, clock=loop_time)
    mine = client.with_middleware(executor.middleware())
    executor._engine.client._client = mine
    async with executor, asyncio.timeout(60):
        await executor.submit(prompt())
        async with executor.stream(prompt()) as stream:
            await stream.get_final_message()
        await executor.call(mine.messages.create, **prompt())
        await create(mine)
    assert answered(executor) == simulator.stats()["requests"] == 4


@pytest.mark.simulator(FLOWING)
async def test_what_a_call_leaves_behind_is_paced(simulator):
    """A task that outlives the call it was started in is no part of it."""
    client = simulated_client(simulator)
    executor = Executor(Limits(rpm=600), client=client, clock=loop_time)
    mine = client.with_middleware(executor.middleware())
    tasks = []

    async def fn():
        async def later():
            await asyncio.sleep(5.0)
            await create(mine)

        tasks.append(asyncio.create_task(later()))

    async with executor:
        await executor.call(fn, cost=prompt())
        await tasks[0]
    assert executor._scheduler.event_buffer.counters.attempts == 2


@pytest.mark.simulator(FLOWING)
async def test_what_has_no_limit_of_ours_passes(simulator, pair):
    """Models, for one."""
    executor, client = pair(simulator)
    async with executor:
        assert [model.id async for model in client.models.list()]
        assert executor.snapshot().attempts == 0


@pytest.mark.simulator(FLOWING)
async def test_a_stream_holds_its_place_until_it_ends(simulator, pair):
    """Read to the end, closed early, or left by an exception."""

    async def leave(client):
        async with client.messages.stream(**prompt("Once more")) as stream:
            async for _ in stream.text_stream:
                raise KeyError

    executor, client = pair(simulator, max_concurrency=1)
    async with executor:
        events = await client.messages.create(**prompt(stream=True))
        assert executor.snapshot().running == 1
        async for event in events:
            if event.type == "content_block_delta":
                assert executor.snapshot().running == 1
        assert free(executor)
        assert answered(executor) == 1

        raw = await client.messages.with_raw_response.create(**prompt("Again", stream=True))
        events = await raw.parse()
        await anext(events)
        await events.close()
        assert raw.elapsed
        assert free(executor)

        with pytest.raises(KeyError):
            await leave(client)
        assert free(executor)
    assert executor._scheduler.event_buffer.counters.cancelled == 2


@pytest.mark.parametrize("read", [0, 3])
@pytest.mark.simulator(FLOWING)
async def test_a_stream_that_is_dropped_frees_its_place(simulator, pair, read):
    """Whether anything was read of it or not; the garbage collector tells."""
    executor, client = pair(simulator, max_concurrency=1)
    async with executor:
        events = await client.messages.create(**prompt(stream=True))
        for _ in range(read):
            await anext(events)
        del events
        gc.collect()
        await asyncio.sleep(0.01)
        assert free(executor)


@pytest.mark.simulator(FLOWING)
async def test_a_stream_left_lying_about_gives_up_its_place(simulator, pair):
    """After a minute without anybody reading it; a slow reader still gets all of it."""
    executor, client = pair(simulator, max_concurrency=1)
    async with executor:
        events = await client.messages.create(**prompt(stream=True))
        await anext(events)
        await asyncio.sleep(50.0)
        assert not free(executor)
        for _ in range(5):
            await anext(events)
        await asyncio.sleep(50.0)
        assert not free(executor)
        await asyncio.sleep(20.0)
        assert free(executor)
        assert [event.type async for event in events][-1] == "message_stop"
        assert executor._scheduler.event_buffer.counters.cancelled == 1


@pytest.mark.simulator(FLOWING)
async def test_leaving_waits_for_readers_but_not_for_what_nobody_reads(simulator, pair):
    """A stream that a variable still holds does not keep the executor from closing."""
    executor, client = pair(simulator)
    async with executor:
        held = await client.messages.create(**prompt(stream=True))
        await anext(held)
        reader = asyncio.create_task(stream(client, "Another"))
        await asyncio.sleep(0.6)
        began = loop_time()
    assert loop_time() - began < 5.0
    assert (await reader).stop_reason
    assert answered(executor) == 1
    await held.close()


@pytest.mark.parametrize("door", STREAMS)
@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(stream_overloaded=1.0), anthropic.APIStatusError),
        (Faults(stream_rate_limited=1.0), anthropic.APIStatusError),
        (Faults(stream_dropped=1.0), httpx2.TransportError),
        (Faults(stream_cut=1.0), AssertionError),  # the SDK raises nothing; the tests see it
    ],
)
async def test_a_broken_stream_is_a_failure_told_as_the_sdk_tells_it(pair, door, faults, error):
    """It is settled as failed; its reader, who has seen some of it, gets what the SDK would raise."""
    simulator = Simulator(FLOWING, faults=faults, clock=loop_time)
    executor, client = pair(simulator)
    async with executor:
        try:
            message = await door(client)
            assert message.stop_reason is not None
        except error:
            pass
        assert free(executor)
        assert executor._scheduler.event_buffer.counters.failed == 1
        assert executor._scheduler.event_buffer.counters.answered == 0
    assert simulator.stats()["requests"] == 1


@pytest.mark.parametrize("door", STREAMS)
async def test_before_its_first_event_a_stream_is_tried_again(door):
    """Nobody has seen anything of it: an error there is one like any other."""
    calls = []
    start = {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": "claude-haiku-5-5",
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 7, "output_tokens": 1},
        },
    }
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    good = [start, delta, {"type": "message_stop"}]
    bad = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    def answer(request):
        calls.append(request)
        said = {1: [bad], 2: [], 3: good}[len(calls)]
        lines = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in said)
        headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
        return httpx2.Response(200, headers=headers, content=gzip.compress(lines.encode()))

    executor = Executor(clock=loop_time)
    client = anthropic.AsyncAnthropic(
        api_key="k",
        http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)),
        middleware=[executor.middleware()],
    )
    executor._engine.client._client = client
    async with executor:
        await door(client)
        assert free(executor)
        assert answered(executor) == 1
    assert len(calls) == 3


async def test_a_stream_in_another_form_is_passed_on(executor_on):
    """As of Amazon Bedrock: it is answered when it ends, and the estimate stands."""

    def answer(request):
        headers = {"content-type": "application/vnd.amazon.eventstream"}
        return httpx2.Response(200, headers=headers, content=b"in a form of its own")

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    client = anthropic.AsyncAnthropic(api_key="k", http_client=http_client)
    executor = Executor(client=client, clock=loop_time)
    mine = client.with_middleware(executor.middleware())
    async with executor:
        events = await mine.messages.create(**prompt(stream=True))
        assert executor.snapshot().running == 1
        assert [event async for event in events] == []
        assert free(executor)
    assert executor.snapshot().attempts == answered(executor) == 1


@pytest.mark.simulator(FLOWING, faults=Faults(garbage=0.5))
async def test_a_body_that_is_broken_off_is_tried_again(simulator, pair):
    """As for `submit`."""
    executor, client = pair(simulator)
    async with executor:
        messages = [await create(client, f"{number}") for number in range(8)]
    assert all(message.stop_reason for message in messages)
    assert simulator.stats()["requests"] > 8


@pytest.mark.simulator(FLOWING)
async def test_cancelling_frees_everything(simulator, pair):
    """In line, on the way, and while a stream is read."""
    executor, client = pair(simulator, max_concurrency=4)
    async with executor:
        tasks = [asyncio.create_task((create, create_stream)[n % 2](client, f"{n}")) for n in range(20)]
        await asyncio.sleep(0.7)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert free(executor)
        assert executor.snapshot().queued == 0


async def test_another_event_loop_is_refused(pair):
    """The executor's futures belong to the loop it was entered in."""
    simulator = Simulator(FLOWING, clock=loop_time)
    executor, client = pair(simulator)
    async with executor:

        def elsewhere():
            with asyncio.Runner() as runner:
                runner.run(create(client))

        with pytest.raises(RuntimeError, match="another event loop"):
            await asyncio.to_thread(elsewhere)


@pytest.mark.simulator(FLOWING)
async def test_the_synchronous_client_is_refused_on_the_executors_thread(simulator, executor_on):
    """It would wait for ever for a loop that it blocks itself."""
    async with executor_on(simulator) as executor:
        client = anthropic.Anthropic(api_key="k", middleware=[executor.middleware()])
        with pytest.raises(RuntimeError, match="AsyncAnthropic"):
            client.messages.create(**prompt())
        client.close()


async def test_both_doors_share_one_budget(pair):
    """`submit` and the middleware together come close to the least possible time, and meet no 429."""
    rates = Rates(rpm=150, itpm=2_000_000, otpm=400_000)
    settings = Settings(rates=rates, latency=Latency(1.0, 100.0, 0.2), output_tokens=Lengths(100, 0.3))
    simulator = Simulator(settings, clock=loop_time)
    executor, client = pair(simulator, Limits(rpm=150, itpm=2_000_000, otpm=400_000))
    count = 450
    async with executor:
        began = loop_time()

        async def one(number):
            if number % 2:
                await executor.submit(prompt(f"{number}"))
            elif number % 4:
                await create(client, f"{number}")
            else:
                await stream(client, f"{number}")

        await asyncio.gather(*(one(number) for number in range(count)))
        took = loop_time() - began
    least = (count - rates.rpm) / (rates.rpm / 60.0)
    refused = simulator.stats()["by_status"].get("429", 0)
    assert least / took >= 0.95
    assert refused <= 0.01 * count
