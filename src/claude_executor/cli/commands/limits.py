"""``claude-executor limits``: what the limits are, and where each number comes from.

There are three to ask. The Rate Limits API lists what the organisation may use, and asking it uses nothing;
it wants an admin key. The headers of an answer tell what the key at hand may use, and what is left of it now;
that takes a request. A tier's published figures need nobody.
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
TOLD = "declared"
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
    help="Ask for this model's limits. May be repeated.  "
    f"[default: all with an admin key, else {DEFAULT_MODEL}]",
)
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Print them on stdout, as JSON.")
def limits(models: tuple[str, ...], as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Show the limits in force, and where each of them comes from.

    With an admin key in ANTHROPIC_ADMIN_KEY the organisation's limits are listed by the Rate Limits API, and
    nothing is used up. Without one, or for a model you name, they are read off the headers of an answer,
    which also tell what is left: each model is sent one tiny request (a word, answered by one token). With
    --tier and no model, the published limits of the tier are shown and nothing is sent.

    With --shared the group is shown: who is in it, what each has, what is left, what binds. Nothing is sent.
    """
    how = connection(**options)
    if how.sharing is not None:
        from claude_executor.cli.service.group_status import show

        show(how.sharing, as_json=as_json)
        return
    told = {what for name, what in RESOURCES.items() if options[name] is not None}
    if options["tier"] is not None and not models:
        assert not isinstance(how.limits, Limits)
        entries = [entry for pool, its in how.limits.items() for entry in _declared(pool, its, told)]
    else:
        import_sdk()
        entries = asyncio.run(_ask(how, models, told))
    if as_json:
        import orjson

        click.echo(orjson.dumps(entries, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(entries)


def _declared(pool: str, its: Limits, told: set[str]) -> Iterable[Entry]:
    for field, resource in RESOURCES.items():
        limit = getattr(its, field)
        if limit is not None:
            name = EVERY_OTHER if pool == "*" else pool
            source = TOLD if resource in told and pool != COUNT_TOKENS else PUBLISHED
            yield {"pool": name, "resource": resource, "limit": limit, "per": "minute", "source": source}


async def _ask(how: ConnectionOptions, models: Sequence[str], told: set[str]) -> list[Entry]:
    key = admin_key()
    if key is None:
        return await _heard(how, models or (DEFAULT_MODEL,), told)
    listed = await organization_limits(key, base_url=how.base_url, models=models)
    if isinstance(how.limits, Limits):
        ceilings = {what: getattr(how.limits, field) for field, what in RESOURCES.items() if what in told}
        listed = [_under(entry, ceilings) for entry in listed]
    if not models or not _may_send():
        return listed
    return _together(listed, await _heard(how, models, told))


def _may_send() -> bool:
    return any(os.environ.get(name) for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"))


def _under(entry: Entry, ceilings: Mapping[str, float]) -> Entry:
    """What the user allows holds where it is less; it is told of models only."""
    ceiling = ceilings.get(str(entry["resource"]))
    if ceiling is None or not entry["models"] or ceiling >= float(str(entry["limit"])):
        return entry
    return {**entry, "limit": ceiling, "source": TOLD}


async def _heard(how: ConnectionOptions, models: Sequence[str], told: set[str]) -> list[Entry]:
    """What the headers of answers say, after a tiny request to each model."""
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
    except Stopped as error:  # no key can be read from where it should be
        raise CommandError(str(error), NO_ACCESS) from error
    return [
        _entry(name, asked[name], resource, state, published=published and resource not in told)
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
        "source": PUBLISHED if published and state.source == TOLD else state.source,
        "left": state.level,
        "burst": state.capacity,
        "others": state.foreign_rate,
        "models": models,
    }


def _together(listed: list[Entry], heard: list[Entry]) -> list[Entry]:
    """Both lists as one. Where they agree one line says so, where not (a workspace's limit) there are two."""
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
    """Draw the table. It is what was asked for, so it goes to stdout."""
    from rich.console import Console

    console = Console(highlight=False)
    if not entries:
        console.print("No limits are known: the API told none, and none were given.")
        return
    console.print(_table(entries))


def _table(entries: list[Entry]) -> Table:
    from rich import box
    from rich.table import Table

    # What a bucket holds is known only of those that an answer told of.
    columns = {"burst": "at once", "left": "left"}
    shown = [field for field in columns if any(entry.get(field) is not None for entry in entries)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("pool", no_wrap=True)
    table.add_column("limit", no_wrap=True)
    table.add_column("a minute", justify="right", no_wrap=True)
    for field in shown:
        table.add_column(columns[field], justify="right", no_wrap=True)
    table.add_column("where from", style="dim")
    before = None
    for entry in entries:
        per = "" if entry["per"] == "minute" else f" a {entry['per']}" if entry["per"] else " in all"
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
    return amount(float(str(value))) if value is not None else "not known"
