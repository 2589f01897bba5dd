"""Counting: what is on disk is counted, whatever an answer leaves out."""

import asyncio

import pytest
from anthropic.types import Message, Usage

from claude_executor.bulk import ResultsFile, Spent, run_file
from claude_executor.bulk.run.counters import RunCounters
from claude_executor.simulator import Rates, Settings


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 5}, 5),
        ({"input_tokens": 5, "output_tokens": None}, 5),
        ({"output_tokens": 7, "cache_creation": None, "server_tool_use": None}, 7),
        ({}, 0),
        (None, 0),
    ],
)
def test_an_answer_that_does_not_say_what_it_took_is_counted(usage, tokens):
    """A proxy may leave anything out."""
    tally = RunCounters()
    tally.answered("claude-haiku-5-5", Message.construct(usage=usage and Usage.construct(**usage)))
    tally.answered("claude-haiku-5-5", Message.construct())
    assert (tally.succeeded, tally.spent.tokens) == (2, tokens)
    assert tally.spent.dollars is not None


@pytest.mark.simulator(Settings(rates=Rates()))
async def test_one_bad_count_does_not_lose_the_others(begin, some_rows, rows_in, simulator, tmp_path):
    """All lines of a group are on disk, so all of them count; and the mistake is told."""
    rows = some_rows(20)
    run, executor = begin(simulator, len(rows))
    answered, bad = run.counters.answered, []

    def count(model, message):
        answered(model, message)
        if run.counters.succeeded == 3:
            raise RuntimeError("a bad count")

    run.counters.answered = count
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bad.append(context["exception"]))
    async with executor:
        with ResultsFile.open(tmp_path / "results.jsonl") as results:
            await run_file(rows_in(rows), results, executor=executor, run=run)
    assert run.counters.done == 20
    assert run.counters.spent != Spent()
    assert [str(error) for error in bad] == ["a bad count"]
