"""Messages and counted tokens through the gateway: what the API says, at the pace of its limits."""

import asyncio
import json

import anthropic
import pytest
from tests.gateway.gateway_harness import FLOWING, prompt

from claude_executor import Limits, RetryPolicy
from claude_executor.simulator import Faults, Latency, Rates, Settings
from claude_executor.testing import loop_time


async def create(client, text="Hello"):
    return await client.messages.create(**prompt(text))


async def create_beta(client, text="Hello"):
    return await client.beta.messages.create(**prompt(text), betas=["one-2026-01-01", "two-2026-01-01"])


async def create_stream(client, text="Hello"):
    events = [event async for event in await client.messages.create(**prompt(text, stream=True))]
    assert events[-1].type == "message_stop"
    return events[0].message


async def stream(client, text="Hello"):
    async with client.messages.stream(**prompt(text)) as stream:
        return await stream.get_final_message()


DOORS = [create, create_beta, create_stream, stream]


def of_the_body(headers):
    """Without those that say how many bytes there are, which a gateway may pack otherwise."""
    return {name: value for name, value in headers.items() if name not in ("content-length", "connection")}


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_answer_is_the_apis_byte_for_byte(serve, streamed):
    """Its body and all of its headers, and how many attempts it took."""
    async with serve() as served:
        answer = await served.ask(prompt(stream=streamed)).end()
        said = served.api.last
    assert answer.status == said.status == 200
    assert answer.body == b"".join(said.pieces)
    data = of_the_body(answer.headers)
    assert data.pop("x-claude-executor-attempts") == ["1"]
    assert data == of_the_body(said.headers)
    assert "anthropic-ratelimit-requests-remaining" in data
    assert answer.headers.get("content-length") == (None if streamed else [str(len(answer.body))])


async def test_a_stream_comes_as_it_is_written(serve):
    """Each piece at the moment at which the API has it, not all of them at the end."""
    async with serve() as served:
        answer = await served.ask(prompt(stream=True)).end()
        said = served.api.last
    assert answer.pieces == said.pieces
    assert answer.at == said.at
    assert len(set(answer.at)) > 5


@pytest.mark.parametrize("door", DOORS)
async def test_the_sdk_for_python_gets_what_it_gets_of_the_api(serve, door):
    """It knows of the gateway by its address alone."""
    async with serve() as served:
        message = await door(served.sdk())
        assert served.executor.snapshot().attempts == 1
        assert served.free
    assert message.id.startswith("msg_")
    assert json.loads(served.api.last.body)["messages"] == prompt()["messages"]
    beta = ["one-2026-01-01,two-2026-01-01"] if door is create_beta else []
    assert served.api.last.header("anthropic-beta") == beta


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("faults", "error", "status", "attempts"),
    [
        (Faults(error_500=1.0), anthropic.InternalServerError, 500, 4),
        (Faults(overloaded=1.0), anthropic.InternalServerError, 529, None),
        (Faults(error_502_html=1.0), anthropic.InternalServerError, 502, 4),
        (Faults(rate_limited_plain=1.0), anthropic.RateLimitError, 429, None),
        (Faults(reset=1.0), anthropic.InternalServerError, 502, 4),
        (Faults(invalid_key=True), anthropic.AuthenticationError, 401, 1),
        (Faults(billing_402=True), anthropic.APIStatusError, 402, 1),
        (Faults(permission_403=True), anthropic.PermissionDeniedError, 403, 1),
        (Faults(spend_cap=True), anthropic.RateLimitError, 429, 1),
        (Faults(credit_400=True), anthropic.BadRequestError, 400, 1),
    ],
)
async def test_a_failure_is_the_sdks_own_and_final(serve, door, faults, error, status, attempts):
    """The policy has tried often enough: the client's own retries, which are on, add no request."""
    async with serve(faults=faults, retry=RetryPolicy(max_attempts=4)) as served:
        with pytest.raises(error) as raised:
            await door(served.sdk())
        sent = served.executor.snapshot().attempts
        assert served.free
    assert sent == len(served.api.exchanges)
    assert sent > 4 if attempts is None else sent == attempts
    assert raised.value.status_code == status
    assert raised.value.response.headers["x-should-retry"] == "false"
    if not faults.reset:  # of which nothing came that could be passed on
        assert raised.value.response.content == b"".join(served.api.last.pieces)
        assert raised.value.response.headers["x-claude-executor-attempts"] == str(sent)


async def test_a_hundred_at_once_wait_for_their_turns(serve):
    """The limit is sixty a minute, of which one in a second: all are answered and none is refused."""
    limits = Rates(rpm=60, itpm=2_000_000, otpm=400_000)
    settings = Settings.strict(limits)
    async with serve(settings, Limits(rpm=60, burst=1.0)) as served:
        client, began = served.sdk(), loop_time()
        doors = [create, create_stream]
        messages = await asyncio.gather(*(doors[n % 2](client, f"{n}") for n in range(100)))
        took = loop_time() - began
    assert len({message.id for message in messages}) == 100
    assert served.simulator.stats()["by_status"] == {"200": 100}
    assert served.simulator.verdict().clean
    assert 98.0 <= took <= 115.0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("fault", ["error_500", "overloaded", "rate_limited_plain", "reset"])
