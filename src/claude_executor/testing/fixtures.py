"""Fixtures for pytest: ``simulator`` and ``simulator_server``.

Put ``pytest_plugins = ["claude_executor.testing.fixtures"]`` into the top-level ``conftest.py``.

``simulator`` runs inside the test process, on the clock of the test's event loop; in virtual time, no test
waits. To run every test below a ``conftest.py`` in virtual time, define pytest-asyncio's hook there (1.4 or
later)::

    from claude_executor.testing import VirtualTimeLoop

    def pytest_asyncio_loop_factories(config, item):
        return {"virtual": VirtualTimeLoop}

``simulator_server`` listens on a real socket, in real time. Both fixtures take their settings and faults from
a mark::

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
    """Register the mark."""
    config.addinivalue_line(
        "markers",
        "simulator(settings, faults=, schedule=): settings and faults of the simulator of this test",
    )


@pytest_asyncio.fixture
async def simulator(request: pytest.FixtureRequest) -> Simulator:
    """Provide a simulator in this process, on the clock of the test's loop; see ``simulated_client``."""
    args, options = _marked(request)
    return Simulator(*args, clock=loop_time, **options)


@pytest.fixture
def simulator_server(request: pytest.FixtureRequest) -> Iterator[RunningSimulator]:
    """Provide a simulator on a real socket, in real time; pass its ``base_url`` to any client."""
    args, options = _marked(request)
    with running(*args, **options) as server:
        yield server


def _marked(request: pytest.FixtureRequest) -> tuple[tuple[Any, ...], dict[str, Any]]:
    mark = request.node.get_closest_marker("simulator")
    return (mark.args, mark.kwargs) if mark is not None else ((), {})
