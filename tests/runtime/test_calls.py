"""Somebody's own coroutine functions under the executor: `call`, `limited`, `session`."""

import asyncio
import inspect
import json
from contextlib import suppress
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
    Executor,
    Failed,
    FailureKind,
    Limits,
    Rejected,
    RequestOptions,
    RetryPolicy,
    SpendingCap,
    StreamInterrupted,
)
from claude_executor.core.model.request import shape_of
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


def doors(executor, simulator):
    """Every way in that raises `Failed`, with the SDK's clients inside that retry by themselves."""
    client = simulated_client(simulator, max_retries=2)
    mine = simulated_client(simulator, max_retries=2, middleware=[executor.middleware()])
    session = executor.session()

    @executor.limited()
    async def limited(params):
        return await mine.messages.create(**params)

    async def streamed(door):
        async with door.stream(request()) as stream:
            return await stream.get_final_message()

    async def mapped(door):
        async for result in door.map([request()]):
            if result.error is not None:
                raise result.error

    async def long():
        return await executor.submit(request(max_tokens=64_000))

    async def sdk_stream():
        async with mine.messages.stream(**request()) as stream:
            return await stream.get_final_message()

    return {
        "submit": lambda: executor.submit(request()),
        "submit, as a stream": long,
        "map": lambda: mapped(executor),
        "stream": lambda: streamed(executor),
        "call, the SDK": lambda: executor.call(client.messages.create, **request()),
        "call, the SDK under beta": lambda: executor.call(client.beta.messages.create, **request()),
        "call, the middleware": lambda: executor.call(mine.messages.create, **request()),
        "call, a function": lambda: executor.call(lambda: mine.messages.create(**request()), cost=request()),
        "call, a stream": lambda: executor.call(sdk_stream, cost=request()),
        "limited": lambda: limited(request()),
        "submit in a call": lambda: executor.call(executor.submit, request()),
        "stream in a call": lambda: executor.call(streamed, executor, cost=request()),
        "call in a call": lambda: executor.call(
            lambda: executor.call(client.messages.create, **request()), cost=request()
        ),
        "limited in a call": lambda: executor.call(limited, request()),
        "session": lambda: session.submit(request()),
        "session, map": lambda: mapped(session),
        "session, stream": lambda: streamed(session),
        "session, call": lambda: session.call(client.messages.create, **request()),
        "session, limited": lambda: session.limited()(client.messages.create)(**request()),
    }


DOORS = sorted(doors(Executor(clock=loop_time), None))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("faults", "kind"),
    [(Faults(error_500=1.0), FailureKind.SERVER), (Faults(reset=1.0), FailureKind.DROPPED)],
)
async def test_attempts_are_the_policys_and_not_its_square(executor_on, door, faults, kind):
    """For every way in, where the API answers with an error and where it does not answer."""
    simulator = Simulator(QUICK, faults=faults, clock=loop_time)
    async with executor_on(simulator, retry=RetryPolicy(max_attempts=3)) as executor:
        with pytest.raises(Failed) as told:
            await doors(executor, simulator)[door]()
        assert executor.snapshot().running == 0
        assert executor.snapshot().attempts == 3
    assert told.value.kind is kind
    assert told.value.attempts == 3
    assert simulator.stats()["requests"] == 3


@pytest.mark.parametrize("door", [door for door in DOORS if "in a call" in door])
@pytest.mark.simulator(QUICK, faults=Faults(overloaded=0.3))
async def test_a_call_within_a_call_waited_for_itself(simulator, executor_on, door):
    """What is asked for in a call is sent in its place, and tried again with it."""
    async with executor_on(simulator, Limits(otpm=400_000), max_concurrency=1) as executor:
        for _ in range(10):
            async with asyncio.timeout(600):
                message = await doors(executor, simulator)[door]()
            assert message.stop_reason is not None
        snapshot = executor.snapshot()
    stats = simulator.stats()
    assert snapshot.answered == stats["by_status"]["200"] == 10
    assert snapshot.attempts == stats["requests"] > 10
    used = snapshot.pools["haiku-5.5"].resources["output tokens"].used_in_all
    assert used == stats["tokens"]["haiku-5.5"]["output"]
    assert simulator.verdict().findings.keys() <= {"duplicates"}  # it is the same request ten times


