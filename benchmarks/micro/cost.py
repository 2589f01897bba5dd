"""What the executor itself costs: ``python -m benchmarks.micro.cost``. Figures beside targets, nothing else.

``submit``
    Processor time of a row through `Executor.submit` against the SDK alone, on the same aiohttp transport,
    no limit binding, the simulator in another process. The two take turns in one process, several times, so
    that whatever else the machine is doing happens to both; what counts is the ratio of the medians.
``queue``
    The executor's own time per row with many `submit` calls queued. It is measured through the front door:
    a stub of the SDK answers at once, with the bytes and the headers that the API sends, so that shapes,
    scheduler, pump, futures and the reading of headers are in it, and HTTP is not. Taken off is what as many
    tasks cost that ask the same stub through a plain semaphore and read the same answer. The scheduler's part
    of it, driven without an event loop, is told beside it.
``parse``
    Reading an answer out of its bytes: as `submit` does it, and as the SDK does it.
``memory``
    What is allocated for each `submit` that waits: coroutine, task, future, job (tracemalloc).
``map``
    Peak memory of `Executor.map` over a million rows that are answered at once, above what the imports take.

Every part runs in a process of its own.
"""

import asyncio
import contextlib
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.support.stub import AMPLE, ANSWER, IN_FLIGHT, Params, Stub, tiny

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        what: What was measured.
        value: The figure.
        unit: Its unit.
        target: What it should be, at most; `None` where it is only told.
        note: How it came about.
    """

    what: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether it is as it should be."""
        return self.target is None or self.value <= self.target


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keep the garbage collector from running in one of two measurements and not in the other."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def stubbed() -> tuple[Any, Stub]:
    """An executor over a stub."""
    from claude_executor import Executor, Limits

    stub = Stub()
    limits = Limits(rpm=AMPLE, itpm=AMPLE, otpm=AMPLE)
    return Executor(limits, client=stub, max_concurrency=IN_FLIGHT), stub  # type: ignore[arg-type]


async def let_run() -> None:
    """Let every task that was just made run up to where it waits."""
    for _ in range(3):
        await asyncio.sleep(0)


# ---- the parts


def submit(rows: int, rounds: int) -> list[Figure]:
    """Processor time of a row over HTTP, with the executor and without."""
    from benchmarks.lab.server import World, far_simulator
    from claude_executor.simulator import Latency, Lengths, Rates, Settings

    settings = Settings(
        rates=Rates(AMPLE, AMPLE, AMPLE),
        latency=Latency(),
        output_tokens=Lengths(8, 0.0),
    )
    spent: dict[str, list[float]] = {"executor": [], "sdk": []}
    with far_simulator(World(settings)) as simulator:
        for turn in range(rounds + 1):
            for name, run in (("sdk", with_sdk), ("executor", with_executor)):
                used = asyncio.run(run(simulator.base_url, [tiny(n) for n in range(rows if turn else 300)]))
                if turn:  # the first warms up
                    spent[name].append(1e6 * used / rows)
                simulator.reset()
    ours, theirs = statistics.median(spent["executor"]), statistics.median(spent["sdk"])
    note = f"medians of {rounds} times {rows:,} rows in turn"
    span = {name: f"{min(values):.0f} to {max(values):.0f}" for name, values in spent.items()}
    return [
        Figure("submit against the SDK, CPU per row", ours / theirs, "times", 1.05, note),
        Figure("  Executor.submit", ours, "µs", None, span["executor"]),
        Figure("  messages.create alone", theirs, "µs", None, span["sdk"]),
    ]


async def with_sdk(base_url: str, prompts: list[Params]) -> float:
    """The SDK and a semaphore; processor seconds."""
    from claude_executor.sdk.http_client import default_client

    slots = asyncio.Semaphore(IN_FLIGHT)
    async with default_client(max_concurrency=IN_FLIGHT, api_key="k", base_url=base_url) as client:

        async def one(params: Params) -> object:
            async with slots:
                return await client.messages.create(**params)

        return await processor_time(one, prompts)


