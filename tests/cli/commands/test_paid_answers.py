"""Answers that were paid for are not thrown away before it is known that anything can be sent."""

import errno
import json
import os
import shlex
import sys
import time

import pytest

from claude_executor.bulk import Run
from claude_executor.bulk.results.replacement import Replacement
from claude_executor.bulk.run.timeline import timeline_of
from claude_executor.simulator import Latency, Rates, Settings, running

UNPRICED = "claude-mythos-5"


def test_redo_at_a_budget_that_is_used_up_keeps_the_answers(environment, invoke, done):
    """Nothing is sent, so nothing is thrown away, however often it is tried."""
    source, target = done
    before = target.read_bytes()
    source.write_text(source.read_text().replace("The secret", "Another"))
    for _ in range(2):
        result = invoke("run", source, "--on-changed", "redo", "--budget", "0.000001", "--ordered")
        assert result.exit_code == 4
        assert "4 rows not sent" in result.stderr
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


@pytest.fixture
def done_but_one(invoke, done, rows_file):
    """The same, and one more row that has failed."""
    source, target = done
    bad = rows_file(1, "b.jsonl", "claude-nope").read_text().replace("r0", "bad")
    source.write_text(source.read_text() + bad)
    assert invoke("run", source).exit_code == 1
    return source, target


def test_retry_at_a_cap_that_is_used_up_keeps_what_failed(environment, invoke, done_but_one):
    """A line that tells of a failure is taken out when its row is sent, not before."""
    source, target = done_but_one
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
    assert "3 of 4 rows are already done; 1 to go" in result.stderr


