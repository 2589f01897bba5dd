"""Many processes under one limit: do they together reach it, and never pass it?

Needs `redis-server` on the path. Run from the repository's root::

    python -m benchmarks.cluster steady churn light kill outage clocks cost

Every scenario starts a Redis, a simulator in a process of its own and some workers, each a process with an
executor that knows no limits and always has more to do (but for one, in ``light``). Figures come from the log
of the simulator, which counts what it let in:

``steady``    eight workers: share of the limit reached, 429s, the least and the most of a worker's fair share
``churn``     four workers, from a third of the time on eight, from two thirds on five
``light``     seven that want all they can get, and one that asks once a second: how long that waits
``kill``      three of eight are killed: when is their share in use again?
``outage``    Redis is killed and comes back empty twenty seconds later
``clocks``    as ``steady``, with clocks an hour fast and slow
``cost``      one executor, 1,000 calls a second below the limit: calls of Redis for each, and what they wait
"""

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from benchmarks.lab.server import Exchange, FarSimulator, World, far_simulator
from claude_executor import Event, Executor, Limits, RedisBudget, RequestAnswered
from claude_executor.simulator import Settings
from claude_executor.simulator.models import Rates
from claude_executor.simulator.settings import Latency, Lengths

MODEL = "claude-haiku-5-5"
RPM = 3_600
BURST = 3.0
PER_SECOND = RPM / 60.0


