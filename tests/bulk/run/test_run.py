"""Runs: every row once, extras kept, and an end when there must be one."""

import asyncio
from pathlib import Path

import orjson
import pytest
from anthropic.types.messages import MessageBatchIndividualResponse

from claude_executor import Limits
from claude_executor.bulk import ResultsFile, Row, run_file, run_rows, summarize
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings

MESSAGE = [{"role": "user", "content": "the secret prompt"}]
SLOW = Settings(rates=Rates(), latency=Latency(2.0, spread=0.8), output_tokens=Lengths(20))


async def collected(begin, simulator, rows, **options):
    """Run rows to the end; the run and the parsed lines."""
    lines: list[bytes] = []
    run, executor = begin(simulator, len(rows), **options.pop("setup", {}))
    async with executor:
        await run_rows(rows, lines.append, executor=executor, run=run, **options)
    return run, executor, [orjson.loads(line) for line in lines]


@pytest.mark.simulator(SLOW)
async def test_every_row_once_with_its_extras(begin, some_rows, simulator):
    """Each row has one result under its own id, with the user's own fields."""
    run, _, results = await collected(begin, simulator, some_rows(300))
    assert {result["custom_id"]: result["place"] for result in results} == {
        f"row-{number}": number for number in range(300)
    }
    assert len(results) == run.counters.succeeded == 300
    assert run.unsent == 0
    assert simulator.verdict().clean


@pytest.mark.simulator(SLOW)
async def test_results_say_how_it_went(begin, some_rows, simulator):
    """Every line has the hash of its request, when it was done, attempts, and seconds."""
    _, _, results = await collected(begin, simulator, some_rows(100), setup={"max_concurrency": 10})
    marks = [result["executor"] for result in results]
    assert len({mark["hash"] for mark in marks}) == 100
    assert {len(mark["hash"]) for mark in marks} == {16}
    assert {mark["attempts"] for mark in marks} == {1}
    assert all(mark["duration"] > 0.1 and mark["at"] > 1.7e9 for mark in marks)
    assert max(mark["queue_time"] for mark in marks) > 10


@pytest.mark.simulator(SLOW, schedule=[(10.0, {"outage": 3_600.0})])
async def test_an_hour_of_529_is_waited_out(begin, some_rows, simulator):
    """The API is down for an hour in the middle: the run waits, and every row is answered."""
    run, _, results = await collected(begin, simulator, some_rows(300), setup={"max_concurrency": 20})
    assert run.seconds > 3_600
    assert (len(results), run.counters.succeeded, run.unsent) == (300, 300, 0)
    assert simulator.verdict().clean
    assert run.counters.overloads < 300


@pytest.mark.simulator(Settings(rates=Rates()))
async def test_results_are_those_of_message_batches(begin, some_rows, simulator):
    """Both kinds of result can be read with the SDK's own type for batch results."""
    rows = [*some_rows(2), Row("bad", {"model": "claude-nope", "max_tokens": 5, "messages": MESSAGE})]
    _, _, results = await collected(
        begin, simulator, rows, setup={"models": ("claude-haiku-5-5", "claude-nope")}
    )
    read = {value["custom_id"]: MessageBatchIndividualResponse.model_validate(value) for value in results}
    assert read["row-0"].result.type == "succeeded"
    assert read["row-0"].result.message.usage.output_tokens > 0
    assert read["bad"].result.type == "errored"
    assert read["bad"].result.error.error.type == "not_found_error"
    assert read["bad"].result.error.request_id.startswith("req_")


@pytest.mark.simulator(Settings(rates=Rates()), faults=Faults(invalid_key=True))
async def test_wrong_key_ends_the_run(begin, some_rows, simulator):
    """One 401 is enough: the rest is not sent, and no row is called failed for it."""
    rows = iter(some_rows(2_000))
    lines: list[bytes] = []
    run, executor = begin(simulator, 2_000)
    async with executor:
        await run_rows(rows, lines.append, executor=executor, run=run)
    assert run.fatal is not None
    assert next(rows, None) is not None, "it went on reading"
    assert (run.counters.failed, run.unsent, lines) == (0, 2_000, [])
    assert simulator.verdict().requests == 1


