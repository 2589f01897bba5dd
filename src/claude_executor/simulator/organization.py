"""The state of one simulated organisation: buckets, faults, clock, and what was seen of its client."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from claude_executor.simulator.audit.audit import ClientAudit
from claude_executor.simulator.audit.ledger import TrafficRecord
from claude_executor.simulator.audit.verdict import Verdict
from claude_executor.simulator.limits.buckets import Tank, quoted
from claude_executor.simulator.limits.pools import RESOURCES, LimitPool, Shortage
from claude_executor.simulator.messages.prompt_cache import PromptCache
from claude_executor.simulator.messages.prompts import PromptReader
from claude_executor.simulator.messages.tokens import TokenCounter
from claude_executor.simulator.world.faults import PROBABILITIES, Change, Faults, Script
from claude_executor.simulator.world.models import rates_of
from claude_executor.simulator.world.settings import Settings


class Organization:
    """Everything that changes while the simulator runs.

    Args:
        settings: What never changes.
        faults: The world at the start.
        schedule: What changes when, in seconds after the start.
        clock: Seconds from anywhere.
        epoch: Unix time at the start.
    """

    def __init__(
        self,
        settings: Settings,
        faults: Faults,
        schedule: Sequence[tuple[float, Change]],
        clock: Callable[[], float],
        epoch: float,
    ) -> None:
        now = clock()
        self.settings = settings
        self.reader = PromptReader(settings, TokenCounter())
        self.cache = PromptCache(settings.cache_minimum, clock)
        self.traffic = TrafficRecord()
        self.audit = ClientAudit()
        self.random = random.Random(settings.seed)
        self.counting = (
            None
            if settings.count_tokens_rpm is None
            else Tank(settings.count_tokens_rpm, settings.burst, now)
        )
        self._clock = clock
        self._started_at = now
        self._epoch = epoch
        self._pools: dict[str, LimitPool] = {}
        self._script = Script(faults, schedule, now)
        self._answers = 0
        self._out = False
        self.unreachable = False
        self._possible: tuple[tuple[str, float], ...] = ()
        self._news_at = now
        self._changed(now)

    @property
    def faults(self) -> Faults:
        """The world as it is."""
        return self._script.faults

    def tick(self) -> float:
        """Read the clock and let everything happen that was due."""
        now = self._clock()
        if now >= self._news_at:
            while (at := self._script.advance(now)) is not None:
                self._changed(at)
            self._look_ahead(now)
        return now

    def wall(self, now: float) -> float:
        """Unix time at an instant of the clock."""
        return self._epoch + now - self._started_at

    def set_faults(self, change: Change) -> None:
        """Change the world now."""
        now = self.tick()
        self._script.set(change, now)
        self._changed(now)
        self._look_ahead(now)

    def out(self, pool: str) -> bool:
        """Whether a pool is out of service, or nobody listens at all, as of the last ``tick``."""
        if not self._out:
            return False
        if self.unreachable:
            return True
        pools = self.faults.outage_pools
        return not pools or pool in pools

    def pool(self, name: str) -> LimitPool:
        """The live buckets of a pool."""
        pool = self._pools.get(name)
        if pool is None:
            now = self._clock()
            pool = self._pools[name] = LimitPool(name, self._rates(name), self.settings, now)
            pool.change(self._rates(name), self.faults.neighbours, now)
        return pool

    def count(self, now: float) -> Shortage | None:
        """Take one request from the pool of token counting, or say why not."""
        tank = self.counting
        if tank is None:
            return None
        if tank.holds(1, now):
            tank.take(1, now)
            return None
        return Shortage("requests", "count_tokens", tank.per_minute, quoted(tank.wait(1, now)))

    def struck(self) -> list[str]:
        """Throw the dice: the faults that strike this request, in their order of declaration."""
        return [name for name, chance in self._possible if self.random.random() < chance]

    def number(self) -> int:
        """A number that was never given before."""
        self._answers += 1
        return self._answers

    def verdict(self) -> Verdict:
        """The judgement on the client so far."""
        return self.audit.verdict(self._debts(self.tick()), self.out)

    def stats(self) -> dict[str, Any]:
        """The numbers so far, as JSON can say them."""
        now = self.tick()
        levels = {
            name: {
                resource: round(tank.level(now), 3)
                for resource in RESOURCES
                if (tank := pool.tank(resource)) is not None
            }
            for name, pool in self._pools.items()
        }
        report = self.traffic.report()
        return report | {"now": now, "started_at": self._started_at, "outage": self._out, "levels": levels}

    def _rates(self, pool: str) -> Any:  # noqa: ANN401
        rates = self.faults.rates
        return rates_of(pool, self.settings.rates if rates is None else rates, self.settings.models)

    def _debts(self, now: float) -> Mapping[str, Mapping[str, float]]:
        debts: dict[str, dict[str, float]] = {}
        for name, pool in self._pools.items():
            for resource in RESOURCES:
                tank = pool.tank(resource)
                if tank is not None and (tank.level(now) < 0 or tank.lowest < -1e-6):
                    debts.setdefault(name, {})[resource] = round(-tank.lowest, 3)
        return debts

    def _look_ahead(self, now: float) -> None:
        self._note_outage(now)
        self._news_at = self._script.next_at(now)

    def _changed(self, at: float) -> None:
        faults = self.faults
        chances = ((name, float(getattr(faults, name))) for name in PROBABILITIES)
        self._possible = tuple((name, chance) for name, chance in chances if chance > 0)
        for name, pool in self._pools.items():
            pool.change(self._rates(name), faults.neighbours, at)
        was_out = self._out
        self._note_outage(at)
        if self._out and not was_out:
            self.audit.outage_began(self.traffic.in_flight)

    def _note_outage(self, now: float) -> None:
        self.unreachable = self._script.lasts("unreachable", now)
        self._out = self.unreachable or self._script.lasts("outage", now)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON can say it."""
    return asdict(verdict) | {"clean": verdict.clean, "findings": verdict.findings}
