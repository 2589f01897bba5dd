"""Runs work under the live display, and stops it on signals."""

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
"""Signals whose repetition does not abort: a closing terminal may send several."""


@dataclass(slots=True)
class Interruption:
    """Interruption of a run by a signal, if there was one.

    Attributes:
        number: The signal, if there was one.
        aborted: Whether a second signal aborted the requests in flight.
    """

    number: int | None = None
    aborted: bool = False


def import_sdk(first: Callable[[], None] = lambda: None) -> None:
    """Import the SDK, which takes seconds; a signal in the meantime ends the process at once.

    Must be called before the event loop runs: on the loop a thread would import it, and Python waits for
    threads before it exits. `first` is called before the process ends.
    """
    with ending_at_once(first):
        importlib.import_module("anthropic")


async def run_interruptible(
    work: Coroutine[object, object, None], watch: ProgressTracker, console: Console
) -> Interruption:
    """Run `work` and show its progress. A signal lets requests in flight finish; a second one aborts them."""
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
            task.cancel()  # once: results received by then must still be written

    return obeyed(obey)
