"""``run`` with caps on money, tokens and time; through pipes; told beforehand; and its timeline."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from claude_executor.bulk.run.timeline import timeline_of
from claude_executor.cli.options import param_types as amounts
from claude_executor.simulator import Latency, Lengths, Rates, Settings, running

SLOW = Settings(rates=Rates(), latency=Latency(0.4), output_tokens=Lengths(20))


def results_of(path: Path) -> list[dict]:
    """The lines of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---- caps


def test_at_its_budget_a_run_ends_and_can_go_on(environment, invoke, rows_file):
    """Exit 4, what was spent of what, how many rows are left, and how to go on, which does the rest."""
    source = rows_file(100, model="claude-opus-5-5")
    target = source.with_name("rows.results.jsonl")
    result = invoke("run", source, "--budget", "$0.03", "--json")
    assert result.exit_code == 4
    summary = json.loads(result.stdout)
    assert (summary["exit_code"], summary["max_cost"]) == (4, 0.03)
    assert 0.027 < summary["spent"]["dollars"] <= 0.03
    assert summary["unsent"] == 100 - summary["succeeded"] > 0
    said, how = result.stderr.splitlines()[-2:]
    spent, left = f"${summary['spent']['dollars']:.4f}", summary["unsent"]
    assert said.startswith(f"stopped early: cost cap of $0.0300 reached ({spent} spent)")
    assert said.endswith(f"; {left} rows not sent")
    assert how == (f"raise --max-cost and resume with: claude-executor run {source} --budget '$0.03' --json")
    first = results_of(target)
    assert {line["result"]["type"] for line in first} == {"succeeded"}
    again = invoke("run", source, "--budget", "0.033usd", "--json")
    assert again.exit_code == 4
    summary = json.loads(again.stdout)
    in_all = summary["spent"]["dollars"] + summary["spent_before"]["dollars"]
    assert len(results_of(target)) >= len(first)
    assert in_all <= 0.033
    assert f"${in_all:.4f} of the cap of $0.0330 with earlier starts" in again.stderr
    assert invoke("run", source, "--budget", "20 USD").exit_code == 0
    assert len(results_of(target)) == 100
    assert environment.verdict().duplicates == 0
    assert environment.verdict().requests == 100


def test_a_budget_that_is_spent_sends_nothing(environment, invoke, rows_file):
    """Nor does it connect; and it is no matter when everything is done."""
    source = rows_file(10)
    assert invoke("run", source).exit_code == 0
    assert invoke("run", source, "--budget", "0.000001").exit_code == 0
    with source.open("a") as file:
        file.write(source.read_text().splitlines()[0].replace('"r0"', '"new"') + "\n")
    result = invoke("run", source, "--budget", "0.000001")
    assert result.exit_code == 4
    assert "cost cap of under $0.0001 reached ($0.00" in result.stderr
    assert "1 row not sent" in result.stderr
    assert environment.verdict().requests == 10


def test_without_a_price_there_is_no_budget(environment, invoke, rows_file):
    """It is refused before anything is sent; a cap on tokens needs no price."""
    source = rows_file(3, model="claude-mythos-5")
    result = invoke("run", source, "--budget", "20usd")
    assert result.exit_code == 2
    assert (
        "nothing was sent: the price of claude-mythos-5 is not known, so a cap on the cost" in result.stderr
    )
    assert environment.verdict().requests == 0
    assert sorted(path.name for path in source.parent.iterdir()) == ["rows.jsonl"]
    assert invoke("run", source, "--max-tokens-total", "1M").exit_code == 0


def test_cap_on_tokens(environment, invoke, rows_file):
    """Tokens of all kinds."""
    result = invoke("run", rows_file(200), "--max-tokens-total", "2k", "--json")
    assert result.exit_code == 4
    summary = json.loads(result.stdout)
    spent = summary["spent"]
    assert summary["max_tokens_total"] == 2_000
    assert 1_500 < spent["input_tokens"] + spent["output_tokens"] <= 2_000
    assert "cap of 2,000 tokens reached (1," in result.stderr
    assert " of 2,000" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("raise --max-tokens-total and resume with: ")


def test_a_row_larger_than_the_budget(environment, invoke, rows_file):
    """It is told why a job ends with so much left."""
    result = invoke("run", rows_file(3, model="claude-opus-5-5"), "--budget", "0.0001")
    assert result.exit_code == 4
    assert "reached ($0 spent); 3 rows not sent; the next row could take more than is left\n" in result.stderr


