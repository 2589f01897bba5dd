"""What is said at the end, where it could be said wrongly."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from claude_executor.bulk import Run
from claude_executor.cli.job.exit_status import exit_status
from claude_executor.cli.live.interruptible import Interruption
from claude_executor.cli.terminal.signals import heeded
from claude_executor.simulator import Latency, Lengths, Rates, Settings, running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_too_late_to_interrupt_anything_is_no_interruption(number):
    """All rows are done: there is nothing to go on with."""
    run = Run(3)
    for _ in range(3):
        run.counters.copied()
    ended = exit_status(run, Interruption(number), attempts=3)
    assert (ended.code, ended.stopped) == (0, None)
    run.counters.succeeded -= 1
    assert exit_status(run, Interruption(number), attempts=3).stopped == "interrupted; 1 row not sent"


def test_aborted_while_results_are_put_in_order_does_not_count_rows():
    """The order may be wanting, so there is something to go on with."""
    ended = exit_status(Run(0), Interruption(signal.SIGINT, aborted=True), attempts=0)
    assert (ended.code, ended.stopped) == (130, "aborted; every row is done")


@pytest.mark.parametrize(("source", "code"), [("rows.jsonl", 0), ("nowhere.jsonl", 2)])
def test_nobody_need_read_what_is_said(environment, launch, rows_file, source, code):
    """`run … 2>&1 | head` does the job all the same, and its exit code is that of the job."""
    path = rows_file(20).with_name(source)
    process = launch("run", path)
    process.stderr.close()
    process.stderr = None
    assert process.wait(timeout=60) == code
    assert environment.verdict().requests == (0 if code else 20)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_terminal_that_is_closed_keeps_what_is_in_flight(launch, rows_file):
    """However often it says so; and there is nothing left to do for those who look later."""
    source = rows_file(3_000)
    target = source.with_name("rows.results.jsonl")
    slow = Settings(rates=Rates(), latency=Latency(0.4), output_tokens=Lengths(20))
    with running(slow) as server:
        process = launch("run", source, "--max-concurrency", 20, ANTHROPIC_BASE_URL=server.base_url)
        while not target.exists() or target.read_bytes().count(b"\n") < 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.stderr.close()
        process.stderr = None
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 129
        assert target.read_bytes().count(b"\n") == server.verdict().answered
        assert server.verdict().duplicates == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_under_nohup_a_terminal_that_is_closed_is_nothing(monkeypatch):
    """The one who starts it has said so."""
    assert signal.SIGHUP in heeded()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert heeded() == [signal.SIGINT, signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupted:
    at = sys.argv.pop(1)

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == cls.at:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupted)
runpy.run_module("claude_executor", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["claude_executor.bulk.costs.plan", "anthropic"])
def test_ctrl_c_while_modules_are_imported_is_no_traceback(environment, rows_file, module):
    """Whenever it comes, it leaves nothing behind: neither words nobody wants nor empty files."""
    source = rows_file(2)
    command = [sys.executable, "-c", INTERRUPTED, module, "run", str(source)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 130, process.stderr
    assert "Traceback" not in process.stderr
    assert process.stderr.splitlines()[-1] == "interrupted"
    assert list(source.parent.iterdir()) == [source]
    assert environment.verdict().requests == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_an_answer_that_waits_for_the_disk_counts_although_it_is_aborted(
    environment, invoke, rows_file, monkeypatch
):
    """The second signal comes while it is written; the third is none, for there is nothing more to abort."""
    sync, signals = os.fsync, [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]

    def sync_slowly(file):
        while signals and threading.current_thread() is not threading.main_thread():
            os.kill(os.getpid(), signals.pop())
            time.sleep(0.2)
        sync(file)

    monkeypatch.setattr(os, "fsync", sync_slowly)
    source = rows_file(1)
    result = invoke("run", source)
    assert not signals
    assert result.exit_code == 143
    assert "1 of 1 answered" in result.stderr
    assert source.with_name("rows.results.jsonl").read_bytes().count(b"\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")  # noqa: PTH110
def test_a_summary_that_cannot_be_written_is_told_in_a_sentence(environment, rows_file):
    """The results are there all the same."""
    source = rows_file(3)
    command = [sys.executable, "-m", "claude_executor", "run", str(source), "--json"]
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == "Error: standard output: no space left on device"
    assert "Traceback" not in process.stderr
    assert source.with_name("rows.results.jsonl").read_bytes().count(b"\n") == 3
