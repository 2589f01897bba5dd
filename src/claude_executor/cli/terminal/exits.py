"""Mistakes that end a command: one line that says what is wrong and what to do, and an exit code."""

from __future__ import annotations

import click

OK = 0
SOME_FAILED = 1
BAD_INPUT = 2
NO_ACCESS = 3
"""The API cannot be used: key, permission, credit, spend limit, or no connection to it at all."""
CAP_REACHED = 4
"""Money, tokens or time that a job was given are used up."""
HUNG_UP = 129
INTERRUPTED = 130
TERMINATED = 143


class CommandError(click.ClickException):
    """The command cannot go on."""

    def __init__(self, message: str, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click calls it a class variable and reads it here


def reason(error: OSError) -> str:
    """What an operating system's error says, without its number and file."""
    text = error.strerror or type(error).__name__
    return text[0].lower() + text[1:]
