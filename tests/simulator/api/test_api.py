"""The endpoints as the SDK and as plain HTTP see them."""

import asyncio
from collections import Counter
from json import loads

import anthropic
import pytest

from claude_executor.simulator import (
    ADMIN_KEY,
    MODELS,
    POOLS,
    TIERS,
    Latency,
    Lengths,
    Rates,
    Settings,
    Simulator,
)
from claude_executor.testing import loop_time, simulated_client

MODEL = "claude-haiku-5-5"
HELLO = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
async def client():
    """The SDK on a simulator with the start tier's limits."""
    simulator = Simulator(Settings(latency=Latency(0.5, 50), output_tokens=Lengths(80, 0)), clock=loop_time)
    async with simulated_client(simulator) as sdk:
        sdk.simulator = simulator
        yield sdk


async def test_the_sdk_reads_a_message(client):
    """Content, usage and stop reason arrive as the SDK's own types."""
    message = await client.messages.create(model=MODEL, max_tokens=500, messages=HELLO)
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 80
    assert message.usage.input_tokens == 4 + 2
    assert message.usage.service_tier == "standard"
    assert message.content[0].text.startswith("Answer to ")
    assert message._request_id.startswith("req_")


async def test_max_tokens_cuts_the_answer(client):
    """A shorter bound is reached, and the stop reason says so."""
    message = await client.messages.create(model=MODEL, max_tokens=20, messages=HELLO)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 20)


async def test_the_sdk_reads_a_stream(client):
    """Text arrives while it is generated; the final message equals the unstreamed one."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with client.messages.stream(model=MODEL, max_tokens=500, messages=HELLO) as stream:
        times = [loop.time() - began async for _ in stream.text_stream]
        final = await stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 80
    assert times[0] < 1 < times[-1] == pytest.approx(0.5 + 80 / 50)
    assert len(set(times)) > 5


async def test_events_come_in_the_documented_order(client):
    """message_start, content_block_start, ping, deltas, content_block_stop, message_delta, message_stop."""
    stream = await client.messages.create(model=MODEL, max_tokens=500, messages=HELLO, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


async def test_a_stream_tells_its_usage_twice(make):
    """message_start has the whole usage with one output token, message_delta the cumulative counts only."""
    text = (await make(latency=Latency(0.5, 50)).send(stream=True)).text
    events = [loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    first, last = events[0]["message"]["usage"], events[-2]["usage"]
    assert (first["input_tokens"], first["output_tokens"], first["service_tier"]) == (5, 1, "standard")
    assert last == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 100,
        "output_tokens_details": None,
        "server_tool_use": None,
    }
    pings = [index for index, event in enumerate(events) if event["type"] == "ping"]
    assert pings[0] == 2
    assert len(pings) == 4


async def test_the_sdk_counts_tokens_and_lists_models(client):
    """count_tokens agrees with usage; models are those of the settings."""
    counted = await client.messages.count_tokens(model=MODEL, messages=HELLO)
    message = await client.messages.create(model=MODEL, max_tokens=10, messages=HELLO)
    assert counted.input_tokens == message.usage.input_tokens
    assert [model.id async for model in client.models.list()] == list(MODELS)
    assert (await client.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(anthropic.NotFoundError):
        await client.models.retrieve("claude-1")


async def test_counting_tokens_has_a_limit_of_its_own():
    """Its own request bucket runs dry without touching that of the messages."""
    simulator = Simulator(Settings(count_tokens_rpm=2), clock=loop_time)
    async with simulated_client(simulator) as client:
        for _ in range(2):
            await client.messages.count_tokens(model=MODEL, messages=HELLO)
        with pytest.raises(anthropic.RateLimitError) as caught:
            await client.messages.count_tokens(model=MODEL, messages=HELLO)
        assert caught.value.response.headers["retry-after"] == "30"
        await client.messages.create(model=MODEL, max_tokens=10, messages=HELLO)


async def test_the_sdk_reads_the_organisations_limits(client):
    """With the admin key: one entry per pool, with its models and limiters, and one for counting tokens."""
    with pytest.raises(anthropic.PermissionDeniedError):
        await client.organization.rate_limits.list()
    admin = client.with_options(api_key=ADMIN_KEY)
    entries = [entry async for entry in admin.organization.rate_limits.list()]
    assert Counter(entry.group.type for entry in entries) == {"model_group": len(POOLS), "token_count": 1}
    opus = next(entry for entry in entries if "claude-opus-4-8" in (entry.models or ()))
    assert set(opus.models) >= {"claude-opus-4-5", "claude-opus-4-7"}
    assert {limit.type: limit.value for limit in opus.limits} == {
        "requests_per_minute": 1_000,
        "input_tokens_per_minute_cache_aware": 2_000_000,
        "output_tokens_per_minute": 400_000,
    }
    page = await admin.organization.rate_limits.list(model=MODEL)
    assert [entry.models for entry in page.data] == [[MODEL]]


async def test_both_forms_of_the_key(make):
    """x-api-key and Authorization: Bearer open the door; nothing and a wrong key do not."""
    client = make(keys=frozenset({"good"}))
    assert (await client.send("a", headers={"x-api-key": "good"})).status_code == 200
    assert (await client.send("b", headers={"authorization": "Bearer good"})).status_code == 200
    for headers in ({"x-other": "1"}, {"x-api-key": "bad"}, {"authorization": "Bearer bad"}):
        response = await client.send("c", headers=headers)
        assert response.status_code == 401
        assert response.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model: Field required"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"max_tokens": -1}, "max_tokens: must be greater than or equal to 0"),
        ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role: Input should be"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0: all messages must have non-empty"),
        (
            {"messages": [{"role": "user", "content": "word " * 2_000}]},
            "prompt is too long: 2004 tokens > 1000",
        ),
    ],
)
async def test_bad_requests_are_told_what_is_wrong(make, change, message):
    """400 invalid_request_error, naming the field as the API does."""
    client = make(context_window=1_000)
    body = {name: value for name, value in (client.body() | change).items() if value is not None}
    response = await client.post(body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert message in response.json()["error"]["message"]


async def test_asked_for_no_tokens_it_fills_the_cache_and_says_nothing(make):
    """``max_tokens: 0`` is a request like another, without an answer."""
    client = make()
    response = await client.post(client.body() | {"max_tokens": 0})
    assert response.status_code == 200
    answer = response.json()
    assert (answer["content"], answer["stop_reason"]) == ([], "max_tokens")
    assert answer["usage"]["output_tokens"] == 0
    assert answer["usage"]["input_tokens"] > 0


async def test_unknown_models_and_paths_are_404(make):
    """Both in the API's own shape."""
    client = make()
    response = await client.send(model="claude-9")
    assert response.status_code == 404
    assert response.json()["error"] == {
        "type": "not_found_error",
        "message": "model: claude-9",
        "details": None,
    }
    assert (await client.http.get("/v1/nowhere")).json()["error"]["type"] == "not_found_error"
    assert (await client.http.get("/v1/messages")).status_code == 404


