"""Runs the async tests of a folder on loops whose clock jumps to the next timer: nothing really waits.

A folder asks for it in its conftest: ``from tests.virtual_loop import pytest_asyncio_loop_factories``.
"""

import asyncio
from collections.abc import Callable

import pytest

from claude_executor.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give every async test a loop in virtual time."""
    return {"virtual": VirtualTimeLoop}
