"""The whole of a bulk job as one object: planned, run, resumed, retried, capped, stopped and cancelled."""

import asyncio
import threading

import orjson
import pytest

from claude_executor import Executor, FailureKind, Limits
from claude_executor.bulk import (
    BadInput,
    BadTarget,
    Caps,
    FileBusy,
    Job,
    JobPolicy,
    ResultsNotWritable,
    RowDefaults,
    timeline_of,
    validate,
)
from claude_executor.bulk.input.sources import Source
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings
from claude_executor.testing import loop_time, simulated_client

SLOW = Settings(rates=Rates(), latency=Latency(2.0, spread=0.8), output_tokens=Lengths(20))


@pytest.fixture
def target(tmp_path):
    """Where results go."""
    return tmp_path / "results.jsonl"


@pytest.fixture
def perform(simulator, target):
    """Open a job, run it through the simulator, and return its summary."""

    async def run(source, policy=None, *, to=None, **options):
        goal = to if to is not None else target
        async with (
            Job.open(source, goal, policy or JobPolicy()) as job,
            connected(simulator, job, **options) as executor,
        ):
            return await job.run(executor)

    return run


def connected(simulator, job, **options) -> Executor:
    """An executor for a job, on virtual time."""
    return Executor(
        client=simulated_client(simulator),
        on_event=job.on_event,
        spending_caps=job.spending_caps,
        clock=loop_time,
        **options,
    )


def results_in(path) -> dict[str, dict]:
    """The results in a file by id, each once."""
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert len({line["custom_id"] for line in lines}) == len(lines)
    return {line["custom_id"]: line["result"] for line in lines}


@pytest.mark.simulator(SLOW)
async def test_a_job_is_run_and_resumed(perform, rows_in, some_rows, simulator, target):
    """Every row has one result; opening it again with more rows sends only those."""
    source = rows_in(some_rows(50))
    first = await perform(source)
    assert (first.succeeded, first.failed, first.unsent, first.stopped) == (50, 0, 0, None)
    rows_in(some_rows(70))
    second = await perform(source)
    assert (second.rows, second.succeeded, second.answered_before) == (20, 20, 50)
    assert len(results_in(target)) == simulator.verdict().answered == 70
    assert timeline_of(target).read_bytes().count(b'"start"') == 2


@pytest.mark.simulator(SLOW)
async def test_a_job_that_is_done_sends_nothing(perform, rows_in, some_rows, simulator, target):
    """It needs no connection, and leaves everything as it is."""
    source = rows_in(some_rows(5))
    await perform(source)
    before = {path: path.read_bytes() for path in target.parent.iterdir()}
    async with Job.open(source, target) as job:
        assert not job.has_rows_to_send
        summary = await job.run(Executor())
    assert (summary.rows, summary.answered_before, summary.stopped) == (0, 5, None)
    assert {path: path.read_bytes() for path in target.parent.iterdir()} == before


@pytest.mark.simulator(SLOW)
async def test_a_dry_run_changes_nothing(perform, rows_in, some_rows, simulator, target):
    """It plans what is left, is not in the way of who writes, and cannot be run."""
    source = rows_in(some_rows(5))
    await perform(source)
    rows_in(some_rows(12))
    before = {path: path.read_bytes() for path in target.parent.iterdir()}
    async with (
        Job.open(source, target) as writer,
        Job.open(source, target, dry_run=True) as job,
    ):
        plan = await job.plan(Limits(rpm=1, burst=1))
        assert (plan.rows, plan.output_tokens.high) == (7, 350)
        assert plan == await writer.plan(Limits(rpm=1, burst=1))
        with pytest.raises(RuntimeError, match="dry run"):
            await job.run(Executor())
    assert {path: path.read_bytes() for path in target.parent.iterdir()} == before
    assert simulator.verdict().requests == 5


async def test_a_dry_run_of_a_new_job_makes_no_file(rows_in, some_rows, target):
    """Before the first start there is nothing but the rows."""
    source = rows_in(some_rows(3))
    for policy in (JobPolicy(), JobPolicy(overwrite=True), JobPolicy(dedupe=True)):
        async with Job.open(source, target, policy, dry_run=True) as job:
            assert (await job.plan()).rows == 3
            assert (await job.plan()).seconds is None, "no limit is known"
    assert list(target.parent.iterdir()) == [source]


