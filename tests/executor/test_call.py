"""Somebody's own coroutine functions under the executor: `call`, `limited`, `session`."""

import asyncio
import inspect
from functools import partial
from types import SimpleNamespace

import aiohttp
import anthropic
import httpx2
import pytest

from claude_executor import (
    Closed,
    DeadlineExceeded,
    Estimate,
    Failed,
    Kind,
    Limits,
    Rejected,
    RetryPolicy,
    Terms,
)
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import loop_time, simulated_client

QUICK = Settings(
    rates=Rates(rpm=6_000, itpm=2_000_000, otpm=400_000),
    latency=Latency(0.5, 100.0, 0.1),
    output_tokens=Lengths(40, 0.3),
)
MODEL = "claude-haiku-5-5"
ABOUT = Estimate.about(MODEL, input_tokens=100, output_tokens=10)


def request(text="Hello", **more):
    return {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": text}], **more}


@pytest.mark.simulator(QUICK, faults=Faults(overloaded=0.3))
async def test_a_call_of_the_sdk_is_paced_and_tried_again(simulator, executor_on):
    """Its arguments are the request; what it took is read from the message."""
    client = simulated_client(simulator)
    async with executor_on(simulator, Limits(otpm=400_000)) as executor:
        messages = await asyncio.gather(
            *(executor.call(client.messages.create, **request(f"{n}")) for n in range(40))
        )
        used = executor.snapshot().pools["haiku-5.5"].resources["output tokens"].used_in_all
    assert used == sum(message.usage.output_tokens for message in messages)
    assert simulator.stats()["by_status"]["529"] > 0
    assert simulator.verdict().clean


@pytest.mark.simulator(QUICK, faults=Faults(error_500=1.0))
@pytest.mark.parametrize("door", ["submit", "call", "limited", "session"])
async def test_attempts_are_the_policys_and_not_its_square(simulator, executor_on, door):
    """For every way in."""
    client = simulated_client(simulator)
    async with executor_on(simulator, retry=RetryPolicy(max_attempts=3)) as executor:

        @executor.limited()
        async def ask(params):
            return await client.messages.create(**params)

        doors = {
            "submit": lambda: executor.submit(request()),
            "call": lambda: executor.call(client.messages.create, **request()),
            "limited": lambda: ask(request()),
            "session": lambda: executor.session().submit(request()),
        }
        with pytest.raises(Failed) as told:
            await doors[door]()
    assert told.value.kind is Kind.SERVER
    assert told.value.attempts == 3
    assert simulator.stats()["by_status"] == {"500": 3}


@pytest.mark.simulator(QUICK)
async def test_a_mistake_in_the_function_comes_through(simulator, executor_on):
    """It is called once, its own exception is raised, and nothing stays held."""
    calls = []

    async def buggy():
        calls.append(1)
        raise KeyError("no such thing")

    async with executor_on(simulator) as executor:
        with pytest.raises(KeyError, match="no such thing"):
            await executor.call(buggy, cost=Estimate.about(MODEL, input_tokens=100, output_tokens=10))
        assert executor.snapshot().running == 0
    assert len(calls) == 1


@pytest.mark.simulator(QUICK)
async def test_what_a_call_takes_must_be_known(simulator, executor_on):
    """From its arguments, an estimate, a request, or a function of the arguments."""

    async def summary(text):
        return text.upper()

    about = Estimate.about(MODEL, input_tokens=2_000, output_tokens=300)
    async with executor_on(simulator) as executor:
        with pytest.raises(ValueError, match="give it as cost="):
            await executor.call(summary, "a")
        assert await executor.call(summary, "a", cost=about) == "A"
        assert await executor.call(summary, "a", cost=request("a")) == "A"
        assert await executor.call(summary, "a", cost=request) == "A"
        assert executor.snapshot().answered == 3


@pytest.mark.parametrize("wrong", [("", 1, 1), (MODEL, 0, 1), (MODEL, 1, -1)])
def test_an_estimate_is_of_a_model_and_positive(wrong):
    """Nothing else can be paced."""
    model, inputs, outputs = wrong
    with pytest.raises(ValueError, match="an estimate needs a model and positive numbers"):
        Estimate.about(model, input_tokens=inputs, output_tokens=outputs)


@pytest.mark.simulator(QUICK)
async def test_the_estimate_stands_where_nothing_tells_what_it_took(simulator, executor_on):
    """A function that returns text has taken what was said."""
    async with executor_on(simulator, Limits(itpm=60_000)) as executor:

        @executor.limited(Estimate.about(MODEL, input_tokens=6_000, output_tokens=300))
        async def summary(text: str) -> str:
            """Shorten."""
            return text[:3]

        assert await summary("abcdef") == "abc"
        assert executor.snapshot().pools["haiku-5.5"].resources["input tokens"].used_in_all == 6_000
    assert summary.__name__ == "summary"
    assert summary.__doc__ == "Shorten."
    assert list(inspect.signature(summary).parameters) == ["text"]
    assert inspect.iscoroutinefunction(summary)


@pytest.mark.simulator(QUICK)
async def test_calls_and_requests_share_one_limit(simulator, executor_on):
    """Two hundred of each, at ten a second."""
    client = simulated_client(simulator)
    async with executor_on(simulator, Limits(rpm=600, burst=1.0)) as executor:
        began = loop_time()
        await asyncio.gather(
            *(executor.call(client.messages.create, **request(f"call {n}")) for n in range(100)),
            *(executor.submit(request(f"submit {n}")) for n in range(100)),
        )
        assert loop_time() - began >= 19.0
    assert simulator.verdict().clean


async def test_a_session_has_one_deadline_for_all_its_calls(executor_on):
    """What is left of it gets shorter."""
    simulator = Simulator(QUICK, clock=loop_time)
    async with executor_on(simulator, Limits(rpm=60, burst=1.0)) as executor:
        agent = executor.session(tenant="agent", priority=2, deadline=5.0)

        async def work():
            for number in range(60):
                await agent.submit(request(f"{number}"))

        with pytest.raises(DeadlineExceeded):
            await work()
        assert 2 <= executor.snapshot().answered <= 8
        assert agent.terms.deadline < 4.0
        late = [result.error async for result in agent.map([request("late")] * 3)]
        assert all(isinstance(error, DeadlineExceeded) for error in late)
        with pytest.raises(Rejected):
            await agent.call(agent.submit, cost=request("late"))
        assert await executor.submit(request("another"))


@pytest.mark.simulator(QUICK)
async def test_a_session_gives_its_terms_to_every_door(simulator, executor_on):
    """Submit, stream, map, call and limited."""
    events = []
    async with executor_on(simulator, on_event=events.append) as executor:
        user = executor.session(tenant="user 7", priority=3)

        @user.limited()
        async def ask(params):
            return await simulated_client(simulator).messages.create(**params)

        await user.submit(request("a"))
        async with user.stream(request("b")) as stream:
            await stream.get_final_message()
        assert [result.index async for result in user.map([request("c")])] == [0]
        await user.call(simulated_client(simulator).messages.create, **request("d"))
        await ask(request("e"))
    assert {event.tenant for event in events if hasattr(event, "tenant")} == {"user 7"}
    assert executor.snapshot().answered == 5
    assert user.terms == Terms(3, "user 7", None)


async def test_calls_need_an_open_executor(executor_on):
    """As requests do."""
    executor = executor_on(Simulator(QUICK, clock=loop_time))
    with pytest.raises(Closed):
        await executor.call(asyncio.sleep, 0, cost=request())


OWN = [
    FileNotFoundError("/no/such/file"),
    ConnectionRefusedError("my database"),
    TimeoutError("my own"),
    ValueError("my database knows no authentication method 'md5'"),
    TypeError("Could not resolve authentication method."),
]


@pytest.mark.simulator(QUICK)
@pytest.mark.parametrize("error", OWN, ids=lambda error: type(error).__name__)
async def test_a_missing_file_of_the_functions_was_taken_for_a_broken_network(simulator, executor_on, error):
    """What is not the SDK's or an HTTP library's comes through as it is, once, and stops nobody else."""
    calls = []

    async def own():
        calls.append(1)
        raise error

    async with executor_on(simulator) as executor:
        told = await asyncio.gather(
            *(executor.call(own, cost=ABOUT) for _ in range(30)), return_exceptions=True
        )
        assert all(each is error for each in told)
        assert len(calls) == 30
        began = loop_time()
        await executor.submit(request())
        assert loop_time() - began < 10.0


NETWORK = [
    httpx2.ReadError("reset"),
    aiohttp.ServerDisconnectedError(),
    anthropic.APIConnectionError(request=httpx2.Request("POST", "http://x")),
]


@pytest.mark.simulator(QUICK)
@pytest.mark.parametrize("error", NETWORK, ids=lambda error: type(error).__name__)
async def test_what_the_http_libraries_raise_is_a_failed_attempt(simulator, executor_on, error):
    """It ends as `Failed`, with the exception as its cause."""

    async def own():
        raise error

    async with executor_on(simulator, retry=RetryPolicy(max_attempts=2)) as executor:
        with pytest.raises(Failed) as told:
            await executor.call(own, cost=ABOUT)
    assert told.value.__cause__ is error


@pytest.mark.simulator(QUICK)
async def test_an_answer_with_two_counts_was_an_attribute_error(simulator, executor_on):
    """Input and output are enough; an answer that was paid for is not thrown away."""
    answer = SimpleNamespace(usage=SimpleNamespace(input_tokens=7, output_tokens=2))

    async def own():
        return answer

    async with executor_on(simulator, Limits(itpm=60_000)) as executor:
        assert await executor.call(own, cost=ABOUT) is answer
        assert executor.snapshot().pools["haiku-5.5"].resources["input tokens"].used_in_all == 7


SECRET = "The patient John Smith of 12 Elm Street"


@pytest.mark.simulator(QUICK)
async def test_a_prompt_was_in_the_error_of_a_call(simulator, executor_on):
    """Where the request is known, what it says is left out; where it is not, all of the API's words are."""
    events = []

    async def refuse(*_, **__):
        said = f"messages.0: not allowed: {SECRET}"
        body = {"type": "error", "error": {"type": "invalid_request_error", "message": said}}
        sent = httpx2.Request("POST", "http://x")
        response = httpx2.Response(400, json=body, request=sent, headers={"request-id": "req_1"})
        raise anthropic.BadRequestError("bad", response=response, body=body)

    params = request(SECRET)
    async with executor_on(simulator, on_event=events.append) as executor:
        limited = executor.limited()(refuse)
        known = [
            lambda: executor.call(refuse, **params),
            lambda: executor.call(refuse, "x", params),
            lambda: executor.call(partial(refuse, params), cost=ABOUT),
            lambda: limited(params),
        ]
        for door in known:
            with pytest.raises(Failed, match=r"req_1\): messages\.0: not allowed: …") as told:
                await door()
            assert SECRET not in str(told.value)
        with pytest.raises(Failed, match=r"\(HTTP 400, req_1\): invalid_request_error$"):
            await executor.call(refuse, cost=ABOUT)
    assert events
    assert not any("Smith" in repr(event) for event in events)
