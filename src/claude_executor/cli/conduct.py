"""Conducts a bulk job from its files to its exit code: what is done already, the sending, how it went."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_executor.bulk import (
    Prices,
    Rest,
    ResultsFile,
    Resumption,
    Run,
    Source,
    Spent,
    Survey,
    check,
    put_in_order,
    readable,
    rows_of,
    run_file,
    run_rows,
    summarise,
)
from claude_executor.bulk.caps import Asked, spent_on
from claude_executor.bulk.outlet import Outlet
from claude_executor.bulk.timeline import Timeline, timeline_of
from claude_executor.cli import SOME_FAILED, TERMINATED
from claude_executor.cli.bulk import STANDARD
from claude_executor.cli.opening import check_target, opening, plainly
from claude_executor.cli.steer import Ending, import_sdk
from claude_executor.cli.trouble import Trouble, reason
from claude_executor.cli.verdict import Verdict, verdict
from claude_executor.cli.words import count

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from rich.console import Console

    from claude_executor import Event, Executor, Params, Snapshot, SpendingCap
    from claude_executor.bulk import Summary
    from claude_executor.bulk.sources import Record
    from claude_executor.cli.bulk import Bulk


@dataclass(slots=True)
class _Job:
    """What is known before anything is sent.

    Attributes:
        bulk: What is to be done.
        source: The rows.
        results: Where the results go; `None` for standard output.
        timeline: What the report will want to know, if it is kept.
        survey: What there is.
        rest: What of it is to be done.
        asked: What bounds its cost.
        before: What earlier starts have spent.
    """

    bulk: Bulk
    source: Source
    results: ResultsFile | None
    timeline: Timeline | None
    survey: Survey
    rest: Rest
    asked: Asked
    before: Spent = field(default_factory=Spent)


def foretell(bulk: Bulk, *, exact: int, tier: str | None) -> None:
    """Say what it will take, and send nothing but the rows that the API is to count."""
    from claude_executor.cli import plan

    with plainly(bulk), readable(bulk.source) as source:
        survey = check(source, bulk.defaults)
        plan.dry_run(
            source, survey, bulk.defaults, bulk.connection, exact=exact, tier=tier, as_json=bulk.as_json
        )


def conduct(bulk: Bulk) -> None:
    """Do it, and end the command with its exit code."""
    check_target(bulk)
    if bulk.source == STANDARD:
        import_sdk()  # before there is a file to tidy away, for a signal meanwhile ends the process at once
    way = _to_standard_output if bulk.target == STANDARD else _to_file
    with plainly(bulk), _terminable(), readable(bulk.source) as source:
        summary, code = way(bulk, source)
    if bulk.as_json:
        import orjson

        described = {**summary.as_dict(), "results": str(bulk.target), "exit_code": code}
        click.echo(orjson.dumps(described, option=orjson.OPT_INDENT_2).decode())
    click.get_current_context().exit(code)


@contextmanager
def _terminable() -> Generator[None]:
    """Let SIGTERM end the process as SIGINT does, so that what came through a pipe does not stay behind."""

    def end(*_: object) -> None:
        click.echo("terminated", err=True)
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- where the results go


def _to_file(bulk: Bulk, source: Source) -> tuple[Summary, int]:
    if bulk.overwrite:
        check(source, bulk.defaults)  # before anything is thrown away
    try:
        with ResultsFile(bulk.target, overwrite=bulk.overwrite) as results:
            return _perform(_planned(bulk, source, results))
    finally:
        if not bulk.target.exists():  # nothing came
            timeline_of(bulk.target).unlink(missing_ok=True)


def _planned(bulk: Bulk, source: Source, results: ResultsFile) -> _Job:
    """Read both files: what there is, and what of it is to be done."""
    asked = Asked()
    resumption = Resumption(results, failures_only=bulk.failures_only, on_changed=bulk.on_changed)

    def see(custom_id: str, params: Params) -> None:
        resumption.see(custom_id, params)
        asked.see(custom_id, params)

    def known(record: Record) -> tuple[str, Params] | None:
        row = resumption.known(record)
        if row is not None:
            asked.see(*row)
        return row

    capped = bulk.caps.spending
    survey = check(
        source,
        bulk.defaults,
        see=see if capped else resumption.see,
        known=known if capped else resumption.known,
    )
    before = Spent()
    if capped:  # before answers are thrown away that were paid for
        before = spent_on(results, Prices(), in_dollars=bulk.caps.dollars is not None)
    timeline = None
    if bulk.target.is_file():
        timeline = Timeline(timeline_of(bulk.target), anew=results.end == 0)
    return _Job(bulk, source, results, timeline, survey, resumption.rest(), asked, before)


def _to_standard_output(bulk: Bulk, source: Source) -> tuple[Summary, int]:
    asked = Asked()
    survey = check(source, bulk.defaults, see=asked.see)
    return _perform(_Job(bulk, source, None, None, survey, Rest(rows=survey.rows), asked))


# ---- the sending


def _perform(job: _Job) -> tuple[Summary, int]:
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    bulk, rest = job.bulk, job.rest
    said = opening(bulk, job.source, rest, job.asked.unbounded)
    console.print(said, markup=False, soft_wrap=True)
    run = Run(rest.to_do, models=job.survey.models, rest=rest, caps=bulk.caps, before=job.before)
    run.at_cap = rest.to_do > 0 and bulk.caps.used_up(job.before)
    try:
        if rest.to_do and not run.at_cap:
            caps = bulk.caps.left(job.before, job.asked, Prices())
            import_sdk()
            snapshot, ending = asyncio.run(_send(job, run, caps, console))
        else:
            snapshot, ending = bulk.connection.executor().snapshot(), Ending()
            if bulk.ordered and job.results is not None:
                put_in_order(job.results, rows_of(job.source, bulk.defaults))
    except OSError as error:
        raise _disk_trouble(error, bulk, run) from error
    ended = verdict(run, ending, attempts=snapshot.attempts)
    summary = summarise(run, snapshot, stopped=ended.stopped)
    if rest.to_do:
        _close(summary, ended, bulk, console)
    return summary, ended.code


async def _send(
    job: _Job, run: Run, caps: tuple[SpendingCap, ...], console: Console
) -> tuple[Snapshot, Ending]:
    from claude_executor.cli.steer import steer
    from claude_executor.cli.watch import Watch

    how = job.bulk.connection
    timeline = job.timeline

    def listen(event: Event) -> None:
        run.listen(event)
        if timeline is not None:
            timeline.listen(event)

    async with how.executor(listen, caps) as executor:
        with timeline.keeping(executor.snapshot) if timeline is not None else nullcontext():
            watch = Watch(
                run, executor, title=Path(job.source.name).name, max_concurrency=how.max_concurrency
            )
            ending = await steer(_work(job, run, executor), watch, console)
            return executor.snapshot(), ending


def _work(job: _Job, run: Run, executor: Executor) -> Coroutine[object, object, None]:
    bulk = job.bulk
    if job.results is None:
        rows = rows_of(job.source, bulk.defaults)
        return run_rows(rows, Outlet(_print), executor=executor, run=run, priority=bulk.priority)
    return run_file(
        job.source,
        job.results,
        executor=executor,
        run=run,
        rest=job.rest,
        defaults=bulk.defaults,
        ordered=bulk.ordered,
        dedupe=bulk.dedupe,
        priority=bulk.priority,
    )


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


def _disk_trouble(error: OSError, bulk: Bulk, run: Run) -> Trouble:
    if bulk.target == STANDARD:
        done = count(run.tally.done, "result")
        return Trouble(f"stopped: cannot write standard output: {reason(error)}; {done} written", SOME_FAILED)
    kept = f"{count(run.tally.done, 'row')} done, all of them in {bulk.target}"
    stopped = f"stopped: cannot write {bulk.target}: {reason(error)}; {kept}"
    return Trouble(f"{stopped}\nwhen there is room, go on with: {bulk.go_on}", SOME_FAILED)


def _close(summary: Summary, ended: Verdict, bulk: Bulk, console: Console) -> None:
    """Print how it went, and how to go on."""
    from claude_executor.cli.closing import closing

    console.print()
    console.print(closing(summary))
    if ended.stopped is None:
        return
    console.print(f"\nstopped early: {ended.stopped}", style="bold", markup=False, soft_wrap=True)
    if bulk.target == STANDARD:
        console.print("what was written counts, and the rest would need a file to go on with (-o FILE)")
    else:
        console.print(f"{ended.first}go on with: {bulk.go_on}", markup=False, soft_wrap=True)
