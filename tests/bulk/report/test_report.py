"""What is read from results and timelines: right figures, and no trouble with files that are strange."""

import json

import numpy as np
import orjson
import pytest

from claude_executor import Executor
from claude_executor.bulk import Run, report, run_rows, summarize
from claude_executor.bulk.report import Axis, Ran, Steps, account_of, lines
from claude_executor.bulk.report.history import read_history
from claude_executor.bulk.run.timeline import Timeline, timeline_of
from claude_executor.simulator import Latency, Lengths, Rates, Settings
from claude_executor.testing import loop_time, simulated_client

MODEL = "claude-haiku-4-5"
BEGAN = 1_700_000_000.0
BOUND = Settings(
    rates=Rates(6_000, 900_000, 6_000), latency=Latency(0.5), output_tokens=Lengths(40), burst=5.0
)


def answered(custom_id="a", *, model=MODEL, usage=None, **executor):
    """A line of a row that was answered."""
    usage = {"input_tokens": 1_000, "output_tokens": 500} if usage is None else usage
    message = {"type": "message", "model": model, "content": [{"text": "reply"}], "usage": usage}
    line = {"custom_id": custom_id, "result": {"type": "succeeded", "message": message}}
    return {**line, "executor": executor} if executor else line


def failed(custom_id="b", kind="api_error", message="it broke"):
    """A line of a row that was not."""
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}
    return {"custom_id": custom_id, "result": {"type": "errored", "error": error}}


@pytest.fixture
def results(tmp_path):
    """Write a results file."""

    def write(*values):
        path = tmp_path / "r.jsonl"
        path.write_bytes(
            b"".join(one if isinstance(one, bytes) else orjson.dumps(one) + b"\n" for one in values)
        )
        return path

    return write


def test_copies_cost_nothing(results):
    """What another row was sent for is an answer, but it was paid for once."""
    account = account_of(
        results(answered("a", at=BEGAN, attempts=1), answered("b", at=BEGAN, copy_of="a"), answered("c"))
    )
    assert account.succeeded == 3
    assert account.spent.dollars == account.known_dollars == pytest.approx(2 * (0.001 + 0.0025))
    assert (account.spent.input_tokens, account.spent.output_tokens) == (2_000, 1_000)


def test_rows_are_counted(results):
    """Answers, failures by kind with examples, tokens and cost."""
    account = account_of(
        results(
            answered("a", at=BEGAN + 60, attempts=3, queue_time=5.0, duration=2.0),
            answered("b", at=BEGAN + 120, attempts=1, queue_time=1.0, duration=4.0),
            failed("c"),
            failed("d", message="it broke again"),
            failed("e", "overloaded_error"),
        )
    )
    assert (len(account.rows), account.succeeded, account.failed) == (5, 2, 3)
    assert [(kind.kind, kind.count) for kind in account.rows.failures] == [
        ("api_error", 2),
        ("overloaded_error", 1),
    ]
    assert account.rows.failures[0].examples == (("c", "it broke"), ("d", "it broke again"))
    assert account.known_dollars == account.spent.dollars == pytest.approx(2 * (0.001 + 0.0025))
    assert (account.spent.input_tokens, account.spent.output_tokens) == (2_000, 1_000)
    assert (account.attempts, account.retries, account.refusals) == (4, 2, None)
    assert account.seconds == pytest.approx(62.0)
    spreads = {spread.name: spread.values for spread in account.spreads}
    assert spreads["time in queue"] == (1.0, 5.0, 5.0, 5.0, 5.0)


def test_the_last_line_of_an_id_holds(results):
    """A row that failed and was answered when the job was resumed counts once."""
    account = account_of(results(failed("a"), answered("b"), answered("a"), answered("c")))
    assert (len(account.rows), account.succeeded, account.rows.failures) == (3, 3, ())


def test_lines_without_an_id_are_all_counted(results):
    """Nothing is known about whether they are the same, so they are not."""
    no_id = {"result": {"type": "canceled"}}
    assert len(account_of(results(no_id, no_id)).rows) == 2


def test_of_several_lines_for_a_row_one_counts(results):
    """The last answer, whatever failure came before or after it; how many rows it was is known."""
    twice = answered("c", usage={"input_tokens": 9, "output_tokens": 9})
    account = account_of(
        results(
            answered("a"), failed("b"), answered("c"), failed("a"), failed("b", "late"), twice, failed("d")
        )
    )
    assert (len(account.rows), account.succeeded, account.rows.doubled) == (4, 2, 3)
    assert account.spent.input_tokens == 1_009
    assert [kind.kind for kind in account.rows.failures] == ["api_error", "late"]


def test_torn_and_strange_lines_are_counted_and_skipped(results):
    """Half a line, a blank one, and JSON that is no result."""
    half = orjson.dumps(answered("z"))[:40]
    strange = [b"\n", b"[1]\n", b"7\n", b'{"result": 3}\n', b'{"params": {}}\n', b"\xff\xfe\n", half]
    account = account_of(results(answered(), *strange))
    assert (len(account.rows), account.rows.unreadable) == (1, 6)


