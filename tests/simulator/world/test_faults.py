"""Each thing that can go wrong looks as it does in the wild, and comes and goes when it should."""

import asyncio

import httpx2
import pytest

from claude_executor.simulator import Faults, Latency, Neighbours, Ramp, Rates


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("error_500", 500, "api_error"),
        ("error_502", 502, "api_error"),
        ("error_503", 503, "api_error"),
        ("error_504", 504, "timeout_error"),
        ("overloaded", 529, "overloaded_error"),
    ],
)
async def test_server_errors_are_json_with_their_type(make, fault, status, kind):
    """5xx and 529 by chance carry the API's error type and the request id, and no wait hint."""
    response = await make(faults=Faults(**{fault: 1})).send()
    assert response.status_code == status
    assert response.json()["error"]["type"] == kind
    assert response.json()["request_id"] == response.headers["request-id"]
    assert "retry-after" not in response.headers


async def test_a_proxy_answers_in_html(make):
    """A 502 from in front of the API is no JSON at all."""
    response = await make(faults=Faults(error_502_html=1)).send()
    assert response.status_code == 502
    assert response.headers["content-type"].startswith("text/html")
    assert "request-id" not in response.headers


async def test_a_plain_429_says_nothing_of_limits(make):
    """A 429 without headers and without the words "rate limit" in its message."""
    response = await make(Rates(100), faults=Faults(rate_limited_plain=1)).send()
    assert response.status_code == 429
    assert "rate limit" not in response.json()["error"]["message"].lower()
    assert not [name for name in response.headers if "ratelimit" in name or name == "retry-after"]


@pytest.mark.parametrize("consume", [False, True])
async def test_whether_a_failure_consumes_is_a_setting(make, consume):
    """Failed requests give back what they took, unless the settings say they keep it."""
    client = make(Rates(10, 10_000, None), faults=Faults(error_500=1), failures_consume=consume)
    await client.send()
    level = client.simulator.stats()["levels"]["haiku-5.5"]
    assert (level["requests"] == 9) is consume
    assert (level["input_tokens"] < 10_000) is consume


async def test_a_reset_comes_before_any_answer(make):
    """The connection breaks; nothing was taken."""
    client = make(Rates(10), faults=Faults(reset=1))
    with pytest.raises(httpx2.ReadError):
        await client.send()
    assert client.simulator.stats()["levels"]["haiku-5.5"]["requests"] == 10


async def test_only_used_connections_are_stale(make):
    """The first request on a connection passes, the second finds it dead, the third makes a new one."""
    client = make(faults=Faults(stale_keepalive=1))
    assert (await client.send("one")).status_code == 200
    with pytest.raises(httpx2.ReadError):
        await client.send("two")
    assert (await client.send("two")).status_code == 200


async def test_garbage_is_a_200_that_is_no_json(make):
    """The body of a success may be broken off."""
    response = await make(faults=Faults(garbage=1)).send()
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|Invalid"):
        response.json()


async def test_a_slow_first_byte(make):
    """The answer comes, later."""
    client = make(faults=Faults(slow_first_byte=1, slow_first_byte_seconds=45))
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await client.send()).status_code == 200
    assert loop.time() - began == 45


@pytest.mark.parametrize("fault", ["stream_overloaded", "stream_rate_limited"])
async def test_an_error_in_the_middle_of_a_stream(make, fault):
    """After a 200, an error event ends the stream."""
    client = make(faults=Faults(**{fault: 1}), latency=Latency(0.1, 50))
    response = await client.send(stream=True)
    assert response.status_code == 200
    assert "event: error" in response.text
    assert "message_stop" not in response.text


async def test_a_stream_that_just_ends(make):
    """A clean end without message_stop, which no HTTP client notices."""
    response = await make(faults=Faults(stream_cut=1)).send(stream=True)
    assert "event: message_start" in response.text
    assert "message_stop" not in response.text
    assert "event: error" not in response.text


