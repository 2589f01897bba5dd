"""``run --dry-run`` of a job that was begun: what is left of it, and not a thing is changed by looking."""

import json
import os

import pytest

from claude_executor.bulk import ResultsFile


def said(result) -> str:
    """What was printed, on one line."""
    assert result.exit_code == 0, result.stderr
    return " ".join(result.stdout.split())


def as_it_is(directory) -> dict:
    """All files, what is in them, and when that was written."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


def repeat(source, times: int) -> None:
    """Let rows ask the same as others, under names of their own."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    more = [{**row, "custom_id": f"{row['custom_id']}-{n}"} for n in range(1, times) for row in rows]
    with source.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in more)


@pytest.fixture
def half_done(done, rows_file):
    """Ten rows, of which four have an answer."""
    source, target = done
    rows_file(10, source.name)
    return source, target


def test_what_is_done_is_not_planned_again(environment, invoke, half_done, monkeypatch):
    """As many rows as would be sent, of all that there are; for programs too; without a key."""
    source, target = half_done
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    text = said(invoke("run", source, "--dry-run"))
    assert "4 of 10 rows are already done; 6 to go rows 6 input" in text
    planned = json.loads(invoke("run", source, "--dry-run", "--json").stdout)
    assert (planned["rows"], planned["answered_before"]) == (6, 4)
    assert json.loads(invoke("run", source, "--dry-run", "--json", "--force").stdout)["rows"] == 10
    elsewhere = target.with_name("elsewhere.jsonl")
    assert json.loads(invoke("run", source, "--dry-run", "--json", "-o", elsewhere).stdout)["rows"] == 10
    assert environment.verdict().requests == 4


def test_when_all_is_done_nothing_is_planned(environment, invoke, done):
    """It takes nothing."""
    source, _ = done
    text = said(invoke("run", source, "--dry-run", "--budget", "1"))
    assert text.endswith("4 of 4 rows are already done; nothing to do")
    assert json.loads(invoke("run", source, "--dry-run", "--json").stdout)["dollars"]["high"] == 0


def test_rows_that_ask_the_same_are_planned_once(environment, invoke, half_done):
    """Nor those that ask what has an answer: as many as `run --dedupe` sends then."""
    source, _ = half_done
    repeat(source, 3)
    text = said(invoke("run", source, "--dry-run", "--dedupe"))
    assert "rows 6 to send; 20 equal rows get a copy of the answer" in text
    assert "rows 26 input" in said(invoke("run", source, "--dry-run"))
    assert invoke("run", source, "--dedupe").exit_code == 0
    assert environment.verdict().requests == 10
    with source.open("a") as file:
        file.write(source.read_text().replace('"r', '"again').replace('"againole', '"role'))
    assert "nothing to send: 30 rows would get a copy" in said(invoke("run", source, "--dry-run", "--dedupe"))


def test_only_what_is_left_is_counted(environment, invoke, half_done):
    """All of it, so that there is no range any more."""
    source, _ = half_done
    assert "tokens, counted by the API" in said(invoke("run", source, "--dry-run", "--exact", 6))


def test_it_is_said_whether_the_caps_will_do(environment, invoke, half_done):
    """With what is spent already; and about how far they go if they will not."""
    source, _ = half_done
    text = said(invoke("run", source, "--dry-run", "--budget", "1", "--max-tokens-total", "1k"))
    assert "cost cap $1.00, under $0.0001 spent already: enough tokens cap 1,000," in text
    text = said(invoke("run", source, "--dry-run", "--budget", "0.0000001", "--max-tokens-total", "250"))
    assert "spent already: used up, nothing will be sent tokens cap 250, 104 spent already: not en" in text
    words = ("--max-tokens-total", "250", "--deadline", "30s", "--rpm", 1)
    caps = json.loads(invoke("run", source, "--dry-run", "--json", *words).stdout)["caps"]
    assert (caps["max_tokens_total"]["suffices"], caps["deadline"]["suffices"]) == ("no", "no")
    assert 0 < caps["max_tokens_total"]["left"] < 250
    source.write_text(source.read_text().replace("claude-haiku-5-5", "claude-mythos-5"))
    refused = invoke("run", source, "--dry-run", "--budget", "1", "--force")
    assert refused.exit_code == 2
    assert "so a cap on the cost cannot be kept; omit --max-cost" in refused.stderr


def test_looking_changes_nothing_and_is_kept_out_by_nobody(environment, invoke, half_done):
    """Half a line stays, what was begun anew stays beside, and a run that is under way is not in the way."""
    source, target = half_done
    answers = target.read_bytes().splitlines(keepends=True)
    target.write_bytes(b"".join(answers[:3]) + answers[3][:-20])
    os.utime(target, (1, 1))
    before = as_it_is(source.parent)
    assert "3 of 10 rows are already done" in said(invoke("run", source, "--dry-run", "--dedupe"))
    assert as_it_is(source.parent) == before
    target.with_name(target.name + ".staged").write_bytes(answers[0])
    before = as_it_is(source.parent)
    assert "1 of 10 rows are already done" in said(invoke("run", source, "--dry-run"))
    assert as_it_is(source.parent) == before
    with ResultsFile.open(target):
        assert "1 of 10 rows are already done" in said(invoke("run", source, "--dry-run"))


def test_what_a_run_would_refuse_is_refused(environment, invoke, half_done):
    """Changed rows, and results that are none: in its words."""
    source, target = half_done
    source.write_text(source.read_text().replace("The secret prompt 3", "Another"))
    assert "1 answered row has changed since" in invoke("run", source, "--dry-run").stderr
    assert "1 changed row is sent again; 6 to go rows 7 input" in said(
        invoke("run", source, "--dry-run", "--on-changed", "redo")
    )
    target.write_text("precious")
    refused = invoke("run", source, "--dry-run")
    assert refused.exit_code == 2
    assert "is not a results file (line 1:" in refused.stderr
