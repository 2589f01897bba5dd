"""Response headers, to the letter."""

import asyncio

import pytest

from claude_executor.simulator import Faults, Latency, Rates
from claude_executor.simulator.messages.headers import http_date, nearest_thousand, rfc3339

EPOCH = 1_790_000_000.0


def limits(response) -> dict[str, str]:
    """The limits that a response shows, by the end of their names."""
    prefix = "anthropic-ratelimit-"
    return {name[len(prefix) :]: value for name, value in response.headers.items() if name.startswith(prefix)}


async def test_a_success_carries_all_four_triples(make):
    """Requests are exact, tokens to the nearest thousand, tokens-* is the sum with the earlier reset."""
    client = make(Rates(60, 120_000, 60_000), epoch=EPOCH, latency=Latency(2.0, 10))
    response = await client.send("word " * 6_000)
    assert response.status_code == 200
    level = 120_000 - response.json()["usage"]["input_tokens"] + 10 * 2_000
    assert level > 120_000  # 10 seconds of generation have refilled it
    assert limits(response) == {
        "requests-limit": "60",
        "requests-remaining": "60",
        "requests-reset": rfc3339(int(EPOCH) + 12).decode(),
        "input-tokens-limit": "120000",
        "input-tokens-remaining": "120000",
        "input-tokens-reset": rfc3339(int(EPOCH) + 12).decode(),
        "output-tokens-limit": "60000",
        "output-tokens-remaining": "60000",
        "output-tokens-reset": rfc3339(int(EPOCH) + 12).decode(),
        "tokens-limit": "180000",
        "tokens-remaining": "180000",
        "tokens-reset": rfc3339(int(EPOCH) + 12).decode(),
    }
    assert response.headers["date"] == http_date(int(EPOCH) + 12).decode()
    assert response.headers["request-id"].startswith("req_")
    assert len(response.headers["anthropic-organization-id"]) == 36


async def test_a_refusal_tells_how_long_and_shows_an_overdrawn_bucket_as_empty(make):
    """A 429 on input: ceil of the missing tokens, clamped remainders, resets when full, x-should-retry."""
    client = make(Rates(60, 6_000, 60_000), epoch=EPOCH)
    first = await client.send("word " * 7_000)
    used = first.json()["usage"]["input_tokens"]
    assert used > 6_000
    response = await client.send("word " * 1_000)
    need = 1_004
    assert response.status_code == 429
    assert response.headers["retry-after"] == str(-(-(need + used - 6_000) // 100))
    assert response.headers["x-should-retry"] == "true"
    found = limits(response)
    assert found["requests-remaining"] == "59"
    assert found["requests-reset"] == rfc3339(int(EPOCH) + 1).decode()
    assert found["input-tokens-remaining"] == "0"
    assert found["input-tokens-reset"] == rfc3339(int(EPOCH + used / 100)).decode()
    assert found["tokens-remaining"] == found["output-tokens-remaining"] == "60000"
    assert found["tokens-reset"] == found["output-tokens-reset"] == rfc3339(int(EPOCH)).decode()
    error = response.json()
    assert error["request_id"] == response.headers["request-id"]
    assert error["error"]["type"] == "rate_limit_error"
    assert error["error"]["details"] is None
    assert "would exceed the rate limit for your organization" in error["error"]["message"]
    assert "6,000 input tokens per minute" in error["error"]["message"]


async def test_waiting_for_retry_after_is_enough(make):
    """The same request passes exactly when it was told to come back."""
    client = make(Rates(2, None, None))
    await client.send("one")
    await client.send("two")
    refused = await client.send("three")
    assert refused.headers["retry-after"] == "30"
    await asyncio.sleep(30)
    assert (await client.send("three")).status_code == 200
    assert client.simulator.verdict().clean


async def test_unlimited_resources_have_no_headers(make):
    """Only what is limited is shown; the sum needs both token limits."""
    assert limits(await make().send()) == {}
    found = limits(await make(Rates(None, 1_000, None)).send())
    assert set(found) == {"input-tokens-limit", "input-tokens-remaining", "input-tokens-reset"}


async def test_headers_can_be_switched_off(make):
    """Without headers a 429 still tells how long to wait."""
    client = make(Rates(1), headers=False)
    assert limits(await client.send("one")) == {}
    refused = await client.send("two")
    assert limits(refused) == {}
    assert refused.headers["retry-after"] == "60"


async def test_an_overload_shows_no_limits(make):
    """529 and 5xx carry ids only."""
    for fault in ("overloaded", "error_500"):
        response = await make(Rates(10, 10, 10), faults=Faults(**{fault: 1})).send()
        assert limits(response) == {}
        assert "request-id" in response.headers
        assert "retry-after" not in response.headers


async def test_the_headers_of_a_stream_come_before_its_output(make):
    """A stream's headers show the output bucket before the answer drains it."""
    client = make(Rates(60, 60_000, 6_000), latency=Latency(0, 10))
    response = await client.send(stream=True)
    assert limits(response)["output-tokens-remaining"] == "6000"
    assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("level", "shown"),
    [(-5_000, 0), (499.9, 0), (500, 1_000), (1_499, 1_000), (1_500, 2_000), (80_000, 80_000)],
)
def test_token_remainders_are_rounded_to_thousands(level, shown):
    """To the nearest thousand, never below zero."""
    assert nearest_thousand(level) == shown


def test_times_are_written_as_the_api_writes_them():
    """RFC 3339 in whole seconds with a Z; the Date header as HTTP wants it."""
    assert rfc3339(1_791_471_102) == b"2026-10-08T14:51:42Z"
    assert http_date(1_791_471_102) == b"Thu, 08 Oct 2026 14:51:42 GMT"