async def test_a_stream_that_breaks(make):
    """A broken connection is a reset or an early end, by turns of the dice."""
    client = make(faults=Faults(stream_dropped=1))
    seen = set()
    for number in range(20):
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)) as caught:
            await client.send(str(number), stream=True)
        seen.add(caught.type)
    assert seen == {httpx2.ReadError, httpx2.RemoteProtocolError}


@pytest.mark.parametrize(
    ("fault", "status", "kind", "code", "words"),
    [
        ("spend_cap", 429, "rate_limit_error", "enforced_spend_limit_reached", "2026-10-01 at 00:00 UTC"),
        ("contract_spend", 429, "rate_limit_error", "contract_spend_limit_reached", "API usage limits"),
        ("spend_limit_400", 400, "invalid_request_error", None, "specified API usage limits"),
        ("credit_400", 400, "invalid_request_error", None, "Your credit balance is too low"),
        ("invalid_key", 401, "authentication_error", None, "invalid x-api-key"),
        ("billing_402", 402, "billing_error", None, "billing"),
        ("permission_403", 403, "permission_error", None, "may not"),
    ],
)
async def test_episodes_that_no_retry_survives(make, fault, status, kind, code, words):
    """Each has its status, type, code and phrase, and none has a retry-after."""
    client = make(faults=Faults(**{fault: True}))
    response = await client.send()
    error = response.json()["error"]
    assert (response.status_code, error["type"]) == (status, kind)
    assert (error["details"] or {}).get("error_code") == code
    assert words in error["message"]
    assert "retry-after" not in response.headers
    client.simulator.set_faults(**{fault: False})
    assert (await client.send("another")).status_code == 200


async def test_an_outage_lasts_as_long_as_it_was_set_for(make):
    """Every request is a 529 for 60 seconds, with the hint that was set; then all is well."""
    client = make(faults=Faults(outage=60, outage_retry_after=7))
    assert (await client.send("one")).headers["retry-after"] == "7"
    await asyncio.sleep(59.9)
    assert (await client.send("two")).status_code == 529
    await asyncio.sleep(0.1)
    assert (await client.send("three")).status_code == 200


async def test_an_hour_of_outage_by_schedule(make):
    """Sixty minutes of 529 between two instants, seen by a request every minute."""
    client = make(schedule=[(600, {"outage": 3_600})])
    seen = []
    for number in range(90):
        seen.append((await client.send(f"{number}")).status_code)
        await asyncio.sleep(60)
    assert seen == [200] * 10 + [529] * 60 + [200] * 20
    assert client.simulator.verdict().sent_in_outage == 60


async def test_a_span_of_html_errors_by_schedule(make):
    """A proxy that answers for an API that is down, from one instant to another."""
    client = make(schedule=[(60, {"error_502_html": 1}), (120, {"error_502_html": 0})])
    seen = []
    for number in range(4):
        response = await client.send(f"{number}")
        seen.append((response.status_code, response.headers["content-type"]))
        await asyncio.sleep(40)
    assert [status for status, _ in seen] == [200, 200, 502, 200]
    assert seen[2][1] == "text/html"


async def test_nobody_listens_for_a_while(make):
    """Connections are refused, for messages as for the counting of tokens; then all is well."""
    client = make(schedule=[(10, {"unreachable": 60})])
    assert (await client.send("one")).status_code == 200
    await asyncio.sleep(10)
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        with pytest.raises(httpx2.ConnectError):
            await client.post(client.body("two"), path=path)
    assert client.simulator.verdict().sent_in_outage == 1
    assert client.simulator.verdict().clean
    await asyncio.sleep(60)
    assert client.simulator.verdict().given_up == 1
    assert (await client.send("two")).status_code == 200
    assert client.simulator.verdict().clean
    assert client.simulator.stats()["by_cause"] == {"answered": 2, "unreachable": 1}


async def test_two_spans_end_each_at_its_own_time(make):
    """An outage that began earlier and one of the line, overlapping."""
    client = make(faults=Faults(outage=100), schedule=[(50, {"unreachable": 20})])
    await asyncio.sleep(49)
    assert (await client.send("a")).status_code == 529
    await asyncio.sleep(1)
    with pytest.raises(httpx2.ConnectError):
        await client.send("b")
    await asyncio.sleep(20)
    assert (await client.send("c")).status_code == 529
    await asyncio.sleep(30)
    assert (await client.send("d")).status_code == 200


