"""Every async test here runs in virtual time, against a simulator in this process."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.virtual_loop import pytest_asyncio_loop_factories

from claude_executor.simulator import Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import SimulatorTransport, loop_time

__all__ = ["pytest_asyncio_loop_factories"]

MODEL = "claude-haiku-5-5"


class Raw:
    """A client without manners: it sends what it is told, when it is told."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.transport = SimulatorTransport(simulator)
        self.http = httpx2.AsyncClient(transport=self.transport, base_url="http://simulator", timeout=600)

    def body(self, text: str = "hello", **more: Any) -> dict[str, Any]:
        message = {"role": "user", "content": text}
        return {"model": MODEL, "max_tokens": 500, "messages": [message], **more}

    async def send(self, text: str = "hello", *, headers: dict[str, str] | None = None, **more: Any):
        return await self.post(self.body(text, **more), headers=headers)

    async def post(self, body: Any, *, path: str = "/v1/messages", headers: dict[str, str] | None = None):
        return await self.http.post(path, json=body, headers=headers or {"x-api-key": "k"})


@pytest.fixture
def make() -> Callable[..., Raw]:
    """Build a client and its simulator: answers of exactly 100 tokens, no limits unless asked for."""

    def build(rates: Rates | None = None, *, latency: Latency | None = None, **options: Any) -> Raw:
        known = {"faults", "schedule", "epoch"}
        settings = {
            "rates": rates or Rates(),
            "latency": latency or Latency(),
            "output_tokens": Lengths(100, 0),
            **{name: value for name, value in options.items() if name not in known},
        }
        world = {name: value for name, value in options.items() if name in known}
        return Raw(Simulator(Settings(**settings), clock=loop_time, **world))

    return build