@pytest.mark.simulator(SLOW)
async def test_spend_limit_keeps_what_was_answered(begin, some_rows, simulator):
    """When the money ends, what is in flight finishes and stays."""
    rows = some_rows(400)

    async def end_of_money():
        await asyncio.sleep(8)
        simulator.set_faults(spend_cap=True)

    task = asyncio.create_task(end_of_money())
    run, _, results = await collected(begin, simulator, rows, setup={"max_concurrency": 20})
    await task
    assert run.fatal is not None
    assert 0 < run.counters.succeeded == len(results) < 400
    assert run.counters.succeeded == simulator.verdict().answered


@pytest.mark.simulator(Settings(rates=Rates()))
async def test_unknown_model_among_others_fails_only_its_rows(begin, some_rows, simulator):
    """Rows of a model that does not exist fail; those of the other are answered."""
    rows = [row for pair in zip(some_rows(50, "claude-nope"), some_rows(50), strict=True) for row in pair]
    run, _, _ = await collected(begin, simulator, rows, setup={"models": ("claude-haiku-5-5", "claude-nope")})
    assert (run.counters.succeeded, run.counters.failed, run.fatal) == (50, 50, None)
    assert [(group.kind, group.count) for group in run.counters.failures] == [("not found", 50)]


@pytest.mark.simulator(Settings(rates=Rates()))
async def test_unknown_model_alone_ends_the_run(begin, some_rows, simulator):
    """Where every row asks for a model that does not exist, the first answer ends it."""
    run, _, results = await collected(
        begin, simulator, some_rows(500, "claude-nope"), setup={"models": ("claude-nope",)}
    )
    assert run.fatal is not None
    assert run.fatal.kind.value == "not found"
    assert (run.unsent, results) == (500, [])


@pytest.mark.simulator(SLOW, faults=Faults(error_500=0.25))
async def test_stop_finishes_what_is_in_flight(begin, some_rows, simulator):
    """Told to stop, it sends no more than one request more, and writes every answer it paid for."""
    lines: list[bytes] = []
    run, executor = begin(simulator, 1_000, max_concurrency=30)
    async with executor:
        work = asyncio.create_task(run_rows(some_rows(1_000), lines.append, executor=executor, run=run))
        await asyncio.sleep(20)
        sent = simulator.verdict().requests
        run.stop()
        await work
    assert 0 < sent <= simulator.verdict().requests <= sent + 1
    assert len(lines) == simulator.verdict().answered == run.counters.succeeded
    assert run.unsent == 1_000 - len(lines)


@pytest.mark.simulator(SLOW, faults=Faults(outage=float("inf")))
async def test_stop_during_an_outage(begin, some_rows, simulator):
    """With nothing in flight and nothing coming, a stop still ends the run."""
    lines: list[bytes] = []
    run, executor = begin(simulator, 100)
    async with executor:
        work = asyncio.create_task(run_rows(some_rows(100), lines.append, executor=executor, run=run))
        await asyncio.sleep(300)
        run.stop()
        await asyncio.wait_for(work, 60)
    assert (lines, run.unsent) == ([], 100)
    assert run.counters.overloads > 3


@pytest.mark.simulator(SLOW)
async def test_cancelling_the_run_leaves_nothing_behind(begin, some_rows, simulator):
    """Aborted, it ends at once, and the executor closes."""
    run, executor = begin(simulator, 500)
    async with executor:
        work = asyncio.create_task(run_rows(some_rows(500), lambda line: None, executor=executor, run=run))
        await asyncio.sleep(6)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.simulator(SLOW)
async def test_rows_are_read_no_faster_than_they_are_needed(begin, some_rows, simulator):
    """An endless file is read only so far ahead of what is written."""
    read, most, written = 0, 0, []

    def endless():
        nonlocal read, most
        row = some_rows(1)[0]
        while True:
            read += 1
            most = max(most, read - len(written))
            yield Row(f"row-{read}", {**row.params, "metadata": {"user_id": str(read)}})

    run, executor = begin(simulator, 10**9, max_concurrency=50)
    async with executor:
        work = asyncio.create_task(run_rows(endless(), written.append, executor=executor, run=run))
        await asyncio.sleep(20)
        run.stop()
        await work
    assert len(written) > 100
    assert 10 < most <= 1_051


