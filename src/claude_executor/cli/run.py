"""``claude-executor run``: a JSONL file of requests in, a JSONL file of results out."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_executor import Kind, Snapshot
from claude_executor.bulk import (
    BadInput,
    Defaults,
    Run,
    Summary,
    Survey,
    check,
    run_file,
    summarise,
)
from claude_executor.cli import BAD_INPUT, INTERRUPTED, NO_ACCESS, OK, SOME_FAILED, TERMINATED
from claude_executor.cli.options import connection, connection_options
from claude_executor.cli.trouble import Trouble, reason
from claude_executor.cli.words import count

if TYPE_CHECKING:
    from rich.console import Console

    from claude_executor.cli.options import Connection
    from claude_executor.cli.steer import Ending


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be done."""

    source: Path
    target: Path
    connection: Connection
    defaults: Defaults
    survey: Survey
    ordered: bool
    priority: int
    overwrite: bool


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where the results go.  [default: FILE with .results.jsonl]",
)
@click.option("--force", is_flag=True, help="Overwrite the output if it exists.")
@click.option(
    "-m",
    "--model",
    envvar="CLAUDE_EXECUTOR_MODEL",
    help="The model of rows that name none, such as claude-haiku-5-5.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    metavar="N",
    envvar="CLAUDE_EXECUTOR_MAX_TOKENS",
    help="Longest answer for rows that say nothing about it.  [default for prompts: 1024]",
)
@connection_options
@click.option("--ordered", is_flag=True, help="Write results in the order of the rows.")
@click.option(
    "--priority", type=int, default=0, show_default=True, help="Larger goes first, among requests of one run."
)
@click.option("--json", "as_json", is_flag=True, help="Print the closing summary on stdout, as JSON.")
def run(
    file: Path,
    output: Path | None,
    force: bool,
    model: str | None,
    max_tokens: int | None,
    ordered: bool,
    priority: int,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - those of `connection_options`
) -> None:
    """Send every row of FILE, as fast as the limits allow, and write the results as they come.

    A line of FILE is {"custom_id", "params"} as for Message Batches, {"custom_id", "method", "url", "body"}
    as in OpenAI's batch files with the body of a Claude message, or {"prompt"} together with -m. Fields of
    your own come back with the result. Every line is checked before anything is sent.

    The key is read from ANTHROPIC_API_KEY. What you do not say of the limits is learned from the API.
    """
    how = connection(**options)
    target = output if output is not None else file.with_suffix(".results.jsonl")
    defaults = Defaults(model, max_tokens)
    _check_target(file, target, force=force)
    job = _Job(file, target, how, defaults, _survey(file, defaults), ordered, priority, force)
    summary, code = asyncio.run(_perform(job))
    if as_json:
        import orjson

        described = {**summary.as_dict(), "results": str(target), "exit_code": code}
        click.echo(orjson.dumps(described, option=orjson.OPT_INDENT_2).decode())
    click.get_current_context().exit(code)


def _check_target(source: Path, target: Path, *, force: bool) -> None:
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
    if exists and not force:
        raise Trouble(f"{target} exists; name another file with -o, or overwrite it with --force")


def _survey(source: Path, defaults: Defaults) -> Survey:
    try:
        return check(source, defaults)
    except BadInput as error:
        raise Trouble(f"nothing was sent, because of {count(error.count, 'problem')}\n{error}") from error
    except OSError as error:
        raise Trouble(f"cannot read {source}: {reason(error)}") from error


async def _perform(job: _Job) -> tuple[Summary, int]:
    from rich.console import Console

    from claude_executor.cli.steer import steer
    from claude_executor.cli.watch import Watch

    console = Console(stderr=True, highlight=False)
    console.print(f"{count(job.survey.rows, 'row')} in {job.source}, results in {job.target}", markup=False)
    run = Run(job.survey.rows, models=job.survey.models)
    try:
        async with job.connection.executor(run.listen) as executor:
            work = run_file(
                job.source,
                job.target,
                executor=executor,
                run=run,
                defaults=job.defaults,
                ordered=job.ordered,
                priority=job.priority,
                overwrite=job.overwrite,
            )
            watch = Watch(
                run, executor, title=job.source.name, max_concurrency=job.connection.max_concurrency
            )
            ending = await steer(work, watch, console)
            snapshot = executor.snapshot()
    except BadInput as error:
        raise Trouble(str(error)) from error
    except OSError as error:
        raise _disk_trouble(error, job, run) from error
    return _close(run, snapshot, ending, console)


def _disk_trouble(error: OSError, job: _Job, run: Run) -> Trouble:
    if not run.tally.done:
        return Trouble(f"cannot write {error.filename or job.target}: {reason(error)}")
    kept = f"{count(run.tally.done, 'row')} done, of which all but the last are in {job.target}"
    return Trouble(f"stopped: cannot write {job.target}: {reason(error)}; {kept}", SOME_FAILED)


def _close(run: Run, snapshot: Snapshot, ending: Ending, console: Console) -> tuple[Summary, int]:
    """Print how it went; the exit code."""
    from claude_executor.cli.closing import closing

    code, stopped = _verdict(run, ending)
    summary = summarise(run, snapshot, stopped=stopped)
    console.print()
    console.print(closing(summary))
    if stopped is not None:
        console.print(f"\nstopped early: {stopped}", style="bold", markup=False, soft_wrap=True)
    return summary, code


def _verdict(run: Run, ending: Ending) -> tuple[int, str | None]:
    if ending.number is not None:
        how = "aborted" if ending.aborted else "interrupted"
        code = TERMINATED if ending.number == signal.SIGTERM else INTERRUPTED
        return code, f"{how}; {count(run.unsent, 'row')} left undone"
    if run.fatal is not None:
        code = BAD_INPUT if run.fatal.kind is Kind.NOT_FOUND else NO_ACCESS
        return code, str(run.fatal)
    return (SOME_FAILED if run.tally.failed or run.unsent else OK), None
