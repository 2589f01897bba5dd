"""A gateway that is open, and what is sent to it."""

from types import SimpleNamespace

import anthropic
import httpx2
from tests.gateway.raw_http import ByHand

from claude_executor.simulator import Latency, Lengths, Rates, Settings

OUR_KEY = "sk-ant-the-gateways-own"
FLOWING = Settings(
    rates=Rates(rpm=6_000, itpm=2_000_000, otpm=400_000),
    latency=Latency(0.5, 100.0, 0.1),
    output_tokens=Lengths(60, 0.3),
)


def prompt(text="Hello", **more):
    """What an SDK sends for a message."""
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 256,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


class Served(SimpleNamespace):
    """A gateway that is open: `executor`, `app`, the `simulator` if there is one, and the `api` behind it."""

    def ask(self, body=None, path="/v1/messages", **how):
        """Send a request by hand."""
        return ByHand(self.app, path, body, **how)

    def sdk(self, **options):
        """The official SDK for Python, as anybody would point it at the gateway."""
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=True)
        http_client = httpx2.AsyncClient(transport=transport)
        options = {"api_key": "of-the-client", "base_url": "http://localhost", **options}
        return anthropic.AsyncAnthropic(http_client=http_client, **options)

    @property
    def free(self):
        """Whether nobody waits, and no place and no estimate is held."""
        snapshot = self.executor.snapshot()
        pools = self.executor._scheduler._pools.values()
        waits = snapshot.running + snapshot.queued + snapshot.waiting_to_retry
        return not waits and not any(any(pool.flight.reserved) for pool in pools)