def answers_of(path):
    """The answers in a file of results, by their ids, each of which has one line."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    answers = {line["custom_id"]: line for line in lines if line["result"]["type"] == "succeeded"}
    assert len(lines) == len({line["custom_id"] for line in lines})
    return answers


@pytest.mark.parametrize("words", [["--on-changed", "redo"], ["--force"]])
def test_a_wrong_key_costs_no_answer(environment, invoke, done, words):
    """A 401 on the first request: what was to be replaced is as it was, with `--force` the timeline too."""
    source, target = done
    before, history = target.read_bytes(), timeline_of(target).read_bytes()
    source.write_text(source.read_text().replace("The secret", "Another"))
    environment.set_faults(invalid_key=True)
    result = invoke("run", source, *words)
    assert result.exit_code == 3
    assert target.read_bytes() == before
    assert words != ["--force"] or timeline_of(target).read_bytes() == history
    assert sorted(path.name for path in source.parent.iterdir()) == [
        "rows.jsonl", "rows.results.jsonl", "rows.results.timeline.jsonl"
    ]  # fmt: skip
    go_on = shlex.split(result.stderr.splitlines()[-1].partition("resume with: ")[2])
    environment.set_faults(invalid_key=False)
    assert invoke(*go_on[1:]).exit_code == 0
    assert environment.verdict().requests >= 8
    assert answers_of(target).keys() == {"r0", "r1", "r2", "r3"}
    assert not any(line in before for line in target.read_bytes().splitlines())


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_force_that_is_killed_before_its_first_answer_leaves_the_timeline_too(environment, launch, done):
    """Whatever the old results are told by stays with them."""
    source, target = done
    history = timeline_of(target).read_bytes()
    with running(Settings(rates=Rates(), latency=Latency(60.0))) as server:
        process = launch("run", source, "--force", ANTHROPIC_BASE_URL=server.base_url)
        while server.verdict().requests < 4:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(1.2)  # until a line of the new timeline would have been written
        process.kill()
        process.wait()
    assert timeline_of(target).read_bytes() == history


def test_redo_that_is_interrupted_keeps_the_answers_of_rows_that_are_not_replaced(
    environment, invoke, done, monkeypatch
):
    """Row by row: one line each, and those that have not come yet are as they were."""
    source, target = done
    before = answers_of(target)
    source.write_text(source.read_text().replace("The secret", "Another"))
    judge = Run.on_result

    def stop(run, *of_what):
        judge(run, *of_what)
        run.stop()

    monkeypatch.setattr(Run, "on_result", stop)  # as Ctrl-C would, at the first answer
    words = ("run", source, "--on-changed", "redo", "--max-concurrency", 1)
    assert invoke(*words).exit_code == 1
    monkeypatch.undo()
    between = answers_of(target)
    assert between.keys() == before.keys()
    new = {name for name in before if before[name] != between[name]}
    assert 0 < len(new) < 4


def test_a_redo_that_was_killed_goes_on_with_what_it_had(environment, invoke, done):
    """The file has the old answer and the new one then; the new one is not paid for again."""
    source, target = done
    old = target.read_bytes()
    source.write_text(source.read_text().replace("The secret", "Another"))
    assert invoke("run", source, "--on-changed", "redo").exit_code == 0
    new = target.read_bytes().splitlines(keepends=True)
    target.write_bytes(old + b"".join(new[:2]) + new[2][:-30])
    requests = environment.verdict().requests
    assert invoke("run", source).exit_code == 2
    result = invoke("run", source, "--on-changed", "redo")
    assert result.exit_code == 0
    assert "2 of 4 rows are already done; 2 changed rows are sent again" in result.stderr
    assert environment.verdict().requests == requests + 2
    assert len(answers_of(target)) == 4
    assert not any(line in old for line in target.read_bytes().splitlines())


def test_a_failure_stays_until_it_is_retried(environment, invoke, done_but_one):
    """A retry that meets a wrong key leaves an honest error in its place, and retry goes on."""
    source, target = done_but_one
    before = target.read_bytes()
    environment.set_faults(invalid_key=True)
    result = invoke("retry", source)
    assert result.exit_code == 3
    assert target.read_bytes() == before
    assert result.stderr.splitlines()[-1].endswith(f"resume with: claude-executor retry {source}")
    environment.set_faults(invalid_key=False)
    assert invoke("retry", source).exit_code in (1, 2)
    assert len(target.read_bytes().splitlines()) == 5


def test_force_that_was_killed_before_its_first_answer_has_thrown_nothing_away(environment, invoke, done):
    """What it left beside the results has no answer and goes; one that has an answer takes their place."""
    source, target = done
    old = target.read_bytes()
    beside = target.with_name(target.name + ".staged")
    beside.write_bytes(b'{"custom_id":"r0","resu')
    result = invoke("run", source)
    assert "nothing to do" in result.stderr
    assert target.read_bytes() == old
    assert not beside.exists()
    first = old.splitlines(keepends=True)[0]
    beside.write_bytes(first + b'{"custom_id":"r0","resu')
    result = invoke("run", source)
    assert "1 of 4 rows are already done; 3 to go" in result.stderr
    assert not beside.exists()
    assert len(answers_of(target)) == 4
    assert environment.verdict().requests == 7


def test_force_that_only_fails_keeps_the_answers(environment, invoke, done):
    """Not one answer came: those that are there stay, and it is said."""
    source, target = done
    before = target.read_bytes()
    source.write_text(source.read_text().replace("claude-haiku-5-5", "claude-nope"))
    result = invoke("run", source, "--force")
    assert result.exit_code == 2
    assert target.read_bytes() == before
    assert f"no answer came; {target} is unchanged" in result.stderr


def test_force_takes_the_old_results_away_with_the_first_answer(environment, invoke, done):
    """In order, and with copies: they are made of the new answers."""
    source, target = done
    before = target.read_bytes()
    target.chmod(0o600)
    result = invoke("run", source, "--force", "--ordered", "--dedupe")
    assert result.exit_code == 0
    assert "is unchanged" not in result.stderr
    assert [json.loads(line)["custom_id"] for line in target.read_text().splitlines()] == [
        "r0", "r1", "r2", "r3"
    ]  # fmt: skip
    assert not any(line in before for line in target.read_bytes().splitlines())
    assert timeline_of(target).read_text().count('"start":') == 1
    assert target.stat().st_mode & 0o777 == 0o600


def test_on_a_disk_that_is_full_nothing_is_sent(environment, invoke, rows_file, monkeypatch):
    """It would be paid for and could not be written."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    source = rows_file(3)
    result = invoke("run", source)
    assert result.exit_code == 1
    assert (
        "rows.results.jsonl: no space left on device (4 MB must be free for what is in flight); 0 rows done\n"
        "when there is room, resume with" in result.stderr
    )
    assert environment.verdict().requests == 0


def test_force_says_where_the_results_are_if_they_cannot_take_the_place_of_the_old(
    environment, invoke, done, monkeypatch
):
    """Neither by name nor by copying: they are beside them, and it is told at the end."""
    source, target = done

    def refuse(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(Replacement, "take_place", refuse)
    result = invoke("run", source, "--force")
    assert result.exit_code == 0
    beside = target.with_name(target.name + ".staged")
    said = f"the results are in {beside}: {target} cannot be replaced (device or resource busy)"
    assert said in result.stderr
    again = invoke("run", source)
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    assert said in again.stderr
    assert len(answers_of(beside)) == 4
    assert environment.verdict().requests == 8