def test_results_of_message_batches(results):
    """Nothing is known over time; what was canceled or expired has no error; a batch costs half."""
    usage = {"input_tokens": 1_000, "output_tokens": 500, "service_tier": "batch", "server_tool_use": None}
    rows = [answered("a", usage=usage)]
    rows += [{"custom_id": kind, "result": {"type": kind}} for kind in ("canceled", "expired")]
    account = account_of(results(*rows))
    assert (account.succeeded, account.failed) == (1, 2)
    assert {kind.kind for kind in account.rows.failures} == {"canceled", "expired"}
    assert account.known_dollars == pytest.approx((0.001 + 0.0025) / 2)
    assert (account.seconds, account.rows_per_minute, account.attempts, account.limited) == (None,) * 4
    assert account.spreads == account.uses == []


def test_a_price_that_is_not_known_is_not_nothing(results):
    """One unknown price makes the sum unknown, and leaves what is known."""
    account = account_of(
        results(answered("a"), answered("b", model="claude-unheard-of"), answered("c", usage={}))
    )
    assert account.spent.dollars is None
    assert account.known_dollars == pytest.approx(0.0035)
    assert account_of(results(answered(model="claude-unheard-of"))).known_dollars is None
    assert account_of(results(answered(usage={}))).known_dollars is None


@pytest.mark.parametrize("value", ["1", None, True, [], {}, 1e300, -1, "NaN"])
def test_fields_of_any_type_are_borne(results, value):
    """What another program wrote into a field does not end the report."""
    usage = dict.fromkeys(
        ("input_tokens", "cache_creation", "server_tool_use", "speed", "service_tier"), value
    )
    line = answered("a", usage=usage, at=value, attempts=value, queue_time=value, duration=value)
    odd = [{**answered(value), "executor": value}, failed(value, value, value)]
    odd += [{"custom_id": "x", "result": {"type": value, "error": value, "message": value}}]
    assert len(account_of(results(line, *odd)).rows) >= 2


def test_kinds_are_bounded(results):
    """A file with a kind of its own for every row fills no page and no memory."""
    account = account_of(results(*(failed(str(n), f"kind-{n}") for n in range(300))))
    assert len(account.rows.failures) == lines.MOST_KINDS + 1
    assert account.rows.failures[0].kind == lines.OTHER
    assert sum(kind.count for kind in account.rows.failures) == 300


@pytest.mark.simulator(BOUND)
async def test_it_says_what_the_closing_summary_said(some_rows, simulator, tmp_path):
    """What limited the job, and what raising it would save, are the same in both."""
    path = tmp_path / "r.jsonl"
    kept = Timeline(timeline_of(path), clock=loop_time, wall=lambda: BEGAN + loop_time())
    run = Run(300, clock=loop_time)

    def listen(event):
        run.listen(event)
        kept.listen(event)

    with path.open("wb") as file:

        def write(line):
            file.write(
                orjson.dumps({**orjson.loads(line), "executor": {"at": BEGAN + loop_time(), "duration": 0.5}})
                + b"\n"
            )

        async with Executor(client=simulated_client(simulator), on_event=listen, clock=loop_time) as executor:
            with kept.keeping(executor.snapshot):
                await run_rows(some_rows(300), write, executor=executor, run=run)
            summary = summarize(run, executor.snapshot())
    account = account_of(path)
    assert summary.bottleneck is not None
    assert account.limited is not None
    assert account.limited.held_by == summary.bottleneck.held_by == "output tokens"
    assert account.limited.share == pytest.approx(summary.bottleneck.share, abs=0.02)
    assert account.limited.limit == summary.bottleneck.limit
    assert account.limited.saving == pytest.approx(summary.bottleneck.saving, rel=0.05)
    assert (account.attempts, account.retries) == (summary.attempts, summary.retries)
    assert account.seconds == pytest.approx(summary.seconds, abs=1.0)
    assert account.known_dollars == pytest.approx(summary.spent.dollars)
    assert account.uses[0].resource == "output tokens"
    assert account.uses[0].share == pytest.approx(1.0, abs=0.2)


def test_running_time_leaves_out_the_time_between_runs():
    """Two runs of a minute with a night between them took two minutes."""
    night = BEGAN + 36_000
    axis = Axis([Ran(BEGAN, BEGAN + 60, True), Ran(night, night + 60, True)], BEGAN + 1, night + 30)
    assert axis.length == 120
    assert axis.seams == [60]
    at = np.array([BEGAN, BEGAN + 30, BEGAN + 20_000, night, night + 60, night + 999])
    assert axis.seconds(at).tolist() == [0, 30, 60, 60, 120, 120]


def test_results_from_before_the_timeline_are_part_of_the_time():
    """Where the first runs have left no timeline, time begins with their results."""
    axis = Axis([Ran(BEGAN + 100, BEGAN + 200, True)], BEGAN, BEGAN + 250)
    assert (axis.began, axis.length) == (BEGAN, 250)


