"""Conducts a bulk job from its files to its exit code: what is done already, the sending, how it went."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import click

from claude_executor import Kind, Snapshot
from claude_executor.bulk import (
    BadInput,
    Busy,
    Changed,
    NotResults,
    Rest,
    ResultsFile,
    Resumption,
    Run,
    Summary,
    Survey,
    check,
    put_in_order,
    rows_of,
    run_file,
    summarise,
)
from claude_executor.cli import BAD_INPUT, INTERRUPTED, NO_ACCESS, OK, SOME_FAILED, TERMINATED
from claude_executor.cli.steer import Ending
from claude_executor.cli.trouble import Trouble, reason
from claude_executor.cli.words import count

if TYPE_CHECKING:
    from rich.console import Console

    from claude_executor.cli.bulk import Bulk


def conduct(bulk: Bulk) -> None:
    """Do it, and end the command with its exit code."""
    _check_target(bulk)
    try:
        if bulk.overwrite:
            check(bulk.source, bulk.defaults)  # before anything is thrown away
        with ResultsFile(bulk.target, overwrite=bulk.overwrite) as results:
            survey, rest = _planned(bulk, results)
            summary, code = _perform(bulk, results, survey, rest)
    except BadInput as error:
        raise Trouble(f"nothing was sent, because of {count(error.count, 'problem')}\n{error}") from error
    except (Busy, NotResults) as error:
        raise Trouble(str(error)) from error
    except Changed as error:
        ways = "send them again with --on-changed redo, or keep the answers with --on-changed keep"
        raise Trouble(f"nothing was sent: {error}; {ways}") from error
    except OSError as error:
        raise Trouble(f"cannot open {error.filename or bulk.target}: {reason(error)}") from error
    if bulk.as_json:
        import orjson

        described = {**summary.as_dict(), "results": str(bulk.target), "exit_code": code}
        click.echo(orjson.dumps(described, option=orjson.OPT_INDENT_2).decode())
    click.get_current_context().exit(code)


def _check_target(bulk: Bulk) -> None:
    source, target = bulk.source, bulk.target
    if "-" in (str(source), str(target)):
        raise Trouble("standard input and output are not supported yet; name a file")
    try:
        exists = target.exists()
        same = exists and source.exists() and target.samefile(source)
    except OSError as error:
        raise Trouble(f"cannot write {target}: {reason(error)}") from error
    if same:
        raise Trouble(f"{target} is the input; name another file with -o")
    if target.is_dir():
        raise Trouble(f"cannot write {target}: it is a directory; name a file with -o")
    if not target.parent.is_dir():
        raise Trouble(f"cannot write {target}: there is no directory {target.parent}")
    if bulk.failures_only and not exists:
        raise Trouble(f"there are no results in {target} yet; claude-executor run makes them")


def _planned(bulk: Bulk, results: ResultsFile) -> tuple[Survey, Rest]:
    """Read both files: what there is, and what of it is to be done."""
    resumption = Resumption(results, failures_only=bulk.failures_only, on_changed=bulk.on_changed)
    survey = check(bulk.source, bulk.defaults, see=resumption.see)
    return survey, resumption.rest()


def _opening(bulk: Bulk, rest: Rest) -> str:
    """What is done already, and what is to be done now."""
    if not (rest.answered or rest.failed or rest.again or rest.redone or rest.left_out):
        return f"{count(rest.rows, 'row')} in {bulk.source}, results in {bulk.target}"
    parts = [f"{rest.answered:,} of {count(rest.rows, 'row')} are done already"]
    if rest.failed:
        parts.append(f"{rest.failed:,} failed for good (claude-executor retry sends them once more)")
    if rest.again:
        parts.append(f"{rest.again:,} that failed {'is' if rest.again == 1 else 'are'} tried again")
    if rest.redone:
        parts.append(f"{rest.redone:,} that changed {'is' if rest.redone == 1 else 'are'} sent again")
    if rest.left_out:
        parts.append(f"{rest.left_out:,} not sent yet {'is' if rest.left_out == 1 else 'are'} left out")
    parts.append(f"{rest.to_do - rest.again - rest.redone:,} to go" if rest.to_do else "nothing to do")
    return "; ".join(parts)


def _perform(bulk: Bulk, results: ResultsFile, survey: Survey, rest: Rest) -> tuple[Summary, int]:
    from rich.console import Console

    from claude_executor.cli.steer import import_sdk

    console = Console(stderr=True, highlight=False)
    console.print(_opening(bulk, rest), markup=False, soft_wrap=True)
    run = Run(rest.to_do, models=survey.models, rest=rest)
    try:
        if rest.to_do:
            import_sdk()
            snapshot, ending = asyncio.run(_send(bulk, results, run, rest, console))
        else:
            snapshot, ending = bulk.connection.executor().snapshot(), Ending()
            if bulk.ordered:
                put_in_order(results, rows_of(bulk.source, bulk.defaults))
    except OSError as error:
        raise _disk_trouble(error, bulk, run) from error
    code, stopped = _verdict(run, ending)
    summary = summarise(run, snapshot, stopped=stopped)
    if rest.to_do:
        _close(summary, bulk, console)
    return summary, code


async def _send(
    bulk: Bulk, results: ResultsFile, run: Run, rest: Rest, console: Console
) -> tuple[Snapshot, Ending]:
    from claude_executor.cli.steer import steer
    from claude_executor.cli.watch import Watch

    async with bulk.connection.executor(run.listen) as executor:
        work = run_file(
            bulk.source,
            results,
            executor=executor,
            run=run,
            rest=rest,
            defaults=bulk.defaults,
            ordered=bulk.ordered,
            dedupe=bulk.dedupe,
            priority=bulk.priority,
        )
        watch = Watch(run, executor, title=bulk.source.name, max_concurrency=bulk.connection.max_concurrency)
        ending = await steer(work, watch, console)
        return executor.snapshot(), ending


def _disk_trouble(error: OSError, bulk: Bulk, run: Run) -> Trouble:
    kept = f"{count(run.tally.done, 'row')} done, all of them in {bulk.target}"
    stopped = f"stopped: cannot write {bulk.target}: {reason(error)}; {kept}"
    return Trouble(f"{stopped}\nwhen there is room, go on with: {bulk.go_on}", SOME_FAILED)


def _close(summary: Summary, bulk: Bulk, console: Console) -> None:
    """Print how it went, and how to go on."""
    from claude_executor.cli.closing import closing

    console.print()
    console.print(closing(summary))
    if summary.stopped is not None:
        console.print(f"\nstopped early: {summary.stopped}", style="bold", markup=False, soft_wrap=True)
        console.print(f"go on with: {bulk.go_on}", markup=False, soft_wrap=True)


def _verdict(run: Run, ending: Ending) -> tuple[int, str | None]:
    """The exit code, and why it ended early, if it did."""
    if ending.number is not None:
        how = "aborted" if ending.aborted else "interrupted"
        code = TERMINATED if ending.number == signal.SIGTERM else INTERRUPTED
        return code, f"{how}; {count(run.unsent, 'row')} left undone"
    if run.fatal is not None:
        code = BAD_INPUT if run.fatal.kind is Kind.NOT_FOUND else NO_ACCESS
        return code, str(run.fatal)
    failed_before = run.rest is not None and run.rest.failed
    return (SOME_FAILED if run.tally.failed or run.unsent or failed_before else OK), None
