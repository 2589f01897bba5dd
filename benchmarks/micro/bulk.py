"""Bulk jobs under the worst: killed twenty times on the way, and a million rows long.

Run from the repository's root::

    python -m benchmarks.micro.bulk kill --rounds 20
    python -m benchmarks.micro.bulk million --rows 100000
    python -m benchmarks.micro.bulk resume --rows 1000000

``kill``
    One job of 2,000 rows over real sockets to a simulator in another process, ended with SIGKILL at random
    moments and started again, until it is done. Every row must be in the results exactly once, and no row
    that was in them at a kill may have been sent again.
``million``
    Small rows that are answered at once. Rows a second beside a bare loop over the SDK, with the real SDK in
    both, which take turns; then a million rows with the SDK replaced, which would take most of the time: peak
    memory, and how long a start takes that finds all of them done. Every part runs in a process of its own.

    The bare loop is what a user would write instead: as many workers, who take a row, ask the SDK and write
    the answer as a line of JSON. It has no journal, no retries and no limits, and forgets all at a crash.
``resume``
    Only the start that finds everything done, on results made for it.
"""

import asyncio
import importlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import httpx2
import orjson

from benchmarks.support.observed import observed, settled
from benchmarks.support.stub import ANSWER, MODEL

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

WORKERS = 100


def write_rows(path: Path, rows: int) -> None:
    """Small rows, which the simulator knows by their ids."""
    with path.open("wb") as file:
        for number in range(rows):
            params = {
                "model": MODEL,
                "max_tokens": 16,
                "messages": [{"role": "user", "content": f"Say {number}."}],
                "metadata": {"user_id": f"row-{number}"},
            }
            file.write(orjson.dumps({"custom_id": f"row-{number}", "params": params}) + b"\n")


@click.group()
def bulk() -> None:
    """Measure bulk jobs."""


# ---- killed on the way


def whole_lines(path: Path) -> list[bytes]:
    """What is in a results file, but for a line that was not written to its end."""
    return path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []


