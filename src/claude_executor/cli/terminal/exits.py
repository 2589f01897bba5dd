"""Exit codes, and errors that end a command with one line: what is wrong, and what to do."""

from __future__ import annotations

import click

OK = 0
SOME_FAILED = 1
BAD_INPUT = 2
NO_ACCESS = 3
"""No access to the API: key, permission, credit, spend limit, or no connection."""
CAP_REACHED = 4
"""A cap on cost or tokens, or the deadline, was reached."""
HUNG_UP = 129
INTERRUPTED = 130
TERMINATED = 143


class CommandError(click.ClickException):
    """An error that ends the command, with a message for people and an exit code."""

    def __init__(self, message: str, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # a class variable in click, which reads it from the instance


def reason(error: OSError) -> str:
    """Return the text of an operating system error, without its number and file."""
    text = error.strerror or type(error).__name__
    return text[0].lower() + text[1:]
