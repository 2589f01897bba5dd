"""What all tests share."""

import random
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from claude_executor import Executor, Limits
from claude_executor.simulator import Simulator
from claude_executor.testing import loop_time, simulated_client

# respx patches httpx; the SDK stands on httpx2. The alias must be made before anything imports httpx.
httpx2.alias_httpx()

pytest_plugins = ["claude_executor.testing.fixtures"]


@pytest.fixture(autouse=True)
def same_chance():
    """The jitter of executors is the same in every run: a test fails always or never."""
    random.seed(20_260_101)


@pytest.fixture
def executor_on() -> Callable[..., Executor]:
    """Make an executor whose client is connected to a simulator and whose clock is the loop's."""

    def make(simulator: Simulator, limits: Limits | None = None, **options: Any) -> Executor:
        options.setdefault("clock", loop_time)
        return Executor(limits, client=simulated_client(simulator), **options)

    return make
