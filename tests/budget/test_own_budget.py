"""A budget that somebody else writes: the least that one has to do, with public names only."""

import asyncio

from claude_executor import Executor, Limits
from claude_executor.budget import Budget, Lease, LeaseRequest, Membership, ResourceLease
from claude_executor.simulator import Settings, Simulator
from claude_executor.simulator.world.models import Rates
from claude_executor.simulator.world.settings import Latency
from claude_executor.testing import loop_time, simulated_client

RPM, SECONDS, AT_ONCE = 600, 8.0, 15
BURST = 5.0 * RPM / 60.0
LIMITS = Limits(rpm=RPM, burst=5.0)
REQUEST = {
    "model": "claude-haiku-5-5",
    "max_tokens": 30,
    "messages": [{"role": "user", "content": "Hi"}],
}


class Shelf:
    """What the members have in common: for each resource a level, when it was so high, and the limit."""

    def __init__(self) -> None:
        self.levels: dict[tuple[str, str], float] = {}
        self.at: dict[tuple[str, str], float] = {}


class OwnBudget:
    """One member's way to the shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.membership = Membership(members=2)
        self.open_, self.left = False, False

    async def open(self) -> None:
        self.open_ = True

    async def close(self) -> None:
        self.open_ = False

    async def lease(self, pool: str, request: LeaseRequest) -> Lease:
        assert self.open_
        await asyncio.sleep(0.001)
        now, levels, at = loop_time(), self._shelf.levels, self._shelf.at
        self.left = request.leaving
        lines = {name: line for name, line in request.resources.items() if line.limits}
        for name, line in lines.items():
            key, cap = (pool, name), line.limits["cap"]
            level = levels.setdefault(key, line.level or 0.0)
            earned = line.limits["rate"] * (now - at.get(key, now))
            levels[key] = min(cap, level + earned) + line.returned + line.correction
            if line.ceiling is not None:
                levels[key] = min(levels[key], line.ceiling)
            at[key] = now
        suffices = all(line.head <= levels[pool, name] for name, line in lines.items())
        resources = {}
        for name, line in lines.items():
            granted = max(line.head, min(line.wanted, levels[pool, name])) if suffices else 0.0
            levels[pool, name] -= granted
            resources[name] = ResourceLease(granted=granted, level=levels[pool, name], limits=line.limits)
        return Lease(version=0, resources=resources, ask_again_in=0.1, members=2, share=0.5)


async def test_executors_share_by_a_budget_of_somebody_elses():
    """The sum reaches the limit and does not pass it, and each says good-bye."""
    settings = Settings(rates=Rates(RPM, 50_000_000, 10_000_000), burst=5.0, latency=Latency(0.5, 100.0, 0.0))
    simulator = Simulator(settings, clock=loop_time)
    shelf = Shelf()
    budgets: list[OwnBudget] = [OwnBudget(shelf) for _ in range(2)]
    answered = [0, 0]

    async def flood(number: int) -> None:
        budget: Budget = budgets[number]
        client = simulated_client(simulator)
        async with Executor(LIMITS, client=client, budget=budget, clock=loop_time) as executor:

            async def one() -> None:
                while loop_time() < until:
                    await executor.submit(REQUEST)
                    answered[number] += 1

            await asyncio.gather(*(one() for _ in range(AT_ONCE)))

    until = loop_time() + SECONDS
    await asyncio.gather(flood(0), flood(1))
    limit = RPM / 60.0 * SECONDS
    assert limit <= sum(answered) <= limit + BURST + len(answered) * AT_ONCE
    assert min(answered) >= 0.3 * limit
    assert simulator.stats()["by_status"].get("429", 0) <= 3
    assert all(budget.left and not budget.open_ for budget in budgets)
