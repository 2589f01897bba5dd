"""The simulator in a process of its own, so that it and the contestant do not share an event loop."""

import asyncio
import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import httpx2

from claude_executor.simulator import Change, Faults, Settings, Simulator
from claude_executor.simulator.server import build_server, listen, url_of


@dataclass(frozen=True)
class World:
    """What the simulator of a scenario is like."""

    settings: Settings
    faults: Faults = field(default_factory=Faults)
    schedule: tuple[tuple[float, Change], ...] = ()


class FarSimulator:
    """A simulator in another process."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def stats(self) -> dict[str, Any]:
        """Its counters."""
        return self._get("stats")

    def verdict(self) -> dict[str, Any]:
        """Its judgement on the client."""
        return self._get("verdict")

    def reset(self) -> None:
        """Begin anew: full buckets, empty counters, the schedule from its start."""
        httpx2.post(f"{self.base_url}/simulator/reset", timeout=30).raise_for_status()

    def _get(self, what: str) -> dict[str, Any]:
        return httpx2.get(f"{self.base_url}/simulator/{what}", timeout=30).raise_for_status().json()


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
    simulator = Simulator(world.settings, faults=world.faults, schedule=world.schedule, clock=time.monotonic)
    server = build_server(simulator)
    tell.send(url_of(listener))
    asyncio.run(server.serve(sockets=[listener]))