@pytest.mark.simulator(Settings(rates=Rates()))
async def test_file_to_file(begin, tmp_path, simulator):
    """A file goes in and a file comes out, with the user's own fields."""
    source, target = tmp_path / "a.jsonl", tmp_path / "a.results.jsonl"
    params = {"model": "claude-haiku-5-5", "max_tokens": 5, "messages": MESSAGE}
    source.write_bytes(orjson.dumps({"custom_id": "a", "params": params, "mine": 1}))
    run, executor = begin(simulator, 1)
    with ResultsFile.open(target) as results:
        async with executor:
            await run_file(source, results, executor=executor, run=run)
        assert orjson.loads(target.read_bytes())["mine"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.results.jsonl"]


@pytest.mark.simulator(Settings(rates=Rates()), faults=Faults(invalid_key=True))
async def test_a_run_without_results_leaves_no_file(begin, tmp_path, simulator):
    """After a wrong key there is nothing that looks like results."""
    source, target = tmp_path / "a.jsonl", tmp_path / "a.results.jsonl"
    params = {"model": "claude-haiku-5-5", "max_tokens": 5, "messages": MESSAGE}
    source.write_bytes(orjson.dumps({"custom_id": "a", "params": params}))
    run, executor = begin(simulator, 1)
    with ResultsFile.open(target) as results:
        async with executor:
            await run_file(source, results, executor=executor, run=run)
    assert not target.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.simulator(SLOW)
async def test_a_full_disk_ends_the_run_and_counts_nothing_unwritten(begin, some_rows, rows_in, simulator):
    """What cannot be written is not counted, and no more is sent."""
    run, executor = begin(simulator, 1_000, max_concurrency=20)
    with pytest.raises(OSError, match="No space left"), ResultsFile.open(Path("/dev/full")) as results:
        async with executor:
            await run_file(rows_in(some_rows(1_000)), results, executor=executor, run=run)
    assert run.counters.done == 0
    assert simulator.verdict().requests < 100


@pytest.mark.simulator(SLOW)
async def test_an_abort_keeps_the_answers_that_are_there(begin, some_rows, rows_in, simulator, tmp_path):
    """Cancelled, a run still writes and counts what has been answered, even a moment ago."""
    run, executor = begin(simulator, 500, max_concurrency=50)
    target = tmp_path / "r.jsonl"
    with ResultsFile.open(target) as results:
        async with executor:
            work = asyncio.create_task(run_file(rows_in(some_rows(500)), results, executor=executor, run=run))
            while simulator.verdict().answered < 20:  # noqa: ASYNC110 - a moment in the middle
                await asyncio.sleep(0.01)
            assert run.counters.done < 20
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
    assert (
        20 <= len(target.read_bytes().splitlines()) == run.counters.succeeded == simulator.verdict().answered
    )


@pytest.mark.simulator(Settings(rates=Rates(rpm=60), output_tokens=Lengths(20)))
async def test_summary_names_the_limit_and_what_raising_it_saves(begin, some_rows, simulator):
    """Three minutes' worth of requests: requests bind, and twice the limit saves a minute and a half."""
    run, executor, _ = await collected(begin, simulator, some_rows(180), setup={"limits": Limits(burst=60)})
    summary = summarize(run, executor.snapshot())
    assert summary.bottleneck is not None
    assert (summary.bottleneck.held_by, summary.bottleneck.limit) == ("requests", 60)
    assert summary.bottleneck.share > 0.9
    # At least (180 - 60) / 60 minutes; with twice the limit (180 - 120) / 120.
    assert summary.bottleneck.saving == pytest.approx(90, rel=0.05)
    assert summary.seconds == pytest.approx(120, rel=0.1)


@pytest.mark.simulator(Settings(rates=Rates()), faults=Faults(overloaded=0.2, rate_limited_plain=0.1))
async def test_summary_counts_refusals_and_overloads(begin, some_rows, simulator):
    """429s, 529s and retries are counted as the simulator counts them."""
    run, executor, _ = await collected(begin, simulator, some_rows(200))
    summary = summarize(run, executor.snapshot())
    statuses = simulator.stats()["by_status"]
    assert (summary.refusals, summary.overloads) == (statuses["429"], statuses["529"])
    assert summary.retries == summary.attempts - 200
    assert summary.succeeded == 200


async def test_failures_are_told_without_the_prompt(begin, simulator):
    """A group of failures has an example, and it quotes no prompt."""
    rows = [Row("a", {"model": "claude-haiku-5-5", "max_tokens": 5, "messages": MESSAGE, "stream": True})]
    run, _, results = await collected(begin, simulator, rows)
    (group,) = run.counters.failures
    assert (group.kind, group.count) == ("invalid request", 1)
    assert "secret" not in group.example
    assert results[0]["result"]["error"]["error"]["type"] == "invalid_request_error"