async def test_a_body_that_is_too_large_meets_the_proxy(make):
    """Above 32 MB the answer is a page of HTML, without any of the API's headers."""
    client = make()
    response = await client.http.post("/v1/messages", content=b"x" * (32 * 1024 * 1024 + 1))
    assert response.status_code == 413
    assert response.headers["content-type"].startswith("text/html")
    assert "request-id" not in response.headers


async def test_models_of_one_pool_share_its_limits_and_others_do_not(make):
    """Two Sonnets of the 4 series draw on one bucket; Opus has its own."""
    client = make(Rates(2))
    for model in ("claude-sonnet-4-5", "claude-sonnet-4-6"):
        assert (await client.send(model=model)).status_code == 200
    assert (await client.send("again", model="claude-sonnet-4-6")).status_code == 429
    assert (await client.send(model="claude-opus-5-5")).status_code == 200


async def test_limits_may_be_given_by_model_or_pool():
    """A mapping may name a pool or any of its models; what it leaves out is unlimited."""
    settings = Settings(rates={"claude-opus-4-8": Rates(7), "haiku-5.5": Rates(9)})
    simulator = Simulator(settings, clock=loop_time)
    pools = simulator.organization
    assert pools.pool("opus-4.x").requests.per_minute == 7
    assert pools.pool("haiku-5.5").requests.per_minute == 9
    assert pools.pool("sonnet-5").requests is None
    assert TIERS["scale"]["fable-5.x"] == Rates(4_000, 4_000_000, 800_000)


async def test_a_retry_gets_an_answer_of_the_same_length(make):
    """Length depends on the body and the seed alone."""
    lengths = Lengths(200, 0.7)

    async def ask(seed: int, text: str) -> int:
        client = make(output_tokens=lengths, seed=seed)
        return (await client.send(text, max_tokens=5_000)).json()["usage"]["output_tokens"]

    assert await ask(1, "same") == await ask(1, "same")
    assert await ask(1, "same") != await ask(2, "same")
    many = [await ask(1, str(number)) for number in range(400)]
    assert 180 < sum(many) / len(many) < 220