def test_what_cannot_be_bounded_is_told(environment, invoke, rows_file):
    """Rows that bring in what nobody can price beforehand are sent, with a word on it."""
    source = rows_file(2)
    text = source.read_text().replace(
        '"max_tokens"', '"tools": [{"type": "web_search_1", "name": "s"}], "max_tokens"'
    )
    source.write_text(text)
    assert "2 rows bring in content that cannot be priced" in invoke("run", source, "--budget", "5").stderr


def test_deadline(invoke, rows_file, monkeypatch):
    """After so long nothing more is sent; exit 4; the same command goes on."""
    source = rows_file(3_000)
    with running(SLOW) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        result = invoke("run", source, "--deadline", "1.5s", "--max-concurrency", 10, "--json")
        assert len(results_of(source.with_name("rows.results.jsonl"))) == server.verdict().requests
    assert result.exit_code == 4
    summary = json.loads(result.stdout)
    assert summary["deadline"] == 1.5
    said, how = result.stderr.splitlines()[-2:]
    assert said == f"stopped early: deadline (0:02) reached; {summary['unsent']:,} rows not sent"
    assert how.startswith("resume with: claude-executor run")


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (amounts.dollars, "20usd", 20.0),
        (amounts.dollars, "20", 20.0),
        (amounts.dollars, "$20", 20.0),
        (amounts.dollars, "20 USD", 20.0),
        (amounts.dollars, "1,234.50usd", 1234.5),
        (amounts.dollars, ".5", 0.5),
        (amounts.number, "1.5M", 1_500_000),
        (amounts.number, "200k", 200_000),
        (amounts.number, "2_000_000", 2_000_000),
        (amounts.seconds, "90s", 90.0),
        (amounts.seconds, "45m", 2_700.0),
        (amounts.seconds, "2h", 7_200.0),
        (amounts.seconds, "1h30m", 5_400.0),
        (amounts.seconds, "1d 0.5h", 88_200.0),
    ],
)
def test_amounts(read, text, value):
    """As people write them."""
    assert read(text) == value


# ---- pipes, and other kinds of files