@pytest.mark.simulator(QUICK)
async def test_the_parts_of_a_call_take_turns_in_its_place(simulator, executor_on):
    """One place is one request in flight; and the call took what all of them took."""
    async with executor_on(simulator, Limits(otpm=400_000)) as executor:

        async def several():
            async with executor.stream(request("left")) as left:
                async for _ in left.text_stream:
                    break
            return await asyncio.gather(*(executor.submit(request(f"{n}")) for n in range(4)))

        calling = asyncio.create_task(executor.call(several, cost=ABOUT))
        most = 0
        while not calling.done():
            most = max(most, simulator.stats()["in_flight"])
            await asyncio.sleep(0.05)
        messages = await calling
        snapshot = executor.snapshot()
    assert most == 1
    used = snapshot.pools["haiku-5.5"].resources["output tokens"].used_in_all
    assert used > sum(message.usage.output_tokens for message in messages)
    assert snapshot.attempts == snapshot.answered == 1


@pytest.mark.simulator(QUICK)
async def test_a_map_within_a_call_is_refused(simulator, executor_on):
    """It says what to do; nothing is sent, and nothing stays held."""
    async with executor_on(simulator) as executor:

        async def rows():
            return [result async for result in executor.map([request()])]

        with pytest.raises(RuntimeError, match="take it out of there"):
            await executor.call(rows, cost=ABOUT)
        assert executor.snapshot().running == 0
    assert simulator.stats()["requests"] == 0


@pytest.mark.simulator(QUICK, faults=Faults(stream_cut=1.0))
async def test_a_stream_that_breaks_off_within_a_call_breaks_the_call(simulator, executor_on):
    """Unless its function makes do with what had come."""
    async with executor_on(simulator, retry=RetryPolicy(max_attempts=2)) as executor:

        async def whole():
            async with executor.stream(request()) as stream:
                return await stream.get_final_message()

        async def at_least_something():
            try:
                return await whole()
            except StreamInterrupted as error:
                return error.message

        with pytest.raises(Failed) as told:
            await executor.call(whole, cost=ABOUT)
        assert told.value.kind is FailureKind.TRUNCATED
        assert simulator.stats()["requests"] == 2
        assert (await executor.call(at_least_something, cost=ABOUT)).content
        assert simulator.stats()["requests"] == 3


@pytest.mark.simulator(QUICK, faults=Faults(error_500=1.0))
async def test_another_executor_in_a_call_is_its_own_owner(simulator, executor_on):
    """What it has given up is not begun again."""
    retry = RetryPolicy(max_attempts=3)
    async with executor_on(simulator, retry=retry) as outer, executor_on(simulator, retry=retry) as inner:
        with pytest.raises(Failed):
            await outer.call(inner.submit, request())
        mine = simulated_client(simulator, max_retries=2, middleware=[inner.middleware()])
        with pytest.raises(Failed):
            await outer.call(mine.messages.create, **request())
    assert simulator.stats()["requests"] == 6


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
        assert agent.options.deadline < 4.0
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
    assert user.options == RequestOptions(3, "user 7", None)


async def test_calls_need_an_open_executor(executor_on):
    """As requests do."""
    executor = executor_on(Simulator(QUICK, clock=loop_time))
    with pytest.raises(Closed):
        await executor.call(asyncio.sleep, 0, cost=request())


ELSEWHERE = httpx2.Request("GET", "http://x/v1/files/gone")
GONE = httpx2.Response(404, request=ELSEWHERE)
OWN = [
    FileNotFoundError("/no/such/file"),
    ConnectionRefusedError("my database"),
    TimeoutError("my own"),
    ValueError("my database knows no authentication method 'md5'"),
    TypeError("Could not resolve authentication method."),
    httpx2.ConnectError("somebody's website"),
    httpx2.ReadTimeout("somebody's website", request=httpx2.Request("GET", "http://x/messages")),
    aiohttp.ServerDisconnectedError(),
    anthropic.NotFoundError("gone", response=GONE, body=None),
    anthropic.APIConnectionError(request=ELSEWHERE),
]