async def test_a_plan_can_be_counted(rows_in, some_rows, target):
    """As many rows as asked for, by whatever counts them."""
    counted = []

    async def count(params):
        counted.append(params)
        return 1_000

    async with Job.open(rows_in(some_rows(30)), target, dry_run=True) as job:
        plan = await job.plan(sample=10, count=count)
    assert len(counted) == plan.counted.rows == 10
    assert plan.input_tokens.guess == pytest.approx(30_000, rel=0.2)


@pytest.mark.simulator(Settings(rates=Rates()))
async def test_failures_are_retried(perform, rows_in, some_rows, simulator, target):
    """Only rows that failed are sent, those that failed for good included."""
    rows = [*some_rows(7), *some_rows(8, "claude-nope")[7:]]
    source = rows_in(rows)
    first = await perform(source)
    assert (first.succeeded, first.failed, first.stopped) == (7, 1, None)
    rows_in([*rows, *some_rows(9)[8:]])
    again = await perform(source)
    assert (again.rows, again.succeeded, again.failed_before) == (1, 1, 1)
    rows_in([*some_rows(8), *some_rows(10)[8:]])
    retried = await perform(source, JobPolicy(failures_only=True))
    assert (retried.rows, retried.succeeded) == (1, 1)
    assert {result["type"] for result in results_in(target).values()} == {"succeeded"}
    assert len(results_in(target)) == 9, "the row that was never sent is left out"


@pytest.mark.simulator(SLOW)
async def test_a_cap_holds_over_all_starts(perform, rows_in, some_rows, simulator, target):
    """The first start ends below the cap; the next has only what is left; then nothing is sent any more."""
    source = rows_in(some_rows(100))
    cap = JobPolicy(caps=Caps(tokens=1_000))
    summary = await perform(source, cap)
    assert 0 < summary.spent.tokens <= 1_000
    assert (summary.stopped, summary.max_tokens_total) == ("spending cap reached", 1_000)
    assert 0 < summary.succeeded < 100
    again = await perform(source, JobPolicy(caps=Caps(tokens=summary.spent.tokens)))
    assert (again.succeeded, again.attempts, again.stopped) == (0, 0, "spending cap reached")
    assert again.spent_before == summary.spent


async def test_a_cap_that_no_executor_keeps_is_an_error(rows_in, some_rows, target):
    """Nothing is sent before somebody keeps the cap."""
    async with Job.open(rows_in(some_rows(3)), target, JobPolicy(caps=Caps(tokens=1_000))) as job:
        with pytest.raises(RuntimeError, match=r"spending_caps=job\.spending_caps"):
            await job.run(Executor())


@pytest.mark.simulator(SLOW)
async def test_a_deadline_ends_it(perform, rows_in, some_rows, simulator, target):
    """What is in flight is finished; the rest is for the next start."""
    summary = await perform(rows_in(some_rows(200)), JobPolicy(caps=Caps(seconds=20.0)), max_concurrency=10)
    assert summary.stopped == "deadline reached"
    assert len(results_in(target)) == summary.succeeded == simulator.verdict().answered < 200


@pytest.mark.simulator(Settings(rates=Rates()), faults=Faults(invalid_key=True))
async def test_a_permanent_error_is_said_in_the_summary(perform, rows_in, some_rows, target):
    """No row has failed for it, and no file is left."""
    source = rows_in(some_rows(100))
    summary = await perform(source)
    assert (summary.unsent, summary.failed) == (100, 0)
    assert FailureKind.AUTHENTICATION.value in summary.stopped
    assert not target.exists()


@pytest.mark.simulator(SLOW)
async def test_results_may_go_to_a_function(perform, rows_in, some_rows, simulator):
    """Each line as it comes; there is no file to resume from, so every start sends all rows."""
    written = []
    source = rows_in(some_rows(40))
    for _ in range(2):
        written.clear()
        assert (await perform(source, to=written.append)).succeeded == 40
        assert b"".join(written).count(b"\n") == 40
    assert list(source.parent.iterdir()) == [source]


@pytest.mark.parametrize("name", ["failures_only", "ordered", "dedupe"])
def test_what_needs_a_file_is_refused_for_a_function(name):
    """Before anything is opened."""
    with pytest.raises(ValueError, match=f"{name} needs a results file"):
        Job.open("nowhere.jsonl", print, JobPolicy(**{name: True}))


