"""Many processes under one limit: do they together reach it, and never pass it?

Needs `redis-server` on the path. Run from the repository's root::

    python -m benchmarks.micro.cluster --log runs.jsonl steady churn light kill outage failover clocks cost
    python -m benchmarks.micro.cluster --report runs.jsonl > benchmarks/results/cluster.md

Every scenario starts a Redis, a simulator in a process of its own and some workers, each a process with an
executor that knows no limits and always has more to do (but for one, in ``light``). Figures come from the log
of the simulator, which counts what it let in. A line of the output is one thing asked, and what was got:

``steady``    eight workers: share of the limit reached, 429s, the least and the most of a worker's fair share
``churn``     four workers, from a third of the time on eight, from two thirds on five
``light``     seven that want all they can get, and one that asks once a second: how long that waits
``kill``      three of eight are killed: when is their share in use again?
``outage``    Redis is killed and comes back empty twenty seconds later
``failover``  the primary is killed, and a Sentinel promotes its replica
``clocks``    as ``steady``, with clocks an hour fast and slow
``cost``      one executor, 1,000 calls a second below the limit: calls of Redis for each, and what they wait

What is asked of a third of ``churn`` and of ``kill`` counts from three and ten seconds after the change.
"""

import asyncio
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from benchmarks.lab.server import Exchange
from benchmarks.support.cluster_report import Finding, at_least, at_most, report
from benchmarks.support.redis_servers import GuardedRedis, RedisServer
from benchmarks.support.team import BURST, MODEL, PER_SECOND, names, run, stop, team
from claude_executor import Executor, Limits, RedisBudget

WARM = 10.0
"""Seconds at the start that do not count: eight begin with nothing known, and with a full bucket."""


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.kill()


# ---- what the log tells


def _share(log: list[Exchange], since: float, until: float) -> float:
    admitted = sum(entry.status == 200 and since <= entry.at < until for entry in log)
    return admitted / (PER_SECOND * (until - since))


def _refused(log: list[Exchange], since: float, until: float) -> float:
    inside = [entry.status for entry in log if since <= entry.at < until]
    return inside.count(429) / max(1, len(inside))


def _parts(log: list[Exchange], since: float, until: float, members: list[str]) -> tuple[float, float]:
    """The least and the most that one of them got, as a part of its fair share."""
    each = Counter(e.row.partition("-")[0] for e in log if e.status == 200 and since <= e.at < until)
    fair = sum(each.values()) / len(members)
    return min(each[name] for name in members) / fair, max(each[name] for name in members) / fair


def _most_over(log: list[Exchange]) -> float:
    """By how many requests what was let in has passed burst and refill, at the worst moment."""
    most, level, last = 0.0, BURST * PER_SECOND, None
    for entry in sorted(entry for entry in log if entry.status == 200):
        if last is not None:
            level = min(BURST * PER_SECOND, level + PER_SECOND * (entry.at - last))
        last, level = entry.at, level - 1.0
        most = max(most, -level)
    return round(most, 3)


def _in_use(log: list[Exchange], since: float, until: float) -> float:
    """After how many seconds the limit is reached, over the next five."""
    after = 0.0
    while since + after + 5.0 <= until:
        if _share(log, since + after, since + after + 5.0) >= 0.95:
            return after
        after += 0.5
    return until - since


def _even(
    log: list[Exchange], since: float, until: float, members: list[str], when: str = ""
) -> list[Finding]:
    """What is asked whenever nothing happens."""
    least, most = _parts(log, since, until, members)
    return [
        at_least(0.95, _share(log, since, until), f"share of the limit reached{when}"),
        at_most(0.01, _refused(log, since, until), f"429s per request{when}"),
        at_least(0.85, least, f"least of a worker's fair share{when}"),
        at_most(1.15, most, f"most of a worker's fair share{when}"),
    ]


# ---- the scenarios


def steady(seconds: float, shifts: Sequence[float] = ()) -> list[Finding]:
    with redis_server() as redis, team(redis.url, 8, shifts=shifts) as (simulator, workers):
        start, end = run(workers, seconds)
        told = stop(workers)
        log = simulator.log()
        lost = sum(one["submitted"] - one["answered"] for one in told)
        return [*_even(log, start + WARM, end, names(8)), at_most(0, lost, "rows lost")]


def clocks(seconds: float) -> list[Finding]:
    return steady(seconds, shifts=[3600.0 * (number % 3 - 1) for number in range(8)])


def churn(seconds: float) -> list[Finding]:
    with redis_server() as redis, team(redis.url, 8) as (simulator, workers):
        third = max(seconds / 3.0, 15.0)
        start, one = run(workers[:4], third)
        _, two = run(workers[4:], third)
        told = stop(workers[:3])
        gone = time.monotonic()
        _, end = run([], third)
        told += stop(workers[3:])
        log = simulator.log()
        lost = sum(one["submitted"] - one["answered"] for one in told)
        return [
            *_even(log, start + min(WARM, third / 2), one, names(8)[:4], ", four"),
            *_even(log, one + 3.0, two, names(8), ", eight"),
            *_even(log, gone + 3.0, end, names(8)[3:], ", five"),
            at_most(0, lost, "rows lost"),
        ]


