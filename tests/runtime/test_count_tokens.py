"""Counting tokens through the middleware: a limit of its own, and one owner of retries."""

import asyncio

import anthropic
import httpx2
import pytest
from anthropic.types import MessageTokensCount

from claude_executor import (
    Closed,
    DeadlineExceeded,
    Estimate,
    Executor,
    Failed,
    Limits,
    RequestOptions,
    RetryPolicy,
)
from claude_executor.simulator import Latency, Settings, Simulator
from claude_executor.testing import loop_time, simulated_client
from claude_executor.testing.transport import SimulatorTransport

MODEL = "claude-haiku-5-5"
STRICT = Settings(count_tokens_rpm=5_000, burst=1.0, latency=Latency(0.1))


def body(text="Hello"):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]}


def create(client, text="Hello"):
    return client.messages.count_tokens(**body(text))


def create_beta(client, text="Hello"):
    return client.beta.messages.count_tokens(**body(text))


async def create_raw(client, text="Hello"):
    return await (await client.messages.with_raw_response.count_tokens(**body(text))).parse()


DOORS = [create, create_beta, create_raw]


@pytest.fixture
def pair(executor_on):
    """An executor, a client with its middleware that would retry by itself, and what it was answered."""

    def make(simulator, limits=None, **options):
        executor, answered = executor_on(simulator, limits, **options), []

        async def note(response):
            answered.append(response.status_code)

        http_client = httpx2.AsyncClient(
            transport=SimulatorTransport(simulator), event_hooks={"response": [note]}
        )
        middleware = [executor.middleware()]
        client = simulated_client(simulator, max_retries=2, middleware=middleware, http_client=http_client)
        return executor, client, answered

    return make


@pytest.fixture
def answering():
    """An executor, and a client with its middleware, whose answers are made by a function."""
    requests = []

    def make(answer, **options):
        def handle(request):
            requests.append((loop_time(), request))
            return answer(len(requests))

        executor = Executor(clock=loop_time, **options)
        client = anthropic.AsyncAnthropic(
            api_key="k",
            max_retries=2,
            http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(handle)),
            middleware=[executor.middleware()],
        )
        executor._engine.client._client = client
        return executor, client, requests

    return make


def error(status, **headers):
    said = {"type": "error", "error": {"type": "api_error", "message": "no"}}
    return httpx2.Response(status, json=said, headers=headers)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.simulator(STRICT)
async def test_counting_is_paced_by_its_own_limit(simulator, pair, door):
    """A crowd at once, at five thousand a minute: none is refused, and messages are not held up."""
    executor, client, answered = pair(simulator, Limits(rpm=60, burst=1.0))
    async with executor:
        began = loop_time()
        counts = [asyncio.create_task(door(client, f"{n}")) for n in range(250)]
        await executor.submit({**body(), "max_tokens": 9})
        assert loop_time() - began < 1.0
        done = await asyncio.gather(*counts)
        took = loop_time() - began
        assert executor.snapshot().attempts == 1
    assert all(one.input_tokens > 0 for one in done)
    least = (250 - 5_000 / 60) / (5_000 / 60)
    assert least / took >= 0.95
    assert answered == [200] * 250


