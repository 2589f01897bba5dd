"""The simulator in a process of its own, so that it and the contestant do not share an event loop."""

import asyncio
import multiprocessing
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import httpx2
from starlette.responses import JSONResponse

from claude_executor.simulator import Change, Faults, Settings, Simulator
from claude_executor.simulator.api.exchange import Message, Receive, Scope, Send
from claude_executor.simulator.server.server import build_server, listen, url_of

_ROW = re.compile(rb'"user_id": ?"([^"]*)"')


@dataclass(frozen=True)
class World:
    """What the simulator of a scenario is like. Its schedule begins with the first request."""

    settings: Settings
    faults: Faults = field(default_factory=Faults)
    schedule: tuple[tuple[float, Change], ...] = ()


class Exchange(NamedTuple):
    """A request that came in, and how it was answered.

    Attributes:
        at: When it was there in full, on `time.monotonic`, which all processes of a machine share.
        row: Its `metadata.user_id`; empty without one.
        status: HTTP status; 0 if there was no answer.
        ramp: Whether it was refused for growing too fast.
    """

    at: float
    row: str
    status: int
    ramp: bool


class FarSimulator:
    """A simulator in another process."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def stats(self) -> dict[str, Any]:
        """Its counters."""
        return dict(self._get("simulator/stats"))

    def verdict(self) -> dict[str, Any]:
        """Its judgement on the client."""
        return dict(self._get("simulator/verdict"))

    def log(self) -> list[Exchange]:
        """Every request, in the order in which they ended."""
        return [Exchange(*entry) for entry in self._get("lab/log")]

    def reset(self) -> None:
        """Begin anew: full buckets, empty counters, the schedule from its start."""
        httpx2.post(f"{self.base_url}/simulator/reset", timeout=30).raise_for_status()

    def _get(self, what: str) -> Any:  # noqa: ANN401
        return httpx2.get(f"{self.base_url}/{what}", timeout=30).raise_for_status().json()


@contextmanager
def far_simulator(world: World) -> Iterator[FarSimulator]:
    """Start it, and end it again whatever happens."""
    fork = multiprocessing.get_context("fork")  # settings hold read-only mappings, which cannot be pickled
    ours, theirs = fork.Pipe()
    process = fork.Process(target=_serve, args=(world, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(30):
            raise RuntimeError("the simulator did not start within 30 s")
        yield FarSimulator(ours.recv())
    finally:
        process.terminate()
        process.join(10)
        if process.is_alive():
            process.kill()


def _serve(world: World, tell: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the lab, which then ends us
    listener = listen("127.0.0.1", 0)
    simulator = _Logging(world.settings, faults=world.faults, schedule=world.schedule, clock=time.monotonic)
    server = build_server(simulator)
    tell.send(url_of(listener))
    asyncio.run(server.serve(sockets=[listener]))


class _Logging(Simulator):
    """Begins anew with the first request, however long the client takes to get there, and keeps a log."""

    _log: list[Exchange] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path == "/v1/messages":
            if self._log is None:
                self.reset()
                self._log = []
            await self._listen_in(self._log, scope, receive, send)
        elif path == "/lab/log":
            await JSONResponse(self._log or [])(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _listen_in(self, log: list[Exchange], scope: Scope, receive: Receive, send: Send) -> None:
        parts: list[bytes] = []
        at, status, ramp = time.monotonic(), 0, False

        async def hear() -> Message:
            nonlocal at
            message = await receive()
            parts.append(message.get("body", b""))
            if message["type"] == "http.request":
                at = time.monotonic()
            return message

        async def say(message: Message) -> None:
            nonlocal status, ramp
            status = message.get("status", status)
            ramp = ramp or (status == 429 and b"ramp_limit_exceeded" in message.get("body", b""))
            await send(message)

        try:
            await super().__call__(scope, hear, say)
        finally:
            named = _ROW.search(b"".join(parts))
            log.append(Exchange(at, named[1].decode() if named else "", status, ramp))