async def test_output_drains_while_it_is_generated(make):
    """Half way through an answer, half of its tokens have left the bucket, streamed or not."""
    for stream in (False, True):
        client = make(Rates(None, None, 600), latency=Latency(0, 10))
        task = asyncio.create_task(client.send(stream=stream))
        await asyncio.sleep(5)
        assert client.simulator.stats()["levels"]["haiku-5.5"]["output_tokens"] == pytest.approx(600)
        client.simulator.set_faults(rates=Rates(None, None, 60))
        await asyncio.sleep(5)
        assert client.simulator.stats()["levels"]["haiku-5.5"]["output_tokens"] == pytest.approx(60 - 45)
        await task


async def test_a_client_that_leaves_stops_the_generation(make):
    """Only what was generated until then counts."""
    client = make(latency=Latency(0, 10))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await client.send()
    await asyncio.sleep(1)
    stats = client.simulator.stats()
    assert stats["tokens"]["haiku-5.5"]["output"] == 30
    assert stats["in_flight"] == 0


def cached(text: str, tail: str):
    """A message with a marked prefix and a tail."""
    prefix = {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
    return [{"role": "user", "content": [prefix, {"type": "text", "text": tail}]}]


async def test_the_cache_is_written_once_and_then_read(make):
    """The first request pays for the prefix, later ones read it free of the input limit."""
    client = make(Rates(None, 6_000, None))
    prefix = "word " * 2_000
    first = (await client.send(messages=cached(prefix, "one"))).json()["usage"]
    second = (await client.send(messages=cached(prefix, "two"))).json()["usage"]
    assert (first["cache_creation_input_tokens"], first["cache_read_input_tokens"]) == (2_004, 0)
    assert first["cache_creation"]["ephemeral_5m_input_tokens"] == 2_004
    assert (second["cache_creation_input_tokens"], second["cache_read_input_tokens"]) == (0, 2_004)
    assert second["input_tokens"] == first["input_tokens"] == 1
    level = client.simulator.stats()["levels"]["haiku-5.5"]["input_tokens"]
    assert level == pytest.approx(6_000 - 2_004 - 2)
    other = (await client.send(messages=cached(prefix, "three"), model="claude-opus-5-5")).json()["usage"]
    assert other["cache_read_input_tokens"] == 0
    await asyncio.sleep(301)
    late = (await client.send(messages=cached(prefix, "four"))).json()["usage"]
    assert late["cache_read_input_tokens"] == 0


async def test_the_cache_can_be_read_only_once_the_first_answer_has_begun(make):
    """Requests sent together all pay; one sent after the first token reads."""
    client = make(latency=Latency(5, 10))
    prefix = "word " * 2_000
    both = await asyncio.gather(*(client.send(messages=cached(prefix, tail)) for tail in "ab"))
    assert [answer.json()["usage"]["cache_read_input_tokens"] for answer in both] == [0, 0]
    third = (await client.send(messages=cached(prefix, "c"))).json()["usage"]
    assert third["cache_read_input_tokens"] == 2_004


async def test_short_prefixes_are_not_cached(make):
    """A mark on less than the minimum is ignored."""
    client = make()
    usage = [(await client.send(messages=cached("short", tail))).json()["usage"] for tail in "ab"]
    assert [entry["cache_creation_input_tokens"] + entry["cache_read_input_tokens"] for entry in usage] == [
        0,
        0,
    ]


def test_the_ratio_of_bytes_to_tokens_depends_on_the_text():
    """Prose, code, numbers and other scripts differ, so that an estimator has something to learn."""
    from claude_executor.simulator.messages.tokens import TokenCounter

    counter = TokenCounter()
    texts = {
        "prose": "The quick brown fox considers another extraordinary possibility. " * 20,
        "code": "for (int i = 0; i < n; ++i) { total[i] += f(x[i], y[i]); }\n" * 20,
        "numbers": "3.14159 2.71828 1.41421 1.73205 " * 20,
        "other": "Привет, как дела сегодня? " * 20,
    }
    ratios = {name: len(text.encode()) / counter.text(text) for name, text in texts.items()}
    assert ratios["prose"] > 4 > ratios["other"] > 1
    assert len({round(ratio, 1) for ratio in ratios.values()}) >= 3
    assert counter.text(texts["prose"]) == counter.text(texts["prose"])


async def test_unlimited_requests_leave_no_trace_when_done(make):
    """A thousand at once, each with one timer: all are answered and the books are closed."""
    client = make(Rates(10_000, None, None), latency=Latency(1, 100, 0.3))
    answers = await asyncio.gather(*(client.send(str(number)) for number in range(1_000)))
    assert {answer.status_code for answer in answers} == {200}
    stats = client.simulator.stats()
    assert stats["in_flight"] == 0
    assert stats["peak_in_flight"] == 1_000
    assert client.simulator.verdict().clean