class RedisServer:
    """A Redis that keeps nothing, on a port of the loopback."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("redis-server does not answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Worker:
    """A process with an executor; begins when it is told to."""

    def __init__(self, name: str, **options: object) -> None:
        self.name = name
        told = json.dumps({"name": name, **options})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cluster", "--worker", told],
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
        return json.loads(out.splitlines()[-1]) if out.strip() else {}

    def leave(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def cluster(
    count: int, *, shifts: Sequence[float] = (), light: int = 0, alone: str = "degrade"
) -> Iterator[tuple[FarSimulator, RedisServer, list[Worker]]]:
    """A Redis, a simulator and so many workers that are ready to go."""
    rates = Rates(RPM, 50_000_000, 10_000_000)
    settings = Settings(
        rates=rates, burst=BURST, latency=Latency(0.4, 100.0, 0.2), output_tokens=Lengths(20.0)
    )
    redis = RedisServer()
    redis.start()
    workers: list[Worker] = []
    try:
        with far_simulator(World(settings)) as simulator:
            workers += [
                Worker(
                    f"w{number}",
                    url=redis.url,
                    base_url=simulator.base_url,
                    shift=shifts[number] if shifts else 0.0,
                    light=number < light,
                    alone=alone,
                )
                for number in range(count)
            ]
            for worker in workers:
                worker.ready()
            yield simulator, redis, workers
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.kill()
        redis.kill()


# ---- what a worker does


async def work(told: dict[str, Any]) -> None:
    """Submit until told to stop."""
    answered, failed, waits = 0, 0, []

    def listen(event: Event) -> None:
        if isinstance(event, RequestAnswered):
            waits.append(event.waited_for)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    budget = RedisBudget(told["url"], group="bench", name=told["name"], alone=told.get("alone", "degrade"))
    executor = Executor(
        budget=budget,
        api_key="none",
        base_url=told["base_url"],
        on_event=listen,
        clock=lambda: time.monotonic() + told["shift"],
    )
    number = 0

    async def one() -> None:
        nonlocal number, answered, failed
        number += 1
        params = {
            "model": MODEL,
            "max_tokens": 40,
            "messages": [{"role": "user", "content": f"Say {number}."}],
            "metadata": {"user_id": f"{told['name']}-{number}"},
        }
        try:
            await executor.submit(params)
            answered += 1
        except Exception as error:
            failed += 1
            print(type(error).__name__, error, file=sys.stderr)

    async def busy() -> None:
        while not stop.is_set():
            await one()

    async with executor:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        if told["light"]:
            tasks: set[asyncio.Task[None]] = set()
            while not stop.is_set():
                tasks.add(asyncio.create_task(one()))
                await asyncio.sleep(1.0)
            await asyncio.gather(*tasks)
        else:
            await asyncio.gather(*(busy() for _ in range(40)))
    print(
        json.dumps({"answered": answered, "failed": failed, "waits": waits, "calls": budget.calls}),
        flush=True,
    )


# ---- the scenarios


def _of(row: str) -> str:
    return row.partition("-")[0]


def _judge(log: list[Exchange], since: float, until: float, members: list[str]) -> dict[str, Any]:
    """What was let in within a window of the log."""
    inside = [entry for entry in log if since <= entry.at < until]
    admitted = [entry for entry in inside if entry.status == 200]
    refused = sum(entry.status == 429 for entry in inside)
    each = Counter(_of(entry.row) for entry in admitted)
    fair = len(admitted) / len(members)
    return {
        "share": round(len(admitted) / (PER_SECOND * (until - since)), 3),
        "refused": round(refused / max(1, len(inside)), 4),
        "least": round(min(each[name] for name in members) / fair, 3),
        "most": round(max(each[name] for name in members) / fair, 3),
    }


def _most_over(log: list[Exchange]) -> float:
    """By how many requests any window has passed burst and refill: what the simulator let in, at most 0."""
    most, level, last = 0.0, BURST * PER_SECOND, None
    for entry in sorted(entry for entry in log if entry.status == 200):
        if last is not None:
            level = min(BURST * PER_SECOND, level + PER_SECOND * (entry.at - last))
        last, level = entry.at, level - 1.0
        most = min(most, level)
    return -most


def _each_second(log: list[Exchange], start: float) -> list[int]:
    seconds = Counter(int(entry.at - start) for entry in log if entry.status == 200)
    return [seconds[second] for second in range(max(seconds, default=0) + 1)]


def _refused_each_second(log: list[Exchange], start: float) -> dict[int, int]:
    return dict(sorted(Counter(int(entry.at - start) for entry in log if entry.status == 429).items()))


def _all(count: int) -> list[str]:
    return [f"w{number}" for number in range(count)]


def _stop(workers: list[Worker]) -> list[dict[str, Any]]:
    for worker in workers:
        worker.leave()
    return [worker.stop() for worker in workers]


def _run(workers: list[Worker], seconds: float) -> tuple[float, float]:
    start = time.monotonic()
    for worker in workers:
        worker.go()
    time.sleep(seconds)
    return start, time.monotonic()


def steady(seconds: float, shifts: Sequence[float] = ()) -> dict[str, Any]:
    with cluster(8, shifts=shifts) as (simulator, _, workers):
        start, end = _run(workers, seconds)
        told = _stop(workers)
        log = simulator.log()
        return {
            **_judge(log, start + 10.0, end, _all(8)),
            "failed": sum(one["failed"] for one in told),
            "calls_per_request": round(sum(one["calls"] for one in told) / len(log), 3),
            "each_second": _each_second(log, start),
        }


def clocks(seconds: float) -> dict[str, Any]:
    return steady(seconds, shifts=[3600.0 * (number % 3 - 1) for number in range(8)])


def churn(seconds: float) -> dict[str, Any]:
    with cluster(8) as (simulator, _, workers):
        third = seconds / 3.0
        start, one = _run(workers[:4], third)
        _, two = _run(workers[4:], third)
        told = _stop(workers[:3])
        _, end = _run([], third)
        told += _stop(workers[3:])
        log = simulator.log()
        return {
            "four": _judge(log, start + 10.0, one, _all(8)[:4]),
            "eight": _judge(log, one + 3.0, two, _all(8)),
            "five": _judge(log, two + 3.0, end, _all(8)[3:]),
            "failed": sum(one["failed"] for one in told),
            "each_second": _each_second(log, start),
        }


def light(seconds: float) -> dict[str, Any]:
    with cluster(8, light=1) as (simulator, _, workers):
        start, end = _run(workers, seconds)
        told = _stop(workers)
        waits = sorted(told[0]["waits"])
        log = simulator.log()
        return {
            **_judge(log, start + 10.0, end, _all(8)[1:]),
            "waits_p50": round(statistics.median(waits), 4),
            "waits_p99": round(waits[int(0.99 * len(waits))], 4),
            "requests": len(waits),
        }


def kill(seconds: float) -> dict[str, Any]:
    with cluster(8) as (simulator, _, workers):
        start, killed = _run(workers, seconds / 2)
        for worker in workers[:3]:
            worker.kill()
        _, end = _run([], seconds / 2)
        _stop(workers[3:])
        log = simulator.log()
        return {
            "before": _judge(log, start + 10.0, killed, _all(8)),
            "second_after": [
                _judge(log, killed + s, killed + s + 1.0, _all(8)[3:])["share"] for s in range(12)
            ],
            "after": _judge(log, killed + 10.0, end, _all(8)[3:]),
            "over": _most_over(log),
        }


def outage(seconds: float, alone: str = "degrade") -> dict[str, Any]:
    with cluster(8, alone=alone) as (simulator, redis, workers):
        start, away = _run(workers, max(20.0, seconds / 3))
        redis.kill()
        _, back = _run([], 20.0)
        redis.start()
        _, end = _run([], max(20.0, seconds / 3))
        told = _stop(workers)
        log = simulator.log()
        names = _all(8)
        return {
            "before": _judge(log, start + 10.0, away, names),
            "away": _judge(log, away, back, names),
            "first_five": _judge(log, back, back + 5.0, names),
            "after": _judge(log, back + 5.0, end, names),
            "refused_in_window": _judge(log, away, end, names)["refused"],
            "failed": sum(one["failed"] for one in told),
            "each_second": _each_second(log, start),
            "refused_each_second": _refused_each_second(log, start),
            "away_at": round(away - start, 1),
        }


def cost(seconds: float) -> dict[str, Any]:
    """One executor and calls that do nothing: what the budget adds."""
    redis = RedisServer()
    redis.start()
    try:
        alone = asyncio.run(_calls(None, seconds))
        budget = RedisBudget(redis.url, group="bench")
        shared = asyncio.run(_calls(budget, seconds))
        return {
            "calls_per_request": round(budget.calls / shared[2], 4),
            "added_p50_ms": round(1000.0 * (shared[0] - alone[0]), 3),
            "added_p99_ms": round(1000.0 * (shared[1] - alone[1]), 3),
            "cpu_us_alone": round(alone[3]),
            "cpu_us_shared": round(shared[3]),
        }
    finally:
        redis.kill()


async def _calls(budget: RedisBudget | None, seconds: float) -> tuple[float, float, int, float]:
    from anthropic import AsyncAnthropic

    from claude_executor import Estimate

    waits: list[float] = []
    expected = Estimate.about(MODEL, input_tokens=100, output_tokens=20)
    limits = Limits(rpm=90_000, itpm=90_000_000, otpm=20_000_000)

    async def answer(sent: float) -> None:
        waits.append(time.perf_counter() - sent)
        await asyncio.sleep(0.05)

    async with Executor(limits, client=AsyncAnthropic(api_key="none"), budget=budget) as executor:
        tasks: set[asyncio.Task[None]] = set()
        begin, cpu = time.perf_counter(), time.process_time()
        due, late, count = begin, begin + min(8.0, seconds / 2), 0
        while (now := time.perf_counter()) < begin + seconds:
            while due <= now:
                due += 0.001
                task = asyncio.create_task(executor.call(answer, now, cost=expected))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                count += 1
            if now < late:
                waits.clear()
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        cpu = time.process_time() - cpu
    waits.sort()
    return statistics.median(waits), waits[int(0.99 * len(waits))], count, 1e6 * cpu / count


SCENARIOS = {
    "steady": steady,
    "churn": churn,
    "light": light,
    "kill": kill,
    "outage": outage,
    "clocks": clocks,
    "cost": cost,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--seconds", default=60.0, show_default=True, help="How long each takes.")
@click.option("--worker", hidden=True)
def main(names: tuple[str, ...], seconds: float, worker: str | None) -> None:
    """Measure; one JSON object for each scenario, on stdout."""
    if worker is not None:
        asyncio.run(work(json.loads(worker)))
        return
    for name in names or SCENARIOS:
        print(json.dumps({"scenario": name, "cpus": os.cpu_count(), **SCENARIOS[name](seconds)}), flush=True)


if __name__ == "__main__":
    main()
