"""The command that resumes an interrupted one, as it is printed at the end."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

FORCE = "--force"
_WORDS = "claude_executor.words"
_VARIABLES = {"--shared": "CLAUDE_EXECUTOR_SHARED", "--base-url": "ANTHROPIC_BASE_URL"}
"""Options whose values may contain a password, and the environment variables that replace them."""
_PASSWORDS = frozenset({"password", "sentinel_password"})


class Remembering(click.Command):
    """A command that remembers its arguments, so that it can print how to resume."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the arguments, and parse them."""
        ctx.meta[_WORDS] = list(args)
        return super().parse_args(ctx, args)


@dataclass(frozen=True, slots=True)
class ResumeCommand:
    """A command as it was typed: its name and its arguments."""

    name: str
    words: tuple[str, ...]

    @classmethod
    def with_this(cls) -> ResumeCommand:
        """Return the command that is running, which must be `Remembering`."""
        context = click.get_current_context()
        assert context.command.name is not None
        return cls(context.command.name, tuple(context.meta[_WORDS]))

    def sentence(self, *, start_over: bool = False, first: str = "") -> str:
        """Say how to resume. Existing results are kept unless `start_over` is set.

        A password is never repeated. Its option refers to an environment variable instead; if that is empty,
        the command fails rather than running without sharing.

        Args:
            start_over: Whether to repeat ``--force``.
            first: What to do before, as the beginning of the sentence.
        """
        words = list(self._spoken(start_over=start_over))
        for variable in _VARIABLES.values():
            if any(f"${variable}" in word for word in words):
                first += f"put the address, whose password is not repeated here, into {variable}, and "
        return f"{first}resume with: {' '.join(['claude-executor', self.name, *words])}"

    def _spoken(self, *, start_over: bool) -> Iterator[str]:
        option = ""
        for word in self.words:
            if word == FORCE and not start_over:
                continue
            name, is_one_word, value = word.partition("=")
            if is_one_word and name in _VARIABLES and _holds_password(value):
                yield f'{name}="${_VARIABLES[name]}"'
            elif option in _VARIABLES and _holds_password(word):
                yield f'"${_VARIABLES[option]}"'
            else:
                yield shlex.quote(word)
            option = word


def _holds_password(address: str) -> bool:
    try:
        parts = urlsplit(address)
        return parts.password is not None or not _PASSWORDS.isdisjoint(parse_qs(parts.query))
    except ValueError:
        return True
