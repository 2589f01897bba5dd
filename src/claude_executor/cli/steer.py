"""Conducts a run from the terminal: shows it, and obeys the signals that end it."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from claude_executor.cli import INTERRUPTED, TERMINATED
from claude_executor.cli.display import shown

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from types import FrameType

    from rich.console import Console

    from claude_executor.bulk import Run
    from claude_executor.cli.watch import Watch

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


@dataclass(slots=True)
class Ending:
    """How a run was ended from outside: the signal, if there was one, and whether it came twice."""

    number: int | None = None
    aborted: bool = False


def import_sdk() -> None:
    """Import the SDK, which takes seconds, so that a signal meanwhile ends the process at once.

    To be called before the event loop runs. There, a thread would import it, and Python waits for threads.
    """
    with _ending_at_once():
        importlib.import_module("anthropic")


@contextmanager
def _ending_at_once() -> Generator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        del frame
        click.echo("interrupted", err=True)
        os._exit(_CODES[signal.Signals(number)])  # nothing is open, and half an import cannot be tidied up

    if threading.current_thread() is not threading.main_thread():  # then the signals are not ours
        yield
        return
    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


async def steer(work: Coroutine[object, object, None], watch: Watch, console: Console) -> Ending:
    """Do `work`, and show it. SIGINT or SIGTERM lets it finish what is in flight; a second one aborts."""
    task = asyncio.ensure_future(work)
    ending = Ending()
    with _obeying(task, watch.run, ending), shown(watch, console):
        try:
            await task
        except asyncio.CancelledError:
            if not ending.aborted:
                raise
    return ending


@contextmanager
def _obeying(task: asyncio.Task[None], run: Run, ending: Ending) -> Generator[None]:
    loop = asyncio.get_running_loop()

    def obey(number: int) -> None:
        if ending.number is None:
            ending.number = number
            run.stop()
        else:
            ending.aborted = True
            task.cancel()

    before: dict[signal.Signals, Any] = {}
    for number in _SIGNALS:
        usual = signal.getsignal(number)
        try:
            loop.add_signal_handler(number, obey, number)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or a thread: then Python's own way
            continue
        before[number] = usual
    try:
        yield
    finally:
        for number, usual in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, usual)