@bulk.command()
@click.option("--rounds", default=20, show_default=True, help="How often it is killed.")
@click.option("--rows", default=2_000, show_default=True, help="Rows of the job.")
@click.option("--seed", type=int, help="Of the moments; by default another each time.")
def kill(rounds: int, rows: int, seed: int | None) -> None:
    """Kill a job again and again, and see whether anything is lost or paid for twice."""
    chance = random.Random(seed)
    journalled: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, observed() as url:
        source = Path(folder, "rows.jsonl")
        target = source.with_name("rows.results.jsonl")
        write_rows(source, rows)
        for turn in range(rounds):
            with started(source, url) as process:
                if turn % 5 == 4:
                    time.sleep(chance.uniform(0.0, 3.0))  # somewhere in the start, too
                else:
                    wanted = len(journalled) + chance.randrange(1, 3 * rows // (2 * rounds))
                    while len(whole_lines(target)) < wanted and process.poll() is None:
                        time.sleep(chance.uniform(0.0, 0.05))
                process.kill()
            torn = target.exists() and not target.read_bytes().endswith(b"\n")
            sent = settled(url)
            for line in whole_lines(target):
                custom_id = orjson.loads(line)["custom_id"]
                journalled.setdefault(custom_id, sent[custom_id])
            print(f"kill {turn + 1:2}: {len(journalled):5,} rows journalled{', a torn line' if torn else ''}")
        with started(source, url) as process:
            process.wait()
        sent = settled(url)
        found = Counter(orjson.loads(line)["custom_id"] for line in target.read_bytes().splitlines())
    again = [custom_id for custom_id, times in journalled.items() if sent[custom_id] != times]
    once = found == Counter(f"row-{number}" for number in range(rows))
    extra = sum(sent.values()) - rows
    print(f"every row exactly once: {once}; journalled and sent again: {len(again)}")
    print(f"sent more than once, because they were in flight at a kill: {extra:,} requests")
    if process.returncode or not once or again:
        raise SystemExit(1)


@contextmanager
def started(source: Path, url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the job; it is over when the block is."""
    command = [sys.executable, "-m", "claude_executor", "run", str(source), "--max-concurrency", "50"]
    environment = {**os.environ, "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "k"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL if process.poll() is None else 0)
            process.wait()


# ---- a million rows


class AtOnce(httpx2.AsyncBaseTransport):
    """Answers every request at once, with limits that nothing reaches."""

    def __init__(self) -> None:
        self._headers = {"content-type": "application/json", "request-id": "req_1"}
        for name in ("requests", "tokens", "input-tokens", "output-tokens"):
            self._headers[f"anthropic-ratelimit-{name}-limit"] = "6000000000"
            self._headers[f"anthropic-ratelimit-{name}-remaining"] = "6000000000"
        self._body = orjson.dumps(ANSWER)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=self._headers, content=self._body, request=request)


def client() -> "AsyncAnthropic":
    """The SDK on it."""
    import anthropic

    http_client = httpx2.AsyncClient(transport=AtOnce())
    return anthropic.AsyncAnthropic(
        api_key="k", base_url="http://at.once", max_retries=0, http_client=http_client
    )


async def bare(source: Path, rows: int) -> dict[str, float]:
    """The SDK, and a line for every answer."""
    sdk = client()
    del rows
    with source.open("rb") as file, source.with_name("bare.results.jsonl").open("wb") as answers:
        began = time.perf_counter(), time.process_time()
        lines = iter(file)

        async def work() -> None:
            for line in lines:
                row = orjson.loads(line)
                message = await sdk.messages.create(**row["params"])
                answer = {"custom_id": row["custom_id"], "message": message.to_dict()}
                answers.write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))

        await asyncio.gather(*(work() for _ in range(WORKERS)))
        return spent(began)


async def ours(source: Path, rows: int) -> dict[str, float]:
    """A bulk job, with its journal."""
    return await job(source, rows, client())


async def stub(source: Path, rows: int) -> dict[str, float]:
    """The same, with the SDK replaced."""
    from benchmarks.support.stub import Stub

    return await job(source, rows, Stub())


async def job(source: Path, rows: int, sdk: Any) -> dict[str, float]:  # noqa: ANN401 - or what stands in for it
    """Send all rows; what it took, and the peak of memory after each tenth."""
    from claude_executor import Executor, Limits
    from claude_executor.bulk import ResultsFile, Run, run_file

    importlib.import_module("genai_prices")  # takes a second, once, which says nothing of the rate
    ample = Limits(rpm=6e9, itpm=6e9, otpm=6e9)
    run = Run(rows)
    early = 0.0
    with ResultsFile.open(source.with_name("rows.results.jsonl"), overwrite=True) as results:
        async with Executor(ample, client=sdk, max_concurrency=WORKERS, on_event=run.listen) as executor:
            began = time.perf_counter(), time.process_time()
            work = asyncio.create_task(run_file(source, results, executor=executor, run=run))
            while not work.done():
                await asyncio.wait([work], timeout=0.5)
                if not early and run.counters.done >= rows // 10:
                    early = peak()
            await work
            figures = spent(began)
    assert run.counters.succeeded == rows
    return {**figures, "early": early}


def spent(began: tuple[float, float]) -> dict[str, float]:
    """What it took since."""
    return {
        "seconds": time.perf_counter() - began[0],
        "processor": time.process_time() - began[1],
        "peak": peak(),
    }


def peak() -> float:
    """The most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


PARTS = {"bare": bare, "ours": ours, "stub": stub}


@bulk.command(hidden=True)
@click.argument("name", type=click.Choice(list(PARTS)))
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("rows", type=int)
def part(name: str, source: Path, rows: int) -> None:
    """Measure one part in this process, and print JSON."""
    print(json.dumps(asyncio.run(PARTS[name](source, rows))))


@bulk.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Rows of the long job.")
@click.option("--sdk-rows", default=5_000, show_default=True, help="Rows sent with the real SDK; 0 for none.")
@click.option(
    "--rounds", default=8, show_default=True, help="How often the bare loop and the job take turns."
)
def million(rows: int, sdk_rows: int, rounds: int) -> None:
    """Measure rate, memory and start of a job that is a million rows long."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.jsonl")
        if sdk_rows:
            write_rows(source, sdk_rows)
            _tell_rates(source, sdk_rows, rounds)
        write_rows(source, rows)
        figure = _measured("stub", source, rows)
        print(f"{rows:,} rows: {rows / figure['seconds']:,.0f} a second without the SDK; peak")
        print(
            f"      {figure['early']:.0f} MB after a tenth, {figure['peak']:.0f} MB at the end (target 150)"
        )
        _tell_resumed(source)


def _tell_rates(source: Path, rows: int, rounds: int) -> None:
    """The bare loop and the job in turn, so that whatever else the machine does happens to both."""
    parts = ("bare", "ours")
    turns = [{name: _measured(name, source, rows) for name in parts} for _ in range(rounds)]
    for name in parts:
        seconds, own = (sum(turn[name][what] for turn in turns) for what in ("seconds", "processor"))
        per_row = 1e6 * own / rows / rounds
        print(
            f"{name:5} {rows * rounds / seconds:7,.0f} rows a second, {per_row:5,.0f} µs of processor a row"
        )
    for what in ("seconds", "processor"):
        shares = sorted(turn["bare"][what] / turn["ours"][what] for turn in turns)
        bare, ours = (sum(turn[name][what] for turn in turns) for name in parts)
        print(f"      {bare / ours:.2f} of the bare loop by {what} (target 0.80 at least);", end=" ")
        print(f"single turns {shares[0]:.2f} to {shares[-1]:.2f}")


@bulk.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Rows, all of them done.")
def resume(rows: int) -> None:
    """Measure the start of a job that is done."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.jsonl")
        write_rows(source, rows)
        write_results(source)
        _tell_resumed(source)


def write_results(source: Path) -> None:
    """Results as a run leaves them, out of order as answers come."""
    from claude_executor.bulk import rows_of
    from claude_executor.bulk.results.line import Provenance, hash_of, succeeded

    chance = random.Random(1)
    with source.with_name("rows.results.jsonl").open("wb") as file:
        waiting: list[bytes] = []
        for row in rows_of(source):
            mark = Provenance(hash_of(row.params), time.time(), 1, 0.2, 0.5)
            waiting.append(succeeded(row.custom_id, ANSWER, {}, mark))
            if len(waiting) == WORKERS:
                chance.shuffle(waiting)
                file.writelines(waiting)
                waiting.clear()
        file.writelines(waiting)


def _tell_resumed(source: Path) -> None:
    seconds, most = _resumed(source)
    print(f"      all done: {seconds:.1f} s until it says so (target 10), peak {most:.0f} MB (target 150)")


def _measured(name: str, source: Path, rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.micro.bulk", "part", name, str(source), str(rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _resumed(source: Path) -> tuple[float, float]:
    """Start the command on a job that is done: its seconds, and its peak in MB."""
    command = [sys.executable, "-m", "claude_executor", "run", str(source)]
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "ANTHROPIC_API_KEY": "k"}, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, said
    assert "nothing to do" in said, said
    return time.perf_counter() - began, usage.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    bulk()
