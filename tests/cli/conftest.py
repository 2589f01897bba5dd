"""Commands run in this process through click's runner, or in a process of their own; sockets are real."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from claude_executor.cli import cli
from claude_executor.simulator import Lengths, Rates, RunningSimulator, Settings, running

MODEL = "claude-haiku-5-5"
QUICK = Settings(rates=Rates(1_000, 2_000_000, 400_000), output_tokens=Lengths(20))


@pytest.fixture(scope="session")
def server() -> Iterator[RunningSimulator]:
    """One quick simulator for all tests; those that use it begin with empty books."""
    with running(QUICK) as server:
        yield server


@pytest.fixture
def environment(server: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> RunningSimulator:
    """The simulator, with the environment pointing at it."""
    server.reset()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    return server


@pytest.fixture
def invoke() -> Callable[..., Result]:
    """Run a command in this process."""

    def run(*words: object, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(cli, [str(word) for word in words], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.stderr
        assert "sk-ant-secret" not in result.output
        return result

    return run


@pytest.fixture
def launch() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a command in a process of its own; it does not outlive the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: object, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "claude_executor", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ANTHROPIC_API_KEY": "k", **environment},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def rows_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of rows."""

    def write(count: int = 5, name: str = "rows.jsonl", model: str = MODEL) -> Path:
        path = tmp_path / name
        with path.open("w") as file:
            for number in range(count):
                message = {"role": "user", "content": f"The secret prompt {number}"}
                params = {"model": model, "max_tokens": 30, "messages": [message]}
                file.write(json.dumps({"custom_id": f"r{number}", "params": params}) + "\n")
        return path

    return write


@pytest.fixture
def done(
    environment: RunningSimulator, invoke: Callable[..., Result], rows_file: Callable[..., Path]
) -> tuple[Path, Path]:
    """A job that is done: its rows and its results."""
    source = rows_file(4)
    assert invoke("run", source).exit_code == 0
    return source, source.with_name("rows.results.jsonl")
