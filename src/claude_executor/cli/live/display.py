"""Shows a run while it is in progress: the panel on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console

    from claude_executor.cli.live.progress import ProgressTracker

REDRAW_EVERY = 0.25
LINE_EVERY = 10.0
LOOKS_A_LINE = 40


@contextmanager
def shown(watch: ProgressTracker, console: Console) -> Generator[None]:
    """Show a run while the block runs. Must be entered on the event loop of the run."""
    if console.is_terminal and not console.is_dumb_terminal:
        with _panel(watch, console):
            yield
    else:
        with _lines(watch, console):
            yield


@contextmanager
def _panel(watch: ProgressTracker, console: Console) -> Generator[None]:
    from rich.live import Live

    from claude_executor.cli.live.panel import LivePanel

    # Redrawn from the event loop, not from rich's thread: snapshots are not thread-safe.
    with (
        Live(LivePanel(watch.look()), console=console, auto_refresh=False, transient=True) as live,
        every(REDRAW_EVERY, lambda: live.update(LivePanel(watch.look()), refresh=True)),
    ):
        yield


@contextmanager
def _lines(watch: ProgressTracker, console: Console) -> Generator[None]:
    from claude_executor.cli.live.panel import line

    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        view = watch.look()  # every time, to measure rates over the last seconds
        if looks % LOOKS_A_LINE == 0:
            console.print(line(view), markup=False, highlight=False, soft_wrap=True)

    with every(LINE_EVERY / LOOKS_A_LINE, look):
        yield


@contextmanager
def every(seconds: float, act: Callable[[], None]) -> Generator[None]:
    """Call `act` now and then periodically while the block runs, on the running event loop."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def again() -> None:
        nonlocal timer
        timer = loop.call_later(seconds, again)
        act()

    again()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
