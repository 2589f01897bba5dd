"""Several executors, one simulator and a Redis in memory, in virtual time."""

import asyncio
import copy
import pickle
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any
from unittest.mock import AsyncMock, Mock, patch

import pytest
from redis.exceptions import AuthenticationError, OutOfMemoryError, ResponseError
from tests.budget.redis_servers import MemoryBudget

from claude_executor import BudgetUnreachable, Executor, Limits, RedisBudget, SharingChanged
from claude_executor.cli.service import group_status as team_of
from claude_executor.core.model.sharing import LeaseRequest
from claude_executor.simulator import Settings, Simulator
from claude_executor.simulator.world.models import Rates
from claude_executor.simulator.world.settings import Latency, Lengths
from claude_executor.testing import loop_time, simulated_client

RPM = 600
LATENCY = Latency(0.5, 100.0, 0.0)


class LoopClock:
    """The Redis in memory lives in the time of the loop."""

    def time(self):
        return 1_800_000_000.0 + asyncio.get_running_loop().time()


class Team:
    """Executors of one group, and what becomes of their requests."""

    def __init__(self, memory):
        self._memory = memory
        self.simulate(Settings(rates=Rates(RPM, 50_000_000, 10_000_000), burst=5.0, latency=LATENCY))
        self.answered: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.failed: list[Exception] = []
        self.events: list[Any] = []
        self.budgets: list[MemoryBudget] = []

    def simulate(self, settings):
        self.simulator = Simulator(settings, clock=loop_time)

    def member(self, limits=None, *, shift=0.0, **options):
        budget = MemoryBudget(self._memory, **options)
        self.budgets.append(budget)
        return Executor(
            limits,
            client=simulated_client(self.simulator),
            budget=budget,
            clock=lambda: loop_time() + shift,
            on_event=self.events.append,
        )

    async def flood(self, executor, name, until, *, at_once=60, max_tokens=30):
        async def one():
            while loop_time() < until:
                try:
                    message = await executor.submit(params(name, max_tokens))
                    self.answered[name] += 1
                    self.tokens[name] += message.usage.output_tokens
                except Exception as error:
                    self.failed.append(error)
                    await asyncio.sleep(0.5)

        await asyncio.gather(*(one() for _ in range(at_once)))

    @property
    def refused(self):
        return self.simulator.stats()["by_status"].get("429", 0)

    @property
    def admitted(self):
        return self.simulator.stats()["admitted"]


def params(name, max_tokens=30):
    message = {"role": "user", "content": name}
    return {"model": "claude-haiku-5-5", "max_tokens": max_tokens, "messages": [message]}


@pytest.fixture
def team(memory, monkeypatch):
    from fakeredis.commands_mixins import server_mixin

    monkeypatch.setattr(server_mixin, "time", LoopClock())
    return Team(memory)


async def test_together_they_reach_the_limit_fairly_and_do_not_pass_it(team):
    """Four that know no limits, one with a clock an hour fast and one with a clock an hour slow."""
    async with (
        team.member(shift=3600.0) as a,
        team.member(shift=-3600.0) as b,
        team.member() as c,
        team.member() as d,
    ):
        names = "abcd"
        until = loop_time() + 35.0
        floods = (team.flood(e, name, until) for e, name in zip((a, b, c, d), names, strict=True))
        begun = asyncio.gather(*floods)
        await asyncio.sleep(15.0)
        before = team.answered.copy()
        await asyncio.sleep(20.0)
        got = {name: team.answered[name] - before[name] for name in names}
        await begun
    assert sum(got.values()) >= 0.95 * RPM / 60.0 * 20.0
    assert team.refused <= 0.01 * team.admitted
    fair = sum(got.values()) / 4
    assert all(abs(count - fair) <= 0.15 * fair for count in got.values()), got
    assert not team.failed


async def test_long_answers_are_shared_as_fairly(team):
    """At first nobody knows how long they are; each takes more than a second of a member's share."""
    otpm = 80_000
    team.simulate(
        Settings(
            rates=Rates(100_000, 50_000_000, otpm),
            burst=20.0,
            latency=LATENCY,
            output_tokens=Lengths(600.0, 0.2),
        )
    )
    async with AsyncExitStack() as stack:
        members = {name: await stack.enter_async_context(team.member()) for name in "abcd"}
        until = loop_time() + 40.0
        floods = (team.flood(e, name, until, at_once=12, max_tokens=1500) for name, e in members.items())
        begun = asyncio.gather(*floods)
        await asyncio.sleep(20.0)
        before = team.tokens.copy()
        await asyncio.sleep(20.0)
        got = {name: team.tokens[name] - before[name] for name in members}
        await begun
    fair = sum(got.values()) / len(members)
    assert all(abs(tokens - fair) <= 0.2 * fair for tokens in got.values()), got
    assert team.refused <= 0.01 * team.admitted


