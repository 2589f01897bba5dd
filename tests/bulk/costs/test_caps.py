"""Caps of jobs: never passed, used to the end, and a bound on what a job asks for that can be relied upon."""

import asyncio
import random

import orjson
import pytest
from anthropic.types import Usage as SdkUsage

from claude_executor import Executor, SpendingCap, Usage
from claude_executor.bulk import (
    CapDemand,
    Caps,
    Prices,
    RemainingRows,
    ResultsFile,
    Resumption,
    Row,
    Run,
    Spent,
    Unpriced,
    run_file,
    run_rows,
    spent_on,
    summarize,
)
from claude_executor.bulk.costs.prices import NOTHING_SPENT
from claude_executor.core.model.request import shape_of
from claude_executor.sdk.usage import usage_from_sdk
from claude_executor.simulator import Faults, Latency, Lengths, Rates, Settings, Simulator
from claude_executor.testing import loop_time, run_virtual, simulated_client

MODEL = "claude-haiku-5-5"
UNLIMITED = Settings(rates=Rates(), latency=Latency(0.5, 3_000.0, 0.5), output_tokens=Lengths(800, 0.5))
RUNS = 24
PRICES = Prices()


def text_rows(chance: random.Random, count: int, **more) -> list[Row]:
    """Rows of text, no two alike."""
    return [
        Row(
            f"row-{number}",
            {
                "model": MODEL,
                "max_tokens": 400,
                "messages": [{"role": "user", "content": f"{number}: {'why ' * chance.randrange(1, 15)}"}],
                **more,
            },
        )
        for number in range(count)
    ]


def asked_by(rows: list[Row]) -> CapDemand:
    """What the rows ask for."""
    asked = CapDemand()
    for row in rows:
        asked.see(row.custom_id, row.params)
    return asked


def most_of(rows: list[Row], caps: Caps) -> float:
    """What the dearest of the rows may take, in the unit of the cap."""
    (cap,) = caps.left(Spent(), asked_by(rows), PRICES)
    return max(cap.worst_case(shape_of(row.params)) for row in rows)


def begin(simulator: Simulator, rows: list[Row], caps: Caps, before: Spent = NOTHING_SPENT, **options):
    """A run with caps, and an executor that keeps them."""
    run = Run(len(rows), caps=caps, before=before, clock=loop_time)
    kept = caps.left(before, asked_by(rows), PRICES)
    client = simulated_client(simulator)
    return run, Executor(client=client, spending_caps=kept, on_event=run.listen, clock=loop_time, **options)


def used(simulator: Simulator) -> tuple[float, int]:
    """What the simulator's ledger says was used: dollars and tokens."""
    tokens = simulator.stats()["tokens"].get("haiku-5.5", {"input": 0, "output": 0})
    dollars = PRICES.dollars(MODEL, tokens["input"], tokens["output"], prompt=1.0)
    assert dollars is not None
    return dollars, tokens["input"] + tokens["output"]


def resumption_of(results: ResultsFile, rows: list[Row]) -> RemainingRows:
    """What of the rows is to be done."""
    resumption = Resumption(results)
    for row in rows:
        resumption.see(row.custom_id, row.params)
    return resumption.planned()


# ---- never passed, and used to the end


