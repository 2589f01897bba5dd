"""Conducts a run from the terminal: shows it, and obeys the signals that end it."""

from __future__ import annotations

import asyncio
import importlib
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_executor.cli.live.display import shown
from claude_executor.cli.terminal.signals import ending_at_once, obeyed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractContextManager

    from rich.console import Console

    from claude_executor.bulk import Run
    from claude_executor.cli.live.progress import ProgressTracker

_ONCE = {getattr(signal, "SIGHUP", None)}
"""A terminal that is closed may say so several times over: that is no impatience."""


@dataclass(slots=True)
class Interruption:
    """How a run was ended from outside: the signal, if there was one, and whether it came twice."""

    number: int | None = None
    aborted: bool = False


def import_sdk(first: Callable[[], None] = lambda: None) -> None:
    """Import the SDK, which takes seconds, so that a signal meanwhile ends the process at once.

    To be called before the event loop runs. There, a thread would import it, and Python waits for threads.
    `first` is done before the process ends.
    """
    with ending_at_once(first):
        importlib.import_module("anthropic")


async def run_interruptible(
    work: Coroutine[object, object, None], watch: ProgressTracker, console: Console
) -> Interruption:
    """Do `work`, and show it. A signal lets it finish what is in flight; a second one aborts."""
    task = asyncio.ensure_future(work)
    ending = Interruption()
    with _obeying(task, watch.run, ending), shown(watch, console):
        try:
            await task
        except asyncio.CancelledError:
            if not ending.aborted:
                raise
    return ending


def _obeying(task: asyncio.Task[None], run: Run, ending: Interruption) -> AbstractContextManager[None]:
    def obey(number: int) -> None:
        if ending.number is None:
            ending.number = number
            run.stop()
        elif number not in _ONCE and not ending.aborted:
            ending.aborted = True
            task.cancel()  # once: what has come by then is still to be written

    return obeyed(obey)
