"""Ctrl-C in the first seconds of a command, while the SDK is being imported. The signals are real."""

import os
import signal
import subprocess
import sys

import pytest


@pytest.fixture
def slow_sdk(tmp_path):
    """Where an SDK lies whose import says that it has begun and takes a minute."""
    package = tmp_path / "anthropic"
    package.mkdir()
    (package / "__init__.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    return tmp_path


@pytest.mark.parametrize("command", ["limits", "run", "demo"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_early_signal_waited_for_the_import(launch, slow_sdk, rows_file, command, number, code):
    """The process ends at once, with the code of the signal and one word."""
    words = [command, rows_file()] if command == "run" else [command]
    process = launch(*words, PYTHONPATH=str(slow_sdk))
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == code
    assert stderr.endswith("interrupted\n")
    assert "Traceback" not in stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals like that")
def test_interrupted_stood_right_behind_the_echo(slow_sdk):
    """On a terminal, which has written ^C, it begins a line."""
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "claude_executor", "limits"]
    path = os.pathsep.join([str(slow_sdk), *sys.path])
    environment = {**os.environ, "ANTHROPIC_API_KEY": "k", "PYTHONPATH": path}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert os.read(ours, 100) == b"\r\ninterrupted\r\n"
    os.close(ours)
    os.close(theirs)


def test_signals_mean_what_they_meant_once_the_sdk_is_there(environment, invoke):
    """The command does not keep them."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert invoke("limits").exit_code == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
