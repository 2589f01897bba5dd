"""``claude-executor run``: what it does, what it says, and the code it ends with."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from claude_executor.simulator import Latency, Lengths, Rates, Settings, running

SLOW = Settings(rates=Rates(), latency=Latency(0.4), output_tokens=Lengths(20))


def results_of(path: Path) -> list[dict]:
    """The lines of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_every_row(environment, invoke, rows_file):
    """All rows answered: exit 0, results in the file beside the input, the summary on stderr."""
    source = rows_file(20)
    result = invoke("run", source)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "20 of 20 answered" in result.stderr
    results = results_of(source.with_name("rows.results.jsonl"))
    assert sorted(result["custom_id"] for result in results) == sorted(f"r{n}" for n in range(20))
    assert {result["result"]["type"] for result in results} == {"succeeded"}


def test_json_summary_is_alone_on_stdout(environment, invoke, rows_file):
    """`--json` gives a program all of the summary, and nothing else."""
    result = invoke("run", rows_file(3), "--json")
    summary = json.loads(result.stdout)
    assert (summary["rows"], summary["succeeded"], summary["exit_code"]) == (3, 3, 0)
    assert summary["spent"]["dollars"] > 0


def test_ordered(environment, invoke, rows_file):
    """`--ordered` writes results in the order of the rows."""
    source = rows_file(15)
    assert invoke("run", source, "--ordered").exit_code == 0
    results = results_of(source.with_name("rows.results.jsonl"))
    assert [result["custom_id"] for result in results] == [f"r{n}" for n in range(15)]


def test_prompts_with_a_model(environment, invoke, tmp_path):
    """Bare prompts need no more than a model."""
    source = tmp_path / "p.jsonl"
    source.write_text('{"prompt": "Hi"}\n{"prompt": "Ho", "mine": 1}\n')
    assert invoke("run", source, "-m", "claude-haiku-4-5").exit_code == 0
    results = {result["custom_id"]: result for result in results_of(tmp_path / "p.results.jsonl")}
    assert results["line-2"]["mine"] == 1
    assert results["line-1"]["result"]["message"]["model"] == "claude-haiku-4-5"


def test_unknown_price_is_said_to_be_unknown(environment, invoke, rows_file):
    """A model without a known price costs 'unknown', not nothing."""
    result = invoke("run", rows_file(1, model="claude-mythos-5"), "--json")
    assert "cost" in result.stderr
    assert "unknown" in result.stderr
    assert json.loads(result.stdout)["spent"]["dollars"] is None


def test_some_rows_fail(environment, invoke, rows_file):
    """Exit 1, and the summary says how many failed of what, with no prompt in it."""
    source = rows_file(3)
    with source.open("a") as file:
        file.write(
            '{"custom_id":"b","params":{"model":"claude-nope","max_tokens":5,'
            '"messages":[{"role":"user","content":"The secret prompt"}]}}\n'
        )
    result = invoke("run", source)
    assert result.exit_code == 1
    assert "3 of 4 answered, 1 failed" in result.stderr
    assert "1 x not found" in result.stderr
    assert "secret prompt" not in result.stderr


@pytest.mark.parametrize(
    ("faults", "code", "words"),
    [
        ({"invalid_key": True}, 3, "check the API key (ANTHROPIC_API_KEY)"),
        ({"credit_400": True}, 3, "check credit and payment"),
        ({"billing_402": True}, 3, "check credit and payment"),
        ({"spend_cap": True}, 3, "raise the spend limit"),
        ({"permission_403": True}, 3, "check what the API key's workspace may use"),
    ],
)
def test_no_access(environment, invoke, rows_file, faults, code, words):
    """Key, money and permission end the run with exit 3 and a line that says what to do."""
    environment.set_faults(**faults)
    source = rows_file(50)
    result = invoke("run", source)
    assert result.exit_code == code
    assert words in result.stderr.splitlines()[-2]
    assert result.stderr.splitlines()[-1] == f"resume with: claude-executor run {source}"
    assert environment.verdict().requests == 1
    assert not source.with_name("rows.results.jsonl").exists()


