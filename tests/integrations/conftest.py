"""Code we did not write, under the executor: in virtual time, but for what is synchronous."""

import asyncio
import os
from collections.abc import Callable

import pytest

from claude_executor import Executor, Limits
from claude_executor.testing import VirtualTimeLoop, loop_time, simulated_client

os.environ["LANGSMITH_TRACING"] = "false"  # it must not send anything to anybody


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give every async test a loop in virtual time."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def pair(simulator):
    """An executor, and a client of the SDK under it, as other libraries make one."""
    limits = Limits(rpm=300, itpm=2_000_000, otpm=400_000)
    executor = Executor(limits, client=simulated_client(simulator), clock=loop_time)
    return executor, simulated_client(simulator, max_retries=2, middleware=[executor.middleware()])
