"""`Executor.count_tokens`: the limit and retries of counts through the middleware, the errors of `submit`."""

import asyncio
import json

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
    RetryPolicy,
    Stopped,
)
from claude_executor.simulator import Latency, Settings
from claude_executor.testing import loop_time, simulated_client

MODEL = "claude-haiku-5-5"
GOOD = {"input_tokens": 3}


def body(text="Hello", **more):
    return {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": text}], **more}


def error(status, **headers):
    said = {"type": "error", "error": {"type": "api_error", "message": "no"}}
    return httpx2.Response(status, json=said, headers=headers)


@pytest.fixture
def answering():
    """An executor whose client's answers are made by a function, and what was asked."""
    requests = []

    def make(answer, *, limits=None, paced_client=False, **options):
        def handle(request):
            requests.append((loop_time(), request))
            return answer(len(requests))

        client = anthropic.AsyncAnthropic(
            api_key="k",
            base_url="https://api.test",
            http_client=httpx2.AsyncClient(transport=httpx2.MockTransport(handle)),
        )
        executor = Executor(limits, client=client, clock=loop_time, **options)
        if paced_client:
            mine = client.with_options(middleware=[executor.middleware()])
            executor._engine.client._client = mine
        return executor, requests

    return make


@pytest.mark.simulator(Settings(count_tokens_rpm=5_000, burst=1.0, latency=Latency(0.1)))
async def test_it_gives_the_number_that_the_sdk_gives(simulator, executor_on):
    """A request as for submit, paced by the limit of counts, which takes nothing of that of messages."""
    params = body(system="Be brief.")
    async with executor_on(simulator, Limits(rpm=60, burst=1.0)) as executor:
        began = loop_time()
        await asyncio.gather(*(executor.count_tokens(body(f"{n}")) for n in range(250)))
        least = (250 - 5_000 / 60) / (5_000 / 60)
        assert least <= loop_time() - began <= (least + 0.1) / 0.95
        assert executor.snapshot().attempts == 0
        await asyncio.sleep(1.0)  # the client below is not paced
        del params["max_tokens"]
        expected = await simulated_client(simulator).messages.count_tokens(**params)
        assert await executor.count_tokens(params) == expected.input_tokens
        assert await executor.session(deadline=60.0).count_tokens(params) == expected.input_tokens


async def test_only_what_plays_a_part_is_sent(answering):
    """And `max_tokens` may be missing."""
    executor, requests = answering(lambda n: httpx2.Response(200, json=GOOD))
    params = body(temperature=0.5, stream=True, metadata={"user_id": "u"}, system="Be brief.")
    async with executor:
        assert await executor.count_tokens(params) == 3
        del params["max_tokens"]
        assert await executor.count_tokens(params) == 3
    sent = [json.loads(request.content) for _, request in requests]
    assert [set(one) for one in sent] == [{"model", "messages", "system"}] * 2


async def test_failures_are_retried_and_a_429_is_no_failed_attempt(answering):
    """Until it succeeds."""
    said = {1: error(429, **{"retry-after": "7"}), 2: error(529), 3: error(500)}
    executor, requests = answering(lambda n: said.get(n, httpx2.Response(200, json=GOOD)))
    async with executor:
        assert await executor.count_tokens(body()) == 3
    assert len(requests) == 4
    assert requests[1][0] - requests[0][0] >= 7.0


async def test_what_fails_in_the_end_is_failed(answering):
    """With the number of attempts, the status and the SDK's exception."""
    executor, requests = answering(lambda n: error(500), retry=RetryPolicy(max_attempts=3))
    async with executor:
        with pytest.raises(Failed, match="gave up after 3 attempts") as told:
            await executor.count_tokens(body())
    assert (told.value.attempts, told.value.status, len(requests)) == (3, 500, 3)
    assert told.value.kind is FailureKind.SERVER
    assert isinstance(told.value.__cause__, anthropic.InternalServerError)


@pytest.mark.parametrize("answer", [{"nothing": 0}, [], "text"])
async def test_an_answer_without_a_count_is_a_failure(answering, answer):
    """Not an AttributeError."""
    executor, _ = answering(lambda n: httpx2.Response(200, json=answer), retry=RetryPolicy(max_attempts=1))
    async with executor:
        with pytest.raises(Failed) as told:
            await executor.count_tokens(body())
    assert told.value.kind is FailureKind.GARBLED


async def test_without_a_connection_nothing_was_sent(answering):
    """So it is `Stopped`, as for `submit`."""

    def refuse(_):
        raise httpx2.ConnectError("no")

    executor, _ = answering(refuse, retry=RetryPolicy(max_attempts=2))
    async with executor:
        with pytest.raises(Stopped, match="nothing was sent in 2 attempts") as told:
            await executor.count_tokens(body())
    assert told.value.kind is FailureKind.UNREACHABLE


async def test_a_deadline_ends_the_waiting(answering):
    """Unsent it is `DeadlineExceeded`, sent before it is `Failed`."""
    limits = {"count_tokens": Limits(rpm=6)}
    executor, requests = answering(lambda n: error(500), limits=limits)
    async with executor:
        with pytest.raises(Failed, match="its deadline passed after 1 attempt"):
            await executor.count_tokens(body(), deadline=5.0)
        with pytest.raises(DeadlineExceeded):
            await executor.count_tokens(body(), deadline=0.0)
        with pytest.raises(ValueError, match="deadline must be a finite number"):
            await executor.count_tokens(body(), deadline=float("nan"))
    assert len(requests) == 1


async def test_a_client_with_the_middleware_is_not_paced_or_retried_twice(answering):
    """At one a second, ten counts take nine seconds, and three attempts are three."""
    limits = {"count_tokens": Limits(rpm=60)}
    good = httpx2.Response(200, json=GOOD)
    executor, requests = answering(
        lambda n: good if n <= 10 else error(500),
        limits=limits,
        paced_client=True,
        retry=RetryPolicy(max_attempts=3),
    )
    async with executor:
        began = loop_time()
        await asyncio.gather(*(executor.count_tokens(body(f"{n}")) for n in range(10)))
        assert loop_time() - began == pytest.approx(9.0, abs=0.1)
        with pytest.raises(Failed) as told:
            await executor.count_tokens(body())
    assert told.value.attempts == 3
    assert len(requests) == 13


async def test_within_a_call_it_takes_no_place(answering):
    """Its failure is not the call's: the function may go without."""
    executor, requests = answering(lambda n: error(500), retry=RetryPolicy(max_attempts=2), max_concurrency=1)

    async def careful():
        try:
            return await executor.count_tokens(body())
        except Failed:
            return 0

    async with executor:
        about = Estimate.about(MODEL, input_tokens=10, output_tokens=10)
        assert await executor.call(careful, cost=about) == 0
    assert len(requests) == 2


async def test_bad_requests_and_closed_executors_send_nothing(answering):
    """As for `submit`."""
    executor, requests = answering(lambda n: httpx2.Response(200, json=GOOD))
    with pytest.raises(Closed, match="enter the executor first"):
        await executor.count_tokens(body())
    async with executor:
        with pytest.raises(ValueError, match="needs a 'model'"):
            await executor.count_tokens({"messages": body()["messages"]})
        with pytest.raises(TypeError, match=r"messages\.0\.content"):
            await executor.count_tokens(body(object()))
        with pytest.raises(TypeError, match="a request must be a mapping"):
            await executor.count_tokens("Hello")
    with pytest.raises(Closed):
        await executor.count_tokens(body())
    assert requests == []
