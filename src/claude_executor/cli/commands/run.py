"""``claude-executor run`` and ``retry``: a file of requests in, a JSONL file of results out."""

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
@click.option("--force", is_flag=True, help="Start over and overwrite the output.")
@click.option(
    "--on-changed",
    type=click.Choice(["fail", "redo", "keep"]),
    default="fail",
    show_default=True,
    help="What to do with answered rows whose request has changed.",
)
@click.option("--dry-run", is_flag=True, help="Print a forecast of tokens, cost and time; send nothing.")
@click.option(
    "--exact",
    type=click.IntRange(1),
    metavar="N",
    help="With --dry-run: count the input tokens of N rows by the API, for free.",
)
def run(*, force: bool, on_changed: OnChanged, dry_run: bool, exact: int | None, **options: Any) -> None:  # noqa: ANN401
    """Send every row of FILE as fast as the rate limits allow, and write the results as they come.

    A line of FILE is {"custom_id", "params"} as for Message Batches, {"custom_id", "method", "url", "body"}
    as in OpenAI's batch files (for /v1/messages, or for /v1/chat/completions if a Claude message can express
    it), or {"prompt"} together with -m. Your own fields come back with the result. FILE may also be CSV or
    Parquet with a column "prompt", gzipped, or - for standard input. Every row is validated before anything
    is sent.

    Prompts without a custom_id are named by their place, line-1 and so on. Add new ones at the end: a line
    inserted above makes the others look changed.

    If the run stops for any reason, rerun the same command to resume. Answered rows are not sent again;
    failed rows are, unless the error is permanent (see retry).

    The key is read from ANTHROPIC_API_KEY. Limits you don't set are learned from the API.
    """
    if exact and not dry_run:
        raise click.UsageError("--exact needs --dry-run")
    if dry_run and options["output"] is None and is_nameless(options["file"]):
        options["output"] = STANDARD  # a dry run has no results to name
    job_options = JobOptions.of(
        options, resume_command=ResumeCommand.with_this(), overwrite=force, on_changed=on_changed
    )
    if dry_run:
        show_plan(job_options, exact=exact or 0)
    else:
        execute(job_options)


@click.command(cls=Remembering)
@bulk_options
def retry(**options: Any) -> None:  # noqa: ANN401 - those of `bulk_options`
    """Retry the rows of FILE that failed, permanent errors included.

    Takes the same FILE and options as run. Rows that were never sent are not sent now. A failure stays in the
    results until its row has a new result.
    """
    execute(JobOptions.of(options, resume_command=ResumeCommand.with_this(), failures_only=True))