@pytest.mark.parametrize("seed", range(RUNS))
def test_a_cap_is_never_passed_and_is_used_to_the_end(seed):
    """Whatever goes wrong on the way, and however many requests are in flight."""
    chance = random.Random(seed)
    rows = text_rows(chance, 120)
    unit = chance.choice(["dollars", "tokens"])
    caps = Caps(**{unit: 1})
    caps = Caps(**{unit: round(60 * most_of(rows, caps) * chance.uniform(1.0, 1.3) + 5e-7, 6)})
    may_be_charged = seed % 2 == 1
    faults = Faults(overloaded=chance.uniform(0, 0.2), rate_limited_plain=chance.uniform(0, 0.1))
    if may_be_charged:
        faults = Faults(
            error_500=0.05, reset=0.05, garbage=0.05, slow_first_byte=0.05, slow_first_byte_seconds=60.0
        )
    at_once = chance.choice([1, 5, 40])

    async def main():
        simulator = Simulator(UNLIMITED, faults=faults, clock=loop_time)
        run, executor = begin(simulator, rows, caps, max_concurrency=at_once, timeout=10.0)
        lines: list[bytes] = []
        async with executor:
            await run_rows(rows, lines.append, executor=executor, run=run)
        dollars, tokens = used(simulator)
        cap = caps.dollars if unit == "dollars" else caps.tokens
        assert cap is not None
        really = dollars if unit == "dollars" else tokens
        assert really <= cap
        (counted,) = executor._scheduler._executor_limits._spending.spent()
        assert counted <= cap
        # A row is refused only if it would not fit though all in flight cost nothing: they are waited for.
        assert counted > cap - most_of(rows, caps)
        assert (counted if may_be_charged else really) >= 0.98 * cap
        assert run.at_cap
        assert run.unsent > 0
        assert run.counters.failed == 0 or may_be_charged
        assert len(lines) == run.counters.done

    run_virtual(main())


# ---- what becomes of the rows


@pytest.mark.simulator(UNLIMITED)
async def test_a_later_start_with_more_goes_on(rows_in, simulator, tmp_path):
    """Rows beyond the cap are neither answered nor failed; what earlier starts spent counts."""
    rows = text_rows(random.Random(1), 60)
    source, target = rows_in(rows), tmp_path / "r.jsonl"
    seen, costs = set(), []
    most = most_of(rows, Caps(dollars=1))
    for budget in (20 * most, 40 * most, 1.0):
        with ResultsFile.open(target) as results:
            before = spent_on(results, PRICES, in_dollars=True)
            rest = resumption_of(results, rows)
            caps = Caps(dollars=budget)
            run, executor = begin(simulator, rows, caps, before)
            run.rows = rest.to_do
            async with executor:
                await run_file(source, results, executor=executor, run=run, rest=rest)
        lines = [orjson.loads(line) for line in target.read_bytes().splitlines()]
        assert {line["result"]["type"] for line in lines} == {"succeeded"}
        names = {line["custom_id"] for line in lines}
        assert len(names) == len(lines)
        assert names > seen
        seen = names
        costs.append(run.spent.dollars)
        assert used(simulator)[0] == pytest.approx(run.spent.dollars)
        assert run.spent.dollars <= budget
        assert run.at_cap == (budget < 1)
    assert len(seen) == 60
    assert simulator.verdict().duplicates == 0
    assert costs[0] > 18 * most
    summary = summarize(run, executor.snapshot())
    assert summary.max_cost == 1.0
    assert summary.spent.dollars + summary.spent_before.dollars == pytest.approx(costs[-1])


@pytest.mark.simulator(UNLIMITED, faults=Faults(stream_cut=0.3))
async def test_what_failed_attempts_cost_is_told_beside_the_answers(some_rows, simulator):
    """Both together are what counts towards a cap."""
    rows = some_rows(30, max_tokens=30_000)  # so long that they come as streams
    lines: list[bytes] = []
    run, executor = begin(simulator, rows, Caps(dollars=1_000))
    async with executor:
        await run_rows(rows, lines.append, executor=executor, run=run)
    said = summarize(run, executor.snapshot())
    (counted,) = executor._scheduler._executor_limits._spending.spent()
    assert said.retries > 0
    assert said.wasted.tokens > 0
    # What had come of an answer that was cut off is estimated, and rather too high.
    assert used(simulator)[1] <= said.spent.tokens + said.wasted.tokens
    assert said.spent.dollars + said.wasted.dollars == pytest.approx(counted)