def test_unknown_model(environment, invoke, rows_file):
    """A model that does not exist is bad input, told after one request."""
    result = invoke("run", rows_file(50, model="claude-nope"))
    assert result.exit_code == 2
    assert "check the name of the model" in result.stderr.splitlines()[-2]
    assert environment.verdict().requests == 1


def test_missing_key(environment, invoke, rows_file, monkeypatch, tmp_path):
    """Without a key, exit 3 and where to put one."""
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    result = invoke("run", rows_file())
    assert result.exit_code == 3
    said = "no API key found; set ANTHROPIC_API_KEY (create a key at console.anthropic.com)"
    assert said in result.stderr.splitlines()[-2]


def test_unreachable_host(environment, invoke, rows_file):
    """A port where nobody listens: exit 3 after a few attempts, and no row counts as failed."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    result = invoke("run", rows_file(30), "--base-url", url)
    assert result.exit_code == 3
    assert "check the network and the base URL" in result.stderr.splitlines()[-2]
    assert "0 of 30 answered, 30 not sent" in result.stderr


def test_bad_rows_are_told_and_nothing_is_sent(environment, invoke, rows_file):
    """Every bad line is told with its number; exit 2; no request."""
    source = rows_file(3)
    with source.open("a") as file:
        file.write('nonsense\n{"custom_id": "r1", "params": {}}\n')
    result = invoke("run", source)
    assert result.exit_code == 2
    assert f"{source}: line 4: not JSON" in result.stderr
    assert f"{source}: line 5: no 'model'" in result.stderr
    assert "2 problems in the input; nothing was sent" in result.stderr
    assert environment.verdict().requests == 0


def test_bad_files(environment, invoke, rows_file, tmp_path):
    """Files that cannot be read or written are told on one line, with exit 2."""
    source, empty = rows_file(), tmp_path / "empty.jsonl"
    empty.write_text("")
    existing = tmp_path / "existing.jsonl"
    existing.write_text("precious")
    for words, said in [
        ((tmp_path / "missing.jsonl",), "no such file or directory"),
        ((tmp_path,), "cannot"),
        ((empty,), "no rows found"),
        ((source, "-o", existing), "is not a results file (line 1: it does not look like a result)"),
        ((source, "-o", source, "--force"), "is the input"),
        ((source, "-o", tmp_path), "is a directory"),
        ((source, "-o", tmp_path / "nowhere" / "x.jsonl"), "there is no directory"),
        (("-",), "needs an output: -o FILE, or -o - for standard output"),
        ((source, "-o", "-", "--json"), "--json needs a results file"),
        ((source, "-o", "-", "--ordered"), "--ordered needs a results file"),
        ((source, "--exact", 5), "--exact needs --dry-run"),
    ]:
        result = invoke("run", *words)
        assert result.exit_code == 2, words
        assert said in result.stderr
    assert existing.read_text() == "precious"
    assert environment.verdict().requests == 0


def test_force_overwrites(environment, invoke, rows_file, tmp_path):
    """`--force` replaces what was there."""
    target = tmp_path / "existing.jsonl"
    target.write_text("old")
    assert invoke("run", rows_file(2), "-o", target, "--force").exit_code == 0
    assert len(results_of(target)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_full_disk(environment, invoke, rows_file):
    """A full disk stops the run with one line and exit 1."""
    result = invoke("run", rows_file(), "-o", "/dev/full", "--force")
    assert result.exit_code == 1
    assert "cannot write /dev/full: no space left on device" in result.stderr.splitlines()[-2]


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (".lock", "can't write to {target.parent} (permission denied); choose another"),
        ("results.jsonl", "cannot open {target}: permission denied"),
    ],
)
def test_results_that_may_not_be_written(environment, invoke, rows_file, monkeypatch, ending, said):
    """It is said where, and what to do; exit 1, and nothing is sent."""
    source, usual = rows_file(), os.open

    def refuse(path, flags, *more, **others):
        if str(path).endswith(ending) and flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path, flags, *more, **others)

    monkeypatch.setattr(os, "open", refuse)
    result = invoke("run", source)
    target = source.with_name("rows.results.jsonl")
    assert result.exit_code == 1
    assert f"nothing was sent: {said.format(target=target)}" in result.stderr
    assert environment.verdict().requests == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_plan_that_cannot_be_printed_names_standard_output(environment, rows_file):
    """And no file called "-"."""
    command = [sys.executable, "-m", "claude_executor", "run", str(rows_file()), "--dry-run"]
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert process.returncode == 1
    assert "standard output: no space left on device" in process.stderr.lower()
    assert "cannot open" not in process.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rpm", "-5"), "--rpm"),
        (("--otpm", "0"), "--otpm"),
        (("--itpm", "nan"), "'nan' isn't a number"),
        (("--tpm", "many"), "--tpm"),
        (("--burst", "-1"), "--burst"),
        (("--max-concurrency", "0"), "--max-concurrency"),
        (("--max-tokens", "-1"), "--max-tokens"),
        (("--base-url", "localhost:80"), "isn't a URL"),
        (("--base-url", "http://[::bad"), "isn't a URL"),
        (("--tier", "gold"), "--tier"),
        (("--budget", "20eur"), "'20eur' isn't an amount in US dollars (examples: 20, 20.50usd)"),
        (("--budget", "0"), "must be greater than 0; omit the option for no limit"),
        (("--budget", "nan"), "--budget"),
        (("--max-tokens-total", "lots"), "'lots' isn't a number (examples: 200000, 200k, 1.5M)"),
        (("--deadline", "90"), "'90' isn't a duration (examples: 90s,"),
        (("--deadline", ""), "--deadline"),
    ],
)
def test_bad_options(environment, invoke, rows_file, words, said):
    """Options out of range are usage errors: exit 2, named."""
    result = invoke("run", rows_file(), *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_limits_are_obeyed(environment, invoke, rows_file):
    """A limit given by option holds: five a second, so the last of twenty comes after three seconds."""
    began = time.monotonic()
    result = invoke("run", rows_file(20), "--rpm", 300, "--burst", 1, "--json")
    assert time.monotonic() - began > 3.0
    assert json.loads(result.stdout)["bottleneck"]["held_by"] == "requests"


def test_limits_from_the_environment(environment, invoke, rows_file, monkeypatch):
    """The environment is asked where there is no option, and told when it is wrong."""
    monkeypatch.setenv("CLAUDE_EXECUTOR_RPM", "-1")
    result = invoke("run", rows_file())
    assert result.exit_code == 2
    assert "--rpm" in result.stderr
    assert invoke("run", rows_file(), "--rpm", 1_000).exit_code == 0


def _wait_for(path: Path, lines: int) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() or len(path.read_bytes().splitlines()) < lines:
        assert time.monotonic() < deadline, "no results came"
        time.sleep(0.02)


def test_interrupt_finishes_what_is_in_flight(launch, rows_file):
    """Interrupted, it writes every answer that was under way, prints the summary, and says so."""
    source = rows_file(3_000)
    target = source.with_name("rows.results.jsonl")
    with running(SLOW) as server:
        process = launch("run", source, "--max-concurrency", 20, ANTHROPIC_BASE_URL=server.base_url)
        _wait_for(target, 25)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        verdict = server.verdict()
    assert process.returncode == 130
    assert len(results_of(target)) == verdict.answered
    assert verdict.requests == verdict.answered < 3_000
    assert "rows not sent" in stderr.splitlines()[-2]
    assert "Traceback" not in stderr


def test_plain_lines_off_a_terminal(environment, invoke, rows_file):
    """Without a terminal there is no panel and no color, whatever the environment says of the terminal."""
    result = invoke("run", rows_file(3))
    assert "\x1b" not in result.stderr
    assert "╭" not in result.stderr
