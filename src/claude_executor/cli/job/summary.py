"""Draws the closing summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from claude_executor.cli.job.exit_status import without_lead
from claude_executor.cli.terminal.bottleneck import limited_sentence
from claude_executor.cli.terminal.format import count, money, span

if TYPE_CHECKING:
    from rich.console import RenderableType

    from claude_executor.bulk import Summary

MOST_FAILURES = 10


def closing(summary: Summary) -> RenderableType:
    """Draw a summary as a table."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("rows", _rows(summary))
    if not (summary.succeeded or summary.failed or summary.wasted.tokens):
        return grid  # everything else would be zero
    grid.add_row("time", f"{span(summary.seconds)}, {_pace(summary.rows_per_minute)}")
    grid.add_row("tokens", _tokens(summary))
    grid.add_row("cost", _cost(summary))
    grid.add_row("requests", _requests(summary))
    for index, group in enumerate(summary.failures[:MOST_FAILURES]):
        grid.add_row("" if index else "failures", Text(f"{group.count:,} x {without_lead(group.example)}"))
    if len(summary.failures) > MOST_FAILURES:
        grid.add_row("", f"and {count(len(summary.failures) - MOST_FAILURES, 'more kind')}")
    if summary.bottleneck is not None and summary.succeeded:
        grid.add_row("limit", limited_sentence(summary.bottleneck))
    return grid


def _pace(rows_per_minute: float) -> str:
    return f"{count(round(rows_per_minute), 'row')} a minute"


def _rows(summary: Summary) -> Text:
    text = Text.assemble((f"{summary.succeeded:,}", "bold green"), f" of {summary.rows:,} answered")
    if summary.failed:
        text.append(", ")
        text.append(f"{summary.failed:,} failed", "bold red")
    if summary.unsent:
        text.append(", ")
        text.append(f"{summary.unsent:,} not sent", "bold yellow")
    if summary.copied:
        text.append(f"; {summary.copied:,} of them were copies of equal rows, at no cost")
    if summary.answered_before:
        text.append(f"; {summary.answered_before:,} more were answered earlier")
    if summary.failed_before:
        text.append(f"; {summary.failed_before:,} failed earlier and were not sent again")
    return text


def _tokens(summary: Summary) -> str:
    spent = summary.spent
    text = f"{spent.input_tokens:,} in, {spent.output_tokens:,} out"
    if spent.cache_read_tokens or spent.cache_written_tokens:
        text += (
            f", {spent.cache_read_tokens:,} read from the cache, {spent.cache_written_tokens:,} written to it"
        )
    if summary.max_tokens_total is not None:
        in_all = spent.tokens + summary.spent_before.tokens
        text += f"; {in_all:,} of {summary.max_tokens_total:,}{_with_earlier(summary)}"
    return text


def _cost(summary: Summary) -> str:
    spent = summary.spent.dollars
    text = "unknown: no price known for the model" if spent is None else money(spent)
    if summary.max_cost is not None and spent is not None:
        in_all = spent + (summary.spent_before.dollars or 0.0)
        text += f"; {money(in_all)} of the cap of {money(summary.max_cost)}{_with_earlier(summary)}"
    wasted = summary.wasted
    if wasted.tokens:
        what = count(wasted.tokens, "token") if wasted.dollars is None else money(wasted.dollars)
        text += f"; at least {what} more for failed attempts"
    return text


def _with_earlier(summary: Summary) -> str:
    return " with earlier starts" if summary.spent_before.tokens else ""


def _requests(summary: Summary) -> str:
    retries = f" ({count(summary.retries, 'retry', 'retries')})" if summary.retries else ""
    text = f"{summary.attempts:,}{retries}"
    text += f"; {count(summary.refusals, '429')}, {count(summary.overloads, '529')}"
    return text + (f", {count(summary.errors, 'other error')}" if summary.errors else "")
