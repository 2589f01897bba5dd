"""Every async test here runs in virtual time."""

from claude_executor.testing import VirtualTimeLoop


def pytest_asyncio_loop_factories(config, item):
    """Give every async test here a loop in virtual time."""
    return {"virtual": VirtualTimeLoop}
