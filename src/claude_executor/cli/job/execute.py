"""Runs a bulk job from the terminal: opens it, shows it, and ends with its exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_executor.bulk import BadInput
from claude_executor.cli.job.exit_status import ExitStatus, exit_status
from claude_executor.cli.job.opening import as_command_errors, job_of
from claude_executor.cli.job.overview import overview
from claude_executor.cli.live.interruptible import Interruption, import_sdk
from claude_executor.cli.options.job import STANDARD
from claude_executor.cli.terminal.exits import SOME_FAILED, CommandError, reason
from claude_executor.cli.terminal.format import count
from claude_executor.cli.terminal.signals import CODES, handled, heeded

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

    from claude_executor.bulk import Job, Summary
    from claude_executor.cli.options.job import JobOptions


def execute(options: JobOptions) -> None:
    """Run a job, and end the command with its exit code."""
    job = job_of(options, _write_to_standard_output)
    if options.source == STANDARD:
        import_sdk()  # before there are files to clean up: a signal meanwhile ends the process at once
    with as_command_errors(options), _terminable(), job:
        summary, code = _perform(job, options)
    if options.as_json:
        import orjson

        described = {**summary.as_dict(), "results": str(options.target), "exit_code": code}
        click.echo(orjson.dumps(described, option=orjson.OPT_INDENT_2).decode())
    click.get_current_context().exit(code)


@contextmanager
def _terminable() -> Generator[None]:
    """Let the other signals end the process as SIGINT does, so that no temporary file is left behind."""

    def end(number: int, *_: object) -> None:
        with suppress(OSError):
            click.echo("terminated", err=True)
        raise SystemExit(CODES[signal.Signals(number)])

    with handled((number for number in heeded() if number != signal.SIGINT), end):
        yield


# ---- the sending


def _perform(job: Job, options: JobOptions) -> tuple[Summary, int]:
    from claude_executor.cli.terminal.console import console as on_standard_error

    console = on_standard_error()
    console.print(overview(job, options), markup=False, soft_wrap=True)
    if job.has_rows_to_send:
        import_sdk(job.close)
    try:
        ending = asyncio.run(_run(job, options, console))
    except (OSError, BadInput) as error:
        raise _broken_off(error, job, options) from error
    summary = job.summary()
    ended = exit_status(job.progress, ending, attempts=summary.attempts)
    summary = replace(summary, stopped=ended.stopped)
    if job.remaining.to_do:
        _close(summary, ended, job, options, console)
    if misplaced := _misplaced(job, options):
        console.print(f"\n{misplaced}", markup=False, soft_wrap=True)
    return summary, ended.code


async def _run(job: Job, options: JobOptions, console: Console) -> Interruption:
    from claude_executor.cli.live.interruptible import run_interruptible
    from claude_executor.cli.live.progress import ProgressTracker

    connection = options.connection
    executor = connection.executor(job.on_event, job.spending_caps)
    if not job.has_rows_to_send:
        await job.run(executor)
        return Interruption()

    async def work() -> None:
        await job.run(executor)

    async with executor:
        tracker = ProgressTracker(
            job.progress,
            executor,
            title=Path(job.source.name).name,
            max_concurrency=connection.max_concurrency,
        )
        return await run_interruptible(work(), tracker, console)


def _write_to_standard_output(lines: bytes) -> None:
    """Write to standard output, unbuffered: a line that is reported written is written."""
    try:
        number = sys.stdout.fileno()
    except OSError:  # standard output is replaced, as in tests
        sys.stdout.buffer.write(lines)
        return
    view = memoryview(lines)
    while view:
        view = view[os.write(number, view) :]


# ---- how it went


def _broken_off(error: OSError | BadInput, job: Job, options: JobOptions) -> CommandError:
    """Describe a job that ended by a file error: what is safe, and how to resume."""
    run, first = job.progress, "when that is fixed, "
    if isinstance(error, BadInput):
        why = str(error)
    elif _is_of_target(error, options.target):
        target = "standard output" if options.target == STANDARD else options.target
        why, first = f"cannot write {target}: {reason(error)}", "when there is room, "
    else:
        name = job.source.name if str(error.filename) == str(job.source.path) else error.filename
        why = f"cannot read {name}: {reason(error)}"
    if options.target == STANDARD:
        return CommandError(f"stopped: {why}; {count(run.counters.done, 'result')} written", SOME_FAILED)
    untouched = job.is_untouched
    kept = f"{count(run.counters.done, 'row')} done"
    if run.counters.done:
        kept += f", all of them in {options.target}"
    if untouched:
        kept = f"no answer came; {options.target} is unchanged"
    elif misplaced := _misplaced(job, options):
        kept += f"\n{misplaced}"
    go_on = options.resume_command.sentence(start_over=untouched, first=first)
    return CommandError(f"stopped: {why}; {kept}\n{go_on}", SOME_FAILED)


def _misplaced(job: Job, options: JobOptions) -> str:
    """Say where the results are, if they could not replace the old ones."""
    if job.misplaced is None:
        return ""
    path, error = job.misplaced
    return f"the results are in {path}: {options.target} cannot be replaced ({reason(error)}); keep both"


def _is_of_target(error: OSError, target: Path) -> bool:
    """Whether the results could not be written, or a file that is to replace them."""
    if target == STANDARD or error.filename is None:
        return error.filename in {None, str(target)}
    path = target.resolve()
    theirs = [path, *(path.with_name(path.name + ending) for ending in (".staged", ".new"))]
    return Path(error.filename).resolve() in theirs


def _close(summary: Summary, ended: ExitStatus, job: Job, options: JobOptions, console: Console) -> None:
    """Print the summary, and how to resume."""
    from claude_executor.cli.job.summary import closing

    untouched = job.is_untouched
    console.print()
    console.print(closing(summary))
    if untouched:
        console.print(f"\nno answer came; {options.target} is unchanged", markup=False, soft_wrap=True)
    if ended.stopped is None:
        return
    console.print(f"\nstopped early: {ended.stopped}", style="bold", markup=False, soft_wrap=True)
    if options.target == STANDARD:
        console.print("results written so far are valid; to resume, run again with -o FILE")
    else:
        go_on = options.resume_command.sentence(start_over=untouched, first=ended.first)
        console.print(go_on, markup=False, soft_wrap=True)
