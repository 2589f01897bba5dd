"""A bulk job as it is told on the command line: what ``run`` and ``retry`` have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from claude_executor.bulk import Caps, RowDefaults
from claude_executor.cli.options.connection import connection, connection_options
from claude_executor.cli.options.param_types import dollars, number, seconds

if TYPE_CHECKING:
    from claude_executor.bulk import OnChanged
    from claude_executor.cli.options.connection import ConnectionOptions
    from claude_executor.cli.options.resume_command import ResumeCommand

F = TypeVar("F", bound=Callable[..., Any])

STANDARD = Path("-")
"""Standard input as the source, standard output as the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What is to be done.

    Attributes:
        source: Where the rows are; `STANDARD` for standard input.
        target: Where the results go; `STANDARD` for standard output.
        connection: What sends them.
        defaults: What rows may leave out.
        caps: What all of it may take.
        ordered: Whether results are put in the order of the rows.
        dedupe: Whether rows that ask the same are sent once.
        priority: Of the requests.
        as_json: Whether a program reads the summary.
        going_on: How it was asked, to tell how to go on.
        overwrite: Whether results that are there are thrown away.
        failures_only: Whether only rows that failed are sent.
        on_changed: What becomes of rows that are answered and ask something else now.
    """

    source: Path
    target: Path
    connection: ConnectionOptions
    defaults: RowDefaults
    caps: Caps
    ordered: bool
    dedupe: bool
    priority: int
    as_json: bool
    going_on: ResumeCommand
    overwrite: bool = False
    failures_only: bool = False
    on_changed: OnChanged = "fail"

    @classmethod
    def of(cls, options: Mapping[str, Any], *, going_on: ResumeCommand, **more: Any) -> JobOptions:  # noqa: ANN401
        """Make sense of what `bulk_options` gives.

        Raises:
            click.UsageError: It does not go together.
        """
        rest = dict(options)
        source, output = rest.pop("file"), rest.pop("output")
        return cls(
            source=source,
            target=output if output is not None else _beside(source),
            defaults=RowDefaults(rest.pop("model"), rest.pop("max_tokens")),
            caps=Caps(
                dollars=rest.pop("budget"), tokens=rest.pop("max_tokens_total"), seconds=rest.pop("deadline")
            ),
            ordered=rest.pop("ordered"),
            dedupe=rest.pop("dedupe"),
            priority=rest.pop("priority"),
            as_json=rest.pop("as_json"),
            connection=connection(**rest),
            going_on=going_on,
            **more,
        )


def is_nameless(source: Path) -> bool:
    """Whether what comes from there has no name that its results could be called by."""
    return source == STANDARD or (source.exists() and not source.is_file() and not source.is_dir())


def _beside(source: Path) -> Path:
    """Where results go if nothing is said."""
    if is_nameless(source):
        raise click.UsageError(
            "results of what comes through a pipe need a name: -o FILE, or -o - for standard output"
        )
    plain = source.with_suffix("") if source.suffix.lower() == ".gz" else source
    return plain.with_suffix(".results.jsonl")


_OPTIONS = [
    click.argument("file", type=click.Path(path_type=Path, allow_dash=True)),
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, allow_dash=True),
        help="Where the results go; - for standard output, where nothing can go on after an interruption.  "
        "[default: FILE with .results.jsonl]",
    ),
    click.option(
        "-m",
        "--model",
        envvar="CLAUDE_EXECUTOR_MODEL",
        help="The model of rows that name none, such as claude-haiku-5-5.",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(0),
        metavar="N",
        envvar="CLAUDE_EXECUTOR_MAX_TOKENS",
        help="Longest answer for rows that say nothing about it.  [default for prompts: 1024]",
    ),
    click.option(
        "--budget",
        type=dollars,
        metavar="USD",
        help="Stop before all answers together cost more, such as 20usd; earlier starts count.",
    ),
    click.option(
        "--max-tokens-total",
        type=number,
        metavar="N",
        help="Stop before they take more tokens of all kinds, such as 1.5M; earlier starts count.",
    ),
    click.option(
        "--deadline",
        type=seconds,
        metavar="TIME",
        help="Send nothing more after so long, such as 90s, 45m or 1h30m, and finish what is in flight.",
    ),
    connection_options,
    click.option("--ordered", is_flag=True, help="At the end, put the results in the order of the rows."),
    click.option("--dedupe", is_flag=True, help="Send rows that ask the same only once."),
    click.option(
        "--priority",
        type=int,
        default=0,
        show_default=True,
        help="Larger goes first, among requests of one run.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the closing summary on stdout, as JSON."),
]


def bulk_options(command: F) -> F:
    """Add the options that `JobOptions.of` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
