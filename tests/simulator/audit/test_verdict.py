"""Misbehaving clients are found out; well-behaved ones are not."""

import asyncio
from contextlib import suppress

import httpx2
import pytest

from claude_executor.simulator import Faults, Latency, Rates


def kinds(client) -> list[str]:
    """The kinds of violation found, in order."""
    return [violation.kind for violation in client.simulator.verdict().violations]


async def test_a_good_client_is_clean(make):
    """Different requests, one refused, waited for and repeated: nothing to complain about."""
    client = make(Rates(1), burst=60)
    await client.send("one")
    assert (await client.send("two")).status_code == 429
    await asyncio.sleep(60)
    assert (await client.send("two")).status_code == 200
    verdict = client.simulator.verdict()
    assert verdict.clean
    assert (verdict.requests, verdict.identities, verdict.answered) == (3, 2, 2)
    assert verdict.most_attempts == 2
    assert verdict.refusals == {"haiku-5.5": {"rate_limit_requests": 1}}
    assert verdict.given_up == 0


async def test_an_early_retry(make):
    """Sending the same again before retry-after is over is a violation."""
    client = make(Rates(1))
    await client.send("one")
    await client.send("two")
    await asyncio.sleep(59)
    await client.send("two")
    verdict = client.simulator.verdict()
    assert verdict.early_retries == 1
    assert kinds(client) == ["early_retries", "given_up"]
    assert "1.000 s" in verdict.violations[0].detail
    assert not verdict.clean


@pytest.mark.parametrize(
    "faults",
    [
        Faults(spend_cap=True),
        Faults(contract_spend=True),
        Faults(spend_limit_400=True),
        Faults(credit_400=True),
        Faults(invalid_key=True),
        Faults(billing_402=True),
        Faults(permission_403=True),
    ],
)
async def test_a_forbidden_retry(make, faults):
    """What is final must not be sent again, however long one waits."""
    client = make(faults=faults)
    await client.send("one")
    assert client.simulator.verdict().clean
    await asyncio.sleep(3_600)
    await client.send("one")
    assert kinds(client) == ["forbidden_retries"]


async def test_a_bad_request_must_not_be_repeated(make):
    """400 and 404 are final too, even for a body that is no request at all."""
    client = make()
    for _ in range(2):
        await client.post({"model": "claude-haiku-5-5"})
        await client.send(model="claude-2")
        await client.http.post("/v1/messages", content=b"nonsense", headers={"x-api-key": "k"})
    assert client.simulator.verdict().forbidden_retries == 3


async def test_a_duplicate_answer(make):
    """The same request answered twice was paid for twice."""
    client = make()
    await client.send("one")
    await client.send("one")
    assert kinds(client) == ["duplicates"]


async def test_equal_prompts_are_told_apart_by_their_user(make):
    """metadata.user_id is the identity where there is one."""
    client = make()
    await client.send("one", metadata={"user_id": "a"})
    await client.send("one", metadata={"user_id": "b"})
    assert client.simulator.verdict().clean
    await client.send("another body", metadata={"user_id": "b"})
    assert client.simulator.verdict().duplicates == 1


async def test_an_answer_nobody_waited_for_is_no_duplicate(make):
    """A client that hung up before the first token was not answered; asking again is right."""
    client = make(latency=Latency(10))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await client.send("one")
    await client.send("one")
    verdict = client.simulator.verdict()
    assert verdict.clean
    assert verdict.duplicates == 0
    assert client.simulator.stats()["by_cause"] == {"left": 1, "answered": 1}


@pytest.mark.parametrize("fault", ["stream_cut", "stream_overloaded", "stream_dropped", "garbage"])
async def test_a_truncated_answer_that_was_accepted(make, fault):
    """An answer that broke off must be asked for again before the end."""
    client = make(faults=Faults(**{fault: 1}))
    stream = fault != "garbage"
    with suppress(httpx2.ReadError, httpx2.RemoteProtocolError):
        await client.send("one", stream=stream)
    assert kinds(client) == ["truncated_accepted"]
    client.simulator.set_faults(Faults())
    await client.send("one", stream=stream)
    verdict = client.simulator.verdict()
    assert verdict.clean
    assert verdict.truncated == 1


async def test_overlapping_requests_are_noted(make):
    """The same request sent while it is still running; its second answer is a duplicate."""
    client = make(latency=Latency(10))
    await asyncio.gather(client.send("one"), client.send("one"))
    verdict = client.simulator.verdict()
    assert verdict.overlapping == 1
    assert verdict.duplicates == 1


async def test_requests_sent_into_an_outage_are_counted(make):
    """How many were running when it began, and how many came while it lasted."""
    client = make(latency=Latency(10), schedule=[(5, {"outage": 60})])
    before = [asyncio.create_task(client.send(str(number))) for number in range(3)]
    await asyncio.sleep(6)
    for number in range(4):
        assert (await client.send(f"late {number}")).status_code == 529
    await asyncio.gather(*before)
    await asyncio.sleep(60)
    assert (await client.send("late 0")).status_code == 200
    verdict = client.simulator.verdict()
    assert verdict.in_flight_at_outage == (3,)
    assert verdict.sent_in_outage == 4
    assert verdict.hammered_outage == 0
    assert verdict.findings == {"given_up": 3}


async def test_hammering_an_outage_is_not_clean(make):
    """Every row retrying for itself is found out; the ten that any client may send to learn of it are not."""
    client = make(faults=Faults(outage=60))
    for number in range(200):
        await client.send(f"under way {number}")
    assert client.simulator.verdict().hammered_outage == 0
    await asyncio.sleep(0.501)
    for number in range(15):
        await client.send(f"under way {number}")
    assert client.simulator.verdict().hammered_outage == 5
    assert set(kinds(client)) == {"hammered_outage"}


