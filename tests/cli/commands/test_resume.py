"""Going on: after a kill, after failures, after changes; one at a time, and what is said about it."""

import json
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from claude_executor.simulator import Latency, Lengths, Rates, Settings, running
from claude_executor.simulator.audit.audit import ClientAudit

MODEL = "claude-haiku-5-5"
SLOW = Settings(rates=Rates(), latency=Latency(0.4), output_tokens=Lengths(20))


def results_of(path: Path) -> list[dict]:
    """The lines of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(path: Path, texts: list[str], model: str = MODEL) -> Path:
    """A file of rows; the simulator knows them by their ids."""
    with path.open("w") as file:
        for number, text in enumerate(texts):
            params = {"model": model, "max_tokens": 30, "messages": [{"role": "user", "content": text}]}
            params["metadata"] = {"user_id": f"r{number}"}
            file.write(json.dumps({"custom_id": f"r{number}", "params": params}) + "\n")
    return path


def wait_for(path: Path, lines: int) -> None:
    """Until there are so many results."""
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_bytes().splitlines()) < lines:
        assert time.monotonic() < deadline, "no results came"
        time.sleep(0.01)


@pytest.fixture
def sent(monkeypatch) -> Counter:
    """How often the simulator was sent each row."""
    counts, arrived = Counter(), ClientAudit.arrived

    def count(witness, identity, *others, **more):
        counts[identity] += 1
        return arrived(witness, identity, *others, **more)

    monkeypatch.setattr(ClientAudit, "arrived", count)
    return counts


def test_killed_and_started_again(launch, invoke, sent, monkeypatch, tmp_path):
    """Killed twice at a random moment: every row once, and what was journalled is not sent again."""
    source = write_rows(tmp_path / "rows.jsonl", [f"Row {number}" for number in range(200)])
    target = tmp_path / "rows.results.jsonl"
    chance, journalled = random.Random(), Counter()
    with running(SLOW) as server:
        for _ in range(2):
            process = launch("run", source, "--max-concurrency", 30, ANTHROPIC_BASE_URL=server.base_url)
            wait_for(target, len(journalled) + chance.randrange(1, 60))
            process.kill()
            process.wait()
            whole = target.read_bytes().rpartition(b"\n")[0].splitlines()
            time.sleep(0.1)  # the simulator has yet to see that the connections are gone
            for line in whole:
                custom_id = json.loads(line)["custom_id"]
                journalled.setdefault(custom_id, sent[custom_id])
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        last = invoke("run", source, "--max-concurrency", 100)
        assert last.exit_code == 0, last.stderr
        assert {name: sent[name] for name in journalled} == dict(journalled)
        assert server.verdict().requests <= 200 + 2 * 30
    assert f"{len(journalled)} of 200 rows are already done; " in last.stderr
    assert Counter(result["custom_id"] for result in results_of(target)) == Counter(
        f"r{number}" for number in range(200)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "rows.jsonl", "rows.results.jsonl", "rows.results.timeline.jsonl"
    ]  # fmt: skip


def test_a_second_start_sends_nothing_that_is_done(environment, invoke, rows_file):
    """All done: nothing is sent, exit 0, and it says so."""
    source = rows_file(20)
    assert invoke("run", source).exit_code == 0
    before = source.with_name("rows.results.jsonl").read_bytes()
    result = invoke("run", source, "--json")
    assert result.exit_code == 0
    assert "20 of 20 rows are already done; nothing to do" in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["rows"], summary["answered_before"]) == (0, 20)
    assert source.with_name("rows.results.jsonl").read_bytes() == before
    assert environment.verdict().requests == 20


def test_rows_without_ids_are_known_by_their_lines(environment, invoke, tmp_path):
    """Bare prompts keep their identity from start to start."""
    source = tmp_path / "p.jsonl"
    source.write_text('{"prompt": "Hi"}\n{"prompt": "Ho"}\n')
    assert invoke("run", source, "-m", MODEL).exit_code == 0
    with source.open("a") as file:
        file.write('{"prompt": "Hum"}\n')
    result = invoke("run", source, "-m", MODEL)
    assert "2 of 3 rows are already done; 1 to go" in result.stderr
    assert environment.verdict().requests == 3


def test_changed_rows(environment, invoke, rows_file):
    """A changed prompt under an old id: exit 2 and nothing sent, unless it is said what to do."""
    source = rows_file(5)
    target = source.with_name("rows.results.jsonl")
    assert invoke("run", source).exit_code == 0
    before = {result["custom_id"]: result for result in results_of(target)}
    source.write_text(source.read_text().replace("The secret prompt 3", "Another secret"))
    result = invoke("run", source)
    assert result.exit_code == 2
    assert "nothing was sent: 1 answered row has changed since: r3" in result.stderr
    assert "--on-changed redo" in result.stderr
    assert invoke("run", source, "--on-changed", "keep").exit_code == 0
    assert environment.verdict().requests == 5
    result = invoke("run", source, "--on-changed", "redo")
    assert result.exit_code == 0
    assert "4 of 5 rows are already done; 1 changed row is sent again" in result.stderr
    after = {result["custom_id"]: result for result in results_of(target)}
    assert {name for name in before if before[name] != after[name]} == {"r3"}
    assert environment.verdict().requests == 6


def test_another_model_is_another_request(environment, invoke, tmp_path):
    """The hash is that of all that is sent: with another default model every row has changed."""
    source = tmp_path / "p.jsonl"
    source.write_text("".join(f'{{"prompt": "Prompt {number}"}}\n' for number in range(30)))
    assert invoke("run", source, "-m", MODEL).exit_code == 0
    result = invoke("run", source, "-m", "claude-haiku-4-5")
    assert result.exit_code == 2
    assert "30 answered rows have changed since: line-1, " in result.stderr
    assert "line-20 and 10 more" in result.stderr


def test_failures_are_left_or_retried(environment, invoke, tmp_path):
    """Final failures stay failures for `run`, exit 1; `retry` sends them and only them."""
    source = write_rows(tmp_path / "rows.jsonl", ["a", "b", "c"])
    line = {"custom_id": "bad", "params": {"model": "claude-nope", "max_tokens": 5}}
    line["params"]["messages"] = [{"role": "user", "content": "d"}]
    with source.open("a") as file:
        file.write(json.dumps(line) + "\n")
    target = tmp_path / "rows.results.jsonl"
    assert invoke("run", source).exit_code == 1
    result = invoke("run", source)
    assert result.exit_code == 1
    assert (
        "3 of 4 rows are already done; 1 failed permanently (retry them with claude-executor retry"
        in result.stderr
    )
    assert environment.verdict().requests == 4
    with source.open("a") as file:
        file.write(json.dumps(line | {"custom_id": "new"}) + "\n")
    result = invoke("retry", source)
    assert result.exit_code in (1, 2)
    assert "1 failed row is retried; 1 not sent yet is left out" in result.stderr
    assert environment.verdict().requests == 5
    source.write_text(source.read_text().replace("claude-nope", MODEL))
    assert invoke("run", source).exit_code == 0
    assert Counter(result["custom_id"] for result in results_of(target)) == Counter(
        ["r0", "r1", "r2", "bad", "new"]
    )


def test_retry_needs_results(environment, invoke, rows_file):
    """Before the first run there is nothing to retry."""
    result = invoke("retry", rows_file())
    assert result.exit_code == 2
    assert "run claude-executor run first" in result.stderr


def test_a_torn_line_is_repaired(environment, invoke, rows_file):
    """What a crash left of a line is cut off, and its row is sent again."""
    source = rows_file(5)
    target = source.with_name("rows.results.jsonl")
    assert invoke("run", source).exit_code == 0
    whole = target.read_bytes()
    target.write_bytes(whole[:-40])
    result = invoke("run", source)
    assert result.exit_code == 0
    assert "4 of 5 rows are already done; 1 to go" in result.stderr
    assert len(results_of(target)) == 5


def test_one_at_a_time(launch, invoke, rows_file):
    """A second run on the same results is refused, and told whose they are."""
    source = rows_file(3_000)
    target = source.with_name("rows.results.jsonl")
    with running(SLOW) as server:
        first = launch("run", source, "--max-concurrency", 20, ANTHROPIC_BASE_URL=server.base_url)
        wait_for(target, 5)
        second = invoke("run", source)
        assert second.exit_code == 2
        assert f"is being written by process {first.pid}" in second.stderr
        first.send_signal(signal.SIGTERM)
        _, said = first.communicate(timeout=60)
        assert first.returncode == 143
        assert server.verdict().duplicates == 0
    assert said.splitlines()[-1].startswith("resume with: claude-executor run ")


def test_how_to_go_on_throws_nothing_away(launch, rows_file):
    """The command printed after an interruption has all options but `--force`; a second signal aborts."""
    source = rows_file(3_000)
    target = source.with_name("my results.jsonl")
    slower = Settings(rates=Rates(), latency=Latency(0.5, 5.0, 0.8), output_tokens=Lengths(20))
    with running(slower) as server:
        words = ("run", "--force", source, "-o", target, "--max-concurrency", 20)
        process = launch(*words, ANTHROPIC_BASE_URL=server.base_url)
        wait_for(target, 5)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == (
        f"resume with: claude-executor run {source} -o '{target}' --max-concurrency 20"
    )
    assert "aborted; " in said
    assert len(results_of(target)) >= 5


def test_dedupe_and_order(environment, invoke, tmp_path):
    """`--dedupe` sends what is the same once, `--ordered` sorts; both over several starts."""
    source = tmp_path / "p.jsonl"
    source.write_text("".join(f'{{"prompt": "Prompt {number % 7}"}}\n' for number in range(40)))
    result = invoke("run", source, "-m", MODEL, "--dedupe", "--ordered")
    assert "33 of them were copies of equal rows, at no cost" in " ".join(result.stderr.split())
    with source.open("a") as file:
        file.write('{"prompt": "Prompt 6"}\n{"prompt": "Prompt 7"}\n')
    assert invoke("run", source, "-m", MODEL, "--dedupe", "--ordered").exit_code == 0
    results = results_of(tmp_path / "p.results.jsonl")
    assert [result["custom_id"] for result in results] == [f"line-{number}" for number in range(1, 43)]
    assert environment.verdict().requests == 8


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_that_fills_up(environment, invoke, rows_file):
    """It stops with exit 1 and says how much is safe; with room, the same command does the rest."""
    source = rows_file(60)
    target = source.with_name("rows.results.jsonl")
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        result = invoke("run", source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1, result.stderr
    assert "stopped: cannot write" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("when there is room, resume with: claude-executor run")
    kept = results_of(target)
    assert 0 < len(kept) < 60
    result = invoke("run", source)
    assert result.exit_code == 0
    assert f"{len(kept)} of 60 rows are already done" in result.stderr
    assert len(results_of(target)) == 60


@pytest.mark.parametrize("words", [["--budget", "5"], ["--dedupe"]])
def test_an_answer_that_is_damaged_is_told_with_its_line(environment, invoke, done, words):
    """Whoever needs all of it: a sentence, and nothing is taken for done or thrown away."""
    source, target = done
    lines = target.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"message":{', b'"message":{{')
    target.write_bytes(b"".join(lines))
    more = [json.loads(line) for line in source.read_text().splitlines()]
    with source.open("a") as file:
        file.writelines(json.dumps({**row, "custom_id": f"x-{row['custom_id']}"}) + "\n" for row in more)
    result = invoke("run", source, *words)
    assert result.exit_code == 2
    assert f"{target} is not a results file (line 3: it is damaged" in result.stderr
    assert b"".join(lines) in target.read_bytes()
    assert environment.verdict().requests == 4