async def test_what_passes_is_tried_again_within(serve, fault, streamed):
    """The client sees a 200, and how many attempts it took."""
    async with serve(faults=Faults(**{fault: 0.5})) as served:
        answers = [await served.ask(prompt(f"{n}", stream=streamed)).end() for n in range(12)]
        sent = served.simulator.stats()["requests"]
    assert [answer.status for answer in answers] == [200] * 12
    attempts = [int(answer.headers["x-claude-executor-attempts"][0]) for answer in answers]
    assert sum(attempts) == sent > 12


async def test_a_quota_refusal_is_waited_out(serve):
    """The executor was told of higher limits than there are; no 429 gets through, and no hint is undercut."""
    settings = Settings(rates=Rates(rpm=30, itpm=2_000_000, otpm=400_000), burst=10.0, headers=False)
    async with serve(settings, Limits(rpm=3_000)) as served:
        answers = await asyncio.gather(*(served.ask(prompt(f"{n}")).end() for n in range(40)))
    assert {answer.status for answer in answers} == {200}
    assert max(int(answer.headers["x-claude-executor-attempts"][0]) for answer in answers) > 1
    assert served.simulator.stats()["by_status"]["429"] > 0
    assert served.simulator.verdict().clean


async def test_counting_tokens_has_a_limit_of_its_own(serve):
    """Its own is kept, and messages do not wait for it."""
    settings = Settings(rates=FLOWING.rates, count_tokens_rpm=60)
    limits = {"count_tokens": Limits(rpm=60)}
    async with serve(settings, limits) as served:
        client, began = served.sdk(), loop_time()
        body = {name: value for name, value in prompt().items() if name != "max_tokens"}
        counting = [asyncio.create_task(client.messages.count_tokens(**body)) for _ in range(30)]
        await create(client)
        assert loop_time() - began < 1.0
        counts = await asyncio.gather(*counting)
        assert 28.0 <= loop_time() - began <= 31.0
    assert len({count.input_tokens for count in counts}) == 1
    assert counts[0].input_tokens > 0
    assert {one.status for one in served.api.exchanges} == {200}
    assert served.executor.snapshot().attempts == 1


async def test_priority_overtakes_and_tenants_share(serve):
    """As the headers say, of whoever waits."""
    latency = Settings(rates=FLOWING.rates, latency=Latency(1.0))
    async with serve(latency, max_concurrency=1) as served:
        done = []

        async def ask(name, **headers):
            named = {f"x-claude-executor-{key}": value for key, value in headers.items()}
            assert (await served.ask(prompt(name), headers=named).end()).status == 200
            done.append(name)

        tasks = [asyncio.create_task(ask(f"a{n}", tenant="a")) for n in range(4)]
        await asyncio.sleep(0.1)
        tasks += [
            asyncio.create_task(ask("b0", tenant="b")),
            asyncio.create_task(ask("late", priority="1")),
        ]
        await asyncio.gather(*tasks)
    assert done[:2] == ["a0", "late"]
    assert done.index("b0") < done.index("a3")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-claude-executor-deadline": "5"}, 504),
        ({"x-stainless-timeout": "5"}, 504),
        ({"x-stainless-timeout": "5", "x-claude-executor-deadline": "50"}, 200),
        ({"x-stainless-timeout": "NOT_GIVEN", "x-stainless-read-timeout": "5.0"}, 504),
        ({"x-stainless-timeout": "20", "x-stainless-read-timeout": "5.0"}, 200),
        ({"x-stainless-timeout": "None"}, 200),
        ({}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
async def test_who_would_give_up_before_its_turn_is_told_at_once(serve, headers, status, path):
    """The SDK's timeout is a deadline unless another is named; and it is not asked again."""
    limits = {"claude-haiku-5-5": Limits(rpm=6, burst=1.0), "count_tokens": Limits(rpm=6)}
    async with serve(FLOWING, limits) as served:
        first = await served.ask(prompt(), path).end()
        assert first.status == 200
        began = loop_time()
        answer = await served.ask(prompt("Again"), path, headers=headers).end()
        took = loop_time() - began
    assert answer.status == status
    if status == 504:
        assert answer.error == (504, "timeout_error", "false")
        assert took <= 5.0
        assert len(served.api.exchanges) == 1
    else:
        assert took > 5.0


async def test_an_answer_that_takes_long_is_given_the_time_its_client_has(serve):
    """Ten minutes at least, and longer if the client's SDK says that it waits longer."""
    settings = Settings(rates=FLOWING.rates, latency=Latency(900.0))
    async with serve(settings, retry=RetryPolicy(max_attempts=1)) as served:
        short, long = await asyncio.gather(
            served.ask(prompt("a"), headers={"x-stainless-timeout": "30"}).end(),
            served.ask(prompt("b"), headers={"x-stainless-timeout": "1200"}).end(),
        )
    assert short.error == (504, "timeout_error", "false")
    assert long.status == 200
