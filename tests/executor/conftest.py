"""The tests below run the executor, the SDK and the simulator in virtual time: nothing really waits."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from claude_executor import Executor, Limits
from claude_executor.simulator import Simulator
from claude_executor.testing import VirtualTimeLoop, loop_time, simulated_client


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give every test a loop in virtual time."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def executor_on(request: pytest.FixtureRequest) -> Callable[..., Executor]:
    """Make an executor whose client is connected to a simulator and whose clock is the loop's."""

    def make(simulator: Simulator, limits: Limits | None = None, **options: Any) -> Executor:
        options.setdefault("clock", loop_time)
        return Executor(limits, client=simulated_client(simulator), **options)

    return make
