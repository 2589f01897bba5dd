"""``claude-executor limits``: what the limits are, and where each number comes from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from claude_executor import Executor, ExecutorError, Failed, Kind, Limits, ResourceState
from claude_executor.cli import BAD_INPUT, NO_ACCESS, SOME_FAILED
from claude_executor.cli.options import connection, connection_options
from claude_executor.cli.trouble import Trouble
from claude_executor.cli.words import amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DEFAULT_MODEL = "claude-haiku-5-5"
EVERY_OTHER = "every other"

_NO_ACCESS = frozenset(
    {Kind.AUTHENTICATION, Kind.BILLING, Kind.SPEND_LIMIT, Kind.PERMISSION, Kind.UNREACHABLE}
)
_DECLARED = {"rpm": "requests", "tpm": "tokens", "itpm": "input tokens", "otpm": "output tokens"}
_Entry = dict[str, object]


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    help=f"Ask the limits of this model's pool. May be repeated.  [default: {DEFAULT_MODEL}]",
)
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Print them on stdout, as JSON.")
def limits(models: tuple[str, ...], as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Show the limits in force, and where each of them comes from.

    The API tells them in the headers of its answers, so each model is sent one tiny request (a word, answered
    by one token). With --tier and no model, the published limits of the tier are shown and nothing is sent.
    """
    how = connection(**options)
    if options["tier"] is not None and not models:
        assert not isinstance(how.limits, Limits)
        entries = [entry for pool, its in how.limits.items() for entry in _declared(pool, its)]
    else:
        entries = asyncio.run(_ask(how.executor(), models or (DEFAULT_MODEL,)))
    if as_json:
        import orjson

        click.echo(orjson.dumps(entries, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(entries)


def _declared(pool: str, its: Limits) -> Iterable[_Entry]:
    for field, resource in _DECLARED.items():
        limit = getattr(its, field)
        if limit is not None:
            name = EVERY_OTHER if pool == "*" else pool
            yield {"pool": name, "resource": resource, "limit": limit, "source": "published or told"}


async def _ask(executor: Executor, models: Sequence[str]) -> list[_Entry]:
    async with executor:
        for model in models:
            try:
                word = [{"role": "user", "content": "Hi"}]
                await executor.submit({"model": model, "max_tokens": 1, "messages": word})
            except ExecutorError as error:
                raise _trouble(error, model) from error
            except ValueError as error:
                raise Trouble(f"{model!r}: {error}") from error
        pools = executor.snapshot().pools
    return [
        _entry(name, resource, state)
        for name, pool in pools.items()
        for resource, state in pool.resources.items()
    ]


def _trouble(error: ExecutorError, model: str) -> Trouble:
    kind = error.kind if isinstance(error, Failed) else None
    code = NO_ACCESS if kind in _NO_ACCESS else BAD_INPUT if kind is Kind.NOT_FOUND else SOME_FAILED
    return Trouble(f"{model}: {error}", code)


def _entry(pool: str, resource: str, state: ResourceState) -> _Entry:
    return {
        "pool": pool,
        "resource": resource,
        "limit": state.limit,
        "source": state.source,
        "left": state.level,
        "burst": state.capacity,
        "others": state.others,
    }


def _print(entries: list[_Entry]) -> None:
    """Draw the table. It is what was asked for, so it goes to stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not entries:
        console.print("No limits are known: the API told none, and none were given.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("pool")
    table.add_column("limit")
    table.add_column("a minute", justify="right")
    table.add_column("at once", justify="right")
    table.add_column("where from", style="dim")
    before = None
    for entry in entries:
        burst = entry.get("burst")
        table.add_row(
            str(entry["pool"]) if entry["pool"] != before else "",
            str(entry["resource"]),
            f"{entry['limit']:,.0f}",
            amount(float(str(burst))) if burst is not None else "not known",
            str(entry["source"]),
        )
        before = entry["pool"]
    console.print(table)
