"""``claude-executor limits --shared``: the present state of a group that shares its limits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from claude_executor.cli.terminal.exits import NO_ACCESS, CommandError
from claude_executor.cli.terminal.format import amount, percent

if TYPE_CHECKING:
    from rich.console import Console

    from claude_executor.cli.options.connection import Sharing

SILENT = 10.0
"""Seconds of silence after which a member counts as dead; the shared budget applies the same rule."""

_States = dict[str, dict[str, Any]]


def show(sharing: Sharing, *, as_json: bool) -> None:
    """Print the state of the group on stdout."""
    states = asyncio.run(_states(sharing))
    if as_json:
        import orjson

        pools = [_described(name, state) for name, state in states.items()]
        click.echo(orjson.dumps(pools, option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not states:
        console.print(f"No member has used the group {sharing.group!r} in the last minutes.", markup=False)
    for name, state in states.items():
        _print(console, _described(name, state))


async def _states(sharing: Sharing) -> _States:
    budget = sharing.budget()
    try:
        return await budget.states()
    except OSError as error:
        raise CommandError(f"Cannot connect to Redis ({error}); check --shared", NO_ACCESS) from error
    finally:
        await budget.close()


def _described(pool: str, state: dict[str, Any]) -> dict[str, Any]:
    everybody: dict[str, dict[str, Any]] = state["members"] or {}
    pots: dict[str, float] = state["pots"] or {}
    limits: dict[str, dict[str, float]] = state["terms"] or {}
    now: float = state["now"]
    members = [member for member in everybody.values() if now - member["seen"] <= SILENT]
    weights = sum(member["weight"] for member in members) or 1.0
    resources = [
        {
            "resource": name,
            "limit": 60.0 * terms["rate"],
            "level": pots[name] + sum(_by_resource(m["purse"]).get(name, 0.0) for m in everybody.values()),
            "capacity": terms["cap"],
        }
        for name, terms in sorted(limits.items())
    ]
    return {
        "pool": pool,
        "closed_for": max(0.0, state["closed"] - now),
        "breaker": "open" if state.get("breaker") else "closed",
        "resources": resources,
        "members": [
            {
                "name": member["name"],
                "share": member["weight"] / weights,
                "running": member["running"],
                "waiting": member["waiting"],
                "binds": member.get("binds"),
                "seen": now - member["seen"],
                "using": {name: 60.0 * flow for name, flow in _by_resource(member["flow"]).items()},
            }
            for member in sorted(members, key=lambda member: member["name"])
        ],
    }


def _by_resource(kept: Any) -> dict[str, float]:  # noqa: ANN401
    return kept or {}  # an empty table of Lua may arrive as a list


def _print(console: Console, pool: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    notes = [f"retry-after: {pool['closed_for']:.0f} s left"] if pool["closed_for"] else []
    notes += ["the circuit breaker is open"] if pool["breaker"] == "open" else []
    console.print("; ".join([pool["pool"], *notes]), style="bold", markup=False)
    limits = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("limit", "per minute", "left", "burst"):
        limits.add_column(column, justify="left" if column == "limit" else "right", no_wrap=True)
    for one in pool["resources"]:
        limits.add_row(
            one["resource"], f"{one['limit']:,.0f}", amount(max(0.0, one["level"])), amount(one["capacity"])
        )
    console.print(limits)
    members = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("member", "share", "requests per minute", "in flight", "waiting", "limited by"):
        members.add_column(column, justify="left" if column in ("member", "limited by") else "right")
    for one in pool["members"]:
        members.add_row(
            Text(one["name"]),  # a name may look like markup
            percent(one["share"]),
            amount(one["using"].get("requests", 0.0)),
            f"{one['running']:,}",
            f"{one['waiting']:,}",
            one["binds"] or "",
        )
    console.print(members)
