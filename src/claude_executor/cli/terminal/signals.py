"""The signals that end a command: Ctrl-C, SIGTERM, and SIGHUP of a closing terminal."""

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
    """Return the signals to react to: all but those that ``nohup`` has set to be ignored."""
    return [
        number
        for number in CODES
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    ]


@contextmanager
def ending_at_once(first: Callable[[], None] = lambda: None) -> Generator[None]:
    """End the process at once on a signal, even during an import. `first` cleans up before."""

    def end(number: int, frame: FrameType | None) -> None:
        del frame
        with suppress(OSError):
            # A terminal has echoed ^C, and the cursor is behind it.
            click.echo("\ninterrupted" if os.isatty(2) else "interrupted", err=True)
        with suppress(Exception):
            first()
        os._exit(CODES[signal.Signals(number)])  # half an import cannot be unwound

    with handled(heeded(), end):
        yield


@contextmanager
def obeyed(act: Callable[[int], None]) -> Generator[None]:
    """Call `act` with every signal, on the running event loop, while the block runs."""
    import asyncio  # not needed for --help

    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}
    for number in heeded():
        usual = signal.getsignal(number)
        try:
            loop.add_signal_handler(number, act, number)
        except (
            NotImplementedError,
            RuntimeError,
            ValueError,
        ):  # Windows, or a thread: Python's default stays
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
    """Handle signals while the block runs, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)