@pytest.mark.simulator(QUICK)
@pytest.mark.parametrize("error", OWN, ids=lambda error: type(error).__name__)
async def test_a_missing_file_of_the_functions_was_taken_for_a_broken_network(simulator, executor_on, error):
    """What is not about a request that asked a model comes through as it is, once, and stops nobody else."""
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


ASKED = httpx2.Request("POST", "http://x/v1/messages?beta=true")
NETWORK = [
    httpx2.ReadError("reset", request=ASKED),
    anthropic.APITimeoutError(ASKED),
    anthropic.APIConnectionError(request=ASKED),
    anthropic.APIConnectionError(request=httpx2.Request("POST", "http://x/model/claude/invoke")),
    anthropic.APIConnectionError(request=httpx2.Request("POST", "http://x/models/claude:rawPredict")),
]


@pytest.mark.simulator(QUICK)
@pytest.mark.parametrize("error", NETWORK, ids=lambda error: type(error).__name__)
async def test_what_is_raised_of_a_request_for_a_message_is_a_failed_attempt(simulator, executor_on, error):
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
        sent = httpx2.Request("POST", "http://x/v1/messages")
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


def output_used(executor):
    return executor.snapshot().pools["haiku-5.5"].resources["output tokens"].used_in_all


def output_charged(simulator):
    return simulator.stats()["tokens"]["haiku-5.5"]["output"]


@pytest.mark.simulator(QUICK)
async def test_a_call_that_failed_gave_back_what_its_parts_had_taken(simulator, executor_on):
    """The part that is refused takes nothing; those before it were paid for."""
    faults = iter([Faults(), Faults(overloaded=1.0), Faults(), Faults()])

    async def pair():
        for text in ("a", "b"):
            simulator.set_faults(next(faults))
            await executor.submit(request(text))

    async with executor_on(simulator, Limits(otpm=400_000), spending_caps=[SpendingCap(1e6)]) as executor:
        await executor.call(pair, cost=ABOUT)
        assert executor.snapshot().attempts == 2
        assert simulator.stats()["by_status"]["200"] == 3
        assert output_used(executor) == output_charged(simulator)
        assert sum(executor._scheduler._executor_limits._spending.spent()) == sum(
            simulator.stats()["tokens"]["haiku-5.5"].values()
        )


@pytest.mark.simulator(QUICK)
async def test_a_call_that_ended_by_its_own_mistake_passed_a_spending_cap(simulator, executor_on):
    """Its parts may have taken more than was expected of all of it."""

    async def buggy():
        await executor.submit(request())
        raise KeyError

    async with executor_on(simulator, Limits(otpm=400_000)) as executor:
        with pytest.raises(KeyError):
            await executor.call(buggy, cost=Estimate.about(MODEL, input_tokens=1, output_tokens=1))
        assert output_used(executor) == output_charged(simulator) > 0


@pytest.mark.simulator(QUICK, faults=Faults(overloaded=1.0))
async def test_parts_outlived_their_call_and_went_out_unpaced(simulator, executor_on):
    """Those that have not begun are told; the one that is under way holds the call's place to its end."""
    begun = asyncio.get_running_loop().create_future()
    most = 0

    async def several():
        parts = [asyncio.ensure_future(executor.submit(request(f"{n}"))) for n in range(4)]
        if not begun.done():
            begun.set_result(parts)
        await asyncio.gather(*parts)

    async with executor_on(simulator, Limits(otpm=400_000), max_concurrency=1) as executor:
        calling = asyncio.create_task(executor.call(several, cost=ABOUT))
        first = await begun
        await asyncio.wait(first[:1])
        simulator.set_faults(Faults())
        while not calling.done():
            most = max(most, simulator.stats()["in_flight"])
            await asyncio.sleep(0.05)
        await calling
        assert [type(part.exception()) for part in first[2:]] == [Closed, Closed]
        assert output_used(executor) == output_charged(simulator)
    assert most == 1
    assert simulator.stats()["by_status"].get("200", 0) >= 4


