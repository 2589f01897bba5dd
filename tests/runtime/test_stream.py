"""Answers that come piece by piece: `Executor.stream`."""

import asyncio
import random

import anthropic
import httpx2
import pytest

from claude_executor import Closed, Failed, FailureKind, Limits, RetryPolicy, StreamInterrupted
from claude_executor.sdk.outcome import FailedAttempt
from claude_executor.sdk.transport import Transport
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import loop_time

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
        "metadata": {"user_id": text},
        **more,
    }


def free(executor):
    """Whether no place and no estimate is held."""
    snapshot = executor.snapshot()
    pools = executor._scheduler._pools.values()
    return snapshot.running == 0 and not any(any(pool.flight.reserved) for pool in pools)


@pytest.mark.simulator(FLOWING)
async def test_a_stream_is_the_sdks_own(simulator, executor_on):
    """With its text, its events and its message; and its place is free as soon as it ends."""
    from anthropic import AsyncMessageStream
    from anthropic.types import Message

    async with executor_on(simulator) as executor:
        async with executor.stream(prompt()) as stream:
            assert isinstance(stream, AsyncMessageStream)
            text = [piece async for piece in stream.text_stream]
            assert free(executor)
            message = await stream.get_final_message()
            assert stream.request_id
        async with executor.stream(prompt("Again", stream=True)) as stream:
            kinds = [event.type async for event in stream]
    assert isinstance(message, Message)
    assert "".join(text) == message.content[0].text
    assert len(text) > 1
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert simulator.verdict().clean


@pytest.mark.simulator(FLOWING)
async def test_the_limit_guards_the_start(simulator, executor_on):
    """A hundred streams at once start no faster than one request a tenth of a second."""
    async with executor_on(simulator, Limits(rpm=600, burst=1.0)) as executor:

        async def one(number):
            async with executor.stream(prompt(f"{number}")) as stream:
                await stream.get_final_message()

        began = loop_time()
        await asyncio.gather(*(one(number) for number in range(100)))
        assert loop_time() - began >= 9.0
    assert simulator.verdict().clean


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        (Faults(stream_overloaded=1.0), FailureKind.OVERLOADED),
        (Faults(stream_rate_limited=1.0), FailureKind.QUOTA),
        (Faults(stream_dropped=1.0), FailureKind.DROPPED),
        (Faults(stream_cut=1.0), FailureKind.TRUNCATED),
    ],
)
async def test_an_answer_that_is_broken_off_is_no_success(executor_on, faults, kind):
    """It is said what broke it, and what had come is not lost."""
    simulator = Simulator(FLOWING, faults=faults, clock=loop_time)
    async with executor_on(simulator) as executor:
        pieces = []

        async def listen():
            async with executor.stream(prompt()) as stream:
                async for piece in stream.text_stream:
                    pieces.append(piece)  # noqa: PERF401 - they are looked at after the exception

        with pytest.raises(StreamInterrupted, match="the response broke off") as told:
            await listen()
        assert free(executor)
    error = told.value
    assert error.kind is kind
    assert error.attempts == 1
    assert error.message is not None
    assert "".join(block.text for block in error.message.content) == "".join(pieces)
    assert error.usage is not None
    assert error.usage.input_tokens > 0
    assert simulator.stats()["by_status"] == {"200": 1}


@pytest.mark.simulator(FLOWING, faults=Faults(overloaded=0.5))
async def test_before_the_first_event_a_failure_is_tried_again(simulator, executor_on):
    """Nobody has seen anything of it yet."""
    async with executor_on(simulator) as executor:
        for number in range(20):
            async with executor.stream(prompt(f"{number}")) as stream:
                await stream.get_final_message()
    assert simulator.stats()["by_status"]["529"] > 5
    assert simulator.stats()["by_status"]["200"] == 20


@pytest.mark.simulator(FLOWING)
async def test_closing_early_leaks_nothing(simulator, executor_on):
    """After any number of events, by leaving, by an exception, by cancelling: everything is free."""
    chance = random.Random(5)
    async with executor_on(simulator, max_concurrency=20) as executor:

        async def one(number):
            most, how = chance.randrange(30), number % 3
            try:
                async with executor.stream(prompt(f"{number}")) as stream:
                    count = 0
                    async for _ in stream:
                        count += 1
                        if count > most:
                            break
                    if how == 1:
                        raise KeyError("the user's own")
                    if how == 2:
                        await asyncio.sleep(chance.random())
            except KeyError:
                assert how == 1

        tasks = [asyncio.create_task(one(number)) for number in range(200)]
        await asyncio.sleep(3.0)
        for task in tasks[-40:]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in done} <= {type(None), asyncio.CancelledError}
        assert free(executor)
        assert executor.snapshot().queued == 0