def light(seconds: float) -> list[Finding]:
    with redis_server() as redis, team(redis.url, 8, light=1) as (simulator, workers):
        start, end = run(workers, seconds)
        waits = stop(workers)[0]["waits"]
        warm = sorted(waited for at, waited in waits if at >= start + WARM)
        log = simulator.log()
        return [
            at_most(2.0, warm[int(0.99 * len(warm))], "wait of the light one, p99, s"),
            at_most(2.0, max(waited for _, waited in waits), "the longest, with those from the start, s"),
            at_least(0.95, _share(log, start + WARM, end), "share of the limit reached"),
            at_most(0.01, _refused(log, start + WARM, end), "429s per request"),
        ]


def kill(seconds: float) -> list[Finding]:
    with redis_server() as redis, team(redis.url, 8) as (simulator, workers):
        _, killed = run(workers, max(seconds / 2, 20.0))
        for worker in workers[:3]:
            worker.kill()
        _, end = run([], max(seconds / 2, 25.0))
        stop(workers[3:])
        log = simulator.log()
        return [
            at_most(10.0, _in_use(log, killed, end), "seconds until their share is in use"),
            at_most(0, _most_over(log), "requests over the limit, at any moment"),
            at_most(0.01, _refused(log, killed, killed + 10.0), "429s per request in the ten seconds after"),
            *_even(log, killed + 10.0, end, names(8)[3:], " after them"),
        ]


def outage(seconds: float) -> list[Finding]:
    with redis_server() as redis, team(redis.url, 8) as (simulator, workers):
        _, away = run(workers, max(20.0, seconds / 3))
        redis.kill()
        _, back = run([], 20.0)
        redis.start()
        _, end = run([], max(20.0, seconds / 3))
        told = stop(workers)
        log = simulator.log()
        return [
            at_most(0.02, _refused(log, away, back + 5.0), "429s per request while away and 5 s after"),
            at_most(0, sum(one["submitted"] - one["answered"] for one in told), "rows lost"),
            at_least(0.9, _share(log, back + 5.0, end), "share of the limit from 5 s after its return"),
            at_most(0.01, _refused(log, back + 5.0, end), "429s per request from then on"),
        ]


def failover(seconds: float) -> list[Finding]:
    redis = GuardedRedis()
    try:
        redis.start()
        with team(redis.url, 8) as (simulator, workers):
            _, killed = run(workers, max(20.0, seconds / 2))
            redis.kill_primary()
            _, end = run([], max(25.0, seconds / 2))
            told = stop(workers)
            log = simulator.log()
            # What is beyond the limit the simulator refuses: that is by how much it would have been passed.
            over = sum(entry.status == 429 and entry.at >= killed for entry in log)
            return [
                at_least(1, float(redis.promoted), "a replica was promoted"),
                at_most(0, sum(one["submitted"] - one["answered"] for one in told), "rows lost"),
                at_most(1.0, over / PER_SECOND, "admitted beyond the limit, in seconds of its rate"),
                at_least(0.9, _share(log, killed + 10.0, end), "share of the limit from 10 s after the kill"),
            ]
    finally:
        redis.kill()


def cost(seconds: float) -> list[Finding]:
    """One executor and calls that do nothing: what the budget adds."""
    with redis_server() as redis:
        alone = asyncio.run(_calls(None, seconds / 2))
        budget = RedisBudget(redis.url, group="bench")
        shared = asyncio.run(_calls(budget, seconds / 2))
    return [
        at_most(0.05, budget.calls / shared[1], "calls of Redis per request"),
        at_most(3.0, 1000.0 * (shared[0] - alone[0]), "added wait at the median, ms"),
    ]


async def _calls(budget: RedisBudget | None, seconds: float) -> tuple[float, int]:
    """The median wait of calls, 1,000 a second, once it runs evenly; and how many there were."""
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
        begin = time.perf_counter()
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
    return statistics.median(waits), count


SCENARIOS = {
    "steady": steady,
    "churn": churn,
    "light": light,
    "kill": kill,
    "outage": outage,
    "failover": failover,
    "clocks": clocks,
    "cost": cost,
}


@click.command()
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option("--seconds", default=60.0, show_default=True, help="How long each takes, about.")
@click.option("--runs", default=1, show_default=True, help="How often all of them are run.")
@click.option("--log", "kept", type=click.Path(path_type=Path), help="Where to add what was found.")
@click.option(
    "--report", "told", type=click.File(), help="Print what a log holds, as a page, and measure nothing."
)
def main(
    scenarios: tuple[str, ...], seconds: float, runs: int, kept: Path | None, told: TextIO | None
) -> None:
    """Measure; one line for each thing that is asked."""
    if told is not None:
        print(report([json.loads(line) for line in told]), end="")
        return
    for name in (scenarios or tuple(SCENARIOS)) * runs:
        load = os.getloadavg()[0]
        findings = SCENARIOS[name](seconds)
        for finding in findings:
            print(f"{name:9} {finding}", flush=True)
        if kept is not None:
            found = {
                "scenario": name,
                "load": load,
                "at": time.time(),
                "found": [f._asdict() for f in findings],
            }
            with kept.open("a") as file:
                print(json.dumps(found), file=file)


if __name__ == "__main__":
    main()
