"""Conducts a bulk job from its files to its exit code: what is done already, the sending, how it went."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_executor.bulk import (
    BadInput,
    PipeWriter,
    ResultsFile,
    Run,
    Source,
    readable,
    rows_of,
    run_file,
    run_rows,
    sort_results,
    summarise,
)
from claude_executor.cli.job.checks import as_command_errors, check_target, opening, unopened
from claude_executor.cli.job.exit_status import ExitStatus, exit_status
from claude_executor.cli.job.prepare import PreparedJob, looked_at, to_file, to_standard_output
from claude_executor.cli.live.interruptible import Interruption, import_sdk
from claude_executor.cli.options.job import STANDARD
from claude_executor.cli.terminal.exits import SOME_FAILED, CommandError, reason
from claude_executor.cli.terminal.format import count
from claude_executor.cli.terminal.signals import CODES, handled, heeded

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

    from claude_executor import Event, Executor, Snapshot
    from claude_executor.bulk import Summary
    from claude_executor.cli.options.job import JobOptions


def show_plan(bulk: JobOptions, *, exact: int, tier: str | None) -> None:
    """Say what it will take, and send nothing but the rows that the API is to count."""
    from claude_executor.cli.job.plan import foreseen, show

    if bulk.target != STANDARD:
        check_target(bulk)
    with as_command_errors(bulk), readable(bulk.source) as source:
        job = looked_at(bulk, source)
        planned = foreseen(job, exact=exact, tier=tier)
    show(job, planned)


def execute(bulk: JobOptions) -> None:
    """Do it, and end the command with its exit code."""
    check_target(bulk)
    if bulk.source == STANDARD:
        import_sdk()  # before there is a file to tidy away, for a signal meanwhile ends the process at once
    way = _to_standard_output if bulk.target == STANDARD else _to_file
    with as_command_errors(bulk), _terminable(), readable(bulk.source) as source:
        summary, code = way(bulk, source)
    if bulk.as_json:
        import orjson

        described = {**summary.as_dict(), "results": str(bulk.target), "exit_code": code}
        click.echo(orjson.dumps(described, option=orjson.OPT_INDENT_2).decode())
    click.get_current_context().exit(code)


@contextmanager
def _terminable() -> Generator[None]:
    """Let the other signals end the process as SIGINT does: what came through a pipe is not left behind."""

    def end(number: int, *_: object) -> None:
        with suppress(OSError):
            click.echo("terminated", err=True)
        raise SystemExit(CODES[signal.Signals(number)])

    with handled((number for number in heeded() if number != signal.SIGINT), end):
        yield


# ---- where the results go


def _to_file(bulk: JobOptions, source: Source) -> tuple[Summary, int]:
    with _opened(bulk) as results:
        return _perform(to_file(bulk, source, results))


def _opened(bulk: JobOptions) -> ResultsFile:
    try:
        return ResultsFile.open(bulk.target, overwrite=bulk.overwrite)
    except FileExistsError:
        raise  # it says itself what is in the way
    except OSError as error:
        raise CommandError(f"nothing was sent: {unopened(error, bulk.target)}", SOME_FAILED) from error


def _to_standard_output(bulk: JobOptions, source: Source) -> tuple[Summary, int]:
    return _perform(to_standard_output(bulk, source))


# ---- the sending


def _perform(job: PreparedJob) -> tuple[Summary, int]:
    from claude_executor.cli.terminal.console import console as on_standard_error

    console = on_standard_error()
    bulk, rest = job.bulk, job.rest
    said = opening(bulk, job.source, rest, job.asked.unbounded)
    console.print(said, markup=False, soft_wrap=True)
    run = Run(rest.to_do, models=job.survey.models, rest=rest, caps=bulk.caps, before=job.before)
    run.at_cap = job.at_cap
    try:
        if rest.to_do and not job.at_cap:
            import_sdk(job.results.close if job.results is not None else lambda: None)
            snapshot, ending = asyncio.run(_send(job, run, console))
        else:
            snapshot, ending = bulk.connection.executor().snapshot(), Interruption()
            if not job.at_cap:
                _tidy(job)
    except (OSError, BadInput) as error:
        raise _broken_off(error, job, run) from error
    ended = exit_status(run, ending, attempts=snapshot.attempts)
    summary = summarise(run, snapshot, stopped=ended.stopped)
    if rest.to_do:
        _close(summary, ended, job, console)
    if elsewhere := _elsewhere(job):
        console.print(f"\n{elsewhere}", markup=False, soft_wrap=True)
    return summary, ended.code


def _tidy(job: PreparedJob) -> None:
    """Put the results in order: one for each row, and if asked for, as the rows are."""
    if job.resumption is not None and job.results is not None:
        job.resumption.settle()
        if job.bulk.ordered:
            sort_results(job.results, rows_of(job.source, job.bulk.defaults))


async def _send(job: PreparedJob, run: Run, console: Console) -> tuple[Snapshot, Interruption]:
    from claude_executor.cli.live.interruptible import run_interruptible
    from claude_executor.cli.live.progress import ProgressTracker

    how = job.bulk.connection
    timeline = job.timeline

    def listen(event: Event) -> None:
        run.listen(event)
        if timeline is not None:
            timeline.listen(event)

    async with how.executor(listen, job.caps) as executor:
        with timeline.keeping(executor.snapshot) if timeline is not None else nullcontext():
            watch = ProgressTracker(
                run, executor, title=Path(job.source.name).name, max_concurrency=how.max_concurrency
            )
            ending = await run_interruptible(_work(job, run, executor), watch, console)
            return executor.snapshot(), ending


async def _work(job: PreparedJob, run: Run, executor: Executor) -> None:
    bulk = job.bulk
    if job.results is None:
        rows = rows_of(job.source, bulk.defaults)
        await run_rows(rows, PipeWriter(_print), executor=executor, run=run, priority=bulk.priority)
        return
    job.results.keep_reserve(run.stop)
    try:
        await run_file(
            job.source,
            job.results,
            executor=executor,
            run=run,
            rest=job.rest,
            survey=job.survey,
            defaults=bulk.defaults,
            dedupe=bulk.dedupe,
            priority=bulk.priority,
        )
    finally:
        await job.results.flush()  # an abort may come while this is waited for
    await asyncio.to_thread(_tidy, job)


def _print(lines: bytes) -> None:
    """Write on standard output, unbuffered: what is told to be written is, and nothing is left at the end."""
    try:
        number = sys.stdout.fileno()
    except OSError:  # it is not really standard output
        sys.stdout.buffer.write(lines)
        return
    view = memoryview(lines)
    while view:
        view = view[os.write(number, view) :]


# ---- how it went


def _broken_off(error: OSError | BadInput, job: PreparedJob, run: Run) -> CommandError:
    """What is said when a file fails on the way: what is safe, and how to go on."""
    bulk, first = job.bulk, "when that is mended, "
    if isinstance(error, BadInput):
        why = str(error)
    elif _is_of_target(error, job):
        target = "standard output" if bulk.target == STANDARD else bulk.target
        why, first = f"cannot write {target}: {reason(error)}", "when there is room, "
    else:
        name = job.source.name if str(error.filename) == str(job.source.path) else error.filename
        why = f"cannot read {name}: {reason(error)}"
    if bulk.target == STANDARD:
        return CommandError(f"stopped: {why}; {count(run.counters.done, 'result')} written", SOME_FAILED)
    untouched = job.results is not None and job.results.untouched
    kept = f"{count(run.counters.done, 'row')} done"
    if run.counters.done:
        kept += f", all of them in {bulk.target}"
    if untouched:
        kept = f"nothing was answered: {bulk.target} is as it was"
    elif elsewhere := _elsewhere(job):
        kept += f"\n{elsewhere}"
    go_on = bulk.going_on.sentence(anew=untouched, first=first)
    return CommandError(f"stopped: {why}; {kept}\n{go_on}", SOME_FAILED)


def _elsewhere(job: PreparedJob) -> str:
    """Where the results are, if they could not take the place of the old ones."""
    results = job.results
    if results is None or results.stuck is None:
        return ""
    where, why = results.location, reason(results.stuck)
    return f"the results are in {where}, for {job.bulk.target} cannot be replaced: {why}; keep both"


def _is_of_target(error: OSError, job: PreparedJob) -> bool:
    """Whether it was the results that failed, or a file that is to take their place."""
    path = job.bulk.target if job.results is None else job.results.path
    theirs = [path, *(path.with_name(path.name + ending) for ending in (".staged", ".new"))]
    return error.filename is None or str(error.filename) in map(str, theirs)


def _close(summary: Summary, ended: ExitStatus, job: PreparedJob, console: Console) -> None:
    """Print how it went, and how to go on."""
    from claude_executor.cli.job.summary import closing

    bulk, untouched = job.bulk, job.results is not None and job.results.untouched
    console.print()
    console.print(closing(summary))
    if untouched:
        console.print(f"\nnothing was answered: {bulk.target} is as it was", markup=False, soft_wrap=True)
    if ended.stopped is None:
        return
    console.print(f"\nstopped early: {ended.stopped}", style="bold", markup=False, soft_wrap=True)
    if bulk.target == STANDARD:
        console.print("what was written counts, and the rest would need a file to go on with (-o FILE)")
    else:
        go_on = bulk.going_on.sentence(anew=untouched, first=ended.first)
        console.print(go_on, markup=False, soft_wrap=True)
