"""``claude-executor run``: a file of requests in, a JSONL file of results out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from claude_executor.cli.job.execute import execute
from claude_executor.cli.job.plan import dry_run as show_plan
from claude_executor.cli.options.job import STANDARD, JobOptions, bulk_options, is_nameless
from claude_executor.cli.options.resume_command import Remembering, ResumeCommand

if TYPE_CHECKING:
    from claude_executor.bulk import OnChanged


@click.command(cls=Remembering)
@bulk_options
@click.option("--force", is_flag=True, help="Overwrite the output and begin anew.")
@click.option(
    "--on-changed",
    type=click.Choice(["fail", "redo", "keep"]),
    default="fail",
    show_default=True,
    help="What becomes of rows that are answered and ask something else now.",
)
@click.option("--dry-run", is_flag=True, help="Say what the rest takes (tokens, money, time); send nothing.")
@click.option(
    "--exact",
    type=click.IntRange(1),
    metavar="N",
    help="With --dry-run: let the API count the input of N rows, which costs nothing.",
)
def run(*, force: bool, on_changed: OnChanged, dry_run: bool, exact: int | None, **options: Any) -> None:  # noqa: ANN401
    """Send every row of FILE, as fast as the limits allow, and write the results as they come.

    A line of FILE is {"custom_id", "params"} as for Message Batches, {"custom_id", "method", "url", "body"}
    as in OpenAI's batch files (for /v1/messages, or for /v1/chat/completions as far as a Claude message can
    say it), or {"prompt"} together with -m. Fields of your own come back with the result. FILE may also be
    CSV or Parquet with a column "prompt", gzipped, or - for standard input. Every row is checked before
    anything is sent.

    Prompts without a custom_id are named by their place, line-1 and so on: add new ones at the end, or they
    are taken for others.

    Whatever ends it, the same command goes on where it was: rows that are answered are not sent again, rows
    that failed are, unless trying again will not mend it (see retry).

    The key is read from ANTHROPIC_API_KEY. What you do not say of the limits is learned from the API.
    """
    if exact and not dry_run:
        raise click.UsageError("--exact goes with --dry-run")
    if dry_run and options["output"] is None and is_nameless(options["file"]):
        options["output"] = STANDARD  # there will be no results that would need a name
    bulk = JobOptions.of(options, going_on=ResumeCommand.with_this(), overwrite=force, on_changed=on_changed)
    if dry_run:
        show_plan(bulk, exact=exact or 0)
    else:
        execute(bulk)


@click.command(cls=Remembering)
@bulk_options
def retry(**options: Any) -> None:  # noqa: ANN401 - those of `bulk_options`
    """Send the rows of FILE that failed once more, also those that run would leave at that.

    Takes the same FILE and options as run. Rows that were never sent are not sent now. What failed stays in
    the results until there is something to put in its place.
    """
    execute(JobOptions.of(options, going_on=ResumeCommand.with_this(), failures_only=True))
