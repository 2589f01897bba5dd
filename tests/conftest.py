"""What all tests share."""

import random

import httpx2
import pytest

# respx patches httpx; the SDK stands on httpx2. The alias must be made before anything imports httpx.
httpx2.alias_httpx()

pytest_plugins = ["claude_executor.testing.fixtures"]


@pytest.fixture(autouse=True)
def same_chance():
    """The jitter of executors is the same in every run: a test fails always or never."""
    random.seed(20_260_101)
