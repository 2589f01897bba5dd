"""``run`` and ``retry`` with limits that are shared, and limits that are told beside a tier."""

import pytest

from claude_executor import Limits
from claude_executor.cli.options import connection

NOBODY_THERE = ("--shared", "redis://127.0.0.1:1", "--alone", "fail")


def test_a_run_that_shares_its_limits_asks_the_group(environment, invoke, rows_file):
    """Told to refuse while Redis is away it answers nothing, and says so once, not once a row."""
    source = rows_file(300)
    result = invoke("run", source, *NOBODY_THERE)
    assert result.exit_code == 3, result.output
    assert environment.verdict().requests == 0
    assert "stopped early: not sent: the shared budget cannot be reached" in result.stderr
    assert "0 of 300 answered, 300 not done" in result.stderr
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