async def with_executor(base_url: str, prompts: list[Params]) -> float:
    """The executor, told of limits that do not bind; processor seconds."""
    from claude_executor import Executor, Limits

    limits = Limits(rpm=AMPLE, itpm=AMPLE, otpm=AMPLE)
    async with Executor(limits, base_url=base_url, api_key="k", max_concurrency=IN_FLIGHT) as executor:
        return await processor_time(executor.submit, prompts)


async def processor_time(one: Callable[[Params], Awaitable[object]], prompts: list[Params]) -> float:
    """Processor seconds of this process for all of them."""
    with without_collector():
        began = time.process_time()
        await asyncio.gather(*(one(params) for params in prompts))
        return time.process_time() - began


def queue(rows: int, rounds: int) -> list[Figure]:
    """The executor's own time per row while a long line waits."""
    prompts = [tiny(n) for n in range(rows)]
    spent: dict[str, list[float]] = {"executor": [], "plain": [], "scheduler": []}
    for _ in range(rounds):
        spent["plain"].append(1e6 * asyncio.run(queued_plainly(prompts)) / rows)
        spent["executor"].append(1e6 * asyncio.run(queued_in_executor(prompts)) / rows)
        spent["scheduler"].append(1e6 * scheduled(prompts) / rows)
    medians = {name: statistics.median(values) for name, values in spent.items()}
    own = medians["executor"] - medians["plain"]
    note = f"{rows:,} queued; {medians['executor']:.0f} µs less {medians['plain']:.0f} µs for tasks and stub"
    return [
        Figure("the executor's own time per row", own, "µs", 15.0, note),
        Figure(
            "  the scheduler's part",
            medians["scheduler"],
            "µs",
            None,
            "submit, poll, answered; no event loop",
        ),
    ]


async def queued_plainly(prompts: list[Params]) -> float:
    """As many tasks at a semaphore, asking the same stub."""
    from claude_executor.sdk.transport import message_of

    stub, slots = Stub(), asyncio.Semaphore(IN_FLIGHT)

    async def one(params: Params) -> object:
        async with slots:
            return await message_of(await stub.create(**params))  # type: ignore[arg-type]

    return await through_gate(stub, one, prompts)


async def queued_in_executor(prompts: list[Params]) -> float:
    """All of them through `submit`."""
    executor, stub = stubbed()
    async with executor:
        return await through_gate(stub, executor.submit, prompts)


async def through_gate(
    stub: Stub, one: Callable[[Params], Awaitable[object]], prompts: list[Params]
) -> float:
    """Queue all, open the gate, wait for all: processor seconds for everything together."""
    stub.gate = asyncio.Event()
    with without_collector():
        began = time.process_time()
        everything = asyncio.gather(*(one(params) for params in prompts))
        await let_run()
        stub.gate.set()
        stub.gate = None
        await everything
        return time.process_time() - began


def scheduled(prompts: list[Params]) -> float:
    """The scheduler alone: queue all, then start and answer them, at most `IN_FLIGHT` at a time."""
    from claude_executor.core.model.actions import Start
    from claude_executor.core.model.cost import Usage
    from claude_executor.core.model.headers import NO_HINTS, parse
    from claude_executor.core.model.limits import Limits
    from claude_executor.core.model.request import shape_of
    from claude_executor.core.scheduling.scheduler import Scheduler

    stub, usage = Stub(), Usage(input_tokens=10, output_tokens=3)
    now = 0.0
    limits = Limits(rpm=AMPLE, itpm=AMPLE, otpm=AMPLE)
    scheduler = Scheduler(limits, max_concurrency=IN_FLIGHT, now=now)
    with without_collector():
        began = time.process_time()
        for params in prompts:
            scheduler.submit(shape_of(params), now)
        while not scheduler.idle:
            now += 0.001
            for action in scheduler.poll(now):
                assert isinstance(action, Start)
                wanted = scheduler.headers_due(action.job, now)
                scheduler.on_response(action.job, usage, parse(stub.raw.headers) if wanted else NO_HINTS, now)
        return time.process_time() - began


def parse(times: int) -> list[Figure]:
    """Processor time of reading an answer."""
    return asyncio.run(_parse(times))