@pytest.mark.simulator(FLOWING, faults=Faults(stream_stalled=1.0))
async def test_silence_ends_a_stream(simulator, executor_on):
    """A stream on which nothing moves does not hold its place for ever."""
    async with executor_on(simulator) as executor:
        began = loop_time()
        with pytest.raises(StreamInterrupted) as told:
            async with executor.stream(prompt(), idle_timeout=20.0) as stream:
                await stream.get_final_message()
        assert told.value.kind is FailureKind.TIMEOUT
        assert 20.0 <= loop_time() - began < 40.0
        assert free(executor)


async def test_many_streams_with_many_faults(executor_on):
    """Not one truncated answer counts as success, no place is leaked, and buckets agree with the server's."""
    faults = Faults(stream_overloaded=0.05, stream_dropped=0.05, stream_cut=0.05)
    simulator = Simulator(FLOWING, faults=faults, clock=loop_time)
    limits = Limits(rpm=6_000, itpm=2_000_000, otpm=400_000)
    whole, broken = [], []
    async with executor_on(simulator, limits, max_concurrency=300) as executor:

        async def one(number):
            try:
                async with executor.stream(prompt(f"{number}")) as stream:
                    whole.append(await stream.get_final_message())
            except StreamInterrupted as error:
                broken.append(error)

        await asyncio.gather(*(one(number) for number in range(300)))
        assert free(executor)
        resources = executor.snapshot().pools["haiku-5.5"].resources
        for name, theirs in simulator.stats()["levels"]["haiku-5.5"].items():
            ours = resources[name.replace("_", " ")]
            assert abs(ours.level - theirs) <= 0.02 * ours.capacity
    assert len(whole) + len(broken) == 300
    assert 24 <= len(broken) <= 72
    assert all(message.stop_reason is not None for message in whole)
    assert simulator.verdict().truncated == len(broken)


@pytest.mark.simulator(FLOWING, faults=Faults(stream_cut=0.5))
async def test_long_answers_are_read_as_streams(simulator, executor_on):
    """Where the SDK refuses to wait in one piece; broken ones are tried again, for nobody has read them."""
    from anthropic.types import Message

    async with executor_on(simulator) as executor:
        messages = [await executor.submit(prompt(f"{n}", max_tokens=64_000)) for n in range(8)]
    assert all(type(message) is Message and message.stop_reason for message in messages)
    stats = simulator.stats()
    assert stats["by_status"]["200"] > 8
    assert simulator.verdict().clean


@pytest.mark.simulator(FLOWING)
async def test_a_stream_wants_an_open_executor_and_a_request(simulator, executor_on):
    """As `submit` does."""
    executor = executor_on(simulator)
    with pytest.raises(Closed):
        async with executor.stream(prompt()):
            pass
    async with executor:
        with pytest.raises(TypeError, match="a request must be a mapping"):
            async with executor.stream("Hello"):
                pass


@pytest.mark.simulator(FLOWING, faults=Faults(error_500=1.0))
async def test_attempts_of_a_stream_are_the_policys(simulator, executor_on):
    """Not the SDK's times ours."""
    async with executor_on(simulator) as executor:
        with pytest.raises(Failed) as told:
            async with executor.stream(prompt()):
                pass
    assert told.value.attempts == simulator.stats()["by_status"]["500"]


@pytest.mark.simulator(FLOWING)
async def test_a_stream_that_was_left_early_gave_a_message_as_if_it_were_whole(simulator, executor_on):
    """Whoever asks afterwards is told, each time, and given what had come; nothing is counted twice."""
    async with executor_on(simulator) as executor:
        async with executor.stream(prompt()) as stream:
            async for _ in stream.text_stream:
                break
        spent = executor.snapshot()
        for ask in (stream.get_final_message, stream.get_final_text, stream.until_done):
            with pytest.raises(StreamInterrupted, match="left before the response was complete") as told:
                await ask()
            assert told.value.message is not None
            assert told.value.message.stop_reason is None
            assert told.value.usage is not None
        assert executor.snapshot().pools["haiku-5.5"].resources == spent.pools["haiku-5.5"].resources
        assert free(executor)


