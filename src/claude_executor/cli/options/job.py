"""The options of a bulk job, which ``run`` and ``retry`` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from claude_executor.bulk import Caps, RowDefaults
from claude_executor.cli.options.connection import connection, connection_options
from claude_executor.cli.options.param_types import dollars, number, seconds, whole

if TYPE_CHECKING:
    from claude_executor.bulk import OnChanged
    from claude_executor.cli.options.connection import ConnectionOptions
    from claude_executor.cli.options.resume_command import ResumeCommand

F = TypeVar("F", bound=Callable[..., Any])

STANDARD = Path("-")
"""Standard input as the source, standard output as the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """A bulk job, as given on the command line.

    Attributes:
        source: File of rows; `STANDARD` for standard input.
        target: Results file; `STANDARD` for standard output.
        connection: The API and its limits.
        defaults: Model and `max_tokens` for rows without one.
        caps: Caps on money, tokens and time for the whole job.
        ordered: Whether results are put into the order of the rows at the end.
        dedupe: Whether identical rows are sent once.
        priority: Priority of the requests.
        as_json: Whether the summary is printed as JSON.
        resume_command: The command as it was typed, to print how to resume.
        overwrite: Whether existing results are discarded.
        failures_only: Whether only failed rows are sent.
        on_changed: What to do with answered rows whose request has changed.
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
    resume_command: ResumeCommand
    overwrite: bool = False
    failures_only: bool = False
    on_changed: OnChanged = "fail"

    @classmethod
    def of(cls, options: Mapping[str, Any], *, resume_command: ResumeCommand, **more: Any) -> JobOptions:  # noqa: ANN401
        """Combine the values of `bulk_options`.

        Raises:
            click.UsageError: They contradict each other.
        """
        rest = dict(options)
        source, output = rest.pop("file"), rest.pop("output")
        return cls(
            source=source,
            target=output if output is not None else _beside(source),
            defaults=RowDefaults(rest.pop("model"), rest.pop("max_tokens")),
            caps=Caps(
                dollars=rest.pop("max_cost"),
                tokens=rest.pop("max_tokens_total"),
                seconds=rest.pop("deadline"),
            ),
            ordered=rest.pop("ordered"),
            dedupe=rest.pop("dedupe"),
            priority=rest.pop("priority"),
            as_json=rest.pop("as_json"),
            connection=connection(**rest),
            resume_command=resume_command,
            **more,
        )


def is_nameless(source: Path) -> bool:
    """Whether the source is a pipe or a device, whose name cannot name the results."""
    return source == STANDARD or (source.exists() and not source.is_file() and not source.is_dir())


def _beside(source: Path) -> Path:
    """The default results file: next to the source."""
    if is_nameless(source):
        raise click.UsageError("input from a pipe needs an output: -o FILE, or -o - for standard output")
    plain = source.with_suffix("") if source.suffix.lower() == ".gz" else source
    return plain.with_suffix(".results.jsonl")


_OPTIONS = [
    click.argument("file", type=click.Path(path_type=Path, allow_dash=True)),
    click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, allow_dash=True),
        help="Results file; - for standard output (cannot be resumed).  [default: FILE with .results.jsonl]",
    ),
    click.option(
        "-m",
        "--model",
        envvar="CLAUDE_EXECUTOR_MODEL",
        help="Model for rows without one, such as claude-haiku-5-5.",
    ),
    click.option(
        "--max-tokens",
        type=whole(0),
        metavar="N",
        envvar="CLAUDE_EXECUTOR_MAX_TOKENS",
        help="max_tokens for rows without one.  [default for prompts: 1024]",
    ),
    click.option(
        "--max-cost",
        "--budget",
        "max_cost",
        type=dollars,
        metavar="USD",
        help="Cost cap for the whole job, such as 20usd. Earlier runs of it count.",
    ),
    click.option(
        "--max-tokens-total",
        type=number,
        metavar="N",
        help="Token cap (input + output) for the whole job, such as 1.5M. Earlier runs of it count.",
    ),
    click.option(
        "--deadline",
        type=seconds,
        metavar="TIME",
        help="Send nothing after this time, such as 90s, 45m or 1h30m; requests in flight still finish.",
    ),
    connection_options,
    click.option("--ordered", is_flag=True, help="Put the results into the order of the rows at the end."),
    click.option("--dedupe", is_flag=True, help="Send identical rows once."),
    click.option(
        "--priority",
        type=whole(),
        metavar="N",
        default=0,
        show_default=True,
        help="Priority of the requests; larger goes first.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the summary on stdout, as JSON."),
]


def bulk_options(command: F) -> F:
    """Add the options that `JobOptions.of` reads to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