@pytest.mark.simulator(SLOW)
async def test_results_are_sorted_and_equal_rows_are_sent_once(
    perform, rows_in, some_rows, simulator, target
):
    """Both are done by the job."""
    rows = some_rows(10)
    same = [type(row)(f"same-{row.custom_id}", row.params) for row in rows]
    summary = await perform(rows_in([*rows, *same]), JobPolicy(ordered=True, dedupe=True))
    assert (summary.succeeded, summary.copied, simulator.verdict().requests) == (20, 10, 10)
    assert list(results_in(target)) == [row.custom_id for row in [*rows, *same]]


@pytest.mark.simulator(SLOW)
@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_a_job_that_is_ended_on_its_way_can_be_resumed(how, rows_in, some_rows, simulator, target):
    """Every answer that came is on disk and counted; the next start sends the others."""
    source = rows_in(some_rows(300))
    async with Job.open(source, target) as job, connected(simulator, job, max_concurrency=20) as executor:
        task = asyncio.create_task(job.run(executor))
        await asyncio.sleep(10)
        if how == "stop":
            job.stop()
            assert (await task).stopped == "stopped"
        else:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        summary = job.summary()
        with pytest.raises(RuntimeError, match="once"):
            await job.run(executor)
    assert 0 < summary.succeeded == len(results_in(target)) < 300
    async with Job.open(source, target) as job, connected(simulator, job) as executor:
        assert (await job.run(executor)).succeeded == 300 - summary.succeeded
    assert len(results_in(target)) == 300


async def test_everything_is_validated_before_anything_is_opened_for_good(rows_in, some_rows, target):
    """Bad rows leave no file, no lock and nothing open."""
    source = rows_in([*some_rows(3), *some_rows(1)])
    with pytest.raises(BadInput, match="already used by line 1"):
        async with Job.open(source, target):
            pass
    assert list(target.parent.iterdir()) == [source]


async def test_a_job_is_locked(rows_in, some_rows, target):
    """One writer at a time; afterwards the next."""
    source = rows_in(some_rows(3))
    with Job.open(source, target), pytest.raises(FileBusy):
        Job.open(source, target).__enter__()
    with Job.open(source, target) as job:
        assert job.remaining.to_do == validate(source).rows == 3
        with pytest.raises(RuntimeError, match="not been run"):
            job.summary()


def test_a_target_that_cannot_be_one_is_refused(rows_in, some_rows, tmp_path):
    """Each for its own reason, before anything is opened."""
    source = rows_in(some_rows(3))
    for target, why in [
        (source, "is the input"),
        (tmp_path, "is a directory"),
        (tmp_path / "nowhere" / "r.jsonl", "there is no directory"),
        (tmp_path / "r.csv", "should be named .jsonl"),
    ]:
        with pytest.raises(BadTarget, match=why):
            Job.open(source, target)
    with pytest.raises(BadTarget, match="no failed rows to retry") as caught:
        Job.open(source, tmp_path / "r.jsonl", JobPolicy(failures_only=True))
    assert caught.value.is_missing


def test_results_that_cannot_be_written_are_told_from_rows_that_cannot_be_read(rows_in, some_rows, tmp_path):
    """Nothing was sent in either case."""
    source, target = rows_in(some_rows(3)), tmp_path / "r.jsonl"
    target.with_name("r.jsonl.lock").mkdir()
    with pytest.raises(ResultsNotWritable) as caught:
        Job.open(source, target).__enter__()
    assert caught.value.filename == f"{target}.lock"
    with pytest.raises(FileNotFoundError):
        Job.open(tmp_path / "nowhere.jsonl", tmp_path / "s.jsonl").__enter__()
    assert not (tmp_path / "s.jsonl").exists()


@pytest.mark.parametrize("opened_first", [True, False])
async def test_a_job_that_is_cancelled_while_it_opens_leaves_no_lock(
    rows_in, some_rows, target, monkeypatch, opened_first
):
    """The thread that opens it ends at its next row, and closes what it had opened."""
    reached, go_on, read = threading.Event(), threading.Event(), Source.records

    def slowly(self):
        for record in read(self):
            reached.set()
            go_on.wait(10)
            yield record

    monkeypatch.setattr(Source, "records", slowly)
    source = rows_in(some_rows(3))
    job = Job.open(source, target)
    task = asyncio.create_task(job.__aenter__())
    while not reached.is_set():  # noqa: ASYNC110 - another thread sets it
        await asyncio.sleep(0.01)
    task.cancel()
    if opened_first:
        go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    monkeypatch.undo()
    with Job.open(source, target, JobPolicy(defaults=RowDefaults())) as again:
        assert again.has_rows_to_send