@pytest.mark.simulator(QUICK)
async def test_a_part_left_under_way_was_not_counted(simulator, executor_on):
    """The call that has left it ends with it."""

    async def careless():
        tasks.append(asyncio.create_task(executor.submit(request())))
        await asyncio.sleep(0.1)

    tasks = []
    async with executor_on(simulator, Limits(otpm=400_000), max_concurrency=1) as executor:
        await executor.call(careless, cost=ABOUT)
        assert tasks[0].done()
        assert output_used(executor) == output_charged(simulator) > 0


@pytest.mark.simulator(QUICK)
async def test_an_estimate_of_output_was_thrown_away(simulator, executor_on):
    """It is reserved, and stands where nothing tells what the call took."""

    async def silent():
        await asyncio.sleep(1.0)

    async with executor_on(simulator, Limits(otpm=60_000)) as executor:
        about = Estimate.about(MODEL, input_tokens=10, output_tokens=5_000)
        await executor.call(silent, cost=about)
        assert output_used(executor) == 5_000


async def test_methods_of_other_platforms_were_tried_again_by_the_sdk_too():
    """Those of Microsoft Foundry are the SDK's as well, though they live elsewhere in it."""
    sent = []

    def answer(_):
        sent.append(1)
        return httpx2.Response(500, json={"type": "error", "error": {"type": "api_error", "message": "no"}})

    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    foundry = anthropic.AsyncAnthropicFoundry(
        api_key="k", resource="r", http_client=http_client, max_retries=2
    )
    own = anthropic.AsyncAnthropic(api_key="k", http_client=http_client)
    async with Executor(client=own, retry=RetryPolicy(max_attempts=3), clock=loop_time) as executor:
        for messages in (foundry.messages, foundry.beta.messages):
            with pytest.raises(Failed):
                await executor.call(messages.create, **request())
    assert len(sent) == 6


def parts(executor, simulator):
    """Functions of which only some of what they take is in what they return."""
    plain = simulated_client(simulator)
    mine = simulated_client(simulator, middleware=[executor.middleware()])

    async def one(text):
        return await executor.submit(request(text))

    async def two_calls():
        await executor.call(plain.messages.create, **request("a"))
        return await executor.call(plain.messages.create, **request("b"))

    async def call_of_a_submit():
        await executor.call(one, "a", cost=ABOUT)
        return await executor.call(one, "b", cost=ABOUT)

    async def middleware():
        first, _ = await asyncio.gather(*(mine.messages.create(**request(text)) for text in "ab"))
        return first

    async def middleware_streams():
        async with mine.messages.stream(**request("a")) as stream:
            await stream.get_final_message()
        async for _ in await mine.messages.create(**request("b"), stream=True):
            pass

    async def a_part_and_another():
        await one("a")
        return await plain.messages.create(**request("b"))

    async def a_stream_and_another():
        async with executor.stream(request("a")) as stream:
            await stream.get_final_message()
        return await plain.messages.create(**request("b"))

    async def a_stream_that_is_returned():
        await one("a")
        async with executor.stream(request("b")) as stream:
            return await stream.get_final_message()

    async def an_account_of_its_own():
        message = await one("a")
        return SimpleNamespace(usage=message.usage)

    async def an_account_in_a_call():
        await executor.call(an_account_of_its_own, cost=ABOUT)
        return await one("b")

    own = (two_calls, call_of_a_submit, middleware, middleware_streams, a_part_and_another)
    streams = (a_stream_and_another, a_stream_that_is_returned, an_account_of_its_own, an_account_in_a_call)
    return {fn.__name__: fn for fn in (*own, *streams)}