@pytest.mark.parametrize(
    ("limits", "per_minute"),
    [
        (None, 5_000),
        (Limits(rpm=10), 5_000),
        (Limits.tier("build"), 10_000),
        (Limits.tier("scale"), 20_000),
        ({"count_tokens": Limits(rpm=60)}, 60),
    ],
)
async def test_its_limit_is_the_tiers(pair, limits, per_minute):
    """Or what is declared; `reconfigure` changes it."""
    simulator = Simulator(Settings(count_tokens_rpm=per_minute, burst=1.0), clock=loop_time)
    executor, client, answered = pair(simulator, limits)
    async with executor:
        began = loop_time()
        await asyncio.gather(*(create(client, f"{n}") for n in range(2 * per_minute // 60)))
        assert loop_time() - began == pytest.approx(1.0, rel=0.1)
        await asyncio.sleep(2.0)
        executor.reconfigure({"count_tokens": Limits(rpm=30)})
        began = loop_time()
        await asyncio.gather(*(create(client, f"{n}") for n in range(2)))
        assert loop_time() - began == pytest.approx(2.0)
    assert set(answered) == {200}


@pytest.mark.simulator(Settings(count_tokens_rpm=600, burst=1.0))
async def test_a_limit_lower_than_thought_is_obeyed(simulator, pair):
    """All are answered; a 429 holds up all of them for as long as it says, and none is a failed attempt."""
    executor, client, answered = pair(simulator, retry=RetryPolicy(max_attempts=1))
    async with executor:
        done = await asyncio.gather(*(create(client, f"{n}") for n in range(100)))
    assert all(isinstance(one, MessageTokensCount) for one in done)
    assert answered.count(200) == 100
    assert answered.count(429) > 0


async def test_a_429_holds_up_all_of_them(answering):
    """Nobody asks before it is over, and they do not come all at once."""
    executor, client, requests = answering(
        lambda n: (
            error(429, **{"retry-after": "7"}) if n == 1 else httpx2.Response(200, json={"input_tokens": 3})
        )
    )
    async with executor:
        began = loop_time()
        counts = [asyncio.create_task(create(client)) for _ in range(3)]
        await asyncio.sleep(1.0)
        counts += [asyncio.create_task(create(client)) for _ in range(3)]
        await asyncio.gather(*counts)
    late = [at - began for at, _ in requests if at - began > 0.5]
    assert len(late) >= 4
    assert min(late) >= 7.0


@pytest.mark.parametrize("door", DOORS)
async def test_attempts_are_the_policys(answering, door):
    """Not the SDK's three times ours; and what is raised is the SDK's own."""
    executor, client, requests = answering(lambda n: error(500), retry=RetryPolicy(max_attempts=4))
    async with executor:
        for _ in range(2):  # the end of one call is not that of the next
            with pytest.raises(anthropic.InternalServerError):
                await door(client)
    assert len(requests) == 8
    numbers = [request.headers["x-stainless-retry-count"] for _, request in requests]
    assert numbers == ["0", "1", "2", "3"] * 2


@pytest.mark.parametrize("door", DOORS)
async def test_without_an_answer_attempts_are_the_policys(answering, door):
    """The SDK waits as if it tried again, but does not."""

    def lost(n):
        raise httpx2.ReadError("reset")

    executor, client, requests = answering(lost, retry=RetryPolicy(max_attempts=3))
    async with executor:
        with pytest.raises(anthropic.APIConnectionError):
            await door(client)
    assert len(requests) == 3


async def test_what_cannot_succeed_is_asked_once(answering):
    """A bad request; an API that says not to; and an answer that is none is asked again."""
    answers = {
        1: error(400),
        2: error(500, **{"x-should-retry": "false"}),
        3: httpx2.Response(200, json={"nothing": 0}),
        4: httpx2.Response(200, json={"input_tokens": 3}),
    }
    executor, client, requests = answering(answers.get)
    async with executor:
        with pytest.raises(anthropic.BadRequestError):
            await create(client)
        with pytest.raises(anthropic.InternalServerError):
            await create(client)
        assert (await create(client)).input_tokens == 3
    assert len(requests) == 4


async def test_within_a_call_it_is_paced_but_tried_again_with_the_call(answering):
    """One owner of retries: three attempts, not nine."""
    executor, client, requests = answering(lambda n: error(500), retry=RetryPolicy(max_attempts=3))
    about = Estimate.about(MODEL, input_tokens=100, output_tokens=10)
    async with executor:
        with pytest.raises(Failed) as told:
            await executor.call(create, client, cost=about)
    assert told.value.attempts == len(requests) == 3


async def test_a_deadline_ends_the_waiting(answering):
    """Of the terms that the middleware was made with."""
    executor, client, requests = answering(lambda n: error(429, **{"retry-after": "60"}))
    hurried = client.with_options(middleware=[executor.middleware(RequestOptions(deadline=30.0))])
    async with executor:
        with pytest.raises(anthropic.RateLimitError):
            await create(hurried)
    assert len(requests) == 1


async def test_a_closed_executor_counts_nothing(answering):
    """Neither before it is entered nor after; what waits to be tried again is told why it failed."""
    executor, client, requests = answering(lambda n: error(500), retry=RetryPolicy(base=60.0, cap=60.0))
    with pytest.raises(Closed, match="not open"):
        await create(client)
    async with executor:
        waiting = asyncio.create_task(create(client))
        await asyncio.sleep(0.01)
    with pytest.raises(anthropic.InternalServerError):
        await waiting
    with pytest.raises(Closed):
        await create(client)
    assert len(requests) == 1


async def test_a_deadline_did_not_end_the_wait_of_a_count_that_was_never_sent(answering):
    """Neither in line nor while somebody else's 429 holds all of them up."""
    limits = {"count_tokens": Limits(rpm=60), "*": Limits()}
    said = {1: error(429, **{"retry-after": "60"})}
    good = httpx2.Response(200, json={"input_tokens": 3})
    executor, client, requests = answering(lambda n: said.get(n, good), limits=limits)
    hurried = client.with_options(middleware=[executor.middleware(RequestOptions(deadline=5.0))])
    late = client.with_options(middleware=[executor.middleware(RequestOptions(deadline=0.0))])
    async with executor:
        began = loop_time()
        first = asyncio.create_task(create(client))
        await asyncio.sleep(0.1)
        with pytest.raises(DeadlineExceeded):
            await create(hurried)
        assert loop_time() - began < 5.5
        await first
        began = loop_time()
        done = await asyncio.gather(*(create(hurried) for _ in range(20)), return_exceptions=True)
        assert loop_time() - began < 5.5
        assert {type(one) for one in done} == {MessageTokensCount, DeadlineExceeded}
        sent = len(requests)
        with pytest.raises(DeadlineExceeded):
            await create(late)
        assert len(requests) == sent < 12
