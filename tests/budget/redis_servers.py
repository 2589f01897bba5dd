"""Real Redises for tests, and one in memory whose time is the test's."""

import asyncio

import fakeredis
from benchmarks.support.redis_servers import GuardedRedis
from benchmarks.support.redis_servers import RedisServer as RealRedis

from claude_executor import RedisBudget

__all__ = ["Clock", "GuardedRedis", "MemoryBudget", "RealRedis"]


class Clock:
    """What a Redis in memory takes for the time."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self):
        return self.now


class MemoryBudget(RedisBudget):
    """A budget in a Redis in memory; `away` is what a cut network is, `delay` a slow one."""

    def __init__(self, server, **options):
        super().__init__("redis://nowhere", **{"group": "team", **options})
        self._server = server
        self.away = False
        self.delay = 0.0
        self.error: Exception | None = None

    async def lease(self, pool, ask):
        if self.delay:
            await asyncio.sleep(self.delay)
        return await super().lease(pool, ask)

    def _connected(self):
        if self.away:
            raise ConnectionError("cut off")
        if self.error is not None:
            raise self.error
        if self._client is None:
            super()._connected()
            self._client = fakeredis.FakeAsyncRedis(server=self._server)
        return self._client