async def test_an_outage_of_one_pool_leaves_the_others(make):
    """Only the pools named are out."""
    client = make(faults=Faults(outage=60, outage_pools=("haiku-5.5",)))
    assert (await client.send()).status_code == 529
    assert (await client.send(model="claude-opus-5-5")).status_code == 200


async def test_a_schedule_is_worked_off_in_time(make):
    """Changes come at their seconds after the start, in order, even if nobody looked in between."""
    client = make(
        Rates(60),
        schedule=[(30, {"outage": 10}), (10, {"rates": {"rpm": 6}}), (100, Faults(invalid_key=True))],
    )
    assert (await client.send("a")).headers["anthropic-ratelimit-requests-limit"] == "60"
    await asyncio.sleep(10)
    assert (await client.send("b")).headers["anthropic-ratelimit-requests-limit"] == "6"
    await asyncio.sleep(20)
    assert (await client.send("c")).status_code == 529
    await asyncio.sleep(10)
    assert (await client.send("d")).status_code == 200
    await asyncio.sleep(60)
    assert (await client.send("e")).status_code == 401


async def test_neighbours_eat_the_refill(make):
    """With three quarters drawn by others, a promised second becomes four."""
    client = make(Rates(60), burst=1, faults=Faults(neighbours=Neighbours(requests=0.75)))
    await client.send("a")
    assert (await client.send("b")).headers["retry-after"] == "1"
    await asyncio.sleep(1)
    assert (await client.send("b")).status_code == 429
    await asyncio.sleep(3)
    assert (await client.send("b")).status_code == 200


async def test_too_steep_a_climb(make):
    """429 ramp_limit_exceeded until the next whole minute, with both caps in the message."""
    client = make(faults=Faults(ramp=Ramp(1_000, 4_000)), epoch=1_790_000_040.0)
    assert (await client.send("word " * 900)).status_code == 200
    await asyncio.sleep(20)
    refused = await client.send("word " * 800)
    error = refused.json()["error"]
    assert refused.status_code == 429
    assert error["details"] == {"error_code": "ramp_limit_exceeded"}
    assert "current limit is 1,000 input tokens per minute" in error["message"]
    assert "increase to 5,000 at the next minute boundary" in error["message"]
    assert refused.headers["retry-after"] == "40"
    await asyncio.sleep(40)
    assert (await client.send("word " * 800)).status_code == 200
    assert (await client.send("word " * 3_500)).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"error_500": 1.5},
        {"no_such_fault": 1},
        {"neighbours": {"requests": 1}},
        {"outage": -1},
        {"unreachable": -1},
    ],
)
async def test_nonsense_is_refused(make, changes):
    """A fault that does not exist or is out of range is an error, and changes nothing."""
    client = make()
    with pytest.raises(ValueError, match=r"\w"):
        client.simulator.set_faults(**changes)
    assert client.simulator.faults == Faults()
    response = await client.post(changes, path="/simulator/faults")
    assert response.status_code == 400


async def test_faults_change_over_http(make):
    """The owner's endpoint takes JSON, with true for an endless outage and objects for limits."""
    client = make()
    changes = {"outage": True, "rates": {"claude-haiku-5-5": {"rpm": 7}}, "ramp": {"floor": 5, "step": 6}}
    assert (await client.post(changes, path="/simulator/faults")).json() == {"changed": sorted(changes)}
    faults = client.simulator.faults
    assert faults.outage == float("inf")
    assert faults.rates == {"claude-haiku-5-5": Rates(7)}
    assert faults.ramp == Ramp(5, 6)
    assert (await client.send()).status_code == 529


async def test_chance_comes_from_the_seed(make):
    """The same seed gives the same luck, another seed another."""

    async def luck(seed: int) -> list[int]:
        client = make(seed=seed, faults=Faults(error_500=0.5))
        return [(await client.send(str(number))).status_code for number in range(40)]

    assert await luck(1) == await luck(1) != await luck(2)
