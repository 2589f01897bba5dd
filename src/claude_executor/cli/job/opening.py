"""Opens the bulk job that the command line describes, and says in a sentence what is in the way."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from claude_executor import Stopped
from claude_executor.bulk import (
    BadInput,
    BadTarget,
    Changed,
    FileBusy,
    Job,
    JobPolicy,
    NotResults,
    PipeWriter,
    ResultsNotWritable,
    Unpriced,
)
from claude_executor.cli.options.job import STANDARD
from claude_executor.cli.terminal.exits import NO_ACCESS, SOME_FAILED, CommandError, reason
from claude_executor.cli.terminal.format import count

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from claude_executor.cli.options.job import JobOptions


def job_of(
    options: JobOptions, write: Callable[[bytes], None] = lambda _: None, *, dry_run: bool = False
) -> Job:
    """Return the job that the options describe, not opened yet.

    Args:
        options: The options.
        write: Writes on standard output, if that is the target.
        dry_run: Whether the job is only to be planned.

    Raises:
        CommandError: Results cannot go to the target.
    """
    policy = JobPolicy(
        defaults=options.defaults,
        caps=options.caps,
        on_changed=options.on_changed,
        failures_only=options.failures_only,
        overwrite=options.overwrite,
        ordered=options.ordered,
        dedupe=options.dedupe,
        priority=options.priority,
    )
    if options.target == STANDARD:
        if not dry_run:
            _check_standard_output(options)
        return Job.open(options.source, PipeWriter(write), policy, dry_run=dry_run)
    try:
        return Job.open(options.source, options.target, policy, dry_run=dry_run)
    except BadTarget as error:
        instead = "run claude-executor run first" if error.is_missing else "choose another output with -o"
        raise CommandError(f"nothing was sent: {error}; {instead}") from error


@contextmanager
def as_command_errors(bulk: JobOptions) -> Generator[None]:
    """Raise errors of a job as command errors, each with what to do."""
    try:
        yield
    except BadInput as error:
        raise CommandError(
            f"{count(error.count, 'problem')} in the input; nothing was sent\n{error}"
        ) from error
    except (FileBusy, NotResults) as error:
        raise CommandError(str(error)) from error
    except Changed as error:
        ways = "--on-changed redo (pay again) or --on-changed keep (keep the answers)"
        if error.by_position:
            moved = "if you moved lines or changed -m or --max-tokens, undo that, or give rows a custom_id"
            ways = f"{moved}; otherwise {ways}"
        else:
            ways = f"use {ways}"
        raise CommandError(f"nothing was sent: {error}; {ways}") from error
    except Unpriced as error:
        instead = "omit --max-cost, or cap tokens with --max-tokens-total"
        raise CommandError(f"nothing was sent: {error}; {instead}") from error
    except Stopped as error:  # no API key could be read
        raise CommandError(str(error), NO_ACCESS) from error
    except ResultsNotWritable as error:
        raise CommandError(f"nothing was sent: {unopened(error, bulk.target)}", SOME_FAILED) from error
    except OSError as error:
        raise CommandError(unopened(error, bulk.target)) from error


def unopened(error: OSError, target: Path) -> str:
    """Say which file of a job cannot be opened or written."""
    if error.filename is None:  # the error came from an open file
        return f"cannot write {'standard output' if target == STANDARD else target}: {reason(error)}"
    if str(error.filename) == f"{target}.lock":
        return f"can't write to {target.parent} ({reason(error)}); choose another output with -o"
    return f"cannot open {error.filename}: {reason(error)}"


def _check_standard_output(bulk: JobOptions) -> None:
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]  # so it is when it was closed
        raise CommandError("standard output is closed; choose a file with -o")
    wants = {
        "retry": bulk.failures_only,
        "--ordered": bulk.ordered,
        "--dedupe": bulk.dedupe,
        "--json": bulk.as_json,
    }
    if wanted := [name for name, is_wanted in wants.items() if is_wanted]:
        raise click.UsageError(f"{wanted[0]} needs a results file, not -o -")