@pytest.mark.parametrize("leave", [True, False])
async def test_an_unfinished_stream_told_of_one_attempt_always(executor_on, leave):
    """Left early or broken off: it tells how many it took to get it."""
    schedule = [(1.0, Faults(stream_cut=1.0))]
    simulator = Simulator(FLOWING, faults=Faults(error_500=1.0), schedule=schedule, clock=loop_time)
    async with executor_on(simulator, random=lambda: 0.5) as executor:

        async def ask():
            async with executor.stream(prompt()) as stream:
                async for _ in stream:
                    if leave:
                        break
            await stream.get_final_message()

        with pytest.raises(StreamInterrupted, match="left" if leave else "broke off") as told:
            await ask()
        assert told.value.attempts == executor.snapshot().attempts > 1


@pytest.mark.simulator(FLOWING)
async def test_leaving_the_executor_waits_for_open_streams(simulator, executor_on):
    """Until their blocks have been left, however slowly they are read."""

    async def read_slowly(executor, begun):
        async with executor.stream(prompt()) as stream:
            begun.set()
            await asyncio.sleep(100.0)
            return await stream.get_final_message()

    async with executor_on(simulator) as executor:
        begun = asyncio.Event()
        reading = asyncio.create_task(read_slowly(executor, begun))
        await begun.wait()
        began = loop_time()
    assert loop_time() - began >= 100.0
    assert (await reading).stop_reason is not None


@pytest.mark.simulator(FLOWING)
async def test_a_reader_beside_the_block_saw_a_clean_end(simulator, executor_on):
    """A task that still reads when the block is left is told that the rest is missing."""
    async with executor_on(simulator) as executor:
        begun = asyncio.Event()

        async def read(stream):
            async for _ in stream.text_stream:
                begun.set()

        async with executor.stream(prompt()) as stream:
            reader = asyncio.create_task(read(stream))
            await begun.wait()
        with pytest.raises(StreamInterrupted):
            await reader
        assert free(executor)


@pytest.mark.simulator(FLOWING)
async def test_a_whole_answer_can_still_be_had_after_the_block(simulator, executor_on):
    """Also where the reader stopped at the last event, without waiting for what comes behind it."""
    async with executor_on(simulator) as executor:
        async with executor.stream(prompt()) as stream:
            async for event in stream:
                if event.type == "message_stop":
                    break
        message = await stream.get_final_message()
    assert message.stop_reason is not None


@pytest.mark.simulator(FLOWING, faults=Faults(stream_cut=1.0))
async def test_an_answer_that_was_broken_off_was_whole_when_asked_again(simulator, executor_on):
    """The second question gets the same answer as the first."""
    async with executor_on(simulator) as executor, executor.stream(prompt()) as stream:
        for _ in range(2):
            with pytest.raises(StreamInterrupted) as told:
                await stream.get_final_message()
            assert told.value.kind is FailureKind.TRUNCATED


async def test_a_beginning_without_usage_was_an_attribute_error():
    """It is a garbled answer like any other, and its connection is closed."""
    start = (
        "event: message_start\n"
        'data: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
        '"model":"x","content":[],"stop_reason":null}}\n\n'
    )
    answers = []

    def answer(_):
        answers.append(httpx2.Response(200, content=start, headers={"content-type": "text/event-stream"}))
        return answers[-1]

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    async with anthropic.AsyncAnthropic(api_key="k", http_client=http) as client:
        opened = await Transport(client, timeout=5.0).open(prompt(), idle_timeout=5.0)
    assert isinstance(opened, FailedAttempt)
    assert opened.failure.kind is FailureKind.GARBLED
    assert answers[0].is_closed


async def test_the_timeout_of_a_request_was_overwritten_where_its_answer_is_long(executor_on):
    """It bounds the whole of an answer, and the silence of a stream."""
    slow = Settings(latency=Latency(0.5, 100.0), output_tokens=Lengths(3_000, 0.0))
    simulator = Simulator(slow, clock=loop_time)
    async with executor_on(simulator, retry=RetryPolicy(max_attempts=1)) as executor:
        began = loop_time()
        with pytest.raises(Failed) as told:
            await executor.submit(prompt(max_tokens=64_000, timeout=5.0))
        assert told.value.kind is FailureKind.TIMEOUT
        assert loop_time() - began == pytest.approx(5.0, abs=0.1)
        assert free(executor)
        assert (await executor.submit(prompt(max_tokens=64_000, timeout=900.0))).stop_reason

        simulator.set_faults(Faults(stream_stalled=1.0))
        began = loop_time()
        with pytest.raises(StreamInterrupted):
            async with executor.stream(prompt(timeout=5.0)) as stream:
                await stream.get_final_message()
        assert loop_time() - began < 40.0
