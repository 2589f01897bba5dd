"""The live panel, and the plain line that replaces it where there is no terminal. Both draw a `View`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from claude_executor.cli.terminal.format import amount, count, money, percent, span

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from claude_executor.cli.live.progress import Bar, View

WIDEST = 100
ECHO = 2
"""Columns left free for the echo of ``^C``: if it wraps, a stray line remains."""
NARROW = 64
"""Columns below which the panel leaves out details."""

CALM = "cyan"
BINDING = "bold yellow"
TROUBLE = "bold red"
FINE = "green"
DIM = "dim"


class LivePanel:
    """One view of a run, drawn to fit the width of the terminal."""

    def __init__(self, view: View) -> None:
        self.view = view

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the panel."""
        del console
        width = min(options.max_width - ECHO, WIDEST)
        narrow = width < NARROW
        view = self.view
        parts: list[RenderableType] = [_progress(view), _pace(view), Text(), _state(view)]
        if view.sharing is not None:
            parts.append(Text(view.sharing, style=DIM, no_wrap=True, overflow="ellipsis"))
        if view.bars:
            parts += [Text(), _limits(view.bars, narrow=narrow)]
        parts += [Text(), *_counts(view, narrow=narrow)]
        yield Panel(
            Padding(Group(*parts), (0 if narrow else 1, 1 if narrow else 2)),
            title=Text(f" {view.title} ", style="bold"),
            title_align="left",
            subtitle=Text(f" {span(view.seconds)} ", style=DIM),
            subtitle_align="right",
            box=box.ROUNDED,
            border_style=TROUBLE if view.waits else DIM,
            padding=0,
            width=width,
        )


def _progress(view: View) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(
        total=max(view.rows, 1),
        completed=view.done,
        complete_style=FINE,
        finished_style=FINE,
        style="bar.back",
    )
    done = Text.assemble((f"{view.done:,}", "bold"), f" of {view.rows:,} rows")
    grid.add_row(bar, done)
    return grid


def _pace(view: View) -> RenderableType:
    left = f"{span(view.left)} left" if view.left is not None else "time left unknown"
    number, _, rows = count(round(view.rate), "row").partition(" ")
    text = Text.assemble((number, "bold"), f" {rows} a minute", (" · ", DIM), left)
    if view.deadline is not None:
        text.append(" · ", DIM)
        text.append(f"deadline in {span(view.deadline)}")
    if view.failed:
        text.append(" · ", DIM)
        text.append(f"{view.failed:,} failed", TROUBLE)
    return text


def _state(view: View) -> RenderableType:
    lead, limited, what = view.state.partition("limited by ")
    if not limited:
        lead, what = "", view.state
    style = TROUBLE if view.waits else BINDING if any(bar.binds for bar in view.bars) else "bold"
    text = Text.assemble((lead + limited, DIM), (what, style))
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _limits(bars: tuple[Bar, ...], *, narrow: bool) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True, min_width=len("100 %"))
    if not narrow:
        grid.add_column(justify="right", no_wrap=True, style=DIM)
    for bar in bars:
        style = "yellow" if bar.binds else CALM
        drawn = ProgressBar(total=1.0, completed=bar.share, complete_style=style, finished_style=style)
        name = Text(bar.name, style=BINDING if bar.binds else "")
        cells: list[RenderableType] = [
            name,
            drawn,
            Text(percent(bar.share), style=BINDING if bar.binds else ""),
        ]
        if not narrow:
            cells.append(f"of {amount(bar.limit)} a minute")
        grid.add_row(*cells)
    return grid


def _counts(view: View, *, narrow: bool) -> list[RenderableType]:
    flight = [
        _counted(f"{view.running:,} in flight"),
        _counted(f"{view.waiting:,} waiting"),
        _counted(count(view.retries, "retry", "retries")),
    ]
    trouble = [
        _counted(count(number, what), "yellow" if number else "")
        for number, what in ((view.refusals, "429"), (view.overloads, "529"))
    ]
    if view.errors:
        trouble.append(_counted(count(view.errors, "other error"), "yellow"))
    cost = Text.assemble((money(view.dollars), "bold"), (" so far", DIM) if view.dollars is not None else "")
    if view.max_cost is not None:
        cost.append(" of ", DIM)
        cost.append(money(view.max_cost))
    if view.dollars is None:
        cost = Text.assemble(("cost ", DIM), ("unknown", "bold"), (": no price known for the model", DIM))
    elif view.projected is not None:
        cost.append(" · ", DIM)
        cost.append(f"about {money(view.projected)}")
        cost.append(" in total", DIM)
    if view.tokens is not None:
        used, most = view.tokens
        cost.append(" · ", DIM)
        cost.append(f"{amount(used)} of {amount(most)} tokens")
    lines = [flight, trouble] if narrow or view.errors else [flight + trouble]
    return [*(_joined(line) for line in lines), cost]


def _counted(text: str, style: str = "") -> Text:
    number, _, what = text.partition(" ")
    return Text.assemble((number, f"bold {style}".strip()), (f" {what}", style or DIM))


def _joined(texts: list[Text]) -> Text:
    joined = Text(" · ", style=DIM).join(texts)
    joined.no_wrap, joined.overflow = True, "ellipsis"
    return joined


def line(view: View) -> str:
    """Describe a view on one plain line."""
    words = [
        f"{span(view.seconds)}  {view.done:,}/{view.rows:,} rows ({percent(view.share)})",
        f"{view.rate:,.0f} a minute",
        f"{span(view.left)} left" if view.left is not None else "time left unknown",
        view.state,
        f"{view.running:,} in flight, {count(view.retries, 'retry', 'retries')}",
        f"{count(view.refusals, '429')}, {count(view.overloads, '529')}"
        + (f", {count(view.errors, 'other error')}" if view.errors else ""),
        f"cost {money(view.dollars)}" + (f" of {money(view.max_cost)}" if view.max_cost is not None else ""),
    ]
    if view.deadline is not None:
        words.insert(3, f"deadline in {span(view.deadline)}")
    if view.tokens is not None:
        words.append("{} of {} tokens".format(*map(amount, view.tokens)))
    if view.sharing is not None:
        words.append(view.sharing)
    if view.failed:
        words.insert(1, f"{view.failed:,} failed")
    return "; ".join(words)
