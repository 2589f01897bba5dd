"""``claude-executor run --dry-run``: prints the plan of a job before anything is paid for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from claude_executor.bulk import NotCounted
from claude_executor.cli.job.cap_forecast import caps_of
from claude_executor.cli.job.opening import as_command_errors, job_of
from claude_executor.cli.job.overview import overview
from claude_executor.cli.options.job import STANDARD
from claude_executor.cli.terminal.exits import BAD_INPUT, NO_ACCESS, SOME_FAILED, CommandError
from claude_executor.cli.terminal.format import amount, count, money, span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.table import Table

    from claude_executor.bulk import CostRange, Job, ModelPlan, Plan, PoolPlan
    from claude_executor.cli.job.cap_forecast import CapForecast
    from claude_executor.cli.options.connection import ConnectionOptions
    from claude_executor.cli.options.job import JobOptions

_OF_THE_ROW = frozenset({400, 404, 413, 422})
"""Statuses that are the fault of the row."""
_NO_ACCESS = frozenset({401, 402, 403, None})
_CAPS = {"max_cost": "cost cap", "max_tokens_total": "tokens cap", "deadline": "deadline"}


def dry_run(options: JobOptions, *, exact: int = 0) -> None:
    """Print the plan of a job. Only the `exact` rows whose tokens the API counts are sent, to be counted."""
    with as_command_errors(options), job_of(options, dry_run=True) as job:
        planned = asyncio.run(_plan(job, options.connection, exact))
    _show(job, planned, options)


async def _plan(job: Job, connection: ConnectionOptions, exact: int) -> Plan:
    if not (exact and job.remaining.to_do):
        return await job.plan(connection.limits)
    try:
        async with connection.executor() as executor:
            return await job.plan(connection.limits, sample=exact, count=executor.count_tokens)
    except NotCounted as error:
        code = BAD_INPUT if error.status in _OF_THE_ROW else SOME_FAILED
        raise CommandError(str(error), NO_ACCESS if error.status in _NO_ACCESS else code) from error


def _show(job: Job, planned: Plan, options: JobOptions) -> None:
    caps = list(caps_of(options.caps, job.spent_before, planned))
    copied = job.remaining.to_do - planned.rows
    if options.as_json:
        import orjson

        described = {
            **planned.as_dict(),
            "copied": copied,
            "answered_before": job.remaining.answered,
            "failed_before": job.remaining.failed,
            "caps": {cap.name: {"most": cap.most, "left": cap.left, "suffices": cap.outlook} for cap in caps},
        }
        click.echo(orjson.dumps(described, option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"Plan for {job.source.name} (dry run: nothing was sent)\n", markup=False)
    if options.target != STANDARD:
        console.print(overview(job, options), markup=False, soft_wrap=True)
    if planned.rows:
        console.print(drawn(planned, caps, copied))
    elif copied:
        console.print(f"nothing to send: {count(copied, 'row')} would get a copy of an existing answer")


def drawn(planned: Plan, caps: Sequence[CapForecast] = (), copied: int = 0) -> Table:
    """Draw a plan as a table, with its caps, and how many more rows get the answer of an equal row."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")

    def say(name: str, sentence: str) -> None:
        grid.add_row(name, Text(sentence))

    say("rows", f"{planned.rows:,}{_copies(copied)}")
    for model in planned.models if len(planned.models) > 1 else ():
        say("", _of_model(model))
    say("input", f"{_between(planned.input_tokens, amount)} tokens, {_origin(planned)}")
    read = sum(model.cache_read_tokens for model in planned.models)
    written = sum(model.cache_written_tokens for model in planned.models)
    if read or written:
        say("", f"{amount(read)} of them read from the prompt cache, {amount(written)} written to it")
    say("output", f"{_between(planned.output_tokens, amount)} tokens; at most max_tokens for each row")
    say("cost", _cost(planned))
    say("time", _time(planned.pools, planned.seconds))
    for sentence in _bounds(planned.pools):
        say("", sentence)
    for cap in caps:
        say(_CAPS[cap.name], cap.sentence(planned.rows))
    return grid


def _copies(copied: int) -> str:
    if not copied:
        return ""
    gets = "equal row gets" if copied == 1 else "equal rows get"
    return f" to send; {copied:,} {gets} a copy of the answer"


def _between(value: CostRange, words: Callable[[float], str]) -> str:
    guess, low, high = words(value.guess), words(value.low), words(value.high)
    return guess if low == guess == high else f"{guess} ({low} to {high})"


def _of_model(model: ModelPlan) -> str:
    cost = "price unknown" if model.dollars is None else _between(model.dollars, money)
    tokens = f"{_between(model.input_tokens, amount)} in, {_between(model.output_tokens, amount)} out"
    return f"{model.model}: {count(model.rows, 'row')}, {tokens}, {cost}"


def _origin(planned: Plan) -> str:
    """Say where the number of input tokens comes from."""
    counted = planned.counted
    if counted is None:
        return "estimated from the size (--exact 100 counts some rows by the API, for free)"
    if counted.rows == planned.rows:
        return "counted by the API"
    found = counted.models.values()
    if len(planned.models) > 1 or not found:
        return f"corrected by {count(counted.rows, 'row')} that the API counted"
    (ratio,) = found
    error = "" if ratio.error is None else f", standard error {100 * ratio.error:.1f} %"
    return f"{ratio.ratio:.2f} of the estimate: the API counted {count(counted.rows, 'row')}{error}"


def _cost(planned: Plan) -> str:
    if planned.dollars is not None:
        return _between(planned.dollars, money)
    names = ", ".join(model.model for model in planned.models if model.dollars is None)
    return f"unknown: no price known for {names}"


def _time(pools: Sequence[PoolPlan], seconds: CostRange | None) -> str:
    if seconds is None:
        names = ", ".join(pool.pool for pool in pools if pool.seconds is None)
        return f"unknown: no limit known for {names}; set --tier, or --rpm, --itpm and --otpm"
    return f"at least {_between(seconds, span)} with the given limits"


def _bounds(pools: Sequence[PoolPlan]) -> list[str]:
    """Say which limit will bind in each pool, and which limits are not known."""
    sentences: list[str] = []
    for pool in pools:
        if pool.seconds is None:
            continue
        by, most = pool.limited_by, pool.limited_by_at_most
        if most is None:
            text = f"{pool.pool}: no limit will bind"
        elif by is None:
            text = f"{pool.pool}: {most} will be the limit, if answers are long"
        else:
            text = f"{pool.pool}: {by} will be the limit"
            text += f", or {most} if answers are long" if most != by else ""
        if pool.unknown:
            text += f"; the limits of {' and '.join(pool.unknown)} are not known and may be lower"
        sentences.append(text)
    return sentences