def test_from_a_pipe_to_a_pipe(environment, launch, rows_file):
    """Rows from standard input, results on standard output and nothing else there."""
    source = rows_file(30)
    process = subprocess.run(
        [sys.executable, "-m", "claude_executor", "run", "-", "-o", "-"],
        input=source.read_text(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    results = [json.loads(line) for line in process.stdout.splitlines()]
    assert {result["custom_id"] for result in results} == {f"r{number}" for number in range(30)}
    assert "30 rows in standard input, results in standard output" in process.stderr
    assert sorted(path.name for path in source.parent.iterdir()) == ["rows.jsonl"]


def test_to_a_pipe_is_captured_like_any_output(environment, invoke, rows_file):
    """Also where standard output is not a real one; failures are results there, too."""
    source = rows_file(3)
    source.write_text(
        source.read_text() + rows_file(1, "b.jsonl", "claude-nope").read_text().replace("r0", "b")
    )
    result = invoke("run", source, "-o", "-")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 4


def test_standard_input_to_a_file_goes_on(environment, invoke, rows_file, tmp_path):
    """What is known is known by its id, wherever the rows come from."""
    source, target = rows_file(8), tmp_path / "r.jsonl"
    for text in (source.read_text()[: source.stat().st_size // 2].rpartition("\n")[0], source.read_text()):
        result = invoke("run", "-", "-o", target, stdin=text)
        assert result.exit_code == 0, result.stderr
    assert len(results_of(target)) == environment.verdict().requests == 8
    assert f"run {source} -o" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("stuck", [False, True])
def test_signals_work_whoever_reads(rows_file, tmp_path, stuck):
    """A reader that has stopped reading cannot keep the signals from being obeyed; nothing is left behind."""
    long = "x" * 2_000
    source = rows_file(3_000)
    source.write_text(source.read_text().replace('"params"', f'"mine": "{long}", "params"'))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with running(SLOW) as server, source.open("rb") as rows:
        environment = {
            "ANTHROPIC_BASE_URL": server.base_url,
            "ANTHROPIC_API_KEY": "k",
            "TMPDIR": str(temporary),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "claude_executor", "run", "-", "-o", "-", "--max-concurrency", "50"],
            stdin=rows, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment},
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while server.verdict().answered < 60:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            if stuck:  # what is in flight is finished, but nobody takes it
                time.sleep(1.5)
                assert process.poll() is None
                process.send_signal(signal.SIGINT)
                process.wait(timeout=30)
            stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
        answered = server.verdict().answered
    assert process.returncode == 130, stderr
    results = [json.loads(line) for line in stdout.splitlines() if line.endswith(b"}")]
    assert len(results) == answered if not stuck else len(results) < answered
    assert b"Traceback" not in stderr
    assert b"Fatal" not in stderr
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX pipes")
def test_a_reader_that_goes_away(environment, rows_file):
    """One sentence, exit 1."""
    source = rows_file(400)
    command = f"{sys.executable} -m claude_executor run {source} -o - --rpm 600 --burst 1 | head -n 2"
    process = subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert len(process.stdout.splitlines()) == 2
    assert "stopped: cannot write standard output: broken pipe" in process.stderr
    assert "Traceback" not in process.stderr


def test_gzip_and_csv(environment, invoke, rows_file, tmp_path):
    """Results have a sensible name, and the rows are read as what they are."""
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(rows_file(4).read_bytes()))
    assert invoke("run", packed).exit_code == 0
    assert len(results_of(tmp_path / "packed.results.jsonl")) == 4
    table = tmp_path / "table.csv"
    table.write_text("prompt,mine\nHi,1\nHo,2\n")
    assert invoke("run", table, "-m", "claude-haiku-4-5").exit_code == 0
    assert {line["mine"] for line in results_of(tmp_path / "table.results.jsonl")} == {"1", "2"}


# ---- beforehand, and afterwards


def test_dry_run(environment, invoke, rows_file):
    """It says what it will take, and sends nothing; with --exact the API counts."""
    source = rows_file(50)
    result = invoke("run", source, "--dry-run", "--tier", "start")
    assert result.exit_code == 0
    assert "(dry run: nothing was sent)" in " ".join(result.stdout.split())
    planned = json.loads(invoke("run", source, "--dry-run", "--exact", 5, "--json").stdout)
    assert planned["counted"]["rows"] == 5
    assert environment.verdict().requests == 0
    assert list(source.parent.iterdir()) == [source]
    bad = invoke("run", source.with_name("missing.jsonl"), "--dry-run")
    assert bad.exit_code == 2
    assert "no such file or directory" in bad.stderr


def test_dry_run_of_standard_input(rows_file):
    """It needs no name for results that there will not be."""
    process = subprocess.run(
        [sys.executable, "-m", "claude_executor", "run", "-", "--dry-run"],
        input=rows_file(7).read_text(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert "Plan for standard input (dry run: nothing was sent)" in process.stdout


def test_the_report_shows_a_job_of_two_starts(invoke, rows_file, monkeypatch, tmp_path):
    """Interrupted and resumed: one page tells of both starts, and of all rows."""
    source = rows_file(120)
    target = source.with_name("rows.results.jsonl")
    over = threading.Event()

    def interrupt():
        while not target.exists() or target.read_bytes().count(b"\n") < 30:
            if over.wait(0.02):
                return
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    usual = signal.signal(signal.SIGINT, lambda *_: None)  # if it should come too late, it is lost
    try:
        with running(SLOW) as server:
            monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
            words = ("run", source, "--max-concurrency", 20)
            another = threading.Thread(target=interrupt)
            another.start()
            first = invoke(*words)
            over.set()
            another.join()
            done = len(results_of(target))
            second = invoke(*words)
    finally:
        over.set()
        signal.signal(signal.SIGINT, usual)
    assert (first.exit_code, second.exit_code) == (130, 0)
    lines = [json.loads(line) for line in timeline_of(target).read_text().splitlines() if line]
    assert sum("start" in line for line in lines) == sum("end" in line for line in lines) == 2
    assert sum(line.get("answered", 0) for line in lines) == 120 > done
    assert invoke("report", target).exit_code == 0
    page = next(path for path in tmp_path.iterdir() if path.suffix == ".html").read_text()
    assert "120" in page
    assert "2 runs" in page or "two runs" in page
    assert invoke("run", source, "--force", "--dry-run").exit_code == 0
    assert timeline_of(target).exists()


def test_begun_anew_its_timeline_is_too(environment, invoke, rows_file):
    """--force forgets both."""
    source = rows_file(3)
    path = timeline_of(source.with_name("rows.results.jsonl"))
    for _ in range(2):
        assert invoke("run", source, "--force").exit_code == 0
        assert sum("start" in json.loads(line) for line in path.read_text().splitlines() if line) == 1


def test_nothing_came_and_nothing_stays(environment, invoke, rows_file):
    """No results, no timeline."""
    environment.set_faults(invalid_key=True)
    source = rows_file(3)
    assert invoke("run", source).exit_code == 3
    assert list(source.parent.iterdir()) == [source]


def test_a_profile_that_is_not_as_it_should_be(environment, invoke, rows_file, monkeypatch, tmp_path):
    """A key that cannot be read is exit 3, and one sentence."""
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    result = invoke("run", rows_file(3))
    assert result.exit_code == 3
    assert "nothing was sent: no API key found: " in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("Error: ")]) == 1
