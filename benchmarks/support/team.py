"""Workers that share a limit, each in a process of its own, and what they share it on.

As a program it is one worker: it says when it is ready, begins when it is told to, submits until it is told
to stop, and prints what it counted.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.lab.server import FarSimulator, World, far_simulator
from claude_executor import Event, Executor, RedisBudget, RequestAnswered
from claude_executor.simulator import Settings
from claude_executor.simulator.world.models import Rates
from claude_executor.simulator.world.settings import Latency, Lengths

MODEL = "claude-haiku-5-5"
RPM = 3_600
BURST = 3.0
PER_SECOND = RPM / 60.0
AT_ONCE = 40


class Worker:
    """A process with an executor; begins when it is told to."""

    def __init__(self, name: str, **options: object) -> None:
        self.name = name
        told = json.dumps({"name": name, **options})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.support.team", told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"worker {self.name} did not start")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def stop(self) -> dict[str, Any]:
        """Let it end in order; what it counted."""
        self.leave()
        out, _ = self.process.communicate(timeout=60)
        return dict(json.loads(out.splitlines()[-1]))

    def leave(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def team(
    url: str, count: int, *, shifts: Sequence[float] = (), light: int = 0
) -> Iterator[tuple[FarSimulator, list[Worker]]]:
    """A simulator, and so many workers, ready to go, `light` of them light ones, who share at `url`."""
    rates = Rates(RPM, 50_000_000, 10_000_000)
    settings = Settings(
        rates=rates, burst=BURST, latency=Latency(0.4, 100.0, 0.2), output_tokens=Lengths(20.0)
    )
    workers: list[Worker] = []
    try:
        with far_simulator(World(settings)) as simulator:
            workers += [
                Worker(
                    name,
                    url=url,
                    base_url=simulator.base_url,
                    shift=shifts[number] if shifts else 0.0,
                    light=number < light,
                )
                for number, name in enumerate(names(count))
            ]
            for worker in workers:
                worker.ready()
            yield simulator, workers
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.kill()


def names(count: int) -> list[str]:
    """What so many workers are called."""
    return [f"w{number}" for number in range(count)]


def run(workers: list[Worker], seconds: float) -> tuple[float, float]:
    """Have them begin, and wait; from when until when that was."""
    start = time.monotonic()
    for worker in workers:
        worker.go()
    time.sleep(seconds)
    return start, time.monotonic()


def stop(workers: list[Worker]) -> list[dict[str, Any]]:
    """End them all; what each counted."""
    for worker in workers:
        worker.leave()
    return [worker.stop() for worker in workers]


async def work(told: dict[str, Any]) -> None:
    """Be a worker."""
    counts = {"submitted": 0, "answered": 0, "failed": 0}
    waits: list[tuple[float, float]] = []

    def listen(event: Event) -> None:
        if isinstance(event, RequestAnswered):
            waits.append((time.monotonic(), event.queue_time))

    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    budget = RedisBudget(told["url"], group="bench", name=told["name"])
    executor = Executor(
        budget=budget,
        api_key="none",
        base_url=told["base_url"],
        on_event=listen,
        clock=lambda: time.monotonic() + told["shift"],
    )

    async def one() -> None:
        counts["submitted"] += 1
        number = counts["submitted"]
        params = {
            "model": MODEL,
            "max_tokens": 40,
            "messages": [{"role": "user", "content": f"Say {number}."}],
            "metadata": {"user_id": f"{told['name']}-{number}"},
        }
        try:
            await executor.submit(params)
            counts["answered"] += 1
        except Exception as error:
            counts["failed"] += 1
            print(type(error).__name__, error, file=sys.stderr)

    async def busy() -> None:
        while not end.is_set():
            await one()

    async def now_and_then() -> None:
        tasks: set[asyncio.Task[None]] = set()
        while not end.is_set():
            tasks.add(asyncio.create_task(one()))
            await asyncio.sleep(1.0)
        await asyncio.gather(*tasks)

    async with executor:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await (now_and_then() if told["light"] else asyncio.gather(*(busy() for _ in range(AT_ONCE))))
    print(json.dumps({**counts, "waits": waits, "calls": budget.calls}), flush=True)


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
