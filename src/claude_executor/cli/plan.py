"""``claude-executor run --dry-run``: what a job will take, printed before anything is paid for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from claude_executor.bulk import NotCounted, count_tokens, plan
from claude_executor.cli import BAD_INPUT, NO_ACCESS, SOME_FAILED
from claude_executor.cli.trouble import Trouble
from claude_executor.cli.words import amount, count, money, span

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anthropic import AsyncAnthropic
    from rich.table import Table

    from claude_executor.bulk import Counted, Defaults, ModelPlan, Plan, PoolPlan, Range, Source, Survey
    from claude_executor.cli.options import Connection

_OF_THE_ROW = frozenset({400, 404, 413, 422})
"""Statuses that are the row's own fault."""
_NO_ACCESS = frozenset({401, 402, 403, None})


def dry_run(
    source: Source,
    survey: Survey,
    defaults: Defaults,
    how: Connection,
    *,
    exact: int = 0,
    tier: str | None = None,
    as_json: bool = False,
) -> None:
    """Print on stdout what a job will take. Nothing is sent but the rows that are to be counted.

    Args:
        source: What holds its rows.
        survey: What was found there.
        defaults: What its lines may leave out.
        how: The limits, and how to reach the API.
        exact: How many rows the API is to count.
        tier: The usage tier, if it was told.
        as_json: Print it for programs.
    """
    counted = asyncio.run(_count(source, survey, defaults, how, exact, tier)) if exact else None
    planned = plan(source, defaults, how.limits, counted)
    if as_json:
        import orjson

        click.echo(orjson.dumps(planned.as_dict(), option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"{source.name}: nothing was sent. This is what it will take.\n", markup=False)
    console.print(drawn(planned))


async def _count(
    source: Source, survey: Survey, defaults: Defaults, how: Connection, exact: int, tier: str | None
) -> Counted:
    try:
        async with await asyncio.to_thread(_client, how) as client:  # importing the SDK takes a second
            return await count_tokens(
                source, defaults, rows=survey.rows, sample=exact, client=client, tier=tier
            )
    except NotCounted as error:
        code = BAD_INPUT if error.status in _OF_THE_ROW else SOME_FAILED
        raise Trouble(str(error), NO_ACCESS if error.status in _NO_ACCESS else code) from error


def _client(how: Connection) -> AsyncAnthropic:
    import anthropic

    return anthropic.AsyncAnthropic(api_key=how.api_key, base_url=how.base_url)


def drawn(planned: Plan) -> Table:
    """Draw a plan for people."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")

    def say(name: str, sentence: str) -> None:
        grid.add_row(name, Text(sentence))

    say("rows", f"{planned.rows:,}")
    for model in planned.models if len(planned.models) > 1 else ():
        say("", _of_model(model))
    say("input", f"{_between(planned.input_tokens, amount)} tokens, {_origin(planned)}")
    read = sum(model.cache_read_tokens for model in planned.models)
    written = sum(model.cache_written_tokens for model in planned.models)
    if read or written:
        say("", f"of them {amount(read)} read from the prompt cache, {amount(written)} written to it")
    say("output", f"{_between(planned.output_tokens, amount)} tokens; the most is what max_tokens allows")
    say("cost", _cost(planned))
    say("time", _time(planned.pools, planned.seconds))
    for sentence in _bounds(planned.pools):
        say("", sentence)
    return grid


def _between(value: Range, words: Callable[[float], str]) -> str:
    guess, low, high = words(value.guess), words(value.low), words(value.high)
    return guess if low == guess == high else f"{guess} ({low} to {high})"


def _of_model(model: ModelPlan) -> str:
    cost = "price unknown" if model.dollars is None else _between(model.dollars, money)
    tokens = f"{_between(model.input_tokens, amount)} in, {_between(model.output_tokens, amount)} out"
    return f"{model.model}: {count(model.rows, 'row')}, {tokens}, {cost}"


def _origin(planned: Plan) -> str:
    """Where the number of input tokens comes from."""
    counted = planned.counted
    if counted is None:
        return "estimated from the bytes (--exact 100 lets the API count some rows, for nothing)"
    if counted.rows == planned.rows:
        return "counted by the API"
    found = counted.models.values()
    if len(planned.models) > 1 or not found:
        return f"set right by {count(counted.rows, 'row')} the API counted"
    (ratio,) = found
    error = "" if ratio.error is None else f", standard error {100 * ratio.error:.1f} %"
    return f"{ratio.ratio:.2f} of what the bytes say: the API counted {count(counted.rows, 'row')}{error}"


def _cost(planned: Plan) -> str:
    if planned.dollars is not None:
        return _between(planned.dollars, money)
    names = ", ".join(model.model for model in planned.models if model.dollars is None)
    return f"unknown: no price is known for {names}"


def _time(pools: Sequence[PoolPlan], seconds: Range | None) -> str:
    if seconds is None:
        names = ", ".join(pool.pool for pool in pools if pool.seconds is None)
        return f"unknown: no limit is known for {names}; tell --tier, or --rpm, --itpm and --otpm"
    return f"at least {_between(seconds, span)} under the limits told"


def _bounds(pools: Sequence[PoolPlan]) -> list[str]:
    """Which limit will bind, pool by pool, and which are not known."""
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
