"""Redises for the tests below."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from typing import TypeVar

import fakeredis
import pytest
from tests.budget.redis_servers import Clock, GuardedRedis, RealRedis

from claude_executor.testing import VirtualTimeLoop

IN_VIRTUAL_TIME = ("test_group.py", "test_own_budget.py")

Server = TypeVar("Server", RealRedis, GuardedRedis)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A real Redis lives in real time, one in memory in any."""
    if item.path.name in IN_VIRTUAL_TIME:
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.SelectorEventLoop}


@pytest.fixture(scope="session")
def installed() -> None:
    """Where there is no Redis to run, the test is skipped, but not where CI_REDIS says so."""
    if shutil.which("redis-server") is None:
        why = "no redis-server on the path (Debian: apt-get install redis-server)"
        if os.environ.get("CI_REDIS"):
            pytest.fail(why)
        pytest.skip(why)


@pytest.fixture
def real_redis(installed: None) -> Iterator[RealRedis]:
    """A running Redis."""
    yield from _running(RealRedis())


@pytest.fixture
def guarded_redis(installed: None) -> Iterator[GuardedRedis]:
    """A running primary with a replica, and a Sentinel that does not wait long."""
    yield from _running(GuardedRedis(down_after=1.0))


def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The time of every Redis in memory."""
    from fakeredis.commands_mixins import server_mixin

    clock = Clock()
    monkeypatch.setattr(server_mixin, "time", clock)
    return clock


@pytest.fixture
def memory() -> fakeredis.FakeServer:
    """The memory that budgets share."""
    return fakeredis.FakeServer()
