"""``run`` and ``retry`` with limits that are shared, and limits that are told beside a tier."""

import asyncio
import json
import shlex

import pytest

from claude_executor import Executor, Limits, RedisBudget
from claude_executor.bulk import Run, read_row, run_rows
from claude_executor.cli.live.panel import line
from claude_executor.cli.live.progress import ProgressTracker
from claude_executor.cli.options import connection as options
from claude_executor.cli.options.connection import connection
from claude_executor.cli.options.resume_command import ResumeCommand
from claude_executor.testing import simulated_client

NOBODY_THERE = ("--shared", "redis://127.0.0.1:1", "--when-unreachable", "fail")


def test_a_run_that_shares_its_limits_asks_the_group(environment, invoke, rows_file):
    """Told to refuse while Redis is away it answers nothing, and says so once, not once a row."""
    source = rows_file(300)
    result = invoke("run", source, *NOBODY_THERE)
    assert result.exit_code == 3, result.output
    assert environment.verdict().requests == 0
    assert "stopped early: not sent: the shared budget cannot be reached" in result.stderr
    assert "0 of 300 answered, 300 not sent" in result.stderr
    assert list(source.parent.iterdir()) == [source]


def test_a_retry_that_shares_its_limits_asks_the_group(environment, invoke, rows_file):
    """As `run` does."""
    source = rows_file(2, model="claude-nope")
    source.write_text(source.read_text() + rows_file(1, "b.jsonl").read_text().replace("r0", "b"))
    assert invoke("run", source).exit_code == 1
    sent = environment.verdict().requests
    result = invoke("retry", source, *NOBODY_THERE)
    assert result.exit_code == 3
    assert environment.verdict().requests == sent


@pytest.mark.parametrize("tier", ["start", "scale"])
def test_limits_told_beside_a_tier_are_not_those_of_counting(tier):
    """What counts tokens has a limit of its own, of which nothing was said."""
    told = connection(tier=tier, burst=5.0, max_concurrency=1, base_url=None, rpm=50.0)
    assert told.limits["*"].rpm == 50.0
    assert told.limits["count_tokens"] == Limits.tier(tier)["count_tokens"]


@pytest.mark.parametrize("alone", ["hold", "degrade"])
async def test_it_is_shown_why_the_shared_budget_is_away(simulator, alone):
    """In the panel and on plain lines, with how long it has been and what is done meanwhile."""
    run, now = Run(3), 100.0
    run.clock = lambda: now
    prompt = {"prompt": "Hi", "model": "claude-haiku-5-5", "max_tokens": 5}
    rows = [read_row(json.dumps(prompt).encode(), number) for number in range(3)]
    budget = RedisBudget("redis://127.0.0.1:1", group="g", when_unreachable=alone, members=4)
    async with Executor(client=simulated_client(simulator), budget=budget, on_event=run.listen) as executor:
        watch = ProgressTracker(run, executor, title="x", max_concurrency=200)
        work = asyncio.create_task(run_rows(rows, lambda _: None, executor=executor, run=run))
        async with asyncio.timeout(20):
            # Looking again and again is what is tested.
            while "unreachable" not in str(watch.look().sharing):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        now += 125.0
        view = watch.look()
        meanwhile = "waiting" if alone == "hold" else "using 25 % of the limits"
        assert view.sharing == f"shared budget: unreachable for 2:05 (ConnectionError), {meanwhile}"
        assert view.sharing in line(view)
        run.stop()
        await work


@pytest.mark.parametrize("words", [("--shared", "{}"), ("--shared={}",)])
@pytest.mark.parametrize(
    "address", ["redis://me:pa55word@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password=pa55word"]
)
def test_the_password_of_a_redis_is_not_repeated(environment, invoke, rows_file, monkeypatch, words, address):
    """How to go on says where it is to be put, and does not share with nobody when it is not."""
    source = rows_file(2)
    result = invoke("run", source, *(word.format(address) for word in words), "--when-unreachable", "fail")
    assert result.exit_code == 3
    assert "pa55word" not in result.output
    before, _, command = result.stderr.splitlines()[-1].partition("resume with: ")
    variable = "$CLAUDE_EXECUTOR_SHARED"
    said = words[0].replace("{}", f'"{variable}"') + (f' "{variable}"' if len(words) == 2 else "")
    assert command == f"claude-executor run {source} {said} --when-unreachable fail"
    assert "whose password is not repeated here, into CLAUDE_EXECUTOR_SHARED, and" in before
    unset = invoke(*(word.replace(variable, "") for word in shlex.split(command)[1:]))
    assert unset.exit_code == 2
    assert environment.verdict().requests == 0


@pytest.mark.parametrize("address", ["redis://127.0.0.1:1", "redis://me@host", "redis+sentinel://a:1,b:2/s"])
def test_an_address_without_a_password_is_repeated(address):
    """The command can be pasted as it is."""
    words = ResumeCommand("run", ("rows.jsonl", "--shared", address)).sentence()
    assert words == f"resume with: claude-executor run rows.jsonl --shared {address}"


def test_the_password_of_a_proxy_is_not_repeated():
    """It may be in the address of the API, too."""
    words = ("a b.jsonl", "--base-url", "https://me:pa55@proxy", "--force")
    assert ResumeCommand("run", words).sentence(first="raise --budget and ") == (
        "raise --budget and put the address, whose password is not repeated here, into ANTHROPIC_BASE_URL, "
        "and resume with: claude-executor run 'a b.jsonl' --base-url \"$ANTHROPIC_BASE_URL\""
    )


def test_the_group_may_be_told_its_concurrency(environment, invoke, rows_file, monkeypatch):
    """On the command line as in code."""
    made = []
    monkeypatch.setattr(options, "Executor", lambda *_, budget, **__: made.append(budget) or Executor())
    invoke("run", rows_file(2), *NOBODY_THERE, "--group-concurrency", 7)
    assert {budget.membership.most for budget in made} == {7}
    assert invoke("run", rows_file(2), *NOBODY_THERE, "--group-concurrency", 0).exit_code == 2
    assert "--group-concurrency" in invoke("run", "--help").output