@pytest.mark.simulator(QUICK)
@pytest.mark.parametrize("which", parts(Executor(clock=loop_time), None))
async def test_some_of_what_a_call_took_was_not_counted(simulator, executor_on, which):
    """Every part and what is returned count, each once."""
    async with executor_on(simulator, Limits(otpm=400_000)) as executor:
        await executor.call(parts(executor, simulator)[which], cost=ABOUT)
        assert output_used(executor) == output_charged(simulator) > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_synchronous_client_took_in_a_call_was_not_counted(stream):
    """Its middleware is in another thread; the call is here."""
    usage = {"input_tokens": 7, "output_tokens": 700}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": MODEL}
    message |= {"stop_reason": "end_turn", "usage": usage}
    events = [{"type": "message_start", "message": message}, {"type": "message_stop"}]
    lines = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events)

    def answer(_):
        if stream:
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=lines)
        return httpx2.Response(200, json=message)

    own = anthropic.AsyncAnthropic(api_key="k")
    async with Executor(Limits(otpm=400_000), client=own, clock=loop_time) as executor:
        http_client = httpx2.Client(transport=httpx2.MockTransport(answer))
        middleware = [executor.middleware()]
        client = anthropic.Anthropic(api_key="k", http_client=http_client, middleware=middleware)

        def ask():
            came = client.messages.create(**request(), stream=stream)
            return len(list(came)) if stream else None

        assert await executor.call(asyncio.to_thread, ask, cost=ABOUT) == (2 if stream else None)
        assert output_used(executor) == 700


@pytest.mark.simulator(QUICK, faults=Faults(error_500=1.0))
async def test_a_task_group_in_a_call_turned_retries_off(simulator, executor_on):
    """A group of nothing but failed parts is a failed attempt; of anything else it comes through."""
    async with executor_on(simulator, retry=RetryPolicy(max_attempts=3)) as executor:
        mine = simulated_client(simulator, middleware=[executor.middleware()])

        async def together(*asking):
            async with asyncio.TaskGroup() as group:
                for ask in asking:
                    group.create_task(ask())

        def ask():
            return executor.submit(request())

        def ask_by_the_middleware():
            return mine.messages.create(**request())

        async def forget():
            try:
                await asyncio.Event().wait()
            finally:
                raise KeyError

        for asking in (ask, ask_by_the_middleware):
            with pytest.raises(Failed) as told:
                await executor.call(together, asking, asking, cost=ABOUT)
            assert told.value.attempts == 3
            with pytest.raises(ExceptionGroup):
                await executor.call(together, asking, forget, cost=ABOUT)


@pytest.mark.simulator(QUICK)
async def test_calls_of_several_parts_spoilt_the_estimate_of_requests(simulator, executor_on):
    """What three requests take says nothing of one; what one takes does."""
    async with executor_on(simulator) as executor:

        @executor.limited()
        async def asked(params, times):
            for number in range(times):
                await executor.submit({**params, "metadata": {"user_id": f"{number}"}})

        estimator = executor._scheduler._cost_model._estimator
        params = request("Hello, " * 200, max_tokens=8_000)
        expected = estimator.cost(shape_of(params))
        await asyncio.gather(*(asked(params, 3) for _ in range(9)))
        assert estimator.cost(shape_of(params)) == expected
        await asked(params, 1)
        assert estimator.cost(shape_of(params)).output_tokens < expected.output_tokens


@pytest.mark.simulator(QUICK)
async def test_the_headers_of_a_calls_only_request_were_not_heard(simulator, executor_on):
    """The limits are learned from them, as from those of any other request."""
    async with executor_on(simulator) as executor:
        await executor.call(executor.submit, request())
        assert executor.snapshot().pools["haiku-5.5"].resources["output tokens"].limit


@pytest.mark.simulator(QUICK)
async def test_a_context_that_swallows_an_exception_kept_its_place_for_ever(simulator, executor_on):
    """The call ends with an error that says whose mistake it is, and holds nothing any more."""

    async def mistaken():
        raise LookupError("not here")

    around = {"attempt_context": lambda _: suppress(LookupError)}
    async with executor_on(simulator, **around) as executor:
        with pytest.raises(RuntimeError, match="attempt_context"):
            await executor.call(mistaken, cost=ABOUT)
        assert executor.snapshot().running == 0
