"""Puts the page together: one file that needs nothing else, loads nothing, and runs no script."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from claude_executor import __version__
from claude_executor.bulk.report import TOLD
from claude_executor.cli.report.figures import LONG
from claude_executor.cli.report.panels import MOST_LIMITS, MOST_POOLS, Panels
from claude_executor.cli.terminal.bottleneck import limited_sentence
from claude_executor.cli.terminal.format import money, percent, span

if TYPE_CHECKING:
    from claude_executor.bulk.report import Account

MOST_KINDS = 20
UNKNOWN = "unknown"


def page_of(account: Account, *, name: str, timeline: str, now: float) -> str:
    """The report.

    Args:
        account: What there is to tell.
        name: What the results file is called.
        timeline: What its timeline is called.
        now: Unix time of the report.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False
    )
    filters: dict[str, Any] = {
        "span": span,
        "percent": percent,
        "number": _number,
        "seconds": _seconds,
        "day": _day,
        "drawn": Markup,  # pictures are ours: they hold no text but numbers, and that is escaped
    }
    environment.filters.update(filters)
    template = environment.from_string(_text("page.html.jinja"))
    panels = Panels(account)
    return template.render(
        account=account,
        name=name,
        timeline=timeline,
        now=now,
        version=__version__,
        style=Markup(_text("page.css")),
        key_figures=_key_figures(account),
        limited=_limited(account),
        most_limits=MOST_LIMITS,
        most_pools=MOST_POOLS,
        most_kinds=MOST_KINDS,
        told=TOLD,
        doubled=about_doubled(account),
        sections=[
            ("limits", "Throughput and limits", panels.throughput()),
            ("held", "What held the line up", panels.holding()),
            ("times", "How long it took", panels.times()),
            ("trouble", "Failed attempts and retries", panels.trouble()),
            ("cost", "Cost", panels.cost()),
        ],
    )


def about_doubled(account: Account) -> str | None:
    """What is said of ids that come more than once; `None` if none does."""
    doubled = account.rows.doubled
    if not doubled:
        return None
    if doubled == 1:
        return "1 custom_id comes more than once: its last answer counts, or its last failure"
    return f"{doubled:,} custom_ids come more than once: of each the last answer counts, or the last failure"


def _limited(account: Account) -> str | None:
    if account.limited is None or not account.succeeded:
        return None
    sentence = limited_sentence(account.limited)
    return sentence[0].upper() + sentence[1:]


def _key_figures(account: Account) -> list[tuple[str, str, str]]:
    """Name, figure, and how it is to look."""
    return [
        ("rows", _number(len(account.rows)), ""),
        ("succeeded", _number(account.succeeded), "good"),
        ("failed", _number(account.failed), "bad" if account.failed else ""),
        ("running time", UNKNOWN if account.seconds is None else span(account.seconds), ""),
        ("rows a minute", _number(account.rows_per_minute), ""),
        ("cost", _cost(account), ""),
        ("429s", _number(account.refusals), ""),
        ("retries", _number(account.retries), ""),
    ]


def _cost(account: Account) -> str:
    known = account.known_dollars
    if known is None:
        return "unknown"
    return money(known) if account.spent.dollars is not None else f"over {money(known)}"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:,.3g} s" if value < LONG else span(value)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _text(name: str) -> str:
    return files("claude_executor.cli.report").joinpath(name).read_text(encoding="utf-8")
