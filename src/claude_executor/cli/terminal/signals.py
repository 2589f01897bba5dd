"""The signals that end a command: from the keyboard, from other processes, from a terminal that closes."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from claude_executor.cli.terminal.exits import HUNG_UP, INTERRUPTED, TERMINATED

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import FrameType

CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
if hasattr(signal, "SIGHUP"):
    CODES[signal.SIGHUP] = HUNG_UP


def heeded() -> list[signal.Signals]:
    """Those that are not to be ignored, as ``nohup`` has it."""
    return [
        number
        for number in CODES
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    ]


@contextmanager
def ending_at_once(first: Callable[[], None] = lambda: None) -> Generator[None]:
    """Have signals end the process, whatever it is importing; `first` puts away what lies about."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        with suppress(OSError):
            # A terminal has written ^C, and stands behind it.
            click.echo("\ninterrupted" if os.isatty(2) else "interrupted", err=True)
        with suppress(Exception):
            first()
        os._exit(CODES[signal.Signals(number)])  # half an import cannot be tidied up

    with handled(heeded(), end):
        yield


@contextmanager
def obeyed(act: Callable[[int], None]) -> Generator[None]:
    """Have signals told to `act`, on the event loop that runs, for as long as the block lasts."""
    import asyncio  # of which asking for help has no need

    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}
    for number in heeded():
        usual = signal.getsignal(number)
        try:
            loop.add_signal_handler(number, act, number)
        except (NotImplementedError, RuntimeError, ValueError):  # Windows, or a thread: then Python's own way
            continue
        before[number] = usual
    try:
        yield
    finally:
        for number, usual in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, usual)


@contextmanager
def handled(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]
) -> Generator[None]:
    """Have signals handled for as long as the block lasts, if this is the thread whose business they are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