def test_a_timeline_with_anything_in_it(results):
    """Half lines, wrong types, and a clock that was set back: what can be read is read."""
    path = results(answered("a", at=BEGAN + 5))
    strange = [
        '{"at": 1700000000, "start": 1}',
        '{"at": 1700000001, "429": 2, "pools": {"p": {"held": {"requests": 1, "x": 9}, "level": {"r": 5}}}}',
        '{"at": 1699999990, "429": "many", "pools": {"p": 7}}',
        '{"at": 1700000003, "pools": []}',
        '{"at": 1700000004, "pools": {"p": {"held": [], "used": 3, "limits": {"r": 9, "s": [1]}}}}',
        '{"at": "now"}',
        "[]",
        '{"at": 1700000005, "end": true}',
        '{"at": 17000',
    ]
    timeline_of(path).write_text("\n".join(strange))
    account = account_of(path)
    assert account.refusals == 2
    assert account.seconds == 5
    assert account.history.pools == ["p"]
    assert account.limited is not None
    assert account.limited.held_by == "requests"
    assert account.history.runs[0].ended_well


def some_history(results, *, seconds=10, **pool):
    """A results file of an answer, and a timeline that says the same of a pool every second."""
    path = results(answered("a", at=BEGAN + seconds, duration=0.8))
    told = [{"at": BEGAN, "start": 1}]
    told += [{"at": BEGAN + second, "attempts": 1, "pools": {"p": pool}} for second in range(1, seconds + 1)]
    timeline_of(path).write_bytes(b"\n".join(map(orjson.dumps, told)))
    return path


def test_use_of_more_than_all_that_the_limit_gave(results):
    """A full bucket is given as well: 600 of it and 100 that flowed in within ten seconds are 700."""
    limits = {"requests": [600.0, "declared", 600.0]}
    path = some_history(results, running=1, used={"requests": 70.0}, limits=limits)
    assert account_of(path).uses[0].share == pytest.approx(1.0)


def test_a_next_limit_that_the_closing_summary_does_not_name(results):
    """As many in flight as there might be at the end, as there; not the most that ever might."""
    limits = {"requests": [60.0, "declared", 1.0]}
    path = some_history(results, seconds=120, held={"requests": 1.0}, limits=limits, concurrency=1)
    early = timeline_of(path).read_bytes().replace(b'"concurrency":1', b'"concurrency":200', 60)
    timeline_of(path).write_bytes(early)
    limited = account_of(path).limited
    assert limited is not None
    assert limited.next == "concurrency"


def test_a_short_rate_of_peaks_that_never_were():
    """What is told once a second came about all through that second."""
    steps = Steps.of(4.0)
    rate = steps.rate(np.arange(1.0, 5.0), np.full(4, 10.0), gradual=True)
    assert rate[1:] == pytest.approx(np.full(12, 600.0))


def test_a_killed_run_has_no_end(tmp_path):
    """A run whose end was not written is told apart from the next."""
    path = tmp_path / "r.timeline.jsonl"
    values = [{"at": 10.0, "start": 1}, {"at": 12.0}, {"at": 90.0, "start": 1}, {"at": 91.0, "end": True}]
    path.write_text("\n".join(json.dumps(value) for value in values))
    assert read_history(path).runs == ((10.0, 12.0, False), (90.0, 91.0, True))


def test_rates_and_shares_of_something_steady():
    """Ten a second are six hundred a minute, and what always held holds all of every step."""
    steps = Steps.of(600.0)
    seconds = np.arange(1.0, 601.0)
    rate = steps.rate(seconds, np.full(600, 10.0))
    assert rate[20:] == pytest.approx(np.full(len(rate) - 20, 600.0), rel=0.05)
    assert steps.shares(seconds, np.ones(600)) == pytest.approx(np.ones(len(steps.centres)))
    assert steps.counts(seconds).sum() == 600
    assert steps.so_far(seconds, np.ones(600))[-1] == 600


def test_percentiles_of_each_step():
    """They are those of the values in the step; where there are none, nothing is known."""
    generator = np.random.default_rng(1)
    steps = Steps.of(120.0)
    seconds, values = generator.uniform(0, 60, 5_000), generator.lognormal(size=5_000)
    found = steps.percentiles(seconds, values)
    inside = values[(seconds >= steps.edges[7]) & (seconds < steps.edges[8])]
    for part in report.PERCENTILES:
        assert found[part][7] == np.percentile(inside, part, method="inverted_cdf")
        assert np.isnan(found[part][-1])


def test_half_a_surrogate_pair_is_read_and_can_be_shown(results):
    """JSON can hold one, UTF-8 cannot: the row counts, and what is shown of it can be written to a page."""
    line = json.dumps(failed("\ud800", message="bad \udc00")).encode() + b"\n"
    account = account_of(results(line))
    assert (account.failed, account.rows.unreadable) == (1, 0)
    assert account.rows.failures[0].examples == (("?", "bad ?"),)
