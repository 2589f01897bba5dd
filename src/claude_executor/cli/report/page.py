"""Renders the report: one self-contained HTML file that loads nothing and runs no script."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from claude_executor import __version__
from claude_executor.bulk.report import SPREAD_PERCENTILES
from claude_executor.cli.report.figures import LONG
from claude_executor.cli.report.panels import MOST_LIMITS, MOST_POOLS, Panels
from claude_executor.cli.terminal.bottleneck import limited_sentence
from claude_executor.cli.terminal.format import money, percent, span

if TYPE_CHECKING:
    from claude_executor.bulk.report import Account

MOST_KINDS = 20
UNKNOWN = "unknown"


def page_of(account: Account, *, name: str, timeline: str, now: float) -> str:
    """Render the report of a run as HTML.

    Args:
        account: The figures of the run.
        name: Name of the results file.
        timeline: Name of its timeline.
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
        "drawn": Markup,  # made here; the only text is numbers, escaped
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
        percentiles=SPREAD_PERCENTILES,
        doubled=about_doubled(account),
        sections=[
            ("limits", "Throughput and limits", panels.throughput()),
            ("held", "What limited throughput", panels.holding()),
            ("times", "Response and waiting times", panels.times()),
            ("trouble", "Failed attempts and retries", panels.trouble()),
            ("cost", "Cost", panels.cost()),
        ],
    )


def about_doubled(account: Account) -> str | None:
    """Describe how often ids repeat; None if none does."""
    doubled = account.rows.doubled
    if not doubled:
        return None
    if doubled == 1:
        return "1 custom_id occurs more than once; its last answer counts, or else its last failure"
    return f"{doubled:,} custom_ids occur more than once; the last answer of each counts, or else the failure"


def _limited(account: Account) -> str | None:
    if account.limited is None or not account.succeeded:
        return None
    sentence = limited_sentence(account.limited)
    return sentence[0].upper() + sentence[1:]


def _key_figures(account: Account) -> list[tuple[str, str, str]]:
    """Name, figure and CSS class of each key figure."""
    return [
        ("rows", _number(len(account.rows)), ""),
        ("succeeded", _number(account.succeeded), "good"),
        ("failed", _number(account.failed), "bad" if account.failed else ""),
        ("running time", UNKNOWN if account.seconds is None else span(account.seconds), ""),
        ("rows per minute", _number(account.rows_per_minute), ""),
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
