"""What is said where a job cannot be opened."""

import errno
from pathlib import Path

import pytest

from claude_executor.cli.job.opening import as_command_errors
from claude_executor.cli.options.job import STANDARD
from claude_executor.cli.terminal.exits import CommandError


class Job:
    """As much of a job as is looked at."""

    def __init__(self, target: Path) -> None:
        self.target = target


@pytest.mark.parametrize(
    ("target", "file", "said"),
    [
        (
            Path("ro/p.results.jsonl"),
            "ro/p.results.jsonl.lock",
            "can't write to ro (permission denied); choose another output with -o",
        ),
        (Path("ro/p.results.jsonl"), "p.jsonl", "cannot open p.jsonl: permission denied"),
        (Path("p.results.jsonl"), None, "cannot write p.results.jsonl: permission denied"),
        (STANDARD, None, "cannot write standard output: permission denied"),
    ],
)
def test_a_lock_or_a_dash_could_not_be_opened(target, file, said):
    """People know neither: what is told is the directory, or standard output."""
    with pytest.raises(CommandError) as caught, as_command_errors(Job(target)):
        raise OSError(errno.EACCES, "Permission denied", file)
    assert caught.value.message == said