async def _parse(times: int) -> list[Figure]:
    import anthropic
    import httpx2

    from claude_executor.sdk.transport import message_of

    def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=ANSWER)

    spent: dict[str, float] = {}
    http_client = httpx2.AsyncClient(transport=httpx2.MockTransport(respond))
    async with anthropic.AsyncAnthropic(api_key="k", http_client=http_client) as client:
        responses = [await client.messages.with_raw_response.create(**tiny(n)) for n in range(2 * times)]
    ways: dict[str, Callable[[Any], Awaitable[object]]] = {
        "message_of": message_of,
        "SDK": lambda response: response.parse(),
    }
    for name, way in ways.items():
        mine = [responses.pop() for _ in range(times)]
        await way(mine[0])
        with without_collector():
            began = time.process_time()
            for response in mine:
                await way(response)
            spent[name] = 1e6 * (time.process_time() - began) / times
    return [
        Figure("reading an answer", spent["message_of"], "µs", None, f"{times:,} short answers"),
        Figure("  the SDK", spent["SDK"], "µs"),
    ]


def memory(rows: int) -> list[Figure]:
    """What each waiting `submit` holds."""
    return [asyncio.run(_memory(rows))]


async def _memory(rows: int) -> Figure:
    executor, stub = stubbed()
    prompts = [tiny(n) for n in range(rows)]
    async with executor:
        stub.gate = asyncio.Event()
        warm = [asyncio.ensure_future(executor.submit(params)) for params in prompts[: IN_FLIGHT + 10]]
        await let_run()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.ensure_future(executor.submit(params)) for params in prompts]
        await let_run()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert executor.snapshot().queued >= rows
        stub.gate.set()
        stub.gate = None
        await asyncio.gather(*warm, *tasks)
    return Figure(
        "memory per queued submit", held / rows / 1000, "kB", 3.0, f"{rows:,} queued, with their tasks"
    )


def map_(rows: int) -> list[Figure]:
    """Peak memory of `map`."""
    import claude_executor.sdk.transport  # noqa: F401

    return asyncio.run(_map(rows))


async def _map(rows: int) -> list[Figure]:
    executor, _ = stubbed()
    gc.collect()
    resident = _resident()
    peaks = []
    began = time.process_time()
    count = 0
    async with executor:
        async for result in executor.map(tiny(n) for n in range(rows)):
            assert result.error is None
            count += 1
            if count in (rows // 10, rows):
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident)
    assert count == rows
    early, late = (peak / 1e6 for peak in peaks)
    took = 1e6 * (time.process_time() - began) / rows
    return [
        Figure(
            "peak memory of map", late, "MB", 60.0, f"{rows:,} rows; {early:.1f} MB after a tenth of them"
        ),
        Figure("  processor time per row of map", took, "µs", None, "the stub and the consumer included"),
    ]


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


PARTS: dict[str, Callable[[bool], list[Figure]]] = {
    "submit": lambda quick: submit(600 if quick else 3_000, 3 if quick else 7),
    "queue": lambda quick: queue(10_000 if quick else 100_000, 1 if quick else 3),
    "parse": lambda quick: parse(200 if quick else 2_000),
    "memory": lambda quick: memory(2_000 if quick else 20_000),
    "map": lambda quick: map_(20_000 if quick else 1_000_000),
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--quick", is_flag=True, help="Fewer rows: to see that it works, not what it costs.")
@click.option("--here", is_flag=True, hidden=True, help="Measure one part in this process, print JSON.")
def cost(parts: tuple[str, ...], quick: bool, here: bool) -> None:
    """Measure PARTS (default: all) and print figures beside targets."""
    if here:
        print(json.dumps([asdict(figure) for part in parts for figure in PARTS[part](quick)]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "figure", "target", "", box=None, pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    for part in parts or PARTS:
        command = [
            sys.executable,
            "-m",
            "benchmarks.micro.cost",
            "--here",
            part,
            *(["--quick"] if quick else []),
        ]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        for figure in (Figure(**fields) for fields in json.loads(done.stdout.splitlines()[-1])):
            target = "" if figure.target is None else f"≤ {figure.target:g}"
            style = "dim" if figure.target is None else "" if figure.met else "bold red"
            table.add_row(figure.what, f"{figure.value:.3g} {figure.unit}", target, figure.note, style=style)
    Console().print(table)


if __name__ == "__main__":
    cost()
