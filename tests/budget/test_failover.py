"""A primary that dies and a replica that takes its place: real servers, a real Sentinel, real executors."""

import asyncio
from collections import Counter

import pytest
from tests.budget.redis_servers import GuardedRedis, MemoryBudget

from claude_executor import Executor, RedisBudget, SharingChanged
from claude_executor.budget import Unreachable
from claude_executor.core.model.sharing import LeaseRequest, ResourceLine
from claude_executor.simulator import Settings
from claude_executor.simulator.server.server import running
from claude_executor.simulator.world.models import Rates
from claude_executor.simulator.world.settings import Latency

RPM = 1_200
LIMITS = {"rate": 10.0, "cap": 600.0}
REQUEST = {"model": "claude-haiku-5-5", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_failover_loses_no_request_and_admits_little_beyond_the_limit(guarded_redis: GuardedRedis):
    """The primary dies while three are at work. At most a second's worth is sent beyond the limit.

    What the dead primary knew its replica knows: levels go on from where they were, and are not full again.
    """
    states: Counter[str] = Counter()
    submitted, answered = 0, 0
    at_work = asyncio.Event()
    settings = Settings(rates=Rates(RPM, 1_000_000, 1_000_000), burst=2.0, latency=Latency(0.2, 500.0, 0.0))

    def listen(event):
        if isinstance(event, SharingChanged):
            states[event.state] += 1

    async def busy(executor):
        nonlocal submitted, answered
        while states["shared"] < 6:
            submitted += 1
            await executor.submit(REQUEST)
            answered += 1
            if answered >= 60 and states["shared"] >= 3:
                at_work.set()

    async def member():
        budget = RedisBudget(guarded_redis.url, group="team")
        async with Executor(
            budget=budget, api_key="none", base_url=simulator.base_url, on_event=listen
        ) as executor:
            await asyncio.gather(*(busy(executor) for _ in range(20)))

    with running(settings) as simulator:
        members = asyncio.gather(*(member() for _ in range(3)))
        await asyncio.wait_for(at_work.wait(), 60.0)
        before = simulator.stats()["by_status"].get("429", 0)
        other = RedisBudget(guarded_redis.url, group="other")
        await other.lease("haiku", an_ask(1, wanted=580.0))
        guarded_redis.kill_primary()
        with pytest.raises(Unreachable):
            await other.lease("haiku", an_ask(2))
        await asyncio.wait_for(members, 60.0)
        grant = await until_told(other)
        await other.close()
        beyond = simulator.stats()["by_status"].get("429", 0) - before
    assert guarded_redis.promoted
    assert states == {"shared": 6, "alone": 3}
    assert answered == submitted
    assert beyond <= RPM / 60.0
    assert grant.resources["requests"].level < 300.0


async def test_the_refill_of_a_gap_in_which_all_were_alone_has_been_used(memory, clock):
    """Short as it was: each has gone on with its part of it."""
    budget = MemoryBudget(memory)
    await budget.lease("haiku", an_ask(1, wanted=600.0))
    clock.now += 3.0
    grant = await budget.lease("haiku", an_ask(2, returning=True))
    assert grant.resources["requests"].level == pytest.approx(0.0)
    clock.now += 3.0
    grant = await budget.lease("haiku", an_ask(3))
    assert grant.resources["requests"].level == pytest.approx(30.0)
    await budget.close()


async def test_one_address_that_has_got_another_primary_is_connected_anew(real_redis):
    """Who is told that it writes to a replica has a connection from before: it gives that up."""
    budget = RedisBudget(real_redis.url, group="team")
    await budget.lease("haiku", an_ask(1))
    assert "evalsha" in real_redis.ask("CLIENT LIST") or "eval" in real_redis.ask("CLIENT LIST")
    real_redis.ask("REPLICAOF 127.0.0.1 1")
    with pytest.raises(Unreachable):
        await budget.lease("haiku", an_ask(2))
    assert "eval" not in real_redis.ask("CLIENT LIST")
    real_redis.ask("REPLICAOF NO ONE")
    await budget.lease("haiku", an_ask(3))
    await budget.close()


def an_ask(seq, *, returning=False, **amounts):
    line = ResourceLine(limits=LIMITS, **amounts)
    return LeaseRequest(seq=seq, weight=1.0, version=0, resources={"requests": line}, returning=returning)


async def until_told(budget):
    """Ask as a member does: again, a while after it was in vain."""
    for seq in range(3, 100):
        try:
            return await budget.lease("haiku", an_ask(seq))
        except Unreachable:
            await asyncio.sleep(0.1)
    raise AssertionError("never answered")
