"""The timeline of a run: it adds up, stays small, and never disturbs the run."""

import asyncio
import errno
import logging
import math
from itertools import pairwise

import orjson
import pytest

from claude_executor import Executor, Limits, PoolState, ResourceState, Snapshot
from claude_executor.bulk import Run, run_rows
from claude_executor.bulk.run import timeline
from claude_executor.bulk.run.timeline import FINENESS, Timeline, timeline_of
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings
from claude_executor.testing import loop_time, simulated_client

BUSY = Settings(rates=Rates(600, 200_000, 20_000), latency=Latency(1.0), output_tokens=Lengths(40), burst=5.0)


def wall() -> float:
    """Unix time, in a world that begins with the loop's."""
    return 1_700_000_000.0 + loop_time()


def said(path) -> list[dict]:
    """The lines that can be read."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]


def idle() -> Snapshot:
    """A snapshot of an executor in which nothing happens."""
    resources = {"requests": ResourceState(60.0, "declared", 30.0, 60.0, 0.0, 0.0, 0.0)}
    pool = PoolState(resources, 0, 0, 1.0, "closed", 0.0, 0.0, None, {}, 0.0, 0)
    return Snapshot(0, 0, 0, 0, 0, 0, 0, {"haiku": pool})


@pytest.mark.simulator(BUSY, faults=Faults(overloaded=0.05, rate_limited_plain=0.03, error_500=0.02))
async def test_lines_add_up_to_the_snapshot(some_rows, simulator, tmp_path):
    """What the lines say sums up to what the executor and the run counted, in at most a line a second."""
    path = tmp_path / "r.timeline.jsonl"
    kept = Timeline(path, clock=loop_time, wall=wall)
    run = Run(400, clock=loop_time)

    def listen(event):
        run.listen(event)
        kept.listen(event)

    client = simulated_client(simulator)
    async with Executor(Limits(), client=client, on_event=listen, clock=loop_time) as executor:
        with kept.keeping(executor.snapshot):
            await run_rows(some_rows(400), lambda line: None, executor=executor, run=run)
        snapshot = executor.snapshot()
    start, *lines = said(path)
    assert start["start"] == 1
    total = {name: sum(line.get(name, 0) for line in lines) for name in ("attempts", "answered", "retries")}
    assert total == {
        "attempts": snapshot.attempts,
        "answered": snapshot.answered,
        "retries": snapshot.retries,
    }
    assert sum(line.get("429", 0) for line in lines) == run.counters.refusals > 0
    assert sum(line.get("529", 0) for line in lines) == run.counters.overloads > 0
    (name,) = snapshot.pools
    pools = [line["pools"][name] for line in lines if name in line["pools"]]
    for why, seconds in snapshot.pools[name].held_for.items():
        assert sum(pool.get("held", {}).get(why, 0.0) for pool in pools) == pytest.approx(seconds, abs=0.5)
    for resource, state in snapshot.pools[name].resources.items():
        used = sum(pool.get("used", {}).get(resource, 0.0) for pool in pools)
        assert used == pytest.approx(state.used_in_all, rel=0.001)
        assert any(resource in pool.get("limits", {}) for pool in pools)
    assert [line.get("end", False) for line in lines] == [False] * (len(lines) - 1) + [True]
    times = [start["at"], *(line["at"] for line in lines)]
    assert all(after - before >= 0.99 for before, after in pairwise(times[:-1]))


@pytest.mark.simulator(BUSY)
async def test_it_holds_no_prompt_no_answer_and_no_key(some_rows, simulator, tmp_path):
    """Only counts, names of limits and names of pools are written."""
    path = tmp_path / "r.timeline.jsonl"
    kept, lines = Timeline(path, clock=loop_time, wall=wall), []
    run, client = Run(30, clock=loop_time), simulated_client(simulator, api_key="sk-ant-secret")
    async with Executor(client=client, on_event=kept.listen, clock=loop_time) as executor:
        with kept.keeping(executor.snapshot):
            await run_rows(some_rows(30), lines.append, executor=executor, run=run)
    text = path.read_text()
    answer = orjson.loads(lines[0])["result"]["message"]["content"][0]["text"]
    assert "pools" in text
    for secret in ("Question", "row-", "sk-ant", answer[:12]):
        assert secret not in text


async def test_a_long_run_has_few_lines(tmp_path):
    """A line a second for ten minutes, and then ever fewer: a day makes some thousands."""
    path = tmp_path / "r.timeline.jsonl"
    hours = 24 * 3600
    with Timeline(path, clock=loop_time, wall=wall).keeping(idle):
        await asyncio.sleep(hours)
    times = [line["at"] for line in said(path)]
    gaps = [after - before for before, after in pairwise(times)][:-1]
    assert gaps[:FINENESS] == pytest.approx([1.0] * FINENESS, abs=0.02)
    assert sorted(gaps) == pytest.approx(gaps, abs=0.02)
    assert len(times) < 1.1 * FINENESS * (1 + math.log(hours / FINENESS))
    assert path.stat().st_size < 1_000_000


async def test_a_resumed_run_is_added(tmp_path):
    """Runs follow each other in the file, also after half a line; a run that begins anew empties it."""
    path = tmp_path / "r.timeline.jsonl"
    with Timeline(path, clock=loop_time, wall=wall).keeping(idle):
        await asyncio.sleep(3)
    with path.open("ab") as file:
        file.write(b'{"at": 17000')
    with Timeline(path, clock=loop_time, wall=wall).keeping(idle):
        await asyncio.sleep(2)
    lines = path.read_bytes().splitlines()
    starts = [line for line in lines if line.startswith(b'{"at"') and b'"start"' in line]
    assert len(starts) == 2
    assert b'{"at": 17000' in lines
    with Timeline(path, begun=lambda: True, clock=loop_time, wall=wall).keeping(idle):
        await asyncio.sleep(1.5)
    assert [line.get("start") for line in said(path)] == [1, None, None]


async def test_limits_are_told_when_they_change(tmp_path):
    """A limit that stays is told once in a run."""
    path = tmp_path / "r.timeline.jsonl"
    limits = [60.0, 60.0, 60.0, 90.0, 90.0, 90.0]

    def changing() -> Snapshot:
        limit = limits.pop(0)
        pool = idle().pools["haiku"]
        resources = {"requests": ResourceState(limit, "declared", 30.0, limit, 0.0, 0.0, 0.0)}
        pool = PoolState(resources, 0, 0, 1.0, "closed", 0.0, 0.0, None, {}, 0.0, 0)
        return Snapshot(0, 0, 0, 0, 0, 0, 0, {"haiku": pool})

    with Timeline(path, clock=loop_time, wall=wall).keeping(changing):
        await asyncio.sleep(4.5)
    told = [line["pools"]["haiku"].get("limits") for line in said(path)[1:]]
    assert told == [
        {"requests": [60.0, "declared", 60.0]},
        None,
        {"requests": [90.0, "declared", 90.0]},
        None,
        None,
    ]


async def test_where_it_cannot_be_written_the_run_goes_on(tmp_path, caplog):
    """No directory for it: one warning, and nothing else."""
    path = tmp_path / "nowhere" / "r.timeline.jsonl"
    with caplog.at_level(logging.WARNING), Timeline(path, clock=loop_time, wall=wall).keeping(idle):
        await asyncio.sleep(5)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no such file or directory" in caplog.text


async def test_a_full_disk_ends_the_timeline_and_not_the_run(tmp_path, caplog):
    """When the disk fills up on the way, it is given up with one warning."""

    class Full:
        def tell(self):
            return 0

        def write(self, line):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    kept = Timeline(tmp_path / "r.timeline.jsonl", clock=loop_time, wall=wall)
    with caplog.at_level(logging.WARNING), kept.keeping(idle):
        await asyncio.sleep(2)
        kept._file.close()
        kept._file = Full()
        await asyncio.sleep(5)
    assert len(caplog.records) == 1
    assert "no space left" in caplog.text


async def test_its_size_is_bounded(tmp_path, monkeypatch):
    """In a file that has grown too long only ends are told."""
    monkeypatch.setattr(timeline, "LONGEST_FILE", 1_000)
    path = tmp_path / "r.timeline.jsonl"
    with Timeline(path, clock=loop_time, wall=wall).keeping(idle):
        await asyncio.sleep(100)
    assert path.stat().st_size < 1_500
    assert said(path)[-1]["end"]


@pytest.mark.parametrize(
    ("results", "expected"), [("a.jsonl", "a.timeline.jsonl"), ("v1.2", "v1.2.timeline.jsonl")]
)
def test_its_name(tmp_path, results, expected):
    """It lies beside the results."""
    assert timeline_of(tmp_path / results) == tmp_path / expected