async def test_no_more_fly_together_than_the_group_may(team):
    """Three that would like to have twenty each."""
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(team.member(max_concurrency=6)) for _ in "abc"]
        until = loop_time() + 12.0
        floods = zip(members, "abc", strict=True)
        await asyncio.gather(*(team.flood(e, name, until, at_once=20) for e, name in floods))
    assert team.simulator.stats()["peak_in_flight"] == 6
    assert min(team.answered.values()) >= 0.7 * team.answered.total() / 3
    assert not team.failed


async def test_an_urgent_request_does_not_wait_behind_the_bulk_of_its_own_member(team):
    """Two that want all they can get; one of them has something urgent now and then."""
    waits = []
    async with team.member() as a, team.member() as b:
        until = loop_time() + 22.0
        floods = asyncio.gather(team.flood(a, "a", until), team.flood(b, "b", until))
        await asyncio.sleep(10.0)
        while loop_time() < until:
            begun = loop_time()
            await a.submit(params("urgent"), priority=1)
            waits.append(loop_time() - begun)
            await asyncio.sleep(1.0)
        await floods
    answer = 0.5 + 30 / 100.0
    assert max(waits) <= answer + 0.1


async def test_what_the_first_has_learned_the_second_knows(team):
    """Nobody declared a limit; the second member has not sent anything yet."""
    async with team.member() as first, team.member() as second:
        await first.submit(params("first"))
        await asyncio.sleep(3.0)
        await second.submit(params("second"))
        learned = [e for e in team.events if type(e).__name__ == "LimitLearned" and e.resource == "requests"]
        assert len(learned) == 2
        assert second.snapshot().pools["haiku-5.5"].members == 2


async def test_a_light_member_does_not_wait_for_heavy_ones(team):
    """One request a second beside three that want all they can get."""
    waits = []
    async with team.member() as light, team.member() as b, team.member() as c, team.member() as d:
        until = loop_time() + 25.0
        floods = asyncio.gather(*(team.flood(e, n, until) for e, n in ((b, "b"), (c, "c"), (d, "d"))))
        await asyncio.sleep(10.0)
        while loop_time() < until:
            begun = loop_time()
            await light.submit(params("light"))
            waits.append(loop_time() - begun)
            await asyncio.sleep(1.0)
        await floods
    assert max(waits) <= 2.0


async def test_a_cut_network_is_no_flood(team):
    """Nobody can ask for longer than the dead are remembered, and Redis comes back empty."""
    async with team.member() as a, team.member() as b:
        until = loop_time() + 45.0
        executors = zip((a, b), "ab", strict=True)
        floods = asyncio.gather(*(team.flood(e, name, until) for e, name in executors))
        await asyncio.sleep(12.0)
        refused, admitted = team.refused, team.admitted
        for budget in team.budgets:
            budget.away = True
        await asyncio.sleep(14.0)
        alone = team.admitted - admitted
        await team.budgets[0]._client.flushall()
        for budget in team.budgets:
            budget.away = False
        await asyncio.sleep(5.0)
        back = team.admitted
        await asyncio.sleep(14.0)
        after = team.admitted - back
        await floods
    assert alone <= 1.1 * RPM / 60.0 * 14.0
    assert after >= 0.9 * RPM / 60.0 * 14.0
    assert team.refused - refused <= 0.02 * (team.admitted - admitted)
    assert not team.failed
    states = [event.state for event in team.events if isinstance(event, SharingChanged)]
    assert Counter(states) == {"shared": 4, "alone": 2}


async def test_one_that_is_never_reached_takes_its_supposed_share(team):
    """From the start there is no Redis."""
    async with team.member(Limits(rpm=RPM), members=4) as executor:
        team.budgets[0].away = True
        flood = asyncio.ensure_future(team.flood(executor, "a", loop_time() + 20.0))
        await asyncio.sleep(20.0)
        admitted = team.admitted
        await flood
    assert admitted == pytest.approx(RPM / 60.0 * 20.0 / 4.0, rel=0.2)


async def test_where_the_policy_says_so_it_is_refused(team):
    """With what to do about it."""
    async with team.member(when_unreachable="fail") as executor:
        team.budgets[0].away = True
        with pytest.raises(BudgetUnreachable, match=r"\(ConnectionError\); check Redis"):
            await executor.submit(params("a"))
    assert team.admitted == 0


async def test_an_outage_from_the_start_does_not_last_for_ever(team):
    """Nobody knows a limit when the breaker opens, so that there is nothing to ask for but to probe."""
    team.simulator.set_faults(outage=float("inf"))
    async with team.member() as a, team.member() as b:
        floods = [team.flood(e, name, loop_time() + 16.0, at_once=10) for e, name in ((a, "a"), (b, "b"))]
        begun = asyncio.gather(*floods)
        await asyncio.sleep(6.0)
        calls = sum(budget.calls for budget in team.budgets)
        assert calls < 120
        team.simulator.set_faults(outage=0.0)
        await begun
    assert min(team.answered["a"], team.answered["b"]) > 50


async def test_copies_of_one_budget_are_members_of_their_own(memory):
    """As a process has them that was forked, or to which it was sent."""
    budget = MemoryBudget(memory)
    with patch.object(MemoryBudget, "_server", memory, create=True):
        del budget._server  # which is no part of any budget that is sent
        copies = [budget, copy.copy(budget), pickle.loads(pickle.dumps(budget))]
        for each in copies:
            await each.open()
            grant = await each.lease("haiku", LeaseRequest(seq=1, weight=1.0, version=0))
        assert grant.members == len(copies)
        for each in copies:
            await each.close()


