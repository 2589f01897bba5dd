"""The gateway: what a request through it costs, and how near it comes to a limit with many clients.

Run from the repository's root::

    python -m benchmarks.micro.gateway cost
    python -m benchmarks.micro.gateway share

``cost``
    Processor time of ``claude-executor serve`` for each request that it passes on, whole and as a stream, to
    a simulator that answers at once; beside it, in turn, what the SDK takes that asks that simulator itself.
``share``
    Clients that send all they have at the same moment, through the gateway, to a simulator with a limit:
    share of the least possible time, and how many 429s the simulator gave.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import click
import httpx2

REQUEST = {
    "model": "claude-haiku-5-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Say something short."}],
}
AT_ONCE = 50


@click.group()
def gateway() -> None:
    """Measure the gateway."""


@contextmanager
def started(*command: str) -> Iterator[tuple[str, list[float]]]:
    """Start a command that prints its address; afterwards the list holds its seconds of processor time."""
    spent: list[float] = []
    environment = {**os.environ, "ANTHROPIC_API_KEY": "k"}
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), spent
    finally:
        process.send_signal(signal.SIGINT)
        _, _, usage = os.wait4(process.pid, 0)
        process.stdout.close()
        spent.append(usage.ru_utime + usage.ru_stime)


def simulator(*options: str) -> AbstractContextManager[tuple[str, list[float]]]:
    """One that answers at once."""
    quick = ("--latency", "0", "--speed", "inf", "--spread", "0", "--output-tokens", "20")
    return started("claude_executor", "simulate", *quick, *options)


def served(url: str, *options: str) -> AbstractContextManager[tuple[str, list[float]]]:
    """The gateway in front of it."""
    return started("claude_executor", "serve", "--port", "0", "--base-url", url, *options)


async def ask(url: str, requests: int, *, at_once: int, stream: bool = False) -> float:
    """Send so many requests, and read all of the answers; the seconds it took."""
    left = iter(range(requests))
    limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    async with httpx2.AsyncClient(timeout=600, limits=limits) as client:

        async def work() -> None:
            for _ in left:
                answer = await client.post(f"{url}/v1/messages", json={**REQUEST, "stream": stream})
                assert answer.status_code == 200, answer.text

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(at_once)))
        return time.perf_counter() - began


@gateway.command(hidden=True)
@click.argument("url")
@click.argument("requests", type=int)
def bare(url: str, requests: int) -> None:
    """The SDK asks by itself: its processor time, as JSON."""
    import anthropic

    async def run() -> float:
        left = iter(range(requests))
        async with anthropic.AsyncAnthropic(
            api_key="k", base_url=url, http_client=anthropic.DefaultAioHttpClient()
        ) as client:
            await client.messages.create(**REQUEST)  # type: ignore[call-overload]

            async def work() -> None:
                for _ in left:
                    await client.messages.create(**REQUEST)  # type: ignore[call-overload]

            began = time.process_time()
            await asyncio.gather(*(work() for _ in range(AT_ONCE)))
            return time.process_time() - began

    print(json.dumps(asyncio.run(run())))


@gateway.command()
@click.option("--requests", default=2_000, show_default=True, help="Requests of a turn.")
@click.option("--rounds", default=3, show_default=True, help="Turns.")
def cost(requests: int, rounds: int) -> None:
    """Measure processor time for a request."""
    totals = {"the SDK alone": 0.0, "gateway, whole": 0.0, "gateway, stream": 0.0}
    unlimited = ("--rpm", "0", "--itpm", "0", "--otpm", "0")
    with simulator(*unlimited) as (url, _):
        for _ in range(rounds):
            command = [sys.executable, "-m", "benchmarks.micro.gateway", "bare", url, str(requests)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            totals["the SDK alone"] += json.loads(done.stdout)
            idle = _spent(url, 1, stream=False)
            totals["gateway, whole"] += _spent(url, requests, stream=False) - idle
            totals["gateway, stream"] += _spent(url, requests, stream=True) - idle
    for name, seconds in totals.items():
        share = seconds / totals["the SDK alone"]
        print(f"{name:16} {1e6 * seconds / requests / rounds:6,.0f} µs of processor a request ({share:.2f})")


def _spent(url: str, requests: int, *, stream: bool) -> float:
    with served(url) as (address, spent):
        asyncio.run(ask(address, requests, at_once=AT_ONCE, stream=stream))
    return spent[0]


@gateway.command()
@click.option("--clients", default=400, show_default=True, help="Requests that come at the same moment.")
@click.option("--rpm", default=600, show_default=True, help="Requests a minute that the simulator allows.")
def share(clients: int, rpm: int) -> None:
    """Measure how near many clients together come to a limit, with what they may use at once used up."""
    with simulator("--rpm", str(rpm), "--burst", "10") as (url, _), served(url) as (address, _):
        least = (clients - rpm / 6) / (rpm / 60)
        took = asyncio.run(ask(address, clients, at_once=clients))
        stats = httpx2.get(f"{url}/simulator/stats").json()
    refused = stats["by_status"].get("429", 0)
    print(f"{clients} at once: {least / took:.3f} of the least possible time, {refused} 429s")


if __name__ == "__main__":
    gateway()