async def test_probing_an_outage_is_clean(make):
    """One request a second for ten minutes harms nobody; the next outage has to be found out anew."""
    client = make(faults=Faults(outage=600))
    for _ in range(600):
        assert (await client.send("probe")).status_code == 529
        await asyncio.sleep(1)
    assert (await client.send("probe")).status_code == 200
    client.simulator.set_faults(outage=60)
    for number in range(50):
        assert (await client.send(f"{number}")).status_code == 529
    await asyncio.sleep(60)
    for number in range(50):
        assert (await client.send(f"{number}")).status_code == 200
    assert client.simulator.verdict().findings == {}


async def test_each_pool_has_its_own_outage(make):
    """Knowing that one pool is out says nothing about another."""
    client = make(faults=Faults(outage=60))
    await client.send("one")
    await asyncio.sleep(1)
    for number in range(20):
        await client.send(f"{number}", model="claude-opus-5-5")
    assert client.simulator.verdict().hammered_outage == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_sending_again_after_hanging_up_on_an_answer_pays_twice(make, stream):
    """A timeout shorter than the answers makes a client pay for every row again and again."""
    client = make(latency=Latency(1, 10))
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await client.send("one", stream=stream)
        await asyncio.sleep(0.1)
    assert kinds(client) == ["resent_after_leaving"]
    await client.send("one", stream=stream)
    assert client.simulator.verdict().findings == {"resent_after_leaving": 2}


async def test_hanging_up_on_the_slower_of_two_pays_twice(make):
    """A hedged request whose loser was already being written was paid for twice, though answered once."""
    client = make(latency=Latency(1, 10))
    first = asyncio.create_task(client.send("one"))
    await asyncio.sleep(5)
    second = asyncio.create_task(client.send("one"))
    await first
    second.cancel()
    await asyncio.sleep(0.1)
    assert client.simulator.verdict().findings == {"resent_after_leaving": 1}


async def test_leaving_for_good_is_clean(make):
    """Whoever hangs up and never asks again has changed its mind, no more."""
    client = make(latency=Latency(1, 10))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await client.send("one")
    await asyncio.sleep(0.1)
    assert client.simulator.stats()["by_cause"] == {"left": 1}
    assert client.simulator.verdict().findings == {}


async def test_sending_to_a_pool_that_was_told_to_wait_is_not_clean(make):
    """The wait of one request is the wait of its pool: others that come meanwhile are refused too."""
    client = make(Rates(1))
    await client.send("one")
    await client.send("two")
    await asyncio.sleep(59)
    await client.send("three")
    await client.send("elsewhere", model="claude-opus-5-5")
    verdict = client.simulator.verdict()
    assert (verdict.sent_too_early, verdict.early_others) == (1, 1)
    assert kinds(client)[0] == "sent_too_early"


async def test_what_was_under_way_when_a_pool_closed_is_nobodys_fault(make):
    """A refusal needs half a second to be known."""
    client = make(Rates(1))
    await client.send("one")
    await client.send("two")
    await asyncio.sleep(0.5)
    await client.send("three")
    await asyncio.sleep(60)
    await client.send("two")
    await asyncio.sleep(60)
    await client.send("three")
    assert client.simulator.verdict().findings == {}


async def test_a_smaller_request_that_fits_does_no_harm(make):
    """A pool without room for a large prompt may have some for a small one: noted, not held against it."""
    client = make(Rates(None, 6_000, None))
    await client.send("word " * 5_000)
    assert (await client.send("word " * 3_000)).status_code == 429
    await asyncio.sleep(5)
    assert (await client.send("word " * 50)).status_code == 200
    await asyncio.sleep(60)
    assert (await client.send("word " * 3_000)).status_code == 200
    verdict = client.simulator.verdict()
    assert verdict.findings == {}
    assert verdict.early_others == 1


@pytest.mark.parametrize("fault", ["error_500", "overloaded", "reset"])
async def test_rows_given_up_are_lost(make, fault):
    """A refusal that a retry would have cured, and no retry came."""
    client = make(faults=Faults(**{fault: 1}))
    with suppress(httpx2.ReadError):
        await client.send("one")
    assert client.simulator.verdict().findings == {"given_up": 1}
    client.simulator.set_faults(Faults())
    await client.send("one")
    assert client.simulator.verdict().clean


async def test_giving_up_while_nobody_answers_is_not_losing(make):
    """As long as the outage lasts, no retry would have been answered."""
    client = make(faults=Faults(outage=60))
    await client.send("one")
    assert client.simulator.verdict().given_up == 0
    await asyncio.sleep(60)
    assert client.simulator.verdict().given_up == 1


async def test_debts_tell_how_far_a_limit_was_overdrawn(make):
    """The deepest debt of each bucket is kept."""
    client = make(Rates(None, None, 60), burst=1)
    await client.send("one")
    assert client.simulator.verdict().debts == {"haiku-5.5": {"output_tokens": 99}}


async def test_the_owner_reads_the_verdict_and_the_numbers_over_http(make):
    """Stats and verdict as JSON; reset begins anew."""
    client = make()
    await client.send("one")
    await client.send("one")
    verdict = (await client.http.get("/simulator/verdict")).json()
    assert verdict["clean"] is False
    assert verdict["findings"] == {"duplicates": 1}
    assert verdict["violations"][0]["kind"] == "duplicates"
    stats = (await client.http.get("/simulator/stats")).json()
    assert stats["requests"] == 2
    assert stats["tokens"]["haiku-5.5"]["output"] == 200
    assert stats["admitted_per_second"] == [[1_000, 2]]
    await client.http.post("/simulator/reset")
    assert (await client.http.get("/simulator/verdict")).json()["clean"] is True
    assert client.simulator.stats()["requests"] == 0
