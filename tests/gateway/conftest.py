"""The gateway in virtual time, in front of a simulator or of an application of the test's own."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
from tests.gateway.cassettes import Recorded
from tests.gateway.gateway_harness import FLOWING, OUR_KEY, Served

from claude_executor import Executor
from claude_executor.gateway import Gateway
from claude_executor.simulator import Simulator
from claude_executor.testing import SimulatorTransport, VirtualTimeLoop, loop_time, simulated_client

IN_REAL_TIME = "test_sockets.py"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What uses sockets lives in real time."""
    if item.path.name == IN_REAL_TIME:
        return {"real": asyncio.SelectorEventLoop}
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def serve():
    """Open a gateway, in front of a simulator with these settings or of an application that is the API."""

    @asynccontextmanager
    async def opened(settings=FLOWING, limits=None, *, faults=None, api=None, gateway=None, **options):
        simulator = Simulator(settings, faults=faults, clock=loop_time) if api is None else None
        recorded = Recorded(api if simulator is None else simulator)
        http_client = httpx2.AsyncClient(transport=SimulatorTransport(recorded))
        client = simulated_client(recorded, api_key=OUR_KEY, max_retries=2, http_client=http_client)
        executor = Executor(limits, client=client, clock=loop_time, **options)
        async with client, executor:
            app = Gateway(executor, client, http_client, **(gateway or {}))
            yield Served(executor=executor, app=app, simulator=simulator, api=recorded)

    return opened