async def test_one_budget_is_not_for_two_executors(team):
    """To the group they would be one member, with one share."""
    async with team.member() as executor:
        budget = team.budgets[0]
        with pytest.raises(RuntimeError, match="one for each executor"):
            await Executor(client=simulated_client(team.simulator), budget=budget).__aenter__()
        await executor.submit(params("a"))
    async with Executor(client=simulated_client(team.simulator), budget=budget) as executor:
        await executor.submit(params("a"))


def limit_of(executor):
    resource = executor.snapshot().pools["haiku-5.5"].resources["requests"]
    return resource.limit, resource.capacity


async def test_what_one_declares_holds_while_it_is_there(team):
    """Be it that it goes, or changes its mind while Redis is away."""
    async with team.member(Limits(rpm=300, burst=20.0)) as stays:
        await stays.submit(params("a"))
        async with team.member(Limits(rpm=60, burst=2.0)) as goes:
            await goes.submit(params("b"))
            await asyncio.sleep(5.0)
            assert limit_of(stays) == (60.0, 2.0)
            team.budgets[1].away = True
            await asyncio.sleep(3.0)
            goes.reconfigure(Limits(rpm=120, burst=3.0))
            await asyncio.sleep(3.0)
            team.budgets[1].away = False
            await asyncio.sleep(6.0)
            assert limit_of(stays) == (120.0, 6.0)
        await asyncio.sleep(5.0)
        assert limit_of(stays) == (300.0, 51.0)


async def test_a_group_is_listed_whatever_its_members_are_called_and_without_the_dead(team, capsys):
    """A name is no markup; and who has been killed is not at work any more, though nobody has noticed."""
    async with team.member(name="w[/x]") as executor:
        await executor.submit(params("a"))
        await asyncio.sleep(3.0)
        states = await team.budgets[0].states()
        with patch.object(team_of, "_states", new=AsyncMock(return_value=states)):
            await asyncio.to_thread(team_of.show, Mock(), as_json=False)
        assert "w[/x]" in capsys.readouterr().out
        team.budgets[0].away = True
        await asyncio.sleep(11.0)
        team.budgets[0].away = False
        (state,) = (await team.budgets[0].states()).values()
        assert team_of._described("haiku-5.5", state)["members"] == []


async def test_who_goes_while_it_tells_of_what_was_left_over_has_told_it(team):
    """It goes the moment a call has begun that gives back most of what an answer was expected to take."""
    async with team.member(Limits(otpm=600)) as goes:
        budget = team.budgets[0]
        await goes.submit(params("b", max_tokens=550))
        budget.delay = 0.3
        purse = goes._scheduler._pools["haiku-5.5"].estimators["output tokens"].bucket
        back = purse.owed
        for _ in range(60):
            await asyncio.sleep(0.05)
            if not purse.owed:
                break
    (state,) = (await budget.states()).values()
    await budget.close()
    assert back > 100.0
    assert state["pots"]["output tokens"] > 600.0 - back


@pytest.mark.parametrize(
    ("error", "because"),
    [
        (AuthenticationError("secret"), "AuthenticationError"),
        (OutOfMemoryError("command not allowed"), "OutOfMemoryError: command not allowed"),
        (ResponseError("NOPERM this user has no permissions to run 'evalsha' on secret"), "NOPERM this user"),
        (KeyError("secret"), "KeyError"),  # a mistake of ours, say: nobody may wait for ever because of it
    ],
)
async def test_why_redis_does_not_answer_is_told(team, error, because):
    """A wrong password is mended in another way than a cable; but it is not shown."""
    async with team.member(Limits(rpm=RPM)) as executor:
        team.budgets[0].error = error
        await executor.submit(params("a"))
    (event,) = [event for event in team.events if isinstance(event, SharingChanged)]
    assert because in event.reason
    assert "secret" not in event.reason


async def test_who_goes_gives_up_its_place(team):
    """An executor that is left is not waited for."""
    async with team.member() as stays:
        async with team.member() as goes:
            await asyncio.gather(stays.submit(params("a")), goes.submit(params("b")))
            await asyncio.sleep(3.0)
            assert stays.snapshot().pools["haiku-5.5"].members == 2
        await asyncio.sleep(3.0)
        assert stays.snapshot().pools["haiku-5.5"].members == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"group": ""},
        {"group": "a{b}"},
        {"when_unreachable": "panic"},
        {"timeout": 0.0},
        {"members": 0},
        {"max_concurrency": 0},
        {"weight": -1.0},
    ],
)
def test_a_budget_is_checked_when_it_is_made(wrong):
    """And not when Redis is asked."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RedisBudget("redis://127.0.0.1", **{"group": "team", **wrong})


def test_the_address_is_not_shown():
    """It may hold a password."""
    assert "secret" not in repr(RedisBudget("redis://:secret@127.0.0.1", group="team"))
