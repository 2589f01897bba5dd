"""A simulator in a process of its own that remembers how often each row was sent."""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import httpx2
import orjson


class Observed:
    """A simulator that remembers how often each row was sent, and tells it under ``/sent``."""

    def __init__(self) -> None:
        from claude_executor.simulator import Latency, Lengths, Rates, Settings, Simulator

        settings = Settings(rates=Rates(), latency=Latency(0.3, spread=0.5), output_tokens=Lengths(20))
        self.simulator = Simulator(settings)
        self.sent: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - that is ASGI
        """Serve a request."""
        if scope["path"] == "/sent":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": orjson.dumps(self.sent)})
            return

        async def overheard() -> Any:  # noqa: ANN401
            message = await receive()
            if message.get("body"):  # of such a small request all comes at once
                self.sent[orjson.loads(message["body"])["metadata"]["user_id"]] += 1
            return message

        await self.simulator(scope, overheard if scope["path"] == "/v1/messages" else receive, send)


def _serve(tell: Connection) -> None:
    from claude_executor.simulator.server.server import build_server, listen, url_of

    listener = listen("127.0.0.1", 0)
    server = build_server(Observed())  # type: ignore[arg-type]
    tell.send(url_of(listener))
    asyncio.run(server.serve(sockets=[listener]))


@contextmanager
def observed() -> Iterator[str]:
    """Start it in a process of its own; its address."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def settled(url: str) -> Counter[str]:
    """How often each row was sent, once the simulator has noticed that nobody is there any more."""
    while httpx2.get(f"{url}/simulator/stats").json()["in_flight"]:
        time.sleep(0.05)
    return Counter(httpx2.get(f"{url}/sent").json())