@pytest.mark.parametrize(("count", "sent"), [(1, 1), (30, 2)])
@pytest.mark.simulator(UNLIMITED, faults=Faults(error_500=1.0))
async def test_a_row_that_was_sent_before_the_cap_came_is_not_done(some_rows, simulator, count, sent):
    """Its attempt failed, and there is no money for another: neither answered nor failed for good."""
    rows = some_rows(count)
    caps = Caps(dollars=(sent + 0.5) * most_of(rows, Caps(dollars=1)))
    lines: list[bytes] = []
    run, executor = begin(simulator, rows, caps, max_concurrency=2)
    async with executor:
        await run_rows(rows, lines.append, executor=executor, run=run)
    assert run.at_cap
    assert (lines, run.counters.failed, run.unsent) == ([], 0, count)
    assert simulator.verdict().requests == sent


@pytest.mark.simulator(UNLIMITED)
async def test_at_a_cap_no_more_rows_are_read(some_rows, simulator):
    """There may be millions of them."""
    rows, read = some_rows(5_000), 0

    def counted():
        nonlocal read
        for row in rows:
            read += 1
            yield row

    run, executor = begin(
        simulator, rows, Caps(dollars=5 * most_of(rows, Caps(dollars=1))), max_concurrency=4
    )
    async with executor:
        await run_rows(counted(), lambda line: None, executor=executor, run=run)
    assert run.at_cap
    assert read < 3_000
    assert run.unsent == 5_000 - run.counters.succeeded


@pytest.mark.simulator(Settings(rates=Rates(), latency=Latency(20.0), output_tokens=Lengths(20)))
async def test_after_its_deadline_a_run_sends_nothing_more(some_rows, simulator):
    """What is in flight is finished, and counts; the rest is left undone."""
    rows = some_rows(500)
    lines: list[bytes] = []
    began = loop_time()
    run, executor = begin(simulator, rows, Caps(seconds=50.0), max_concurrency=4)
    async with executor:
        await run_rows(rows, lines.append, executor=executor, run=run)
    assert run.late
    assert 50.0 <= loop_time() - began < 75.0
    assert len(lines) == run.counters.succeeded == simulator.verdict().requests
    assert 4 <= len(lines) < 20
    assert run.unsent == 500 - len(lines)


@pytest.mark.simulator(UNLIMITED)
async def test_a_deadline_that_is_not_reached_changes_nothing(some_rows, simulator):
    """And does not come later either."""
    rows = some_rows(5)
    run, executor = begin(simulator, rows, Caps(seconds=3_600.0))
    async with executor:
        await run_rows(rows, lambda line: None, executor=executor, run=run)
        await asyncio.sleep(4_000)
        assert not run.stopping
    assert (run.late, run.unsent) == (False, 0)


# ---- prices


def test_what_is_not_known_counts_as_the_dearest():
    """Fast if any row asks for it, in the United States always, unless the API says how it was."""
    asked = CapDemand()
    (cap,) = Caps(dollars=1).left(Spent(), asked, PRICES)
    plain = PRICES.dollars("claude-opus-5-5", 1_000, 100)
    usage = Usage(1_000, 100)
    assert cap.price("claude-opus-5-5", usage) == pytest.approx(1.1 * plain)
    asked.see("a", {"model": "claude-opus-5-5", "speed": "fast"})
    (cap,) = Caps(dollars=1).left(Spent(), asked, PRICES)
    assert cap.price("claude-opus-5-5", usage) == pytest.approx(2.2 * plain)
    said = Usage(1_000, 100, speed="standard", geo="global", tier="batch")
    assert cap.price("claude-opus-5-5", said) == pytest.approx(0.5 * plain)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"cache_creation_input_tokens": 900, "cache_creation": {"ephemeral_1h_input_tokens": 500,
                                                                "ephemeral_5m_input_tokens": 400}},
        {"cache_read_input_tokens": 2_000, "inference_geo": "us"},
        {"speed": "fast", "service_tier": "standard", "inference_geo": "global"},
        {"server_tool_use": {"web_search_requests": 7, "web_fetch_requests": 1}, "inference_geo": "global"},
    ],
)  # fmt: skip
def test_a_budget_and_a_bill_agree(more):
    """The cap's price of what an answer took is that of the closing summary and of the results file."""
    said = {"input_tokens": 1_000, "output_tokens": 100, "inference_geo": "global", **more}
    usage = SdkUsage.model_validate(said)
    spent = PRICES.spent("claude-opus-5-5", usage)
    (cap,) = Caps(dollars=1).left(Spent(), CapDemand(), PRICES)
    assert cap.price("claude-opus-5-5", usage_from_sdk(usage)) == pytest.approx(spent.dollars)
    assert PRICES.spent("claude-opus-5-5", said) == spent


