"""Fixtures for pytest.

Put ``pytest_plugins = ["claude_executor.testing.fixtures"]`` into the top ``conftest.py``.

``simulator`` lives in the process and keeps the time of the event loop that the test runs in; with a virtual
one, nothing waits. To run every test under a ``conftest.py`` in virtual time, define pytest-asyncio's hook
there (1.4 or later)::

    from claude_executor.testing import VirtualTimeLoop

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualTimeLoop}

``simulator_server`` listens on a real socket and keeps real time. Both take their settings and faults from a
mark::

    @pytest.mark.simulator(Settings.strict(), faults=Faults(error_500=0.1))
    async def test_something(simulator): ...
"""

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio

from claude_executor.simulator import RunningSimulator, Simulator, running
from claude_executor.testing.virtual_time import loop_time


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers", "simulator(settings, faults=, schedule=): what the simulator of this test is like"
    )


@pytest_asyncio.fixture
async def simulator(request: pytest.FixtureRequest) -> Simulator:
    """A simulator in this process, on the clock of the test's loop. Use it through ``simulated_client``."""
    args, options = _marked(request)
    return Simulator(*args, clock=loop_time, **options)


@pytest.fixture
def simulator_server(request: pytest.FixtureRequest) -> Iterator[RunningSimulator]:
    """A simulator on a real socket, in real time: pass its ``base_url`` to any client."""
    args, options = _marked(request)
    with running(*args, **options) as server:
        yield server


def _marked(request: pytest.FixtureRequest) -> tuple[tuple[Any, ...], dict[str, Any]]:
    mark = request.node.get_closest_marker("simulator")
    return (mark.args, mark.kwargs) if mark is not None else ((), {})
