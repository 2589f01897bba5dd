"""Answers that were paid for are not thrown away before it is known that anything can be sent."""

import json

import pytest

UNPRICED = "claude-mythos-5"


def test_redo_at_a_budget_that_is_used_up_keeps_the_answers(environment, invoke, done):
    """Nothing is sent, so nothing is thrown away, however often it is tried."""
    source, target = done
    before = target.read_bytes()
    source.write_text(source.read_text().replace("The secret", "Another"))
    for _ in range(2):
        result = invoke("run", source, "--on-changed", "redo", "--budget", "0.000001", "--ordered")
        assert result.exit_code == 4
        assert "4 rows left undone" in result.stderr
        assert target.read_bytes() == before
    assert environment.verdict().requests == 4
    assert invoke("run", source, "--on-changed", "redo", "--budget", "5").exit_code == 0
    assert environment.verdict().requests == 8
    assert target.read_bytes().count(b"\n") == 4


@pytest.mark.parametrize("words", [["--force"], ["--on-changed", "redo"]])
def test_a_budget_without_a_price_keeps_the_answers(environment, invoke, done, words):
    """Who is told that nothing was sent still has what was there."""
    source, target = done
    before = target.read_bytes()
    source.write_text(source.read_text().replace("claude-haiku-5-5", UNPRICED))
    result = invoke("run", source, *words, "--budget", "5")
    assert result.exit_code == 2
    assert f"nothing was sent: the price of {UNPRICED} is not known" in result.stderr
    assert target.read_bytes() == before


def test_redo_without_a_key_keeps_the_answers(environment, invoke, done, monkeypatch, tmp_path):
    """Nor are they gone when no key can be read."""
    source, target = done
    before = target.read_bytes()
    source.write_text(source.read_text().replace("The secret", "Another"))
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert invoke("run", source, "--on-changed", "redo").exit_code == 3
    assert target.read_bytes() == before


def test_retry_at_a_cap_that_is_used_up_keeps_what_failed(environment, invoke, done, rows_file):
    """A line that tells of a failure is taken out when its row is sent, not before."""
    source, target = done
    bad = rows_file(1, "b.jsonl", "claude-nope").read_text().replace("r0", "bad")
    source.write_text(source.read_text() + bad)
    assert invoke("run", source).exit_code == 1
    before = target.read_bytes()
    assert invoke("retry", source, "--max-tokens-total", "1").exit_code == 4
    assert target.read_bytes() == before


def test_models_of_answers_need_no_price_for_what_is_left(environment, invoke, done):
    """Only rows that are to be sent are asked about; what an answer cost is told by the answer."""
    source, target = done
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    first = next(answer for answer in answers if answer["custom_id"] == "r0")
    lines[0]["params"]["model"] = UNPRICED  # such as a proxy's own name for a model
    del first["executor"]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    target.write_text("".join(json.dumps(answer) + "\n" for answer in answers if answer["custom_id"] != "r3"))
    result = invoke("run", source, "--budget", "5")
    assert result.exit_code == 0, result.stderr
    assert "3 of 4 rows are done already; 1 to go" in result.stderr
