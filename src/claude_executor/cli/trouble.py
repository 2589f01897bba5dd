"""Mistakes that end a command: one line that says what is wrong and what to do, and an exit code."""

from __future__ import annotations

import click

from claude_executor.cli import BAD_INPUT


class Trouble(click.ClickException):
    """The command cannot go on."""

    def __init__(self, message: str, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click calls it a class variable and reads it here


def reason(error: OSError) -> str:
    """What an operating system's error says, without its number and file."""
    text = error.strerror or type(error).__name__
    return text[0].lower() + text[1:]
