"""What only a real Redis shows: connections, death, coming back empty; and executors on real sockets."""

import asyncio
import time

import pytest
import redis
from click.testing import CliRunner

from claude_executor import Executor, RedisBudget
from claude_executor.budget import Unreachable
from claude_executor.cli.commands.limits import limits
from claude_executor.core.model.sharing import LeaseRequest, ResourceLine
from claude_executor.simulator import Settings
from claude_executor.simulator.server.server import running
from claude_executor.simulator.world.models import Rates
from claude_executor.simulator.world.settings import Latency

LIMITS = {"rate": 10.0, "cap": 600.0}


def an_ask(seq, *, returning=False, **amounts):
    line = ResourceLine(limits=LIMITS, **amounts)
    return LeaseRequest(seq=seq, weight=1.0, version=0, resources={"requests": line}, returning=returning)


async def test_a_redis_that_dies_is_unreachable_and_one_that_comes_back_empty_is_used_again(real_redis):
    """Nothing of it has to be told what the script is: who finds it missing brings it."""
    budget = RedisBudget(real_redis.url, group="team")
    await budget.open()
    grant = await budget.lease("haiku", an_ask(1, wanted=5.0, head=1.0))
    assert grant.resources["requests"].granted == 5.0
    real_redis.kill()
    with pytest.raises(Unreachable):
        await budget.lease("haiku", an_ask(2))
    real_redis.start()
    grant = await budget.lease("haiku", an_ask(3, level=0.0))
    assert grant.resources["requests"].level == pytest.approx(0.0, abs=1.0)
    await budget.close()


async def test_a_redis_that_hangs_is_given_up(real_redis):
    """It accepts and does not answer: that is as good as away."""
    budget = RedisBudget(real_redis.url, group="team", timeout=0.2)
    await budget.lease("haiku", an_ask(1))
    redis.Redis(port=real_redis.port).client_pause(2_000)
    begun = time.monotonic()
    with pytest.raises(Unreachable):
        await budget.lease("haiku", an_ask(2))
    assert time.monotonic() - begun < 1.5
    await budget.close()


async def test_a_password_that_is_wrong_is_not_in_the_error():
    """Nor is anything else of the address."""
    budget = RedisBudget("redis://:secret@127.0.0.1:1", group="team")
    with pytest.raises(Unreachable) as caught:
        await budget.lease("haiku", an_ask(1))
    assert "secret" not in str(caught.value)
    await budget.close()


async def test_executors_share_over_real_sockets_and_the_group_can_be_looked_at(real_redis):
    """Three of them use what one may; they are listed, with what they share."""
    rates = Rates(1_800, 1_000_000, 1_000_000)
    settings = Settings(rates=rates, burst=0.7, latency=Latency(0.05, 500.0, 0.0))
    request = {"model": "claude-haiku-5-5", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}

    async def member(name):
        budget = RedisBudget(real_redis.url, group="team", name=name)
        async with Executor(budget=budget, api_key="none", base_url=simulator.base_url) as executor:
            begun = time.monotonic()
            await asyncio.gather(*(executor.submit(request) for _ in range(25)))
            if name == "one":
                shown = await asyncio.to_thread(look)
                assert shown.exit_code == 0, shown.output
                assert "haiku-5.5" in shown.output
                assert "one" in shown.output
            return time.monotonic() - begun

    def look():
        return CliRunner().invoke(limits, ["--shared", real_redis.url, "--group", "team"])

    with running(settings) as simulator:
        await asyncio.gather(*(member(name) for name in ("one", "two", "three")))
        stats = simulator.stats()
    assert stats["by_status"]["200"] == 75
    # The bucket is smaller than a minute's, which only refusals tell; how many depends on the machine.
    assert stats["by_status"].get("429", 0) <= 75 // 10


def test_a_redis_that_is_not_there_is_told_by_name():
    """With what to look at."""
    shown = CliRunner().invoke(limits, ["--shared", "redis://127.0.0.1:1"])
    assert shown.exit_code == 3
    assert "--shared" in shown.output


def test_a_wrong_address_is_told():
    """Before anything is asked."""
    shown = CliRunner().invoke(limits, ["--shared", "nonsense"])
    assert shown.exit_code != 0
    assert "--shared" in shown.output
