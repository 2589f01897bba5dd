"""The state of one simulated organization: buckets, faults, clock, and the record of its client."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from claude_executor.simulator.audit.audit import ClientAudit
from claude_executor.simulator.audit.traffic import TrafficRecord
from claude_executor.simulator.audit.verdict import Verdict
from claude_executor.simulator.limits.buckets import LimitBucket, retry_after_seconds
from claude_executor.simulator.limits.pools import RESOURCES, LimitPool, Shortage
from claude_executor.simulator.messages.prompt_cache import PromptCache
from claude_executor.simulator.messages.prompts import PromptReader
from claude_executor.simulator.messages.tokens import TokenCounter
from claude_executor.simulator.world.faults import PROBABILITIES, Change, Faults, FaultSchedule
from claude_executor.simulator.world.models import Rates, rates_of
from claude_executor.simulator.world.settings import Settings


class Organization:
    """State that changes while the simulator runs.

    Faults, outages and rates change only inside ``tick`` and ``set_faults``, so one request sees one world
    between two ticks.

    Args:
        settings: The fixed properties of the organization.
        faults: The faults at the start.
        schedule: Pairs of seconds after the start and the change to make then.
        clock: Returns seconds from any starting point.
        epoch: Unix time at the start.

    Attributes:
        settings: The fixed properties of the organization.
        reader: Parses request bodies.
        cache: The prompt cache.
        traffic: Counts for the statistics.
        audit: Watches the client for the verdict.
        random: The only source of chance, seeded by the settings.
        count_tokens_bucket: The request limit of token counting; ``None`` for no limit.
        unreachable: Whether connections are refused, as of the last ``tick``.
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
        self.count_tokens_bucket = (
            None
            if settings.count_tokens_rpm is None
            else LimitBucket(settings.count_tokens_rpm, settings.burst, now)
        )
        self._clock = clock
        self._started_at = now
        self._epoch = epoch
        self._pools: dict[str, LimitPool] = {}
        self._schedule = FaultSchedule(faults, schedule, now)
        self._last_number = 0
        self._outage = False
        self.unreachable = False
        self._fault_chances: tuple[tuple[str, float], ...] = ()
        self._next_change_at = now
        self._apply_change(now)

    @property
    def faults(self) -> Faults:
        """The faults in force, as of the last ``tick``."""
        return self._schedule.faults

    def tick(self) -> float:
        """Read the clock and apply every change that is due; return the current instant."""
        now = self._clock()
        if now >= self._next_change_at:
            while (at := self._schedule.advance(now)) is not None:
                self._apply_change(at)
            self._look_ahead(now)
        return now

    def wall(self, now: float) -> float:
        """Convert an instant of the clock to Unix time."""
        return self._epoch + now - self._started_at

    def set_faults(self, change: Change) -> None:
        """Change the faults now."""
        now = self.tick()
        self._schedule.set(change, now)
        self._apply_change(now)
        self._look_ahead(now)

    def in_outage(self, pool: str) -> bool:
        """Whether the pool is out of service or the API unreachable, as of the last ``tick``."""
        if not self._outage:
            return False
        if self.unreachable:
            return True
        pools = self.faults.outage_pools
        return not pools or pool in pools

    def pool(self, name: str) -> LimitPool:
        """Return the live buckets of a pool; they are created, full, on first use."""
        pool = self._pools.get(name)
        if pool is None:
            now = self._clock()
            pool = self._pools[name] = LimitPool(name, self._rates(name), self.settings, now)
            pool.change(self._rates(name), self.faults.neighbours, now)
        return pool

    def admit_count_tokens(self, now: float) -> Shortage | None:
        """Take one request from the limit of token counting; return the shortage if there is none left."""
        bucket = self.count_tokens_bucket
        if bucket is None:
            return None
        if bucket.holds(1, now):
            bucket.take(1, now)
            return None
        return Shortage(
            "requests", "count_tokens", bucket.per_minute, retry_after_seconds(bucket.wait(1, now))
        )

    def draw_faults(self) -> list[str]:
        """Draw the faults that hit one request, in their order of declaration."""
        return [name for name, chance in self._fault_chances if self.random.random() < chance]

    def next_number(self) -> int:
        """Return a number that no earlier call returned."""
        self._last_number += 1
        return self._last_number

    def verdict(self) -> Verdict:
        """Return the verdict on the client so far."""
        return self.audit.verdict(self._debts(self.tick()), self.in_outage)

    def stats(self) -> dict[str, Any]:
        """Return traffic statistics and bucket levels, as JSON values."""
        now = self.tick()
        levels = {
            name: {
                resource: round(bucket.level(now), 3)
                for resource in RESOURCES
                if (bucket := pool.bucket(resource)) is not None
            }
            for name, pool in self._pools.items()
        }
        report = self.traffic.report()
        return report | {"now": now, "started_at": self._started_at, "outage": self._outage, "levels": levels}

    def _rates(self, pool: str) -> Rates:
        rates = self.faults.rates
        return rates_of(pool, self.settings.rates if rates is None else rates, self.settings.models)

    def _debts(self, now: float) -> Mapping[str, Mapping[str, float]]:
        debts: dict[str, dict[str, float]] = {}
        for name, pool in self._pools.items():
            for resource in RESOURCES:
                bucket = pool.bucket(resource)
                if bucket is not None and (bucket.level(now) < 0 or bucket.lowest < -1e-6):
                    debts.setdefault(name, {})[resource] = round(-bucket.lowest, 3)
        return debts

    def _look_ahead(self, now: float) -> None:
        self._note_outage(now)
        self._next_change_at = self._schedule.next_at(now)

    def _apply_change(self, at: float) -> None:
        faults = self.faults
        chances = ((name, float(getattr(faults, name))) for name in PROBABILITIES)
        self._fault_chances = tuple((name, chance) for name, chance in chances if chance > 0)
        for name, pool in self._pools.items():
            pool.change(self._rates(name), faults.neighbours, at)
        was_out = self._outage
        self._note_outage(at)
        if self._outage and not was_out:
            self.audit.outage_began(self.traffic.in_flight)

    def _note_outage(self, now: float) -> None:
        self.unreachable = self._schedule.is_on("unreachable", now)
        self._outage = self.unreachable or self._schedule.is_on("outage", now)
