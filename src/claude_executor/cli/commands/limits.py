"""``claude-executor limits``: your rate limits, and the source of each number.

There are three sources. The Rate Limits API lists the organization's limits; it is free and requires an admin
key. Response headers show the limits of the key in use and what remains of them; they cost a request. The
published figures of a tier need neither.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, cast

import click

from claude_executor import (
    AttemptStarted,
    Event,
    Executor,
    ExecutorError,
    Failed,
    FailureKind,
    Limits,
    ResourceState,
    Stopped,
)
from claude_executor.cli.live.interruptible import import_sdk
from claude_executor.cli.options.connection import (
    COUNT_TOKENS,
    RESOURCES,
    ConnectionOptions,
    connection,
    connection_options,
)
from claude_executor.cli.service.rate_limits_api import Entry, admin_key, organization_limits
from claude_executor.cli.terminal.exits import BAD_INPUT, NO_ACCESS, SOME_FAILED, CommandError
from claude_executor.cli.terminal.format import amount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

DEFAULT_MODEL = "claude-haiku-5-5"
EVERY_OTHER = "every other"
DECLARED = "declared"
PUBLISHED = "published tier"

_NO_ACCESS = frozenset(
    {
        FailureKind.AUTHENTICATION,
        FailureKind.BILLING,
        FailureKind.SPEND_LIMIT,
        FailureKind.PERMISSION,
        FailureKind.UNREACHABLE,
    }
)


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    help=f"Show this model's limits. Repeatable.  [default: all with an admin key, else {DEFAULT_MODEL}]",
)
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Print the limits as JSON.")
def limits(models: tuple[str, ...], as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Show your rate limits and their sources.

    With an admin key in ANTHROPIC_ADMIN_KEY, the limits come from the Rate Limits API, which is free. Without
    one, or for a model you name, they come from response headers, which also show what remains: each model is
    sent one tiny request (one word in, one token out). With --tier and no model, the published limits of the
    tier are shown and nothing is sent.

    With --shared, the group is shown: its members, their shares, what remains, what limits them. Nothing is
    sent.
    """
    how = connection(**options)
    if how.sharing is not None:
        from claude_executor.cli.service.group_status import show

        show(how.sharing, as_json=as_json)
        return
    declared = {what for name, what in RESOURCES.items() if options[name] is not None}
    if options["tier"] is not None and not models:
        assert not isinstance(how.limits, Limits)
        entries = [entry for pool, its in how.limits.items() for entry in _declared(pool, its, declared)]
    else:
        import_sdk()
        entries = asyncio.run(_ask(how, models, declared))
    if as_json:
        import orjson

        click.echo(orjson.dumps(entries, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(entries)


def _declared(pool: str, its: Limits, declared: set[str]) -> Iterable[Entry]:
    for field, resource in RESOURCES.items():
        limit = getattr(its, field)
        if limit is not None:
            name = EVERY_OTHER if pool == "*" else pool
            source = DECLARED if resource in declared and pool != COUNT_TOKENS else PUBLISHED
            yield {"pool": name, "resource": resource, "limit": limit, "per": "minute", "source": source}


async def _ask(how: ConnectionOptions, models: Sequence[str], declared: set[str]) -> list[Entry]:
    key = admin_key()
    if key is None:
        return await _from_headers(how, models or (DEFAULT_MODEL,), declared)
    listed = await organization_limits(key, base_url=how.base_url, models=models)
    if isinstance(how.limits, Limits):
        ceilings = {what: getattr(how.limits, field) for field, what in RESOURCES.items() if what in declared}
        listed = [_under(entry, ceilings) for entry in listed]
    if not models or not _may_send():
        return listed
    return _together(listed, await _from_headers(how, models, declared))


def _may_send() -> bool:
    return any(os.environ.get(name) for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"))


def _under(entry: Entry, ceilings: Mapping[str, float]) -> Entry:
    """Apply the user's own limit where it is smaller. It applies to models only."""
    ceiling = ceilings.get(str(entry["resource"]))
    if ceiling is None or not entry["models"] or ceiling >= float(str(entry["limit"])):
        return entry
    return {**entry, "limit": ceiling, "source": DECLARED}


async def _from_headers(how: ConnectionOptions, models: Sequence[str], declared: set[str]) -> list[Entry]:
    """Send a tiny request to each model, and return the limits in the response headers."""
    asked: dict[str, list[str]] = {}

    def listen(event: Event) -> None:
        if isinstance(event, AttemptStarted) and event.attempt == 1:
            asked.setdefault(event.pool, []).append(event.model)

    published = not isinstance(how.limits, Limits)
    try:
        async with how.executor(listen) as executor:
            for model in models:
                await _send(executor, model)
            pools = executor.snapshot().pools
    except Stopped as error:  # no key can be read
        raise CommandError(str(error), NO_ACCESS) from error
    return [
        _entry(name, asked[name], resource, state, published=published and resource not in declared)
        for name, pool in pools.items()
        for resource, state in pool.resources.items()
    ]


async def _send(executor: Executor, model: str) -> None:
    word = [{"role": "user", "content": "Hi"}]
    try:
        await executor.submit({"model": model, "max_tokens": 1, "messages": word})
    except ExecutorError as error:
        kind = error.kind if isinstance(error, (Failed, Stopped)) else None
        code = (
            NO_ACCESS if kind in _NO_ACCESS else BAD_INPUT if kind is FailureKind.NOT_FOUND else SOME_FAILED
        )
        raise CommandError(f"{model}: {error}", code) from error
    except ValueError as error:
        raise CommandError(f"{model!r}: {error}") from error


def _entry(pool: str, models: list[str], resource: str, state: ResourceState, *, published: bool) -> Entry:
    return {
        "pool": pool,
        "resource": resource,
        "limit": state.limit,
        "per": "minute",
        "source": PUBLISHED if published and state.source == DECLARED else state.source,
        "left": state.level,
        "burst": state.capacity,
        "others": state.foreign_rate,
        "models": models,
    }


def _together(listed: list[Entry], heard: list[Entry]) -> list[Entry]:
    """Merge both lists. Where they agree there is one entry with both sources, otherwise two entries.

    They differ where a workspace has a limit of its own.
    """
    for entry in heard:
        group = [other for other in listed if set(_models(other)) & set(_models(entry))]
        if group:
            entry["pool"] = group[0]["pool"]
        twin = next((other for other in group if other["resource"] == entry["resource"]), None)
        if twin is None or twin["limit"] != entry["limit"]:
            listed.append(entry)
            continue
        sources = dict.fromkeys((str(twin["source"]), str(entry["source"])))
        twin.update(
            left=entry["left"], burst=entry["burst"], others=entry["others"], source=", ".join(sources)
        )
    order = list(dict.fromkeys((entry["pool"], entry["resource"]) for entry in listed))
    pools = list(dict.fromkeys(entry["pool"] for entry in listed))
    return sorted(
        listed,
        key=lambda entry: (pools.index(entry["pool"]), order.index((entry["pool"], entry["resource"]))),
    )


def _models(entry: Entry) -> list[str]:
    return cast("list[str]", entry["models"])


def _print(entries: list[Entry]) -> None:
    """Print the table on stdout."""
    from rich.console import Console

    console = Console(highlight=False)
    if not entries:
        console.print("No limits known: the API sent none, and none were given.")
        return
    console.print(_table(entries))


def _table(entries: list[Entry]) -> Table:
    from rich import box
    from rich.table import Table

    # Levels are known only for limits that came with response headers.
    columns = {"burst": "burst", "left": "left"}
    shown = [field for field in columns if any(entry.get(field) is not None for entry in entries)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("pool", no_wrap=True)
    table.add_column("limit", no_wrap=True)
    table.add_column("per minute", justify="right", no_wrap=True)
    for field in shown:
        table.add_column(columns[field], justify="right", no_wrap=True)
    table.add_column("source", style="dim")
    before = None
    for entry in entries:
        per = "" if entry["per"] == "minute" else f" per {entry['per']}" if entry["per"] else " in total"
        table.add_row(
            str(entry["pool"]) if entry["pool"] != before else "",
            str(entry["resource"]),
            f"{entry['limit']:,.0f}{per}",
            *(_cell(entry.get(field)) for field in shown),
            str(entry["source"]),
        )
        before = entry["pool"]
    return table


def _cell(value: object) -> str:
    return amount(float(str(value))) if value is not None else "unknown"