def test_without_a_price_there_is_no_budget():
    """Whether rows ask for it, or results have it."""
    asked = CapDemand()
    for model in ("claude-mythos-5", MODEL, "claude-b"):
        asked.see("a", {"model": model})
    with pytest.raises(Unpriced, match="price of claude-b, claude-mythos-5 is not known"):
        Caps(dollars=1).left(Spent(), asked, PRICES)
    assert Caps(tokens=10).left(Spent(), asked, PRICES) == (SpendingCap(10),)


def test_what_earlier_starts_spent(tmp_path):
    """Answers, but not copies of them, nor failures; half a usage is borne."""

    def answer(name, model=MODEL, **more):
        usage = {"input_tokens": 100, "output_tokens": 10, "inference_geo": "global"}
        message = {"model": model, "usage": usage}
        return {"custom_id": name, "result": {"type": "succeeded", "message": message}, **more}

    path = tmp_path / "r.jsonl"
    lines = [
        answer("a"),
        answer("b", executor={"hash": "1", "at": 1}),
        answer("c", executor={"hash": "1", "at": 1, "copy_of": "b"}),
        {"custom_id": "d", "result": {"type": "errored", "error": {"type": "error", "error": {"type": "x"}}}},
        {"custom_id": "e", "result": {"type": "succeeded", "message": {"model": MODEL}}},
    ]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    with ResultsFile.open(path) as results:
        spent = spent_on(results, PRICES, in_dollars=True)
    assert spent == Spent(200, 20, 0, 0, 2 * PRICES.dollars(MODEL, 100, 10))
    with path.open("ab") as file:
        file.write(orjson.dumps(answer("f", model="claude-mythos-5")) + b"\n")
    with ResultsFile.open(path) as results:
        assert spent_on(results, PRICES, in_dollars=False).tokens == 330
        with pytest.raises(Unpriced, match="claude-mythos-5"):
            spent_on(results, PRICES, in_dollars=True)


@pytest.mark.parametrize(
    ("params", "unbounded"),
    [
        ({"tools": [{"name": "mine", "input_schema": {}}]}, 0),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 1),
        ({"tools": [{"type": "code_execution_20250825"}]}, 1),
        ({"mcp_servers": [{"url": "https://example.com"}]}, 1),
        ({"messages": [{"content": "text"}, {"content": [{"type": "text", "text": "url"}]}]}, 0),
        ({"messages": [{"content": [{"type": "document", "source": {"type": "base64"}}]}]}, 0),
        ({"messages": [{"content": [{"type": "document", "source": {"type": "file"}}]}]}, 1),
        ({"messages": [{"content": [{"type": "tool_result", "content": [
            {"type": "document", "source": {"type": "url"}}]}]}]}, 1),
    ],
)  # fmt: skip
def test_what_nobody_can_bound(params, unbounded):
    """What a request brings in from elsewhere is counted, so that it can be told."""
    asked = CapDemand()
    asked.see("a", {"model": MODEL, **params})
    assert asked.unbounded == unbounded


def test_the_cap_that_is_nearest():
    """The one of which the largest share is used."""
    assert Caps(dollars=2, tokens=1_000).nearest(Spent(100, 100, 0, 0, 1.0)) == "dollars"
    assert Caps(dollars=2, tokens=1_000).nearest(Spent(600, 100, 0, 0, 1.0)) == "tokens"
    assert Caps().nearest(Spent(600)) is None
    assert Caps(tokens=100).used_up(Spent(60, 40))
    assert not Caps(tokens=100, dollars=1).used_up(Spent(60, 39, 0, 0, 0.5))
